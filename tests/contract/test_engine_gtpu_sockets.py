"""GTP-U between sockets of the kernel: partial checksums, large frames, and checksums that it verifies."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.packet import Raw
from tests.contract.conftest import needs_root
from tests.contract.engine_gtpu import (
    CAPACITY,
    I4,
    I6,
    LOCAL_TEID,
    O4,
    O6,
    PORT,
    REMOTE_TEID,
    Inner,
    Outer,
    data_network,
    ends_of,
    gtp,
    gtpu,
    packed,
    unwrap,
)
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import TCP, UDP, network, packet, parse
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
INNER = pytest.mark.parametrize("i", [I4, I6], ids=["ipv4", "ipv6"])
UDP_SEGMENT = 103


@pytest.fixture
def data_node() -> Iterator[Namespace]:
    needs_root()
    with data_network() as namespace:
        yield namespace


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, data_node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, data_node, CAPACITY) as process:
        process.start()
        yield process


def udp_socket(namespace: Namespace, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = namespace.socket(family, socket.SOCK_DGRAM)
    made.settimeout(3)
    made.bind((address, port))
    return made


def message(inner: bytes) -> bytes:
    return bytes(GTP_U_Header(teid=LOCAL_TEID, gtp_type=255) / Raw(inner))


@OUTER
@INNER
async def test_both_ways_between_kernel_sockets(engine: Engine, o: Outer, i: Inner) -> None:
    """The kernel leaves checksums to be done on the way in, and verifies ours on the way out."""
    namespace = engine.namespace
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        with udp_socket(namespace, o.peer, PORT) as peer, udp_socket(namespace, i.host, 53) as host:
            for size in (0, 1, 2, 700, 1301):
                content = bytes(k % 256 for k in range(size))
                peer.sendto(
                    message(packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), content)), (o.local, PORT)
                )
                assert host.recvfrom(2000) == (content, (i.ue, 4000, *(() if i is I4 else (0, 0))))
                host.sendto(content, (i.ue, 4000))
                raw, source = peer.recvfrom(2000)
                assert source[0] == o.local
                header = GTP_U_Header(raw)
                assert (header.teid, header.gtp_type) == (REMOTE_TEID, 255)
                inner = raw[8:]
                again = parse(inner)
                assert bytes(again[UDP].payload) == content
                if i is I4:
                    del again.chksum
                del again[UDP].chksum
                assert bytes(again) == inner, "inner checksums"
        assert not any((await dataplane.stats()).drops.values())


@OUTER
@INNER
async def test_large_udp_frame_of_a_peer_is_cut_before_it_is_taken_out(
    engine: Engine, o: Outer, i: Inner
) -> None:
    """A peer that sends many G-PDUs by segmentation offload."""
    namespace = engine.namespace
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        with udp_socket(namespace, o.peer, PORT) as peer, udp_socket(namespace, i.host, 53) as host:
            messages = [
                message(packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), n.to_bytes(2, "big") * 300))
                for n in range(50)
            ]
            peer.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(messages[0]))
            peer.sendto(b"".join(messages), (o.local, PORT))
            for n in range(50):
                assert host.recv(2000) == n.to_bytes(2, "big") * 300
        stats = await dataplane.stats()
        assert stats.counters["gtpuSegmented"] == engine.LARGE_UDP, "the kernel sent no large frame"
        assert stats.counters["gtpuDecapsulated"] == 50
        [counters] = await dataplane.gtpu_counters()
        assert counters.rx_packets == 50


@OUTER
@INNER
async def test_large_udp_frame_of_a_host_is_cut_for_the_tunnel(engine: Engine, o: Outer, i: Inner) -> None:
    namespace = engine.namespace
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        with udp_socket(namespace, o.peer, PORT) as peer, udp_socket(namespace, i.host, 53) as host:
            contents = [struct.pack("!H", n) * 500 for n in range(40)]
            host.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            host.sendto(b"".join(contents), (i.ue, 4000))
            for content in contents:
                inner = parse(peer.recv(2000)[8:])
                assert bytes(inner[UDP].payload) == content
                again = parse(bytes(inner))
                del again[UDP].chksum
                assert bytes(again) == bytes(inner)
        assert (await dataplane.stats()).counters["gtpuSegmented"] == engine.LARGE_UDP


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
async def test_large_tcp_frames_of_a_host_are_cut_for_the_tunnel(o: Outer, i: Inner) -> None:
    needs_root()
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
