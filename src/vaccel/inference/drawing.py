"""What a model found, drawn into the picture. All coordinates are the picture's."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.inference.pictures import pillow

if TYPE_CHECKING:
    from PIL.Image import Image

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]

TAKES = 16
"""Bytes a pixel at the peak of drawing, the picture and the PNG included."""
_LEAST = 320
"""Pixels of the longer side; smaller pictures are enlarged, as a label needs some room."""
_BACKGROUND = ("background", "__background__", "_background_", "bg")
CERTAIN = 0.3
"""The least score of a keypoint that is drawn, where a model's description gives no other."""
_SIDES = (
    *(("nose", "{}_eye"), ("{}_eye", "{}_ear"), ("neck", "{}_shoulder")),
    *(("{}_shoulder", "{}_elbow"), ("{}_elbow", "{}_wrist"), ("{}_shoulder", "{}_hip")),
    *(("hip", "{}_knee"), ("{}_hip", "{}_knee"), ("{}_knee", "{}_ankle")),
)
_BONES = (
    *(("head", "neck"), ("nose", "neck"), ("neck", "hip")),
    *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
    *((a.format(side), b.format(side)) for side in ("left", "right") for a, b in _SIDES),
)
# Where a skeleton has no shoulders, its arms begin at the neck.
_ARMS = (("neck", "left_elbow"), ("neck", "right_elbow"))


def tagged(picture: Image, tag: str, score: float) -> Image:
    """The picture with its class written underneath."""
    return _Canvas(picture).with_legend([(None, f"{tag} {score:.0%}")])


def boxed(
    picture: Image, boxes: Array, scores: Array, classes: Array, names: Sequence[str]
) -> Image:
    """A frame around each thing, with its class and score."""
    canvas = _Canvas(picture)
    # The best ones last, on top of the others.
    for box, score, label in [*zip(boxes.tolist(), scores, classes, strict=True)][::-1]:
        canvas.frame(box, f"{names[label]} {score:.0%}", color(int(label)))
    return canvas.image


def masked(picture: Image, mask: Array, names: Sequence[str]) -> Image:
    """The classes of pixels as translucent colours within an outline of the pure one, which is also
    that of the legend; it has the classes that occur."""
    clear = [i for i, name in enumerate(names) if name.lower() in _BACKGROUND]
    canvas = _Canvas(_blended(picture, mask, clear))
    found = np.unique(mask).tolist()
    return canvas.with_legend([(color(i), names[i]) for i in found if i not in clear])


