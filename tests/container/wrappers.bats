#!/usr/bin/env bats
# The front door with a real engine: the same as without one, for any name, and it can be stopped.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

setup_file() {
  load helper
  need_docker
  cd "$BATS_FILE_TMPDIR" || return
  RETRAIN_RUNTIME=docker TF_FILES=files "$project/scripts/retrain.sh" sample files/data --per-class 8 --size 96
  RETRAIN_RUNTIME=docker "$project/train.sh" files 2>train.err
}

setup() {
  load helper
  cd "$BATS_TEST_TMPDIR" || return
  unset DATA IMAGE SRC DST MAKEFLAGS MAKELEVEL
  export RETRAIN_RUNTIME=docker TF_FILES="$BATS_TEST_TMPDIR/files" RETRAIN_DOCKER_RUN_ARGS="--label $mark"
  mkdir files
  cp -R "$BATS_FILE_TMPDIR/files/model" files
  pictures=("$BATS_FILE_TMPDIR"/files/data/*/*-000.jpg)
}

# in_both COMMAND…: it says and does the same in a container as without, in the folders `docker` and `local`.
in_both() {
  local pids=() pid runtime code=0
  for runtime in docker local; do
    (cd "$runtime" && RETRAIN_RUNTIME=$runtime exec "$@" >"../$runtime.out" 2>"../$runtime.err") &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || code=1; done
  [ "$code" = 0 ] || cat docker.err local.err
  [ "$code" = 0 ]
  quiet docker.err local.err
  diff local.out docker.out
}

# Folders `docker` and `local` with the same pictures, of any name and in folders of any name.
make_pictures() {
  mkdir docker
  for name in "${hostile_names[@]}"; do
    mkdir -p "docker/in/$name"
    cp "${pictures[0]}" "docker/$name.jpg"
    for number in 0 1; do cp "${pictures[number]}" "docker/in/$name/$number $name"; done
  done
  cp -Rp docker local
}

# Pictures enough to be busy with: small ones, each another file.
make_many() {
  python3 -c '
import os, sys
for label, path in enumerate(sys.argv[1:]):
    os.makedirs(f"files/data/{label}")
    for number in range(1000):
        with open(f"files/data/{label}/{number}.jpg", "wb") as file:
            file.write(open(path, "rb").read() + str(number).encode())
' "${pictures[@]:0:3}"
}

# stopped HOW COMMAND…: the exit code of a command that is stopped amid its work, by a signal or by ^C on its terminal.
stopped() {
  python3 -c '
import os, pty, signal, subprocess, sys, time
how, *command = sys.argv[1:]
if how == "^C":
    master, slave = pty.openpty()
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
else:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
def own_terminal():
    os.setsid()
    if how == "^C":
        import fcntl, termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
process = subprocess.Popen(command, preexec_fn=own_terminal, **streams)
store = os.environ["TF_FILES"] + "/bottlenecks.sqlite"
while not os.path.exists(store):
    assert process.poll() is None, "it ended before its time"
    time.sleep(0.1)
time.sleep(1)
if how == "^C":
    os.write(master, b"\x03")
else:
    process.send_signal(getattr(signal, how))
try:
    print(process.wait(timeout=3))
except subprocess.TimeoutExpired:
    process.kill()
    sys.exit("it goes on")
' "$@"
}

# leaves_no_trace: no container, nothing half written, and the old model guesses as before.
leaves_no_trace() {
  [ -z "$(docker ps --all --quiet --filter "label=$mark")" ]
  [ -z "$(find files -maxdepth 1 -name '.model*')" ]
  diff -r "$BATS_FILE_TMPDIR/files/model" files/model
  "$project/guess.sh" "${pictures[0]}"
}

@test "train.sh trains, and what it writes belongs to the caller" {
  quiet "$BATS_FILE_TMPDIR/train.err"
  [ -s "$BATS_FILE_TMPDIR/files/model/model.json" ]
  [ "$(owners "$BATS_FILE_TMPDIR/files")" = "$(id -u):$(id -g)" ]
}

@test "pictures of any name are guessed as without a container, many at once" {
  make_pictures
  (cd docker && printf '%s\0' *.jpg in/*) >names
  in_both xargs -0 -a ../names "$project/guess.sh" --
  [ "$(grep -c '(score = ' local.out)" -eq $((5 * 3 * ${#hostile_names[@]})) ]
}

@test "pictures of any name are guessed as without a container, one at a time" {
  make_pictures
  for name in '"quoted".jpg' $'newline at end\n' --json 日本.jpg; do
    in_both "$project/guess.sh" -- "$name.jpg"
    in_both "$project/guess.sh" --json -- "in/$name"
  done
}

@test "folders of any name are sorted into folders of any name as without a container" {
  make_pictures
  for name in "${hostile_names[@]}"; do
    in_both "$project/guessDir.sh" -- "in/$name" "out/$name"
  done
  [ "$(find local/out -name '[01] *' -exec printf x \; | wc -c)" -eq $((2 * ${#hostile_names[@]})) ]
  diff <(tree local) <(tree docker)
  [ -z "$(find . -name pwned)" ]
}

@test "the current folder may have any name, and TF_FILES too" {
  names=('a,b' 'a:b' '"quoted"' $'new\nline' $'newline at end\n' 'back\slash' 'trailing ' ' leading' 日本)
  for name in "${names[@]}"; do
    mkdir -p "docker/$name/$name"
    cp -R files/model "docker/$name/$name"
    cp "${pictures[0]}" "docker/$name/1.jpg"
  done
  cp -Rp docker local
  for name in "${names[@]}"; do
    in_both bash -c 'cd -- "$1" && exec "$0/guess.sh" -- "$1" 1.jpg' "$project" "$name"
  done
}

@test "links are followed as without a container" {
  make_pictures
  for runtime in docker local; do
    mkdir -p "$runtime"/links/deeper
    ln -s ../plain.jpg.jpg "$runtime/links/one.jpg"
    ln -s ../one.jpg "$runtime/links/deeper/two.jpg"
    ln -s ../in "$runtime/links/folder"
    ln -s nowhere "$runtime/links/dangling.jpg"
  done
  in_both "$project/guess.sh" links/one.jpg links/deeper/two.jpg links/folder/plain.jpg 'links/folder/two words.jpg'
  (cd docker && run -3 "$project/guess.sh" --json links/one.jpg links/dangling.jpg)
}

@test "a model that is a link is read, and replaced where it is" {
  mkdir elsewhere
  mv files/model elsewhere/model
  ln -s ../elsewhere/model files/model
  "$project/guess.sh" "${pictures[0]}"
  touch -d '1 hour ago' elsewhere/model/model.json
  "$project/scripts/retrain.sh" train "$BATS_FILE_TMPDIR/files/data"
  [ -L files/model ]
  [ -n "$(find elsewhere/model/model.json -mmin -30)" ]
}

@test "data below tf_files that are a link are found" {
  ln -s "$BATS_FILE_TMPDIR/files/data" files/data
  run --separate-stderr -0 "$project/train.sh"
  [[ $output == '40 pictures, 5 classes:'* ]]
}

@test "a model is trained anew with --model-dir" {
  unset TF_FILES
  for _ in 1 2; do "$project/scripts/retrain.sh" train --model-dir models/drawn "$BATS_FILE_TMPDIR/files/data"; done
  "$project/guess.sh" --model-dir models/drawn "${pictures[0]}"
  [ ! -e tf_files ]
}

@test "what was sorted by copy, move or link goes back" {
  mkdir holiday
  cp "${pictures[@]}" holiday
  mkdir holiday/deeper
  cp "${pictures[0]}" holiday/deeper/again.jpg
  tree holiday >before
  for mode in copy move link; do
    "$project/guessDir.sh" --mode "$mode" holiday "sorted/by $mode"
    [ "$(find "sorted/by $mode" -name '*.jpg' | wc -l)" -eq 6 ]
    [ "$(owners sorted)" = "$(id -u):$(id -g)" ]
    case $mode in
      move) [ -z "$(find holiday -type f)" ] ;;
      link) [ "$(find holiday -type f -links 2 | wc -l)" -eq 6 ] ;;
      copy) diff before <(tree holiday) ;;
    esac
    run --separate-stderr -0 "$project/guessDir.sh" --undo "sorted/by $mode"
    [ "$output" = '6 file(s) undone.' ]
    diff before <(tree holiday)
    [ -z "$(find sorted -type f)" ]
  done
  "$project/guessDir.sh" --mode move holiday sorted
  RETRAIN_RUNTIME=local "$project/guessDir.sh" --undo sorted # a journal is true on both sides
  diff before <(tree holiday)
}

@test "a picture on standard input is guessed, and what nobody asked for stays" {
  "$project/guess.sh" "${pictures[0]}" >by-name
  "$project/guess.sh" - <"${pictures[0]}" >by-content
  cmp by-name by-content
  for _ in 1 2; do
    "$project/guess.sh" "${pictures[0]}" >/dev/null
    read -r line
    echo "$line" >>lines
  done < <(printf '1\n2\n')
  [ "$(cat lines)" = $'1\n2' ]
}

@test "the wrappers work from a folder that no container sees" {
  expected=$("$project/guess.sh" "${pictures[0]}")
  cd /
  run --separate-stderr -0 "$project/guess.sh" "${pictures[0]}"
  [ "$output" = "$expected" ]
  cd /etc
  run --separate-stderr -0 "$project/guess.sh" "${pictures[0]}"
  [ "$output" = "$expected" ]
}

@test "a shell finds retrain and the current folder, and hands its own input on" {
  cp "${pictures[0]}" 1.jpg
  run --separate-stderr -0 bash -c 'echo "retrain guess *.jpg && touch made && id -u" | "$0/shell.sh"' "$project"
  [[ $output == *'(score = '*$'\n'"$(id -u)" ]]
  [ -e made ]
}

@test "make trains, guesses and sorts" {
  mkdir holiday
  cp "${pictures[@]}" holiday
  run --separate-stderr -0 make -s -C "$project" train DATA="$BATS_FILE_TMPDIR/files/data"
  quiet - <<<"$stderr"
  run --separate-stderr -0 make -s -C "$project" guess IMAGE="$PWD/holiday/${pictures[0]##*/}"
  [[ $output == *'(score = '* ]]
  run --separate-stderr -0 make -s -C "$project" sort SRC="$PWD/holiday" DST="$PWD/sorted"
  [ "$(find sorted -name '*.jpg' | wc -l)" -eq 5 ]
}

