"""What sessions add to the engines that run the models, and to functions of shared libraries.

Each ratio compares a session's call with the same work done without vaccel, in turns, on the same
memory, in this process. Remote calls go to an agent in another process, on TCP loopback. What is
not installed is left out, and named on standard error. See docs/performance.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import engines, figures, foreign, pictures, uploads
from benchmarks.figures import Figure, Part

FIGURES = (
    Figure("classify_overhead_ratio", "session.classify / Pillow, numpy, onnxruntime; worst", 1.10),
    Figure("classify_small_ratio", "the same for a picture of 256 x 256"),
    Figure("classify_photo_ratio", "the same for a photo of 1200 x 900"),
    Figure("classify_us", "session.classify, 256 x 256"),
    Figure("classify_photo_us", "session.classify, 1200 x 900"),
    Figure("classify_direct_us", "Pillow, numpy and onnxruntime, 256 x 256"),
    Figure("remote_classify_us", "session.classify at an agent, 256 x 256"),
    Figure("remote_classify_overhead_us", "remote - local"),
    Figure("torch_run_overhead_ratio", "session.torch_model_run / PyTorch, 1 MiB", 1.10),
    Figure("torch_run_us", "session.torch_model_run, 1 MiB"),
    Figure("torch_remote_run_us", "the same at an agent"),
    Figure("tflite_run_overhead_ratio", "session.tflite_model_run / LiteRT, 1 MiB", 1.10),
    Figure("tflite_run_us", "session.tflite_model_run, 1 MiB"),
    Figure("tflite_remote_run_us", "the same at an agent"),
    Figure("exec_call_us", "session.exec of a C function that counts its calls"),
    Figure("exec_remote_call_us", "the same at an agent"),
    *uploads.FIGURES,
)

PARTS: tuple[Part, ...] = (
    (pictures.classify, ("classify_", "remote_classify_")),
    (engines.torch_run, ("torch_",)),
    (engines.tflite_run, ("tflite_",)),
    (foreign.exec_call, ("exec_",)),
    (uploads.uploads, uploads.PREFIXES),
)


if __name__ == "__main__":
    sys.exit(figures.main(__doc__, FIGURES, PARTS))
