"""Packets through the engine, compared byte by byte: both families, both protocols, both directions."""

from __future__ import annotations

import pytest
from tests.contract.engine_lab import ENGINE_MAC, HOST_MAC, Wire
from tests.contract.engine_packets import (
    ICMP,
    UDP,
    ICMPv6DestUnreach,
    ICMPv6TimeExceeded,
    addresses,
    forwarded,
    packet,
    parse,
    ports,
)
from tests.contract.engine_services import SNAT_PORTS, V4, V6, Addresses, Service, difference, settings

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.records import Protocol, Verdict

FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=["tcp", "udp"])


def web(a: Addresses, protocol: Protocol, endpoints: int = 1, **more: object) -> Service:
    return Service(
        "web",
        a.family,
        protocol,
        80,
        tuple((address, 8080) for address in a.endpoints[:endpoints]),
        vip=a.vip,
        external=a.external,
        node_port=30080,
        **more,  # type: ignore[arg-type]
    )


async def programme(dataplane: MessageDataplane, *services: Service) -> None:
    wanted = settings() + [record for service in services for record in service.records()]
    assert await dataplane.apply(difference([], wanted)) == []


@FAMILIES
@PROTOCOLS
async def test_cluster_ip_from_a_pod_keeps_the_source(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, web(a, protocol))
    client, vip, endpoint = (a.pod, 40000), (a.vip, 80), (a.endpoints[0], 8080)

    request = packet(protocol, client, vip)
    there = wire.exchange(request)
    assert there.packet == forwarded(request, destination=endpoint)
    assert (there.destination, there.source) == (HOST_MAC, ENGINE_MAC)

    reply = packet(protocol, endpoint, client, b"answer", flags="SA")
    assert wire.exchange(reply).packet == forwarded(reply, source=vip)

    again = packet(protocol, client, vip, b"more", flags="A")
    assert wire.exchange(again).packet == forwarded(again, destination=endpoint)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("kind", ["cluster-ip", "node-port", "external-ip"])
async def test_clients_that_are_no_pods_are_masqueraded(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol, kind: str
) -> None:
    await programme(dataplane, web(a, protocol))
    client, endpoint = (a.outside, 40000), (a.endpoints[0], 8080)
    target = {"cluster-ip": (a.vip, 80), "node-port": (a.node, 30080), "external-ip": (a.external, 80)}[kind]

    request = packet(protocol, client, target)
    there = wire.exchange(request).packet
    port = ports(there)[0]
    assert SNAT_PORTS[0] <= port <= SNAT_PORTS[1]
    assert there == forwarded(request, source=(a.node, port), destination=endpoint)

    reply = packet(protocol, endpoint, (a.node, port), b"answer", flags="SA")
    assert wire.exchange(reply).packet == forwarded(reply, source=target, destination=client)


@FAMILIES
@PROTOCOLS
async def test_hairpin_is_masqueraded(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    service = Service("self", a.family, protocol, 80, ((a.pod, 8080),), vip=a.vip)
    await programme(dataplane, service)
    client, vip = (a.pod, 40000), (a.vip, 80)

    request = packet(protocol, client, vip)
    there = wire.exchange(request).packet
    port = ports(there)[0]
    assert there == forwarded(request, source=(a.node, port), destination=(a.pod, 8080))

    reply = packet(protocol, (a.pod, 8080), (a.node, port), flags="SA")
    assert wire.exchange(reply).packet == forwarded(reply, source=vip, destination=client)


@FAMILIES
@PROTOCOLS
async def test_two_services_of_one_endpoint_are_told_apart(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    other_vip = a.vip + "1"
    endpoint = (a.endpoints[0], 8080)
    one = Service("one", a.family, protocol, 80, (endpoint,), vip=a.vip)
    two = Service("two", a.family, protocol, 80, (endpoint,), vip=other_vip)
    await programme(dataplane, one, two)
    client = (a.pod, 40000)

    for vip in (a.vip, other_vip):
        request = packet(protocol, client, (vip, 80))
        there = wire.exchange(request).packet
        came_from = (addresses(there)[0], ports(there)[0])
        assert there == forwarded(request, source=came_from, destination=endpoint)
        reply = packet(protocol, endpoint, came_from, flags="SA")
        assert wire.exchange(reply).packet == forwarded(reply, source=(vip, 80), destination=client)


@FAMILIES
async def test_choice_is_even_and_kept_by_the_flow(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, web(a, Protocol.UDP, endpoints=4))
    chosen: dict[int, str] = {}
    for port in range(40000, 40400):
        chosen[port] = addresses(wire.exchange(packet(Protocol.UDP, (a.pod, port), (a.vip, 80))).packet)[1]
    counts = [list(chosen.values()).count(address) for address in a.endpoints]
    # 400 draws, 100 expected each; 6 standard deviations are 52.
    assert sum(counts) == 400
    assert all(48 < count < 152 for count in counts), counts
    for port in range(40000, 40400, 40):
        request = packet(Protocol.UDP, (a.pod, port), (a.vip, 80))
        assert addresses(wire.exchange(request).packet)[1] == chosen[port]


@FAMILIES
@PROTOCOLS
async def test_no_endpoint_is_rejected(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, web(a, protocol, endpoints=0))
    request = packet(protocol, (a.pod, 40000), (a.vip, 80))
    answer = parse(wire.exchange(request).packet)
    assert (answer.src, answer.dst) == (a.node, a.pod)
    if a is V4:
        assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
        quoted = bytes(answer[ICMP].payload)
        checksummed = answer.copy()
        del checksummed.chksum, checksummed[ICMP].chksum
    else:
        assert answer[ICMPv6DestUnreach].code == 4
        quoted = bytes(answer[ICMPv6DestUnreach].payload)
        checksummed = answer.copy()
        del checksummed[ICMPv6DestUnreach].cksum
    assert bytes(checksummed) == bytes(answer), "checksums"
    assert request.startswith(quoted) and len(quoted) >= 28, "the original packet, as it was sent"


@FAMILIES
async def test_no_endpoint_is_dropped_by_policy(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, web(a, Protocol.TCP, endpoints=0, empty=Verdict.DROP))
    wire.send(packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80)))
    wire.expect_nothing()
    assert (await dataplane.stats()).drops["noEndpointDropped"] == 1


