"""The node lab with a gNB on the uplink and a data network beyond a second one; and GTP-U in the stand-in
engine.

The stand-in takes every tunnel to be {TEID = UE's number}: it proves what reaches vpp1 and what becomes of
what leaves it, and is no test of the GTP-U kernels.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.packet import Packet, Raw
from tests.contract.node_lab import NODE, OUTSIDE, Engine, Lab, client, inside, sh

from vpp_operator.node import GtpuSteer, NodeSpec

GNB = OUTSIDE
OWN = {4: "192.0.2.50", 6: "2001:db8::50"}
"""GTP-U addresses of their own on the uplink's network."""
DATA = {4: "198.51.100.80", 6: "2001:db8:80::80"}
_DATA_NODE = {4: "198.51.100.1", 6: "2001:db8:80::1"}
POOLS = {4: "10.45.0.0/16", 6: "2001:db8:45::/48"}
UE = {4: "10.45.0.7", 6: "2001:db8:45:7::1"}
TEID = 0x01020304
PORT = 2152


def gpdu(inner: bytes, teid: int = TEID) -> bytes:
    """Return a G-PDU (TS 29.281, 5.1): version 1, protocol type GTP, no options."""
    return struct.pack(">BBHI", 0x30, 255, len(inner), teid) + inner


def packet_of(raw: bytes) -> Packet:
    """Read an IP packet of either family."""
    made: Packet = (IP if raw[0] >> 4 == 4 else IPv6)(raw)
    return made


@dataclass
class GtpuEngine(Engine):
    """Takes G-PDUs apart and puts what is for the pools into G-PDUs to the peer that spoke last."""

    local: tuple[str, ...] = ()
    peer: tuple[str, str] = ("", "")
    """The engine's address and the peer's."""
    _parts: dict[tuple[str, str, int], list[Packet]] = field(default_factory=dict)

    def _translate(self, packet: Packet) -> Packet | None:
        if (whole := self._reassembled(packet)) is None:
            return None
        packet = whole
        if packet.dst in self.local and UDP in packet and packet[UDP].dport == PORT:
            self.peer = (packet.dst, packet.src)
            return packet_of(bytes(packet[UDP].payload)[8:])
        pools = [ipaddress.ip_network(p) for p in POOLS.values()]
        to = ipaddress.ip_address(packet.dst)
        if not any(to in pool for pool in pools):
            return super()._translate(packet) if UDP in packet or TCP in packet else None
        if not self.peer[0]:
            return None
        source, destination = self.peer
        outer = IPv6(src=source, dst=destination) if ":" in source else IP(src=source, dst=destination, id=7)
        made: Packet = outer / UDP(sport=50000, dport=PORT) / Raw(gpdu(bytes(packet)))
        return packet_of(bytes(made))

    def _reassembled(self, packet: Packet) -> Packet | None:
        """Return a whole packet, None while fragments are missing."""
        if isinstance(packet, IP):
            if not (packet.flags.MF or packet.frag):
                return packet
            parts = self._parts.setdefault((packet.src, packet.dst, packet.id), [])
            parts.append(packet)
            last = [p for p in parts if not p.flags.MF]
            size = last[0].frag * 8 + len(last[0].payload) if last else -1
            if sum(len(p.payload) for p in parts) != size:
                return None
            return IP(bytes(defragment(parts)[0]))
        header = packet.getlayer(IPv6ExtHdrFragment)
        if header is None:
            return packet
        parts = self._parts.setdefault((packet.src, packet.dst, header.id), [])
        parts.append(packet)
        last = [p for p in parts if not p[IPv6ExtHdrFragment].m]
        ends = [p[IPv6ExtHdrFragment].offset * 8 + len(bytes(p[IPv6ExtHdrFragment].payload)) for p in last]
        if not ends or sum(len(bytes(p[IPv6ExtHdrFragment].payload)) for p in parts) != ends[0]:
            return None
        return IPv6(bytes(defragment6(parts)))


class GtpuLab(Lab):
    """A :class:`Lab` with a namespace ``data`` on an uplink of its own; ``out`` is the gNB too."""

    def __init__(self, prefix: str, journal: Path) -> None:
        super().__init__(prefix, journal)
        self.names["data"] = f"{prefix}data"
        self.gtpu = GtpuEngine(self.names["node"], local=(*NODE.values(), *OWN.values()))
        self.engine = self.gtpu

    def __enter__(self) -> GtpuLab:
        super().__enter__()
        node, data = self.names["node"], self.names["data"]
        sh(node, f"ip link add n6 type veth peer name eth0 netns {data}; ip link set n6 up")
        sh(data, "ip link set eth0 up")
        for family, length in ((4, 24), (6, 64)):
            nodad = "nodad" if family == 6 else ""
            sh(node, f"ip addr add {_DATA_NODE[family]}/{length} dev n6 {nodad}")
            sh(data, f"ip addr add {DATA[family]}/{length} dev eth0 {nodad}")
            sh(data, f"ip -{family} route add default via {_DATA_NODE[family]}")
            sh(self.names["out"], f"ip -{family} route add {DATA[family]} via {NODE[family]}")
        # What host-settings does on a node.
        sh(node, "sysctl -qw net.ipv6.conf.all.proxy_ndp=1")
        return self

    def apply(self, spec: NodeSpec | None = None, verify: bool = False) -> tuple[str, ...]:
        """Apply, ask the neighbours for new addresses, and apply what they let this node have."""
        steps = super().apply(spec, verify)
        while inside(self.names["node"], lambda: self._network.apply(spec or self.spec())).ask_in == 0:
            inside(self.names["node"], self._network.ask)
            steps += super().apply(spec)
        return steps

    def spec(self, **changes: Any) -> NodeSpec:
        values: dict[str, Any] = {
            "gtpu": (
                *(GtpuSteer(ipaddress.ip_address(a)) for a in NODE.values()),
                *(GtpuSteer(ipaddress.ip_address(a), own=True) for a in OWN.values()),
            ),
            "ue_pools": tuple(ipaddress.ip_network(p) for p in POOLS.values()),
            "frames": True,
        }
        return super().spec(**(values | changes))


