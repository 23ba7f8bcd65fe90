#!/usr/bin/env bash
# Summary: fetch pictures of things named, with their authors and licences, a folder each
# Usage: crawl.sh [OPTION…] KEYWORD…
# They go into tf_files/data, or where --out says. Options are those of `retrain crawl`:
#   ./crawl.sh --limit 300 daisy rose
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
[ $# -gt 0 ] || usage
read_command_line "$@"
run_retrain crawl ${options[@]+"${options[@]}"} -- ${paths[@]+"${paths[@]}"}
