"""The report of this node's GTP-U objects: figures from the engine's counters, summed by object."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from vpp_operator.agent.gtpusource import GtpuSource
from vpp_operator.agent.loop import Loop
from vpp_operator.agent.refusals import Cause, Refusal, causes, tunnel_key
from vpp_operator.api.conditions import Reason
from vpp_operator.api.gtpu_report import EndpointReport, Figures, NodeReport, ObjectReport, PathReport
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.protocol import PathCondition, PathState, TunnelCounters
from vpp_operator.dataplane.records import GtpuEndpointRecord, Table
from vpp_operator.gtpu.flow import InForce
from vpp_operator.gtpu.model import Endpoint
from vpp_operator.node.spec import Finding

__all__ = ["Counters", "ReportMaker", "TunnelStats"]

_KEY = struct.Struct("<QI4x")
_UP = {PathCondition.UP: True, PathCondition.DOWN: False}

Sums = tuple[int, int, int, int, int]
"""rx packets, tx packets, rx bytes, tx bytes, drops."""


class Counters(Protocol):
    """What is read of the dataplane."""

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        """Read counters of tunnels by their keys."""
        ...

    async def gtpu_paths(self) -> list[PathState]:
        """Read the state of all paths."""
        ...


def _keys(served: InForce) -> Iterator[bytes]:
    carrier, ident = served.carrier, served.anchor.ident
    return (_KEY.pack(ident, teid) for teid in range(carrier.local_teid, carrier.local_teid + carrier.count))


class TunnelStats:
    """Rates by object, between one reading of the counters and the next."""

    # Counters asked for at once: some 5 ms of work to decode.
    SLICE = 2048
    MIN_SECONDS = 5.0

    def __init__(self, dataplane: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._dataplane = dataplane
        self._clock = clock
        self._sums: dict[Owner, Sums] = {}
        self._at = float("-inf")
        self.figures: dict[Owner, Figures] = {}
        """By object; without rates at the first reading of an object."""
        self.paths: list[PathState] = []

    async def read(self, served: Iterable[InForce]) -> None:
        """Read everything, unless it was read a moment ago. Raises what the dataplane raises."""
        now = self._clock()
        if now - self._at < self.MIN_SECONDS:
            return
        sums = await self._read_sums(list(served))
        self.paths = await self._dataplane.gtpu_paths()
        seconds = now - self._at
        self.figures = {owner: _figures(self._sums.get(owner), new, seconds) for owner, new in sums.items()}
        self._sums, self._at = sums, now

    async def _read_sums(self, served: list[InForce]) -> dict[Owner, Sums]:
        sums: dict[Owner, Sums] = {}
        single: dict[bytes, Owner] = {}
        for force in served:
            carrier = force.carrier
            sums[carrier.owner] = (0, 0, 0, 0, 0)
            keys = _keys(force)
            if carrier.count == 1:
                single[next(keys)] = carrier.owner
                continue
            while part := list(islice(keys, self.SLICE)):
                found = await self._dataplane.gtpu_counters(part)
                sums[carrier.owner] = _added(sums[carrier.owner], found)
        rest = iter(single)
        while part := list(islice(rest, self.SLICE)):
            for counters in await self._dataplane.gtpu_counters(part):
                owner = single[_KEY.pack(counters.endpoint, counters.local_teid)]
                sums[owner] = _added(sums[owner], [counters])
        return sums


def _added(sums: Sums, counters: Iterable[TunnelCounters]) -> Sums:
    a, b, c, d, e = sums
    for one in counters:
        a += one.rx_packets
        b += one.tx_packets
        c += one.rx_bytes
        d += one.tx_bytes
        e += one.drops
    return a, b, c, d, e


def _figures(before: Sums | None, after: Sums, seconds: float) -> Figures:
    if before is None or any(new < old for new, old in zip(after, before, strict=True)):
        # The first reading, or the engine began to count anew.
        return Figures(drops=after[4])
    rx, tx, rx_bytes, tx_bytes = (
        round((new - old) / seconds) for new, old in zip(after[:4], before[:4], strict=True)
    )
    return Figures(rx, tx, rx_bytes * 8, tx_bytes * 8, after[4])


class ReportMaker:
    """Puts a :class:`NodeReport` together."""

    # Above this number of waiting records they are not told apart by object.
    MOST_WAITING = 10_000

    def __init__(
        self,
        node: str,
        source: GtpuSource,
        loop: Loop,
        stats: TunnelStats,
        *,
        refused: Callable[[], Sequence[Finding]] = lambda: (),
        lease_errors: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._node = node
        self._source = source
        self._loop = loop
        self._stats = stats
        self._refused = refused
        self._lease_errors = lease_errors

    async def make(self) -> NodeReport:
        """Read the counters and return the report. Raises what the dataplane raises."""
        table = self._source.table
        served = list(table.carriers())
        if self._loop.connected():
            await self._stats.read(served)
        paths: dict[int, list[PathState]] = {}
        for path in self._stats.paths:
            paths.setdefault(path.endpoint, []).append(path)
        missing, everywhere = self._missing()
        return NodeReport(
            node=self._node,
            settled=self._loop.settled_once,
            endpoints=tuple(
                self._endpoint(self._source.endpoints[name], paths)
                for name in sorted(self._source.active)
                if name in self._source.endpoints
                and table.standing(self._source.endpoints[name].owner).accepted
            ),
            objects=tuple(self._object(force, paths, missing, everywhere) for force in served)
            + tuple(self._not_served(p) for p in self._source.problems() if _of_node(p)),
            problems=dict(self._lease_errors()),
        )

    def _missing(self) -> tuple[dict[Owner, tuple[int, Cause | None]], int]:
        """Return the number of missing tunnels by object, with the cause of a refusal (None: they wait), and
        the number of those whose object is not known."""
        loop = self._loop
        tunnels: dict[bytes, Cause | None] = {}
        waiting = max(loop.waiting_in(Table.GTPU_TUNNEL), loop.waiting_in(Table.GTPU_UE))
        unmade = max(0, self._source.total() - loop.desired_count(Table.GTPU_TUNNEL))
        if waiting <= self.MOST_WAITING:
            for table, key, code in loop.unsettled():
                if not code and (named := self._tunnel(table, key)):
                    tunnels[named] = None
        refusals = [Refusal(*entry) for entry in loop.refused()]
        for refusal, cause in causes(refusals, loop.refusal_of, loop.desired_record):
            if named := self._tunnel(refusal.table, refusal.key):
                tunnels[named] = cause
        counts: Counter[Owner] = Counter()
        why: dict[Owner, Cause | None] = {}
        for key, found in tunnels.items():
            owner = self._source.owner_of(Table.GTPU_TUNNEL, key)
            if owner is not None:
                counts[owner] += 1
                why[owner] = found or why.get(owner)
        everywhere = unmade + (waiting if waiting > self.MOST_WAITING else 0)
        return {owner: (count, why[owner]) for owner, count in counts.items()}, everywhere

    def _tunnel(self, table: Table, key: bytes) -> bytes:
        """Return the key of the tunnel that a record is part of; empty: of none."""
        if table is Table.GTPU_UE:
            return tunnel_key(self._loop.desired_record(table, key))
        return key if table is Table.GTPU_TUNNEL else b""

    def _capacity(self) -> Mapping[str, int]:
        return self._loop.info.capacity if self._loop.info is not None else {}

    def _object(
        self,
        served: InForce,
        paths: Mapping[int, list[PathState]],
        missing: Mapping[Owner, tuple[int, Cause | None]],
        everywhere: int,
    ) -> ObjectReport:
        carrier = served.carrier
        owner, total = carrier.owner, carrier.count
        absent, cause = missing.get(owner, (0, None))
        programmed = max(0, total - absent - everywhere) if self._loop.connected() else 0
        reason = message = ""
        if not self._loop.connected():
            reason, message = Reason.ENGINE_UNREACHABLE, self._loop.error or "connecting to the engine"
        elif programmed < total:
            reason = cause.reason if cause is not None else Reason.PROGRAMMING
            message = f"{total - programmed} of {total} tunnels are not programmed" + (
                f": {cause.text(self._capacity())}" if cause is not None else ""
            )
        peers = set(carrier.peers)
        ups = [_UP.get(p.condition) for p in paths.get(served.anchor.ident, ()) if p.address in peers]
        return ObjectReport(
            *owner,
            generation=carrier.generation,
            programmed=programmed,
            total=total,
            up=False if False in ups else True if ups and all(ups) else None,
            reason=str(reason),
            message=message,
            figures=self._stats.figures.get(owner),
        )

    def _not_served(self, problem: Problem) -> ObjectReport:
        """Report an object that this node's engine cannot serve."""
        return ObjectReport(
            problem.kind,
            problem.namespace,
            problem.name,
            generation=problem.generation,
            programmed=0,
            total=1,
            reason=problem.reason,
            message=problem.message,
        )

    def _endpoint(self, endpoint: Endpoint, paths: Mapping[int, list[PathState]]) -> EndpointReport:
        ident = endpoint.ident
        raw = GtpuEndpointRecord(endpoint.address, ident).pack()
        key = raw[: GtpuEndpointRecord.KEY]
        subjects = {str(endpoint.address), *(str(pool) for pool in endpoint.pools)}
        findings = [f for f in self._refused() if f.subject in subjects]
        programmed = self._loop.connected() and self._loop.is_programmed(Table.GTPU_ENDPOINT, key)
        reason, message = ("", "") if programmed else (Reason.PROGRAMMING.value, "")
        if code := self._loop.refusal_of(Table.GTPU_ENDPOINT, key):
            cause = Cause(Table.GTPU_ENDPOINT, code)
            reason, message = cause.reason.value, cause.text(self._capacity())
        if findings:
            reason = findings[0].reason
            message = "; ".join(f"{f.message}. Remedy: {f.remedy}" for f in findings)
        return EndpointReport(
            endpoint.name,
            endpoint.generation,
            programmed and not findings,
            tuple(
                PathReport(str(p.address), _UP.get(p.condition), p.rtt_us, p.restart_counter)
                for p in paths.get(ident, ())
            ),
            reason,
            message,
        )


def _of_node(problem: Problem) -> bool:
    """Whether a problem is this node's, not one that the operator finds by itself."""
    return problem.reason == Reason.UNSUPPORTED
