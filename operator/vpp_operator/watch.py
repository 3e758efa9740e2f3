"""Lean list-and-watch: follows one kind of object on the API server without letting go of what it knows.

Made for the hot kinds (Services, EndpointSlices: 100,000 endpoints), where a client library's models cost
more than the work itself. The state lives in a :class:`Sink`, as the decoder keeps it; this module keeps
each object's name and resourceVersion.

How it behaves (API concepts, "Efficient detection of changes"):

- the list is read in pages; nothing is deleted before the last page has come, and then only what no page
  named;
- the stream starts at the list's resourceVersion and resumes at the last one seen (bookmarks included);
- 410 Gone, or a resourceVersion that the API server does not know yet, means a new list, whose result is
  applied as a difference: objects whose resourceVersion is known already are not even decoded;
- a stream silent for longer than the API server's bookmarks take is dropped and resumed;
- every failure is followed by a pause that grows, with jitter; an object that cannot be decoded is handed
  to the sink as broken, and all others go on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
import orjson
import structlog

__all__ = ["Backoff", "HttpGet", "Sink", "Watch", "WatchFigures", "WatchTarget"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_log = structlog.get_logger(__name__)

Name = tuple[str, str]
"""Namespace ("" for cluster-scoped kinds) and name."""


class HttpGet(Protocol):
    """Reaches the API server; tries its addresses in turn and keeps the credentials fresh."""

    def get(
        self, path: str, *, params: Mapping[str, str], read_timeout: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a GET; ``read_timeout`` is the longest silence in seconds.

        Raises aiohttp.ClientError, OSError or TimeoutError.
        """
        ...


class Sink(Protocol[T_contra]):
    """Keeps the objects. All calls come from the event loop's thread and must not block."""

    def upsert(self, namespace: str, name: str, obj: T_contra) -> None:
        """Take an object that is new or changed."""
        ...

    def delete(self, namespace: str, name: str) -> None:
        """Forget an object."""
        ...

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Take note of an object whose decoder raised ``error``. It replaces the one known so far."""
        ...

    def listed(self, resource_version: str) -> None:
        """Everything up to ``resource_version`` has been handed over: the cache is complete."""
        ...

    def progress(self, resource_version: str) -> None:
        """Everything up to ``resource_version`` has been handed over."""
        ...


@dataclass(frozen=True, slots=True)
class WatchTarget:
    """What to follow: a collection's path, as in /api/v1/services, and selectors that narrow it."""

    path: str
    label_selector: str = ""
    field_selector: str = ""
    page_size: int = 500

    def selectors(self) -> dict[str, str]:
        """Return the query parameters of the selectors."""
        params = {}
        if self.label_selector:
            params["labelSelector"] = self.label_selector
        if self.field_selector:
            params["fieldSelector"] = self.field_selector
        return params


@dataclass(slots=True)
class Backoff:
    """Growing pauses with full jitter, in seconds."""

    first: float = 0.5
    longest: float = 15.0
    random: Callable[[float, float], float] = random.uniform
    _next: float = field(default=0.0, init=False)

    def pause(self) -> float:
        """Return how long to wait now; the next one may be twice as long."""
        ceiling = self._next or self.first
        self._next = min(ceiling * 2, self.longest)
        return self.random(ceiling / 2, ceiling)

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._next = 0.0


@dataclass(slots=True)
class WatchFigures:
    """Counters of one watch since the process started."""

    lists: int = 0
    streams: int = 0
    events: int = 0
    changes: int = 0
    """Objects that came, changed or went, lists included; bookmarks are no changes."""
    broken: int = 0
    stalls: int = 0
    failures: int = 0


class _GoneError(Exception):
    """The resourceVersion can not be resumed from; list again."""


