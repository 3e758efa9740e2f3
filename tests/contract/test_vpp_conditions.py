"""What people read in a node's conditions when VPP does not serve its agent: the agent with a real VPP."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.contract.engine_lab import Namespace
from tests.contract.engine_process import SMALL, started_in_memory
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix

from vpp_operator.agent.loop import Loop, LoopTimes
from vpp_operator.agent.status import Knowledge, build_status
from vpp_operator.api.conditions import Condition, ConditionStatus, Reason
from vpp_operator.dataplane.vpp import api
from vpp_operator.dataplane.vpp.startup import StartupConf

pytestmark = pytest.mark.skipif(vpp_prefix() is None, reason=NO_VPP)


class Clock:
    """Ten seconds go by from one look to the next, so that whatever is due at some time is due at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def agent_of(engine: VppEngine) -> Loop:
    """The agent's loop, without objects of a cluster."""
    return Loop(engine.connection(call_timeout=1.0), (), times=LoopTimes(), clock=Clock())


async def until_it_speaks(loop: Loop) -> None:
    """VPP takes a while to start, during which nobody is there."""
    async with asyncio.timeout(60):
        await loop.turn()
        while not (loop.connected() or loop.incompatible):
            await asyncio.sleep(0.05)
            await loop.turn()


def read(loop: Loop) -> dict[str, Condition]:
    """The conditions that ``kubectl describe dataplane`` shows."""
    knowledge = Knowledge(
        "node",
        wanted_engine="vpp",
        programming=loop.programming,
        engine_error=loop.error,
        engine_incompatible=loop.incompatible,
        info=loop.info,
        stats=loop.stats,
    )
    return {c.type: c for c in build_status(knowledge, (), datetime.now(UTC)).conditions or ()}


def not_served(loop: Loop, reason: Reason, *words: str) -> None:
    """Ready and Programmed give the same reason, and a message with all of the words."""
    found = read(loop)
    assert found["Ready"].status == ConditionStatus.FALSE
    assert found["Programmed"].status == ConditionStatus.UNKNOWN
    for kind in ("Ready", "Programmed"):
        assert found[kind].reason == reason
        for word in words:
            assert word in found[kind].message


async def test_vpp_that_stops_answering(node: Namespace) -> None:
    with vpp_engine(node, capacity=SMALL) as vpp:
        vpp.start()
        loop = agent_of(vpp)
        await loop.turn()
        assert read(loop)["Ready"].status == ConditionStatus.TRUE, loop.error
        assert vpp.process is not None
        vpp.process.send_signal(signal.SIGSTOP)
        try:
            await loop.turn()
            not_served(
                loop,
                Reason.ENGINE_UNREACHABLE,
                str(vpp.socket_path),
                "what is programmed stays",
                "look at the engine pod's log on this node",
            )
            await loop.turn()
            not_served(
                loop,
                Reason.ENGINE_UNREACHABLE,
                "no VPP answers at",
                "is the engine's pod on this node running",
            )
        finally:
            vpp.process.send_signal(signal.SIGCONT)
        await loop.turn()
        assert read(loop)["Ready"].status == ConditionStatus.TRUE, loop.error


async def test_vpp_without_the_plugin(node: Namespace) -> None:
    class Bare(VppEngine):
        @property
        def conf(self) -> StartupConf:
            return replace(super().conf, plugins=("af_packet",))

    with started_in_memory(lambda directory: Bare(node, directory)) as vpp:
        vpp.launch()
        loop = agent_of(vpp)
        await until_it_speaks(loop)
        not_served(
            loop,
            Reason.ENGINE_INCOMPATIBLE,
            "its plugin khost is not loaded",
            "khost_plugin.so must lie in a directory of startup.conf's `plugins`",
            "use the operator's own image",
        )


async def test_vpp_of_another_release(node: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is the one that is of another release: its description of the message differs from VPP's."""
    call = [
        dict(part, crc="0x0badc0de") if isinstance(part, dict) else part
        for part in api.KHOST_API["messages"][0]
    ]
    monkeypatch.setitem(api.KHOST_API, "messages", [call, api.KHOST_API["messages"][1]])
    with vpp_engine(node, capacity=SMALL) as vpp:
        vpp.launch()
        loop = agent_of(vpp)
        await until_it_speaks(loop)
        not_served(
            loop,
            Reason.ENGINE_INCOMPATIBLE,
            "speaks another version of khost_call: khost_call_497d58c0",
            "the agent khost_call_0badc0de",
            "Bring engine and agent to the same release",
        )
        monkeypatch.undo()
        await loop.turn()
        assert read(loop)["Ready"].status == ConditionStatus.TRUE, loop.error
