# shellcheck shell=bash disable=SC2154
# How retrain runs in a container: which engine, which image, which folders.  Sourced by lib.sh.
#
# A folder has the same path inside as outside, so what retrain prints, links or journals is true on both sides. The file
# names themselves travel as arguments and never stand in a mount option; nor does a folder whose name an engine could
# misread: the nearest one above it is mounted instead. What the command only reads is mounted read-only.

# find_engine NAME…: set `engine` to the first of them that answers within two seconds, `features` to what it can do.
find_engine() {
  local format
  for engine in "$@"; do
    format='{{.ServerVersion}} {{.SecurityOptions}} {{.Runtimes}}'
    [ "$engine" != podman ] || format='{{.Version.Version}} rootless={{.Host.Security.Rootless}}'
    command -v "$engine" >/dev/null || continue
    features=$(in_two_seconds "$engine" info --format "$format" 2>/dev/null) || continue
    [[ $features == ' '* ]] || return 0 # docker that reaches no server leaves its version empty, and succeeds
  done
  engine='' features=''
  return 1
}

in_two_seconds() {
  if command -v timeout >/dev/null; then timeout 2 "$@"; else perl -e 'alarm 2; exec @ARGV' "$@"; fi # macOS has perl
}

# find_image COMMAND: set `stage` to the smallest stage of the Dockerfile that can do it, and `image` to its name.
find_image() {
  case $(asks_network "$1" && echo learns)$1${graph:+ of TensorFlow}$(names_film "$1" && echo " of films")${watch:+ by watchdog}${faces:+ of faces} in
    guess | imagenet | sort | explain | report | odd) stage=guess ;;
    *) if gpu_is_offered; then stage=gpu; else stage=full; fi ;;
  esac
  image=${RETRAIN_IMAGE:-retrain}:$stage
}

# names_film COMMAND: whether films are to be guessed, by the usual ends of their names; what they are, retrain looks at.
names_film() (
  shopt -s nocasematch
  case $1-${films-} in
    guess-yes | imagenet-yes) exit 0 ;;
    guess-* | imagenet-*) ;;
    *) exit 1 ;;
  esac
  for path in ${paths[@]+"${paths[@]}"}; do
    case $path in *.mp4 | *.m4v | *.mov | *.mkv | *.webm | *.avi | *.mpg | *.mpeg | *.m2ts | *.mts | *.ts | *.wmv | *.flv | *.3gp | *.ogv) exit 0 ;; esac
  done
  exit 1
)

# asks_network COMMAND: whether it may crawl, which `odd` does for a label that the model does not know, or fetch the
# weights of a backbone.  After read_options.
asks_network() {
  case $1:+${backbones-} in
    crawl:* | learn:* | train:*+keras:* | train:*+hub:https://* | embed:*+keras:* | embed:*+hub:https://*) ;;
    odd:*) [ -n "${label-}" ] && ! knows_label ;;
    *) return 1 ;;
  esac
}

# knows_label: whether the model has a class of just this name; not where it stands there in another writing.
knows_label() {
  sed -n '/^  "classes": \[$/,/^  \]/p' "${model:-$files/model}/model.json" 2>/dev/null |
    grep -qxF -e "    \"$label\"" -e "    \"$label\","
}

gpu_is_offered() {
  nvidia-smi -L >/dev/null 2>&1 || return
  case $engine in
    docker) [[ $features == *nvidia* ]] ;;
    podman) [ -e /etc/cdi/nvidia.yaml ] || [ -e /var/run/cdi/nvidia.yaml ] ;;
  esac
}

version() {
  sed -n 's/^__version__ = "\(.*\)"/\1/p' "$root/retrain/__init__.py"
}

# A checksum of all that goes into an image, so that a changed retrain is never run as it was.
sources() {
  (cd "$root" && find .dockerignore Dockerfile LICENSE NOTICE pyproject.toml requirements-{guess,full,gpu}.txt retrain \
    -type f ! -path '*/.*/*' ! -name '*.pyc' | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cksum | cksum | cut -d ' ' -f 1)
}

# image_label NAME: what the image says of itself; fails where there is no image.
image_label() {
  "$engine" image inspect --format "{{index .Config.Labels \"$1\"}}" "$image" 2>/dev/null
}

