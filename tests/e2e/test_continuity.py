"""Connections go on: over a killed engine, a restarted agent, an upgrade."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.cluster import images, install
from tests.e2e.environment import NAMESPACE, Environment, Holder
from tests.e2e.test_services import answered, until

pytestmark = pytest.mark.product

APP = "lasting"
CONNECTIONS = 200


@pytest.fixture(scope="module")
def servers(environment: Environment) -> Iterator[list[str]]:
    names = environment.servers(APP, 4)
    yield names
    environment.delete(*(f"pod/{name}" for name in names))


@pytest.fixture
def held(environment: Environment, family: str, servers: list[str]) -> Iterator[tuple[Holder, str]]:
    """200 connections from a pod on the first node, half of them idle, and the Service's address."""
    address: str = environment.service(APP, family)["spec"]["clusterIP"]
    until(answered(environment.pod(environment.nodes[0]), address, 80))
    holder = environment.hold(environment.nodes[0], address, 80, CONNECTIONS)
    try:
        assert set(holder.servers) == set(servers)
        yield holder, address
    finally:
        holder.close()
        environment.delete(f"service/{APP}")


def pods_of(environment: Environment, component: str, node: str) -> list[str]:
    options = [
        f"--selector=app.kubernetes.io/component={component}",
        f"--field-selector=spec.nodeName={node}",
    ]
    pods = install.items(environment.kubectl, "pods", "--namespace", install.NAMESPACE, *options)
    return [pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def restarts(environment: Environment, pod: str) -> int:
    found = json.loads(environment.kubectl("get", "pod", "--namespace", install.NAMESPACE, pod, "-o", "json"))
    return int(found["status"]["containerStatuses"][0]["restartCount"])


def endpoints_problem(environment: Environment, count: int) -> str:
    slices = environment.items("endpointslices", f"--selector=kubernetes.io/service-name={APP}")
    found = sum(len(entry["endpoints"] or ()) for entry in slices)
    return "" if found == count else f"{found} endpoints"


@pytest.mark.own_cluster
def test_killed_engine_keeps_its_flows(
    environment: Environment, held: tuple[Holder, str], servers: list[str], family: str
) -> None:
    """SIGKILL, and while the engine is down the set of endpoints changes."""
    assert environment.own is not None
    holder, address = held
    (engine,) = pods_of(environment, "engine", environment.nodes[0].name)
    before = restarts(environment, engine)
    late = environment.servers("lasting-late", 1)
    place = environment.own.nodes[0].place
    # The kubelet would start the engine again at once.
    place.run("pkill", "-STOP", "-x", "kubelet")
    try:
        place.run("pkill", "-KILL", "-x", "vpp-embedded|vpp_main")
        label = ["label", "--namespace", NAMESPACE, "--overwrite", f"pod/{late[0]}", f"app={APP}"]
        environment.kubectl(*label)
        until(lambda: endpoints_problem(environment, 5), 20)
    finally:
        place.run("pkill", "-CONT", "-x", "kubelet")
    until(lambda: "" if restarts(environment, engine) > before else "the engine has not come back", 90)
    try:
        until(answered(environment.pod(environment.nodes[0]), address, 80), 60)
        report = holder.check()
        assert report == {"alive": CONNECTIONS, "moved": 0, "lost": []}
        wanted = {*servers, *late}
        pod = environment.pod(environment.nodes[0])
        until(lambda: pod.get(address, 80, "/hostname", 60).problem(wanted), 60)
    finally:
        environment.delete(*(f"pod/{name}" for name in late))


def test_restarted_agent_interrupts_nothing(
    environment: Environment, held: tuple[Holder, str], family: str
) -> None:
    holder, address = held
    (agent,) = pods_of(environment, "agent", environment.nodes[0].name)
    environment.kubectl("delete", "pod", "--namespace", install.NAMESPACE, agent)
    client = environment.pod(environment.nodes[0])
    end = time.monotonic() + 10
    while time.monotonic() < end:
        outcome = client.get(address, 80, "/hostname", 20, timeout=3)
        assert outcome.complete, outcome.problem()
    install.wait_ready(environment.kubectl, len(environment.nodes))
    assert holder.check() == {"alive": CONNECTIONS, "moved": 0, "lost": []}


@pytest.mark.own_cluster
def test_upgrade_loses_no_connection(environment: Environment, held: tuple[Holder, str], family: str) -> None:
    """New images of everything, rolled out one node at a time while the connections are open."""
    assert environment.own is not None
    holder, address = held
    old = {
        (component, node.name): pods_of(environment, component, node.name)
        for component in ("engine", "agent")
        for node in environment.nodes
    }
    settings = []
    for short in ("operator", environment.engine_pods()):
        tag = f"{images.version()}-{family.lower()}"
        settings.append(f"images.{short}.tag={tag}")
        for node in environment.own.nodes:
            node.tag_image(f"docker.io/vpp-operator/{short}", images.version(), tag)
    install.install(environment.kubeconfig, *settings)

    def unchanged() -> str:
        left = [
            f"{component} on {node}"
            for (component, node), pods in old.items()
            if set(pods) & set(pods_of(environment, component, node))
            or not pods_of(environment, component, node)
        ]
        return f"not replaced yet: {', '.join(left)}" if left else ""

    until(unchanged, 240)
    install.wait_ready(environment.kubectl, len(environment.nodes))
    assert holder.check() == {"alive": CONNECTIONS, "moved": 0, "lost": []}
    until(answered(environment.pod(environment.nodes[0]), address, 80))
