#!/usr/bin/env bash
# Summary: crawl pictures of each keyword in query_list.txt into SOURCE/<keyword>/
# Usage: image_crawler.sh SOURCE N
# SOURCE is one of `retrain crawl`, such as openverse or google; N is the number of pictures of a keyword, with those
# that are there. Nothing is removed: what is there stays, and is not fetched again.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"
offer_help "$@"
[ $# = 2 ] || usage
[ -f query_list.txt ] || die 1 "there is no query_list.txt here." "Write one, a keyword a line."
licence=safe
case $1 in *google* | *bing*) licence=any ;; esac
run_retrain crawl --source "$1" --license "$licence" --limit "$2" --out "./$1" --query-list query_list.txt
