#!/usr/bin/env bats
# Where the wrappers run retrain.
# shellcheck disable=SC2154

setup() {
  load helper
  make_project
  install_fake_retrain
  mkdir fake
  PATH="$PWD/fake:$PATH"
}

# fake_engine NAME COMMAND…
fake_engine() {
  printf '#!/bin/sh\n%s\n' "$2" >"fake/$1"
  chmod +x "fake/$1"
}

@test "an engine that answers, but has no image to run: one line says so, and .venv does the work" {
  for name in podman docker; do
    fake_engine "$name" 'exit 0'
    RETRAIN_RUNTIME=auto run --separate-stderr -0 "$project/guess.sh" image.jpg
    [[ -z $output && ${#stderr_lines[@]} = 1 && $stderr == *"$name"*.venv* ]]
    called_with guess -- image.jpg
  done
}

@test "an engine that is down or hangs is as none" {
  for answer in 'exit 1' 'exec sleep 600'; do
    fake_engine docker "$answer"
    fake_engine podman "$answer"
    RETRAIN_RUNTIME=auto run --separate-stderr -0 "$project/guess.sh" image.jpg
    [ -z "$output$stderr" ]
  done
}

@test "local asks no engine" {
  fake_engine docker 'touch asked'
  RETRAIN_RUNTIME=local "$project/guess.sh" image.jpg
  [ ! -e asked ]
}

@test "docker that cannot be had is an error with a way out" {
  RETRAIN_RUNTIME=docker run --separate-stderr -1 "$project/guess.sh" image.jpg
  [[ $stderr == Error:*Hint:*RETRAIN_RUNTIME=local* ]]
  [ ! -e "$RECORD" ]
}

@test "an unknown runtime is wrong usage" {
  RETRAIN_RUNTIME=cloud run --separate-stderr -2 "$project/guess.sh" image.jpg
  [[ $stderr == *"'cloud'"*"auto, docker or local"* ]]
}
