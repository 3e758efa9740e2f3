"""What belongs to a flow without being one of its plain packets: ICMP errors, fragments, open offloads."""

from __future__ import annotations

import struct

import pytest
from scapy.utils import checksum
from tests.contract.engine_lab import GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_CSUM, Offload, Wire
from tests.contract.engine_packets import (
    ICMP,
    IP,
    TCP,
    UDP,
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    Packet,
    Raw,
    addresses,
    forwarded,
    network,
    packet,
    parse,
    ports,
)
from tests.contract.engine_process import Engine
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.records import Protocol

FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=["tcp", "udp"])
ETHERNET = 14


async def programme(dataplane: MessageDataplane, a: Addresses, protocol: Protocol) -> None:
    service = Service("web", a.family, protocol, 80, ((a.endpoints[0], 8080),), vip=a.vip, node_port=30080)
    assert await dataplane.apply(difference([], settings() + service.records())) == []


# ---- ICMP errors ----


def too_big(a: Addresses, source: str, destination: str, about: bytes) -> bytes:
    """The error that a router at ``source`` sends about a packet that does not fit 1,400 bytes."""
    error = ICMP(type=3, code=4, nexthopmtu=1400) if a is V4 else ICMPv6PacketTooBig(mtu=1400)
    quoted = about[:576] if a is V4 else about[:1200]
    return bytes(network(source, destination) / error / Raw(quoted))


def quoted(raw: bytes) -> bytes:
    """The packet inside of an ICMP error."""
    layer = parse(raw)
    return bytes((layer[ICMP] if ICMP in layer else layer[ICMPv6PacketTooBig]).payload)


def checksums_are_right(raw: bytes) -> bool:
    layer = parse(raw)
    if ICMP in layer:
        del layer.chksum, layer[ICMP].chksum
    else:
        del layer[ICMPv6PacketTooBig].cksum
    return bytes(layer) == raw


@FAMILIES
@PROTOCOLS
async def test_error_on_the_way_to_the_endpoint_reaches_the_client(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, a, protocol)
    client, target = (a.outside, 40000), (a.node, 30080)
    sent = wire.exchange(packet(protocol, client, target, b"x" * 1400)).packet
    router = "192.0.2.254" if a is V4 else "2001:db8::fe"

    back = wire.exchange(too_big(a, router, a.node, sent)).packet
    assert addresses(back)[1] == a.outside
    assert checksums_are_right(back)
    inner = parse(quoted(back))
    # The client finds its own packet in it: the addresses and ports that it used.
    assert (inner.src, inner.dst) == (a.outside, a.node)
    transport = inner[TCP] if protocol == Protocol.TCP else inner[UDP]
    assert (transport.sport, transport.dport) == (40000, 30080)
    assert (parse(back)[ICMP].nexthopmtu if a is V4 else parse(back)[ICMPv6PacketTooBig].mtu) == 1400


@FAMILIES
@PROTOCOLS
async def test_error_on_the_way_to_the_client_reaches_the_endpoint(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, a, protocol)
    client, target, endpoint = (a.outside, 40000), (a.node, 30080), (a.endpoints[0], 8080)
    port = ports(wire.exchange(packet(protocol, client, target)).packet)[0]
    answer = packet(protocol, endpoint, (a.node, port), b"x" * 1400, flags="SA")
    sent = wire.exchange(answer).packet
    router = "203.0.113.254" if a is V4 else "2001:db8:113::fe"

    back = wire.exchange(too_big(a, router, a.node, sent)).packet
    assert addresses(back)[1] == a.endpoints[0]
    assert checksums_are_right(back)
    inner = parse(quoted(back))
    assert (inner.src, inner.dst) == (a.endpoints[0], a.node)
    transport = inner[TCP] if protocol == Protocol.TCP else inner[UDP]
    assert (transport.sport, transport.dport) == (8080, port)


@FAMILIES
async def test_port_unreachable_of_the_endpoint_reaches_the_client(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, a, Protocol.UDP)
    sent = wire.exchange(packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80))).packet
    error = ICMP(type=3, code=3) if a is V4 else ICMPv6DestUnreach(code=4)
    back = wire.exchange(bytes(network(a.endpoints[0], a.pod) / error / Raw(sent))).packet
    assert addresses(back)[1] == a.pod
    inner = parse(bytes((parse(back)[ICMP] if a is V4 else parse(back)[ICMPv6DestUnreach]).payload))
    assert (inner.src, inner.dst, inner[UDP].dport) == (a.pod, a.vip, 80)


@FAMILIES
async def test_error_about_no_flow_of_ours_passes(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, a, Protocol.UDP)
    stranger = packet(Protocol.UDP, (a.endpoints[1], 1), (a.outside, 2))
    error = too_big(a, a.outside, a.endpoints[1], stranger)
    assert quoted(wire.exchange(error).packet) == stranger


# ---- fragments ----


