"""From what was in the tables to what should be: slices of records, in an order without contradiction.

First what goes, then what comes, then endpoints and peers that are no longer used: a key that one object
lets go and another takes over is never deleted after it was written, and after each slice every record that
another one names is there. Nothing is kept per tunnel, only per object.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import KEY_SIZE, RECORD_SIZE, Table

from .expand import SLICE, endpoint_record, peer_record, split, tunnel_records, ue_records
from .model import Carrier, Endpoint, IpAddress, Tunnel, TunnelSet

__all__ = ["Anchor", "Flow", "InForce"]

Upserts = dict[Table, dict[bytes, bytes]]
Deletes = dict[Table, set[bytes]]

_Shared = tuple[str, IpAddress | None]
# Name of an endpoint, and a peer of it; None: the endpoint itself.

# Bytes of an endpoint's record up to its TEID range: what is in :class:`Anchor`.
_ANCHORED: Final = 40

_EXPAND: Final = {Table.GTPU_UE: ue_records, Table.GTPU_TUNNEL: tunnel_records}


class Anchor(NamedTuple):
    """What of an endpoint all its records hang on: with another, they go before they come anew."""

    name: str
    ident: int
    address: IpAddress
    teid_base: int
    teid_count: int

    @classmethod
    def of(cls, endpoint: Endpoint) -> Anchor:
        """Return the anchor of an endpoint."""
        return cls(
            endpoint.name,
            endpoint.ident,
            endpoint.address,
            endpoint.teid_base,
            endpoint.teid_count,
        )


class InForce(NamedTuple):
    """A tunnel or set that is in the tables of this node."""

    carrier: Carrier
    anchor: Anchor


class _Job(NamedTuple):
    """Records of tunnels ``start`` to ``stop`` (excluded) of one object in one table.

    ``before``: what is there now under the same keys (None: nothing that is known).
    """

    table: Table
    force: InForce
    start: int
    stop: int
    before: InForce | None = None


class Flow:
    """Takes what each object should have in the tables, gives the records that change."""

    def __init__(self) -> None:
        self.in_force: dict[Owner, InForce] = {}
        """What each object has in the tables once nothing is pending."""
        self._deletes: deque[_Job] = deque()
        # Ordered: a plain dict finds its first entry slowly when many before it are gone.
        self._upserts: OrderedDict[Owner, list[_Job]] = OrderedDict()
        # Records of all jobs.
        self._left = 0
        self._serving: dict[str, Endpoint] = {}
        self._users: dict[tuple[str, IpAddress], int] = Counter()
        self._touched: set[_Shared] = set()
        self._unused: set[_Shared] = set()
        self._shared: dict[_Shared, bytes] = {}

    @property
    def pending(self) -> int:
        """Number of records still to go through, endpoints and peers included."""
        return self._left + len(self._touched) + len(self._unused)

    def endpoint(self, name: str, endpoint: Endpoint | None) -> None:
        """The endpoint is served here as it is now; None: it is not."""
        if self._serving.get(name) == endpoint:
            return
        if endpoint is None:
            del self._serving[name]
        else:
            self._serving[name] = endpoint
        self._touched.add((name, None))
        self._touched.update(key for key in self._users if key[0] == name)

    def carrier(self, owner: Owner, wanted: InForce | None) -> None:
        """An object should be in the tables as ``wanted``; None: not at all."""
        old = self.in_force.get(owner)
        queue = self._upserts.pop(owner, None)
        unfinished = queue is not None
        self._left -= sum(job.stop - job.start for job in queue or ())
        if old == wanted and not unfinished:
            return
        self._count(old, -1)
        self._count(wanted, 1)
        if wanted is None:
            self.in_force.pop(owner, None)
        else:
            self.in_force[owner] = wanted
        for table in (Table.GTPU_UE, Table.GTPU_TUNNEL):
            self._plan_deletes(table, old, wanted)
        for table in (Table.GTPU_TUNNEL, Table.GTPU_UE):
            self._plan_upserts(owner, table, old, wanted, unfinished)

    def _count(self, force: InForce | None, by: int) -> None:
        if force is None:
            return
        for peer in force.carrier.peers:
            key = (force.anchor.name, peer)
            self._users[key] += by
            if not self._users[key]:
                del self._users[key]
            self._touched.add(key)

    def _plan_deletes(self, table: Table, old: InForce | None, new: InForce | None) -> None:
        if old is None:
            return
        kept, gone = _kept(table, old, new), old.carrier.count
        if kept and table is Table.GTPU_UE and (less := _less(old.carrier, new)) is not None:
            self._deletes.append(_Job(table, InForce(less, old.anchor), 0, 1))
            self._left += 1
        if kept < gone:
            self._deletes.append(_Job(table, old, kept, gone))
            self._left += gone - kept

    def _plan_upserts(
        self, owner: Owner, table: Table, old: InForce | None, new: InForce | None, unfinished: bool
    ) -> None:
        if new is None:
            return
        kept = _kept(table, old, new)
        queue = self._upserts.setdefault(owner, [])
        self._left += new.carrier.count
        if kept:
            queue.append(_Job(table, new, 0, kept, None if unfinished else old))
        if kept < new.carrier.count:
            queue.append(_Job(table, new, kept, new.carrier.count))

    def drain(self, limit: int | None, complete: bool, upserts: Upserts, deletes: Deletes) -> None:
        """Add about ``limit`` records that change to ``upserts`` and ``deletes`` (None: all).

        ``complete`` False: objects are still to come, so endpoints and peers in use may seem to be in none.
        """
        left = limit if limit is not None else self.pending
        while self._deletes and left > 0:
            job = self._deletes.popleft()
            stop = min(job.stop, job.start + min(SLICE, left))
            left -= stop - job.start
            self._left -= stop - job.start
            size, key = RECORD_SIZE[job.table], KEY_SIZE[job.table]
            block = _EXPAND[job.table](job.force.carrier, job.force.anchor.ident, job.start, stop)
            deletes[job.table].update(record[:key] for record in split(block, size))
            if stop < job.stop:
                self._deletes.appendleft(job._replace(start=stop))
        if self._deletes:
            return
        self._drain_shared(upserts)
        while self._upserts and left > 0:
            owner = next(iter(self._upserts))
            queue = self._upserts[owner]
            job = queue.pop(0)
            stop = min(job.stop, job.start + min(SLICE, left))
            left -= stop - job.start
            self._left -= stop - job.start
            _emit(job, stop, upserts[job.table])
            if stop < job.stop:
                queue.insert(0, job._replace(start=stop))
            if not queue:
                del self._upserts[owner]

        if complete and not self._upserts:
            for shared in self._unused:
                deletes[_table_of(shared)].add(self._shared.pop(shared)[: KEY_SIZE[_table_of(shared)]])
            self._unused.clear()

    def _drain_shared(self, upserts: Upserts) -> None:
        """Write endpoints and peers that came or changed; note those that nothing uses."""
        for key in self._touched:
            name, peer = key
            endpoint = self._serving.get(name)
            record = None
            if endpoint is not None:
                if peer is None:
                    record = endpoint_record(endpoint)
                elif key in self._users:
                    record = peer_record(endpoint, peer)
            old = self._shared.get(key)
            if record is None and old is not None:
                self._unused.add(key)
            else:
                self._unused.discard(key)
            if record is not None and record != old:
                upserts[_table_of(key)][record[: KEY_SIZE[_table_of(key)]]] = record
                self._shared[key] = record
        self._touched.clear()

    def free(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint can be served now: not while records of its name with another anchor, or of
        another name with its address, are still there."""
        old = self._serving.get(endpoint.name)
        if old is not None and Anchor.of(old) != Anchor.of(endpoint):
            return False
        wanted = endpoint_record(endpoint)
        for (name, peer), record in self._shared.items():
            if peer is not None:
                continue
            if name == endpoint.name and record[:_ANCHORED] != wanted[:_ANCHORED]:
                return False
            if name != endpoint.name and record.startswith(wanted[: KEY_SIZE[Table.GTPU_ENDPOINT]]):
                return False
        return True

    def shared(self) -> Iterator[tuple[Table, str, bytes]]:
        """Yield the records of endpoints and peers: table, endpoint's name, record."""
        for key, record in self._shared.items():
            yield _table_of(key), key[0], record


