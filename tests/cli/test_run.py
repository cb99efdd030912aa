"""`vaccel run`: what it takes, what it prints, what it says when that is not possible."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import processes
from vaccel.agent import Agent
from vaccel.cli import main as cli
from vaccel.cli import values
from vaccel.config import Config
from vaccel.ops.args import ArgType
from vaccel.ops.numbers import F32, Array
from vaccel.ops.objects import Args

DATA = Path(str(resources.files("vaccel"))) / "data"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the examples name."""
    monkeypatch.chdir(tmp_path)
    np.save("input.npy", np.ones((1, 3), "f4"))
    Path("picture.jpg").write_bytes((DATA / "examples" / "detect.jpg").read_bytes())
    Path("model.bin").write_bytes(b"a model")
    return tmp_path


def vaccel(capsys: Output, line: str) -> str:
    """What a command prints that succeeds."""
    code = cli.main(shlex.split(line))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def failure(capsys: Output, line: str) -> tuple[int, str]:
    """Exit code and the one line of a command that fails."""
    try:
        code = cli.main(shlex.split(line))
    except SystemExit as exc:
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vaccel: ")
    assert err.count("\n") == 1
    return code, err.removeprefix("vaccel: ").rstrip()


# -- values and results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "5,1,2.1,1.2,5.2 -2.2,1.1,6.4,2.3,6.1",
        "[5,1,2.1,1.2,5.2] '[-2.2, 1.1, 6.4, 2.3, 6.1]'",
        "b=-2.2,1.1,6.4,2.3,6.1 a=5,1,2.1,1.2,5.2",
        "b=-2.2,1.1,6.4,2.3,6.1 5,1,2.1,1.2,5.2",
        "a.npy b.csv",
        "a=a.npy b=b.csv",
    ],
)
def test_arrays_are_inline_or_files_in_order_or_by_name(capsys: Output, line: str):
    np.save("a.npy", np.array([5, 1, 2.1, 1.2, 5.2], "f4"))
    Path("b.csv").write_text("# a column\n-2.2\n1.1\n\n6.4\n2.3\n6.1\n")
    assert vaccel(capsys, f"run fpga_vadd {line}") == "2.8\n2.1\n8.5\n3.5\n11.299999\n"


def test_options_may_stand_anywhere(capsys: Output):
    assert vaccel(capsys, "run --plugins cpu fpga_vadd 1,2 --plugins cpu 3,4") == "4.0\n6.0\n"


def test_a_matrix_prints_as_rows(capsys: Output):
    assert vaccel(capsys, "run fpga_mmult [[1,2],[3,4]] [[0,1],[1,0]]") == "2.0,1.0\n4.0,3.0\n"


def test_several_results_print_with_their_names(capsys: Output):
    expected = "outdata:\n7.0\n255.0\n0.0\nmin: -2.0\nmax: 300.0\n"
    assert vaccel(capsys, "run minmax 7,300,-2 3 0 255") == expected


def test_the_empty_array_gives_the_empty_array(capsys: Output):
    assert vaccel(capsys, "run fpga_vadd [] [] -o out.npy") == ""
    assert np.load("out.npy").shape == (0,)


def test_negative_numbers_are_not_options(capsys: Output):
    assert vaccel(capsys, "run fpga_vadd -1 -.5") == "-1.5\n"
    assert vaccel(capsys, "run fpga_vadd -inf -1e3") == "-inf\n"


def test_resources_are_registered_for_the_call(capsys: Output):
    assert vaccel(capsys, "run tflite_model_load model.bin --plugins noop") == ""
    out = vaccel(capsys, "run tf_model_load resource=model.bin --plugins noop")
    assert out == "0 Operation handled by noop plugin\n"


def test_tensors_go_in_and_out(capsys: Output):
    np.save("second.npy", np.arange(2, dtype="i4"))
    words = "model.bin input.npy second.npy nr_out_tensors=2 --plugins noop"
    out = vaccel(capsys, f"run torch_model_run {words}")
    assert out == "out_tensors.0:\n1.0,1.0,1.0\nout_tensors.1:\n0\n1\n"


