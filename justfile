# The commands of this project. `just` lists them.

default:
    @just --list

# format, lints and layers
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    bash .ci/layers.sh

# what a fresh clone can run
test:
    cargo test --workspace

# what CI runs
ci:
    bash .ci/run

# the main job
run *args:
    cargo run --release -- {{args}}

# criterion benchmarks
bench *args:
    cargo bench -p tidegauge-benches {{args}}

# which crate may import which
layers:
    bash .ci/layers.sh

# what takes longer than CI may
nightly:
    bash .ci/nightly.sh
