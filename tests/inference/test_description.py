"""What is known of a model comes from the first source that says it, or is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaccel.blob import ResourceType
from vaccel.error import InvalidArgument
from vaccel.inference import model_keys, model_sources
from vaccel.inference.description import MOST_PIXELS, Description, describe
from vaccel.inference.layouts import FORMATS
from vaccel.sources import described

IMAGES = [("images", [1, 3, 224, 224], np.dtype(np.float32))]
OPEN = [("pixel_values", ["batch", "num_channels", "height", "width"], np.dtype(np.float32))]
SCORES = [("logits", [1, 3], np.dtype(np.float32))]
UNKNOWN = [("made", [None, None, None], np.dtype(np.float32))]
PLAIN: dict[str, Any] = {"task": "classify", "rescale_factor": 1.0}

SIDECAR = "model.vaccel.json"
PREPROCESSOR = "preprocessor_config.json"
CONFIG = "config.json"


def beside(folder: Path, **files: Any) -> Path:
    """A model's path, with files beside it: JSON, text or bytes by their short names."""
    names = {"sidecar": SIDECAR, "preprocessor": PREPROCESSOR, "config": CONFIG}
    for short, content in files.items():
        path = folder / names.get(short, f"{short}.txt")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "model.onnx"


def of(
    path: Path | None = None,
    metadata: Mapping[str, str] | None = None,
    inputs: Any = IMAGES,
    outputs: Any = UNKNOWN,
    **explicit: Any,
) -> Description:
    files = described.beside([(path.name, path)]) if path else []
    files += described.written(explicit, ResourceType.MODEL)
    return describe("model.onnx", files, metadata or {}, inputs, outputs)


# Where each key comes from


def test_each_key_comes_from_the_first_source_that_has_it(tmp_path: Path):
    names = [["explicit"], ["sidecar"], ["metadata"], ["config"], ["labels"]]
    explicit, sidecar, metadata, config, labels = (one * 3 for one in names)
    path = beside(
        tmp_path,
        sidecar={"names": sidecar, "rescale_factor": 0.5},
        preprocessor={"rescale_factor": 0.25, "resample": 3, "size": 224},
        config={
            "id2label": {str(i): name for i, name in enumerate(config)},
            "architectures": ["ResNetForImageClassification"],
        },
        labels="\n".join(labels) + "\n",
    )
    entries = {"names": json.dumps(metadata), "resample": "lanczos"}
    description = of(path, entries, outputs=SCORES, names=explicit)
    assert description.names == tuple(explicit)
    assert of(path, entries).names == tuple(sidecar)
    assert (description.rescale_factor, description.resample) == (0.5, "lanczos")
    assert (description.task, description.output_format) == ("classify", "scores")

    (tmp_path / SIDECAR).unlink()
    assert of(path, entries).names == tuple(metadata)
    assert (of(path).names, of(path).resample) == (tuple(config), "bicubic")
    (tmp_path / CONFIG).unlink()
    assert of(path, task="classify").names == tuple(labels)


def test_a_model_in_memory_has_no_neighbours():
    with pytest.raises(InvalidArgument, match=r'task is not known.*"task": "classify"'):
        of(None)


def test_all_keys_of_a_sidecar_are_taken(tmp_path: Path):
    path = beside(
        tmp_path,
        sidecar={
            "task": "object-detection",
            "names": {"0": "cat", "2": "owl"},
            "layout": "NCHW",
            "color_order": "BGR",
            "dtype": "float32",
            "do_resize": True,
            "resize_mode": "letterbox",
            "size": {"height": 224, "width": 224},
            "resample": "BICUBIC",
            "rescale_factor": 0.5,
            "image_mean": [1, 2, 3],
            "image_std": 4,
            "pad_value": 114,
            "output_format": "ssd",
            "outputs": {"boxes": "a"},
            "thresholds": {"score": 0.5},
        },
    )
    assert of(path) == Description(
        task="detect",
        input_size=(224, 224),
        names=("cat", "1", "owl"),
        color_order="BGR",
        resize_mode="letterbox",
        resample="bicubic",
        rescale_factor=0.5,
        image_mean=(1, 2, 3),
        image_std=(4, 4, 4),
        pad_value=114,
        output_format="ssd",
        outputs={"boxes": "a"},
        thresholds={"score": 0.5, "iou": 0.7, "keypoint": 0.3},
    )


