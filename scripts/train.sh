#!/usr/bin/env bash
# Summary: teach a model the categories in TF_FILES/data, one folder a class
# Usage: train.sh [OPTION…] [TF_FILES]
# TF_FILES is tf_files, or what the variable TF_FILES names. Options are those of `retrain train`:
#   ./train.sh --quality good
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
read_command_line "$@"
[ ${#paths[@]} -le 1 ] || usage
export TF_FILES=${paths[0]:-${TF_FILES:-tf_files}}
run_retrain train ${options[@]+"${options[@]}"} -- "$TF_FILES/data"
