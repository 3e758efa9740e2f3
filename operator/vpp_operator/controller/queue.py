"""A work queue of keys: each key once, one worker at a time on it, failures retried with growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

__all__ = ["WorkQueue"]

K = TypeVar("K", bound=Hashable)

_log = structlog.get_logger(__name__)


class WorkQueue(Generic[K]):
    """Keys that need work, worked off by `workers` tasks calling ``work(key)``.

    A key added while it is waiting is the same work; added while it is worked on, it is worked on again. When
    ``work`` raises, the key comes back after a pause of ``first`` seconds that doubles up to ``longest``,
    half of it random. `fatal` exceptions end the queue instead.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[None]],
        *,
        workers: int = 4,
        first: float = 0.5,
        longest: float = 60.0,
        fatal: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._work = work
        self._workers = workers
        self._first = first
        self._longest = longest
        self._fatal = fatal
        self._waiting: asyncio.Queue[K] = asyncio.Queue()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.done = 0
        self.errors = 0

    def __len__(self) -> int:
        return len(self._dirty | self._working | self._timers.keys())

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have the key worked on now, or after `delay` seconds; the earlier of two times counts."""
        if self._closed or key in self._dirty:
            return
        timer = self._timers.pop(key, None)
        if delay > 0:
            loop = asyncio.get_running_loop()
            due = loop.time() + delay
            if timer is not None:
                due = min(due, timer.when())
                timer.cancel()
            self._timers[key] = loop.call_at(due, self._due, key)
            return
        if timer is not None:
            timer.cancel()
        self._dirty.add(key)
        if key not in self._working:
            self._waiting.put_nowait(key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Work until cancelled, closed, or a fatal exception, which is raised."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"worker {number}")

    async def _worker(self) -> None:
        while True:
            key = await self._waiting.get()
            if self._closed:
                return
            self._dirty.discard(key)
            self._working.add(key)
            self._idle.clear()
            try:
                await self._work(key)
            except self._fatal:
                raise
            except Exception as error:
                self.errors += 1
                count = self._failures[key] = self._failures.get(key, 0) + 1
                pause = min(self._longest, self._first * 2 ** min(count - 1, 16))
                pause *= random.uniform(0.5, 1.0)
                _log.warning(
                    "will try again", key=key, error=f"{type(error).__name__}: {error}", pause=round(pause, 1)
                )
                self.add(key, pause)
            else:
                self.done += 1
                self._failures.pop(key, None)
                # Work that never waits must not keep the loop from everything else.
                await asyncio.sleep(0)
            finally:
                self._working.discard(key)
                if not self._working:
                    self._idle.set()
                if key in self._dirty and not self._closed:
                    self._waiting.put_nowait(key)

    async def drain(self, seconds: float) -> bool:
        """Take no more work; wait for what is being worked on and return whether all of it ended."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
