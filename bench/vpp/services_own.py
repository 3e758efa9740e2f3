"""klb: Services with our plugins."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.vpp import network, packets
from bench.vpp.control import Control, Timed
from bench.vpp.engine import Setup, Vpp
from bench.vpp.network import Pair, add_stream, address
from bench.vpp.services_in_tree import CLIENTS, PLAIN, PORT, TARGET_PORT

from vpp_operator.dataplane.records import (
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
)

VIPS, SERVERS = address("92.0.0.0"), address("100.112.0.0")


@dataclass(frozen=True)
class Family:
    """Addresses of the Services of one address family, as numbers, and how its packets are made.

    Service i has the address vips + i and the endpoint servers + i.
    """

    number: int
    clients: int
    vips: int
    servers: int
    prefixes: tuple[str, str, str]
    """In which clients, Services' addresses and endpoints lie."""
    udp: Callable[[int, int, int, int, bytes], bytes]
    tcp: Callable[[int, int, int, int, bytes, int], bytes]
    plain: bytes
    """Payload of a datagram: a frame of 64 bytes."""

    def at(self, value: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address of this number."""
        return ipaddress.IPv4Address(value) if self.number == 4 else ipaddress.IPv6Address(value)

    @property
    def path(self) -> tuple[str, ...]:
        """Nodes of its packets in either direction."""
        return tuple(node.format(self.number) for node in PATH)


PATH = ("ip{}-input", "klb{}-feature", "ip{}-lookup", "ip{}-rewrite")
V4 = Family(
    4,
    CLIENTS,
    VIPS,
    SERVERS,
    ("16.0.0.0/8", "92.0.0.0/8", "100.112.0.0/12"),
    packets.udp,
    packets.tcp,
    PLAIN,
)
V6 = Family(
    6,
    int(ipaddress.IPv6Address("fd00:16::")),
    int(ipaddress.IPv6Address("fd00:92::")),
    int(ipaddress.IPv6Address("fd00:112::")),
    ("fd00:16::/64", "fd00:92::/64", "fd00:112::/64"),
    packets.udp_ipv6,
    packets.tcp_ipv6,
    bytes(2),
)
FORWARD_PATH = REPLY_PATH = V4.path
PLUGIN = frozenset({"klb4-vip", "klb4-feature", "klb6-vip", "klb6-feature"})
USABLE = EndpointFlag.SERVES | EndpointFlag.CLUSTER


def setup(flows: int, services: int, base: Setup) -> Setup:
    """`base` with our plugins and tables of twice what is asked for."""
    sessions = max(65536, 2 * flows * 2)  # both protocols
    count = max(1024, 2 * services * 2)
    return base.with_own(
        f"sessions {sessions}", f"services {count}", f"frontends {count}", f"endpoints {count}"
    )


def records(services: int, family: Family = V4) -> list[Record]:
    """`services` Services of one endpoint each, for TCP and for UDP; their clients are pods."""
    clients, vips, _ = family.prefixes
    found: list[Record] = [
        PrefixRecord(ipaddress.ip_network(vips), PrefixClass.SERVICE),
        PrefixRecord(ipaddress.ip_network(clients), PrefixClass.POD),
    ]
    for protocol in (Protocol.TCP, Protocol.UDP):
        for i in range(services):
            ident = family.number << 48 | protocol << 32 | i + 1
            vip, server = family.at(family.vips + i), family.at(family.servers + i)
            found += [
                ServiceRecord(ident, family.number, protocol),
                FrontendRecord(family.number, protocol, PORT, vip, ident, FrontendKind.CLUSTER_IP),
                EndpointRecord(ident, server, TARGET_PORT, USABLE),
            ]
    return found


def endpoint_records(services: int, each: int) -> list[Record]:
    """`services` more Services for TCP, of so many endpoints each."""
    found: list[Record] = []
    for i in range(services):
        ident = 1 << 40 | i
        vip = ipaddress.IPv4Address(VIPS + (1 << 20) + i)
        found.append(ServiceRecord(ident, 4, Protocol.TCP))
        found.append(FrontendRecord(4, Protocol.TCP, PORT, vip, ident, FrontendKind.CLUSTER_IP))
        for server in range(i * each, (i + 1) * each):
            found.append(EndpointRecord(ident, ipaddress.IPv4Address(SERVERS + server), TARGET_PORT, USABLE))
    return found


def program(vpp: Vpp, control: Control, to: Pair, services: int, family: Family = V4) -> Timed:
    """Program them; routes to the endpoints and back to the clients; the feature on both interfaces."""
    there, back = network.gateways(vpp, to, family.number)
    clients, _, servers = family.prefixes
    vpp.cli(f"ip route add {servers} via {there} {to.outside}")
    vpp.cli(f"ip route add {clients} via {back} {to.inside}")
    for name in (to.inside, to.outside):
        vpp.cli(f"set khost interface {name}")
    return control.program(records(services, family))


def _flow(services: int, number: int) -> tuple[int, int, int]:
    """Number of the client, its port, and the Service of a flow."""
    client = number // services
    return client, 1024 + client % 50000, number % services


def _payload(flags: int, family: Family) -> bytes:
    return family.plain[:10] if flags == packets.ACK else b""


def packets_of(
    services: int, flows: Iterable[int], protocol: Protocol, flags: int, family: Family = V4
) -> Iterator[bytes]:
    """A packet of each flow to its Service; `flags` are TCP's."""
    for client, port, i in (_flow(services, number) for number in flows):
        source, vip = family.clients + client, family.vips + i
        if protocol is Protocol.UDP:
            yield family.udp(source, vip, port, PORT, family.plain)
        else:
            yield family.tcp(source, vip, port, PORT, _payload(flags, family), flags)


def replies_of(
    services: int, flows: Iterable[int], protocol: Protocol, flags: int, family: Family = V4
) -> Iterator[bytes]:
    """A packet of each flow from its endpoint."""
    for client, port, i in (_flow(services, number) for number in flows):
        server, destination = family.servers + i, family.clients + client
        if protocol is Protocol.UDP:
            yield family.udp(server, destination, TARGET_PORT, port, family.plain)
        else:
            yield family.tcp(server, destination, TARGET_PORT, port, _payload(flags, family), flags)


def stream_name(protocol: Protocol, what: str, family: Family = V4) -> str:
    """For example "udp-forward", "tcp6-reply"."""
    return f"{protocol.name.lower()}{'' if family.number == 4 else family.number}-{what}"


def add_streams(
    vpp: Vpp, to: Pair, flows: int, services: int, protocol: Protocol, family: Family = V4
) -> list[str]:
    """Streams of one packet for each flow: those that begin it (sent once, in this order), then known ones.

    Returns the names of the beginning streams. The known ones are `stream_name` of forward and reply.
    """

    def forward(what: str, numbers: Iterable[int], flags: int) -> str:
        stream = stream_name(protocol, what, family)
        made = packets_of(services, numbers, protocol, flags, family)
        add_stream(vpp, stream, to.inside, to.inside_mac, made)
        return stream

    def reply(what: str, numbers: Iterable[int], flags: int) -> str:
        stream = stream_name(protocol, what, family)
        made = replies_of(services, numbers, protocol, flags, family)
        add_stream(vpp, stream, to.outside, to.outside_mac, made)
        return stream

    begin = []
    if protocol is Protocol.TCP:
        begin.append(forward("syn", range(flows), packets.SYN))
        begin.append(reply("syn-ack", range(flows), packets.SYN_ACK))
    begin.append(forward("forward", packets.shuffled(flows), packets.ACK))
    begin.append(reply("reply", packets.shuffled(flows), packets.ACK))
    return begin
