"""GTP-U while packets flow: a peer moves, switches turn, and none is lost; large frames of kernel sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.contract.engine_gtpu import (
    CAPACITY,
    END_MARKER,
    I4,
    I6,
    NEW_TEID,
    O4,
    O6,
    REMOTE_TEID,
    Outer,
    encapsulated,
    ends_of,
    gtp,
    gtpu,
    hop,
    packed,
    switches,
    tunnel,
    unwrap,
)
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import packet
from tests.contract.engine_process import Engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import GtpuTunnelFlag, Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
FLOWS = 16


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, node, CAPACITY) as process:
        process.start()
        yield process


class Load:
    """Numbered packets into the tunnel and out of it, some hundred in flight, as long as it is open."""

    def __init__(self, wire: Wire, o: Outer) -> None:
        self.wire, self.o = wire, o
        self.sent = 0
        self.received: list[bytes] = []
        self.stop = False
        self.thread = threading.Thread(target=self._run)

        self.templates = [
            self._outer(n, bytes(4), b"\xff" * 4) if n % 4 >= 2 else self._down(n, bytes(4), b"\xff" * 4)
            for n in range(4 * FLOWS)
        ]

    def _down(self, number: int, *content: bytes) -> bytes:
        i = I4 if number % 2 else I6
        return packet(Protocol.UDP, (i.host, 1000 + number % FLOWS), (i.ue, 4000), b"".join(content))

    def _outer(self, number: int, *content: bytes) -> bytes:
        i = I4 if number % 2 else I6
        inner = packet(Protocol.UDP, (i.ue, 1000 + number % FLOWS), (i.host, 53), b"".join(content))
        return gtp(self.o, inner)

    def down(self, number: int) -> bytes:
        """A packet to the user, made from scratch."""
        return self._down(number, *self._content(number))

    @staticmethod
    def _content(number: int) -> tuple[bytes, bytes]:
        return number.to_bytes(4, "big"), (number ^ 0xFFFFFFFF).to_bytes(4, "big")

    def _packet(self, number: int) -> bytes:
        # The number and its complement add up to the same checksum, whatever the number.
        return self.templates[number % len(self.templates)][:-8] + b"".join(self._content(number))

    def _run(self) -> None:
        while not self.stop or self.sent % 128:
            packets = [self._packet(number) for number in range(self.sent, self.sent + 128)]
            for raw in packets:
                self.wire.send(raw)
            self.sent += len(packets)
            while self.sent - len(self.received) > 128 or (self.stop and len(self.received) < self.sent):
                # Long enough for a machine that does much else; what is lost is told by the numbers.
                frame = self.wire.receive(10.0)
                if frame is None:
                    return
                self.received.append(frame.packet)

    async def reach(self, sent: int) -> None:
        """Go on until that many were sent."""
        while self.sent < sent and self.thread.is_alive():  # noqa: ASYNC110 - a thread sends
            await asyncio.sleep(0.02)

    def __enter__(self) -> Load:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join()
        while len(self.received) < self.sent and (frame := self.wire.receive(1.0)) is not None:
            self.received.append(frame.packet)
        while (frame := self.wire.receive(0.1)) is not None:
            self.received.append(frame.packet)


def numbers_of(packets: list[bytes]) -> list[int]:
    for raw in packets:
        assert int.from_bytes(raw[-8:], "big") % 0xFFFFFFFF == 0, "number and complement"
    return [int.from_bytes(raw[-8:-4], "big") for raw in packets]


@OUTER
async def test_peer_moves_under_load_without_a_lost_packet(engine: Engine, wire: Wire, o: Outer) -> None:
    flags = GtpuTunnelFlag.INNER_SOURCE_CHECK | GtpuTunnelFlag.END_MARKER_ON_REPLACE
    here = tunnel(o, flags=flags)
    there = replace(here, remote=ipaddress.ip_address(o.other_peer), remote_teid=NEW_TEID)
    moves = 60
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o, flags=flags))) == []
        with Load(wire, o) as load:
            for move in range(moves):
                old, new = (here, there) if move % 2 == 0 else (there, here)
                assert await dataplane.apply(difference([old], [new])) == []
                await asyncio.sleep(0.02)
            await load.reach(1000)
    ends = {packed(o.peer): REMOTE_TEID, packed(o.other_peer): NEW_TEID}
    local = packed(o.local)
    inner, markers, used = [], 0, set()
    for raw in load.received:
        if ends_of(raw)[0] != local:
            inner.append(raw)
            continue
        fields, payload = unwrap(raw)
        assert ends[ends_of(raw)[1]] == fields["teid"], "an address with the other's TEID"
        if fields["type"] == END_MARKER:
            markers += 1
            continue
        used.add(fields["teid"])
        inner.append(payload)
    assert sorted(numbers_of(inner)) == list(range(load.sent)), "lost, doubled or changed packets"
    assert used == set(ends.values())
    assert markers == moves


async def test_end_marker_is_the_last_packet_on_the_old_path(engine: Engine, wire: Wire) -> None:
    """One flow, one move at a time: after the End Marker nothing comes by the old TEID."""
    flags = GtpuTunnelFlag.END_MARKER_ON_REPLACE
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(O4, flags=flags))) == []
        with Load(wire, O4) as load:
            for teid in range(1, 31):
                old = tunnel(O4, flags=flags, remote_teid=teid if teid > 1 else REMOTE_TEID)
                new = tunnel(O4, flags=flags, remote_teid=teid + 1)
                assert await dataplane.apply(difference([old], [new])) == []
                await asyncio.sleep(0.02)
    # What two workers have sent may change places on its way through the kernel of the receiver.
    allowed = 0 if engine.workers == 1 else 64
    ended: dict[int, int] = {}
    for position, raw in enumerate(load.received):
        if ends_of(raw)[0] != packed(O4.local):
            continue
        fields, _ = unwrap(raw)
        if fields["type"] == END_MARKER:
            ended[fields["teid"]] = position
        else:
            assert position - ended.get(fields["teid"], position) <= allowed
    assert len(ended) == 30


@OUTER
async def test_switches_turn_under_load_without_a_lost_packet(engine: Engine, wire: Wire, o: Outer) -> None:
    both = (False, True)
    settings = [switches(cache, prefetch, n) for n in (1, 2, 4) for cache in both for prefetch in both]
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        with Load(wire, o) as load:
            for _ in range(3):
                for setting in settings:
                    assert await dataplane.apply(difference([], [setting])) == []
                    await asyncio.sleep(0.02)
        counters = (await dataplane.stats()).counters
    inner: list[bytes] = []
    outer: dict[int, bytes] = {}
    for raw in load.received:
        if ends_of(raw)[0] == packed(o.local):
            number = numbers_of([raw])[0]
            outer[number] = raw
            inner.append(unwrap(raw)[1])
        else:
            inner.append(raw)
    assert sorted(numbers_of(inner)) == list(range(load.sent))
    ports: dict[int, set[int]] = {}
    for number, raw in list(outer.items())[::37]:
        assert raw == encapsulated(o, hop(load.down(number)), raw), "other bytes with another switch"
    for number, raw in outer.items():
        at = 20 if o is O4 else 40
        ports.setdefault((number % 2) * FLOWS + number % FLOWS, set()).add(
            int.from_bytes(raw[at : at + 2], "big")
        )
    assert all(len(found) == 1 for found in ports.values()), (
        "one source port for each flow, whatever the switches"
    )
    for name in ("gtpuLoopSingle", "gtpuLoopDual", "gtpuLoopQuad", "gtpuPrefetched", "gtpuCacheHits"):
        assert counters[name] > 0, name


async def test_each_switch_has_a_counter_that_proves_it(engine: Engine, wire: Wire) -> None:
    names = {"gtpuLoopSingle", "gtpuLoopDual", "gtpuLoopQuad", "gtpuPrefetched", "gtpuCacheHits"}

    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(O4))) == []

        async def counted(cache: bool, prefetch: bool, loop: int) -> set[str]:
            assert await dataplane.apply(difference([], [switches(cache, prefetch, loop)])) == []
            before = (await dataplane.stats()).counters
            with Load(wire, O4):
                await asyncio.sleep(0.1)
            after = (await dataplane.stats()).counters
            return {name for name in names if after[name] > before[name]}

        assert await counted(False, False, 1) == {"gtpuLoopSingle"}
        assert await counted(True, False, 1) == {"gtpuLoopSingle", "gtpuCacheHits"}
        assert "gtpuPrefetched" in await counted(False, True, 1)
        assert "gtpuCacheHits" not in await counted(False, True, 4)
        assert "gtpuLoopDual" in await counted(False, False, 2)
        assert "gtpuLoopQuad" in await counted(False, False, 4)
