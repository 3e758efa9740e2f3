"""GTP-U through the engine, byte by byte: both outer families, both inner families, both directions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.packet import Raw
from tests.contract.engine_gtpu import (
    CAPACITY,
    ECHO_REQUEST,
    ECHO_RESPONSE,
    END_MARKER,
    ERROR_INDICATION,
    I4,
    I6,
    LOCAL_TEID,
    MANY,
    NOTIFICATION,
    O4,
    O6,
    PORT,
    REMOTE_TEID,
    Inner,
    Outer,
    checksums_hold,
    container,
    encapsulated,
    endpoint,
    gtp,
    gtpu,
    hop,
    peer,
    pools,
    tunnel,
    ue,
    unwrap,
)
from tests.contract.engine_lab import ENGINE_MAC, HOST_MAC, Namespace, Wire
from tests.contract.engine_packets import (
    ICMP,
    IP,
    UDP,
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    addresses,
    network,
    packet,
    parse,
)
from tests.contract.engine_process import Engine
from tests.contract.engine_services import SNAT_PORTS, V4, V6, Addresses, Service, difference
from tests.contract.engines import ENGINES, Onward, engine_named

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.records import GtpuEndpointFlag, GtpuPsc, GtpuTunnelFlag, Protocol, Record

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
INNER = pytest.mark.parametrize("i", [I4, I6], ids=["ipv4", "ipv6"])
PSC = pytest.mark.parametrize("psc", [GtpuPsc.NONE, GtpuPsc.DL, GtpuPsc.UL], ids=["plain", "dl", "ul"])


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, node, CAPACITY) as process:
        process.start()
        yield process


async def programme(dataplane: MessageDataplane, records: list[Record]) -> None:
    assert await dataplane.apply(difference([], records)) == []


def up(i: Inner, payload: bytes = b"payload", **more: int) -> bytes:
    """What the user equipment sends."""
    return packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), payload, **more)


def down(i: Inner, payload: bytes = b"payload", **more: int) -> bytes:
    """What the data network sends to it."""
    return packet(Protocol.UDP, (i.host, 53), (i.ue, 4000), payload, **more)


@OUTER
async def test_decapsulation_gives_the_inner_packet(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    for inner in (up(I4), up(I6)):
        there = wire.exchange(gtp(o, inner))
        assert there.packet == onward(inner)
        assert (there.destination, there.source) == (HOST_MAC, ENGINE_MAC)
    [counters] = await dataplane.gtpu_counters()
    assert (counters.rx_packets, counters.rx_bytes, counters.drops) == (2, len(up(I4) + up(I6)), 0)


@OUTER
@PSC
async def test_encapsulation_is_what_the_specification_says(
    dataplane: MessageDataplane, wire: Wire, o: Outer, psc: GtpuPsc
) -> None:
    await programme(dataplane, gtpu(o, psc=psc, qfi=9))
    for inner in (down(I4), down(I6)):
        there = wire.exchange(inner)
        assert there.packet == encapsulated(o, hop(inner), there.packet, psc=psc, qfi=9)
        fields, payload = unwrap(there.packet)
        assert (fields["teid"], payload) == (REMOTE_TEID, hop(inner))
        if psc != GtpuPsc.NONE:
            assert (fields["psc"], fields["qfi"]) == (0 if psc == GtpuPsc.DL else 1, 9)
    [counters] = await dataplane.gtpu_counters([tunnel(o).pack()[: tunnel(o).KEY]])
    assert (counters.tx_packets, counters.tx_bytes, counters.drops) == (2, len(down(I4) + down(I6)), 0)


@OUTER
async def test_outer_checksums_of_any_content(dataplane: MessageDataplane, wire: Wire, o: Outer) -> None:
    await programme(dataplane, gtpu(o))
    for i in (I4, I6):
        for size in (28, 29, 63, 64, 65, 1000, 1001):
            for content in (bytes(size), b"\xff" * size, bytes(k % 251 for k in range(size))):
                checksums_hold(wire.exchange(down(i, content)).packet)
        no_transport = bytes(network(i.host, i.ue) / Raw(b"something" * 3))
        checksums_hold(wire.exchange(no_transport).packet)


@OUTER
async def test_teids_within_and_beyond_the_declared_range(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    teids = (1, LOCAL_TEID, MANY - 1, MANY, 0xFFFFFFFF)
    records: list[Record] = [*pools(), endpoint(o), peer(o)]
    for number, teid in enumerate(teids):
        records += [tunnel(o, local_teid=teid), ue(o, f"10.60.1.{number}/32", teid)]
    await programme(dataplane, records)
    for number, teid in enumerate(teids):
        inner = packet(Protocol.UDP, (f"10.60.1.{number}", 4000), (I4.host, 53))
        assert wire.exchange(gtp(o, inner, teid=teid)).packet == onward(inner)


@OUTER
async def test_header_options_are_walked(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    inner = up(I4)
    variants = [
        gtp(o, inner, S=1, seq=7),
        gtp(o, inner, PN=1, npdu=3),
        gtp(o, inner, S=1, PN=1, seq=65535, npdu=255),
        gtp(o, inner, E=1, next_ex=0),
        gtp(o, inner, E=1, next_ex=0x85, extensions=container(GtpuPsc.UL, 5)),
        gtp(o, inner, E=1, next_ex=0x85, extensions=container(GtpuPsc.DL, 63)),
        # UDP port (0x40) is no extension that has to be understood, and another follows it.
        gtp(o, bytes([1, 0x10, 0x20, 0x85, 1, 0x10, 9, 0]) + inner, E=1, next_ex=0x40),
    ]
    for variant in variants:
        assert wire.exchange(variant).packet == onward(inner)
    counters = (await dataplane.stats()).counters
    assert (counters["gtpuPscUplink"], counters["gtpuPscDownlink"]) == (2, 1)


@OUTER
async def test_extension_that_must_be_understood_is_answered(
    dataplane: MessageDataplane, wire: Wire, o: Outer
) -> None:
    await programme(dataplane, gtpu(o))
    unknown = bytes([1, 0, 0, 0])
    answer = wire.exchange(gtp(o, unknown + up(I4) + bytes(100), E=1, next_ex=0xC1, sport=4711)).packet
    fields, elements = unwrap(answer)
    assert (fields["type"], fields["teid"]) == (NOTIFICATION, 0)
    assert elements[0] == 141 and 0x85 in elements[2 : 2 + elements[1]]
    assert addresses(answer) == (o.local, o.peer)
    checksums_hold(answer)


@OUTER
async def test_echo_request_is_answered(dataplane: MessageDataplane, wire: Wire, o: Outer) -> None:
    await programme(dataplane, gtpu(o))
    for sequence, source in (
        (1, o.peer),
        (65535, o.other_peer),
        (2, "203.0.113.77" if o is O4 else "2001:db8:77::1"),
    ):
        request = gtp(o, b"", kind=ECHO_REQUEST, teid=0, S=1, seq=sequence, source=source, sport=3386)
        answer = wire.exchange(request).packet
        assert addresses(answer) == (o.local, source)
        assert parse(answer)[UDP].dport == 3386 and parse(answer)[UDP].sport == PORT
        message = bytes(parse(answer)[UDP].payload)
        # S=1, length: sequence number octets and a Recovery of value 0
        assert message == bytes(
            [0x32, ECHO_RESPONSE, 0, 6, 0, 0, 0, 0, *sequence.to_bytes(2, "big"), 0, 0, 14, 0]
        )
        assert GTP_U_Header(message).seq == sequence
        checksums_hold(answer)


@OUTER
async def test_unknown_teid_gets_an_error_indication(
    dataplane: MessageDataplane, wire: Wire, o: Outer
) -> None:
    await programme(dataplane, gtpu(o))
    answer = wire.exchange(gtp(o, up(I4), teid=0xDEAD, sport=5555)).packet
    assert addresses(answer) == (o.local, o.peer)
    assert parse(answer)[UDP].dport == PORT
    fields, elements = unwrap(answer)
    assert (fields["type"], fields["teid"], fields["flags"] & 2) == (ERROR_INDICATION, 0, 2)
    address = ipaddress.ip_address(o.local).packed
    # TEID Data I, then GTP-U Peer Address: the destination of the packet in question (TS 29.281, 7.3.1)
    wanted = bytes([16, 0, 0, 0xDE, 0xAD, 133, *len(address).to_bytes(2, "big"), *address])
    assert elements == wanted, elements.hex()
    checksums_hold(answer)
    stats = await dataplane.stats()
    assert stats.drops["gtpuUnknownTeid"] == 1 and stats.counters["gtpuErrorIndicationsSent"] == 1


async def test_error_indications_are_limited(dataplane: MessageDataplane, wire: Wire) -> None:
    await programme(dataplane, gtpu(O4))
    layer = parse(gtp(O4, up(I4)))
    layer[UDP].chksum = 0
    head, tail = bytes(layer)[:32], bytes(layer)[36:]
    for teid in range(3000):
        wire.send(head + (0x10000 + teid).to_bytes(4, "big") + tail)
    answers = wire.drain()
    stats = await dataplane.stats()
    sent, limited = stats.counters["gtpuErrorIndicationsSent"], stats.counters["gtpuAnswersLimited"]
    assert sent == len(answers) > 0
    assert limited > 0
    assert stats.drops["gtpuUnknownTeid"] == sent + limited


@OUTER
async def test_end_marker_is_noted_and_goes_nowhere(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    wire.send(gtp(o, b"", kind=END_MARKER))
    wire.send(gtp(o, b"", kind=END_MARKER, teid=0xDEAD))
    wire.expect_nothing()
    [counters] = await dataplane.gtpu_counters()
    assert counters.end_marker_seen and not counters.error_indication_seen
    assert (await dataplane.stats()).counters["gtpuEndMarkers"] == 1
    assert wire.exchange(gtp(o, up(I4))).packet == onward(up(I4)), "the tunnel goes on"


@OUTER
@INNER
async def test_inner_source_must_be_the_users(
    dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    spoofed = packet(Protocol.UDP, (i.stranger, 4000), (i.host, 53))
    wire.send(gtp(o, spoofed))
    wire.expect_nothing()
    assert (await dataplane.stats()).drops["gtpuInnerSource"] == 1
    [counters] = await dataplane.gtpu_counters()
    assert (counters.rx_packets, counters.drops) == (0, 1)
    lenient = tunnel(o, flags=GtpuTunnelFlag.NONE)
    assert await dataplane.apply(difference([tunnel(o)], [lenient])) == []
    assert wire.exchange(gtp(o, spoofed)).packet == onward(spoofed)


@OUTER
async def test_malformed_messages_are_dropped_by_reason(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    inner = up(I4)
    good = bytearray(gtp(o, inner))
    at = (20 if o is O4 else 40) + 8

    def changed(offset: int, *values: int) -> bytes:
        raw = bytes(good[: at + offset] + bytes(values) + good[at + offset + len(values) :])
        layer = parse(raw)
        del layer[UDP].chksum
        return bytes(layer)

    cases = {
        "gtpuBadVersion": [changed(0, 0x10), changed(0, 0x50), changed(0, 0x20)],
        "gtpuBadLength": [changed(2, 0xFF, 0xFF), changed(2, 0x01, 0xFF)],
        "gtpuUnknownMessage": [changed(1, 3), changed(1, 77)],
        "gtpuBadExtension": [
            gtp(o, bytes([0, 0, 0, 0]) + inner, E=1, next_ex=0x40),
            gtp(o, bytes([255, 0, 0, 0]) + inner, E=1, next_ex=0x40),
        ],
        "gtpuBadPayload": [gtp(o, b""), gtp(o, b"\x45"), gtp(o, b"\x15" + inner[1:]), gtp(o, inner[:-1])],
    }
    for reason, packets in cases.items():
        before = await dataplane.stats()
        for raw in packets:
            wire.send(raw)
        wire.expect_nothing(0.2)
        after = await dataplane.stats()
        assert after.drops[reason] - before.drops[reason] == len(packets), (reason, after.drops)
    assert wire.exchange(bytes(good)).packet == onward(inner)


async def test_wrong_outer_checksum_is_dropped(dataplane: MessageDataplane, wire: Wire) -> None:
    await programme(dataplane, gtpu(O6))
    raw = bytearray(gtp(O6, up(I4)))
    raw[46] ^= 1
    wire.send(bytes(raw))
    raw[46:48] = b"\0\0"
    wire.send(bytes(raw))
    wire.expect_nothing()
    assert (await dataplane.stats()).drops["gtpuBadChecksum"] == 2


@OUTER
@INNER
async def test_user_that_no_tunnel_has_is_unreachable(
    dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner
) -> None:
    await programme(dataplane, gtpu(o))
    request = packet(Protocol.UDP, (i.host, 53), (i.stranger, 4000))
    answer = parse(wire.exchange(request).packet)
    assert answer.dst == i.host
    if i is I4:
        assert answer[ICMP].type == 3
    else:
        assert ICMPv6DestUnreach in answer
    assert (await dataplane.stats()).drops["gtpuNoTunnel"] == 1


@OUTER
async def test_ttl_runs_out_before_the_tunnel(dataplane: MessageDataplane, wire: Wire, o: Outer) -> None:
    await programme(dataplane, gtpu(o))
    for i in (I4, I6):
        answer = parse(wire.exchange(down(i, ttl=1)).packet)
        assert answer.dst == i.host
        assert answer[ICMP].type == 11 if i is I4 else ICMPv6TimeExceeded in answer


@OUTER
@INNER
@PSC
async def test_largest_packet_and_one_byte_more(
    dataplane: MessageDataplane, wire: Wire, o: Outer, psc: GtpuPsc, i: Inner
) -> None:
    await programme(dataplane, gtpu(o, psc=psc, qfi=1))
    overhead = o.overhead + (0 if psc == GtpuPsc.NONE else 8)
    headers = 28 if i is I4 else 48
    largest = 1500 - overhead

    def sized(size: int) -> bytes:
        raw = down(i, bytes(size - headers))
        if i is I4:
            layer = parse(raw)
            layer[IP].flags = "DF"
            del layer[IP].chksum
            raw = bytes(layer)
        assert len(raw) == size
        return raw

    fits = sized(largest)
    there = wire.exchange(fits).packet
    assert len(there) == 1500
    assert there == encapsulated(o, hop(fits), there, psc=psc, qfi=1)
    answer = parse(wire.exchange(sized(largest + 1)).packet)
    assert answer.dst == i.host
    if i is I4:
        assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, largest)
    else:
        assert answer[ICMPv6PacketTooBig].mtu == largest


@OUTER
async def test_ipv4_that_may_be_fragmented_is(dataplane: MessageDataplane, wire: Wire, o: Outer) -> None:
    await programme(dataplane, gtpu(o))
    content = bytes(k % 253 for k in range(1460))
    inner = down(I4, content)
    wire.send(inner)
    pieces = []
    for frame in wire.drain():
        assert len(frame.packet) <= 1500
        checksums_hold(frame.packet)
        fields, payload = unwrap(frame.packet)
        assert fields["teid"] == REMOTE_TEID
        pieces.append(IP(payload))
    assert len(pieces) == 2
    pieces.sort(key=lambda piece: piece.frag)
    assert [int(piece.flags.MF) for piece in pieces] == [1, 0]
    assert {piece.id for piece in pieces} == {IP(inner).id}
    assert all(piece.ttl == 63 for piece in pieces)
    assert b"".join(bytes(piece.payload) for piece in pieces) == inner[20:]
    assert pieces[1].frag * 8 == len(bytes(pieces[0].payload))


async def test_mtu_of_endpoint_and_peer(dataplane: MessageDataplane, wire: Wire) -> None:
    base: list[Record] = [*pools(), tunnel(O4), ue(O4, I6.prefix)]
    request = down(I6, bytes(1300))
    old = [*base, endpoint(O4), peer(O4)]
    await programme(dataplane, old)
    unwrap(wire.exchange(request).packet)
    smaller: list[Record] = [*base, endpoint(O4, mtu=1350), peer(O4)]
    assert await dataplane.apply(difference(old, smaller)) == []
    assert parse(wire.exchange(request).packet)[ICMPv6PacketTooBig].mtu == 1350 - O4.overhead
    path: list[Record] = [*base, endpoint(O4, mtu=1350), peer(O4, mtu=1330)]
    assert await dataplane.apply(difference(smaller, path)) == []
    assert parse(wire.exchange(request).packet)[ICMPv6PacketTooBig].mtu == 1330 - O4.overhead


@OUTER
@INNER
async def test_dscp_fixed_and_copied(dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner) -> None:
    base: list[Record] = [*pools(), peer(o), tunnel(o), ue(o, i.prefix)]
    layer = parse(down(i))
    if i is I4:
        layer.tos = 46 << 2
        del layer.chksum
    else:
        layer.tc = 46 << 2
    request = bytes(layer)
    old = [*base, endpoint(o, dscp=10)]
    await programme(dataplane, old)
    there = wire.exchange(request).packet
    assert there == encapsulated(o, hop(request), there, tos=10 << 2)
    assert await dataplane.apply(difference(old, [*base, endpoint(o, dscp=255)])) == []
    there = wire.exchange(request).packet
    assert there == encapsulated(o, hop(request), there, tos=46 << 2)


@OUTER
@INNER
async def test_source_port_follows_the_flow(
    dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner
) -> None:
    await programme(dataplane, gtpu(o))
    chosen = {}
    for port in range(64):
        request = packet(Protocol.UDP, (i.host, 1000 + port), (i.ue, 4000))
        longer = packet(Protocol.UDP, (i.host, 1000 + port), (i.ue, 4000), b"longer" * 50, ttl=9)
        chosen[port] = parse(wire.exchange(request).packet)[UDP].sport
        assert parse(wire.exchange(longer).packet)[UDP].sport == chosen[port]
    assert len(set(chosen.values())) > 48
    fixed = endpoint(o, flags=GtpuEndpointFlag.NONE)
    assert await dataplane.apply(difference([endpoint(o)], [fixed])) == []
    assert parse(wire.exchange(down(i)).packet)[UDP].sport == PORT


@OUTER
async def test_outer_fragments_are_put_together(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    inner = up(I6, bytes(k % 251 for k in range(1400)))
    fragments = split(gtp(o, inner), 400)
    assert len(fragments) >= 3
    for order in (fragments, fragments[::-1], [fragments[0], fragments[0], *fragments[1:]]):
        for raw in order:
            wire.send(renumbered(raw))
        frame = wire.receive()
        stats = await dataplane.stats()
        assert frame is not None, {k: v for k, v in {**stats.counters, **stats.drops}.items() if v}
        assert frame.packet == onward(inner)
        wire.expect_nothing(0.1)
        _identification[0] += 1
    counters = (await dataplane.stats()).counters
    assert counters["gtpuReassembled"] == 3


@OUTER
async def test_fragments_of_others_pass(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    """Fragments to the local address that are no GTP-U are none of ours."""
    await programme(dataplane, gtpu(o))
    datagram = bytes(network(o.peer, o.local) / UDP(sport=9, dport=53) / Raw(bytes(2000)))
    for raw in split(datagram, 1000):
        frame = wire.exchange(renumbered(raw))
        assert frame.packet == onward(renumbered(raw))


_identification = [100]


def renumbered(raw: bytes) -> bytes:
    """A fragment with this test's current identification."""
    if raw[0] >> 4 == 4:
        layer = IP(raw)
        layer.id = _identification[0]
        del layer.chksum
        return bytes(layer)
    return raw[:44] + _identification[0].to_bytes(4, "big") + raw[48:]