def _table_of(shared: _Shared) -> Table:
    return Table.GTPU_ENDPOINT if shared[1] is None else Table.GTPU_PEER


def _kept(table: Table, old: InForce | None, new: InForce | None) -> int:
    """Return how many tunnels, from the first, keep their keys in a table (of a Tunnel: some of them)."""
    if old is None or new is None or old.anchor != new.anchor:
        return 0
    a, b = old.carrier, new.carrier
    same = a.local_teid == b.local_teid
    if table is Table.GTPU_UE:
        same = same and (a.payload, a.inner_vrf) == (b.payload, b.inner_vrf)
        if isinstance(a, TunnelSet) and isinstance(b, TunnelSet):
            same = same and (a.bases, a.step) == (b.bases, b.step)
    return min(a.count, b.count) if same else 0


def _less(old: Carrier, new: InForce | None) -> Tunnel | None:
    """Return the old Tunnel with those prefixes only that the new one has not; None: there are none."""
    if not isinstance(old, Tunnel) or new is None or not isinstance(new.carrier, Tunnel):
        return None
    if old.vlan:
        return old if old.vlan != new.carrier.vlan else None
    prefixes = tuple(prefix for prefix in old.prefixes if prefix not in new.carrier.prefixes)
    return replace(old, prefixes=prefixes) if prefixes else None


def _emit(job: _Job, stop: int, upserts: dict[bytes, bytes]) -> None:
    """Add the records of a slice that differ from those before."""
    size, key = RECORD_SIZE[job.table], KEY_SIZE[job.table]
    expand = _EXPAND[job.table]
    block = expand(job.force.carrier, job.force.anchor.ident, job.start, stop)
    if job.before is None:
        upserts.update((record[:key], record) for record in split(block, size))
        return
    old = expand(job.before.carrier, job.before.anchor.ident, job.start, stop)
    if old == block:
        return
    before = set(split(old, size))
    upserts.update((record[:key], record) for record in split(block, size) if record not in before)
