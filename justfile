# The names CI uses. `just --list` shows them; each is one line, so none needs just.

# Everything the gate checks.
check:
    .ci/run

# All tests, or the stories whose names contain one of the words.
test *STORY:
    tests/run {{STORY}}

# The codec under a fuzzer: `just fuzz` (every target for five minutes), `just fuzz update 3600`.
fuzz *ARGS:
    bgp/fuzz/run {{ARGS}}

# Hundreds of speakers in one process: `just simulate --seed 42 --trace`, `just simulate --seconds 3600`.
simulate *ARGS:
    cargo run --release -p simulation -- {{ARGS}}

# A topology on this machine: `just lab racks`, `just lab racks --keep`.
lab *ARGS:
    topologies/run {{ARGS}}

# deploy/crds.yaml from the Rust types, and what is built of it.
crds:
    cargo run --quiet -p controller --bin routelet -- crds > target/crds.yaml
    mv target/crds.yaml deploy/crds.yaml
    deploy/build

# deploy/routelet.yaml and the chart's templates from the parts.
deploy:
    deploy/build

# Format, and what clippy has to say.
tidy:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
