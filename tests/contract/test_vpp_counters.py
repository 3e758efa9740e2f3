"""What khost shows of tunnels and threads: stats segment, command line and API say the same."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.contract.engine_gtpu import I4, O4, O6, endpoint, gtp, peer, pools, tunnel, ue
from tests.contract.engine_packets import packet
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import NETWORK, PEERS, down, gateway, programme, up
from vpp_papi.vpp_stats import VPPStats

from vpp_operator.dataplane.protocol import TunnelCounters
from vpp_operator.dataplane.records import Protocol, Record

TUNNELS = 40


@pytest.fixture(scope="module")
def vpp() -> Iterator[Graph]:
    with gateway(options=("statseg { update-interval 0.1 }",)) as g:
        yield g


@pytest.fixture
def stats(vpp: Graph) -> Iterator[VPPStats]:
    with vpp.segment() as segment:
        yield segment


def records(first: int, count: int) -> list[Record]:
    state: list[Record] = [*pools()]
    for o in (O4, O6):
        state += [endpoint(o), peer(o)]
    for n in range(first, first + count):
        o = (O4, O6)[n % 2]
        state += [tunnel(o, local_teid=n + 1), ue(o, f"10.60.1.{n}/32", n + 1)]
    return state


def in_segment(stats: VPPStats) -> dict[tuple[int, int], TunnelCounters]:
    """Read what the stats segment says, summed over the threads, by endpoint and TEID."""
    rx, tx = stats["/khost/tunnels/rx"], stats["/khost/tunnels/tx"]
    teids, endpoints = stats["/khost/tunnels/localTeid"][0], stats["/khost/tunnels/endpoint"][0]
    drops = stats["/khost/tunnels/drops"]
    return {
        (endpoints[slot], teid): TunnelCounters(
            endpoints[slot],
            teid,
            rx[:, slot].sum_packets(),
            rx[:, slot].sum_octets(),
            tx[:, slot].sum_packets(),
            tx[:, slot].sum_octets(),
            drops[:, slot].sum(),
        )
        for slot, teid in enumerate(teids)
        if teid
    }


def on_command_line(g: Graph) -> dict[int, tuple[int, ...]]:
    """Read what `show kgtpu tunnels` says, by TEID."""
    pattern = (
        r"TEID (0x\w+) <->.*\s+out of it (\d+) packets (\d+) bytes, into it (\d+) packets (\d+) bytes, "
        r"dropped (\d+)"
    )
    found = re.findall(pattern, g.engine.cli("show kgtpu tunnels max 1000"))
    return {int(teid, 16): tuple(map(int, rest)) for teid, *rest in found}


def soon(read: Callable[[], object], wanted: object) -> None:
    """The segment is brought up to date now and then."""
    end = time.monotonic() + 5
    while (found := read()) != wanted:
        assert time.monotonic() < end, (found, wanted)
        time.sleep(0.05)


async def test_counters_of_tunnels_are_the_same_everywhere(vpp: Graph, stats: VPPStats) -> None:
    """Packets both ways, and dropped ones, in numbers that differ from tunnel to tunnel."""
    state = records(0, TUNNELS)
    await programme(vpp, state)
    ups, downs = [], []
    for n in range(TUNNELS):
        o, i = (O4, O6)[n % 2], replace(I4, ue=f"10.60.1.{n}")
        ups += [gtp(o, up(i, bytes(n)), teid=n + 1)] * (n + 1)
        stranger = packet(Protocol.UDP, ("10.60.9.9", 1), (I4.host, 53))
        ups += [gtp(o, stranger, teid=n + 1)] * (n % 3)
        downs += [down(i, bytes(2 * n))] * (n % 7)
    assert len(vpp.send(PEERS, ups)[NETWORK]) == sum(n + 1 for n in range(TUNNELS))
    assert len(vpp.send(NETWORK, downs)[PEERS]) == sum(n % 7 for n in range(TUNNELS))
    async with vpp.engine.dataplane() as dataplane:
        told = {(t.endpoint, t.local_teid): t for t in await dataplane.gtpu_counters()}
    for n in range(TUNNELS):
        one = told[(O4, O6)[n % 2].id, n + 1]
        assert (one.rx_packets, one.rx_bytes) == (n + 1, (n + 1) * (28 + n)), n
        assert (one.tx_packets, one.tx_bytes) == (n % 7, n % 7 * (28 + 2 * n)), n
        assert one.drops == n % 3, n
    soon(lambda: in_segment(stats), told)
    assert on_command_line(vpp) == {
        teid: (t.rx_packets, t.rx_bytes, t.tx_packets, t.tx_bytes, t.drops) for (_, teid), t in told.items()
    }

    # A slot that goes to another tunnel shows nothing of the one before.
    others = records(TUNNELS, 10)
    await programme(vpp, others, state)
    ids = {n: (O4, O6)[n % 2].id for n in range(TUNNELS, TUNNELS + 10)}
    soon(lambda: in_segment(stats), {(o, n + 1): TunnelCounters(o, n + 1) for n, o in ids.items()})
    await programme(vpp, [], others)
    soon(lambda: in_segment(stats), {})


async def test_totals_are_the_same_everywhere(vpp: Graph, stats: VPPStats) -> None:
    async with vpp.engine.dataplane() as dataplane:
        told = (await dataplane.stats()).counters
    # VPP counts the packets of its links itself.
    told = {name: value for name, value in told.items() if not name.startswith("link")}
    assert told["gtpuTxPackets"] > 0
    for name, value in told.items():

        def shown(name: str = name) -> int:
            return int(stats[f"/khost/counters/{name}"][:, 0].sum())

        soon(shown, value)
    text = vpp.cli("show khost counters")
    listed = {n: int(v) for v, n in re.findall(r"^ +(\d+)  (\w+)\s*$", text, re.MULTILINE)}
    assert listed == {name: value for name, value in told.items() if value}


def test_longest_round_of_a_thread(vpp: Graph, stats: VPPStats) -> None:
    """The time that VPP stands still is seen, and is gone when cleared."""

    def longest() -> float:
        found = re.search(r"^vpp_main +([\d.]+) us", vpp.cli("show khost gaps"), re.MULTILINE)
        assert found is not None
        return float(found[1])

    assert vpp.engine.process is not None
    vpp.engine.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    vpp.engine.process.send_signal(signal.SIGCONT)
    assert longest() >= 290_000
    soon(lambda: stats["/khost/threads/longestRoundNs"][:, 0].sum() >= 290_000_000, True)
    vpp.cli("clear khost gaps")
    time.sleep(0.1)
    assert 0 < longest() < 290_000
