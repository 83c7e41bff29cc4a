#!/usr/bin/env bash
# Runs every test of the project, Rust and TypeScript, and prints the totals. Fails when one test fails; the second suite
# runs even then, so that one run shows everything.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed=0

# Adds up the numbers that the first group of a pattern finds in a file.
sum() {
  sed -nE "s/$1/\\1/p" "$2" | awk '{ total += $1 } END { print total + 0 }'
}

# A process per binary, not per test: the tests of one binary share a database cluster.
cargo test --workspace --no-fail-fast 2>&1 | tee "$log/rust" || failed=1
rust_passed=$(sum '^test result: .* ([0-9]+) passed;.*' "$log/rust")
rust_failed=$(sum '^test result: .* ([0-9]+) failed;.*' "$log/rust")

npm test --prefix js 2>&1 | tee "$log/js" || failed=1
js_passed=$(sum '^ *([0-9]+) pass$' "$log/js")
js_failed=$(sum '^ *([0-9]+) fail$' "$log/js")

echo
echo "Rust:       $rust_passed passed, $rust_failed failed"
echo "TypeScript: $js_passed passed, $js_failed failed"
exit "$failed"
