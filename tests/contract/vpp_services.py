"""Services in a VPP between packet generators: pg0 is the clients' side, pg1 the endpoints'."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence

from tests.contract.engine_packets import IP, IPv6, IPv6ExtHdrFragment, Packet, Raw, network, parse
from tests.contract.engine_services import V4, V6, Addresses, Service, settings
from tests.contract.vpp_graph import Graph, graph

from vpp_operator.dataplane.records import Protocol, Record

CLIENTS, ENDPOINTS = "pg0", "pg1"
OWN = {CLIENTS: ("169.254.1.1/24", "fd00:1::1/64"), ENDPOINTS: ("169.254.2.1/24", "fd00:2::1/64")}
NEIGHBOURS = {CLIENTS: ("169.254.1.2", "fd00:1::2"), ENDPOINTS: ("169.254.2.2", "fd00:2::2")}
ROUTES = {
    CLIENTS: ("10.244.1.0/24", "203.0.113.0/24", "fd00:244:1::/64", "2001:db8:113::/64"),
    ENDPOINTS: ("10.244.2.0/24", "fd00:244:2::/64"),
}


_identification = itertools.count(0x4321)
"""A datagram's fragments are remembered for two seconds: each has an identification of its own."""


@contextlib.contextmanager
def router(*, workers: int = 0, options: tuple[str, ...] = (), **capacity: int) -> Iterator[Graph]:
    """Give a VPP that knows the way to clients and endpoints, and nothing of the Services' addresses."""
    with graph(workers=workers, options=options, **capacity) as g:
        for name, via in NEIGHBOURS.items():
            g.add_link(name, OWN[name], via)
        for name in NEIGHBOURS:
            for prefix in ROUTES[name]:
                router_of = NEIGHBOURS[name][":" in prefix]
                g.cli(f"ip route add {prefix} via {router_of} {name}")
            g.cli(f"set khost interface {name}")
        yield g


def web(a: Addresses, protocol: Protocol, endpoints: int = 1, **more: object) -> Service:
    """Return a Service that is reached in every way."""
    return Service(
        "web",
        a.family,
        protocol,
        80,
        tuple((address, 8080) for address in a.endpoints[:endpoints]),
        vip=a.vip,
        external=a.external,
        node_port=30080,
        **more,  # type: ignore[arg-type]
    )


def everything(endpoints: int = 1, **more: object) -> list[Record]:
    """Return the records of such a Service in both families, for both protocols."""
    return settings() + [
        record
        for a in (V4, V6)
        for protocol in (Protocol.TCP, Protocol.UDP)
        for record in web(a, protocol, endpoints, **more).records()
    ]


def fragments(a: Addresses, raw: bytes, size: int = 512) -> list[bytes]:
    """Cut a packet into fragments with ``size`` payload bytes each."""
    layer = parse(raw)
    payload = bytes(layer[IP if a is V4 else IPv6].payload)
    number = next(_identification)
    pieces = []
    for offset in range(0, len(payload), size):
        more = offset + size < len(payload)
        piece: Packet = network(layer.src, layer.dst)
        if a is V4:
            piece.proto, piece.frag, piece.flags, piece.id = layer.proto, offset // 8, int(more), number
        else:
            piece = piece / IPv6ExtHdrFragment(nh=layer.nh, offset=offset // 8, m=int(more), id=number)
        pieces.append(bytes(piece / Raw(payload[offset : offset + size])))
    return pieces


def traced(g: Graph, name: str, packets: Sequence[bytes], node: str) -> str:
    """Return what `show trace` says of ``node`` while packets go in by a link, spaces made one."""
    g.cli("clear trace", "trace add pg-input 50")
    g.send(name, packets)
    text = g.engine.cli("show trace max 50")
    g.cli("clear trace")
    parts = re.split(r"^\d\d:\d\d:\d\d:\d+: ", text, flags=re.MULTILINE)
    return " ".join(" ".join(part.split()) for part in parts if part.startswith(f"{node}\n"))


def dropped(g: Graph, node: str) -> dict[str, int]:
    """Return a node's drops since the last call, by the part of the reason that is shown."""
    return {key.split(": ", 1)[1]: n for key, n in g.errors().items() if key.startswith(f"{node}: ")}


def barriers(g: Graph) -> int:
    """Return how often the workers were stopped since VPP's start."""
    found = re.search(r"Worker barriers since the start.*: (\d+)", g.engine.cli("show klb summary"))
    assert found is not None
    return int(found[1])
