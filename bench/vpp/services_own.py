"""klb: Services with our plugins."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

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


def program(vpp: Vpp, control: Control, to: Pair, services: int) -> Timed:
    """Program them; routes to the endpoints and back to the clients; the feature on both interfaces."""
    vpp.cli(f"ip route add 100.112.0.0/12 via {to.next_hop} {to.outside}")
    vpp.cli(f"ip route add 16.0.0.0/8 via {to.peer} {to.inside}")
    for name in (to.inside, to.outside):
        vpp.cli(f"set khost interface {name}")
    return control.program(records(services))


def _flows(flows: int, services: int, at_random: bool) -> Iterator[tuple[int, int, int]]:
    for i in packets.shuffled(flows) if at_random else range(flows):
        client = i // services
        yield CLIENTS + client, 1024 + client % 50000, i % services


def add_streams(vpp: Vpp, to: Pair, flows: int, services: int, protocol: Protocol) -> list[str]:
    """Streams of one packet for each flow: those that begin it (sent once, in this order), then known ones.

    Returns the names of the beginning streams. The known ones are NAME-forward and NAME-reply.
    """
    name = protocol.name.lower()

    def forward(flags: int, at_random: bool) -> Iterator[bytes]:
        for client, port, i in _flows(flows, services, at_random):
            if protocol is Protocol.UDP:
                yield packets.udp(client, VIPS + i, port, PORT, PLAIN)
            else:
                yield packets.tcp(
                    client, VIPS + i, port, PORT, PLAIN[:10] if flags == packets.ACK else b"", flags
                )

    def reply(flags: int, at_random: bool) -> Iterator[bytes]:
        for client, port, i in _flows(flows, services, at_random):
            if protocol is Protocol.UDP:
                yield packets.udp(SERVERS + i, client, TARGET_PORT, port, PLAIN)
            else:
                payload = PLAIN[:10] if flags == packets.ACK else b""
                yield packets.tcp(SERVERS + i, client, TARGET_PORT, port, payload, flags)

    begin = []
    if protocol is Protocol.TCP:
        add_stream(vpp, "tcp-syn", to.inside, to.inside_mac, forward(packets.SYN, False))
        add_stream(vpp, "tcp-syn-ack", to.outside, to.outside_mac, reply(packets.SYN_ACK, False))
        begin = ["tcp-syn", "tcp-syn-ack"]
    add_stream(vpp, f"{name}-forward", to.inside, to.inside_mac, forward(packets.ACK, True))
    add_stream(vpp, f"{name}-reply", to.outside, to.outside_mac, reply(packets.ACK, True))
    return [*begin, f"{name}-forward", f"{name}-reply"]
