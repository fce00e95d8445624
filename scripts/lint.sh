#!/usr/bin/env bash
# lint.sh [FILE...]: clang-format (dry) over our sources, clang-tidy over those that the dev build compiles, and the include rules.
# With files, only those. Exit 1 if anything was found.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# > 0)); then
  files=("$@")
else
  mapfile -t files < <(find src tools bench tests fuzz \( -name '*.h' -o -name '*.cc' \) -print 2>/dev/null | sort)
fi
failed=0

echo "clang-format: ${#files[@]} files"
for file in "${files[@]}"; do
  if ! clang-format-16 --dry-run -Werror --ferror-limit=1 "$file" 2>/dev/null; then
    echo "$file: not formatted (clang-format-16 -i $file)"
    failed=1
  fi
done

echo "include rules"
/usr/bin/python3 tests/include_rules_test.py || failed=1

cmake --preset dev >/dev/null
sources=()
for file in "${files[@]}"; do
  if [[ $file == *.cc ]] && grep -qF "\"file\": \"$PWD/$file\"" build/dev/compile_commands.json; then
    sources+=("$PWD/$file")
  fi
done
echo "clang-tidy: ${#sources[@]} files"
if ((${#sources[@]} > 0)); then
  # -quiet keeps the counts of warnings suppressed in system headers out of the way; what remains is ours.
  printf '%s\0' "${sources[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-16 -p build/dev --quiet --extra-arg=-Wno-unknown-warning-option 2> >(
      grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed|^Use -header-filter' >&2
    ) || failed=1
fi

if ((failed)); then
  echo "lint: found something" >&2
  exit 1
fi
echo "lint: clean"
