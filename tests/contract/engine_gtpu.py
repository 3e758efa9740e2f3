"""GTP-U as records and packets, for the engine's contract tests: the agent's part, and the peers'."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.packet import Packet, Raw
from tests.contract.engine_lab import ENGINE_MAC, Frame, Namespace, Wire, add_host_link, namespaces
from tests.contract.engine_packets import IP, UDP, IPv6, network, parse
from tests.contract.engine_process import SMALL
from tests.contract.engine_services import settings

from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuPsc,
    GtpuSwitch,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Record,
    UePrefixRecord,
    gtpu_endpoint_id,
    gtpu_switches,
)

PORT = 2152
PORTS = (50000, 50999)
"""Source ports of tunnels with entropy."""
CAPACITY = {**SMALL, "tunnels": 64, "ues": 128, "gtpu-endpoints": 4, "gtpu-peers": 16}
MANY = 1 << 20
"""TEIDs below are in the endpoint's declared range, others are not."""

G_PDU, ECHO_REQUEST, ECHO_RESPONSE, ERROR_INDICATION, END_MARKER = 255, 1, 2, 26, 254
NOTIFICATION = 31


@dataclass(frozen=True)
class Outer:
    """A local GTP-U address, its peers, and what an outer header of the family adds."""

    family: int
    name: str
    local: str
    peer: str
    other_peer: str
    overhead: int
    """Bytes of IP, UDP and the plain GTP-U header."""

    @property
    def id(self) -> int:
        """The endpoint's identity in the records."""
        return gtpu_endpoint_id(self.name)


O4 = Outer(4, "n3", "192.0.2.50", "198.51.100.21", "198.51.100.22", 36)
O6 = Outer(6, "n3-v6", "2001:db8::50", "2001:db8:51::21", "2001:db8:51::22", 56)


@dataclass(frozen=True)
class Inner:
    """A user equipment and whom it talks to."""

    family: int
    pool: str
    prefix: str
    ue: str
    stranger: str
    """In the pool, of no tunnel."""
    host: str
    """In the data network."""


I4 = Inner(4, "10.60.0.0/16", "10.60.0.5/32", "10.60.0.5", "10.60.99.99", "203.0.113.80")
I6 = Inner(6, "fd00:60::/32", "fd00:60:0:5::/64", "fd00:60:0:5::7", "fd00:60:99::1", "2001:db8:113::80")

LOCAL_TEID, REMOTE_TEID, NEW_TEID = 0x101, 0x7F001122, 0x0A0B0C0D


def endpoint(o: Outer, **more: object) -> GtpuEndpointRecord:
    """Return the record of a local address."""
    fields: dict[str, object] = {
        "teid_base": 1,
        "teid_count": MANY - 1,
        "port_low": PORTS[0],
        "port_high": PORTS[1],
    }
    return GtpuEndpointRecord(ipaddress.ip_address(o.local), o.id, **{**fields, **more})  # type: ignore[arg-type]


def peer(o: Outer, address: str = "", **more: object) -> GtpuPeerRecord:
    """Return the record of a peer."""
    return GtpuPeerRecord(o.id, ipaddress.ip_address(address or o.peer), **more)  # type: ignore[arg-type]


def tunnel(o: Outer, **more: object) -> GtpuTunnelRecord:
    """Return the record of the tunnel that most tests use, or of one that differs."""
    fields: dict[str, object] = {
        "local_teid": LOCAL_TEID,
        "remote_teid": REMOTE_TEID,
        "remote": ipaddress.ip_address(o.peer),
    }
    return GtpuTunnelRecord(o.id, **{**fields, **more})  # type: ignore[arg-type]


def ue(o: Outer, prefix: str | int, local_teid: int = LOCAL_TEID) -> UePrefixRecord:
    """Return the record of a prefix behind a tunnel, or of its VLAN."""
    return UePrefixRecord(
        prefix if isinstance(prefix, int) else ipaddress.ip_network(prefix), o.id, local_teid
    )


def pools() -> list[Record]:
    """Settings of a node with user equipment pools."""
    return [
        *settings(),
        *(PrefixRecord(ipaddress.ip_network(i.pool), PrefixClass.UE_POOL) for i in (I4, I6)),
    ]


def gtpu(o: Outer, **more: object) -> list[Record]:
    """Settings, one local address, both peers, one tunnel with a UE of both families."""
    return [
        *pools(),
        endpoint(o),
        peer(o),
        peer(o, o.other_peer),
        tunnel(o, **more),
        ue(o, I4.prefix),
        ue(o, I6.prefix),
    ]


def switches(cache: bool, prefetch: bool, loop: int) -> ConfigRecord:
    """Return the setting of the optimisations."""
    bits = (GtpuSwitch.LOOKUP_CACHE if cache else GtpuSwitch(0)) | (
        GtpuSwitch.PREFETCH if prefetch else GtpuSwitch(0)
    )
    return ConfigRecord(ConfigKey.GTPU_SWITCHES, 0, gtpu_switches(bits, loop))


def gtp(
    o: Outer,
    payload: bytes | Packet,
    *,
    teid: int = LOCAL_TEID,
    kind: int = G_PDU,
    source: str = "",
    sport: int = 40000,
    extensions: Packet | None = None,
    **flags: int,
) -> bytes:
    """Return an outer packet from a peer to the local address."""
    header = GTP_U_Header(teid=teid, gtp_type=kind, **flags)
    layers = network(source or o.peer, o.local) / UDP(sport=sport, dport=PORT) / header
    if extensions is not None:
        layers = layers / extensions
    return bytes(layers / (Raw(payload) if isinstance(payload, bytes) else payload))


