#!/usr/bin/env bats
# How the wrappers read their command line, and what they hand on.
# shellcheck disable=SC2016,SC2088,SC2154

setup() {
  load helper
  make_project
  install_fake_retrain
}

@test "guess.sh hands on any file name" {
  for name in "${hostile_names[@]}"; do
    : >"./$name"
    "$project/guess.sh" "./$name"
    called_with guess -- "./$name"
    "$project/guess.sh" -- "$name"
    called_with guess -- "$name"
  done
  [ ! -e pwned ]
}

@test "retrain.sh alone prints retrain's help" {
  "$project/scripts/retrain.sh"
  called_with --help
}

@test "guess.sh takes many files, options before or after them" {
  "$project/guess.sh" --json a.jpg 'b c.jpg' --top 3
  called_with guess --json --top 3 -- a.jpg 'b c.jpg'
  "$project/guess.sh" --top=3 a.jpg
  called_with guess --top=3 -- a.jpg
  "$project/guess.sh" -
  called_with guess -- -
}

@test "the wrappers know which options of retrain take a value" {
  sed -En 's/^  (-[a-z], )?(--[a-z-]+) ([^ /][^ ]*).*/\2/p' "$BATS_TEST_DIRNAME/../../docs/commands.md" | sort -u >options
  [ "$(wc -l <options)" -gt 15 ]
  while read -r option; do
    "$project/guess.sh" "$option" value image.jpg
    called_with guess "$option" value -- image.jpg
  done <options
}

@test "guess.sh takes an existing file whose name starts with a dash for a file" {
  : >./-1.jpg
  "$project/guess.sh" --json -1.jpg
  called_with guess --json -- -1.jpg
}

@test "guess.sh takes a first folder with model, data or graph inside for TF_FILES" {
  mkdir -p with-data/data with-graph
  : >with-graph/retrained_graph.pb
  "$project/guess.sh" with-data image.jpg
  called_with guess -- image.jpg
  "$project/guess.sh" --json with-graph image.jpg
  called_with guess --graph=with-graph/retrained_graph.pb --json -- image.jpg
  for name in "${hostile_names[@]}"; do
    mkdir -p "./$name/model"
    "$project/guess.sh" -- "$name" image.jpg
    called_with guess -- image.jpg
    [ "$(cat "$RECORD.tf_files" && echo .)" = "$name." ]
  done
}

@test "guess.sh guesses with the graph of TF_FILES where no model is there" {
  mkdir tf_files
  : >tf_files/retrained_graph.pb
  "$project/guess.sh" image.jpg
  called_with guess --graph=tf_files/retrained_graph.pb -- image.jpg
  "$project/guess.sh" --model-dir other image.jpg
  called_with guess --model-dir other -- image.jpg
  "$project/guess.sh" --graph other.pb image.jpg
  called_with guess --graph other.pb -- image.jpg
  mkdir tf_files/model
  "$project/guess.sh" image.jpg
  called_with guess -- image.jpg
  for name in "${hostile_names[@]}"; do
    mkdir -p "./$name"
    : >"./$name/retrained_graph.pb"
    "$project/guess.sh" -- "$name" image.jpg
    called_with guess "--graph=$name/retrained_graph.pb" -- image.jpg
  done
  nothing_named_pwned
}

@test "guess.sh takes two pictures, or a folder of pictures and a picture, for pictures" {
  mkdir holiday
  "$project/guess.sh" holiday image.jpg
  called_with guess -- holiday image.jpg
  [ "$(cat "$RECORD.tf_files")" = unset ]
}

@test "odd.sh takes a first argument that is no file for a label" {
  : >a.jpg
  "$project/odd.sh" tree a.jpg b.jpg
  called_with odd --label=tree -- a.jpg b.jpg
  "$project/odd.sh" a.jpg b.jpg c.jpg
  called_with odd -- a.jpg b.jpg c.jpg
  "$project/odd.sh" --json tree a.jpg
  called_with odd --label=tree --json -- a.jpg
  "$project/odd.sh" --label tree a.jpg
  called_with odd --label tree -- a.jpg
  for name in "${hostile_names[@]}"; do
    "$project/odd.sh" -- "$name" a.jpg
    called_with odd "--label=$name" -- a.jpg
  done
  run -2 "$project/odd.sh" --json
  nothing_named_pwned
}

