"""The image operations: which model answers, what comes back, and what is left behind."""

from __future__ import annotations

import gc
import io
import json
import shutil
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaccel
from tests.inference.pairs import at_once, model_of, pair
from vaccel import Config, Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.cli import main
from vaccel.error import InvalidArgument, NotFound
from vaccel.inference import annotations as kept

pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
Image = pytest.importorskip("PIL.Image", reason="pip install 'vaccel[onnx]'")

from training.pictures import JOINTS, SHAPES, TASKS  # noqa: E402
from vaccel.plugins.onnx import plugin  # noqa: E402

MODELS = Path(str(resources.files("vaccel"))) / "data" / "models"
FULL = {
    "classify": "classify_scores",
    "detect": "detect_boxes",
    "segment": "segment_mask",
    "pose": "pose_keypoints",
    "depth": "depth_map",
}
EVERY_TASK = pytest.mark.parametrize("task", FULL)


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    with pair("onnx") as both:
        yield both


@pytest.fixture
def session() -> Iterator[Session]:
    vaccel.bootstrap(Config(plugins="vaccel.plugins.onnx"))
    with Session() as session:
        yield session


def drawn(task: str, seed: int = 1) -> Any:
    return TASKS[task].make(np.random.default_rng(seed))


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def named(task: str, result: Any) -> str:
    return str(result[1] if task == "classify" else result)


# -- results -----------------------------------------------------------------------------------


def test_what_comes_back_has_the_documented_shapes(session: Session):
    image = np.repeat(np.repeat(drawn("detect").pixels, 2, 0), 3, 1)
    height, width = image.shape[:2]
    scores, names = session.classify_scores(image)
    assert described(scores) == ("float32", 6)
    assert scores.sum() == pytest.approx(1)
    assert names == list(SHAPES)
    boxes, scores, classes, names = session.detect_boxes(image)
    count = len(boxes)
    assert described(boxes) == ("float32", count, 4)
    assert described(scores) == ("float32", count)
    assert described(classes) == ("int32", count)
    assert names == list(SHAPES)
    assert count
    assert (np.diff(scores) <= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes <= [width, height, width, height]).all()
    mask, names = session.segment_mask(image)
    assert described(mask) == ("uint8", height, width)
    assert names == ["background", *SHAPES]
    points, names = session.pose_keypoints(image)
    assert described(points) == ("float32", 1, 11, 3)
    assert names == list(JOINTS)
    assert described(session.depth_map(image)) == ("float32", height, width)


def described(array: Any) -> tuple[object, ...]:
    return (array.dtype.name, *array.shape)


def test_a_picture_is_the_same_however_it_comes(session: Session):
    pixels = drawn("classify").pixels
    forms = [png(pixels), pixels, memoryview(png(pixels)), Image.fromarray(pixels)]
    forms += [np.frombuffer(png(pixels), np.uint8), np.dstack([pixels, np.full((64, 64), 255)])]
    forms[-1] = forms[-1].astype(np.uint8)
    found = {session.classify_scores(form)[0].tobytes() for form in forms}
    assert len(found) == 1


