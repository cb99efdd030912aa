"""What describes a model goes with it: found beside it or given, here and at an agent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agent.peers import RawClient, Refused, fake_peer, ok, read_request, reply
from tests.inference.models import engine, mean_colour, onnx
from tests.inference.pairs import pair
from tests.processes import abstract
from vaccel import Config, Resource, ResourceType, Session, bootstrap
from vaccel.agent import Agent
from vaccel.error import InvalidArgument
from vaccel.ops.onnx import Tensor
from vaccel.rpc import messages

pytest.importorskip("PIL.Image", reason="the extra vaccel[onnx] is not installed")

MODEL = ResourceType.MODEL
SHIPPED = Path(str(resources.files("vaccel"))) / "data" / "models"
EXAMPLES = SHIPPED.parent / "examples"
GREEN = np.zeros((8, 8, 3), np.uint8) + np.array([0, 200, 0], np.uint8)
COLOURS = np.eye(3, dtype=np.float32) * 9
NONE = np.zeros(3, np.float32)
SAID: dict[str, Any] = {"task": "classify", "rescale_factor": 1 / 255}

WHOLE = {
    "classify": "classify_scores",
    "detect": "detect_boxes",
    "segment": "segment_mask",
    "pose": "pose_keypoints",
    "depth": "depth_map",
}

Sessions = tuple[Session, Session]


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("onnx") as both:
        yield both


def written(folder: Path, name: str = "model.onnx", **files: Any) -> Path:
    """A model that knows colours, in a file, and what stands beside it: JSON, or text."""
    (folder / name).write_bytes(mean_colour(COLOURS, NONE))
    for short, content in files.items():
        file = {"sidecar": f"{Path(name).stem}.vaccel.json", "labels": "labels.txt"}.get(short)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / (file or f"{short}.json")).write_text(text)
    return folder / name


def tags(sessions: Sessions, resource: Resource) -> str:
    """What both sessions call a green picture, with the model in `resource`."""
    found = []
    for session in sessions:
        resource.register(session)
        found.append(session.classify(GREEN)[0])
    assert found[0] == found[1]
    return found[0]


# Files beside a model


def test_a_models_sidecar_goes_with_it(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID | {"names": ["r", "g", "b"]})
    assert tags(sessions, Resource(path, MODEL)) == "g"


def test_what_hugging_face_writes_goes_with_a_model(sessions: Sessions, tmp_path: Path):
    path = written(
        tmp_path,
        preprocessor_config={"do_normalize": False, "size": {"height": 8, "width": 8}},
        config={
            "architectures": ["XForImageClassification"],
            "id2label": {"0": "red", "1": "lawn", "2": "sea"},
        },
    )
    assert tags(sessions, Resource(path, MODEL)) == "lawn"


def test_an_export_of_hugging_face_with_open_axes_is_used_as_it_is(
    sessions: Sessions, tmp_path: Path
):
    path = written(
        tmp_path,
        preprocessor_config={"do_normalize": False, "size": {"height": 16, "width": 12}},
        config={
            "architectures": ["XForImageClassification"],
            "id2label": {"0": "red", "1": "lawn", "2": "sea"},
        },
    )
    axes = ("batch", "num_channels", "height", "width")
    path.write_bytes(mean_colour(COLOURS, NONE, images=axes))
    assert tags(sessions, Resource(path, MODEL)) == "lawn"


def test_labels_go_with_a_model(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID, labels="x\ny\nz\n")
    assert tags(sessions, Resource(path, MODEL)) == "y"


def test_a_model_in_onnxruntimes_own_format_takes_its_neighbours(
    sessions: Sessions, tmp_path: Path
):
    written(tmp_path, sidecar=SAID, labels="x\ny\nz\n", config={})
    assert tags(sessions, Resource(in_own_format(tmp_path), MODEL)) == "y"


def in_own_format(folder: Path) -> Path:
    """The model in `folder`, in onnxruntime's own format alone."""
    options = engine.SessionOptions()
    options.optimized_model_filepath = str(folder / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    engine.InferenceSession(str(folder / "model.onnx"), options)
    (folder / "model.onnx").unlink()
    return folder / "model.ort"


def test_a_model_in_onnxruntimes_own_format_needs_no_name(sessions: Sessions, tmp_path: Path):
    written(tmp_path)
    unnamed = in_own_format(tmp_path).rename(tmp_path / "unnamed")
    given = SAID | {"names": ["x", "y", "z"]}
    assert tags(sessions, Resource(unnamed, MODEL, description=given)) == "y"
    assert tags(sessions, Resource.from_buffer(unnamed.read_bytes(), MODEL).describe(given)) == "y"


def test_a_listed_models_neighbours_go_with_it_and_listed_ones_count_before(
    sessions: Sessions, tmp_path: Path
):
    path = written(tmp_path, sidecar=SAID, labels="x\ny\nz\n")
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "labels.txt"
    mine.write_text("1st\n2nd\n3rd\n")
    assert tags(sessions, Resource([path, mine], MODEL)) == "2nd"


@pytest.mark.parametrize("task", WHOLE)
def test_the_models_of_the_package_work_by_their_path(task: str, sessions: Sessions):
    image = (EXAMPLES / f"{task}.jpg").read_bytes()
    operation = WHOLE[task]
    for session in sessions:
        shipped = getattr(session, operation)(image)
        resource = Resource(SHIPPED / f"{task}.onnx", MODEL)
        resource.register(session)
        same = getattr(session, operation)(image)
        for one, two in zip(*map(as_tuple, (shipped, same)), strict=True):
            np.testing.assert_array_equal(one, two)


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def with_weights_apart(folder: Path, weights: str) -> Path:
    made = onnx.load_from_string(mean_colour(COLOURS, NONE))
    onnx.save_model(
        made,
        folder / "model.onnx",
        save_as_external_data=True,
        location=weights,
        size_threshold=0,
    )
    assert (folder / weights).exists()
    return folder / "model.onnx"


@pytest.mark.parametrize("weights", ["model.onnx.data", "model.onnx_data"])
def test_weights_beside_a_model_go_with_it(weights: str, sessions: Sessions, tmp_path: Path):
    path = with_weights_apart(tmp_path, weights)
    (tmp_path / "model.vaccel.json").write_text(json.dumps(SAID | {"names": ["r", "g", "b"]}))
    resource = Resource(path, MODEL)
    assert tags(sessions, resource) == "g"
    for session in sessions:
        session.onnx_model_load(resource)
        picture = np.ones((1, 3, 8, 8), np.float32)
        (found,) = session.onnx_model_run(resource, [Tensor.from_numpy(picture)])
        np.testing.assert_array_equal(found.as_numpy(), [[9, 9, 9]])


def test_other_operations_on_the_model_do_not_mind_its_neighbours(
    sessions: Sessions, tmp_path: Path
):
    path = written(tmp_path, sidecar=SAID, config={}, labels="x\n")
    resource = Resource(path, MODEL)
    assert [blob.name for blob in resource.blobs()] == ["model.onnx"]
    for session in sessions:
        resource.register(session)
        session.onnx_model_load(resource)
        (found,) = session.onnx_model_run(
            resource, [Tensor.from_numpy(np.ones((1, 3, 8, 8), np.float32))]
        )
        assert found.shape == (1, 3)
        resource.sync(session)
    assert resource.files() == [path]


@pytest.mark.parametrize("name", ["model.pt", "model.tflite", "model.pb", "model"])
def test_models_of_other_engines_go_alone(name: str, tmp_path: Path):
    path = written(tmp_path, name, config={}, sidecar=SAID, labels="x\n")
    assert [blob.name for blob in Resource(path, MODEL).whole()] == [name]


@pytest.mark.parametrize("type", [ResourceType.DATA, ResourceType.LIB])
def test_what_is_no_model_goes_alone(type: ResourceType, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID)
    assert [blob.name for blob in Resource(path, type).whole()] == ["model.onnx"]


def test_a_folder_has_what_is_in_it_once(tmp_path: Path):
    (tmp_path / "a").mkdir()
    written(tmp_path / "a", sidecar=SAID, config={})
    names = ["a/config.json", "a/model.onnx", "a/model.vaccel.json"]
    resource = Resource(tmp_path, MODEL)
    assert [blob.name for blob in resource.whole()] == names
    (tmp_path / "a" / "labels.txt").write_text("later\n")
    assert [blob.name for blob in resource.whole()] == [*names, "a/labels.txt"]


def test_a_neighbour_that_cannot_be_read_is_left_out(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID | {"names": ["r", "g", "b"]})
    (tmp_path / "labels.txt").symlink_to("labels.txt")  # for ever
    if os.getuid():
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "config.json").chmod(0)
    assert tags(sessions, Resource(path, MODEL)) == "g"