def fragments(a: Addresses, raw: bytes, size: int = 512) -> list[bytes]:
    """Cut a packet into fragments with ``size`` payload bytes each."""
    layer = parse(raw)
    header = IP if a is V4 else IPv6
    payload = bytes(layer[header].payload)
    pieces = []
    for offset in range(0, len(payload), size):
        more = offset + size < len(payload)
        piece: Packet = network(layer.src, layer.dst)
        if a is V4:
            piece = piece.copy()
            piece.proto, piece.frag, piece.flags, piece.id = layer.proto, offset // 8, int(more), 0x4321
        else:
            piece = piece / IPv6ExtHdrFragment(nh=layer.nh, offset=offset // 8, m=int(more), id=0x87654321)
        pieces.append(bytes(piece / Raw(payload[offset : offset + size])))
    return pieces


def assembled(a: Addresses, pieces: list[bytes]) -> bytes:
    """Put fragments together into one packet."""
    layers = [parse(piece) for piece in pieces]
    if a is V4:
        layers.sort(key=lambda layer: layer.frag)
        payload = b"".join(bytes(layer[IP].payload) for layer in layers)
        whole: Packet = network(layers[0].src, layers[0].dst, layers[0].ttl)
        whole.proto = layers[0].proto
    else:
        layers.sort(key=lambda layer: layer[IPv6ExtHdrFragment].offset)
        payload = b"".join(bytes(layer[IPv6ExtHdrFragment].payload) for layer in layers)
        whole = network(layers[0].src, layers[0].dst, layers[0].hlim)
        whole.nh = layers[0][IPv6ExtHdrFragment].nh
    return bytes(whole / Raw(payload))


@FAMILIES
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)], ids=str)
async def test_fragments_follow_their_first(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, order: tuple[int, ...]
) -> None:
    await programme(dataplane, a, Protocol.UDP)
    payload = bytes(i & 0xFF for i in range(2000))
    request = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), payload)
    pieces = fragments(a, request)
    assert len(pieces) == 4
    for index in order:
        wire.send(pieces[index])
    frames = wire.drain()
    assert len(frames) == 4
    expected = forwarded(request, destination=(a.endpoints[0], 8080))
    whole = assembled(a, [frame.packet for frame in frames])
    # The identification is the fragments' own.
    assert whole[8 if a is V4 else 6 :].endswith(expected[20 if a is V4 else 40 :])
    assert addresses(whole) == (a.pod, a.endpoints[0])


@FAMILIES
async def test_fragments_without_a_first_are_let_go(
    dataplane: MessageDataplane, wire: Wire, a: Addresses
) -> None:
    await programme(dataplane, a, Protocol.UDP)
    request = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), b"x" * 2000)
    for piece in fragments(a, request)[1:]:
        wire.send(piece)
    wire.expect_nothing(0.6)
    assert (await dataplane.stats()).drops["fragmentExpired"] == 3


# ---- offloads ----


def transport_at(a: Addresses) -> int:
    return 20 if a is V4 else 40


def partial(a: Addresses, raw: bytes, protocol: Protocol) -> tuple[bytes, Offload]:
    """Leave a packet's transport checksum to the device, as a kernel socket does."""
    layer = parse(raw)
    at = transport_at(a)
    field = 16 if protocol == Protocol.TCP else 6
    source, destination = bytes.fromhex(""), b""
    if a is V4:
        source, destination = raw[12:16], raw[16:20]
        pseudo = source + destination + struct.pack("!BBH", 0, protocol, len(raw) - at)
    else:
        source, destination = raw[8:24], raw[24:40]
        pseudo = source + destination + struct.pack("!IHBB", len(raw) - at, 0, 0, protocol)
    del layer
    folded = ~checksum(pseudo) & 0xFFFF
    position = at + field
    changed = raw[:position] + struct.pack("!H", folded) + raw[position + 2 :]
    return changed, Offload(NEEDS_CSUM, csum_start=ETHERNET + at, csum_offset=field)


@FAMILIES
@PROTOCOLS
async def test_partial_checksum_stays_partial(
    dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, a, protocol)
    request = packet(protocol, (a.pod, 40000), (a.vip, 80))
    unfinished, offload = partial(a, request, protocol)
    back = wire.exchange(unfinished, offload)
    assert back.offload.partial
    assert (back.offload.csum_start, back.offload.csum_offset) == (offload.csum_start, offload.csum_offset)
    expected, _ = partial(a, forwarded(request, destination=(a.endpoints[0], 8080)), protocol)
    assert back.packet == expected


@FAMILIES
@PROTOCOLS
async def test_large_frame_passes_whole(
    engine: Engine, dataplane: MessageDataplane, wire: Wire, a: Addresses, protocol: Protocol
) -> None:
    await programme(dataplane, a, protocol)
    client, vip, endpoint = (a.pod, 40000), (a.vip, 80), (a.endpoints[0], 8080)
    wire.exchange(packet(protocol, client, vip))
    payload = bytes(i * 7 & 0xFF for i in range(60000))
    request = packet(protocol, client, vip, payload, flags="A")
    unfinished, offload = partial(a, request, protocol)
    kind = GSO_UDP_L4 if protocol == Protocol.UDP else GSO_TCP4 if a is V4 else GSO_TCP6
    large = Offload(
        NEEDS_CSUM, kind, ETHERNET + transport_at(a) + 20, 1400, offload.csum_start, offload.csum_offset
    )
    if protocol == Protocol.UDP and not engine.LARGE_UDP:
        wire.send(unfinished, large)
        pieces = [parse(frame.packet) for frame in wire.drain()]
        assert {(piece.dst, piece[UDP].dport) for piece in pieces} == {endpoint}
        assert b"".join(bytes(piece[UDP].payload) for piece in pieces) == payload
        return
    back = wire.exchange(unfinished, large)
    assert (back.offload.gso_type, back.offload.gso_size, back.offload.partial) == (kind, 1400, True)
    expected, _ = partial(a, forwarded(request, destination=endpoint), protocol)
    assert back.packet == expected
