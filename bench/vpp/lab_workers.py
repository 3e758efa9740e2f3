"""Two workers on the processors of this machine, against each of them alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from bench.vpp import gtpu_in_tree, gtpu_own, lab_forwarding, native, network, packets, services_own
from bench.vpp.control import Control
from bench.vpp.engine import BenchError, Setup, Vpp
from bench.vpp.gtpu_own import ALL
from bench.vpp.lab_gtpu import load_text
from bench.vpp.lab_services import SLACK
from bench.vpp.labs import NO_PLUGINS, Bench, count_text
from bench.vpp.measure import VECTOR, faults, send
from bench.vpp.network import address
from bench.vpp.others import Watch
from bench.vpp.records import Scaling, spread
from bench.vpp.runtime import parse_runtime
from bench.vpp.together import Observer, Window, before_all, doubt, window

from vpp_operator.dataplane.records import Protocol

GROUP = "Two workers"
KNOWN_PACKETS = 16384 * VECTOR
"""Half a second or less: nobody else has a processor meanwhile."""
FORWARDED_PACKETS = 3 * KNOWN_PACKETS
NEW_PACKETS = 4096 * VECTOR
FLOWS = 64_000
SERVICES = 1000
TUNNELS = 3_000
LIMIT = 10.0
"""Seconds of a round, at most."""
TRIES = 3
"""Of a round in which other processes took the workers' processors."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Duo:
    """A case: stream i is worker i's; each packet takes the path. `before` comes before each round."""

    name: str
    load: str
    streams: tuple[str, str]
    paths: tuple[tuple[str, ...], tuple[str, ...]]
    packets: int = KNOWN_PACKETS
    slack: float = 0.0
    before: Callable[[], None] = _nothing


