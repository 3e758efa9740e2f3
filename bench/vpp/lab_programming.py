"""Programming, from Python through vpp_papi: ours in bulk, VPP's own one by one."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.vpp import gtpu_own, network, packets, services_own
from bench.vpp.engine import BenchError, Setup, Vpp
from bench.vpp.gtpu_in_tree import USERS
from bench.vpp.labs import NO_PLUGINS, Bench, count_text
from bench.vpp.measure import send
from bench.vpp.records import Rate
from bench.vpp.runtime import parse_streams
from bench.vpp.services_in_tree import CLIENTS, PLAIN, PORT

from vpp_operator.dataplane.records import Table

SERVICES = 100_000
FEW, EACH = 1_000, 100
TUNNELS = 1_000_000
ONE_BY_ONE = 2_000
GROUP = "programming"


def programming(bench: Bench) -> None:
    """Records a second, and dumps, at the largest sizes."""
    with bench.vpp(Setup()) as vpp:
        _in_tree(bench, vpp)
    if not bench.own:
        bench.leave(GROUP, "ours", "-", NO_PLUGINS)
        return
    base = services_own.setup(1024, SERVICES, Setup())
    with bench.vpp(gtpu_own.setup(TUNNELS, base)) as vpp, bench.control(vpp) as control:
        to = network.pair(vpp, 0)
        vpp.cli(f"set khost interface {to.inside}")
        client = CLIENTS, 1024
        last_vip = services_own.VIPS + SERVICES - 1
        last_of_few = services_own.VIPS + (1 << 20) + FEW - 1

        def encapsulated() -> int:
            return control.counters()["gtpuEncapsulated"]

        for what, records, packet, count in (
            (
                count_text(SERVICES, "Service") + " for TCP and UDP",
                services_own.records(SERVICES),
                packets.udp(client[0], last_vip, client[1], PORT, PLAIN),
                control.sessions,
            ),
            (
                f"{count_text(FEW, 'Service')} of {count_text(EACH, 'endpoint')} each",
                services_own.endpoint_records(FEW, EACH),
                packets.tcp(client[0], last_of_few, client[1], PORT, b"", packets.SYN),
                control.sessions,
            ),
            (
                count_text(TUNNELS, "tunnel") + " and their users",
                gtpu_own.records(to.local, to.peer, TUNNELS),
                packets.udp(client[0], USERS + TUNNELS - 1, client[1], PORT, PLAIN),
                encapsulated,
            ),
        ):
            # After most changes of VPP's own tables a worker polls for half a second, and would keep this
            # process from the processor for so long.
            vpp.prefer(False)
            timed = control.program(records)
            vpp.prefer(True)
            _found(vpp, to, what, packet, count)
            for stage, seconds in (
                ("pack, difference, apply", timed.total),
                ("pack alone", timed.pack),
                ("difference alone", timed.difference),
                ("apply, beyond the packing meanwhile", timed.apply),
            ):
                bench.results.rates.append(Rate(GROUP, f"ours, {what}: {stage}", timed.records, seconds))
        for table in (Table.FRONTEND, Table.ENDPOINT, Table.GTPU_TUNNEL, Table.GTPU_UE):
            bench.results.rates.append(control.dump(table))


def _found(vpp: Vpp, to: network.Pair, what: str, packet: bytes, count: Callable[[], int]) -> None:
    """BenchError if a packet for the last record does not count."""
    before = count()
    name = f"last-{len(parse_streams(vpp.cli('show packet-generator')))}"
    network.add_stream(vpp, name, to.inside, to.inside_mac, [packet])
    send(vpp, name, 1)
    if count() != before + 1:
        raise BenchError(f"{what}: the last record is not found by a packet")


def _in_tree(bench: Bench, vpp: Vpp) -> None:
    """The same client library, one request for each object: there is no other way to VPP's own plugins."""
    to = network.pair(vpp, 0)
    with network.awake(vpp):
        _one_by_one(bench, vpp, to)


def _one_by_one(bench: Bench, vpp: Vpp, to: network.Pair) -> None:
    began = time.perf_counter()
    for teid in range(1, ONE_BY_ONE + 1):
        vpp.call(
            "gtpu_add_del_tunnel_v2",
            is_add=True,
            src_address=to.local,
            dst_address=to.peer,
            mcast_sw_if_index=0xFFFFFFFF,
            decap_next_index=2,
            teid=teid,
            tteid=teid,
        )
    seconds = time.perf_counter() - began
    bench.results.rates.append(
        Rate(GROUP, "in-tree gtpu, vpp_papi, one tunnel a request", ONE_BY_ONE, seconds)
    )
    began = time.perf_counter()
    sum(1 for _ in vpp.call("gtpu_tunnel_v2_dump", sw_if_index=0xFFFFFFFF))
    seconds = time.perf_counter() - began
    bench.results.rates.append(Rate(GROUP, "in-tree gtpu, dump", ONE_BY_ONE, seconds))
    reason = "lb_add_del_as refuses an IPv4 backend of an IPv4 VIP (it reads the prefix length as IPv6's)"
    bench.leave(GROUP, "in-tree lb, vpp_papi", "-", reason)
