"""The loop: level-based; a failure stays with its record; nothing goes before its source has listed."""

from __future__ import annotations

import asyncio
import copy
import errno
import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.agent_memory import MemoryDataplane
from tests.unit.agent_records import Tables, add, record_sets

from vpp_operator.agent.loop import Loop, LoopTimes
from vpp_operator.agent.sources import Update
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.protocol import DataplaneIncompatibleError, EngineInfo
from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    Protocol,
    ServiceRecord,
    Table,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ListSource:
    """A source that is told its records."""

    def __init__(self, tables: Iterable[Table] = Table) -> None:
        self.tables = tuple(tables)
        self.listed = False
        self.current: Tables = {table: {} for table in self.tables}
        self._given: Tables = {table: {} for table in self.tables}
        self._waiting = False

    def set(self, tables: Mapping[Table, Mapping[bytes, bytes]]) -> None:
        self.current = {table: dict(tables.get(table, {})) for table in self.tables}
        self.listed = True
        self._waiting = True

    def ready(self) -> bool:
        return self.listed

    def needed(self) -> bool:
        return True

    def waiting(self) -> bool:
        return self._waiting

    def take(self) -> Update:
        self._waiting = False
        upserts = {
            table: {k: r for k, r in records.items() if self._given[table].get(k) != r}
            for table, records in self.current.items()
        }
        deletes = {t: self._given[t].keys() - records.keys() for t, records in self.current.items()}
        self._given = copy.deepcopy(self.current)
        return Update(upserts, deletes)

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        return None

    def problems(self) -> list[Problem]:
        return []


def make(dataplane: MemoryDataplane, *sources: ListSource, **more: Any) -> tuple[Loop, Clock]:
    clock = Clock()
    return Loop(dataplane, sources, clock=clock, **more), clock


def one_service(ident: int = 1, endpoints: int = 2) -> Tables:
    tables: Tables = {table: {} for table in Table}
    add(tables, ServiceRecord(ident, 4, Protocol.TCP))
    address = ipaddress.IPv4Address(f"10.96.0.{ident}")
    add(tables, FrontendRecord(4, Protocol.TCP, 80, address, ident, FrontendKind.CLUSTER_IP))
    for i in range(endpoints):
        pod = ipaddress.IPv4Address(f"10.0.{ident}.{i + 1}")
        add(tables, EndpointRecord(ident, pod, 8080, EndpointFlag.SERVES | EndpointFlag.CLUSTER))
    return tables


def merged(*sets: Tables) -> Tables:
    return {table: {k: r for one in sets for k, r in one[table].items()} for table in Table}


@given(st.lists(record_sets(), min_size=1, max_size=4), record_sets())
@settings(max_examples=100)
async def test_follows_every_sequence_of_states(states: list[Tables], found: Tables) -> None:
    dataplane = MemoryDataplane(tables=copy.deepcopy(found))
    source = ListSource()
    loop, _ = make(dataplane, source)
    for state in states:
        source.set(state)
        await loop.turn()
        assert dataplane.tables == state
        batches = len(dataplane.batches)
        await loop.turn()
        assert len(dataplane.batches) == batches, "a second turn plans nothing"
    assert loop.pending() == 0 and loop.settled_once


async def test_a_new_agent_on_a_programmed_dataplane_sends_nothing() -> None:
    state = one_service()
    dataplane = MemoryDataplane(tables=copy.deepcopy(state))
    source = ListSource()
    source.set(state)
    loop, _ = make(dataplane, source)
    await loop.turn()
    assert dataplane.batches == []
    assert loop.settled_once


async def test_nothing_goes_before_the_source_has_listed() -> None:
    dataplane = MemoryDataplane(tables=copy.deepcopy(one_service(1)))
    services = ListSource([Table.SERVICE, Table.FRONTEND, Table.ENDPOINT])
    node = ListSource([Table.CONFIG, Table.PREFIX])
    loop, _ = make(dataplane, services, node)
    node.set({})
    await loop.turn()
    assert dataplane.batches == [] and not loop.settled_once
    services.set(one_service(2))
    await loop.turn()
    assert dataplane.tables == one_service(2)
    assert loop.settled_once