def workers(bench: Bench) -> None:
    """Forwarding, known and new flows, tunnels: packets a second of one worker and of both."""
    if not bench.own:
        bench.leave(GROUP, "ours", "-", NO_PLUGINS)
        return
    try:
        base = Setup(workers=2, preload=bench.built(native.affinity_library))
    except BenchError as error:
        bench.leave(GROUP, "all", "-", str(error))
        return
    # the tables have room for the flows of two protocols, and only one comes
    with _vpp(bench, services_own.setup((FLOWS + 2 * NEW_PACKETS) // 2, SERVICES, base)) as (vpp, control):
        _all(bench, vpp, [_forwarding(vpp), *_services(vpp, control)])
    # in a VPP of their own: where there are Services, what leaves a tunnel passes klb, too
    with _vpp(bench, gtpu_own.setup(TUNNELS, base)) as (vpp, control):
        _all(bench, vpp, _tunnels(vpp, control))


@contextlib.contextmanager
def _vpp(bench: Bench, setup: Setup) -> Iterator[tuple[Vpp, Control]]:
    with bench.vpp(setup) as vpp, bench.control(vpp) as control:
        if len(vpp.worker_threads) != 2:
            raise BenchError(f"VPP has {len(vpp.worker_threads)} workers, not 2")
        _place(vpp)
        yield vpp, control


def _place(vpp: Vpp) -> None:
    """A processor for each worker; main goes where it finds room. All of equal rank but while packets flow.

    Main and a worker that share a processor wait for each other at each barrier, so neither may be preferred
    then.
    """
    vpp.prefer(False)
    processors = sorted(os.sched_getaffinity(0))
    for i, thread in enumerate(vpp.worker_threads):
        os.sched_setaffinity(thread, {processors[-1 - i % len(processors)]})


def _all(bench: Bench, vpp: Vpp, duos: Sequence[Duo]) -> None:
    vpp.collapse_pages()
    for duo in duos:
        watch = Watch(vpp.pid)
        try:
            rounds = [_alternate(vpp, duo) for _ in range(bench.rounds)]
        except BenchError as error:
            if not vpp.alive():
                raise
            bench.leave(GROUP, duo.name, duo.load, str(error))
            continue
        found = Scaling(
            GROUP,
            duo.name,
            duo.load,
            bench.rounds,
            watch.others(),
            spread([one for one, _ in rounds]),
            spread([both for _, both in rounds]),
        )
        bench.say(f"  {duo.name}: {found.one.median / 1e6:.1f} M/s, both {found.both.median / 1e6:.1f} M/s")
        bench.results.workers.append(found)


def _alternate(vpp: Vpp, duo: Duo) -> tuple[float, float]:
    """Packets a second: of each worker alone, the mean; of both at once, the sum."""
    alone = mean(_round(vpp, duo, (i,)).rates[0] for i in (0, 1))
    return alone, sum(_round(vpp, duo, (0, 1)).rates)


def _round(vpp: Vpp, duo: Duo, which: Sequence[int]) -> Window:
    """What these workers do while they are at work; BenchError if packets went another way, or on doubt."""
    for last in (False,) * (TRIES - 1) + (True,):
        duo.before()
        found = _once(vpp, duo, which)
        reason = doubt(found)
        if not reason and found:
            return found
        if last:
            break
    raise BenchError(reason)


def _once(vpp: Vpp, duo: Duo, which: Sequence[int]) -> Window | None:
    names = [duo.streams[i] for i in which]
    for name in names:
        vpp.cli(f"packet-generator configure {name} limit {duo.packets}")
    vpp.cli("clear errors")
    vpp.cli("clear runtime")
    script = [f"packet-generator enable-stream {name}" for name in names]

    def start() -> None:
        vpp.script(script)
        vpp.prefer(True)

    with contextlib.closing(Observer(vpp, which)) as observer, before_all():
        try:
            samples = observer.until_sent(duo.packets, LIMIT, start)
        finally:
            vpp.prefer(False)
    threads = parse_runtime(vpp.cli("show runtime"))
    for i in which:
        nodes = threads.get(f"vpp_wk_{i}", ())
        if wrong := faults(duo.paths[i], nodes, duo.packets, duo.slack):
            raise BenchError(f"worker {i}: {'; '.join(wrong)}")
    return window(samples, duo.packets)


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
    streams = ("plain-0", "plain-1")
    return Duo("IPv4 forwarding", lab_forwarding.MANY, streams, (path, path), FORWARDED_PACKETS)


def _services(vpp: Vpp, control: Control) -> list[Duo]:
    """Known flows, their directions on different workers; and flows that begin on both."""
    to = network.pair(vpp, 2)
    services_own.program(vpp, control, to, SERVICES)
    forward = services_own.packets_of(SERVICES, packets.shuffled(FLOWS), Protocol.UDP, packets.ACK)
    network.add_stream(vpp, "known-0", to.inside, to.inside_mac, forward)
    reply = services_own.replies_of(SERVICES, packets.shuffled(FLOWS, 2), Protocol.UDP, packets.ACK)
    network.add_stream(vpp, "known-1", to.outside, to.outside_mac, reply, worker=1)
    for i in (0, 1):
        flows = range(FLOWS + i * NEW_PACKETS, FLOWS + (i + 1) * NEW_PACKETS)
        new = services_own.packets_of(SERVICES, flows, Protocol.UDP, packets.ACK)
        network.add_stream(vpp, f"new-{i}", to.inside, to.inside_mac, new, worker=i)
    begin(vpp, control)
    known = Duo(
        "klb, UDP, to the Service on one worker, from the endpoints on the other",
        f"{count_text(FLOWS, 'flow')}, {count_text(SERVICES, 'Service')}",
        ("known-0", "known-1"),
        (services_own.FORWARD_PATH, services_own.REPLY_PATH),
        slack=SLACK,
    )
    new_flows = replace(
        known,
        name="klb, UDP, first packets of new flows",
        load=f"beside {known.load}",
        streams=("new-0", "new-1"),
        paths=(services_own.FORWARD_PATH, services_own.FORWARD_PATH),
        packets=NEW_PACKETS,
        before=lambda: begin(vpp, control),
    )
    return [known, new_flows]


def begin(vpp: Vpp, control: Control) -> None:
    """Only the known flows have sessions afterwards."""
    control.forget_flows()
    send(vpp, "known-0", FLOWS)
    if (alive := control.sessions()) != FLOWS:
        raise BenchError(f"{alive} sessions are alive, not {FLOWS}: flows were not entered")


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
