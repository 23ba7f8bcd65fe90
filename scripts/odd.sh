#!/usr/bin/env bash
# Summary: find the picture that does not belong with the others
# Usage: odd.sh [OPTION…] [LABEL] IMAGE…
# LABEL is one that the trained model knows: a first argument that is no file or folder. Without it the pictures are
# compared with one another. Options are those of `retrain odd`:
#   ./odd.sh tree a.jpg b.jpg c.jpg d.jpg
# This is for pictures and data sets, not for passing bot checks.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
read_command_line "$@"
[ ${#paths[@]} -gt 0 ] || usage
if [ ! -e "${paths[0]}" ] && [ ! -L "${paths[0]}" ] && [ ${#paths[@]} -gt 1 ]; then
  options=("--label=${paths[0]}" ${options[@]+"${options[@]}"})
  paths=("${paths[@]:1}")
fi
run_retrain odd ${options[@]+"${options[@]}"} -- "${paths[@]}"
