#!/usr/bin/env bats
# What doctor.sh says of a machine, each line of it.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

setup() {
  load helper
  make_project
  install_fake_retrain
  only_tools
  local script
  for script in doctor container; do # a machine of our own
    sed "s|/sys/|$BATS_TEST_TMPDIR/sys/|g; s|/etc/cdi|$BATS_TEST_TMPDIR/cdi|g; s|/var/run/cdi|$BATS_TEST_TMPDIR/cdi|g" \
      "$BATS_TEST_DIRNAME/../../scripts/$script.sh" >"$project/scripts/$script.sh"
  done
  fake uname 'echo Linux'
}

# The PATH without engines and cards.
only_tools() {
  local python tools="$BATS_TEST_TMPDIR/tools"
  python=$(python3 -c 'import sys; print(sys.executable)')
  mkdir "$tools"
  ln -s /usr/bin/* "$tools"
  ln -sf /bin/* "$tools"
  rm -f "$tools"/{docker,podman,nvidia-smi,python3}
  ln -s "$python" "$tools/python3"
  PATH="$BATS_LIBEXEC:$tools"
}

doctor() {
  run --separate-stderr "$project/scripts/doctor.sh" "$@"
}

# says STATUS NAME TEXT [HINT]: there is such a line, and such a hint below it.
says() {
  local line
  line=$(printf '%-7s %-12s %s' "$1" "$2" "$3")
  if [ $# = 4 ]; then line=$line$'\n'$(printf '%21s%s' '' "$4"); fi
  [[ $'\n'$output$'\n' == *$'\n'"$line"$'\n'* ]] || {
    printf 'wanted:\n%s\ngot:\n%s\n%s\n' "$line" "$output" "$stderr"
    return 1
  }
}

# speaks_of NAME
speaks_of() {
  grep -q "^[a-z]*  *$1 " <<<"$output"
}

has_card() {
  fake nvidia-smi '[ "$*" = -L ] || echo "NVIDIA H200, 550.54.15"'
}

# pci VENDOR CLASS
pci() {
  mkdir -p "$BATS_TEST_TMPDIR/sys/bus/pci/devices/0000:00:1e.0"
  echo "$1" >"$BATS_TEST_TMPDIR/sys/bus/pci/devices/0000:00:1e.0/vendor"
  echo "$2" >"$BATS_TEST_TMPDIR/sys/bus/pci/devices/0000:00:1e.0/class"
}

# As the real client does it, which succeeds where it is asked for a format.
docker_fails_with() {
  fake docker 'case "$*" in *--format*) echo " [] map[]" ;; *) printf "%s\n" "'"$1"'" "errors pretty printing info" >&2 && exit 1 ;; esac'
}

@test "no engine is fine" {
  RETRAIN_RUNTIME=auto doctor
  [ "$status" = 0 ]
  says fine engine 'no docker or podman; retrain runs in .venv'
  says fine runtime 'RETRAIN_RUNTIME is auto: retrain runs in .venv'
  run ! speaks_of image
  called_with doctor
}

@test "engines that answer are told with version and kind" {
  with_engine podman
  with_engine docker
  FAKE_INFO='28.0.0 [name=seccomp name=rootless] map[]' doctor
  says fine engine 'docker 28.0.0 answers, rootless'
  FAKE_INFO='28.0.0 [name=seccomp] map[]' doctor
  says fine engine 'docker 28.0.0 answers, not rootless'
  says fine runtime 'RETRAIN_RUNTIME is docker: retrain runs in containers of docker'
  FAKE_INFO='5.4.0 rootless=true' RETRAIN_RUNTIME=podman doctor
  says fine engine 'podman 5.4.0 answers, rootless'
  says fine runtime 'RETRAIN_RUNTIME is podman: retrain runs in containers of podman'
  FAKE_INFO='28.0.0 [] map[]' RETRAIN_RUNTIME=local doctor
  says fine runtime 'RETRAIN_RUNTIME is local: retrain runs in .venv'
}

@test "an engine on another machine is told as such" {
  with_engine docker
  FAKE_INFO='28.0.0 [] map[]' DOCKER_HOST=ssh://me@elsewhere RETRAIN_RUNTIME=auto doctor
  says fine engine 'docker 28.0.0 answers, on another machine; RETRAIN_RUNTIME=docker makes use of it all the same'
  says fine runtime 'RETRAIN_RUNTIME is auto: retrain runs in .venv'
}

@test "a socket that may not be used: the group that may" {
  docker_fails_with 'ERROR: permission denied while trying to connect to the Docker daemon socket at unix:///d.sock: Get \"http://%2Fd.sock/info\": dial'
  RETRAIN_RUNTIME=auto doctor
  [ "$status" = 0 ]
  says note engine 'docker is installed, but: permission denied while trying to connect to the Docker daemon socket at unix:///d.sock' \
    'sudo usermod -aG docker "$USER", then log in again.'
  says fine runtime 'RETRAIN_RUNTIME is auto: retrain runs in .venv'
}

@test "a daemon that is down: how to start it here" {
  docker_fails_with 'ERROR: Cannot connect to the Docker daemon at unix:///d.sock. Is the docker daemon running?'
  fake podman 'echo "Error: Cannot connect to Podman" >&2; exit 125'
  local down='docker is installed, but: Cannot connect to the Docker daemon at unix:///d.sock. Is the docker daemon running?'
  RETRAIN_RUNTIME=auto doctor
  says note engine "$down" 'sudo systemctl restart docker'
  says note engine 'podman is installed, but: Error: Cannot connect to Podman' 'podman info says more.'
  fake uname 'echo Darwin'
  RETRAIN_RUNTIME=auto doctor
  says note engine "$down" 'Start Docker Desktop: open -a Docker'
  says note engine 'podman is installed, but: Error: Cannot connect to Podman' 'podman machine start'
}

@test "an engine that hangs" {
  fake docker 'exec sleep 600'
  doctor
  says note engine 'docker is installed, but: no answer within two seconds' 'sudo systemctl restart docker'
}

@test "an engine that is named and does not answer, or is none, is broken, and nothing looks inside" {
  RETRAIN_RUNTIME=podman doctor
  [ "$status" = 1 ]
  says broken runtime 'podman does not answer.' 'RETRAIN_RUNTIME=local runs in .venv.'
  speaks_of space
  RETRAIN_RUNTIME=cloud doctor
  [ "$status" = 1 ]
  says broken runtime "RETRAIN_RUNTIME is 'cloud'." 'It may be auto, docker, podman or local.'
  [ ! -e "$RECORD" ]
}

@test "images that are here, and made of what is here" {
  with_engine docker
  doctor
  [ "$status" = 0 ]
  says fine image 'retrain:guess, 350.1 MB, made of what is here'
  says fine image 'retrain:full, 350.1 MB, made of what is here'
  run ! speaks_of inside
  [ "$(cat "$RECORD.image")" = retrain:full ]
  called_with doctor
}

@test "images that are not built yet are not built for a look" {
  install_fake_engine docker
  RETRAIN_RUNTIME=docker doctor
  [ "$status" = 0 ]
  says fine image 'retrain:guess is not built yet' 'Its next use does that; make image does now.'
  says fine image 'retrain:full is not built yet' 'Its next use does that; make image does now.'
  says fine inside 'not looked at: retrain:full is not built yet' 'make image, then make doctor again.'
  [ ! -e "$RECORD.build" ] && [ ! -e "$RECORD" ]
}

@test "images of another retrain are not renewed for a look" {
  with_engine docker
  echo '# new' >>"$project/retrain/__init__.py"
  doctor
  says fine image 'retrain:guess, 350.1 MB, of another retrain' 'Its next use renews it; make image does now.'
  says fine inside 'not looked at: retrain:full is not renewed yet' 'make image, then make doctor again.'
  [ ! -e "$RECORD.build" ] && [ ! -e "$RECORD" ]
}

@test "RETRAIN_IMAGE is not pulled for a look" {
  install_fake_engine podman
  export RETRAIN_RUNTIME=podman RETRAIN_IMAGE=registry.example/retrain
  doctor
  says fine image 'registry.example/retrain:full is not pulled yet' \
    'Its next use does that; podman pull registry.example/retrain:full does now.'
  says fine inside 'not looked at: registry.example/retrain:full is not pulled yet' \
    'podman pull registry.example/retrain:full, then make doctor again.'
  [ ! -e "$RECORD.pull" ] && [ ! -e "$RECORD" ]
}

@test "with a card that is offered, the image is the one for cards" {
  has_card
  install_fake_engine docker
  FAKE_INFO='28.0.0 [] map[nvidia:{}]' RETRAIN_RUNTIME=docker doctor
  says fine image 'retrain:gpu is not built yet' 'Its next use does that; make image-gpu does now.'
  says fine toolkit 'docker can give the card to a container'
  run ! grep retrain:full <<<"$output"
}

@test "cards and their driver" {
  doctor
  says fine GPU 'none; the processor does the work'
  pci 0x10de 0x030200
  doctor
  says note GPU 'a card by NVIDIA without its driver' 'Install the driver: https://www.nvidia.com/drivers'
  for other in '0x10de 0x040300' '0x8086 0x030000'; do
    # shellcheck disable=SC2086
    pci $other
    doctor
    says fine GPU 'none; the processor does the work'
  done
  fake nvidia-smi 'echo "NVIDIA H200, 550.54.15"; echo "NVIDIA T4, 550.54.15"'
  doctor
  says fine GPU 'NVIDIA H200, driver 550.54.15; NVIDIA T4, driver 550.54.15'
  fake nvidia-smi 'echo "Failed to initialize NVML: Driver/library version mismatch" >&2; echo more; exit 18'
  doctor
  says note GPU 'nvidia-smi finds no card: Failed to initialize NVML: Driver/library version mismatch' \
    'Restart the machine. If that does not help, install the driver anew: https://www.nvidia.com/drivers'
  run ! speaks_of toolkit
}

@test "an engine without NVIDIA's toolkit: how to install it" {
  has_card
  local page='Install nvidia-container-toolkit: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html'
  with_engine docker
  FAKE_INFO='28.0.0 [] map[runc:{}]' doctor
  says note toolkit 'docker has no nvidia runtime, so no container gets the card' "$page"
  [[ $output == *'sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker'* ]]
  says fine image 'retrain:full, 350.1 MB, made of what is here'
  with_engine podman
  FAKE_INFO='5.4.0 rootless=true' doctor
  says note toolkit "podman finds no $BATS_TEST_TMPDIR/cdi/nvidia.yaml, so no container gets the card" "$page"
  [[ $output == *'sudo nvidia-ctk cdi generate --output='* ]]
  mkdir "$BATS_TEST_TMPDIR/cdi"
  : >"$BATS_TEST_TMPDIR/cdi/nvidia.yaml"
  FAKE_INFO='5.4.0 rootless=true' doctor
  says fine toolkit 'podman can give the card to a container'
  RETRAIN_RUNTIME=local doctor
  run ! speaks_of toolkit
}

@test "SELinux is told where there is any" {
  doctor
  run ! speaks_of SELinux
  mkdir -p "$BATS_TEST_TMPDIR/sys/fs/selinux"
  printf 1 >"$BATS_TEST_TMPDIR/sys/fs/selinux/enforce"
  doctor
  says fine SELinux 'on; containers run with label=disable, so your files keep their labels'
  printf 0 >"$BATS_TEST_TMPDIR/sys/fs/selinux/enforce"
  doctor
  says fine SELinux permissive
}

@test "files of others, and how to own them, whatever their folder is called" {
  doctor
  says fine owner 'tf_files is not there yet; the first training makes it'
  mkdir -p tf_files/model
  doctor
  says fine owner 'all in tf_files is yours'
  fake id 'echo 54321'
  doctor
  [ "$status" = 0 ]
  says note owner 'others own 2 of the files and folders in tf_files' 'sudo chown -R "$USER" tf_files/'
  fake sudo 'printf "%s\0" "$@" >"$RECORD.sudo"'
  for name in "${hostile_names[@]}"; do
    mkdir -p "./$name"
    TF_FILES=$name doctor
    USER=me eval "$(grep -o 'sudo chown .*' <<<"$output")"
    [ "$name" != "${name#-}" ] && name=./$name
    printf '%s\0' chown -R me "$name/" | cmp - "$RECORD.sudo"
  done
  nothing_named_pwned
}

@test "space where tf_files is, and where the engine keeps its images" {
  fake df 'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
    echo "/dev/a disk 99999999 1 ${FAKE_FREE_KB-9000000} 50% /a 7% place"'
  doctor
  says fine space '9.2 GB free where tf_files is'
  FAKE_FREE_KB=900000 doctor
  [ "$status" = 0 ]
  says note space '921.6 MB free where tf_files is' 'Make room there.'
  install_fake_engine docker
  mv "$BATS_TEST_TMPDIR/bin/docker" "$BATS_TEST_TMPDIR/bin/docker-itself"
  fake docker 'case "$*" in *DockerRootDir*) echo "$BATS_TEST_TMPDIR" ;; *) exec -a docker docker-itself "$@" ;; esac'
  sed -i.bak 's/^name=.*/name=docker command=$1/' "$BATS_TEST_TMPDIR/bin/docker-itself"
  export RETRAIN_RUNTIME=docker
  doctor
  says fine space '9.2 GB free where docker keeps its images'
  FAKE_FREE_KB=3000000 doctor
  says note space '3.1 GB free where docker keeps its images' \
    'retrain:full takes 4 GB to build; docker image prune drops what is unused.'
  has_card
  FAKE_INFO='28.0.0 [] map[nvidia:{}]' doctor
  says note space '9.2 GB free where docker keeps its images' \
    'retrain:gpu takes 10 GB to build; docker image prune drops what is unused.'
}

