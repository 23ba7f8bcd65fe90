#!/usr/bin/env bats
# Where the wrappers run retrain: which engine, which image, and how that comes to be there.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

setup() {
  load helper
  make_project
  install_fake_retrain
  : >image.jpg
  fake nvidia-smi 'exit 1'
  for engine in docker podman; do fake "$engine" 'exit 1'; done
}

teardown() {
  only_plain_mounts
}

# Which engine the last call used; .venv where none.
used() {
  if [ -e "$RECORD.calls" ]; then sed -n 's/ run$//p' "$RECORD.calls"; else echo .venv; fi
}

card_and_engine() {
  fake nvidia-smi '[ "$*" = -L ] && echo "GPU 0: a card"'
  with_engine "$1"
  export FAKE_INFO="$2"
}

@test "docker comes before podman" {
  with_engine podman
  with_engine docker
  RETRAIN_RUNTIME=auto run --separate-stderr -0 "$project/guess.sh" image.jpg
  [ -z "$output$stderr" ]
  [ "$(used)" = docker ]
  called_with guess -- image.jpg
}

@test "podman is used where docker is missing, down or hangs" {
  for answer in 'exit 1' 'exec sleep 600' 'echo half an answer; exit 1'; do
    rm -f "$RECORD.calls"
    fake docker "$answer"
    with_engine podman
    RETRAIN_RUNTIME=auto run --separate-stderr -0 "$project/guess.sh" image.jpg
    [ -z "$output$stderr" ]
    [ "$(used)" = podman ]
  done
}

@test "engines that are down or hang are as none" {
  for answer in 'exit 1' 'exec sleep 600'; do
    fake docker "$answer"
    fake podman "$answer"
    RETRAIN_RUNTIME=auto run --separate-stderr -0 "$project/guess.sh" image.jpg
    [ -z "$output$stderr" ]
    [ "$(used)" = .venv ]
  done
}

@test "auto is the default" {
  with_engine docker
  unset RETRAIN_RUNTIME
  "$project/guess.sh" image.jpg
  [ "$(used)" = docker ]
}

@test "an engine on another machine, which has none of the files here, is used only where it is named" {
  with_engine docker
  for host in tcp://elsewhere:2376 ssh://me@elsewhere; do
    rm -f "$RECORD.calls"
    DOCKER_HOST=$host RETRAIN_RUNTIME=auto "$project/guess.sh" image.jpg
    [ "$(used)" = .venv ]
    DOCKER_HOST=$host RETRAIN_RUNTIME=docker "$project/guess.sh" image.jpg
    [ "$(used)" = docker ]
  done
  DOCKER_HOST=unix:///run/user/1000/docker.sock RETRAIN_RUNTIME=auto "$project/guess.sh" image.jpg
  [ "$(used)" = $'docker\ndocker' ]
}

@test "local asks no engine" {
  install_fake_engine docker
  RETRAIN_RUNTIME=local "$project/guess.sh" image.jpg
  [ ! -e "$RECORD.calls" ]
}

@test "an engine that is named and does not answer is an error with a way out" {
  for engine in docker podman; do
    RETRAIN_RUNTIME=$engine run --separate-stderr -1 "$project/guess.sh" image.jpg
    [[ $stderr == "Error: $engine "*Hint:*RETRAIN_RUNTIME=local* ]]
    [ ! -e "$RECORD" ]
  done
}

@test "an unknown runtime is wrong usage" {
  RETRAIN_RUNTIME=cloud run --separate-stderr -2 "$project/guess.sh" image.jpg
  [[ $stderr == *"'cloud'"*"auto, docker, podman or local"* ]]
}

@test "guess and sort run in the small image, all else in the full one" {
  with_engine docker
  mkdir photos
  "$project/guess.sh" image.jpg
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  "$project/guessDir.sh" photos
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  "$project/train.sh"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  "$project/shell.sh"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  for command in evaluate sample backbones doctor --version; do
    "$project/scripts/retrain.sh" "$command"
    [ "$(cat "$RECORD.image")" = retrain:full ]
    called_with "$command"
  done
}

@test "docker with the NVIDIA runtime gives a card to what can use it, and not to guess" {
  card_and_engine docker '28.0.0 [name=seccomp] map[io.containerd.runc.v2:{} nvidia:{}]'
  "$project/train.sh"
  [ "$(cat "$RECORD.image")" = retrain:gpu ]
  has --gpus all
  "$project/guess.sh" image.jpg
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  run ! has --gpus
}

@test "docker without the NVIDIA runtime, or with it and no card, runs without one" {
  card_and_engine docker '28.0.0 [name=seccomp] map[io.containerd.runc.v2:{}]'
  "$project/train.sh"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  run ! has --gpus
  fake nvidia-smi 'exit 9'
  FAKE_INFO='28.0.0 [] map[nvidia:{}]' "$project/train.sh"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  run ! has --gpus
}

@test "podman gives a card by its CDI name" {
  card_and_engine podman '5.4.0 rootless=true'
  bash -c 'source "$0/scripts/lib.sh"; gpu_is_offered() { :; }; run_retrain train data' "$project" # as if CDI was set up
  [ "$(cat "$RECORD.image")" = retrain:gpu ]
  has --device nvidia.com/gpu=all
  run ! has --gpus
}

