"""Our plugins' tables, programmed as the agent does it: typed records, its difference, its adapter."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.vpp.engine import BenchError
from bench.vpp.records import Rate

from vpp_operator.agent.loop import Loop
from vpp_operator.agent.plan import Plan, acknowledge, add_keys
from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import Batch, DataplaneError, Failure
from vpp_operator.dataplane.records import KEY_SIZE, Record, Table, digest, packed
from vpp_operator.dataplane.vpp.adapter import VppDataplane

Turn = list[dict[Table, dict[bytes, bytes]]]
"""Packed records by table and key, as they were packed: a slice after the other."""

PACKED_AT_ONCE = 1024
"""Records packed before messages get their turn: about a millisecond, in which VPP works on those it has."""


@dataclass
class Timed:
    """Seconds of one programming: of packing and of the difference alone, and all in all."""

    records: int = 0
    pack: float = 0.0
    difference: float = 0.0
    total: float = 0.0

    @property
    def apply(self) -> float:
        """What applying adds: packing goes on meanwhile."""
        return self.total - self.pack - self.difference


@dataclass
class Control:
    """One VPP's tables.

    `held` is what was programmed, packed, by table and key; `acknowledged` its digests.
    """

    socket: Path
    held: dict[Table, dict[bytes, bytes]] = field(default_factory=dict)
    acknowledged: dict[Table, dict[bytes, int]] = field(default_factory=lambda: {t: {} for t in Table})

    def __post_init__(self) -> None:
        self._runner = asyncio.Runner()
        self._dataplane = VppDataplane(self.socket, call_timeout=600.0)
        try:
            self.engine = self._runner.run(self._dataplane.connect())
        except DataplaneError as error:
            raise BenchError(str(error)) from error

    def close(self) -> None:
        """Let go of the connection."""
        self._runner.run(self._dataplane.close())
        self._runner.close()

    def program(self, records: Sequence[Record]) -> Timed:
        """Add records to what the tables hold; BenchError names the first that is refused.

        In turns of as many records as the agent takes at once; as there, each is compared with what the
        engine has acknowledged, and what it takes is noted. While a turn is applied, the next one is packed.
        """
        return self._runner.run(self._program(records))

    async def _program(self, records: Sequence[Record]) -> Timed:
        timed = Timed(len(records))
        began = time.perf_counter()
        turn = await self._packed(records[: Loop.BATCH], timed)
        for start in range(Loop.BATCH, len(records) + Loop.BATCH, Loop.BATCH):
            _, turn = await asyncio.gather(
                self._turn(turn, timed), self._packed(records[start : start + Loop.BATCH], timed)
            )
        timed.total = time.perf_counter() - began
        return timed

    async def _packed(self, records: Sequence[Record], timed: Timed) -> Turn:
        """Pack records, messages getting their turn after each slice."""
        turn: Turn = []
        for start in range(0, len(records), PACKED_AT_ONCE):
            began = time.perf_counter()
            wanted = packed(records[start : start + PACKED_AT_ONCE])
            for table, rows in wanted.items():
                self.held.setdefault(table, {}).update(rows)
            turn.append(wanted)
            timed.pack += time.perf_counter() - began
            await asyncio.sleep(0)
        return turn

    async def _turn(self, turn: Turn, timed: Timed) -> None:
        """Compare, apply, note."""
        began = time.perf_counter()
        plan = Plan()
        for wanted in turn:
            for table, rows in wanted.items():
                add_keys(plan, table, rows, rows, self.acknowledged[table])
        timed.difference += time.perf_counter() - began
        _accept(await self._dataplane.apply(plan.batch()))
        began = time.perf_counter()
        acknowledge(plan, (), self.acknowledged)
        timed.difference += time.perf_counter() - began

    def apply(self, batch: Batch) -> None:
        """Send changes; BenchError names the first that is refused."""
        _accept(self._runner.run(self._dataplane.apply(batch)))

    def remove(self, tables: Iterable[Table]) -> dict[Table, list[bytes]]:
        """Take all records of the tables away; they come back, so that `restore` can put them there again."""
        gone = {table: list(self.held.pop(table, {}).values()) for table in tables}
        self.apply(
            Batch({}, {table: [raw[: KEY_SIZE[table]] for raw in raws] for table, raws in gone.items()})
        )
        for table in gone:
            self.acknowledged[table].clear()
        return gone

    def restore(self, gone: Mapping[Table, Sequence[bytes]]) -> None:
        """Put packed records into the tables."""
        self.apply(Batch(gone, {}))
        for table, raws in gone.items():
            rows = {raw[: KEY_SIZE[table]]: raw for raw in raws}
            self.held.setdefault(table, {}).update(rows)
            self.acknowledged[table].update((key, digest(raw)) for key, raw in rows.items())

    def dump(self, table: Table) -> Rate:
        """Read keys and digests of a whole table, as the agent does after a restart."""

        async def pages() -> list[list[tuple[bytes, int]]]:
            return [page async for page in self._dataplane.dump(table)]

        began = time.perf_counter()
        found = self._runner.run(pages())
        seconds = time.perf_counter() - began
        count = sum(map(len, found))
        there = {key: mark for page in found for key, mark in page}
        if count != len(there) or there != self.acknowledged[table]:
            raise BenchError(
                f"the dump of {table.name} has {count} records that differ from the "
                f"{len(self.acknowledged[table])} that were programmed"
            )
        return Rate("programming", f"our dump, table {table.name.lower()}", count, seconds)

    def counters(self) -> Counter[str]:
        """Counters and drops of the engine by name, by messages.

        Not by the statistics segment: its directory has dozens of entries for each interface, and VPP's own
        tunnels are interfaces.
        """
        stats = self._runner.run(MessageDataplane.stats(self._dataplane))
        return Counter({**stats.counters, **{f"drop {name}": n for name, n in stats.drops.items()}})

    def forget_flows(self) -> None:
        """End all sessions."""
        self._runner.run(self._dataplane.flush_sessions())

    def sessions(self) -> int:
        """Sessions alive."""
        return self._runner.run(self._dataplane.stats()).sessions


def _accept(failures: Sequence[Failure]) -> None:
    if failures:
        first = failures[0]
        raise BenchError(
            f"{len(failures)} records refused, first: {first.table.name} {first.key.hex()}: {first.code}"
        )
