#!/usr/bin/env bats
# How the wrappers run retrain in a container: with which rights, on which terminal, with which folders.
# shellcheck disable=SC2016,SC2030,SC2031,SC2088,SC2154

setup() {
  load helper
  make_project
  fake nvidia-smi 'exit 1'
  with_engine docker
  mkdir -p tf_files/data/daisy holiday
  : >image.jpg
  : >holiday/1.jpg
}

teardown() {
  only_plain_mounts
  nothing_named_pwned
}

retrain() {
  "$project/scripts/retrain.sh" "$@"
}

@test "whatever runs, it has no network, no capability, no way to more rights and nothing to write to but mounts" {
  for engine in podman docker; do
    with_engine "$engine"
    for command in 'guess image.jpg' 'sort holiday sorted' 'train tf_files/data' 'evaluate tf_files/data' 'sample drawn' \
      backbones doctor --version shell; do
      eval "retrain $command"
      for flag in '--network none' '--read-only' '--cap-drop ALL' '--security-opt no-new-privileges' '--rm' '--pull never'; do
        has "$flag"
      done
    done
  done
}

@test "crawl reaches the network; its keys are in the environment, not on the command line" {
  export HOME=$BATS_TEST_TMPDIR/home RETRAIN_FLICKR_KEY=sesame
  unset XDG_CACHE_HOME XDG_CONFIG_HOME
  mkdir -p "$HOME/.config/retrain"
  retrain crawl daisy --out flowers
  run ! has '--network none'
  has --env RETRAIN_FLICKR_KEY
  has --env RETRAIN_BING_URL
  run ! grep -q sesame "$RECORD"
  mounted "rw $here/flowers" "rw $HOME/.cache/retrain" "ro $HOME/.config/retrain" "ro $here/tf_files"
  : >daisies.txt
  retrain crawl daisies --source urls
  mounted "rw $here/tf_files/data" "rw $HOME/.cache/retrain" "ro $HOME/.config/retrain" "ro $here" "ro $here/tf_files"
}

@test "learn reaches the network, and writes what it crawls, learns and recognises" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME XDG_CONFIG_HOME
  mkdir out
  for arguments in '-p holiday' '-pholiday' '--prediction-path holiday' '--prediction-path=holiday'; do
    eval "retrain learn -c cat,dog $arguments --out out/results"
    run ! has '--network none'
    mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/holiday" "rw $here/out"
    [[ $(cat "$RECORD.image") =~ :(full|gpu)$ ]]
  done
  mkdir models
  retrain learn -c cat,dog -p holiday --model-dir models/pets --data pets
  mounted "rw $here/tf_files" "rw $here/models" "rw $here/pets" "rw $HOME/.cache/retrain" "ro $here/holiday" "rw $here"
}

@test "odd learns a label that it may not know: it reaches the network, and writes its model" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME XDG_CONFIG_HOME
  "$project/odd.sh" tree image.jpg holiday
  called_with odd --label=tree -- image.jpg holiday
  run ! has '--network none'
  mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here" "ro $here/holiday"
  [[ $(cat "$RECORD.image") =~ :(full|gpu)$ ]]
  retrain odd -- --label image.jpg holiday
  has '--network none'
}

@test "odd judges by a label that the model knows without a network, with the small image" {
  mkdir -p tf_files/model
  printf '{\n  "classes": [\n    "oak",\n    "pine"\n  ],\n  "only": [\n    "tree"\n  ]\n}\n' >tf_files/model/model.json
  for label in oak pine; do
    retrain odd --label "$label" holiday
    has '--network none'
    mounted "ro $here/holiday" "ro $here/tf_files"
    [ "$(cat "$RECORD.image")" = retrain:guess ]
  done
  for label in tree Oak o.k 'oak",'; do
    retrain odd "--label=$label" holiday
    run ! has '--network none'
  done
}

@test "train writes TensorBoard's files where it is asked to" {
  retrain train holiday --quality best --log-dir logs/today
  mounted "rw $here/tf_files" "rw $here/logs/today" "ro $here/holiday"
  has '--network none'
  [ -d logs/today ]
}

