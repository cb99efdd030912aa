"""Drawn pictures whose contents are known: what the shipped models were trained on, and are tested
with. The same `rng` gives the same pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Pixels = npt.NDArray[np.uint8]
F32s = npt.NDArray[np.float32]
Generator = np.random.Generator
Point = tuple[float, float]
Color = tuple[int, ...]

SHAPES = ("circle", "square", "triangle", "star", "plus", "ring")
JOINTS = (
    *("head", "neck", "hip", "l_elbow", "l_wrist", "r_elbow", "r_wrist"),
    *("l_knee", "l_ankle", "r_knee", "r_ankle"),
)
BONES = ((0, 1), (1, 2), (1, 3), (3, 4), (1, 5), (5, 6), (2, 7), (7, 8), (2, 9), (9, 10))
"""Pairs of JOINTS."""
MIRRORED = (0, 1, 2, 5, 6, 3, 4, 9, 10, 7, 8)
"""Which joint each one is in the mirror."""
FAR = 14.0
"""Where the sky begins, in the depth pictures' unit of length."""

_FINER = 2  # pictures are drawn so many times larger, and then made smaller: smooth edges


@dataclass(frozen=True)
class Scene:
    """Shapes on a ground."""

    pixels: Pixels
    """[size, size, 3]"""
    boxes: F32s
    """[n, 4]: left, top, right, bottom; of the whole shape, where another one covers it too."""
    labels: npt.NDArray[np.int64]
    """[n]: indices of SHAPES"""
    mask: Pixels
    """[size, size]: 0 is the ground, then indices of SHAPES, plus 1"""


@dataclass(frozen=True)
class Figure:
    """A man of sticks."""

    pixels: Pixels
    """[size, size, 3]"""
    points: F32s
    """[11, 2]: x and y of JOINTS"""


@dataclass(frozen=True)
class View:
    """Balls on a chequered plane, in fog."""

    pixels: Pixels
    """[size, size, 3]"""
    nearness: F32s
    """[size, size]: 1 / distance"""


def scene(rng: Generator, size: int, count: tuple[int, int], radius: tuple[float, float]) -> Scene:
    """`count` shapes, from and to; `radius` as parts of `size`, from and to."""
    wide = size * _FINER
    image, ground = _ground(rng, wide)
    mask = Image.new("L", (wide, wide), 0)
    boxes, labels = [], []
    taken: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(count[0], count[1] + 1)):
        place = _free_place(rng, wide, radius, taken)
        if place is None:
            continue
        taken.append(place)
        label = int(rng.integers(len(SHAPES)))
        stencil = _stencil(SHAPES[label], wide, place, rng.uniform(0, 2 * math.pi))
        image.paste(_color(rng, ground), (0, 0), stencil)
        mask.paste(label + 1, (0, 0), stencil)
        boxes.append([edge / _FINER for edge in stencil.getbbox() or (0, 0, 0, 0)])
        labels.append(label)
    image = image.resize((size, size), Image.Resampling.BOX)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    return Scene(
        _noisy(rng, np.asarray(image, np.float32), 10),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)),
    )


def figure(rng: Generator, size: int) -> Figure:
    wide = size * _FINER
    image, ground = _ground(rng, wide)
    unit = rng.uniform(0.10, 0.16) * wide
    tilt = rng.uniform(-0.4, 0.4)
    points = _posture(rng, wide, unit, tilt)
    color = _color(rng, ground)
    width = max(2, int(unit * rng.uniform(0.18, 0.35)))
    draw = ImageDraw.Draw(image)
    for one, other in BONES:
        draw.line([points[one], points[other]], fill=color, width=width)
    for point in points[2:]:
        draw.ellipse(_around(*point, width / 2), fill=color)
    draw.ellipse(_around(*points[0], 0.45 * unit), fill=color)
    image = image.resize((size, size), Image.Resampling.BOX)
    pixels = _noisy(rng, np.asarray(image, np.float32), 10)
    return Figure(pixels, np.array(points, np.float32) / np.float32(_FINER))


