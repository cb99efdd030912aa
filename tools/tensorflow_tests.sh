#!/usr/bin/env bash
# Runs the tests of the plugin tf on TensorFlow, and on OpenVINO beside it, in an environment of its
# own: TensorFlow's build without GPUs, 2 GB installed. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

suitable() { # PYTHON: there are wheels of all that is pinned for 3.11 to 3.13
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
        2>/dev/null
}

for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 none; do
    suitable "$python" && break
done
if [[ $python == none ]]; then
    echo >&2 'TensorFlow 2.21 is tested with Python 3.11 to 3.13, with venv: install one of them'
    exit 1
fi

env=.venv-tensorflow
pins=$("$python" --version; cat pyproject.toml constraints-tensorflow.txt)
pins=$(sha256sum <<<"$pins")
if [[ $(cat "$env/.pins" 2>/dev/null) != "$pins" ]]; then
    "$python" -m venv --clear "$env"
    # Not the extra tf: it installs the build with GPUs.
    "$env/bin/pip" install --quiet -c constraints-tensorflow.txt \
        -e '.[onnx,openvino]' tensorflow-cpu onnx pytest hypothesis
    echo "$pins" >"$env/.pins"
fi

"$env/bin/python" -m pytest -q -p no:cacheprovider \
    tests/inference/test_tensorflow.py tests/inference/test_tf.py "$@"
