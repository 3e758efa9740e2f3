"""Why the dataplane refuses a record: the refusal that it follows from, and what to do about it. Pure.

A record that names another one cannot come without it: where a tunnel does not fit, its UE prefixes are
refused because their tunnel is not there. Whoever reads a condition is helped by the first cause only.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.api.tuning import ResolvedCapacity
from vpp_operator.dataplane.records import (
    FrontendRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    Table,
)

__all__ = ["Cause", "Refusal", "causes", "count_causes", "refusal_problems", "tunnel_key"]

_CAPACITY_FIELD: Final = {
    Table.SERVICE: "services",
    Table.FRONTEND: "frontends",
    Table.ENDPOINT: "endpoints",
    Table.GTPU_ENDPOINT: "gtpuEndpoints",
    Table.GTPU_PEER: "gtpuPeers",
    Table.GTPU_TUNNEL: "tunnels",
    Table.GTPU_UE: "tunnels",
    Table.PREFIX: "prefixes",
    Table.CONFIG: "settings",
}
"""What sizes a table: its name in the engine's capacities and, where it can be set, in runtime.capacity."""

_WORDS: Final = {
    Table.GTPU_ENDPOINT: "GTP-U addresses",
    Table.GTPU_PEER: "GTP-U peers",
    Table.GTPU_UE: "users' prefixes",
}


class Refusal(NamedTuple):
    """A record that was refused, and the negative errno."""

    table: Table
    key: bytes
    code: int


class Cause(NamedTuple):
    """A refusal that follows from no other: its table and negative errno."""

    table: Table
    code: int

    @property
    def full(self) -> bool:
        """Whether the table is full."""
        return self.code == -errno.ENOSPC

    @property
    def reason(self) -> Reason:
        """The reason of a condition or problem."""
        return Reason.CAPACITY_EXCEEDED if self.full else Reason.REJECTED_BY_DATAPLANE

    def text(self, capacity: Mapping[str, int]) -> str:
        """Say it with the remedy; ``capacity``: entries by name, as the engine says."""
        if not self.full:
            name = errno.errorcode.get(-self.code, str(self.code))
            return f"table {self.table.name}: {name} ({os.strerror(-self.code)}); tried again with pauses"
        field = _CAPACITY_FIELD[self.table]
        size = capacity.get("ues" if self.table is Table.GTPU_UE else field)
        holds = f" ({size})" if size else ""
        words = _WORDS.get(self.table, field)
        full = f"the table of {words} is full{holds}"
        if field not in ResolvedCapacity.model_fields:
            return f"{full}, and its size is the engine's own: fewer of them are needed"
        return f"{full}; raise runtime.capacity.{field} in a DataplaneTuning for this node"


def tunnel_key(ue_record: bytes | None) -> bytes:
    """Return the key of the tunnel that a packed UE prefix record names; None: empty."""
    return ue_record[24:36] + bytes(4) if ue_record is not None else b""


def causes(
    refusals: Iterable[Refusal],
    code_of: Callable[[Table, bytes], int],
    record_of: Callable[[Table, bytes], bytes | None],
) -> Iterator[tuple[Refusal, Cause]]:
    """Yield each refusal with its cause.

    ``code_of`` gives the negative errno with which a record is refused (0: it is not), ``record_of`` a wanted
    record.
    """
    known = list(refusals)
    endpoints: dict[int, bytes] = {}
    for table, key, _ in known:
        record = record_of(table, key) if table is Table.GTPU_ENDPOINT else None
        if record is not None:
            endpoints[GtpuEndpointRecord.unpack(record).id] = key
    for refusal in known:
        table, key, code = refusal
        while code == -errno.ENOENT:
            for named in _named(table, record_of(table, key), endpoints):
                if other := code_of(*named):
                    (table, key), code = named, other
                    break
            else:
                break
        yield refusal, Cause(table, code)


def _named(table: Table, record: bytes | None, endpoints: Mapping[int, bytes]) -> list[tuple[Table, bytes]]:
    """Return the records that one names, as far as they can be why it is refused."""
    if record is None:
        return []
    if table is Table.GTPU_UE:
        return [(Table.GTPU_TUNNEL, tunnel_key(record))]
    if table is Table.GTPU_TUNNEL:
        tunnel = GtpuTunnelRecord.unpack(record)
        peer = GtpuPeerRecord(tunnel.endpoint, tunnel.remote).pack()[: GtpuPeerRecord.KEY]
        address = endpoints.get(tunnel.endpoint)
        return [(Table.GTPU_ENDPOINT, address)] if address else [(Table.GTPU_PEER, peer)]
    if table is Table.GTPU_PEER:
        address = endpoints.get(GtpuPeerRecord.unpack(record).endpoint)
        return [(Table.GTPU_ENDPOINT, address)] if address else []
    if table is Table.ENDPOINT:
        return [(Table.SERVICE, record[:8])]
    if table is Table.FRONTEND:
        return [(Table.SERVICE, FrontendRecord.unpack(record).service.to_bytes(8, "little"))]
    return []


def count_causes(found: Iterable[Cause]) -> Mapping[Cause, int]:
    """Return the number of refused records by cause, the most frequent first."""
    return dict(Counter(found).most_common())


def refusal_problems(
    refused: Iterable[tuple[Owner | None, Cause]], capacity: Mapping[str, int]
) -> list[Problem]:
    """Return one problem for each object with refused records, each of which comes with its cause."""
    by_owner: dict[Owner, Counter[Cause]] = {}
    for owner, cause in refused:
        if owner is not None:
            by_owner.setdefault(owner, Counter())[cause] += 1
    problems = []
    for owner, counts in sorted(by_owner.items()):
        # One that follows from another, whose record is nobody's refusal any more, says the least.
        cause, _ = max(counts.items(), key=lambda item: (item[0].code != -errno.ENOENT, item[1]))
        text = f"{sum(counts.values())} of its records are not programmed: {cause.text(capacity)}"
        problems.append(Problem(*owner, cause.reason, text))
    return problems