@test "lists of addresses are read wherever a class names them" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME XDG_CONFIG_HOME
  mkdir lists more
  : >lists/daisies.txt
  : >more/roses.txt
  always=("rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/lists" "ro $here/more")
  for classes in '-c lists/daisies,more/roses.txt' '-clists/daisies.txt,more/roses' '--classes=lists/daisies,more/roses'; do
    # shellcheck disable=SC2086
    retrain learn $classes -p holiday --source urls
    mounted "${always[@]}" "ro $here/holiday" "rw $here"
  done
  retrain crawl --class flower=lists/daisies.txt,more/roses.txt --source urls --out tf_files
  mounted "${always[@]}"
  retrain odd --label lists/daisies holiday --source urls
  mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/lists" "ro $here/holiday"
}

@test "files belong to the caller, with every kind of engine" {
  me=$(id -u):$(id -g)
  retrain backbones
  has --user "$me"
  FAKE_INFO='28.0.0 [name=seccomp,profile=builtin name=rootless name=cgroupns] map[]' retrain backbones
  has --user 0:0 # the caller, seen from within
  FAKE_INFO='28.0.0 [name=seccomp,profile=builtin name=userns] map[]' retrain backbones
  has --user "$me" --userns host
  with_engine podman
  FAKE_INFO='5.4.0 rootless=true' retrain backbones
  has --user "$me" --userns keep-id
  FAKE_INFO='5.4.0 rootless=false' retrain backbones
  has --user "$me"
  run ! has --userns
}

@test "retrain is told its folder and how its user calls it" {
  has_env() { has --env TF_FILES --env RETRAIN_PROGRAM; }
  retrain backbones
  has_env
  [ "$(cat "$RECORD.tf_files")" = unset ]
  [ "$(cat "$RECORD.program")" = "$project/scripts/retrain.sh" ]
  TF_FILES='my files' retrain backbones
  has_env
  [ "$(cat "$RECORD.tf_files")" = 'my files' ]
  (cd "$project" && ./guess.sh a.jpg)
  [ "$(cat "$RECORD.program")" = scripts/retrain.sh ]
}

@test "the exit code passes" {
  for code in 0 1 3 130 143; do
    FAKE_EXIT=$code run "-$code" "$project/guess.sh" image.jpg
  done
}

@test "the engine takes the place of the wrapper, so signals reach it" {
  "$project/guess.sh" image.jpg &
  wait $!
  [ "$(cat "$RECORD.pid")" = $! ]
}

@test "standard input passes where it is asked for, every byte" {
  head -c 100000 /dev/urandom >bytes
  FAKE_CAT=1 "$project/guess.sh" - <bytes >out
  cmp bytes out
  has --interactive
  run ! has --tty
}

@test "a shell reads standard input" {
  run -0 bash -c 'echo retrain doctor | FAKE_CAT=1 "$0/shell.sh"' "$project"
  [ "$output" = 'retrain doctor' ]
  has --interactive
}

@test "standard input that nobody asked for is left to the next in line" {
  touch 'a - b.jpg' './a -' './- b'
  printf '%s\n' image.jpg 'a - b.jpg' './a -' './- b' >list
  while read -r file; do
    "$project/guess.sh" "$file"
    run ! has --interactive
    called_with guess -- "$file"
    cat "$RECORD.pid" >>pids
    echo >>pids
  done <list
  [ "$(wc -l <pids)" -eq 4 ]
}

@test "building an image leaves standard input alone" {
  rm -r "$RECORD.images"
  printf 'image.jpg\nimage.jpg\n' >list
  while read -r file; do
    "$project/guess.sh" "$file"
    echo >>runs
  done <list
  [ "$(wc -l <runs)" -eq 2 ]
}

@test "on a terminal the container has that one" {
  on_terminal "$project/train.sh"
  has --interactive --tty --env TERM
  run ! has --env TTY_INTERACTIVE=1
}

@test "a redirected result stays apart from the progress bar, which knows the terminal's width" {
  on_terminal bash -c 'stty cols 97; "$0/train.sh" >out' "$project"
  has --env TTY_INTERACTIVE=1
  has --env COLUMNS=97
  run ! has --tty
  run ! has --interactive
  on_terminal bash -c 'stty cols 97; echo | "$0/train.sh"' "$project"
  has --env COLUMNS=97
  run ! has --tty
}

