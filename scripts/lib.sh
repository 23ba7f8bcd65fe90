# shellcheck shell=bash
# What the wrappers share: help, messages, options and paths, where to run.
# Sourced. Runs on bash 3.2, which macOS still brings; there an empty array is unset, hence ${a[@]+"${a[@]}"}.

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)

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

usage() {
  help >&2
  exit 2
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
      -h | --help)
        help
        exit
        ;;
      --backbone | --layout | --mode | --model-dir | --only | --quality | --seed | --test-share | --threshold | --top | --undo)
        options+=("$1" ${2+"$2"})
        [ $# = 1 ] || shift
        ;;
      -?*) # a photo may be called "-1.jpg"
        if [ -e "$1" ]; then paths+=("$1"); else options+=("$1"); fi
        ;;
      *) paths+=("$1") ;;
    esac
    shift
  done
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

# The container engine that answers within two seconds, or nothing.
engine() {
  local name
  for name in docker podman; do
    if command -v "$name" >/dev/null && perl -e 'alarm 2; exec @ARGV' "$name" version >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
}

# run_retrain ARGUMENT…: become the retrain command, in the place that RETRAIN_RUNTIME names.
run_retrain() {
  local found
  case ${RETRAIN_RUNTIME:-auto} in
    local) ;;
    auto)
      found=$(engine)
      [ -z "$found" ] || say "$found is there, but this version has no image for it: running in .venv"
      ;;
    docker) die 1 "this version has no container image to run in." "RETRAIN_RUNTIME=local runs in .venv." ;;
    *) die 2 "RETRAIN_RUNTIME is '$RETRAIN_RUNTIME'." "It may be auto, docker or local." ;;
  esac
  is_set_up requirements.txt || "$root/scripts/setup.sh" </dev/null >&2
  # What to type for the next command: a clone has none on the PATH.
  RETRAIN_PROGRAM=$root/.venv/bin/retrain
  export RETRAIN_PROGRAM=${RETRAIN_PROGRAM#"$PWD"/}
  exec "$root/.venv/bin/retrain" "$@"
}