PERSON_AND_QUOTES = """{0: 'person', 1: "bird's nest", 2: 'a \\'quoted\\' name'}"""


@pytest.mark.parametrize("task", ["detect", "classify", "pose"])
def test_what_ultralytics_writes_is_understood(task: str):
    entries = {
        "description": "Ultralytics model",
        "author": "Ultralytics",
        "stride": "32",
        "task": task,
        "imgsz": "[224, 224]",
        "names": PERSON_AND_QUOTES,
        "args": "{'batch': 1, 'half': False}",
    }
    description = of(None, entries)
    names = ("person", "bird's nest", "a 'quoted' name")
    assert description == Description(
        task=task,
        input_size=(224, 224),
        names=() if task == "pose" else names,
        resize_mode="crop" if task == "classify" else "letterbox",
        crop_size=(224, 224) if task == "classify" else None,
        rescale_factor=1 / 255,
        pad_value=114,
        thresholds=description.thresholds,
    )


def test_keypoints_of_ultralytics_have_shape_and_names():
    entries = {
        "task": "pose",
        "imgsz": "[224, 224]",
        "names": "{0: 'person'}",
        "kpt_shape": "[2, 3]",
        "kpt_names": "{0: ['nose', 'toe']}",
    }
    outputs = [("output0", [1, 11, 9], np.dtype(np.float32))]
    description = of(None, entries, outputs=outputs)
    assert description.kpt_shape == (2, 3)
    assert description.names == ("nose", "toe")
    assert description.output_format == "yolo_pose"


def test_an_end_to_end_export_of_one_class_says_so_itself():
    outputs = [("output0", [1, 300, 6], np.dtype(np.float32))]
    entries = {"task": "detect", "imgsz": "[224, 224]", "names": "{0: 'thing'}"}
    with pytest.raises(InvalidArgument, match="yolov5 and end_to_end"):
        of(None, entries, outputs=outputs)
    assert of(None, entries | {"end2end": "True"}, outputs=outputs).output_format == "end_to_end"


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
MEAN_PIXEL = 114  # of IMAGENET


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"size": 224, "do_normalize": True, "resample": 2},
            {"input_size": (224, 224), "resize_mode": "stretch"},
        ),
        (
            {"size": {"height": 224, "width": 224}, "resample": 3},
            {"input_size": (224, 224), "resize_mode": "stretch", "resample": "bicubic"},
        ),
        (
            {
                "size": {"shortest_edge": 256},
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
            },
            {"input_size": (256, 256), "resize_mode": "crop", "crop_size": (224, 224)},
        ),
        (
            {"size": 256, "do_center_crop": True, "crop_size": 224},
            {"input_size": (256, 256), "resize_mode": "crop", "crop_size": (224, 224)},
        ),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
            {"input_size": (256, 256), "resize_mode": "crop", "crop_size": (224, 224)},
        ),
        (
            {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": True},
            {"input_size": (224, 224), "resize_mode": "letterbox", "pad_value": MEAN_PIXEL},
        ),
        ({"do_flip_channel_order": True}, {"color_order": "BGR"}),
        ({"do_rescale": False}, {"rescale_factor": None}),
        ({"rescale_factor": 0.5}, {"rescale_factor": 0.5}),
        ({"do_normalize": False}, {"image_mean": None, "image_std": None}),
        ({"do_resize": False, "do_pad": None}, {"do_resize": False, "input_size": (224, 224)}),
    ],
)
def test_hugging_face_preprocessors_are_understood(
    tmp_path: Path, config: dict[str, Any], expected: dict[str, Any]
):
    path = beside(tmp_path, preprocessor=IMAGENET | config)
    description = of(path, task="classify")
    usual = {
        "rescale_factor": 1 / 255,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
    }
    for key, value in (usual | expected).items():
        assert getattr(description, key) == value, key


