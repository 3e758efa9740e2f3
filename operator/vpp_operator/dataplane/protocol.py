"""What the agent asks of a dataplane, whichever engine runs it.

Every adapter (embedded, vpp) implements :class:`Dataplane`; the contract suite in ``tests/contract`` runs
over all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vpp_operator.dataplane.records import Table

__all__ = [
    "Batch",
    "Dataplane",
    "DataplaneError",
    "DataplaneUnavailableError",
    "EngineInfo",
    "EngineStats",
    "Failure",
    "PathStats",
    "TableStats",
]


class DataplaneError(Exception):
    """The engine refused a request as a whole; the message says which one and what to do."""


class DataplaneUnavailableError(DataplaneError):
    """The engine cannot be reached or stopped answering. What it had programmed stays in its region."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are applied together, in the order that keeps every flow served.

    ``upserts`` holds packed records, ``deletes`` their keys. :meth:`Dataplane.apply` orders them: frontends
    go first; config, prefixes and services come; endpoints come, then go; the endpoint sets are published;
    frontends come; services, prefixes and config go.
    """

    upserts: Mapping[Table, Sequence[bytes]] = field(default_factory=dict)
    deletes: Mapping[Table, Sequence[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.upserts.values()) or any(self.deletes.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that the engine did not take: its table, its key and the negative errno it answered."""

    table: Table
    key: bytes
    code: int


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of itself.

    ``creation_id`` changes when the region was made anew: everything programmed is gone then, and the agent
    dumps again.
    """

    engine: str
    version: str
    creation_id: str
    boot_id: str
    layout: str
    attached: bool
    kept_sessions: int
    workers: int
    capacity: Mapping[str, int]
    interfaces: Sequence[str]


@dataclass(frozen=True, slots=True)
class PathStats:
    """Totals of one path (service, gtpuDecap, gtpuEncap) since the engine started; clocks are TSC clocks."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    clocks: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True)
class TableStats:
    """Capacity, use and memory (bytes) of one table."""

    size: int
    used: int
    bytes: int


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine started; ``now_ns`` is CLOCK_BOOTTIME when they were read."""

    now_ns: int
    counters: Mapping[str, int]
    drops: Mapping[str, int]
    paths: Mapping[str, PathStats]
    tables: Mapping[str, TableStats]
    sessions: int


class Dataplane(Protocol):
    """One engine, reached from this node.

    All methods raise :class:`DataplaneUnavailableError` when it cannot be reached.
    """

    async def connect(self) -> EngineInfo:
        """Connect (again). Safe to call when connected."""
        ...

    async def close(self) -> None:
        """Let go of the connection; nothing programmed changes."""
        ...

    async def info(self) -> EngineInfo:
        """Read identity, capacities and interfaces."""
        ...

    async def apply(self, batch: Batch) -> list[Failure]:
        """Program a batch; the records that failed come back, all others are programmed."""
        ...

    def dump(self, table: Table) -> AsyncIterator[list[tuple[bytes, int]]]:
        """Yield chunks of (key, digest) of what the table really holds; stable under change."""
        ...

    async def fetch(self, table: Table, keys: Sequence[bytes]) -> list[bytes]:
        """Read whole records by key; keys that are not there are left out."""
        ...

    async def stats(self) -> EngineStats:
        """Read counters and table sizes."""
        ...
