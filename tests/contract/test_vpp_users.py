"""Users behind tunnels as clients of Services, and what VPP itself says of translated packets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.engine_gtpu import (
    I4,
    I6,
    O4,
    O6,
    REMOTE_TEID,
    Inner,
    Outer,
    checksums_hold,
    gtp,
    gtpu,
    unwrap,
)
from tests.contract.engine_packets import (
    ICMP,
    ICMPv6PacketTooBig,
    Packet,
    addresses,
    packet,
    parse,
    ports,
)
from tests.contract.engine_services import SNAT_PORTS, V4, V6, Addresses, Service
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import ALL, FIB, NETWORK, PEERS, gateway, programme, setting

from vpp_operator.dataplane.records import GtpuSwitch, Protocol, Record

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
FAMILIES = pytest.mark.parametrize("a, i", [(V4, I4), (V6, I6)], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=["tcp", "udp"])
FORMS = pytest.mark.parametrize(
    "switches", [GtpuSwitch(0), ALL, ALL | FIB], ids=["plain", "all-feature", "all-fib"]
)
NODE_PORT = 30080
SMALL_MTU = 1300
"""Of the way to the endpoints."""


@pytest.fixture(scope="module")
def vpp() -> Iterator[Graph]:
    with gateway(own=False) as g:
        for a, i in ((V4, I4), (V6, I6)):
            for endpoint in a.endpoints:
                g.cli(f"ip route add {endpoint}/{32 if a is V4 else 128} via {i.host} {NETWORK}")
        yield g


def web(a: Addresses, protocol: Protocol, endpoints: int = 1) -> list[Record]:
    """Return a Service that users reach by its cluster address and by a node port."""
    targets = tuple((address, 8080) for address in a.endpoints[:endpoints])
    service = Service("web", a.family, protocol, 80, targets, vip=a.vip, node_port=NODE_PORT)
    return service.records()


def only(out: dict[str, list[bytes]], name: str) -> bytes:
    """Return the one packet that came out, by this link."""
    assert {n: len(packets) for n, packets in out.items() if packets} == {name: 1}
    return out[name][0]


def hops(layer: Packet) -> int:
    """Return TTL or hop limit."""
    return int(layer.ttl if layer.version == 4 else layer.hlim)


@OUTER
@FAMILIES
@PROTOCOLS
@FORMS
@pytest.mark.parametrize("way", ["cluster-address", "node-port"])
async def test_user_reaches_a_service_and_gets_its_answer(
    vpp: Graph, o: Outer, a: Addresses, i: Inner, protocol: Protocol, switches: GtpuSwitch, way: str
) -> None:
    records = [*gtpu(o), *web(a, protocol), setting(switches)]
    await programme(vpp, records)
    try:
        target = (a.vip, 80) if way == "cluster-address" else (a.node, NODE_PORT)
        request = packet(protocol, (i.ue, 4000), target)
        there = only(vpp.send(PEERS, [gtp(o, request)]), NETWORK)
        checksums_hold(there)
        assert addresses(there) == (a.node, a.endpoints[0]), "masqueraded: the user is no pod of this node"
        source, destination = ports(there)
        assert SNAT_PORTS[0] <= source <= SNAT_PORTS[1] and destination == 8080
        assert hops(parse(there)) == 63, "one hop"

        answer = packet(protocol, (a.endpoints[0], 8080), (a.node, source), b"answer", flags="SA")
        back = only(vpp.send(NETWORK, [answer]), PEERS)
        fields, inner = unwrap(back)
        assert fields["teid"] == REMOTE_TEID
        checksums_hold(back)
        checksums_hold(inner)
        assert (addresses(inner), ports(inner)) == ((target[0], i.ue), (target[1], 4000))
        assert hops(parse(inner)) == 63, "one hop"
    finally:
        await programme(vpp, [], records)
        async with vpp.engine.dataplane() as dataplane:
            await dataplane.flush_sessions()


@OUTER
@FAMILIES
async def test_user_is_told_that_a_service_has_no_endpoint(
    vpp: Graph, o: Outer, a: Addresses, i: Inner
) -> None:
    records = [*gtpu(o), *web(a, Protocol.UDP, endpoints=0)]
    await programme(vpp, records)
    try:
        for target in ((a.vip, 80), (a.node, NODE_PORT)):
            request = packet(Protocol.UDP, (i.ue, 4000), target)
            fields, inner = unwrap(only(vpp.send(PEERS, [gtp(o, request)]), PEERS))
            assert fields["teid"] == REMOTE_TEID
            assert addresses(inner) == (a.node, i.ue)
            assert request in inner
    finally:
        await programme(vpp, [], records)


@OUTER
@FAMILIES
@PROTOCOLS
async def test_user_is_told_what_is_too_big_for_the_way_to_the_endpoint(
    vpp: Graph, o: Outer, a: Addresses, i: Inner, protocol: Protocol
) -> None:
    """By the packet that it has sent: before translation of the destination and of the source."""
    records = [*gtpu(o), *web(a, protocol)]
    await programme(vpp, records)
    vpp.cli(f"set interface mtu packet {SMALL_MTU} {NETWORK}")
    try:
        only(vpp.send(PEERS, [gtp(o, packet(protocol, (i.ue, 4000), (a.vip, 80)))]), NETWORK)
        request = packet(protocol, (i.ue, 4000), (a.vip, 80), b"x" * 1320, flags="A")
        if a is V4:
            layer = parse(request)
            layer.flags = "DF"
            del layer.chksum
            request = bytes(layer)
        fields, inner = unwrap(only(vpp.send(PEERS, [gtp(o, request)]), PEERS))
        assert fields["teid"] == REMOTE_TEID
        checksums_hold(inner)
        answer = parse(inner)
        error = answer[ICMP] if a is V4 else answer[ICMPv6PacketTooBig]
        assert answer.dst == i.ue
        assert (error.nexthopmtu if a is V4 else error.mtu) == SMALL_MTU
        said = bytes(error.payload)
        assert (addresses(said), ports(said)) == ((i.ue, a.vip), (4000, 80))
    finally:
        vpp.cli(f"set interface mtu packet 1500 {NETWORK}")
        await programme(vpp, [], records)
        async with vpp.engine.dataplane() as dataplane:
            await dataplane.flush_sessions()
