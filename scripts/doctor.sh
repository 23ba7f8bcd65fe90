#!/usr/bin/env bash
# Summary: look at this machine, from outside and from where retrain runs; each line is fine, or says what to do
# Usage: doctor.sh [OPTION…]
# Nothing is built or set up for it. Exits with 1 where something is broken.
# Options are those of `retrain doctor`, which looks from inside alone:
#   scripts/doctor.sh --json
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
offer_help "$@"
[ $# = 0 ] || run_retrain doctor "$@"

driver_page=https://www.nvidia.com/drivers
toolkit_page=https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html
newline=$'\n'
exit_code=0

# finding STATUS NAME TEXT [HINT…]: a line as `retrain doctor` prints it, with what to do below.
finding() {
  local color='' plain=''
  [ "$1" != broken ] || exit_code=1
  if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    case $1 in
      fine) color=$'\033[32m' ;;
      note) color=$'\033[33m' ;;
      broken) color=$'\033[31m' ;;
    esac
    plain=$'\033[0m'
  fi
  printf '%s%-7s%s %-12s %s\n' "$color" "$1" "$plain" "$2" "$3"
  shift 3
  [ $# = 0 ] || printf '                     %s\n' "$@"
}

# amount BYTES
amount() {
  LC_ALL=C awk -v bytes="$1" 'BEGIN { printf bytes < 1e9 ? "%.1f MB" : "%.1f GB", bytes / (bytes < 1e9 ? 1e6 : 1e9) }'
}

look_at_engines() {
  local name found=''
  for name in docker podman; do
    command -v "$name" >/dev/null || continue
    found=yes
    if find_engine "$name"; then
      finding fine engine "$name ${features%% *} answers, $(kind_of_engine)"
    else
      why_no_engine "$name"
    fi
  done
  [ -n "$found" ] || finding fine engine "no docker or podman; retrain runs in .venv"
}

kind_of_engine() {
  case $engine-${DOCKER_HOST-} in
    podman-* | docker- | docker-unix://* | docker-npipe://*) ;;
    *) echo "on another machine; RETRAIN_RUNTIME=docker makes use of it all the same" && return ;;
  esac
  case $features in
    *name=rootless* | *rootless=true*) echo rootless ;;
    *) echo "not rootless" ;;
  esac
}

# why_no_engine NAME: in its own words
why_no_engine() {
  local reason hint
  reason=$(in_two_seconds "$1" info 2>&1 >/dev/null </dev/null | sed -n '/./{p;q;}') || :
  reason=${reason#ERROR: } reason=${reason%%: Get \"*}
  case $(uname)-$1-$reason in
    *'ermission denied'*)
      # shellcheck disable=SC2016 # for the user to type
      hint='sudo usermod -aG docker "$USER", then log in again.'
      [ "$1" = docker ] || hint="podman info says more."
      ;;
    Darwin-docker-*) hint="Start Docker Desktop: open -a Docker" ;;
    Darwin-podman-*) hint="podman machine start" ;;
    *-docker-'' | *-docker-*'Cannot connect'*) hint="sudo systemctl restart docker" ;;
    *) hint="$1 info says more." ;;
  esac
  finding note engine "$1 is installed, but: ${reason:=no answer within two seconds}" "$hint"
}

# look_at_runtime: set `engine` as for any command.
look_at_runtime() {
  local message named=${RETRAIN_RUNTIME:-auto}
  if ! message=$(find_runtime 2>&1); then
    message=${message#Error: }
    finding broken runtime "${message%%"$newline"*}" "${message#*Hint: }"
    return 1
  fi
  find_runtime
  finding fine runtime "RETRAIN_RUNTIME is $named: retrain runs in ${engine:+containers of }${engine:-.venv}"
}

look_at_images() {
  local command
  for command in guess train; do
    ask_image "$command"
    case $lacks in
      '') finding fine image "$image, $(size), made of what is here" ;;
      renewed) finding fine image "$image, $(size), of another retrain" "Its next use renews it; $remedy does now." ;;
      *) finding fine image "$image is not $lacks yet" "Its next use does that; $remedy does now." ;;
    esac
  done
}

# ask_image COMMAND: set `image` to where that command runs, `lacks` to what it is not yet, `remedy` to what mends that.
ask_image() {
  local made_from
  find_image "$1"
  lacks='' remedy="make image"
  [ "$stage" != gpu ] || remedy="make image-gpu"
  if ! made_from=$(image_label retrain.sources); then
    lacks=built
    [ -z "${RETRAIN_IMAGE-}" ] || lacks=pulled remedy="$engine pull $image"
  elif [ -z "${RETRAIN_IMAGE-}" ] && [ "$made_from" != "$(sources)" ]; then
    lacks=renewed
  fi
}

