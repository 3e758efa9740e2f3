"""The embedded engine's control socket: hostile senders stop neither the engine nor others."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_messages import EPROTO, message
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import SMALL, EmbeddedEngine, embedded_engine
from tests.contract.engine_services import V4, Service, difference, settings

from vpp_operator.dataplane.embedded import EmbeddedDataplane
from vpp_operator.dataplane.protocol import Batch, DataplaneError, DataplaneUnavailableError
from vpp_operator.dataplane.records import Protocol, Table
from vpp_operator.dataplane.wire import HEADER, MAX_BYTES, Header, MessageType


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[EmbeddedEngine]:
    with embedded_engine(node, workers=request.param, capacity=SMALL) as process:
        process.start()
        yield process


def connect(engine: EmbeddedEngine) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.connect(str(engine.socket_path))
    raw.settimeout(5)
    return raw


def receive(raw: socket.socket) -> tuple[Header, bytes]:
    content = b""
    while len(content) < HEADER.size:
        content += raw.recv(HEADER.size - len(content)) or pytest.fail("connection closed")
    header = Header.unpack(content)
    payload = b""
    while len(payload) < header.length - HEADER.size:
        payload += raw.recv(header.length - HEADER.size - len(payload)) or pytest.fail("connection closed")
    return header, payload


@pytest.mark.parametrize("length", [0, 1, 31, MAX_BYTES + 1, 0xFFFFFFFF])
async def test_length_that_cannot_be_ends_the_connection(engine: EmbeddedEngine, length: int) -> None:
    with connect(engine) as raw:
        raw.sendall(message(MessageType.INFO, length=length))
        header, _ = receive(raw)
        assert header.retval == EPROTO
        assert raw.recv(1) == b""


@pytest.mark.parametrize("seed", range(6))
async def test_random_bytes_stop_nothing(engine: EmbeddedEngine, wire: Wire, seed: int) -> None:
    """Random streams, whole messages with random fields, and cut ones; packets and other clients go on."""
    service = Service("web", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
    state = settings() + service.records()
    noise = random.Random(seed)
    end = time.monotonic() + 1.5
    sent = 0
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], state)) == []
        while time.monotonic() < end:
            with connect(engine) as raw:
                raw.setblocking(False)
                for _ in range(noise.randrange(1, 20)):
                    payload = noise.randbytes(noise.choice((0, 1, 8, 32, 48, 40 * 7, 1000)))
                    content = message(
                        noise.choice((*range(10), noise.randrange(65536))),
                        payload,
                        length=noise.choice(
                            (None, None, None, noise.randrange(2**32), noise.randrange(2000))
                        ),
                        version=noise.choice((1, 1, 1, 1, noise.randrange(65536))),
                        count=noise.choice((0, 1, len(payload) // 32, noise.randrange(2**32))),
                        record_size=noise.choice((0, 8, 24, 32, 40, 48, noise.randrange(65536))),
                        table=noise.choice((0, 1, 2, 3, 4, 5, noise.randrange(65536))),
                        cursor=noise.choice((0, 1, noise.randrange(2**64))),
                    )
                    with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                        raw.send(content if noise.random() < 0.8 else noise.randbytes(200))
                    sent += 1
            if sent % 10 == 0:
                await dataplane.info()
        assert sent > 100
        assert engine.process is not None and engine.process.poll() is None, engine.log()
        # Random records may have been taken; what the agent wants can still be programmed, and works.
        for table in Table:
            keys = [key async for piece in dataplane.dump(table) for key, _ in piece]
            wanted = {record.pack()[: record.KEY] for record in state if table == record.TABLE}
            await dataplane.apply(Batch(deletes={table: [key for key in keys if key not in wanted]}))
        assert await dataplane.apply(difference([], state)) == []
        back = wire.exchange(packet(Protocol.UDP, (V4.pod, 41000), (V4.vip, 80))).packet
        assert addresses(back)[1] == V4.endpoints[0]


async def test_slow_client_does_not_hold_up_another(engine: EmbeddedEngine) -> None:
    with connect(engine) as slow, connect(engine) as deaf:
        slow.sendall(message(MessageType.UPSERT, bytes(100), length=5000, count=3, record_size=32, table=3))
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100000):  # asks and never reads
                deaf.send(message(MessageType.STATS))
        async with engine.dataplane() as dataplane:
            async with asyncio.timeout(2):
                for _ in range(20):
                    await dataplane.stats()


async def test_more_clients_than_there_is_room_for(engine: EmbeddedEngine) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(engine)) for _ in range(20)]
        answered = 0
        for raw in clients:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.sendall(message(MessageType.INFO))
                answered += bool(raw.recv(1))
        assert answered == 16
    async with engine.dataplane() as dataplane:
        await dataplane.info()


async def test_closed_connection_publishes_what_it_changed(engine: EmbeddedEngine, wire: Wire) -> None:
    service = Service("web", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
    with connect(engine) as raw:
        for table in (Table.CONFIG, Table.PREFIX, Table.SERVICE, Table.FRONTEND, Table.ENDPOINT):
            records = [r.pack() for r in settings() + service.records() if table == r.TABLE]
            content = message(
                MessageType.UPSERT,
                b"".join(records),
                count=len(records),
                record_size=len(records[0]),
                table=table,
            )
            raw.sendall(content)
            header, payload = receive(raw)
            assert (header.retval, header.count, payload) == (0, len(records), b"")
    async with engine.dataplane() as dataplane:
        await dataplane.info()
        back = wire.exchange(packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80))).packet
        assert addresses(back)[1] == V4.endpoints[0]


async def test_socket_is_for_owner_and_group(engine: EmbeddedEngine) -> None:
    assert stat.S_IMODE(engine.socket_path.stat().st_mode) == 0o660


# ---- the adapter ----


async def test_no_engine_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataplaneUnavailableError, match="is the engine's pod on this node running"):
        await EmbeddedDataplane(tmp_path / "none.sock").connect()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (HEADER.pack(32, 0x8001, 1, 1, 0, 0, 0, 0, 0), "INFO"),
        (HEADER.pack(32, 0x8007, 1, 1, 0, 0, 0, 0, 0), "was answered by type"),
        (HEADER.pack(34, 0x8001, 1, 1, 0, 0, 0, 0, 0) + b"[]", "INFO"),
        (HEADER.pack(32, 0x8001, 1, 1, 0, 0, 0, EPROTO, 0), "refused INFO: EPROTO"),
        (struct.pack("<I", 7) + bytes(28), "message length 7"),
    ],
)
async def test_answers_that_make_no_sense_are_errors(tmp_path: Path, answer: bytes, complaint: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(HEADER.size)
        writer.write(answer)
        await reader.read()
        writer.close()

    path = tmp_path / "engine.sock"
    server = await asyncio.start_unix_server(serve, path)
    dataplane = EmbeddedDataplane(path)
    with pytest.raises(DataplaneError, match=complaint):
        await dataplane.connect()
    await dataplane.close()
    server.close()
