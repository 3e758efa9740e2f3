"""Records that the dataplane did not take, and when each is tried again."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from vpp_operator.dataplane.protocol import Failure
from vpp_operator.dataplane.records import Table

__all__ = ["Rejected", "Retries"]

Key = tuple[Table, bytes]


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record that was refused: the negative errno, how often, and when it is due (seconds)."""

    code: int
    attempts: int
    due: float


class Retries:
    """Refused records with growing pauses: 1 s, doubled each time, at most one minute."""

    FIRST = 1.0
    LONGEST = 60.0

    def __init__(self) -> None:
        self._entries: dict[Key, Rejected] = {}
        self._heap: list[tuple[float, Key]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def code(self, key: Key) -> int:
        """Return the negative errno of a refused record; 0: it is not refused."""
        entry = self._entries.get(key)
        return entry.code if entry is not None else 0

    def items(self) -> Iterable[tuple[Key, Rejected]]:
        """Return what is refused now."""
        return self._entries.items()

    def refused(self, failures: Iterable[Failure], now: float) -> None:
        """Note refusals; a record that was refused before waits longer."""
        for failure in failures:
            key = (failure.table, failure.key)
            before = self._entries.get(key)
            attempts = before.attempts + 1 if before is not None else 1
            due = now + min(self.FIRST * 2 ** min(attempts - 1, 16), self.LONGEST)
            self._entries[key] = Rejected(failure.code, attempts, due)
            heapq.heappush(self._heap, (due, key))

    def forget(self, key: Key) -> None:
        """The record was taken, or is wanted differently now."""
        self._entries.pop(key, None)

    def hasten(self, codes: Collection[int], now: float) -> None:
        """Make all records refused with one of ``codes`` due: the cause may be gone."""
        for key, entry in self._entries.items():
            if entry.code in codes and entry.due > now:
                self._entries[key] = Rejected(entry.code, entry.attempts, now)
                heapq.heappush(self._heap, (now, key))

    def next_due(self) -> float | None:
        """Return when the next record is due; None: nothing is refused."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Yield the records whose time has come; each stays refused until it is taken."""
        self._drop_stale()
        while self._heap and self._heap[0][0] <= now:
            _, key = heapq.heappop(self._heap)
            yield key
            self._drop_stale()

    def _drop_stale(self) -> None:
        while self._heap:
            due, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                return
            heapq.heappop(self._heap)