def test_hugging_faces_open_axes_are_channels_first_unless_something_else_is_plain(tmp_path: Path):
    path = beside(tmp_path, preprocessor=IMAGENET | {"size": 224})
    assert of(path, inputs=OPEN, task="classify").layout == "NCHW"
    assert of(path, {"layout": "NHWC"}, inputs=OPEN, task="classify").layout == "NHWC"
    assert of(path, inputs=OPEN, task="classify", layout="NHWC").layout == "NHWC"
    last = [("pixel_values", ["batch", "height", "width", 3], np.dtype(np.float32))]
    assert of(path, inputs=last, task="classify").layout == "NHWC"
    with pytest.raises(InvalidArgument, match="layout is not known"):
        of(None, inputs=OPEN, size=224, **PLAIN)


def test_an_open_input_gets_the_size_that_the_preprocessor_says(tmp_path: Path):
    path = beside(tmp_path, preprocessor=IMAGENET | {"size": {"shortest_edge": 480}})
    description = of(path, inputs=OPEN, task="depth", layout="NCHW")
    assert (description.input_size, description.resize_mode) == ((480, 480), "letterbox")


@pytest.mark.parametrize(
    ("config", "task", "output_format"),
    [
        ({"architectures": ["ViTForImageClassification"]}, "classify", None),
        ({"architectures": ["YolosForObjectDetection"], "model_type": "yolos"}, "detect", "detr"),
        (
            {"architectures": ["RTDetrForObjectDetection"], "model_type": "rt_detr"},
            "detect",
            "detr_sigmoid",
        ),
        ({"architectures": ["SegformerForSemanticSegmentation"]}, "segment", None),
        (
            {"architectures": ["VitPoseForPoseEstimation"], "model_type": "vitpose"},
            "pose",
            "heatmaps_udp",
        ),
        ({"architectures": ["DPTForDepthEstimation"], "model_type": "dpt"}, "depth", None),
        (
            {
                "architectures": ["DepthAnythingForDepthEstimation"],
                "model_type": "depth_anything",
                "depth_estimation_type": "metric",
            },
            "depth",
            "metric_depth",
        ),
    ],
)
def test_hugging_face_configs_are_understood(
    tmp_path: Path, config: dict[str, Any], task: str, output_format: str | None
):
    path = beside(tmp_path, config=config, preprocessor=IMAGENET)
    description = of(path)
    assert (description.task, description.output_format) == (task, output_format)


# What is open, and what contradicts itself


@pytest.mark.parametrize(
    ("change", "key", "line"),
    [
        ({"task": None}, "task", '"task": "classify"'),
        ({"rescale_factor": None}, "rescale_factor", '"rescale_factor": 0.0039'),
        (
            {"rescale_factor": None, "image_mean": [123.7, 116.3, 103.5]},
            "rescale_factor",
            '"rescale_factor": 1',
        ),
    ],
)
def test_what_nothing_says_is_refused_with_the_line_that_would(
    change: dict[str, Any], key: str, line: str
):
    explicit = {name: value for name, value in (PLAIN | change).items() if value is not None}
    with pytest.raises(InvalidArgument) as caught:
        of(None, **explicit)
    assert str(caught.value).startswith(f"model: {key} is not known: ")
    assert "MODEL.vaccel.json" in str(caught.value)
    assert line in str(caught.value)