def _blended(picture: Image, mask: Array, clear: Sequence[int]) -> Image:
    """Pillow looks colours up by the bytes of the mask; numpy would make 8 bytes of each first."""
    classes: Image = pillow().fromarray(mask)
    strength = [0 if i in clear else 140 for i in range(256)]
    shares = np.array(classes.point(strength))
    shares[_edges(mask, max(1, max(picture.size) // 250)) & (shares > 0)] = 255
    classes.putpalette([part for i in range(256) for part in color(i)])
    blended: Image = pillow().composite(classes.convert("RGB"), picture, pillow().fromarray(shares))
    return blended


def _edges(mask: Array, width: int) -> Array:
    """Where another class is at most `width` pixels away, along a row or a column."""
    edges = np.zeros(mask.shape, bool)
    for one, other in ((edges, mask), (edges.T, mask.T)):
        differs = other[width:] != other[:-width]
        one[width:] |= differs
        one[:-width] |= differs
    return edges


def skeletons(
    picture: Image, keypoints: Array, names: Sequence[str], least: float = CERTAIN
) -> Image:
    """Each person's points, [people, points, 3], of a score from `least`, and their bones."""
    places = {_full(name): i for i, name in enumerate(names)}
    arms = () if "left_shoulder" in places else _ARMS
    bones = [(places[a], places[b]) for a, b in (*_BONES, *arms) if a in places and b in places]
    canvas = _Canvas(picture)
    for person, points in enumerate(keypoints.tolist()):
        seen = {i: (x, y) for i, (x, y, score) in enumerate(points) if score >= least}
        for one, other in bones:
            if one in seen and other in seen:
                canvas.line(seen[one], seen[other], color(person))
        for point in seen.values():
            canvas.dot(point, color(person))
    return canvas.image


def nearness(values: Array) -> Image:
    """Relative inverse depth as grey of 16 bits: white is nearest, black is farthest."""
    least, most = float(values.min()), float(values.max())
    spread = (most - least) or 1.0
    grey = np.rint((values - least) * (65535 / spread)).astype(np.uint16)
    image: Image = pillow().fromarray(grey)
    return image


def png(image: Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # a third larger than at 6, in a fifth of the time
    return file.getvalue()


def color(number: int) -> Color:
    """Of a class or a person. Neighbours lie far apart on the colour circle."""
    r, g, b = colorsys.hsv_to_rgb((0.6 + number * 0.618) % 1, 0.9, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)


_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_SHORT = {"l": "left", "r": "right"}


def _full(name: str) -> str:
    side, _, rest = name.lower().replace(" ", "_").partition("_")
    return f"{_SHORT.get(side, side)}_{rest}" if rest else side


class _Canvas:
    """A copy of the picture, large enough for lines and letters."""

    def __init__(self, picture: Image) -> None:
        from PIL import ImageDraw, ImageFont

        Image = pillow()
        self._zoom = max(1, -(-_LEAST // max(picture.size)))
        if self._zoom > 1:
            size = (picture.width * self._zoom, picture.height * self._zoom)
            self.image = picture.resize(size, Image.Resampling.NEAREST)
        else:
            self.image = picture.copy()
        self._draw: Any = ImageDraw.Draw(self.image)
        self._line = max(2, max(self.image.size) // 250)
        try:
            self._font: Any = ImageFont.load_default(max(12, max(self.image.size) // 40))
        except TypeError:  # Pillow before 10.1 has one size
            self._font = ImageFont.load_default()

    def frame(self, box: Sequence[float], text: str, color: Color) -> None:
        left, top, right, bottom = (edge * self._zoom for edge in box)
        # Degenerate boxes come from real models; Pillow refuses them.
        right, bottom = max(right, left), max(bottom, top)
        self._draw.rectangle((left, top, right, bottom), outline=color, width=self._line)
        _, _, width, height = self._draw.textbbox((0, 0), text, font=self._font)
        pad = self._line
        x = max(0, min(left, self.image.width - width - 2 * pad))
        y = top - height - 2 * pad if top >= height + 2 * pad else top
        self._draw.rectangle((x, y, x + width + 2 * pad, y + height + 2 * pad), fill=color)
        self._draw.text((x + pad, y + pad), text, fill=_ink(color), font=self._font)

    def line(self, one: Sequence[float], other: Sequence[float], color: Color) -> None:
        ends = [tuple(c * self._zoom for c in point) for point in (one, other)]
        # A light and a dark edge keep the line apart from any ground.
        for tone, more in ((_BLACK, 6), (_WHITE, 4), (color, 0)):
            self._draw.line(ends, fill=tone, width=self._line + more)

    def dot(self, point: Sequence[float], color: Color) -> None:
        x, y = (c * self._zoom for c in point)
        for tone, more in ((_BLACK, 3), (_WHITE, 2), (color, 0)):
            r = 1.5 * self._line + more
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=tone)

    def with_legend(self, entries: Sequence[tuple[Color | None, str]]) -> Image:
        """The image above a white strip with the entries, in lines of the image's width."""
        from PIL import ImageDraw

        pad = 2 * self._line
        _, _, _, height = self._draw.textbbox((0, 0), "Ag", font=self._font)
        places, x, y = [], pad, pad
        for tone, text in entries:
            width = self._draw.textlength(text, font=self._font) + 2 * pad
            swatch = height + pad if tone else 0
            if x > pad and x + swatch + width > self.image.width:
                x, y = pad, y + height + pad
            places.append((x, y, tone, text, swatch))
            x += swatch + width
        if not places:
            return self.image
        size = (self.image.width, int(self.image.height + y + height + pad))
        whole: Image = pillow().new("RGB", size, "white")
        whole.paste(self.image)
        draw: Any = ImageDraw.Draw(whole)
        for x, y, tone, text, swatch in places:
            top = self.image.height + y
            if tone:
                draw.rectangle((x, top, x + height, top + height), fill=tone)
            draw.text((x + swatch, top), text, fill=(0, 0, 0), font=self._font)
        return whole


def _ink(ground: Color) -> Color:
    """Black or white, whichever stands out."""
    r, g, b = ground
    return (0, 0, 0) if 299 * r + 587 * g + 114 * b > 128_000 else (255, 255, 255)
