"""What is loaded where nothing is configured, and what that costs and says."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import vaccel
from tests import processes
from vaccel import Config, Session, runtime
from vaccel.cli import main
from vaccel.error import NotSupported, PluginError

DATA = Path(str(resources.files("vaccel"))) / "data"
PICTURE = str(DATA / "examples" / "classify.jpg")
ENGINE = "pip install 'vaccel[onnx]'"

Output = pytest.CaptureFixture[str]


def names() -> list[str]:
    return [plugin.name for plugin in runtime.current().plugins]


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which onnxruntime is installed, and raises."""
    pytest.importorskip("PIL", reason=ENGINE)
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise RuntimeError('a wrong numpy')")
    source = Path(str(resources.files("vaccel"))).parent
    return {"PYTHONPATH": f"{tmp_path}:{source}"}


# -- there -------------------------------------------------------------------------------------


@pytest.mark.subprocess
def test_classify_gives_a_real_answer_with_nothing_configured():
    pytest.importorskip("onnxruntime", reason=ENGINE)
    done = processes.run("examples", "classify", PICTURE, "1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "classification tags: plus"


@pytest.mark.subprocess
def test_an_agent_serves_it_with_nothing_configured(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    with processes.agent() as agent:
        assert main.main(["run", "classify", PICTURE, "--endpoint", agent.endpoint]) == 0
        assert agent.stop() == (0, "")
    assert capsys.readouterr().out.startswith("tag: plus\n")


@pytest.mark.subprocess
def test_engines_are_imported_when_they_are_used():
    pytest.importorskip("onnxruntime", reason=ENGINE)
    program = """if True:
        import sys
        from vaccel import Session

        def there():
            return sorted({"onnxruntime", "PIL"} & set(sys.modules))

        with Session() as session:
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]
            print(there())
            print(session.classify(open(sys.argv[1], "rb").read())[0], there())
    """
    command = [sys.executable, "-c", program, PICTURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\nplus ['PIL', 'onnxruntime']\n", "")


def test_one_that_is_named_is_imported_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PluginError, match=r"pip install 'vaccel\[onnx\]'"):
        vaccel.bootstrap(Config(plugins="cpu:onnx"))


# -- not there ---------------------------------------------------------------------------------


def test_it_is_left_out_where_its_engine_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    vaccel.bootstrap()
    assert names() == ["cpu"]
    with Session() as session, pytest.raises(NotSupported) as caught:
        session.classify(b"")
    for text in ("loaded: cpu; not loaded: onnx: onnxruntime is not installed", ENGINE):
        assert text in caught.value.message
    vaccel.cleanup()
    assert capsys.readouterr().err == ""


def test_doctor_and_plugins_say_that_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main.main(["doctor"]) == 0
    reason = f"onnxruntime is not installed; {ENGINE}"
    out = capsys.readouterr().out
    assert f"plugin    onnx: left out: {reason}\n" in out
    assert "plugin    cpu: works" in out
    assert main.main(["plugins"]) == 0
    found = re.search(r"^  onnx .*\n +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert found
    assert found[1] == f"cannot be used: {reason}"
    assert main.main(["plugins", "onnx"]) == 1
    assert ENGINE in capsys.readouterr().out


def test_doctor_and_plugins_say_that_it_is_used(capsys: Output):
    pytest.importorskip("onnxruntime", reason=ENGINE)
    assert main.main(["doctor"]) == 0
    assert "plugin    onnx: works (classify " in capsys.readouterr().out
    assert main.main(["plugins"]) == 0
    assert re.search(r"^\* onnx .*\n +classify detect ", capsys.readouterr().out, re.MULTILINE)


# -- broken ------------------------------------------------------------------------------------


@pytest.mark.subprocess
def test_a_broken_engine_costs_nothing_but_its_operations(broken: dict[str, str]):
    done = processes.run("examples", "pynq_vector_add_generic", env=broken)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "2.800000")
    done = processes.run("examples", "classify", PICTURE, "1", env=broken)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("classify: classify: ")
    assert "onnxruntime cannot be imported (RuntimeError: a wrong numpy)" in last


@pytest.mark.subprocess
def test_a_broken_engine_fails_where_its_plugin_is_named(broken: dict[str, str]):
    env = broken | {"VACCEL_PLUGINS": "cpu:onnx"}
    done = processes.run("examples", "pynq_vector_add_generic", env=env)
    assert done.returncode == 1
    assert "onnxruntime cannot be imported (RuntimeError: a wrong numpy)" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.subprocess
def test_doctor_finds_a_broken_engine(broken: dict[str, str]):
    done = processes.run("main", "doctor", env=broken)
    assert done.returncode == 1
    assert "plugin    onnx: FAILED: onnxruntime cannot be imported" in done.stdout


def test_a_broken_plugin_that_is_optional_is_a_warning(tmp_path: Path):
    (tmp_path / "mine.py").write_text("raise KeyError('no device')")
    log = tmp_path / "log"
    vaccel.bootstrap(Config(f"{tmp_path}/mine.py?:cpu:nonesuch?", 2, str(log)))
    assert names() == ["cpu"]
    vaccel.cleanup()
    first, second = log.read_text().splitlines()
    assert "<warn> plugin" in first
    assert "KeyError: 'no device'" in first
    assert "no plugin of this name is installed" in second
