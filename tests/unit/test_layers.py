"""Imports point down the layers (docs/design.md), and no file outgrows its reader."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# Top to bottom. A name stands for the module and all below it in its package, unless a longer
# name takes them. A module may import from the rows under its own, and from its own name.
LAYERS = (
    ("vaccel.cli", "vaccel.testing"),
    ("vaccel.agent",),
    ("vaccel.service",),
    ("vaccel.calls", "vaccel.uploads"),
    ("vaccel.plugins",),
    ("vaccel.inference", "vaccel.foreign"),
    ("vaccel",),
    ("vaccel.session",),
    ("vaccel.resource", "vaccel.genop", "vaccel.model"),
    ("vaccel.runtime",),
    ("vaccel.content",),
    ("vaccel.plugin",),
    ("vaccel.rpc.registry",),
    ("vaccel.rpc.upload",),
    ("vaccel.rpc.link",),
    ("vaccel.rpc.quick", "vaccel.rpc.server"),
    ("vaccel.rpc.client", "vaccel.rpc.peer", "vaccel.rpc.shared"),
    ("vaccel.rpc.readers", "vaccel.rpc.requests", "vaccel.rpc.waiting"),
    ("vaccel.rpc.handler", "vaccel.rpc.known", "vaccel.rpc.plan", "vaccel.rpc.outbox"),
    ("vaccel.rpc.models",),
    ("vaccel.rpc.arguments",),
    ("vaccel.rpc.frames",),
    ("vaccel.rpc.codec", "vaccel.rpc.content"),
    ("vaccel.rpc.status", "vaccel.rpc.transport"),
    ("vaccel.rpc.ttrpc", "vaccel.rpc.messages", "vaccel.rpc.address"),
    ("vaccel.rpc.sockets", "vaccel.rpc.watch", "vaccel.rpc.schema"),
    ("vaccel.rpc",),
    ("vaccel.fpga.boards", "vaccel.fpga.drawing"),
    (
        *("vaccel.fpga.board", "vaccel.fpga.simulator", "vaccel.fpga.timeline"),
        *("vaccel.fpga.synthesis", "vaccel.fpga.vivado"),
    ),
    (
        *("vaccel.fpga.drivers", "vaccel.fpga.toolchain", "vaccel.fpga.interrupts"),
        *("vaccel.fpga.document", "vaccel.fpga.hwh"),
    ),
    (
        *("vaccel.fpga.tasks", "vaccel.fpga.memory", "vaccel.fpga.model", "vaccel.fpga.rtl"),
        "vaccel.fpga.tools",
    ),
    (
        *("vaccel.fpga.fabric", "vaccel.fpga.pool", "vaccel.fpga.turns"),
        *("vaccel.fpga.overlay", "vaccel.fpga.canvas", "vaccel.fpga.claim"),
    ),
    ("vaccel.fpga.device", "vaccel.fpga.registers"),
    ("vaccel.fpga",),
    ("vaccel.ops.catalog",),
    ("vaccel.ops.declare",),
    ("vaccel.ops.spec",),
    ("vaccel.ops.signature",),
    ("vaccel.ops.numbers", "vaccel.ops.found", "vaccel.ops.objects", "vaccel.ops.layout"),
    ("vaccel.ops.kinds",),
    ("vaccel.ops.tf", "vaccel.ops.torch", "vaccel.ops.onnx"),
    ("vaccel.ops.tensors", "vaccel.ops.opencv"),
    ("vaccel.ops.functions",),
    ("vaccel.ops.parameters",),
    ("vaccel.ops.args",),
    ("vaccel.ops",),
    ("vaccel.sources",),
    ("vaccel.rundir", "vaccel.cache", "vaccel.ending"),
    ("vaccel.config", "vaccel.log", "vaccel.profiling", "vaccel.progress", "vaccel.blob"),
    ("vaccel.error", "vaccel.deadline", "vaccel.handle", "vaccel.quiet", "vaccel._version"),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
APART = {"vaccel.plugins"}  # whose modules may not import each other either

# Bytes in, events out: none of these may wait, for a peer or for another thread.
PURE = ("arguments", "codec", "frames", "messages", "models", "status", "ttrpc")
IO = (
    *("asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket", "threading"),
    *("vaccel.rpc.address", "vaccel.rpc.sockets", "vaccel.rpc.transport", "vaccel.rpc.watch"),
)

MAX_LINES = 320
LONG_FILES = {"vaccel/ops/catalog.py"}  # a list of declarations


def layer_of(module: str) -> str | None:
    """Return the longest name in LAYERS that holds `module`; the bare package holds only itself."""
    names = [n for n in RANK if module == n or (n != "vaccel" and module.startswith(f"{n}."))]
    return max(names, key=len, default=None)


def read_modules() -> dict[str, str]:
    modules = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path.read_text()
    return modules


def imports(module: str, sources: Mapping[str, str]) -> Iterator[str]:
    """Yield every module that `module` imports when it runs, at any depth of its code."""
    is_package = any(name.startswith(f"{module}.") for name in sources)
    package = module if is_package else module.rpartition(".")[0]
    for node in running(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield submodule if submodule in sources else base


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the tree, less the code that only a type checker reads: it may name what is above."""
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children = iter(node.orelse)
    for child in children:
        yield from running(child)


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return one sentence for each import in `sources` that does not point down."""
    found = []
    for importer in sorted(sources):
        for imported in sorted(set(imports(importer, sources))):
            here, there = layer_of(importer), layer_of(imported)
            if here is None or there is None or imported == importer:
                continue
            if here == there and here not in APART:
                continue
            if RANK[there] <= RANK[here]:
                relation = "above" if RANK[there] < RANK[here] else "beside"
                found.append(f"{importer} imports {imported}, which stands {relation} it")
    return found


def test_imports_point_down():
    assert violations(read_modules()) == []


def test_every_module_has_a_layer():
    homeless = [module for module in read_modules() if layer_of(module) is None]
    assert homeless == [], "give each of these a place in LAYERS"


def test_no_module_imports_itself_in_a_circle():
    sources = read_modules()
    graph = {m: {i for i in imports(m, sources) if i in sources and i != m} for m in sources}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("module", PURE)
def test_protocol_does_no_io(module: str):
    imported = imports(f"vaccel.rpc.{module}", read_modules())
    assert [name for name in imported if name.startswith(IO)] == []


def test_files_stay_readable():
    lengths = {
        str(path.relative_to(SOURCE)): len(path.read_text().splitlines())
        for path in SOURCE.rglob("*.py")
    }
    too_long = {name: n for name, n in lengths.items() if n > MAX_LINES and name not in LONG_FILES}
    assert too_long == {}


@pytest.mark.parametrize(
    ("importer", "code", "imported"),
    [
        ("vaccel.ops.spec", "import vaccel.session", "vaccel.session"),
        ("vaccel.ops.spec", "def f():\n    from vaccel import session", "vaccel.session"),
        ("vaccel.ops.args", "from .spec import Operation", "vaccel.ops.spec"),
        ("vaccel.rpc.ttrpc", "from . import codec", "vaccel.rpc.codec"),
        ("vaccel.rpc.client", "from vaccel.rpc.server import serve", "vaccel.rpc.server"),
        ("vaccel.plugins.cpu", "from vaccel.plugins import noop", "vaccel.plugins.noop"),
        ("vaccel.session", "import vaccel", "vaccel"),
        ("vaccel.error", "from vaccel import Session", "vaccel"),
        ("vaccel", "if x:\n    from .cli.main import main", "vaccel.cli.main"),
        ("vaccel.log", "if TYPE_CHECKING:\n    x\nelse:\n    import vaccel.cli", "vaccel.cli"),
    ],
)
def test_an_import_that_does_not_point_down_is_named(importer: str, code: str, imported: str):
    (sentence,) = violations({"vaccel": "", imported: "", importer: code})
    assert sentence.startswith(f"{importer} imports {imported}, ")


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("vaccel.session", "from vaccel.ops import catalog"),
        ("vaccel.plugins.rpc", "from vaccel import session\nfrom ..rpc import client"),
        ("vaccel.cli.main", "from . import agent\nfrom vaccel import agent as service"),
        ("vaccel.plugin", "if TYPE_CHECKING:\n    from vaccel.session import Session"),
        ("vaccel.config", "import os, socket"),
    ],
)
def test_an_import_that_points_down_is_let_be(importer: str, code: str):
    siblings = ("cli.agent", "agent", "session", "ops.catalog", "rpc.client")
    assert violations({f"vaccel.{name}": "" for name in siblings} | {importer: code}) == []
