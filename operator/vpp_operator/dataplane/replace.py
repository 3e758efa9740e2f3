"""Replacing what fills a table, in slices: what the engine has no room for beside what it replaces. Pure.

Records hang together by their owner: a tunnel and its UE prefixes, a Service and its endpoints and frontends.
A slice lets go of some owners and takes as many new ones, those first that take over a prefix or an address
from each other, so that each of these is without service for two slices at most and not for the whole batch.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import KEY_SIZE, RECORD_SIZE, Table

__all__ = [
    "FAMILIES",
    "ROOMY",
    "SLICE",
    "Family",
    "let_go_ahead",
    "may_be_tight",
    "owner_of",
    "room_is_coming",
    "slices",
    "tight_tables",
    "without_room",
]

SLICE: Final = 1024
"""Owners that are replaced at once: some milliseconds."""

ROOMY: Final = 256
"""Room for so many records is enough to replace by it, without letting go first."""

STEP: Final = 4096
"""Records gone through between two looks of the caller at other things."""

_USAGE: Final = {Table.SERVICE: "services", Table.ENDPOINT: "endpoints", Table.GTPU_TUNNEL: "gtpuTunnels"}
"""Tables in which what comes has to find room beside what goes, by their names in an engine's statistics."""

_OWNER: Final = {
    Table.SERVICE: slice(0, 8),
    Table.ENDPOINT: slice(0, 8),
    Table.FRONTEND: slice(32, 40),
    Table.GTPU_TUNNEL: slice(0, 16),
    Table.GTPU_UE: slice(24, 40),
}
"""Where the owner's key stands in a record."""


