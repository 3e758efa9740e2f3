"""What VPP shows of Services: stats segment, command line and API say the same."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from tests.contract.engine_packets import packet
from tests.contract.engine_services import V4, V6, Addresses, Service, settings
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import programme
from tests.contract.vpp_services import CLIENTS, ENDPOINTS, router
from vpp_papi.vpp_stats import VPPStats

from vpp_operator.dataplane.protocol import ServiceCounters
from vpp_operator.dataplane.records import Protocol, Record

SERVICES = 20


@pytest.fixture(scope="module")
def vpp() -> Iterator[Graph]:
    with router(options=("statseg { update-interval 0.1 }",)) as g:
        yield g


@pytest.fixture
def stats(vpp: Graph) -> Iterator[VPPStats]:
    with vpp.segment() as segment:
        yield segment


def family(n: int) -> Addresses:
    return (V4, V6)[n % 2]


def service(n: int) -> Service:
    a = family(n)
    prefix = a.vip.rpartition("." if a is V4 else ":")[0]
    vip = f"{prefix}{'.' if a is V4 else ':'}{100 + n}"
    protocol = (Protocol.UDP, Protocol.TCP)[n // 2 % 2]
    return Service(f"s{n}", a.family, protocol, 80, ((a.endpoints[n // 2 % 4], 8000 + n),), vip=vip)


def in_segment(stats: VPPStats) -> dict[int, ServiceCounters]:
    """Read what the stats segment says, summed over the threads, by id."""
    forward, reverse = stats["/khost/services/forward"], stats["/khost/services/reverse"]
    created, sessions = stats["/khost/services/created"], stats["/khost/services/sessions"]
    return {
        ident: ServiceCounters(
            ident,
            forward[:, slot].sum_packets(),
            forward[:, slot].sum_octets(),
            reverse[:, slot].sum_packets(),
            reverse[:, slot].sum_octets(),
            sessions[0][slot],
            created[:, slot].sum(),
        )
        for slot, ident in enumerate(stats["/khost/services/id"][0])
        if ident
    }


def on_command_line(g: Graph) -> dict[int, ServiceCounters]:
    """Read what `show klb services` says, by id."""
    pattern = (
        r"Service (\d+) .*\s+towards endpoints (\d+) packets (\d+) bytes, "
        r"back (\d+) packets (\d+) bytes, (\d+) sessions, (\d+) begun"
    )
    found = re.findall(pattern, g.engine.cli("show klb services max 1000"))
    return {int(row[0]): ServiceCounters(*map(int, row)) for row in found}


def soon(read: Callable[[], object], wanted: object) -> None:
    """The segment is brought up to date now and then."""
    end = time.monotonic() + 5
    while (found := read()) != wanted:
        assert time.monotonic() < end, (found, wanted)
        time.sleep(0.05)


async def test_counters_of_services_are_the_same_everywhere(vpp: Graph, stats: VPPStats) -> None:
    """Packets both ways in numbers and sizes that differ from Service to Service, all in one vector."""
    services = [service(n) for n in range(SERVICES)]
    state: list[Record] = settings() + [r for s in services for r in s.records()]
    await programme(vpp, state)
    there, back = [], []
    for n, s in enumerate(services):
        a, (endpoint, port) = family(n), s.endpoints[0]
        client = (a.pod, 41000 + n)
        there += [packet(s.protocol, client, (s.vip, 80), bytes(n))]
        there += [packet(s.protocol, client, (s.vip, 80), bytes(n), flags="A")] * n
        back += [packet(s.protocol, (endpoint, port), client, bytes(2 * n), flags="SA")] * (n % 5)
    assert len(vpp.send(CLIENTS, there)[ENDPOINTS]) == len(there)
    assert len(vpp.send(ENDPOINTS, back)[CLIENTS]) == len(back)
    async with vpp.engine.dataplane() as dataplane:
        told = {c.service: c for c in await dataplane.service_counters()}
        totals = (await dataplane.stats()).counters
    for n, s in enumerate(services):
        header = {4: 20, 6: 40}[s.family] + (20 if s.protocol is Protocol.TCP else 8)
        forward, reverse = (n + 1, (n + 1) * (header + n)), (n % 5, n % 5 * (header + 2 * n))
        assert told[s.id] == ServiceCounters(s.id, *forward, *reverse, 1, 1), n
    assert totals["forward"] == sum(c.forward_packets for c in told.values())
    assert totals["reverse"] == sum(c.reverse_packets for c in told.values())
    soon(lambda: in_segment(stats), told)
    assert on_command_line(vpp) == told

    # A slot that goes to another Service shows nothing of the one before.
    others = [service(n) for n in range(SERVICES, SERVICES + 5)]
    after: list[Record] = settings() + [r for s in others for r in s.records()]
    await programme(vpp, after, state)
    soon(lambda: in_segment(stats), {s.id: ServiceCounters(s.id) for s in others})
    assert on_command_line(vpp) == {s.id: ServiceCounters(s.id) for s in others}
    await programme(vpp, [], after)
    soon(lambda: in_segment(stats), {})
