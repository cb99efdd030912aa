"""torch: TorchScript modules, exported programs (`.pt2`) and sgemm on PyTorch, on the CPU.

A model's first `nr_out_tensors` outputs come back, all of them for 0. It is loaded once for each
resource, in evaluation mode, and serves any number of sessions and threads at once. How many
threads one call uses is PyTorch's choice: OMP_NUM_THREADS, or torch.set_num_threads.

A model is a program: name this plugin for an agent only where its clients may run code of PyTorch.
Python pickles and compiled libraries in `.pt2` files are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vaccel.error import InvalidArgument
from vaccel.inference.loaded import ModelPlugin
from vaccel.inference.torch_models import TorchModel, as_torch, import_torch, open_model
from vaccel.ops import torch
from vaccel.ops.catalog import Operations
from vaccel.plugin import PluginType

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session

F32s = npt.NDArray[np.float32]

plugin: ModelPlugin[TorchModel] = ModelPlugin(
    "torch",
    PluginType.CPU | PluginType.TORCH,
    open_model,
    engine="torch",
    summary="TorchScript and .pt2 models, on PyTorch",
)
plugin.kernel(Operations.torch_model_unload)(plugin.unload)


@plugin.kernel(Operations.torch_model_load)
def torch_model_load(session: Session, resource: Resource) -> None:
    plugin.models.load(session, resource)


@plugin.kernel(Operations.torch_model_run)
def torch_model_run(
    session: Session,
    resource: Resource,
    in_tensors: list[torch.Tensor],
    nr_out_tensors: int,
    run_options: torch.Buffer | None,
) -> list[torch.Tensor]:
    if run_options is not None and run_options.size:
        raise InvalidArgument(
            f"torch_model_run: run_options: expected none, found {run_options.size} bytes; "
            f"PyTorch has no run options"
        )
    return plugin.models.get(session, resource).run(in_tensors, nr_out_tensors)


@plugin.kernel(Operations.torch_sgemm)
def torch_sgemm(
    session: Session,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: F32s,
    lda: int,
    b: F32s,
    ldb: int,
    beta: float,
    ldc: int,
    c: F32s,
) -> F32s:
    # As in BLAS, and as addmm_ does it, beta = 0 does not read C, which may hold NaN.
    product = _rows(a, m, k, lda), _rows(b, k, n, ldb)
    _rows(c, m, n, ldc).addmm_(*product, beta=beta, alpha=alpha)
    return c


def _rows(flat: F32s, rows: int, columns: int, leading: int) -> Any:
    """A rows × columns tensor over memory whose rows start `leading` elements apart."""
    return as_torch(import_torch(), flat).as_strided((rows, columns), (leading, 1))
