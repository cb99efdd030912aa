"""What has to be known of an image model to use it: its pictures, its outputs, its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TASKS = ("classify", "detect", "segment", "pose", "depth")


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
