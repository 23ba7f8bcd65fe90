# shellcheck shell=bash
# What the wrappers share: help, messages, options and paths, where retrain runs.
# Sourced. Runs on bash 3.2, which macOS still brings; there an empty array is unset, hence ${a[@]+"${a[@]}"}.

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)

source "$root/scripts/container.sh"

say() {
  printf 'retrain: %s\n' "$*" >&2
}

# die CODE MESSAGE HINT
die() {
  printf 'Error: %s\nHint: %s\n' "$2" "$3" >&2
  exit "$1"
}

# The header comment of the script that runs is its help.
help() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# offer_help ARGUMENT…: print the help and end, if the first asks for it.
offer_help() {
  case ${1-} in -h | --help)
    help
    exit
    ;;
  esac
}

usage() {
  help >&2
  exit 2
}

# The command line of a wrapper: its help, or `options` and `paths`.
read_command_line() {
  local option
  split "$@"
  for option in ${options[@]+"${options[@]}"}; do offer_help "$option"; done
}

# Split a command line into `options` and `paths`, so that -- can stand between them.
split() {
  options=() paths=()
  while [ $# -gt 0 ]; do
    case $1 in
      --)
        shift
        paths+=("$@")
        return
        ;;
      -?*)
        if takes_value "$1"; then
          options+=("$1" ${2+"$2"})
          [ $# = 1 ] || shift
        elif [ -e "$1" ]; then # a photo may be called "-1.jpg"
          paths+=("$1")
        else
          options+=("$1")
        fi
        ;;
      *) paths+=("$1") ;;
    esac
    shift
  done
}

takes_value() {
  case $1 in
    -c | -p | -t | --address | --allow | --assert-accuracy | --backbone | --balance | --boxes | --checks | --class | --classes | --coverage | --crop | --data | --engine | --every | --explain | --forget | --fps | --graph | --group-by | --host | --html | --input-height | --input-layer | --input-mean | --input-std | --input-width | --label | --labels | --layout | --license | --like | --limit | --log-dir | --max-minutes | --max-per-class | --max-per-source | --min-size | --mode | --model-dir | --name | --only | --out | --output-layer | --per-class | --port | --prediction-path | --quality | --query-list | --reject-rate | --seed | --size | --smooth | --source | --split | --test-share | --threshold | --token | --top | --undo | --validation-share) ;;
    *) return 1 ;;
  esac
}

is_tf_files() {
  [ -d "$1/model" ] || [ -d "$1/data" ] || [ -e "$1/retrained_graph.pb" ]
}

# is_set_up REQUIREMENTS: .venv holds those packages, and stands where it was made.
is_set_up() {
  made_here && cmp -s -- "$root/$1" "$root/.venv/$1"
}

made_here() {
  [ -x "$root/.venv/bin/python" ] && [ "$(cat -- "$root/.venv/made-in" 2>/dev/null)" = "$root" ]
}

# run_retrain ARGUMENT…: become the retrain command, in the place that RETRAIN_RUNTIME names.
run_retrain() {
  # What to type for the next command: a clone has none on the PATH.
  RETRAIN_PROGRAM=$root/scripts/retrain.sh
  export RETRAIN_PROGRAM=${RETRAIN_PROGRAM#"$PWD"/}
  find_runtime
  [ -z "$engine" ] || run_in_container "$@"
  is_set_up requirements.txt || "$root/scripts/setup.sh" </dev/null >&2
  [ "$1" != shell ] || PATH=$root/.venv/bin:$PATH exec "${SHELL:-bash}" "${@:2}"
  exec "$root/.venv/bin/retrain" "$@"
}

# find_runtime: set `engine`; to nothing where retrain is to run in .venv.
find_runtime() {
  engine=
  case ${RETRAIN_RUNTIME:-auto} in
    local) ;;
    auto)
      case ${DOCKER_HOST-} in
        '' | unix://* | npipe://*) find_engine docker podman || : ;;
        *) find_engine podman || : ;; # another machine, which has none of the files here
      esac
      ;;
    docker | podman)
      find_engine "$RETRAIN_RUNTIME" || die 1 "$RETRAIN_RUNTIME does not answer." "RETRAIN_RUNTIME=local runs in .venv."
      ;;
    *) die 2 "RETRAIN_RUNTIME is '$RETRAIN_RUNTIME'." "It may be auto, docker, podman or local." ;;
  esac
}
