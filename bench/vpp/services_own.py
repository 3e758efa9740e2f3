"""klb: Services with our plugins."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from bench.vpp import packets
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
FORWARD_PATH = ("ip4-input", "klb4-feature", "ip4-lookup", "ip4-rewrite")
REPLY_PATH = ("ip4-input", "klb4-feature", "ip4-lookup", "ip4-rewrite")
PLUGIN = frozenset({"klb4-vip", "klb4-feature"})
USABLE = EndpointFlag.SERVES | EndpointFlag.CLUSTER


def setup(flows: int, services: int, base: Setup) -> Setup:
    """`base` with our plugins and tables of twice what is asked for."""
    sessions = max(65536, 2 * flows * 2)  # both protocols
    count = max(1024, 2 * services * 2)
    return base.with_own(
        f"sessions {sessions}", f"services {count}", f"frontends {count}", f"endpoints {count}"
    )


def records(services: int) -> list[Record]:
    """`services` Services of one endpoint each, for TCP and for UDP; their clients are pods."""
    found: list[Record] = [
        PrefixRecord(ipaddress.ip_network("92.0.0.0/8"), PrefixClass.SERVICE),
        PrefixRecord(ipaddress.ip_network("16.0.0.0/8"), PrefixClass.POD),
    ]
    for protocol in (Protocol.TCP, Protocol.UDP):
        for i in range(services):
            ident = protocol << 32 | i + 1
            vip, server = ipaddress.IPv4Address(VIPS + i), ipaddress.IPv4Address(SERVERS + i)
            found += [
                ServiceRecord(ident, 4, protocol),
                FrontendRecord(4, protocol, PORT, vip, ident, FrontendKind.CLUSTER_IP),
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


def program(vpp: Vpp, control: Control, to: Pair, services: int) -> Timed:
    """Program them; routes to the endpoints and back to the clients; the feature on both interfaces."""
    vpp.cli(f"ip route add 100.112.0.0/12 via {to.next_hop} {to.outside}")
    vpp.cli(f"ip route add 16.0.0.0/8 via {to.peer} {to.inside}")
    for name in (to.inside, to.outside):
        vpp.cli(f"set khost interface {name}")
    return control.program(records(services))


def _flow(services: int, number: int) -> tuple[int, int, int]:
    """Client, its port, and the Service of a flow."""
    client = number // services
    return CLIENTS + client, 1024 + client % 50000, number % services


def _payload(flags: int) -> bytes:
    return PLAIN[:10] if flags == packets.ACK else b""


def packets_of(services: int, flows: Iterable[int], protocol: Protocol, flags: int) -> Iterator[bytes]:
    """A packet of each flow to its Service; `flags` are TCP's."""
    for client, port, i in (_flow(services, number) for number in flows):
        if protocol is Protocol.UDP:
            yield packets.udp(client, VIPS + i, port, PORT, PLAIN)
        else:
            yield packets.tcp(client, VIPS + i, port, PORT, _payload(flags), flags)


def replies_of(services: int, flows: Iterable[int], protocol: Protocol, flags: int) -> Iterator[bytes]:
    """A packet of each flow from its endpoint."""
    for client, port, i in (_flow(services, number) for number in flows):
        if protocol is Protocol.UDP:
            yield packets.udp(SERVERS + i, client, TARGET_PORT, port, PLAIN)
        else:
            yield packets.tcp(SERVERS + i, client, TARGET_PORT, port, _payload(flags), flags)


def add_streams(vpp: Vpp, to: Pair, flows: int, services: int, protocol: Protocol) -> list[str]:
    """Streams of one packet for each flow: those that begin it (sent once, in this order), then known ones.

    Returns the names of the beginning streams. The known ones are NAME-forward and NAME-reply.
    """
    name = protocol.name.lower()

    def forward(stream: str, numbers: Iterable[int], flags: int) -> str:
        made = packets_of(services, numbers, protocol, flags)
        add_stream(vpp, stream, to.inside, to.inside_mac, made)
        return stream

    def reply(stream: str, numbers: Iterable[int], flags: int) -> str:
        made = replies_of(services, numbers, protocol, flags)
        add_stream(vpp, stream, to.outside, to.outside_mac, made)
        return stream

    begin = []
    if protocol is Protocol.TCP:
        begin.append(forward("tcp-syn", range(flows), packets.SYN))
        begin.append(reply("tcp-syn-ack", range(flows), packets.SYN_ACK))
    begin.append(forward(f"{name}-forward", packets.shuffled(flows), packets.ACK))
    begin.append(reply(f"{name}-reply", packets.shuffled(flows), packets.ACK))
    return begin
