"""`vaccel run OP --help`: the example that it gives works, on the plugin that it is for."""

from __future__ import annotations

import io
import shlex
import shutil
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exec.conftest import compile_c
from tests.inference import tf_models, tflite_models
from vaccel.cli import main as cli
from vaccel.cli.called import FUNCTIONS
from vaccel.cli.run_help import example
from vaccel.ops import opencv
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.tf import TensorType
from vaccel.plugin import BUILT_IN

EXAMPLES = Path(str(resources.files("vaccel"))) / "data" / "examples"
TARGETS = [*BY_NAME, *(f"opencv {name}" for name in opencv.BY_NAME)]

WORK = """
#include "vaccel.h"

int work(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
{
	if (n_in != 1 || n_out != 1 || out[0].size != 2 * sizeof(float))
		return EINVAL;
	((float *)out[0].buf)[0] = *(int32_t *)in[0].buf;
	((float *)out[0].buf)[1] = 0.5;
	return 0;
}
"""

Output = pytest.CaptureFixture[str]


def run(capsys: Output, line: str) -> str:
    """What a command prints that succeeds."""
    code = cli.main(shlex.split(line)[1:])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


# -- what the examples name --------------------------------------------------------------------


def torch_model() -> bytes:
    torch: Any = pytest.importorskip("torch", reason="pip install 'vaccel[torch]'")
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(3, 1), (torch.ones(1, 3),)), buffer)
    return buffer.getvalue()


def tf_model() -> bytes:
    if not (find_spec("tensorflow") or find_spec("openvino")):
        pytest.skip("pip install 'vaccel[openvino]'")
    double = tf_models.node("output", "Add", "input", "input", T=TensorType.FLOAT)
    return tf_models.frozen(tf_models.placeholder("input", (-1, 3)), double)


def tflite_model() -> bytes:
    pytest.importorskip("ai_edge_litert", reason="pip install 'vaccel[tflite]'")
    made = tflite_models
    tensors = [made.T(name, (1, 3)) for name in "ab"]
    return made.model(tensors, [made.Op(made.ADD, [0, 0], [1], made.ADD_OPTIONS)], [0], [1])


def onnx_model() -> bytes:
    pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    from tests.inference.models import model, node

    doubled = {"doubled": (np.float32, (1, 3))}
    return model([node("Add", "images images", "doubled")], doubled, {}, images=(1, 3))


MODELS: dict[str, Callable[[], bytes]] = {
    "model.onnx": onnx_model,
    "model.pb": tf_model,
    "model.pt": torch_model,
    "model.tflite": tflite_model,
}


def provide(line: str) -> None:
    """Make the files that a command names; skip the test where its plugin cannot work."""
    for name, make in MODELS.items():
        if name in line:
            Path(name).write_bytes(make())
    if "libwork.so" in line:
        if shutil.which("cc") is None:
            pytest.skip("needs a C compiler: apt install gcc")
        compile_c(Path("libwork.so").absolute(), WORK)
    if "torch" in line:
        pytest.importorskip("torch", reason="pip install 'vaccel[torch]'")
    if "opencv" in line:
        pytest.importorskip("cv2", reason="pip install 'vaccel[opencv]'")
    if "picture" in line or "part" in line:
        image: Any = pytest.importorskip("PIL.Image", reason="pip install 'vaccel[onnx]'")
        picture = image.open(EXAMPLES / "detect.jpg")
        picture.save("picture.jpg")
        picture.crop((10, 10, 50, 50)).save("part.png")
        if "opencv" not in line:
            pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    np.save("input.npy", np.ones((1, 3), "f4"))


# -- the examples ------------------------------------------------------------------------------


@pytest.mark.subprocess
@pytest.mark.parametrize("target", TARGETS)
def test_everything_explains_itself_and_its_example_works(
    capsys: Output, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = run(capsys, f"vaccel run {target} --help")
    operation, _, function = target.partition(" ")
    what = opencv.BY_NAME[function] if function else BY_NAME[operation]
    assert what.doc.split("\n")[0] in text
    for name in [*what.inputs, *what.outputs]:
        assert f"  {name} " in text
    (line,) = [line for line in text.splitlines() if line.startswith("  vaccel run ")]
    assert "noop" not in line or target == "noop"
    provide(line)
    run(capsys, line)
    for word in shlex.split(line):
        if word.startswith("result."):
            assert Path(word).stat().st_size


def test_each_plugin_with_operations_of_its_own_has_an_example() -> None:
    named = {example(op).partition("--plugins ")[2].split(" ")[0] for op in BY_NAME.values()}
    assert FUNCTIONS.keys() <= named
    assert named - {""} == BUILT_IN.keys() - {"cpu", "noop", "pynq", "rpc", "vsock"}