@test "without a terminal there is no progress bar" {
  "$project/train.sh" 2>err
  run ! has --tty
  run ! has --env TTY_INTERACTIVE=1
}

@test "the current folder is the same inside, as any program finds it" {
  mkdir folders
  ln -s folders link
  cd link
  "$project/guess.sh" ../image.jpg # of what is linked to
  [ "$(recorded workdir)" = "$here/folders." ]
  called_with guess -- ../image.jpg
  mounted "ro $here"
}

@test "podman has the current folder made where nothing is mounted" {
  with_engine podman
  retrain guess "$here/holiday/1.jpg"
  mounted "ro $here/holiday" "ro $here/tf_files" "tmpfs $here"
  mkdir 'a,b'
  cd 'a,b'
  retrain guess "$here/holiday/1.jpg"
  mounted "ro $here/holiday" "ro $here"
}

@test "guess reads the model and the folder of each picture, once" {
  "$project/guess.sh" image.jpg
  mounted "ro $here" "ro $here/tf_files"
  "$project/guess.sh" holiday/1.jpg "$here/holiday/2.jpg" ./holiday/../holiday/1.jpg holiday
  mounted "ro $here/holiday" "ro $here/tf_files"
  "$project/guess.sh" --top 1 holiday holiday/nothing.jpg no/such.jpg
  mounted "ro $here/holiday" "ro $here/tf_files"
}

@test "guess reads what TF_FILES or --model-dir names" {
  mkdir -p 'my files/model' models/flowers
  TF_FILES='my files' "$project/guess.sh" holiday/1.jpg
  mounted "ro $here/holiday" "ro $here/my files"
  "$project/guess.sh" 'my files' holiday/1.jpg
  mounted "ro $here/holiday" "ro $here/my files"
  "$project/guess.sh" --model-dir models/flowers holiday/1.jpg
  mounted "ro $here/holiday" "ro $here/tf_files" "ro $here/models/flowers"
  "$project/guess.sh" holiday/1.jpg --model-dir=models/flowers
  mounted "ro $here/holiday" "ro $here/tf_files" "ro $here/models/flowers"
}

@test "guess --graph reads the graph and its labels, and needs the image that holds TensorFlow" {
  mkdir -p old elsewhere
  touch old/retrained_graph.pb elsewhere/labels.txt
  "$project/guess.sh" --graph old/retrained_graph.pb --input-mean 128 holiday/1.jpg
  mounted "ro $here/holiday" "ro $here/old"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  called_with guess --graph old/retrained_graph.pb --input-mean 128 -- holiday/1.jpg
  "$project/guess.sh" holiday/1.jpg --graph=old/retrained_graph.pb --labels elsewhere/labels.txt
  mounted "ro $here/holiday" "ro $here/old" "ro $here/elsewhere"
}

@test "train reaches the network only for weights that come from there, and keeps them for the user" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME KERAS_HOME
  mkdir -p "$HOME"
  for name in keras:MobileNetV2 efficientnet-lite0+keras:ResNet50,size=160; do
    retrain train holiday --backbone "$name"
    run ! has '--network none'
    has "--env KERAS_HOME=$HOME/.keras"
    mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "rw $HOME/.keras" "ro $here/holiday"
  done
  retrain train holiday --backbone=hub:https://example.org/module/1
  run ! has '--network none'
  mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/holiday"
  retrain train holiday --backbone efficientnet-lite2
  has '--network none'
  mounted "rw $here/tf_files" "ro $here/holiday"
}

@test "train reads a network of the user's own, without reaching the network" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME
  mkdir -p "$HOME" nets/module other
  touch nets/own.keras other/own.tflite
  retrain train holiday --backbone nets/own.keras,size=96,pixels=tf
  has '--network none'
  mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/nets" "ro $here/holiday"
  retrain train holiday --backbone hub:nets/module
  has '--network none'
  mounted "rw $here/tf_files" "rw $HOME/.cache/retrain" "ro $here/nets/module" "ro $here/holiday"
  retrain train holiday --backbone efficientnet-lite0+other/own.tflite
  has '--network none'
  mounted "rw $here/tf_files" "ro $here/other" "ro $here/holiday"
}

