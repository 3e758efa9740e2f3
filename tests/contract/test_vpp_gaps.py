"""How long a worker of VPP does not look for packets while 100,000 endpoints are replaced under load."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import statistics
import time

from tests.contract.engine_packets import packet
from tests.contract.engine_services import USABLE, V4, difference
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import programme
from tests.contract.vpp_services import CLIENTS, everything, router

from vpp_operator.dataplane.records import EndpointRecord, Protocol, Record, ServiceRecord

SERVICES, EACH = 1000, 100
ROUNDS = 7
MARGIN_US = 50.0


def longest(g: Graph) -> float:
    """Return the worker's longest round in us since they were cleared, of those in which it had a CPU."""
    found = re.search(r"^vpp_wk_0 +[\d.]+ us +([\d.]+) us", g.engine.cli("show khost gaps"), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_replaced_endpoints_hold_up_no_worker() -> None:
    """The longest gap between two rounds of the worker's loop, with and without the replacement, in turns.

    What else the machine does (interrupts, other virtual machines) makes a round longer now and then,
    never shorter: the least of each kind are compared.
    """
    hosts = ipaddress.ip_network("11.0.0.0/8"), ipaddress.ip_network("12.0.0.0/8")
    ids = range(1, SERVICES + 1)
    base: list[Record] = [*everything(), *(ServiceRecord(i, 4, Protocol.UDP) for i in ids)]
    sides = [
        [
            *base,
            *(EndpointRecord(i, of[(i - 1) * EACH + k + 1], 80, USABLE) for i in ids for k in range(EACH)),
        ]
        for of in hosts
    ]
    batches = [difference(sides[0], sides[1]), difference(sides[1], sides[0])]
    with router(workers=1, services=2000, frontends=4000, endpoints=250_000) as g:
        await programme(g, sides[0])
        g.send(CLIENTS, [packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80))])
        async with g.engine.dataplane() as dataplane:
            g.cli(
                f"packet-generator new pcap {g.engine.directory}/in-1.pcap source {CLIENTS}"
                " name load limit -1 rate 1e5",
                "packet-generator enable-stream load",
            )
            sent = (await dataplane.stats()).counters["packets"]
            idle: list[float] = []
            replacing: list[float] = []
            for n in range(ROUNDS):
                # Each measurement holds as many sessions of the command line: they stop the workers.
                start = time.monotonic()
                g.cli("clear khost gaps")
                assert await dataplane.apply(batches[n % 2]) == []
                replacing.append(longest(g))
                took = time.monotonic() - start
                g.cli("clear khost gaps")
                await asyncio.sleep(took)
                idle.append(longest(g))
            g.cli("packet-generator disable-stream load")
            seen = (await dataplane.stats()).counters
        assert seen["packets"] - sent > 1000, "there was load"
        assert seen["forward"] + seen["passed"] == seen["packets"], "no packet was refused or lost"
    print(f"longest gap, us, replacing 100,000 endpoints in {took:.1f} s: {sorted(replacing)}")
    print(f"longest gap, us, at rest: {sorted(idle)}")
    print(f"medians {statistics.median(replacing):.0f} and {statistics.median(idle):.0f}")
    assert min(replacing) <= min(idle) + MARGIN_US, (sorted(replacing), sorted(idle))
