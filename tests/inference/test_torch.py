"""Torch models, here and at an agent, give what PyTorch itself gives."""

# mypy: allow-subclassing-any
# PyTorch is an extra, so its classes are not known to the type checker.

from __future__ import annotations

import copy
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.pairs import at_once, model_of, objects, pair
from vaccel import Resource, ResourceType, Session
from vaccel.error import InvalidArgument, NotFound, ResourceExhausted
from vaccel.inference import torch_models
from vaccel.ops.torch import Buffer, Tensor, TensorType
from vaccel.plugin import Plugin
from vaccel.plugins import cpu
from vaccel.testing import check_plugin

torch: Any = pytest.importorskip("torch", reason="the extra vaccel[torch] is not installed")

Sessions = tuple[Session, Session]


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("torch") as both:
        yield both


class Layer(torch.nn.Module):
    """One input, named x, of 4 columns; one output of 3."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        with torch.no_grad():
            values = torch.arange(12, dtype=torch.float32)
            self.linear.weight.copy_((values - 5).reshape(3, 4) / 7)
            self.linear.bias.copy_(values[:3] / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.linear(x))


class SumAndProduct(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a * b


class Doubled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


def f32(values: Any) -> Any:
    return np.array(values, np.float32)


def scripted(module: Any) -> bytes:
    return _saved(lambda: torch.jit.script(module))


def traced(module: Any, *examples: Any) -> bytes:
    return _saved(lambda: torch.jit.trace(module, examples))


def exported(module: Any, *examples: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, examples, **options), buffer)
    return buffer.getvalue()


def _saved(make: Callable[[], Any]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of TorchScript as such
        torch.jit.save(make(), buffer)
    return buffer.getvalue()


def layer_of_any_height() -> bytes:
    rows = ({0: torch.export.Dim("rows", min=1, max=1000)},)
    return exported(Layer(), torch.ones(2, 4), dynamic_shapes=rows)


LAYERS = {
    "scripted": lambda: scripted(Layer()),
    "traced": lambda: traced(Layer(), torch.ones(2, 4)),
    "exported": layer_of_any_height,
}


def tensors(*arrays: Any) -> list[Tensor]:
    return [Tensor.from_numpy(np.asarray(array)) for array in arrays]


def run(session: Session, resource: Resource, *arrays: Any, count: int = 1) -> list[Any]:
    found = session.torch_model_run(resource, tensors(*arrays), count)
    return [tensor.as_numpy() for tensor in found]


def load(session: Session, content: bytes, name: str = "model.pt") -> Resource:
    resource = model_of(session, content, name)
    session.torch_model_load(resource)
    return resource


def direct(module: Any, *arrays: Any) -> list[Any]:
    """The outputs of `module`, called without us."""
    with torch.no_grad():
        result = module(*[torch.from_numpy(np.array(array)) for array in arrays])
    return [one.numpy() for one in (result if isinstance(result, tuple) else (result,))]


def assert_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    assert [(a.dtype, a.shape, a.tobytes()) for a in found] == [
        (a.dtype, a.shape, a.tobytes()) for a in expected
    ]


# -- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", LAYERS)
def test_results_are_those_of_pytorch(form: str, sessions: Sessions) -> None:
    content = LAYERS[form]()
    rng = np.random.default_rng(7)
    for session in sessions:
        model = load(session, content)
        for rows in (1, 2, 300):
            x = rng.standard_normal((rows, 4)).astype(np.float32)
            assert_same(run(session, model, x), direct(Layer(), x))


@pytest.mark.parametrize("kind", TensorType)
def test_every_element_type_passes_through(kind: TensorType, sessions: Sessions) -> None:
    x = np.array([[0, 1, 2], [3, 60, 1]]).astype(kind.dtype)
    for session in sessions:
        (found,) = run(session, load(session, scripted(Doubled())), x)
        assert_same([found], [x + x])
        assert found.dtype == kind.dtype


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1, 1, 1, 1)])
def test_every_shape_passes_through(shape: tuple[int, ...], sessions: Sessions) -> None:
    x = np.full(shape, 2, np.float32)
    for session in sessions:
        assert_same(run(session, load(session, scripted(Doubled())), x), [x + x])


def test_the_caller_says_how_many_outputs_it_wants(sessions: Sessions) -> None:
    a, b = f32([1, 2]), f32([3, 5])
    content = traced(SumAndProduct(), torch.ones(2), torch.ones(2))
    for session in sessions:
        model = load(session, content)
        assert_same(run(session, model, a, b, count=1), [a + b])
        assert_same(run(session, model, a, b, count=2), [a + b, a * b])
        assert_same(run(session, model, a, b, count=0), [a + b, a * b])
        with pytest.raises(InvalidArgument, match=r"nr_out_tensors: expected at most 2.*found 3"):
            run(session, model, a, b, count=3)


def test_a_model_is_a_context_manager(sessions: Sessions) -> None:
    x = np.ones((2, 4), np.float32)
    for session in sessions:
        resource = model_of(session, scripted(Layer()), "model.pt")
        with session.model(resource, "torch") as model:
            found = model.run(tensors(x), nr_out_tensors=1)
            assert_same([tensor.as_numpy() for tensor in found], direct(Layer(), x))
        with pytest.raises(NotFound, match="call torch_model_load first"):
            model.run(tensors(x))


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        return {"first": [x + 1, x + 2], "second": [x + 3]}


def test_outputs_in_containers_come_in_order(sessions: Sessions) -> None:
    x = f32([1, 2])
    for content in (scripted(Nested()), exported(Nested(), torch.ones(2))):
        for session in sessions:
            found = run(session, load(session, content), x, count=0)
            assert_same(found, [x + 1, x + 2, x + 3])


class WithOptions(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, times: int = 2) -> Any:
        return x * times if mask is None else x * mask


def test_optional_inputs_may_be_left_out(sessions: Sessions) -> None:
    x, mask = f32([1, 2]), f32([0, 1])
    for session in sessions:
        model = load(session, scripted(WithOptions()))
        assert_same(run(session, model, x), [x * 2])
        assert_same(run(session, model, x, mask), [x * mask])
        with pytest.raises(InvalidArgument, match=r"expected 1 to 2 tensors, found 3.*x, \[mask\]"):
            run(session, model, x, mask, mask)


class Listed(torch.nn.Module):
    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(xs)


def test_a_model_of_a_list_takes_any_number(sessions: Sessions) -> None:
    x = f32([1, 2])
    for session in sessions:
        model = load(session, scripted(Listed()))
        assert_same(run(session, model, x, x + 1, x + 2), [np.concatenate([x, x + 1, x + 2])])


class Keyword(torch.nn.Module):
    def forward(self, x: torch.Tensor, n: int, *, y: torch.Tensor) -> torch.Tensor:
        return x * n - y


def test_an_exported_program_gets_its_constants_and_keywords(sessions: Sessions) -> None:
    program = torch.export.export(Keyword(), (torch.ones(2), 3), {"y": torch.ones(2)})
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    x, y = f32([1, 2]), f32([5, 7])
    for session in sessions:
        assert_same(run(session, load(session, buffer.getvalue()), x, y), [x * 3 - y])


class Noisy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(x) + 0


def test_models_run_in_evaluation_mode(sessions: Sessions) -> None:
    x = np.ones(1000, np.float32)
    for session in sessions:
        assert_same(run(session, load(session, scripted(Noisy().train())), x), [x])


# -- memory ------------------------------------------------------------------------------------


def test_input_memory_is_used_where_it_lies() -> None:
    model = torch_models.import_torch()
    for writable in (True, False):
        x = np.arange(6, dtype=np.float32)
        x.flags.writeable = writable
        if not writable and np.lib.NumpyVersion(np.__version__) < "2.1.0":
            continue  # which exports no read-only arrays
        assert torch_models.as_torch(model, x).data_ptr() == x.ctypes.data


def test_read_only_and_unaligned_inputs_raise_no_warning(sessions: Sessions) -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    read_only = np.frombuffer(x.tobytes(), np.float32).reshape(1, 4)
    unaligned = np.ndarray(x.shape, x.dtype, bytearray(1) + x.tobytes(), offset=1)
    for session in sessions:
        model = load(session, scripted(Layer()))
        for form in (read_only, unaligned):
            assert_same(run(session, model, form), direct(Layer(), x))


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(-1).add_(1)


class Itself(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> Any:
        return x, self.weight, self.weight.view(3), x.view(3)


@pytest.mark.parametrize(
    "content",
    [
        lambda: scripted(InPlace()),
        lambda: traced(InPlace(), torch.ones(3)),
        lambda: exported(InPlace(), torch.ones(3)),
    ],
    ids=["scripted", "traced", "exported"],
)
def test_a_model_that_writes_to_its_input_does_not_reach_the_callers(
    content: Callable[[], bytes], sessions: Sessions
) -> None:
    for session in sessions:
        model = load(session, content())
        x = f32([1, 2, 3])
        for _ in range(2):
            assert_same(run(session, model, x), [f32([2, 3, 4])])
            assert x.tolist() == [1, 2, 3]


def test_outputs_share_memory_with_nothing(sessions: Sessions) -> None:
    for content in (scripted(Itself()), exported(Itself(), torch.ones(3))):
        for session in sessions:
            model = load(session, content)
            x = f32([1, 2, 3])
            for _ in range(2):  # what the first caller writes must not reach the second
                found = run(session, model, x, count=0)
                assert_same(found, [x, np.ones(3, "f4"), np.ones(3, "f4"), x])
                if session.is_remote:  # small answers are read-only
                    continue
                for i, one in enumerate(found):
                    one[:] = 10 + i
                assert [one[0] for one in found] == [10, 11, 12, 13]
                assert x.tolist() == [1, 2, 3]


def test_what_runs_leaves_no_objects_behind(sessions: Sessions) -> None:
    x = np.ones((2, 4), np.float32)
    for content in (scripted(Layer()), layer_of_any_height()):
        for session in sessions:
            model = load(session, content)
            for _ in range(5):
                run(session, model, x)
            before = objects()
            for _ in range(100):
                run(session, model, x)
            assert objects() - before < 50


@pytest.mark.parametrize("form", LAYERS)
def test_a_model_may_be_a_file_of_any_name(form: str, sessions: Sessions, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(LAYERS[form]())
    x = np.ones((2, 4), np.float32)
    for session in sessions:
        with Resource(path, ResourceType.MODEL) as model:
            model.register(session)
            session.torch_model_load(model)
            assert_same(run(session, model, x), direct(Layer(), x))


# -- concurrency -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", LAYERS)
def test_threads_with_sessions_of_their_own_share_a_model(form: str, sessions: Sessions) -> None:
    content = LAYERS[form]()
    inputs = [np.full((i + 1, 4), i, np.float32) for i in range(8)]
    expected = [direct(Layer(), x) for x in inputs]
    for session in sessions:
        model = model_of(session, content)

        def work(i: int, session: Session = session, model: Resource = model) -> None:
            with Session(endpoint=session.endpoint) as own:
                model.register(own)
                own.torch_model_load(model)
                for _ in range(10):
                    assert_same(run(own, model, inputs[i]), expected[i])

        at_once(work)


@pytest.mark.parametrize("form", LAYERS)
def test_models_are_loaded_at_once(form: str, sessions: Sessions) -> None:
    content = LAYERS[form]()
    x = np.ones((2, 4), np.float32)
    for session in sessions:

        def work(i: int, session: Session = session) -> None:
            assert_same(run(session, load(session, content), x), direct(Layer(), x))

        at_once(work)


# -- errors ------------------------------------------------------------------------------------


def test_a_model_must_be_loaded_first(sessions: Sessions) -> None:
    for session in sessions:
        model = model_of(session, scripted(Layer()))
        with pytest.raises(NotFound, match="call torch_model_load first"):
            run(session, model, np.ones((2, 4), np.float32))
        session.torch_model_load(model)
        session.torch_model_unload(model)
        with pytest.raises(NotFound, match="call torch_model_load first"):
            run(session, model, np.ones((2, 4), np.float32))


WRONG: dict[str, tuple[list[Any], str]] = {
    "number": ([np.ones((2, 4), np.float32)] * 2, "expected 1 tensors, found 2"),
    "none": ([], "expected 1 tensors, found 0"),
    "shape": ([np.ones((2, 5), np.float32)], r"found float32 \[2, 5\]"),
    "rank": ([np.ones(4, np.float32)], r"found float32 \[4\]"),
    "dtype": ([np.ones((2, 4), np.int32)], r"found int32 \[2, 4\]"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_inputs_of_an_exported_program(fault: str, sessions: Sessions) -> None:
    arrays, message = WRONG[fault]
    for session in sessions:
        model = load(session, layer_of_any_height())
        wants = r"the model wants: x float32 \[\?, 4\]$"
        with pytest.raises(InvalidArgument, match=f"torch_model_run: .*{message}; {wants}"):
            run(session, model, *arrays)
        limit = "Guard failed|1000"
        with pytest.raises(InvalidArgument, match=limit):
            run(session, model, np.ones((1001, 4), np.float32))


@pytest.mark.parametrize("fault", ["number", "none", "shape", "dtype"])
def test_wrong_inputs_of_torchscript(fault: str, sessions: Sessions) -> None:
    # Of these, PyTorch knows the names; what the rest must be, its kernels say.
    arrays, message = WRONG[fault]
    said = {"shape": "mat1 and mat2 shapes cannot be multiplied", "dtype": "same dtype"}
    for session in sessions:
        model = load(session, scripted(Layer()))
        with pytest.raises(InvalidArgument, match=f"{said.get(fault, message)}.*model wants: x$"):
            run(session, model, *arrays)


def test_run_options_are_refused(sessions: Sessions) -> None:
    for session in sessions:
        model = load(session, scripted(Layer()))
        x = tensors(np.ones((2, 4), np.float32))
        assert len(session.torch_model_run(model, x, 1, Buffer(b""))) == 1
        with pytest.raises(InvalidArgument, match="run_options: expected none, found 3 bytes"):
            session.torch_model_run(model, x, 1, Buffer(b"abc"))


class Doubles(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double()


class Number(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return int(x.dim())


class Hungry(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones([35184372088832]) + x


class Counted(torch.nn.Module):
    def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n


def test_outputs_that_cannot_travel_are_named(sessions: Sessions) -> None:
    x = np.ones(2, np.float32)
    for session in sessions:
        with pytest.raises(InvalidArgument, match=r"output 0 of the model.*found float64"):
            run(session, load(session, scripted(Doubles())), x)
        with pytest.raises(InvalidArgument, match=r"a model that gives tensors, .* gives 1"):
            run(session, load(session, scripted(Number())), x)
        with pytest.raises(ResourceExhausted, match="torch_model_run: out of memory"):
            run(session, load(session, scripted(Hungry())), x)


def test_a_model_whose_inputs_are_no_tensors_is_refused(sessions: Sessions) -> None:
    for session in sessions:
        with pytest.raises(InvalidArgument, match=r"forward\(\) of tensors, found n: int"):
            load(session, scripted(Counted()))


# -- files that are no models ------------------------------------------------------------------


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


GARBAGE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: np.random.default_rng(3).bytes(5000),
    "a text": lambda: b"no model\n" * 100,
    "weights": lambda: saved({"weight": torch.ones(3)}),
    "a pickle": lambda: pickle.dumps([1, 2, 3]),
    "half a script": lambda: scripted(Layer())[:900],
    "half a program": lambda: layer_of_any_height()[:2000],
    "an empty archive": lambda: changed(scripted(Layer()), lambda name, data: None),
    "a script without code": lambda: changed(
        scripted(Layer()), lambda name, data: None if "/code/" in name else data
    ),
    "a program without weights": lambda: changed(
        layer_of_any_height(), lambda name, data: None if "weight_0" in name else data
    ),
    "a program without a graph": lambda: changed(
        layer_of_any_height(), lambda name, data: b"{}" if "model.json" in name else data
    ),
}


def changed(archive: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """The zip file with each of its members as `change` would have it; None leaves it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_model_is_refused_by_name(kind: str, sessions: Sessions) -> None:
    content = GARBAGE[kind]()
    for session in sessions:
        text = r"^torch_model_load: resource \d+: thing\.pt: not a model that can be loaded: ."
        with pytest.raises(InvalidArgument, match=text) as caught:
            load(session, content, "thing.pt")
        assert "\n" not in caught.value.message


