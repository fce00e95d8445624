#!/usr/bin/env bash
# skipped.sh BUILD: why tests of the last ctest run were skipped. A skipped Python test prints "skipped: reason"; GoogleTest prints
# its reason after the line that says where.
set -euo pipefail

log=$1/Testing/Temporary/LastTest.log
[[ -f $log ]] || exit 0
awk '
  /^[0-9]+\/[0-9]+ Test: / { name = $0; sub(/^[^:]*: /, "", name) }
  /^skipped: / { sub(/^skipped: /, ""); print "skipped " name ": " $0 }
  /: Skipped$/ { getline; print "skipped " name ": " $0 }
' "$log" | sort -u
