"""The difference between what the dataplane should hold and what it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field

from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import Table, digest

__all__ = [
    "Believed",
    "Digests",
    "Plan",
    "Records",
    "acknowledge",
    "acknowledge_slices",
    "add_keys",
    "plan_all",
]

Records = Mapping[Table, Mapping[bytes, bytes]]
"""Per table: key -> packed record."""

Digests = Mapping[Table, Mapping[bytes, int]]
"""Per table: key -> digest of the record that the dataplane holds."""

Believed = Mapping[Table, MutableMapping[bytes, int]]
"""The same, to be kept up to date: it has every table."""


@dataclass(slots=True)
class Plan:
    """Changes that make the dataplane hold what is desired. ``keys`` and ``digests`` run beside ``upserts``.

    The keys are the desired records' own objects: kept once, not once for each table of a million.

    The order in which they are applied is :meth:`~vpp_operator.dataplane.protocol.Dataplane.apply`'s.
    """

    upserts: dict[Table, list[bytes]] = field(default_factory=dict)
    keys: dict[Table, list[bytes]] = field(default_factory=dict)
    digests: dict[Table, list[int]] = field(default_factory=dict)
    deletes: dict[Table, list[bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.upserts.values())) + sum(map(len, self.deletes.values()))

    def batch(self) -> Batch:
        """Return the changes as the dataplane takes them."""
        return Batch(self.upserts, self.deletes)


def add_keys(
    plan: Plan, table: Table, keys: Iterable[bytes], want: Mapping[bytes, bytes], have: Mapping[bytes, int]
) -> None:
    """Add to ``plan`` what ``keys`` of ``table`` need; a key that is as desired needs nothing.

    ``want`` and ``have`` are what is desired in that table, and what the dataplane has of it.

    A UE prefix goes from one tunnel to another by a deletion before the new record: its whole value is the
    tunnel's name, and an engine refuses to take it away from a tunnel that has it.
    """
    keys = looked_at = list(keys)
    records = list(map(want.get, keys))
    deletes: list[bytes] = []
    if None in records:
        deletes = [key for key, record in zip(keys, records, strict=True) if record is None and key in have]
        keys = [key for key, record in zip(keys, records, strict=True) if record is not None]
    upserts = [record for record in records if record is not None]
    digests = list(map(digest, upserts))
    held = list(map(have.get, keys))
    if held.count(None) < len(held):
        changed = [i for i, (old, new) in enumerate(zip(held, digests, strict=True)) if old != new]
        if table is Table.GTPU_UE:
            gone = {*deletes, *(keys[i] for i in changed if held[i] is not None)}
            deletes = [key for key in looked_at if key in gone]
        if len(changed) < len(keys):
            keys = [keys[i] for i in changed]
            upserts = [upserts[i] for i in changed]
            digests = [digests[i] for i in changed]
    if upserts:
        plan.upserts.setdefault(table, []).extend(upserts)
        plan.keys.setdefault(table, []).extend(keys)
        plan.digests.setdefault(table, []).extend(digests)
    if deletes:
        plan.deletes.setdefault(table, []).extend(deletes)


def plan_all(desired: Records, actual: Digests, tables: Iterable[Table] = Table) -> Plan:
    """Return the whole difference in ``tables``; the others are left alone."""
    plan = Plan()
    for table in tables:
        want, have = desired.get(table, {}), actual.get(table, {})
        add_keys(plan, table, sorted(want.keys() | have.keys()), want, have)
    return plan


def acknowledge(plan: Plan, failures: Iterable[Failure], actual: Believed) -> None:
    """Note in ``actual`` what the dataplane took; a record that failed stays as it was."""
    for _ in acknowledge_slices(plan, failures, actual, len(plan) or 1):
        pass


def acknowledge_slices(
    plan: Plan, failures: Iterable[Failure], actual: Believed, slice_size: int
) -> Iterator[int]:
    """Do what :func:`acknowledge` does, yielding the number of records after each ``slice_size`` at most."""
    failed = {(failure.table, failure.key) for failure in failures}
    for table, keys in plan.deletes.items():
        have = actual[table]
        for start in range(0, len(keys), slice_size):
            gone = keys[start : start + slice_size]
            for key in gone:
                if not failed or (table, key) not in failed:
                    have.pop(key, None)
            yield len(gone)
    for table, keys in plan.keys.items():
        have, marks = actual[table], plan.digests[table]
        for start in range(0, len(keys), slice_size):
            part = keys[start : start + slice_size]
            taken: Iterable[tuple[bytes, int]] = zip(part, marks[start : start + slice_size], strict=True)
            if failed:
                taken = (entry for entry in taken if (table, entry[0]) not in failed)
            have.update(taken)
            yield len(part)
