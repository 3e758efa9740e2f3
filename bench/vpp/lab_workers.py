"""Two workers on the processors of this machine, against each of them alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from bench.vpp import gtpu_in_tree, gtpu_own, lab_forwarding, native, network, packets, services_own
from bench.vpp.control import Control
from bench.vpp.engine import BenchError, Setup, Vpp, clocks_per_second
from bench.vpp.gtpu_own import ALL
from bench.vpp.lab_gtpu import load_text
from bench.vpp.lab_services import SLACK
from bench.vpp.labs import NO_PLUGINS, Bench, count_text
from bench.vpp.measure import ROUND_SECONDS, VECTOR, faults, on_the_way, send
from bench.vpp.network import address
from bench.vpp.others import Watch
from bench.vpp.records import Scaling, spread
from bench.vpp.runtime import NodeRun, parse_runtime, parse_streams

from vpp_operator.dataplane.records import Protocol

GROUP = "Two workers"
KNOWN_PACKETS = 32768 * VECTOR
NEW_PACKETS = 256 * VECTOR
FLOWS = 64_000
SERVICES = 1000
TUNNELS = 3_000
TOGETHER = 0.8
"""Both are at work together if they need less than this share of their times one after the other."""


@dataclass(frozen=True)
class Duo:
    """A case: stream i is worker i's; each of its packets takes the path."""

    name: str
    load: str
    streams: tuple[str, str]
    paths: tuple[tuple[str, ...], tuple[str, ...]]
    packets: int = KNOWN_PACKETS
    slack: float = 0.0
    repeats: bool = True


def workers(bench: Bench) -> None:
    """Forwarding, known and new flows, tunnels: clocks per packet with one worker at work and with both."""
    if not bench.own:
        bench.leave(GROUP, "ours", "-", NO_PLUGINS)
        return
    try:
        preload = bench.built(native.affinity_library)
    except BenchError as error:
        bench.leave(GROUP, "all", "-", str(error))
        return
    fresh = 2 * NEW_PACKETS * 2 * bench.rounds
    base = services_own.setup(FLOWS + fresh, SERVICES, Setup(workers=2, preload=preload))
    with bench.vpp(gtpu_own.setup(TUNNELS, base)) as vpp, bench.control(vpp) as control:
        if len(vpp.worker_threads) != 2:
            raise BenchError(f"VPP has {len(vpp.worker_threads)} workers, not 2")
        _place(vpp)
        duos = [_forwarding(vpp), *_services(vpp, control, bench.rounds), *_tunnels(vpp, control)]
        vpp.collapse_pages()
        watch = Watch(vpp.pid)
        for duo in duos:
            try:
                found = _measure(bench, vpp, duo)
            except BenchError as error:
                if not vpp.alive():
                    raise
                bench.leave(GROUP, duo.name, duo.load, str(error))
                continue
            bench.say(f"  {duo.name}: {found.alone.median:.1f} alone, {found.both.median:.1f} both")
            bench.results.scalings.append(found)
        bench.say(f"  others used {watch.others():.2f} of the processors")


def _place(vpp: Vpp) -> None:
    """A processor for each worker; main goes where it finds room. All of equal rank.

    Main and a worker that share a processor wait for each other at each barrier, so neither may be preferred.
    """
    vpp.prefer(False)
    processors = sorted(os.sched_getaffinity(0))
    for i, thread in enumerate(vpp.worker_threads):
        os.sched_setaffinity(thread, {processors[-1 - i % len(processors)]})


def _measure(bench: Bench, vpp: Vpp, duo: Duo) -> Scaling:
    alone, both, watch = [], [], Watch(vpp.pid)
    if duo.repeats:
        _round(vpp, duo, (0, 1))
    for _ in range(bench.rounds):
        alone.append(mean(_round(vpp, duo, (i,))[0] for i in (0, 1)))
        both.append(mean(_round(vpp, duo, (0, 1))))
    return Scaling(GROUP, duo.name, duo.load, bench.rounds, watch.others(), spread(alone), spread(both))


def _round(vpp: Vpp, duo: Duo, which: Sequence[int]) -> list[float]:
    """Clocks per packet of the path on each of the workers; BenchError if a packet went another way."""
    names = [duo.streams[i] for i in which]
    for name in names:
        vpp.cli(f"packet-generator configure {name} limit {duo.packets}")
    vpp.cli("clear errors")
    vpp.cli("clear runtime")
    began = time.monotonic()
    vpp.script([f"packet-generator enable-stream {name}" for name in names])
    while any(parse_streams(vpp.cli("show packet-generator"))[name][0] for name in names):
        if time.monotonic() - began > ROUND_SECONDS:
            raise BenchError(f"{', '.join(names)} did not end in {ROUND_SECONDS:.0f} s")
        time.sleep(0.01)
    elapsed = time.monotonic() - began
    text = vpp.cli("show runtime")
    threads = parse_runtime(text)
    costs, busy = [], 0.0
    for i in which:
        nodes = threads.get(f"vpp_wk_{i}", ())
        if wrong := faults(duo.paths[i], nodes, duo.packets, duo.slack):
            raise BenchError(f"worker {i}: {'; '.join(wrong)}")
        costs.append(sum(_clocks(on_the_way(nodes)[0])) / duo.packets)
        busy += sum(_clocks(nodes)) / clocks_per_second()
    if len(which) > 1 and duo.repeats and not together(elapsed, busy):
        raise BenchError(f"the workers were not at work together: {elapsed:.2f} s for {busy:.2f} s of work")
    return costs


