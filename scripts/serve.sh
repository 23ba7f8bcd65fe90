#!/usr/bin/env bash
# Summary: serve the model in TF_FILES over HTTP, until Ctrl-C
# Usage: serve.sh [OPTION…] [TF_FILES]
# TF_FILES is tf_files, or what the variable TF_FILES names. Options are those of `retrain serve`:
#   ./serve.sh --port 9000
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
read_command_line "$@"
[ ${#paths[@]} -le 1 ] || usage
export TF_FILES=${paths[0]:-${TF_FILES:-tf_files}}
run_retrain serve ${options[@]+"${options[@]}"}
