"""Models on the command line: those of image operations, and operations on models."""

from __future__ import annotations

import shutil
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import processes
from tests.inference import tf_models, tflite_models
from vaccel.cli import examples
from vaccel.cli import main as cli
from vaccel.ops.tf import TensorType

DATA = Path(str(resources.files("vaccel"))) / "data"
DETECT = str(DATA / "examples" / "detect.jpg")
ENGINE = "pip install 'vaccel[onnx]'"

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: Output, *words: str) -> str:
    """What a call prints that succeeds."""
    code = cli.main(["run", *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def mine(task: str, folder: Path) -> Path:
    """A model of `task` in `folder`, named anew, whose description is beside it alone."""
    folder.mkdir(exist_ok=True)
    shutil.copy(DATA / "models" / f"{task}.onnx", folder / "mine.onnx")
    shutil.copy(DATA / "models" / f"{task}.vaccel.json", folder / "mine.vaccel.json")
    return folder / "mine.onnx"


# -- image operations --------------------------------------------------------------------------


def test_a_picture_has_a_class_where_nothing_is_configured(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    picture = str(DATA / "examples" / "classify.jpg")
    assert run(capsys, "classify", picture).startswith("tag: plus\n")


@pytest.mark.subprocess
@pytest.mark.parametrize("where", ["here", "agent"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_model_takes_along_what_describes_it(where: str, form: str, folder: Path, capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    model = mine("detect", folder / "models")
    # The description says what it is: as it stands here, not what the shipped model has.
    sidecar = model.with_name("mine.vaccel.json")
    sidecar.write_text(sidecar.read_text().replace('"star"', '"sun"'))
    given = str(model if form == "file" else model.parent)
    words = ["detect_boxes", DETECT, "--model", given]
    if where == "here":
        out = run(capsys, *words)
    else:
        with processes.agent("--vaccel-config", "plugins=onnx") as agent:
            out = run(capsys, *words, "--endpoint", agent.endpoint)
    assert "names.3: sun\n" in out


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_a_model_may_be_in_an_archive_with_what_describes_it(
    kind: str, folder: Path, capsys: Output
):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    mine("detect", folder / "models")
    archive = shutil.make_archive(str(folder / "packed"), kind, folder / "models")
    assert "names.3: star\n" in run(capsys, "detect_boxes", DETECT, "--model", archive)


def test_a_model_of_another_engine_is_not_passed_over(folder: Path, capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    (folder / "yolo.pt").write_bytes(b"PK\x03\x04 and so on")
    assert cli.main(["run", "detect", DETECT, "--model", "yolo.pt"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "--model: expected an .onnx file, found yolo.pt" in err


@pytest.mark.subprocess
@pytest.mark.parametrize("where", ["here", "agent"])
def test_set_says_what_a_models_files_do_not(where: str, folder: Path, capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    model = mine("detect", folder / "models")
    names = '["a", "b", "c", "sun", "e", "f"]'
    words = ["detect_boxes", DETECT, "--model", str(model)]
    words += ["--set", f"names={names}", "--set", "layout=NCHW"]
    if where == "here":
        out = run(capsys, *words)
    else:
        with processes.agent("--vaccel-config", "plugins=onnx") as agent:
            out = run(capsys, *words, "--endpoint", agent.endpoint)
    assert "names.3: sun\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "tusk=detect"], "--set: expected the keys task, names, "),
        (["--set", "task"], "--set: expected KEY=VALUE, found 'task'"),
        (["--set", "size=NaN"], "expected values as JSON has them"),
        (["--set", "task=walk"], "description: task: expected one of classify, detect"),
    ],
)
def test_settings_that_are_none_are_one_line(
    words: list[str], message: str, folder: Path, capsys: Output
):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    model = mine("detect", folder / "models")
    assert cli.main(["run", "detect", DETECT, "--model", str(model), *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_settings_without_a_model_are_refused(capsys: Output):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "detect", DETECT, "--set", "task=detect"])
    assert ended.value.code == 2
    assert "--set: expected --model" in capsys.readouterr().err


@pytest.mark.subprocess
def test_the_program_classify_takes_a_models_description_to_the_agent(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    model = mine("classify", folder / "models")
    sidecar = model.with_name("mine.vaccel.json")
    sidecar.write_text(sidecar.read_text().replace('"plus"', '"cross"'))
    with processes.agent("--vaccel-config", "plugins=onnx") as agent, monkeypatch.context() as set:
        set.setenv("VACCEL_PLUGINS", "rpc")
        set.setenv("VACCEL_RPC_ADDRESS", agent.endpoint)
        picture = DATA / "examples" / "classify.jpg"
        assert examples.main(["classify", str(picture), "1", str(model)]) == 0
    assert "classification tags: cross\n" in capsys.readouterr().out


def test_show_takes_a_png_file_after_it_and_no_other_word(folder: Path, capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    lines = run(capsys, "detect", DETECT, "--show", "found.png").splitlines()
    assert lines[-1] == str(folder / "found.png")
    assert run(capsys, "detect", "--show=found.png", DETECT).splitlines()[-1] == lines[-1]
    assert run(capsys, "detect", "--show", DETECT).endswith(f"{folder}/detect.1.png\n")
    assert {path.name for path in folder.iterdir()} == {"found.png", "detect.1.png"}
    for path in folder.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_model_for_something_else_is_one_line(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    model = str(DATA / "models" / "pose.onnx")
    assert cli.main(["run", "detect", DETECT, "--model", model]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "expected a model for detect" in err
    assert "is for pose" in err


# -- operations on models ----------------------------------------------------------------------


def test_an_onnx_model_runs(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    from tests.inference.models import by_pixel

    Path("model.onnx").write_bytes(by_pixel(np.full((2, 3), 2, "f4"), np.zeros(2, "f4")))
    np.save("input.npy", np.ones((1, 3, 8, 8), "f4"))
    run(capsys, "onnx_model_run", "model.onnx", "input.npy", "-o", "out.npy")
    out = np.load("out.npy")
    assert out.shape[:2] == (1, 2)
    assert (out == 6).all()


def test_a_torch_model_runs(capsys: Output):
    torch: Any = pytest.importorskip("torch", reason="pip install 'vaccel[torch]'")
    layer = torch.nn.Linear(3, 1)
    torch.nn.init.constant_(layer.weight, 2)
    torch.nn.init.constant_(layer.bias, 1)
    torch.export.save(torch.export.export(layer, (torch.ones(1, 3),)), "model.pt2")
    np.save("input.npy", np.ones((1, 3), "f4"))
    words = ["model.pt2", "input.npy", "--plugins", "torch"]
    assert "7.0\n" in run(capsys, "torch_model_run", *words)
    assert run(capsys, "torch_model_load", *words[:1], *words[2:]) == ""
    assert run(capsys, "torch_model_unload", *words[:1], *words[2:]) == ""


def test_a_tflite_model_runs(capsys: Output):
    pytest.importorskip("ai_edge_litert", reason="pip install 'vaccel[tflite]'")
    made = tflite_models
    tensors = [made.T(name, (2,), "float32") for name in "abc"]
    ops = [made.Op(made.ADD, [0, 1], [2], made.ADD_OPTIONS)]
    Path("model.tflite").write_bytes(made.model(tensors, ops, [0, 1], [2]))
    np.save("a.npy", np.array([1, 2], "f4"))
    words = ["model.tflite", "a.npy", "a.npy", "--plugins", "tflite"]
    assert "2.0\n4.0\n" in run(capsys, "tflite_model_run", *words)


@pytest.mark.subprocess
@pytest.mark.skipif(not find_spec("openvino"), reason="pip install 'vaccel[openvino]'")
def test_a_tensorflow_model_runs_at_an_agent(capsys: Output):
    made = tf_models
    nodes = [made.placeholder(name, (-1, 4)) for name in "ab"]
    difference = made.node("c", "Sub", "a", "b", T=TensorType.FLOAT)
    Path("model.pb").write_bytes(made.frozen(*nodes, difference))
    np.save("a.npy", np.full((1, 4), 5, "f4"))
    np.save("b.npy", np.full((1, 4), 3, "f4"))
    words = ["model.pb", "in_nodes=a", "in_nodes=b", "in_tensors=a.npy", "in_tensors=b.npy"]
    with processes.agent("--vaccel-config", "plugins=tf") as agent:
        where = ["--endpoint", agent.endpoint]
        assert "2.0,2.0,2.0,2.0\n" in run(capsys, "tf_model_run", *words, "out_nodes=c", *where)


def test_a_file_that_is_no_model_is_one_line(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    Path("model.onnx").write_bytes(b"no model")
    np.save("input.npy", np.ones(1, "f4"))
    assert cli.main(["run", "onnx_model_run", "model.onnx", "input.npy"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "model.onnx: not a model that can be loaded" in err