def test_coordinates_are_those_of_the_picture_as_it_is_shown(session: Session):
    scene = drawn("detect", 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right
    file = io.BytesIO()
    Image.fromarray(np.rot90(scene.pixels)).save(file, "PNG", exif=exif)
    turned, upright = session.detect_boxes(file.getvalue()), session.detect_boxes(scene.pixels)
    assert np.array_equal(turned[0], upright[0])


def test_a_wide_picture_is_detected_where_things_are(session: Session):
    scene = drawn("detect", 5)
    wide = np.full((96, 240, 3), scene.pixels.mean((0, 1)), np.uint8)
    wide[:, 100:196] = scene.pixels
    large = np.repeat(np.repeat(wide, 3, 0), 3, 1)
    boxes, scores, _, _ = session.detect_boxes(large)
    for truth in scene.boxes:
        expected = (truth + np.array([100, 0, 100, 0])) * 3
        assert np.abs(boxes[scores > 0.4] - expected).max(axis=1).min() < 20


@EVERY_TASK
def test_an_agent_gives_the_same_bits(task: str, sessions: tuple[Session, Session]):
    image = png(drawn(task).pixels)
    mine, others = (getattr(session, FULL[task])(image) for session in sessions)
    if not isinstance(mine, tuple):
        mine, others = (mine,), (others,)
    for a, b in zip(mine, others, strict=True):
        assert a == b if isinstance(a, list) else a.tobytes() == b.tobytes()
    assert sessions[0].classify(image)[0] == sessions[1].classify(image)[0]


# -- annotated pictures ------------------------------------------------------------------------


@EVERY_TASK
def test_the_image_that_a_result_names_is_a_resource_of_the_session(task: str, session: Session):
    image = drawn(task).pixels
    name = named(task, getattr(session, task)(image))
    (resource,) = session.resources
    assert resource.type is ResourceType.DATA
    (blob,) = resource.blobs()
    assert blob.name == name
    picture = Image.open(io.BytesIO(blob.data))
    assert picture.format == "PNG"
    assert bytes(session.annotated_image(name)) == bytes(blob.data)
    assert [path.read_bytes() for path in resource.files()] == [bytes(blob.data)]
    if task == "depth":
        assert picture.size == (64, 64)
        assert np.asarray(picture).max() == 65535
        assert np.asarray(picture).min() == 0
    else:
        shown = np.asarray(picture)
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 3


@EVERY_TASK
def test_the_annotated_image_comes_from_the_agent(task: str, sessions: tuple[Session, Session]):
    image = drawn(task).pixels
    contents = []
    for session in sessions:
        content = session.annotated_image(named(task, getattr(session, task)(image)))
        contents.append(bytes(content))
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"\x89PNG")


def test_a_session_keeps_its_last_images(session: Session):
    image = drawn("classify").pixels
    names = [session.classify(image)[1] for _ in range(kept.KEPT + 3)]
    assert len(set(names)) == len(names)
    assert len(session.resources) == kept.KEPT
    session.annotated_image(names[-kept.KEPT])
    with pytest.raises(NotFound, match=f"no annotated picture '{names[0]}'; it keeps the last 8:"):
        session.annotated_image(names[0])


def test_a_picture_that_nobody_looks_at_is_no_resource_and_no_copy(session: Session):
    from vaccel import runtime

    image = png(drawn("classify").pixels)
    before = set(runtime.current()._open)
    session.classify(image)
    (note,) = plugin.annotations._kept[session]
    assert note.content is image
    assert note.resource is None
    assert set(runtime.current()._open) == before
    assert len(session.resources) == len(session.resources) == 1


def test_a_picture_may_be_asked_for_by_many_at_once(session: Session):
    names = [session.classify(png(drawn("classify").pixels))[1] for _ in range(kept.KEPT)]

    def work(i: int) -> None:
        for name in names:
            assert session.annotated_image(name).size
            session.resources  # noqa: B018  # another thread makes them meanwhile

    at_once(work)


def test_a_session_that_is_looked_at_does_not_hold_up_the_end(session: Session):
    image = png(drawn("classify").pixels)
    with Session() as other:
        other.classify(image)
        with other._lock:  # as while its plugins hear of a resource, which may take long
            looks = threading.Thread(target=lambda: other.resources)
            looks.start()
            session.classify(image)
            assert len(session.resources) == 1
        looks.join(30)
        assert not looks.is_alive()


def test_what_could_not_be_registered_is_tried_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    _, name = session.classify(png(drawn("classify").pixels))

    def refuse(session: Session, resource: Resource) -> None:
        raise NotFound("not now")

    with monkeypatch.context() as patched:
        patched.setattr(plugin, "register", refuse)
        with pytest.raises(NotFound, match="not now"):
            session.resources  # noqa: B018
    assert session.annotated_image(name).size
    assert [resource.blobs()[0].name for resource in session.resources] == [name]


