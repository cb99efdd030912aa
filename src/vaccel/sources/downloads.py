"""Files from URLs, kept in the user's cache folder by their contents."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.client
import os
import re
import time
from pathlib import Path
from typing import IO

from vaccel import cache, deadline, log
from vaccel.error import ConnectionFailed, ConnectionLost, InvalidArgument, ResourceExhausted
from vaccel.sources import urls
from vaccel.sources.kept import Entry, Kept, Store
from vaccel.sources.transfer import Transfer, UrlLimits
from vaccel.sources.urls import Prefixes, Url
from vaccel.sources.watch import Watch

_CHUNK = 1 << 18
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ETAG = re.compile('(W/)?"[!#-~]{0,256}"')
_DATE = re.compile("[ -~]{1,64}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


def fetch(text: str, limits: UrlLimits | None = None, allow: Prefixes | None = None) -> Path:
    """The file at the URL, in the cache: with its name, read-only, shared.

    The server is asked whether a cached one is still good, unless the URL ends in #sha256=….
    Errors: PermissionDenied (not below `allow`, or the server's), NotFound, ConnectionFailed,
    ConnectionLost (after all attempts), DeadlineExceeded, ResourceExhausted (size, disk),
    ProtocolError (redirects without end), InvalidArgument (another sha256).
    """
    url, limits = urls.parse(text), limits or UrlLimits()
    if allow is not None:
        allow.check(url)
    store = Store(cache.folder())
    # Who may fetch from some places only gets nothing that came from others.
    if url.sha256 and allow is None:
        kept = store.find(url.sha256, url.name)
        if kept is not None:
            return kept
    seconds, moment = limits.total, deadline.current()
    if moment is not None:
        seconds = min(seconds, max(moment - time.monotonic(), 0.0))
    try:
        with Watch(seconds) as watch:
            transfer = Transfer(url, limits, watch, allow)
            with store.entry(url.text, transfer.wait) as entry:
                return _Download(url, limits, transfer, store, entry).run()
    except OSError as exc:
        if exc.errno not in _FULL:
            raise
        raise ResourceExhausted(
            f"{url}: the disk of {cache.folder()} is full; make room, or set XDG_CACHE_HOME"
        ) from None


class _Download:
    """What has come so far."""

    def __init__(
        self, url: Url, limits: UrlLimits, transfer: Transfer, store: Store, entry: Entry
    ) -> None:
        self._url = url
        self._limits = limits
        self._transfer = transfer
        self._store = store
        self._entry = entry
        self._file: IO[bytes] = entry.open_part()
        self._etag = entry.kept.part
        """Says that what has come is still part of the file; '' if nothing says so."""
        self._next = Kept()
        self._hash = hashlib.sha256()
        self._size = 0
        self._total: int | None = None
        self._broken = False

    def run(self) -> Path:
        try:
            path = self._run()
            self._etag = ""
            return path
        except (InvalidArgument, ResourceExhausted):
            self._etag = ""  # nothing can follow on this
            raise
        finally:
            self._file.close()
            if not self._etag:
                self._entry.part.unlink(missing_ok=True)

    def _run(self) -> Path:
        sha256 = self._entry.kept.sha256
        known = self._store.find(sha256, self._url.name) if sha256 else None
        if known is not None and self._url.sha256 == sha256:
            return known
        self._restore()
        for number in range(self._limits.attempts):
            path = self._attempt(number, None if self._url.sha256 else known)
            if path is not None:
                return path
            log.info("%s broke off after %d bytes", self._url, self._size)
        raise ConnectionLost(
            f"{self._url}: the transfer broke off {self._limits.attempts} times, the last time "
            f"after {self._size} of {self._total or 'unknown'} bytes; try again later"
        )

    def _restore(self) -> None:
        """Begin with what an earlier fetch left."""
        while data := self._file.read(_CHUNK):
            self._hash.update(data)
            self._size += len(data)

    def _reset(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash, self._size, self._etag = hashlib.sha256(), 0, ""

    def _attempt(self, number: int, known: Path | None) -> Path | None:
        """The file, once it is complete."""
        if not self._etag:
            self._reset()
        try:
            response = self._transfer.get(self._headers(known))
        except ConnectionFailed:
            if number == 0:  # there is nothing to reach
                raise
            return None
        with response:
            if response.status == 304 and known is not None:
                return known
            if not self._begin(response):
                return None
            self._broken = False
            while data := self._read(response):
                if self._size + len(data) > self._limits.size:
                    raise self._too_large("more")
                self._file.write(data)
                self._hash.update(data)
                self._size += len(data)
        complete = not self._broken and self._size >= (self._total or 0)
        if not complete or self._total is None:
            self._transfer.check_time()  # at whose end the body ends, too
        return self._finish() if complete else None

    def _headers(self, known: Path | None) -> dict[str, str]:
        kept = self._entry.kept
        if self._size:
            return {"Range": f"bytes={self._size}-", "If-Range": self._etag}
        if known is not None and kept.etag:
            return {"If-None-Match": kept.etag}
        if known is not None and kept.modified:
            return {"If-Modified-Since": kept.modified}
        return {}

    def _begin(self, response: http.client.HTTPResponse) -> bool:
        """The body is what is missing; else begin again."""
        length, etag = response.length, _header(response, "ETag", _ETAG)
        if response.status == 206 and self._size:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self._size or etag not in ("", self._etag):
                self._reset()
                return False
            rest = None if length is None else self._size + length
            self._total = rest if match[2] == "*" else int(match[2])
        elif response.status == 416 and self._size:
            self._reset()
            return False
        elif response.status == 200:
            self._reset()
            self._total = length
            # A weak one does not say that the bytes are the same.
            self._etag = "" if etag.startswith("W/") else etag
            self._next = Kept("", etag, _header(response, "Last-Modified", _DATE))
            self._entry.save(dataclasses.replace(self._entry.kept, part=self._etag))
        else:
            raise self._transfer.refused(response)
        if self._total is not None and self._total > self._limits.size:
            raise self._too_large(self._total)
        return True

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """More of the body; nothing at its end, and where it breaks off."""
        try:
            return response.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as exc:
            log.debug("%s: %r", self._url, exc)
            self._broken = True
            return b""

    def _too_large(self, found: object) -> ResourceExhausted:
        return ResourceExhausted(
            f"{self._url}: expected at most {self._limits.size} bytes, found {found} "
            "(UrlLimits.size)"
        )

    def _finish(self) -> Path:
        sha256 = self._hash.hexdigest()
        if self._url.sha256 not in ("", sha256):
            raise InvalidArgument(
                f"{self._url}: expected the sha256 {self._url.sha256}, found {sha256}: the file "
                "there is another one; check where the sum is from"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        path = self._store.take(self._entry.part, sha256, self._url.name)
        kept = self._next if self._next != Kept() else Kept(etag=self._etag)
        self._entry.save(dataclasses.replace(kept, sha256=sha256))
        return path


def _header(response: http.client.HTTPResponse, name: str, form: re.Pattern[str]) -> str:
    """A header that we send back later; '' for one that is not as it should be."""
    value = response.headers.get(name, "")
    return value if form.fullmatch(value) else ""
