"""Frames of Ethernet tunnels through VPP: by which nodes, what is shown of them, in chains of buffers, as the
link comes and goes."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.l2 import Ether
from tests.contract.conftest import needs_root
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
from tests.contract.engine_gtpu import CAPACITY, O4, O6, REMOTE_TEID, Outer, checksums_hold, gtp, unwrap
from tests.contract.engine_lab import (
    GSO_TCP4,
    NEEDS_CSUM,
    PACKET_VNET_HDR,
    SOL_PACKET,
    Offload,
    Wire,
    add_host_link,
    namespaces,
)
from tests.contract.engine_packets import TCP, packet, parse
from tests.contract.engine_services import difference
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix
from tests.contract.vpp_gtpu import ALL, FIB, setting

from vpp_operator.dataplane.records import GtpuSwitch, Protocol, Record

pytestmark = pytest.mark.skipif(vpp_prefix() is None, reason=NO_VPP)

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
SMALL_BUFFERS = ("buffers { default data-size 512 }",)
"""The smallest that af_packet takes: of smaller ones it never has enough for its largest frame."""
MTU = 1500


@dataclass
class Lab:
    """A VPP with both links, and their host ends."""

    engine: VppEngine
    wire: Wire
    frames: Frames

    async def programme(self, new: list[Record], old: list[Record] | None = None) -> None:
        """Make the tables hold ``new`` instead of ``old``."""
        async with self.engine.dataplane() as dataplane:
            assert await dataplane.apply(difference(old or [], new)) == []

    async def counted(self) -> dict[str, int]:
        """Return counters and drops by name."""
        async with self.engine.dataplane() as dataplane:
            stats = await dataplane.stats()
            return {**stats.counters, **stats.drops}

    def into(self, frame: bytes, vlan: int = VLAN) -> bytes:
        """Send a frame; return the outer packet that came of it."""
        self.frames.send(tagged(frame, vlan))
        outer = self.wire.receive()
        assert outer is not None
        return outer.packet

    def nodes(self) -> set[str]:
        """Return the nodes that have carried packets since `clear runtime`."""
        rows = (line.split() for line in self.engine.cli("show runtime").splitlines())
        return {row[0] for row in rows if len(row) >= 6 and row[-4].isdigit() and int(row[-4])}


@contextlib.contextmanager
def lab(options: tuple[str, ...] = (), mtu: int = MTU) -> Iterator[Lab]:
    needs_root()
    with namespaces("vpp") as [node]:
        add_host_link(node, mtu)
        add_frame_link(node, mtu)
        with vpp_engine(node, capacity=CAPACITY) as engine:
            engine.options = options
            engine.launch()
            engine.wait_for_links(["vpp1", "vppe1"])
            found = Lab(engine, Wire(node), Frames(node))
            yield found
            found.wire.close()
            found.frames.socket.close()


@pytest.mark.parametrize("form", [ALL & ~GtpuSwitch.BYPASS, ALL, ALL | FIB], ids=["udp", "feature", "fib"])
@pytest.mark.parametrize("loop", [1, 2, 4])
async def test_switches_change_the_way_and_not_the_bytes(form: GtpuSwitch, loop: int) -> None:
    with lab() as vpp:
        records = ethernet(O4)
        await vpp.programme(records)
        for bits in (form, form & ~GtpuSwitch.SKIP_OUTER_LOOKUP, form & (GtpuSwitch.BYPASS | FIB)):
            await vpp.programme([setting(bits, loop)])
            before = await vpp.counted()
            vpp.engine.cli("clear runtime")
            for frame in CONTENTS.values():
                fields, payload = unwrap(vpp.into(frame))
                assert (fields["teid"], payload) == (REMOTE_TEID, frame)
            skips = bool(bits & GtpuSwitch.SKIP_OUTER_LOOKUP)
            seen = vpp.nodes()
            assert "kgtpu-frame-input" in seen
            assert ("ip4-lookup" in seen) is not skips, seen
            assert not seen & {"ethernet-input", "l2-input", "kgtpu4-encap"}, seen
            for frame in CONTENTS.values():
                vpp.wire.send(gtp(O4, frame))
                assert vpp.frames.receive() == (VLAN, frame)
            after = await vpp.counted()
            grown = {name: n - before.get(name, 0) for name, n in after.items()}
            assert grown["gtpuOuterLookupSkipped"] == (len(CONTENTS) if skips else 0)
            assert grown["gtpuEncapsulated"] == grown["gtpuDecapsulated"] == len(CONTENTS)
            assert grown["gtpuBypassed"] == (len(CONTENTS) if bits & GtpuSwitch.BYPASS else 0)
            assert grown["gtpuInnerInputSkipped"] == 0, "there is no IP input to skip"
            both_ways = 2 * len(CONTENTS)
            assert grown["gtpuPrefetched"] == (both_ways if bits & GtpuSwitch.PREFETCH else 0)
            if bits & GtpuSwitch.LOOKUP_CACHE:
                assert len(CONTENTS) - 1 <= grown["gtpuCacheHits"] <= both_ways
            else:
                assert grown["gtpuCacheHits"] == 0


@OUTER
async def test_frames_in_chains_of_small_buffers(o: Outer) -> None:
    with lab(SMALL_BUFFERS) as vpp:
        await vpp.programme(ethernet(o))
        for length in (60, *range(504, 516), *range(1016, 1028), 1300, MTU - o.overhead):
            frame = (CONTENTS["arp"] + bytes(n % 251 for n in range(MTU)))[:length]
            outer = vpp.into(frame)
            assert unwrap(outer)[1] == frame, length
            checksums_hold(outer)
            vpp.wire.send(gtp(o, frame))
            assert vpp.frames.receive() == (VLAN, frame), length


@OUTER
@pytest.mark.parametrize("size", [1000, 1780, 1800, 8000])
async def test_pieces_of_large_frames_that_need_several_buffers(o: Outer, size: int) -> None:
    with lab(mtu=9000) as vpp:
        await vpp.programme(ethernet(o))
        content = b"".join(struct.pack("!H", n) for n in range(20_000))
        frame = bytearray(bytes(Ether(src=HERE, dst=THERE, type=0x0800)))
        frame += packet(Protocol.TCP, ("10.9.0.1", 9), ("10.9.0.2", 9), content, flags="A")
        pseudo = struct.unpack("!6H", frame[26:34] + struct.pack("!HH", 6, len(frame) - 34))
        frame[50:52] = (sum(pseudo) % 0xFFFF).to_bytes(2, "big")
        vpp.frames.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        offload = Offload(NEEDS_CSUM, GSO_TCP4, 58, size, 38, 16)
        for _ in range(3):
            vpp.frames.send(offload.pack() + tagged(bytes(frame), VLAN))
            for at in range(0, len(content), size):
                outer = vpp.wire.receive()
                assert outer is not None, at
                checksums_hold(outer.packet)
                inner = parse(unwrap(outer.packet)[1][14:])
                assert bytes(inner[TCP].payload) == content[at : at + size]
        assert (await vpp.counted())["gtpuSegmented"] == 3


async def test_what_is_shown_of_frames() -> None:
    with lab() as vpp:
        await vpp.programme(ethernet(O4))
        said = vpp.engine.cli("show kgtpu frames")
        assert "host-vppe1: frames of VLAN n go into the tunnel of VLAN n" in said
        assert f"at most {MTU} bytes" in said
        assert re.search(r"host-vppe1, frames of Ethernet tunnels", vpp.engine.cli("show khost"))
        assert "Ethernet" in vpp.engine.cli("show kgtpu tunnels")

        vpp.engine.cli("trace add af-packet-input 10")
        frame = CONTENTS["arp"]
        vpp.into(frame)
        vpp.frames.send(tagged(frame, 5))
        vpp.wire.send(gtp(O4, frame))
        assert vpp.frames.receive() == (VLAN, frame)
        said = vpp.engine.cli("show trace")
        assert f"02:00:00:00:00:aa -> ff:ff:ff:ff:ff:ff type 0x0806 VLAN {VLAN}, {len(frame)} bytes" in said
        assert "forward to peer 0 by its adjacency" in said
        assert "drop: gtpuNoTunnel" in said
        assert f"forward as a frame of VLAN {VLAN}" in said
        assert re.search(r"1 +kgtpu-frame-input +user's address or VLAN", vpp.engine.cli("show errors"))


@OUTER
async def test_the_link_comes_and_goes(o: Outer) -> None:
    with lab() as vpp:
        node = vpp.engine.namespace
        await vpp.programme(ethernet(o))
        frame = CONTENTS["ipv4"]
        assert unwrap(vpp.into(frame, OTHER_VLAN))[0]["teid"] == 77
        vpp.frames.socket.close()
        node.ip("link", "delete", "vppe0")
        vpp.engine.wait_for_links(["vpp1"])
        assert "no link for frames" in vpp.engine.cli("show kgtpu frames")
        vpp.wire.send(gtp(o, frame))
        vpp.wire.expect_nothing()
        assert (await vpp.counted())["unresolved"] == 1
        add_frame_link(node, 1400)
        vpp.engine.wait_for_links(["vpp1", "vppe1"])
        vpp.frames = Frames(node)
        assert unwrap(vpp.into(frame))[1] == frame
        vpp.wire.send(gtp(o, bytes(1415)))
        vpp.wire.send(gtp(o, (frame + bytes(1414))[:1414]))
        assert vpp.frames.receive() == (VLAN, (frame + bytes(1414))[:1414])
        assert (await vpp.counted())["tooBig"] == 1
