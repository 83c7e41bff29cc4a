#!/usr/bin/env bash
# Runs schemathesis, in its pinned version and a Python environment of its own, against a server built here.
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 -m venv --help >/dev/null 2>&1 || {
  echo "missing: python3 with its module venv: on Debian and Ubuntu apt install python3-venv" >&2
  exit 1
}
cargo build --workspace --bin weft
target=$(scripts/target-dir.sh)
environment=$target/conformance
[[ -x $environment/bin/schemathesis ]] || python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/conformance/requirements.txt
WEFT_BIN=$target/debug/weft exec "$environment/bin/python" scripts/conformance/run.py
