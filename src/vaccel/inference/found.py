"""What a model found in one picture, in that picture's coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from vaccel.inference import drawing
from vaccel.inference.pictures import decoded
from vaccel.inference.results import Boxes, Depth, Keypoints, Mask, Scores

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaccel.inference.description import Description
    from vaccel.inference.preprocess import Transform
    from vaccel.inference.results import Result

F32s = npt.NDArray[np.float32]
I32s = npt.NDArray[np.int32]
U8s = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Found:
    """A model's result, and how to read it. Each task has one method that fits its result."""

    description: Description
    result: Result
    transform: Transform

    def scores(self) -> tuple[F32s, list[str]]:
        scores = cast(Scores, self.result).scores
        return scores, self._names(len(scores))

    def tag(self) -> tuple[str, float]:
        """The name of the most probable class, and its score."""
        scores = cast(Scores, self.result).scores
        best = int(scores.argmax())
        return self.description.label(best), float(scores[best])

    def boxes(self) -> tuple[F32s, F32s, I32s, list[str]]:
        found = cast(Boxes, self.result)
        boxes = self.transform.boxes(found.boxes)
        # What was found in the margins around the picture is not in the picture.
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        classes = found.classes[inside]
        names = self._names(int(classes.max(initial=-1)) + 1)
        return boxes[inside], found.scores[inside], classes, names

    def mask(self) -> tuple[U8s, list[str]]:
        mask = self.transform.classes(cast(Mask, self.result).grid)
        return mask, self._names(int(mask.max()) + 1)

    def keypoints(self) -> tuple[F32s, list[str]]:
        points = cast(Keypoints, self.result).points
        moved = np.concatenate([self.transform.points(points[..., :2]), points[..., 2:]], axis=-1)
        return moved, self._names(points.shape[1])

    def depth(self) -> F32s:
        return self.transform.values(cast(Depth, self.result).depth)

    def _names(self, least: int) -> list[str]:
        """All that are known, and numbers where there are more classes or points than names."""
        count = max(least, len(self.description.names))
        return [self.description.label(i) for i in range(count)]

    def annotated(self, content: Any) -> bytes:
        """The encoded picture `content` with what was found drawn into it; a PNG."""
        with decoded(content, drawn=drawing.TAKES) as picture:
            return drawing.png(_DRAW[self.description.task](self, picture))

    def _tagged(self, picture: Image) -> Image:
        return drawing.tagged(picture, *self.tag())

    def _boxed(self, picture: Image) -> Image:
        return drawing.boxed(picture, *self.boxes())

    def _masked(self, picture: Image) -> Image:
        return drawing.masked(picture, *self.mask())

    def _skeletons(self, picture: Image) -> Image:
        least = self.description.thresholds.get("keypoint", drawing.CERTAIN)
        return drawing.skeletons(picture, *self.keypoints(), least)

    def _nearness(self, picture: Image) -> Image:
        return drawing.nearness(self.depth())


_DRAW: dict[str, Callable[[Found, Image], Image]] = {
    "classify": Found._tagged,
    "detect": Found._boxed,
    "segment": Found._masked,
    "pose": Found._skeletons,
    "depth": Found._nearness,
}
