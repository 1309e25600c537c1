#!/usr/bin/env bash
# What takes longer than CI may: feature combinations, advisories and licences, a long crash run, many random queries, by
# themselves and beside Prometheus, benchmarks, and, where a nightly toolchain has them, Miri and fuzzing. Each part runs
# even if one before it failed; the exit code says whether all were green.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
part() { # NAME COMMAND...
  local name=$1; shift
  printf '\n=== %s\n' "$name"
  "$@" || failed+=("$name")
}

features() {
  local crate
  for crate in model tsdb scraper query server; do
    cargo check --quiet -p "tidegauge-$crate" --no-default-features || return 1
    cargo check --quiet -p "tidegauge-$crate" --all-features || return 1
  done
  # Tests, too, and what the program says of what it lacks.
  cargo test --quiet -p tidegauge-server --no-default-features --test it without_kubernetes
}

advisories() {
  command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny || return 1
  cargo deny check
}

miri() {
  cargo +nightly miri --version >/dev/null 2>&1 || { echo "no nightly toolchain with Miri here: skipped"; return 0; }
  # What decodes and packs; not what calls zstd, which Miri cannot look into.
  PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p tidegauge-tsdb --lib -- \
    codec:: column:: index::pairs index::postings block::spans head::delta timeline:: fuzz::tests::tsdb_chunk fuzz::tests::tsdb_timestamps
}

fuzz() {
  cargo +nightly --version >/dev/null 2>&1 || { echo "no nightly toolchain here: skipped"; return 0; }
  command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz || return 1
  local target bad=0
  cargo run --quiet --manifest-path fuzz/Cargo.toml --example seeds || return 1
  for target in fuzz/fuzz_targets/*.rs; do
    cargo +nightly fuzz run "$(basename "$target" .rs)" -- \
      -max_total_time="${TIDEGAUGE_FUZZ_SECONDS:-300}" -rss_limit_mb=1024 -timeout=20 || bad=1
  done
  return $bad
}

# Random queries beside a real Prometheus; the seed is printed, and asks the same again.
differential() {
  [ -d ../shared ] || { echo "no ../shared beside this clone: skipped"; return 0; }
  local peers
  peers=$(bash .ci/peers.sh) || return 1
  TIDEGAUGE_PEERS=$peers TIDEGAUGE_DIFF_COUNT=${TIDEGAUGE_DIFF_COUNT:-100000} TIDEGAUGE_DIFF_SEED=${TIDEGAUGE_DIFF_SEED:-$(date +%s)} \
    cargo test --release -p tidegauge-query --test it differential -- --ignored --nocapture
}

# Ten million samples of real Prometheus and vmagent, over two kills.
senders() {
  [ -d ../shared ] || { echo "no ../shared beside this clone: skipped"; return 0; }
  local peers
  peers=$(bash .ci/peers.sh) || return 1
  TIDEGAUGE_PEERS=$peers TIDEGAUGE_SENDER_SAMPLES=${TIDEGAUGE_SENDER_SAMPLES:-10000000} \
    cargo test --release -p tidegauge-server --test it real_senders -- --ignored --nocapture
}

# Tests named measure_*: most print what they measure, some have a bound that a busy machine breaks.
figures() {
  [ -d ../shared ] || { echo "no ../shared beside this clone: skipped"; return 0; }
  TIDEGAUGE_SHARED=$(cd ../shared && pwd) cargo test --release --workspace -- --ignored --nocapture measure_
}

part "feature combinations" features
part "advisories, licences, duplicates" advisories
part "ten minutes of kill -9" env TIDEGAUGE_CRASH_SECONDS=600 cargo test --release -p tidegauge-server crash -- --nocapture
part "ten thousand idle connections" env TIDEGAUGE_IDLE_CONNECTIONS=10000 cargo test --release -p tidegauge-server --test it idle_connections -- --nocapture
part "five minutes of 200 dashboards beside 100,000 series" env TIDEGAUGE_CROWD_SECONDS=300 TIDEGAUGE_CROWD_CLIENTS=200 \
  TIDEGAUGE_CROWD_TARGETS=100 TIDEGAUGE_CROWD_SERIES=1000 TIDEGAUGE_CROWD_INTERVAL=5 \
  cargo test --release -p tidegauge-server --test it a_crowd_of_dashboards -- --nocapture
part "random queries beside Prometheus" differential
part "ten million samples by real senders" senders
part "Miri on codecs" miri
part "random requests and the description of the API" env TIDEGAUGE_PROPERTY_TIMES=20 cargo test --release -p tidegauge-server --test it openapi::random
part "random queries and a naive evaluator" env TIDEGAUGE_PROPERTY_TIMES=40 TIDEGAUGE_FUZZ_CASES=5000 cargo test --release -p tidegauge-query -- property fuzz
part "fuzzing" fuzz
part "figures" figures
part "benchmarks" cargo bench -p tidegauge-benches

if [ ${#failed[@]} -gt 0 ]; then
  printf '\nfailed: %s\n' "${failed[@]}"
  exit 1
fi
printf '\nall green\n'
