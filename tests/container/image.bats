#!/usr/bin/env bats
# The images, run plainly and with no more rights than they need: any user, no network, no capabilities, nothing to
# write to but what is mounted, and 2 GB of memory.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

setup_file() {
  load helper
  need_docker
  cd "$BATS_FILE_TMPDIR" || return
  mkdir tf_files out drawn few logs
  chmod 777 tf_files out drawn few # to be written by a user whom this machine does not know
  logged sample docker_run full --mount "type=bind,source=$PWD/drawn,target=/data" -- sample /data --per-class 24 --size 96
  docker_run full --mount "type=bind,source=$PWD/few,target=/data" -- sample /data --per-class 4 --size 96
  if [ -n "$flowers" ]; then
    ln -s "$flowers/train" data
    ln -s "$flowers/test" test
  else
    ln -s drawn data
    ln -s drawn test
  fi
  logged train restricted full train /data --json
}

teardown_file() {
  load helper
  # This user may not be allowed to remove what that one wrote.
  docker run --rm --user 1234:1234 --network none --mount "type=bind,source=$BATS_FILE_TMPDIR,target=/files" \
    --entrypoint find "$name:guess" /files/tf_files /files/out /files/drawn /files/few -mindepth 1 -delete || :
}

setup() {
  load helper
  cd "$BATS_FILE_TMPDIR" || return
}

teardown() {
  [ -z "${container-}" ] || docker rm --force "$container" >/dev/null
}

# docker_run STAGE FLAG… -- ARGUMENT…
docker_run() {
  local stage=$1 flags=()
  shift
  while [ "$1" != -- ]; do flags+=("$1") && shift; done
  shift
  docker run --rm --user 1234:1234 --network none --read-only --cap-drop ALL --security-opt no-new-privileges --memory 2g \
    "${flags[@]}" "$name:$stage" "$@"
}

# restricted STAGE ARGUMENT…: with a model, data to read and a place for results.
restricted() {
  local stage=$1
  shift
  docker_run "$stage" --env TF_FILES=/tf_files --mount "type=bind,source=$PWD/tf_files,target=/tf_files" \
    --mount "type=bind,source=$(realpath data),target=/data,readonly" \
    --mount "type=bind,source=$(realpath test),target=/test,readonly" \
    --mount "type=bind,source=$PWD/out,target=/out" -- "$@"
}

# logged LOG COMMAND…
logged() {
  local log=$1
  shift
  "$@" >"logs/$log.out" 2>"logs/$log.err"
}

# Both streams of a command that succeeds, and says nothing to worry about.
works() {
  logged "$BATS_TEST_NUMBER" "$@" || {
    cat "logs/$BATS_TEST_NUMBER.err"
    return 1
  }
  quiet "logs/$BATS_TEST_NUMBER".*
  output=$(cat "logs/$BATS_TEST_NUMBER.out")
}

# inside STAGE PYTHON: runs it in the image.
inside() {
  docker_run "$1" --entrypoint python3 -- -c "$2"
}

# started STAGE PYTHON ARGUMENT…: sets `container` to one whose first process is that Python, once it says so.
started() {
  container=$(docker run --detach --network none --label "$mark" --entrypoint python3 "$name:$1" -uc "$2" "${@:3}")
  until docker logs "$container" | grep -q ready; do sleep 0.1; done
}

# The check that the image brings, as the engine runs it.
health() {
  local check
  check=$(docker image inspect --format '{{range .Config.Healthcheck.Test}}{{.}}{{"\n"}}{{end}}' "$name:full")
  docker exec "$container" python3 -c "$(sed 1,3d <<<"$check")"
}

@test "full draws a sample" {
  quiet logs/sample.*
  [ "$(find drawn -name '*.jpg' | wc -l)" -eq 120 ]
  [ "$(owners drawn)" = 1234:1234 ]
}

@test "full trains" {
  quiet logs/train.*
  python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["accuracy"] > 0.7' logs/train.out
  [ -s tf_files/model/model.json ]
  [ -s tf_files/model/report.html ]
  [ -s tf_files/retrained_labels.txt ]
  [ "$(owners tf_files)" = 1234:1234 ]
}

@test "guess and full guess the same" {
  works restricted guess guess --json /test
  cp "logs/$BATS_TEST_NUMBER.out" guessed
  works restricted full guess --json /test
  cmp guessed "logs/$BATS_TEST_NUMBER.out"
  [ "$(wc -l <guessed)" -eq "$(find "$(realpath test)" -type f | wc -l)" ]
}