def view(rng: Generator, size: int) -> View:
    """Rays from each pixel: distances are exact."""
    across, down = _grid(size)
    height = rng.uniform(0.8, 1.6)
    x, y, z = _rays(across, down, rng.uniform(0.15, 0.35))
    distance = np.minimum(np.where(y > 1e-3, height / np.maximum(y, 1e-3), FAR), FAR)
    light = np.array([rng.uniform(-1, 1), -1.5, rng.uniform(-1, 0)])
    light /= np.linalg.norm(light)
    odd = (np.floor(x * distance) + np.floor(z * distance)) % 2
    fields = rng.uniform(60, 200, 3), rng.uniform(60, 200, 3)
    sky = rng.uniform(150, 255, 3)
    color = np.where(odd[..., None] > 0, *fields) * 0.9
    color = np.where((distance >= FAR)[..., None], sky, color)
    for _ in range(rng.integers(1, 5)):
        radius, away = rng.uniform(0.3, 0.9), rng.uniform(2, 8)
        center = np.array([rng.uniform(-0.5, 0.5) * away, height - radius, away])
        # |t · ray - center| = radius, solved for t
        along = x * center[0] + y * center[1] + z * center[2]
        inside = along * along - (center @ center - radius * radius)
        t = along - np.sqrt(np.maximum(inside, 0))
        hit = (inside > 0) & (t > 0.1) & (t < distance)
        normal = np.stack([x * t - center[0], y * t - center[1], z * t - center[2]], -1) / radius
        shade = 0.35 + 0.65 * np.clip(normal @ light, 0, 1)
        color = np.where(hit[..., None], rng.uniform(60, 255, 3) * shade[..., None], color)
        distance = np.where(hit, t, distance)
    fog = np.exp(-distance / 20)[..., None]
    color = color * fog + sky * (1 - fog)
    return View(_noisy(rng, color, 8), (1 / distance).astype(np.float32))


@dataclass(frozen=True)
class Task:
    """What one of the shipped models is trained on and tested with."""

    size: int
    """Pixels of a side, of the pictures and of the model's input."""
    make: Callable[[Generator], Any]
    names: tuple[str, ...] = ()


TASKS = {
    "classify": Task(64, lambda rng: scene(rng, 64, (1, 1), (0.18, 0.42)), SHAPES),
    "detect": Task(96, lambda rng: scene(rng, 96, (1, 4), (0.09, 0.22)), SHAPES),
    "segment": Task(64, lambda rng: scene(rng, 64, (1, 3), (0.12, 0.3)), ("background", *SHAPES)),
    "pose": Task(64, lambda rng: figure(rng, 64), JOINTS),
    "depth": Task(64, lambda rng: view(rng, 64)),
}


# -- pieces ------------------------------------------------------------------------------------