def test_mean_pixels_of_an_unnamed_kind_are_not_taken_for_none(tmp_path: Path):
    path = beside(tmp_path, preprocessor={"do_normalize": True, "size": 224})
    with pytest.raises(InvalidArgument, match=r"rescale_factor is not known.*image_mean"):
        of(path, task="classify")
    assert of(path, task="classify", image_mean=[0.5] * 3).rescale_factor == 1 / 255


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ([1, 3, 224, 224], "NCHW"),
        ([1, 224, 224, 3], "NHWC"),
        (["batch", 3, None, None], "NCHW"),
        ([-1, -1, -1, 3], "NHWC"),
    ],
)
def test_the_layout_is_told_by_the_channels(shape: list[Any], layout: str):
    inputs = [("images", shape, np.dtype(np.uint8))]
    assert of(None, inputs=inputs, task="classify", size=224).layout == layout


@pytest.mark.parametrize("shape", [[1, 3, 224, 3], [1, None, None, None]])
def test_a_layout_that_shapes_leave_open_is_refused(shape: list[Any]):
    inputs = [("images", shape, np.dtype(np.float32))]
    with pytest.raises(InvalidArgument, match=r'layout is not known.*"layout": "NCHW"'):
        of(None, inputs=inputs, **PLAIN)


@pytest.mark.parametrize(
    "shape", [[], [224, 224], [1, 1, 28, 28], [2, 3, 224, 224], [1, 3, 0, 224], [1, 3, 4, 4, 4]]
)
def test_an_input_that_is_no_picture_is_refused(shape: list[int]):
    inputs = [("images", shape, np.dtype(np.float32))]
    with pytest.raises(InvalidArgument, match=r"expected an input \[1, 3, height, width\].*images"):
        of(None, inputs=inputs, **PLAIN)


def test_an_input_of_texts_is_refused():
    inputs = [("images", [1, 3, 8, 8], np.dtype(object))]
    with pytest.raises(InvalidArgument, match="expected an input of numbers, found object"):
        of(None, inputs=inputs, **PLAIN)


@pytest.mark.parametrize("inputs", [[], IMAGES * 2])
def test_a_model_with_other_than_one_input_is_refused(inputs: Any):
    with pytest.raises(InvalidArgument, match="expected one input"):
        of(None, inputs=inputs, **PLAIN)


def test_a_model_of_any_size_needs_one_unless_pictures_stay_as_they_are():
    with pytest.raises(InvalidArgument, match=r'size is not known.*"size": {"height": 224'):
        of(None, inputs=OPEN, layout="NCHW", **PLAIN)
    kept = of(None, inputs=OPEN, layout="NCHW", do_resize=False, **PLAIN)
    assert kept.model_size is None
    assert of(None, inputs=OPEN, layout="NCHW", size=[10, 20], **PLAIN).model_size == (10, 20)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 256}, "description: size: expected 224 x 224, the size .* found 256 x 256"),
        ({"crop_size": 200}, "description: crop_size: expected 224 x 224, .* found 200 x 200"),
        ({"layout": "NHWC"}, "description: layout: expected one with 3 channels .* found NHWC"),
        ({"dtype": "uint8"}, "description: dtype: expected float32, the model's, found uint8"),
        ({"output_format": "yolov8"}, "output_format: expected one of scores, .*'yolov8'"),
    ],
)
def test_what_contradicts_the_model_is_refused(wrong: dict[str, Any], sentence: str):
    with pytest.raises(InvalidArgument, match=sentence):
        of(None, **PLAIN | wrong)


def test_an_input_too_large_for_memory_is_refused():
    side = 100_000
    inputs = [("images", [1, 3, side, side], np.dtype(np.float32))]
    with pytest.raises(InvalidArgument, match=f"at most {MOST_PIXELS} pixels, found 100000 x"):
        of(None, inputs=inputs, **PLAIN)


def test_bytes_need_no_scaling():
    inputs = [("images", [1, 224, 224, 3], np.dtype(np.uint8))]
    description = of(None, inputs=inputs, task="classify")
    assert (description.rescale_factor, description.image_mean) == (None, None)


