"""What the agent says of the engine that the node's pod chose, and what it leaves for the next pod."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vpp_operator.agent.enginesettings import pending_restart, write_settings
from vpp_operator.agent.status import Knowledge, build_status
from vpp_operator.api.conditions import Condition, ConditionStatus, Reason
from vpp_operator.api.tuning import ResolvedRuntime
from vpp_operator.dataplane.choice import EngineChoice, started_with
from vpp_operator.dataplane.protocol import EngineInfo
from vpp_operator.node.choose import read_request

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
INFO = EngineInfo("embedded", "1.0", "c", "b", "l", True, 0, 2, {"sessions": 1024}, ("vpp1",))
VPP_INFO = replace(INFO, engine="vpp", workers=1)


def knowing(**more: Any) -> Knowledge:
    return Knowledge("n1", programming=False, **({"info": INFO} | more))


def conditions(k: Knowledge) -> dict[str, Condition]:
    return {c.type: c for c in build_status(k, (), NOW).conditions or ()}


def test_the_next_pod_reads_what_the_agent_left(tmp_path: Path) -> None:
    runtime = ResolvedRuntime.model_validate({"workers": 2, "mainCore": 1, "buffers": 4096})
    assert write_settings(tmp_path, "auto", runtime) and not write_settings(tmp_path, "auto", runtime)
    asked = read_request(tmp_path, "embedded", True, "", {"workers": 7})
    assert (asked.engine, asked.runtime) == ("auto", runtime)
    assert write_settings(tmp_path, "vpp", runtime), "another engine is another request"
    assert read_request(tmp_path, "embedded", True, "", {}).engine == "vpp"


def test_what_vpp_was_started_with_is_known_from_its_pod() -> None:
    runtime = ResolvedRuntime.model_validate({"workers": 8, "capacity": {"sessions": 1024}})
    choice = EngineChoice("vpp", "auto", started=started_with(runtime))
    assert pending_restart(runtime, VPP_INFO, "auto", choice) == (), "more workers than CPUs wait for nothing"
    other = runtime.model_copy(update={"buffers": 32768, "main_core": 1, "workers": 2})
    waiting = ("runtime.buffers", "runtime.mainCore", "runtime.workers")
    assert pending_restart(other, VPP_INFO, "auto", choice) == waiting
    assert pending_restart(runtime, VPP_INFO, "embedded", choice) == ("engine",)
    refused = EngineChoice("embedded", "vpp", "no VPP")
    one = runtime.model_copy(update={"workers": INFO.workers})
    assert pending_restart(one, INFO, "vpp", refused) == (), "asked for again, it would be refused again"


def test_why_vpp_was_not_taken() -> None:
    refused = EngineChoice("embedded", "auto", "the CPU lacks sse4_2")
    ready = conditions(knowing(choice=refused))["Ready"]
    assert ready.status == ConditionStatus.TRUE and "VPP was not taken: the CPU lacks sse4_2" in ready.message
    degraded = conditions(knowing(wanted_engine="vpp", choice=refused))["Degraded"]
    assert degraded.reason == Reason.ENGINE_FALLBACK and "the CPU lacks sse4_2" in degraded.message
    before = conditions(knowing(choice=EngineChoice("embedded", "embedded")))["Ready"].message
    assert "was not asked for when the engine's pod started" in before


def test_what_vpp_does_without_is_said_while_it_forwards() -> None:
    choice = EngineChoice("vpp", "auto", notes=("without huge pages (none are requested): slower",))
    ready = conditions(knowing(info=VPP_INFO, choice=choice))["Ready"]
    assert ready.status == ConditionStatus.TRUE
    assert ready.message.endswith("; without huge pages (none are requested): slower")
    assert "not taken" not in ready.message
    assert "huge pages" not in conditions(knowing(choice=choice))["Ready"].message, "another engine answers"
