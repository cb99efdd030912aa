"""The plugins keep what `check_plugin` asks of every plugin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.processes import abstract
from vaccel import Arg, ArgType, Config, Resource, ResourceType, Session
from vaccel.agent import Agent
from vaccel.ops import onnx, tf, torch
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.tf import lite
from vaccel.testing import check_plugin
from vaccel.testing.plugin import Samples

CPU = {
    *("noop", "sgemm", "minmax"),
    *("fpga_arraycopy", "fpga_mmult", "fpga_parallel", "fpga_vadd"),
}
ROW = np.arange(3, dtype=np.float32)


def model(session: Session) -> Resource:
    resource = Resource.from_buffer(b"model", ResourceType.MODEL)
    resource.register(session)
    return resource


def picture(session: Session) -> Iterator[tuple[object, ...]]:
    yield (b"",)
    yield (bytes(range(256)),)
    yield (np.ones((4, 5, 3), np.uint8),)


def read_and_write() -> tuple[list[Arg], list[Arg]]:
    return [Arg(1, ArgType.INT32), Arg(ROW)], [Arg(np.ones(4, np.int16), ArgType.INT16_ARRAY)]


# What the suite cannot make up: it knows numbers, not what a plugin takes for a model.
SAMPLES: dict[str, Samples] = {
    **dict.fromkeys(("classify", "detect", "segment", "pose", "depth"), picture),
    **dict.fromkeys(("classify_scores", "detect_boxes", "segment_mask"), picture),
    **dict.fromkeys(("pose_keypoints", "depth_map"), picture),
    "annotated_image": lambda session: [("detect.1.png",)],
    **dict.fromkeys(
        ("tf_model_load", "tf_model_unload", "tflite_model_load", "tflite_model_unload"),
        lambda session: [(model(session),)],
    ),
    **dict.fromkeys(
        ("torch_model_load", "torch_model_unload", "onnx_model_load", "onnx_model_unload"),
        lambda session: [(model(session),)],
    ),
    "exec": lambda session: [("lib.so", "f", None, None), ("lib.so", "f", *read_and_write())],
    "exec_with_resource": lambda session: [(model(session), "f", *read_and_write())],
    "opencv": lambda session: [(7, *read_and_write())],
    "tf_model_run": lambda session: [
        (model(session), [tf.Node("in")], [tf.Tensor.from_numpy(ROW)], [tf.Node("out", 1)], None)
    ],
    "tflite_model_run": lambda session: [(model(session), [lite.Tensor.from_numpy(ROW)], 1)],
    "torch_model_run": lambda session: [
        (model(session), [torch.Tensor.from_numpy(ROW)], 1, torch.Buffer(b"options"))
    ],
    "onnx_model_run": lambda session: [
        (model(session), [onnx.Tensor.from_numpy(ROW, name="x")], ["y", "z"])
    ],
}


def test_cpu() -> None:
    assert set(check_plugin("cpu")) == CPU


def test_noop_answers_every_operation() -> None:
    # Its place-holders have the right types and shapes, and no right values.
    checked = check_plugin("noop", oracle=None, samples=SAMPLES)
    assert set(checked) == {op.name for op in OPERATIONS.values()}


def test_rpc_is_bit_identical_to_the_plugin_behind_the_agent() -> None:
    with Agent("tcp://127.0.0.1:0") as agent:
        # The agent's sessions, in this process, find cpu before they would ask themselves.
        config = Config(plugins="cpu", endpoint=agent.endpoint)
        assert set(check_plugin("rpc", operations=sorted(CPU), config=config, tolerance=0)) == CPU


def test_rpc_carries_every_operation() -> None:
    with Agent(abstract("conformance")) as agent:
        config = Config(plugins="noop", endpoint=agent.endpoint)
        checked = check_plugin("rpc", oracle=None, config=config, samples=SAMPLES)
        assert set(checked) == {op.name for op in OPERATIONS.values()}


@pytest.mark.parametrize("operations", [["fpga_vadd"], ["minmax", "noop"]])
def test_operations_can_be_chosen(operations: list[str]) -> None:
    assert check_plugin("cpu", operations=operations, sizes=(0, 5)) == operations
