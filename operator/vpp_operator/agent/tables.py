"""What the reconcile loop knows of the dataplane's tables: wanted, believed to be there, to be looked at."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from vpp_operator.agent.shards import KeyShards, Shards
from vpp_operator.dataplane.records import Table

__all__ = ["Tables"]

_CAPACITY: Final = {Table.SERVICE: "services", Table.ENDPOINT: "endpoints", Table.GTPU_TUNNEL: "tunnels"}
"""Tables in which what comes has to find room beside what goes, by their names in an engine's capacities."""


class Tables:
    """Per table: records by key, digests by key, and the keys that are to be compared."""

    def __init__(self) -> None:
        self.desired: dict[Table, Shards[bytes]] = {table: Shards() for table in Table}
        self.actual: dict[Table, Shards[int]] = {table: Shards() for table in Table}
        self.dirty: dict[Table, KeyShards] = {table: KeyShards() for table in Table}
        self.versions: dict[str, str] = {}
        """resourceVersion by kind up to which all changes were applied."""
        self.seen_versions: dict[str, str] = {}

    async def forget_actual(self) -> None:
        """Nothing is known any more of what the dataplane holds."""
        old, self.actual = self.actual, {table: Shards() for table in Table}
        for shards in old.values():
            await _empty(shards.shards)

    async def forget_dirty(self, table: Table) -> None:
        """Nothing is to be looked at in a table."""
        await _empty(self.dirty[table].shards)

    async def tight(self, tables: Iterable[Table], capacity: Mapping[str, int]) -> bool:
        """Whether what is to come into one of the tables finds no room beside what is to go."""
        for table in tables:
            have, dirty = self.actual[table], self.dirty[table]
            room = capacity.get(_CAPACITY.get(table, ""), sys.maxsize) - len(have)
            if not have or len(dirty) <= room:
                continue
            new = 0
            for keys, known in zip(dirty.shards, have.shards, strict=True):
                new += len(keys.difference(known))
                await asyncio.sleep(0)
            if new > room and len(have) + new > len(self.desired[table]):
                return True
        return False


async def _empty(shards: Iterable[dict[bytes, int] | set[bytes]]) -> None:
    """Empty parts of a table, one after the other: a million keys at once take a tenth of a second."""
    for shard in shards:
        if shard:
            shard.clear()
            await asyncio.sleep(0)
