"""GTP-U tunnels that carry Ethernet: frames of a VLAN on a second link, byte by byte."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from tests.contract.engine_gtpu import (
    CAPACITY,
    O4,
    O6,
    PORT,
    REMOTE_TEID,
    Outer,
    checksums_hold,
    endpoint,
    gtp,
    peer,
    pools,
    tunnel,
    ue,
    unwrap,
)
from tests.contract.engine_lab import (
    ENGINE_MAC,
    GSO_UDP_L4,
    NEEDS_CSUM,
    PACKET_IGNORE_OUTGOING,
    PACKET_VNET_HDR,
    SOL_PACKET,
    Namespace,
    Offload,
    Wire,
)
from tests.contract.engine_packets import UDP, packet, parse
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import GtpuPayload, Protocol, Record

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
VLAN, OTHER_VLAN = 100, 4094
HERE, THERE = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
PACKET_AUXDATA = 8
UDP_SEGMENT = 103


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    """An engine with both links: vpp0/vpp1 for packets, vppe0/vppe1 for frames."""
    node.ip("link", "add", "vppe0", "type", "veth", "peer", "name", "vppe1")
    for name in ("vppe0", "vppe1"):
        node.ip("link", "set", name, "addrgenmode", "none")
        node.ip("link", "set", name, "up")
    with engine_named(request.param, node, CAPACITY) as process:
        process.launch()
        process.wait_for_links(["vpp1", "vppe1"])
        yield process


class Frames:
    """The host's end of the link for frames."""

    def __init__(self, namespace: Namespace) -> None:
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        namespace.call(lambda: self.socket.bind(("vppe0", 3)))

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def receive(self, timeout: float = 2.0) -> tuple[int, bytes] | None:
        """VLAN and frame without its tag; the kernel takes the tag off and tells it beside."""
        self.socket.settimeout(timeout)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                frame, ancillary, _, _ = self.socket.recvmsg(70000, 256)
            except TimeoutError:
                return None
            for level, kind, data in ancillary:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tci, _ = struct.unpack("<IIIHHHH", data[:20])
                    if status & 0x10:
                        return tci & 0xFFF, frame
        return None


@pytest.fixture
def frames(engine: Engine) -> Iterator[Frames]:
    end = Frames(engine.namespace)
    yield end
    end.socket.close()


def ethernet(o: Outer) -> list[Record]:
    return [
        *pools(),
        endpoint(o),
        peer(o),
        tunnel(o, payload=GtpuPayload.ETHERNET),
        ue(o, VLAN),
        tunnel(o, local_teid=7, remote_teid=77, payload=GtpuPayload.ETHERNET),
        ue(o, OTHER_VLAN, 7),
    ]


CONTENTS = {
    "ipv4": bytes(Ether(src=HERE, dst=THERE, type=0x0800))
    + packet(Protocol.UDP, ("10.0.0.1", 1), ("10.0.0.2", 2)),
    "ipv6": bytes(Ether(src=HERE, dst=THERE, type=0x86DD))
    + packet(Protocol.TCP, ("fd00::1", 1), ("fd00::2", 2)),
    "arp": bytes(Ether(src=HERE, dst="ff:ff:ff:ff:ff:ff", type=0x0806) / Raw(bytes(range(28)))),
    "double-tagged": bytes(Ether(src=HERE, dst=THERE) / Dot1Q(vlan=5) / Raw(b"inner tag stays" * 4)),
}


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]


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
