"""The operator process with the chart's own rights: Dataplanes, tunings, conditions, rollouts, removal.

There is no kubelet: the tests say what kubelets and agents would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError
from tests.control.operator_lab import (
    CHART,
    NAMESPACE,
    RELEASE,
    Operator,
    get,
    helm,
    installed,
    make_node,
    set_node_ready,
    set_pod_ready,
    set_status,
    wait_for,
)

NODES = ("one", "two")
OURS = "vpp-operator.dev/Programmed"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator")


@pytest.fixture(scope="module")
def plane(directory: Path) -> Iterator[ControlPlane]:
    with installed(directory, "nodeSelector.pool=edge") as running:
        for number, name in enumerate(NODES, 1):
            make_node(running, name, number=number, labels={"pool": "edge"})
        operator = Operator(
            running, directory, "op", NODE_SELECTOR='{"pool": "edge"}', UNREACHABLE_SECONDS="4"
        )
        heart = Heartbeat(running)
        heart.start()
        try:
            operator.wait_leading()
            wait_for("pods of both DaemonSets on both nodes", lambda: len(pods(running)) == 4)
            for pod in pods(running):
                bind(running, pod)
                set_pod_ready(running, pod["metadata"]["name"], True)
            wait_for("Dataplanes", lambda: dataplanes(running) == set(NODES))
            yield running
            assert operator.process.poll() is None, operator.log.read_text()[-3000:]
        finally:
            heart.ended.set()
            heart.join()
            operator.end()


class Heartbeat(threading.Thread):
    """The kubelets' reports, without which nodes count as not Ready after a while."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(daemon=True)
        self.plane = plane
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(10):
            for name in NODES:
                set_node_ready(self.plane, name)


def dataplanes(plane: ControlPlane) -> set[str]:
    return {item["metadata"]["name"] for item in get(plane, "dataplanes")["items"]}


def pods(plane: ControlPlane, component: str = "agent,engine") -> list[dict[str, Any]]:
    selector = f"app.kubernetes.io/component in ({component})"
    items: list[dict[str, Any]] = get(plane, "pods", "-n", NAMESPACE, "-l", selector)["items"]
    return items


def wanted_node(pod: dict[str, Any]) -> str:
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return str(affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])


def bind(plane: ControlPlane, pod: dict[str, Any]) -> None:
    """Be the scheduler."""
    name = pod["metadata"]["name"]
    if pod["spec"].get("nodeName"):
        return
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "target": {"apiVersion": "v1", "kind": "Node", "name": wanted_node(pod)},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"
    plane.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))


def pod_of(plane: ControlPlane, component: str, node: str) -> str | None:
    """Name of the pod there that is not ending."""
    for pod in pods(plane, component):
        if wanted_node(pod) == node and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"])
    return None


def report(plane: ControlPlane, node: str, **status: Any) -> None:
    """Be the node's agent."""
    generation = get(plane, "dataplane", node)["metadata"]["generation"]
    ready = {"type": "Ready", "status": "True", "reason": "AsExpected", "message": ""}
    ready |= {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    whole = {
        "observedGeneration": generation,
        "engine": "embedded",
        "workers": 1,
        "conditions": [ready],
        **status,
    }
    set_status(plane, "dataplane", node, whole)


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any] | None:
    found = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), None)


