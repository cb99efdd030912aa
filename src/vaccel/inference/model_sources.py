"""Where descriptions of image models are found. What is read there may be anything.

Each source becomes a mapping with the keys of model_keys.CHECKS, its values unchecked.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument
from vaccel.inference import model_keys as keys
from vaccel.sources import described

if TYPE_CHECKING:
    from vaccel.blob import Blob

GIVEN = "description"
METADATA = "the model's metadata"
LARGEST = 2**23
"""Bytes of a file, or of an entry of metadata: the names of 100 000 classes fit."""

LONGEST = 2**20
"""Characters of a Python literal."""

# A literal of texts, numbers, lists and dictionaries, in one pass however it ends. No arithmetic:
# Python would build a tree as deep as the sum is long.
_LITERAL = re.compile(
    r"""(?:
        '[^'\\]*(?:\\.[^'\\]*)*' | "[^"\\]*(?:\\.[^"\\]*)*"
        | [\[\](){},:\s]
        | (?:-?\d[\d.e]*|True|False|None)(?=[\[\](){},:\s]|\Z)
    )*""",
    re.DOTALL | re.VERBOSE,
)

_ARCHITECTURES = (
    ("ForImageClassification", "classify"),
    ("ForObjectDetection", "detect"),
    ("ForSemanticSegmentation", "segment"),
    ("ForPoseEstimation", "pose"),
    ("ForDepthEstimation", "depth"),
)
_FORMATS = {
    **dict.fromkeys(("detr", "yolos", "table-transformer"), "detr"),
    **dict.fromkeys(
        ("conditional_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "d_fine"), "detr_sigmoid"
    ),
    "vitpose": "heatmaps_udp",
    **dict.fromkeys(("glpn", "zoedepth"), "metric_depth"),
}
"""The layout of the outputs by Hugging Face's model_type, where shapes do not tell."""


def assumed(key: str, origin: str) -> bool:
    """The source does not say `key` itself: what is plain otherwise counts before it."""
    return (key, origin) == ("layout", described.PREPROCESSOR)


_Reader = Callable[[memoryview, str], Mapping[str, Any]]


def in_order(
    model: str, files: Sequence[Blob], entries: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What each source says of `model`, one of `files`, and the source's name; the first counts.

    `entries` are the model's own metadata. InvalidArgument: a source is not what it should be.
    """
    contents = {blob.name: blob.data for blob in files}
    folder = model.removesuffix(model.rpartition("/")[2])

    def read(name: str, reader: _Reader) -> tuple[Mapping[str, Any], str]:
        origin = GIVEN if name == described.GIVEN else name.removeprefix(folder)
        content = contents.get(name)
        return ({} if content is None else reader(content, origin)), origin

    yield read(described.GIVEN, _ours)
    yield read(described.sidecar(model), _ours)
    yield metadata(entries), METADATA
    yield read(folder + described.PREPROCESSOR, preprocessor)
    yield read(folder + described.CONFIG, config)
    yield read(folder + described.LABELS, labels)


def _ours(content: memoryview, origin: str) -> Mapping[str, Any]:
    """A description by our keys, all of which must be known."""
    return known_only(read_json(content, origin), origin)


def read_json(content: memoryview, name: str) -> dict[str, Any]:
    """The object in a file. InvalidArgument: it is no JSON object."""
    text = _text(content, name)
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"{name}: expected JSON, found {exc}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name}: expected a JSON object, found {type(value).__name__}")
    return value


def _text(content: memoryview, name: str) -> str:
    if content.nbytes > LARGEST:
        raise InvalidArgument(f"{name}: expected at most {LARGEST} bytes")
    try:
        return str(content, "utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"{name}: expected UTF-8: {exc}") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON")


def known_only(source: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """`source`. InvalidArgument: it has a key that says nothing to us."""
    for key in source:
        if key not in keys.CHECKS:
            raise InvalidArgument(
                f"{origin}: expected the keys {', '.join(keys.CHECKS)}, found {str(key)[:60]!r}"
            )
    return source


def metadata(entries: Mapping[str, str]) -> Mapping[str, Any]:
    """A model's own metadata: our keys as text, and those that Ultralytics writes."""
    found = {
        key: text.strip() if key in keys.TEXTS else _parsed(key, text)
        for key, text in entries.items()
        if key in keys.CHECKS
    }
    return _ultralytics(entries, found) | found if "imgsz" in entries else found


def _parsed(key: str, text: str) -> Any:
    """A value written as JSON or as a Python literal; failing both the text itself."""
    if len(text) > LARGEST:
        raise InvalidArgument(f"{METADATA}: {key}: expected at most {LARGEST} characters")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        pass
    if len(text) <= LONGEST and _LITERAL.fullmatch(text):
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return text


def _ultralytics(entries: Mapping[str, str], found: dict[str, Any]) -> dict[str, Any]:
    """What Ultralytics' models need: RGB from 0 to 1, put into the middle of a grey square."""
    usual: dict[str, Any] = {
        "layout": "NCHW",
        "size": _parsed("imgsz", entries["imgsz"]),
        "rescale_factor": 1 / 255,
        "resize_mode": "letterbox",
        "pad_value": 114,
    }
    task = found.get("task")
    if task == "classify":
        usual |= {"resize_mode": "crop"}
    if task == "detect" and _parsed("end2end", entries.get("end2end", "")) is True:
        usual |= {"output_format": "end_to_end"}
    if task == "pose":
        # Their names are those of the classes of things that have a pose.
        found.pop("names", None)
        points = _parsed("kpt_names", entries.get("kpt_names", ""))
        if isinstance(points, dict) and points:
            usual |= {"names": next(iter(points.values()))}
    return usual


def preprocessor(content: memoryview, origin: str) -> Mapping[str, Any]:
    """Hugging Face's preprocessor_config.json, with the defaults that it leaves unsaid."""
    config = {k: v for k, v in read_json(content, origin).items() if v is not None}

    def on(key: str, default: bool) -> bool:
        return bool(keys.checked(keys.flag, origin, key, config.get(key, default)))

    copied = ("do_resize", "size", "resample", "image_mean", "image_std")
    found = {key: config[key] for key in copied if key in config}
    found["layout"] = "NCHW"  # of PyTorch, from which such models are exported: see `assumed`
    factor = config.get("rescale_factor", 1 / 255)
    found["rescale_factor"] = factor if on("do_rescale", True) else 1.0
    if not on("do_normalize", "image_mean" in found):
        found |= {"image_mean": 0.0, "image_std": 1.0}
    elif "image_mean" not in found:
        del found["rescale_factor"]  # alone it would say that this is all that is done to pixels
    if on("do_flip_channel_order", False):
        found["color_order"] = "BGR"
    if on("do_center_crop", False):
        found["resize_mode"] = "crop"
        if "crop_size" in config:
            found["crop_size"] = config["crop_size"]
    elif "crop_pct" in config:
        found |= _cropped_part(config, origin)
    elif on("do_pad", False) or "shortest_edge" in _mapping(config.get("size")):
        found |= {"resize_mode": "letterbox", "pad_value": _mean_pixel(found, origin)}
    else:
        found["resize_mode"] = "stretch"
    return found


def _cropped_part(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """crop_pct: smaller inputs than 384 are the middle of a picture that is so much larger."""
    size = keys.checked(keys.size, origin, "size", config.get("size"))
    part = keys.checked(keys.positive, origin, "crop_pct", config["crop_pct"])
    side = size.shortest or min(size.exact)
    if side >= 384:
        return {"resize_mode": "stretch", "size": side}
    larger = {"shortest_edge": max(1, int(side / part))}
    return {"resize_mode": "crop", "size": larger, "crop_size": side}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mean_pixel(found: Mapping[str, Any], origin: str) -> float:
    """The margin's colour. Hugging Face pads with zeros after the mean has been subtracted."""
    if "image_mean" not in found:
        return 0.0
    mean = keys.checked(keys.CHECKS["image_mean"], origin, "image_mean", found["image_mean"])
    factor = keys.checked(keys.positive, origin, "rescale_factor", found["rescale_factor"])
    return float(min(max(round(sum(mean) / 3 / factor), 0), 255))


def config(content: memoryview, origin: str) -> Mapping[str, Any]:
    """Hugging Face's config.json: names, task and layout of the outputs."""
    config = read_json(content, origin)
    found: dict[str, Any] = {}
    architectures = config.get("architectures")
    if isinstance(architectures, list):
        for end, task in _ARCHITECTURES:
            if any(isinstance(one, str) and one.endswith(end) for one in architectures):
                found["task"] = task
    if config.get("id2label") is not None:
        found["names"] = config["id2label"]
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in _FORMATS:
        found["output_format"] = _FORMATS[kind]
    if kind == "depth_anything" and config.get("depth_estimation_type") == "metric":
        found["output_format"] = "metric_depth"
    return found


def labels(content: memoryview, name: str) -> Mapping[str, Any]:
    """labels.txt: a name on each line."""
    text = _text(content, name)
    return {"names": [line.strip() for line in text.rstrip().splitlines()]} if text.strip() else {}