@test "train reads the model that it is to repeat, which may be the one that is replaced" {
  mkdir -p friends/model
  touch friends/model/model.json
  retrain train holiday --like friends/model/model.json
  mounted "rw $here/tf_files" "ro $here/friends/model" "ro $here/holiday"
  retrain train holiday --like=friends/model
  mounted "rw $here/tf_files" "ro $here/friends/model" "ro $here/holiday"
  mkdir -p tf_files/model
  retrain train --like tf_files/model holiday
  mounted "rw $here/tf_files" "ro $here/holiday"
}

@test "imagenet reads the pictures, and no model" {
  retrain imagenet holiday/1.jpg
  mounted "ro $here/holiday"
  [ "$(cat "$RECORD.image")" = retrain:guess ]
}

@test "embed reads the pictures and writes OUT, with the full image" {
  retrain embed holiday --out embeddings.parquet
  mounted "rw $here/embeddings.parquet" "ro $here/holiday"
  has '--network none'
  [ "$(cat "$RECORD.image")" = retrain:full ]
}

@test "embed fetches weights, and reads networks, as train does" {
  export HOME=$BATS_TEST_TMPDIR/home
  unset XDG_CACHE_HOME KERAS_HOME
  mkdir -p "$HOME" nets
  touch nets/own.keras
  retrain embed holiday --out out --backbone keras:MobileNetV2
  run ! has '--network none'
  mounted "rw $here/out" "rw $HOME/.cache/retrain" "rw $HOME/.keras" "ro $here/holiday"
  retrain embed holiday --out out --backbone nets/own.keras
  has '--network none'
  mounted "rw $here/out" "rw $HOME/.cache/retrain" "ro $here/nets" "ro $here/holiday"
}

@test "guess makes no folder, and needs none" {
  rm -r tf_files
  "$project/guess.sh" holiday/1.jpg
  mounted "ro $here/holiday"
  "$project/guess.sh" -
  [ -z "$(mounts)" ]
  [ ! -e tf_files ]
}

@test "a link brings what it leads to" {
  mkdir -p real/deeper links shelf
  : >real/deeper/2.jpg
  ln -s ../real/deeper/2.jpg links/2.jpg
  ln -s ../links/2.jpg shelf/3.jpg
  ln -s real/deeper here
  "$project/guess.sh" links/2.jpg
  mounted "ro $here/real/deeper" "ro $here/links" "ro $here/tf_files"
  "$project/guess.sh" shelf/3.jpg # a link to a link
  mounted "ro $here/real/deeper" "ro $here/links" "ro $here/shelf" "ro $here/tf_files"
  "$project/guess.sh" here here/2.jpg
  mounted "ro $here/here" "ro $here/real/deeper" "ro $here/tf_files"
  ln -s nowhere.jpg holiday/dangling.jpg
  "$project/guess.sh" holiday/dangling.jpg # retrain tells of it
  mounted "ro $here/holiday" "ro $here/tf_files"
}

@test "a model that is a link is read and written where it is" {
  mkdir -p 'shared models/flowers'
  ln -s '../shared models/flowers' tf_files/model
  "$project/guess.sh" holiday/1.jpg
  mounted "ro $here/holiday" "ro $here/tf_files" "ro $here/tf_files/model" "ro $here/shared models/flowers"
  "$project/train.sh"
  mounted "rw $here/tf_files" "rw $here/shared models" "ro $here/tf_files/data"
}

@test "train writes tf_files alone, and reads the data even where these are within" {
  "$project/train.sh"
  mounted "rw $here/tf_files" "ro $here/tf_files/data"
  retrain train holiday
  mounted "rw $here/tf_files" "ro $here/holiday"
  retrain train .
  mounted "rw $here/tf_files" "ro $here"
  TF_FILES=$here/tf_files retrain train "../${here##*/}/holiday"
  mounted "rw $here/tf_files" "ro $here/holiday"
}

@test "train makes the folder that it writes, as the caller" {
  retrain train --quality good --only 'a,b' holiday
  TF_FILES='not/yet there' retrain train holiday
  [ -d 'not/yet there' ]
  mounted "rw $here/not/yet there" "ro $here/holiday"
  TF_FILES=image.jpg/no run --separate-stderr -1 retrain train holiday
  [[ $stderr == *Error:*image.jpg/no*Hint:* ]]
}

