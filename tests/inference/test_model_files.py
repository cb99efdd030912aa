"""Files that are no models are refused before they are read as a whole."""

from __future__ import annotations

import importlib
import tracemalloc
from pathlib import Path

import pytest

from tests.inference.pairs import pair
from vaccel import Resource, ResourceType
from vaccel.error import InvalidArgument

SIZE = 32 << 20
ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "torch": "torch"}
STARTS = {
    "noise": b"no model",
    "onnx": b"\x08\x08\x12\x04made",
    "tflite": b"\x1c\0\0\0TFL3",
    "torch": b"PK\3\4",
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("plugin", ENGINES)
def test_a_large_file_that_is_no_model_takes_no_memory(plugin: str, start: str, tmp_path: Path):
    pytest.importorskip(ENGINES[plugin])
    path = tmp_path / "model.bin"
    path.write_bytes(STARTS[start] + b"\xff" * 16)
    with path.open("r+b") as file:
        file.truncate(SIZE)
    refused = "model.bin: not a model that can be loaded: "
    with pair(plugin) as sessions:
        importlib.import_module(ENGINES[plugin])
        for session in sessions:
            with Resource(path, ResourceType.MODEL) as resource:
                resource.register(session)
                tracemalloc.start()
                try:
                    with pytest.raises(InvalidArgument, match=refused) as caught:
                        getattr(session, f"{plugin}_model_load")(resource)
                    assert tracemalloc.get_traced_memory()[1] < SIZE // 4
                finally:
                    tracemalloc.stop()
                assert "/" not in caught.value.message
