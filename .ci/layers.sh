#!/usr/bin/env bash
# Which crate may import which, by what cargo resolves (normal dependencies only), not by what files say.
#
#   model <- tsdb, scraper, query <- server
#
# Async runtime: scraper and server only. HTTP client: scraper and server; HTTP server: server only.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
deny() { # CRATE REASON NAME...
  local crate=$1 reason=$2 tree name; shift 2
  tree=$(cargo tree --quiet --offline -e normal --prefix none -p "tidegauge-$crate" --all-features | awk '{print $1}' | sort -u)
  for name in "$@"; do
    if grep -qx -- "$name" <<<"$tree"; then
      echo "layers: $crate reaches $name: $reason" >&2
      bad=1
    fi
  done
}

deny model   "model knows nothing of the others"          tidegauge-tsdb tidegauge-scraper tidegauge-query tidegauge-server
deny tsdb    "storage knows only model"                   tidegauge-scraper tidegauge-query tidegauge-server
deny scraper "the scraper appends through model's door"   tidegauge-tsdb tidegauge-query tidegauge-server
deny query   "the engine reads through model's door"      tidegauge-tsdb tidegauge-scraper tidegauge-server
for crate in model tsdb query; do
  deny "$crate" "this crate is synchronous"               tokio async-std smol
  deny "$crate" "this crate knows no HTTP"                hyper reqwest axum
  deny "$crate" "this crate knows no Kubernetes"          kube k8s-openapi
done
deny model   "no wire or file format in model"            serde serde_json
deny scraper "the scraper is a client"                    axum
exit $bad