@test "train writes beside the model that --model-dir names, and nowhere else" {
  rm -r tf_files
  for model in 'new models/flowers' 'new models/flowers/' "$here/new models/flowers"; do
    for option in "--model-dir=$model" "--model-dir
$model"; do
      rm -rf 'new models'
      IFS=$'\n' read -r -d '' -a option < <(printf '%s\0' "$option")
      retrain train "${option[@]}" holiday
      mounted "rw $here/new models" "ro $here/holiday"
    done
  done
  mkdir -p 'new models/flowers'
  retrain train --model-dir 'new models/flowers' holiday # whose place is taken: it cannot be a mount of its own
  mounted "rw $here/new models" "ro $here/holiday"
  retrain train --model-dir flowers holiday
  mounted "rw $here" "ro $here/holiday"
  retrain evaluate --model-dir 'new models/flowers' holiday
  mounted "rw $here/new models" "ro $here/holiday" "ro $here/new models/flowers"
  [ ! -e tf_files ]
}

@test "data that a link names are read where they are" {
  mkdir -p disk/photos/daisy
  rm -r tf_files/data
  ln -s ../disk/photos tf_files/data
  "$project/train.sh"
  mounted "rw $here/tf_files" "ro $here/tf_files/data" "ro $here/disk/photos"
}

@test "evaluate keeps its embeddings in tf_files, where there is one" {
  retrain evaluate holiday
  mounted "rw $here/tf_files" "ro $here/holiday"
  rm -r tf_files
  retrain evaluate holiday
  mounted "ro $here/holiday"
  [ ! -e tf_files ]
}

@test "evaluate --html writes the folder of its page" {
  mkdir pages
  retrain evaluate holiday --html pages/test.html
  mounted "rw $here/tf_files" "rw $here/pages" "ro $here/holiday"
}

@test "report reads the model alone, with the small image" {
  retrain report
  mounted "ro $here/tf_files"
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  mkdir -p models/flowers
  retrain report --model-dir models/flowers
  mounted "ro $here/tf_files" "ro $here/models/flowers"
}

@test "odd without a label reads the pictures, with the small image" {
  "$project/odd.sh" image.jpg holiday
  mounted "ro $here" "ro $here/holiday" "ro $here/tf_files"
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  rm -r tf_files
  retrain odd holiday
  mounted "ro $here/holiday"
  [ ! -e tf_files ]
}

@test "clean reads the data and keeps its plan in tf_files; what it moves or puts back it writes" {
  rm -r tf_files
  for _ in 1 2; do
    retrain clean --checks 'blank,tiny' holiday
    mounted "rw $here/tf_files" "ro $here/holiday"
  done
  mkdir pages
  retrain clean holiday --html=pages/suspects.html
  mounted "rw $here/tf_files" "rw $here/pages" "ro $here/holiday"
  retrain clean --html suspects.html holiday
  mounted "rw $here/tf_files" "rw $here" "ro $here/holiday"
  for arguments in '--apply holiday' 'holiday --apply' '--undo holiday' 'holiday --undo' '--undo -- holiday'; do
    eval "retrain clean $arguments"
    [[ $(mounts) == *"rw $here/holiday"* ]]
    [[ $(mounts) == *"rw $here/tf_files"* ]]
    run ! grep '^ro' <<<"$(mounts)"
  done
}

@test "export reads the data, writes OUT and keeps its embeddings beside the model" {
  export HOME=$BATS_TEST_TMPDIR/home # which has no weights of Keras
  retrain export dataset --out 'a new/folder'
  mounted "rw $here/tf_files" "rw $here/a new/folder"
  rm -r tf_files
  retrain export dataset zip --out 'a new/folder' --data holiday
  mounted "rw $here/tf_files" "rw $here/a new/folder" "ro $here/holiday"
  retrain export --data=holiday --model-dir models/flowers tflite onnx --out=out
  mounted "rw $here/models" "rw $here/out" "ro $here/holiday" "ro $here/tf_files"
  mkdir keras
  KERAS_HOME=$here/keras retrain export --model-dir models/flowers onnx
  mounted "rw $here/models" "rw $here/tf_files" "ro $here/keras"
}

