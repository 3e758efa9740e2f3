"""What the agent reports: conditions with reason and remedy, rates, problems; when it writes and when not."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vpp_operator.agent.enginesettings import pending_restart, settings_text, write_settings
from vpp_operator.agent.refusals import Cause, refusal_problems
from vpp_operator.agent.reporter import Reporter
from vpp_operator.agent.status import Knowledge, build_status, changed, measure
from vpp_operator.api.conditions import Condition, ConditionStatus, Reason
from vpp_operator.api.dataplane import MAX_PROBLEMS, Dataplane, DataplaneStatus
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.api.tuning import ResolvedRuntime
from vpp_operator.dataplane.protocol import EngineInfo, EngineStats, PathStats
from vpp_operator.dataplane.records import Table
from vpp_operator.kube import ApiError
from vpp_operator.node.spec import Finding

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
INFO = EngineInfo("embedded", "1.0", "c", "b", "l", True, 0, 2, {"sessions": 1024}, ("vpp1",))


def stats(seconds: float, packets: int = 0, drops: dict[str, int] | None = None) -> EngineStats:
    path = PathStats(packets, packets // 2, packets * 100, packets * 50, packets * 60, packets)
    return EngineStats(int(seconds * 1e9), {}, drops or {}, {"service": path}, {}, 7)


def knowing(**more: Any) -> Knowledge:
    base: dict[str, Any] = {
        "node_name": "n1",
        "generation": 3,
        "programming": False,
        "info": INFO,
        "stats": stats(1),
        "services_total": 5,
        "versions": {"Service": "10"},
    }
    return Knowledge(**(base | more))


def conditions(k: Knowledge) -> dict[str, Condition]:
    return {c.type: c for c in build_status(k, (), NOW).conditions or ()}


def test_all_is_well() -> None:
    found = conditions(knowing())
    assert {(c.type, c.status.value) for c in found.values()} == {
        ("Ready", "True"),
        ("Programmed", "True"),
        ("Degraded", "False"),
    }
    assert all(c.observed_generation == 3 and c.message for c in found.values())
    assert "VPP was not taken" in found["Ready"].message
    status = build_status(knowing(), (), NOW)
    assert status.services is not None and status.services.summary == "5/5"
    assert (status.engine, status.engine_version, status.workers, status.sessions) == (
        "embedded",
        "1.0",
        2,
        7,
    )


def test_version_of_vpp_and_of_its_plugins() -> None:
    k = knowing()
    assert k.info is not None
    info = replace(k.info, engine="vpp", version="0.1.0", vpp_version="26.06-release")
    status = build_status(knowing(info=info), (), NOW)
    assert (status.engine, status.engine_version) == ("vpp", "VPP 26.06 (plugins 0.1.0)")
    assert conditions(knowing(info=info))["Ready"].message.startswith("VPP 26.06 (plugins 0.1.0) forwards")
    # an own build names itself at length
    info = replace(info, vpp_version="26.06-rc0~123-g0123456789abcdef0123456789abcdef-dirty")
    assert len(build_status(knowing(info=info), (), NOW).engine_version or "") == 64


@pytest.mark.parametrize(
    ("more", "ready", "reason"),
    [
        ({"selected": False}, "False", Reason.SWITCHED_OFF),
        ({"info": None, "engine_error": "no engine answers at X"}, "False", Reason.ENGINE_UNREACHABLE),
        (
            {"info": None, "engine_error": "khost: other release", "engine_incompatible": True},
            "False",
            Reason.ENGINE_INCOMPATIBLE,
        ),
        ({"waiting_for": "Services"}, "False", Reason.SYNCING),
        ({"programming": True, "pending": 4}, "False", Reason.PROGRAMMING),
        ({"steering_error": "no nft"}, "False", Reason.NODE_NETWORK_FAILED),
        ({"paused": True, "programming": True}, "False", Reason.PAUSED),
        ({"paused": True}, "True", Reason.AS_EXPECTED),
    ],
)
def test_why_not_ready(more: dict[str, Any], ready: str, reason: str) -> None:
    condition = conditions(knowing(**more))["Ready"]
    assert (condition.status.value, condition.reason) == (ready, reason)


def test_a_paused_dataplane_with_changes_waiting_is_not_programmed() -> None:
    condition = conditions(knowing(paused=True, pending=12))["Programmed"]
    assert condition.reason == Reason.PAUSED and "12 changes wait" in condition.message


def test_an_unreachable_engine_leaves_programmed_unknown() -> None:
    assert conditions(knowing(info=None))["Programmed"].status == ConditionStatus.UNKNOWN


def test_a_full_table_is_named_with_the_remedy() -> None:
    owner = Owner("Service", "ns", "big")
    full, lost = Cause(Table.ENDPOINT, -errno.ENOSPC), Cause(Table.FRONTEND, -errno.ENOENT)
    refused = [(owner, full)] * 3 + [(owner, lost)]
    problems = refusal_problems([*refused, (None, Cause(Table.ENDPOINT, -errno.EINVAL))], {"endpoints": 128})
    assert [(p.name, p.reason) for p in problems] == [("big", Reason.CAPACITY_EXCEEDED)]
    assert "4 of its records" in problems[0].message
    assert "the table of endpoints is full (128); raise runtime.capacity.endpoints" in problems[0].message
    counts = {full: 3, lost: 1}
    k = knowing(problems=problems, refused=counts, services_impaired=1)
    found = conditions(k)
    assert found["CapacityExceeded"].status == ConditionStatus.TRUE
    assert found["Programmed"].reason == Reason.CAPACITY_EXCEEDED
    assert found["Degraded"].status == ConditionStatus.TRUE
    assert found["Ready"].status == ConditionStatus.TRUE
    status = build_status(k, (), NOW)
    assert status.services is not None and status.services.summary == "4/5"


def test_another_proxy_is_said_with_its_remedy() -> None:
    finding = Finding("OtherProxyPresent", "OtherProxyRules", "kube-proxy rules found", "kubeadm: remove it")
    found = conditions(knowing(findings=[finding]))
    assert found["OtherProxyPresent"].status == ConditionStatus.TRUE
    assert "kubeadm: remove it" in found["OtherProxyPresent"].message
    assert found["Ready"].reason == Reason.OTHER_PROXY_RULES
    assert "see OtherProxyPresent" in found["Degraded"].message


def test_a_good_condition_that_fails_is_false() -> None:
    finding = Finding("HostSettingsOK", "HostSettingDiffers", "ip_forward is 0", "set it to 1")
    found = conditions(knowing(findings=[finding]))
    assert found["HostSettingsOK"].status == ConditionStatus.FALSE
    assert found["Degraded"].status == ConditionStatus.TRUE
    assert found["Ready"].status == ConditionStatus.TRUE


def test_an_engine_other_than_asked_for() -> None:
    assert conditions(knowing(wanted_engine="vpp"))["Degraded"].reason == Reason.ENGINE_FALLBACK
    assert conditions(knowing(wanted_engine="embedded"))["Degraded"].status == ConditionStatus.FALSE


def test_transition_times_are_kept_while_the_status_stays() -> None:
    before = build_status(knowing(), (), NOW).conditions or ()
    later = build_status(knowing(paused=True, pending=1), before, NOW + timedelta(hours=1)).conditions or ()
    times = {c.type: c.last_transition_time for c in later}
    assert times["Ready"] == "2026-03-01T12:00:00Z" and times["Programmed"] == "2026-03-01T13:00:00Z"


def test_problems_are_bounded_and_counted() -> None:
    problems = [Problem("Service", "ns", f"s{i:03}", Reason.CONFLICT, "m" * 2000, 1) for i in range(100)]
    status = build_status(knowing(problems=problems, services_total=150, services_impaired=100), (), NOW)
    assert status.problem_count == 100 and len(status.problems or ()) == MAX_PROBLEMS
    assert status.services is not None and status.services.summary == "50/150"
    DataplaneStatus.model_validate(status.to_json())


def test_rates_are_means_over_the_interval() -> None:
    measured = measure(stats(100, 1000), stats(110, 21000), NOW)
    assert measured.throughput is not None and measured.clocks is not None
    total = measured.throughput.total
    assert (total.rx_pps, total.tx_pps, total.rx_bps, total.tx_bps) == (2000, 1000, 1_600_000, 800_000)
    assert measured.throughput.service == total and measured.clocks.service == 60
    assert measured.throughput.interval_start == "2026-03-01T11:59:50Z"
    assert measured.throughput.interval_end == "2026-03-01T12:00:00Z"


def test_the_total_is_what_crosses_the_links() -> None:
    """A packet of a user to a Service is decapsulated and translated: two paths, one packet."""

    def reading(second: int, packets: int) -> EngineStats:
        links = {
            "linkRxPackets": packets,
            "linkTxPackets": packets,
            "linkRxBytes": 114 * packets,
            "linkTxBytes": 78 * packets,
        }
        path = PathStats(packets, packets, 100 * packets, 64 * packets, 50 * packets, packets)
        paths = {"service": path, "gtpuDecap": path}
        return EngineStats(second * 10**9, links, {}, paths, {}, 0)

    measured = measure(reading(1, 0), reading(11, 1000), NOW)
    assert measured.throughput is not None
    total, decap = measured.throughput.total, measured.throughput.gtpu_decap
    assert (total.rx_pps, total.rx_bps, total.tx_bps) == (100, 80_000, 51_200)
    assert decap is not None and decap.rx_pps == 100


def test_no_rates_without_two_readings_of_one_engine() -> None:
    assert measure(None, stats(1, 5), NOW).throughput is None
    assert measure(stats(1, 50), stats(2, 5), NOW).throughput is None, "the engine began anew"
    assert measure(stats(2, 5), stats(2, 5), NOW).throughput is None
    idle = measure(stats(1, 5), stats(2, 5), NOW)
    assert idle.throughput is not None and idle.throughput.total.rx_pps == 0 and idle.clocks is None


def test_the_most_frequent_drops_first() -> None:
    drops = {f"r{i:02}": i for i in range(20)}
    status = build_status(knowing(stats=stats(1, drops=drops)), (), NOW)
    assert [d.packets for d in status.drops or ()] == list(range(19, 3, -1))


def test_time_and_versions_alone_are_no_change() -> None:
    one = build_status(knowing(measured=measure(stats(1), stats(2), NOW)), (), NOW)
    later = NOW + timedelta(seconds=10)
    k = knowing(measured=measure(stats(2), stats(3), later), versions={"Service": "11"})
    assert not changed(one, build_status(k, one.conditions or (), later))
    assert changed(one, build_status(knowing(services_total=6), one.conditions or (), later))
    assert changed(None, one)


def test_engine_settings_and_what_waits_for_a_restart(tmp_path: Any) -> None:
    runtime = ResolvedRuntime.model_validate({"workers": 2, "capacity": {"sessions": 4096}})
    file = tmp_path / "engine.conf"
    assert write_settings(tmp_path, "auto", runtime) and not write_settings(tmp_path, "auto", runtime)
    assert "workers=2\n" in settings_text(runtime) and "sessions=4096\n" in file.read_text()
    assert pending_restart(runtime, INFO) == ("runtime.capacity.sessions",)
    assert pending_restart(ResolvedRuntime.model_validate({"capacity": {"sessions": 1024}}), INFO) == (
        "runtime.workers",
    )


# ------------------------------------------------------------------------------------------------- reporter


class Api:
    """Takes what is applied, and can refuse."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.refuse: Exception | None = None

    async def apply(self, path: str, body: Any, *, field_manager: str, force: bool = True) -> Any:
        assert path == "/apis/vpp-operator.dev/v1alpha1/dataplanes/n1/status"
        assert field_manager == "agent" and force
        if self.refuse is not None:
            raise self.refuse
        self.written.append(body["status"])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def dataplane(generation: int = 1, **status: Any) -> Dataplane:
    return Dataplane.model_validate(
        {
            "kind": "Dataplane",
            "metadata": {"name": "n1", "uid": "u", "generation": generation},
            "spec": {},
            "status": status,
        }
    )