def test_outputs_of_undeclared_shape_are_settled_when_they_are_made():
    assert of(None, outputs=[("logits", [], np.dtype(np.float32))], **PLAIN).output_format is None


def test_names_that_do_not_fit_the_outputs_are_refused():
    with pytest.raises(InvalidArgument, match=r"for 2 names: scores \[1, classes\].*found logits"):
        of(None, outputs=SCORES, names=["a", "b"], **PLAIN)


# Sources that hold something else

WRONG: dict[str, list[Any]] = {
    "task": ["obb", 3, None, ["detect"]],
    "names": [
        "cat",
        3,
        [1, 2],
        {"a": "cat"},
        {"-1": "cat"},
        {"1000000": "cat"},
        {"0": 1},
        {"¹": "a"},
    ],
    "layout": ["nchw", 1],
    "color_order": ["rgb", None],
    "dtype": ["text", "O", "U3", "f4,f4", "(99999999999,)f4", 1, None],
    "do_resize": ["true", 1, None],
    "resize_mode": ["fit"],
    "size": [0, -1, 2.5, "224", True, [1], [1, 2, 3], {"height": 3}, {}, None, 10**9],
    "crop_size": [{"shortest_edge": 224}, 0],
    "resample": ["cubic", 6, -1, True],
    "rescale_factor": [0, -1, "1/255", True, None, 1e300],
    "image_mean": [[1, 2], "mean", [1, 2, "3"], {}, [1e300] * 3],
    "image_std": [0, [1, 1, 0], []],
    "pad_value": [256, -1, "grey"],
    "output_format": ["yolov99", 3, None],
    "outputs": ["boxes", {"boxes": 1}, []],
    "kpt_shape": [17, [17], [17, 4], [0, 3], [17, True], ["17", 3]],
    "thresholds": [0.5, {"scores": 0.5}, {"score": 1.5}, {"score": "0.5"}],
}


def test_every_key_is_tried_with_wrong_values():
    assert set(WRONG) == set(model_keys.CHECKS)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values], ids=str
)
def test_a_wrong_value_is_refused_with_file_key_and_expectation(
    tmp_path: Path, key: str, value: Any
):
    path = beside(tmp_path, sidecar=PLAIN | {key: value})
    with pytest.raises(InvalidArgument) as caught:
        of(path)
    assert f"{key}: expected " in str(caught.value)
    assert ", found " in str(caught.value)
    assert len(str(caught.value)) < 400
    if key != "output_format":
        assert str(caught.value).startswith(f"{SIDECAR}: ")


def test_an_unknown_key_is_refused_with_those_known(tmp_path: Path):
    path = beside(tmp_path, sidecar=PLAIN | {"sizes": 3})
    with pytest.raises(
        InvalidArgument, match=f"{SIDECAR}: expected the keys task, .* found 'sizes'"
    ):
        of(path)
    with pytest.raises(
        InvalidArgument, match=r"description: expected the keys task, .* found 'sizes'"
    ):
        of(None, sizes=3)


def test_a_wrong_value_below_a_right_one_does_no_harm(tmp_path: Path):
    path = beside(tmp_path, sidecar=PLAIN, preprocessor={"size": "small", "image_mean": "none"})
    assert of(path, size=224, image_mean=0).input_size == (224, 224)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected JSON, found "),
        (b"[1]", "expected a JSON object, found list"),
        (b"{'task': 'classify'}", "expected JSON, found "),
        (b'{"rescale_factor": NaN}', "expected JSON, found NaN"),
        (b'{"rescale_factor": 1e999}', "rescale_factor: expected a number below a million"),
        (b'{"task": "classi', "expected JSON, found "),
        (b"\xff\xfe{\0}\0", "expected UTF-8"),
        (b"[" * 100_000, "expected JSON, found "),
        (b'{"size": ' + b"9" * 5000 + b"}", "expected "),
    ],
    ids=["empty", "list", "python", "nan", "infinite", "cut", "utf-16", "deep", "digits"],
)
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, content: bytes, sentence: str):
    path = beside(tmp_path, sidecar=content)
    with pytest.raises(InvalidArgument, match=f"{SIDECAR}: {sentence}"):
        of(path)


