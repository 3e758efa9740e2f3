"""VPP's statistics segment: what its interfaces counted, read from shared memory without asking VPP.

vpp_papi's reader waits for ever on a VPP that died while it wrote, and reads a dead VPP's memory for ever
after a restart: here each wait is bounded, and the segment is opened anew with each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vpp_papi.vpp_stats import StatsLock, VPPStats

__all__ = ["StatsSegment"]

WAIT_SECONDS = 0.2
TRIES = 5
_LINK_PREFIX = "host-"
"""Host-interfaces carry the node's links; others count the same packets a second time."""
_COMBINED = {"/if/rx": ("linkRxPackets", "linkRxBytes"), "/if/tx": ("linkTxPackets", "linkTxBytes")}
_SIMPLE = {
    "/if/rx-miss": "linkRxRingFull",
    "/if/rx-no-buf": "linkRxNoBuffers",
    "/if/rx-error": "linkRxBad",
    "/if/tx-error": "linkTxRefused",
}
_TX_RING_FULL = "tx ring overrun"


class _Lock(StatsLock):  # type: ignore[misc]
    def acquire(self, blocking: bool = True, timeout: float = WAIT_SECONDS) -> bool:
        """Wait until nothing is being written; raise OSError when that takes too long."""
        end = time.monotonic() + timeout
        self.epoch = self.stats.epoch
        while self.stats.in_progress:
            if time.monotonic() > end:
                raise OSError("VPP does not finish writing its statistics segment")
            time.sleep(0.001)
        return True


class _Stats(VPPStats):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.lock = _Lock(self)

    def refresh(self, blocking: bool = False) -> None:
        super().refresh(blocking=False)


class StatsSegment:
    """The statistics segment behind the socket at ``path`` (startup.conf: ``statseg``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stats: _Stats | None = None

    def close(self) -> None:
        """Let go of it; the next read opens that of the VPP that runs then."""
        stats, self._stats = self._stats, None
        if stats is not None:
            stats.disconnect()

    async def links(self) -> Mapping[str, int]:
        """Return packets, bytes and losses of all host links since VPP started; empty: not readable now."""
        return await asyncio.to_thread(self._links)

    def _links(self) -> dict[str, int]:
        for _ in range(TRIES):
            # What is read while VPP moves it can be anything.
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError, struct.error):
                return self._read()
            self.close()
        return {}

    def _read(self) -> dict[str, int]:
        if self._stats is None:
            self._stats = _Stats(str(self._path))
            self._stats.connect()
        stats = self._stats

        def value(name: str) -> Any:
            return stats.__getitem__(name, blocking=False)

        links = [i for i, name in enumerate(value("/if/names")) if name.startswith(_LINK_PREFIX)]
        found = {name: 0 for names in _COMBINED.values() for name in names}
        for path, (packets, octets) in _COMBINED.items():
            for thread in value(path):
                found[packets] += sum(thread[i][0] for i in links if i < len(thread))
                found[octets] += sum(thread[i][1] for i in links if i < len(thread))
        for path, name in _SIMPLE.items():
            found[name] = sum(thread[i] for thread in value(path) for i in links if i < len(thread))
        overruns = [p for p in stats.directory if p.startswith(f"/err/{_LINK_PREFIX}") and _TX_RING_FULL in p]
        found["linkTxNoBuffers"] = sum(sum(value(path)) for path in overruns)
        return found
