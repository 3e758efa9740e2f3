"""Packets that are neither for a Service nor GTP-U, and what the plugins cost them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace

from bench.vpp import gtpu_in_tree, gtpu_own, native, network, packets, services_in_tree, services_own
from bench.vpp.control import Control
from bench.vpp.engine import BenchError, Setup, Vpp
from bench.vpp.labs import NO_PLUGINS, Bench, count_text
from bench.vpp.measure import Case, Switch
from bench.vpp.network import Pair, address

from vpp_operator.dataplane.records import PrefixClass, PrefixRecord

GROUP = "IPv4 forwarding of other packets"
PATH = ("ip4-input", "ip4-lookup", "ip4-rewrite")
FLOWS = 65536
NOOP = "a feature that does nothing"
MANY = count_text(FLOWS, "flow") + ", random"


def forwarding(bench: Bench) -> None:
    """Plain IPv4 forwarding, without and with the plugins' features on the interface that packets come by."""
    base = Setup()
    try:
        noop = bench.built(lambda directory: native.noop_plugin(bench.installation, directory))
        base = replace(base, plugins=(noop,))
    except BenchError as error:
        bench.leave(GROUP, NOOP, MANY, str(error))
    with bench.vpp(gtpu_own.setup(1024, services_own.setup(1024, 1024, base)) if bench.own else base) as vpp:
        to = network.pair(vpp, 0)
        vpp.cli(f"ip route add 48.0.0.0/8 via {to.next_hop} {to.outside}")
        _stream(vpp, "one", to, 1)
        _stream(vpp, "many", to, FLOWS)
        gtpu_in_tree.add_tunnels(vpp, to.local, to.peer, 1, "ip4")
        bypass = f"set interface ip gtpu-bypass {to.inside}"
        store = f"qos store ip {to.inside}"
        replies = f"lb set interface nat4 in {to.inside}"
        cases = [
            Case(GROUP, "no feature", count_text(1, "flow"), "one", PATH),
            Case(GROUP, "no feature", MANY, "many", PATH),
            *(
                [_feature(NOOP, native.NOOP, gtpu_own.feature(vpp, to.inside, native.NOOP))]
                if base.plugins
                else []
            ),
            _feature(
                "VPP's cheapest feature (qos store)",
                "ip4-qos-store",
                Switch(run(vpp, f"{store} value 0"), run(vpp, f"{store} value 0 disable")),
            ),
            _feature(
                "in-tree gtpu-bypass",
                "ip4-gtpu-bypass",
                Switch(run(vpp, bypass), run(vpp, f"{bypass} del")),
            ),
            _feature(
                "in-tree lb nat4 (replies)",
                "lb-nat4-in2out",
                Switch(run(vpp, replies), run(vpp, f"{replies} del")),
            ),
        ]
        if not bench.own:
            bench.leave(GROUP, "our features", MANY, NO_PLUGINS)
            bench.measure(vpp, cases)
            return
        with bench.control(vpp) as control:
            bench.measure(vpp, cases + _own(vpp, control, to), control)


def _own(vpp: Vpp, control: Control, to: Pair) -> list[Case]:
    control.program(services_own.records(1000))
    # another address than the in-tree tunnel's: that one has UDP port 2152 of this interface's address
    vpp.cli(f"set interface ip address {to.inside} 10.200.0.1/24")
    control.program(gtpu_own.records("10.200.0.1", to.peer, 1000))
    control.program([PrefixRecord(ipaddress.ip_network(f"{to.local}/32"), PrefixClass.HOST)])

    def switches(wanted: gtpu_own.Switches) -> Callable[[], None]:
        return lambda: _ignore(control.program([wanted.record()]))

    off, fib = (gtpu_own.Switches(bypass=form) for form in ("", "fib"))
    switches(off)()
    bypass = gtpu_own.feature(vpp, to.inside, "kgtpu4-bypass")
    return [
        _feature("klb", "klb4-feature", gtpu_own.feature(vpp, to.inside, "klb4-feature")),
        _feature("kgtpu gtpuBypass, form Feature", "kgtpu4-bypass", bypass),
        Case(
            GROUP,
            "kgtpu gtpuBypass, form Fib",
            MANY,
            "many",
            PATH,
            switch=Switch(switches(fib), switches(off)),
        ),
    ]


def _feature(name: str, node: str, switch: Switch) -> Case:
    path = ("ip4-input", node, "ip4-lookup", "ip4-rewrite")
    return Case(GROUP, f"{name} on the interface", MANY, "many", path, frozenset({node}), switch=switch)


def run(vpp: Vpp, command: str) -> Callable[[], None]:
    """The CLI command as a step of a switch."""
    return lambda: _ignore(vpp.cli(command))


def _ignore(_: object) -> None:
    pass


def _stream(vpp: Vpp, name: str, to: Pair, flows: int) -> None:
    source, destination = address("16.0.0.0"), address("48.0.0.1")
    network.add_stream(
        vpp,
        name,
        to.inside,
        to.inside_mac,
        (
            packets.udp(source + i, destination, 1000, 2000, services_in_tree.PLAIN)
            for i in packets.shuffled(flows)
        ),
    )