class Gnb:
    """A gNB's socket: sends inner packets to a GTP-U address and waits for those that come back."""

    def __init__(self, namespace: str, source: str, to: str) -> None:
        self.to = to
        self.socket = client(namespace, source, socket.SOCK_DGRAM)
        self.socket.bind((source, PORT))

    def send(self, inner: Packet, teid: int = TEID) -> None:
        self.socket.sendto(gpdu(bytes(inner), teid), (self.to, PORT))

    def receive(self) -> Packet:
        """Return the next inner packet; the outer one came from the GTP-U address."""
        data, peer = self.socket.recvfrom(65535)
        assert peer[0] == self.to, peer
        assert data[:2] == b"\x30\xff", data[:8].hex()
        return packet_of(data[8:])

    def __enter__(self) -> Gnb:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


def ue_datagram(family: int, to: str, port: int, payload: bytes, sport: int = 5000, ue: str = "") -> Packet:
    """Return what a UE sends; ``ue``: another one than :data:`UE`."""
    source = ue or UE[family]
    ip = IP(src=source, dst=to, id=1) if family == 4 else IPv6(src=source, dst=to)
    return packet_of(bytes(ip / UDP(sport=sport, dport=port) / Raw(payload)))


def neighbour(namespace: str, address: str, interface: str = "eth0") -> str:
    """Return the link-layer address that a namespace has for a neighbour; empty for none."""
    family = 6 if ":" in address else 4
    words = sh(namespace, f"ip -{family} neigh show {address} dev {interface}").split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def mac_of(namespace: str, interface: str = "eth0") -> str:
    """Return an interface's MAC address."""
    return sh(namespace, f"ip -br link show {interface}").split()[2]


class UserEquipment:
    """A UE with a real TCP/IP stack: a namespace whose packets a gNB's process carries through a tunnel."""

    def __init__(self, lab: GtpuLab, gnb: Gnb, teid: int, addresses: dict[int, str]) -> None:
        self.name = f"{lab.names['out']}-ue"
        self._gnb, self._teid, self._out = gnb, teid, lab.names["out"]
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            self._connect(self._out, addresses)
        except BaseException:
            subprocess.run(["ip", "netns", "del", self.name], check=False)
            raise
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._up, self._down)]
        for thread in self._threads:
            thread.start()

    def _connect(self, out: str, addresses: dict[int, str]) -> None:
        # Checksums and segments are made in the UE, before the radio.
        sh(out, f"ip link add ue0 type veth peer name eth0 netns {self.name}; ip link set ue0 up")
        sh(self.name, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
        sh(self.name, "ethtool -K eth0 tx off tso off gso off gro off >/dev/null; ip link set eth0 up")
        for family, address in addresses.items():
            length, gateway = ("32", "169.254.1.1") if family == 4 else ("128 nodad", "fe80::1")
            sh(self.name, f"ip addr add dev eth0 {address}/{length}")
            sh(self.name, f"ip -{family} neigh add {gateway} lladdr 02:00:00:00:00:01 dev eth0")
            onlink = "onlink" if family == 4 else ""
            sh(self.name, f"ip -{family} route add default via {gateway} dev eth0 {onlink} src {address}")
        self._mac = bytes.fromhex(mac_of(self.name).replace(":", ""))

        def opened() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind(("ue0", 3))
            return raw

        self._radio = inside(out, opened)
        self._radio.settimeout(0.1)
        self._gnb.socket.settimeout(0.1)

    def _up(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                frame, address = self._radio.recvfrom(65535)
                if address[2] == socket.PACKET_OUTGOING or frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
                    continue
                if frame[12:14] == b"\x86\xdd" and frame[38] in (0xFE, 0xFF):
                    continue  # to a link-local address or a group
                self._gnb.socket.sendto(gpdu(frame[14:], self._teid), (self._gnb.to, PORT))

    def _down(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data, _ = self._gnb.socket.recvfrom(65535)
                kind = b"\x08\x00" if data[8] >> 4 == 4 else b"\x86\xdd"
                self._radio.send(self._mac + b"\2\0\0\0\0\1" + kind + data[8:])

    def __enter__(self) -> UserEquipment:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._radio.close()
        # A namespace goes later than its name: the link must not wait for it.
        sh(self._out, "ip link del ue0", check=False)
        subprocess.run(["ip", "netns", "del", self.name], check=False)