@test "make odd splits paths at commas alone" {
  make -s -C "$project" odd PATHS='my photos,*,$(touch pwned).jpg' LABEL='-red rose' ARGS='--json'
  called_with odd '--label=-red rose' --json -- 'my photos' '*' '$(touch pwned).jpg'
  make -s -C "$project" odd PATHS='~/holiday'
  called_with odd -- "$HOME/holiday"
  run ! make -s -C "$project" odd
  nothing_named_pwned
}

@test "odd.sh takes a file, a folder or a link that leads nowhere for a picture" {
  mkdir holiday
  ln -s nowhere dangling.jpg
  for name in "${hostile_names[@]}"; do : >"./$name"; done
  for name in holiday dangling.jpg "${hostile_names[@]}"; do
    "$project/odd.sh" -- "$name" b.jpg
    called_with odd -- "$name" b.jpg
  done
}

@test "train.sh trains on data in TF_FILES" {
  "$project/train.sh"
  called_with train -- tf_files/data
  [ "$(cat "$RECORD.tf_files")" = tf_files ]
  TF_FILES='my files' "$project/train.sh" --quality good --only 'red rose,daisy'
  called_with train --quality good --only 'red rose,daisy' -- 'my files/data'
  for name in "${hostile_names[@]}"; do
    "$project/train.sh" -- "$name"
    called_with train -- "$name/data"
    [ "$(cat "$RECORD.tf_files" && echo .)" = "$name." ]
  done
}

@test "learn.sh and make learn take classes and a folder" {
  "$project/learn.sh" -c 'cat,red panda' -p 'my photos' -t 0.9
  called_with learn -c 'cat,red panda' -p 'my photos' -t 0.9 --
  make -s -C "$project" learn CLASSES='cat,$(touch pwned)' PREDICT='my photos' ARGS='-t 0.9'
  called_with learn '--classes=cat,$(touch pwned)' '--prediction-path=my photos' -t 0.9
  run ! make -s -C "$project" learn CLASSES=cat,dog
  run -2 --separate-stderr "$project/learn.sh"
}

@test "crawl.sh takes words, and make crawl splits them at commas alone" {
  "$project/crawl.sh" --limit 30 daisy --class 'r=red rose' 'white rose'
  called_with crawl --limit 30 --class 'r=red rose' -- daisy 'white rose'
  for name in "${hostile_names[@]}"; do
    "$project/crawl.sh" -- "$name"
    called_with crawl -- "$name"
  done
  run -2 --separate-stderr "$project/crawl.sh"
  make -s -C "$project" crawl CLASSES='red rose,*,$(touch pwned)' DATA='my photos' ARGS='--limit 5'
  called_with crawl --out 'my photos' --limit 5 -- 'red rose' '*' '$(touch pwned)'
  run ! make -s -C "$project" crawl
}

@test "image_crawler.sh crawls the keywords of query_list.txt into a folder of the source" {
  run -1 "$project/scripts/compat/image_crawler.sh" openverse 30
  [[ $output == *query_list.txt* ]]
  printf 'daisy\nred rose\n' >query_list.txt
  mkdir -p google/daisy
  : >google/daisy/mine.jpg
  "$project/scripts/compat/image_crawler.sh" openverse 30
  called_with crawl --source openverse --license safe --limit 30 --out ./openverse --query-list query_list.txt
  "$project/scripts/compat/image_crawler.sh" google 300
  called_with crawl --source google --license any --limit 300 --out ./google --query-list query_list.txt
  [ -e google/daisy/mine.jpg ]
  run -2 "$project/scripts/compat/image_crawler.sh" google
  run -0 "$project/scripts/compat/image_crawler.sh" --help
  [[ $output == Summary:*Usage:* ]]
}

@test "guessDir.sh sorts a folder into sorted, or into OUT" {
  for name in "${hostile_names[@]}"; do
    "$project/guessDir.sh" -- "$name"
    called_with sort -- "$name" sorted
    "$project/guessDir.sh" -- "$name" "out $name"
    called_with sort -- "$name" "out $name"
  done
  [ "$(cat "$RECORD.tf_files")" = unset ]
}

@test "guessDir.sh with TF_FILES keeps the flat layout" {
  for name in "${hostile_names[@]}"; do
    "$project/guessDir.sh" -- "$name" "in $name" "out $name"
    called_with sort --layout flat -- "in $name" "out $name"
    [ "$(cat "$RECORD.tf_files" && echo .)" = "$name." ]
  done
}