@test "explain and guess --explain read the pictures and the model, and write the folder that is named, with the small image" {
  retrain explain image.jpg holiday --out 'a new/folder'
  mounted "rw $here/a new/folder" "ro $here" "ro $here/holiday" "ro $here/tf_files"
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  retrain explain --out=shown --label sun --model-dir models/flowers holiday
  mounted "rw $here/shown" "ro $here/holiday" "ro $here/tf_files"
  "$project/guess.sh" --explain why holiday
  mounted "rw $here/why" "ro $here/holiday" "ro $here/tf_files"
  "$project/guess.sh" --explain=why holiday
  mounted "rw $here/why" "ro $here/holiday" "ro $here/tf_files"
}

@test "a film is guessed in the image that holds PyAV, which may write what was seen, and nothing else" {
  : >holiday/clip.MP4
  "$project/guess.sh" holiday/clip.MP4
  [ "$(cat "$RECORD.image")" = retrain:full ]
  mounted "ro $here/holiday" "ro $here/tf_files"
  "$project/guess.sh" --every 1s --out seen --explain=why holiday
  [ "$(cat "$RECORD.image")" = retrain:full ]
  mounted "rw $here/seen" "rw $here/why" "ro $here/holiday" "ro $here/tf_files"
  called_with guess --every 1s --out seen --explain=why -- holiday
  retrain imagenet --fps=2 --out=seen holiday
  [ "$(cat "$RECORD.image")" = retrain:full ]
  mounted "rw $here/seen" "ro $here/holiday"
  retrain imagenet holiday
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  retrain sort holiday/clip.MP4 sorted
  [ "$(cat "$RECORD.image")" = retrain:guess ]
}

@test "--faces needs the image that holds the detector, writes the drawings, and shows whether photos were crawled" {
  "$project/guess.sh" --faces --boxes drawn holiday
  mounted "rw $here/drawn" "ro $here/holiday" "ro $here/tf_files"
  [ "$(cat "$RECORD.image")" = retrain:full ]
  called_with guess --faces --boxes drawn -- holiday
  mkdir -p crawled/anna
  touch crawled/manifest.jsonl crawled/anna/1.jpg
  "$project/guess.sh" --faces crawled/anna/1.jpg
  mounted "ro $here/crawled/anna" "ro $here/tf_files" "ro $here/crawled"
  "$project/guess.sh" crawled/anna/1.jpg
  mounted "ro $here/crawled/anna" "ro $here/tf_files"
  "$project/guessDir.sh" --faces holiday sorted
  [ "$(cat "$RECORD.image")" = retrain:full ]
}

@test "faces writes tf_files, or beside the model that --model-dir names" {
  retrain faces --forget anna
  mounted "rw $here/tf_files"
  mkdir models
  retrain faces --forget anna --yes --model-dir models/people
  mounted "rw $here/models" "ro $here/tf_files"
}

@test "sample writes the folder it draws into, made by the caller" {
  rm -r tf_files
  retrain sample 'a new/folder' --per-class 3
  mounted "rw $here/a new/folder"
  [ -d 'a new/folder' ]
}

@test "a shell writes in the current folder" {
  "$project/shell.sh"
  mounted "rw $here/tf_files" "rw $here"
  has --entrypoint bash
  "$project/shell.sh" -c 'retrain guess *.jpg'
  called_with -c 'retrain guess *.jpg'
}

@test "sort reads SRC and writes DST, made by the caller" {
  "$project/guessDir.sh" holiday 'sorted/by kind'
  mounted "rw $here/sorted/by kind" "ro $here/holiday" "ro $here/tf_files"
  "$project/guessDir.sh" holiday/
  mounted "rw $here/sorted" "ro $here/holiday" "ro $here/tf_files"
  "$project/guessDir.sh" tf_files ./holiday "$here/flat"
  mounted "rw $here/flat" "ro $here/holiday" "ro $here/tf_files"
  "$project/guessDir.sh" holiday/1.jpg other # refused by retrain
  mounted "ro $here/tf_files"
  [ ! -e other ]
}

@test "with --debug before it a command has the same folders" {
  retrain --debug sort holiday sorted
  called_with --debug sort holiday sorted
  [ "$(cat "$RECORD.image")" = retrain:guess ]
  mounted "rw $here/sorted" "ro $here/holiday" "ro $here/tf_files"
  retrain --debug
  called_with --debug
}