def test_looking_at_pictures_while_others_come_finds_whole_ones(session: Session):
    image = png(drawn("classify").pixels)

    def work(i: int) -> None:
        for _ in range(20):
            session.classify(image)
            assert len(session.resources) <= kept.KEPT

    at_once(work)
    assert len(session.resources) == kept.KEPT


def test_large_pictures_are_kept_in_smaller_number(
    session: Session, monkeypatch: pytest.MonkeyPatch
):
    image = png(drawn("classify").pixels)
    monkeypatch.setattr(kept, "KEPT_BYTES", 2 * len(image) + 1)
    for _ in range(4):
        session.classify(image)
    assert len(session.resources) == 2
    monkeypatch.setattr(kept, "KEPT_BYTES", 1)
    _, name = session.classify(image)
    assert [resource.blobs()[0].name for resource in session.resources] == [name]


def test_sessions_do_not_see_each_others_images(session: Session):
    with Session() as other:
        _, name = other.classify(drawn("classify").pixels)
        with pytest.raises(NotFound, match=r"no annotated picture .* the last 8: none"):
            session.annotated_image(name)


def test_nothing_is_left_of_a_session(session: Session):
    from vaccel import runtime

    before = set(runtime.current()._open)
    with Session() as other:
        model_of(other, (MODELS / "classify.onnx").read_bytes()).close()
        other.detect(drawn("detect").pixels)
    assert set(runtime.current()._open) == before
    assert other not in plugin.annotations._kept
    assert len(plugin.image_models) == 0


def test_the_callers_memory_is_not_kept(session: Session):
    content = bytearray(png(drawn("classify").pixels))
    _, name = session.classify(content)
    content[:] = bytes(len(content))
    assert session.annotated_image(name).size


def test_an_image_that_was_unregistered_is_gone(session: Session):
    name = session.detect(drawn("detect").pixels)
    (resource,) = session.resources
    resource.unregister(session)
    with pytest.raises(NotFound, match="no annotated picture"):
        session.annotated_image(name)


# -- models ------------------------------------------------------------------------------------


