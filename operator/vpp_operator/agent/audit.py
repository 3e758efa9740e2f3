"""Comparing what the dataplane really holds with what it is believed to hold, a slice at a time.

The dataplane is the truth: a key whose digest differs, that nobody acknowledged, or that is gone is written
into the caller's belief and handed back, and planning does the rest. So a record that was altered by hand,
or lost, is mended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from vpp_operator.agent.shards import Shards
from vpp_operator.dataplane.protocol import Dataplane
from vpp_operator.dataplane.records import Table

__all__ = ["Audit"]

SLICE = 4096
"""Keys looked at in one step: about 1 ms of work."""


_PART = 32768


class _Seen:
    """A set of many keys, in parts: no step has to make room for, or let go of, all of them at once."""

    def __init__(self) -> None:
        self._last: set[bytes] = set()
        self._parts = [self._last]

    def update(self, keys: Iterable[bytes]) -> None:
        if len(self._last) >= _PART:
            self._last = set()
            self._parts.append(self._last)
        self._last.update(keys)

    def lacking(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return the keys that are not in it."""
        return set(keys).difference(*self._parts)

    def forget_some(self) -> bool:
        """Let go of a part; return whether there are more. Nothing may be asked any more."""
        if self._parts:
            self._parts.pop()
        self._last = set()
        return bool(self._parts)


class _Keys:
    """The keys of a table that may change in between, a piece at a time: its parts are copied one by one.

    Keys that come or go after their part was copied are those of the next pass.
    """

    def __init__(self, keys: Shards[int] | None = None) -> None:
        self._shards = iter(keys.shards if keys is not None else ())
        self._part: list[bytes] = []

    def take(self, size: int) -> list[bytes]:
        """Return some keys, none at the end."""
        part: list[bytes] = []
        while len(part) < size:
            if not self._part:
                shard = next(self._shards, None)
                if shard is None:
                    break
                self._part = list(shard)
            some = size - len(part)
            part += self._part[-some:]
            del self._part[-some:]
        return part


class Audit:
    """One pass over all tables, in steps between which changes may be applied.

    A key that was changed while the pass runs is not judged (:meth:`touched`): the dump may have read it
    before or after the change.
    """

    def __init__(
        self, dataplane: Dataplane, actual: dict[Table, Shards[int]], tables: Iterable[Table] = Table
    ) -> None:
        self._dataplane = dataplane
        self._actual = actual
        self._tables = list(tables)
        self._table: Table | None = None
        self._chunks: AsyncIterator[list[tuple[bytes, int]]] | None = None
        self._seen = _Seen()
        self._rest = _Keys()
        self._touched: set[tuple[Table, bytes]] = set()
        self.entries = 0
        self.done = False

    def touched(self, table: Table, key: bytes) -> None:
        """Leave this key to its own acknowledgement for the rest of the pass."""
        self._touched.add((table, key))

    async def step(self) -> list[tuple[Table, bytes]]:
        """Do one slice; return the keys that turned out to differ from the belief."""
        if self._table is None:
            if not self._tables:
                self.done = True
                return []
            self._table = self._tables.pop(0)
            self._chunks = aiter(self._dataplane.dump(self._table))
            self._seen = _Seen()
        table = self._table
        if self._chunks is not None:
            chunk = await anext(self._chunks, None)
            if chunk is not None:
                return self._compare(table, chunk)
            self._chunks = None
            self._rest = _Keys(self._actual.get(table))
        part = self._rest.take(SLICE // 4)
        if not part:
            if not self._seen.forget_some():
                self._table = None
            return []
        return self._missing(table, part)

    async def finish(self) -> list[tuple[Table, bytes]]:
        """Do all that is left in one go."""
        found: list[tuple[Table, bytes]] = []
        while not self.done:
            found += await self.step()
        return found

    def _compare(self, table: Table, chunk: list[tuple[bytes, int]]) -> list[tuple[Table, bytes]]:
        have = self._actual.setdefault(table, Shards())
        found = []
        self.entries += len(chunk)
        self._seen.update(key for key, _ in chunk)
        for key, mark in chunk:
            if have.get(key) != mark and (table, key) not in self._touched:
                have[key] = mark
                found.append((table, key))
        return found

    def _missing(self, table: Table, keys: list[bytes]) -> list[tuple[Table, bytes]]:
        have = self._actual[table]
        found = []
        for key in self._seen.lacking(keys):
            if (table, key) not in self._touched and key in have:
                del have[key]
                found.append((table, key))
        return found
