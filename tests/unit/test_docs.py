"""The documents say what the code does: examples run, commands parse, tables are complete."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vaccel import runtime
from vaccel.cli import agent, examples, main, ops
from vaccel.inference.layouts import FORMATS
from vaccel.inference.model_keys import CHECKS
from vaccel.ops import catalog
from vaccel.ops.catalog import Operations
from vaccel.ops.declare import operation_of
from vaccel.plugins import cpu
from vaccel.rpc import address
from vaccel.testing import check_plugin, check_transport

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MODELS = (ROOT / "docs" / "models.md").read_text()

PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "vaccel": main.main,
    "vaccelrt-agent": agent.main,
    **examples.PROGRAMS,
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def recipe(start: str) -> str:
    """The Python of CONTRIBUTING.md that starts so."""
    (found,) = (block for block in blocks(CONTRIBUTING, "python") if block.startswith(start))
    return found


# -- the README ------------------------------------------------------------------------------------


@pytest.mark.subprocess
def test_the_readmes_example_prints_what_it_says():
    assert output(README, "cpu") == (blocks(README, "text")[0], "")


def output(document: str, plugins: str) -> tuple[str, str]:
    """What the example of a document prints."""
    (example,) = blocks(document, "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=ROOT,
        env={**os.environ, "VACCEL_PLUGINS": plugins},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr


class _Parsed(BaseException):
    """A program has read its command line, values included, and would now begin to work."""


def commands() -> Iterator[str]:
    for block in blocks(README, "console"):
        for line in block.splitlines():
            words = shlex.split(line[2:]) if line.startswith("$ ") else []
            while words and re.match(r"VACCEL_\w+=", words[0]):
                words.pop(0)
            if words and words[0] in PROGRAMS:
                yield shlex.join(words)


@pytest.mark.parametrize("command", dict.fromkeys(commands()))
def test_the_readmes_commands_parse(command: str, monkeypatch: pytest.MonkeyPatch):
    def bootstrap(*_: object) -> None:
        raise _Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runtime, "bootstrap", bootstrap)
    name, *arguments = shlex.split(command)
    try:
        code = PROGRAMS[name](arguments)
    except _Parsed:
        return
    assert code == 0
    assert {"--help", "plugins", "ops", "registers"} & set(arguments), (
        "only these do without a runtime"
    )


def test_the_readmes_commands_are_found():
    named = {command.split()[0] for command in commands()}
    assert named >= {"vaccel", "vaccelrt-agent", "classify", "pynq_vector_add_generic"}


def test_the_readme_lists_the_commands_of_vaccel():
    table = README.partition("## The `vaccel` command")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `vaccel (\w+)", table, re.MULTILINE) == list(main.COMMANDS)


def test_the_readme_lists_every_environment_variable_and_no_other():
    literals = {
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    read = {text for text in literals if re.fullmatch(r"(VACCEL|XDG)_[A-Z_]+|TMPDIR", text)}
    table = README.partition("## Environment variables")[2].partition("\n## ")[0]
    cells = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    listed = {name for row in cells for cell in row for name in re.findall(r"`(\w+)`", cell)}
    assert listed == read


def test_the_readme_lists_every_plugins_operations():
    (row,) = (line for line in README.splitlines() if line.startswith("| `cpu` |"))
    listed = re.findall(r"`(\w+)`", row.split("|")[3])
    assert listed == [op.name for op in cpu.plugin.operations()]


# -- the other documents ---------------------------------------------------------------------------


def test_the_table_of_operations_is_the_generated_one():
    found = (ROOT / "docs" / "operations.md").read_text()
    assert found == ops.markdown() + "\n", "run: vaccel ops --markdown > docs/operations.md"


@pytest.mark.subprocess
def test_the_example_of_models_prints_what_it_says():
    pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    pytest.importorskip("PIL", reason="pip install 'vaccel[onnx]'")
    assert output(MODELS, "onnx") == (blocks(MODELS, "text")[0], "")


def test_every_key_of_a_description_and_every_layout_is_explained():
    keys = MODELS.partition("| Key |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", keys, re.MULTILINE) == list(CHECKS)
    rows = [
        f"| {row.task} | `{row.key}` | {row.shapes} | {'yes' if row.guessed else 'no'} |"
        for row in FORMATS.values()
    ]
    table = MODELS.partition("| Recognised |")[2].partition("\n\n")[0]
    assert table.splitlines()[2:] == rows


def test_the_functions_of_opencv_are_the_generated_ones():
    found = (ROOT / "docs" / "opencv.md").read_text()
    assert ops.functions_markdown("opencv") in found, "see: vaccel ops opencv --markdown"


@pytest.mark.subprocess
def test_the_example_of_opencv_prints_what_it_says():
    pytest.importorskip("cv2", reason="pip install 'vaccel[opencv]'")
    text = (ROOT / "docs" / "opencv.md").read_text()
    assert output(text, "opencv") == (blocks(text, "text")[0], "")


def test_the_design_gives_every_module_a_layer():
    design = (ROOT / "docs" / "design.md").read_text()
    table = design.partition("## Layers")[2].partition("\n## ")[0]
    package = ROOT / "src" / "vaccel"
    modules = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("[!_]*.py")
    }
    families = r"^(cli|testing|inference|foreign|sources|uploads|fpga\.rtl|fpga\.model)\..*"
    modules = {re.sub(families, r"\1.*", module) for module in modules}
    assert sorted(module for module in modules if f"`{module}`" not in table) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path):
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for target, _, heading in (link.partition("#") for link in links if "://" not in link):
        path = document.parent / target if target else document
        assert path.is_file(), f"{document.name} links to {target}"
        if heading:
            assert heading in anchors(path), f"{document.name} links to {target}#{heading}"


def anchors(document: Path) -> list[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


# -- the recipes -----------------------------------------------------------------------------------


def test_the_recipe_for_an_operation_works(monkeypatch: pytest.MonkeyPatch):
    declared = vars(catalog).copy()
    exec(recipe("@operation("), declared)
    op = operation_of(declared["saxpy"])
    monkeypatch.setattr(Operations, op.name, declared["saxpy"], raising=False)
    monkeypatch.setitem(catalog.OPERATIONS, op.code, op)
    monkeypatch.setitem(catalog.BY_NAME, op.name, op)
    monkeypatch.setattr(cpu.plugin, "_kernels", cpu.plugin._kernels.copy())
    kernel = vars(cpu).copy()
    exec(recipe("@plugin.kernel("), kernel)
    x, y = np.array([[1, 2], [10, 20]], np.float32)
    assert kernel["saxpy"](None, 2.0, x, y).tolist() == [12, 24]
    assert check_plugin("cpu", operations=["saxpy"], oracle=None) == ["saxpy"]


def test_the_recipe_for_a_plugin_works(tmp_path: Path):
    path = tmp_path / "halves.py"
    path.write_text(recipe('"""halves'))
    assert check_plugin(str(path)) == ["fpga_vadd"]


def test_the_recipe_for_a_transport_works(monkeypatch: pytest.MonkeyPatch):
    space = {**vars(address), "Path": Path, "rundir": sys.modules["vaccel.rundir"]}
    exec(recipe("class _Run"), space)
    monkeypatch.setitem(address._TRANSPORTS, "run", space["_Run"]())
    check_transport("run://recipe", connections=2, large=1 << 16)