def test_numbers_in_files_become_what_the_operation_takes(capsys: Output):
    np.save("double.npy", np.array([1.0, 1e300]))
    np.save("whole.npy", np.array([3, -4], ">i8"))
    Path("bom.csv").write_bytes(b"\xef\xbb\xbf1\n2\n")
    assert vaccel(capsys, "run fpga_vadd double.npy whole.npy") == "4.0\ninf\n"
    assert vaccel(capsys, "run fpga_vadd bom.csv bom.csv") == "2.0\n4.0\n"
    assert vaccel(capsys, "run fpga_arraycopy whole.npy") == "3\n-4\n"
    np.save("floats.npy", np.array([3.0, -4.0]))
    assert vaccel(capsys, "run fpga_arraycopy floats.npy") == "3\n-4\n"
    line = "run torch_model_run model.bin floats.npy --plugins noop -o out.npy"
    assert vaccel(capsys, line) == ""
    assert np.load("out.npy").dtype == np.float32


def test_what_arguments_room_is_filled_is_printed(capsys: Output):
    line = "run exec lib work arg_read=int32:5 arg_write=uint8*2 arg_write=float64:1"
    assert vaccel(capsys, line + " --plugins noop") == "arg_write.0:\n0\n0\narg_write.1: 0.0\n"


def test_arrays_are_saved(capsys: Output):
    assert vaccel(capsys, "run fpga_vadd 1,2 3,4 -o sum.npy") == ""
    saved = np.load("sum.npy")
    assert (saved.dtype, saved.tolist()) == (np.float32, [4, 6])
    assert vaccel(capsys, "run fpga_mmult 1,2,3,4 0,1,1,0 -o product.csv") == ""
    assert Path("product.csv").read_text() == "2.0\n1.0\n4.0\n3.0\n"


def test_several_arrays_are_saved_under_their_names(capsys: Output):
    assert vaccel(capsys, "run fpga_parallel 1,2 3,4 -o out.csv") == ""
    assert Path("out.add_output.csv").read_text() == "4.0\n6.0\n"
    assert Path("out.mult_output.csv").read_text() == "3.0\n8.0\n"


def test_what_is_no_array_prints_although_arrays_are_saved(capsys: Output):
    assert vaccel(capsys, "run minmax 7,1 2 0 5 -o out.npy") == "min: 1.0\nmax: 7.0\n"
    assert np.load("out.npy").tolist() == [5, 1]


