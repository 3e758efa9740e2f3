"""What the agent asks of a dataplane, whichever engine runs it.

Every adapter (embedded, vpp) implements :class:`Dataplane`; the contract suite in ``tests/contract`` runs
over all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from vpp_operator.dataplane.records import IpAddress, Table

__all__ = [
    "Batch",
    "Dataplane",
    "DataplaneError",
    "DataplaneIncompatibleError",
    "DataplaneUnavailableError",
    "EngineInfo",
    "EngineStats",
    "Failure",
    "PathCondition",
    "PathState",
    "PathStats",
    "ServiceCounters",
    "TableStats",
    "TunnelCounters",
]


class DataplaneError(Exception):
    """The engine refused a request as a whole; the message says which one and what to do."""


class DataplaneUnavailableError(DataplaneError):
    """The engine cannot be reached or stopped answering. What it had programmed stays in its region."""


class DataplaneIncompatibleError(DataplaneError):
    """The engine is there and speaks another language: a plugin is missing, or its release is another one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are applied together, in the order that keeps every flow served.

    ``upserts`` holds packed records, ``deletes`` their keys. :meth:`Dataplane.apply` orders them: frontends
    go first; config, prefixes and services come; endpoints come, then go; the endpoint sets are published;
    frontends come; services, prefixes and config go.

    Of GTP-U, UE prefixes go first; local addresses, peers, tunnels and UE prefixes come, each after what it
    names; tunnels, peers and local addresses go. A tunnel that is there is changed in place, without losing
    a packet.
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
    gtpu_switches: Mapping[str, str] = field(default_factory=dict)
    """Optimisations of the GTP-U path in effect: lookupCache, prefetch, skipInnerIpInput, gtpuBypass and
    skipOuterLookup are ``on``, ``off`` or ``notApplicable`` (this engine has no such step), loop is
    ``single``, ``dual`` or ``quad``."""
    vpp_version: str = ""
    """Release of the VPP that runs the engine's plugins, as it names itself; empty: the engine is no VPP."""

    @property
    def release(self) -> str:
        """What runs, for people: ``VPP 26.06 (plugins 0.1.0)``, or the engine's own version."""
        if not self.vpp_version:
            return self.version
        return f"VPP {self.vpp_version.removesuffix('-release')} (plugins {self.version})"


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
    gtpu_switches: Mapping[str, str] = field(default_factory=dict)
    """As :attr:`EngineInfo.gtpu_switches`."""


@dataclass(frozen=True, slots=True)
class TunnelCounters:
    """Totals of one tunnel since the engine started; ``rx`` came out of it, ``tx`` went into it.

    Bytes are those of the inner packets. ``endpoint`` and ``local_teid`` are the tunnel record's key.
    """

    endpoint: int
    local_teid: int
    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    drops: int = 0
    end_marker_seen: bool = False
    """The peer sent an End Marker since the tunnel was last changed."""
    error_indication_seen: bool = False
    """The peer does not know the remote TEID; cleared when the tunnel is changed."""


@dataclass(frozen=True, slots=True)
class ServiceCounters:
    """Totals of one Service record since it was made or the engine started; bytes are those of IP packets.

    ``forward`` went towards endpoints, ``reverse`` back to clients. ``service`` is the record's id.
    """

    service: int
    forward_packets: int = 0
    forward_bytes: int = 0
    reverse_packets: int = 0
    reverse_bytes: int = 0
    sessions: int = 0
    """Flows tracked now; those of before an engine's restart are among them."""
    sessions_created: int = 0


class PathCondition(IntEnum):
    """State of the path to a peer, by Echo Requests (TS 29.281, 7.2.1)."""

    UNKNOWN = 0
    """None has been answered or lost yet, or none are sent."""
    UP = 1
    DOWN = 2
    """As many as the peer's ``n3`` were not answered."""


@dataclass(frozen=True, slots=True)
class PathState:
    """State of the path from a local GTP-U address (``endpoint``, its id) to a peer."""

    endpoint: int
    address: IpAddress
    condition: PathCondition = PathCondition.UNKNOWN
    restart_counter: int | None = None
    """Recovery value of the peer's last Echo Response."""
    rtt_us: int | None = None
    """Time from the last Echo Request to its answer, microseconds."""
    answered_ns: int | None = None
    """CLOCK_BOOTTIME of the last answer."""


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

    async def service_counters(self, keys: Sequence[bytes] | None = None) -> list[ServiceCounters]:
        """Read the counters of Services by the keys of their records, or of all; absent ones are left out."""
        ...

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        """Read the counters of tunnels by the keys of their records, or of all; absent ones are left out."""
        ...

    async def gtpu_paths(self) -> list[PathState]:
        """Read the state of the paths to all peers."""
        ...
