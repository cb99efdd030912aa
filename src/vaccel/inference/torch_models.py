"""TorchScript modules and exported programs, as PyTorch runs them on the CPU.

Inputs are used where they lie and outputs leave where PyTorch put them. Copied are only: inputs
that the model may change, as they are the caller's; outputs that are an input, a parameter or
another output, as the next call would change them; and, on numpy before 2.1, read-only inputs.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel import quiet
from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs
from vaccel.inference.inputs import Signature, Wanted
from vaccel.inference.loaded import import_engine
from vaccel.ops.torch import Tensor

if TYPE_CHECKING:
    from vaccel.resource import Resource

SUFFIXES = (".pt", ".pth", ".ts", ".torchscript", ".pt2")

_ARCHIVE = b"PK\3\4"

# A program archive may also hold pickled objects and compiled libraries, which are any code at all.
_PT2_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/.*|models/model\.json|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)

_one_by_one = threading.Lock()
"""For exported programs: their reader has state of the process's own."""


def open_model(resource: Resource) -> TorchModel:
    """The model of a resource, in evaluation mode; InvalidArgument: the file is none."""
    torch = import_torch()
    blob = inputs.model_file(resource, SUFFIXES)
    try:
        if blob.data[:4] != _ARCHIVE:
            raise InvalidArgument("it is no archive of torch.jit.save or torch.export.save")
        # PyTorch keeps copies of its own of what it reads.
        path = inputs.on_disk(resource, blob)
        with path.open("rb") if path else io.BytesIO(inputs.content_of(resource, blob)) as file:
            reader = torch._C.PyTorchFileReader(file)
            records = set(reader.get_all_records())
            if "models/model.json" in records:
                _check_archive(torch, reader, records)
                return _exported(torch, _load_program(torch, file))
            if "constants.pkl" in records:
                # A script would be read as a whole from a file object, but not by its path.
                return _scripted(torch, _load_script(torch, path or file))
        raise InvalidArgument(
            "it is an archive, but neither of torch.jit.save nor of torch.export.save (2.8 "
            "or later); weights alone, as torch.save writes them, hold no model"
        )
    except FFIError as exc:
        raise inputs.not_a_model("torch_model_load", resource, blob, exc.message) from None
    except Exception as exc:  # of many classes: each reader inside PyTorch has its own
        raise inputs.not_a_model("torch_model_load", resource, blob, _reason(exc)) from exc


def import_torch() -> Any:
    return import_engine("torch", "torch")


class TorchModel:
    """A model in memory. Threads may run it at once: PyTorch keeps no state of a run."""

    def __init__(
        self,
        torch: Any,
        wanted: Sequence[Wanted],
        call: Callable[[list[Any]], Any],
        *,
        writes: bool,
    ) -> None:
        self._signature = Signature("torch_model_run", wanted)
        self._torch, self._tensor = torch, torch.Tensor
        self._call = call
        self._writes = writes

    def run(self, tensors: Sequence[Tensor], count: int) -> list[Tensor]:
        """The first `count` outputs (0: all), those in tuples, lists and dictionaries in order."""
        self._signature.check(tensors)
        # Made outside inference mode, so that outputs tell whether they are new: see `_own`.
        arrays = [one.as_numpy() for one in tensors]
        given = [as_torch(self._torch, one.copy() if self._writes else one) for one in arrays]
        try:
            with self._torch.inference_mode():
                result = self._call(given)
                found = [result] if type(result) is self._tensor else list(self._flat(result))
                found = self._own(found[: self._signature.outputs(len(found), count)])
        except FFIError:
            raise
        except Exception as exc:  # of the model's own code: any class at all
            raise self._signature.failed(exc) from exc
        return [_output(i, one) for i, one in enumerate(found)]

    def _flat(self, result: Any) -> Iterator[Any]:
        if isinstance(result, self._torch.Tensor):
            yield result
        elif isinstance(result, (tuple, list)):
            for one in result:
                yield from self._flat(one)
        elif isinstance(result, dict):
            yield from self._flat(list(result.values()))
        else:
            raise InvalidArgument(
                f"torch_model_run: expected a model that gives tensors, "
                f"found one that gives {result!r:.60}"
            )

    def _own(self, found: list[Any]) -> list[Any]:
        """Outputs in memory of their own.

        A tensor made in inference mode says so; views of parameters, constants and inputs do not.
        """
        if len(found) == 1 and found[0].is_inference():
            return found
        seen: set[int] = set()
        own = []
        for one in found:
            place = one.data_ptr()
            shared = not one.is_inference() or (place in seen and one.numel())
            own.append(one.clone() if shared else one)
            seen.add(place)
        return own


