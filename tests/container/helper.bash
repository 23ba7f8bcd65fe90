# shellcheck shell=bash disable=SC2034,SC2154
# The images as `make image` built them, and pictures to use them on.

bats_require_minimum_version 1.5.0

project=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

require_images() {
  docker info >/dev/null 2>&1 || skip 'no docker answers'
  local made_of
  made_of=$(source "$project/scripts/lib.sh" && sources)
  for stage in guess full; do
    [ "$(docker image inspect --format '{{index .Config.Labels "retrain.sources"}}' "retrain:$stage" 2>/dev/null)" = "$made_of" ] ||
      skip "retrain:$stage is not built of these sources: make image"
  done
  unset TF_FILES RETRAIN_IMAGE RETRAIN_DOCKER_RUN_ARGS RETRAIN_DOCKER_BUILD_ARGS MAKEFLAGS MAKELEVEL DATA IMAGE SRC DST
  export RETRAIN_RUNTIME=docker
}

# as_1234 STAGE FOLDER ARGUMENT…: retrain in an image, as a user whom it does not know, with FOLDER alone to write to
as_1234() {
  docker run --rm --user 1234:1234 --network none --read-only --cap-drop ALL --security-opt no-new-privileges --memory 2g \
    --mount "type=bind,source=$2,target=/work" --mount "type=bind,source=$photos,target=/photos,readonly" \
    "retrain:$1" "${@:3}"
}

# find_photos FOLDER: set `photos` to a folder with train/ and test/ inside, drawn into FOLDER where no real ones are named.
find_photos() {
  photos=${RETRAIN_TEST_DATA:+$RETRAIN_TEST_DATA/flowers}
  [ -z "$photos" ] || return 0
  photos=$1/photos
  if [ ! -d "$photos" ]; then
    mkdir -m 777 "$photos"
    for part in train test; do
      docker run --rm --user "$(id -u):$(id -g)" --network none --mount "type=bind,source=$1,target=$1" --workdir "$1" \
        retrain:full sample "$photos/$part" --per-class 20 --seed ${#part}
    done
  fi
}

only_good_news() { # in what `run --separate-stderr` caught
  ! grep -E 'WARNING|Traceback|Error' <<<"$output$stderr"
}
