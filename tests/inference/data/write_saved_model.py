"""Writes `saved_model` beside this file, as TensorFlow 2.21 does: variables and two signatures.

make test-tensorflow && .venv-tensorflow/bin/python tests/inference/data/write_saved_model.py
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = (np.arange(12, dtype=np.float32) - 5).reshape(4, 3) / 7
BIAS = np.array([1, 0, -1], np.float32)


def main() -> None:
    tf: Any = importlib.import_module("tensorflow")
    model = tf.Module()
    model.weights, model.bias = tf.Variable(WEIGHTS), tf.Variable(BIAS)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def dense(x: Any) -> dict[str, Any]:
        y = tf.nn.relu(x @ model.weights + model.bias)
        return {"y": y, "best": tf.argmax(y, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def shift(x: Any) -> dict[str, Any]:
        return {"shifted": x + model.bias[0]}

    path = Path(__file__).with_name("saved_model")
    shutil.rmtree(path, ignore_errors=True)
    signatures = {"serving_default": dense, "shift": shift}
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(model, str(path), signatures=signatures, options=options)
    for name in ("assets", "fingerprint.pb"):  # nothing is in the one, nobody reads the other
        one = path / name
        one.rmdir() if one.is_dir() else one.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
