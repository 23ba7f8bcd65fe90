# shellcheck shell=bash disable=SC2016,SC2034
# A copy of the front door whose retrain only writes down how it was called.

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
  mkdir -p "$project" "$BATS_TEST_TMPDIR/photos"
  cp -R "$source"/{Makefile,scripts,*.sh,requirements*.txt} "$project"
  cd "$BATS_TEST_TMPDIR/photos" || return
  export RETRAIN_RUNTIME=local RECORD="$BATS_TEST_TMPDIR/record"
  unset TF_FILES PYTHON MAKEFLAGS MAKELEVEL DATA IMAGE SRC DST
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

# called_with ARGUMENT…: retrain got exactly these.
called_with() {
  printf '%s\0' "$@" >"$RECORD.expected"
  cmp "$RECORD.expected" "$RECORD" || {
    printf 'wanted:%s\ngot:   %s\n' "$(printf ' [%s]' "$@")" "$(tr '\0' '|' <"$RECORD")"
    return 1
  }
}
