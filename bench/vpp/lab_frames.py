"""GTP-U with Ethernet inside: decapsulation, beside VPP's own plugin. Encapsulation is in `lab_gtpu`."""

from __future__ import annotations

from dataclasses import replace

from bench.vpp import gtpu_in_tree, gtpu_own, network, packets
from bench.vpp.control import Control
from bench.vpp.engine import Vpp
from bench.vpp.gtpu_own import ALL, Switches
from bench.vpp.lab_gtpu import load_text, set_switches, setup
from bench.vpp.labs import Bench, side_by_side
from bench.vpp.measure import VECTOR, Case
from bench.vpp.network import Pair, address

GROUP = "GTP-U: decapsulation, Ethernet payload, 114 bytes in"
LOAD = load_text(1, False)
FRAME = packets.ethernet(
    packets.PEER_MAC, packets.udp(gtpu_in_tree.USERS, address("50.0.0.1"), 1000, 2000, gtpu_in_tree.PLAIN)
)
"""Inside: 64 bytes."""
IN_TREE, VLAN = 1, 100
OWN_TEID = 2


def decapsulation(bench: Bench) -> None:
    """One tunnel whose G-PDUs hold frames of 64 bytes.

    VPP's own plugin hands them to an interface that is cross-connected with the tunnel's; ours sends those of
    all tunnels by one interface, tagged with the VLAN of the tunnel.
    """

    def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
        to, link = network.pair(vpp, 1), network.pair(vpp, 2)
        vpp.cli(f"set khost interface {link.outside} ethernet")
        control.program(gtpu_own.records(to.local, to.peer, 1))
        control.program(gtpu_own.frame_records(to.peer, OWN_TEID, VLAN))
        _stream(vpp, "own", to, OWN_TEID)
        ours = [_own(vpp, control, to, switches) for switches in (ALL, replace(ALL, bypass="feature"))]
        bench.measure(vpp, [*cases, *ours], control)

    side_by_side(bench, setup(bench, 1, 1), GROUP, LOAD, _in_tree, own)


def _stream(vpp: Vpp, name: str, to: Pair, teid: int) -> None:
    packet = packets.gtpu(address(to.peer), address(to.local), teid, FRAME)
    network.add_stream(vpp, name, to.inside, to.inside_mac, [packet] * VECTOR)


def _in_tree(vpp: Vpp) -> list[Case]:
    to = network.pair(vpp, 0)
    made = gtpu_in_tree.add_tunnels(vpp, to.local, to.peer, 1, "l2")
    gtpu_in_tree.connect(vpp, to.outside, f"gtpu_tunnel{made.first}")
    vpp.cli(f"set interface ip gtpu-bypass {to.inside}")
    _stream(vpp, "in-tree", to, IN_TREE)
    name, path = "in-tree, best configuration (cross-connect)", gtpu_in_tree.ETHERNET_BEST_PATH
    return [Case(GROUP, name, LOAD, "in-tree", path, gtpu_in_tree.PLUGIN, leaves=len(FRAME))]


def _own(vpp: Vpp, control: Control, to: Pair, switches: Switches) -> Case:
    return Case(
        GROUP,
        f"kgtpu, all switches on, gtpuBypass {switches.bypass.capitalize()} (VLAN)",
        LOAD,
        "own",
        switches.frame_decap_path(),
        gtpu_own.PLUGIN,
        switch=set_switches(vpp, control, to, switches),
        proof=switches.frame_decap_proof(),
        leaves=len(FRAME) + packets.TAG,
    )