@test "first use builds the image, in one line of ours on stderr, and leaves stdout and stdin to retrain" {
  install_fake_engine docker
  export RETRAIN_RUNTIME=docker FAKE_CAT=1
  run --separate-stderr -0 bash -c 'printf picture | "$0/guess.sh" -' "$project"
  [ "$output" = picture ]
  [ "$(grep -c ^retrain: <<<"$stderr")" = 1 ]
  [[ $stderr == *'building the image retrain:guess with docker'* ]]
  [ "$(tr '\0' '|' <"$RECORD.build")" = "--target|guess|--tag|retrain:guess|--label|retrain.sources=$(sources)|\
--label|org.opencontainers.image.version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$project/retrain/__init__.py")|.|" ]
  run --separate-stderr -0 bash -c 'printf picture | "$0/guess.sh" -' "$project"
  [ "$output" = picture ]
  [ -z "$stderr" ]
  [ "$(calls build)" = 1 ]
}

@test "each image is built for itself" {
  install_fake_engine podman
  export RETRAIN_RUNTIME=podman
  "$project/guess.sh" image.jpg
  "$project/train.sh"
  "$project/guess.sh" image.jpg
  [ "$(calls build)" = 2 ]
}

@test "what goes into the image builds it anew when it changes, and nothing else does" {
  with_engine docker
  for file in docs/guide.md tests/test_new.py README.md scripts/notes requirements-dev.txt retrain/stale.pyc tf_files; do
    echo changed >>"$project/$file"
    "$project/guess.sh" image.jpg
  done
  run ! calls build
  count=0
  for file in retrain/guess.py retrain/__init__.py Dockerfile .dockerignore pyproject.toml requirements-guess.txt; do
    echo '# changed' >>"$project/$file"
    run --separate-stderr -0 "$project/guess.sh" image.jpg
    [[ $stderr == *'retrain has changed'* ]]
    [ "$(calls build)" = $((++count)) ]
  done
  rm "$project/retrain/guess.py"
  "$project/guess.sh" image.jpg
  "$project/guess.sh" image.jpg
  [ "$(calls build)" = $((++count)) ]
}

@test "RETRAIN_IMAGE is pulled once, and never built" {
  install_fake_engine docker
  FAKE_VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$project/retrain/__init__.py")
  export FAKE_VERSION RETRAIN_RUNTIME=docker RETRAIN_IMAGE=registry.example:5000/me/retrain
  run --separate-stderr -0 "$project/guess.sh" image.jpg
  [[ -z $output && $stderr == *"pulling $RETRAIN_IMAGE:guess"* && ${#stderr_lines[@]} = 1 ]]
  [ "$(tr '\0' '|' <"$RECORD.pull")" = "--|$RETRAIN_IMAGE:guess|" ]
  [ "$(cat "$RECORD.image")" = "$RETRAIN_IMAGE:guess" ]
  run --separate-stderr -0 "$project/guess.sh" image.jpg
  [ -z "$output$stderr" ]
  [ "$(calls pull)" = 1 ]
  run ! calls build
}

@test "RETRAIN_IMAGE of another version runs, and the difference is said at every run" {
  install_fake_engine docker
  export RETRAIN_RUNTIME=docker RETRAIN_IMAGE=me/retrain FAKE_VERSION=0.0.1
  for _ in 1 2; do
    run --separate-stderr -0 "$project/guess.sh" image.jpg
    [[ $stderr == *'me/retrain:guess holds retrain 0.0.1, these scripts are '[0-9]* ]]
    called_with guess -- image.jpg
  done
}

@test "RETRAIN_IMAGE that cannot be pulled is an error with a hint" {
  install_fake_engine docker
  RETRAIN_RUNTIME=docker RETRAIN_IMAGE=me/retrain run --separate-stderr -1 "$project/guess.sh" image.jpg
  [[ $stderr == *"Error: me/retrain:guess "*Hint:*RETRAIN_IMAGE* ]]
  [ ! -e "$RECORD" ]
}

@test "a build that failed is an error with a hint, and the next call builds again" {
  install_fake_engine docker
  export RETRAIN_RUNTIME=docker
  FAKE_BUILD_FAILS=1 run --separate-stderr -1 "$project/guess.sh" image.jpg
  [[ -z $output && $stderr == *Error:*image*Hint:*RETRAIN_RUNTIME=local* ]]
  [ ! -e "$RECORD" ]
  "$project/guess.sh" image.jpg
  [ "$(calls build)" = 2 ]
  called_with guess -- image.jpg
}

@test "RETRAIN_DOCKER_BUILD_ARGS and RETRAIN_DOCKER_RUN_ARGS are passed on" {
  install_fake_engine docker
  export RETRAIN_RUNTIME=docker RETRAIN_DOCKER_BUILD_ARGS='--network=host --build-arg BASE_IMAGE=debian:sid'
  RETRAIN_DOCKER_RUN_ARGS='--memory 2g  --cpus=1' "$project/guess.sh" image.jpg
  [[ $(tr '\0' '|' <"$RECORD.build") == *'|--network=host|--build-arg|BASE_IMAGE=debian:sid|.|' ]]
  has --memory 2g --cpus=1
}

@test "make image builds guess and full, whatever is there, and says their sizes" {
  with_engine docker
  run --separate-stderr -0 make -s -C "$project" image
  [ "$output" = $'retrain:guess 350 MB\nretrain:full 350 MB' ]
  [ "$(calls build)" = 2 ]
  run --separate-stderr -0 make -s -C "$project" image-gpu
  [[ $(tr '\0' '|' <"$RECORD.build") == '--target|gpu|--tag|retrain:gpu|'* ]]
}

@test "an image without an engine is an error with a hint" {
  RETRAIN_RUNTIME=auto run --separate-stderr -1 "$project/scripts/image.sh"
  [[ $stderr == Error:*Hint:* ]]
}
