"""A dataplane in memory that keeps an engine's rules: for properties of planning and of the loop alone.

Whatever can run against the real engine does so in tests/control and tests/contract.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from vpp_operator.dataplane.protocol import (
    Batch,
    DataplaneUnavailableError,
    EngineInfo,
    EngineStats,
    Failure,
    PathState,
    ServiceCounters,
    TunnelCounters,
)
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    FrontendRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    ServiceRecord,
    Table,
    UePrefixRecord,
    digest,
)

_GTPU = (Table.GTPU_ENDPOINT, Table.GTPU_PEER, Table.GTPU_TUNNEL, Table.GTPU_UE)


def _provides(table: Table, record: bytes) -> object:
    """By what other GTP-U records name this one."""
    if table is Table.GTPU_ENDPOINT:
        return GtpuEndpointRecord.unpack(record).id
    if table is Table.GTPU_PEER:
        peer = GtpuPeerRecord.unpack(record)
        return peer.endpoint, peer.address
    if table is Table.GTPU_TUNNEL:
        tunnel = GtpuTunnelRecord.unpack(record)
        return tunnel.endpoint, tunnel.local_teid
    return None


@dataclass
class MemoryDataplane:
    """Applies a batch in the protocol's order, refusing what an engine refuses."""

    tables: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {t: {} for t in Table})
    creation_id: str = "1"
    up: bool = True
    connected: bool = False
    chunk: int = 3
    capacity: dict[Table, int] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    before_apply: Callable[[], None] | None = None
    log: list[str] = field(default_factory=list)
    tunnel_counters: dict[bytes, TunnelCounters] = field(default_factory=dict)
    """By the key of the tunnel's record; a programmed tunnel without an entry has counted nothing."""
    service_figures: dict[int, ServiceCounters] = field(default_factory=dict)
    """By the id of the Service record."""
    paths: dict[bytes, PathState] = field(default_factory=dict)
    """By the key of the peer's record; a programmed peer without an entry is in no known state."""

    def _reach(self) -> None:
        if not self.up or not self.connected:
            self.connected = False
            raise DataplaneUnavailableError("memory: down")

    async def connect(self) -> EngineInfo:
        self.connected = self.up
        return await self.info()

    async def close(self) -> None:
        self.connected = False

    async def info(self) -> EngineInfo:
        self._reach()
        names = {Table.SERVICE: "services", Table.ENDPOINT: "endpoints", Table.GTPU_TUNNEL: "tunnels"}
        capacity = {names[table]: size for table, size in self.capacity.items() if table in names}
        return EngineInfo("memory", "0", self.creation_id, "b", "l", True, 0, 1, capacity, ())

    async def apply(self, batch: Batch) -> list[Failure]:
        self._reach()
        if self.before_apply is not None:
            self.before_apply()
            self._reach()
        self.batches.append(batch)
        self.log.append("batch")
        failures: list[Failure] = []

        def upsert(table: Table) -> None:
            for record in batch.upserts.get(table, ()):
                key = record[: KEY_SIZE[table]]
                code = self._refusal(table, key, record)
                if code:
                    failures.append(Failure(table, key, code))
                else:
                    self.tables[table][key] = record

        def delete(table: Table) -> None:
            for key in batch.deletes.get(table, ()):
                if self._in_use(table, key):
                    failures.append(Failure(table, key, -errno.EBUSY))
                else:
                    self.tables[table].pop(key, None)

        for table in (Table.FRONTEND, Table.GTPU_UE):
            delete(table)
        for table in (Table.CONFIG, Table.PREFIX, Table.SERVICE, Table.ENDPOINT):
            upsert(table)
        delete(Table.ENDPOINT)
        for table in (Table.FRONTEND, *_GTPU):
            upsert(table)
        for table in (*_GTPU[-2::-1], Table.SERVICE, Table.PREFIX, Table.CONFIG):
            delete(table)
        return failures

    def _refusal(self, table: Table, key: bytes, record: bytes) -> int:
        known = self.tables[table]
        if key not in known and len(known) >= self.capacity.get(table, 1 << 30):
            return -errno.ENOSPC
        if table is Table.GTPU_UE and known.get(key, record) != record:
            return -errno.EEXIST
        if table is Table.GTPU_ENDPOINT:
            ident = _provides(table, record)
            if any(other != key and _provides(table, raw) == ident for other, raw in known.items()):
                return -errno.EEXIST
        service = b""
        if table is Table.ENDPOINT:
            service = key[:8]
        elif table is Table.FRONTEND:
            service = FrontendRecord.unpack(record).service.to_bytes(8, "little")
        if service and service not in self.tables[Table.SERVICE]:
            return -errno.ENOENT
        return 0 if self._needs(table, record) <= self._present() else -errno.ENOENT

    def _in_use(self, table: Table, key: bytes) -> bool:
        if table is Table.SERVICE:
            ident = int.from_bytes(key, "little")
            return any(other[:8] == key for other in self.tables[Table.ENDPOINT]) or any(
                FrontendRecord.unpack(record).service == ident
                for record in self.tables[Table.FRONTEND].values()
            )
        if table not in _GTPU or key not in self.tables[table]:
            return False
        own = _provides(table, self.tables[table][key])
        return any(own in self._needs(t, record) for t in _GTPU for record in self.tables[t].values())

    def _present(self) -> set[object]:
        return {_provides(t, record) for t in _GTPU for record in self.tables[t].values()}

    def _needs(self, table: Table, record: bytes) -> set[object]:
        """What a GTP-U record names, in the terms of :func:`_provides`."""
        if table is Table.GTPU_PEER:
            return {GtpuPeerRecord.unpack(record).endpoint}
        if table is Table.GTPU_TUNNEL:
            tunnel = GtpuTunnelRecord.unpack(record)
            return {tunnel.endpoint, (tunnel.endpoint, tunnel.remote)}
        if table is Table.GTPU_UE:
            ue = UePrefixRecord.unpack(record)
            return {(ue.endpoint, ue.local_teid)}
        return set()

    async def dump(self, table: Table) -> AsyncIterator[list[tuple[bytes, int]]]:
        self._reach()
        keys = list(self.tables[table])
        for start in range(0, len(keys), self.chunk):
            self._reach()
            part = [k for k in keys[start : start + self.chunk] if k in self.tables[table]]
            yield [(k, digest(self.tables[table][k])) for k in part]

    async def fetch(self, table: Table, keys: Sequence[bytes]) -> list[bytes]:
        self._reach()
        return [self.tables[table][key] for key in keys if key in self.tables[table]]

    async def stats(self) -> EngineStats:
        self._reach()
        return EngineStats(0, {}, {}, {}, {}, 0)

    async def service_counters(self, keys: Sequence[bytes] | None = None) -> list[ServiceCounters]:
        self._reach()
        services = self.tables[Table.SERVICE]
        found = []
        for key in services if keys is None else (key for key in keys if key in services):
            service = ServiceRecord.unpack(services[key]).id
            found.append(self.service_figures.get(service, ServiceCounters(service)))
        return found

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        self._reach()
        tunnels = self.tables[Table.GTPU_TUNNEL]
        found = []
        for key in tunnels if keys is None else (key for key in keys if key in tunnels):
            tunnel = GtpuTunnelRecord.unpack(tunnels[key])
            empty = TunnelCounters(tunnel.endpoint, tunnel.local_teid)
            found.append(self.tunnel_counters.get(key, empty))
        return found

    async def gtpu_paths(self) -> list[PathState]:
        self._reach()
        found = []
        for key, record in self.tables[Table.GTPU_PEER].items():
            peer = GtpuPeerRecord.unpack(record)
            found.append(self.paths.get(key, PathState(peer.endpoint, peer.address)))
        return found
