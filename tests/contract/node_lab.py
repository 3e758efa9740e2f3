"""A node, two of its pods and the outside, as network namespaces; and a small stand-in for the engine on
vpp1.

The stand-in translates addresses with a dictionary. It proves which packets reach vpp1 and what becomes of
those that leave it; it is no test of the packet kernels.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from vpp_operator.node import NodeNetwork, NodePort, NodeSpec, Target

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
OUTSIDE = {4: "192.0.2.100", 6: "2001:db8::100"}
PODS = {1: {4: "10.244.1.11", 6: "fd00:244:1::11"}, 2: {4: "10.244.1.12", 6: "fd00:244:1::12"}}
REMOTE_POD = {4: "10.244.2.21", 6: "fd00:244:2::21"}
POD_GATEWAY = {4: "10.244.1.1", 6: "fd00:244:1::1"}
VIP = {4: "10.96.0.10", 6: "fd00:96::10"}
EXTERNAL = {4: "203.0.113.9", 6: "2001:db8:9::9"}
NODE_PORT = 30080


def inside(namespace: str, call: Callable[[], T]) -> T:
    """Run a call in a network namespace, in a thread of its own; sockets made there stay in it."""
    result: list[T] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            with open(f"/run/netns/{namespace}") as handle:
                if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {namespace}")
            result.append(call())
        except BaseException as exc:
            error.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if error:
        raise error[0]
    return result[0]


def sh(namespace: str, command: str, check: bool = True) -> str:
    """Run a shell command in a namespace; returns its output."""
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "bash", "-ec", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{namespace}: {command}: {done.stdout}{done.stderr}")
    return done.stdout


Flow = tuple[str, int, str, int, int]  # source, its port, destination, its port, protocol


@dataclass
class Engine:
    """Address translation on vpp1: frontends (address, port) to (endpoint, port)."""

    namespace: str
    frontends: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    pods: tuple[str, ...] = ("10.244.1.0/24", "fd00:244:1::/64")
    seen: list[Packet] = field(default_factory=list)
    _flows: dict[Flow, Flow] = field(default_factory=dict)
    _fragments: dict[tuple[str, str, int], tuple[str, str]] = field(default_factory=dict)
    _next: int = 10000
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        def opened() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            raw.bind(("vpp1", 3))
            raw.settimeout(0.1)
            return raw

        self._socket = inside(self.namespace, opened)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def restart(self) -> None:
        """Open vpp1 anew after it was gone; what was translated before is forgotten."""
        self._stop = threading.Event()
        self._flows.clear()
        self.start()

    def took(self, test: Callable[[Packet], bool]) -> list[Packet]:
        return [p for p in list(self.seen) if test(p)]

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                frame, address = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            except OSError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            kind = int.from_bytes(frame[12:14], "big")
            if kind not in (0x0800, 0x86DD):
                continue
            packet: Packet = (IP if kind == 0x0800 else IPv6)(frame[14:])
            self.seen.append(packet)
            reply = self._translate(packet.copy())
            if reply is not None:
                kind = 0x86DD if isinstance(reply, IPv6) else 0x0800
                head = bytes.fromhex("027670700001027670700002") + kind.to_bytes(2, "big")
                with contextlib.suppress(OSError):
                    self._socket.send(head + bytes(reply))

    def _translate(self, packet: Packet) -> Packet | None:
        if isinstance(packet, IPv6) and packet.dst.startswith("ff"):
            return None
        v6 = isinstance(packet, IPv6)
        if v6:
            packet.hlim -= 1
        else:
            packet.ttl -= 1
            del packet.chksum
        if self._error(packet):
            return packet
        fragment = packet.getlayer(IPv6ExtHdrFragment) if v6 else packet
        offset = (fragment.offset if v6 else packet.frag) if fragment is not None else 0
        ident = (packet.src, packet.dst, fragment.id if fragment is not None else 0)
        if offset:
            if ident in self._fragments:
                packet.src, packet.dst = self._fragments[ident]
            return packet
        return self._first(packet, ident)

    def _first(self, packet: Packet, ident: tuple[str, str, int]) -> Packet:
        flow = _flow(packet)
        if flow is None:
            return packet
        partial = bool(packet.flags.MF if isinstance(packet, IP) else packet.haslayer(IPv6ExtHdrFragment))
        layer = packet.getlayer(TCP) or packet.getlayer(UDP)
        if not partial:
            # Without the virtio-net header nobody says whether the checksum is complete.
            del layer.chksum
        to = self._flows.get(flow) or self._new(flow)
        if to is None:
            return packet
        partial = (
            packet.flags.MF if isinstance(packet, IP) else packet.haslayer(IPv6ExtHdrFragment)
        ) and True
        layer = packet.getlayer(TCP) or packet.getlayer(UDP)
        before = _pseudo(flow)
        packet.src, layer.sport, packet.dst, layer.dport, _ = to
        self._fragments[ident] = (packet.src, packet.dst)
        if partial:
            # The rest of the datagram is not here: adjust (RFC 1624).
            layer.chksum = _adjust(layer.chksum, before, _pseudo(to))
        return packet

    def _new(self, flow: Flow) -> Flow | None:
        source, sport, destination, dport, protocol = flow
        endpoint = self.frontends.get((destination, dport))
        if endpoint is None:
            return None
        if any(ipaddress.ip_address(source) in ipaddress.ip_network(n) for n in self.pods):
            to = (source, sport, *endpoint, protocol)
        else:
            own = NODE[ipaddress.ip_address(source).version]
            to = (own, self._next, *endpoint, protocol)
            self._next += 1
        self._flows[flow] = to
        self._flows[(to[2], to[3], to[0], to[1], protocol)] = (destination, dport, source, sport, protocol)
        return to

    def _error(self, packet: Packet) -> bool:
        """Translate the packet that an ICMP error is about back to what the sender of it sent."""
        error = packet.getlayer(ICMP) or next(
            (
                packet.getlayer(e)
                for e in (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded)
                if packet.haslayer(e)
            ),
            None,
        )
        if error is None or (isinstance(error, ICMP) and error.type not in (3, 11, 12)):
            return False
        raw = bytes(error.payload)
        inner: Packet = (IPv6 if isinstance(packet, IPv6) else IP)(raw)
        about = _flow(inner)
        if about is None:
            return False
        sent = next((f for f, to in self._flows.items() if to == about), None)
        if sent is None:
            return False
        layer = inner.getlayer(1)
        inner.src, layer.sport, inner.dst, layer.dport, _ = sent
        if isinstance(inner, IP):
            del inner.chksum
        packet.dst = sent[0]
        error.remove_payload()
        error.add_payload(Raw(bytes(inner)))
        if isinstance(error, ICMP):
            del error.chksum
        else:
            del error.cksum
        return True


def _flow(packet: Packet) -> Flow | None:
    for layer in (TCP, UDP, "TCPerror", "UDPerror"):
        if packet.haslayer(layer):
            found = packet[layer]
            return (packet.src, found.sport, packet.dst, found.dport, 6 if "TCP" in found.name else 17)
    return None


def _pseudo(flow: Flow) -> bytes:
    source, sport, destination, dport, _ = flow
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return packed + sport.to_bytes(2, "big") + dport.to_bytes(2, "big")


def _adjust(checksum: int, before: bytes, after: bytes) -> int:
    total = ~checksum & 0xFFFF
    for old, new in zip(_words(before), _words(after), strict=True):
        total += (~old & 0xFFFF) + new
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _words(data: bytes) -> Iterator[int]:
    return (int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))


class Lab:
    """The namespaces: ``node``, ``pod1`` and ``pod2`` on it (routed veths), and ``out`` (a client and a pod
    elsewhere)."""

    def __init__(self, prefix: str, journal: Path) -> None:
        self.names = {n: f"{prefix}{n}" for n in ("node", "pod1", "pod2", "out")}
        self.journal = journal
        self.engine = Engine(self.names["node"])

    def __enter__(self) -> Lab:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "add", name], check=True)
            no_dad = "net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
            sh(name, f"ip link set lo up; sysctl -qw {no_dad}")
        node, out = self.names["node"], self.names["out"]
        sh(node, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        sh(node, "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1")
        sh(node, f"ip link add eth0 type veth peer name eth0 netns {out}; ip link set eth0 up")
        for ns, own in ((node, NODE), (out, OUTSIDE)):
            sh(ns, f"ip link set eth0 up; ip addr add {own[4]}/24 dev eth0")
            sh(ns, f"ip addr add {own[6]}/64 dev eth0 nodad")
        for family, length, pods in ((4, 32, "10.244.1.0/24"), (6, 128, "fd00:244:1::/64")):
            sh(out, f"ip addr add {REMOTE_POD[family]}/{length} dev lo")
            sh(out, f"ip -{family} route add {pods} via {NODE[family]}")
            sh(out, f"ip -{family} route add {EXTERNAL[family]} via {NODE[family]}")
            sh(node, f"ip -{family} route add default via {OUTSIDE[family]}")
        for number, addresses in PODS.items():
            self._pod(number, addresses)
        return self

    def _pod(self, number: int, addresses: dict[int, str]) -> None:
        """Attach a pod as the CNI plugins ptp and kindnet's do: a veth, a host route, the gateway on the
        node's side."""
        node, pod = self.names["node"], self.names[f"pod{number}"]
        sh(node, f"ip link add pod{number} type veth peer name eth0 netns {pod}; ip link set pod{number} up")
        sh(pod, "ip link set eth0 up")
        for family, length in ((4, 32), (6, 128)):
            gateway, own = POD_GATEWAY[family], addresses[family]
            nodad = "nodad" if family == 6 else ""
            sh(node, f"ip addr add {gateway}/{length} dev pod{number} {nodad}")
            sh(node, f"ip -{family} route add {own} dev pod{number}")
            sh(pod, f"ip addr add {own}/{length} dev eth0 {nodad}")
            sh(pod, f"ip -{family} route add {gateway} dev eth0")
            sh(pod, f"ip -{family} route add default via {gateway}")

    def masquerade(self) -> None:
        """What a CNI and a hardened node add: masquerading of what leaves the pod range, FORWARD dropping the
        rest."""
        for tool, pods, own in (
            ("iptables", "10.244.0.0/16", "10.244.1.0/24"),
            ("ip6tables", "fd00:244::/32", "fd00:244:1::/64"),
        ):
            sh(
                self.names["node"],
                f"""
                {tool} -t nat -A POSTROUTING -s {own} ! -d {own} -j MASQUERADE --random-fully
                {tool} -P FORWARD DROP
                {tool} -A FORWARD -m conntrack --ctstate INVALID -j DROP
                {tool} -A FORWARD -s {pods} -d {pods} -j ACCEPT
            """,
            )

    def spec(self, **changes: Any) -> NodeSpec:
        endpoints = {
            Target.of(address[family], protocol, 8080)
            for address in (PODS[2], REMOTE_POD, NODE)
            for family in (4, 6)
            for protocol in (6, 17)
        }
        values: dict[str, Any] = {
            "addresses": tuple(ipaddress.ip_address(a) for a in NODE.values()),
            "service_cidrs": frozenset(ipaddress.ip_network(n) for n in ("10.96.0.0/16", "fd00:96::/112")),
            "pod_cidrs": frozenset(ipaddress.ip_network(n) for n in ("10.244.1.0/24", "fd00:244:1::/64")),
            "node_ports": frozenset(NodePort(p, NODE_PORT) for p in (6, 17)),
            "external": frozenset(Target.of(EXTERNAL[f], p, 443) for f in (4, 6) for p in (6, 17)),
            "endpoints": frozenset(endpoints),
        }
        return NodeSpec(**(values | changes))

    def network(self) -> NodeNetwork:
        return NodeNetwork(self.journal)

    def apply(self, spec: NodeSpec | None = None, verify: bool = False) -> tuple[str, ...]:
        network = getattr(self, "_network", None) or self.network()
        self._network = network
        return inside(self.names["node"], lambda: network.apply(spec or self.spec(), verify=verify)).steps

    def undo(self) -> tuple[str, ...]:
        return inside(self.names["node"], lambda: self.network().undo()).steps

    def __exit__(self, *exc: object) -> None:
        if hasattr(self.engine, "_thread"):
            self.engine.stop()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)


