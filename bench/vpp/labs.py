"""What is measured: each lab starts one VPP, programs it, and runs its cases in alternating rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.vpp import gtpu_in_tree, network, packets, services_in_tree
from bench.vpp.engine import BenchError, Installation, Setup, Vpp, running
from bench.vpp.measure import VECTOR, Case, Meter, Switch
from bench.vpp.network import Pair, address
from bench.vpp.records import Left, Results

FORWARD_PATH = ("ip4-input", "ip4-lookup", "ip4-rewrite")
SHORT_ROUND = 1024 * VECTOR


@dataclass
class Bench:
    """What all labs share. `limit_seconds`: longest that programming VPP's own plugins may take."""

    installation: Installation
    rounds: int
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)
    limit_seconds: float = 300.0

    @contextmanager
    def vpp(self, setup: Setup) -> Iterator[Vpp]:
        """A VPP for one lab."""
        with running(self.installation, setup) as vpp:
            yield vpp

    def measure(self, vpp: Vpp, cases: Sequence[Case]) -> None:
        """Rounds of the cases on 2 MiB pages; a case that does not take its path is noted as not measured."""
        vpp.collapse_pages()
        meter = Meter(vpp, self.rounds, self.say)
        sound = []
        for case in cases:
            try:
                meter.check(case)
                sound.append(case)
            except BenchError as error:
                if not vpp.alive():
                    raise
                self.leave(case.group, case.name, case.load, str(error))
        self.results.rows += meter.run(sound) if sound else []

    def leave(self, group: str, case: str, load: str, reason: str) -> None:
        """Note what is not measured, and why."""
        self.say(f"  not measured: {case}, {load}: {reason}")
        self.results.left.append(Left(group, case, load, reason))


@dataclass(frozen=True)
class Lab:
    """A lab by name: `run` adds to the bench's results."""

    name: str
    run: Callable[[Bench], None]
    long: bool = False
    """Left out of a short run."""


def count_text(count: int, what: str) -> str:
    """For example "1 flow", "64,000 flows"."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def round_packets(items: int) -> int:
    """Packets of a round that touches so many items equally often: whole vectors, at least a short round."""
    return max(SHORT_ROUND, -(-items // VECTOR) * VECTOR)


# ---- forwarding of packets that are neither, and what features cost them ----


def forwarding(bench: Bench) -> None:
    """Plain IPv4 forwarding, without and with the features of VPP's own plugins on the interfaces."""
    group = "IPv4 forwarding of other packets"
    with bench.vpp(Setup()) as vpp:
        to = network.pair(vpp, 0)
        vpp.cli(f"ip route add 48.0.0.0/8 via {to.next_hop} {to.outside}")
        _plain_stream(vpp, "one", to, 1)
        _plain_stream(vpp, "many", to, 65536)
        gtpu_in_tree.add_tunnels(vpp, to.local, to.peer, 1, "ip4")
        many = count_text(65536, "flow") + ", random"

        def switch(command: str) -> Switch:
            return Switch(lambda: _ignore(vpp.cli(command)), lambda: _ignore(vpp.cli(f"{command} del")))

        bench.measure(
            vpp,
            [
                Case(group, "no feature", count_text(1, "flow"), "one", FORWARD_PATH),
                Case(group, "no feature", many, "many", FORWARD_PATH),
                Case(
                    group,
                    "in-tree gtpu-bypass on the interface",
                    many,
                    "many",
                    ("ip4-input", "ip4-gtpu-bypass", "ip4-lookup", "ip4-rewrite"),
                    gtpu_in_tree.PLUGIN,
                    switch=switch(f"set interface ip gtpu-bypass {to.inside}"),
                ),
                Case(
                    group,
                    "in-tree lb nat4 (replies) on the interface",
                    many,
                    "many",
                    ("ip4-input", "lb-nat4-in2out", "ip4-lookup", "ip4-rewrite"),
                    services_in_tree.LB_PLUGIN,
                    switch=switch(f"lb set interface nat4 in {to.inside}"),
                ),
            ],
        )


def _ignore(_: str) -> None:
    pass


def _plain_stream(vpp: Vpp, name: str, to: Pair, flows: int) -> None:
    source, destination = address("16.0.0.0"), address("48.0.0.1")
    network.add_stream(
        vpp,
        name,
        to.inside,
        to.inside_mac,
        (packets.udp(source + i, destination, 1000, 2000, bytes(22)) for i in packets.shuffled(flows)),
    )


# ---- Services ----


def services(flows: int, count: int) -> Callable[[Bench], None]:
    """Datagrams of known flows, in a random order, to `count` Services of one endpoint each."""

    def run(bench: Bench) -> None:
        group = "Services: known flows"
        load = f"{count_text(flows, 'flow')}, {count_text(count, 'Service')}"
        length = round_packets(flows)
        cases = []
        with bench.vpp(services_in_tree.cnat_setup(flows)) as vpp:
            lb, cnat = network.pair(vpp, 0), network.pair(vpp, 1)
            bench.results.rates.append(services_in_tree.program_lb(vpp, lb, count, flows))
            stream = services_in_tree.flow_packets(flows, count, services_in_tree.LB_VIPS)
            network.add_stream(vpp, "lb", lb.inside, lb.inside_mac, stream)
            cases.append(
                Case(
                    group,
                    "in-tree lb4-nat4-port, UDP",
                    load,
                    "lb",
                    services_in_tree.LB_PATH,
                    services_in_tree.LB_PLUGIN,
                    length,
                )
            )
            bench.results.rates.append(services_in_tree.program_cnat(vpp, cnat, count))
            stream = services_in_tree.flow_packets(flows, count, services_in_tree.CNAT_VIPS)
            network.add_stream(vpp, "cnat", cnat.inside, cnat.inside_mac, stream)
            cases.append(
                Case(
                    group,
                    "in-tree cnat, UDP",
                    load,
                    "cnat",
                    services_in_tree.CNAT_PATH,
                    services_in_tree.CNAT_PLUGIN,
                    length,
                )
            )
            bench.measure(vpp, cases)

    return run