def reporter(knowledge: list[Knowledge], **more: Any) -> tuple[Reporter, Api, Clock]:
    api, clock = Api(), Clock()
    made = Reporter(
        api,
        "n1",
        lambda: knowledge[-1],
        clock=clock,
        now=lambda: NOW + timedelta(seconds=clock.now),
        jitter=lambda low, high: (low + high) / 2,
        **more,
    )
    return made, api, clock


async def test_figures_are_written_when_they_changed_and_only_then() -> None:
    knowledge = [knowing()]
    made, api, clock = reporter(knowledge)
    made.set_object(dataplane())
    assert await made.report(figures=True)
    clock.now = 10
    knowledge.append(knowing(stats=stats(11)))
    assert await made.report(figures=True)
    assert len(api.written) == 2, "the first rates"
    clock.now = 20
    knowledge.append(knowing(stats=stats(21), versions={"Service": "99"}))
    assert await made.report(figures=True)
    assert len(api.written) == 2, "still nothing flows"
    clock.now = 30
    knowledge.append(knowing(stats=stats(31, 1000)))
    assert await made.report(figures=True)
    assert api.written[-1]["throughput"]["total"]["rxPps"] == 100
    assert api.written[-1]["synced"] == [{"kind": "Service", "resourceVersion": "10"}]