def folder_with(folder: Path, task: str, **changes: Any) -> Path:
    """A copy of a model and its description, with other words in it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(MODELS / f"{task}.onnx", folder / "model.onnx")
    sidecar = json.loads((MODELS / f"{task}.vaccel.json").read_text()) | changes
    (folder / "model.vaccel.json").write_text(json.dumps(sidecar))
    return folder / "model.onnx"


def registered(session: Session, *paths: Path) -> Resource:
    resource = Resource(list(paths), ResourceType.MODEL)
    resource.register(session)
    return resource


def test_a_registered_model_goes_before_the_one_that_comes_with_vaccel(
    session: Session, tmp_path: Path
):
    image = drawn("classify").pixels
    usual = session.classify(image)[0]
    resource = registered(session, folder_with(tmp_path, "classify", names=list("abcdef")))
    assert session.classify(image)[0] == "abcdef"[SHAPES.index(usual)]
    resource.unregister(session)
    assert session.classify(image)[0] == usual


def test_the_last_registered_model_that_is_for_the_operation_counts(
    session: Session, tmp_path: Path
):
    image = drawn("classify").pixels
    registered(session, folder_with(tmp_path / "a", "classify", names=list("abcdef")))
    registered(session, folder_with(tmp_path / "b", "classify", names=list("ghijkl")))
    registered(session, folder_with(tmp_path / "c", "depth"))
    assert session.classify(image)[0] in "ghijkl"
    assert session.depth_map(image).shape == (64, 64)


def test_a_registered_model_works_through_an_agent(
    sessions: tuple[Session, Session], tmp_path: Path
):
    model = folder_with(tmp_path, "detect", names=list("abcdef"))
    image = drawn("detect").pixels
    for session in sessions:
        registered(session, model, model.with_name("model.vaccel.json"))
    (_, mine, _, names), (_, others, _, same) = (s.detect_boxes(image) for s in sessions)
    assert names == same == list("abcdef")
    assert mine.tobytes() == others.tobytes()


def test_a_model_in_memory_says_itself_what_it_needs(session: Session):
    model_of(session, (MODELS / "classify.onnx").read_bytes(), "model.onnx")
    # Its metadata have the task and the names, but not how pixels become numbers.
    with pytest.raises(InvalidArgument, match=r"rescale_factor is not known.*MODEL\.vaccel\.json"):
        session.classify(drawn("classify").pixels)


def test_a_model_and_its_description_in_memory(session: Session):
    files = [MODELS / "classify.onnx", MODELS / "classify.vaccel.json"]
    blobs = [Blob(file.name, memoryview(file.read_bytes())) for file in files]
    Resource.from_blobs(blobs, ResourceType.MODEL).register(session)
    assert session.classify(drawn("classify").pixels)[0] in SHAPES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a model that can be loaded"),
        (b"junk" * 1000, "not a model that can be loaded"),
        (b"\x08\x07\x12\x03abc", "not a model that can be loaded"),
    ],
    ids=["empty", "junk", "nearly"],
)
def test_what_is_no_model_is_said(session: Session, content: bytes, message: str):
    resource = model_of(session, content, "some.onnx")
    expected = rf"^classify: expected a model for classify .*resource {resource.id} \(some.onnx\): "
    with pytest.raises(InvalidArgument, match=expected + message):
        session.classify(drawn("classify").pixels)


def test_a_model_for_something_else_is_named(session: Session):
    registered(session, MODELS / "depth.onnx")
    message = r"detect_boxes: expected a model for detect .*\(depth.onnx\): is for depth; without"
    with pytest.raises(InvalidArgument, match=message):
        session.detect_boxes(drawn("detect").pixels)


@EVERY_TASK
def test_the_advice_for_a_model_of_unknown_task_names_the_one_that_was_asked_for(
    task: str, sessions: tuple[Session, Session], tmp_path: Path
):
    path = folder_with(tmp_path, task)
    path.write_bytes(without_metadata(path))
    said = json.loads(path.with_name("model.vaccel.json").read_text())
    del said["task"]
    path.with_name("model.vaccel.json").write_text(json.dumps(said))
    for session in sessions:
        registered(session, path)
        with pytest.raises(InvalidArgument, match=f'task is not known: .*"task": "{task}"'):
            getattr(session, FULL[task])(drawn(task).pixels)


def without_metadata(path: Path) -> bytes:
    made = pytest.importorskip("onnx").load(path)
    del made.metadata_props[:]
    return bytes(made.SerializeToString())


def test_a_model_is_used_once_its_description_is_as_the_error_says(
    session: Session, tmp_path: Path
):
    path = folder_with(tmp_path, "classify")
    sidecar = path.with_name("model.vaccel.json")
    content = sidecar.read_text()
    sidecar.unlink()
    registered(session, path)
    image = drawn("classify").pixels
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="rescale_factor is not known"):
            session.classify(image)
    sidecar.write_text(json.dumps(json.loads(content) | {"names": list("abcdef")}))
    assert session.classify(image)[0] in "abcdef"


def test_resources_for_other_engines_are_passed_over(sessions: tuple[Session, Session]):
    torch_file, lite_file = b"PK\x03\x04 and so on", b"\x1c\0\0\0TFL3 and so on"
    image = drawn("classify").pixels
    for session in sessions:
        usual = session.classify(image)[0]
        for content, name in (
            (torch_file, "l.pt"),
            (lite_file, "l.tflite"),
            (torch_file, "unnamed"),
            (b"\x08\x01\x12\x00", "saved_model.pb"),
        ):
            model_of(session, content, name)
        assert session.classify(image)[0] == usual
        model_of(session, b"\x08\x08\x12 nearly", "unnamed")
        with pytest.raises(InvalidArgument, match=r"\(unnamed\): not a model"):
            session.classify(image)


@pytest.mark.parametrize("content", [b"", b"damaged", (MODELS / "classify.onnx").read_bytes()])
def test_what_is_described_for_pictures_is_never_passed_over(
    content: bytes, sessions: tuple[Session, Session]
):
    blobs = [Blob("net", memoryview(content)), Blob("labels.txt", memoryview(b"x\ny\n"))]
    for session in sessions:
        resource = Resource.from_blobs(blobs, ResourceType.MODEL).describe({"task": "classify"})
        resource.register(session)
        with pytest.raises(InvalidArgument, match=r"expected one file of \.onnx, \.ort, found net"):
            session.classify(drawn("classify").pixels)


def test_a_model_among_files_without_telling_names_is_not_passed_over(session: Session):
    content = (MODELS / "classify.onnx").read_bytes()
    blobs = [Blob("labels.txt", memoryview(b"x\ny\n")), Blob("net", memoryview(content))]
    Resource.from_blobs(blobs, ResourceType.MODEL).register(session)
    with pytest.raises(InvalidArgument, match=r"expected one file of \.onnx, \.ort, found labels"):
        session.classify(drawn("classify").pixels)


def test_a_file_that_becomes_a_model_is_seen_with_the_next_call(session: Session, tmp_path: Path):
    path = tmp_path / "net"
    path.write_bytes(b"")
    registered(session, path)
    image = drawn("classify").pixels
    session.classify(image)
    shutil.copy(MODELS / "classify.onnx", path)
    with pytest.raises(InvalidArgument, match="rescale_factor is not known"):
        session.classify(image)


def test_models_loaded_for_their_tensors_are_passed_over_unless_they_fit(
    sessions: tuple[Session, Session], tmp_path: Path
):
    models = pytest.importorskip("tests.inference.models", reason="pip install onnx")
    tensors = models.mean_colour(np.eye(3, dtype="f4"), np.zeros(3, "f4"))  # says no task
    image = drawn("classify").pixels
    mine = folder_with(tmp_path, "classify", names=list("abcdef"))
    for session in sessions:
        usual = session.classify(image)[0]
        resource = model_of(session, tensors, "tensors.onnx")
        with pytest.raises(InvalidArgument, match="task is not known"):
            session.classify(image)
        session.onnx_model_load(resource)
        assert session.classify(image)[0] == usual
        fitting = registered(session, mine)
        session.onnx_model_load(fitting)
        assert session.classify(image)[0] in "abcdef"
        session.onnx_model_unload(resource)
        fitting.close()
        with pytest.raises(InvalidArgument, match="task is not known"):
            session.classify(image)


def test_a_cut_off_model_is_refused_here_and_there(sessions: tuple[Session, Session]):
    content = (MODELS / "detect.onnx").read_bytes()
    for session in sessions:
        model_of(session, content[: len(content) // 2], "model.onnx")
        with pytest.raises(InvalidArgument, match="not a model that can be loaded"):
            session.detect(drawn("detect").pixels)


def test_a_model_is_loaded_once_for_all_sessions(session: Session, tmp_path: Path):
    resource = registered(session, folder_with(tmp_path, "classify"))
    with Session() as other:
        resource.register(other)
        image = drawn("classify").pixels
        session.classify(image)
        other.classify(image)
        assert len(plugin.image_models) == 1
        mine, its = (plugin.image_models.get(s, resource) for s in (session, other))
        assert mine is its
    assert len(plugin.image_models) == 1
    resource.unregister(session)
    assert len(plugin.image_models) == 0


def test_an_unloaded_model_goes_at_once(session: Session, tmp_path: Path):
    resource = registered(session, folder_with(tmp_path, "classify"))
    session.classify(drawn("classify").pixels)
    loaded: Any = plugin.image_models.load(session.core, resource.core)
    engine = weakref.ref(loaded._engine)
    del loaded
    assert engine() is not None
    gc.collect()
    gc.disable()
    try:
        resource.close()
        assert engine() is None, "not only when the garbage collector comes by"
    finally:
        gc.enable()


def test_many_threads_get_the_same_answers(session: Session):
    images = [drawn("detect", seed).pixels for seed in range(8)]
    expected = [session.detect_boxes(image)[0].tobytes() for image in images]

    def work(i: int) -> None:
        for k in range(8):
            number = (i + k) % 8
            assert session.detect_boxes(images[number])[0].tobytes() == expected[number]
            session.detect(images[number])

    at_once(work)
    assert len(session.resources) == kept.KEPT


# -- pictures that are none --------------------------------------------------------------------


@pytest.mark.parametrize("operation", [*FULL, *FULL.values()])
def test_hostile_pictures_are_refused_here_and_there(
    operation: str, sessions: tuple[Session, Session]
):
    whole = png(drawn("classify").pixels)
    hostile = [b"", b"no picture", whole[: len(whole) // 2], b"P6 60000 60000 255\n"]
    for content in hostile:
        messages = []
        for session in sessions:
            with pytest.raises(InvalidArgument, match=rf"^{operation}: image: expected ") as info:
                getattr(session, operation)(content)
            messages.append(info.value.message)
        assert messages[0] == messages[1]
    for session in sessions:
        getattr(session, operation)(whole)


# -- processes ---------------------------------------------------------------------------------


@pytest.mark.subprocess
def test_a_forked_child_has_models_of_its_own():
    program = """
        import os, numpy as np, vaccel
        vaccel.bootstrap(vaccel.Config(plugins="vaccel.plugins.onnx"))
        image = np.full((64, 64, 3), 90, np.uint8)
        with vaccel.Session() as session:
            before = session.classify(image)[0]
            child = os.fork()
            if child == 0:
                vaccel.bootstrap(vaccel.Config(plugins="vaccel.plugins.onnx"))
                with vaccel.Session() as session:
                    same = session.classify(image)[0] == before
                vaccel.cleanup()
                os._exit(0 if same else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert session.classify(image)[0] == before
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.subprocess
@pytest.mark.parametrize("missing", ["onnxruntime", "PIL"])
def test_without_the_extra_the_error_says_what_to_install(missing: str):
    program = f"""
        import sys
        sys.modules[{missing!r}] = None
        import vaccel
        try:
            vaccel.bootstrap(vaccel.Config(plugins="vaccel.plugins.onnx"))
        except vaccel.error.FFIError as exc:
            print(exc.message)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "pip install 'vaccel[onnx]'" in done.stdout


# -- the examples that come with vaccel --------------------------------------------------------


def test_the_example_pictures_give_what_they_show(session: Session):
    def example(task: str) -> bytes:
        return (MODELS.parent / "examples" / f"{task}.jpg").read_bytes()

    assert session.classify(example("classify"))[0] == "plus"
    _, scores, classes, names = session.detect_boxes(example("detect"))
    assert sorted(names[label] for label in classes) == ["ring", "star", "star", "triangle"]
    assert scores.min() > 0.8
    mask, names = session.segment_mask(example("segment"))
    shown = [name for i, name in enumerate(names) if (mask == i).mean() > 0.02]
    assert shown == ["background", "square", "star", "ring"]
    points, _ = session.pose_keypoints(example("pose"))
    assert points[0, :, 2].min() > 0.3
    depth = session.depth_map(example("depth"))
    assert depth[-1].mean() > 3 * depth[0].mean()


# -- vaccel run --show -------------------------------------------------------------------------


def show(*words: str) -> int:
    return main.main(["run", *words, "--show"])


@pytest.mark.parametrize("operation", ["classify", "depth"])
def test_show_saves_the_image_in_a_new_file_and_prints_its_path(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    picture = str(MODELS.parent / "examples" / f"{operation}.jpg")
    for number in (1, 2):
        assert show(operation, picture, "--plugins", "vaccel.plugins.onnx") == 0
        path = Path(capsys.readouterr().out.splitlines()[-1])
        assert path == tmp_path / f"{operation}.{number}.png"
        assert Image.open(io.BytesIO(path.read_bytes())).format == "PNG"


def test_show_says_where_there_is_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    picture = str(MODELS.parent / "examples" / "classify.jpg")
    assert show("classify", picture, "--plugins", "noop") == 1
    assert "--show: expected an image, found none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        show("noop")
    assert "--show: expected one of classify, detect, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
