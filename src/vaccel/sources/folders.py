"""Paths as resources: files, and folders that stand for the regular files below them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaccel.error import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from vaccel.sources.names import MAX_FILES, check_name, unique


def files_of(paths: Any) -> list[tuple[str, Path]]:
    """Name and path of each file that one path, or a sequence of paths, stands for.

    Two of one name, which go to one folder elsewhere, get different ones. A path to nothing counts
    as a file: it may come to be. InvalidArgument for no path at all.
    """
    listed: Sequence[Any] = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    try:
        given = [Path(path) for path in listed if str(path)]
    except TypeError:
        given = []
    if not given or len(given) != len(listed):
        raise InvalidArgument(f"Resource: paths: expected one path or more, found {paths!r:.80}")
    found: list[tuple[str, Path]] = []
    for path in given:
        found += files_below(path) if path.is_dir() else [(path.name, path)]
    names = unique([name for name, _ in found])
    return [(name, path) for name, (_, path) in zip(names, found, strict=True)]


def files_below(folder: Path) -> list[tuple[str, Path]]:
    """Name and path of each file, sorted by name; links may lead to files in the folder.

    InvalidArgument, also for a folder without files. ResourceExhausted: more than MAX_FILES.
    """
    found = []
    for name, path in _walk(folder, folder.resolve(), ""):
        check_name(name)
        found.append((name, path))
        if len(found) > MAX_FILES:
            raise ResourceExhausted(
                f"folder {folder}: expected at most {MAX_FILES} files; name the files that are "
                "needed, or a folder further down"
            )
    if not found:
        raise InvalidArgument(f"folder {folder}: expected at least one file in it, found none")
    return sorted(found)


def _walk(folder: Path, root: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        raise NotFound(f"folder {folder} is not there any more") from None
    except OSError as exc:
        raise PermissionDenied(f"folder {folder} cannot be read: {exc.strerror}") from None
    for entry in entries:
        name, path = prefix + entry.name, folder / entry.name
        if entry.is_symlink():
            _check_link(path, root)
        if entry.is_dir():
            check_name(name)  # which also bounds the depth
            yield from _walk(path, root, f"{name}/")
        elif entry.is_file():
            yield name, path


def _check_link(link: Path, root: Path) -> None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a circle, before Python 3.13
        raise InvalidArgument(f"{link}: expected a link to a file, found one to nowhere") from None
    if not target.is_relative_to(root):
        raise InvalidArgument(
            f"{link}: expected links that stay in {root}, found one to {target}; "
            "copy the folder with cp -rL, or name the files"
        )
    # Folders would have to be followed in circles, or many times.
    if not target.is_file():
        raise InvalidArgument(
            f"{link}: expected a link to a file, found one to {target}; copy the folder with "
            "cp -rL, or name the files"
        )
