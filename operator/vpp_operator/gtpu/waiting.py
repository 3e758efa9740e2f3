"""Objects that wait to be looked at, the oldest first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator

from vpp_operator.api.problem import Owner

from .model import Age

__all__ = ["Waiting"]

_GONE = Age("", "", Owner("", "", ""))


class Waiting:
    """A set of objects of which some at a time are taken: those that are gone, then the oldest. What they
    decide is not undone by those that come later.

    ``age`` gives an object's place as it is now, None when it is gone.
    """

    def __init__(self, age: Callable[[Owner], Age | None]) -> None:
        self._age = age
        self._owners: set[Owner] = set()
        # An object's place may have changed since it was entered: it is there again then.
        self._heap: list[tuple[Age, Owner]] = []

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._owners

    def __iter__(self) -> Iterator[Owner]:
        return iter(self._owners)

    def add(self, owner: Owner) -> None:
        """Enter an object, or note that its place may be another one now."""
        self._owners.add(owner)
        heapq.heappush(self._heap, (self._age(owner) or _GONE, owner))

    def update(self, owners: Collection[Owner]) -> None:
        """Enter objects whose place is as it was."""
        for owner in owners:
            if owner not in self._owners:
                self.add(owner)

    def take(self, limit: int | None) -> set[Owner]:
        """Take ``limit`` objects out (None: all)."""
        if limit is None or limit >= len(self._owners):
            taken, self._owners = self._owners, set()
            self._heap.clear()
            return taken
        taken = set()
        while len(taken) < limit:
            age, owner = heapq.heappop(self._heap)
            if owner in self._owners and age == (self._age(owner) or _GONE):
                self._owners.remove(owner)
                taken.add(owner)
        return taken
