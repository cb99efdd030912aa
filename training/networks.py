"""The shipped models: small convolutional networks of depthwise separable layers.

All take RGB pixels from 0 to 1, [batch, 3, side, side].
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8
"""Pixels between the detector's places."""


def layer(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(layer(inputs, inputs, 3, stride, inputs), layer(inputs, outputs, 1))


def _twice_as_large(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _Centered(nn.Module):
    """Pixels from 0 to 1 → around 0."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) * 4


class Classifier(nn.Sequential):
    """Logits [batch, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__(
            *(_Centered(), layer(3, 16, 3, 2), separable(16, 32, 2), separable(32, 48)),
            *(separable(48, 64, 2), separable(64, 96), separable(96, 128, 2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)),
        )


class _Pyramid(nn.Module):
    """Each stage halves the resolution; on the way up each level joins what it had on the way down.

    `stages` begin with the first one's output width, `ups` are the widths on the way up.
    """

    def __init__(self, first: nn.Module, widths: Sequence[int], ups: Sequence[int]) -> None:
        super().__init__()
        self.center = _Centered()
        downs = [first]
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            more = [separable(outputs, outputs) for _ in range(2 if i == len(widths) - 2 else 1)]
            downs.append(nn.Sequential(separable(inputs, outputs, 2), *more))
        self.downs = nn.ModuleList(downs)
        self.context: nn.Module | None = None
        below = [widths[-1], *ups[:-1]]
        beside = widths[-2::-1]
        self.ups = nn.ModuleList(
            separable(b + s, out) for b, s, out in zip(below, beside, ups, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.center(x)
        levels = []
        for down in self.downs:
            x = down(x)
            levels.append(x)
        levels.pop()
        if self.context is not None:
            x = x + self.context(x.mean((2, 3)))[..., None, None]
        for up in self.ups:
            x = up(torch.cat([_twice_as_large(x), levels.pop()], 1))
        return x


class Segmenter(nn.Module):
    """Logits [batch, classes, side, side]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pyramid = _Pyramid(layer(3, 16, 3, 2), (16, 24, 40, 64), (40, 24, 24))
        self.head = nn.Conv2d(24, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(
            self.head(self.pyramid(x)), scale_factor=2.0, mode="bilinear", align_corners=False
        )


class DepthEstimator(Segmenter):
    """Inverse depth [batch, side, side], above 0."""

    def __init__(self) -> None:
        super().__init__(1)
        # How near the ground is at the bottom depends on the whole picture.
        self.pyramid.context = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(super().forward(x))[:, 0]


class PoseEstimator(nn.Module):
    """Heat maps [batch, joints, side / 4, side / 4], as logits."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        first = nn.Sequential(layer(3, 16, 3, 2), separable(16, 32, 2), separable(32, 32))
        self.pyramid = _Pyramid(first, (32, 48, 64, 80), (64, 48, 48))
        self.head = nn.Sequential(separable(48, 48), nn.Conv2d(48, joints, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.head(self.pyramid(x))
        return maps


class Detector(nn.Module):
    """Boxes and scores at each place, as YOLOv8 puts them out: [batch, 4 + classes, places].

    Boxes are the centre's x and y, width and height, in pixels; scores are from 0 to 1.
    """

    x: Tensor
    y: Tensor

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.center = _Centered()
        self.near = nn.Sequential(
            *(layer(3, 16, 3, 2), separable(16, 32, 2), separable(32, 32)),
            *(separable(32, 48, 2), separable(48, 48)),
        )
        self.far = nn.Sequential(separable(48, 72, 2), separable(72, 72), separable(72, 72))
        self.join = nn.Sequential(separable(72 + 48, 72), separable(72, 72), separable(72, 72))
        self.classes = nn.Conv2d(72, classes, 1)
        bias = torch.full((classes,), -4.0)  # most places have nothing
        self.classes.bias = nn.Parameter(bias)
        self.edges = nn.Conv2d(72, 4, 1)
        middle = (torch.arange(side // STRIDE) + 0.5) * STRIDE
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        self.register_buffer("x", x.flatten())
        self.register_buffer("y", y.flatten())

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of classes, and how far the box reaches left, up, right and down, in pixels."""
        near = self.near(self.center(x))
        x = self.join(torch.cat([_twice_as_large(self.far(near)), near], 1))
        return self.classes(x).flatten(2), self.edges(x).flatten(2).clamp(-4, 4).exp() * 16

    def forward(self, x: Tensor) -> Tensor:
        logits, edges = self.raw(x)
        left, up, right, down = edges.unbind(1)
        boxes = [self.x + (right - left) / 2, self.y + (down - up) / 2, left + right, up + down]
        return torch.cat([torch.stack(boxes, 1), logits.sigmoid()], 1)
