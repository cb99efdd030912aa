"""What a model wants, what it was given, and the file that it comes from."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument, ResourceExhausted
from vaccel.sources import described

if TYPE_CHECKING:
    from pathlib import Path

    from vaccel.blob import Blob
    from vaccel.ops.tensors import Tensor
    from vaccel.resource import Resource


@dataclass(frozen=True)
class Wanted:
    """One input of a model, as far as the engine can tell."""

    name: str
    type: np.dtype[Any] | str | None = None
    """Its element type; the engine's name for it where numpy has none; None is unknown."""
    shape: tuple[int | None, ...] | None = None
    """None stands for an extent that the caller chooses, or for a shape that is unknown."""
    optional: bool = False

    def __str__(self) -> str:
        shape = "" if self.shape is None else str(["?" if d is None else d for d in self.shape])
        parts = (self.name, "" if self.type is None else str(self.type), shape.replace("'", ""))
        text = " ".join(part for part in parts if part)
        return f"[{text}]" if self.optional else text

    def takes(self, tensor: Tensor[Any]) -> bool:
        kind = tensor.data_type
        if self.type is not None:
            # A dtype compared to a str would take that for the name of a dtype.
            fits = kind.name if isinstance(self.type, str) else kind.numeric and kind.dtype
            if self.type is not fits and self.type != fits:
                return False
        shape = tensor.shape
        if self.shape is None or self.shape == shape:
            return True
        pairs = zip(self.shape, shape, strict=False)
        return len(shape) == len(self.shape) and all(d in (None, found) for d, found in pairs)


def element_type(tensor: Tensor[Any]) -> str:
    kind = tensor.data_type
    return str(kind.dtype if kind.numeric else kind.name)


class Signature:
    """What the model behind `operation` takes; its errors list that."""

    def __init__(self, operation: str, wanted: Sequence[Wanted]) -> None:
        self.operation = operation
        self.wanted = tuple(wanted)
        self._least = sum(not one.optional for one in wanted)
        self._told = any(one.type is not None or one.shape is not None for one in wanted)
        """There is more to check than the number of tensors."""

    def check(self, tensors: Sequence[Tensor[Any]]) -> None:
        """InvalidArgument unless `tensors` are what the model wants."""
        least, most = self._least, len(self.wanted)
        if not least <= len(tensors) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise self.refused(f"in_tensors: expected {count} tensors, found {len(tensors)}")
        if not self._told:
            return
        for i, (one, tensor) in enumerate(zip(self.wanted, tensors, strict=False)):
            if not one.takes(tensor):
                found = f"{element_type(tensor)} {tensor.dims}"
                raise self.refused(f"in_tensors[{i}]: expected {one}, found {found}")

    def refused(self, why: str) -> InvalidArgument:
        wanted = ", ".join(map(str, self.wanted)) or "no inputs"
        return InvalidArgument(f"{self.operation}: {why}; the model wants: {wanted}")

    def failed(self, exc: Exception, reason: str = "") -> FFIError:
        """The error for a run that the engine gave up; inputs are what its caller can change.

        `reason` is what `exc` says in fewer words.
        """
        reason = reason or one_line(exc)
        if isinstance(exc, MemoryError) or ("allocate" in reason and "memory" in reason):
            return ResourceExhausted(f"{self.operation}: out of memory: {reason}")
        return self.refused(f"the engine could not run the model: {reason}")

    def outputs(self, found: int, asked: int) -> int:
        """How many of `found` outputs go back: the first `asked`; 0 stands for all of them."""
        if asked > found:
            raise InvalidArgument(
                f"{self.operation}: nr_out_tensors: expected at most {found}, as many as the "
                f"model gives, found {asked}"
            )
        return asked or found


def model_file(resource: Resource, suffixes: tuple[str, ...]) -> Blob:
    """The only file of `resource`, or the only one with one of `suffixes`."""
    blobs = [blob for blob in resource.blobs() if not blob.name.endswith(described.ENDING)]
    models = [blob for blob in blobs if blob.name.lower().endswith(suffixes)]
    found = blobs if len(blobs) == 1 else models
    if len(found) != 1:
        raise InvalidArgument(
            f"resource {resource.id}: expected one file of {', '.join(suffixes)}, "
            f"found {', '.join(blob.name for blob in blobs) or 'no file'}"
        )
    return found[0]


def file_of(resource: Resource, blob: Blob) -> Path:
    """Where one of the resource's blobs is a file; memory is written to one."""
    places = [one.name for one in resource.blobs()]
    return resource.files()[places.index(blob.name)]


def on_disk(resource: Resource, blob: Blob) -> Path | None:
    """The file that the blob is mapped from; None: it is in memory alone."""
    return file_of(resource, blob) if isinstance(blob.data.obj, mmap.mmap) else blob.path


def content_of(resource: Resource, blob: Blob) -> bytes:
    """All of it, for engines that take nothing else: one copy, and none of what is bytes."""
    file = on_disk(resource, blob)
    if file is not None:
        return file.read_bytes()  # of the mapping, a copy would be in memory beside it
    held = blob.data.obj
    if isinstance(held, bytes) and len(held) == blob.data.nbytes:
        return held
    return bytes(blob.data)


def not_a_model(operation: str, resource: Resource, blob: Blob, reason: str) -> InvalidArgument:
    path = on_disk(resource, blob)
    reason = reason if path is None else without_places(reason, path, blob.name)
    return InvalidArgument(
        f"{operation}: resource {resource.id}: {blob.name}: not a model that can be loaded: "
        f"{reason}"
    )


def without_places(text: str, path: Path, name: str) -> str:
    """An engine's words, which name the file that it reads and those beside it. Where that is,
    concerns nobody at the other end."""
    for file in (path, path.resolve()):
        text = text.replace(str(file), name)
    for folder in (path.parent, path.parent.resolve(), path.resolve().parent):
        text = text.replace(f"{folder}/", "")
    return text


def one_line(exc: Exception | str) -> str:
    """The engine's reason; of a traceback of a model's own code the last line, which has it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return f"{' '.join(lines):.300}" or type(exc).__name__