@test "an ordinary user owns what is written" {
  [ "$(id -u)" = 0 ] || skip "whoever tests is one: the other tests show it"
  socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
  mkdir theirs
  cp -R "$BATS_FILE_TMPDIR/files/data" theirs
  chown -R 4321:4321 theirs
  chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/.." # a way in
  as_user() { setpriv --reuid 4321 --regid 4321 --groups "$(stat -c %g "${socket#unix://}")" env HOME="$PWD/theirs" "$@"; }
  as_user docker info >/dev/null 2>&1 || skip "an ordinary user does not reach the engine"
  as_user test -x "$project/train.sh" || skip "an ordinary user does not reach the project"
  as_user "$project/train.sh" theirs
  TF_FILES=theirs as_user "$project/guessDir.sh" theirs/data/fish theirs/sorted
  [ "$(owners theirs)" = 4321:4321 ]
}

@test "Ctrl-C as a signal ends a training, and leaves the old model" {
  make_many
  run --separate-stderr -0 stopped SIGINT "$project/train.sh" files
  [ "$output" = 130 ]
  leaves_no_trace
}

@test "Ctrl-C on a terminal ends a training, and leaves the old model" {
  make_many
  run --separate-stderr -0 stopped ^C "$project/train.sh" files
  [ "$output" = 130 ]
  leaves_no_trace
}

@test "SIGTERM ends a training, and leaves the old model" {
  make_many
  run --separate-stderr -0 stopped SIGTERM "$project/train.sh" files
  [ "$output" = 143 ]
  leaves_no_trace
}

@test "a crawl fetches the same pictures as without a container" {
  mkdir docker local
  PYTHONPATH="$project/tests" "$project/.venv/bin/python" -c '
from image_sites import Openverse
site = Openverse({"daisy": [("d1", "by"), ("d2", "cc0"), ("planted-1", "by-nc")]})
print(site.base_url, flush=True)
site.serve_forever()
' >site &
  server=$!
  until [ -s site ]; do sleep 0.1; done
  RETRAIN_OPENVERSE_URL=$(cat site)
  export RETRAIN_OPENVERSE_URL XDG_CACHE_HOME=$PWD/cache XDG_CONFIG_HOME=$PWD/config
  RETRAIN_DOCKER_RUN_ARGS+=' --network host' # where the site is
  in_both "$project/crawl.sh" --source openverse --out data daisy
  kill "$server"
  [[ $(cat docker.out) == 'daisy: 2 pictures, 2 of them new'*'1 refused'* ]]
  for name in d1.jpg d2.jpg; do cmp {docker,local}/data/daisy/openverse-$name; done
  [ "$(owners docker)" = "$(id -u):$(id -g)" ]
  [ "$(wc -l <docker/data/manifest.jsonl)" = 2 ]
}

@test "serve answers whoever has its token, and ends when asked" {
  local server token code
  # In the host's network nothing is published; an engine without a network of its own has no other.
  export RETRAIN_DOCKER_RUN_ARGS="$RETRAIN_DOCKER_RUN_ARGS --network host"
  "$project/serve.sh" --port 18431 >out 2>err &
  server=$!
  for _ in {1..100}; do
    ! grep -q Serving out || break
    sleep 0.3
  done
  token=$(sed -n 's/^Serving .*#token=\([0-9a-f]*\) .*/\1/p' out)
  [ ${#token} = 32 ]
  python3 - "$token" "${pictures[0]}" <<'ASK'
import json, sys, urllib.error, urllib.request
address, token, picture = "http://127.0.0.1:18431", *sys.argv[1:]
try:
    urllib.request.urlopen(f"{address}/model")
    raise SystemExit("anybody gets in")
except urllib.error.HTTPError as error:
    assert error.code == 401, error
headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
request = urllib.request.Request(f"{address}/guess", open(picture, "rb").read(), headers)
assert json.load(urllib.request.urlopen(request))["guesses"][0]["label"]
request = urllib.request.Request(f"{address}/studio/state", headers=headers)
assert json.load(urllib.request.urlopen(request))["model"]["version"] == 1
ASK
  kill "$server"
  code=0
  wait "$server" || code=$?
  [ "$code" = 143 ]
  run ! grep -E "Traceback|\"level\": \"error\"" err
}
