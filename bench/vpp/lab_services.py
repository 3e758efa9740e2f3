"""Services: packets of known flows, first packets of new ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.vpp import network, services_in_tree, services_own
from bench.vpp.control import Control
from bench.vpp.engine import BenchError, Setup, Vpp
from bench.vpp.labs import NO_PLUGINS, Bench, count_text, round_packets, side_by_side
from bench.vpp.measure import VECTOR, Case, send
from bench.vpp.network import Pair
from bench.vpp.records import NEW_FLOWS, Rate
from bench.vpp.services_own import V4, V6, Family

from vpp_operator.dataplane.records import Protocol

KNOWN = "Services: packets of known flows, at random"
FAMILIES = "Services: IPv6 beside IPv4, at random"
NEW_PACKETS = 256 * VECTOR
SLACK = 0.002
"""klb's filter takes few clients for endpoints by chance: the feature then does what klb4-vip would have."""
LB_SERVICES = 10_000
"""More of them are given to VPP's lb in labs of their own only: that takes minutes."""
LB = "in-tree lb4-nat4-port, UDP, to the Service"
LB_TAKES = "two commands each, which look through all VIPs that are there: minutes, in a lab of its own"


def known(flows: int, count: int) -> Callable[[Bench], None]:
    """Packets of known flows, in a random order, to `count` Services of one endpoint each."""
    return _known(flows, count, _in_tree)


def beside_lb(flows: int, count: int) -> Callable[[Bench], None]:
    """`known` with VPP's lb alone, however long it takes to program."""
    return _known(flows, count, _in_tree_lb)


def _known(
    flows: int, count: int, others: Callable[[Bench, Vpp, int, int, str], list[Case]]
) -> Callable[[Bench], None]:
    def run(bench: Bench) -> None:
        load = f"{count_text(flows, 'flow')}, {count_text(count, 'Service')}"
        base = services_in_tree.cnat_setup(flows)

        def in_tree(vpp: Vpp) -> list[Case]:
            return others(bench, vpp, flows, count, load)

        def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
            bench.measure(vpp, cases + _own(bench, vpp, control, flows, count, load), control)

        side_by_side(
            bench,
            services_own.setup(flows, count, base) if bench.own else base,
            KNOWN,
            load,
            in_tree,
            own,
        )

    return run


def _in_tree(bench: Bench, vpp: Vpp, flows: int, count: int, load: str) -> list[Case]:
    cases = []
    if count <= LB_SERVICES:
        cases += _in_tree_lb(bench, vpp, flows, count, load)
    else:
        bench.leave(KNOWN, LB, load, LB_TAKES)
    to = network.pair(vpp, 1 if cases else 0)
    _rate(bench, services_in_tree.program_cnat(vpp, to, count))
    stream = services_in_tree.flow_packets(flows, count, services_in_tree.CNAT_VIPS)
    network.add_stream(vpp, "cnat", to.inside, to.inside_mac, stream)
    path, plugin = services_in_tree.CNAT_PATH, services_in_tree.CNAT_PLUGIN
    name, length = "in-tree cnat, UDP, to the Service", round_packets(flows)
    return [*cases, Case(KNOWN, name, load, "cnat", path, plugin, length)]


def _in_tree_lb(bench: Bench, vpp: Vpp, flows: int, count: int, load: str) -> list[Case]:
    to = network.pair(vpp, 0)
    _rate(bench, services_in_tree.program_lb(vpp, to, count, flows))
    stream = services_in_tree.flow_packets(flows, count, services_in_tree.LB_VIPS)
    network.add_stream(vpp, "lb", to.inside, to.inside_mac, stream)
    path, plugin = services_in_tree.LB_PATH, services_in_tree.LB_PLUGIN
    return [Case(KNOWN, LB, load, "lb", path, plugin, round_packets(flows))]


def _rate(bench: Bench, made: Rate) -> None:
    if made.records >= 1000:
        bench.results.rates.append(made)


