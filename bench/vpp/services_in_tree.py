"""VPP's own load balancers: lb (lb4-nat4-port, UDP) and cnat."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from bench.vpp import packets
from bench.vpp.engine import BenchError, Setup, Vpp
from bench.vpp.network import Pair, address, awake, dotted
from bench.vpp.records import Rate

CLIENTS = address("16.0.0.0")
PORT = 20000
TARGET_PORT = 3307
LB_VIPS, LB_SERVERS = address("90.0.0.0"), address("100.80.0.0")
CNAT_VIPS, CNAT_SERVERS = address("91.0.0.0"), address("100.96.0.0")
"""Service i has the address VIPS + i and one backend, SERVERS + i."""

LB_PATH = ("ip4-input", "ip4-lookup", "lb4-nat4-port", "ip4-load-balance", "ip4-rewrite")
LB_PLUGIN = frozenset({"lb4-nat4-port", "lb-nat4-in2out"})
CNAT_PATH = (
    "ip4-input",
    "cnat-lookup-ip4",
    "cnat-input-ip4",
    "ip4-lookup",
    "ip4-rewrite",
    "cnat-output-ip4",
    "cnat-writeback-ip4",
)
CNAT_PLUGIN = frozenset(name for name in CNAT_PATH if name.startswith("cnat"))
PLAIN = bytes(22)


def cnat_setup(flows: int) -> Setup:
    """VPP with room in cnat for so many flows, none of which ends while it is measured."""
    return Setup(
        heap=(4 << 30) + flows * 2048,
        cnat=("session-max-age 7200", "scanner off", f"session-max {max(2 * flows, 65536)}"),
    )


def flow_packets(flows: int, services: int, vips: int, at_random: bool = True) -> Iterator[bytes]:
    """One 50-byte UDP packet of each flow. Flow i is of service i modulo `services`."""
    for i in packets.shuffled(flows) if at_random else range(flows):
        client = i // services
        yield packets.udp(CLIENTS + client, vips + i % services, 1024 + client % 50000, PORT, PLAIN)


def program_lb(vpp: Vpp, to: Pair, services: int, flows: int) -> Rate:
    """Services of lb with NAT to one backend each; a sticky table that no flow is pushed out of."""
    vpp.cli(f"ip route add 100.80.0.0/12 via {to.next_hop} {to.outside}")
    buckets = max(10, (flows - 1).bit_length())
    vpp.cli(f"lb conf ip4-src-address {to.local} buckets-log2 {buckets} timeout 7200")
    began = time.monotonic()
    lines = []
    for i in range(services):
        vip = f"{dotted(LB_VIPS + i)}/32 protocol udp port {PORT}"
        lines.append(f"lb vip {vip} encap nat4 type clusterip target_port {TARGET_PORT} new_len 16")
        lines.append(f"lb as {vip} {dotted(LB_SERVERS + i)}")
    with awake(vpp):
        vpp.script(lines)
    seconds = time.monotonic() - began
    # lb_as_dump answers prefix lengths that vpp_papi cannot read (an IPv4 VIP of 128 bits).
    shown = re.search(r"#ass: (\d+)", vpp.cli("show lb"))
    made = int(shown[1]) if shown else 0
    if made != services:
        raise BenchError(f"lb has {made} of {services} backends")
    return Rate("programming", "in-tree lb, CLI script: one VIP and one backend each", services, seconds)


def program_cnat(vpp: Vpp, to: Pair, services: int) -> Rate:
    """Translations of cnat with one backend each, its features on both interfaces."""
    vpp.cli(f"ip route add 100.96.0.0/12 via {to.next_hop} {to.outside}")
    for name in (to.inside, to.outside):
        vpp.cli(f"set cnat feature {name} enable")
    began = time.monotonic()
    with awake(vpp):
        vpp.script(
            [
                f"cnat translation add proto udp vip {dotted(CNAT_VIPS + i)} {PORT}"
                f" to ->{dotted(CNAT_SERVERS + i)} {TARGET_PORT}"
                for i in range(services)
            ]
        )
    seconds = time.monotonic() - began
    made = len(vpp.call("cnat_translation_dump"))
    if made != services:
        raise BenchError(f"cnat has {made} of {services} translations")
    return Rate("programming", "in-tree cnat, CLI script: one translation each", services, seconds)
