"""GTP-U in a VPP between packet generators: pg0 is the peers' side, pg1 the data network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from scapy.packet import Raw
from tests.contract.engine_gtpu import CAPACITY, I4, I6, O4, O6, Inner, Outer
from tests.contract.engine_packets import IP, UDP, IPv6, packet
from tests.contract.engine_services import difference
from tests.contract.vpp_graph import Graph, graph

from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    GtpuSwitch,
    Protocol,
    Record,
    gtpu_switches,
)

PEERS, NETWORK = "pg0", "pg1"
ALL = (
    GtpuSwitch.LOOKUP_CACHE
    | GtpuSwitch.PREFETCH
    | GtpuSwitch.SKIP_INNER_IP_INPUT
    | GtpuSwitch.BYPASS
    | GtpuSwitch.SKIP_OUTER_LOOKUP
)
FIB = GtpuSwitch.BYPASS_FIB
ROUTERS = {4: "192.0.2.1", 6: "2001:db8::1"}
OTHER_ROUTERS = {4: "192.0.2.2", 6: "2001:db8::2"}


def setting(switches: GtpuSwitch, loop: int = 4) -> ConfigRecord:
    """Return the record of the switches."""
    return ConfigRecord(ConfigKey.GTPU_SWITCHES, 0, gtpu_switches(switches, loop))


def up(i: Inner, payload: bytes = b"payload", **more: Any) -> bytes:
    """Return what the user equipment sends."""
    return packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), payload, **more)


def down(i: Inner, payload: bytes = b"payload", **more: Any) -> bytes:
    """Return what the data network sends to the user equipment."""
    return packet(Protocol.UDP, (i.host, 53), (i.ue, 4000), payload, **more)


@contextlib.contextmanager
def gateway(
    *,
    workers: int = 0,
    own: bool = True,
    peers_mtu: int = 1500,
    options: tuple[str, ...] = (),
    **capacity: int,
) -> Iterator[Graph]:
    """Give a VPP whose two links are up; ``own``: the local GTP-U addresses are an interface's."""
    with graph(workers=workers, options=options, **{**CAPACITY, **capacity}) as g:
        addresses = [f"{O4.local}/24", f"{O6.local}/64"] if own else ["192.0.2.99/24", "2001:db8::99/64"]
        routers = [*ROUTERS.values(), *OTHER_ROUTERS.values()]
        g.add_link(PEERS, addresses, routers, peers_mtu)
        g.add_link(NETWORK, ["203.0.113.1/24", "2001:db8:113::1/64"], [I4.host, I6.host])
        for o in (O4, O6):
            route(g, o, ROUTERS[o.family])
        for name in (PEERS, NETWORK):
            g.cli(f"set khost interface {name}")
        yield g


def route(g: Graph, o: Outer, via: str, *, delete: bool = False) -> None:
    """Route the peers by a neighbour of the peers' link."""
    network = "198.51.100.0/24" if o.family == 4 else "2001:db8:51::/48"
    g.cli(f"ip route {'del' if delete else 'add'} {network} via {via} {PEERS}")


async def programme(g: Graph, new: Sequence[Record], old: Sequence[Record] = ()) -> None:
    """Make the tables hold ``new`` instead of ``old``."""
    async with g.engine.dataplane() as dataplane:
        assert await dataplane.apply(difference(list(old), list(new))) == []


async def counters(g: Graph) -> dict[str, int]:
    """Return counters and drops by name."""
    async with g.engine.dataplane() as dataplane:
        stats = await dataplane.stats()
        return {**stats.counters, **stats.drops}


def edit(raw: bytes, at: int, new: bytes) -> bytes:
    """Return the bytes with others at a place."""
    return raw[:at] + new + raw[at + len(new) :]


def _ip4(**fields: object) -> bytes:
    """An inner IPv4 packet with other header fields, its checksum right."""
    base = {"src": I4.ue, "dst": I4.host, "id": 7, "ttl": 64}
    return bytes(IP(**{**base, **fields}) / UDP(sport=4000, dport=53) / Raw(b"payload" * 3))  # type: ignore[arg-type]


def _ip6(**fields: object) -> bytes:
    """As _ip4, of IPv6."""
    base = {"src": I6.ue, "dst": I6.host, "hlim": 64}
    return bytes(IPv6(**{**base, **fields}) / UDP(sport=4000, dport=53) / Raw(b"payload" * 3))  # type: ignore[arg-type]


CHECKS: dict[str, bytes] = {
    "good": _ip4(),
    "good-6": _ip6(),
    "version": edit(_ip4(), 0, b"\x55"),
    "header-too-short": edit(_ip4(), 0, b"\x44"),
    "options": bytes(
        IP(src=I4.ue, dst=I4.host, options=[b"\x01\x01\x01\x00"]) / UDP(sport=1, dport=53) / Raw(b"p" * 20)
    ),
    "options-bad-checksum": edit(
        bytes(IP(src=I4.ue, dst=I4.host, options=[b"\x01\x01\x01\x00"]) / UDP(dport=53) / Raw(b"p" * 20)),
        10,
        b"\x12\x34",
    ),
    "checksum": edit(_ip4(), 10, b"\x12\x34"),
    "ttl-0": _ip4(ttl=0),
    "ttl-1": _ip4(ttl=1),
    "fragment-offset-1": _ip4(frag=1),
    "first-fragment": _ip4(flags="MF"),
    "last-fragment": _ip4(frag=5),
    "length-below-header": _ip4(len=19),
    "length-beyond-packet": _ip4(len=200),
    "length-below-packet": _ip4(len=30),
    "multicast": _ip4(dst="224.0.0.9"),
    "broadcast": _ip4(dst="255.255.255.255"),
    "own-address": _ip4(dst="203.0.113.1"),
    "source-of-another": _ip4(src=I4.stranger),
    "hop-limit-0": _ip6(hlim=0),
    "hop-limit-1": _ip6(hlim=1),
    "length-beyond-packet-6": _ip6(plen=200),
    "length-below-packet-6": _ip6(plen=10),
    "multicast-6": _ip6(dst="ff02::1"),
    "source-of-another-6": _ip6(src=I6.stranger),
    "short-6": _ip6()[:39],
    "short": _ip4()[:19],
    "empty": b"",
}
"""Inner packets that an input node has an opinion of."""


def without_ids(out: object) -> object:
    """Identification of ICMP errors is a counter of VPP's."""
    assert isinstance(out, dict)
    return {
        name: [p[:4] + p[6:10] + p[12:] if p[0] >> 4 == 4 else p for p in got] for name, got in out.items()
    }