def _own(bench: Bench, vpp: Vpp, control: Control, flows: int, count: int, load: str) -> list[Case]:
    to = network.pair(vpp, 2)
    timed = services_own.program(vpp, control, to, count)
    if count >= 1000:
        name = f"ours, typed records to results: {count_text(count, 'Service')} for TCP and UDP, one endpoint"
        bench.results.rates.append(Rate("programming", name, timed.records, timed.total))
    return own_cases(vpp, control, to, flows, count, load)


def own_cases(
    vpp: Vpp, control: Control, to: Pair, flows: int, count: int, load: str, family: Family = V4
) -> list[Case]:
    """Begin the flows and return the cases of their packets; BenchError if not all are alive then."""
    cases, before = [], control.sessions()
    name = "klb" if family is V4 else "klb over IPv6"
    for protocol in (Protocol.UDP, Protocol.TCP):
        for stream in services_own.add_streams(vpp, to, flows, count, protocol, family):
            send(vpp, stream, flows)
        for what, direction, proof in (
            ("forward", "to the Service", "forward"),
            ("reply", "from the endpoint", "reverse"),
        ):
            cases.append(
                Case(
                    KNOWN,
                    f"{name}, {protocol.name}, {direction}",
                    load,
                    services_own.stream_name(protocol, what, family),
                    family.path,
                    services_own.PLUGIN,
                    round_packets(flows),
                    slack=SLACK,
                    proof=(proof,),
                )
            )
    if (alive := control.sessions() - before) != 2 * flows:
        raise BenchError(f"{alive} sessions are alive, not {2 * flows}: flows were not entered")
    return cases


def families(flows: int, count: int) -> Callable[[Bench], None]:
    """Known flows over IPv4 and over IPv6 in turns, so many of each; VPP's lb and cnat are not in it."""

    def run(bench: Bench) -> None:
        load = f"{count_text(flows, 'flow')}, {count_text(count, 'Service')}"
        if not bench.own:
            bench.leave(FAMILIES, "klb", load, NO_PLUGINS)
            return
        base = services_own.setup(flows, 2 * count, Setup())
        with bench.vpp(base) as vpp, bench.control(vpp) as control:
            to, cases = network.pair(vpp, 0), []
            for family in (V4, V6):
                services_own.program(vpp, control, to, count, family)
                cases += own_cases(vpp, control, to, flows, count, load, family)
            bench.measure(vpp, [replace(case, group=FAMILIES) for case in cases], control)

    return run


def new(live: int) -> Callable[[Bench], None]:
    """First packets, each of a flow of its own, beside so many live ones; 1,000 Services."""

    def run(bench: Bench) -> None:
        count = 1000
        fresh = NEW_PACKETS * (bench.rounds + 1)
        load = f"beside {count_text(live, 'live flow')}, {count_text(count, 'Service')}"
        base = services_in_tree.cnat_setup(live + fresh)

        def in_tree(vpp: Vpp) -> list[Case]:
            cases = [_once(case) for case in _in_tree(bench, vpp, live + fresh, count, load)]
            for case in cases:
                send(vpp, case.stream, live)
            return cases

        def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
            to = network.pair(vpp, 2)
            services_own.program(vpp, control, to, count)
            for protocol in (Protocol.UDP, Protocol.TCP):
                stream = services_own.add_streams(vpp, to, live + fresh, count, protocol)[0]
                send(vpp, stream, live)
                plugin, path = services_own.PLUGIN, services_own.FORWARD_PATH
                case = Case(NEW_FLOWS, f"klb, {protocol.name}", load, stream, path, plugin, slack=SLACK)
                cases.append(_once(replace(case, proof=("sessionsCreated",))))
            bench.measure(vpp, cases, control)

        setup = services_own.setup(live + fresh, count, base) if bench.own else base
        side_by_side(bench, setup, NEW_FLOWS, load, in_tree, own)

    return run


def _once(case: Case) -> Case:
    """The case with packets that come once only."""
    name = case.name.removesuffix(", to the Service")
    return replace(case, group=NEW_FLOWS, name=name, packets=NEW_PACKETS, repeats=False)