@FAMILIES
@PROTOCOLS
async def test_port_that_no_service_has_is_rejected(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, web(a, protocol))
    answer = parse(wire.exchange(packet(protocol, (a.pod, 40000), (a.vip, 81))).packet)
    assert ICMP in answer or ICMPv6DestUnreach in answer
    assert (await dataplane.stats()).drops["undefinedPort"] == 1


@FAMILIES
async def test_address_that_no_service_has_is_dropped(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, web(a, Protocol.TCP))
    wire.send(packet(Protocol.TCP, (a.pod, 40000), (a.unallocated, 80)))
    wire.expect_nothing()
    assert (await dataplane.stats()).drops["unallocatedAddress"] == 1


@FAMILIES
async def test_what_is_not_ours_passes_untouched(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, web(a, Protocol.TCP))
    request = packet(Protocol.TCP, (a.endpoints[0], 8080), (a.outside, 50000), flags="SA")
    back = wire.exchange(request).packet
    assert back in (request, forwarded(request))
    assert (await dataplane.stats()).counters["passed"] == 1


@FAMILIES
async def test_ttl_runs_out(dataplane: MessageDataplane, wire: Wire, a: Addresses) -> None:
    await programme(dataplane, web(a, Protocol.UDP))
    answer = parse(wire.exchange(packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), ttl=1)).packet)
    assert (answer.src, answer.dst) == (a.node, a.pod)
    if a is V4:
        assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
    else:
        assert answer[ICMPv6TimeExceeded].code == 0


async def test_udp_without_a_checksum_stays_so(dataplane: MessageDataplane, wire: Wire) -> None:
    await programme(dataplane, web(V4, Protocol.UDP))
    layer = parse(packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80)))
    layer[UDP].chksum = 0
    request = bytes(layer)
    back = wire.exchange(request).packet
    assert back == forwarded(request, destination=(V4.endpoints[0], 8080))
    assert parse(back)[UDP].chksum == 0


@FAMILIES
async def test_udp_flow_leaves_an_endpoint_that_serves_no_more(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    before = Service("dns", a.family, Protocol.UDP, 53, ((a.endpoints[0], 53),), vip=a.vip)
    after = Service("dns", a.family, Protocol.UDP, 53, ((a.endpoints[1], 53),), vip=a.vip)
    await programme(dataplane, before)
    request = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 53))
    assert addresses(wire.exchange(request).packet)[1] == a.endpoints[0]
    assert await dataplane.apply(difference(before.records(), after.records())) == []
    assert addresses(wire.exchange(request).packet)[1] == a.endpoints[1]


@FAMILIES
async def test_tcp_flow_stays_with_its_endpoint(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    before = Service("web", a.family, Protocol.TCP, 80, ((a.endpoints[0], 80),), vip=a.vip)
    after = Service("web", a.family, Protocol.TCP, 80, ((a.endpoints[1], 80),), vip=a.vip)
    await programme(dataplane, before)
    client, vip, endpoint = (a.pod, 40000), (a.vip, 80), (a.endpoints[0], 80)
    wire.exchange(packet(Protocol.TCP, client, vip))
    wire.exchange(packet(Protocol.TCP, endpoint, client, flags="SA"))
    assert await dataplane.apply(difference(before.records(), after.records())) == []
    data = packet(Protocol.TCP, client, vip, flags="PA")
    assert wire.exchange(data).packet == forwarded(data, destination=endpoint)
    new = packet(Protocol.TCP, (a.pod, 40001), vip)
    assert wire.exchange(new).packet == forwarded(new, destination=(a.endpoints[1], 80))


async def test_rates_are_what_was_sent(dataplane: MessageDataplane, wire: Wire) -> None:
    await programme(dataplane, web(V4, Protocol.UDP))
    request = packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80), b"x" * 100)
    before = (await dataplane.stats()).paths["service"]
    for _ in range(50):
        wire.exchange(request)
    after = (await dataplane.stats()).paths["service"]
    assert after.rx_packets - before.rx_packets == 50
    assert after.tx_packets - before.tx_packets == 50
    assert after.rx_bytes - before.rx_bytes == 50 * len(request)
    assert after.tx_bytes - before.tx_bytes == 50 * len(request)
    assert after.clocks > before.clocks
