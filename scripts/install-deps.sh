#!/usr/bin/env bash
# install-deps.sh GROUP: Debian packages for build, test, peers, demo, bench, lint or fuzz. Says what it installs; where nothing
# is missing it does nothing and says nothing.
set -euo pipefail

group=${1:-}
build="g++ cmake ninja-build ccache pkg-config libhwy-dev liburing-dev libsimdjson-dev nlohmann-json3-dev libyaml-dev
  libcli11-dev libfmt-dev libexpected-dev libssl-dev libicu-dev libeigen3-dev
  libcurl4-openssl-dev"
test="$build libgtest-dev libgmock-dev libcpp-httplib-dev python3 python3-jsonschema util-linux"
venv="python3 python3-venv ca-certificates"
case $group in
  build) wanted=$build ;;
  test) wanted=$test ;;
  peers) wanted="$test $venv" ;;
  demo) wanted="$build $venv" ;;
  bench) wanted="$build $venv time" ;;
  lint) wanted="$test clang-format-16 clang-tidy-16 git" ;;
  fuzz) wanted="$build clang-16 libclang-rt-16-dev" ;;
  *)
    echo "usage: install-deps.sh build|test|peers|demo|bench|lint|fuzz" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-deps: not a Debian system; needed, under Debian's names: ${wanted//$'\n'/}"
  exit 0
fi

missing=()
for package in $wanted; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  # Packages of several architectures print a status each.
  [[ $status == installed* ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

as_root=()
if (($(id -u) != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "install-deps: missing: ${missing[*]}" >&2
    echo "install-deps: neither root nor sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "install-deps: installing ${missing[*]} (apt-get, for 'make $group')"
${as_root[@]+"${as_root[@]}"} apt-get update -qq
${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
