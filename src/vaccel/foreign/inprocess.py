"""Foreign functions in this very process, by explicit configuration."""

from __future__ import annotations

from collections.abc import Sequence

from vaccel.error import PluginError
from vaccel.foreign import worker
from vaccel.foreign.arguments import InPlace
from vaccel.foreign.libraries import Plan
from vaccel.foreign.process import Begin, failure
from vaccel.ops.args import Arg


class InProcess:
    """The libraries of a plan; they stay loaded, whatever becomes of their files.

    Calls may run at once, and know no limits.
    """

    ended = False

    def __init__(self, plan: Plan) -> None:
        """PluginError: the loader's words."""
        self._plan = plan
        self._libraries = worker.Libraries()
        try:
            self._libraries.load(plan.load)
        except OSError as exc:
            hint = ""
            if any(soname in str(exc) for soname in plan.unnamed):
                hint = "; link it with -Wl,-soname to load it into this process"
            raise PluginError(f"{plan.name} cannot be loaded: {exc}{hint}") from None

    def call(
        self, symbol: str, read: Sequence[Arg], write: Sequence[Arg], begin: Begin | None = None
    ) -> None:
        """As `Worker.call`, without a limit."""
        function = self._libraries.find(symbol)
        if function is None:
            raise self._plan.missing(symbol)
        arguments = InPlace(read, write)
        outputs = arguments.address + arguments.outputs
        numbers = (arguments.address, len(read), outputs, len(write))
        returned, _ = worker.call(function, *numbers)
        if returned:
            raise failure(returned)
        arguments.take()

    def close(self) -> None:
        """Nothing is released: other sessions may use the libraries."""

    def disown(self) -> None:
        """In a forked child: it has the libraries, too."""
