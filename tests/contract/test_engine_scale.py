"""The sizes that the tables are made for: 100,000 Services, 1,000,000 endpoints: programmed, dumped, used."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator

import pytest
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import Engine
from tests.contract.engine_services import USABLE, V4, difference, settings
from tests.contract.engines import engine_named

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import Batch
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    Protocol,
    ServiceRecord,
    Table,
    digest,
)

SERVICES = 100_000
ENDPOINTS = 10
"""Of each Service."""
FIRST_VIP = int(ipaddress.ip_address("10.100.0.0"))
FIRST_ENDPOINT = int(ipaddress.ip_address("10.128.0.0"))


@pytest.fixture(params=["embedded-1", "vpp-1"])
def large(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    capacity = {
        "sessions": 4096,
        "services": SERVICES,
        "frontends": SERVICES,
        "endpoints": SERVICES * ENDPOINTS,
    }
    with engine_named(request.param, node, capacity) as engine:
        engine.start()
        yield engine


def vip(number: int) -> str:
    return str(ipaddress.ip_address(FIRST_VIP + number))


def endpoint(number: int, which: int) -> str:
    return str(ipaddress.ip_address(FIRST_ENDPOINT + number * ENDPOINTS + which))


def records(numbers: range) -> dict[Table, list[bytes]]:
    """Packed records; the endpoints' are made from one, since a million typed ones are not what is tested."""
    template = EndpointRecord(1, ipaddress.ip_address(FIRST_ENDPOINT), 8080, USABLE).pack()
    base = template.index(FIRST_ENDPOINT.to_bytes(4))
    found: dict[Table, list[bytes]] = {Table.SERVICE: [], Table.FRONTEND: [], Table.ENDPOINT: []}
    for number in numbers:
        ident = number + 1
        found[Table.SERVICE].append(ServiceRecord(ident, 4, Protocol.UDP).pack())
        where = ipaddress.ip_address(FIRST_VIP + number)
        frontend = FrontendRecord(4, Protocol.UDP, 80, where, ident, FrontendKind.CLUSTER_IP)
        found[Table.FRONTEND].append(frontend.pack())
        for which in range(ENDPOINTS):
            raw = (FIRST_ENDPOINT + number * ENDPOINTS + which).to_bytes(4)
            head = ident.to_bytes(8, "little") + template[8:base]
            found[Table.ENDPOINT].append(head + raw + template[base + 4 :])
    return found


async def dumped(dataplane: MessageDataplane, table: Table) -> dict[bytes, int]:
    held: dict[bytes, int] = {}
    entries = 0
    async for part in dataplane.dump(table):
        held.update(part)
        entries += len(part)
    assert entries == len(held), "an entry came twice"
    return held


async def check(dataplane: MessageDataplane, wanted: dict[Table, list[bytes]]) -> None:
    """The tables hold exactly these records: every key with the digest of its whole content."""
    for table, packed in wanted.items():
        size = KEY_SIZE[table]
        held = await dumped(dataplane, table)
        assert len(held) == len(packed)
        wrong = [raw for raw in packed if held.get(raw[:size]) != digest(raw)]
        assert not wrong, f"{len(wrong)} of {len(packed)} in {table.name}, first {wrong[0].hex()}"


def use(wire: Wire, numbers: list[int], port: int) -> None:
    """A flow to each of these Services goes to an endpoint of its own."""
    for number in numbers:
        back = wire.exchange(packet(Protocol.UDP, (V4.pod, port), (vip(number), 80))).packet
        assert addresses(back)[1] in {endpoint(number, which) for which in range(ENDPOINTS)}


async def test_full_size_is_programmed_dumped_and_used(large: Engine, node: Namespace) -> None:
    wire = Wire(node)
    wanted = records(range(SERVICES))
    some = [0, SERVICES - 1, *random.Random(1).sample(range(SERVICES), 200)]
    async with large.dataplane() as dataplane:
        assert await dataplane.apply(difference([], settings())) == []
        started = time.monotonic()
        assert await dataplane.apply(Batch(wanted)) == []
        seconds = time.monotonic() - started
        stats = await dataplane.stats()
        assert stats.tables["services"].used == SERVICES
        assert stats.tables["endpoints"].used == SERVICES * ENDPOINTS
        use(wire, some, 40000)
        await check(dataplane, wanted)

        # one more of each is refused by name, and disturbs nothing
        more = records(range(SERVICES, SERVICES + 1))
        failures = await dataplane.apply(Batch(more))
        assert {failure.table for failure in failures} == set(more)

        # every tenth Service goes; the others are what they were
        gone = range(0, SERVICES, 10)
        leaving = {
            table: [raw[: KEY_SIZE[table]] for n in gone for raw in packed[n * per : (n + 1) * per]]
            for table, packed in wanted.items()
            for per in (ENDPOINTS if table is Table.ENDPOINT else 1,)
        }
        assert await dataplane.apply(Batch(deletes=leaving)) == []
        lost = {table: set(keys) for table, keys in leaving.items()}
        left = {
            t: [raw for raw in packed if raw[: KEY_SIZE[t]] not in lost[t]] for t, packed in wanted.items()
        }

        # killed and started again: all of it is there
        await dataplane.close()
        large.kill()
        large.start()
        assert (await dataplane.connect()).attached
        await check(dataplane, left)
        use(wire, [n for n in some if n % 10], 40001)
    wire.close()
    total = sum(map(len, wanted.values()))
    print(f"{total} records in {seconds:.1f} s: {total / seconds:.0f} a second")