def container(direction: GtpuPsc, qfi: int) -> Packet:
    """Return a PDU Session Container, to stand behind a header with E=1 and next_ex=0x85."""
    return GTPPDUSessionContainer(ExtHdrLen=1, type=0 if direction == GtpuPsc.DL else 1, QFI=qfi)


def hop(inner: bytes) -> bytes:
    """Return an inner packet after a router: TTL or hop limit one less, IPv4 header checksum anew."""
    if inner[0] >> 4 == 6:
        return inner[:7] + bytes([inner[7] - 1]) + inner[8:]
    size = (inner[0] & 15) * 4
    header = IP(inner[:size])
    header.ttl -= 1
    del header.chksum
    return bytes(header) + inner[size:]


def encapsulated(
    o: Outer,
    inner: bytes,
    got: bytes,
    *,
    teid: int = REMOTE_TEID,
    to: str = "",
    psc: GtpuPsc = GtpuPsc.NONE,
    qfi: int = 0,
    tos: int = 0,
) -> bytes:
    """Return the outer packet that carries ``inner`` (as it is in the tunnel), by scapy.

    What the specification leaves to the sender is taken from ``got``: the UDP source port, and over IPv6 the
    flow label; the source port must be one of the endpoint's.
    """
    outer = parse(got)
    sport = outer[UDP].sport
    assert PORTS[0] <= sport <= PORTS[1] or sport == PORT, sport
    if o.family == 4:
        ip: Packet = IP(src=o.local, dst=to or o.peer, ttl=64, id=0, flags="DF", tos=tos)
        udp = UDP(sport=sport, dport=PORT, chksum=0)
    else:
        ip = IPv6(src=o.local, dst=to or o.peer, hlim=64, fl=outer.fl, tc=tos)
        udp = UDP(sport=sport, dport=PORT)
    if psc == GtpuPsc.NONE:
        header: Packet = GTP_U_Header(teid=teid, gtp_type=G_PDU)
    else:
        header = GTP_U_Header(teid=teid, gtp_type=G_PDU, E=1, next_ex=0x85) / container(psc, qfi)
    return bytes(ip / udp / header / Raw(inner))


def unwrap(raw: bytes) -> tuple[dict[str, int], bytes]:
    """Decode an outer packet by hand from TS 29.281, 5.1 and 5.2: header fields, and the T-PDU."""
    at = 20 if raw[0] >> 4 == 4 else 40
    assert raw[at + 2 : at + 4] == PORT.to_bytes(2, "big")
    message = raw[at + 8 :]
    flags, kind, length, teid = message[0], message[1], *_two(message)
    assert flags >> 4 == 3, "version 1, protocol type GTP"
    assert length == len(message) - 8
    fields = {"type": kind, "teid": teid, "flags": flags & 7}
    start = 8
    if flags & 7:
        fields["sequence"] = int.from_bytes(message[8:10], "big")
        start, following = 12, message[11]
        while following:
            size = message[start] * 4
            assert size, "length of an extension header"
            if following == 0x85:
                fields["psc"], fields["qfi"] = message[start + 1] >> 4, message[start + 2] & 63
            following = message[start + size - 1]
            start += size
    return fields, message[start:]


def _two(message: bytes) -> tuple[int, int]:
    return int.from_bytes(message[2:4], "big"), int.from_bytes(message[4:8], "big")


def only(wire: Wire, kind: int, timeout: float = 2.0) -> Frame:
    """Return the next frame with a GTP-U message of a type, passing over others."""
    while (frame := wire.receive(timeout)) is not None:
        with contextlib.suppress(AssertionError, IndexError):
            if unwrap(frame.packet)[0]["type"] == kind:
                return frame
    raise AssertionError(f"no GTP-U message of type {kind}")


def checksums_hold(raw: bytes) -> None:
    """Fail unless scapy computes the same checksums for the outermost headers.

    UDP over IPv4 may have none.
    """
    again = parse(raw)
    if raw[0] >> 4 == 4:
        del again.chksum
    if isinstance(again.payload, UDP) and again.payload.chksum:
        del again.payload.chksum
    assert bytes(again) == raw, again.summary()


def ends_of(raw: bytes) -> tuple[bytes, bytes]:
    """Return source and destination, packed."""
    return (raw[12:16], raw[16:20]) if raw[0] >> 4 == 4 else (raw[8:24], raw[24:40])


def packed(address: str) -> bytes:
    """Return an address as it stands in a packet."""
    return ipaddress.ip_address(address).packed


def _own(namespace: Namespace, address: str) -> None:
    extra = ["nodad"] if ":" in address else []
    namespace.ip("address", "add", address, "dev", "lo", *extra)


@contextlib.contextmanager
def data_network(mtu: int = 1500) -> Iterator[Namespace]:
    """Give a node whose own sockets are the data network and the peers; it routes users to the engine."""
    with namespaces("dn") as [namespace]:
        add_host_link(namespace, mtu)
        namespace.sysctl("ipv4/conf/vpp0/rp_filter", 0)
        namespace.sysctl("ipv4/conf/all/rp_filter", 0)
        for i, gateway in ((I4, "169.254.77.1"), (I6, "fe80::77:1")):
            family = f"-{i.family}"
            _own(namespace, i.host)
            namespace.ip("neighbor", "add", gateway, "lladdr", ENGINE_MAC.hex(":"), "dev", "vpp0")
            route = [i.pool, "via", gateway, "dev", "vpp0", "onlink", "src", i.host]
            namespace.ip(family, "route", "add", *route)
        for o, gateway in ((O4, "169.254.77.1"), (O6, "fe80::77:1")):
            _own(namespace, o.peer)
            route = [o.local, "via", gateway, "dev", "vpp0", "onlink", "src", o.peer]
            namespace.ip(f"-{o.family}", "route", "add", *route)
        yield namespace