# need_image: have `image` here, as these scripts are: built anew when retrain has changed, or pulled where RETRAIN_IMAGE
# names one.
need_image() {
  local made_from
  if [ -n "${RETRAIN_IMAGE:-}" ]; then
    made_from=$(image_label org.opencontainers.image.version) || pull_image
    [ "${made_from:=$(image_label org.opencontainers.image.version)}" = "$(version)" ] ||
      say "$image holds retrain $made_from, these scripts are $(version)"
    return
  fi
  if ! made_from=$(image_label retrain.sources); then
    say "building the image $image with $engine; once, and a few minutes …"
  elif [ "$made_from" = "$(sources)" ]; then
    return
  else
    say "retrain has changed: building the image $image anew …"
  fi
  build_image
}

pull_image() {
  say "pulling $image …"
  "$engine" pull -- "$image" >&2 </dev/null || die 1 "$image cannot be had." "Without RETRAIN_IMAGE it is built here."
}

build_image() {
  local extra
  read -ra extra <<<"${RETRAIN_DOCKER_BUILD_ARGS-}"
  (cd "$root" && DOCKER_BUILDKIT=1 "$engine" build --target "$stage" --tag "$image" --label "retrain.sources=$(sources)" \
    --label "org.opencontainers.image.version=$(version)" ${extra[@]+"${extra[@]}"} . >&2 </dev/null) ||
    die 1 "the image could not be built." "RETRAIN_RUNTIME=local runs retrain in .venv, without an image."
}

# run_in_container COMMAND ARGUMENT…: become that command in a container.
run_in_container() {
  local files=${TF_FILES:-tf_files} model='' mode=copy undo='' dry_run='' watch='' changes='' html='' logs='' data='' out='' films='' explained='' backbones='' like='' label='' graph='' labels='' faces=''
  local port=8080 host=127.0.0.1 token=${RETRAIN_TOKEN-}
  local extra debug='' lists=() allowed=() args=(--rm --pull never --read-only --cap-drop ALL --security-opt no-new-privileges
    --no-healthcheck --log-driver none --env TF_FILES --env RETRAIN_PROGRAM --env NO_COLOR)
  check_names "$@"
  case $1-$# in --debug-1) ;; --debug-*) debug=$1 && shift ;; esac
  split "${@:2}"
  read_options ${options[@]+"${options[@]}"}
  case $1 in
    serve) publish && set -- "$@" --host 0.0.0.0 ;; # of the container
    *) asks_network "$1" || args+=(--network none) ;;
  esac
  find_image "$1"
  need_image
  cd -P -- . || exit # for PWD as the kernel sees it: there it looks up relative paths
  read -ra extra <<<"${RETRAIN_DOCKER_RUN_ARGS-}"
  # Labels of SELinux stay as they are: they belong to the user's files.
  [ ! -e /sys/fs/selinux/enforce ] || args+=(--security-opt label=disable)
  add_user
  add_mounts "$1"
  add_workdir
  add_terminal "$1"
  add_gpu
  [ "$1" != shell ] || { args+=(--entrypoint bash) && shift; }
  exec "$engine" run "${args[@]}" ${extra[@]+"${extra[@]}"} "$image" ${debug:+"$debug"} "$@"
}

# What is served is reached from this machine alone, or where --host says, and by whoever has the token.
publish() {
  export RETRAIN_TOKEN=${token:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
  case $host in *:*) host=[$host] ;; esac
  args+=(--env RETRAIN_TOKEN --publish "$host:$port:$port")
}

# Other names would arrive as yet other names.
check_names() {
  printf '%s\n' "$PWD" "${TF_FILES-}" "$@" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 ||
    die 1 "$engine takes only names in UTF-8, and one of these is not." "Rename it, or set RETRAIN_RUNTIME=local."
}

# Files belong to whoever called.
add_user() {
  case $engine-$features in
    docker-*name=rootless*) args+=(--user 0:0) ;; # which is the caller
    docker-*name=userns*) args+=(--user "$(id -u):$(id -g)" --userns host) ;;
    podman-*rootless=true) args+=(--user "$(id -u):$(id -g)" --userns keep-id) ;;
    *) args+=(--user "$(id -u):$(id -g)") ;;
  esac
}

# add_terminal COMMAND: the terminal goes in where all three streams are it. A container's own terminal would mix what
# is kept apart here.
add_terminal() {
  if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then
    args+=(--interactive --tty --env TERM)
    return
  fi
  ! reads_input "$1" || args+=(--interactive)
  [ ! -t 2 ] || args+=(--env TTY_INTERACTIVE=1 --env TTY_COMPATIBLE=1 --env "COLUMNS=$(stty size <&2 | cut -d ' ' -f 2)")
}

