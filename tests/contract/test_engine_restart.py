"""1,000 TCP connections under load while the engine is killed 100 times at random moments, some of them while
it is still attaching: every connection goes on at its own endpoint and every byte arrives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import statistics
import time
from dataclasses import dataclass, field

import pytest
from tests.contract.conftest import needs_root
from tests.contract.engine_lab import Namespace
from tests.contract.engine_node import Node, listen, node_with_pods
from tests.contract.engine_probe import gap, probing, read_answers
from tests.contract.engine_process import Engine
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings
from tests.contract.engines import engine_named

from vpp_operator.dataplane.records import Protocol

FLOWS = 1000
SESSIONS = FLOWS + 1
"""One more is the probe's."""
KILLS = 100
PAUSE = (0.1, 0.7)
"""Seconds that a running engine is left alone; flows send a block about as often."""


@dataclass
class Flow:
    """One connection: what it sent, what came back, where it ended."""

    number: int
    family: int
    sent: hashlib._Hash = field(default_factory=hashlib.sha256)
    echoed: hashlib._Hash = field(default_factory=hashlib.sha256)
    blocks: int = 0
    home: int = -1

    async def run(self, raw: socket.socket, address: str, stop: asyncio.Event) -> None:
        """Connect, send blocks and read them back until told to stop, then compare the server's account."""
        noise = random.Random(self.number)
        await asyncio.get_running_loop().sock_connect(raw, (address, 80))
        reader, writer = await asyncio.open_connection(sock=raw)
        self.home = (await reader.readexactly(1))[0]
        while not stop.is_set():
            block = noise.randbytes(noise.randrange(1, 3000))
            self.sent.update(block)
            writer.write(block)
            self.echoed.update(await reader.readexactly(len(block)))
            self.blocks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), noise.uniform(*PAUSE))
        writer.write_eof()
        account = await reader.readexactly(33)
        assert account == bytes([self.home]) + self.sent.digest(), (
            f"flow {self.number}: the server read something else"
        )
        assert self.echoed.digest() == self.sent.digest(), f"flow {self.number}: other bytes came back"
        assert await reader.read() == b""
        writer.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Say which endpoint this is, send everything back, at the end the endpoint and the SHA-256 of it all."""
    state = hashlib.sha256()
    with contextlib.suppress(ConnectionError):
        writer.write(bytes([number]))
        while part := await reader.read(65536):
            state.update(part)
            writer.write(part)
        writer.write(bytes([number]) + state.digest())
        writer.close()
        await writer.wait_closed()


async def start_servers(namespace: Namespace, a: Addresses) -> list[asyncio.Server]:
    """One server for each endpoint."""

    def handler(number: int):  # type: ignore[no-untyped-def]
        return lambda reader, writer: serve(reader, writer, number)

    return [
        await asyncio.start_server(handler(number), sock=listen(namespace, address, 8080), backlog=FLOWS)
        for number, address in enumerate(a.endpoints)
    ]


async def progress(
    flows: list[Flow], tasks: list[asyncio.Task[None]], before: list[int], patience: float = 60
) -> None:
    """Wait until every flow has got more blocks back than before, ``patience`` seconds at most."""
    end = time.monotonic() + patience
    while behind := [f for f, count in zip(flows, before, strict=True) if f.blocks <= count]:
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, f"{len(behind)} flows stand still: {behind[:5]}"
        await asyncio.sleep(0.1)


async def created_sessions(engine: Engine) -> int:
    """Sessions that this process made: none, as long as all flows are those of before."""
    async with engine.dataplane() as dataplane:
        return (await dataplane.stats()).counters["sessionsCreated"]


async def kill_and_start(engine: Engine, noise: random.Random, spans: list[tuple[float, float]]) -> int:
    """Kill it once, or several times if it is killed before it is ready; return how often.

    ``spans`` gets from when to when it was away, if it was killed once.
    """
    kills = 1
    start = time.monotonic()
    await asyncio.to_thread(engine.kill)
    while noise.random() < 0.3:
        engine.launch()
        await asyncio.sleep(noise.uniform(0, 0.03))
        await asyncio.to_thread(engine.kill)
        kills += 1
    await asyncio.to_thread(engine.start)
    info = await asyncio.to_thread(engine.check)
    if kills == 1:
        spans.append((start, time.monotonic()))
    assert info is not None and info["attached"], engine.log()[-2000:]
    assert info["keptSessions"] == SESSIONS, info
    return kills


def report(spans: list[tuple[float, float]], answers: list[float]) -> None:
    """Print for how long no packet passed at each kill: not asserted, since it is the machine's."""
    gaps = sorted(gap(answers, start, end) for start, end in spans if end < answers[-1])
    if gaps:
        print(
            f"forwarding gap of {len(gaps)} restarts, ms: median {statistics.median(gaps) * 1e3:.0f}, "
            f"least {gaps[0] * 1e3:.0f}, largest {gaps[-1] * 1e3:.0f}"
        )


