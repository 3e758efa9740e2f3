"""VPP's plugin khost: the region goes from engine to engine, in both directions; what is refused at
the start; what people see of it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import SMALL, EmbeddedEngine, Engine, started_in_memory
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix

from vpp_operator.dataplane.records import Protocol, Table
from vpp_operator.dataplane.vpp.startup import StartupConf

pytestmark = pytest.mark.skipif(vpp_prefix() is None, reason=NO_VPP)

FLOWS = 16


def state(a: Addresses) -> Service:
    return Service("dns", a.family, Protocol.UDP, 53, tuple((e, 5353) for e in a.endpoints), vip=a.vip)


def homes(wire: Wire) -> list[str]:
    """Where FLOWS flows of each family end."""
    return [
        addresses(wire.exchange(packet(Protocol.UDP, (a.pod, 40000 + n), (a.vip, 53))).packet)[1]
        for a in (V4, V6)
        for n in range(FLOWS)
    ]


async def contents(engine: Engine) -> dict[Table, dict[bytes, int]]:
    async with engine.dataplane() as dataplane:
        return {table: dict([e async for piece in dataplane.dump(table) for e in piece]) for table in Table}


@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "killed"])
@pytest.mark.parametrize("first", ["embedded", "vpp"])
async def test_other_engine_attaches_to_the_region(node: Namespace, first: str, orderly: bool) -> None:
    """Each continues the flows of the other, at the same endpoints, and holds the same records."""

    def make(directory: Path) -> EmbeddedEngine:
        return EmbeddedEngine(node, directory, capacity=SMALL)

    with started_in_memory(make) as embedded:
        vpp = VppEngine(node, embedded.directory, capacity=SMALL)
        engines: list[Engine] = [embedded, vpp] if first == "embedded" else [vpp, embedded]
        before, found = {}, []
        try:
            for turn, engine in enumerate([*engines, engines[0]]):
                engine.start()
                info = engine.check()
                assert info is not None and info["attached"] == (turn > 0), engine.log()
                if turn == 0:
                    records = settings() + [record for a in (V4, V6) for record in state(a).records()]
                    async with engine.dataplane() as dataplane:
                        assert await dataplane.apply(difference([], records)) == []
                    before = await contents(engine)
                assert await contents(engine) == before
                wire = Wire(node)
                found.append(await asyncio.to_thread(homes, wire))
                wire.close()
                async with engine.dataplane() as dataplane:
                    counters = (await dataplane.stats()).counters
                assert counters["sessionsCreated"] == (0 if turn else 2 * FLOWS)
                if orderly:
                    engine.stop()
                else:
                    engine.kill()
        finally:
            if vpp.process is not None:
                vpp.kill()
        assert found[0] == found[1] == found[2]
        assert len(set(found[0])) > 4  # chosen at random among eight


@pytest.mark.parametrize(
    ("capacity", "region", "said"),
    [
        ({"sessions": 1}, "region", r"sessions 1: give a number from 64 to \d+"),
        ({"session": 1000}, "region", "session: no such setting"),
        ({"tunnels": 1 << 24}, "region", r"tunnels 16777216: give a number from 1 to \d+"),
        ({}, "nowhere/region", "nowhere/region: .*directory"),
    ],
    ids=["too small", "unknown", "too large", "no directory"],
)
def test_bad_setting_ends_vpp_with_an_error(
    node: Namespace, capacity: dict[str, int], region: str, said: str
) -> None:
    """Not with status 0, as if it had been stopped; the last line names the setting and the remedy."""

    class Elsewhere(VppEngine):
        @property
        def region_path(self) -> Path:
            return self.directory / region

    with started_in_memory(lambda directory: Elsewhere(node, directory, capacity=capacity)) as engine:
        engine.launch()
        assert engine.process is not None
        assert engine.process.wait(20) == 1
        assert re.search(f"khost: .*{said}", engine.log().strip().splitlines()[-1])


@pytest.mark.parametrize(("asked", "queues"), [(1, 1), (3, 3)])
def test_receive_queues_of_a_link(node: Namespace, asked: int, queues: int) -> None:
    class Queues(VppEngine):
        @property
        def conf(self) -> StartupConf:
            return replace(super().conf, rx_queues=asked)

    with started_in_memory(lambda directory: Queues(node, directory, capacity=SMALL)) as engine:
        engine.start()
        placement = engine.cli("show interface rx-placement")
        assert len(re.findall(r"host-vpp1 queue \d+", placement)) == queues, placement


def barriers(vpp: VppEngine) -> int:
    found = re.search(r"(\d+) worker barriers", vpp.cli("show khost"))
    assert found is not None
    return int(found[1])


async def test_replaced_endpoints_stop_no_worker(node: Namespace) -> None:
    """All endpoints of all services are replaced, twice: no worker thread stands still for it."""
    places = [
        [
            Service(
                f"s{i}",
                4,
                Protocol.TCP,
                80,
                tuple((str(ipaddress.ip_address(base) + 10 * i + n), 8080) for n in range(10)),
                vip=str(ipaddress.ip_address("10.96.1.0") + i),
            )
            for i in range(200)
        ]
        for base in ("10.244.2.0", "10.245.2.0")
    ]
    one, other = ([record for service in side for record in service.records()] for side in places)
    with vpp_engine(node, workers=1) as vpp:
        vpp.start()
        async with vpp.dataplane() as dataplane:
            assert await dataplane.apply(difference([], settings() + one)) == []
            first = await asyncio.to_thread(barriers, vpp)
            before = await asyncio.to_thread(barriers, vpp)
            for old, new in ((one, other), (other, one)):
                assert await dataplane.apply(difference(old, new)) == []
            # A session of the command line is one itself.
            assert await asyncio.to_thread(barriers, vpp) - before == before - first
            assert (await dataplane.stats()).tables["endpoints"].used == 2000
