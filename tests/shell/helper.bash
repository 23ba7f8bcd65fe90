# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# A copy of the front door whose retrain and whose engines only write down how they were called.

bats_require_minimum_version 1.5.0

hostile_names=(
  plain.jpg 'two words.jpg' ' leading.jpg' 'trailing.jpg ' 'a,b.jpg' 'a:b.jpg' 'a;b.jpg' "it's.jpg" '"quoted".jpg'
  $'new\nline.jpg' $'newline at end\n' $'tab\t.jpg' -dash.jpg --json --top -n '$(touch pwned).jpg' '`touch pwned`.jpg'
  '$HOME.jpg' '$$.jpg' '*.jpg' '?.jpg' '[ab].jpg' '{a,b}.jpg' '~' '#hash.jpg' 'a&b|c>d<e.jpg' 'back\slash.jpg' '100%s.jpg'
  '!history.jpg' 'a=b.jpg' Äpfel.jpg 日本.jpg 🌷.jpg
)

make_project() { # in a folder whose own name is hostile
  project="$BATS_TEST_TMPDIR/the user's \"project\" \$(touch pwned) 日本"
  local source="$BATS_TEST_DIRNAME/../.."
  mkdir -p "$project/retrain" "$project/docs" "$project/tests" "$BATS_TEST_TMPDIR/photos"
  cp -R "$source"/{Makefile,scripts,*.sh,requirements*.txt,Dockerfile,.dockerignore,LICENSE,NOTICE,pyproject.toml} "$project"
  cp "$source/retrain/__init__.py" "$project/retrain"
  cd "$BATS_TEST_TMPDIR/photos" || return
  here=$(pwd -P)
  export RETRAIN_RUNTIME=local RECORD="$BATS_TEST_TMPDIR/record"
  unset TF_FILES PYTHON MAKEFLAGS MAKELEVEL DATA IMAGE SRC DST CLASSES PATHS LABEL DOCKER_HOST \
    RETRAIN_IMAGE RETRAIN_DOCKER_BUILD_ARGS RETRAIN_DOCKER_RUN_ARGS
}

install_fake_retrain() {
  local venv="$project/.venv"
  mkdir -p "$venv/bin"
  cat >"$venv/bin/retrain" <<'FAKE'
#!/bin/sh
printf '%s\0' "$@" >"$RECORD"
printf '%s' "${TF_FILES-unset}" >"$RECORD.tf_files"
printf '%s' "$PWD" >"$RECORD.pwd"
printf '%s' "$RETRAIN_PROGRAM" >"$RECORD.program"
printf '%s' "$$" >"$RECORD.pid"
[ -z "${FAKE_CAT-}" ] || cat
exit "${FAKE_EXIT-0}"
FAKE
  ln -sf "$(type -P true)" "$venv/bin/python"
  chmod +x "$venv/bin/retrain"
  cp "$project/requirements.txt" "$venv"
  printf '%s\n' "$project" >"$venv/made-in"
}

# fake NAME SCRIPT: a program on the PATH.
fake() {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$BATS_TEST_TMPDIR/bin/$1"
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
  case :$PATH: in *":$BATS_TEST_TMPDIR/bin:"*) ;; *) PATH="$BATS_TEST_TMPDIR/bin:$PATH" ;; esac
}

