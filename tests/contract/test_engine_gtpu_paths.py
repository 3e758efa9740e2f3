"""GTP-U signalling: Echo Requests and the state of paths, End Markers; Error Indications are noted."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.contract.engine_gtpu import (
    CAPACITY,
    ECHO_REQUEST,
    ECHO_RESPONSE,
    END_MARKER,
    ERROR_INDICATION,
    I4,
    NEW_TEID,
    O4,
    O6,
    PORT,
    REMOTE_TEID,
    Outer,
    checksums_hold,
    encapsulated,
    endpoint,
    gtp,
    gtpu,
    hop,
    only,
    peer,
    pools,
    tunnel,
    unwrap,
)
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import UDP, addresses, network, packet, parse
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import PathCondition, PathState
from vpp_operator.dataplane.records import GtpuPsc, GtpuTunnelFlag, Protocol, Record

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, node, CAPACITY) as process:
        process.start()
        yield process


def response(o: Outer, sequence: int, *, restart: int = 5, source: str = "") -> bytes:
    """An Echo Response with a Recovery element."""
    return gtp(
        o, bytes([14, restart]), kind=ECHO_RESPONSE, teid=0, S=1, seq=sequence, source=source, sport=PORT
    )


async def path(dataplane: MessageDataplane, address: str) -> PathState:
    found = [p for p in await dataplane.gtpu_paths() if p.address == ipaddress.ip_address(address)]
    assert len(found) == 1
    return found[0]


@OUTER
async def test_echo_requests_and_the_state_of_the_path(
    dataplane: MessageDataplane, wire: Wire, o: Outer
) -> None:
    first = peer(o, echo_interval_ms=600, t3_ms=100, n3=3)
    records: list[Record] = [*pools(), endpoint(o), first, peer(o, o.other_peer)]
    assert await dataplane.apply(difference([], records)) == []
    request = only(wire, ECHO_REQUEST).packet
    started = time.monotonic()
    assert addresses(request) == (o.local, o.peer)
    assert parse(request)[UDP].dport == PORT
    checksums_hold(request)
    fields, rest = unwrap(request)
    assert (fields["teid"], fields["flags"], rest) == (0, 2, b"")
    assert await path(dataplane, o.peer) == PathState(o.id, ipaddress.ip_address(o.peer))

    # An answer to another sequence number, or from another address, is none.
    wire.send(response(o, fields["sequence"] ^ 1))
    wire.send(response(o, fields["sequence"], source=o.other_peer))
    again = unwrap(only(wire, ECHO_REQUEST).packet)[0]
    assert again["sequence"] == fields["sequence"], "resent after T3 with the same number"
    assert (await path(dataplane, o.peer)).condition == PathCondition.UNKNOWN
    wire.send(response(o, fields["sequence"], restart=42))
    await asyncio.sleep(0.05)
    state = await path(dataplane, o.peer)
    assert (state.condition, state.restart_counter) == (PathCondition.UP, 42)
    assert state.rtt_us is not None and 0 < state.rtt_us < 1_000_000
    assert state.answered_ns is not None and 0 < (await dataplane.stats()).now_ns - state.answered_ns < 5e9
    assert (await path(dataplane, o.other_peer)).condition == PathCondition.UNKNOWN

    # The next round comes an interval after the first request, with a number of its own.
    following = unwrap(only(wire, ECHO_REQUEST).packet)[0]
    assert 0.45 < time.monotonic() - started < 5
    assert following["sequence"] != fields["sequence"]

    # Nobody answers: N3 requests in all, then the path is down, and the next interval begins.
    same = [following["sequence"]]
    while (await path(dataplane, o.peer)).condition == PathCondition.UP:
        frame = wire.receive(0.05)
        if frame is not None:
            same.append(unwrap(frame.packet)[0]["sequence"])
        assert time.monotonic() - started < 20
    assert same == [following["sequence"]] * 3
    assert (await path(dataplane, o.peer)).condition == PathCondition.DOWN
    revived = unwrap(only(wire, ECHO_REQUEST).packet)[0]
    wire.send(response(o, revived["sequence"], restart=43))
    await asyncio.sleep(0.05)
    state = await path(dataplane, o.peer)
    assert (state.condition, state.restart_counter) == (PathCondition.UP, 43)

    # Without an interval nothing is sent and nothing is known.
    assert await dataplane.apply(difference([first], [replace(first, echo_interval_ms=0)])) == []
    wire.drain()
    wire.expect_nothing(0.8)
    assert (await path(dataplane, o.peer)).condition == PathCondition.UNKNOWN
    counters = (await dataplane.stats()).counters
    assert counters["gtpuEchoSent"] >= 6 and counters["gtpuEchoResponses"] == 2


async def test_a_new_peer_in_the_place_of_an_old_one_starts_anew(
    dataplane: MessageDataplane, wire: Wire
) -> None:
    old: list[Record] = [*pools(), endpoint(O4), peer(O4, echo_interval_ms=60000)]
    new: list[Record] = [*pools(), endpoint(O4), peer(O4, "198.51.100.77", echo_interval_ms=60000)]
    assert await dataplane.apply(difference([], old)) == []
    wire.send(response(O4, unwrap(only(wire, ECHO_REQUEST).packet)[0]["sequence"]))
    await asyncio.sleep(0.05)
    assert (await path(dataplane, O4.peer)).condition == PathCondition.UP
    assert await dataplane.apply(difference(old, pools())) == []
    await asyncio.sleep(0.1)
    assert await dataplane.gtpu_paths() == []
    assert await dataplane.apply(difference(pools(), new)) == []
    assert addresses(only(wire, ECHO_REQUEST).packet)[1] == "198.51.100.77"
    assert await dataplane.gtpu_paths() == [PathState(O4.id, ipaddress.ip_address("198.51.100.77"))]


async def test_paths_of_many_peers(node: Namespace) -> None:
    """More than one answer holds, and more Echo Requests than the outbox holds."""
    with embedded_engine(node, capacity={**CAPACITY, "gtpu-peers": 3000}) as engine:
        engine.start()
        wire = Wire(node)
        async with engine.dataplane() as dataplane:
            base = int(ipaddress.ip_address("198.18.0.0"))
            names = [str(ipaddress.ip_address(base + n)) for n in range(3000)]
            records = [endpoint(O4), *(peer(O4, name, echo_interval_ms=60000, t3_ms=60000) for name in names)]
            assert await dataplane.apply(difference([], [*pools(), *records])) == []
            asked: dict[str, int] = {}
            while len(asked) < len(names):
                frame = wire.receive(5)
                assert frame is not None, f"{len(asked)} asked"
                asked[addresses(frame.packet)[1]] = unwrap(frame.packet)[0]["sequence"]
            for number, (name, sequence) in enumerate(asked.items()):
                if number % 2:
                    wire.send(response(O4, sequence, source=name))
            wire.expect_nothing(0.3)
            paths = await dataplane.gtpu_paths()
            assert {str(p.address) for p in paths} == set(names)
            assert sum(p.condition == PathCondition.UP for p in paths) == 1500
        wire.close()


@OUTER
@pytest.mark.parametrize("psc", [GtpuPsc.NONE, GtpuPsc.DL], ids=["plain", "psc"])
async def test_end_marker_goes_to_the_old_peer(
    dataplane: MessageDataplane, wire: Wire, o: Outer, psc: GtpuPsc
) -> None:
    flags = GtpuTunnelFlag.INNER_SOURCE_CHECK | GtpuTunnelFlag.END_MARKER_ON_REPLACE
    assert await dataplane.apply(difference([], gtpu(o, flags=flags, psc=psc))) == []
    request = packet(Protocol.UDP, (I4.host, 53), (I4.ue, 4000))
    wire.exchange(request)
    before = tunnel(o, flags=flags, psc=psc)
    moved = replace(before, remote=ipaddress.ip_address(o.other_peer), remote_teid=NEW_TEID)
    assert await dataplane.apply(difference([before], [moved])) == []
    marker = only(wire, END_MARKER).packet
    assert addresses(marker) == (o.local, o.peer)
    fields, rest = unwrap(marker)
    assert (fields["teid"], fields["flags"] & 2, rest) == (REMOTE_TEID, 0, b"")
    checksums_hold(marker)
    there = wire.exchange(request).packet
    assert there == encapsulated(o, hop(request), there, teid=NEW_TEID, to=o.other_peer, psc=psc)
    # Nothing changes where it leads: no marker. Without the flag: none either.
    assert await dataplane.apply(difference([moved], [replace(moved, qfi=3)])) == []
    quiet = replace(moved, flags=GtpuTunnelFlag.INNER_SOURCE_CHECK)
    assert await dataplane.apply(difference([moved], [quiet])) == []
    assert await dataplane.apply(difference([quiet], [replace(quiet, remote_teid=1)])) == []
    wire.expect_nothing()
    assert (await dataplane.stats()).counters["gtpuEndMarkersSent"] == 1


@OUTER
async def test_error_indication_is_noted_at_the_tunnels_it_is_about(
    dataplane: MessageDataplane, wire: Wire, o: Outer
) -> None:
    others = [
        tunnel(o, local_teid=2, remote_teid=REMOTE_TEID),
        tunnel(o, local_teid=3, remote_teid=7),
        tunnel(o, local_teid=4, remote=ipaddress.ip_address(o.other_peer)),
    ]
    assert await dataplane.apply(difference([], [*gtpu(o), *others])) == []
    address = ipaddress.ip_address(o.peer).packed
    elements = (
        bytes([16])
        + REMOTE_TEID.to_bytes(4, "big")
        + bytes([133, *len(address).to_bytes(2, "big")])
        + address
    )
    wire.send(gtp(o, elements, kind=ERROR_INDICATION, teid=0, S=1, seq=0))
    for _ in range(100):
        seen = {c.local_teid for c in await dataplane.gtpu_counters() if c.error_indication_seen}
        if seen:
            break
        await asyncio.sleep(0.02)
    assert seen == {tunnel(o).local_teid, 2}
    wire.expect_nothing()
    # A change of the tunnel is a new beginning.
    assert await dataplane.apply(difference([tunnel(o)], [tunnel(o, remote_teid=NEW_TEID)])) == []
    seen = {c.local_teid for c in await dataplane.gtpu_counters() if c.error_indication_seen}
    assert seen == {2}


async def test_answers_of_strangers_change_nothing(dataplane: MessageDataplane, wire: Wire) -> None:
    assert await dataplane.apply(difference([], gtpu(O4))) == []
    elements = bytes([16]) + REMOTE_TEID.to_bytes(4, "big") + bytes([133, 0, 4, 198, 51, 100, 21])
    wire.send(response(O4, 1))
    wire.send(gtp(O4, b"", kind=ERROR_INDICATION, teid=0, S=1))
    wire.send(gtp(O4, elements[:4], kind=ERROR_INDICATION, teid=0, S=1))
    wire.send(bytes(network("203.0.113.1", O4.local) / UDP(sport=1, dport=PORT)))
    wire.expect_nothing(0.5)
    assert not any(c.error_indication_seen for c in await dataplane.gtpu_counters())
    assert all(p.condition == PathCondition.UNKNOWN for p in await dataplane.gtpu_paths())
