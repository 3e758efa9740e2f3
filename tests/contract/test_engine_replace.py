"""Full tables: all that is in them is replaced in one batch, and what does not fit at all is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.contract.engine_gtpu import O4, endpoint, peer, pools, tunnel, ue
from tests.contract.engine_lab import Namespace, Wire, held_back
from tests.contract.engine_packets import packet
from tests.contract.engine_process import SMALL, Engine, embedded_engine
from tests.contract.engine_services import difference, pack, settings
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import Batch
from vpp_operator.dataplane.records import (
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    Protocol,
    Record,
    ServiceRecord,
    Table,
    digest,
)
from vpp_operator.dataplane.replace import ROOMY, SLICE

COUNT = 4096
CAPACITY = {
    **SMALL,
    "services": COUNT,
    "frontends": 2 * COUNT,
    "endpoints": COUNT,
    "tunnels": COUNT,
    "ues": 2 * COUNT,
    "gtpu-endpoints": 4,
    "gtpu-peers": 16,
}
USABLE = EndpointFlag.SERVES | EndpointFlag.CLUSTER
FIRST_USER = int(ipaddress.IPv4Address("10.60.0.0"))
FIRST_VIP = int(ipaddress.IPv4Address("10.96.0.0"))
FIRST_SERVER = int(ipaddress.IPv4Address("10.128.0.0"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, node, CAPACITY) as process:
        process.start()
        yield process


def tunnels(first: int, count: int) -> list[Record]:
    """Tunnels from TEID `first` on, each for the user of the same place."""
    records: list[Record] = [*pools(), endpoint(O4), peer(O4)]
    for i in range(count):
        user = ipaddress.IPv4Address(FIRST_USER + i)
        records += [tunnel(O4, local_teid=first + i), ue(O4, f"{user}/32", first + i)]
    return records


def services(first: int, count: int) -> list[Record]:
    """Services from the id `first` on, each at the address of the same place, with an endpoint of its own."""
    records: list[Record] = settings()
    for i in range(count):
        ident = first + i
        vip, server = ipaddress.IPv4Address(FIRST_VIP + i), ipaddress.IPv4Address(FIRST_SERVER + ident)
        records += [
            ServiceRecord(ident, 4, Protocol.UDP),
            FrontendRecord(4, Protocol.UDP, 53, vip, ident, FrontendKind.CLUSTER_IP),
            EndpointRecord(ident, server, 53, USABLE),
        ]
    return records


def others(first: int, count: int) -> list[Record]:
    """The same Services, each with another endpoint."""
    return [
        replace(r, address=r.address + first) if isinstance(r, EndpointRecord) else r
        for r in services(1, count)
    ]


async def held(dataplane: MessageDataplane) -> dict[Table, dict[bytes, int]]:
    tables = {t: dict([e async for piece in dataplane.dump(t) for e in piece]) for t in Table}
    return {table: entries for table, entries in tables.items() if entries}


def digests(records: list[Record]) -> dict[Table, dict[bytes, int]]:
    return {t: {key: digest(raw) for key, raw in rows.items()} for t, rows in pack(records).items() if rows}


def as_the_agent(old: list[Record], new: list[Record]) -> Batch:
    """The batch from one state to another: a UE prefix that changes its tunnel is let go of as well."""
    batch = difference(old, new)
    before, after = pack(old), pack(new)
    ues = before.get(Table.GTPU_UE, {})
    moved = [key for key, raw in after.get(Table.GTPU_UE, {}).items() if ues.get(key, raw) != raw]
    kept = [key for key in batch.deletes.get(Table.GTPU_UE, ()) if key not in moved]
    return Batch(batch.upserts, {**batch.deletes, Table.GTPU_UE: [*kept, *moved]})


async def applied(
    engine: Engine, dataplane: MessageDataplane, batch: Batch, name: str
) -> tuple[list[tuple[Table, int]], int]:
    """Apply; the refusals without their keys, and the least that the table held meanwhile."""
    least = 1 << 32
    over = asyncio.Event()

    async def watch() -> None:
        nonlocal least
        async with engine.dataplane() as watching:
            while not over.is_set():
                least = min(least, (await watching.stats()).tables[name].used)
                await asyncio.sleep(0.0005)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    try:
        failures = await dataplane.apply(batch)
    finally:
        over.set()
        await watcher
    return [(f.table, f.code) for f in failures], least


@pytest.mark.parametrize(
    ("kind", "users"), [(tunnels, "gtpuUes"), (services, "frontends")], ids=["tunnels", "services"]
)
@pytest.mark.parametrize("count", [COUNT, COUNT - ROOMY - 10, ROOMY // 2], ids=["full", "some room", "few"])
async def test_all_is_replaced(
    engine: Engine,
    dataplane: MessageDataplane,
    kind: Callable[[int, int], list[Record]],
    users: str,
    count: int,
) -> None:
    old, new = kind(1, count), kind(1 + COUNT, count)
    assert await dataplane.apply(difference([], old)) == []
    refused, least = await applied(engine, dataplane, as_the_agent(old, new), users)
    assert refused == []
    assert await held(dataplane) == digests(new)
    if count > ROOMY:
        # of two slices at most, where the first's room came late
        assert least >= count - 2 * SLICE, "too many users were without service at once"


async def test_endpoints_of_services_that_stay(engine: Engine, dataplane: MessageDataplane) -> None:
    old, new = services(1, COUNT), others(1 + COUNT, COUNT)
    assert await dataplane.apply(difference([], old)) == []
    refused, least = await applied(engine, dataplane, as_the_agent(old, new), "endpoints")
    assert refused == []
    assert await held(dataplane) == digests(new)
    assert least >= COUNT - 2 * SLICE


@contextlib.contextmanager
def packets(wire: Wire) -> Iterator[None]:
    """Packets now and then, so that a worker looks for more of them and does not sleep."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(0.001):
            wire.send(packet(Protocol.UDP, ("10.1.0.10", 1000), ("192.0.2.1", 4000), b""))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_a_worker_without_a_processor(node: Namespace) -> None:
    """Slots that went are free once it has let go of them: as long as that is to come, it is waited for."""
    count = COUNT - ROOMY - 10
    old, new = tunnels(1, count), tunnels(1 + COUNT, count)
    with embedded_engine(node, capacity=CAPACITY) as engine:
        engine.options = ("--busy-poll-us=10000",)
        engine.start()
        assert engine.process is not None
        async with engine.dataplane() as dataplane:
            assert await dataplane.apply(difference([], old)) == []
            with (
                contextlib.closing(Wire(node)) as wire,
                packets(wire),
                held_back(engine.process.pid, "worker-00", 1.0),
            ):
                assert await dataplane.apply(as_the_agent(old, new)) == []
            assert await held(dataplane) == digests(new)


