"""Packets in a row of one tunnel, others between them: lookupCache changes the way and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.contract.engine_gtpu import I4, I6, LOCAL_TEID, O4, container, gtp, gtpu, hop, tunnel, ue
from tests.contract.engine_packets import IP, UDP, packet
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import (
    ALL,
    CHECKS,
    FIB,
    NETWORK,
    PEERS,
    counters,
    edit,
    gateway,
    programme,
    setting,
    up,
    without_ids,
)

from vpp_operator.dataplane.records import GtpuPsc, GtpuSwitch, Protocol, Record

FORMS = {"off": ALL & ~GtpuSwitch.BYPASS, "feature": ALL, "fib": ALL | FIB}
OTHER_TEID = 0x203
OTHER = "10.60.0.7"
ROW = 9
"""Packets of the row between two others."""


@pytest.fixture(scope="module")
def vpp() -> Iterator[Graph]:
    with gateway() as g:
        yield g


def outer(inner: bytes, teid: int = LOCAL_TEID, **more: object) -> bytes:
    """A G-PDU without an outer UDP checksum."""
    return edit(gtp(O4, inner, teid=teid, **more), 26, bytes(2))  # type: ignore[arg-type]


def service(raw: bytes, value: int) -> bytes:
    """Another type of service outside, header checksum right."""
    header = IP(raw[:20])
    header.tos = value
    del header.chksum
    return bytes(header) + raw[20:]


def others() -> list[bytes]:
    """What comes between: all that the inner header may be, and the outer one."""
    good, good6 = up(I4, b"other"), up(I6, b"other")
    from_other = packet(Protocol.UDP, (OTHER, 4000), (I4.host, 53), b"other")
    psc = {"extensions": container(GtpuPsc.UL, 5), "E": 1, "next_ex": 0x85}
    nested = bytes(IP(src=I4.ue, dst=O4.local) / UDP(sport=2152, dport=2152) / b"0123456789abcdef")
    raw = outer(good)
    return [
        *(outer(inner) for inner in CHECKS.values()),
        *(outer(inner, **psc) for inner in (good, good6)),
        outer(nested),
        outer(from_other, teid=OTHER_TEID),
        *(outer(from_other, teid=OTHER_TEID) for _ in range(8)),
        outer(good, teid=0x999),
        outer(good, S=1, seq=7),
        outer(good, source=O4.other_peer),
        gtp(O4, good),
        edit(gtp(O4, good), 26, b"\x12\x34"),
        *(service(raw, value) for value in range(4)),
        edit(raw, 24, (len(raw) + 1).to_bytes(2, "big")),
        edit(raw, 30, (len(raw)).to_bytes(2, "big")),
        raw + bytes(7),
        raw[:-1],
        packet(Protocol.UDP, (O4.peer, 40000), (O4.local, 9), b"other"),
        packet(Protocol.UDP, (O4.peer, 40000), (I4.host, 9), b"other"),
        service(edit(raw, 6, b"\x20\x00"), 0),
        *(outer(good6) for _ in range(8)),
    ]


async def _passed(
    vpp: Graph, records: list[Record], sent: list[bytes], bits: GtpuSwitch, loop: int
) -> tuple[object, object, dict[str, int]]:
    """What comes out, why packets were lost, what was counted."""
    have = [*records, setting(bits, loop)]
    await programme(vpp, have)
    try:
        vpp.errors()
        before = await counters(vpp)
        out = vpp.send(PEERS, sent)
        # VPP's reassembly remembers the fragment of a round before.
        others_say = "neighbor|pg|expire|reassembly"
        reasons = {reason for reason in vpp.errors() if not re.search(others_say, reason)}
        grown = {name: n - before.get(name, 0) for name, n in (await counters(vpp)).items()}
        async with vpp.engine.dataplane() as dataplane:
            counted = sorted(
                await dataplane.gtpu_counters(),
                key=str,
            )
        return without_ids(out), (reasons, counted), grown
    finally:
        await programme(vpp, [], have)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("skip", [True, False], ids=["skip-inner", ""])
@pytest.mark.parametrize("psc", [GtpuPsc.NONE, GtpuPsc.DL], ids=["plain", "psc"])
async def test_lookup_cache_changes_nothing_but_the_way(
    vpp: Graph, form: str, skip: bool, psc: GtpuPsc
) -> None:
    records = [*gtpu(O4), tunnel(O4, local_teid=OTHER_TEID), ue(O4, f"{OTHER}/32", OTHER_TEID)]
    more = {} if psc == GtpuPsc.NONE else {"extensions": container(psc, 9), "E": 1, "next_ex": 0x85}
    row = [outer(up(I4 if n % 40 < 30 else I6, b"x" * n), **more) for n in range(ROW * len(others()))]
    sent: list[bytes] = []
    for n, other in enumerate(others()):
        sent += [*row[n * ROW : (n + 1) * ROW], other]
    bits = FORMS[form] if skip else FORMS[form] & ~GtpuSwitch.SKIP_INNER_IP_INPUT
    out, lost, _ = await _passed(vpp, records, sent, bits & ~GtpuSwitch.LOOKUP_CACHE, 4)
    for loop in (1, 2, 4):
        again, lost_again, grown = await _passed(vpp, records, sent, bits, loop)
        assert again == out
        assert lost_again == lost
        assert grown["gtpuCacheHits"] > len(sent) // 2
        assert grown["gtpuInnerInputSkipped"] == 0 or skip
        name = {1: "gtpuLoopSingle", 2: "gtpuLoopDual", 4: "gtpuLoopQuad"}[loop]
        assert grown[name] > len(sent) // 2


async def test_a_row_goes_out_as_it_came_in(vpp: Graph) -> None:
    """Order and bytes of a vector that is one row."""
    records = [*gtpu(O4), setting(ALL)]
    await programme(vpp, records)
    try:
        inner = [up(I4, n.to_bytes(2, "big") * (1 + n % 40)) for n in range(256)]
        out = vpp.send(PEERS, [outer(p) for p in inner])
        assert out == {PEERS: [], NETWORK: [hop(p) for p in inner]}
        [counted] = [c for c in await _tunnels(vpp) if c[0] == LOCAL_TEID]
        assert counted[1:] == (256, sum(map(len, inner)))
    finally:
        await programme(vpp, [], records)


async def _tunnels(vpp: Graph) -> list[tuple[int, int, int]]:
    async with vpp.engine.dataplane() as dataplane:
        return [(c.local_teid, c.rx_packets, c.rx_bytes) for c in await dataplane.gtpu_counters()]
