#!/usr/bin/env bats
# The wrappers with a real engine: the same output and the same files as without a container.
# shellcheck disable=SC2016,SC2154

setup_file() {
  load helper
  require_images
  find_photos "$BATS_FILE_TMPDIR"
  cd "$BATS_FILE_TMPDIR" || return
  "$project/scripts/retrain.sh" train "$photos" >trained 2>&1
}

setup() {
  load helper
  load ../shell/helper
  require_images
  find_photos "$BATS_FILE_TMPDIR"
  export TF_FILES=$BATS_FILE_TMPDIR/tf_files
  pictures=()
  while read -r picture; do pictures+=("$picture"); done < <(find "$photos/test" -type f | LC_ALL=C sort)
  cd "$BATS_TEST_TMPDIR" || return
}

in_both() { # COMMAND…: run it in .venv and in a container, each in a folder of its own; compare output and files
  local runtime
  for runtime in local docker; do
    mkdir -p "$BATS_TEST_TMPDIR/$runtime/here"
    cp -R "$BATS_TEST_TMPDIR"/pictures/. "$BATS_TEST_TMPDIR/$runtime/here"
    (cd "$BATS_TEST_TMPDIR/$runtime/here" && RETRAIN_RUNTIME=$runtime "$@" >../out 2>../err) || echo "exit code $?" >>"$BATS_TEST_TMPDIR/$runtime/out"
    (cd "$BATS_TEST_TMPDIR/$runtime/here" && find . ! -name '.retrain-*' | LC_ALL=C sort >../files)
  done
  diff "$BATS_TEST_TMPDIR/local/out" "$BATS_TEST_TMPDIR/docker/out"
  diff "$BATS_TEST_TMPDIR/local/files" "$BATS_TEST_TMPDIR/docker/files"
}

@test "guess.sh: pictures of any name, with the same output in both runtimes" {
  mkdir pictures
  for number in "${!hostile_names[@]}"; do cp "${pictures[number]}" "pictures/${hostile_names[number]}"; done
  in_both "$project/guess.sh" --top 1 -- "${hostile_names[@]}"
  [ "$(grep -c '(score = ' docker/out)" = ${#hostile_names[@]} ]
  in_both "$project/guess.sh" --json -- "${hostile_names[@]}"
  in_both "$project/guess.sh" . --json
  for name in "${hostile_names[@]:10:3}"; do in_both "$project/guess.sh" -- "./$name"; done
  [ -z "$(find . -name pwned)" ]
}

@test "guessDir.sh: folders of any name, with the same output and files in both runtimes" {
  mkdir pictures
  for number in "${!hostile_names[@]}"; do
    mkdir "pictures/${hostile_names[number]}"
    cp "${pictures[number]}" "pictures/${hostile_names[number]}/${hostile_names[number]}"
  done
  for name in "${hostile_names[@]}"; do
    in_both "$project/guessDir.sh" -- "$name" "sorted/$name"
  done
  in_both "$project/guessDir.sh" . ../sorted
  [ -z "$(find . -name pwned)" ]
}

@test "what was sorted in a container is taken back there, or here" {
  mkdir -p 'my, pictures' before
  cp "${pictures[@]:0:4}" 'my, pictures'
  cp 'my, pictures'/* before
  for mode in copy move link; do
    for runtime in docker local; do
      "$project/guessDir.sh" --mode $mode 'my, pictures' "sorted: $mode"
      RETRAIN_RUNTIME=$runtime "$project/guessDir.sh" --undo "sorted: $mode"
      diff -r before 'my, pictures'
      [ -z "$(find "sorted: $mode" -type f 2>/dev/null)" ]
    done
  done
}

@test "standard input reaches the container, and only where it is asked for" {
  run -0 "$project/guess.sh" --top 1 - <"${pictures[0]}"
  from_input=$output
  run -0 "$project/guess.sh" --top 1 "${pictures[0]}"
  [ "$output" = "$from_input" ]
  printf '%s\n' "${pictures[@]:0:3}" | while read -r picture; do "$project/guess.sh" --top 1 "$picture"; done >out
  [ "$(wc -l <out)" -eq 3 ]
}

@test "make and shell.sh go the same way" {
  run -0 make -s -C "$project" guess IMAGE="${pictures[0]}" ARGS='--top 1'
  expected=$output
  cp "${pictures[0]}" here.jpg
  run -0 "$project/shell.sh" -c 'retrain guess --top 1 here.jpg && touch made'
  [ "$output" = "$expected" ]
  [ -f made ]
}

@test "an ordinary user owns what comes out" {
  [ "$(id -u)" = 0 ] || skip 'needs root to become somebody else'
  command -v setpriv >/dev/null || skip 'needs setpriv'
  local socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
  socket=${socket#unix://}
  mkdir mine
  cp "${pictures[@]:0:3}" mine
  chown -R 1234:1234 .
  chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/{file,test} "$BATS_FILE_TMPDIR" "$BATS_TEST_TMPDIR"
  as_ordinary_user() {
    setpriv --reuid 1234 --regid "$(stat -c %g "$socket")" --clear-groups "$@"
  }
  as_ordinary_user docker info >/dev/null 2>&1 || skip 'an ordinary user may not use the engine'
  as_ordinary_user test -r "$project/scripts/lib.sh" || skip 'an ordinary user may not read the project'
  as_ordinary_user "$project/guessDir.sh" mine sorted
  [ "$(find sorted -type f -user 1234 | wc -l)" -ge 3 ]
  [ -z "$(find sorted ! -user 1234)" ]
}

# stopped_by SIGNAL: a training in a container, stopped in the middle; set `status` and `seconds`
stopped_by() {
  mkdir -p data
  [ -d data/train ] || "$project/scripts/retrain.sh" sample data/train --per-class 400 --size 512 >/dev/null 2>&1
  TF_FILES=$BATS_TEST_TMPDIR/mine "$project/scripts/retrain.sh" train "$photos" >/dev/null 2>&1
  TF_FILES=$BATS_TEST_TMPDIR/mine python3 - "$1" "$project/scripts/retrain.sh" train data/train --no-report >stopped 2>&1 <<'PYTHON'
import os, signal, subprocess, sys, time
stop, *command = sys.argv[1:]
training = subprocess.Popen(command, stdin=subprocess.DEVNULL)
time.sleep(4)
assert training.poll() is None, "it was over too soon"
training.send_signal(getattr(signal, stop))
start = time.monotonic()
print("code", training.wait(30), "seconds", time.monotonic() - start)
PYTHON
}

@test "Ctrl-C and a signal to end stop a training in time, and the old model stays" {
  stopped_by SIGINT
  grep -E 'code 130 seconds [0-2]\.' stopped
  TF_FILES=$BATS_TEST_TMPDIR/mine "$project/guess.sh" "${pictures[0]}" >guessed
  TF_FILES=$BATS_FILE_TMPDIR/tf_files "$project/guess.sh" "${pictures[0]}" | diff guessed -
  stopped_by SIGTERM
  grep -E 'code 143 seconds [0-2]\.' stopped
  TF_FILES=$BATS_TEST_TMPDIR/mine "$project/guess.sh" "${pictures[0]}" | diff guessed -
  [ -z "$(docker ps --quiet --filter ancestor=retrain:full)" ]
}
