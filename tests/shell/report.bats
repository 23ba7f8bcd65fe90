#!/usr/bin/env bats
# report.sh finds the page of a model and opens it, without retrain.
# shellcheck disable=SC2016,SC2154

setup() {
  load helper
  make_project
  for opener in wslview open; do fake "$opener" 'exit 1'; done
  fake xdg-open 'printf "%s\0" "$@" >"$RECORD"'
  mkdir -p tf_files/model
  : >tf_files/model/report.html
}

@test "report.sh says where the page is, and opens it where asked" {
  run --separate-stderr -0 "$project/report.sh"
  [ "$output" = tf_files/model/report.html ] && [ -z "$stderr" ]
  [ ! -e "$RECORD" ]
  run --separate-stderr -0 "$project/report.sh" --open
  [ "$output" = tf_files/model/report.html ]
  called_with "$PWD/tf_files/model/report.html"
}

@test "on a terminal report.sh opens the page unless told not to" {
  on_terminal "$project/report.sh" --no-open
  [ ! -e "$RECORD" ]
  on_terminal "$project/report.sh"
  called_with "$PWD/tf_files/model/report.html"
}

@test "report.sh takes TF_FILES or --model-dir of any name" {
  for name in "${hostile_names[@]}"; do
    mkdir -p "./$name/model"
    : >"./$name/model/report.html"
    "$project/report.sh" --open -- "$name"
    called_with "$PWD/$name/model/report.html"
    TF_FILES=$name "$project/report.sh" --open
    called_with "$PWD/$name/model/report.html"
    "$project/report.sh" --open --model-dir "$PWD/$name/model"
    called_with "$PWD/$name/model/report.html"
    "$project/report.sh" --open --model-dir="$name/model"
    called_with "$PWD/$name/model/report.html"
  done
  nothing_named_pwned
}

@test "report.sh needs neither .venv nor an engine" {
  fake docker 'exit 99'
  RETRAIN_RUNTIME=docker run -0 "$project/report.sh"
  [ ! -e "$project/.venv" ]
}

@test "report.sh takes the next browser where one fails, and says where none can be started" {
  fake xdg-open 'exit 1'
  fake wslview 'printf "%s\0" "$@" >"$RECORD"'
  "$project/report.sh" --open
  called_with "$PWD/tf_files/model/report.html"
  fake wslview 'exit 1'
  run --separate-stderr -1 "$project/report.sh" --open
  [[ $stderr == *"no browser could be started"*"tf_files/model/report.html by hand"* ]]
  on_terminal "$project/report.sh"
}

@test "without a page report.sh says how to get one" {
  rm tf_files/model/report.html
  run --separate-stderr -1 "$project/report.sh"
  [[ $stderr == *"no report at tf_files/model/report.html"*"--no-report"* ]]
}

@test "report.sh refuses what it does not know" {
  run -2 "$project/report.sh" a b
  run -2 "$project/report.sh" --json
}

@test "make report hands on options" {
  mv tf_files "$project"
  run -0 make -s -C "$project" report
  [ "$output" = tf_files/model/report.html ]
  make -s -C "$project" report ARGS=--open
  called_with "$project/tf_files/model/report.html"
}
