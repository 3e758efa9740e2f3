"""Who has what, when several objects want it: the oldest that does not overlap an older holder."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator
from typing import NamedTuple

from vpp_operator.api.problem import Owner

from .model import Age

__all__ = ["Arbiter", "Claim", "ClaimIndex"]


class Claim(NamedTuple):
    """A range of numbers, both ends included, in a space of its own (TEIDs of one endpoint, ...)."""

    space: Hashable
    first: int
    last: int


class _Entry(NamedTuple):
    """A range and who has it."""

    first: int
    last: int
    owner: Owner


class ClaimIndex:
    """Ranges by owner, which may overlap. Finding who overlaps a range costs about the number found.

    A range stands in the one or two aligned blocks of a power of two, at least its own length, that it
    touches; a lookup goes through the lengths that are in use.
    """

    def __init__(self) -> None:
        # space -> bits of the block length -> block number -> entry, or several (a set for each single one
        # would be most of the memory).
        self._spaces: dict[Hashable, dict[int, dict[int, _Entry | set[_Entry]]]] = {}

    def add(self, claim: Claim, owner: Owner) -> None:
        """Enter a range of ``owner``."""
        bits = (claim.last - claim.first).bit_length()
        blocks = self._spaces.setdefault(claim.space, {}).setdefault(bits, {})
        entry = _Entry(claim.first, claim.last, owner)
        for block in {claim.first >> bits, claim.last >> bits}:
            there = blocks.setdefault(block, entry)
            if isinstance(there, set):
                there.add(entry)
            elif there is not entry:
                blocks[block] = {there, entry}

    def remove(self, claim: Claim, owner: Owner) -> None:
        """Take a range of ``owner`` out."""
        bits = (claim.last - claim.first).bit_length()
        lengths = self._spaces[claim.space]
        blocks = lengths[bits]
        entry = _Entry(claim.first, claim.last, owner)
        for block in {claim.first >> bits, claim.last >> bits}:
            there = blocks[block]
            if isinstance(there, set):
                there.remove(entry)
                if len(there) == 1:
                    blocks[block] = there.pop()
            elif there == entry:
                del blocks[block]
            else:
                raise KeyError(entry)
        if not blocks:
            del lengths[bits]
            if not lengths:
                del self._spaces[claim.space]

    def overlapping(self, claim: Claim) -> Iterator[tuple[Claim, Owner]]:
        """Yield the ranges that share a number with ``claim``, some of them twice."""
        space, first, last = claim
        for bits, blocks in self._spaces.get(space, {}).items():
            low, high = first >> bits, last >> bits
            chosen: Iterable[_Entry | set[_Entry]]
            if high - low < len(blocks):
                chosen = (blocks[block] for block in range(low, high + 1) if block in blocks)
            else:
                chosen = (entries for block, entries in blocks.items() if low <= block <= high)
            for entries in chosen:
                for start, end, owner in entries if isinstance(entries, set) else (entries,):
                    if start <= last and first <= end:
                        yield Claim(space, start, end), owner


class Arbiter:
    """Decides between objects that claim ranges: an object holds all of its claims or none.

    Taken from the oldest to the newest, an object holds its claims if no older holder overlaps them. The
    outcome depends on the objects alone; a change costs about the number of objects that overlap it.
    """

    def __init__(self) -> None:
        self._ages: dict[Owner, Age] = {}
        self._claims: dict[Owner, tuple[Claim, ...]] = {}
        self._held: dict[Owner, tuple[Claim, ...]] = {}
        self._lost: dict[Owner, tuple[Owner, Claim]] = {}
        self._all = ClaimIndex()
        self._holders = ClaimIndex()
        self._dirty: set[Owner] = set()

    def put(self, age: Age, claims: tuple[Claim, ...]) -> None:
        """An object claims ranges, in place of those it claimed before."""
        owner = age.owner
        if self._ages.get(owner) == age and self._claims.get(owner) == claims:
            return
        if self._ages.get(owner, age) != age:
            # Another object of the same name: the old one goes first.
            self.drop(owner)
        for claim in self._claims.get(owner, ()):
            self._all.remove(claim, owner)
        self._ages[owner] = age
        self._claims[owner] = claims
        for claim in claims:
            self._all.add(claim, owner)
        self._dirty.add(owner)

    def drop(self, owner: Owner) -> None:
        """An object claims nothing any more."""
        for claim in self._claims.pop(owner, ()):
            self._all.remove(claim, owner)
        if self._ages.pop(owner, None) is not None:
            self._dirty.add(owner)
            self._dirty |= self._release(owner)

    def holds(self, owner: Owner) -> bool:
        """Whether an object holds its claims."""
        return owner in self._held

    def lost_to(self, owner: Owner) -> tuple[Owner, Claim] | None:
        """Return the oldest holder that overlaps, and its range; None: the object lost nothing."""
        return self._lost.get(owner)

    def holder(self, claim: Claim) -> Owner | None:
        """Return who holds a range that overlaps ``claim`` (one of them)."""
        return next((owner for _, owner in self._holders.overlapping(claim)), None)

    def settle(self) -> set[Owner]:
        """Decide anew what the changes touched; return the objects whose outcome may have changed."""
        changed: set[Owner] = set()
        heap: list[Age] = []
        queued: set[Owner] = set()

        def look(owner: Owner) -> None:
            if owner in self._ages and owner not in queued:
                queued.add(owner)
                heapq.heappush(heap, self._ages[owner])

        dirty, self._dirty = self._dirty, set()
        for owner in dirty:
            if owner in self._ages:
                look(owner)
            else:
                changed.add(owner)
                self._lost.pop(owner, None)
        while heap:
            age = heapq.heappop(heap)
            owner = age.owner
            queued.discard(owner)
            for other in self._decide(age, changed):
                # Only newer ones can be touched, so each is decided after all that decide over it.
                if self._ages[other] > age:
                    look(other)
        return changed

    def _decide(self, age: Age, changed: set[Owner]) -> set[Owner]:
        """Settle one object; return those that its outcome may touch."""
        owner = age.owner
        claims = self._claims[owner]
        winner: tuple[Age, Claim] | None = None
        for claim in claims:
            for other_claim, other in self._holders.overlapping(claim):
                if other == owner or self._ages[other] > age:
                    continue
                found = (self._ages[other], other_claim)
                if winner is None or (found[0], found[1][1:]) < (winner[0], winner[1][1:]):
                    winner = found
        lost = (winner[0].owner, winner[1]) if winner else None
        touched: set[Owner] = set()
        if lost != self._lost.get(owner):
            changed.add(owner)
            if lost is None:
                del self._lost[owner]
            else:
                self._lost[owner] = lost
        if lost is not None:
            if owner in self._held:
                changed.add(owner)
                touched |= self._release(owner)
            return touched
        if self._held.get(owner) != claims:
            changed.add(owner)
            touched |= self._release(owner)
            self._held[owner] = claims
            for claim in claims:
                self._holders.add(claim, owner)
                touched |= {other for _, other in self._all.overlapping(claim)}
            touched.discard(owner)
        return touched

    def _release(self, owner: Owner) -> set[Owner]:
        """Let go of what an object holds; return who claims some of it."""
        touched: set[Owner] = set()
        for claim in self._held.pop(owner, ()):
            self._holders.remove(claim, owner)
            touched |= {other for _, other in self._all.overlapping(claim)}
        touched.discard(owner)
        return touched