def split(raw: bytes, size: int) -> list[bytes]:
    """Fragments of a packet, `size` payload bytes each (a multiple of 8)."""
    if raw[0] >> 4 == 4:
        pieces = []
        for start in range(0, len(raw) - 20, size):
            part = raw[20 + start : 20 + start + size]
            header = IP(raw[:20])
            header.len = 20 + len(part)
            header.frag = start // 8
            header.flags = "MF" if 20 + start + size < len(raw) else 0
            del header.chksum
            pieces.append(bytes(header) + part)
        return pieces
    pieces = []
    for start in range(0, len(raw) - 40, size):
        part = raw[40 + start : 40 + start + size]
        more = int(40 + start + size < len(raw))
        fragment = bytes([17, 0]) + (start | more).to_bytes(2, "big") + bytes(4)
        header6 = raw[:4] + (8 + len(part)).to_bytes(2, "big") + bytes([44]) + raw[7:40]
        pieces.append(header6 + fragment + part)
    return pieces


@OUTER
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("a, i", [(V4, I4), (V6, I6)], ids=["ipv4", "ipv6"])
async def test_user_reaches_a_service_and_gets_its_answer(
    dataplane: MessageDataplane, wire: Wire, o: Outer, a: Addresses, i: Inner, protocol: Protocol
) -> None:
    web = Service("web", a.family, protocol, 80, ((a.endpoints[0], 8080),), vip=a.vip)
    await programme(dataplane, [*gtpu(o), *web.records()])
    request = packet(protocol, (i.ue, 4000), (a.vip, 80))
    there = parse(wire.exchange(gtp(o, request)).packet)
    assert (there.src, there.dst) == (a.node, a.endpoints[0]), "masqueraded: the user is no pod of this node"
    sport = there.payload.sport
    assert SNAT_PORTS[0] <= sport <= SNAT_PORTS[1]
    reply = packet(protocol, (a.endpoints[0], 8080), (a.node, sport), b"answer", flags="SA")
    back = wire.exchange(reply).packet
    fields, inner = unwrap(back)
    assert fields["teid"] == REMOTE_TEID
    checksums_hold(back)
    checksums_hold(inner)
    layer = parse(inner)
    assert (layer.src, layer.dst, layer.payload.sport, layer.payload.dport) == (a.vip, i.ue, 80, 4000)
    assert (layer.ttl if i is I4 else layer.hlim) == 63, "one hop"
    checksums_hold(inner)


