#!/usr/bin/env bash
# Summary: the retrain command, set up on first use
# Usage: retrain.sh COMMAND [ARGUMENT…]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
run_retrain "${@:---help}"
