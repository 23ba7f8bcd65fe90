#!/usr/bin/env bash
# Summary: say where the report of a model is, and open it in the browser
# Usage: report.sh [--open | --no-open] [--model-dir FOLDER | TF_FILES]
# The page lies beside the model, wherever that was trained: seeing it takes a browser, but neither container nor .venv.
# Unless told otherwise, it is opened where this is a terminal.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# open_page PAGE: in the browser of Linux, of WSL's Windows, or of macOS.
open_page() {
  local opener
  case $1 in /*) ;; *) set -- "$PWD/$1" ;; esac # none of them takes -dash/report.html
  for opener in xdg-open wslview open; do
    ! command -v "$opener" >/dev/null || ! "$opener" "$1" >/dev/null 2>&1 || return 0
  done
  return 1
}

read_command_line "$@"
[ ${#paths[@]} -le 1 ] || usage
model='' wanted=''
set -- ${options[@]+"${options[@]}"}
while [ $# -gt 0 ]; do
  case $1 in
    --open | --no-open) wanted=$1 ;;
    --model-dir=*) model=${1#*=} ;;
    --model-dir) model=${2-} && shift ;;
    *) usage ;;
  esac
  [ $# = 0 ] || shift
done
files=${paths[0]:-${TF_FILES:-tf_files}}
page=${model:-$files/model}/report.html
[ -f "$page" ] || die 1 "there is no report at $page." "Training writes one, unless told --no-report."
printf '%s\n' "$page"
if [ "$wanted" = --open ]; then
  open_page "$page" || die 1 "no browser could be started." "Open $page by hand."
elif [ -z "$wanted" ] && [ -t 1 ]; then
  open_page "$page" || :
fi
