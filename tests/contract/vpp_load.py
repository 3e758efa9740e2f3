"""Load on a VPP between packet generators, and the 100,000 endpoints that are replaced under it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator

from tests.contract.engine_services import USABLE
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_services import CLIENTS, everything

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.records import EndpointRecord, Protocol, Record, ServiceRecord

SERVICES, EACH = 1000, 100
ROOM = {"services": 2 * SERVICES, "frontends": 4000, "endpoints": 250_000}
"""Capacities for the endpoints of both sides."""


def two_sides() -> tuple[list[Record], list[Record]]:
    """Return the same Services twice, all of whose endpoints differ."""
    ids = range(1, SERVICES + 1)
    base: list[Record] = [*everything(), *(ServiceRecord(i, 4, Protocol.UDP) for i in ids)]

    def side(network: str) -> list[Record]:
        hosts = ipaddress.ip_network(network)
        return [
            *base,
            *(EndpointRecord(i, hosts[(i - 1) * EACH + k + 1], 80, USABLE) for i in ids for k in range(EACH)),
        ]

    return side("11.0.0.0/8"), side("12.0.0.0/8")


@contextlib.asynccontextmanager
async def under_load(g: Graph, dataplane: MessageDataplane, rate: int) -> AsyncIterator[None]:
    """Send again what the first ``send`` sent, at a rate a second, meanwhile: none may be refused or lost."""
    g.cli(
        f"packet-generator new pcap {g.engine.directory}/in-1.pcap source {CLIENTS}"
        f" name load limit -1 rate {rate}",
        "packet-generator enable-stream load",
    )
    before = (await dataplane.stats()).counters["packets"]
    yield
    g.cli("packet-generator disable-stream load")
    seen = (await dataplane.stats()).counters
    assert seen["packets"] - before > 1000, "there was load"
    assert seen["forward"] + seen["passed"] == seen["packets"], "no packet was refused or lost"