class _RefusedError(Exception):
    """The API server answered with an error."""

    def __init__(self, message: str, code: int, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Watch(Generic[T]):
    """Follows one :class:`WatchTarget` for as long as :meth:`run` runs."""

    # The API server sends bookmarks about once a minute, so a longer silence is a dead connection.
    INACTIVITY_SECONDS = 90.0
    LIST_SILENCE_SECONDS = 30.0
    # A stream is renewed at a random age, so that a restarted API server's load spreads again.
    STREAM_SECONDS = (300.0, 600.0)
    SHORT_STREAM_SECONDS = 5.0
    # Objects decoded between two looks at the event loop (some 50 µs each).
    SLICE = 50

    def __init__(
        self,
        api: HttpGet,
        target: WatchTarget,
        decode: Callable[[dict[str, Any]], T],
        sink: Sink[T],
        *,
        inactivity: float = INACTIVITY_SECONDS,
        backoff: Backoff | None = None,
        on_refused: Callable[[int], None] = lambda code: None,
    ) -> None:
        self._on_refused = on_refused
        self.target = target
        self.figures = WatchFigures()
        self.resource_version = ""
        self.synced = False
        self.last_error = ""
        self.refused = 0
        """HTTP status of the last answer if the API server refused (404: it does not know the kind)."""
        self._api = api
        self._decode = decode
        self._sink = sink
        self._inactivity = inactivity
        self._backoff = backoff or Backoff()
        self._known: dict[Name, str] = {}
        self._list_needed = True
        self._last_sign = time.monotonic()
        self._log = _log.bind(path=target.path)

    def age(self) -> float:
        """Seconds since the API server last said anything on this watch."""
        return time.monotonic() - self._last_sign

    async def run(self) -> None:
        """Follow the target until cancelled."""
        while True:
            try:
                if self._list_needed:
                    await self._list()
                began = time.monotonic()
                await self._stream()
                if time.monotonic() - began > self.SHORT_STREAM_SECONDS:
                    continue
                # Ended at once: whoever answers does not keep streams. Do not run in circles.
                pause = self._backoff.pause()
            except _GoneError as error:
                self._list_needed = True
                self._failed(f"must list again: {error}")
                pause = self._backoff.pause()
            except _RefusedError as error:
                self.refused = error.code
                self._on_refused(error.code)
                self._failed(str(error))
                pause = max(error.retry_after, self._backoff.pause())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._failed(f"{type(error).__name__}: {error}")
                pause = self._backoff.pause()
            except orjson.JSONDecodeError as error:
                # Cut off in the middle of an event, or a proxy's own page in between: resume.
                self._failed(f"not JSON: {error}")
                pause = self._backoff.pause()
            await asyncio.sleep(pause)

    def _failed(self, message: str) -> None:
        self.figures.failures += 1
        self.last_error = message
        self._log.warning("watch interrupted", error=message, resource_version=self.resource_version)

    def _sign_of_life(self) -> None:
        self._last_sign = time.monotonic()
        self.last_error, self.refused = "", 0
        self._backoff.reset()

    # ------------------------------------------------------------------------------------------------ list

    async def _list(self) -> None:
        """Read all pages and hand over the difference from what is known."""
        started = time.monotonic()
        self.figures.lists += 1
        seen: set[Name] = set()
        token = ""
        resource_version = ""
        while True:
            params = self.target.selectors() | {"limit": str(self.target.page_size)}
            if token:
                params["continue"] = token
            # No resourceVersion: the newest state. Any other choice can go back in time behind a
            # load balancer or after a restart.
            async with self._api.get(
                self.target.path, params=params, read_timeout=self.LIST_SILENCE_SECONDS
            ) as response:
                await self._check(response)
                page = orjson.loads(await response.read())
            self._sign_of_life()
            for count, item in enumerate(page.get("items") or ()):
                self._take(item, seen)
                if count % self.SLICE == self.SLICE - 1:
                    await asyncio.sleep(0)
            meta = page.get("metadata") or {}
            resource_version = meta.get("resourceVersion", "")
            token = meta.get("continue") or ""
            if not token:
                break
        for name in [name for name in self._known if name not in seen]:
            del self._known[name]
            self.figures.changes += 1
            self._sink.delete(*name)
        self.resource_version = resource_version
        self._list_needed = False
        self.synced = True
        self._sink.listed(resource_version)
        self._log.info(
            "listed",
            objects=len(seen),
            resource_version=resource_version,
            seconds=round(time.monotonic() - started, 3),
        )

    # ---------------------------------------------------------------------------------------------- stream

    async def _stream(self) -> None:
        """Follow the stream until the API server ends it (its normal end: resume)."""
        self.figures.streams += 1
        params = self.target.selectors() | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.resource_version,
            "timeoutSeconds": str(int(random.uniform(*self.STREAM_SECONDS))),
        }
        async with self._api.get(self.target.path, params=params, read_timeout=self._inactivity) as response:
            await self._check(response)
            try:
                count = 0
                async for line in _lines(response):
                    self._sign_of_life()
                    self._event(orjson.loads(line))
                    count += 1
                    if count % self.SLICE == 0:
                        await asyncio.sleep(0)
            except TimeoutError:
                self.figures.stalls += 1
                raise

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        obj = event.get("object") or {}
        if kind == "ERROR":
            self._raise_status(obj, obj.get("code", 0))
        self.figures.events += 1
        meta = obj.get("metadata") or {}
        version = meta.get("resourceVersion", "")
        if kind in ("ADDED", "MODIFIED"):
            self._take(obj, None)
        elif kind == "DELETED":
            name = (meta.get("namespace", ""), meta.get("name", ""))
            if self._known.pop(name, None) is not None:
                self.figures.changes += 1
                self._sink.delete(*name)
        if version:
            self.resource_version = version
            self._sink.progress(version)

    # ---------------------------------------------------------------------------------------------- shared

    def _take(self, obj: dict[str, Any], seen: set[Name] | None) -> None:
        meta = obj.get("metadata") or {}
        name = (meta.get("namespace", ""), meta.get("name", ""))
        version = meta.get("resourceVersion", "")
        if seen is not None:
            seen.add(name)
        if version and self._known.get(name) == version:
            return
        self._known[name] = version
        self.figures.changes += 1
        try:
            decoded = self._decode(obj)
        except Exception as error:
            # Whatever is wrong with one object stays with that object.
            self.figures.broken += 1
            self._log.warning("object not understood", namespace=name[0], name=name[1], error=str(error))
            self._sink.broken(name[0], name[1], error)
            return
        self._sink.upsert(name[0], name[1], decoded)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer other than 200 means."""
        if response.status == 200:
            return
        body = await response.read()
        try:
            status = orjson.loads(body)
        except orjson.JSONDecodeError:
            status = {"message": body[:200].decode(errors="replace")}
        retry_after = response.headers.get("Retry-After", "")
        self._raise_status(
            status if isinstance(status, dict) else {},
            response.status,
            float(retry_after) if retry_after.isdigit() else 0.0,
        )

    def _raise_status(self, status: dict[str, Any], code: int, retry_after: float = 0.0) -> None:
        message = f"{code} {status.get('reason', '')}: {status.get('message', '')}"
        causes = (status.get("details") or {}).get("causes") or ()
        too_large = any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)
        if code == 410 or too_large:
            raise _GoneError(message)
        raise _RefusedError(message, code, retry_after)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a body, however long (aiohttp's readline gives up at 128 KiB)."""
    parts: list[bytes] = []
    async for chunk in response.content.iter_any():
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for part in others:
            line = b"".join(parts)
            parts = [part]
            if line:
                yield line
