"""Memory of VPP that runs out: what cannot be served is refused and counted, the rest goes on, and all is as
before when there is room again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator

import pytest
from tests.contract.engine_gtpu import I4, O4, gtp, gtpu
from tests.contract.engine_packets import addresses, forwarded, packet
from tests.contract.engine_services import V4, V6, Addresses
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import NETWORK, PEERS, counters, down, gateway, programme, up
from tests.contract.vpp_services import CLIENTS, ENDPOINTS, everything, fragments, router

from vpp_operator.dataplane.records import Protocol

FEW = ("buffers { buffers-per-numa 1024 page-size default }",)
FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])


def available(g: Graph) -> int:
    """Buffers that no packet is in."""
    lines = [line.split() for line in g.engine.cli("show buffers").splitlines() if "default" in line]
    return sum(int(words[-3]) + int(words[-2]) for words in lines)


async def still(g: Graph, wanted: int) -> None:
    """Wait until as many buffers are there again."""
    end = time.monotonic() + 8
    while (there := available(g)) < wanted:
        assert time.monotonic() < end, f"{wanted - there} buffers are lost"
        await asyncio.sleep(0.1)


def waiting(g: Graph) -> int:
    found = re.search(r"(\d+) fragments wait for their first", g.engine.cli("show khost"))
    assert found is not None
    return int(found[1])


def received(g: Graph) -> int:
    found = re.search(
        rf"^{CLIENTS} .*?rx packets +(\d+)", g.engine.cli("show interface"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return int(found[1])


def orphans(a: Addresses, count: int) -> list[bytes]:
    """Return later fragments, each of a datagram whose first does not come."""
    datagram = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), bytes(300))
    return [fragments(a, datagram, 256)[1] for _ in range(count)]


@pytest.fixture
def few() -> Iterator[Graph]:
    """A VPP with some hundred buffers, and room for more fragments than that."""
    with router(options=FEW, fragments=4096) as g:
        yield g


@FAMILIES
async def test_fragments_that_wait_take_all_buffers(few: Graph, a: Addresses) -> None:
    """They are let go when their time is over, counted, and every buffer comes back; then all goes on."""
    await programme(few, everything())
    request = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80))
    assert len(few.send(CLIENTS, [request])[ENDPOINTS]) == 1
    total = available(few)
    before, arrived = await counters(few), received(few)
    least, most_held = total, 0
    for _ in range(3):
        sent = orphans(a, total + 200)
        sending = asyncio.to_thread(few.send, CLIENTS, sent, limit=20.0)
        task = asyncio.create_task(sending)
        while not task.done():
            least = min(least, await asyncio.to_thread(available, few))
            most_held = max(most_held, await asyncio.to_thread(waiting, few))
        assert task.result() == {CLIENTS: [], ENDPOINTS: []}
    await still(few, total - 1)
    assert waiting(few) == 0
    told = await counters(few)
    more = {name: told[name] - before[name] for name in told}
    assert more["fragmentsHeld"] == more["fragmentExpired"]
    # Without a buffer nothing is received, which the generator does not make up for.
    assert more["fragmentsHeld"] + more["fragmentHoldFull"] == received(few) - arrived > total
    assert most_held > 0 and least < total // 2, (most_held, least, total)
    out = few.send(CLIENTS, [request] * 100)[ENDPOINTS]
    assert out == [forwarded(request, destination=(a.endpoints[0], 8080))] * 100


@FAMILIES
async def test_packets_that_need_more_buffers_than_there_are(a: Addresses) -> None:
    """Chains, reassembled datagrams and answers while nearly all buffers are taken: dropped and counted, or
    served; VPP goes on and no buffer is lost."""
    o = O4
    with gateway(options=FEW, fragments=4096) as g:
        records = everything() + gtpu(o)
        await programme(g, records)
        inner = up(I4, bytes(1300))
        pieces = fragments(V4, gtp(o, inner), 512)
        plain, towards = gtp(o, up(I4, bytes(1000))), down(I4, bytes(1000))
        assert len(g.send(PEERS, [*pieces, plain])[NETWORK]) == 2
        assert len(g.send(NETWORK, [towards])[PEERS]) == 1
        total = available(g)
        mixed = [raw for _ in range(total // 4) for raw in (*pieces[:-1], plain, gtp(o, inner, teid=0x999))]
        before = (await counters(g))["gtpuPackets"]
        for _ in range(2):
            g.send(NETWORK, orphans(a, total - 40), quiet=0.0)
            g.send(PEERS, mixed, limit=20.0)
            g.send(NETWORK, [towards] * 200, limit=20.0)
        assert (await counters(g))["gtpuPackets"] > before
        await still(g, total - 2)
        assert len(g.send(PEERS, [*fragments(V4, gtp(o, inner), 512), plain])[NETWORK]) == 2
        assert len(g.send(NETWORK, [towards] * 50)[PEERS]) == 50


@FAMILIES
async def test_full_session_table(a: Addresses) -> None:
    """Flows beyond it are dropped and counted; those that it holds go on, others' traffic too."""
    with router(sessions=64) as g:
        await programme(g, everything())
        requests = [packet(Protocol.UDP, (a.pod, 30000 + n), (a.vip, 80)) for n in range(1000)]
        first = g.send(CLIENTS, requests)[ENDPOINTS]
        told = await counters(g)
        refused = told["sessionTableFull"]
        assert len(first) == 1000 - refused and 0 < len(first) < 200, (len(first), refused)
        # Each flow that has a session keeps it; again, only those go on.
        served = [raw for raw in requests if forwarded(raw, destination=(a.endpoints[0], 8080)) in set(first)]
        assert len(served) == len(first)
        assert sorted(g.send(CLIENTS, served)[ENDPOINTS]) == sorted(first)
        assert (await counters(g))["sessionTableFull"] == refused
        other = packet(Protocol.UDP, (a.pod, 1), (a.endpoints[3], 53))
        assert g.send(CLIENTS, [other])[ENDPOINTS] == [forwarded(other)]
        async with g.engine.dataplane() as dataplane:
            await dataplane.flush_sessions()
        assert len(g.send(CLIENTS, requests[-10:])[ENDPOINTS]) == 10


@FAMILIES
async def test_full_fragment_table(a: Addresses) -> None:
    """First fragments beyond it go on all the same, and are counted; whole packets are served as ever."""
    with router(fragments=64) as g:
        await programme(g, everything())
        datagram = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), bytes(300))
        firsts = [fragments(a, datagram, 256)[0] for _ in range(500)]
        out = g.send(CLIENTS, firsts)[ENDPOINTS]
        assert {addresses(raw)[1] for raw in out} == {a.endpoints[0]}
        told = await counters(g)
        assert told["fragmentTableFull"] > 0
        assert len(out) == 500 - sum(told[name] for name in ("fragmentFollows", "fragmentHoldFull"))
        request = packet(Protocol.TCP, (a.pod, 45000), (a.vip, 80))
        assert len(g.send(CLIENTS, [request])[ENDPOINTS]) == 1