def test_a_models_name_may_be_as_long_as_a_files_name(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, "x" * 246 + ".onnx")  # with .vaccel.json it is too long
    given = SAID | {"names": ["r", "g", "b"]}
    assert tags(sessions, Resource(path, MODEL, description=given)) == "g"


def test_a_large_resource_is_synchronised_without_its_neighbours(
    sessions: Sessions, tmp_path: Path
):
    path = tmp_path / "large.onnx"
    path.write_bytes(bytes(3 << 20))
    (tmp_path / "large.vaccel.json").write_text("{}")
    resource = Resource(path, MODEL)
    resource.register(sessions[1])
    resource.sync(sessions[1])
    assert path.stat().st_size == 3 << 20
    assert (tmp_path / "large.vaccel.json").read_text() == "{}"


def test_a_link_beside_a_path_of_the_agent_may_not_lead_elsewhere(tmp_path: Path):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    path = written(allowed, sidecar=SAID)
    (tmp_path / "secret").write_text("{}")
    with Agent(abstract("described"), allow_paths=[str(allowed)]) as agent:
        with RawClient(agent.endpoint) as client:
            session = client.session()
            request = messages.RegisterResourceRequest(
                paths=[str(path)], resource_type=int(MODEL), session_id=session
            )
            client.call("RegisterResource", request)
            (allowed / "config.json").symlink_to(tmp_path / "secret")
            with pytest.raises(Refused, match="does not serve its file"):
                client.call("RegisterResource", request)


