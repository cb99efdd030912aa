#!/usr/bin/env bash
# Runs the protocol, agent and unit tests on the oldest protobuf we support and the release that
# Debian 12 reports. `make test` runs them on the newest, which the development environment has.
set -euo pipefail
cd "$(dirname "$0")/.."

run_tests() { # VERSION PYTHON
    "$2" - "$1" <<'PY'
import sys

import google.protobuf as protobuf
from google.protobuf.internal import api_implementation

if protobuf.__version__ != sys.argv[1]:
    sys.exit(f"expected protobuf {sys.argv[1]}, found {protobuf.__version__}: make clean, try again")
print(f"== protobuf {protobuf.__version__}, implementation {api_implementation.Type()}", flush=True)
PY
    "$2" -m pytest -q -p no:cacheprovider tests/protocol tests/agent tests/unit
}

for version in 3.20.3 4.21.12; do
    env=build/protobuf-$version
    if [[ pyproject.toml -nt $env/.stamp || constraints-dev.txt -nt $env/.stamp ]]; then
        "${PYTHON:-python3}" -m venv --clear "$env"
        grep -v '^protobuf==' constraints-dev.txt >"$env/constraints.txt"
        "$env/bin/pip" install --quiet -c "$env/constraints.txt" \
            "protobuf==$version" pytest hypothesis -e .
        touch "$env/.stamp"
    fi
    run_tests "$version" "$env/bin/python"
done
