"""Inputs of models that are given by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from vaccel.inference.inputs import Signature, Wanted, element_type
from vaccel.ops.tensors import Tensor

TensorT = TypeVar("TensorT", bound=Tensor[Any])


class NamedSignature(Signature):
    """What a model takes, with inputs in any order."""

    def __init__(self, operation: str, wanted: Sequence[Wanted]) -> None:
        super().__init__(operation, wanted)
        self.by_name = {one.name: one for one in self.wanted}

    def arrange(self, names: Sequence[str], tensors: Sequence[TensorT]) -> dict[str, TensorT]:
        """The tensors by name; InvalidArgument unless they are what the model wants."""
        if len(names) != len(tensors):
            raise self.refused(
                f"in_tensors: expected {len(names)} tensors, one for each name, "
                f"found {len(tensors)}"
            )
        given: dict[str, TensorT] = {}
        for i, (name, tensor) in enumerate(zip(names, tensors, strict=True)):
            place = f"in_tensors[{i}]: expected "
            wanted = self.by_name.get(name)
            if wanted is None:
                found = repr(name) if name else "one without a name"
                raise self.refused(f"{place}the name of an input, found {found}")
            if name in given:
                raise self.refused(f"{place}each name once, found {name} again")
            if not wanted.takes(tensor):
                found = f"{element_type(tensor)} {tensor.dims}"
                raise self.refused(f"{place}{wanted}, found {found}")
            given[name] = tensor
        missing = [name for name, one in self.by_name.items() if not one.optional]
        missing = [name for name in missing if name not in given]
        if missing:
            raise self.refused(f"in_tensors: expected also {', '.join(missing)}")
        return given