def test_an_agent_without_descriptions_gets_the_model_and_its_weights(tmp_path: Path):
    path = written(tmp_path, sidecar=SAID, config={}, labels="x\n")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    sent = []
    answers = {
        "CreateSession": messages.CreateSessionResponse(session_id=1),  # and no features
        "RegisterResource": messages.RegisterResourceResponse(resource_id=1),
    }

    def peer(sock: Any) -> None:
        while True:
            stream, envelope, request = read_request(sock)
            if envelope.method == "RegisterResource":
                sent.append([blob.name for blob in request.blobs])
            reply(sock, stream, ok(answers.get(envelope.method, messages.Empty())))

    bootstrap(Config(plugins="rpc"))
    with fake_peer(peer) as endpoint, Session(endpoint=endpoint) as session:
        Resource(path, MODEL, description=SAID).register(session)
        named = [path, tmp_path / "labels.txt"]
        Resource(named, MODEL).register(session)
    assert sent[0] == ["model.onnx", "model.onnx.data"]
    assert sent[1] == ["model.onnx", "labels.txt", "model.onnx.data"]


# A description that the program gives


def test_a_given_description_goes_with_a_model_and_counts_first(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID | {"names": ["r", "g", "b"]}, labels="x\ny\nz\n")
    given = {"names": ("one", "two", "three")}
    assert tags(sessions, Resource(path, MODEL, description=given)) == "two"


def test_a_file_of_the_given_descriptions_name_is_the_only_description(
    sessions: Sessions, tmp_path: Path
):
    written(tmp_path, sidecar={"task": "pose"})
    (tmp_path / ".vaccel.json").write_text(json.dumps(SAID | {"names": ["one", "two", "three"]}))
    assert tags(sessions, Resource(tmp_path, MODEL)) == "two"
    with pytest.raises(InvalidArgument, match=r"description: expected no file \.vaccel\.json"):
        Resource(tmp_path, MODEL, description=SAID)
    with pytest.raises(InvalidArgument, match=r"description: expected no file \.vaccel\.json"):
        Resource.from_buffer(b"{}", MODEL, name=".vaccel.json").describe(SAID)


def test_a_model_in_memory_is_described(sessions: Sessions):
    content = mean_colour(COLOURS, NONE)
    given = SAID | {"names": ["one", "two", "three"]}
    assert tags(sessions, Resource.from_buffer(content, MODEL).describe(given)) == "two"


def test_a_described_model_is_one_for_model_operations_too(sessions: Sessions):
    content = mean_colour(COLOURS, NONE)
    resource = Resource.from_buffer(content, MODEL, name="unnamed").describe(SAID)
    for session in sessions:
        resource.register(session)
        session.onnx_model_load(resource)


def test_an_unknown_key_is_refused_with_those_known(sessions: Sessions, tmp_path: Path):
    path = written(tmp_path, sidecar=SAID)
    for session in sessions:
        resource = Resource(path, MODEL, description={"tusk": "detect"})
        resource.register(session)
        message = r"description: expected the keys task, names, layout, .*, found 'tusk'"
        with pytest.raises(InvalidArgument, match=message):
            session.classify(GREEN)


def test_what_cannot_be_a_description_is_refused(tmp_path: Path, sessions: Sessions):
    path = written(tmp_path)
    for wrong in ({"image_mean": float("nan")}, {"dtype": np.float32}, 3):
        with pytest.raises(InvalidArgument, match="description: expected values as JSON"):
            Resource(path, MODEL, description=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="description: expected a MODEL, found DATA"):
        Resource(path, ResourceType.DATA, description=SAID)
    resource = Resource(path, MODEL)
    resource.register(sessions[0])
    with pytest.raises(InvalidArgument, match="describe it before it is registered"):
        resource.describe(SAID)
