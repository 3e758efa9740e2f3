"""GTP-U while packets flow: a peer moves, switches turn, and none is lost; large frames of kernel sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.contract.conftest import ENGINES, needs_root
from tests.contract.engine_gtpu import (
    CAPACITY,
    END_MARKER,
    I4,
    I6,
    NEW_TEID,
    O4,
    O6,
    REMOTE_TEID,
    Inner,
    Outer,
    encapsulated,
    gtp,
    gtpu,
    hop,
    switches,
    tunnel,
    unwrap,
)
from tests.contract.engine_lab import ENGINE_MAC, Namespace, Wire, add_host_link, namespaces
from tests.contract.engine_packets import TCP, network, packet, parse
from tests.contract.engine_process import EmbeddedEngine, embedded_engine
from tests.contract.engine_services import difference

from vpp_operator.dataplane.records import GtpuTunnelFlag, Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
FLOWS = 16


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[EmbeddedEngine]:
    workers = int(request.param.rpartition("-")[2])
    with embedded_engine(node, workers=workers, capacity=CAPACITY) as process:
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
                frame = self.wire.receive(1.0)
                if frame is None:
                    return
                self.received.append(frame.packet)

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


def ends_of(raw: bytes) -> tuple[bytes, bytes]:
    """Source and destination, packed."""
    return (raw[12:16], raw[16:20]) if raw[0] >> 4 == 4 else (raw[8:24], raw[24:40])


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def numbers_of(packets: list[bytes]) -> list[int]:
    for raw in packets:
        assert int.from_bytes(raw[-8:], "big") % 0xFFFFFFFF == 0, "number and complement"
    return [int.from_bytes(raw[-8:-4], "big") for raw in packets]


@OUTER
async def test_peer_moves_under_load_without_a_lost_packet(
    engine: EmbeddedEngine, wire: Wire, o: Outer
) -> None:
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
    assert load.sent > 1000


async def test_end_marker_is_the_last_packet_on_the_old_path(engine: EmbeddedEngine, wire: Wire) -> None:
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
    ended: set[int] = set()
    for raw in load.received:
        if ends_of(raw)[0] != packed(O4.local):
            continue
        fields, _ = unwrap(raw)
        if fields["type"] == END_MARKER:
            ended.add(fields["teid"])
        else:
            assert fields["teid"] not in ended
    assert len(ended) == 30


@OUTER
async def test_switches_turn_under_load_without_a_lost_packet(
    engine: EmbeddedEngine, wire: Wire, o: Outer
) -> None:
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


async def test_each_switch_has_a_counter_that_proves_it(engine: EmbeddedEngine, wire: Wire) -> None:
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


# ---- kernel sockets on both ends ----


@contextlib.contextmanager
def data_network(mtu: int = 1500) -> Iterator[Namespace]:
    """A node whose own sockets are the data network: it routes user equipment to the engine."""
    needs_root()
    with namespaces("dn") as [namespace]:
        add_host_link(namespace, mtu)
        namespace.sysctl("ipv4/conf/vpp0/rp_filter", 0)
        namespace.sysctl("ipv4/conf/all/rp_filter", 0)
        for i, gateway in ((I4, "169.254.77.1"), (I6, "fe80::77:1")):
            family = f"-{i.family}"
            namespace.ip(family, "address", "add", f"{i.host}/{32 if i is I4 else 128}", "dev", "lo")
            namespace.ip("neighbor", "add", gateway, "lladdr", ENGINE_MAC.hex(":"), "dev", "vpp0")
            route = [i.pool, "via", gateway, "dev", "vpp0", "onlink", "src", i.host]
            namespace.ip(family, "route", "add", *route)
        yield namespace


class UserEquipment:
    """Answers a TCP connection out of the tunnel: acknowledges what comes in order."""

    def __init__(self, wire: Wire, o: Outer, i: Inner) -> None:
        self.wire, self.o, self.i = wire, o, i
        self.content = b""
        self.largest = 0
        self.frames = 0
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._guard)
        self.thread.start()

    def _guard(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error

    def _run(self) -> None:
        expected: int | None = None
        end = time.monotonic() + 30
        while not self.done.is_set() and time.monotonic() < end:
            frame = self.wire.receive(0.2)
            if frame is None or ends_of(frame.packet)[0] != packed(self.o.local):
                continue
            self.frames += 1
            self.largest = max(self.largest, len(frame.packet))
            assert frame.offload.gso_type == 0 and not frame.offload.partial, "an outer packet is whole"
            fields, inner = unwrap(frame.packet)
            assert fields["teid"] == REMOTE_TEID
            layer = parse(inner)
            again = parse(inner)
            del again[TCP].chksum
            assert bytes(again) == inner, "inner checksum"
            segment = layer[TCP]
            data = bytes(segment.payload)[: len(inner)] if segment.payload else b""
            if "S" in segment.flags:
                expected = segment.seq + 1
                flags = "SA"
            else:
                assert expected is not None
                if segment.seq == expected and data:
                    self.content += data
                    expected = (expected + len(data)) & 0xFFFFFFFF
                if "F" in segment.flags and segment.seq + len(data) == expected:
                    expected += 1
                    flags = "FA"
                    self.done.set()
                else:
                    flags = "A"
            reply = TCP(
                sport=segment.dport,
                dport=segment.sport,
                flags=flags,
                seq=5000 if "S" in flags else 5001,
                ack=expected,
                window=65535,
                options=[("MSS", 1400), ("WScale", 4)] if "S" in flags else [],
            )
            if data or flags != "A":
                self.wire.send(gtp(self.o, bytes(network(self.i.ue, self.i.host) / reply)))


@OUTER
@pytest.mark.parametrize("i", [I4, I6], ids=["ipv4", "ipv6"])
async def test_large_frames_of_a_kernel_socket_are_cut_for_the_tunnel(o: Outer, i: Inner) -> None:
    with data_network() as namespace, embedded_engine(namespace, capacity=CAPACITY) as engine:
        engine.start()
        wire = Wire(namespace)
        async with engine.dataplane() as dataplane:
            assert await dataplane.apply(difference([], gtpu(o))) == []
            user = UserEquipment(wire, o, i)
            content = bytes(k * 7 % 256 for k in range(300_000))

            def send() -> None:
                family = socket.AF_INET if i is I4 else socket.AF_INET6
                with namespace.socket(family, socket.SOCK_STREAM) as connection:
                    connection.settimeout(20)
                    connection.connect((i.ue, 8080))
                    connection.sendall(content)
                    connection.shutdown(socket.SHUT_WR)
                    user.done.wait(20)

            await asyncio.to_thread(send)
            user.done.set()
            user.thread.join()
            if user.error is not None:
                raise user.error
            assert hashlib.sha256(user.content).digest() == hashlib.sha256(content).digest()
            assert user.largest <= 1500
            stats = await dataplane.stats()
            assert stats.counters["gtpuSegmented"] > 0, "the kernel sent no large frame"
            [counters] = await dataplane.gtpu_counters()
            assert counters.tx_packets >= len(content) // 1400
        wire.close()