async def endure(engine: Engine, pods: Node, patience: float) -> list[Flow]:
    """Open the flows, kill the engine under them, end them in order; measure how long nothing passes."""
    noise = random.Random(time.time_ns())
    services = [
        Service("web", a.family, Protocol.TCP, 80, tuple((e, 8080) for e in a.endpoints), vip=a.vip)
        for a in (V4, V6)
    ]
    probe = (V4.vip, 53), (V4.endpoints[0], 5353)
    services.append(Service("probe", 4, Protocol.UDP, 53, (probe[1],), vip=V4.vip))
    async with engine.dataplane() as dataplane:
        records = settings() + [record for service in services for record in service.records()]
        assert await dataplane.apply(difference([], records)) == []
    stop = asyncio.Event()
    flows, tasks = [], []
    for number in range(FLOWS):
        a = (V4, V6)[number % 2]
        raw = pods.client.socket(socket.AF_INET if a is V4 else socket.AF_INET6, socket.SOCK_STREAM)
        raw.setblocking(False)
        flows.append(Flow(number, a.family))
        tasks.append(asyncio.create_task(flows[-1].run(raw, a.vip, stop)))
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await progress(flows, tasks, [0] * FLOWS)
    kills, answers = 0, engine.directory / "answers"
    spans: list[tuple[float, float]] = []
    with probing(pods.client, pods.servers, *probe, answers):
        assert await created_sessions(engine) == SESSIONS
        while kills < KILLS:
            kills += await kill_and_start(engine, noise, spans)
            await asyncio.sleep(noise.uniform(*PAUSE))
            assert await created_sessions(engine) == 0, f"after {kills} kills"
        report(spans, await asyncio.to_thread(read_answers, answers))
    await progress(flows, tasks, [flow.blocks for flow in flows], patience)
    stop.set()
    async with asyncio.timeout(patience):
        await asyncio.gather(*tasks)
    return flows


# VPP needs a second or more to start: by the last kill senders wait up to two minutes until they try again.
@pytest.mark.parametrize(("name", "patience"), [("embedded-2", 60), ("vpp-1", 240)], ids=["embedded", "vpp"])
async def test_every_flow_goes_on_whatever_the_moment_of_the_kill(name: str, patience: float) -> None:
    needs_root()
    with node_with_pods() as pods, engine_named(name, pods.host, {"sessions": 4096}) as engine:
        engine.start()
        servers = [server for a in (V4, V6) for server in await start_servers(pods.servers, a)]
        try:
            flows = await endure(engine, pods, patience)
        finally:
            for server in servers:
                server.close()
        for family in (4, 6):
            homes = {flow.home for flow in flows if flow.family == family}
            assert homes == {0, 1, 2, 3}
        assert sum(flow.blocks for flow in flows) > 10 * FLOWS
