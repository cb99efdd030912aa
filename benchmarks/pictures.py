"""Classification by the model that comes with vaccel, against code written for this one model."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np

from benchmarks import sessions
from benchmarks.measures import Effort, Figures, each, expect, in_turns, ratio
from vaccel import Session

_DATA = resources.files("vaccel") / "data"
_SEED = 1

Direct = Callable[[bytes], tuple[str, float]]


def classify(effort: Effort) -> Figures:
    ort, pil = sessions.engine("onnxruntime", "onnx"), sessions.engine("PIL", "onnx")
    if ort is None or pil is None:
        return {}
    direct = _direct(ort)
    small, photo = (_DATA / "examples" / "classify.jpg").read_bytes(), _photo()
    with sessions.pair("onnx") as (here, there):
        for session in (here, there):
            for picture in (small, photo):
                _check(session, picture, direct)
        here_s, direct_s, there_s = in_turns(
            effort.rounds,
            lambda: each(20, lambda: here.classify(small)),
            lambda: each(20, lambda: direct(small)),
            lambda: each(20, lambda: there.classify(small)),
        )
        photo_s, photo_direct_s = in_turns(
            effort.rounds,
            lambda: each(5, lambda: here.classify(photo)),
            lambda: each(5, lambda: direct(photo)),
        )
    ratios = ratio(here_s, direct_s), ratio(photo_s, photo_direct_s)
    beyond = statistics.median(there - here for there, here in zip(there_s, here_s, strict=True))
    return {
        "classify_overhead_ratio": max(ratios),
        "classify_small_ratio": ratios[0],
        "classify_photo_ratio": ratios[1],
        "classify_us": statistics.median(here_s) * 1e6,
        "classify_photo_us": statistics.median(photo_s) * 1e6,
        "classify_direct_us": statistics.median(direct_s) * 1e6,
        "remote_classify_us": statistics.median(there_s) * 1e6,
        "remote_classify_overhead_us": beyond * 1e6,
    }


def _direct(ort: Any) -> Direct:
    """What one would write by hand: all kinds of pictures that vaccel takes, this model only."""
    from PIL import Image, ImageOps

    model = (_DATA / "models" / "classify.onnx").read_bytes()
    names = json.loads((_DATA / "models" / "classify.vaccel.json").read_text())["names"]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # as in vaccel, so that the engine is the same on both sides
    engine = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = engine.get_inputs()[0].name
    scale = np.float32(1 / 255)

    def direct(content: bytes) -> tuple[str, float]:
        image: Image.Image = Image.open(io.BytesIO(content))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            ground = Image.new("RGB", image.size, "white")
            ground.paste(image, mask=image.getchannel("A"))
            image = ground
        elif image.mode != "RGB":
            image = image.convert("RGB")
        image = image.resize((64, 64), Image.Resampling.BILINEAR)
        tensor = np.asarray(image, np.float32).transpose(2, 0, 1)[np.newaxis] * scale
        ((logits,),) = engine.run(None, {name: tensor})
        powers = np.exp(logits - logits.max())
        best = int(logits.argmax())
        return names[best], float(powers[best] / powers.sum())

    return direct


def _check(session: Session, picture: bytes, direct: Direct) -> None:
    """The same class from both, with the same score but for rounding."""
    tag, score = direct(picture)
    expect(session.classify(picture)[0], tag, "classify")
    scores, names = session.classify_scores(picture)
    expect(round(float(scores[names.index(tag)]), 5), round(score, 5), "classify_scores")


def _photo() -> bytes:
    """Soft shapes with some grain, 1200 x 900, a JPEG of about a bit per pixel."""
    from PIL import Image

    random = np.random.default_rng(_SEED)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
    pixels = np.asarray(coarse.resize((1200, 900), Image.Resampling.BICUBIC), np.int16)
    grainy = np.clip(pixels + random.integers(-6, 7, (900, 1200, 1)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(grainy.astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()