def tune(plane: ControlPlane, name: str, **spec: Any) -> None:
    body = {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "DataplaneTuning",
        "metadata": {"name": name},
        "spec": spec,
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def tuning_nodes(plane: ControlPlane, name: str) -> dict[str, int]:
    status: dict[str, Any] = get(plane, "dataplanetuning", name).get("status") or {}
    return dict(status.get("nodes") or {})


def test_dataplane_belongs_to_its_node_and_nothing_is_left_on_foreign_objects(plane: ControlPlane) -> None:
    for number, name in enumerate(NODES, 1):
        dataplane, node = get(plane, "dataplane", name), get(plane, "node", name)
        assert dataplane["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        assert dataplane["spec"]["podCIDRs"] == [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]
        assert "finalizers" not in dataplane["metadata"] and "annotations" not in dataplane["metadata"]
        kept = {"kubectl.kubernetes.io/last-applied-configuration", "node.alpha.kubernetes.io/ttl"}
        assert set(node["metadata"].get("annotations", {})) <= kept
        assert "finalizers" not in node["metadata"]


def test_changed_dataplane_is_put_right(plane: ControlPlane) -> None:
    before = get(plane, "dataplane", "one")["spec"]
    plane.kubectl(
        "patch", "dataplane", "one", "--type=merge", "-p", '{"spec":{"paused":true,"reportStepSeconds":100}}'
    )
    wait_for("the spec is as before", lambda: get(plane, "dataplane", "one")["spec"] == before)
    plane.kubectl("delete", "dataplane", "one")
    wait_for("it is back", lambda: "one" in dataplanes(plane))


def test_deselected_and_deleted_nodes_lose_their_dataplane(plane: ControlPlane) -> None:
    make_node(plane, "brief", number=9, labels={"pool": "edge"})
    wait_for("a Dataplane", lambda: "brief" in dataplanes(plane))
    plane.kubectl("label", "node", "brief", "pool=core", "--overwrite")
    wait_for("it goes with the label", lambda: "brief" not in dataplanes(plane))
    plane.kubectl("label", "node", "brief", "pool=edge", "--overwrite")
    wait_for("it comes with the label", lambda: "brief" in dataplanes(plane))
    plane.kubectl("delete", "node", "brief")
    wait_for("it goes with the node", lambda: "brief" not in dataplanes(plane))


def test_tuning_reaches_the_dataplanes_and_its_status_says_how_far(plane: ControlPlane) -> None:
    tune(plane, "workers", runtime={"workers": 3}, priority=5)
    wait_for(
        "both Dataplanes have it",
        lambda: all(get(plane, "dataplane", n)["spec"]["tuning"]["runtime"]["workers"] == 3 for n in NODES),
    )
    report(plane, "one", workers=3)
    report(plane, "two", workers=3)
    wait_for("applied", lambda: tuning_nodes(plane, "workers").get("applied") == 2)
    tune(plane, "younger", runtime={"workers": 4}, priority=5)
    accepted = wait_for(
        "the conflict", lambda: condition(get(plane, "dataplanetuning", "younger"), "Accepted")
    )
    assert (accepted["status"], accepted["reason"]) == ("False", "Conflict") and "workers" in accepted[
        "message"
    ]
    plane.kubectl("delete", "dataplanetuning", "workers", "younger")
    wait_for(
        "the default again",
        lambda: all(get(plane, "dataplane", n)["spec"]["tuning"]["runtime"]["workers"] == 1 for n in NODES),
    )


def test_problem_shows_on_the_service_while_it_is_there(plane: ControlPlane) -> None:
    plane.kubectl("create", "service", "clusterip", "shop", "--tcp=80")
    problem = {
        "kind": "Service",
        "namespace": "default",
        "name": "shop",
        "reason": "Conflict",
        "message": "80 is taken",
    }
    report(plane, "one", problems=[problem], problemCount=1)
    found = wait_for("the condition", lambda: condition(get(plane, "service", "shop"), OURS))
    assert (found["status"], found["reason"]) == ("False", "Conflict")
    assert "on 1 of 2 nodes (one): 80 is taken" in found["message"]
    report(plane, "two", problems=[problem], problemCount=1)
    wait_for(
        "both nodes are named",
        lambda: (
            "on 2 of 2 nodes (one, two)" in (condition(get(plane, "service", "shop"), OURS) or {})["message"]
        ),
    )
    events = get(plane, "events", "--field-selector", "involvedObject.name=shop")["items"]
    assert [(e["type"], e["reason"]) for e in events] == [("Warning", "Conflict")], "one Event per generation"
    for node in NODES:
        report(plane, node, problems=[], problemCount=0)
    wait_for("the condition is gone", lambda: condition(get(plane, "service", "shop"), OURS) is None)
    meta = get(plane, "service", "shop")["metadata"]
    assert "finalizers" not in meta and not meta.get("annotations")


def test_unreachable_agent_is_told_once_and_taken_back_by_the_agent(plane: ControlPlane) -> None:
    report(plane, "two")
    agent = pod_of(plane, "agent", "two")
    assert agent is not None
    set_pod_ready(plane, agent, False)

    def ready() -> tuple[str, str]:
        found = condition(get(plane, "dataplane", "two"), "Ready") or {}
        return found.get("status", ""), found.get("reason", "")

    wait_for("Ready=Unknown", lambda: ready() == ("Unknown", "AgentUnreachable"))
    assert get(plane, "dataplane", "two")["status"]["engine"] == "embedded", "the rest of the report stays"
    set_pod_ready(plane, agent, True)
    report(plane, "two")
    assert ready() == ("True", "AsExpected")


def finish_restart(plane: ControlPlane, component: str, node: str, old: str) -> None:
    """Be the kubelet that ends the old pod and starts the new one."""

    def successor() -> str | None:
        end_deleted(plane)
        name = pod_of(plane, component, node)
        return None if name == old else name

    name = wait_for(f"a new {component} on {node}", successor)
    pod = get(plane, "pod", name, "-n", NAMESPACE)
    bind(plane, pod)
    set_pod_ready(plane, name, True)


def end_deleted(plane: ControlPlane) -> str | None:
    """Let the pods go that are being deleted; the name of one."""
    ending = [p["metadata"]["name"] for p in pods(plane) if "deletionTimestamp" in p["metadata"]]
    for name in ending:
        plane.kubectl("delete", "pod", name, "-n", NAMESPACE, "--force", "--grace-period=0")
    return ending[0] if ending else None


def test_rollout_goes_pod_by_pod_and_stops_where_one_does_not_come_back(plane: ControlPlane) -> None:
    for node in NODES:
        report(plane, node)
    before = {(c, n): pod_of(plane, c, n) for c in ("agent", "engine") for n in NODES}
    assert all(before.values())
    server = plane.server.removeprefix("https://")
    values = [f"apiServer.endpoints={{{server}}}", "nodeSelector.pool=edge", "images.operator.tag=next"]
    flags = [word for value in values for word in ("--set", value)]
    # The operator's own Deployment has no pods here; the process of this test goes on.
    helm(plane, "upgrade", RELEASE, str(CHART), "-n", NAMESPACE, *flags)

    def replaced() -> set[tuple[str, str]]:
        return {key for key, name in before.items() if pod_of(plane, *key) != name}

    def settled(wanted: set[tuple[str, str]]) -> bool:
        end_deleted(plane)
        return replaced() == wanted

    first = ("agent", "one")
    wait_for("the first agent is replaced", lambda: settled({first}))
    # It is not Ready yet: nothing else may go, however long it takes.
    with pytest.raises(AssertionError):
        wait_for("another pod is replaced", lambda: settled({first, ("agent", "two")}), 12)
    assert replaced() == {first}
    finish_restart(plane, *first, before[first] or "")
    second = ("agent", "two")
    wait_for("then the second", lambda: settled({first, second}))
    finish_restart(plane, *second, before[second] or "")
    # The engines' image has not changed: only their init container, which comes with the agent's.
    with pytest.raises(AssertionError):
        wait_for("an engine is replaced", lambda: settled({first, second, ("engine", "one")}), 8)
    assert replaced() == {first, second}


def test_engine_restarts_for_a_setting_that_waits(plane: ControlPlane) -> None:
    tune(plane, "restart", runtime={"workers": 2})
    wait_for("spec", lambda: get(plane, "dataplane", "one")["spec"]["tuning"]["runtime"]["workers"] == 2)
    old = pod_of(plane, "engine", "one")
    report(plane, "one", workers=1, tuning={"pendingRestart": ["runtime.workers"]})
    wait_for("pending", lambda: tuning_nodes(plane, "restart").get("pendingRestart") == 1)

    def gone() -> bool:
        end_deleted(plane)
        return pod_of(plane, "engine", "one") != old

    wait_for("the engine is replaced", gone)
    finish_restart(plane, "engine", "one", old or "")
    set_status(plane, "dataplane", "one", {"workers": 2, "tuning": None})
    wait_for("applied", lambda: tuning_nodes(plane, "restart").get("applied") == 1)
    plane.kubectl("delete", "dataplanetuning", "restart")


def test_uninstall_steps_with_the_hooks_rights(plane: ControlPlane, directory: Path) -> None:
    """Last: takes everything away. The hooks' account is made from the chart as helm would."""
    server = plane.server.removeprefix("https://")
    rendered = helm(
        plane,
        "template",
        RELEASE,
        str(CHART),
        "-n",
        NAMESPACE,
        "--set",
        f"apiServer.endpoints={{{server}}}",
        "--show-only",
        "templates/uninstall.yaml",
    )
    documents = [d for d in rendered.split("\n---\n") if "kind: Job" not in d and "kind: DaemonSet" not in d]
    cleanup = [d for d in rendered.split("\n---\n") if "kind: DaemonSet" in d]
    plane.kubectl("apply", "-f", "-", stdin="\n---\n".join(documents))
    token = directory / "uninstall.token"
    token.write_text(plane.token(NAMESPACE, f"{RELEASE}-uninstall"))

    def step(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "API_SERVERS": plane.server,
            "KUBE_CA_FILE": str(plane.authority),
            "KUBE_TOKEN_FILE": str(token),
            "POD_NAMESPACE": NAMESPACE,
            "RELEASE": RELEASE,
            "RELEASE_FULLNAME": RELEASE,
            "TIMEOUT_SECONDS": str(seconds),
        }
        command = [sys.executable, "-m", "vpp_operator.cli", "uninstall", name]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    waiting = step("stop", 3)
    assert waiting.returncode == 1 and "have not ended" in waiting.stderr, waiting.stderr
    wait_for("no DaemonSet", lambda: not get(plane, "daemonsets", "-n", NAMESPACE)["items"])
    wait_for("pods end", lambda: (end_deleted(plane), not pods(plane))[1])
    stopped = step("stop", 30)
    assert stopped.returncode == 0, stopped.stderr
    with pytest.raises(ClusterError):
        plane.kubectl("get", "deployment", RELEASE, "-n", NAMESPACE)

    plane.kubectl("apply", "-f", "-", stdin=cleanup[0])
    wait_for("cleanup pods", lambda: len(pods(plane, "cleanup")) == 2)
    unclean = step("finish", 3)
    assert unclean.returncode == 1 and "one" in unclean.stderr and "two" in unclean.stderr
    plane.kubectl("label", "node", "one", "vpp-operator.dev/profile=huge")
    for name, labels in (("gtpu-n3", {"vpp-operator.dev/floating-endpoint": "true"}), ("foreign", {})):
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        }
        plane.kubectl("apply", "-f", "-", stdin=json.dumps(lease))
    for pod in pods(plane, "cleanup"):
        bind(plane, pod)
        set_pod_ready(plane, pod["metadata"]["name"], True)
    # The operator process of this test has no pod that `stop` could end; its answers are not wanted any more.
    finished = step("finish", 30)
    assert finished.returncode == 0, finished.stderr
    leases = {lease["metadata"]["name"] for lease in get(plane, "leases", "-n", NAMESPACE)["items"]}
    assert "gtpu-n3" not in leases and "foreign" in leases
    assert "vpp-operator.dev/profile" not in get(plane, "node", "one")["metadata"]["labels"]