@dataclass(frozen=True, slots=True)
class Family:
    """Tables whose records hang together. ``linked`` is that whose keys do not name their owner."""

    owner: Table
    linked: Table
    others: tuple[Table, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them."""
        return (self.owner, *self.others, self.linked)


FAMILIES: Final = (
    Family(Table.SERVICE, Table.FRONTEND, (Table.ENDPOINT,)),
    Family(Table.GTPU_TUNNEL, Table.GTPU_UE),
)


def owner_of(table: Table, record: bytes) -> bytes:
    """Return the key of the owner of a packed record; of a key, if the table is not a linked one."""
    return record[_OWNER[table]]


def may_be_tight(batch: Batch) -> bool:
    """Whether the batch replaces so much that room matters."""
    return any(len(batch.upserts.get(t, ())) > ROOMY and batch.deletes.get(t) for t in _USAGE)


def tight_tables(batch: Batch, room: Mapping[str, int]) -> dict[Table, int]:
    """Return the tables in which the batch may not find room beside what it replaces, and their room.

    ``room``: free records by the table's name in the engine's statistics.
    """
    return {
        table: room[name]
        for table, name in _USAGE.items()
        if batch.deletes.get(table) and ROOMY < len(batch.upserts.get(table, ())) > room.get(name, 1 << 32)
    }


_NO_ROOM: Final = -errno.ENOSPC
_FOLLOWS: Final = (_NO_ROOM, -errno.ENOENT, -errno.EBUSY)
"""No room; what depends on that, and what could not go for it."""


def without_room(
    batch: Batch, failures: Sequence[Failure], freed: Collection[Table]
) -> tuple[Batch, list[Failure]]:
    """Return what may be taken now that records of the tables ``freed`` went, and the other failures."""
    if not any(f.code == _NO_ROOM and f.table in freed for f in failures):
        return Batch(), list(failures)
    late = {(f.table, f.key) for f in failures if f.code in _FOLLOWS}
    tables = {table for table, _ in late}
    upserts = {
        table: [raw for raw in batch.upserts.get(table, ()) if (table, raw[: KEY_SIZE[table]]) in late]
        for table in tables
    }
    deletes = {
        table: [key for key in batch.deletes.get(table, ()) if (table, key) in late] for table in tables
    }
    return Batch(upserts, deletes), [f for f in failures if f.code not in _FOLLOWS]


def room_is_coming(failures: Iterable[Failure], room: Mapping[str, int]) -> bool:
    """Whether a table without room holds fewer records than it can: workers are still to let go of others.

    ``room``: as in :func:`tight_tables`.
    """
    return any(f.code == _NO_ROOM and room.get(_USAGE.get(f.table, ""), 0) > 0 for f in failures)


@dataclass(slots=True)
class _Owned:
    """Records (or keys) of one table by owner: those of one behind each other."""

    size: int
    by_owner: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, owner: bytes, raw: bytes) -> None:
        known = self.by_owner.get(owner)
        self.by_owner[owner] = raw if known is None else known + raw

    def count(self, owner: bytes) -> int:
        return len(self.by_owner.get(owner, b"")) // self.size

    def take(self, owner: bytes) -> list[bytes]:
        raw = self.by_owner.get(owner, b"")
        return (
            [raw]
            if len(raw) == self.size
            else [raw[i : i + self.size] for i in range(0, len(raw), self.size)]
        )


def _owners(tables: Iterable[_Owned]) -> Iterator[bytes]:
    """Yield every owner once."""
    seen: set[bytes] = set()
    for owned in tables:
        for owner in owned.by_owner:
            if owner not in seen:
                seen.add(owner)
                yield owner


class _Slice:
    """A slice that is being filled."""

    def __init__(self) -> None:
        self.upserts: dict[Table, list[bytes]] = {}
        self.deletes: dict[Table, list[bytes]] = {}
        self.owners = 0

    def batch(self) -> Batch:
        return Batch(self.upserts, self.deletes)


def slices(
    family: Family, batch: Batch, held: Mapping[bytes, bytes], tight: Sequence[Table], size: int
) -> Iterator[Batch]:
    """Cut what a batch does in a family's tables into slices.

    Empty ones among them stand for some milliseconds of work.

    Args:
        family: the tables; the batch's others are left out.
        batch: what is to be done.
        held: owner, by key, of the records of the linked table that the engine holds under the batch's keys.
        tight: the tables that count: so many records go as come, as long as there are any to go.
        size: owners in a slice.
    """
    comes = {table: _Owned(RECORD_SIZE[table]) for table in family.tables}
    goes = {table: _Owned(KEY_SIZE[table]) for table in family.tables}
    before: dict[bytes, list[bytes]] = {}
    """The owners that have what one takes over."""
    for table in family.tables:
        for number, key in enumerate(batch.deletes.get(table, ())):
            if number % STEP == STEP - 1:
                yield Batch()
            owner = held.get(key) if table is family.linked else owner_of(table, key)
            if owner is not None:  # else it is not there
                goes[table].add(owner, key)
    going = goes[family.owner].by_owner
    let_go = set(batch.deletes.get(family.linked, ()))
    for table in family.tables:
        for number, record in enumerate(batch.upserts.get(table, ())):
            if number % STEP == STEP - 1:
                yield Batch()
            owner = owner_of(table, record)
            comes[table].add(owner, record)
            if table is not family.linked:
                continue
            key = record[: KEY_SIZE[table]]
            holder = held.get(key, owner)
            if holder == owner:
                continue
            before.setdefault(owner, []).append(holder)
            if holder in going and key not in let_go:
                # It changes hands in place; here its holder goes first, and cannot while it has it.
                goes[table].add(holder, key)

    free: Counter[Table] = Counter()
    gone: set[bytes] = set()
    current = _Slice()

    def let_owner_go(owner: bytes) -> None:
        if owner in gone:
            return
        gone.add(owner)
        for table in family.tables:
            if keys := goes[table].take(owner):
                current.deletes.setdefault(table, []).extend(keys)
                free[table] += len(keys)

    rest = _owners(goes.values())
    for owner in _owners(comes.values()):
        for holder in (owner, *before.get(owner, ())):
            let_owner_go(holder)
        wanted = {table: comes[table].count(owner) for table in tight}
        while any(free[table] < count for table, count in wanted.items()):
            other = next(rest, None)
            if other is None:
                break
            let_owner_go(other)
        free.subtract(wanted)
        for table in family.tables:
            if records := comes[table].take(owner):
                current.upserts.setdefault(table, []).extend(records)
        current.owners += 1
        if current.owners == size:
            yield current.batch()
            current = _Slice()
    for number, other in enumerate(rest):
        if number % STEP == STEP - 1:
            yield Batch()
        if other in gone:
            continue
        let_owner_go(other)
        current.owners += 1
        if current.owners >= size:
            yield current.batch()
            current = _Slice()
    if current.owners:
        yield current.batch()


def let_go_ahead(parts: Iterable[Batch]) -> Iterator[Batch]:
    """Cut slices in two: what goes, then what comes, the next slice's going before that.

    What is given up is room only when packets that use it have left all workers: so nobody waits for that.
    """
    comes = Batch()
    for part in parts:
        if not part:
            yield part
            continue
        yield Batch({}, part.deletes)
        if comes:
            yield comes
        comes = Batch(part.upserts)
    if comes:
        yield comes
