#!/usr/bin/env bash
# Installs the packages of one folder with the Bun of runtime/, exactly as its lockfile says.
# usage: scripts/install-bun-packages.sh <folder with package.json and bun.lock>
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bun=$(find "$root"/runtime/node_modules/@oven/bun-*/bin/bun -type f 2>/dev/null | sort | head -n 1)
if [[ -z $bun ]]; then
  echo "Bun is not in runtime/node_modules: run \`make runtime\` first" >&2
  exit 1
fi
cd "$root/$1"
"$bun" install --frozen-lockfile --ignore-scripts --no-progress
mkdir -p node_modules
touch node_modules/.installed