class EchoServer:
    """TCP and UDP on one port, in a namespace: answers with the client and what it sent."""

    def __init__(self, namespace: str, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def opened() -> tuple[socket.socket, socket.socket]:
            tcp = socket.socket(family, socket.SOCK_STREAM)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp = socket.socket(family, socket.SOCK_DGRAM)
            for s in (tcp, udp):
                s.bind((address, port))
                s.settimeout(0.1)
            tcp.listen(16)
            return tcp, udp

        self._tcp, self._udp = inside(namespace, opened)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._accept, self._datagrams)]
        for thread in self._threads:
            thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                connection, peer = self._tcp.accept()
                threading.Thread(target=self._serve, args=(connection, peer[0]), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(30)
            head = f"{peer} ".encode()
            while data := connection.recv(65536):
                connection.sendall(head + data)
                if len(data) > 1000:
                    head = b""  # the rest of a long message

    def _datagrams(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                data, peer = self._udp.recvfrom(65536)
                self._udp.sendto(f"{peer[0]} ".encode() + data, peer)

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()


def client(namespace: str, address: str, kind: int, source: str = "", timeout: float = 3) -> socket.socket:
    """Return a socket of a namespace; ``source`` binds it."""

    def opened() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.settimeout(timeout)
        if source:
            made.bind((source, 0))
        return made

    return inside(namespace, opened)


def ask(
    namespace: str, address: str, port: int, protocol: str = "tcp", payload: bytes = b"x", source: str = ""
) -> str:
    """Send a payload and return the client address that the server saw; the echo is compared."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with client(namespace, address, kind, source) as s:
        s.connect((address, port))
        s.sendall(payload)
        answer = b""
        while b" " not in answer or len(answer.split(b" ", 1)[1]) < len(payload):
            part = s.recv(65536)
            if not part:
                break
            answer += part
        peer, _, data = answer.partition(b" ")
        assert data == payload, f"{len(data)} bytes came back of {len(payload)}"
        return peer.decode()


def unique_prefix() -> str:
    """Return a prefix for namespaces that no other run uses."""
    return f"vppn{os.getpid()}-"
