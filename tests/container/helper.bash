# shellcheck shell=bash disable=SC2034,SC2154
# What the tests of the images share.  Needs the images that `make image` builds, and an engine that runs them.

bats_require_minimum_version 1.5.0
load ../shell/helper # for its names

project=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)
name=${RETRAIN_IMAGE:-retrain}
mark=retrain.test=${BATS_RUN_TMPDIR##*/} # a label of the containers of this run
flowers=${RETRAIN_TEST_DATA:+$RETRAIN_TEST_DATA/flowers}

need_docker() {
  docker info >/dev/null 2>&1 || skip "no docker engine answers"
  docker image inspect "$name:guess" "$name:full" >/dev/null 2>&1 || skip "make image has not built the images"
}

# quiet FILE…: nothing there that a careful reader would worry about.
quiet() {
  run ! grep -E 'WARNING|Traceback|Error' -- "$@"
}

# label IMAGE NAME: its value.
label() {
  docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1"
}

megabytes() {
  echo $(($(docker image inspect --format '{{.Size}}' "$1") / 1000000))
}

# owners FOLDER: the numbers of all whom something in it belongs to.
owners() {
  find "$1" -mindepth 1 -exec stat -c %u:%g {} + | sort -u
}

# tree FOLDER: all that is in it, with owner, time and content, but for what retrain keeps for itself.
tree() {
  (cd -- "$1" && python3 -c '
import os
from hashlib import sha256
for folder, _, names in sorted(os.walk(".")):
    print(repr(folder), os.stat(folder).st_uid)
    for path in [os.path.join(folder, name) for name in sorted(names) if not name.startswith(".retrain-")]:
        status = os.stat(path)
        print(repr(path), status.st_uid, status.st_mtime_ns, sha256(open(path, "rb").read()).hexdigest())
')
}
