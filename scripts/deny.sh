#!/usr/bin/env bash
# Checks the dependencies against deny.toml. Uses the cargo-deny that is installed, else builds a pinned one once (some
# minutes) and keeps it in the target folder. The advisory database is left out: it needs the network on every run.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=$(scripts/target-dir.sh)/tools
PATH=$tools/bin:$PATH
if ! cargo deny --version >/dev/null 2>&1; then
  echo "cargo-deny is not installed: building version $version into $tools, once"
  # Its own environment: the project's flags and offline settings are not meant for it.
  cargo install cargo-deny --locked --version "$version" --root "$tools" --quiet
fi
cargo deny check --hide-inclusion-graph bans licenses sources
echo "Not checked here: security advisories. By hand: cargo deny check advisories"