@pytest.mark.subprocess
def test_an_agent_does_it_where_an_endpoint_is_given(capsys: Output):
    with processes.agent("--vaccel-config", "plugins=noop") as agent:
        assert vaccel(capsys, f"run fpga_vadd 1,2 3,4 --endpoint {agent.endpoint}") == "9.1\n9.1\n"
        line = f"run tf_model_load model.bin --endpoint {agent.endpoint}"
        assert vaccel(capsys, line) == "0 Operation handled by noop plugin\n"
        assert agent.stop() == (0, "")


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_printed_numbers_read_back_as_the_same(numbers: list[float]):
    array = np.array(numbers, "f4")
    read = values.parse(Array(F32, ("n",)), [values.text(array).replace("\n", ",")])
    assert read.dtype == np.float32
    assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("text", "type", "value"),
    [
        ("int32:5", ArgType.INT32, 5),
        ("float64:-1.5", ArgType.FLOAT64, -1.5),
        ("uint8:1,2", ArgType.UINT8_ARRAY, [1, 2]),
        ("int64:[]", ArgType.INT64_ARRAY, []),
        ("float32:input.npy", ArgType.FLOAT32_ARRAY, [[1, 1, 1]]),
        ("int16*3", ArgType.INT16_ARRAY, [0, 0, 0]),
        ("string:a:b*2", ArgType.STRING, "a:b*2"),
        ("buffer:model.bin", ArgType.BUFFER, b"a model"),
    ],
)
def test_arguments_have_a_type_and_a_value(text: str, type: ArgType, value: object):
    (arg,) = values.parse(Args(), [text])
    found = arg.buf.tolist() if isinstance(arg.buf, np.ndarray) else arg.buf
    assert (arg.type, found) == (type, value)


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("run", 2, "which operation"),
        ("run fpga_vad 1 2", 2, "did you mean fpga_vadd?"),
        ("run zzz", 2, "there is no operation 'zzz'"),
        ("run fpga_vadd 1", 2, "fpga_vadd: b: expected 1,2,3 or"),
        ("run fpga_vadd 1 2 3", 2, "fpga_vadd: expected a, b, found also '3'"),
        ("run fpga_vadd 1 c=3", 2, "fpga_vadd: expected a, b, found 'c'"),
        ("run fpga_vadd a=1 a=2 b=3", 2, "fpga_vadd: a: expected one value, found 2"),
        ("run fpga_vadd 1,x 2,3", 2, "fpga_vadd: a: expected a number (float32), found 'x'"),
        ("run fpga_vadd 1, 2,3", 2, "fpga_vadd: a: expected a number (float32), found ''"),
        ("run fpga_vadd '[1,2' 1,2", 2, "fpga_vadd: a: expected a list such as [1,2,3]"),
        ("run fpga_vadd '[1,[2]]' 1,2", 2, "fpga_vadd: a: expected numbers"),
        ("run fpga_vadd '[\"1\"]' 1,2", 2, "fpga_vadd: a: expected numbers"),
        ("run fpga_vadd 1,2 1,2,3", 2, "fpga_vadd: b: expected n=2"),
        ("run fpga_mmult [[1,2],[3]] 1", 2, "fpga_mmult: a: expected rows of the same length"),
        ("run fpga_arraycopy 1.5", 2, "fpga_arraycopy: a: expected a whole number (int32)"),
        ("run fpga_arraycopy 3000000000", 2, "fpga_arraycopy: a: expected int32 from"),
        ("run fpga_vadd none.npy 1", 1, "fpga_vadd: a: expected a readable file"),
        ("run fpga_vadd none.csv 1", 1, "'none.csv': No such file"),
        ("run fpga_vadd broken.npy 1", 2, "fpga_vadd: a: expected a whole .npy file"),
        ("run fpga_vadd short.npy 1", 2, "fpga_vadd: a: expected a whole .npy file"),
        ("run fpga_vadd objects.npy 1", 2, "fpga_vadd: a: expected a whole .npy file"),
        (
            "run fpga_vadd complex.npy 1",
            2,
            "a: expected real numbers in complex.npy, found complex",
        ),
        (
            "run fpga_arraycopy nan.npy",
            2,
            "a: expected whole numbers (int32) in nan.npy, found nan",
        ),
        ("run fpga_arraycopy half.npy", 2, "expected whole numbers (int32) in half.npy, found 0.5"),
        (
            "run fpga_arraycopy big.npy",
            2,
            "from -2147483648 to 2147483647 in big.npy, found 1180591",
        ),
        ("run exec a b arg_read=uint8:big.npy", 2, "arg_read: expected uint8 from 0 to 255 in big"),
        ("run torch_model_run model.bin u2.npy", 2, "found uint16; save it in one of these, or as"),
        ("run fpga_vadd words.csv 1", 2, "line 2: expected a number (float32), found 'x'"),
        ("run fpga_vadd broken.csv 1", 2, "fpga_vadd: a: expected text in broken.csv"),
        ("run fpga_vadd folder.npy 1", 1, "Is a directory"),
        ("run minmax 1,2 3 0 1", 2, "minmax: ndata: expected 2"),
        ("run classify none.jpg", 1, "classify: image: expected a readable file"),
        ("run classify picture.jpg --plugins cpu", 1, "classify: no loaded plugin implements it"),
        ("run classify picture.jpg --plugins cpu", 1, "`vaccel plugins` lists what each has"),
        (
            "run classify picture.jpg --model none.onnx",
            1,
            "model: expected a file, a folder, an archive or a",
        ),
        ("run fpga_vadd 1 2 --model a.onnx", 2, "--model: expected one of classify, detect, "),
        ("run detect_boxes picture.jpg --show", 2, "--show: expected one of classify, detect, "),
        ("run detect picture.jpg --show=a.jpg", 2, "--show: expected FILE.png, found 'a.jpg'"),
        ("run detect --show picture.png", 2, "detect: image: expected FILE, found nothing"),
        ("run tf_model_load none.pb", 1, "tf_model_load: resource: expected a file"),
        ("run exec a b arg_read=5", 2, "exec: arg_read: expected TYPE:VALUE or TYPE*COUNT"),
        ("run exec a b arg_read=uint8:300", 2, "exec: arg_read:"),
        ("run torch_model_run model.bin 1,2", 2, "torch_model_run: in_tensors: expected a .npy"),
        ("run opencv rezise", 2, "opencv: expected a function of resize, cvtColor, "),
        ("run opencv resize a.npy 2", 2, "opencv resize: height: expected a number from 1 to"),
        ("run opencv resize a.npy 0 2", 1, "opencv resize: image: expected a readable file"),
        ("run opencv resize input.npy 0 2", 2, "opencv resize: width: expected a number from 1"),
        ("run opencv resize input.npy 2 2 size=3", 2, "opencv resize: expected image, width, he"),
        ("run opencv resize model.bin 2 2", 2, "opencv resize: image: model.bin: expected "),
        ("run opencv", 2, "opencv: function: expected a whole number"),
        ("run fpga_vadd 1 2 -o out.png", 2, "out.png: expected uint8 of shape (height, width)"),
        ("run fpga_vadd 1 2 -o out.txt", 2, "-o: expected FILE.npy or FILE.csv"),
        (
            "run fpga_vadd 1 2 -o .npy",
            2,
            "-o: expected FILE.npy or FILE.csv, FILE.png for a picture, found",
        ),
        ("run fpga_vadd 1 2 -o folder/.csv", 2, "-o: expected FILE.npy or FILE.csv"),
        ("run fpga_vadd 1 2 -o none/out.npy", 1, "none/out.npy: No such file"),
        ("run noop -o out.npy", 2, "noop: -o: expected a result with arrays"),
        ("run fpga_vadd 1 2 --plugins nowhere", 1, "plugin 'nowhere' could not be loaded"),
        ("run fpga_vadd 1 2 --endpoint board", 2, "endpoint 'board'"),
        ("run fpga_vadd 1 2 --wrong", 2, "unrecognized arguments: --wrong"),
    ],
)
def test_failures_are_one_line_that_says_what_and_where(
    capsys: Output, line: str, code: int, said: str
):
    Path("broken.npy").write_bytes(b"no array")
    Path("short.npy").write_bytes(Path("input.npy").read_bytes()[:-1])
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    np.save("complex.npy", np.ones(1, "c8"))
    np.save("nan.npy", np.array([1, np.nan]))
    np.save("half.npy", np.array([1, 0.5]))
    np.save("big.npy", np.array([1, 2.0**70]))
    np.save("u2.npy", np.ones(1, "u2"))
    Path("words.csv").write_text("1\nx\n")
    Path("broken.csv").write_bytes(b"\xff\xfe")
    Path("folder.npy").mkdir()
    found, text = failure(capsys, line)
    assert said in text
    assert found == code


def test_an_endpoint_that_refuses_is_named(capsys: Output):
    with Agent("tcp://127.0.0.1:0", Config(plugins="noop")) as agent:
        endpoint = agent.endpoint
    code, text = failure(capsys, f"run noop --endpoint {endpoint}")
    assert code == 1
    assert f"cannot connect to {endpoint}: nothing listens there" in text
