"""The audit's slices: how much each of them looks at, whatever the size of the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from vpp_operator.agent.audit import SLICE, Audit, _Keys
from vpp_operator.agent.shards import Shards
from vpp_operator.dataplane.records import Table

CHUNK = 4096
"""Entries of one answer to a dump, at most (FP_MSG_MAX_RECORDS)."""
TABLE = Table.ENDPOINT


class Counted(dict[bytes, int]):
    """A part of a table's belief that counts every look at a key."""

    looks = 0

    def __iter__(self) -> Iterator[bytes]:
        for key in super().__iter__():
            self.looks += 1
            yield key

    def __contains__(self, key: object) -> bool:
        self.looks += 1
        return super().__contains__(key)

    def get(self, key: bytes, default: int | None = None) -> int | None:  # type: ignore[override]
        self.looks += 1
        return super().get(key, default)

    def __setitem__(self, key: bytes, mark: int) -> None:
        self.looks += 1
        super().__setitem__(key, mark)

    def __delitem__(self, key: bytes) -> None:
        self.looks += 1
        super().__delitem__(key)


class Dumping:
    """A dataplane that can only be dumped."""

    def __init__(self, held: dict[bytes, int]) -> None:
        self.held = held

    async def dump(self, table: Table) -> AsyncIterator[list[tuple[bytes, int]]]:
        entries = list(self.held.items()) if table is TABLE else []
        for start in range(0, len(entries), CHUNK):
            yield entries[start : start + CHUNK]


def key(number: int) -> bytes:
    return number.to_bytes(32)


@pytest.mark.parametrize("wrong", ["nothing", "all differ", "all lost", "all unknown"])
async def test_no_slice_looks_at_more_than_its_share(wrong: str) -> None:
    size = 10 * SLICE + 77
    belief, held = Shards[int](), {}
    parts = belief.shards = tuple(Counted() for _ in belief.shards)
    for number in range(size):
        if wrong != "all unknown":
            belief[key(number)] = number
        if wrong != "all lost":
            held[key(number)] = number + (wrong == "all differ")
    audit = Audit(Dumping(held), {TABLE: belief}, [TABLE])  # type: ignore[arg-type]
    found, most, steps = 0, 0, 0
    while not audit.done:
        for part in parts:
            part.looks = 0
        found += len(await audit.step())
        most = max(most, sum(part.looks for part in parts))
        steps += 1
    assert found == (0 if wrong == "nothing" else size)
    assert dict(belief) == held
    # a key is asked for, and then at most written; a pass is two walks over the table
    assert most <= 3 * max(SLICE, CHUNK), f"{most} looks in one slice"
    assert steps >= size / SLICE


async def test_a_table_that_changes_all_the_time_is_still_walked_to_its_end() -> None:
    """Records come and go between the slices: what was lost before is found, and nothing that was not."""
    size = 6 * SLICE
    belief = Shards({key(number): number for number in range(size)})
    lost = set(range(100, size, 1000))
    held = {key(number): number for number in range(size) if number not in lost}
    audit = Audit(Dumping(held), {TABLE: belief}, [TABLE])  # type: ignore[arg-type]
    found: set[bytes] = set()
    for turn in range(1000):
        if audit.done:
            break
        found.update(key for _, key in await audit.step())
        new = key(10 * size + turn)
        belief[new] = 1
        held[new] = 1
        audit.touched(TABLE, new)
    assert audit.done
    assert found == {key(number) for number in lost}


def test_a_table_that_changes_is_gone_through_in_short_steps() -> None:
    every = {number.to_bytes(4, "big"): 0 for number in range(20_000)}
    table = Shards(every)
    keys = _Keys(table)
    seen: list[bytes] = []
    number = len(every)
    while part := keys.take(100):
        assert len(part) <= 100
        seen += part
        number += 1
        table[number.to_bytes(4, "big")] = 0
        del table[part[0]]
    assert len(seen) == len(set(seen)), "a key came twice"
    assert set(seen) >= every.keys(), "what was there when it began, and went in its turn"