size() {
  amount "$("$engine" image inspect --format '{{.Size}}' "$image")"
}

# look_at_card: fails where there is none that could be used.
look_at_card() {
  local cards
  if ! command -v nvidia-smi >/dev/null; then
    if has_nvidia_card; then
      finding note GPU "a card by NVIDIA without its driver" "Install the driver: $driver_page"
    else
      finding fine GPU "none; the processor does the work"
    fi
  elif cards=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1) && [ -n "$cards" ]; then
    cards=${cards//, /, driver }
    finding fine GPU "${cards//"$newline"/; }"
    return
  else
    finding note GPU "nvidia-smi finds no card: ${cards%%"$newline"*}" \
      "Restart the machine. If that does not help, install the driver anew: $driver_page"
  fi
  return 1
}

# NVIDIA's number on the PCI bus is 10de, and a card that draws or computes is of class 03.
has_nvidia_card() {
  local device
  for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor" 2>/dev/null)" != 0x10de ] || [[ $(cat "$device/class") != 0x03* ]] || return 0
  done
  return 1
}

look_at_toolkit() {
  if gpu_is_offered; then
    finding fine toolkit "$engine can give the card to a container"
  elif [ "$engine" = docker ]; then
    finding note toolkit "docker has no nvidia runtime, so no container gets the card" \
      "Install nvidia-container-toolkit: $toolkit_page" \
      "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
  else
    finding note toolkit "podman finds no /etc/cdi/nvidia.yaml, so no container gets the card" \
      "Install nvidia-container-toolkit: $toolkit_page" \
      "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
  fi
}

look_at_selinux() {
  case $(cat /sys/fs/selinux/enforce 2>/dev/null) in
    1) finding fine SELinux "on; containers run with label=disable, so your files keep their labels" ;;
    0) finding fine SELinux "permissive" ;;
  esac
}

look_at_owners() {
  local others
  if [ ! -d "$files" ]; then
    finding fine owner "$files is not there yet; the first training makes it"
    return
  fi
  others=$(find "$files/" ! -user "$(id -u)" -exec printf '%.0s.' {} + 2>/dev/null) || :
  if [ -n "$others" ]; then
    finding note owner "others own ${#others} of the files and folders in $files" \
      "sudo chown -R \"\$USER\" $(printf %q "$files/")"
  else
    finding fine owner "all in $files is yours"
  fi
}

look_at_space() {
  local place='{{.DockerRootDir}}' needed=1
  real "$files" 2>/dev/null || REPLY=.
  compare_space "$REPLY" 1 "where $files is" "Make room there."
  [ -n "$engine" ] || return 0
  [ "$engine" = docker ] || place='{{.Store.GraphRoot}}'
  place=$("$engine" info --format "$place") && [ -d "$place" ] || return 0 # or it is in a virtual machine
  ask_image train
  case $lacks-$stage in
    built-gpu | pulled-gpu) needed=10 ;;
    built-* | pulled-*) needed=4 ;;
  esac
  compare_space "$place" "$needed" "where $engine keeps its images" \
    "$image takes $needed GB to build; $engine image prune drops what is unused."
}

# compare_space FOLDER GIGABYTES WHERE HINT
compare_space() {
  local free
  free=$(df -Pk "$1" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9]*% .*/\1/p')
  free=$((${free:-0} * 1024))
  if [ "$free" -ge "${2}000000000" ]; then
    finding fine space "$(amount "$free") free $3"
  else
    finding note space "$(amount "$free") free $3" "$4"
  fi
}

look_inside() {
  if [ -n "$engine" ]; then
    ask_image doctor
    if [ -n "$lacks" ]; then
      finding fine inside "not looked at: $image is not $lacks yet" "$remedy, then make doctor again."
      return
    fi
    printf '\nInside %s:\n' "$image"
  elif is_set_up requirements.txt; then
    printf '\nIn .venv:\n'
  else
    finding fine inside "not looked at: .venv is not set up yet" "make setup, then make doctor again."
    return
  fi
  "$root/scripts/retrain.sh" doctor || exit_code=1
}

files=${TF_FILES:-tf_files}
case $files in -*) files=./$files ;; esac
look_at_engines
if look_at_runtime; then known=yes; else known='' engine=''; fi
[ -z "$engine" ] || look_at_images
if look_at_card && [ -n "$engine" ]; then look_at_toolkit; fi
look_at_selinux
look_at_owners
look_at_space
[ -z "$known" ] || look_inside
exit "$exit_code"
