"""GTP-U: decapsulation and encapsulation, beside VPP's own plugin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.vpp import gtpu_in_tree, gtpu_own, network, packets
from bench.vpp.control import Control
from bench.vpp.engine import Setup, Vpp
from bench.vpp.gtpu_in_tree import ETHERNET_HEADER, INNER, LONGER, OUTER, PLAIN
from bench.vpp.gtpu_own import ALL, Switches
from bench.vpp.labs import Bench, count_text, round_packets, side_by_side
from bench.vpp.measure import VECTOR, Case, Switch
from bench.vpp.network import Pair, address
from bench.vpp.records import Rate

DECAP = "GTP-U: decapsulation, IPv4 payload, 98 bytes in"
ENCAP = "GTP-U: encapsulation, 64 bytes in"
DECAPSULATED = ETHERNET_HEADER + 28 + len(INNER)
"""Bytes of a frame out."""
FRAME_OUT = ETHERNET_HEADER + OUTER + 64
TWO_SETS = 100_000
"""More tunnels are given to VPP's own plugin once only, for its best configuration: each is an interface."""
LATER = "a tunnel is an interface there: programming them takes minutes, in a lab of its own"
ALTERNATING = 10_000
"""With more tunnels, cases that need our tables away are measured before these are filled."""


def load_text(tunnels: int, at_random: bool) -> str:
    """For example "3,000 tunnels, random"."""
    return count_text(tunnels, "tunnel") + ("" if tunnels == 1 else ", random" if at_random else ", in order")


def _orders(tunnels: int) -> tuple[bool, ...]:
    return (False, True) if tunnels > 1 else (False,)


def setup(bench: Bench, tunnels: int, interfaces: int) -> Setup:
    """Room for interfaces, one for each in-tree tunnel, and for our tables."""
    base = Setup(heap=(4 << 30) + interfaces * 10240, statistics=(256 << 20) + interfaces * 10240)
    return gtpu_own.setup(tunnels, base) if bench.own else base


# ---- decapsulation ----


def decapsulation(tunnels: int, beside: bool = True) -> Callable[[Bench], None]:
    """Frames of 98 bytes with an IPv4 packet in a G-PDU; without `beside` not by VPP's own plugin."""

    def run(bench: Bench) -> None:
        def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
            to = network.pair(vpp, 2)
            vpp.cli(f"ip route add 50.0.0.0/8 via {to.next_hop} {to.outside}")
            if tunnels > ALTERNATING:
                bench.measure(vpp, [case for case in cases if _needs_port(case)])
                cases = [case for case in cases if not _needs_port(case)]
            _program(bench, control, to, to.peer, tunnels, beside)
            ours = [
                _own_decap(vpp, control, to, switches, tunnels, at_random)
                for at_random in _orders(tunnels)
                for switches in (ALL, replace(ALL, bypass="feature"))
            ]
            for at_random in _orders(tunnels):
                _decap_stream(vpp, to, tunnels, at_random)
            bench.measure(vpp, [*(_alone(control, case) for case in cases), *ours], control)
            if tunnels >= 1000:
                control.remove(gtpu_own.TABLES)
                gtpu_own.program_in_parts(control, to.local, to.peer, tunnels, by_index=False)
                hashed = _own_decap(vpp, control, to, ALL, tunnels, True, ", TEIDs by hash")
                bench.measure(vpp, [hashed], control)

        _side_by_side(
            bench,
            DECAP,
            tunnels,
            2 if tunnels <= TWO_SETS else 1,
            (lambda vpp: _in_tree_decap(bench, vpp, tunnels)) if beside else LATER,
            own,
        )

    return run


def _side_by_side(
    bench: Bench,
    group: str,
    tunnels: int,
    sets: int,
    in_tree: Callable[[Vpp], list[Case]] | str,
    own: Callable[[Vpp, Control, list[Case]], None],
) -> None:
    """`side_by_side`, with `sets` times as many interfaces as tunnels for VPP's own."""
    interfaces = 0 if isinstance(in_tree, str) else tunnels * sets
    side_by_side(bench, setup(bench, tunnels, interfaces), group, load_text(tunnels, True), in_tree, own)


def _needs_port(case: Case) -> bool:
    """Whether the case needs UDP port 2152 for VPP's own plugin."""
    return "ip4-udp-lookup" in case.path


def _alone(control: Control, case: Case) -> Case:
    """An in-tree case with our local address away meanwhile: UDP port 2152 is then the in-tree plugin's."""
    if not _needs_port(case):
        return case
    gone: dict[str, object] = {}

    def enter() -> None:
        gone["tables"] = control.remove(gtpu_own.TABLES)

    def leave() -> None:
        control.restore(gone.pop("tables"))  # type: ignore[arg-type]

    return replace(case, switch=Switch(enter, leave))


