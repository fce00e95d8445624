#!/usr/bin/env bash
# peers.sh: what the peer tests compare with: a Python environment with numpy, safetensors, gguf, tokenizers, sentencepiece and model-signing in
# build/peers, the model of scripts/smollm2.sh as build/peers/smollm2.gguf, and llama.cpp's vocabularies (of the source of llama-cpp-python,
# 77 MB) as build/peers/vocabularies. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=build/peers
packages=(numpy==1.26.4 safetensors==0.4.5 gguf==0.17.1 tokenizers==0.23.3 sentencepiece==0.2.3 model-signing==1.1.1 pyopenssl==26.4.0)
llama_cpp=llama-cpp-python==0.3.36

model=$(scripts/smollm2.sh)
# llama-cpp-python's server, for tests/peers/api_models_peer_test.py: only where it is asked for, as it is built from source for half an hour.
build_server() {
  [[ ${SLUICE_PEERS_LLAMA:-} == 1 ]] || return 0
  "$peers/bin/python" -c 'import llama_cpp.server.app' 2>/dev/null && return 0
  echo "peers: building $llama_cpp with its server"
  nice "$peers/bin/pip" install --quiet --disable-pip-version-check "${llama_cpp/==/[server]==}"
}
if [[ -f $peers/stamp && $(<"$peers/stamp") == "${packages[*]} $llama_cpp" ]]; then
  build_server
  echo "peers: $peers is up to date"
  exit 0
fi
echo "peers: ${packages[*]} from PyPI into $peers"
mkdir -p "$peers"
[[ -x $peers/bin/python ]] || /usr/bin/python3 -m venv "$peers"
"$peers/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
# pip asks the source for its metadata, and for that wants its build tool; nothing is built.
"$peers/bin/pip" install --quiet --disable-pip-version-check scikit-build-core
"$peers/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation --dest "$peers/source" "$llama_cpp"
mkdir -p "$peers/vocabularies"
tar -xzf "$peers"/source/llama_cpp_python-*.tar.gz -C "$peers/vocabularies" --strip-components=4 --wildcards '*/vendor/llama.cpp/models/ggml-vocab-*'
rm -r "$peers/source"
ln -sfn "../../$model" "$peers/smollm2.gguf"
echo "${packages[*]} $llama_cpp" >"$peers/stamp"
build_server
echo "peers: ready"