async def test_what_was_seen_is_written_with_the_figures_but_not_for_bookmarks_alone() -> None:
    knowledge = [knowing(changes=1)]
    made, api, clock = reporter(knowledge)
    made.set_object(dataplane())
    assert await made.report(figures=True)
    clock.now = 10
    assert await made.report(figures=True)
    written = len(api.written)
    knowledge.append(knowing(changes=1, versions={"Service": "98"}))
    clock.now = 20
    assert await made.report(figures=True)
    assert len(api.written) == written, "a bookmark"
    knowledge.append(knowing(changes=2, versions={"Service": "99"}))
    assert await made.report(figures=False)
    assert len(api.written) == written, "not before the reporting step"
    clock.now = 30
    assert await made.report(figures=True)
    assert api.written[-1]["synced"] == [{"kind": "Service", "resourceVersion": "99"}]
    assert len(api.written) == written + 1


async def test_a_condition_is_written_at_once_with_the_last_figures() -> None:
    knowledge = [knowing()]
    made, api, _ = reporter(knowledge)
    made.set_object(dataplane())
    await made.report(figures=True)
    knowledge.append(knowing(info=None, engine_error="gone", stats=stats(5, 500)))
    await made.report(figures=False)
    assert [c["status"] for c in api.written[-1]["conditions"] if c["type"] == "Ready"] == ["False"]
    assert api.written[-1]["sessions"] == 7
    await made.report(figures=False)
    assert len(api.written) == 2