@test "sort --watch has the folders of sort, and the image that holds watchdog" {
  retrain sort holiday sorted --watch
  [[ $(cat "$RECORD.image") =~ :(full|gpu)$ ]]
  mounted "rw $here/sorted" "ro $here/holiday" "ro $here/tf_files"
  "$project/guessDir.sh" --watch holiday sorted
  [[ $(cat "$RECORD.image") =~ :(full|gpu)$ ]]
}

@test "sort --dry-run makes nothing" {
  for arguments in 'holiday new' '--mode move holiday new' '--mode=link holiday new'; do
    eval "retrain sort --dry-run $arguments"
    [ ! -e new ]
  done
  mkdir there
  retrain sort --dry-run holiday there
  mounted "rw $here/there" "ro $here/holiday" "ro $here/tf_files"
}

@test "a DST that is SRC or inside it is not made" {
  for to in holiday holiday/sorted holiday/../holiday/sorted ./holiday/a/b "$here/holiday/sorted"; do
    retrain sort holiday "$to" # refused by retrain
    [ "$(find holiday)" = $'holiday\nholiday/1.jpg' ]
    called_with sort holiday "$to"
  done
  ln -s holiday link
  retrain sort holiday link/sorted
  [ ! -e holiday/sorted ]
}

@test "sort by move or link has both folders in one mount" {
  mkdir -p trip/photos trip/done/by-kind
  for mode in '--mode move' --mode=link; do
    eval "retrain sort $mode trip/photos trip/done/by-kind"
    mounted "rw $here/trip" "ro $here/tf_files"
    eval "retrain sort $mode trip/photos trip/new/by-kind"
    mounted "rw $here/trip" "ro $here/tf_files"
    eval "retrain sort $mode trip trip-sorted"
    mounted "rw $here" "ro $here/tf_files"
  done
  [ -d trip-sorted ]
}

@test "undo writes the sorted folder, and the one where all came from" {
  mkdir -p sorted/daisy trip/a trip/b
  FAKE_SOURCES="$here/trip" "$project/guessDir.sh" --undo sorted
  called_with sort --undo sorted --
  [ "$(mounts "$RECORD.asked")" = "ro $here/sorted" ]
  mounted "rw $here" "ro $here/tf_files"
  FAKE_SOURCES="$BATS_TEST_TMPDIR" retrain sort --undo=sorted
  mounted "rw $here" "rw $BATS_TEST_TMPDIR" "ro $here/tf_files"
  FAKE_SOURCES="$here/gone since/deeper" retrain sort --json --undo sorted
  mounted "rw $here" "ro $here/tf_files"
  retrain sort --undo sorted # whose journal names nothing
  mounted "rw $here" "ro $here/tf_files"
}

@test "undo asks the journal under the same restrictions" {
  mkdir sorted
  fake docker "$(sed 's/^#!.*//; s/\.asked"$/.asked"; printf " %s" "${flags[@]}" "" >"$RECORD.asked-flags"/' "$BATS_TEST_TMPDIR/bin/docker")"
  RETRAIN_DOCKER_RUN_ARGS='--memory 2g' retrain sort --undo sorted
  for flag in '--network none' '--read-only' '--cap-drop ALL' "--user $(id -u):$(id -g)" '--memory 2g'; do
    grep -qF -- " $flag " "$RECORD.asked-flags"
  done
}

@test "any name of a picture reaches retrain, and none a mount option" {
  for name in "${hostile_names[@]}"; do
    : >"./$name"
    "$project/guess.sh" -- "$name"
    called_with guess -- "$name"
    mounted "ro $here" "ro $here/tf_files"
  done
  : >./-1.jpg
  "$project/guess.sh" -1.jpg
  called_with guess -- -1.jpg
}