def _in_tree_decap(bench: Bench, vpp: Vpp, tunnels: int) -> list[Case]:
    default, best = network.pair(vpp, 0), network.pair(vpp, 1)
    vpp.cli(f"ip route add 48.0.0.0/8 via {default.next_hop} {default.outside}")
    vpp.cli(f"ip route add 49.0.0.0/8 via {best.next_hop} {best.outside}")
    forms: list[tuple[str, Pair, str, tuple[str, ...]]] = []
    first = 0
    if tunnels <= TWO_SETS:
        made = gtpu_in_tree.add_tunnels(vpp, default.local, default.peer, tunnels, "ip4")
        gtpu_in_tree.enable_ip(vpp, made, default.inside)
        forms.append(("in-tree, default", default, "48.0.0.1", gtpu_in_tree.DEFAULT_PATH))
        first = tunnels
    else:
        reason = "two sets of so many interfaces find no room"
        bench.leave(DECAP, "in-tree, default", load_text(tunnels, True), reason)
    made = gtpu_in_tree.add_tunnels(vpp, best.local, best.peer, tunnels, "node ip4-lookup", first)
    vpp.cli(f"set interface ip gtpu-bypass {best.inside}")
    forms.append(("in-tree, best configuration", best, "49.0.0.1", gtpu_in_tree.best_path()))
    if tunnels >= 1000:
        bench.results.rates.append(made.rate)
    cases = []
    for at_random in _orders(tunnels):
        for name, to, destination, path in forms:
            stream = f"{to.inside}-{'random' if at_random else 'order'}"
            numbers = gtpu_in_tree.order(tunnels, at_random, 256)
            gtpu_in_tree.add_decap_stream(vpp, stream, to, to.local, to.peer, address(destination), numbers)
            plugin, length = gtpu_in_tree.PLUGIN, round_packets(tunnels)
            load = load_text(tunnels, at_random)
            cases.append(Case(DECAP, name, load, stream, path, plugin, length, leaves=DECAPSULATED))
    return cases


def _program(bench: Bench, control: Control, to: Pair, peer: str, tunnels: int, beside: bool) -> None:
    if beside and tunnels > TWO_SETS:
        # VPP's own take most of the memory; how long ours takes is measured without them
        gtpu_own.program_in_parts(control, to.local, peer, tunnels)
        return
    timed = control.program(gtpu_own.records(to.local, peer, tunnels))
    if tunnels >= 1000:
        name = f"ours, typed records to results: {count_text(tunnels, 'tunnel')} and their users"
        bench.results.rates.append(Rate("programming", name, timed.records, timed.total))


def _decap_stream(vpp: Vpp, to: Pair, tunnels: int, at_random: bool) -> None:
    numbers = gtpu_in_tree.order(tunnels, at_random, 256)
    name = _stream_name(to, at_random)
    gtpu_in_tree.add_decap_stream(vpp, name, to, to.local, to.peer, address("50.0.0.1"), numbers)


def _stream_name(to: Pair, at_random: bool) -> str:
    return f"{to.inside}-{'random' if at_random else 'order'}"


def _own_decap(
    vpp: Vpp,
    control: Control,
    to: Pair,
    switches: Switches,
    tunnels: int,
    at_random: bool,
    more: str = "",
) -> Case:
    form = f"gtpuBypass {switches.bypass.capitalize()}"
    return Case(
        DECAP,
        f"kgtpu, all switches on, {form}{more}",
        load_text(tunnels, at_random),
        _stream_name(to, at_random),
        switches.decap_path(),
        gtpu_own.PLUGIN,
        round_packets(tunnels),
        switch=set_switches(vpp, control, to, switches),
        proof=switches.decap_proof(),
        leaves=DECAPSULATED,
    )


def set_switches(vpp: Vpp, control: Control, to: Pair, switches: Switches) -> Switch:
    """The switches in effect; the bypass feature, where they want it, on the interface packets come by."""
    feature = gtpu_own.feature(vpp, to.inside, "kgtpu4-bypass") if switches.bypass == "feature" else Switch()

    def enter() -> None:
        control.program([switches.record()])
        feature.enter()

    return Switch(enter, feature.leave)


# ---- encapsulation ----


