#!/usr/bin/env bash
# Summary: a shell where retrain runs, with tf_files and the current folder in it
# Usage: shell.sh [ARGUMENT…]
# Arguments are those of the shell:
#   ./shell.sh -c 'retrain guess *.jpg'
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
offer_help "$@"
run_retrain shell "$@"
