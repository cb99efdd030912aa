"""What engines must not do besides computing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from vaccel.inference.loaded import import_engine
engine = import_engine(*sys.argv[1:3])
if sys.argv[1] == "onnxruntime":
    engine.InferenceSession(sys.argv[3], providers=["CPUExecutionProvider"])
"""
MODEL = Path(__file__).parents[2] / "src" / "vaccel" / "data" / "models" / "classify.onnx"


@pytest.mark.subprocess
@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_engines_collect_no_usage_data(engine: str, extra: str, tmp_path: Path):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"the extra vaccel[{extra}] is not installed")
    silencing = {"ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL"}
    environment = {k: v for k, v in os.environ.items() if k not in silencing}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", PROGRAM, engine, extra, str(MODEL)]
    subprocess.run(command, env=environment, check=True)
    # What would be sent is collected there first, from the import on.
    assert list(tmp_path.iterdir()) == []