# install_fake_engine NAME: docker or podman that builds, keeps images by their labels, and writes down what it is to run.
install_fake_engine() {
  fake "$1" '
name=${0##*/} command=$1
shift
echo "$name $command" >>"$RECORD.calls"
labels() { printf "%s" "$RECORD.images/${1//\//_}"; }
case $command in
  info) printf "%s\n" "${FAKE_INFO-}" ;;
  image)
    case $3 in *.Size*) echo 350123456 && exit ;; esac
    label=${3#*\"}
    cat "$(labels "$4")/${label%\"*}"
    ;;
  build)
    printf "%s\0" "$@" >"$RECORD.build"
    [ -z "${FAKE_CAT-}" ] || cat
    echo chatter
    [ -z "${FAKE_BUILD_FAILS-}" ] || exit 1
    values=()
    while [ $# -gt 1 ]; do
      case $1 in
        --tag) tag=$2 ;;
        --label) values+=("$2") ;;
      esac
      shift
    done
    mkdir -p "$(labels "$tag")"
    for value in "${values[@]}"; do printf "%s\n" "${value#*=}" >"$(labels "$tag")/${value%%=*}"; done
    ;;
  pull)
    printf "%s\0" "$@" >"$RECORD.pull"
    [ -n "${FAKE_VERSION-}" ] || exit 1
    image=${*: -1}
    mkdir -p "$(labels "$image")"
    echo "$FAKE_VERSION" >"$(labels "$image")/org.opencontainers.image.version"
    ;;
  run)
    flags=() mounts=()
    while :; do
      case $1 in
        --mount) mounts+=("$2") && shift ;;
        --workdir) printf "%s" "$2" >"$RECORD.workdir" && shift ;;
        *:guess | *:full | *:gpu) break ;;
        *) flags+=("$1") ;;
      esac
      shift
    done
    case " ${flags[*]} $2" in *" --entrypoint python3 "*)
      printf "%s\0" "${mounts[@]}" >"$RECORD.asked"
      printf "%s" "${FAKE_SOURCES-}"
      exit
      ;;
    esac
    [ ${#mounts[@]} = 0 ] || printf "%s\0" "${mounts[@]}" >>"$RECORD.all-mounts"
    [ ${#mounts[@]} = 0 ] || printf "%s\0" "${mounts[@]}" >"$RECORD.mounts"
    [ ${#mounts[@]} != 0 ] || : >"$RECORD.mounts"
    printf " %s" "${flags[@]}" >"$RECORD.flags"
    printf " " >>"$RECORD.flags"
    printf "%s" "$1" >"$RECORD.image"
    shift
    printf "%s\0" "$@" >"$RECORD"
    printf "%s" "${TF_FILES-unset}" >"$RECORD.tf_files"
    printf "%s" "${RETRAIN_TOKEN-}" >"$RECORD.token"
    printf "%s" "$RETRAIN_PROGRAM" >"$RECORD.program"
    printf "%s" "$$" >"$RECORD.pid"
    [ -z "${FAKE_CAT-}" ] || cat
    case $* in *--say*) echo said ;; esac
    exit "${FAKE_EXIT-0}"
    ;;
esac'
}

# with_engine NAME: the wrappers use that engine, which has all images already.
with_engine() {
  local stage
  install_fake_engine "$1"
  export RETRAIN_RUNTIME=$1
  for stage in guess full gpu; do
    mkdir -p "$RECORD.images/retrain:$stage"
    sources >"$RECORD.images/retrain:$stage/retrain.sources"
  done
}

# The checksum that an image made of the project bears.
sources() {
  (source "$project/scripts/lib.sh" && sources)
}

# mounts: those of the last run, one a line, `rw` or `ro` and the folder, which is the same on both sides.
mounts() {
  local value mode folder
  while IFS= read -r -d '' value; do
    folder=${value##*,target=}
    folder=${folder%,readonly}
    case $value in
      "type=bind,source=$folder,target=$folder") mode=rw ;;
      "type=bind,source=$folder,target=$folder,readonly") mode=ro ;;
      "type=tmpfs,target=$folder") mode=tmpfs ;;
      *) mode="not understood: $value" ;;
    esac
    printf '%s %s\n' "$mode" "$folder"
  done <"${1-$RECORD.mounts}"
}

# mounted LINE…: the last run had exactly these mounts.
mounted() {
  diff <(printf '%s\n' "$@") <(mounts)
}

# All that was ever mounted bears a name that no engine can take for something else.
only_plain_mounts() {
  [ ! -e "$RECORD.all-mounts" ] || python3 -c '
import re, sys
for value in open(sys.argv[1], newline="", encoding="utf-8").read().split("\0")[:-1]:
    assert re.fullmatch("type=(bind,source=([^,]*),target=\\2(,readonly)?|tmpfs,target=([^,]*))", value), value
    assert not re.search(r"[\x00-\x1f\x7f:\"\\]|\s(,|$)", value), value
' "$RECORD.all-mounts"
}

nothing_named_pwned() {
  [ -z "$(find "$BATS_TEST_TMPDIR" -name pwned)" ]
}

# has FLAG…: the last run had these, one after the other.
has() {
  grep -qF -- " $* " "$RECORD.flags" || {
    printf 'wanted: %s\ngot:   %s\n' "$*" "$(cat "$RECORD.flags")"
    return 1
  }
}

# recorded NAME: what was written down under that name, a newline at its end and all, and a dot.
recorded() {
  cat "$RECORD.$1" && echo .
}

# calls COMMAND: how often an engine got that one.
calls() {
  grep -c " $1\$" "$RECORD.calls"
}

# called_with ARGUMENT…: retrain got exactly these.
called_with() {
  printf '%s\0' "$@" >"$RECORD.expected"
  cmp "$RECORD.expected" "$RECORD" || {
    printf 'wanted:%s\ngot:   %s\n' "$(printf ' [%s]' "$@")" "$(tr '\0' '|' <"$RECORD")"
    return 1
  }
}

# on_terminal COMMAND…: run it on a terminal of its own.
on_terminal() {
  python3 -c 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))' "$@"
}