# reads_input COMMAND: else standard input stays for whoever comes next.
reads_input() {
  local path
  [ "$1" != shell ] || return 0
  for path in ${paths[@]+"${paths[@]}"}; do
    [ "$path" != - ] || return 0
  done
  return 1
}

add_gpu() {
  case $stage-$engine in
    gpu-docker) args+=(--gpus all) ;;
    gpu-podman) args+=(--device nvidia.com/gpu=all) ;;
  esac
}

# add_mounts COMMAND: what is written comes first, for what is mounted already stays as it is.
add_mounts() {
  local command=$1
  mounted=:
  [ -n "$model" ] || [ ! -L "$files/model" ] || model=$files/model
  case $command-$model in
    guess-* | imagenet-* | embed-* | sort-* | explain-* | report-* | crawl-*) ;;
    odd-*) ! asks_network odd || learns ;;
    learn-*) learns ;;
    train- | export- | clean-* | serve-) adds_to "$files" ;;
    train-* | export-* | evaluate-?* | faces-?*) beside_model ;;
    serve-*) adds_to "$files" && beside_model ;;
    *) writes "$files" ;;
  esac
  case $command in
    crawl) add_crawl_mounts "${out:-$files/data}" ;;
    learn) folder_of "${out:-results}" && adds_to "$REPLY" ;;
    sample) adds_to "${paths[0]-}" ;;
    export) add_export_mounts ;;
    embed)
      [[ $out == *://* ]] || adds_to "$out"
      add_backbone_mounts
      ;;
    guess) adds_to "$out" && adds_to "$explained" ;;
    imagenet | explain) adds_to "$out" ;;
    clean) [ -z "$changes" ] || writes "$undo" ${paths[@]+"${paths[@]}"} ;;
    shell) writes . ;;
    serve) writes "$data" ${allowed[@]+"${allowed[@]}"} ;;
    train)
      add_backbone_mounts
      adds_to "$logs"
      # A model that is to be replaced cannot be a mount of its own.
      [ -z "$like" ] || { real "$like" && is_mounted "$REPLY"; } || reads "$like"
      ;;
  esac
  [ -z "$html" ] || { folder_of "$html" && writes "$REPLY"; }
  if [ "$command" = sort ]; then add_sort_mounts ${paths[@]+"${paths[@]}"}; else reads ${paths[@]+"${paths[@]}"}; fi
  case $command in learn | odd) ;; *) reads "$data" ;; esac
  case $command in
    train | learn) ;;    # a new model takes the old one's place, and that of a mount is taken
    imagenet | embed) ;; # have no model
    *) if [ -n "$graph" ]; then reads "$graph" "$labels"; else reads "$files" "$model"; fi ;;
  esac
  [ -z "$faces" ] || reads_crawls ${paths[@]+"${paths[@]}"}
}

