#!/usr/bin/env bash
# Checks that the tools are there which everything else needs, and says in one line each what is missing and how to get it.
set -euo pipefail

missing=0
lacks() {
  echo "missing: $1" >&2
  missing=1
}

# Whether version $1 is at least $2, both of the form major.minor.
at_least() {
  local have_major=${1%%.*} have_minor=${1#*.} want_major=${2%%.*} want_minor=${2#*.}
  ((have_major > want_major || (have_major == want_major && have_minor >= want_minor)))
}

rust=1.95 # the same as rust-version in Cargo.toml
if ! command -v cargo >/dev/null; then
  lacks "cargo (Rust $rust or newer): install it with rustup, see https://rustup.rs"
else
  found=$(rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+).*/\1/')
  at_least "$found" "$rust" || lacks "Rust $rust or newer (this is $found): rustup update stable"
fi

if ! command -v node >/dev/null; then
  lacks "node 20.19 or newer: see https://nodejs.org, or your system's package manager"
else
  found=$(node -p 'process.versions.node.split(".").slice(0, 2).join(".")')
  at_least "$found" 20.19 || lacks "node 20.19 or newer (this is $found): see https://nodejs.org"
fi

command -v npm >/dev/null || lacks "npm: it comes with node, on Debian and Ubuntu as the package npm"
command -v cc >/dev/null || lacks "cc, a C compiler: apt install build-essential, dnf install gcc, or xcode-select --install"

exit "$missing"
