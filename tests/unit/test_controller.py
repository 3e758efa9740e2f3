"""What the operator decides, without an API server: plans, profiles, rollouts, statuses, conditions."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from vpp_operator.api.dataplane import DataplaneProblem, ReportStep
from vpp_operator.api.tuning import DataplaneTuning, Engine
from vpp_operator.controller.desired import (
    NodePlan,
    dataplane_object,
    node_plan,
    quantity_bytes,
    report_step,
    selected,
)
from vpp_operator.controller.facts import (
    DaemonSetFacts,
    DataplaneFacts,
    NodeFacts,
    PodFacts,
    decode_daemonset,
    decode_dataplane,
    decode_node,
    decode_pod,
)
from vpp_operator.controller.problems import (
    PROGRAMMED,
    ServiceProblems,
    service_condition,
    service_event,
)
from vpp_operator.controller.queue import WorkQueue
from vpp_operator.controller.rollout import outdated, plan_rollout
from vpp_operator.controller.settings import Settings, SettingsError
from vpp_operator.controller.tunings import tuning_status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def node(name: str, *, ready: bool = True, labels: dict[str, str] | None = None, **more: Any) -> NodeFacts:
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    meta = {"name": name, "uid": f"uid-{name}", "labels": labels or {}, **more}
    return decode_node({"metadata": meta, "spec": {"podCIDRs": ["10.1.0.0/24"]}, "status": status})


def daemonset(
    component: str, image: str = "new", *, profile: str = "default", hugepages: str = ""
) -> DaemonSetFacts:
    container: dict[str, Any] = {"name": component, "image": image, "readinessProbe": {"periodSeconds": 1}}
    if hugepages:
        container["resources"] = {"limits": {"hugepages-2Mi": hugepages}}
    spec = {"containers": [container], "initContainers": [{"name": "init", "image": f"{image}-init"}]}
    labels = {"app.kubernetes.io/component": component, "vpp-operator.dev/profile": profile}
    name = component if profile == "default" else f"{component}-{profile}"
    return decode_daemonset(
        {"metadata": {"name": name, "labels": labels}, "spec": {"template": {"spec": spec}}}
    )


def pod(
    on: str,
    component: str,
    image: str = "new",
    *,
    ready: bool = True,
    deleting: bool = False,
    init: str = "",
) -> PodFacts:
    meta: dict[str, Any] = {
        "name": f"{component}-{on}",
        "uid": f"{component}-{on}-{image}",
        "labels": {"app.kubernetes.io/component": component},
        "ownerReferences": [{"kind": "DaemonSet", "name": component, "controller": True}],
    }
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {
        "nodeName": on,
        "containers": [{"name": component, "image": image}],
        "initContainers": [{"name": "init", "image": init or f"{image}-init"}],
    }
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return decode_pod({"metadata": meta, "spec": spec, "status": status})


def tuning(name: str, spec: dict[str, Any] | None = None, **meta: Any) -> DataplaneTuning:
    body = {
        "metadata": {"name": name, "generation": 3, **meta},
        "kind": "DataplaneTuning",
        "spec": spec or {},
    }
    return DataplaneTuning.model_validate(body)


def plan(facts: NodeFacts, *tunings: DataplaneTuning, daemonsets: Any = ()) -> NodePlan:
    return node_plan(facts, tunings, engine=Engine.AUTO, step=ReportStep.SMALL, daemonsets=daemonsets)


def dataplane(of: NodePlan, status: dict[str, Any] | None = None, generation: int = 2) -> DataplaneFacts:
    obj = dataplane_object(of)
    obj["metadata"] |= {"uid": "u", "generation": generation}
    ready = [{"type": "Ready", "status": "True", "reason": "AsExpected", "message": ""}]
    conditions = [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z"} for c in ready]
    obj["status"] = {"observedGeneration": generation, "conditions": conditions, **(status or {})}
    return decode_dataplane(obj)


# ------------------------------------------------------------------------------------------------- nodes


def test_nodes_are_selected_by_their_labels() -> None:
    assert selected(node("a"), {}) and selected(node("a"), None)
    assert selected(node("a", labels={"x": "1", "y": "2"}), {"x": "1"})
    assert not selected(node("a", labels={"x": "2"}), {"x": "1"})
    assert not selected(node("a", labels={"kubernetes.io/os": "windows"}), {})
    assert not selected(node("a", deletionTimestamp="2026-01-01T00:00:00Z"), {})


def test_report_step_follows_the_number_of_nodes_and_does_not_flap() -> None:
    assert [report_step(n, None) for n in (1, 499, 500, 1499, 1500)] == [10, 10, 30, 30, 100]
    assert report_step(480, ReportStep.MEDIUM) == 30 and report_step(449, ReportStep.MEDIUM) == 10
    assert report_step(1400, ReportStep.LARGE) == 100 and report_step(1300, ReportStep.LARGE) == 30


def test_dataplane_is_owned_by_its_node_and_survives_the_way_through_the_api_server() -> None:
    made = plan(node("a"), tuning("t", {"runtime": {"workers": 3}}))
    obj = dataplane_object(made)
    assert obj["metadata"]["ownerReferences"][0]["uid"] == "uid-a"
    assert obj["spec"]["podCIDRs"] == ["10.1.0.0/24"] and obj["spec"]["tuning"]["runtime"]["workers"] == 3
    assert dataplane(made).spec == made.spec


def test_pod_prefixes_are_written_in_canonical_form_and_rubbish_is_left_out() -> None:
    facts = decode_node(
        {"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.1.0.7/24", "x", "FD00:0::/64"]}}
    )
    assert plan(facts).spec.pod_cidrs == ("10.1.0.0/24", "fd00::/64")


def test_profile_is_the_smallest_that_offers_the_huge_pages() -> None:
    asked = tuning("t", {"runtime": {"hugepages": {"pageSize": "2Mi", "count": 256}}})
    sets = [
        daemonset("engine"),
        daemonset("engine", profile="big", hugepages="4Gi"),
        daemonset("engine", profile="fitting", hugepages="512Mi"),
    ]
    assert plan(node("a"), asked, daemonsets=sets).profile == "fitting"
    without = plan(node("a"), asked, daemonsets=sets[:1])
    assert without.profile == "default" and "256 huge pages of 2Mi" in without.missing_profile
    assert plan(node("a"), daemonsets=sets).profile == "default"


@pytest.mark.parametrize(("text", "size"), [("512Mi", 2**29), ("1Gi", 2**30), ("1.5Gi", 3 * 2**29), ("7", 7)])
def test_quantities(text: str, size: int) -> None:
    assert quantity_bytes(text) == size


def test_quantity_that_is_none() -> None:
    with pytest.raises(ValueError, match="as in 512Mi"):
        quantity_bytes("lots")


# ----------------------------------------------------------------------------------------------- rollout

SETS = (daemonset("agent"), daemonset("engine"))


def decide(
    nodes: list[NodeFacts], pods: list[PodFacts], dataplanes: Any = None, restarted: Any = None
) -> Any:
    return plan_rollout({n.name: n for n in nodes}, SETS, pods, dataplanes or {}, restarted or {})


def test_rollout_of_three_nodes_replaces_one_pod_at_a_time() -> None:
    nodes = [node(name) for name in "abc"]
    pods = {(n, c): pod(n, c, "old") for n in "abc" for c in ("agent", "engine")}
    order = []
    for _ in range(20):
        decision = decide(nodes, list(pods.values()))
        if decision.delete is None:
            break
        key = (decision.delete.node, decision.delete.component)
        order.append(key)
        pods[key] = pod(*key, "old", deleting=True)
        assert decide(nodes, list(pods.values())).delete is None, "nothing goes while a pod is ending"
        del pods[key]
        assert decide(nodes, list(pods.values())).delete is None, "nothing goes while a pod is missing"
        pods[key] = pod(*key, ready=False)
        waiting = decide(nodes, list(pods.values()))
        assert waiting.delete is None and (waiting.waiting_for == (key[0],) or not waiting.outdated)
        pods[key] = pod(*key)
    assert order == [(n, c) for n in "abc" for c in ("agent", "engine")]


def test_rollout_stops_at_the_node_that_does_not_come_back() -> None:
    pods = [pod("a", "agent", ready=False), pod("a", "engine"), pod("b", "agent", "old"), pod("b", "engine")]
    decision = decide([node("a"), node("b")], pods)
    assert decision.delete is None and decision.waiting_for == ("a",) and decision.outdated == 1


def test_rollout_mends_a_broken_old_pod_first() -> None:
    pods = [
        pod("a", "agent", "old"),
        pod("a", "engine"),
        pod("b", "agent", "old", ready=False),
        pod("b", "engine"),
    ]
    decision = decide([node("a"), node("b")], pods)
    assert decision.delete is not None and decision.delete.name == "agent-b"


def test_rollout_leaves_dead_nodes_alone() -> None:
    pods = [pod("a", "agent", "old"), pod("a", "engine", "old"), pod("b", "agent", "old"), pod("b", "engine")]
    decision = decide([node("a", ready=False), node("b")], pods)
    assert decision.delete is not None and decision.delete.name == "agent-b" and decision.outdated == 1


def test_new_agent_image_leaves_the_engine_alone() -> None:
    assert not outdated(pod("a", "engine", init="older"), daemonset("engine"))
    assert outdated(pod("a", "agent", init="older"), daemonset("agent"))


def test_engine_is_restarted_once_for_settings_that_wait() -> None:
    waits = {"tuning": {"pendingRestart": ["runtime.workers"]}}
    made = plan(node("a"))
    pods = [pod("a", "agent"), pod("a", "engine")]
    first = decide([node("a")], pods, {"a": dataplane(made, waits)})
    assert (
        first.delete is not None and first.delete.component == "engine" and "runtime.workers" in first.reason
    )
    assert decide([node("a")], pods, {"a": dataplane(made, waits)}, {"a": 2}).delete is None
    assert decide([node("a")], pods, {"a": dataplane(made, waits, 3)}, {"a": 2}).delete is not None
    late = dataplane(made, {**waits, "observedGeneration": 1})
    assert decide([node("a")], pods, {"a": late}).delete is None, "the agent has not seen the settings yet"
    paused = dataplane(plan(node("a"), tuning("t", {"paused": True})), waits)
    assert decide([node("a")], pods, {"a": paused}).delete is None


# ----------------------------------------------------------------------------------------------- tunings


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {c.type: (str(c.status), c.reason) for c in status.conditions}


def test_tuning_is_applied_when_every_matched_node_says_so() -> None:
    one = tuning(
        "one", {"engine": "embedded", "runtime": {"workers": 2}, "nodeSelector": {"matchLabels": {"x": "1"}}}
    )
    plans = [
        plan(node("a", labels={"x": "1"}), one),
        plan(node("b", labels={"x": "1"}), one),
        plan(node("c"), one),
    ]
    done = {"engine": "embedded", "workers": 2}
    both = {n: dataplane(p, done) for n, p in zip("ab", plans, strict=False)}
    status = tuning_status(one, plans, both, NOW)
    assert (status.nodes.matched, status.nodes.applied, status.nodes.pending_restart) == (2, 2, 0)
    assert conditions(status) == {"Accepted": ("True", "AsExpected"), "TuningApplied": ("True", "AsExpected")}
    assert {s.field: [(v.value, v.nodes) for v in s.values] for s in status.in_effect} == {
        "engine": [("embedded", 2)],
        "runtime.workers": [("2", 2)],
    }

    waits = {**done, "workers": 1, "tuning": {"pendingRestart": ["runtime.workers"]}}
    status = tuning_status(one, plans, {**both, "b": dataplane(plans[1], waits)}, NOW)
    assert (status.nodes.applied, status.nodes.pending_restart) == (1, 1)
    assert conditions(status)["TuningApplied"] == ("False", "RestartPending")

    stale = dataplane(plans[1], {**done, "observedGeneration": 1})
    assert tuning_status(one, plans, {**both, "b": stale}, NOW).nodes.applied == 1
    assert tuning_status(one, plans, {"a": both["a"]}, NOW).nodes.applied == 1


def test_switches_are_in_effect_as_the_engines_report_them() -> None:
    one = tuning("one", {"gtpu": {"lookupCache": False, "gtpuBypass": True, "loop": "dual"}})
    plans = [plan(node("a"), one), plan(node("b"), one)]
    reported = {"lookupCache": "off", "gtpuBypass": "notApplicable", "loop": "dual"}
    done = {"engine": "embedded", "tuning": {"gtpu": reported}}
    both = {n: dataplane(p, done) for n, p in zip("ab", plans, strict=True)}
    status = tuning_status(one, plans, both, NOW)
    # What an engine has no step for is not open, and never said to be on.
    assert status.nodes.applied == 2
    values = {s.field: [(v.value, v.nodes) for v in s.values] for s in status.in_effect or ()}
    assert values["gtpu.gtpuBypass"] == [("notApplicable", 2)]
    assert values["gtpu.lookupCache"] == [("off", 2)] and values["gtpu.loop"] == [("dual", 2)]

    late = {"engine": "embedded", "tuning": {"gtpu": {**reported, "lookupCache": "on"}}}
    status = tuning_status(one, plans, {**both, "b": dataplane(plans[1], late)}, NOW)
    assert status.nodes.applied == 1
    assert "gtpu.lookupCache (1)" in next(c.message for c in status.conditions if c.type == "TuningApplied")


def test_tuning_that_matches_nothing_or_conflicts_says_so() -> None:
    old = tuning("old", {"runtime": {"workers": 2}}, creationTimestamp="2026-01-01T00:00:00Z")
    new = tuning("new", {"runtime": {"workers": 4}}, creationTimestamp="2026-01-02T00:00:00Z")
    plans = [plan(node("a"), old, new)]
    assert conditions(tuning_status(new, plans, {}, NOW))["Accepted"] == ("False", "Conflict")
    assert conditions(tuning_status(old, plans, {}, NOW))["Accepted"] == ("True", "AsExpected")
    assert conditions(tuning_status(old, [], {}, NOW))["TuningApplied"] == ("False", "NoNodesMatch")


def test_unchanged_tuning_status_keeps_its_times() -> None:
    one = tuning("one")
    first = tuning_status(one, [], {}, NOW)
    again = one.model_copy(update={"status": first})
    assert tuning_status(again, [], {}, datetime(2030, 1, 1, tzinfo=UTC)) == first


# ---------------------------------------------------------------------------------------------- problems


def problem(
    name: str, reason: str = "Conflict", message: str = "m", kind: str = "Service"
) -> DataplaneProblem:
    return DataplaneProblem(
        kind=kind, namespace="ns", name=name, reason=reason, message=message, generation=4
    )


SERVICE: dict[str, Any] = {"metadata": {"name": "s", "namespace": "ns", "uid": "u", "generation": 4}}


def test_problems_tell_only_changed_services() -> None:
    problems = ServiceProblems()
    assert problems.report("a", [problem("s"), problem("t"), problem("x", kind="Node")]) == {
        ("ns", "s"),
        ("ns", "t"),
    }
    assert problems.report("a", [problem("t"), problem("s")]) == set()
    assert problems.report("b", [problem("s")]) == {("ns", "s")}
    assert problems.report("a", [problem("s", "Unsupported")]) == {("ns", "s"), ("ns", "t")}
    assert set(problems.of(("ns", "s"))) == {"a", "b"} and not problems.of(("ns", "t"))
    assert problems.report("a", []) == {("ns", "s")} and problems.report("b", ()) == {("ns", "s")}
    assert not problems.services()


def test_condition_names_cause_nodes_and_generation() -> None:
    listed = {f"n{i}": [problem("s", message="port taken")] for i in range(7)}
    condition = service_condition(SERVICE, listed, 9, NOW)
    assert (
        condition["type"] == PROGRAMMED
        and condition["status"] == "False"
        and condition["reason"] == "Conflict"
    )
    assert condition["message"].startswith("on 7 of 9 nodes (n0, n1, n2, n3, n4, ...): port taken")
    assert condition["observedGeneration"] == 4 and condition["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    had = {**SERVICE, "status": {"conditions": [condition]}}
    later = service_condition(had, {"n0": [problem("s")]}, 9, datetime(2027, 1, 1, tzinfo=UTC))
    assert later["lastTransitionTime"] == condition["lastTransitionTime"]


def test_event_has_one_name_for_one_generation() -> None:
    condition = service_condition(SERVICE, {"a": [problem("s")]}, 1, NOW)
    names = [
        service_event({"metadata": {**SERVICE["metadata"], "generation": g}}, condition, "me", NOW)[
            "metadata"
        ]["name"]
        for g in (4, 4, 5)
    ]
    assert names[0] == names[1] != names[2]


# ------------------------------------------------------------------------------------------------- queue


async def test_queue_runs_a_key_once_at_a_time_and_again_when_it_changed_meanwhile() -> None:
    running, runs = set[str](), list[str]()

    async def work(key: str) -> None:
        assert key not in running
        running.add(key)
        runs.append(key)
        if len(runs) == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.01)
        running.discard(key)

    queue: WorkQueue[str] = WorkQueue(work)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("a")
    await asyncio.sleep(0.1)
    assert runs == ["a", "a"] and len(queue) == 0
    assert await queue.drain(1)
    queue.add("b")
    await asyncio.sleep(0.05)
    assert runs == ["a", "a"], "a drained queue takes nothing"
    task.cancel()


async def test_queue_tries_again_with_growing_pauses() -> None:
    times: list[float] = []

    async def work(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 4:
            raise RuntimeError("not yet")

    queue: WorkQueue[str] = WorkQueue(work, first=0.04)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await asyncio.sleep(0.6)
    task.cancel()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 4 and queue.errors == 3 and queue.done == 1
    assert gaps[0] >= 0.019 and gaps[2] >= 0.079


async def test_fatal_error_ends_the_queue() -> None:
    async def work(key: str) -> None:
        raise KeyError(key)

    queue: WorkQueue[str] = WorkQueue(work, fatal=(KeyError,))
    queue.add("a")
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(queue.run(), 2)


async def test_drain_tells_whether_work_came_to_its_end() -> None:
    async def work(key: str) -> None:
        await asyncio.sleep(0.3)

    queue: WorkQueue[str] = WorkQueue(work)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    await asyncio.sleep(0.02)
    assert not await queue.drain(0.02)
    assert await queue.drain(1)
    task.cancel()


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", "9"),
        ("LEASE_RENEW_SECONDS", "2"),
        ("ENGINE", "steam"),
        ("NODE_SELECTOR", "[1]"),
        ("NODE_SELECTOR", "{"),
        ("ROLLOUT_ENABLED", "maybe"),
        ("HTTP_PORT", "99999"),
    ],
)
def test_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


def test_identity_is_another_in_every_process() -> None:
    names = {Settings.from_environment({"POD_NAME": "p"}).identity for _ in range(3)}
    assert len(names) == 3 and all(name.startswith("p_") for name in names)
