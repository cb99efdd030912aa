"""Many clients at one agent: each runs models and compares its results with those computed here.

Run as a program: one client. Reads a pickled `Task` from standard input, prints a `Report` as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import vaccel
from tests.agent.processes import ROOT, TIMEOUT, AgentProcess
from vaccel import Config, Resource, ResourceType, Session

ENGINES = {"onnx": "onnxruntime", "torch": "torch", "tflite": "ai_edge_litert"}
"""By plugin."""
TENSORS = {"onnx": "vaccel.ops.onnx", "torch": "vaccel.ops.torch", "tflite": "vaccel.ops.tf.lite"}
TASKS = ("classify", "detect", "segment", "pose", "depth")
WHOLE = ("classify_scores", "detect_boxes", "segment_mask", "pose_keypoints", "depth_map")
ENOUGH = 3
"""Errors after which a client gives up."""
SETTLE = 5.0
"""Seconds that what runs in the agent's background may take to end."""
MARGIN = 24 << 20
"""Bytes between two medians of memory that still count as flat: models come and go all the time.
A minute is thousands of calls, so what each of them leaves behind soon adds up to more."""


class Case(NamedTuple):
    operation: str
    """An image operation, "annotated TASK", or the plugin whose model is to run."""
    value: Any
    """An encoded picture; for a model an array."""


class Task(NamedTuple):
    endpoint: str
    models: Mapping[str, bytes]
    """By plugin."""
    expected: Sequence[tuple[Case, Any]]
    seed: int = 0
    rounds: int = sys.maxsize
    """Times to open sessions and load models."""
    passes: int = 5
    """Times to run all cases in them."""
    seconds: float = float("inf")


class Report(NamedTuple):
    calls: int
    errors: list[str]


# -- what is run -------------------------------------------------------------------------------


def installed(*names: str) -> list[str]:
    """Those of the plugins whose engines are."""
    return [name for name in names if importlib.util.find_spec(ENGINES[name])]


def prepared(names: Sequence[str], **limits: Any) -> Task:
    """All cases of these plugins, with their results in this process."""
    models = {name: _MODELS[name]() for name in names}
    vaccel.bootstrap(Config(plugins=":".join(models)))
    try:
        with _sessions(None, models) as run:
            expected = [(case, run(case)) for case in _cases(models)]
    finally:
        vaccel.cleanup()
    return Task("", models, expected, **limits)


def _cases(models: Mapping[str, bytes]) -> Iterator[Case]:
    pictures = [(_data() / f"examples/{task}.jpg").read_bytes() for task in TASKS]
    for picture in pictures:
        yield from (Case(operation, picture) for operation in WHOLE)
    for task, picture in zip(TASKS, pictures, strict=True):
        yield Case(f"annotated {task}", picture)
    shapes: dict[str, list[tuple[int, ...]]] = {"onnx": [(1, 3, 64, 64)] * 3}
    for name in models:
        for seed, shape in enumerate(shapes.get(name, [(1, 64), (40, 64), (1000, 64)])):
            yield Case(name, np.random.default_rng(seed).random(shape, np.float32))


@contextlib.contextmanager
def _sessions(
    endpoint: str | None, models: Mapping[str, bytes]
) -> Iterator[Callable[[Case], object]]:
    """What runs a case. Pictures have a session of their own: in one with models, these serve."""
    with Session(endpoint=endpoint) as pictures, Session(endpoint=endpoint) as session:
        with contextlib.ExitStack() as stack:
            loaded = {}
            for name, content in models.items():
                resource = Resource.from_buffer(content, ResourceType.MODEL, name=name)
                loaded[name] = stack.enter_context(resource)
                resource.register(session)
                getattr(session, f"{name}_model_load")(resource)

            def run(case: Case) -> object:
                if case.operation in models:
                    tensor = importlib.import_module(TENSORS[case.operation]).Tensor
                    call = getattr(session, f"{case.operation}_model_run")
                    found = call(loaded[case.operation], [tensor.from_numpy(case.value)])
                    return [_plain(one.as_numpy()) for one in _listed(found)]
                if case.operation.startswith("annotated "):
                    found = getattr(pictures, case.operation.split()[1])(case.value)
                    name = found if isinstance(found, str) else found[1]
                    return _plain(pictures.annotated_image(name))
                return _plain(getattr(pictures, case.operation)(case.value))

            yield run


def _listed(found: Any) -> Sequence[Any]:
    """The tensors of a model operation, some of which also give a status."""
    return found if isinstance(found, list) else next(x for x in found if isinstance(x, list))