def encapsulation(tunnels: int, beside: bool = True) -> Callable[[Bench], None]:
    """Frames of 64 bytes to users behind tunnels: 100 bytes out. With one tunnel two more, 114 bytes out.

    Those are packets of 64 bytes, and Ethernet of 64 bytes. For ours, whose frames of all tunnels come by one
    interface, a VLAN tag is added to the 64 bytes. Without `beside` not by VPP's own plugin.
    """

    def run(bench: Bench) -> None:
        def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
            to = network.pair(vpp, 2)
            _program(bench, control, to, to.next_hop, tunnels, beside)
            ours = [_own_encap(vpp, control, to, tunnels, *how) for how in _encap_streams(tunnels)]
            if tunnels == 1:
                ours.append(_own_frames(vpp, control, to))
            bench.measure(vpp, [*cases, *ours], control)

        in_tree = (lambda vpp: _in_tree_encap(vpp, tunnels)) if beside else LATER
        _side_by_side(bench, ENCAP, tunnels, 1, in_tree, own)

    return run


def _in_tree_encap(vpp: Vpp, tunnels: int) -> list[Case]:
    to = network.pair(vpp, 0)
    made = gtpu_in_tree.add_tunnels(vpp, to.local, to.next_hop, tunnels, "ip4")
    gtpu_in_tree.enable_ip(vpp, made, to.inside)
    gtpu_in_tree.route_users(vpp, made, gtpu_in_tree.USERS_IN_TREE)
    cases = []
    for at_random, payload in _encap_streams(tunnels):
        stream = _stream_name(to, at_random) + ("-longer" if payload == LONGER else "")
        numbers = gtpu_in_tree.order(tunnels, at_random, 256)
        gtpu_in_tree.add_encap_stream(
            vpp, stream, to, address("16.0.0.1"), numbers, gtpu_in_tree.USERS_IN_TREE, payload=payload
        )
        cases.append(
            Case(
                ENCAP,
                f"in-tree, IPv4 payload{_longer(payload)}",
                load_text(tunnels, at_random),
                stream,
                gtpu_in_tree.encap_path(),
                gtpu_in_tree.PLUGIN,
                round_packets(tunnels),
                leaves=_encapsulated(payload),
            )
        )
    if tunnels == 1:
        ethernet = network.pair(vpp, 1)
        gtpu_in_tree.cross_connect(vpp, ethernet, address("16.0.0.1"), 1)
        cases.append(
            Case(
                ENCAP,
                "in-tree, Ethernet payload (cross-connect)",
                load_text(1, False),
                "ethernet",
                gtpu_in_tree.ETHERNET_PATH,
                gtpu_in_tree.PLUGIN,
                leaves=FRAME_OUT,
            )
        )
    return cases


def _encap_streams(tunnels: int) -> list[tuple[bool, bytes]]:
    """Whether at random, and the payload."""
    return [(False, PLAIN), (False, LONGER) if tunnels == 1 else (True, PLAIN)]


def _longer(payload: bytes) -> str:
    return ", 114 bytes out" if payload == LONGER else ""


def _encapsulated(payload: bytes) -> int:
    """Bytes of a frame out."""
    return ETHERNET_HEADER + OUTER + 28 + len(payload)


def _own_encap(vpp: Vpp, control: Control, to: Pair, tunnels: int, at_random: bool, payload: bytes) -> Case:
    stream = _stream_name(to, at_random) + ("-longer" if payload == LONGER else "")
    numbers = gtpu_in_tree.order(tunnels, at_random, 256)
    gtpu_in_tree.add_encap_stream(vpp, stream, to, address("16.0.0.1"), numbers, payload=payload)
    return Case(
        ENCAP,
        f"kgtpu, all switches on, IPv4 payload{_longer(payload)}",
        load_text(tunnels, at_random),
        stream,
        ALL.encap_path(),
        gtpu_own.PLUGIN,
        round_packets(tunnels),
        switch=set_switches(vpp, control, to, ALL),
        proof=ALL.encap_proof(),
        leaves=_encapsulated(payload),
    )


def _own_frames(vpp: Vpp, control: Control, to: Pair) -> Case:
    """Frames of a VLAN that enter another pair, into a tunnel to the same peer."""
    link, vlan = network.pair(vpp, 3), 100
    vpp.cli(f"set khost interface {link.inside} ethernet")
    control.program(gtpu_own.frame_records(to.next_hop, 2, vlan))
    inner = packets.udp(address("16.0.0.1"), gtpu_in_tree.USERS, 2000, 1000, gtpu_in_tree.PLAIN)
    frames = (packets.tagged(link.inside_mac, vlan, inner) for _ in range(VECTOR))
    network.add_frames(vpp, "frames", link.inside, frames)
    return Case(
        ENCAP,
        "kgtpu, all switches on, Ethernet payload (VLAN)",
        load_text(1, False),
        "frames",
        ALL.frame_path(),
        gtpu_own.PLUGIN,
        leaves=FRAME_OUT,
        switch=set_switches(vpp, control, to, ALL),
        proof=ALL.encap_proof(),
    )
