#!/usr/bin/env bash
# Prints where Cargo puts what it builds: CARGO_TARGET_DIR, Cargo's own configuration, or ./target.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --format-version 1 --no-deps --offline |
  node -p 'JSON.parse(require("node:fs").readFileSync(0, "utf8")).target_directory'
