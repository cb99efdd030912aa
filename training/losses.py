"""What each model is trained to make small, on a batch that is varied at random.

Each takes the network, pixels [batch, 3, side, side] from 0 to 1, and what `TARGETS` of the task
has made of the drawn pictures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks import STRIDE, Detector
from training.pictures import MIRRORED

_MOST_BOXES = 5


def classify(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    (pixels,) = _turned(pixels)
    return functional.cross_entropy(network(_recolored(pixels)), labels, label_smoothing=0.05)


def segment(network: nn.Module, pixels: Tensor, masks: Tensor) -> Tensor:
    pixels, masks = _turned(pixels, masks)
    logits = network(_recolored(pixels))
    weight = torch.ones(logits.shape[1])
    weight[0] = 0.4  # there is more ground than anything else
    return functional.cross_entropy(logits, masks, weight=weight)


def depth(network: nn.Module, pixels: Tensor, nearness: Tensor) -> Tensor:
    if random.random() < 0.5:
        pixels, nearness = pixels.flip(-1), nearness.flip(-1)
    found: Tensor = network(_recolored(pixels))
    return ((found + 0.02).log() - (nearness + 0.02).log()).abs().mean()


def pose(network: nn.Module, pixels: Tensor, points: Tensor) -> Tensor:
    side = pixels.shape[-1]
    if random.random() < 0.5:
        pixels, points = pixels.flip(-1), points[:, list(MIRRORED)].clone()
        points[..., 0] = side - points[..., 0]
    found = network(_recolored(pixels))
    cells = torch.arange(side // 4)
    places = points / 4 - 0.5
    across = (cells.view(1, 1, 1, -1) - places[..., 0, None, None]) ** 2
    down = (cells.view(1, 1, -1, 1) - places[..., 1, None, None]) ** 2
    wanted = torch.exp(-(across + down) / (2 * 1.2**2))
    return functional.binary_cross_entropy_with_logits(found, wanted, weight=1 + 10 * wanted)


def detect(network: nn.Module, pixels: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Scores tell how well the box fits (varifocal), boxes fit well (generalised overlap)."""
    if not isinstance(network, Detector):
        raise TypeError(f"expected a Detector, found {type(network).__name__}")
    pixels, boxes = _turned_with_boxes(pixels, boxes)
    logits, edges = network.raw(_recolored(pixels))
    picture, place, which = _assigned(network, boxes, labels)
    wanted, reach = boxes[picture, which], edges[picture, :, place]
    x, y = network.x[place], network.y[place]
    left, up, right, down = reach.unbind(1)
    found = torch.stack([x - left, y - up, x + right, y + down], 1)
    overlap, generalized = _overlaps(found, wanted)
    target = torch.zeros_like(logits)
    target[picture, labels[picture, which], place] = overlap.detach().clamp(0, 1)
    weight = torch.where(target > 0, target, 0.75 * logits.sigmoid().detach() ** 2)
    scores = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (scores * weight).sum() / max(1, len(picture)) + 2 * (1 - generalized).mean()


def _assigned(network: Detector, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, place and box for the places near the middle of a box; of several the smallest."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    across = (network.x - middle[..., 0:1]).abs()
    along = (network.y - middle[..., 1:2]).abs()
    inside = (network.x > boxes[..., 0:1]) & (network.x < boxes[..., 2:3])
    inside &= (network.y > boxes[..., 1:2]) & (network.y < boxes[..., 3:4])
    near = inside & (across < STRIDE * 1.2) & (along < STRIDE * 1.2) & (labels >= 0)[..., None]
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)[..., None].expand_as(across)
    least, which = torch.where(near, area, torch.inf).min(1)
    picture, place = least.isfinite().nonzero(as_tuple=True)
    return picture, place, which[picture, place]


def _overlaps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of pairs of boxes, and its generalised form for boxes apart."""

    def area(corner: Tensor, opposite: Tensor) -> Tensor:
        return (opposite - corner).clamp(0).prod(1)

    shared = area(torch.max(one[:, :2], other[:, :2]), torch.min(one[:, 2:], other[:, 2:]))
    union = area(one[:, :2], one[:, 2:]) + area(other[:, :2], other[:, 2:]) - shared
    hull = area(torch.min(one[:, :2], other[:, :2]), torch.max(one[:, 2:], other[:, 2:]))
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull


# -- variation ---------------------------------------------------------------------------------


def _recolored(pixels: Tensor) -> Tensor:
    return pixels[:, torch.randperm(3)]


_TURNS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda one: one.flip(-1),
    lambda one: one.flip(-2),
    lambda one: one.transpose(-1, -2),
)


def _turned(*maps: Tensor) -> Sequence[Tensor]:
    """All in the same of the eight positions of a square."""
    for turn in _TURNS:
        if random.random() < 0.5:
            maps = tuple(turn(one) for one in maps)
    return maps


def _turned_with_boxes(pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    side = pixels.shape[-1]
    left, top, right, bottom = boxes.unbind(-1)
    if random.random() < 0.5:
        pixels, left, right = pixels.flip(-1), side - right, side - left
    if random.random() < 0.5:
        pixels, top, bottom = pixels.flip(-2), side - bottom, side - top
    if random.random() < 0.5:
        pixels, left, top, right, bottom = pixels.transpose(-1, -2), top, left, bottom, right
    return pixels, torch.stack([left, top, right, bottom], -1)


# -- what is to be found -----------------------------------------------------------------------


def _boxes(scenes: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Boxes and labels of all pictures, filled up with label -1."""
    boxes = torch.zeros(len(scenes), _MOST_BOXES, 4)
    labels = torch.full((len(scenes), _MOST_BOXES), -1)
    for i, scene in enumerate(scenes):
        boxes[i, : len(scene.labels)] = torch.from_numpy(scene.boxes)
        labels[i, : len(scene.labels)] = torch.from_numpy(scene.labels)
    return boxes, labels


def _stack(arrays: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


TARGETS: dict[str, Callable[[Sequence[Any]], tuple[Tensor, ...]]] = {
    "classify": lambda scenes: (torch.tensor([int(scene.labels[0]) for scene in scenes]),),
    "detect": _boxes,
    "segment": lambda scenes: (_stack([scene.mask for scene in scenes]).long(),),
    "pose": lambda figures: (_stack([figure.points for figure in figures]),),
    "depth": lambda views: (_stack([view.nearness for view in views]),),
}
