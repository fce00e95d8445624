#!/usr/bin/env bash
# peers.sh: what the peer tests compare with: a Python environment with numpy, safetensors and gguf in build/peers, and the model of
# scripts/smollm2.sh as build/peers/smollm2.gguf. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=build/peers
packages=(numpy==1.26.4 safetensors==0.4.5 gguf==0.17.1)

model=$(scripts/smollm2.sh)
if [[ -f $peers/stamp && $(<"$peers/stamp") == "${packages[*]}" ]]; then
  echo "peers: $peers is up to date"
  exit 0
fi
echo "peers: ${packages[*]} from PyPI into $peers"
mkdir -p "$peers"
[[ -x $peers/bin/python ]] || /usr/bin/python3 -m venv "$peers"
"$peers/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
ln -sfn "../../$model" "$peers/smollm2.gguf"
echo "${packages[*]}" >"$peers/stamp"
echo "peers: ready"
