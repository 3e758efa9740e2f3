"""VPP's plugin khost: the region goes from engine to engine, in both directions; messages that are none; what
people see of it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import SMALL, EmbeddedEngine, Engine, started_in_memory
from tests.contract.engine_services import V4, V6, Addresses, Service, difference, settings
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix
from vpp_papi import VPPApiClient

from vpp_operator.dataplane.records import Protocol, Table
from vpp_operator.dataplane.wire import HEADER, MessageType

pytestmark = pytest.mark.skipif(vpp_prefix() is None, reason=NO_VPP)

FLOWS = 16
INVALID_VALUE = -7
INVALID_VALUE_2 = -8
INVALID_SW_IF_INDEX = -2


@pytest.fixture
def vpp(node: Namespace) -> Iterator[VppEngine]:
    """A running VPP on the host link, with small tables."""
    with vpp_engine(node, capacity=SMALL) as engine:
        engine.start()
        yield engine


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


def test_calls_that_hold_no_message_are_refused(vpp: VppEngine) -> None:
    """The outer length and the header's have to agree; whatever comes, the next message is answered."""
    client = VPPApiClient(server_address=str(vpp.socket_path), bootstrapapi=True)
    assert client.connect("test") == 0
    api = client.api
    info = HEADER.pack(HEADER.size, MessageType.INFO, 1, 7, 0, 0, 0, 0, 0)
    longer = struct.pack("<I", HEADER.size + 8) + info[4:]
    huge = struct.pack("<I", 0xFFFFFFFF) + info[4:]
    for request, code in (
        (b"", INVALID_VALUE),
        (info[:-1], INVALID_VALUE),
        (longer, INVALID_VALUE_2),
        (info + b"\0", INVALID_VALUE_2),
        (huge, INVALID_VALUE_2),
        (longer + b"\0" * (1 << 20), INVALID_VALUE_2),
    ):
        reply = api.khost_call(length=len(request), request=request)
        assert (reply.retval, len(reply.answer)) == (code, 0), request[:40]
        reply = api.khost_call(length=len(info), request=info)
        assert reply.retval == 0 and bytes(reply.answer).endswith(b"}")
    assert api.khost_interface(sw_if_index=4711, enable=True).retval == INVALID_SW_IF_INDEX
    assert api.khost_interface(sw_if_index=0xFFFFFFFF, enable=False).retval == INVALID_SW_IF_INDEX
    assert api.khost_version().message_version == 1
    client.disconnect()
    assert "6 of them refused" in vpp.cli("show khost")
    assert "gtpuTunnels" in vpp.cli("show khost tables")


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
