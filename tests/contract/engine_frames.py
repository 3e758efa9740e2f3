"""The link for frames of GTP-U tunnels that carry Ethernet: its host end, and records of such tunnels."""

from __future__ import annotations

import socket
import struct
import time

from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from tests.contract.engine_gtpu import Outer, endpoint, peer, pools, tunnel, ue
from tests.contract.engine_lab import PACKET_IGNORE_OUTGOING, SOL_PACKET, Namespace
from tests.contract.engine_packets import packet

from vpp_operator.dataplane.records import GtpuPayload, Protocol, Record

VLAN, OTHER_VLAN = 100, 4094
HERE, THERE = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
PACKET_AUXDATA = 8


def add_frame_link(node: Namespace, mtu: int = 1500) -> None:
    """Make the pair vppe0 (the host's end), vppe1 (the engine's) as the agent does."""
    node.ip("link", "add", "vppe0", "mtu", str(mtu), "type", "veth", "peer", "name", "vppe1", "mtu", str(mtu))
    for name in ("vppe0", "vppe1"):
        node.ip("link", "set", name, "addrgenmode", "none")
        node.ip("link", "set", name, "up")


class Frames:
    """The host's end of the link for frames."""

    def __init__(self, namespace: Namespace) -> None:
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        namespace.call(lambda: self.socket.bind(("vppe0", 3)))

    def send(self, frame: bytes) -> None:
        """Send a frame as it is."""
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


def ethernet(o: Outer) -> list[Record]:
    """Return two tunnels that carry Ethernet: VLAN, and OTHER_VLAN with local TEID 7, remote TEID 77."""
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
    """Return the frame with an 802.1Q tag."""
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]
