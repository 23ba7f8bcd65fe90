#!/usr/bin/env bats
# The images by themselves: any user, no network, no capabilities, nothing to write to but one folder, 2 GB of memory.
# shellcheck disable=SC2154

setup_file() {
  load helper
  require_images
  find_photos "$BATS_FILE_TMPDIR"
  mkdir "$BATS_FILE_TMPDIR/work"
  chown 1234:1234 "$BATS_FILE_TMPDIR/work" 2>/dev/null || chmod 777 "$BATS_FILE_TMPDIR/work"
  as_1234 full "$BATS_FILE_TMPDIR/work" train /photos >"$BATS_FILE_TMPDIR/trained" 2>&1
}

setup() {
  load helper
  require_images
  find_photos "$BATS_FILE_TMPDIR"
  work=$BATS_FILE_TMPDIR/work
  picture=$(find "$photos/test" -type f | LC_ALL=C sort | head -n 1)
  picture=/photos${picture#"$photos"}
}

@test "training says how good it is, and nothing to worry about" {
  grep -q '^Accuracy on ' "$BATS_FILE_TMPDIR/trained"
  run ! grep -E 'WARNING|Traceback|Error' "$BATS_FILE_TMPDIR/trained"
  [ -z "$(find "$work/tf_files" ! -user 1234)" ]
}

@test "every command runs in the full image" {
  local command
  local -a words
  for command in --version "guess $picture" "guess --json /photos/test" 'evaluate /photos/test' 'sort /photos/test sorted' \
    'sort --undo sorted' 'sample drawn' 'clean /photos' 'export dataset exported --data /photos' backbones doctor; do
    read -ra words <<<"$command"
    run --separate-stderr -0 as_1234 full "$work" "${words[@]}"
    only_good_news
  done
  [ -z "$(find "$work" ! -user 1234 ! -path "$work")" ]
}

@test "the guess image guesses and sorts" {
  run --separate-stderr -0 as_1234 guess "$work" guess "$picture"
  only_good_news
  [[ ${lines[0]} =~ \(score\ =\ [01]\.[0-9]{5}\)$ ]]
  run --separate-stderr -0 as_1234 guess "$work" sort /photos/test sorted-by-guess
  only_good_news
  [ -z "$(find "$work/sorted-by-guess" ! -user 1234)" ]
}

@test "the guess image says that it cannot train" {
  run --separate-stderr -1 as_1234 guess "$work" train /photos
  [[ $stderr == *'Error: '*'Hint: '* && $stderr != *Traceback* ]]
}

@test "a backbone that is not shipped is in the full image" {
  run --separate-stderr -0 as_1234 full "$work" train /photos --backbone efficientnet-lite1 --model-dir lite1
  only_good_news
}

@test "the images are as small as they should be, and hold what they should" {
  [ "$(docker image inspect --format '{{.Size}}' retrain:guess)" -lt 400000000 ]
  [ "$(docker image inspect --format '{{.Size}}' retrain:full)" -lt 3000000000 ]
  for package in sklearn scipy tensorflow; do
    run ! docker run --rm --network none --entrypoint python3 retrain:guess -c "import $package"
    docker run --rm --network none --entrypoint python3 retrain:full -c "import importlib.util; assert importlib.util.find_spec('$package')"
  done
}

@test "the labels tell the version, the licence and the sources" {
  label() { docker image inspect --format "{{index .Config.Labels \"$1\"}}" retrain:guess; }
  [ "retrain, version $(label org.opencontainers.image.version)" = "$(docker run --rm --network none retrain:guess --version)" ]
  [ "$(label org.opencontainers.image.licenses)" = Apache-2.0 ]
  [ "$(label org.opencontainers.image.title)" = retrain ]
}

@test "the user is an ordinary one, who can read all that is there" {
  [ "$(docker run --rm --network none --entrypoint id retrain:full -u)" = 1000 ]
  run -0 docker run --rm --network none --user 1234 --entrypoint find retrain:full /usr/lib/retrain ! -readable
  [ -z "$output" ]
}

@test "TensorFlow can be imported where nothing can be written" {
  docker run --rm --network none --read-only --cap-drop ALL --user 1234 --entrypoint python3 retrain:full -c 'import tensorflow'
}

@test "health is asked of a server alone" {
  health() { # COMMAND LINE: exit code of the health check beside a first process of that command line
    local container
    container=$(docker run --rm --detach --network none --entrypoint python3 retrain:full -c 'import time; time.sleep(60)' "$@")
    run docker exec "$container" python3 -c "$(docker image inspect --format '{{index .Config.Healthcheck.Test 3}}' retrain:full)"
    docker kill "$container" >/dev/null
    return "$status"
  }
  health train
  run ! health serve
}
