#!/usr/bin/env bash
# Summary: copy the pictures of a folder into OUT, sorted by what is on them
# Usage: guessDir.sh [OPTION…] FOLDER [OUT]            OUT/<label>/name.jpg; OUT is sorted where left out
#        guessDir.sh [OPTION…] TF_FILES FOLDER OUT     OUT/<label>-0.99621.jpg, by the model in TF_FILES
#        guessDir.sh --undo OUT
# Options are those of `retrain sort`:
#   ./guessDir.sh --threshold 0.8 holiday sorted
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
read_command_line "$@"
case ${#paths[@]} in
  0) [ ${#options[@]} -gt 0 ] || usage ;;
  1) paths+=(sorted) ;;
  2) ;;
  3)
    export TF_FILES=${paths[0]}
    options=(--layout flat ${options[@]+"${options[@]}"})
    paths=("${paths[1]}" "${paths[2]}")
    ;;
  *) usage ;;
esac
run_retrain sort ${options[@]+"${options[@]}"} -- ${paths[@]+"${paths[@]}"}
