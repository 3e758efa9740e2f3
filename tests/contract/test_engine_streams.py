"""Kernel sockets talking through the engine: large frames, open checksums, and an engine that dies."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.contract.conftest import needs_root
from tests.contract.engine_lab import Namespace
from tests.contract.engine_node import Node, connect, listen, node_with_pods
from tests.contract.engine_process import Engine
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import Protocol

FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])
MEBIBYTE = 1 << 20


@pytest.fixture
def pods() -> Iterator[Node]:
    needs_root()
    with node_with_pods() as node:
        yield node


@pytest.fixture(params=ENGINES)
def running(request: pytest.FixtureRequest, pods: Node) -> Iterator[Engine]:
    with engine_named(request.param, pods.host, {"sessions": 4096}) as engine:
        engine.start()
        yield engine


def service(a: Addresses, endpoints: tuple[str, ...], protocol: Protocol = Protocol.TCP) -> Service:
    return Service("web", a.family, protocol, 80, tuple((e, 8080) for e in endpoints), vip=a.vip)


@contextlib.contextmanager
def digest_server(namespace: Namespace, address: str) -> Iterator[None]:
    """Read one stream to its end and answer with its SHA-256."""
    listener = listen(namespace, address, 8080)

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                state = hashlib.sha256()
                while part := connection.recv(MEBIBYTE):
                    state.update(part)
                connection.sendall(state.digest())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join(10)


@FAMILIES
async def test_stream_arrives_whole_in_large_frames(running: Engine, pods: Node, a: Addresses) -> None:
    content = random.Random(7).randbytes(32 * MEBIBYTE)

    def send() -> bytes:
        with connect(pods.client, a.vip, 80) as connection:
            connection.settimeout(30)
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100)

    async with running.dataplane() as dataplane:
        records = settings() + service(a, a.endpoints[:1]).records()
        assert await dataplane.apply(difference([], records)) == []
        with digest_server(pods.servers, a.endpoints[0]):
            assert await asyncio.to_thread(send) == hashlib.sha256(content).digest()
        stats = await dataplane.stats()
        path = stats.paths["service"]
        # Far fewer frames than segments of 1,448 bytes: they crossed as large ones.
        assert path.rx_bytes > len(content)
        assert stats.counters["forward"] < len(content) / 1448 / 4
        assert stats.counters["linkTxNoBuffers"] == stats.counters["linkTxRefused"] == 0


@FAMILIES
async def test_large_datagrams_of_kernel_sockets(running: Engine, pods: Node, a: Addresses) -> None:
    """Fragmented by the sender's kernel, put together by the receiver's: both find the checksums right."""
    family = socket.AF_INET if a is V4 else socket.AF_INET6
    server = pods.servers.socket(family, socket.SOCK_DGRAM)
    server.settimeout(5)
    server.bind((a.endpoints[0], 8080))
    client = pods.client.socket(family, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect((a.vip, 80))
    with server, client:
        async with running.dataplane() as dataplane:
            records = settings() + service(a, a.endpoints[:1], Protocol.UDP).records()
            assert await dataplane.apply(difference([], records)) == []
        for size in (1, 1400, 4000, 20000, 60000):
            content = random.Random(size).randbytes(size)
            client.send(content)
            received, sender = server.recvfrom(65536)
            assert received == content
            server.sendto(content[::-1], sender)
            assert client.recv(65536) == content[::-1]


class EchoServers:
    """One echo server for each endpoint; every answer begins with the endpoint's number."""

    def __init__(self, namespace: Namespace, a: Addresses) -> None:
        self._listeners = [listen(namespace, address, 8080) for address in a.endpoints]
        self._server_tasks: list[asyncio.Server] = []

    async def __aenter__(self) -> EchoServers:
        for number, listener in enumerate(self._listeners):
            self._server_tasks.append(await asyncio.start_server(self._echo(number), sock=listener))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._server_tasks:
            server.close()

    @staticmethod
    def _echo(number: int):  # type: ignore[no-untyped-def]
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while line := await reader.readline():
                    writer.write(b"%d " % number + line)
                    await writer.drain()
                writer.close()

        return echo


async def open_flow(pods: Node, a: Addresses) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    family = socket.AF_INET if a is V4 else socket.AF_INET6
    raw = pods.client.socket(family, socket.SOCK_STREAM)
    raw.setblocking(False)
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().sock_connect(raw, (a.vip, 80))
    return await asyncio.open_connection(sock=raw)


