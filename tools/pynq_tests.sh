#!/usr/bin/env bash
# Runs tests/pynq: pynq 3.1.2 as released, over the simulated fabric, in an environment of its own,
# since that pynq needs numpy 1. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

suitable() { # PYTHON: there are wheels of numpy 1.26 and grpcio 1.64 for 3.10 to 3.12
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
        2>/dev/null
}

for python in "${PYTHON:-python3}" python3.12 python3.11 python3.10 none; do
    suitable "$python" && break
done
if [[ $python == none ]]; then
    echo >&2 'pynq 3.1.2 needs Python 3.10, 3.11 or 3.12, with venv: install one of them'
    exit 1
fi

env=.venv-pynq
pins=$("$python" --version; cat pyproject.toml constraints-pynq.txt)
pins=$(sha256sum <<<"$pins")
if [[ $(cat "$env/.pins" 2>/dev/null) != "$pins" ]]; then
    "$python" -m venv --clear "$env"
    "$env/bin/pip" install --quiet -c constraints-pynq.txt setuptools wheel
    "$env/bin/pip" install --quiet -c constraints-pynq.txt \
        -e '.[pynq,sim]' pytest hypothesis
    echo "$pins" >"$env/.pins"
fi

"$env/bin/python" -m pytest -q -p no:cacheprovider tests/pynq "$@"
