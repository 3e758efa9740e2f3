"""Comparing what the dataplane really holds with what it is believed to hold, a slice at a time.

The dataplane is the truth: a key whose digest differs, that nobody acknowledged, or that is gone is written
into the caller's belief and handed back, and planning does the rest. So a record that was altered by hand,
or lost, is mended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice

from vpp_operator.agent.plan import Digests
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
    """The keys of a dict that may change in between, a piece at a time, without a copy of all.

    A key that comes is at the end; where some go, as many after them may be left out: the next pass sees
    them. So does it with the rest of a dict that changes all the time.
    """

    # Keys passed over at once on the way back to where the last iterator was: some 1 ms.
    SKIP = 131072
    MOST_RETURNS = 64

    def __init__(self, keys: dict[bytes, int]) -> None:
        self._dict = keys
        self._at = 0
        self._rest = iter(keys)
        self._skip = 0
        self._returns = 0

    def take(self, size: int) -> list[bytes] | None:
        """Return some keys, none at the end; None: not there yet, ask again."""
        try:
            if self._skip:
                some = min(self._skip, self.SKIP)
                next(islice(self._rest, some, some), None)
                self._skip -= some
                if self._skip:
                    return None
            part = list(islice(self._rest, size))
        except RuntimeError:
            # The dict changed its size: a new iterator goes to where the last one was.
            self._rest = iter(self._dict)
            self._skip = self._at
            self._returns += 1
            return None if self._returns <= self.MOST_RETURNS else []
        self._at += len(part)
        self._returns = 0
        return part

    def gone(self, count: int) -> None:
        """So many of the keys taken so far were deleted: those after them have moved up."""
        self._at -= count


class Audit:
    """One pass over all tables, in steps between which changes may be applied.

    A key that was changed while the pass runs is not judged (:meth:`touched`): the dump may have read it
    before or after the change.
    """

    def __init__(self, dataplane: Dataplane, actual: Digests, tables: Iterable[Table] = Table) -> None:
        self._dataplane = dataplane
        self._actual = actual
        self._tables = list(tables)
        self._table: Table | None = None
        self._chunks: AsyncIterator[list[tuple[bytes, int]]] | None = None
        self._seen = _Seen()
        self._rest = _Keys({})
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
            self._rest = _Keys(self._actual.get(table, {}))
        part = self._rest.take(SLICE // 4)
        if part is None:
            return []
        if not part:
            if not self._seen.forget_some():
                self._table = None
            return []
        missing = self._missing(table, part)
        self._rest.gone(len(missing))
        return missing

    async def finish(self) -> list[tuple[Table, bytes]]:
        """Do all that is left in one go."""
        found: list[tuple[Table, bytes]] = []
        while not self.done:
            found += await self.step()
        return found

    def _compare(self, table: Table, chunk: list[tuple[bytes, int]]) -> list[tuple[Table, bytes]]:
        have = self._actual.setdefault(table, {})
        found = []
        self.entries += len(chunk)
        self._seen.update(key for key, _ in chunk)
        for key, mark in chunk:
            if have.get(key) != mark and (table, key) not in self._touched:
                have[key] = mark
                found.append((table, key))
        return found

    def _missing(self, table: Table, keys: list[bytes]) -> list[tuple[Table, bytes]]:
        have = self._actual.get(table, {})
        found = []
        for key in self._seen.lacking(keys):
            if (table, key) not in self._touched and key in have:
                del have[key]
                found.append((table, key))
        return found
