#!/usr/bin/env bats
# The demonstration, with a network that is only played.
# shellcheck disable=SC2016,SC2154

setup() {
  load helper
  make_project
  install_fake_retrain
  mkdir -p flower_photos/daisy fake
  : >flower_photos/daisy/1.jpg
  tar -czf photos.tgz flower_photos
  export PHOTOS="$PWD/photos.tgz"
  # The checksum of the photos expected, where these are they.
  cat >fake/sha256sum <<'FAKE'
#!/bin/sh
cmp -s - "$PHOTOS" && sed -n 's/^sha256=//p' "$DEMO" || echo another
FAKE
  chmod +x fake/sha256sum
  export DEMO="$project/scripts/demo.sh"
  PATH="$PWD/fake:$PATH"
}

# fake_curl SCRIPT
fake_curl() {
  printf '#!/bin/sh\n%s\n' "$1" >fake/curl
  chmod +x fake/curl
}

@test "demo trains on the flower photos, fetched once" {
  fake_curl 'for file; do case $file in *.tgz) cp "$PHOTOS" "$file"; exit ;; esac; done'
  "$project/scripts/demo.sh"
  called_with guess tf_files/demo/flower_photos/daisy/1.jpg
  fake_curl 'exit 1'
  "$project/scripts/demo.sh"
  called_with guess tf_files/demo/flower_photos/daisy/1.jpg
}

@test "demo draws pictures where there is no network" {
  fake_curl 'exit 6'
  run --separate-stderr "$project/scripts/demo.sh"
  [[ $stderr == *drawing* ]]
  called_with guess 'tf_files/demo/drawn/*/*' # the fake draws none
}

@test "demo does not use photos that are not the ones expected" {
  fake_curl 'for file; do case $file in *.tgz) echo other >"$file"; exit ;; esac; done'
  run --separate-stderr "$project/scripts/demo.sh"
  [[ $stderr == *drawing* ]]
  [ ! -e "$project/tf_files/demo/flower_photos" ]
}
