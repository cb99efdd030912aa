"""What belongs to a model beside its own file: its description, and weights in other files.

The one place that says which files these are: what is looked at here is what goes to an agent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaccel import log
from vaccel.blob import Blob, BlobType, ResourceType
from vaccel.error import InvalidArgument, NotFound
from vaccel.sources.trees import map_file

ENDING = ".vaccel.json"
GIVEN = ENDING
"""The name for the description that a program gave. A file that is called so counts as one."""
PREPROCESSOR = "preprocessor_config.json"
CONFIG = "config.json"
LABELS = "labels.txt"

_MODELS = (".onnx", ".ort")
"""Those of other engines have nothing beside them."""


def sidecar(model: str) -> str:
    """The name of the description beside `model`, in the same folder."""
    return model.removesuffix(Path(model).suffix) + ENDING


def beside(files: Sequence[tuple[str, Path]], descriptions: bool = True) -> list[Blob]:
    """What lies beside the ONNX models among `files` (name, path), belongs to them, and is not
    among `files` itself; as it is now. What cannot be read is left out; without `descriptions`,
    all but weights."""
    taken = {name for name, _ in files}
    found = []
    for name, path in files:
        if path.suffix.lower() not in _MODELS:
            continue
        folder = name.removesuffix(path.name)
        model = path.name
        about = (sidecar(model), PREPROCESSOR, CONFIG, LABELS) if descriptions else ()
        for one in (f"{model}.data", f"{model}_data", *about):
            if folder + one not in taken:
                taken.add(folder + one)
                found += _file(folder + one, path.with_name(one))
    return found


def _file(name: str, path: Path) -> list[Blob]:
    """Nothing where there is no file, or none that can be read."""
    try:
        if path.is_file():
            return [Blob(name, map_file(path), BlobType.FILE, path)]
    except (NotFound, OSError) as exc:  # such as a name that is longer than the model's
        log.debug("%s does not go with its model: %s", path, exc)
    return []


def written(description: Mapping[str, Any], type: ResourceType) -> list[Blob]:
    """A program's own description as a file. InvalidArgument: it cannot be one."""
    if type is not ResourceType.MODEL:
        raise InvalidArgument(f"Resource: description: expected a MODEL, found {type.name}")
    try:
        text = json.dumps(dict(description), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidArgument(
            f"Resource: description: expected values as JSON has them by the keys of "
            f"docs/models.md, found {description!r:.80} ({exc})"
        ) from None
    return [Blob(GIVEN, memoryview(text.encode()))]
