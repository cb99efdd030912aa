"""The operation: one typed declaration, everything else derived.

A declaration is a typed method with named kinds in its annotations (see `catalog`). From it derive
the session method, the checks, the Genop form in both directions, noop's results, the command line,
the documentation and the test strategies.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vaccel.error import InternalError, InvalidArgument, ProtocolError
from vaccel.ops.kinds import Dims, WireArg, owned
from vaccel.ops.numbers import U8, Array, InOut, Scalar, as_form
from vaccel.ops.objects import TEXT_CAPACITY, Args, Name, ResourceRef, to_wire, to_wire_as_room
from vaccel.ops.signature import kinds_of


class Operation:
    """One operation: its code, its names, its inputs and outputs."""

    def __init__(
        self,
        stub: Callable[..., Any],
        code: int,
        title: str,
        *,
        phrase: str = "",
        label: str = "",
        method: str = "Genop",
        wire_outputs: Sequence[str] = (),
        dummies: Mapping[str, Any] | None = None,
        finish: Callable[[Any, Dims], Any] | None = None,
    ) -> None:
        self.code, self.name, self.title = code, stub.__name__, title
        self.doc = inspect.getdoc(stub) or ""
        self.phrase = phrase or title
        self.label = label or title
        self.method = method
        self.inputs, self.outputs = kinds_of(stub)
        self.dummies = dict(dummies or {})
        self.finish = finish
        self.signature = inspect.signature(stub).replace(
            parameters=list(inspect.signature(stub).parameters.values())[1:]
        )
        self.arity = len(self.inputs)
        defaults = [one.default for one in self.signature.parameters.values()]
        self._defaults = tuple(one for one in defaults if one is not inspect.Parameter.empty)
        self.wire_outputs = tuple(wire_outputs or self.outputs)
        self._look_at_kinds()

    def _look_at_kinds(self) -> None:
        """What calls need to know of the kinds."""
        steps = [(i, name, kind) for i, (name, kind) in enumerate(self.inputs.items())]
        # Buffers whose least size follows from numbers are checked once the numbers are known.
        self._steps = sorted(steps, key=lambda s: getattr(s[2], "count", None) is not None)
        numbers = [(i, k) for i, _, k in self._steps if isinstance(k, (Array, Scalar))]
        self._binding = [(i, kind) for i, kind in numbers if not kind.writes]
        self.resource = next((i for i, _, kind in steps if isinstance(kind, ResourceRef)), None)
        """Which input is a resource, if one is."""
        kinds = [*self.inputs.values(), *self.outputs.values()]
        arrays = [kind for kind in kinds if type(kind) is Array]
        self.plain = len(arrays) == len(kinds)
        """Nothing but arrays in and out: sizes alone decide whether a call fits."""
        one_dim = all(isinstance(k, Array) and len(k.dims) == 1 for k in self.inputs.values())
        self._vectors = arrays[0].dtype if arrays and self.plain and one_dim else None
        forms = [(i, len(k.dims)) for i, _, k in steps if type(k) is Array]
        self._form = forms[0][0] if forms else None
        self._form_ndim = forms[0][1] if forms else 0
        self._results = list(self.outputs.items())
        self._filled = next(
            (i for i, _, kind in steps if isinstance(kind, Args) and kind.writes), None
        )

    def __repr__(self) -> str:
        return f"<operation {self.code} {self.name}>"

    # -- calls ---------------------------------------------------------------------------------

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Positional values for all inputs, defaults filled in."""
        missing = self.arity - len(args)
        if not kwargs and 0 < missing <= len(self._defaults):
            return args + self._defaults[-missing:]
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise InvalidArgument(
                f"{self.name}: {exc}; expected {self.name}({', '.join(self.inputs)})"
            ) from None
        bound.apply_defaults()
        return tuple(bound.arguments.values())

    def check(self, args: Sequence[Any]) -> tuple[list[Any], Dims]:
        """The values as kernels get them, and the dimensions that they bind."""
        dims: Dims = {}
        checked = list(args)
        name = ""
        try:
            for i, name, kind in self._steps:  # noqa: B007
                checked[i] = kind.check(args[i], dims)
        except InvalidArgument as exc:
            raise self.invalid(name, exc) from None
        return checked, dims

    def fits(self, args: Sequence[Any]) -> bool:
        """`args` are what kernels get as they stand, so need no check and no conversion back.

        A short way for vectors, and for operations without arguments; False is no verdict.
        """
        dtype, ndarray = self._vectors, np.ndarray
        if len(args) == 2:  # most of them, so without the loop
            a, b = args
            return (
                type(a) is ndarray
                and type(b) is ndarray
                and a.dtype is dtype
                and b.dtype is dtype
                and a.ndim == 1 == b.ndim
                and len(a) == len(b)
                and a.flags.carray
                and b.flags.carray
            )
        if len(args) == 1:
            (a,) = args
            return type(a) is ndarray and a.dtype is dtype and a.ndim == 1 and a.flags.carray
        return not args

    def invalid(self, name: str, exc: InvalidArgument) -> InvalidArgument:
        return InvalidArgument(f"{self.name}: {name}: {exc.message}")

    def restore(self, args: Sequence[Any], checked: Sequence[Any], dims: Dims, result: Any) -> Any:
        """`result` in the form of the first array argument: array, list or bytes."""
        values = self.results(result, dims)
        if self._filled is not None:
            return [arg.buf for arg in checked[self._filled]] or None
        if self.finish is not None:
            values = (self.finish(values[0], dims),)
        if self._form is not None:
            form = args[self._form]
            values = tuple([as_form(form, self._form_ndim, value) for value in values])
        return values if len(values) > 1 else values[0] if values else None

    def dummy(self, dims: Dims) -> Any:
        """A place-holder result of the right types and shapes: what noop answers."""
        values = tuple(k.dummy(dims, self.dummies.get(n)) for n, k in self.outputs.items())
        return values if len(values) > 1 else values[0] if values else None

    def values(self, result: Any) -> tuple[Any, ...]:
        """The results one by one, as named in `outputs`, if a kernel gave what it should."""
        if len(self._results) != 1 and isinstance(result, (tuple, list, type(None))):
            return tuple(result or ())
        return (result,)

    def results(self, result: Any, dims: Dims) -> tuple[Any, ...]:
        """As `values`, checked: InternalError if the kernel gave what its operation does not."""
        values = self.values(result)
        if len(values) != len(self._results):
            raise InternalError(
                f"{self.name}: the kernel's results: expected {', '.join(self.outputs) or 'none'}, "
                f"found {len(values)} values"
            )
        name = ""
        try:
            checked = []
            for (name, kind), value in zip(self._results, values, strict=True):  # noqa: B007
                checked.append(kind.result(value, dims))
            return tuple(checked)
        except InvalidArgument as exc:
            raise InternalError(f"{self.name}: the kernel's {name}: {exc.message}") from exc

    # -- the Genop form, client side -----------------------------------------------------------

    def read_args(self, checked: Sequence[Any]) -> list[WireArg]:
        """The operation code and the inputs; a resource is given as its id on the other side."""
        args = [self.code_arg]
        for kind, value in zip(self.inputs.values(), checked, strict=True):
            if kind.variadic and not kind.writes:
                args += map(to_wire, value)
            elif not kind.writes:
                args.append(kind.to_wire(value))
        return args

    def write_args(self, checked: Sequence[Any], dims: Dims) -> list[WireArg]:
        """Room for the outputs, in wire order; what the caller pre-fills travels with it."""
        given = dict(zip(self.inputs, checked, strict=True))
        args = []
        for name in self.wire_outputs:
            kind = self.inputs.get(name)
            if isinstance(kind, InOut):
                args.append(kind.offer(given[name]))
            else:
                args.append(self.outputs[name].size(dims))
        for name, kind in self.inputs.items():
            if kind.variadic and kind.writes:
                args += map(to_wire_as_room, given[name])
        return args

    def result(self, checked: Sequence[Any], write: Sequence[WireArg], dims: Dims) -> Any:
        """The result from the filled write arguments of an answer."""
        given = [] if self._filled is None else checked[self._filled]
        if len(write) != len(self.wire_outputs) + len(given):
            raise ProtocolError(
                f"{self.name}: expected {len(self.wire_outputs) + len(given)} write arguments "
                f"in the answer, found {len(write)}"
            )
        values = {}
        name = ""
        try:
            for name, arg in zip(self.wire_outputs, write, strict=False):
                values[name] = self.outputs[name].from_wire(owned(arg), dims)
            for arg, filled in zip(given, write, strict=False):
                name = "write argument"
                arg.store(filled.buf)
        except InvalidArgument as exc:
            raise ProtocolError(f"{self.name}: the answer's {name}: {exc.message}") from exc
        if len(values) == 1:
            return values[self.wire_outputs[0]]
        return tuple(values[name] for name in self.outputs) or None

    @functools.cached_property
    def code_arg(self) -> WireArg:
        return Scalar(U8).to_wire(self.code)

    # -- the Genop form, agent side ------------------------------------------------------------

    def unpack(
        self,
        read: Sequence[WireArg],
        write: Sequence[WireArg],
        resource: Callable[[int], Any],
    ) -> list[Any]:
        """Checked values from the arguments of a Genop call (the code not included).

        `resource` finds a resource by its id.
        """
        self._count(read, write)
        checked: list[Any] = [None] * self.arity
        dims: Dims = {}
        places = self._places(read, write)
        name = ""
        try:
            for i, name, kind in self._steps:  # noqa: B007
                checked[i] = kind.from_wire(places[i], dims)
                if isinstance(kind, ResourceRef):
                    checked[i] = resource(checked[i])
        except InvalidArgument as exc:
            raise self.invalid(name, exc) from None
        return checked

    def _places(self, read: Sequence[WireArg], write: Sequence[WireArg]) -> list[Any]:
        """For each input the argument, or the list of arguments, that carries it."""
        places: list[Any] = []
        taken = 0
        for name, kind in self.inputs.items():
            if kind.variadic:
                places.append(write[len(self.outputs) :] if kind.writes else read[taken:])
            elif kind.writes:
                places.append(write[self.wire_outputs.index(name)])
            else:
                places.append(read[taken])
                taken += 1
        return places

    @functools.cached_property
    def _expected(self) -> tuple[int, bool, int, bool]:
        kinds = self.inputs.values()
        return (
            sum(not k.variadic and not k.writes for k in kinds),
            any(k.variadic and not k.writes for k in kinds),
            len(self.outputs),
            any(k.variadic and k.writes for k in kinds),
        )

    def _count(self, read: Sequence[WireArg], write: Sequence[WireArg]) -> None:
        reads, more_reads, writes, more_writes = self._expected
        for what, want, more, found in (
            ("read", reads, more_reads, len(read)),
            ("write", writes, more_writes, len(write)),
        ):
            if found < want or (found > want and not more):
                least = "at least " if more else ""
                raise InvalidArgument(
                    f"{self.name}: expected {least}{want} {what} arguments, found {found}"
                )

    def reply(self, checked: Sequence[Any], result: Any, write: Sequence[WireArg]) -> list[WireArg]:
        """The write arguments, filled; each fits what the caller offered."""
        dims: Dims = {}
        for i, number in self._binding:
            number.check(checked[i], dims)
        values = dict(zip(self.outputs, self.results(result, dims), strict=True))
        filled = []
        for name, room in zip(self.wire_outputs, write, strict=False):
            kind = self.outputs[name]
            arg = kind.to_wire(values[name])
            if arg.size > room.size:
                raise InvalidArgument(
                    f"{self.name}: {name}: the result needs {arg.size} bytes, "
                    f"the write argument offers {room.size}"
                )
            buf = arg.buf
            if isinstance(kind, Name) and room.size <= TEXT_CAPACITY:
                buf = buf.ljust(room.size, b"\0")  # 0.8 peers read the buffer they sent
            filled.append(WireArg(room.type, len(buf) if buf is not arg.buf else arg.size, buf))
        for kind, value in zip(self.inputs.values(), checked, strict=True):
            if isinstance(kind, Args) and kind.writes:
                filled += map(to_wire, value)
        return filled