class Bomb:
    """Unpickling it sets a mark."""

    went_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _go_off, ()


def _go_off() -> None:
    Bomb.went_off = True


def _with_member(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO(layer_of_any_height())
    with zipfile.ZipFile(buffer) as archive:
        folder = archive.namelist()[0].partition("/")[0]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"{folder}/{name}", data)
    return buffer.getvalue()


def _pickled_weight(name: str, data: bytes) -> bytes:
    if name.endswith("weights_config.json"):
        config = copy.deepcopy(json.loads(data))
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return json.dumps(config).encode()
    return saved(Bomb()) if "/weights/weight_" in name else data


PICKLES: dict[str, Callable[[], bytes]] = {
    "as sample inputs": lambda: changed(
        layer_of_any_height(), lambda name, data: saved(Bomb()) if name.endswith(".pt") else data
    ),
    "as weights": lambda: changed(layer_of_any_height(), _pickled_weight),
    "as weights of the old format": lambda: _with_member("data/weights/model.pt", saved(Bomb())),
    "as an opaque object": lambda: _with_member(
        "data/constants/opaque_obj_0", pickle.dumps(Bomb())
    ),
    "a compiled library": lambda: _with_member("data/aotinductor/model/model.so", b"\x7fELF"),
    "weights alone": lambda: saved(Bomb()),
}


