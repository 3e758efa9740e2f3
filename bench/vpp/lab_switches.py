"""The six optimisations of GTP-U: every switch alone, all, and all without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from bench.vpp import gtpu_in_tree, gtpu_own, network
from bench.vpp.control import Control
from bench.vpp.engine import Setup, Vpp
from bench.vpp.gtpu_own import ALL, Switches
from bench.vpp.lab_gtpu import load_text, set_switches
from bench.vpp.labs import NO_PLUGINS, Bench, round_packets
from bench.vpp.measure import Case
from bench.vpp.network import Pair, address

SWITCHES_DECAP = "Optimisations: decapsulation"
SWITCHES_ENCAP = "Optimisations: encapsulation"

OFF: dict[str, object] = {
    "cache": False,
    "skip_inner": False,
    "bypass": "",
    "loop": 1,
    "prefetch": False,
    "skip_outer": False,
}


def _with(switches: Switches, name: str, value: object) -> Switches:
    return replace(switches, **{name: value})  # type: ignore[arg-type]


def combinations(names: Iterable[str]) -> list[tuple[str, Switches]]:
    """Rows of an optimisation table: all off, each alone, all on, all but each. Pure."""
    forms = {"bypass": ("feature", "fib"), "loop": (2, 4)}
    wanted = list(names)
    rows: list[tuple[str, Switches]] = [("all off", Switches())]
    for name in wanted:
        for value in forms.get(name, (True,)):
            switches = _with(Switches(), name, value)
            rows.append((f"{switches.text} alone", switches))
    everything = ALL
    for name in set(OFF) - set(wanted):
        everything = _with(everything, name, OFF[name])
    rows.append(("all on", everything))
    for name in wanted:
        missing = _with(Switches(), name, getattr(ALL, name)).text
        rows.append((f"all but {missing}", _with(everything, name, OFF[name])))
    return rows


@dataclass(frozen=True)
class BothWays:
    """Our tunnels of one endpoint, and streams of both directions, at random or in the tunnels' order.

    Their peer is reached by another interface than packets to users come by.
    """

    vpp: Vpp
    control: Control
    inward: Pair
    outward: Pair
    tunnels: int
    at_random: bool = True

    @staticmethod
    def make(vpp: Vpp, control: Control, tunnels: int, at_random: bool = True) -> BothWays:
        """Interfaces, records, streams."""
        inward, outward = network.pair(vpp, 0), network.pair(vpp, 1)
        vpp.cli(f"ip route add 50.0.0.0/8 via {inward.next_hop} {inward.outside}")
        control.program(gtpu_own.records(inward.local, inward.peer, tunnels))
        numbers = gtpu_in_tree.order(tunnels, at_random, 256)
        gtpu_in_tree.add_decap_stream(
            vpp, "decap", inward, inward.local, inward.peer, address("50.0.0.1"), numbers
        )
        numbers = gtpu_in_tree.order(tunnels, at_random, 256)
        gtpu_in_tree.add_encap_stream(vpp, "encap", outward, address("16.0.0.1"), numbers)
        return BothWays(vpp, control, inward, outward, tunnels, at_random)

    def decap(self, group: str, name: str, switches: Switches) -> Case:
        """Decapsulation by these switches."""
        switch = set_switches(self.vpp, self.control, self.inward, switches)
        path, proof = switches.decap_path(), switches.decap_proof()
        return replace(self._case(group, name, "decap", path), switch=switch, proof=proof)

    def encap(self, group: str, name: str, switches: Switches) -> Case:
        """Encapsulation by these switches."""
        switch = set_switches(self.vpp, self.control, self.outward, switches)
        path, proof = switches.encap_path(), switches.encap_proof()
        return replace(self._case(group, name, "encap", path), switch=switch, proof=proof)

    def _case(self, group: str, name: str, stream: str, path: tuple[str, ...]) -> Case:
        load, length = load_text(self.tunnels, self.at_random), round_packets(self.tunnels)
        return Case(group, name, load, stream, path, gtpu_own.PLUGIN, length)


def optimisations(tunnels: int, at_random: bool = True) -> Callable[[Bench], None]:
    """Every switch alone, and everything without it, in both directions."""

    def run(bench: Bench) -> None:
        if not bench.own:
            bench.leave(SWITCHES_DECAP, "all", load_text(tunnels, at_random), NO_PLUGINS)
            return
        with bench.vpp(gtpu_own.setup(tunnels, Setup())) as vpp, bench.control(vpp) as control:
            ways = BothWays.make(vpp, control, tunnels, at_random)
            cases = [
                ways.decap(SWITCHES_DECAP, name, switches)
                for name, switches in combinations(("cache", "skip_inner", "bypass", "loop", "prefetch"))
            ]
            cases += [
                ways.encap(SWITCHES_ENCAP, name, switches)
                for name, switches in combinations(("loop", "prefetch", "skip_outer"))
            ]
            bench.measure(vpp, cases, control)

    return run
