"""What workers do while all of them are at work: packets a second, read without stopping them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.vpp.engine import BenchError, Vpp

INTERVAL = 0.02
SHORTEST = 0.1
"""Seconds that all must be at work together, or it says nothing."""
SHARE = 0.95
"""Of its processor, that each worker must have meanwhile."""


@dataclass(frozen=True)
class Sample:
    """How many packets each worker has sent, and for how many seconds it has had a processor."""

    time: float
    packets: tuple[int, ...]
    processor: tuple[float, ...]


@dataclass(frozen=True)
class Window:
    """The time in which all workers were at work: packets a second of each, and its share of a processor."""

    seconds: float
    rates: tuple[float, ...]
    shares: tuple[float, ...]


def window(samples: Sequence[Sample], packets: int) -> Window | None:
    """From the first sample at which all have begun to the last at which none has sent its `packets`. Pure.

    None: there are no two such samples.
    """
    busy = [sample for sample in samples if all(0 < sent < packets for sent in sample.packets)]
    if len(busy) < 2:
        return None
    first, last = busy[0], busy[-1]
    seconds = last.time - first.time
    return Window(
        seconds,
        tuple((b - a) / seconds for a, b in zip(first.packets, last.packets, strict=True)),
        tuple((b - a) / seconds for a, b in zip(first.processor, last.processor, strict=True)),
    )


def doubt(found: Window | None) -> str:
    """Why the window says nothing about the workers; empty if it does. Pure."""
    if found is None or found.seconds < SHORTEST:
        seconds = found.seconds if found else 0.0
        return f"the workers were at work together for {seconds:.2f} s, less than {SHORTEST:.2f} s"
    if min(found.shares) < SHARE:
        had = " and ".join(f"{share:.0%}" for share in found.shares)
        return f"the workers had {had} of their processors, less than {SHARE:.0%}: others use them"
    return ""


@contextlib.contextmanager
def before_all() -> Iterator[None]:
    """This process goes even before workers that go before all others, to look at them."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Observer:
    """Samples of some of a VPP's workers by its stats segment: the command line would stop them."""

    def __init__(self, vpp: Vpp, workers: Sequence[int]) -> None:
        from vpp_papi.vpp_stats import VPPStats

        self._stats: Any = VPPStats(socketname=str(vpp.stats_socket))
        self._stats.connect()
        self._threads = [worker + 1 for worker in workers]
        self._tasks = [
            Path(f"/proc/{vpp.pid}/task/{vpp.worker_threads[worker]}/schedstat") for worker in workers
        ]
        self._began = self._sent()

    def _sent(self) -> list[int]:
        while True:
            # the segment moved while it was read
            with contextlib.suppress(IOError):
                counters = self._stats["/if/tx"]
                return [sum(pair[0] for pair in counters[thread]) for thread in self._threads]

    def sample(self) -> Sample:
        """Packets since this was made, by all interfaces."""
        sent = self._sent()
        processor = tuple(int(task.read_text().split()[0]) / 1e9 for task in self._tasks)
        packets = tuple(now - began for now, began in zip(sent, self._began, strict=True))
        return Sample(time.monotonic(), packets, processor)

    def until_sent(self, packets: int, limit: float, start: Callable[[], object]) -> list[Sample]:
        """Call `start`, then take samples until each has sent so many; BenchError after `limit` seconds."""
        start()
        samples = [self.sample()]
        end = samples[0].time + limit
        while any(sent < packets for sent in samples[-1].packets):
            if samples[-1].time > end:
                raise BenchError(
                    f"{samples[-1].packets} of {packets} packets each were sent in {limit:.0f} s"
                )
            time.sleep(INTERVAL)
            samples.append(self.sample())
        return samples

    def close(self) -> None:
        """Let go of the segment."""
        self._stats.disconnect()