@pytest.mark.parametrize("name", [SIDECAR, PREPROCESSOR, CONFIG, "labels.txt"])
def test_a_file_too_large_is_not_read(tmp_path: Path, name: str):
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**40)  # takes no space on the disk
    with pytest.raises(InvalidArgument, match=f"{name}: expected at most {model_sources.LARGEST}"):
        of(tmp_path / "model.onnx", **PLAIN)


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / SIDECAR)  # would be waited for
    (tmp_path / CONFIG).mkdir()
    (tmp_path / "labels.txt").symlink_to("labels.txt")
    assert of(tmp_path / "model.onnx", **PLAIN).names == ()


@pytest.mark.parametrize(
    "text",
    [
        "-" * 100_000 + "1",
        "+".join("1" * 100_000),
        "1-" * 100_000 + "1",
        "(" * 100_000,
        "[" * 150 + "]" * 150,
        "{" * 50_000 + "}" * 50_000,
        "'" + "\\'" * 500_000,
        "'" * 999_999,
        "1" * 1_000_000,
        "[" + "'a'," * 200_000 + "]",
        "'\\N{",
        "__import__('os')",
        "'a' 'b'",
        "{[]: 'a'}",
        "{0: 'a'",
        "\0",
        "x" * (model_sources.LARGEST + 1),
    ],
    ids=lambda text: text[:6].encode("unicode_escape").decode(),
)
def test_names_that_would_keep_a_parser_busy_are_refused(text: str):
    with pytest.raises(InvalidArgument, match="the model's metadata: names: expected "):
        of(None, {"names": text}, **PLAIN)


KEYS = [
    *model_keys.CHECKS,
    *("do_rescale", "do_normalize", "do_center_crop", "do_pad", "crop_pct", "id2label"),
    *("architectures", "model_type", "depth_estimation_type", "do_flip_channel_order"),
    *("imgsz", "end2end", "kpt_names", "height", "width", "shortest_edge"),
]
LIKELY = st.sampled_from(
    [*FORMATS, *model_keys.TASKS, "NCHW", "NHWC", "RGB", "crop", "letterbox", "vitpose", 224, 256]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | LIKELY
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@given(sidecar=OBJECTS, preprocessor=OBJECTS, config=OBJECTS, plain=st.booleans())
def test_whatever_files_hold_they_describe_or_are_refused(
    folder: Path,
    sidecar: dict[str, Any],
    preprocessor: dict[str, Any],
    config: dict[str, Any],
    plain: bool,
):
    ours = {key: value for key, value in sidecar.items() if key in model_keys.CHECKS}
    path = beside(
        folder, sidecar=PLAIN | ours if plain else ours, preprocessor=preprocessor, config=config
    )
    describes_or_refuses(path, {})


@given(content=st.binary(max_size=40), labels=st.binary(max_size=40))
def test_whatever_bytes_are_in_files_they_describe_or_are_refused(
    folder: Path, content: bytes, labels: bytes
):
    describes_or_refuses(beside(folder, sidecar=content, labels=labels), {})


@given(
    st.dictionaries(
        st.sampled_from(KEYS), VALUES.map(repr) | VALUES.map(json.dumps) | st.text(), max_size=6
    )
)
def test_whatever_metadata_holds_it_describes_or_is_refused(metadata: dict[str, str]):
    describes_or_refuses(None, {"task": "classify", "imgsz": "[224, 224]"} | metadata)


def describes_or_refuses(path: Path | None, metadata: dict[str, str]) -> None:
    try:
        description = of(path, metadata)
    except InvalidArgument as exc:
        words = len(str(exc))
    else:
        words = 0
        assert description.task in model_keys.TASKS
        assert all(isinstance(name, str) for name in description.names)
    assert words < 1000
