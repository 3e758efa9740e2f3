"""How long a worker of VPP does not look for packets while 100,000 endpoints are replaced under load."""

from __future__ import annotations

import asyncio
import re
import statistics
import time

from tests.contract.engine_packets import packet
from tests.contract.engine_services import V4, difference
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import programme
from tests.contract.vpp_load import ROOM, two_sides, under_load
from tests.contract.vpp_services import CLIENTS, router

from vpp_operator.dataplane.records import Protocol

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
    sides = two_sides()
    batches = [difference(sides[0], sides[1]), difference(sides[1], sides[0])]
    with router(workers=1, **ROOM) as g:
        await programme(g, sides[0])
        g.send(CLIENTS, [packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80))])
        idle: list[float] = []
        replacing: list[float] = []
        async with g.engine.dataplane() as dataplane, under_load(g, dataplane, 100_000):
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
    print(f"longest gap, us, replacing 100,000 endpoints in {took:.1f} s: {sorted(replacing)}")
    print(f"longest gap, us, at rest: {sorted(idle)}")
    print(f"medians {statistics.median(replacing):.0f} and {statistics.median(idle):.0f}")
    assert min(replacing) <= min(idle) + MARGIN_US, (sorted(replacing), sorted(idle))
