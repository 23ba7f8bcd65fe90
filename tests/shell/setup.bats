#!/usr/bin/env bats
# Making .venv, with a Python that only plays the part.
# shellcheck disable=SC2016,SC2154

setup() {
  load helper
  make_project
  REAL_PYTHON=$(python3 -c "import sys; print(sys.executable)")
  export REAL_PYTHON PYTHON="$BATS_TEST_TMPDIR/fake python" LOG="$BATS_TEST_TMPDIR/log"
  cat >"$PYTHON" <<'FAKE'
#!/usr/bin/env bash
echo "$*" >>"$LOG"
case "$*" in
  *fcntl*) exec "$REAL_PYTHON" "$@" ;;
  *ensurepip*) exit "${FAKE_UNSUPPORTED-0}" ;;
  --version) echo Python 3.12.0 ;;
  *'-m venv .venv')
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    : >.venv/bin/pip
    chmod +x .venv/bin/*
    ;;
  *'-m pip '*' -e .')
    printf '#!/bin/sh\necho retrain "$@"; cat\n' >.venv/bin/retrain
    chmod +x .venv/bin/retrain
    ;;
  *'-m pip '*)
    cat
    echo chatter
    echo $$ >"$LOG.pid"
    [ -z "${FAKE_HANG-}" ] || exec sleep "$FAKE_HANG"
    [ -z "${FAKE_FAIL-}" ] || exit 1
    ;;
esac
FAKE
  chmod +x "$PYTHON"
}

made() { # how often packages were installed
  grep -c require-hashes "$LOG"
}

@test "first use sets up, says so on stderr, and leaves stdout and stdin to retrain" {
  run --separate-stderr -0 bash -c 'printf picture | "$0/guess.sh" -' "$project"
  [ "$output" = $'retrain guess -- -\npicture' ]
  [[ $stderr == *'setting up .venv'* ]]
  run --separate-stderr -0 bash -c 'printf picture | "$0/guess.sh" -' "$project"
  [ "$output" = $'retrain guess -- -\npicture' ]
  [ -z "$stderr" ]
  [ "$(made)" = 1 ]
}

@test "make train sets up on first use" {
  run --separate-stderr -0 make -s -C "$project" train DATA='my photos' </dev/null
  [ "$output" = 'retrain train -- my photos' ]
}

@test "a larger set serves where a smaller one is asked for" {
  "$project/scripts/setup.sh" requirements-dev.txt
  "$project/scripts/setup.sh" requirements-full.txt
  "$project/scripts/setup.sh"
  [ "$(made)" = 1 ]
}

@test "a smaller set does not serve for a larger one" {
  "$project/scripts/setup.sh"
  "$project/scripts/setup.sh" requirements-full.txt
  [ "$(made)" = 2 ]
}

@test "changed requirements are installed, into the same .venv" {
  "$project/scripts/setup.sh"
  : >"$project/.venv/kept"
  echo '# changed' >>"$project/requirements.txt"
  "$project/scripts/setup.sh"
  [ "$(made)" = 2 ]
  [ -e "$project/.venv/kept" ]
}

@test "a set-up that failed says so, and the next one begins anew" {
  FAKE_FAIL=1 run --separate-stderr ! "$project/guess.sh" image.jpg
  [[ $stderr == *'running it again'* ]]
  : >"$project/.venv/half a package"
  "$project/scripts/setup.sh"
  [ ! -e "$project/.venv/half a package" ]
  [ "$(made)" = 2 ]
}

@test "a set-up that was killed is made anew" {
  FAKE_HANG=600 "$project/scripts/setup.sh" 3>&- &
  until [ -s "$LOG.pid" ]; do sleep 0.1; done
  kill -KILL $! "$(cat "$LOG.pid")"
  wait $! || :
  "$project/scripts/setup.sh"
  [ "$(made)" = 2 ]
}

@test "a project that was moved gets a new .venv" {
  "$project/scripts/setup.sh"
  mv "$project" "$project elsewhere"
  "$project elsewhere/scripts/setup.sh"
  [ "$(made)" = 2 ]
}

@test "a .venv whose Python has gone is made anew" {
  "$project/scripts/setup.sh"
  ln -sf /nowhere "$project/.venv/bin/python"
  "$project/scripts/setup.sh"
  [ -x "$project/.venv/bin/python" ]
}

@test "a .venv that the user made is kept" {
  (cd "$project" && "$PYTHON" -m venv .venv)
  : >"$project/.venv/theirs"
  "$project/scripts/setup.sh"
  [ -e "$project/.venv/theirs" ]
}

@test "of two set-ups at once one works, the other waits" {
  FAKE_HANG=0.5 "$project/scripts/setup.sh" &
  FAKE_HANG=0.5 "$project/scripts/setup.sh"
  wait
  [ "$(made)" = 1 ]
}

@test "no supported Python: the error names what was tried and what to do" {
  FAKE_UNSUPPORTED=1 run --separate-stderr -1 "$project/guess.sh" image.jpg
  [[ $stderr == *"3.11, 3.12 or 3.13"*"fake python"*Hint:* ]]
  [ ! -e "$project/.venv" ]
}

@test "a Python on the PATH that fails is passed over" {
  mkdir bin
  printf '#!/bin/sh\nexit 127\n' >bin/python3
  cp "$PYTHON" bin/python3.13
  chmod +x bin/*
  unset PYTHON
  PATH="$PWD/bin:/usr/bin:/bin" "$project/scripts/setup.sh"
  [ "$(made)" = 1 ]
}
