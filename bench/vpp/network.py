"""Interfaces of a lab: for each path measured an interface packets come from and one they leave by."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.vpp import packets
from bench.vpp.engine import BenchError, Vpp
from bench.vpp.runtime import parse_streams

NEIGHBOUR_MAC = "02:fe:00:00:00:02"
SOURCES = "16.0.0.0/8"
"""Where the packets of all paths come from; nothing is sent there unless a case says so."""


def address(text: str) -> int:
    """An IPv4 address as a number."""
    return int(ipaddress.IPv4Address(text))


def dotted(number: int) -> str:
    """A number as an IPv4 address."""
    return str(ipaddress.IPv4Address(number))


@dataclass(frozen=True)
class Pair:
    """Two generator interfaces: packets enter by `inside`, those routed to `next_hop` leave by `outside`."""

    inside: str
    outside: str
    inside_mac: bytes
    outside_mac: bytes
    inside_index: int
    outside_index: int
    local: str
    """Address of `inside`, /24."""
    peer: str
    """A neighbour at `inside`."""
    next_hop: str
    """The neighbour at `outside`, whose address is .1 of the same /24."""


def pair(vpp: Vpp, number: int) -> Pair:
    """Make pg(2n) and pg(2n+1), on 10.(2n).0.0/24 and 10.(2n+1).0.0/24, with neighbours."""
    names = (f"pg{2 * number}", f"pg{2 * number + 1}")
    for offset, name in enumerate(names):
        network = f"10.{2 * number + offset}.0"
        vpp.cli(f"create packet-generator interface {name}")
        vpp.cli(f"set interface ip address {name} {network}.1/24")
        vpp.cli(f"set interface state {name} up")
        vpp.cli(f"ip neighbor {name} {network}.2 {NEIGHBOUR_MAC} static")
    inside, outside = (_interface(vpp, name) for name in names)
    return Pair(
        names[0],
        names[1],
        inside.l2_address.packed,
        outside.l2_address.packed,
        inside.sw_if_index,
        outside.sw_if_index,
        f"10.{2 * number}.0.1",
        f"10.{2 * number}.0.2",
        f"10.{2 * number + 1}.0.2",
    )


def _interface(vpp: Vpp, name: str) -> Any:
    """What VPP tells of one interface. Not of all: there may be a million, each of kilobytes in Python."""
    found = vpp.call("sw_interface_dump", sw_if_index=0xFFFFFFFF, name_filter_valid=True, name_filter=name)
    return next(i for i in found if i.interface_name == name)


@dataclass(frozen=True)
class Ends:
    """Addresses of a tunnel's ends: `local` is the inside interface's, `peer` its neighbour's."""

    local: str
    peer: str

    @property
    def local_number(self) -> int:
        """As a number."""
        return int(ipaddress.ip_address(self.local))

    @property
    def peer_number(self) -> int:
        """As a number."""
        return int(ipaddress.ip_address(self.peer))


def ends(vpp: Vpp, to: Pair, family: int) -> Ends:
    """The pair's own for IPv4; for IPv6 the addresses are made here."""
    if family == 4:
        return Ends(to.local, to.peer)
    prefix = f"fd00:{to.inside.removeprefix('pg')}:"
    vpp.cli(f"set interface ip address {to.inside} {prefix}:1/64")
    vpp.cli(f"ip neighbor {to.inside} {prefix}:2 {NEIGHBOUR_MAC} static")
    return Ends(f"{prefix}:1", f"{prefix}:2")


def gateways(vpp: Vpp, to: Pair, family: int) -> tuple[str, str]:
    """The neighbours outside and inside; for IPv6 the addresses are made here."""
    if family == 4:
        return to.next_hop, to.peer
    found = []
    for name in (to.outside, to.inside):
        prefix = f"fd00:{name.removeprefix('pg')}:"
        vpp.cli(f"set interface ip address {name} {prefix}:1/64")
        vpp.cli(f"ip neighbor {name} {prefix}:2 {NEIGHBOUR_MAC} static")
        found.append(f"{prefix}:2")
    return found[0], found[1]


@contextlib.contextmanager
def awake(vpp: Vpp) -> Iterator[None]:
    """Keep the workers polling meanwhile.

    A worker without packets sleeps up to 10 ms, and each worker barrier, which most changes of VPP's own
    plugins take, waits for it. The packet that is sent each second has no route.
    """
    if "awake" not in parse_streams(vpp.cli("show packet-generator")):
        vpp.cli(
            "packet-generator new { name awake limit 0 rate 1 size 64-64 source pg0 interface pg0 worker 0 "
            "node ip4-input data { UDP: 192.0.2.1 -> 192.0.2.2 UDP: 1 -> 2 incrementing 8 } }"
        )
    vpp.prefer(False)
    vpp.cli("packet-generator enable-stream awake")
    try:
        yield
    finally:
        vpp.cli("packet-generator disable-stream awake")
        vpp.prefer(True)


def add_stream(
    vpp: Vpp, name: str, interface: str, mac: bytes, ip_packets: Iterable[bytes], worker: int = 0
) -> int:
    """`add_frames`, of frames that hold these packets."""
    frames = (packets.ethernet(mac, packet) for packet in ip_packets)
    return add_frames(vpp, name, interface, frames, worker)


def add_frames(vpp: Vpp, name: str, interface: str, frames: Iterable[bytes], worker: int = 0) -> int:
    """A stream that sends these frames into the interface, over and over; their number.

    The worker of that number makes them, and carries them.
    """
    path = vpp.directory / f"{name}.pcap"
    count = packets.write_pcap(path, frames)
    number = interface.removeprefix("pg")
    vpp.cli(
        f"packet-generator new {{ name {name} source pg{number} pcap {path} worker {worker} "
        f"interface {interface} }}"
    )
    path.unlink()
    if name not in parse_streams(vpp.cli("show packet-generator")):
        raise BenchError(f"VPP did not make the stream {name}")
    return count
