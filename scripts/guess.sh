#!/usr/bin/env bash
# Summary: say what is on pictures
# Usage: guess.sh [OPTION…] IMAGE…
#        guess.sh [OPTION…] TF_FILES IMAGE
# The model is in tf_files, in what the variable TF_FILES names, or in TF_FILES, a folder with model/ or data/ inside;
# a retrained_graph.pb there will do as well.
# Options are those of `retrain guess`:
#   ./guess.sh --top 1 image.jpg
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
read_command_line "$@"
[ ${#paths[@]} -gt 0 ] || usage
if [ ${#paths[@]} = 2 ] && is_tf_files "${paths[0]}"; then
  export TF_FILES=${paths[0]}
  paths=("${paths[1]}")
fi
# Where there is but the graph that the original retrain.py left, or ours wrote, that is what guesses.
files=${TF_FILES:-tf_files} chosen=
for option in ${options[@]+"${options[@]}"}; do
  case $option in --graph* | --model-dir*) chosen=yes ;; esac
done
if [ -z "$chosen" ] && [ ! -e "$files/model" ] && [ -e "$files/retrained_graph.pb" ]; then
  options=("--graph=$files/retrained_graph.pb" ${options[@]+"${options[@]}"})
fi
run_retrain guess ${options[@]+"${options[@]}"} -- "${paths[@]}"
