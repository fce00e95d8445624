#!/usr/bin/env bash
# The measurements behind bench/RESULTS.md. `make bench` builds and runs this; options are those of bench/bench.py:
#   bench/run.sh [--small] [--items 1,2,...] [--reps N] [--mergekit] [--clean]
set -euo pipefail
cd "$(dirname "$0")/.."
exec /usr/bin/python3 bench/bench.py "$@"
