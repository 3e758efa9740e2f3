"""kgtpu: GTP-U with our plugins."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from bench.vpp.control import Control
from bench.vpp.engine import Setup, Vpp
from bench.vpp.gtpu_in_tree import USERS
from bench.vpp.measure import Switch

from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    GtpuEndpointRecord,
    GtpuPayload,
    GtpuPeerRecord,
    GtpuPsc,
    GtpuSwitch,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Record,
    Table,
    UePrefixRecord,
    gtpu_endpoint_id,
    gtpu_switches,
)

ENDPOINT = gtpu_endpoint_id("bench")
PLUGIN = frozenset(
    f"kgtpu{family}-{node}" for family in (4, 6) for node in ("input", "bypass", "local", "encap")
) | {"kgtpu-frame-input"}
TABLES = (Table.GTPU_UE, Table.GTPU_TUNNEL, Table.GTPU_PEER, Table.GTPU_ENDPOINT)
PART = 100_000
"""Tunnels programmed at once."""
LOOPS = {1: "single", 2: "dual", 4: "quad"}


@dataclass(frozen=True)
class Switches:
    """The six optimisations. `bypass`: "" (off), "feature" or "fib"."""

    cache: bool = False
    skip_inner: bool = False
    bypass: str = ""
    loop: int = 1
    prefetch: bool = False
    skip_outer: bool = False

    @property
    def text(self) -> str:
        """For the tables."""
        on = [
            *(["lookupCache"] if self.cache else []),
            *(["skipInnerIpInput"] if self.skip_inner else []),
            *([f"gtpuBypass ({self.bypass.capitalize()})"] if self.bypass else []),
            *([f"loop {LOOPS[self.loop]}"] if self.loop > 1 else []),
            *(["prefetch"] if self.prefetch else []),
            *(["skipOuterLookup"] if self.skip_outer else []),
        ]
        return ", ".join(on) or "all off"

    def record(self) -> ConfigRecord:
        """The setting."""
        bits = GtpuSwitch(0)
        if self.cache:
            bits |= GtpuSwitch.LOOKUP_CACHE
        if self.skip_inner:
            bits |= GtpuSwitch.SKIP_INNER_IP_INPUT
        if self.bypass:
            bits |= GtpuSwitch.BYPASS
        if self.bypass == "fib":
            bits |= GtpuSwitch.BYPASS_FIB
        if self.prefetch:
            bits |= GtpuSwitch.PREFETCH
        if self.skip_outer:
            bits |= GtpuSwitch.SKIP_OUTER_LOOKUP
        return ConfigRecord(ConfigKey.GTPU_SWITCHES, 0, gtpu_switches(bits, self.loop))

    def decap_path(self, family: int = 4) -> tuple[str, ...]:
        """Nodes from IP input to the rewrite of the IPv4 packet inside; `family` is the outer packet's."""
        enter = self._decap_enter(family)
        return (*enter, *(() if self.skip_inner else ("ip4-input",)), "ip4-lookup", "ip4-rewrite")

    def frame_decap_path(self) -> tuple[str, ...]:
        """Nodes from IP input to the output of a frame that was inside; the outer packet is IPv4."""
        return self._decap_enter(4)

    def _decap_enter(self, family: int) -> tuple[str, ...]:
        ip = f"ip{family}"
        return {
            "": (f"{ip}-input", f"{ip}-lookup", f"{ip}-receive", f"{ip}-udp-lookup", f"kgtpu{family}-input"),
            "feature": (f"{ip}-input", f"kgtpu{family}-bypass"),
            "fib": (f"{ip}-input", f"{ip}-lookup", f"kgtpu{family}-local"),
        }[self.bypass]

    def decap_proof(self) -> tuple[str, ...]:
        """Counters that every decapsulated packet adds to."""
        return (
            "gtpuDecapsulated",
            *(["gtpuInnerInputSkipped"] if self.skip_inner else []),
            *(["gtpuBypassed"] if self.bypass else []),
            f"gtpuLoop{LOOPS[self.loop].capitalize()}",
            *(["gtpuPrefetched"] if self.prefetch else []),
        )

    def frame_decap_proof(self) -> tuple[str, ...]:
        """As `decap_proof`, of packets with a frame inside: no IP input is skipped."""
        return tuple(name for name in self.decap_proof() if name != "gtpuInnerInputSkipped")

    def encap_proof(self) -> tuple[str, ...]:
        """Counters that every encapsulated packet adds to."""
        return ("gtpuEncapsulated", *(["gtpuOuterLookupSkipped"] if self.skip_outer else []))

    def frame_path(self) -> tuple[str, ...]:
        """Nodes of a frame into a tunnel over IPv4 that carries Ethernet."""
        return ("kgtpu-frame-input", *(() if self.skip_outer else ("ip4-lookup",)), "ip4-rewrite")

    def encap_path(self, family: int = 4) -> tuple[str, ...]:
        """Nodes from IPv4 input to the rewrite; `family` is the outer packet's."""
        outer = () if self.skip_outer else (f"ip{family}-lookup",)
        return ("ip4-input", "ip4-lookup", "kgtpu4-encap", *outer, f"ip{family}-rewrite")


