# bash completion for sluice
_sluice() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
  local common="--json --quiet --dry-run --threads --max-memory --help --version"
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "convert digest extract-lora fingerprint inspect lineage logits merge perplexity sign tokenize verify help --help --version" -- "$word")
    return
  fi
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --level) mapfile -t COMPREPLY < <(compgen -W "auto config fingerprint tensors" -- "$word"); return ;;
    --dtype) mapfile -t COMPREPLY < <(compgen -W "bfloat16 float16 float32" -- "$word"); return ;;
    --convention) mapfile -t COMPREPLY < <(compgen -W "llama512 hf-stride exl2" -- "$word"); return ;;
    --nan) mapfile -t COMPREPLY < <(compgen -W "keep refuse" -- "$word"); return ;;
    --arithmetic) mapfile -t COMPREPLY < <(compgen -W "exact" -- "$word"); return ;;
  esac
  if [[ $word == -* ]]; then
    local own=""
    case $command in
      convert) own="-o --dtype --out-shard-size --set --rename --rename-file --to --force --seed --arithmetic" ;;
      digest) own="-o --check --seed --arithmetic" ;;
      extract-lora) own="--base --rank -o --include-embeddings --force --seed --arithmetic" ;;
      fingerprint) own="-o --detect --confidence --nonce --seed --arithmetic" ;;
      inspect) own="--tensors --check" ;;
      lineage) own="--base --candidates --seed --arithmetic" ;;
      logits) own="--ids --text --tokenizer -o --last --parse-special --force --seed --arithmetic" ;;
      merge) own="-o --check --list-methods --explain --seed --random-seed --arithmetic --lora-merge-dtype --set --out-shard-size --nan --report --resume --force" ;;
      perplexity) own="--text --tokenizer --convention --context --chunks --report --parse-special --seed --arithmetic" ;;
      sign) own="--key -o --passphrase-env --ignore --allow-symlinks --force" ;;
      tokenize) own="--text --file --decode --parse-special --add-special --skip-special" ;;
      verify) own="--level --atol --rtol --first-difference --sample --facts --against --detect --confidence --nonce --gamma --alpha --challenges --challenge-tokens --prompts --part --join --api-top --api-positions --api-ids --api-timeout --api-tokenizer --api-record --api-replay --signature --key --ignore --allow-symlinks --manifest --seed --arithmetic --report --evidence --replay --force" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$own $common" -- "$word")
    return
  fi
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$word")
}
complete -F _sluice sluice