@pytest.mark.parametrize("place", PICKLES)
def test_code_in_a_file_does_not_run(place: str, sessions: Sessions) -> None:
    content = PICKLES[place]()
    Bomb.went_off = False
    for session in sessions:
        with pytest.raises(InvalidArgument, match="not a model that can be loaded"):
            load(session, content)
    assert not Bomb.went_off


# -- sgemm -------------------------------------------------------------------------------------


def test_sgemm_is_that_of_cpu() -> None:
    oracle = Plugin("oracle")
    oracle.kernel(Session.torch_sgemm)(cpu.sgemm)
    found = check_plugin("vaccel.plugins.torch", operations=["torch_sgemm"], oracle=oracle)
    assert found == ["torch_sgemm"]


def test_sgemm_of_no_beta_does_not_read_c(sessions: Sessions) -> None:
    a = f32([[1, 2], [3, 4]])
    c = np.full(4, np.nan, np.float32)
    for session in sessions:
        found = session.torch_sgemm(2, 2, 2, 1.0, a, 2, a, 2, 0.0, 2, c)
        assert found.reshape(2, 2).tolist() == (a @ a).tolist()


def test_all_runs_are_checked_alike(sessions: Sessions) -> None:
    """The direct way takes no more than the long one, and refuses in the same words."""
    here, _ = sessions
    run: Any = here.torch_model_run
    x = Tensor.from_numpy(np.ones((2, 4), np.float32))
    resource = model_of(here, scripted(Layer()))
    here.torch_model_load(resource)
    wrong: list[tuple[Any, ...]] = [
        (resource, [x, x]),
        (resource, [Tensor.from_numpy(np.ones((2, 5), np.float32))]),
        (resource, [np.ones((2, 4), np.float32)]),
        (resource, "x"),
        (resource, [x], -1),
        (resource, [x], 2),
        (resource, [x], 2.5),
        (resource, [x], 1 << 80),
        (resource, [x], 1, Buffer(b"x")),
        (resource, [x], 1, b"x"),
        (here, [x]),
        (resource.id, [x]),
        (None, [x]),
    ]

    def outcome(*args: Any) -> tuple[type[Exception], str]:
        with pytest.raises((InvalidArgument, NotFound)) as raised:
            run(*args)
        return type(raised.value), str(raised.value)

    expected = run(resource, [x])
    direct = dict(here.direct)
    assert direct
    here.direct.clear()
    before = [outcome(*args) for args in wrong]
    here.direct.update(direct)
    assert [outcome(*args) for args in wrong] == before
    assert run(resource, [x]) == expected
    assert run(resource, (x,), True) == expected
    assert run(resource, x, nr_out_tensors=1) == expected
    here.torch_model_unload(resource)
    assert outcome(resource, [x]) == (
        NotFound,
        f"session {here.id} has not loaded resource {resource.id}: call torch_model_load first",
    )
    here.torch_model_load(resource)
    resource.unregister(here)
    assert "not registered" in outcome(resource, [x])[1]
