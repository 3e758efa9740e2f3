"""The difference between what the dataplane should hold and what it holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import KEY_SIZE, Table, digest

__all__ = ["Digests", "Plan", "Records", "acknowledge", "add_keys", "plan_all"]

Records = Mapping[Table, Mapping[bytes, bytes]]
"""Per table: key -> packed record."""

Digests = dict[Table, dict[bytes, int]]
"""Per table: key -> digest of the record that the dataplane holds."""


@dataclass(slots=True)
class Plan:
    """Changes that make the dataplane hold what is desired. ``digests`` runs beside ``upserts``.

    The order in which they are applied is :meth:`~vpp_operator.dataplane.protocol.Dataplane.apply`'s.
    """

    upserts: dict[Table, list[bytes]] = field(default_factory=dict)
    digests: dict[Table, list[int]] = field(default_factory=dict)
    deletes: dict[Table, list[bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.upserts.values())) + sum(map(len, self.deletes.values()))

    def batch(self) -> Batch:
        """Return the changes as the dataplane takes them."""
        return Batch(self.upserts, self.deletes)


def add_keys(plan: Plan, table: Table, keys: Iterable[bytes], desired: Records, actual: Digests) -> None:
    """Add to ``plan`` what ``keys`` of ``table`` need; a key that is as desired needs nothing."""
    want = desired.get(table, {})
    have = actual.get(table, {})
    upserts: list[bytes] = []
    digests: list[int] = []
    deletes: list[bytes] = []
    for key in keys:
        record = want.get(key)
        if record is None:
            if key in have:
                deletes.append(key)
            continue
        mark = digest(record)
        if have.get(key) != mark:
            upserts.append(record)
            digests.append(mark)
    if upserts:
        plan.upserts.setdefault(table, []).extend(upserts)
        plan.digests.setdefault(table, []).extend(digests)
    if deletes:
        plan.deletes.setdefault(table, []).extend(deletes)


def plan_all(desired: Records, actual: Digests, tables: Iterable[Table] = Table) -> Plan:
    """Return the whole difference in ``tables``; the others are left alone."""
    plan = Plan()
    for table in tables:
        keys = desired.get(table, {}).keys() | actual.get(table, {}).keys()
        add_keys(plan, table, sorted(keys), desired, actual)
    return plan


def acknowledge(plan: Plan, failures: Iterable[Failure], actual: Digests) -> None:
    """Note in ``actual`` what the dataplane took; a record that failed stays as it was."""
    failed = {(failure.table, failure.key) for failure in failures}
    for table, records in plan.upserts.items():
        size = KEY_SIZE[table]
        have = actual.setdefault(table, {})
        for record, mark in zip(records, plan.digests[table], strict=True):
            key = record[:size]
            if not failed or (table, key) not in failed:
                have[key] = mark
    for table, keys in plan.deletes.items():
        have = actual.setdefault(table, {})
        for key in keys:
            if not failed or (table, key) not in failed:
                have.pop(key, None)