async def test_a_full_table_refuses_one_and_the_others_go_on_until_there_is_room() -> None:
    dataplane = MemoryDataplane(capacity={Table.SERVICE: 2})
    source = ListSource()
    loop, clock = make(dataplane, source)
    source.set(merged(one_service(1), one_service(2), one_service(3)))
    await loop.turn()
    assert len(dataplane.tables[Table.SERVICE]) == 2
    assert len(dataplane.tables[Table.ENDPOINT]) == 4
    refused = {code for _, _, code in loop.unsettled()}
    assert refused == {-errno.ENOSPC, -errno.ENOENT}
    batches = len(dataplane.batches)
    await loop.turn()
    assert len(dataplane.batches) == batches, "no retry before its time"

    kept = set(dataplane.tables[Table.SERVICE])
    gone = int.from_bytes(min(kept), "little")
    source.set(merged(*(one_service(i) for i in (1, 2, 3) if i != gone)))
    for _ in range(8):
        clock.now += 1.0
        await loop.turn()
    assert dataplane.tables == source.current
    assert list(loop.unsettled()) == []


async def test_what_has_no_room_beside_what_it_replaces_is_planned_with_it() -> None:
    """Both in one batch, however many: the dataplane needs what goes to make room for what comes."""
    count = 10
    old = merged(*(one_service(i + 1) for i in range(count)))
    new = merged(*(one_service(i + 1 + count) for i in range(count)))
    for spare in (0, count):
        dataplane = MemoryDataplane(capacity={Table.SERVICE: count + spare})
        source = ListSource()
        loop, clock = make(dataplane, source)
        loop.BATCH = 7
        for state in (old, new):
            source.set(state)
            dataplane.batches.clear()
            for _ in range(20):
                clock.now += 1.0
                await loop.turn()
            assert dataplane.tables == state
        first = dataplane.batches[0]
        together = len(first.upserts[Table.SERVICE]), len(first.deletes.get(Table.SERVICE, ()))
        assert together == ((count, count) if not spare else (loop.BATCH, 0))


async def test_refusals_are_retried_with_growing_pauses() -> None:
    dataplane = MemoryDataplane(capacity={Table.SERVICE: 0})
    source = ListSource()
    loop, clock = make(dataplane, source)
    source.set(one_service(1, endpoints=0))
    times = []
    for _ in range(200):
        before = len(dataplane.batches)
        await loop.turn()
        if len(dataplane.batches) > before:
            times.append(clock.now)
        clock.now += 0.5
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses == sorted(pauses) and pauses[0] <= 1.5 and pauses[-1] >= 16
    dataplane.capacity = {}
    clock.now += 61
    await loop.turn()
    assert dataplane.tables == source.current and not list(loop.unsettled())


async def test_records_altered_or_lost_by_hand_are_mended() -> None:
    state = merged(*(one_service(i) for i in range(1, 6)))
    dataplane = MemoryDataplane()
    source = ListSource()
    source.set(state)
    loop, clock = make(dataplane, source, times=LoopTimes(audit=60.0))
    await loop.turn()
    endpoints = dataplane.tables[Table.ENDPOINT]
    lost, altered = list(endpoints)[:2]
    del endpoints[lost]
    endpoints[altered] = endpoints[altered][:32] + b"\xff" + endpoints[altered][33:]
    stray = one_service(9)
    dataplane.tables = merged(dataplane.tables, stray)
    for _ in range(3):
        await loop.turn()
    assert dataplane.tables != state, "not before the comparison is due"
    clock.now += 60
    for _ in range(60):
        # The stray service is found before what depends on it: refused once, then taken at the retry.
        clock.now += 0.1
        await loop.turn()
    assert dataplane.tables == state
    # The stray service, its frontend, its two endpoints, the lost and the altered one.
    assert loop.figures.mended == 6 and loop.figures.audits == 1


async def test_changes_during_a_comparison_are_no_findings() -> None:
    dataplane = MemoryDataplane(chunk=1)
    source = ListSource()
    source.set(merged(*(one_service(i) for i in range(1, 6))))
    loop, clock = make(dataplane, source, times=LoopTimes(audit=60.0))
    await loop.turn()
    clock.now += 60
    for step in range(120):
        if step % 3 == 0:
            source.set(merged(*(one_service(i, endpoints=step % 5) for i in range(1, 6))))
        await loop.turn()
    assert loop.figures.audits >= 1 and loop.figures.mended == 0
    assert dataplane.tables == source.current


