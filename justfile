# The commands that a contributor needs; `just` lists them. Each is an ordinary command that can be typed as well.

[private]
default:
    @just --list

# Build the binary.
build:
    cargo build --release --workspace

# Run all tests.
test *ARGS:
    cargo test --release --workspace {{ARGS}}

# Accept changed snapshots after reading them: git diff shows what changed.
snapshots:
    INSTA_UPDATE=always cargo test --release --workspace

# Format, and check lints, words and line lengths.
lint:
    cargo fmt --all
    cargo clippy --release --workspace --all-targets -- -D warnings
    bash .ci/prose

# Everything that continuous integration checks.
check:
    bash .ci/run

# The default run: train, evaluate and bundle a small model.
run *ARGS:
    cargo run --release -- run pipeline.toml {{ARGS}}

# Serve the model of the latest run.
serve:
    cargo run --release -- serve latest

# Build the book and open it.
book:
    mdbook serve --open docs

# Build and open the API documentation.
doc:
    cargo doc --release --workspace --no-deps --open

# Regenerate docs/src/configuration.md and the JSON schemas of the configuration and of the report from the structs.
reference:
    cargo run --release -- schema --markdown > docs/src/configuration.md
    cargo run --release -- schema > docs/pipeline.schema.json
    cargo run --release -- schema --report > docs/report.schema.json

# Check licences and advisories of dependencies.
deny:
    cargo deny check
