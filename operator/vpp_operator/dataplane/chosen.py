"""The dataplane of a node, whichever engine was started there: chosen anew at each connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from vpp_operator.dataplane.choice import EMBEDDED, VPP, read_choice
from vpp_operator.dataplane.embedded import EmbeddedDataplane
from vpp_operator.dataplane.protocol import (
    Batch,
    Dataplane,
    EngineInfo,
    EngineStats,
    Failure,
    PathState,
    ServiceCounters,
    TunnelCounters,
)
from vpp_operator.dataplane.records import Table
from vpp_operator.dataplane.vpp.adapter import VppDataplane

__all__ = ["ChosenDataplane"]


class ChosenDataplane:
    """Dataplane over the adapter of the engine that the node's engine pod says it started.

    Args:
        run_dir: where the engine's pod leaves its choice (:mod:`vpp_operator.dataplane.choice`).
        wanted: the engine asked for, in force until a pod has chosen one; anything but vpp is embedded.
        embedded_socket: control socket of vpp-embedded.
        vpp_socket: API socket of VPP.
    """

    def __init__(self, run_dir: Path, wanted: str, embedded_socket: Path, vpp_socket: Path) -> None:
        self._run_dir = run_dir
        self._engine = VPP if wanted == VPP else EMBEDDED
        self._adapters: dict[str, Callable[[], Dataplane]] = {
            VPP: lambda: VppDataplane(vpp_socket),
            EMBEDDED: lambda: EmbeddedDataplane(embedded_socket),
        }
        self._dataplane = self._adapters[self._engine]()

    async def connect(self) -> EngineInfo:
        """Connect (again) to the engine that is there now."""
        choice = read_choice(self._run_dir)
        if choice is not None and choice.engine != self._engine:
            await self._dataplane.close()
            self._engine = choice.engine
            self._dataplane = self._adapters[choice.engine]()
        return await self._dataplane.connect()

    async def close(self) -> None:
        """Let go of the connection; nothing programmed changes."""
        await self._dataplane.close()

    async def info(self) -> EngineInfo:
        """Read identity, capacities and interfaces."""
        return await self._dataplane.info()

    async def apply(self, batch: Batch) -> list[Failure]:
        """Program a batch; the records that failed come back, all others are programmed."""
        return await self._dataplane.apply(batch)

    def dump(self, table: Table) -> AsyncIterator[list[tuple[bytes, int]]]:
        """Yield chunks of (key, digest) of what the table really holds; stable under change."""
        return self._dataplane.dump(table)

    async def fetch(self, table: Table, keys: Sequence[bytes]) -> list[bytes]:
        """Read whole records by key; keys that are not there are left out."""
        return await self._dataplane.fetch(table, keys)

    async def stats(self) -> EngineStats:
        """Read counters and table sizes."""
        return await self._dataplane.stats()

    async def service_counters(self, keys: Sequence[bytes] | None = None) -> list[ServiceCounters]:
        """Read the counters of Services by the keys of their records, or of all; absent ones are left out."""
        return await self._dataplane.service_counters(keys)

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        """Read the counters of tunnels by the keys of their records, or of all; absent ones are left out."""
        return await self._dataplane.gtpu_counters(keys)

    async def gtpu_paths(self) -> list[PathState]:
        """Read the state of the paths to all peers."""
        return await self._dataplane.gtpu_paths()
