"""Models that are none, fit nothing, or lie: an error that says so, and the next call is served."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.models import by_pixel, engine, make, mean_colour, model, node, onnx, table
from tests.inference.pairs import pair
from vaccel import Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.error import InvalidArgument

pytest.importorskip("PIL.Image", reason="the extra vaccel[onnx] is not installed")

Sessions = tuple[Session, Session]
PICTURE = np.full((8, 8, 3), 200, np.uint8)
COLOURS = np.eye(3, dtype=np.float32)
NONE = np.zeros(3, np.float32)
SAID = {"task": "classify", "rescale_factor": "0.004"}
HUGE = 10**12
CANNOT = "not a model that can be loaded: "


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("onnx") as both:
        yield both


def refused(sessions: Sessions, files: dict[str, bytes], message: str) -> None:
    """The model is refused here and there, in the same words, and the session goes on without."""
    found = []
    for session in sessions:
        blobs = [Blob(name, memoryview(content)) for name, content in files.items()]
        with Resource.from_blobs(blobs, ResourceType.MODEL) as resource:
            resource.register(session)
            with pytest.raises(InvalidArgument, match=message) as caught:
                session.classify_scores(PICTURE)
            found.append(re.sub(r"resource \d+|/\S+", "…", caught.value.message))
            assert len(found[-1]) < 1500
        scores, _ = session.classify_scores(PICTURE)  # by the model that comes with vaccel
        assert scores.sum() == pytest.approx(1)
    assert found[0] == found[1]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.onnx", mean_colour(COLOURS, NONE))
    return file.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"task: classify\n" * 100,
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "program": lambda: Path(sys.executable).read_bytes()[:100_000],
    "zip": zipped,
    "zeros": lambda: bytes(10_000),
    "ones": lambda: b"\xff" * 10_000,
    "length of 2 GiB": lambda: b"\x08\x08\x3a\xff\xff\xff\xff\x07" + bytes(100),
    "nested groups": lambda: b"\x0b" * 100_000,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_model_is_refused(kind: str, sessions: Sessions):
    refused(sessions, {"model.onnx": FILES[kind]()}, CANNOT)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_model_cut_short_is_refused(part: float, sessions: Sessions):
    content = mean_colour(COLOURS, NONE, metadata=SAID)
    refused(sessions, {"model.onnx": content[: int(len(content) * part)]}, CANNOT)


def unchecked(change: Callable[[Any], None]) -> bytes:
    """A model that onnx itself would not write."""
    made = onnx.load_from_string(mean_colour(COLOURS, NONE, metadata=SAID))
    change(made)
    return bytes(made.SerializeToString())


def unknown_operator(made: Any) -> None:
    made.graph.node[0].op_type = "Teleport"


def later_version(made: Any) -> None:
    made.opset_import[0].version = 10**6


def circle(made: Any) -> None:
    made.graph.node[0].input[0] = "logits"


def weights_cut_short(made: Any) -> None:
    made.graph.initializer[0].raw_data = b"1234"


def weights_beyond_memory(made: Any) -> None:
    made.graph.initializer[0].dims[:] = [HUGE, HUGE, 1, 1]


def weights_of_minus_one(made: Any) -> None:
    made.graph.initializer[0].dims[0] = -1


def no_outputs(made: Any) -> None:
    del made.graph.output[:]


LIES = [
    unknown_operator,
    later_version,
    circle,
    weights_cut_short,
    weights_beyond_memory,
    weights_of_minus_one,
    no_outputs,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_model_that_contradicts_itself_is_refused(lie: Callable[[Any], None], sessions: Sessions):
    refused(sessions, {"model.onnx": unchecked(lie)}, r"not a model that can be loaded|found none")


@pytest.mark.parametrize("place", ["{secret}", "../{name}", "inside/../../{name}"])
def test_weights_in_files_of_others_are_not_read(place: str, sessions: Sessions, tmp_path: Path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(COLOURS.tobytes())

    def elsewhere(made: Any) -> None:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place.format(secret=secret, name=secret.name)

    content = unchecked(elsewhere)
    refused(sessions, {"model.onnx": content}, CANNOT)
    for session in sessions[:1]:  # a path, beside which the file may lie
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "model.onnx").write_bytes(content)
        with Resource(str(tmp_path / "folder" / "model.onnx"), ResourceType.MODEL) as resource:
            resource.register(session)
            with pytest.raises(InvalidArgument, match=CANNOT):
                session.classify_scores(PICTURE)


def two_inputs() -> bytes:
    def change(made: Any) -> None:
        info = make.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1])
        made.graph.input.append(info)

    return unchecked(change)


def texts() -> bytes:
    return model(
        [node("Identity", "images", "made")],
        {"made": (np.str_, (1, 3, 8, 8))},
        {},
        dtype=np.str_,
        metadata=SAID,
    )


def sequence() -> bytes:
    made = onnx.load_from_string(mean_colour(COLOURS, NONE, metadata=SAID))
    made.graph.node.append(make.make_node("SequenceConstruct", ["logits"], ["many"]))
    del made.graph.output[:]
    made.graph.output.append(
        make.make_tensor_sequence_value_info("many", onnx.TensorProto.FLOAT, None)
    )
    return bytes(made.SerializeToString())


MISFITS: dict[str, tuple[Callable[[], bytes], str]] = {
    "two inputs": (two_inputs, "expected a model with one input, .* found images, more"),
    "texts": (texts, "expected tensors of numbers, found images: tensor.string"),
    "a sequence": (sequence, "expected tensors of numbers, found many: seq"),
    "one channel": (
        lambda: by_pixel(COLOURS[:, :1], NONE, images=(1, 1, 8, 8), metadata=SAID),
        r"expected an input \[1, 3, height, width\].*found images \[1, 1, 8, 8\]",
    ),
    "a grid for a class": (
        lambda: by_pixel(COLOURS, NONE, metadata=SAID),
        r"scores \[1, classes\].*found grid float32 \[1, 3, 4, 4\]",
    ),
    "many outputs": (
        lambda: table({f"o{i}": np.zeros((1, 3), np.float32) for i in range(60)}, metadata=SAID),
        r"outputs is not known: .*o7 float32 \[1, 3\] and 52 more could be the scores",
    ),
    "other names": (
        lambda: mean_colour(COLOURS, NONE, metadata=SAID | {"names": "['a', 'b']"}),
        "for 2 names: .*found logits",
    ),
    "another task": (
        lambda: mean_colour(COLOURS, NONE, metadata=SAID | {"task": "translate"}),
        "the model's metadata: task: expected one of classify, .* found 'translate'",
    ),
    "endless names": (
        lambda: mean_colour(COLOURS, NONE, metadata=SAID | {"names": "-" * 10**6 + "1"}),
        "the model's metadata: names: expected a list of names",
    ),
    "a huge input": (
        lambda: mean_colour(COLOURS, NONE, images=(1, 3, 10**5, 10**5), metadata=SAID),
        "expected an input of at most 33554432 pixels, found 100000 x 100000",
    ),
    "a huge size": (
        lambda: mean_colour(
            COLOURS,
            NONE,
            images=(1, 3, "h", "w"),
            metadata=SAID | {"size": "[16000, 16000]"},
        ),
        "expected an input of at most 33554432 pixels, found 16000 x 16000",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_model_that_fits_no_layout_is_refused(kind: str, sessions: Sessions):
    content, message = MISFITS[kind]
    refused(sessions, {"model.onnx": content()}, message)


def test_a_hostile_description_of_a_good_model_is_refused(sessions: Sessions):
    good = mean_colour(COLOURS, NONE)
    for sidecar, message in (
        (b"[" * 10**6, "model.vaccel.json: expected JSON"),
        (b'{"task": "classify", "size": 1e308}', "model.vaccel.json: size: expected whole numbers"),
        (json.dumps({"names": ["x" * 10**6] * 3 + [1]}).encode(), "names: expected at most"),
        (b'{"rescale_factor": 1e-320}', "rescale_factor: expected a positive number"),
    ):
        refused(sessions, {"model.onnx": good, "model.vaccel.json": sidecar}, message)


def test_a_model_that_asks_for_more_memory_than_there_is_fails_by_itself(sessions: Sessions):
    content = model(
        [
            node("ReduceMean", "images", "level", keepdims=0),
            node("Mul", "level none", "zero"),
            node("Cast", "zero", "whole", to=onnx.TensorProto.INT64),
            node("Add", "whole many", "shape"),
            node("ConstantOfShape", "shape", "logits"),
        ],
        {"logits": (np.float32, (1, None))},
        {"none": np.zeros(1, np.float32), "many": np.array([1, HUGE], np.int64)},
        metadata=SAID,
    )
    refused(sessions, {"model.onnx": content}, "the engine could not run it on float32")


def test_a_model_whose_outputs_are_not_those_declared_is_refused(sessions: Sessions):
    # The engine sees the contradiction, and declares nothing: what comes out counts.
    content = model(
        [
            node("ReduceMean", "images", "level", keepdims=0),
            node("Mul", "level none", "zero"),
            node("Cast", "zero", "whole", to=onnx.TensorProto.INT64),
            node("Add", "whole many", "shape"),
            node("ConstantOfShape", "shape", "logits"),
        ],
        {"logits": (np.float32, (1, 3))},
        {"none": np.zeros(1, np.float32), "many": np.array([2, 5, 7], np.int64)},
        metadata=SAID,
    )
    refused(sessions, {"model.onnx": content}, r"found logits float32 \[2, 5, 7\]")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(wrong: float, sessions: Sessions):
    content = mean_colour(COLOURS, np.full(3, wrong, np.float32), metadata=SAID)
    refused(sessions, {"model.onnx": content}, "scores: expected numbers from .* found (nan|inf)")


def test_the_engine_refuses_here_what_it_refuses_by_itself():
    """So that the cases above fail for their own reasons: the model that they change is good."""
    session = engine.InferenceSession(
        mean_colour(COLOURS, NONE), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"images": np.ones((1, 3, 8, 8), np.float32)})[0].shape == (1, 3)