@test "guess and full sort, and undo it" {
  for stage in guess full; do
    works restricted "$stage" sort /test /out/sorted
    [ "$(find out/sorted -type f ! -name '.*' | wc -l)" -eq "$(find "$(realpath test)" -type f | wc -l)" ]
    [ "$(owners out)" = 1234:1234 ]
    works restricted "$stage" sort --undo /out/sorted
    [ -z "$(find out -mindepth 1)" ]
  done
}

@test "guess explains" {
  works restricted guess explain /test --out /out/explained
  [ "$(find out/explained -name '*-heatmap.jpg' | wc -l)" -eq "$(find "$(realpath test)" -type f | wc -l)" ]
  [ "$(owners out)" = 1234:1234 ]
}

@test "full evaluates" {
  works restricted full evaluate /test
  [[ $output == *'Accuracy on '* ]]
}

@test "full cleans and exports" {
  works restricted full clean /data
  [[ $output == *'Plan: '* ]]
  works restricted full export dataset tflite-int8 --out /out/exported --data /data
  [ -s out/exported/dataset/manifest.jsonl ]
  [ -s out/exported/tflite-int8/model.tflite ]
  [ "$(owners out)" = 1234:1234 ]
}

@test "full knows itself" {
  works restricted full backbones
  [[ $output == *efficientnet-lite1* ]]
  run ! grep '^efficientnet.*built on first use' <<<"$output"
  works restricted full --help
  works docker_run full -- --version
  [ "$output" = "retrain, version $(label "$name:full" org.opencontainers.image.version)" ]
  works docker_run guess -- --version
  [ "$output" = "retrain, version $(label "$name:guess" org.opencontainers.image.version)" ]
}

@test "full finds itself in good health" {
  works restricted full doctor
  run ! grep broken <<<"$output"
}

@test "full trains with a backbone that is not shipped, without network or TensorFlow" {
  works docker_run full --env TF_FILES=/files --env PYTHONPROFILEIMPORTTIME=1 --tmpfs /files:mode=777 \
    --mount "type=bind,source=$PWD/few,target=/data,readonly" -- train /data --backbone efficientnet-lite1-float32
  grep -q '| *sklearn' "logs/$BATS_TEST_NUMBER.err"
  run ! grep '| *tensorflow' "logs/$BATS_TEST_NUMBER.err"
}

@test "full imports TensorFlow where nothing can be written" {
  inside full 'import tensorflow'
}

@test "guess cannot train, and says what can" {
  run --separate-stderr -1 restricted guess train /data
  [[ -z $output && $stderr == Error:*Hint:*retrain:full* && $stderr != *Traceback* ]]
}

@test "guess is small: under 400 MB, with nothing that only training needs" {
  [ "$(megabytes "$name:guess")" -lt 400 ]
  run -0 inside guess 'from importlib.util import find_spec as find; print(*filter(find, ["sklearn", "scipy", "tensorflow", "pip"]))'
  [ -z "$output" ]
}

@test "full is under 3 GB" {
  [ "$(megabytes "$name:full")" -lt 3000 ]
}

@test "labels tell what the images are and what they were made from" {
  for stage in guess full; do
    [ "$(label "$name:$stage" org.opencontainers.image.title)" = retrain ]
    [ "$(label "$name:$stage" org.opencontainers.image.licenses)" = Apache-2.0 ]
    [ "$(label "$name:$stage" retrain.sources)" = "$(sources)" ]
  done
}

@test "the user is not root, unless one asks for it" {
  for stage in guess full; do
    run -0 docker run --rm --network none --entrypoint id "$name:$stage" -u
    [ "$output" = 1000 ]
  done
}

@test "any user can read and enter all of retrain and what it stands on" {
  for stage in guess full; do
    run -0 docker_run "$stage" --entrypoint find -- /usr /work ! -path /usr/lib/ssl/private \
      '(' ! -readable -o -type d ! -executable ')'
    [ -z "$output" ]
  done
}

@test "byte code is there, so that no start has to make it" {
  for stage in guess full; do
    run -0 inside "$stage" 'import retrain.cli, click, os; print(*[m.__cached__ for m in (retrain.cli, click) if not os.path.exists(m.__cached__)])'
    [ -z "$output" ]
  done
}

@test "a container that trains is healthy" {
  started full 'import time; print("ready"); time.sleep(600)' train
  health
}

@test "a container that serves is healthy while it answers" {
  started full 'import http.server as h
class Answer(h.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
server = h.HTTPServer(("127.0.0.1", 8080), Answer)
print("ready")
server.serve_forever()' serve
  health
}

@test "a container that serves and does not answer is not healthy" {
  started full 'import time; print("ready"); time.sleep(600)' serve
  run ! health
}
