"""Every operation, declared once.

The signature is the schema: dtypes and named dimensions stand in the annotations, the documentation
in the docstring. Codes and argument order are those of the vAccel 0.8 protocol: arguments travel in
signature order, results as `wire_outputs` says where that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt

from vaccel.ops import objects, onnx, tf, torch
from vaccel.ops import opencv as cv
from vaccel.ops.args import Arg
from vaccel.ops.declare import operation, operation_of
from vaccel.ops.found import Found
from vaccel.ops.functions import by_name
from vaccel.ops.kinds import Dims
from vaccel.ops.numbers import F32, F64, I32, I64, U8, Array, InOut, Scalar
from vaccel.ops.objects import Args, Name, Object, ResourceLike, ResourceRef, Text, Texts
from vaccel.ops.signature import Outputs
from vaccel.ops.spec import Operation
from vaccel.ops.tf import lite

# A call that got numpy arrays returns numpy arrays; lists give lists, bytes give bytes.
Floats = TypeVar("Floats", npt.NDArray[np.float32], list[float], bytes)
Doubles = TypeVar("Doubles", npt.NDArray[np.float64], list[float], bytes)
Ints = TypeVar("Ints", npt.NDArray[np.int32], list[int], bytes)

_VECTOR = Array(F32, ("n",))
_SQUARE = Array(F32, ("n", "n"))

EXTENSIONS = 128
"""The first operation code that is ours: vAccel 0.8 ends far below, and codes are one byte."""

Picture = Annotated[Any, objects.Picture()]
FileName = Annotated[str, Outputs(image_name=Name())]
Model = Annotated[ResourceLike, ResourceRef()]
TfTensors = Annotated["list[tf.Tensor]", Object(tf.Tensor, many=True, dim="inputs")]
LiteTensors = Annotated["list[lite.Tensor]", Object(lite.Tensor, many=True)]
TorchTensors = Annotated["list[torch.Tensor]", Object(torch.Tensor, many=True)]
OnnxTensors = Annotated["list[onnx.Tensor]", Object(onnx.Tensor, many=True)]
InNodes = Annotated["list[tf.Node]", Object(tf.Node, many=True, dim="inputs")]
OutNodes = Annotated["list[tf.Node]", Object(tf.Node, many=True)]
Names = Annotated[Sequence[str], Object(str, many=True)]
TfOptions = Annotated["tf.Buffer | None", Object(tf.Buffer, optional=True)]
TorchOptions = Annotated["torch.Buffer | None", Object(torch.Buffer, optional=True)]
Count = Annotated[int, Scalar(I64, least=0)]
ReadArgs = Annotated["list[Arg] | None", Args()]
WriteArgs = Annotated["list[Arg] | None", Args(writes=True)]

_IMAGE_NAME = {"image_name": "This is a dummy imgname!"}
_STATUS = tf.Status(0, "Operation handled by noop plugin")


def _matrix_length(rows: str, columns: str, leading: str) -> Any:
    def least(dims: Dims) -> int:
        return (dims[rows] - 1) * dims[leading] + dims[columns] if dims[rows] else 0

    return least


def _gemm_result(c: Any, dims: Dims) -> Any:
    """The m × n block of a C whose rows lie `ldc` elements apart."""
    m, n, ldc = dims["m"], dims["n"], dims["ldc"]
    if m * n == 0:
        return c[:0]
    padded = np.lib.stride_tricks.as_strided(c, (m, n), (ldc * c.itemsize, c.itemsize))
    return np.ascontiguousarray(padded).reshape(-1)


_C = InOut(F32, ("m", "n"), _matrix_length("m", "n", "ldc"))

SizeM = Annotated[int, Scalar(I64, "m", least=0)]
SizeN = Annotated[int, Scalar(I64, "n", least=0)]
SizeK = Annotated[int, Scalar(I64, "k", least=0)]
StrideA = Annotated[int, Scalar(I64, "lda", least=0, floor="k")]
StrideB = Annotated[int, Scalar(I64, "ldb", least=0, floor="n")]
StrideC = Annotated[int, Scalar(I64, "ldc", least=0, floor="n")]
Float = Annotated[float, Scalar(F32)]
MatrixA = Annotated[Floats, Array(F32, ("m", "k"), _matrix_length("m", "k", "lda"))]
MatrixB = Annotated[Floats, Array(F32, ("k", "n"), _matrix_length("k", "n", "ldb"))]
MatrixC = Annotated[Floats, _C]


class Operations:
    """The operations, as methods of a session."""

    def invoke(self, op: Operation, args: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    @operation(0, "noop")
    def noop(self) -> None:
        """Do nothing; shows that the session, and an agent behind it, answers."""

    @operation(1, "exec")
    def exec(
        self,
        library: Annotated[str, Text()],
        symbol: Annotated[str, Text()],
        arg_read: ReadArgs = None,
        arg_write: WriteArgs = None,
    ) -> list[Any] | None:
        """Call `symbol` of the shared `library`; gives the values of `arg_write`, or None."""
        raise NotImplementedError

    @operation(2, "exec with resource")
    def exec_with_resource(
        self,
        resource: Model,
        symbol: Annotated[str, Text()],
        arg_read: ReadArgs = None,
        arg_write: WriteArgs = None,
    ) -> list[Any] | None:
        """Call `symbol` of a LIB resource; gives the values of `arg_write`, or None."""
        raise NotImplementedError

    @operation(
        3,
        "image classification",
        label="Image classification",
        wire_outputs=("image_name", "tag"),
        dummies={"tag": "This is a dummy classification tag!", **_IMAGE_NAME},
    )
    def classify(
        self, image: Picture
    ) -> Annotated[tuple[str, str], Outputs(tag=Name(), image_name=Name())]:
        """The class of the thing in an encoded picture; gives `(tag, image name)`."""
        raise NotImplementedError

    @operation(4, "image detection", label="Image detection", dummies=_IMAGE_NAME)
    def detect(self, image: Picture) -> FileName:
        """Find things in an encoded picture; gives the name of the annotated image."""
        raise NotImplementedError

    @operation(5, "image segmentation", label="Image segmentation", dummies=_IMAGE_NAME)
    def segment(self, image: Picture) -> FileName:
        """Label the pixels of an encoded picture; gives the name of the annotated image."""
        raise NotImplementedError

    @operation(6, "image pose estimation", label="Image pose", dummies=_IMAGE_NAME)
    def pose(self, image: Picture) -> FileName:
        """Find body keypoints in an encoded picture; gives the name of the annotated image."""
        raise NotImplementedError

    @operation(7, "image depth estimation", label="Image depth", dummies=_IMAGE_NAME)
    def depth(self, image: Picture) -> FileName:
        """Estimate depth in an encoded picture; gives the name of the depth image."""
        raise NotImplementedError

    @operation(
        8, "TensorFlow session load", method="TensorflowModelLoad", dummies={"status": _STATUS}
    )
    def tf_model_load(
        self, resource: Model
    ) -> Annotated[tf.Status, Outputs(status=Object(tf.Status))]:
        """Load a TensorFlow model from a MODEL resource."""
        raise NotImplementedError

    @operation(
        9, "TensorFlow session delete", method="TensorflowModelUnload", dummies={"status": _STATUS}
    )
    def tf_model_unload(
        self, resource: Model
    ) -> Annotated[tf.Status, Outputs(status=Object(tf.Status))]:
        """Unload a TensorFlow model."""
        raise NotImplementedError

    @operation(
        10, "TensorFlow session run", method="TensorflowModelRun", dummies={"status": _STATUS}
    )
    def tf_model_run(
        self,
        resource: Model,
        in_nodes: InNodes,
        in_tensors: TfTensors,
        out_nodes: OutNodes,
        run_options: TfOptions = None,
    ) -> Annotated[
        tuple[list[tf.Tensor], tf.Status],
        Outputs(out_tensors=Object(tf.Tensor, many=True), status=Object(tf.Status)),
    ]:
        """Run a loaded TensorFlow model; a tensor per input node, a result per output node."""
        raise NotImplementedError

    @operation(11, "TensorFlow Lite session load", method="TensorflowLiteModelLoad")
    def tflite_model_load(self, resource: Model) -> None:
        """Load a TensorFlow Lite model from a MODEL resource."""

    @operation(12, "TensorFlow Lite session delete", method="TensorflowLiteModelUnload")
    def tflite_model_unload(self, resource: Model) -> None:
        """Unload a TensorFlow Lite model."""

    @operation(
        13, "TensorFlow Lite session run", method="TensorflowLiteModelRun", dummies={"status": 0}
    )
    def tflite_model_run(
        self, resource: Model, in_tensors: LiteTensors, nr_out_tensors: Count = 1
    ) -> Annotated[
        tuple[list[lite.Tensor], int],
        Outputs(out_tensors=Object(lite.Tensor, many=True), status=Scalar(I32)),
    ]:
        """Run a loaded TensorFlow Lite model; gives `(out_tensors, status)`."""
        raise NotImplementedError

    @operation(14, "Torch model load", method="TorchModelLoad")
    def torch_model_load(self, resource: Model) -> None:
        """Load a TorchScript model from a MODEL resource."""

    @operation(15, "Torch model run", method="TorchModelRun")
    def torch_model_run(
        self,
        resource: Model,
        in_tensors: TorchTensors,
        nr_out_tensors: Count = 1,
        run_options: TorchOptions = None,
    ) -> Annotated[list[torch.Tensor], Outputs(out_tensors=Object(torch.Tensor, many=True))]:
        """Run a loaded Torch model."""
        raise NotImplementedError

    @operation(16, "Torch sgemm", finish=_gemm_result)
    def torch_sgemm(
        self,
        m: SizeM,
        n: SizeN,
        k: SizeK,
        alpha: Float,
        a: MatrixA[Floats],
        lda: StrideA,
        b: MatrixB[Floats],
        ldb: StrideB,
        beta: Float,
        ldc: StrideC,
        c: MatrixC[Floats] | None = None,
    ) -> Annotated[Floats, Outputs(c=_C)]:
        """`sgemm` on Torch."""
        raise NotImplementedError

    @operation(17, "sgemm", finish=_gemm_result)
    def sgemm(
        self,
        m: SizeM,
        n: SizeN,
        k: SizeK,
        alpha: Float,
        a: MatrixA[Floats],
        lda: StrideA,
        b: MatrixB[Floats],
        ldb: StrideB,
        beta: Float,
        ldc: StrideC,
        c: MatrixC[Floats] | None = None,
    ) -> Annotated[Floats, Outputs(c=_C)]:
        """`alpha · A · B + beta · C`, row-major, rows `lda`, `ldb`, `ldc` elements apart.

        Gives the m·n elements of the product; `c` is not changed.
        """
        raise NotImplementedError

    @operation(18, "Array copy", phrase="fpga_arraycopy operation", label="v_arraycopy")
    def fpga_arraycopy(
        self, a: Annotated[Ints, Array(I32, ("n",))]
    ) -> Annotated[Ints, Outputs(out_a=Array(I32, ("n",)))]:
        """Copy an int32 array through the device."""
        raise NotImplementedError

    @operation(19, "Matrix multiplication", phrase="fpga_mmult operation", label="v_mmult")
    def fpga_mmult(
        self, a: Annotated[Floats, _SQUARE], b: Annotated[Floats, _SQUARE]
    ) -> Annotated[Floats, Outputs(c=_SQUARE)]:
        """Product of two square float32 matrices, row-major, n × n or flattened."""
        raise NotImplementedError

    @operation(20, "Parallel acceleration", phrase="fpga_parallel operation", label="v_parallel")
    def fpga_parallel(
        self, a: Annotated[Floats, _VECTOR], b: Annotated[Floats, _VECTOR]
    ) -> Annotated[tuple[Floats, Floats], Outputs(add_output=_VECTOR, mult_output=_VECTOR)]:
        """Elementwise sum and product of float32 arrays in one pass."""
        raise NotImplementedError

    @operation(
        21,
        "Vector Add",
        phrase="fpga_vector_add operation",
        label="v_vectoradd",
        dummies={"c": 9.1},
    )
    def fpga_vadd(
        self, a: Annotated[Floats, _VECTOR], b: Annotated[Floats, _VECTOR]
    ) -> Annotated[Floats, Outputs(c=_VECTOR)]:
        """Elementwise sum of float32 arrays."""
        raise NotImplementedError

    @operation(22, "MinMax")
    def minmax(
        self,
        indata: Annotated[Doubles, Array(F64, ("n",))],
        ndata: Annotated[int, Scalar(I32, "n", least=0)],
        low_threshold: Annotated[int, Scalar(I32)],
        high_threshold: Annotated[int, Scalar(I32)],
    ) -> Annotated[
        tuple[Doubles, float, float],
        Outputs(outdata=Array(F64, ("n",)), min=Scalar(F64), max=Scalar(F64)),
    ]:
        """Clip float64 values to [low, high]; min and max are those of the input.

        Of no data, min is inf and max is -inf.
        """
        raise NotImplementedError

    @by_name(cv.BY_NAME)
    @operation(23, "opencv")
    def opencv(
        self,
        function: Annotated[int, Scalar(U8)],
        arg_read: ReadArgs = None,
        arg_write: WriteArgs = None,
    ) -> list[Any] | None:
        """Call an OpenCV function by its code; gives the values of `arg_write`, or None.

        Or by its name, with arguments of its own: `opencv("resize", image, width=64, height=48)`.
        """
        raise NotImplementedError

    # Beyond vAccel 0.8: the image operations' whole results. Coordinates are pixels of the picture
    # as it is shown (EXIF orientation applied), from its top left corner.

    @operation(EXTENSIONS, "image classification scores")
    def classify_scores(
        self, image: Picture
    ) -> Annotated[
        tuple[npt.NDArray[np.float32], list[str]],
        Outputs(scores=Found(F32, ("n",)), names=Texts()),
    ]:
        """Probabilities (0 to 1) of all classes, in the model's order, and the classes' names."""
        raise NotImplementedError

    @operation(EXTENSIONS + 1, "image detection boxes")
    def detect_boxes(
        self, image: Picture
    ) -> Annotated[
        tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32], list[str]],
        Outputs(
            boxes=Found(F32, ("n", "4")),
            scores=Found(F32, ("n",)),
            classes=Found(I32, ("n",)),
            names=Texts(),
        ),
    ]:
        """What was found, best first: boxes (left, top, right, bottom) in pixels of the picture as
        it is shown, from its top left corner; scores from 0 to 1; classes as indices of `names`."""
        raise NotImplementedError

    @operation(EXTENSIONS + 2, "image segmentation mask")
    def segment_mask(
        self, image: Picture
    ) -> Annotated[
        tuple[npt.NDArray[np.uint8], list[str]],
        Outputs(mask=Found(U8, ("height", "width")), names=Texts()),
    ]:
        """The class of each pixel of the picture as it is shown, as an index of `names`; rows from
        the top."""
        raise NotImplementedError

    @operation(EXTENSIONS + 3, "image pose keypoints")
    def pose_keypoints(
        self, image: Picture
    ) -> Annotated[
        tuple[npt.NDArray[np.float32], list[str]],
        Outputs(keypoints=Found(F32, ("people", "points", "3")), names=Texts()),
    ]:
        """Keypoints of each person: x and y in pixels of the picture as it is shown, from its top
        left corner, and a score from 0 to 1; and a name for each point."""
        raise NotImplementedError

    @operation(EXTENSIONS + 4, "image depth map")
    def depth_map(
        self, image: Picture
    ) -> Annotated[npt.NDArray[np.float32], Outputs(depth=Found(F32, ("height", "width")))]:
        """Relative inverse depth of each pixel of the picture as it is shown: larger is nearer, no
        unit; of models of metric depth, 1/m."""
        raise NotImplementedError

    @operation(EXTENSIONS + 5, "annotated image")
    def annotated_image(
        self, name: Annotated[str, Text()]
    ) -> Annotated[npt.NDArray[np.uint8], Outputs(image=Found(U8, ("n",)))]:
        """The image that an image operation of this session has named, as the bytes of a PNG."""
        raise NotImplementedError

    @operation(EXTENSIONS + 12, "Torch model unload")
    def torch_model_unload(self, resource: Model) -> None:
        """Unload a Torch model."""

    # Beyond vAccel 0.8: ONNX models.

    @operation(EXTENSIONS + 16, "ONNX model load")
    def onnx_model_load(self, resource: Model) -> None:
        """Load an ONNX model from a MODEL resource."""

    @operation(EXTENSIONS + 17, "ONNX model unload")
    def onnx_model_unload(self, resource: Model) -> None:
        """Unload an ONNX model."""

    @operation(EXTENSIONS + 18, "ONNX model run", method="OnnxModelRun")
    def onnx_model_run(
        self, resource: Model, in_tensors: OnnxTensors, out_names: Names = ()
    ) -> Annotated[list[onnx.Tensor], Outputs(out_tensors=Object(onnx.Tensor, many=True))]:
        """Run a loaded ONNX model; gives the outputs `out_names`, all of them by default.

        Inputs are found by their names, or, if no tensor has one, by their order.
        """
        raise NotImplementedError


OPERATIONS: dict[int, Operation] = {
    op.code: op
    for op in (operation_of(m) for m in vars(Operations).values() if hasattr(m, "operation"))
}
"""Every operation by its wire code."""

BY_NAME: dict[str, Operation] = {op.name: op for op in OPERATIONS.values()}


class OpType(IntEnum):
    """Operation codes under the names of vAccel 0.8."""

    NOOP = 0
    EXEC = 1
    EXEC_WITH_RESOURCE = 2
    IMAGE_CLASSIFY = 3
    IMAGE_DETECT = 4
    IMAGE_SEGMENT = 5
    IMAGE_POSE = 6
    IMAGE_DEPTH = 7
    TF_MODEL_LOAD = 8
    TF_MODEL_UNLOAD = 9
    TF_MODEL_RUN = 10
    TFLITE_MODEL_LOAD = 11
    TFLITE_MODEL_UNLOAD = 12
    TFLITE_MODEL_RUN = 13
    TORCH_MODEL_LOAD = 14
    TORCH_MODEL_RUN = 15
    TORCH_SGEMM = 16
    BLAS_SGEMM = 17
    FPGA_ARRAYCOPY = 18
    FPGA_MMULT = 19
    FPGA_PARALLEL = 20
    FPGA_VECTORADD = 21
    MINMAX = 22
    OPENCV = 23