def together(elapsed: float, busy: float) -> bool:
    """Whether two workers that were busy for `busy` seconds in sum shared the `elapsed` ones. Pure.

    Starting and looking whether they are ready takes up to a tenth of a second.
    """
    return elapsed <= max(TOGETHER * busy, busy / 2 + 0.1)


def _clocks(nodes: Sequence[NodeRun]) -> Iterator[float]:
    return (node.clocks * node.vectors for node in nodes)


def _forwarding(vpp: Vpp) -> Duo:
    for i in (0, 1):
        to = network.pair(vpp, i)
        vpp.cli(f"ip route add {48 + i}.0.0.0/8 via {to.next_hop} {to.outside}")
        source, destination = address("16.0.0.0"), address(f"{48 + i}.0.0.1")
        network.add_stream(
            vpp,
            f"plain-{i}",
            to.inside,
            to.inside_mac,
            (packets.udp(source + n, destination, 1000, 2000, bytes(22)) for n in packets.shuffled(65536)),
            worker=i,
        )
    path = lab_forwarding.PATH
    return Duo("IPv4 forwarding", lab_forwarding.MANY, ("plain-0", "plain-1"), (path, path))


def _services(vpp: Vpp, control: Control, rounds: int) -> list[Duo]:
    """Known flows, their directions on different workers; and flows that begin on both."""
    to = network.pair(vpp, 2)
    services_own.program(vpp, control, to, SERVICES)
    forward = services_own.packets_of(SERVICES, packets.shuffled(FLOWS), Protocol.UDP, packets.ACK)
    network.add_stream(vpp, "known-0", to.inside, to.inside_mac, forward)
    reply = services_own.replies_of(SERVICES, packets.shuffled(FLOWS, 2), Protocol.UDP, packets.ACK)
    network.add_stream(vpp, "known-1", to.outside, to.outside_mac, reply, worker=1)
    send(vpp, "known-0", FLOWS)
    fresh = NEW_PACKETS * 2 * rounds
    for i in (0, 1):
        flows = range(FLOWS + i * fresh, FLOWS + (i + 1) * fresh)
        new = services_own.packets_of(SERVICES, flows, Protocol.UDP, packets.ACK)
        network.add_stream(vpp, f"new-{i}", to.inside, to.inside_mac, new, worker=i)
    paths = services_own.FORWARD_PATH, services_own.REPLY_PATH
    load = f"{count_text(FLOWS, 'flow')}, {count_text(SERVICES, 'Service')}"
    return [
        Duo(
            "klb, UDP, to the Service on one worker, from the endpoints on the other",
            load,
            ("known-0", "known-1"),
            paths,
            slack=SLACK,
        ),
        Duo(
            "klb, UDP, first packets of new flows",
            f"beside {load}",
            ("new-0", "new-1"),
            (paths[0], paths[0]),
            packets=NEW_PACKETS,
            slack=SLACK,
            repeats=False,
        ),
    ]


def _tunnels(vpp: Vpp, control: Control) -> list[Duo]:
    """Both workers use the same tunnels."""
    inward, outward = network.pair(vpp, 3), network.pair(vpp, 4)
    vpp.cli(f"ip route add 50.0.0.0/8 via {inward.next_hop} {inward.outside}")
    control.program([*gtpu_own.records(inward.local, inward.peer, TUNNELS), ALL.record()])
    load, source, destination = load_text(TUNNELS, True), address("16.0.0.1"), address("50.0.0.1")
    for i in (0, 1):
        numbers = gtpu_in_tree.order(TUNNELS, True, VECTOR)
        gtpu_in_tree.add_decap_stream(
            vpp, f"decap-{i}", inward, inward.local, inward.peer, destination, numbers, worker=i
        )
        numbers = gtpu_in_tree.order(TUNNELS, True, VECTOR)
        gtpu_in_tree.add_encap_stream(vpp, f"encap-{i}", outward, source, numbers, worker=i)
    decap, encap = ALL.decap_path(), ALL.encap_path()
    return [
        Duo("kgtpu, decapsulation, all switches on", load, ("decap-0", "decap-1"), (decap, decap)),
        Duo("kgtpu, encapsulation, all switches on", load, ("encap-0", "encap-1"), (encap, encap)),
    ]
