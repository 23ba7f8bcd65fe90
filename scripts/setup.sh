#!/usr/bin/env bash
# Summary: put pinned packages and retrain into .venv, unless they are there
# Usage: setup.sh [requirements.txt | requirements-full.txt | requirements-dev.txt]
# PYTHON names the interpreter; else the first Python 3.11 to 3.13 on the PATH is taken.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# A name on the PATH may be a launcher that fails, and Debian ships Python without venv: each is asked.
supported='import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
find_python() {
  local name
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11 python; fi
  for name in "$@"; do
    if "$name" -c "$supported" 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  die 1 "no Python 3.11, 3.12 or 3.13 with venv found (tried: $*)." \
    "install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13) or name it: PYTHON=/path/to/python3"
}

requirements=${1:-requirements.txt}
cd "$root"
! is_set_up "$requirements" || exit 0
python=$(find_python)

# One set-up at a time. The lock goes with this process; a drive without locks does without.
exec 9<requirements.txt
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || :
! is_set_up "$requirements" || exit 0

say "setting up .venv from $requirements with $("$python" --version); once, and about a minute …"
trap 'say "set-up stopped; running it again finishes it."' ERR
# made-in is empty until all is done. What was interrupted, moved, or lost its Python is made anew.
if [ -e .venv/made-in ] && ! made_here; then
  find .venv/ -mindepth 1 -maxdepth 1 ! -name made-in -exec rm -rf {} +
fi
mkdir -p .venv
: >.venv/made-in
[ -x .venv/bin/pip ] || "$python" -m venv .venv

# -I: nothing of the caller's PYTHONPATH gets in, and PYTHONDONTWRITEBYTECODE does not keep byte code from being written.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0
pip=(.venv/bin/python -I -m pip install -qq --no-compile)
"${pip[@]}" --require-hashes -r "$requirements"
"${pip[@]}" --no-deps --no-build-isolation -e .
# Without byte code a command starts ten times slower. Relative paths: the clone may itself stand in a folder named test.
.venv/bin/python -I -m compileall -qq -j0 -x '/tests?/' .venv/lib retrain || :

for file in requirements.txt requirements-full.txt requirements-dev.txt; do # each holds the one before
  cp -- "$file" .venv/
  [ "$file" != "$requirements" ] || break
done
printf '%s\n' "$root" >.venv/made-in
