"""What engines must not do besides computing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from vaccel.inference.loaded import import_engine
engine = import_engine("onnxruntime", "onnx")
engine.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""
MODEL = Path(__file__).parents[2] / "src" / "vaccel" / "data" / "models" / "classify.onnx"


@pytest.mark.subprocess
def test_onnxruntime_collects_no_usage_data(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="the extra vaccel[onnx] is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", PROGRAM, str(MODEL)], env=environment, check=True)
    # What would be sent is collected there first, from the import on.
    assert list(tmp_path.iterdir()) == []
