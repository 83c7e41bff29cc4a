#!/usr/bin/env bash
# Checks that there is a Chromium for the tests that log in with a browser. Where this runs as root on Debian or Ubuntu, as in
# CI, it is installed; elsewhere one line says how to get it.
set -euo pipefail

names=(chromium chromium-browser google-chrome google-chrome-stable)
found() {
  [[ -x ${WEFT_CHROMIUM:-} || -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]] ||
    command -v "${names[@]}" >/dev/null
}

found && exit
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "Installing chromium, which the tests log in with"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >"$log" 2>&1; then
    found && exit
  fi
  tail -n 5 "$log" >&2
fi
echo "missing: chromium: apt install chromium, dnf install chromium, brew install --cask google-chrome, or name one in WEFT_CHROMIUM" >&2
exit 1