# reads_crawls PATH…: the folder above each that holds a crawl's manifest, for whoever is on crawled photos is asked first.
reads_crawls() {
  local path
  for path in "$@"; do
    real "$path"
    until [ -z "$REPLY" ] || [ -e "$REPLY/manifest.jsonl" ]; do REPLY=${REPLY%/*}; done
    [ -z "$REPLY" ] || reads "$REPLY"
  done
}

# What is crawled goes among the data, what is learned from it into a new model.
learns() {
  adds_to "$files"
  [ -z "$model" ] || beside_model
  add_crawl_mounts "${data:-$files/data}"
}

read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --model-dir) model=${2-} ;;
      --model-dir=*) model=${1#*=} ;;
      --mode) mode=${2-} ;;
      --mode=*) mode=${1#*=} ;;
      --undo) undo=${2-} changes=yes ;;
      --undo=*) undo=${1#*=} ;;
      --apply) changes=yes ;;
      --backbone) backbones=${2-} ;;
      --backbone=*) backbones=${1#*=} ;;
      --like) like=${2-} ;;
      --like=*) like=${1#*=} ;;
      --graph) graph=${2-} ;;
      --graph=*) graph=${1#*=} ;;
      --labels) labels=${2-} ;;
      --labels=*) labels=${1#*=} ;;
      --data) data=${2-} ;;
      --data=*) data=${1#*=} ;;
      --html) html=${2-} ;;
      --html=*) html=${1#*=} ;;
      --log-dir) logs=${2-} ;;
      --log-dir=*) logs=${1#*=} ;;
      --out) out=${2-} films=yes ;;
      --out=*) out=${1#*=} films=yes ;;
      --explain | --boxes) explained=${2-} ;;
      --explain=* | --boxes=*) explained=${1#*=} ;;
      --every | --fps | --every=* | --fps=*) films=yes ;;
      --faces) faces=yes ;;
      --dry-run) dry_run=yes ;;
      --watch) watch=yes ;;
      --allow) allowed+=("${2-}") ;;
      --allow=*) allowed+=("${1#*=}") ;;
      --port) port=${2-} ;;
      --port=*) port=${1#*=} ;;
      --host) host=${2-} ;;
      --host=*) host=${1#*=} ;;
      --token) token=${2-} ;;
      --token=*) token=${1#*=} ;;
      --query-list) lists+=("${2-}") ;;
      --query-list=*) lists+=("${1#*=}") ;;
      -c | --class | --classes) add_lists "${2-}" ;;
      -c?*) add_lists "${1#-c}" ;;
      --class=* | --classes=*) add_lists "${1#*=}" ;;
      --label) label=${2-} && add_lists "$label" ;;
      --label=*) label=${1#*=} && add_lists "$label" ;;
      -p | --prediction-path) lists+=("${2-}") ;;
      -p?*) lists+=("${1#-p}") ;;
      --prediction-path=*) lists+=("${1#*=}") ;;
    esac
    ! takes_value "$1" || [ $# = 1 ] || shift
    shift
  done
}

# add_lists [LABEL=]NAME,…: what may be lists of addresses.
add_lists() {
  local name names
  IFS=, read -rd '' -a names <<<"${1#*=}" || :
  for name in ${names[@]+"${names[@]}"}; do lists+=("${name%$'\n'}" "${name%$'\n'}.txt"); done
}

# Beside a model lie the embeddings, and the new model until it takes the old one's place.
beside_model() {
  folder_of "$model"
  case $command in evaluate | faces) ;; *) make_folder "$REPLY" ;; esac
  writes "$REPLY"
  [ ! -L "${model%/}" ] || { real "$model" && writes "$REPLY/.."; }
}

# folder_of PATH: set REPLY to the folder that holds it.
folder_of() {
  case $1 in
    */?*) REPLY=${1%/?*}/ ;;
    *) REPLY=./ ;;
  esac
}

# What is fetched or converted is kept for this user, in a container or not; a network of the user's own is only read.
add_backbone_mounts() {
  local cache=${XDG_CACHE_HOME:-${HOME-}/.cache} weights=${KERAS_HOME:-${HOME-}/.keras} place=$backbones
  case +$backbones in *+keras:* | *+hub:* | *.keras*)
    adds_to "$cache/retrain"
    args+=(--env "XDG_CACHE_HOME=$cache")
    ;;
  esac
  case +$backbones in *+keras:*)
    adds_to "$weights"
    args+=(--env "KERAS_HOME=$weights")
    ;;
  esac
  while true; do
    reads_network "$place"
    [[ $place == *+* ]] || break
    reads_network "${place%%+*}"
    place=${place#*+}
  done
}

# The weights of Keras' networks are those that training has fetched.
add_export_mounts() {
  local weights=${KERAS_HOME:-${HOME-}/.keras}
  adds_to "${out:-$files}"
  [ ! -d "$weights" ] || { reads "$weights" && args+=(--env "KERAS_HOME=$weights"); }
}

