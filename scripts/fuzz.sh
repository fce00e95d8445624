#!/usr/bin/env bash
# fuzz.sh SECONDS_EACH [TARGET...]: runs the fuzz targets of build/fuzz one after the other. They start from tests/corpus/<name>;
# what they find goes to build/fuzz/corpus/<name>, inputs that break something to build/fuzz/findings/<target>-*.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: fuzz.sh SECONDS_EACH [TARGET...]}
shift
if (($# > 0)); then
  targets=("$@")
else
  mapfile -t targets < <(grep . build/fuzz/fuzz_targets.txt || true)
fi
if ((${#targets[@]} == 0)); then
  echo "fuzz: no targets (src/**/*_fuzz.cc)" >&2
  exit 1
fi

# With a symbolizer, a finding's stack has names in it.
if symbolizer=$(command -v llvm-symbolizer-16 || command -v llvm-symbolizer); then
  export ASAN_SYMBOLIZER_PATH=$symbolizer UBSAN_SYMBOLIZER_PATH=$symbolizer
fi

mkdir -p build/fuzz/findings
broken=()
for target in "${targets[@]}"; do
  name=${target%_fuzz}
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  folders=("$corpus")
  if [[ -d tests/corpus/$name ]]; then folders+=("tests/corpus/$name"); fi
  echo "fuzz: $target for $seconds s"
  build/fuzz/"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/findings/$target-" "${folders[@]}" 2>build/fuzz/"$target".log ||
    { broken+=("$target"); tail -n 40 build/fuzz/"$target".log; }
  grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' build/fuzz/"$target".log || true
done

if ((${#broken[@]} > 0)); then
  echo "fuzz: findings in ${broken[*]}; inputs in build/fuzz/findings (replay: build/fuzz/TARGET FILE)" >&2
  exit 1
fi
echo "fuzz: ${#targets[@]} targets, no finding"