@test "retrain is told how its user calls it from here" {
  "$project/guess.sh" a.jpg
  [ "$(cat "$RECORD.program")" = "$project/scripts/retrain.sh" ]
  (cd "$project" && ./guess.sh a.jpg)
  [ "$(cat "$RECORD.program")" = scripts/retrain.sh ]
}

@test "guessDir.sh undoes" {
  "$project/guessDir.sh" --undo 'my out'
  called_with sort --undo 'my out' --
}

@test "every wrapper prints its header as help, and needs no set-up for it" {
  rm -r "$project/.venv"
  for wrapper in "$project"/*.sh; do
    for flag in -h --help; do
      run --separate-stderr -0 "$wrapper" "$flag"
      [[ $output == Summary:*Usage:\ "${wrapper##*/}"* ]]
      [[ $output != *pipefail* ]]
    done
  done
  [ ! -e "$project/.venv" ]
}

@test "too few or too many arguments print the usage and exit with 2" {
  run --separate-stderr -2 "$project/guess.sh"
  [ -z "$output" ] && [[ $stderr == *Usage:* ]]
  run -2 "$project/guess.sh" --json
  run -2 "$project/guessDir.sh"
  run -2 "$project/guessDir.sh" a b c d
  run -2 "$project/train.sh" a b
}

@test "shell.sh opens a shell that finds retrain, and hands on its arguments" {
  SHELL=bash run -0 "$project/shell.sh" -c 'retrain "$1" -; type -P retrain' sh 'two words'
  [ "$output" = "$project/.venv/bin/retrain" ]
  called_with 'two words' -
}

@test "the caller's folder stays the current one, and the wrapper is found from anywhere" {
  ln -s "$project/guess.sh" 'a link.sh'
  mkdir bin
  ln -s "../a link.sh" bin/guess-picture
  PATH="$PWD/bin:$PATH" guess-picture image.jpg
  called_with guess -- image.jpg
  [ "$(cat "$RECORD.pwd")" = "$PWD" ]
  CDPATH="$project" "$project/scripts/guess.sh" image.jpg
  called_with guess -- image.jpg
}

@test "the exit code passes" {
  for code in 0 1 3 130; do
    FAKE_EXIT=$code run "-$code" "$project/guess.sh" image.jpg
  done
}

@test "standard input passes, every byte" {
  head -c 100000 /dev/urandom >bytes
  FAKE_CAT=1 "$project/guess.sh" - <bytes >out
  cmp bytes out
}

@test "retrain takes the place of the wrapper, so signals reach it" {
  "$project/guess.sh" image.jpg &
  wait $!
  [ "$(cat "$RECORD.pid")" = $! ]
}

@test "make hands on any name" {
  for name in "${hostile_names[@]}"; do
    case $name in ' '* | *$'\n') continue ;; esac # make itself trims these
    make -s -C "$project" guess IMAGE="$name"
    called_with guess -- "$name"
    make -s -C "$project" train DATA="$name"
    called_with train -- "$name"
    DATA="$name" make -s -C "$project" evaluate ARGS='--threshold 0.5'
    called_with evaluate --threshold 0.5 -- "$name"
    make -s -C "$project" sort SRC="$name" DST="to $name"
    called_with sort -- "$name" "to $name"
    make -s -C "$project" explain IMAGE="$name" DST="to $name"
    called_with explain --out "to $name" -- "$name"
  done
}

@test "make knows the home folder where the shell leaves ~ alone" {
  make -s -C "$project" train DATA='~/my photos'
  called_with train -- "$HOME/my photos"
  make -s -C "$project" train DATA='a~/b'
  called_with train -- 'a~/b'
}

@test "make without what it needs says how to say it" {
  run ! make -s -C "$project" train
  [[ $output == *"make train DATA=…"* ]]
  run ! make -s -C "$project" sort SRC=photos
  [[ $output == *"make sort SRC=… DST=…"* ]]
}

@test "make alone lists every target that has a description" {
  run -0 make -s -C "$project"
  [ "$(grep -c '^make ' <<<"$output")" = "$(grep -c '^[a-z-]*: .*## ' "$project/Makefile")" ]
  [[ $output == *"make train DATA=folder"* ]]
}
