#!/usr/bin/env bash
# Summary: build the container images, and say how large they are
# Usage: image.sh [guess | full | gpu]…
# guess says what is on pictures and sorts them, full does everything, gpu does it on NVIDIA cards. Without a name: guess and full.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
offer_help "$@"
[ $# -gt 0 ] || set -- guess full
find_runtime
[ -n "$engine" ] || die 1 "no docker or podman answers." "Start one; retrain runs without an image, too."
for stage; do
  image=${RETRAIN_IMAGE:-retrain}:$stage
  build_image
done
for stage; do
  image=${RETRAIN_IMAGE:-retrain}:$stage
  size=$("$engine" image inspect --format '{{.Size}}' "$image")
  printf '%s %d MB\n' "$image" $((size / 1000000))
done