@OUTER
@INNER
async def test_user_to_user_turns_round_on_the_node(
    dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner
) -> None:
    other = ue(o, "10.60.0.6/32" if i is I4 else "fd00:60:0:6::/64", 7)
    second = tunnel(o, local_teid=7, remote_teid=77)
    await programme(dataplane, [*gtpu(o), second, other])
    inner = packet(Protocol.UDP, (i.ue, 1), ("10.60.0.6" if i is I4 else "fd00:60:0:6::1", 2))
    there = wire.exchange(gtp(o, inner)).packet
    assert there == encapsulated(o, hop(inner), there, teid=77)


@OUTER
async def test_icmp_error_for_a_user_goes_into_the_tunnel(
    dataplane: MessageDataplane, wire: Wire, o: Outer
) -> None:
    """A Service without endpoints: the user gets the rejection."""
    web = Service("web", 4, Protocol.UDP, 80, (), vip=V4.vip)
    await programme(dataplane, [*gtpu(o), *web.records()])
    request = packet(Protocol.UDP, (I4.ue, 4000), (V4.vip, 80))
    fields, inner = unwrap(wire.exchange(gtp(o, request)).packet)
    assert fields["teid"] == REMOTE_TEID
    answer = parse(inner)
    assert (answer.dst, answer[ICMP].type, answer[ICMP].code) == (I4.ue, 3, 3)


