#!/usr/bin/env bash
# Runs tests/cocotb: both kernels, as Verilog, between the AXI models of cocotbext-axi, in an
# environment of its own. Arguments are the kernels to run it for. COCOTB_RANDOM_SEED (default 1)
# gives other values, places and pauses.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
env=.venv-cocotb
pins=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)'; cat pyproject.toml constraints-cocotb.txt)
pins=$(sha256sum <<<"$pins")
if [[ $(cat "$env/.pins" 2>/dev/null) != "$pins" ]]; then
    "$python" -m venv --clear "$env"
    "$env/bin/pip" install --quiet -c constraints-cocotb.txt cocotb cocotbext-axi -e '.[sim]'
    echo "$pins" >"$env/.pins"
fi

# The simulator loads Python as a shared library, which Debian packs apart.
[[ $("$env/bin/find_libpython") ]] || {
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo >&2 "libpython$version is missing: sudo apt-get install libpython$version"
    exit 1
}

# A kernel that never comes to rest in a cycle would run for ever.
timeout --kill-after=10 900 "$env/bin/python" -m tests.cocotb.simulation "$@"