# ---- GTP-U ----


def decapsulation(tunnels: int) -> Callable[[Bench], None]:
    """Frames of 98 bytes with an IPv4 packet in a G-PDU."""

    def run(bench: Bench) -> None:
        group = "GTP-U: decapsulation, IPv4 payload, 98 bytes in"
        with bench.vpp(gtpu_setup(tunnels, 2)) as vpp:
            default, best = network.pair(vpp, 0), network.pair(vpp, 1)
            vpp.cli(f"ip route add 48.0.0.0/8 via {default.next_hop} {default.outside}")
            vpp.cli(f"ip route add 49.0.0.0/8 via {best.next_hop} {best.outside}")
            made = gtpu_in_tree.add_tunnels(vpp, default.local, default.peer, tunnels, "ip4")
            bench.results.rates.append(made.rate)
            gtpu_in_tree.enable_ip(vpp, made, default.inside)
            gtpu_in_tree.add_tunnels(vpp, best.local, best.peer, tunnels, "node ip4-lookup")
            vpp.cli(f"set interface ip gtpu-bypass {best.inside}")
            cases = []
            for at_random in (False, True) if tunnels > 1 else (False,):
                load = _load(tunnels, at_random)
                for name, to, destination, path in (
                    ("in-tree, default", default, "48.0.0.1", gtpu_in_tree.DEFAULT_PATH),
                    ("in-tree, best configuration", best, "49.0.0.1", gtpu_in_tree.BEST_PATH),
                ):
                    stream = f"{to.inside}-{'random' if at_random else 'order'}"
                    gtpu_in_tree.add_decap_stream(
                        vpp,
                        stream,
                        to,
                        to.local,
                        to.peer,
                        address(destination),
                        gtpu_in_tree.order(tunnels, at_random, 256),
                    )
                    cases.append(
                        Case(group, name, load, stream, path, gtpu_in_tree.PLUGIN, round_packets(tunnels))
                    )
            bench.measure(vpp, cases)

    return run


def encapsulation(tunnels: int) -> Callable[[Bench], None]:
    """Frames of 64 bytes to users behind tunnels: 100 bytes out; and one Ethernet tunnel, 114 bytes out."""

    def run(bench: Bench) -> None:
        group = "GTP-U: encapsulation, 64 bytes in"
        with bench.vpp(gtpu_setup(tunnels, 1)) as vpp:
            to = network.pair(vpp, 0)
            made = gtpu_in_tree.add_tunnels(vpp, to.local, to.next_hop, tunnels, "ip4")
            gtpu_in_tree.enable_ip(vpp, made, to.inside)
            gtpu_in_tree.route_users(vpp, made, gtpu_in_tree.USERS)
            cases = []
            for at_random in (False, True) if tunnels > 1 else (False,):
                stream = "random" if at_random else "order"
                numbers = gtpu_in_tree.order(tunnels, at_random, 256)
                gtpu_in_tree.add_encap_stream(vpp, stream, to, address("16.0.0.1"), numbers)
                cases.append(
                    Case(
                        group,
                        "in-tree, IPv4 payload",
                        _load(tunnels, at_random),
                        stream,
                        gtpu_in_tree.ENCAP_PATH,
                        gtpu_in_tree.PLUGIN,
                        round_packets(tunnels),
                    )
                )
            if tunnels == 1:
                ethernet = network.pair(vpp, 1)
                gtpu_in_tree.cross_connect(vpp, ethernet, address("16.0.0.1"))
                cases.append(
                    Case(
                        group,
                        "in-tree, Ethernet payload (cross-connect)",
                        _load(1, False),
                        "ethernet",
                        gtpu_in_tree.ETHERNET_PATH,
                        gtpu_in_tree.PLUGIN,
                    )
                )
            bench.measure(vpp, cases)

    return run


def gtpu_setup(tunnels: int, sets: int) -> Setup:
    """Room for interfaces: one for each in-tree tunnel."""
    interfaces = tunnels * sets
    return Setup(heap=(4 << 30) + interfaces * 16384, statistics=(256 << 20) + interfaces * 8192)


def _load(tunnels: int, at_random: bool) -> str:
    order = ", random" if at_random else ", in order"
    return count_text(tunnels, "tunnel") + (order if tunnels > 1 else "")


def every_lab() -> tuple[Lab, ...]:
    """All labs, in the order of the tables."""
    return (
        Lab("forwarding", forwarding),
        *(
            Lab(f"services-{flows}-{count}", services(flows, count), flows > 100_000)
            for flows, count in (
                (1, 1),
                (1_000, 1),
                (64_000, 1),
                (1_000_000, 1),
                (64_000, 1_000),
                (1_000_000, 1_000),
                (1_000_000, 10_000),
                (1_000_000, 100_000),
            )
        ),
        *(
            Lab(f"decapsulation-{count}", decapsulation(count), count > 10_000)
            for count in (1, 3_000, 100_000)
        ),
        *(
            Lab(f"encapsulation-{count}", encapsulation(count), count > 10_000)
            for count in (1, 3_000, 100_000)
        ),
    )