@OUTER
async def test_other_traffic_is_left_alone(
    dataplane: MessageDataplane, wire: Wire, o: Outer, onward: Onward
) -> None:
    await programme(dataplane, gtpu(o))
    elsewhere = "192.0.2.51" if o is O4 else "2001:db8::51"
    message = GTP_U_Header(teid=LOCAL_TEID) / Raw(up(I4))
    for raw in (
        packet(Protocol.UDP, (o.peer, 1), (o.local, 53)),
        packet(Protocol.TCP, (o.peer, 1), (o.local, PORT)),
        bytes(network(o.peer, elsewhere) / UDP(sport=1, dport=PORT) / message),
    ):
        assert wire.exchange(raw).packet == onward(raw)
    assert (await dataplane.stats()).counters["gtpuDecapsulated"] == 0


async def test_rates_of_the_paths_are_what_was_sent(dataplane: MessageDataplane, wire: Wire) -> None:
    await programme(dataplane, gtpu(O4))
    request, outer = down(I4), gtp(O4, up(I4))
    for _ in range(20):
        wire.exchange(outer)
        wire.exchange(request)
    stats = await dataplane.stats()
    decap, encap = stats.paths["gtpuDecap"], stats.paths["gtpuEncap"]
    assert (decap.rx_packets, decap.tx_packets) == (20, 20)
    assert (decap.rx_bytes, decap.tx_bytes) == (20 * len(outer), 20 * len(up(I4)))
    assert (encap.rx_packets, encap.tx_packets) == (20, 20)
    assert (encap.rx_bytes, encap.tx_bytes) == (20 * len(request), 20 * (len(request) + O4.overhead))
    assert decap.clocks > 0 and encap.clocks > 0


