"""onnx: ONNX models on onnxruntime, on the CPU: for pictures, and with tensors of any kind.

An image operation uses the last MODEL resource registered with the session that is made for it.
Those for other engines do not count; nor do, unless they fit, models that the session has loaded
for onnx_model_run. A session without any gets the small models that come with vaccel: they know
drawn shapes and stick figures.

The image that a result names is a DATA resource of the session with one PNG, drawn when somebody
asks for it (`annotated_image`, or `blobs` of the resource). A session keeps its last 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vaccel.blob import ResourceType
from vaccel.error import FFIError, InvalidArgument, from_errno
from vaccel.inference import onnx_models, pictures, room
from vaccel.inference.annotations import Annotations
from vaccel.inference.found import Found
from vaccel.inference.image_models import (
    ImageModel,
    Shipped,
    Unfit,
    open_resource,
)
from vaccel.inference.loaded import Loaded, ModelPlugin
from vaccel.inference.onnx_models import OnnxModel
from vaccel.ops.catalog import Operations
from vaccel.plugin import PluginType

if TYPE_CHECKING:
    from vaccel.config import Config
    from vaccel.resource import Resource
    from vaccel.session import Session

F32s = npt.NDArray[np.float32]
I32s = npt.NDArray[np.int32]
U8s = npt.NDArray[np.uint8]


class OnnxPlugin(ModelPlugin[OnnxModel]):
    """Models by resource, those of the package, and the annotated pictures of each session."""

    def __init__(self) -> None:
        super().__init__(
            "onnx",
            PluginType.CPU,
            onnx_models.open_model,
            engine=onnx_models.ENGINE,
            summary="pictures and tensors through ONNX models, on onnxruntime",
        )
        self.requires = [onnx_models.ENGINE, "PIL"]
        self.image_models: Loaded[ImageModel | Unfit | None] = Loaded(
            open_resource, "an image operation"
        )
        self.shipped = Shipped()
        self.annotations = Annotations()

    def check(self) -> None:
        super().check()
        pictures.pillow()

    def start(self, config: Config) -> None:
        room.limit()  # or say now what is wrong with it

    def find_in(
        self, image: memoryview | bytes, session: Session, task: str, operation: str
    ) -> Found:
        try:
            return self._model(session, task).run(image)
        except FFIError as exc:
            raise from_errno(exc.code, f"{operation}: {exc.message}") from exc

    def named(self, image: memoryview, session: Session, task: str) -> tuple[Found, str]:
        """What was found, and the name of the image with it."""
        content = bytes(pictures.whole(image))  # a copy of what its owner may change
        found = self.find_in(content, session, task, task)
        return found, self.annotations.keep(session, found, content)

    def _model(self, session: Session, task: str) -> ImageModel:
        """InvalidArgument: the session has models, but none for `task`."""
        reasons = []
        for resource in reversed(session.registered(ResourceType.MODEL)):
            found = self.image_models.load(session, resource)
            if isinstance(found, ImageModel) and found.description.task == task:
                return found
            if found is None:  # it is another engine's
                self._look_again(session, resource)
                continue
            if self.models.holds(session, resource):
                continue  # it is onnx_model_run's
            why = self._unfit(session, resource, found, task)
            names = ", ".join(blob.name for blob in resource.blobs())
            reasons.append(f"resource {resource.id} ({names}): {why}")
        if reasons:
            raise InvalidArgument(
                f"expected a model for {task} among the session's MODEL resources, found "
                f"{'; '.join(reasons)}; without any, the model that comes with vaccel is used"
            )
        return self.shipped.get(task)

    def _unfit(
        self, session: Session, resource: Resource, found: ImageModel | Unfit, task: str
    ) -> str:
        """Why a resource is no model for `task`."""
        if isinstance(found, ImageModel):
            return f"is for {found.description.task}"
        self._look_again(session, resource)  # its user may have done what the error says
        return found.reason(task)

    def _look_again(self, session: Session, resource: Resource) -> None:
        """At files, with the next call: they may be others by then."""
        if resource.paths:
            self.image_models.unload(session, resource)

    def open_session(self, session: Session) -> None:
        self.annotations.open(session)

    def make_resources(self, session: Session) -> None:
        self.annotations.make_resources(session)

    def unregister(self, session: Session, resource: Resource) -> None:
        super().unregister(session, resource)
        self.image_models.unload(session, resource)

    def close_session(self, session: Session) -> None:
        super().close_session(session)
        self.image_models.close_session(session)
        self.annotations.drop(session)

    def disown(self) -> None:
        super().disown()
        self.image_models.reset()
        self.shipped.reset()
        self.annotations.reset()
        pictures.reset()


plugin = OnnxPlugin()
onnx_models.register(plugin)


@plugin.kernel(Operations.classify)
def classify(session: Session, image: memoryview) -> tuple[str, str]:
    found, name = plugin.named(image, session, "classify")
    return found.tag()[0], name


@plugin.kernel(Operations.detect)
def detect(session: Session, image: memoryview) -> str:
    return plugin.named(image, session, "detect")[1]


@plugin.kernel(Operations.segment)
def segment(session: Session, image: memoryview) -> str:
    return plugin.named(image, session, "segment")[1]


@plugin.kernel(Operations.pose)
def pose(session: Session, image: memoryview) -> str:
    return plugin.named(image, session, "pose")[1]


@plugin.kernel(Operations.depth)
def depth(session: Session, image: memoryview) -> str:
    return plugin.named(image, session, "depth")[1]


@plugin.kernel(Operations.classify_scores)
def classify_scores(session: Session, image: memoryview) -> tuple[F32s, list[str]]:
    return plugin.find_in(image, session, "classify", "classify_scores").scores()


@plugin.kernel(Operations.detect_boxes)
def detect_boxes(session: Session, image: memoryview) -> tuple[F32s, F32s, I32s, list[str]]:
    return plugin.find_in(image, session, "detect", "detect_boxes").boxes()


@plugin.kernel(Operations.segment_mask)
def segment_mask(session: Session, image: memoryview) -> tuple[U8s, list[str]]:
    return plugin.find_in(image, session, "segment", "segment_mask").mask()


@plugin.kernel(Operations.pose_keypoints)
def pose_keypoints(session: Session, image: memoryview) -> tuple[F32s, list[str]]:
    return plugin.find_in(image, session, "pose", "pose_keypoints").keypoints()


@plugin.kernel(Operations.depth_map)
def depth_map(session: Session, image: memoryview) -> F32s:
    return plugin.find_in(image, session, "depth", "depth_map").depth()


@plugin.kernel(Operations.annotated_image)
def annotated_image(session: Session, name: str) -> U8s:
    return np.frombuffer(plugin.annotations.find(session, name), np.uint8)
