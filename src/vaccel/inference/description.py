"""What has to be known of an image model to use it: its pictures, its outputs, its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.inference import model_keys as keys
from vaccel.inference import model_sources as sources
from vaccel.inference.layouts import THRESHOLDS, Output, Unsettled, settle
from vaccel.inference.model_keys import Fact, Size

if TYPE_CHECKING:
    from vaccel.blob import Blob

MOST_PIXELS = 2**25
"""Of a model's input: as floats 400 MB."""


@dataclass(frozen=True)
class Description:
    """An image model. Sizes are (height, width); values in pixels count from 0 to 255."""

    task: str
    """classify, detect, segment, pose or depth."""
    input_size: tuple[int, int] | None = None
    """What the picture is resized to; None: the model takes any size. With resize_mode crop the
    picture only just covers it, and `crop_size` is what the model gets."""
    names: tuple[str, ...] = ()
    """Of the classes, or of the keypoints of a pose; () is unknown."""
    layout: str = "NCHW"
    """Or NHWC."""
    color_order: str = "RGB"
    """Or BGR."""
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    """Of the model's input."""
    do_resize: bool = True
    resize_mode: str = "stretch"
    """stretch; letterbox: keep the aspect, pad both sides with `pad_value`; crop: keep the aspect,
    cut out the middle."""
    resample: str = "bilinear"
    """nearest, box, bilinear, hamming, bicubic or lanczos, as in Pillow."""
    crop_size: tuple[int, int] | None = None
    rescale_factor: float | None = None
    """Pixel values are multiplied with it first; None: they stay from 0 to 255."""
    image_mean: tuple[float, ...] | None = None
    """By channel in the model's order; subtracted after rescaling."""
    image_std: tuple[float, ...] | None = None
    """By channel in the model's order; the last divisor."""
    pad_value: float = 0.0
    """The pixel value of a letterbox's margins, before rescaling."""
    output_format: str | None = None
    """A key of layouts.FORMATS; None: only what the model puts out will tell."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """The model's name for an output by its role (boxes, scores, …), where that is not plain."""
    kpt_shape: tuple[int, int] | None = None
    """How many keypoints, and numbers for each (2 or 3), where people come with boxes."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """score: below it nothing is found; iou: above it two boxes of a class are one thing; keypoint:
    below it a keypoint is not drawn. From 0 to 1."""

    @property
    def model_size(self) -> tuple[int, int] | None:
        """Height and width of the model's input; None if it takes any."""
        cropped = self.crop_size if self.resize_mode == "crop" else None
        return cropped or self.input_size

    def label(self, index: int) -> str:
        """The name of class or keypoint `index`; its number where names are unknown."""
        return self.names[index] if 0 <= index < len(self.names) else str(index)


def describe(
    model: str,
    files: Sequence[Blob],
    metadata: Mapping[str, str],
    inputs: Sequence[tuple[str, Sequence[Any], Any]],
    outputs: Sequence[tuple[str, Sequence[Any], Any]],
) -> Description:
    """The description of `model` among `files`, whose inputs and outputs are (name, shape, dtype).

    Each key comes from the first that has it: what the program gave; the sidecar MODEL.vaccel.json;
    the model's own `metadata`; preprocessor_config.json and config.json in its folder, as Hugging
    Face writes them; labels.txt there. What none has, the shapes must tell. InvalidArgument: a
    source holds something else than its key may; sources contradict the shapes; something stays
    open, and the error names the key that would settle it.
    """
    facts: dict[str, Fact] = {}
    for source, origin in sources.in_order(model, files, metadata):
        keys.take(facts, source, origin)
    if len(inputs) != 1:
        found = ", ".join(name for name, _, _ in inputs) or "none"
        raise InvalidArgument(f"model: expected one input, for the picture, found {found}")
    description = _from(facts, *inputs[0])
    made = [Output(name, _extents(shape), np.dtype(dtype)) for name, shape, dtype in outputs]
    return replace(description, output_format=settle(description, made))


def _from(facts: Mapping[str, Fact], name: str, extents: Sequence[Any], dtype: Any) -> Description:
    """What `facts` say of a model with this input."""
    shape = _extents(extents)
    layout = _layout(facts, name, shape)
    static = (shape[2], shape[3]) if layout == "NCHW" else (shape[1], shape[2])
    if "task" not in facts:
        raise Unsettled("task", f"it may be one of {', '.join(keys.TASKS)}", "classify")
    get = _getter(facts)
    task = get("task")
    return Description(
        task=task,
        names=() if task == "depth" else get("names", ()),
        layout=layout,
        color_order=get("color_order", "RGB"),
        dtype=_dtype(facts, np.dtype(dtype)),
        resample=get("resample", "bilinear"),
        pad_value=get("pad_value", 0.0),
        outputs=get("outputs", {}),
        kpt_shape=get("kpt_shape"),
        thresholds=THRESHOLDS | get("thresholds", {}),
        output_format=get("output_format"),
        **_sizes(facts, static),
        **_scaling(facts, np.dtype(dtype)),
    )