# reads_network NAME: where it is the path of a file or folder, perhaps with options behind it.
reads_network() {
  local path=${1#hub:}
  reads "${path%%,size=*}" "${path%%,pixels=*}"
}

# add_crawl_mounts FOLDER: hosts' quotas are kept for this user, in a container or not; keys go in through the environment or their file.
add_crawl_mounts() {
  local cache=${XDG_CACHE_HOME:-${HOME-}/.cache} config=${XDG_CONFIG_HOME:-${HOME-}/.config} name path
  adds_to "$1"
  adds_to "$cache/retrain"
  reads "$config/retrain" ${lists[@]+"${lists[@]}"}
  for path in ${paths[@]+"${paths[@]}"}; do reads "$path.txt"; done # a list of addresses
  args+=(--env "XDG_CACHE_HOME=$cache" --env "XDG_CONFIG_HOME=$config" --env RETRAIN_CONTACT)
  for name in OPENVERSE WIKIMEDIA INATURALIST FLICKR URLS GOOGLE BING; do
    args+=(--env "RETRAIN_${name}_URL" --env "RETRAIN_${name}_KEY")
  done
}

# add_sort_mounts SRC DST
add_sort_mounts() {
  local from=${1-} to=${2-} sources before=("${args[@]}")
  if [ -n "$undo" ]; then
    # The journal tells where it all came from.
    real "$undo"
    reads "$REPLY"
    sources=$("$engine" run "${args[@]}" ${extra[@]+"${extra[@]}"} --entrypoint python3 "$image" -m retrain.recipes.journal "$REPLY" 2>/dev/null &&
      echo .) || :
    args=("${before[@]}") mounted=:
    writes "$undo/.."
    [ -z "${sources%.}" ] || { real "${sources%.}" && writes "$REPLY"; }
    return
  fi
  [ -d "$from" ] && [ -n "$to" ] || return 0
  real "$from"
  from=$REPLY
  real "$to"
  case $REPLY/ in
    "$from"/*) ;; # refused
    *) [ -n "$dry_run" ] || make_folder "$to" ;;
  esac
  if [ "$mode" = copy ]; then
    writes "$to"
    reads "$1"
  else
    # A rename or a second name needs both folders in one mount.
    while [[ $REPLY/ != "$from"/* ]]; do from=${from%/*}; done
    writes "$from" "$1" "$to"
  fi
}

# The current folder is the same inside. Docker makes one where nothing is mounted, podman does not.
add_workdir() {
  args+=(--workdir "$PWD")
  if [ "$engine" = podman ] && ! is_mounted "$PWD"; then
    if is_plain "$PWD"; then args+=(--mount "type=tmpfs,target=$PWD"); else reads .; fi
  fi
}

# adds_to FOLDER: it is there, and can be written to.
adds_to() {
  [ -z "$1" ] || { make_folder "$1" && writes "$1"; }
}

make_folder() {
  mkdir -p -- "$1" || die 1 "the folder $1 cannot be made." "Name one that you may write to."
}

# real PATH: set REPLY to the real path of that folder, or of the nearest one above it that is there.
real() {
  local path=$1
  case $path in /*) ;; *) path=./$path ;; esac
  while [ ! -d "$path/" ]; do path=${path%/*}; done
  REPLY=$(CDPATH='' cd -P -- "$path/" && pwd -P && echo .)
  REPLY=${REPLY%??}
}

reads() {
  want ,readonly "$@"
}

writes() {
  want '' "$@"
}

# want MODE PATH…: what is there outside is there inside: a file with its folder, a link with what it leads to.
want() {
  local mode=$1 path folder way
  shift
  for path in "$@"; do
    case $path in
      '') continue ;;
      /*) ;;
      *) path=./$path ;;
    esac
    if [ ! -d "$path" ]; then
      [ -e "$path" ] || [ -L "$path" ] || continue
      if [ -L "$path" ] && [ -e "$path" ]; then
        folder=$(readlink -- "$path" && echo .)
        folder=${folder%??}
        case $folder in /*) ;; *) folder=${path%/*}/$folder ;; esac
        want "$mode" "$folder"
      fi
      path=${path%/*}/
    fi
    for way in -L -P; do
      folder=$(CDPATH='' cd "$way" -- "$path" 2>/dev/null && pwd "$way" && echo .) || continue
      mount "$mode" "${folder%??}"
    done
  done
}

# mount MODE FOLDER
mount() {
  local folder=$2
  while ! is_plain "$folder"; do folder=${folder%/*}; done
  case ${folder:-/} in
    / | /bin | /dev | /dev/* | /etc | /lib | /lib64 | /proc | /proc/* | /sbin | /sys | /sys/* | /usr | /usr/bin | /usr/lib | /usr/lib/retrain*)
      die 1 "${folder:-/} cannot be given to a container." "Put the files elsewhere, or set RETRAIN_RUNTIME=local."
      ;;
  esac
  # What is only read is protected within what is written, too.
  case $1-$mounted in *":$folder:"*) return 0 ;; esac
  [ -n "$1" ] || ! is_mounted "$folder" || return 0
  mounted=$mounted$folder:
  args+=(--mount "type=bind,source=$folder,target=$folder$1")
}

# is_mounted FOLDER: it, or one above it.
is_mounted() {
  local above=$1
  until [ -z "$above" ]; do
    case $mounted in *":$above:"*) return 0 ;; esac
    above=${above%/*}
  done
  return 1
}

# No engine takes this for more than a path.
is_plain() {
  case $1 in *[[:cntrl:],:\"\\]* | *[[:space:]]) return 1 ;; esac
}