def _plain(value: Any) -> object:
    """What can be compared with ==, bit by bit."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _data() -> Any:
    return resources.files("vaccel") / "data"


def _onnx() -> bytes:
    return bytes((_data() / "models/classify.onnx").read_bytes())


def _torch() -> bytes:
    torch = importlib.import_module("torch")
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    program = torch.export.export(
        layers, (torch.ones(2, 64),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def _tflite() -> bytes:
    made = importlib.import_module("tests.inference.tflite_models")
    row = np.linspace(-1, 1, 64, dtype=np.float32)
    tensors = [made.T("x", (-1, 64)), made.T("row", (64,), data=row), made.T("y", (-1, 64))]
    add = made.Op(made.ADD, [0, 1], [2], made.ADD_OPTIONS)
    return bytes(made.model(tensors, [add], [0], [2]))


_MODELS: dict[str, Callable[[], bytes]] = {"onnx": _onnx, "torch": _torch, "tflite": _tflite}


# -- clients -----------------------------------------------------------------------------------


class Clients:
    """Processes that each do `task` in an order of their own; killed if they still run."""

    def __init__(self, task: Task, count: int) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.inference.soak"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            for _ in range(count)
        ]
        for seed, process in enumerate(self._processes):
            assert process.stdin is not None
            with process.stdin as pipe:
                pickle.dump(task._replace(seed=seed), pipe)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def run_for(self, seconds: float) -> bool:
        """Wait so long; False as soon as all have ended."""
        end = time.monotonic() + seconds
        for process in self._processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                return True
        return False

    def report(self) -> Report:
        """All of them together, once they have ended."""
        calls, errors = 0, list[str]()
        hung = self.run_for(TIMEOUT)
        for seed, process in enumerate(self._processes):
            assert process.stdout is not None
            if hung and process.poll() is None:
                errors.append(f"client {seed}: hangs")
                continue
            text = process.stdout.read()
            if process.returncode:
                errors.append(f"client {seed}: ended with code {process.returncode}")
                continue
            report = Report(*json.loads(text))
            calls += report.calls
            errors += [f"client {seed}: {error}" for error in report.errors]
        return Report(calls, errors)


def _client(task: Task) -> Report:
    vaccel.bootstrap(Config(plugins="rpc"))
    end = time.monotonic() + task.seconds
    order = random.Random(task.seed)
    calls, errors = 0, list[str]()

    def over() -> bool:
        return time.monotonic() > end or len(errors) >= ENOUGH

    for _ in range(task.rounds):
        cases = [*task.expected] * task.passes
        order.shuffle(cases)
        try:
            with _sessions(task.endpoint, task.models) as run:
                for case, expected in cases:
                    if over():
                        break
                    found = run(case)
                    calls += 1
                    if found != expected:
                        errors.append(f"{case.operation}: {_difference(expected, found)}")
        except Exception as exc:  # any is one too many
            errors.append(f"call {calls + 1}: {type(exc).__name__}: {exc}")
        if over():
            break
    vaccel.cleanup()
    return Report(calls, errors)


def _difference(expected: object, found: object) -> str:
    return f"expected {expected!r:.200}, found {found!r:.200}"


# -- the agent ---------------------------------------------------------------------------------


def warmed_up(agent: AgentProcess, task: Task) -> dict[str, Any]:
    """What the agent holds after a first client, for which the engines start."""
    with Clients(task._replace(rounds=1, passes=1), 1) as client:
        errors = client.report().errors
    if errors:
        raise RuntimeError(f"the first client, all by itself: {errors[0]}")
    return agent.state()


def left_behind(agent: AgentProcess, before: Mapping[str, Any]) -> list[str]:
    """What the agent holds, some time after its clients have gone, that it did not hold before."""
    end = time.monotonic() + SETTLE
    while True:
        after = agent.state()
        found = [
            f"{what}: {before[what]} before, {after[what]} after"
            for what in ("connections", "open", "files", "threads", "tasks", "descriptors")
            if _more(after[what], before[what])
        ]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def _more(after: Any, before: Any) -> bool:
    return len(after) > len(before) if isinstance(after, list) else bool(after > before)


def growth(samples: Sequence[int]) -> str:
    """What is wrong with resident memory, sampled at regular times; "" if it stays flat.

    The first third is warm-up. Single samples wobble, as the C library keeps and returns memory.
    """
    third = len(samples) // 3
    middle, last = median(samples[third : 2 * third]), median(samples[-third:])
    if last - middle <= MARGIN:
        return ""
    return (
        f"memory grows: expected at most {MARGIN >> 20} MiB between its medians in the middle and "
        f"the last third, found {middle / 2**20:.0f} and {last / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    print(json.dumps(_client(pickle.load(sys.stdin.buffer))))