async def test_a_full_table_beside_much_else(dataplane: MessageDataplane) -> None:
    old = [*tunnels(1, COUNT), *services(1, 10)]
    new = [*tunnels(1 + COUNT, COUNT), *services(1 + COUNT, 20)]
    assert await dataplane.apply(difference([], old)) == []
    assert await dataplane.apply(as_the_agent(old, new)) == []
    assert await held(dataplane) == digests(new)


@pytest.mark.parametrize("kind", [tunnels, services])
async def test_what_does_not_fit_at_all_is_told(
    dataplane: MessageDataplane, kind: Callable[[int, int], list[Record]]
) -> None:
    too_many = 300
    old, new = kind(1, COUNT), kind(1 + COUNT, COUNT + too_many)
    assert await dataplane.apply(difference([], old)) == []
    failures = await dataplane.apply(as_the_agent(old, new))
    refused = {(f.table, f.key) for f in failures}
    assert {f.code for f in failures} == {-errno.ENOSPC, -errno.ENOENT}, "what is full, what depends on it"
    wanted = digests(new)
    fitting = {
        t: {key: mark for key, mark in rows.items() if (t, key) not in refused} for t, rows in wanted.items()
    }
    assert await held(dataplane) == fitting
    owners = Table.GTPU_TUNNEL if kind is tunnels else Table.SERVICE
    assert len(fitting[owners]) >= COUNT and len(refused) <= 3 * too_many