async def test_a_lost_engine_is_found_and_programmed_anew() -> None:
    dataplane = MemoryDataplane()
    source = ListSource()
    source.set(one_service())
    loop, clock = make(dataplane, source)
    await loop.turn()
    dataplane.up = False
    clock.now += 2
    await loop.turn()
    assert not loop.connected() and "down" in loop.error
    source.set(one_service(2))
    clock.now += 1
    await loop.turn()
    dataplane.up = True
    dataplane.tables = {table: {} for table in Table}
    clock.now += 10
    await loop.turn()
    assert loop.connected() and dataplane.tables == one_service(2)


async def test_an_engine_of_another_release_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    dataplane = MemoryDataplane()
    loop, clock = make(dataplane, ListSource())

    async def other_release() -> EngineInfo:
        raise DataplaneIncompatibleError("khost: another version; bring both to the same release")

    with monkeypatch.context() as patched:
        patched.setattr(dataplane, "connect", other_release)
        await loop.turn()
    assert not loop.connected() and loop.incompatible and "same release" in loop.error
    clock.now += 10
    await loop.turn()
    assert loop.connected() and not loop.incompatible and not loop.error


async def test_an_engine_lost_in_the_middle_of_a_batch() -> None:
    dataplane = MemoryDataplane()
    source = ListSource()
    source.set(one_service())
    loop, clock = make(dataplane, source)
    await loop.turn()

    def die() -> None:
        dataplane.up = False
        dataplane.before_apply = None

    dataplane.before_apply = die
    source.set(one_service(2))
    await loop.turn()
    assert not loop.connected()
    dataplane.up = True
    clock.now += 10
    await loop.turn()
    assert dataplane.tables == one_service(2)


async def test_paused_plans_and_changes_nothing() -> None:
    dataplane = MemoryDataplane()
    source = ListSource()
    source.set(one_service(1))
    loop, clock = make(dataplane, source, times=LoopTimes(audit=60.0))
    await loop.turn()
    loop.pause(True)
    source.set(one_service(2))
    clock.now += 70
    for _ in range(20):
        await loop.turn()
    assert dataplane.tables == one_service(1) and loop.pending() > 0
    loop.pause(False)
    await loop.turn()
    assert dataplane.tables == one_service(2) and loop.pending() == 0


async def test_a_burst_becomes_few_batches() -> None:
    dataplane = MemoryDataplane()
    source = ListSource()
    loop, _ = make(dataplane, source)
    for i in range(50):
        source.set(merged(*(one_service(n) for n in range(1, i + 2))))
    await loop.turn()
    assert len(dataplane.batches) == 1 and dataplane.tables == source.current


