"""Messages to any engine: bad ones are refused one by one; an engine that fails is an error with a remedy."""

from __future__ import annotations

import json
import random

import pytest
from tests.contract.engine_lab import Wire
from tests.contract.engine_messages import BAD, CONTEXT, message
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import Engine
from tests.contract.engine_services import V4, Service, difference, settings

from vpp_operator.dataplane.protocol import Batch, DataplaneUnavailableError
from vpp_operator.dataplane.records import Protocol, ServiceRecord, Table
from vpp_operator.dataplane.wire import MessageType


async def test_bad_message_is_refused_and_the_connection_goes_on(engine: Engine) -> None:
    transport = engine.transport()
    await transport.connect()
    for name, (content, code) in BAD.items():
        header, payload = await (await transport.send(CONTEXT, content))
        assert (header.retval, header.context, payload) == (code, CONTEXT, b""), name
        header, payload = await (await transport.send(CONTEXT, message(MessageType.INFO)))
        assert header.retval == 0 and json.loads(payload)["engine"] == engine.KIND, name
    await transport.close()


@pytest.mark.parametrize("seed", range(2))
async def test_random_messages_stop_nothing(engine: Engine, wire: Wire, seed: int) -> None:
    """Random fields and contents, in messages whose length is right; packets and other clients go on."""
    service = Service("web", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
    state = settings() + service.records()
    noise = random.Random(seed)
    transport = engine.transport()
    await transport.connect()
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], state)) == []
        for turn in range(1000):
            payload = noise.randbytes(noise.choice((0, 1, 8, 32, 48, 40 * 7, 1000)))
            content = message(
                noise.choice((*range(11), noise.randrange(65536))),
                payload,
                version=noise.choice((1, 1, 1, 1, noise.randrange(65536))),
                count=noise.choice((0, 1, len(payload) // 32, noise.randrange(2**32))),
                record_size=noise.choice((0, 8, 24, 32, 40, 48, noise.randrange(65536))),
                table=noise.choice((*range(10), noise.randrange(65536))),
                cursor=noise.choice((0, 1, noise.randrange(2**64))),
            )
            await (await transport.send(CONTEXT, content))
            if turn % 100 == 0:
                await dataplane.info()
        await transport.close()
        assert engine.process is not None and engine.process.poll() is None, engine.log()
        # Random records may have been taken; what the agent wants can still be programmed, and works.
        for table in (Table.FRONTEND, Table.ENDPOINT, Table.GTPU_UE, Table.GTPU_TUNNEL, *Table):
            keys = [key async for piece in dataplane.dump(table) for key, _ in piece]
            wanted = {record.pack()[: record.KEY] for record in state if table == record.TABLE}
            await dataplane.apply(Batch(deletes={table: [key for key in keys if key not in wanted]}))
        assert await dataplane.apply(difference([], state)) == []
        back = wire.exchange(packet(Protocol.UDP, (V4.pod, 41000), (V4.vip, 80))).packet
        assert addresses(back)[1] == V4.endpoints[0]


async def test_engine_that_ends_fails_the_call_and_comes_back(engine: Engine) -> None:
    async with engine.dataplane() as dataplane:
        created = (await dataplane.info()).creation_id
        engine.kill()
        with pytest.raises(DataplaneUnavailableError, match="Connect again"):
            await dataplane.stats()
        with pytest.raises(DataplaneUnavailableError, match="answers at"):
            await dataplane.connect()
        engine.start()
        info = await dataplane.connect()
        assert info.attached and info.creation_id == created


async def test_engine_that_stops_answering_fails_all_calls(engine: Engine) -> None:
    assert engine.process is not None
    dataplane = engine.connection(call_timeout=0.3)
    await dataplane.connect()
    engine.process.send_signal(19)  # SIGSTOP
    try:
        records = [ServiceRecord(i + 1, 4, Protocol.TCP).pack() for i in range(50_000)]
        with pytest.raises(DataplaneUnavailableError):
            await dataplane.apply(Batch(upserts={Table.SERVICE: records}))
        with pytest.raises(DataplaneUnavailableError):
            await dataplane.info()
    finally:
        engine.process.send_signal(18)  # SIGCONT
    assert (await dataplane.connect()).engine == engine.KIND
    await dataplane.close()
