"""GTP-U tunnels that carry Ethernet: frames of a VLAN on a second link, byte by byte."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest
from scapy.layers.l2 import Ether
from tests.contract.engine_frames import (
    CONTENTS,
    HERE,
    OTHER_VLAN,
    THERE,
    VLAN,
    Frames,
    add_frame_link,
    ethernet,
    tagged,
)
from tests.contract.engine_gtpu import (
    CAPACITY,
    O4,
    O6,
    PORT,
    REMOTE_TEID,
    Outer,
    checksums_hold,
    gtp,
    tunnel,
    unwrap,
)
from tests.contract.engine_lab import (
    ENGINE_MAC,
    GSO_TCP4,
    GSO_TCP6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    PACKET_VNET_HDR,
    SOL_PACKET,
    Namespace,
    Offload,
    Wire,
)
from tests.contract.engine_packets import TCP, UDP, packet, parse
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
UDP_SEGMENT = 103


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    """An engine with both links: vpp0/vpp1 for packets, vppe0/vppe1 for frames."""
    add_frame_link(node)
    with engine_named(request.param, node, CAPACITY) as process:
        process.launch()
        process.wait_for_links(["vpp1", "vppe1"])
        yield process


@pytest.fixture
def frames(engine: Engine) -> Iterator[Frames]:
    end = Frames(engine.namespace)
    yield end
    end.socket.close()


@OUTER
async def test_frames_go_into_the_tunnel_of_their_vlan(
    engine: Engine, wire: Wire, frames: Frames, o: Outer
) -> None:
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        for frame in CONTENTS.values():
            for vlan, teid in ((VLAN, REMOTE_TEID), (OTHER_VLAN, 77)):
                frames.send(tagged(frame, vlan))
                outer = wire.receive()
                assert outer is not None
                fields, payload = unwrap(outer.packet)
                assert (fields["teid"], payload) == (teid, frame)
                assert (parse(outer.packet).src, parse(outer.packet).dst) == (o.local, o.peer)
                assert parse(outer.packet)[UDP].dport == PORT
                checksums_hold(outer.packet)
        frames.send(tagged(CONTENTS["arp"], 5))
        frames.send(CONTENTS["arp"])
        wire.expect_nothing()
        stats = await dataplane.stats()
        assert stats.drops["gtpuNoTunnel"] == 2
        assert stats.paths["gtpuEncap"].tx_packets == 2 * len(CONTENTS)
        counters = {c.local_teid: c for c in await dataplane.gtpu_counters()}
        assert counters[7].tx_packets == len(CONTENTS)
        assert counters[7].tx_bytes == sum(map(len, CONTENTS.values()))


@OUTER
async def test_frames_come_out_with_the_tag_of_their_tunnel(
    engine: Engine, wire: Wire, frames: Frames, o: Outer
) -> None:
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        for frame in CONTENTS.values():
            for vlan, teid in ((VLAN, tunnel(o).local_teid), (OTHER_VLAN, 7)):
                wire.send(gtp(o, frame, teid=teid))
                assert frames.receive() == (vlan, frame)
        wire.send(gtp(o, b"no frame"))
        assert frames.receive(0.3) is None
        wire.expect_nothing(0.1)
        stats = await dataplane.stats()
        assert stats.drops["gtpuBadPayload"] == 1
        assert stats.paths["gtpuDecap"].tx_packets == 2 * len(CONTENTS)


@OUTER
async def test_large_frame_is_cut_for_the_tunnel(
    engine: Engine, wire: Wire, frames: Frames, o: Outer
) -> None:
    """UDP segmentation offload and a checksum that is left to be done."""
    contents = [struct.pack("!H", n) * 500 for n in range(40)]
    frame = bytearray(bytes(Ether(src=HERE, dst=THERE, type=0x0800)))
    frame += packet(Protocol.UDP, ("10.9.0.1", 9), ("10.9.0.2", 9), b"".join(contents))
    addresses_and_rest = frame[26:34] + struct.pack("!HH", 17, len(frame) - 34)
    total = sum(struct.unpack("!6H", addresses_and_rest))
    frame[40:42] = (total % 0xFFFF).to_bytes(2, "big")
    offload = Offload(NEEDS_CSUM, GSO_UDP_L4, 14 + 4 + 28, 1000, 14 + 4 + 20, 6)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        frames.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        frames.send(offload.pack() + tagged(bytes(frame), VLAN))
        for content in contents:
            outer = wire.receive()
            assert outer is not None
            fields, piece = unwrap(outer.packet)
            assert (fields["teid"], piece[:14]) == (REMOTE_TEID, bytes(frame[:14]))
            inner = parse(piece[14:])
            assert bytes(inner[UDP].payload) == content
            del inner.chksum, inner[UDP].chksum
            assert bytes(inner) == piece[14:], "inner checksums"
            checksums_hold(outer.packet)
        assert (await dataplane.stats()).counters["gtpuSegmented"] == 1


@OUTER
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
async def test_large_tcp_frames_keep_their_order(
    engine: Engine, wire: Wire, frames: Frames, o: Outer, family: int
) -> None:
    """TCP segmentation offload: a stream in large frames, small ones between them."""
    ends = (("10.9.0.1", 9), ("10.9.0.2", 9)) if family == 4 else (("fd00::1", 9), ("fd00::2", 9))
    ip, size = 20 if family == 4 else 40, 1000
    stream = b"".join(struct.pack("!I", n) for n in range(25_000))
    lengths = [40_000, 100, 30_500, 700, 28_700]
    assert sum(lengths) == len(stream)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        frames.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        at = 0
        for length in lengths:
            frame = bytearray(bytes(Ether(src=HERE, dst=THERE, type=0x0800 if family == 4 else 0x86DD)))
            frame += packet(Protocol.TCP, *ends, stream[at : at + length], flags="A")
            l4 = 14 + ip
            frame[l4 + 4 : l4 + 8] = at.to_bytes(4, "big")
            pseudo = frame[l4 - (8 if family == 4 else 32) : l4] + struct.pack("!HH", 6, len(frame) - l4)
            total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
            while total >> 16:
                total = (total & 0xFFFF) + (total >> 16)
            frame[l4 + 16 : l4 + 18] = total.to_bytes(2, "big")
            gso = (GSO_TCP4 if family == 4 else GSO_TCP6) if length > size else 0
            offload = Offload(NEEDS_CSUM, gso, 4 + l4 + 20, size if gso else 0, 4 + l4, 16)
            frames.send(offload.pack() + tagged(bytes(frame), VLAN))
            at += length
        seen = 0
        while seen < len(stream):
            outer = wire.receive()
            assert outer is not None, f"{seen} bytes came"
            fields, piece = unwrap(outer.packet)
            assert (fields["teid"], piece[:12]) == (REMOTE_TEID, bytes(frame[:12]))
            checksums_hold(outer.packet)
            inner = parse(piece[14:])
            assert inner[TCP].seq == seen
            content = bytes(inner[TCP].payload)
            assert 0 < len(content) <= size
            assert content == stream[seen : seen + len(content)]
            seen += len(content)
            if family == 4:
                del inner.chksum
            del inner[TCP].chksum
            assert bytes(inner) == piece[14:], "inner checksums"
        large = sum(length > size for length in lengths)
        assert (await dataplane.stats()).counters["gtpuSegmented"] == large


@OUTER
async def test_frames_that_belong_to_no_tunnel(engine: Engine, wire: Wire, frames: Frames, o: Outer) -> None:
    """Without a tag, with the tag of priorities only, too large: dropped, counted, the others go on."""
    arp = CONTENTS["arp"]
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        lost = [arp, arp[:14], tagged(arp, 0), tagged(arp, 4095), tagged(arp, VLAN + 1)]
        for frame in lost:
            frames.send(frame)
        largest = 1500 - o.overhead
        for length in (largest, largest + 1, 1514):
            frames.send(tagged((arp + bytes(1514))[:length], VLAN))
        outer = wire.receive()
        assert outer is not None
        assert unwrap(outer.packet)[1] == (arp + bytes(1514))[:largest]
        wire.expect_nothing()
        stats = await dataplane.stats()
        assert stats.drops["gtpuNoTunnel"] == len(lost)
        assert stats.drops["tooBig"] == 2
        [counters] = [c for c in await dataplane.gtpu_counters() if c.local_teid == tunnel(o).local_teid]
        assert (counters.tx_packets, counters.drops) == (1, 2)


@OUTER
async def test_any_frame_is_carried_as_it_is(engine: Engine, wire: Wire, frames: Frames, o: Outer) -> None:
    """What is in a frame is its ends' matter: random types, lengths, bytes."""
    chance = random.Random(1)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        for _ in range(200):
            kind = chance.choice([0x0800, 0x86DD, 0x8100, 0x88A8, chance.randrange(1 << 16)])
            header = bytes.fromhex("0200000000bb0200000000aa") + kind.to_bytes(2, "big")
            frame = header + chance.randbytes(chance.choice([6, 20, 40, 60, 300, 1300]))
            frames.send(tagged(frame, VLAN))
            outer = wire.receive()
            assert outer is not None, frame.hex()
            assert unwrap(outer.packet)[1] == frame
            checksums_hold(outer.packet)
            wire.send(gtp(o, frame))
            assert frames.receive() == (VLAN, frame)
        least = bytes.fromhex("0200000000bb0200000000aa88b50000")
        for length in (0, 1, 13, 16):
            wire.send(gtp(o, least[:length]))
        assert frames.receive() == (VLAN, least)
        wire.send(gtp(o, bytes(1500 - o.overhead)))
        assert frames.receive() is not None
        assert (await dataplane.stats()).drops["gtpuBadPayload"] == 3