@OUTER
@pytest.mark.parametrize("i", [I4, I6], ids=["ipv4", "ipv6"])
async def test_inner_packet_larger_than_the_link(
    dataplane: MessageDataplane, wire: Wire, o: Outer, i: Inner
) -> None:
    """It came in outer fragments: a router fragments it, or says so to the user."""
    await programme(dataplane, gtpu(o))
    inner = up(i, bytes(k % 251 for k in range(1900)))
    for raw in split(gtp(o, inner), 1000):
        wire.send(renumbered(raw))
    _identification[0] += 1
    first = wire.receive()
    assert first is not None
    if i is I6:
        fields, answer = unwrap(first.packet)
        assert fields["teid"] == REMOTE_TEID
        assert parse(answer)[ICMPv6PacketTooBig].mtu == 1500 and parse(answer).dst == i.ue
        assert (await dataplane.stats()).drops["tooBig"] == 1
        return
    second = wire.receive()
    assert second is not None
    pieces = [IP(first.packet), IP(second.packet)]
    assert all(len(piece) <= 1500 for piece in pieces)
    assert b"".join(bytes(piece.payload) for piece in pieces) == inner[20:]
    assert [int(piece.flags.MF) for piece in pieces] == [1, 0]


@OUTER
async def test_tunnel_in_a_tunnel_is_refused(dataplane: MessageDataplane, wire: Wire, o: Outer) -> None:
    """A user cannot send as another one through the node's own GTP-U address."""
    await programme(dataplane, gtpu(o, flags=GtpuTunnelFlag.NONE))
    forged = bytes(network(I4.ue if o is O4 else I6.ue, o.local) / parse(gtp(o, up(I4))).payload)
    layer = parse(forged)
    del layer[UDP].chksum
    wire.send(gtp(o, bytes(layer)))
    wire.expect_nothing()
    assert (await dataplane.stats()).drops["gtpuNested"] == 1