async def test_a_failed_write_is_tried_again() -> None:
    made, api, _ = reporter([knowing()])
    made.set_object(dataplane())
    api.refuse = ApiError(503, "ServiceUnavailable", "etcd")
    assert not await made.report(figures=False)
    api.refuse = None
    assert await made.report(figures=False)
    assert len(api.written) == 1 and made.failures == 1 and made.last_error == ""


async def test_a_condition_taken_over_by_the_operator_is_taken_back() -> None:
    able = [True]
    made, api, _ = reporter([knowing()], may_take_back=lambda: able[0])
    made.set_object(dataplane())
    await made.report(figures=False)
    unreachable = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "AgentUnreachable",
        "message": "m",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    able[0] = False
    made.set_object(dataplane(conditions=[unreachable]))
    await made.report(figures=False)
    assert len(api.written) == 1
    able[0] = True
    made.set_object(dataplane(conditions=[unreachable]))
    await made.report(figures=False)
    assert len(api.written) == 2


async def test_exhausted_ports_are_a_condition_for_a_while() -> None:
    made, api, clock = reporter([knowing()])
    made.set_object(dataplane())
    made.observe(stats(1, drops={"portsExhausted": 5}))
    await made.report(figures=False)
    made.observe(stats(2, drops={"portsExhausted": 6}))
    await made.report(figures=False)
    clock.now = 301
    made.observe(stats(3, drops={"portsExhausted": 6}))
    await made.report(figures=False)
    seen = [any(c["type"] == "PortPoolExhausted" for c in w["conditions"]) for w in api.written]
    assert seen == [False, True, False]


async def test_run_writes_conditions_within_a_second_and_figures_by_their_step() -> None:
    knowledge = [knowing()]
    api = Api()
    made = Reporter(api, "n1", lambda: knowledge[-1], jitter=lambda low, high: high)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0.1)
    assert not api.written, "no object, no report"
    made.set_object(dataplane())
    await asyncio.sleep(0.2)
    assert len(api.written) == 1
    knowledge.append(knowing(services_total=9))
    made.condition_changed()
    made.condition_changed()
    await asyncio.sleep(1.3)
    assert len(api.written) == 2
    task.cancel()
