"""Draw the example pictures that come with vaccel: python -m training.examples [FOLDER]."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.pictures import figure, scene, view

FOLDER = Path(__file__).parents[1] / "src" / "vaccel" / "data" / "examples"
SIZE = 256

EXAMPLES: dict[str, tuple[int, Callable[[np.random.Generator], Any]]] = {
    "classify": (7, lambda rng: scene(rng, SIZE, (1, 1), (0.25, 0.4))),
    "detect": (5, lambda rng: scene(rng, SIZE, (4, 4), (0.12, 0.2))),
    "segment": (4, lambda rng: scene(rng, SIZE, (3, 3), (0.18, 0.28))),
    "pose": (5, lambda rng: figure(rng, SIZE)),
    "depth": (5, lambda rng: view(rng, SIZE)),
}
"""By task: a seed, and what to draw."""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for task, (seed, draw) in EXAMPLES.items():
        pixels = draw(np.random.default_rng(seed)).pixels
        Image.fromarray(pixels).save(folder / f"{task}.jpg", quality=85)


if __name__ == "__main__":
    main()
