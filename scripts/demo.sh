#!/usr/bin/env bash
# Summary: train on 3,670 flower photos (218 MB, fetched once), or on drawn pictures where the network gives none
# Usage: demo.sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 0 ] || usage

url=https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz
sha256=4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c
cd "$root"
export TF_FILES=tf_files/demo

checksum() {
  if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

fetch_flowers() {
  say "fetching flower photos (218 MB) …"
  curl --fail --location --silent --show-error --connect-timeout 10 --output "$TF_FILES/photos.tgz" "$url" &&
    [ "$(checksum <"$TF_FILES/photos.tgz")" = "$sha256" ] &&
    mkdir -p "$TF_FILES/unpacked" &&
    tar -xzf "$TF_FILES/photos.tgz" -C "$TF_FILES/unpacked" &&
    mv "$TF_FILES/unpacked/flower_photos" "$TF_FILES/flower_photos" &&
    rm -r "$TF_FILES/photos.tgz" "$TF_FILES/unpacked"
}

mkdir -p "$TF_FILES"
data=$TF_FILES/flower_photos
if [ ! -d "$data" ] && ! fetch_flowers; then
  data=$TF_FILES/drawn
  say "no flower photos to be had: drawing pictures instead"
  [ -d "$data" ] || scripts/retrain.sh sample "$data"
fi
scripts/retrain.sh train "$data"
pictures=("$data"/*/*)
say "guessing ${pictures[0]}"
scripts/retrain.sh guess "${pictures[0]}"