@OUTER
async def test_large_frame_of_a_peer_is_cut_before_it_is_taken_out(
    engine: Engine, wire: Wire, frames: Frames, o: Outer
) -> None:
    """More messages in one frame than are handled at once."""
    count = 100
    payloads = [CONTENTS["arp"][:-2] + struct.pack("!H", n) for n in range(count)]
    messages = [bytes(parse(gtp(o, payload))[UDP].payload) for payload in payloads]
    node = engine.namespace
    node.ip("address", "add", o.peer, "dev", "lo", *(["nodad"] if o is O6 else []))
    gateway = "169.254.77.1" if o is O4 else "fe80::77:1"
    node.ip("neighbor", "add", gateway, "lladdr", ENGINE_MAC.hex(":"), "dev", "vpp0")
    node.ip(f"-{o.family}", "route", "add", o.local, "via", gateway, "dev", "vpp0", "onlink", "src", o.peer)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], ethernet(o))) == []
        with node.socket(socket.AF_INET if o is O4 else socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(messages[0]))
            sender.bind((o.peer, PORT))
            sender.sendto(b"".join(messages), (o.local, PORT))
        assert [frames.receive() for _ in range(count)] == [(VLAN, payload) for payload in payloads]
        assert (await dataplane.stats()).counters["gtpuSegmented"] == engine.LARGE_UDP


async def test_without_the_link_packets_go_on(node: Namespace) -> None:
    with embedded_engine(node, capacity=CAPACITY) as engine:
        engine.start()
        wire = Wire(node)
        async with engine.dataplane() as dataplane:
            assert await dataplane.apply(difference([], ethernet(O4))) == []
            wire.send(gtp(O4, CONTENTS["arp"]))
            wire.expect_nothing()
            assert (await dataplane.stats()).counters["linkTxDown"] == 1
        wire.close()
