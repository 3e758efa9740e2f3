"""What counting for each tunnel costs: our plugins as they are, and built so that all count in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.vpp import gtpu_own, variant
from bench.vpp.engine import BenchError, Installation, Setup
from bench.vpp.gtpu_own import ALL
from bench.vpp.lab_gtpu import load_text
from bench.vpp.lab_switches import BothWays
from bench.vpp.labs import NO_PLUGINS, Bench
from bench.vpp.records import COUNTERS


def counters(tunnels: int) -> Callable[[Bench], None]:
    """Decapsulation and encapsulation at random, all switches on; one VPP after the other."""

    def run(bench: Bench) -> None:
        load = load_text(tunnels, True)
        if not bench.own:
            bench.leave(COUNTERS, "kgtpu", load, NO_PLUGINS)
            return

        def built(directory: Path) -> Path:
            return variant.one_counter(bench.installation.prefix, directory)

        try:
            one = replace(bench.installation, own_plugins=bench.built(built))
        except BenchError as error:
            bench.leave(COUNTERS, "kgtpu, one counter for all tunnels", load, str(error))
            return
        for text, installation in (("one for all tunnels", one), ("of each tunnel", bench.installation)):
            _measure(bench, installation, tunnels, text)

    return run


def _measure(bench: Bench, installation: Installation, tunnels: int, text: str) -> None:
    there = replace(bench, installation=installation)
    with there.vpp(gtpu_own.setup(tunnels, Setup())) as vpp, there.control(vpp) as control:
        ways = BothWays.make(vpp, control, tunnels)
        cases = [
            ways.decap(COUNTERS, f"kgtpu, decapsulation, counters {text}", ALL),
            ways.encap(COUNTERS, f"kgtpu, encapsulation, counters {text}", ALL),
        ]
        there.measure(vpp, cases, control)
