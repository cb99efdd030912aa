"""Decoding takes no more memory than was promised, and pictures wait for it in turn."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vaccel import deadline
from vaccel.error import DeadlineExceeded
from vaccel.inference.room import Room
from vaccel.testing.expect import wait_for

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'vaccel[onnx]'")

TIMEOUT = 30.0
SIDE = 2048

# -- how much ------------------------------------------------------------------------------------

# Prints what was promised, and the peak that it came to.
PROGRAM = """
import re, sys
from vaccel.inference import pictures, room

def memory(name):
    return int(re.search(rf"{name}:\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10

tiny, content = (open(name, "rb").read() for name in sys.argv[1:])
with pictures.decoded(tiny):
    pass
needed = room.needed
def promise(*args, **options):
    print(needed(*args, **options))
    return needed(*args, **options)
room.needed = promise
before = memory("VmRSS")
with pictures.decoded(content):
    pass
print(memory("VmHWM") - before)
"""


def noise(mode: str, side: int) -> Any:
    shape = (side, side) if mode in ("L", "I;16") else (side, side, len(mode))
    dtype = np.uint16 if mode == "I;16" else np.uint8
    rows = np.arange(np.prod(shape), dtype=np.uint32).astype(dtype).reshape(shape)
    return Image.fromarray(rows)


def turned() -> Any:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FORMS: dict[str, Callable[[], tuple[str, str, dict[str, Any]]]] = {
    "transparent": lambda: ("RGBA", "PNG", {"compress_level": 1}),
    "progressive": lambda: ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "turned": lambda: ("RGB", "JPEG", {"exif": turned()}),
    "webp": lambda: ("RGBA", "WEBP", {"method": 0}),
    "in one piece": lambda: (
        "RGBA",
        "TIFF",
        {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}},
    ),
    "grey": lambda: ("L", "GIF", {}),
    "pnm": lambda: ("RGB", "PPM", {}),
    "grey pnm": lambda: ("I;16", "PPM", {}),
}


@pytest.mark.subprocess
@pytest.mark.parametrize("form", FORMS)
def test_a_picture_takes_what_was_promised_at_most(form: str, tmp_path: Any):
    mode, format, options = FORMS[form]()
    paths = []
    for side in (16, SIDE):
        file = io.BytesIO()
        noise(mode, side).save(file, format, **options)
        paths.append(tmp_path / f"{side}")
        paths[-1].write_bytes(file.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, paths)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    promised, taken = map(int, done.stdout.split())
    assert promised >= 4 * SIDE * SIDE
    assert taken < promised + (8 << 20), "the file itself, and bands, come on top"


# Draws into a picture, once a small one, and prints the room that was taken, and the peak.
DRAWING = """
import re, sys
import numpy as np
from vaccel.inference import pictures, results
from vaccel.inference.description import Description
from vaccel.inference.found import Found
from vaccel.inference.preprocess import Transform

def memory(name):
    return int(re.search(rf"{name}:\\s*(\\d+)", open("/proc/self/status").read())[1]) << 10

task, *paths = sys.argv[1:]
found = {
    "classify": results.Scores(np.ones(2, np.float32)),
    "segment": results.Mask(np.eye(8, dtype=np.uint8)),
    "depth": results.Depth(np.eye(8, dtype=np.float32)),
}[task]
take, room = pictures._ROOM.take, []
pictures._ROOM.take = lambda count, total: room.append(count) or take(count, total)
for path in paths:
    content = open(path, "rb").read()
    with pictures.decoded(content) as picture:
        width, height = picture.size
    transform = Transform((height, width), (8, 8), (8 / width, 8 / height), (0, 0))
    picture.close()
    before = memory("VmRSS")
    Found(Description(task), found, transform).annotated(content)
print(room[-1], memory("VmHWM") - before)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("task", ["classify", "segment", "depth"])
def test_drawing_takes_the_room_that_it_waited_for_at_most(task: str, tmp_path: Any):
    paths = [tmp_path / f"{side}" for side in (16, SIDE)]
    for path in paths:
        noise("RGB", int(path.name)).save(path, "PPM")
    done = subprocess.run(
        [sys.executable, "-c", DRAWING, task, *map(str, paths)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    promised, taken = map(int, done.stdout.split())
    assert promised == 16 * SIDE * SIDE
    assert taken < promised + (16 << 20), "stripes of what was found come on top"


# -- in turn -------------------------------------------------------------------------------------


class Takers:
    """Threads that take room, and keep it until they are told to end."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.inside: list[int] = []
        self._ends: dict[int, threading.Event] = {}
        self._threads: dict[int, threading.Thread] = {}

    def start(self, number: int, count: int) -> None:
        self._ends[number] = threading.Event()

        def run() -> None:
            with self.room.take(count, 10):
                self.inside.append(number)
                assert self._ends[number].wait(TIMEOUT)

        waiting = len(self.room._line)
        self._threads[number] = threading.Thread(target=run)
        self._threads[number].start()
        wait_for(
            "the line",
            "one more",
            lambda: number in self.inside or len(self.room._line) > waiting,
            TIMEOUT,
        )

    def end(self, number: int) -> None:
        self._ends[number].set()
        self._threads[number].join(TIMEOUT)

    def until(self, *inside: int) -> None:
        wait_for("room", f"{inside}", lambda: self.inside == [*inside], TIMEOUT)


def test_room_is_given_in_the_order_in_which_it_was_asked_for():
    takers = Takers(Room())
    takers.start(1, 6)
    takers.until(1)
    takers.start(2, 7)
    takers.start(3, 1)  # there were room for it, but then the second might wait forever
    takers.until(1)
    takers.end(1)
    takers.until(1, 2, 3)
    takers.end(2)
    takers.end(3)


def test_what_is_larger_than_all_room_has_it_alone():
    takers = Takers(Room())
    takers.start(1, 1)
    takers.until(1)
    takers.start(2, 99)
    takers.until(1)
    takers.end(1)
    takers.until(1, 2)
    takers.end(2)


def test_who_waits_for_room_keeps_the_deadline():
    room = Room()
    with room.take(8, 10):
        with deadline.until(time.monotonic() + 0.01):
            with pytest.raises(DeadlineExceeded, match="VACCEL_PICTURE_LIMIT"):
                with room.take(4, 10):
                    pass
        with room.take(2, 10):
            pass
    with room.take(10, 10):
        pass


def test_room_is_free_again_after_an_error():
    room = Room()
    with pytest.raises(RuntimeError), room.take(10, 10):
        raise RuntimeError
    with deadline.until(0), room.take(10, 10):
        pass
