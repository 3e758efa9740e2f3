"""GTP-U by form of the outer packet: IPv4 or IPv6, without and with a PDU Session Container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.vpp import gtpu_in_tree, gtpu_own, network, packets
from bench.vpp.control import Control
from bench.vpp.engine import Setup, Vpp
from bench.vpp.gtpu_own import ALL
from bench.vpp.lab_gtpu import load_text, set_switches
from bench.vpp.labs import Bench, round_packets, side_by_side
from bench.vpp.measure import Case, Switch
from bench.vpp.network import Ends, Pair, address

from vpp_operator.dataplane.records import GtpuPsc, gtpu_endpoint_id

DECAP = "GTP-U: decapsulation by form of the outer packet, 48 bytes inside"
ENCAP = "GTP-U: encapsulation by form of the outer packet, 64 bytes in"
QFI = 9


@dataclass(frozen=True)
class Form:
    """An outer packet: family 4 or 6, with or without a PDU Session Container."""

    family: int
    psc: bool

    @property
    def text(self) -> str:
        """For the tables."""
        return f"IPv{self.family} outside" + (", PSC" if self.psc else "")

    def g_pdu(self, ends: Ends, teid: int, inner: bytes) -> bytes:
        """A packet that comes from the peer."""
        wrap = packets.gtpu if self.family == 4 else packets.gtpu_ipv6
        extension = packets.psc_uplink(QFI) if self.psc else b""
        return wrap(ends.peer_number, ends.local_number, teid, inner, extension)


FORMS = (Form(4, False), Form(4, True), Form(6, False), Form(6, True))


@dataclass(frozen=True)
class Way:
    """Tunnels 1..n of one form: interfaces, users and a destination that no other way has.

    The tunnels serve both directions: packets to users enter by another pair, and leave towards the peer
    where its packets come from.
    """

    form: Form
    inward: Pair
    outward: Pair
    ends: Ends
    users: int
    destination: int

    @staticmethod
    def make(vpp: Vpp, number: int, form: Form, users: int) -> Way:
        """The interfaces and the route to the destination."""
        inward, outward = network.pair(vpp, 2 * number), network.pair(vpp, 2 * number + 1)
        vpp.cli(f"ip route add {48 + number}.0.0.0/8 via {inward.next_hop} {inward.outside}")
        ends = network.ends(vpp, inward, form.family)
        return Way(form, inward, outward, ends, users, address(f"{48 + number}.0.0.1"))

    def add_streams(self, vpp: Vpp, tunnels: int) -> tuple[str, str]:
        """Streams to decapsulate and to encapsulate, by name."""
        names = f"{self.inward.inside}-decap", f"{self.outward.inside}-encap"
        network.add_stream(
            vpp,
            names[0],
            self.inward.inside,
            self.inward.inside_mac,
            (
                self.form.g_pdu(
                    self.ends,
                    i + 1,
                    packets.udp(self.users + i, self.destination, 1000, 2000, gtpu_in_tree.INNER),
                )
                for i in _numbers(tunnels)
            ),
        )
        source, numbers = address("16.0.0.1"), _numbers(tunnels)
        gtpu_in_tree.add_encap_stream(vpp, names[1], self.outward, source, numbers, self.users)
        return names


def _numbers(tunnels: int) -> Iterator[int]:
    return gtpu_in_tree.order(tunnels, tunnels > 1, 256)


def forms(tunnels: int) -> Callable[[Bench], None]:
    """Every form, tunnels at random, beside VPP's own plugin in its best configuration."""

    def run(bench: Bench) -> None:
        load = load_text(tunnels, True)
        interfaces = tunnels * len(FORMS)
        base = Setup(heap=(4 << 30) + interfaces * 16384, statistics=(256 << 20) + interfaces * 8192)

        def in_tree(vpp: Vpp) -> list[Case]:
            return [case for i, form in enumerate(FORMS) for case in _in_tree(vpp, i, form, tunnels)]

        def own(vpp: Vpp, control: Control, cases: list[Case]) -> None:
            ours = [case for i, form in enumerate(FORMS) for case in _own(vpp, control, i, form, tunnels)]
            for group in (DECAP, ENCAP):
                bench.measure(vpp, [case for case in cases + ours if case.group == group], control)

        setup = gtpu_own.setup(interfaces, base) if bench.own else base
        side_by_side(bench, setup, DECAP, load, in_tree, own)

    return run


def _in_tree(vpp: Vpp, number: int, form: Form, tunnels: int) -> list[Case]:
    way = Way.make(vpp, number, form, gtpu_in_tree.USERS_IN_TREE + (number << 20))
    made = gtpu_in_tree.add_tunnels(
        vpp,
        way.ends.local,
        way.ends.peer,
        tunnels,
        "node ip4-lookup",
        number * tunnels,
        QFI if form.psc else None,
    )
    gtpu_in_tree.enable_ip(vpp, made, way.inward.inside)
    gtpu_in_tree.route_users(vpp, made, way.users)
    vpp.cli(f"set interface {'ip' if form.family == 4 else 'ip6'} gtpu-bypass {way.inward.inside}")
    decap, encap = way.add_streams(vpp, tunnels)
    paths = gtpu_in_tree.best_path(form.family), gtpu_in_tree.encap_path(form.family)
    load, length, plugin = load_text(tunnels, True), round_packets(tunnels), gtpu_in_tree.PLUGIN
    name = f"in-tree, best configuration, {form.text}"
    return [
        Case(DECAP, name, load, decap, paths[0], plugin, length),
        Case(ENCAP, name, load, encap, paths[1], plugin, length),
    ]


def _own(vpp: Vpp, control: Control, number: int, form: Form, tunnels: int) -> list[Case]:
    way = Way.make(vpp, len(FORMS) + number, form, gtpu_in_tree.USERS + (number << 20))
    control.program(
        gtpu_own.records(
            way.ends.local,
            way.ends.peer,
            tunnels,
            psc=GtpuPsc.DL if form.psc else GtpuPsc.NONE,
            users=way.users,
            endpoint=gtpu_endpoint_id(f"bench {form.text}"),
        )
    )
    decap, encap = way.add_streams(vpp, tunnels)
    load, length, plugin = load_text(tunnels, True), round_packets(tunnels), gtpu_own.PLUGIN
    name = f"kgtpu, all switches on, {form.text}"
    switch: Switch = set_switches(vpp, control, way.inward, ALL)
    return [
        Case(
            DECAP,
            name,
            load,
            decap,
            ALL.decap_path(form.family),
            plugin,
            length,
            switch=switch,
            proof=ALL.decap_proof(),
        ),
        Case(
            ENCAP,
            name,
            load,
            encap,
            ALL.encap_path(form.family),
            plugin,
            length,
            switch=switch,
            proof=ALL.encap_proof(),
        ),
    ]