@test "any name of a folder reaches retrain, and only a plain one a mount option" {
  for name in "${hostile_names[@]}"; do
    mkdir -p "pictures/$name/of"
    : >"pictures/$name/of/1.jpg"
    case $name in
      *[,:\"\\]* | *$'\n'* | *$'\t'* | *' ') folder=pictures ;;
      *) folder="pictures/$name" ;;
    esac
    "$project/guessDir.sh" -- "pictures/$name" "out/$name"
    called_with sort -- "pictures/$name" "out/$name"
    mounted "rw $here/out${folder#pictures}" "ro $here/$folder" "ro $here/tf_files"
    case $name in
      *[,:\"\\]* | *$'\n'* | *$'\t'*) ;;
      *) folder="pictures/$name/of" ;;
    esac
    "$project/guess.sh" "pictures/$name/of/1.jpg"
    mounted "ro $here/$folder" "ro $here/tf_files"
  done
}

@test "any name serves for TF_FILES" {
  for name in "${hostile_names[@]}"; do
    "$project/train.sh" -- "$name"
    [ -d "./$name" ]
    called_with train -- "$name/data"
    [ "$(recorded tf_files)" = "$name." ]
    mkdir "./$name/model"
    "$project/guess.sh" -- "$name" holiday/1.jpg
    [ "$(recorded tf_files)" = "$name." ]
    case $name in
      *[,:\"\\]* | *$'\n'* | *$'\t'* | *' ') mounted "ro $here/holiday" "ro $here" ;;
      *) mounted "ro $here/holiday" "ro $here/$name" ;;
    esac
  done
}

@test "any name serves for the current folder" {
  for name in "${hostile_names[@]}"; do
    mkdir -p "$here/folders/$name"
    cd "$here/folders/$name"
    : >1.jpg
    "$project/guess.sh" 1.jpg
    [ "$(recorded workdir)" = "$here/folders/$name." ]
    case $name in
      *[,:\"\\]* | *$'\n'* | *$'\t'* | *' ') mounted "ro $here/folders" ;;
      *) mounted "ro $here/folders/$name" ;;
    esac
  done
}

@test "folders that a container needs itself are refused with a hint" {
  for path in / /usr /etc /etc/passwd /bin /proc /proc/self/status /sys /dev /dev/null; do
    run --separate-stderr -1 "$project/guess.sh" "$path"
    [[ $stderr == Error:*container*Hint:*RETRAIN_RUNTIME=local* ]]
  done
  run --separate-stderr -1 "$project/guess.sh" /dev/fd/3 3<image.jpg
  [[ $stderr == Error:*/dev/fd*Hint:*RETRAIN_RUNTIME=local* ]]
  run --separate-stderr -1 "$project/guess.sh" <(cat image.jpg)
  [[ $stderr == Error:*/dev/fd*Hint:*RETRAIN_RUNTIME=local* ]]
  [ ! -e "$RECORD" ]
}

@test "a name that is no UTF-8 is refused with a hint" {
  name=$'caf\xe9.jpg'
  : >"$name"
  run --separate-stderr -1 "$project/guess.sh" "$name"
  [[ $stderr == Error:*UTF-8*Hint:*RETRAIN_RUNTIME=local* ]]
  TF_FILES=$name run --separate-stderr -1 "$project/guess.sh" image.jpg
  [[ $stderr == *UTF-8* ]]
  mkdir "folder $name"
  cd "folder $name"
  run --separate-stderr -1 "$project/guess.sh" ../image.jpg
  [[ $stderr == *UTF-8* ]]
  [ ! -e "$RECORD" ]
}

@test "serve is published on this machine alone, with a token that stands on no command line" {
  local first
  unset RETRAIN_TOKEN
  retrain serve --name flowers
  run ! has '--network none'
  has '--publish 127.0.0.1:8080:8080'
  has '--env RETRAIN_TOKEN'
  [ "$(tr '\0' ' ' <"$RECORD")" = 'serve --name flowers --host 0.0.0.0 ' ]
  mounted "rw $here/tf_files"
  first=$(cat "$RECORD.token")
  [[ $first =~ ^[0-9a-f]{32}$ ]]
  run ! has "$first"
  "$project/serve.sh" --port 9000 --host ::1
  has '--publish [::1]:9000:9000'
  [ "$(cat "$RECORD.token")" != "$first" ]
  RETRAIN_TOKEN=sesame "$project/serve.sh"
  [ "$(cat "$RECORD.token")" = sesame ]
  mkdir photos
  retrain serve --data photos --allow holiday --model-dir models/flowers
  mounted "rw $here/tf_files" "rw $here/models" "rw $here/photos" "rw $here/holiday"
}
