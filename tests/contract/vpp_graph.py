"""A VPP whose links are packet generators: frames in by pcap, frames out by pcap, nothing in between."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from bench.vpp.native import affinity_library
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import RawPcapReader, wrpcap
from tests.contract.conftest import needs_root
from tests.contract.engine_lab import namespaces
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix
from vpp_papi.vpp_stats import VPPStats

VPP_MAC = "02:76:70:70:10:{:02x}"
PEER_MAC = "02:76:70:70:20:{:02x}"


@dataclass(frozen=True)
class Link:
    """A link with VPP's own addresses, and the neighbours behind it."""

    name: str
    own: tuple[str, ...]
    neighbours: tuple[str, ...]
    index: int

    @property
    def vpp(self) -> str:
        """VPP's MAC."""
        return VPP_MAC.format(self.index)

    @property
    def peer(self) -> str:
        """MAC of all its neighbours."""
        return PEER_MAC.format(self.index)


@dataclass
class Graph:
    """A running VPP and its links."""

    engine: VppEngine
    links: dict[str, Link] = field(default_factory=dict)
    _runs: int = 0

    def cli(self, *commands: str) -> str:
        """Run commands of VPP's command line; fail where it complains."""
        said = ""
        for command in commands:
            said = self.engine.cli(command)
            for word in ("unknown input", "failed", "error:", "expected"):
                assert word not in said.split("\n")[0], f"{command}: {said}"
        return said

    @contextlib.contextmanager
    def segment(self) -> Iterator[VPPStats]:
        """Give the statistics segment."""
        segment = VPPStats(str(self.engine.conf.stats_socket))
        segment.connect()
        try:
            yield segment
        finally:
            segment.disconnect()

    def add_link(self, name: str, own: Sequence[str], neighbours: Sequence[str], mtu: int = 1500) -> Link:
        """Make a link that is up, with static neighbours."""
        link = Link(name, tuple(own), tuple(neighbours), len(self.links))
        self.links[name] = link
        self.cli(
            f"create packet-generator interface {name}",
            f"set interface mac address {name} {link.vpp}",
            f"set interface mtu packet {mtu} {name}",
            f"set interface state {name} up",
            f"enable ip6 interface {name}",
            *(f"set interface ip address {name} {address}" for address in own),
            *(f"set ip neighbor {name} {address} {link.peer} static" for address in neighbours),
        )
        return link

    def send(
        self,
        name: str,
        packets: Sequence[bytes],
        *,
        quiet: float = 0.05,
        limit: float = 5.0,
        worker: int | None = None,
        workers: Sequence[int] = (),
        times: int = 1,
        rate: int = 0,
    ) -> dict[str, list[bytes]]:
        """Put IP packets in by a link; return what came out of each link, as IP packets.

        ``times``: how often all of them, ``rate``: packets in a second, ``workers``: each of these sends all
        of them, at the same time.
        Frames of other types (ARP) and neighbour discovery are left out.
        """
        link = self.links[name]
        self._runs += 1
        directory = self.engine.directory
        source = directory / f"in-{self._runs}.pcap"
        frames = [
            Ether(dst=link.vpp, src=link.peer, type=0x86DD if p[0] >> 4 == 6 else 0x0800) / Raw(p)
            for p in packets
        ]
        wrpcap(str(source), frames, linktype=1)
        captures = {n: directory / f"out-{n}-{self._runs}.pcap" for n in self.links}
        self.cli(*(f"packet-generator capture {n} pcap {file}" for n, file in captures.items()))
        more = f" limit {len(packets) * times}" if times > 1 else ""
        more += f" rate {rate}" if rate else ""
        places = workers or [worker]
        streams = [f"s{self._runs}-{n}" for n in range(len(places))]
        for stream, place in zip(streams, places, strict=True):
            at = "" if place is None else f" worker {place}"
            self.cli(f"packet-generator new pcap {source} source {name} name {stream}{at}{more}")
        script = directory / f"start-{self._runs}"
        script.write_text("".join(f"packet-generator enable-stream {stream}\n" for stream in streams))
        self.cli(f"exec {script}")
        end = time.monotonic() + limit
        while any(self._running(stream) for stream in streams):
            assert time.monotonic() < end, "the packet generator does not come to its end"
            time.sleep(0.01)
        self._settle(quiet)
        self.cli(
            *(f"packet-generator delete {stream}" for stream in streams),
            *(f"packet-generator capture {n} disable" for n in captures),
        )
        return {n: self._read(file) for n, file in captures.items()}

    def _settle(self, quiet: float) -> None:
        """Wait until the links' counters stand still."""
        before = ""
        while (now := self.engine.cli("show interface")) != before:
            before = now
            time.sleep(quiet)

    def _running(self, stream: str) -> bool:
        for line in self.engine.cli("show packet-generator").splitlines():
            words = line.split()
            if words and words[0] == stream:
                return words[1] == "Yes"
        return False

    @staticmethod
    def _read(file: object) -> list[bytes]:
        try:
            frames = [raw for raw, _ in RawPcapReader(str(file))]
        except FileNotFoundError:
            return []
        return [
            f[14:] for f in frames if f[12:14] in (b"\x08\x00", b"\x86\xdd") and not _is_discovery(f[14:])
        ]

    def errors(self) -> dict[str, int]:
        """Return the counts of `show errors` since the last call, by "node: reason"."""
        counts: dict[str, int] = {}
        for line in self.engine.cli("show errors").splitlines()[1:]:
            words = line.split()
            if len(words) >= 3 and words[0].isdigit():
                key = f"{words[1]}: {' '.join(words[2:-1])}"
                counts[key] = counts.get(key, 0) + int(words[0])
        self.cli("clear errors")
        return counts

    def nodes(self) -> set[str]:
        """Return the nodes that have carried packets since `clear runtime`."""
        seen = set()
        for line in self.engine.cli("show runtime").splitlines():
            words = line.split()
            if len(words) >= 6 and words[-4].isdigit() and int(words[-4]) > 0:
                seen.add(words[0])
        return seen


def _is_discovery(packet: bytes) -> bool:
    return packet[0] >> 4 == 6 and packet[6] in (58, 0) and (packet[6] == 0 or packet[40] in range(130, 144))


@contextlib.contextmanager
def graph(*, workers: int = 0, options: tuple[str, ...] = (), **capacity: int) -> Iterator[Graph]:
    """Give a running VPP without links; skip the test where there is none."""
    needs_root()
    if vpp_prefix() is None:
        pytest.skip(NO_VPP)
    with (
        namespaces("vpp") as [namespace],
        vpp_engine(namespace, workers=workers, capacity=capacity) as engine,
    ):
        engine.interfaces = ()
        engine.options = options
        if workers + 1 > len(os.sched_getaffinity(0)):
            # VPP itself starts no more threads than there are processors.
            engine.wrapper = ("env", f"LD_PRELOAD={affinity_library(engine.directory)}")
        engine.start(wait_for_links=False)
        try:
            yield Graph(engine)
        finally:
            print(engine.log()[-2000:])


def with_prefix(address: str) -> str:
    """Return an address with the length of a link's prefix."""
    return f"{address}/{24 if ipaddress.ip_address(address).version == 4 else 64}"