def _ground(rng: Generator, wide: int) -> tuple[Image.Image, npt.NDArray[Any]]:
    """A blend of two colours with grain, and the colour in its middle."""
    one, other = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    other = one * 0.6 + other * 0.4
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:wide, 0:wide] / wide
    blend = (((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.7) / 1.4)[..., None]
    grain = rng.normal(0, rng.uniform(4, 18), (wide // 4, wide // 4, 3)).repeat(4, 0).repeat(4, 1)
    pixels = one * (1 - blend) + other * blend + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), (one + other) / 2


def _color(rng: Generator, ground: npt.NDArray[Any]) -> Color:
    """One that stands out from the ground."""
    while True:
        color = rng.uniform(0, 255, 3)
        if np.abs(color - ground).max() > 60:
            return tuple(int(value) for value in color)


def _noisy(rng: Generator, pixels: npt.NDArray[Any], most: float) -> Pixels:
    noise = rng.normal(0, rng.uniform(1, most), pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _free_place(
    rng: Generator,
    wide: int,
    radius: tuple[float, float],
    taken: Sequence[tuple[float, float, float]],
) -> tuple[float, float, float] | None:
    """A circle (x, y, radius) that overlaps the others a little at most."""
    for _ in range(20):
        r = rng.uniform(*radius) * wide
        x, y = rng.uniform(r * 0.9, wide - r * 0.9, 2)
        if all(math.hypot(x - x2, y - y2) > (r + r2) * 0.9 for x2, y2, r2 in taken):
            return x, y, r
    return None


def _stencil(shape: str, wide: int, place: tuple[float, float, float], angle: float) -> Image.Image:
    x, y, r = place
    stencil = Image.new("L", (wide, wide), 0)
    draw = ImageDraw.Draw(stencil)
    if shape in ("circle", "ring"):
        draw.ellipse(_around(x, y, r), fill=255)
        if shape == "ring":
            draw.ellipse(_around(x, y, 0.55 * r), fill=0)
    else:
        draw.polygon([(x + r * u, y + r * v) for u, v in _corners(shape, angle)], fill=255)
    return stencil


def _corners(shape: str, angle: float) -> list[Point]:
    """Of a shape of radius 1 around (0, 0)."""
    if shape == "plus":
        w, cos, sin = 0.33, math.cos(angle), math.sin(angle)
        right = [(w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1)]
        outline = [(-w, -1), *right, (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]
        return [(x * cos - y * sin, x * sin + y * cos) for x, y in outline]
    count, first = {"square": (4, math.pi / 4), "triangle": (3, 0.0), "star": (10, 0.0)}[shape]
    inner = 0.42 if shape == "star" else 1.0
    turns = [angle + first + 2 * math.pi * i / count for i in range(count)]
    return [
        ((inner if i % 2 else 1) * math.cos(a), (inner if i % 2 else 1) * math.sin(a))
        for i, a in enumerate(turns)
    ]


def _posture(rng: Generator, wide: int, unit: float, tilt: float) -> list[Point]:
    """JOINTS; within the picture, if that comes about in 50 attempts."""

    def beyond(start: Point, length: float, angle: float) -> Point:
        return start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)

    points: list[Point] = []
    for _ in range(50):
        neck = rng.uniform(0.3, 0.7) * wide, rng.uniform(0.25, 0.45) * wide
        hip = beyond(neck, 1.6 * unit, tilt)
        head = beyond(neck, 0.8 * unit, tilt + math.pi + rng.uniform(-0.2, 0.2))
        points = [head, neck, hip]
        for side in (1, -1):
            elbow = beyond(neck, unit, tilt + side * rng.uniform(0.3, 2.3))
            points += [elbow, beyond(elbow, unit, tilt + side * rng.uniform(0.0, 2.8))]
        for side in (1, -1):
            knee = beyond(hip, 1.1 * unit, tilt + side * rng.uniform(0.05, 0.9))
            ankle = beyond(knee, 1.1 * unit, tilt + side * rng.uniform(-0.3, 0.6))
            points += [knee, ankle]
        if all(2 < x < wide - 2 and 2 < y < wide - 2 for x, y in points):
            break
    return points


def _around(x: float, y: float, r: float) -> list[float]:
    return [x - r, y - r, x + r, y + r]


def _grid(size: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The pixels' centres, from -1 to 1: across and down."""
    down, across = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    return across, down


def _rays(
    across: npt.NDArray[Any], down: npt.NDArray[Any], pitch: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Directions of length 1 through the pixels, of a camera that looks down by `pitch`."""
    x, v = across * 0.6, down * 0.6
    y = v * np.cos(pitch) + np.sin(pitch)
    z = -v * np.sin(pitch) + np.cos(pitch)
    length = np.sqrt(x**2 + y**2 + z**2)
    return x / length, y / length, z / length
