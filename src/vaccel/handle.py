"""Handles: what a program has dropped is told from what it still holds, without `__del__`."""

from __future__ import annotations

from typing import TypeVar

H = TypeVar("H", bound="Handle")


class Handle:
    """What a program holds of a session or a resource.

    The runtime, the plugins and other handles hold its `core`: a second object over the same state,
    equal to the handle. So nothing but the program keeps a handle alive, and when the handle ends,
    the core is there to be closed.
    """

    __slots__ = ("_core",)
    _core: Handle | None

    def _split(self) -> None:
        """Make the core; called once, when the state begins."""
        core = object.__new__(type(self))
        core.__dict__ = self.__dict__  # type: ignore[misc]  # subclasses have one
        core._core = None
        self._core = core

    @property
    def core(self: H) -> H:
        """Of a core, itself."""
        return self._core or self  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.core is other.core

    def __hash__(self) -> int:
        return id(self._core or self)

    def close(self) -> None:
        """Release it. Repeatable."""
        raise NotImplementedError

    def drop(self) -> None:
        """Called on the core when the handle has ended."""
        self.close()

    def disown(self) -> None:
        """In a forked child: let go of it, release nothing."""
        raise NotImplementedError