def as_torch(torch: Any, array: np.ndarray[Any, Any]) -> Any:
    """A tensor over the memory of `array`, which may be read-only: then nothing may write to it.

    Unaligned memory is copied, as kernels load whole elements.
    """
    if array.flags.carray:  # which means writable, too
        return torch.from_numpy(array)
    array = np.require(array, requirements=["C", "A"])
    if array.flags.writeable:
        return torch.from_numpy(array)
    try:
        return torch.from_dlpack(array)  # from_numpy would warn
    except (BufferError, RuntimeError, TypeError):  # numpy before 2.1 exports no such arrays
        return torch.from_numpy(array.copy())


def _output(i: int, tensor: Any) -> Tensor:
    try:
        return Tensor.from_torch(tensor)
    except InvalidArgument as exc:
        raise InvalidArgument(f"torch_model_run: output {i} of the model: {exc.message}") from None


# -- TorchScript -------------------------------------------------------------------------------


def _load_script(torch: Any, file: Any) -> Any:
    """From a path, or a file in memory."""
    quiet.ignore(DeprecationWarning, message=r"`torch\.jit\.load`")
    if not isinstance(file, Path):
        file.seek(0)
    return torch.jit.load(file, map_location="cpu").eval()


def _scripted(torch: Any, module: Any) -> TorchModel:
    arguments = module.forward.schema.arguments[1:]
    types = [str(one.type) for one in arguments]
    if types == ["List[Tensor]"]:
        many = [Wanted(f"{arguments[0].name}…", optional=True)] * 1024
        return TorchModel(torch, many, module, writes=True)
    wanted = []
    for one, type in zip(arguments, types, strict=True):
        if type in ("Tensor", "Optional[Tensor]"):
            wanted.append(Wanted(one.name, optional=one.has_default_value()))
        elif not one.has_default_value():
            raise InvalidArgument(
                f"expected a forward() of tensors, found {one.name}: {type}; "
                f"wrap the module in one whose inputs are tensors"
            )
        else:
            break  # what follows cannot be given by position
    graph = module.inlined_graph
    aliases = graph.alias_db()
    writes = any(aliases.has_writers(value) for value in list(graph.inputs())[1:])
    return TorchModel(torch, wanted, lambda given: module(*given), writes=writes)


# -- exported programs -------------------------------------------------------------------------


def _check_archive(torch: Any, reader: Any, records: set[str]) -> None:
    """Refuse what would run code from the file: PyTorch unpickles some records."""
    strange = sorted(name for name in records if not _PT2_RECORDS.fullmatch(name))
    if strange:
        raise InvalidArgument(f"it holds {strange[0]!r}: only tensors and a graph are loaded")
    for name in sorted(records):
        if name.endswith("_config.json"):
            config = json.loads(reader.get_record(name))["config"]
            pickled = [key for key, value in config.items() if value["use_pickle"]]
            if pickled:
                raise InvalidArgument(f"{pickled[0]!r} is pickled: only plain tensors are loaded")
        elif name.endswith(".pt"):
            # PyTorch falls back to full unpickling where this fails.
            torch.load(io.BytesIO(reader.get_record(name)), weights_only=True)


def _load_program(torch: Any, file: Any) -> Any:
    with _one_by_one:
        file.seek(0)
        return torch.export.load(file)


def _exported(torch: Any, program: Any) -> TorchModel:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    user = torch.export.graph_signature.InputKind.USER_INPUT
    leaves = [spec.arg for spec in program.graph_signature.input_specs if spec.kind == user]
    wanted = [_wanted(nodes[one.name]) for one in leaves if not hasattr(one, "value")]
    module, spec = program.module(), program.call_spec.in_spec

    def call(given: list[Any]) -> Any:
        # Constants are part of the signature, keyword arguments and nested inputs of its tree.
        tensors = iter(given)
        args, kwargs = spec.unflatten(
            [one.value if hasattr(one, "value") else next(tensors) for one in leaves]
        )
        return module(*args, **kwargs)

    return TorchModel(torch, wanted, call, writes=_mutates(program))


def _wanted(node: Any) -> Wanted:
    example = node.meta["val"]
    shape = tuple(extent if type(extent) is int else None for extent in example.shape)
    kind = str(example.dtype).removeprefix("torch.")
    return Wanted(node.name, np.dtype(kind) if kind in np.sctypeDict else kind, shape)


def _mutates(program: Any) -> bool:
    """Some node writes in place; to what, the graph does not say."""
    graphs = [m.graph for m in program.graph_module.modules() if hasattr(m, "graph")]
    schemas = [getattr(node.target, "_schema", None) for graph in graphs for node in graph.nodes]
    return any(schema.is_mutable for schema in schemas if schema is not None)


def _reason(exc: Exception) -> str:
    """PyTorch's first sentence: advice follows, and in some builds a stack of C++ functions."""
    return inputs.one_line(exc).split(". ")[0]
