"""VPP's own gtpu plugin: decapsulation by default and in its best configuration, encapsulation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.vpp import packets
from bench.vpp.engine import BenchError, Vpp
from bench.vpp.network import Pair, add_stream, address, awake, dotted
from bench.vpp.records import Rate

USERS = address("100.64.0.0")
"""Tunnel i belongs to the user at USERS + i."""
USERS_IN_TREE = address("101.0.0.0")
"""Other users, for encapsulation by VPP's own plugin: a host route to each."""
INNER = bytes(20)
"""Payload of the inner UDP packet: 48 bytes of inner packet make 98 bytes of frame."""
PLAIN = bytes(22)
"""Payload of a packet towards a user: a frame of 64 bytes, 50 of them the packet."""
LONGER = bytes(36)
"""As `PLAIN`, for a packet of 64 bytes: 114 bytes of frame out, as with a frame of 64 bytes inside."""
ETHERNET_HEADER = 14
OUTER = 20 + 8 + 8
"""Bytes of IPv4, UDP and GTP-U before the payload."""

DEFAULT_PATH = (
    "ip4-input",
    "ip4-lookup",
    "ip4-receive",
    "ip4-udp-lookup",
    "gtpu4-input",
    "ip4-input",
    "ip4-lookup",
    "ip4-rewrite",
)
ETHERNET_PATH = ("l2-input", "l2-output", "gtpu4-encap", "ip4-load-balance", "ip4-rewrite")
ETHERNET_BEST_PATH = ("ip4-input", "ip4-gtpu-bypass", "gtpu4-input", "l2-input", "l2-output")
PLUGIN = frozenset(
    name for f in (4, 6) for name in (f"ip{f}-gtpu-bypass", f"gtpu{f}-input", f"gtpu{f}-encap")
)


def best_path(family: int = 4) -> tuple[str, ...]:
    """Nodes of decapsulation in the best configuration; `family` is the outer packet's, IPv4 is inside."""
    ip, gtpu = f"ip{family}", f"gtpu{family}"
    return (f"{ip}-input", f"{ip}-gtpu-bypass", f"{gtpu}-input", "ip4-lookup", "ip4-rewrite")


def encap_path(family: int = 4) -> tuple[str, ...]:
    """Nodes of encapsulation; `family` is the outer packet's."""
    outer = (f"gtpu{family}-encap", f"ip{family}-load-balance", f"ip{family}-rewrite")
    return ("ip4-input", "ip4-lookup", "ip4-rewrite", *outer)


@dataclass(frozen=True)
class Programmed:
    """Tunnels made: number of the first interface gtpu_tunnelN, and how fast."""

    first: int
    count: int
    rate: Rate


def exists(vpp: Vpp, number: int) -> bool:
    """Whether there is an interface gtpu_tunnelN. Asked for one, for a list of all takes minutes."""
    try:
        return f"gtpu_tunnel{number} " in vpp.cli(f"show interface gtpu_tunnel{number}")
    except BenchError:
        return False


def add_tunnels(
    vpp: Vpp, local: str, peer: str, count: int, decap_next: str, first: int = 0, qfi: int | None = None
) -> Programmed:
    """Tunnels of TEID 1..count by CLI script, the fastest way that the plugin offers; `first` are there.

    With a `qfi` they write a PDU Session Container.
    """
    rest = f"decap-next {decap_next}" + ("" if qfi is None else f" qfi {qfi}")
    began = time.monotonic()
    with awake(vpp):
        vpp.script(
            [
                f"create gtpu tunnel src {local} dst {peer} teid {teid} tteid {teid} {rest}"
                for teid in range(1, count + 1)
            ]
        )
    seconds = time.monotonic() - began
    if not exists(vpp, first + count - 1) or exists(vpp, first + count):
        raise BenchError(f"in-tree gtpu did not make {count} tunnels")
    return Programmed(first, count, Rate("programming", "in-tree gtpu, CLI script", count, seconds))


def enable_ip(vpp: Vpp, tunnels: Programmed, like: str) -> None:
    """IP on the tunnel interfaces (decap-next ip4 drops without it), and up."""
    names = [f"gtpu_tunnel{tunnels.first + i}" for i in range(tunnels.count)]
    with awake(vpp):
        vpp.script([f"set interface unnumbered {name} use {like}" for name in names])
        vpp.script([f"set interface state {name} up" for name in names])


def route_users(vpp: Vpp, tunnels: Programmed, users: int) -> None:
    """A host route to each user through its tunnel."""
    with awake(vpp):
        vpp.script(
            [
                f"ip route add {dotted(users + i)}/32 via gtpu_tunnel{tunnels.first + i}"
                for i in range(tunnels.count)
            ]
        )


def order(count: int, at_random: bool, length: int) -> Iterator[int]:
    """Tunnel numbers of a stream of at least `length` packets, every tunnel equally often."""
    one = packets.shuffled(count) if at_random else range(count)
    for _ in range(-(-length // count)):
        yield from one


def add_decap_stream(
    vpp: Vpp,
    name: str,
    to: Pair,
    tunnel_address: str,
    peer: str,
    destination: int,
    numbers: Iterator[int],
    worker: int = 0,
) -> int:
    """G-PDUs from the peer's tunnels, each with a packet of the tunnel's user to `destination`."""
    outer = (address(peer), address(tunnel_address))
    return add_stream(
        vpp,
        name,
        to.inside,
        to.inside_mac,
        (
            packets.gtpu(*outer, i + 1, packets.udp(USERS + i, destination, 1000, 2000, INNER))
            for i in numbers
        ),
        worker,
    )


def add_encap_stream(
    vpp: Vpp,
    name: str,
    to: Pair,
    source: int,
    numbers: Iterator[int],
    users: int = USERS,
    worker: int = 0,
    payload: bytes = PLAIN,
) -> int:
    """Packets to the users."""
    return add_stream(
        vpp,
        name,
        to.inside,
        to.inside_mac,
        (packets.udp(source, users + i, 2000, 1000, payload) for i in numbers),
        worker,
    )


def cross_connect(vpp: Vpp, to: Pair, source: int, first: int) -> None:
    """Frames that enter the pair go into one tunnel whole: cross-connected, to the neighbour outside."""
    made = add_tunnels(vpp, to.local, to.next_hop, 1, "l2", first)
    tunnel = f"gtpu_tunnel{made.first}"
    connect(vpp, to.inside, tunnel)
    add_stream(
        vpp,
        "ethernet",
        to.inside,
        to.inside_mac,
        (packets.udp(source, USERS, 2000, 1000, PLAIN) for _ in range(256)),
    )


def connect(vpp: Vpp, interface: str, tunnel: str) -> None:
    """Frames that enter either leave by the other; the tunnel's interface is up."""
    vpp.cli(f"set interface state {tunnel} up")
    vpp.cli(f"set interface l2 xconnect {interface} {tunnel}")
    vpp.cli(f"set interface l2 xconnect {tunnel} {interface}")