class RecordingSteering:
    """Notes what it is told, and when it is applied relative to the batches."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.known: dict[tuple[Table, bytes], tuple[bool, bool]] = {}
        self._waiting = False

    def note(self, table: Table, key: bytes, record: bytes | None, programmed: bool) -> None:
        self.known[table, key] = (record is not None, programmed)
        self._waiting = True

    def waiting(self) -> bool:
        return self._waiting

    async def apply(self) -> None:
        self._waiting = False
        self.log.append("steer " + "".join(sorted({f"{w:d}{p:d} " for w, p in self.known.values()})))


async def test_steering_surrounds_the_batch() -> None:
    dataplane = MemoryDataplane()
    steering = RecordingSteering(dataplane.log)
    source = ListSource()
    loop, _ = make(dataplane, source, steering=steering)
    source.set(one_service(1))
    await loop.turn()
    assert dataplane.log == ["steer 10 ", "batch", "steer 11 "]
    dataplane.log.clear()
    source.set({})
    await loop.turn()
    assert dataplane.log == ["steer 01 ", "batch", "steer 00 "]


async def test_steering_waits_until_every_source_has_listed() -> None:
    dataplane = MemoryDataplane()
    steering = RecordingSteering(dataplane.log)
    services = ListSource([Table.SERVICE, Table.FRONTEND, Table.ENDPOINT])
    node = ListSource([Table.CONFIG, Table.PREFIX])
    loop, _ = make(dataplane, services, node, steering=steering)
    services.set(one_service(1))
    await loop.turn()
    assert dataplane.log == ["batch"]
    node.set({})
    await loop.turn()
    assert dataplane.log == ["batch", "steer 11 "]


@pytest.mark.parametrize("connected", [True, False])
async def test_run_rests_when_nothing_is_to_do(connected: bool) -> None:
    dataplane = MemoryDataplane(up=connected)
    source = ListSource()
    source.set(one_service())
    turns = 0
    loop = Loop(dataplane, [source])
    turn = loop.turn

    async def counted() -> None:
        nonlocal turns
        turns += 1
        await turn()

    loop.turn = counted  # type: ignore[method-assign]
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(0.6)
    task.cancel()
    assert 1 <= turns <= 8
    assert (dataplane.tables == source.current) is connected


async def test_a_source_that_becomes_ready_during_a_batch_is_waited_for() -> None:
    dataplane = MemoryDataplane()
    services = ListSource([Table.SERVICE, Table.FRONTEND, Table.ENDPOINT])
    node = ListSource([Table.CONFIG, Table.PREFIX])
    loop, _ = make(dataplane, node, services)
    dataplane.before_apply = lambda: services.set(one_service(1))
    config: Tables = {table: {} for table in Table}
    add(config, ConfigRecord(ConfigKey.MASQUERADE_ALL, value=1))
    node.set(config)
    await loop.turn()
    assert loop.synced() and not loop.settled_once and loop.programming
    await loop.turn()
    assert loop.settled_once and not loop.programming
    assert dataplane.tables[Table.SERVICE]


async def test_a_large_change_goes_in_turns_parents_first_and_children_gone_first() -> None:
    services = merged(*(one_service(i, endpoints=8) for i in range(1, 6)))
    dataplane = MemoryDataplane()
    source = ListSource()
    loop, _ = make(dataplane, source)
    loop.BATCH, loop.SLICE = 10, 4
    source.set(services)
    turns = 0
    while loop.pending() or not turns:
        assert not loop.settled_once
        await loop.turn()
        turns += 1
    assert turns == 5 and dataplane.tables == services and loop.figures.refused == 0
    sent = [sum(map(len, batch.upserts.values())) for batch in dataplane.batches]
    assert sum(sent) == 50 and max(sent) == 10

    source.set({})
    for _ in range(5):
        await loop.turn()
    assert not any(dataplane.tables.values()) and loop.figures.refused == 0


async def test_nothing_is_planned_of_a_source_that_has_more_to_give() -> None:
    clock = Clock()

    class Slow(ListSource):
        """Gives one table at a time, each after a second."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = [one_service(1), one_service(2)]

        def waiting(self) -> bool:
            return bool(self.parts)

        def take(self) -> Update:
            clock.now += 1
            return Update(self.parts.pop(0), {})

    source = Slow()
    source.listed = True
    # What is there is wanted, though not said yet when the first part has been taken.
    dataplane = MemoryDataplane(tables=copy.deepcopy(merged(one_service(1), one_service(2))))
    loop = Loop(dataplane, [source], clock=clock)
    await loop.turn()
    assert loop.connected() and not loop.settled_once and source.parts
    await loop.turn()
    assert loop.settled_once and dataplane.batches == []


async def test_the_audit_finds_what_is_lost_while_records_come() -> None:
    state = one_service(1, endpoints=50)
    dataplane = MemoryDataplane(chunk=20)
    source = ListSource()
    source.set(state)
    loop, clock = make(dataplane, source)
    await loop.turn()
    lost = list(state[Table.ENDPOINT])[5:45:10]
    for key in lost:
        del dataplane.tables[Table.ENDPOINT][key]
    clock.now += 1000
    for i in range(2, 40):
        state = merged(state, one_service(i))
        source.set(state)
        await loop.turn()
        await loop.turn()
    assert dataplane.tables == state
    assert loop.figures.mended == len(lost)