async def ask(flow: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: bytes) -> int:
    """Send a line and return the number of the endpoint that answered."""
    reader, writer = flow
    writer.write(text + b"\n")
    async with asyncio.timeout(20):
        answer = await reader.readline()
    number, _, rest = answer.partition(b" ")
    assert rest == text + b"\n"
    return int(number)


@FAMILIES
async def test_killed_engine_goes_on_with_every_connection(running: Engine, pods: Node, a: Addresses) -> None:
    """4 endpoints, 200 connections, 100 of them idle; two endpoints leave while the engine is dead."""
    all_of_them = settings() + service(a, a.endpoints).records()
    half = settings() + service(a, a.endpoints[:2]).records()
    async with running.dataplane() as dataplane, EchoServers(pods.servers, a):
        assert await dataplane.apply(difference([], all_of_them)) == []
        flows = [await open_flow(pods, a) for _ in range(200)]
        home = [await ask(flow, b"hello") for flow in flows]
        assert set(home) == {0, 1, 2, 3}
        sessions = (await dataplane.stats()).sessions

        lost: list[str] = []
        rounds = 0
        stop = asyncio.Event()

        async def talk(index: int) -> None:
            nonlocal rounds
            while not stop.is_set():
                if await ask(flows[index], b"busy") != home[index]:
                    lost.append(f"flow {index} changed its endpoint")
                rounds += 1
                await asyncio.sleep(0.02)

        talkers = [asyncio.create_task(talk(i)) for i in range(100)]
        await asyncio.sleep(0.3)
        running.kill()
        await asyncio.sleep(0.2)
        running.start()
        info = await dataplane.connect()
        assert info.attached and info.kept_sessions >= sessions
        # Before the agent has said anything the flows go on; then it brings what changed meanwhile.
        before = rounds
        await asyncio.sleep(1.0)
        assert rounds > before
        assert await dataplane.apply(difference(all_of_them, half)) == []
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*talkers)
        assert lost == []
        assert [await ask(flow, b"still there") for flow in flows] == home

        new = [await open_flow(pods, a) for _ in range(20)]
        assert {await ask(flow, b"new") for flow in new} == {0, 1}
        for _, writer in flows + new:
            writer.close()


async def test_engine_killed_again_and_again(running: Engine, pods: Node) -> None:
    records = settings() + service(V4, V4.endpoints).records()
    async with running.dataplane() as dataplane, EchoServers(pods.servers, V4):
        assert await dataplane.apply(difference([], records)) == []
        flows = [await open_flow(pods, V4) for _ in range(20)]
        home = [await ask(flow, b"hello") for flow in flows]
        noise = random.Random(1)
        for _ in range(10):
            asking = [asyncio.create_task(ask(flow, b"again")) for flow in flows]
            await asyncio.sleep(noise.random() * 0.01)
            running.kill()
            running.start()
            assert await asyncio.gather(*asking) == home
        for _, writer in flows:
            writer.close()


async def test_clean_stop_keeps_the_flows_too(running: Engine, pods: Node) -> None:
    records = settings() + service(V4, V4.endpoints).records()
    async with running.dataplane() as dataplane, EchoServers(pods.servers, V4):
        assert await dataplane.apply(difference([], records)) == []
        flow = await open_flow(pods, V4)
        home = await ask(flow, b"hello")
        assert running.stop() == 0
        assert running.check() is None
        running.start()
        assert await ask(flow, b"again") == home
        flow[1].close()


async def test_flood_of_new_flows_on_all_workers(running: Engine, pods: Node) -> None:
    """Every connection is made, used and closed; none is left half open."""
    records = settings() + service(V4, V4.endpoints).records()
    async with running.dataplane() as dataplane, EchoServers(pods.servers, V4):
        assert await dataplane.apply(difference([], records)) == []
        started = time.monotonic()

        async def visit() -> None:
            for _ in range(25):
                flow = await open_flow(pods, V4)
                await ask(flow, b"hello")
                flow[1].close()
                await flow[1].wait_closed()

        await asyncio.gather(*(visit() for _ in range(20)))
        assert time.monotonic() - started < 60
        assert (await dataplane.stats()).counters["sessionsCreated"] == 500
