"""Resources at an agent: registered in one message or in chunks, and synchronised."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from vaccel.error import ResourceExhausted
from vaccel.rpc import codec, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.content import SMALL, UPLOADS, Content, FileContent, MemoryContent
from vaccel.rpc.link import Link
from vaccel.rpc.ttrpc import DEFAULT_LIMIT
from vaccel.rpc.upload import Piece, fetch, upload
from vaccel.sources.names import flat
from vaccel.sources.trees import SMALL_FILE

if TYPE_CHECKING:
    from vaccel.blob import Blob
    from vaccel.resource import Resource


def register(
    link: Link, session: int, resource: Resource, known: int, timeout: float | None
) -> int:
    """Make `resource` usable in `session` of the agent; its id there, which is `known` unless 0.

    ResourceExhausted: it is larger than the agent takes.
    """
    request = messages.RegisterResourceRequest(
        resource_type=int(resource.type), session_id=session, resource_id=known
    )
    contents = Contents()
    if not known:
        current = bool(link.features & UPLOADS)  # an agent of 0.8 takes other files for content
        blobs = resource.whole(descriptions=current)
        size = sum(blob.data.nbytes for blob in blobs)
        if size > SMALL and current:
            with contextlib.ExitStack() as opened:
                pieces = [
                    Piece(blob.name, int(blob.type), opened.enter_context(_content(blob)))
                    for blob in blobs
                ]
                return upload(link, session, int(resource.type), pieces, timeout)
        if size > DEFAULT_LIMIT:
            raise ResourceExhausted(
                f"resource {resource.id} of {size} bytes: {link.client.endpoint} is an agent of "
                f"vAccel 0.8, which takes at most {DEFAULT_LIMIT} in one message; "
                "use an agent of this package"
            )
        names = [blob.name for blob in blobs]
        if not current:  # it has no folders in names
            names = flat(names)
        for name, blob in zip(names, blobs, strict=True):
            request.blobs.add(
                type=int(blob.type),
                name=name,
                data=contents.put(blob.data, blob.data.nbytes),
                size=blob.data.nbytes,
            )
    answer, _ = link.call("RegisterResource", request, timeout, contents)
    return int(answer.resource_id)


def sync(link: Link, session: int, resource: Resource, there: int, timeout: float | None) -> None:
    """Bring `resource` up to date with the agent's, whose id is `there`.

    What `whole` has behind the content stays as it is: it belongs to the user.
    """
    blobs = resource.blobs()
    if sum(blob.data.nbytes for blob in blobs) > SMALL and link.features & UPLOADS:
        with contextlib.ExitStack() as opened:
            contents = [opened.enter_context(_content(blob)) for blob in blobs]
            fetch(link, (session, there), contents, resource.patch, timeout)
        return
    request = messages.SyncResourceRequest(resource_id=there)
    answer, views = link.call("SyncResource", request, timeout)
    resource.update([codec.bulk(blob.data, views) for blob in answer.blobs[: len(blobs)]])


def _content(blob: Blob) -> contextlib.closing[Content]:
    if blob.path is None or blob.data.nbytes <= SMALL_FILE:
        return contextlib.closing(MemoryContent(blob.data))
    return contextlib.closing(FileContent(blob.path))
