"""Image operations on the command line: their model, and the annotated picture as a file."""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaccel.blob import ResourceType
from vaccel.cli import program
from vaccel.error import InvalidArgument, NotFound
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.objects import Picture
from vaccel.ops.spec import Operation
from vaccel.resource import Resource
from vaccel.session import Session
from vaccel.sources.urls import is_url

_ARCHIVE = re.compile(r"\.(zip|tgz|tar(\.(gz|bz2|xz))?)(?=$|[?#])", re.IGNORECASE)
"""The end of a file's name, or of a URL's path: no ONNX model is one itself."""


def add_options(parser: argparse.ArgumentParser, op: Operation | None = None) -> None:
    """The options that `op` has; None: all."""
    if op is None or takes_picture(op):
        parser.add_argument(
            "--model",
            metavar="PATH",
            help="the model for an image operation: an .onnx file, which may have its description "
            "(MODEL.vaccel.json, config.json, labels.txt, …) beside it, a folder, an "
            "archive or a URL (default: a small model of vaccel's own, which knows drawn shapes)",
        )
        parser.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            help="say of the model what its files do not: task=detect, size=640, …; see "
            "docs/models.md (may be given several times)",
        )
    if op is None or "image_name" in op.outputs:
        parser.add_argument(
            "--show",
            metavar="FILE.png",
            nargs="?",
            help="save the annotated image, and print its path (default: OP.NUMBER.png here)",
        )


def marked(argv: list[str]) -> list[str]:
    """`argv` for argparse, which else takes for --show's FILE whatever word follows it."""
    return [
        "--show=" if text == "--show" and not _is_png(after) else text
        for text, after in itertools.zip_longest(argv, argv[1:], fillvalue="")
    ]


def _is_png(text: str) -> bool:
    return text.lower().endswith(".png")


def check_options(parser: program.Parser, op: Operation, args: argparse.Namespace) -> None:
    """End the program where an option does not fit the operation."""
    if args.show is not None and "image_name" not in op.outputs:
        named = ", ".join(name for name, one in BY_NAME.items() if "image_name" in one.outputs)
        parser.error(f"--show: expected one of {named}, found {op.name}")
    if args.show and not _is_png(args.show):
        parser.error(f"--show: expected FILE.png, found {args.show!r}")
    if args.model is not None and not takes_picture(op):
        named = ", ".join(name for name, one in BY_NAME.items() if takes_picture(one))
        parser.error(f"--model: expected one of {named}, found {op.name}")
    if args.set and args.model is None:
        parser.error("--set: expected --model, whose description it is, found none")


def takes_picture(op: Operation) -> bool:
    return any(isinstance(kind, Picture) for kind in op.inputs.values())


def description(settings: Sequence[str]) -> Mapping[str, Any]:
    """What KEY=VALUE texts say of a model; values are JSON, or else the text itself."""
    found: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidArgument(f"--set: expected KEY=VALUE, found {text!r}")
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError):
            found[key] = value
    from vaccel.inference.model_sources import known_only

    return known_only(found, "--set")


def model_of(text: str, settings: Sequence[str] = ()) -> Resource:
    """A MODEL resource from a file, a folder, an archive or a URL; `settings` are for
    `description`."""
    said = description(settings)
    resource = _resource(text)
    return resource.describe(said) if said else resource


def check_model(resource: Resource) -> None:
    """InvalidArgument: no ONNX model. The one that comes with vaccel would answer in its place."""
    from vaccel.inference.image_models import holds_model  # takes its time, and few calls need it

    if not holds_model(resource):
        names = ", ".join(blob.name for blob in resource.blobs()[:8])
        raise InvalidArgument(f"--model: expected an .onnx file, found {names}")


def _resource(text: str) -> Resource:
    if not is_url(text) and not Path(text).exists():
        raise NotFound(
            f"model: expected a file, a folder, an archive or a URL, found none at {text!r}"
        )
    if not Path(text).is_dir() and _ARCHIVE.search(text):
        return Resource.from_archive(text, ResourceType.MODEL)
    make = Resource.from_url if is_url(text) else Resource
    return make(text, ResourceType.MODEL)


def save(op: Operation, result: Any, session: Session, file: str) -> Path:
    """The annotated image that `result` names, in `file`; "" is a new file here."""
    name = dict(zip(op.outputs, op.values(result), strict=True))["image_name"]
    image = session.annotated_image(name)
    if not image.size:
        raise NotFound(f"{op.name}: --show: expected an image, found none of the name {name!r}")
    if file:
        Path(file).write_bytes(image.data)
        return Path(file).absolute()
    for number in itertools.count(1):
        path = Path(f"{op.name}.{number}.png").absolute()
        with suppress(FileExistsError), path.open("xb") as new:
            new.write(image.data)
            break
    return path