def _getter(facts: Mapping[str, Fact]) -> Callable[..., Any]:
    def get(key: str, default: Any = None) -> Any:
        return facts[key].value if key in facts else default

    return get


def _extents(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """A declared shape: what is not known is None, but for the batch, which is 1 then."""
    extents = [one if isinstance(one, int) and one >= 0 else None for one in shape]
    if extents and extents[0] is None:
        extents[0] = 1
    return tuple(extents)


def _layout(facts: Mapping[str, Fact], name: str, shape: tuple[int | None, ...]) -> str:
    wanted = "[1, 3, height, width] or [1, height, width, 3]"
    written = f"{name} [{', '.join('?' if one is None else str(one) for one in shape)}]"
    if len(shape) != 4 or shape[0] != 1 or 0 in shape:
        raise InvalidArgument(f"model: expected an input {wanted}, found {written}")
    fitting = {"NCHW": shape[1], "NHWC": shape[3]}
    said = facts.get("layout")
    assumed = said is not None and sources.assumed("layout", said.origin)
    if said is not None and not assumed:
        layout, origin = said
        if fitting[layout] not in (3, None):
            raise InvalidArgument(
                f"{origin}: layout: expected one with 3 channels in {written}, found {layout}"
            )
        return str(layout)
    plain = [layout for layout, channels in fitting.items() if channels == 3]
    if len(plain) == 1:
        return plain[0]
    if not plain and None not in fitting.values():
        raise InvalidArgument(f"model: expected an input {wanted}, found {written}")
    if said is not None and fitting[said.value] in (3, None):
        return str(said.value)
    raise Unsettled("layout", f"the input is {written}", "NCHW")


def _dtype(facts: Mapping[str, Fact], dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "fiu":
        raise InvalidArgument(f"model: expected an input of numbers, found {dtype}")
    if "dtype" in facts and facts["dtype"].value != dtype:
        found, origin = facts["dtype"]
        raise InvalidArgument(f"{origin}: dtype: expected {dtype}, the model's, found {found}")
    return dtype


def _sizes(facts: Mapping[str, Fact], static: tuple[int | None, int | None]) -> dict[str, Any]:
    """do_resize, resize_mode, input_size and crop_size."""
    get = _getter(facts)
    resize = get("do_resize", True)
    mode = get("resize_mode", "crop" if "crop_size" in facts else "stretch")
    size: Size = get("size", Size())
    fixed = (static[0], static[1]) if static[0] and static[1] else None
    whole, crop = size.within(), get("crop_size")
    if mode == "crop":
        final, key = crop or fixed or whole, "crop_size" if crop else "size"
        whole = whole or final
    else:
        # A shorter side alone says how large, not how wide: the model's own size goes before.
        final, key = (size.exact or fixed or whole), "size"
        whole = final
    if final is None and resize:
        raise Unsettled("size", "the model takes any", {"height": 224, "width": 224})
    if final is not None and any(
        one not in (None, two) for one, two in zip(static, final, strict=True)
    ):
        origin = facts[key].origin if key in facts else "model"
        raise InvalidArgument(
            f"{origin}: {key}: expected {_written(static)}, the size of the model's input, "
            f"found {_written(final)}"
        )
    if final is not None and final[0] * final[1] > MOST_PIXELS:
        raise InvalidArgument(
            f"model: expected an input of at most {MOST_PIXELS} pixels, found {_written(final)}"
        )
    return {
        "do_resize": resize,
        "resize_mode": mode,
        "input_size": whole,
        "crop_size": final if mode == "crop" else None,
    }


def _written(size: Sequence[int | None]) -> str:
    return " x ".join("?" if side is None else str(side) for side in size)


def _scaling(facts: Mapping[str, Fact], dtype: np.dtype[Any]) -> dict[str, Any]:
    """rescale_factor, image_mean and image_std; those that change nothing are None."""
    get = _getter(facts)
    factor, mean, std = (get(key) for key in ("rescale_factor", "image_mean", "image_std"))
    if factor is None and mean is None and std is None:
        # Integers other than bytes with a sign have room for pixels as they are.
        if dtype.kind == "f" or dtype == np.int8:
            raise Unsettled(
                "rescale_factor",
                "pixels from 0 to 255 become numbers by rescale_factor, image_mean and image_std",
                1 / 255,
            )
    elif factor is None:
        if max(*(mean or (0,)), *(std or (0,))) > 1:
            raise Unsettled(
                "rescale_factor", "image_mean and image_std look as if it were 1, not 1/255", 1
            )
        factor = 1 / 255
    return {
        "rescale_factor": None if factor == 1 else factor,
        "image_mean": None if mean == (0, 0, 0) else mean,
        "image_std": None if std == (1, 1, 1) else std,
    }
