"""What a TensorFlow graph runs for a result, and whether it may.

A graph is a program: it has operations that read and write any file, open connections or call into
Python. A model that somebody sent has no business there, so such operations are refused, wherever
they are among what would run. When a model is set up TensorFlow itself reads the variables and
vocabularies that belong to it; that a graph may do, but only with the names of files that it is
given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vaccel.error import InvalidArgument

# By the names of operations. What tf.data does with files and hosts is too much to tell apart.
_OUTSIDE = re.compile(
    r".*(File|Dataset|Iterator|Reader|Save|Restore|Checkpoint|Writer|PyFunc|PyCall|Snapshot).*"
    r"|Write.*|ImportEvent|Debug.*|DumpTensor|Rpc.*|.*Rpc|Distributed.*|RecordInput"
    r"|Skipgram|FixedUnigramCandidateSampler|GenerateVocabRemapping|LoadAndRemapMatrix"
    r"|(En|De)codeProto.*|.*TRT.*|PrintV2 into a file"
)
# What sets a model up where it reads files. None of these makes a name of a file: a text is one
# that is given, or a constant. Told apart by _kind: constants that are one text, what keeps texts.
_SETS_UP = {
    *("NoOp", "Const", "Placeholder", "PlaceholderWithDefault", "Identity", "IdentityN"),
    *("PartitionedCall", "StatefulPartitionedCall", "VarHandleOp", "Variable", "VariableV2"),
    *("Assign", "AssignVariableOp", "ReadVariableOp", "VarIsInitializedOp"),
    *("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2"),
    *("MutableDenseHashTable", "MutableDenseHashTableV2"),
    *("InitializeTable", "InitializeTableV2", "LookupTableImportV2"),
}
_RESTORES = {"RestoreV2"}
_INITIALIZES = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
_KEEP_TEXTS = {"Assign of texts", "AssignVariableOp of texts"}
# What reads a file, and what calls a function, may be given nothing that was computed.
_SOURCES = re.compile(r"Placeholder.*|Const|VarHandleOp|Variable.*|ReadVariableOp|.*HashTable.*")
_INPUTS = {"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
_COMPUTED = " of what was computed"
_TEXT = 7  # DT_STRING


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...]


@dataclass(frozen=True)
class Behind:
    """What runs for some results: its operations, and the inputs of the graph that it reads."""

    operations: frozenset[str]
    inputs: tuple[str, ...]
    defaults: frozenset[str]
    """Those of `inputs` that need not be given."""


class Graph:
    """A graph without its weights, read from a GraphDef."""

    def __init__(self, definition: Any) -> None:
        self._nodes = _read_all(definition.node)
        library = definition.library
        self._functions = {
            one.signature.name: [*_read_all(one.node_def).values()] for one in library.function
        }
        self._gradients = {one.function_name: one.gradient_func for one in library.gradient}

    def ends(self) -> list[str]:
        """The nodes whose results no other node uses, in the graph's order."""
        used = {name for one in self._nodes.values() for name, _ in map(_source, one.inputs)}
        return [name for name in self._nodes if name not in used]

    def behind(self, results: Iterable[str], given: Collection[str] = ()) -> Behind:
        """What runs for `results`, tensors or nodes, where `given` tensors need no computing."""
        seen: set[str] = set()
        waiting = list(results)
        while waiting:
            name, place = _source(waiting.pop())
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            is_given = f"{name}:{place}" in given
            if not is_given:
                waiting += node.inputs
            if not is_given or node.kind in _INPUTS:
                seen.add(name)
        nodes = {name: self._nodes[name] for name in self._nodes if name in seen}
        inputs = {name: one.kind for name, one in nodes.items() if one.kind in _INPUTS}
        return Behind(
            frozenset(self._operations(nodes.values())),
            tuple(f"{name}:0" for name in inputs),
            frozenset(f"{name}:0" for name, kind in inputs.items() if "Default" in kind),
        )

    def _operations(self, nodes: Iterable[_Node]) -> Iterator[str]:
        """The kinds of `nodes`, and of the nodes of all functions that they call."""
        seen: set[str] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            names = [node.kind, *node.calls]
            names += filter(None, map(self._gradients.get, names))
            if node.kind not in self._functions:
                yield node.kind
            else:
                yield "a function by its name"
            for name in names:
                if name not in seen:
                    seen.add(name)
                    waiting += self._functions.get(name, ())


def check_run(operations: Collection[str]) -> None:
    """InvalidArgument: what runs for a result would reach outside of the model."""
    names = (one.removesuffix(_COMPUTED) for one in operations)
    _refuse({one for one in names if _OUTSIDE.fullmatch(one)}, "reach files, hosts or programs")


def check_restore(operations: Collection[str]) -> None:
    """As `check_run`, for what reads the variables."""
    _check_setup(operations, _RESTORES, frozenset())


def check_initialize(operations: Collection[str]) -> None:
    """As `check_run`, for what is run once, with the variables: it may read vocabularies."""
    _check_setup(operations, _INITIALIZES, _KEEP_TEXTS)  # such as the names it is given


def _check_setup(
    operations: Collection[str], reads: Collection[str], others: Collection[str]
) -> None:
    if any(one.removesuffix(_COMPUTED) in reads for one in operations):
        refused = {one for one in operations if one not in {*_SETS_UP, *reads, *others}}
        _refuse(refused, "could, where it is set up, read files")
    else:
        check_run(operations)


def _refuse(operations: Collection[str], reach: str) -> None:
    if operations:
        raise InvalidArgument(
            f"it runs {', '.join(sorted(operations))}: operations that {reach} outside of the "
            f"model are refused"
        )


def _read_all(nodes: Iterable[Any]) -> dict[str, _Node]:
    """By name. What names a file when a model is set up must not be a result of anything."""
    kinds = {node.name: _kind(node) for node in nodes}
    read = {}
    for node in nodes:
        kind = kinds[node.name]
        if kind in _RESTORES | _INITIALIZES or kind.endswith("PartitionedCall"):
            found = (kinds.get(_source(one)[0]) for one in node.input if not one.startswith("^"))
            if not all(one is None or _SOURCES.fullmatch(one) for one in found):
                kind += _COMPUTED
        calls = [f.name for a in node.attr.values() for f in (a.func, *a.list.func) if f.name]
        read[node.name] = _Node(kind, tuple(node.input), tuple(calls))
    return read


def _kind(node: Any) -> str:
    """The operation; with what its attributes make of it, where that counts."""
    kind: str = node.op
    type = node.attr["T" if kind == "Assign" else "dtype"].type if "Assign" in kind else 0
    if type == _TEXT:
        return f"{kind} of texts"
    if kind == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"):
        return "PrintV2 into a file"
    if kind == "Const":
        value = node.attr["value"].tensor
        if value.dtype == _TEXT and not value.tensor_shape.dim:
            return "Const that is a text"
    return kind


def _source(name: str) -> tuple[str, str]:
    """Node and place of an input: `name`, `name:1`, or `^name`, which is waited for alone."""
    node, _, place = name.partition(":")
    return (node[1:], "") if node.startswith("^") else (node, place or "0")
