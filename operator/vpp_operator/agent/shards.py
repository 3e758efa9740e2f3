"""Tables of a million keys in parts.

A dict or set that grows copies itself, all at once: some 75 ms at a million keys, in which a process does
nothing else. Here each part grows by itself, in a millisecond at most. Bulk work is done part by part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Set
from itertools import chain, islice
from typing import Final, TypeVar

__all__ = ["SHARDS", "KeyShards", "Shards"]

V = TypeVar("V")

SHARDS: Final = 64
_MASK: Final = SHARDS - 1


class Shards(MutableMapping[bytes, V]):
    """A mapping in parts; :attr:`shards` are its parts, in the order of those of :class:`KeyShards`."""

    def __init__(self, entries: Mapping[bytes, V] | None = None) -> None:
        self.shards: tuple[dict[bytes, V], ...] = tuple({} for _ in range(SHARDS))
        if entries:
            self.update(entries.items())

    def __getitem__(self, key: bytes) -> V:
        return self.shards[hash(key) & _MASK][key]

    def __setitem__(self, key: bytes, value: V) -> None:
        self.shards[hash(key) & _MASK][key] = value

    def __delitem__(self, key: bytes) -> None:
        del self.shards[hash(key) & _MASK][key]

    def __contains__(self, key: object) -> bool:
        return key in self.shards[hash(key) & _MASK]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.shards)

    def update(self, entries: Iterable[tuple[bytes, V]], /) -> None:  # type: ignore[override]
        """Set the values of keys."""
        shards = self.shards
        for key, value in entries:
            shards[hash(key) & _MASK][key] = value


class KeyShards(Set[bytes]):
    """A set of keys in parts."""

    def __init__(self) -> None:
        self.shards: tuple[set[bytes], ...] = tuple(set() for _ in range(SHARDS))

    def __contains__(self, key: object) -> bool:
        return key in self.shards[hash(key) & _MASK]

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.shards)

    def add(self, key: bytes) -> None:
        """Add a key."""
        self.shards[hash(key) & _MASK].add(key)

    def update(self, keys: Iterable[bytes]) -> None:
        """Add keys."""
        shards = self.shards
        for key in keys:
            shards[hash(key) & _MASK].add(key)

    def parts(self, size: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield all keys in lists of at most ``size``, each with the number of the part it is from.

        Nothing may be added or removed meanwhile.
        """
        for index, shard in enumerate(self.shards):
            if shard:
                keys = iter(shard)
                while part := list(islice(keys, size)):
                    yield index, part

    def remove(self, index: int, keys: Iterable[bytes]) -> None:
        """Remove keys of the part ``index``."""
        shard = self.shards[index]
        shard.difference_update(keys)
        if not shard:
            shard.clear()  # or it would keep the room of all that were in it, and be searched for the next
