"""The same packets with our tables on 4 KiB pages, then on 2 MiB pages; all other memory on 2 MiB pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.vpp import gtpu_own, lab_services, native, network, services_own
from bench.vpp.control import Control
from bench.vpp.engine import Setup, Vpp
from bench.vpp.gtpu_own import ALL
from bench.vpp.lab_gtpu import load_text
from bench.vpp.lab_switches import BothWays
from bench.vpp.labs import NO_PLUGINS, Bench, count_text
from bench.vpp.measure import Case

GROUP = "Pages of the tables"


def service_pages(flows: int) -> Callable[[Bench], None]:
    """Known flows of 1,000 Services."""

    def run(bench: Bench) -> None:
        count = 1000
        load = f"{count_text(flows, 'flow')}, {count_text(count, 'Service')}"
        if not bench.own:
            bench.leave(GROUP, "klb", load, NO_PLUGINS)
            return
        base = Setup(heap=(4 << 30) + flows * 1024, preload=bench.built(native.small_pages_library))
        with bench.vpp(services_own.setup(flows, count, base)) as vpp, bench.control(vpp) as control:
            to = network.pair(vpp, 0)
            services_own.program(vpp, control, to, count)
            _both(bench, vpp, control, lab_services.own_cases(vpp, control, to, flows, count, load))

    return run


def tunnel_pages(tunnels: int) -> Callable[[Bench], None]:
    """Decapsulation by index and encapsulation, all switches on, at random."""

    def run(bench: Bench) -> None:
        if not bench.own:
            bench.leave(GROUP, "kgtpu", load_text(tunnels, True), NO_PLUGINS)
            return
        base = Setup(preload=bench.built(native.small_pages_library))
        with bench.vpp(gtpu_own.setup(tunnels, base)) as vpp, bench.control(vpp) as control:
            ways = BothWays.make(vpp, control, tunnels)
            decap = ways.decap(GROUP, "kgtpu, decapsulation", ALL)
            encap = ways.encap(GROUP, "kgtpu, encapsulation", ALL)
            _both(bench, vpp, control, [decap, encap])

    return run


def _both(bench: Bench, vpp: Vpp, control: Control, cases: Sequence[Case]) -> None:
    for text, huge in (("4 KiB", False), ("2 MiB", True)):
        renamed = [replace(case, group=GROUP, name=f"{case.name}, {text} pages") for case in cases]
        bench.measure(vpp, renamed, control, huge)
        share = vpp.huge_tables()
        bench.say(f"  {100 * share:.0f} of 100 bytes of the tables lie on 2 MiB pages")
        if (share > 0.9) is not huge:
            bench.withdraw(renamed, f"the kernel did not put the tables onto {text} pages")
