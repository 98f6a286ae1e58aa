#!/usr/bin/env bash
# Prepares what the tests in a browser need: Chromium from Debian, and axe-core from npm, exactly as package-lock.json says.
#
#   browser.sh prepare    install what is missing; exit status 75 and "skipped: why" where neither it nor root is there
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
axe=$here/../../../build/axe

skip() {
  echo "skipped: $1"
  exit 75
}

install() {
  local missing=()
  command -v chromium > /dev/null || missing+=(chromium fonts-dejavu-core)
  command -v npm > /dev/null || missing+=(npm)
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    skip "${missing[*]} not found, and only root on Debian could install it"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}

# npm compares the hash of what it gets with the lock file
fetch_axe() {
  if cmp -s "$here/package-lock.json" "$axe/package-lock.json" && [ -f "$axe/node_modules/axe-core/axe.min.js" ]; then return; fi
  rm -rf "$axe"
  mkdir -p "$axe"
  cp "$here/package.json" "$here/package-lock.json" "$axe/"
  (cd "$axe" && npm ci --ignore-scripts --no-audit --no-fund --silent)
}

case "${1:-}" in
  prepare) install; fetch_axe ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
