"""Models with tensors, on PyTorch and on LiteRT, against the same engines called directly.

The models are a picture's first layer, about a millisecond, so that the engine's own time hides
little.
"""

from __future__ import annotations

import io
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import sessions
from benchmarks.measures import Effort, Figures, each, expect, in_turns, ratio
from tests.inference import tflite_models as lite_models
from vaccel import Resource, ResourceType, Session
from vaccel.ops import torch as torch_ops
from vaccel.ops.tf import lite

SIDE = 512
"""A square float32 picture of 1 MiB."""


def torch_run(effort: Effort) -> Figures:
    torch = sessions.engine("torch", "torch")
    if torch is None:
        return {}
    x = np.random.default_rng(1).standard_normal((1, 1, SIDE, SIDE)).astype(np.float32)
    layers = torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.MaxPool2d(4)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        torch.jit.save(torch.jit.script(torch.nn.Sequential(*layers).eval()), buffer)
        module = torch.jit.load(io.BytesIO(buffer.getvalue()))

    def engine() -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    def run(session: Session, model: Resource) -> Any:
        tensor = torch_ops.Tensor.from_numpy(x)
        return session.torch_model_run(model, [tensor], 1)[0].as_numpy()

    with sessions.pair("torch") as pair:
        models = [_load(s, s.torch_model_load, buffer.getvalue()) for s in pair]
        return _compare("torch", effort, engine, run, list(zip(pair, models, strict=True)))


def tflite_run(effort: Effort) -> Figures:
    litert = sessions.engine("ai_edge_litert.interpreter", "tflite")
    if litert is None or sessions.engine("flatbuffers", "dev") is None:
        return {}
    x = np.random.default_rng(1).standard_normal((SIDE, SIDE)).astype(np.float32)
    content = _layer()
    interpreter = litert.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (place,) = (one["index"] for one in interpreter.get_input_details())
    (result,) = (one["index"] for one in interpreter.get_output_details())

    def engine() -> Any:
        interpreter.set_tensor(place, x)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    def run(session: Session, model: Resource) -> Any:
        tensors, _ = session.tflite_model_run(model, [lite.Tensor.from_numpy(x)], 1)
        return tensors[0].as_numpy()

    with sessions.pair("tflite") as pair:
        models = [_load(s, s.tflite_model_load, content) for s in pair]
        return _compare("tflite", effort, engine, run, list(zip(pair, models, strict=True)))


def _layer() -> bytes:
    """Sums of each row, with 128 sets of weights."""
    weights = np.random.default_rng(2).standard_normal((128, SIDE)).astype(np.float32)
    tensors = [
        lite_models.T("x", (SIDE, SIDE)),
        lite_models.T("weights", (128, SIDE), data=weights),
        lite_models.T("bias", (128,), data=np.zeros(128, np.float32)),
        lite_models.T("y", (SIDE, 128)),
    ]
    options = lite_models.FULLY_CONNECTED_OPTIONS
    op = lite_models.Op(lite_models.FULLY_CONNECTED, [0, 1, 2], [3], options)
    return lite_models.model(tensors, [op], [0], [3])


def _compare(
    name: str,
    effort: Effort,
    engine: Callable[[], Any],
    run: Callable[[Session, Resource], Any],
    loaded: list[tuple[Session, Resource]],
) -> Figures:
    for session, model in loaded:
        expect(run(session, model), engine(), name)
    here, there = loaded
    engine_s, here_s, there_s = in_turns(
        effort.rounds,
        lambda: each(20, engine),
        lambda: each(20, lambda: run(*here)),
        lambda: each(20, lambda: run(*there)),
    )
    return {
        f"{name}_run_overhead_ratio": ratio(here_s, engine_s),
        f"{name}_run_us": statistics.median(here_s) * 1e6,
        f"{name}_remote_run_us": statistics.median(there_s) * 1e6,
    }


def _load(session: Session, load: Callable[[Resource], None], content: bytes) -> Resource:
    resource = Resource.from_buffer(content, ResourceType.MODEL)
    resource.register(session)
    load(resource)
    return resource
