"""Counters of each Service, read by key and all together, from either engine."""

from __future__ import annotations

import pytest
from tests.contract.engine_lab import Wire
from tests.contract.engine_packets import packet
from tests.contract.engine_process import Engine
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import ServiceCounters
from vpp_operator.dataplane.records import Protocol, Record

FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])


def named(a: Addresses, name: str, protocol: Protocol, last: str, endpoint: int) -> Service:
    """Return a Service of one endpoint at an address of the service range of its own."""
    return Service(name, a.family, protocol, 80, ((a.endpoints[endpoint], 8080),), vip=a.vip + last)


def key(service: Service) -> bytes:
    """Return the key of its record."""
    return service.id.to_bytes(8, "little")


@FAMILIES
async def test_packets_and_bytes_both_ways(
    dataplane: MessageDataplane, wire: Wire, engine: Engine, a: Addresses
) -> None:
    one, two = named(a, "one", Protocol.UDP, "1", 0), named(a, "two", Protocol.TCP, "2", 1)
    idle = named(a, "idle", Protocol.TCP, "3", 2)
    wanted: list[Record] = settings() + [r for s in (one, two, idle) for r in s.records()]
    assert await dataplane.apply(difference([], wanted)) == []
    header = {4: 20, 6: 40}[a.family]

    for flow in range(3):
        for size in range(flow + 1):
            wire.exchange(packet(one.protocol, (a.pod, 40000 + flow), (one.vip, 80), bytes(size)))
        answer = packet(one.protocol, (a.endpoints[0], 8080), (a.pod, 40000 + flow), bytes(9))
        wire.exchange(answer)
    wire.exchange(packet(two.protocol, (a.pod, 40000), (two.vip, 80), b""))
    wire.exchange(packet(two.protocol, (a.endpoints[1], 8080), (a.pod, 40000), b"", flags="SA"))
    wire.exchange(packet(two.protocol, (a.pod, 40000), (two.vip, 80), bytes(100), flags="A"))

    udp, tcp = header + 8, header + 20
    figures = {
        one.id: ServiceCounters(one.id, 6, 6 * udp + 4, 3, 3 * (udp + 9), 3, 3),
        two.id: ServiceCounters(two.id, 2, 2 * tcp + 100, 1, tcp, 1, 1),
        idle.id: ServiceCounters(idle.id),
    }
    assert {c.service: c for c in await dataplane.service_counters()} == figures
    absent = bytes(7) + b"\1"
    assert await dataplane.service_counters([key(two), absent, key(idle)]) == [
        figures[two.id],
        figures[idle.id],
    ]
    assert await dataplane.service_counters([]) == []

    await dataplane.flush_sessions()
    [after] = await dataplane.service_counters([key(one)])
    assert (after.sessions, after.sessions_created, after.forward_packets) == (0, 3, 6)

    # one that is made anew begins from zero
    assert await dataplane.apply(difference(one.records(), [])) == []
    assert await dataplane.service_counters([key(one)]) == []
    assert await dataplane.apply(difference([], one.records())) == []
    assert await dataplane.service_counters([key(one)]) == [ServiceCounters(one.id)]


async def test_sessions_outlive_the_engine(engine: Engine, wire: Wire) -> None:
    """What the region holds is counted again; packets begin from zero."""
    a, service = V4, named(V4, "one", Protocol.UDP, "1", 0)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], settings() + service.records())) == []
        for flow in range(5):
            wire.exchange(packet(service.protocol, (a.pod, 40000 + flow), (service.vip, 80), b""))
        assert await dataplane.service_counters() == [ServiceCounters(service.id, 5, 5 * 28, 0, 0, 5, 5)]
    engine.kill()
    engine.start()
    async with engine.dataplane() as dataplane:
        assert await dataplane.service_counters() == [ServiceCounters(service.id, sessions=5)]