@test "what is broken inside is broken" {
  FAKE_EXIT=1 doctor
  [ "$status" = 1 ]
  with_engine docker
  FAKE_EXIT=1 doctor
  [ "$status" = 1 ]
}

@test "nothing is set up for a look" {
  rm -r "$project/.venv"
  doctor
  [ "$status" = 0 ]
  says fine inside 'not looked at: .venv is not set up yet' 'make setup, then make doctor again.'
  [ ! -e "$project/.venv" ]
}

@test "options are those of retrain doctor, help is its own" {
  doctor --json
  called_with doctor --json
  [ -z "$output" ]
  make -s -C "$project" doctor ARGS=--clean
  called_with doctor --clean
  rm "$RECORD"
  for flag in -h --help; do
    doctor "$flag"
    [[ $status = 0 && $output == Summary:*Usage:\ doctor.sh* && $output != *pipefail* ]]
  done
  [ ! -e "$RECORD" ]
}

@test "colors are for terminals" {
  run on_terminal "$project/scripts/doctor.sh"
  [[ $output == *$'\033[32mfine   \033[0m engine'* ]]
  NO_COLOR=1 run on_terminal "$project/scripts/doctor.sh"
  [[ $output != *$'\033'* ]]
  doctor
  [[ $output != *$'\033'* ]]
}
