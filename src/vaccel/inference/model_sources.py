"""Where descriptions of image models are found. What is read there may be anything.

Each source becomes a mapping with the keys of model_keys.CHECKS, its values unchecked.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaccel.error import InvalidArgument
from vaccel.inference import model_keys as keys

SIDECAR = ".vaccel.json"
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


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None if there is no file. InvalidArgument: it is no JSON object."""
    content = _read(path)
    if content is None:
        return None
    try:
        value = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"{path.name}: expected JSON, found {exc}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path.name}: expected a JSON object, found {type(value).__name__}")
    return value


def _read(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as exc:
        raise InvalidArgument(f"{path.name}: cannot be read: {exc}") from None
    if len(content) > LARGEST:
        raise InvalidArgument(f"{path.name}: expected at most {LARGEST} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"{path.name}: expected UTF-8: {exc}") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON")


def sidecar(path: Path) -> Mapping[str, Any]:
    """The file MODEL.vaccel.json beside MODEL.onnx; its keys are ours, so all must be known."""
    beside = path.with_name(path.stem + SIDECAR)
    return known_only(read_json(beside) or {}, beside.name)


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


def preprocessor(config: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """Hugging Face's preprocessor_config.json, with the defaults that it leaves unsaid."""

    def on(key: str, default: bool) -> bool:
        return bool(keys.checked(keys.flag, origin, key, config.get(key, default)))

    config = {key: value for key, value in config.items() if value is not None}
    copied = ("do_resize", "size", "resample", "image_mean", "image_std")
    found = {key: config[key] for key in copied if key in config}
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


def config(config: Mapping[str, Any], origin: str) -> Mapping[str, Any]:
    """Hugging Face's config.json: names, task and layout of the outputs."""
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


def labels(path: Path) -> Mapping[str, Any]:
    """labels.txt: a name on each line."""
    content = _read(path)
    if content is None or not content.strip():
        return {}
    return {"names": [line.strip() for line in content.rstrip().splitlines()]}
