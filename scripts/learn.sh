#!/usr/bin/env bash
# Summary: learn classes from their names alone, and recognise them on the pictures of a folder
# Usage: learn.sh -c CLASS,CLASS… -p FOLDER [-t CONFIDENCE] [OPTION…]
# It crawls pictures of each, trains, and writes into results/ what it recognised. Options are those of `retrain learn`:
#   ./learn.sh -c cat,dog -p holiday
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
[ $# -gt 0 ] || usage
read_command_line "$@"
run_retrain learn ${options[@]+"${options[@]}"} -- ${paths[@]+"${paths[@]}"}