ALL = Switches(True, True, "fib", 4, True, True)


def setup(tunnels: int, base: Setup) -> Setup:
    """`base` with our plugins and tables of twice what is asked for, so that all may be replaced at once."""
    count = max(4096, 2 * tunnels)
    return base.with_own(f"tunnels {count}", f"ues {count}")


def records(
    local: str,
    peer: str,
    tunnels: int,
    by_index: bool = True,
    psc: GtpuPsc = GtpuPsc.NONE,
    users: int = USERS,
    endpoint: int = ENDPOINT,
    numbers: range | None = None,
) -> list[Record]:
    """A local address, one peer, and tunnels 1..n of one user each; with `numbers` only those, from 0.

    TEIDs are looked up by index if they are in the endpoint's declared range, by hash if not.
    """
    found: list[Record] = [
        PrefixRecord(ipaddress.ip_network("100.64.0.0/10"), PrefixClass.UE_POOL),
        GtpuEndpointRecord(
            ipaddress.ip_address(local), endpoint, teid_base=1, teid_count=tunnels if by_index else 0
        ),
        GtpuPeerRecord(endpoint, ipaddress.ip_address(peer)),
    ]
    remote = ipaddress.ip_address(peer)
    qfi = 9 if psc is not GtpuPsc.NONE else 0
    for i in range(tunnels) if numbers is None else numbers:
        found.append(GtpuTunnelRecord(endpoint, i + 1, i + 1, remote, psc=psc, qfi=qfi))
        found.append(UePrefixRecord(ipaddress.IPv4Network((users + i, 32)), endpoint, i + 1))
    return found


def program_in_parts(control: Control, local: str, peer: str, tunnels: int, by_index: bool = True) -> None:
    """`records`, never more than some at once: a million are gigabytes in Python."""
    for start in range(0, tunnels, PART):
        numbers = range(start, min(start + PART, tunnels))
        control.program(records(local, peer, tunnels, by_index, numbers=numbers))


def frame_records(peer: str, teid: int, vlan: int) -> list[Record]:
    """A tunnel to a peer that is there; it carries the frames of a VLAN."""
    return [
        GtpuTunnelRecord(ENDPOINT, teid, teid, ipaddress.ip_address(peer), payload=GtpuPayload.ETHERNET),
        UePrefixRecord(vlan, ENDPOINT, teid),
    ]


def feature(vpp: Vpp, interface: str, node: str) -> Switch:
    """One feature of ours on one interface, without the others that the product puts there."""
    command = f"set interface feature {interface} {node} arc ip4-unicast"

    def run(line: str) -> None:
        vpp.cli(line)

    return Switch(lambda: run(command), lambda: run(f"{command} disable"))
