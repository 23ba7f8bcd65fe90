#!/usr/bin/env bats
# What doctor says of a real engine, and in the images that were built with it.

bats_require_minimum_version 1.5.0

setup() {
  project=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
  docker info >/dev/null 2>&1 || skip 'no docker answers'
  local sources stage
  sources=$(source "$project/scripts/lib.sh" && sources)
  for stage in guess full; do
    [ "$(docker image inspect --format '{{index .Config.Labels "retrain.sources"}}' "retrain:$stage" 2>/dev/null)" = "$sources" ] ||
      skip "retrain:$stage is not built of these sources: make image"
  done
  cd "$BATS_TEST_TMPDIR" || return
  unset TF_FILES RETRAIN_IMAGE RETRAIN_DOCKER_RUN_ARGS
  export RETRAIN_RUNTIME=docker
}

# doctor_in STAGE FLAG…: as a user whom the image does not know, with nothing to write to
doctor_in() {
  run --separate-stderr -0 docker run --rm --network none --read-only --cap-drop ALL --user 1234:1234 "${@:2}" "retrain:$1" doctor
}

@test "doctor.sh looks at the engine, the images and inside" {
  mkdir tf_files
  run --separate-stderr -0 "$project/scripts/doctor.sh"
  [ -z "$stderr" ]
  [[ $output == *"fine    engine       docker "*" answers, "* ]]
  [[ $output == *"fine    image        retrain:guess, "*" MB, made of what is here"* ]]
  [[ $output == *"Inside retrain:"*"fine    engine       this is a container of the image retrain:"* ]]
  [[ $output == *"fine    data folder  tf_files is mounted and can be written to (owner $(id -u))"* ]]
}

@test "doctor.sh finds a folder that is not there yet as it should be" {
  run --separate-stderr -0 "$project/scripts/doctor.sh"
  [[ $output == *"fine    data folder  tf_files is not there yet; the first training makes it"* ]]
  [ ! -e tf_files ]
}

@test "each image answers on its own, and says that nothing is kept" {
  for stage in guess full; do
    doctor_in "$stage"
    [ -z "$stderr" ]
    [[ $output == *"fine    engine       this is a container of the image retrain:$stage"* ]]
    [[ $output == *"note    data folder  tf_files is no mounted folder, so nothing in it is kept"* ]]
    [[ $output == *"fine    byte code "* ]]
    [[ $output != *"make setup"* && $output != *"pip install"* ]]
  done
}

@test "a card that TensorFlow cannot use in an image is said with the reason" {
  doctor_in full --tmpfs /tmp --mount type=bind,source=/dev/null,target=/dev/nvidia0
  [[ $output == *"note    GPU          a card by NVIDIA, but TensorFlow cannot use it: the driver's libcuda.so.1 "*"--gpus all"* ]]
}
