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
)
from vpp_operator.dataplane.records import KEY_SIZE, FrontendRecord, Table, digest


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
        return EngineInfo("memory", "0", self.creation_id, "b", "l", True, 0, 1, {}, ())

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
                if table is Table.SERVICE and self._in_use(key):
                    failures.append(Failure(table, key, -errno.EBUSY))
                else:
                    self.tables[table].pop(key, None)

        delete(Table.FRONTEND)
        for table in (Table.CONFIG, Table.PREFIX, Table.SERVICE, Table.ENDPOINT):
            upsert(table)
        delete(Table.ENDPOINT)
        upsert(Table.FRONTEND)
        for table in (Table.SERVICE, Table.PREFIX, Table.CONFIG):
            delete(table)
        return failures

    def _refusal(self, table: Table, key: bytes, record: bytes) -> int:
        known = self.tables[table]
        if key not in known and len(known) >= self.capacity.get(table, 1 << 30):
            return -errno.ENOSPC
        service = b""
        if table is Table.ENDPOINT:
            service = key[:8]
        elif table is Table.FRONTEND:
            service = FrontendRecord.unpack(record).service.to_bytes(8, "little")
        return -errno.ENOENT if service and service not in self.tables[Table.SERVICE] else 0

    def _in_use(self, service: bytes) -> bool:
        ident = int.from_bytes(service, "little")
        return any(key[:8] == service for key in self.tables[Table.ENDPOINT]) or any(
            FrontendRecord.unpack(record).service == ident for record in self.tables[Table.FRONTEND].values()
        )

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
