"""From kube-proxy to the operator node by node and back, and both side by side: docs/takeover.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster import install
from tests.e2e.environment import Environment
from tests.e2e.test_services import answered, until

pytestmark = [pytest.mark.product, pytest.mark.own_cluster]

APP = "moving"
LABEL = "example.com/takeover"


@pytest.fixture(scope="module")
def servers(environment: Environment) -> Iterator[list[str]]:
    names = environment.servers(APP, 2)
    yield names
    environment.delete(*(f"pod/{name}" for name in names))


@pytest.fixture(autouse=True)
def as_before(environment: Environment) -> Iterator[None]:
    """Every test begins and ends with the operator on all nodes and kube-proxy on none."""
    yield
    assert environment.own is not None
    environment.own.stop_proxy()
    environment.kubectl("label", "nodes", "--all", f"{LABEL}-")
    install.install(environment.kubeconfig)
    install.wait_ready(environment.kubectl, len(environment.nodes), 240)


def dataplanes(environment: Environment) -> dict[str, dict[str, str]]:
    """Of each Dataplane, the conditions with their status."""
    return {
        item["metadata"]["name"]: {
            condition["type"]: condition["status"]
            for condition in item.get("status", {}).get("conditions", ())
        }
        for item in install.items(environment.kubectl, "dataplanes")
    }


def other_proxy_problem(environment: Environment, node: str) -> str:
    conditions = dataplanes(environment).get(node, {})
    named = conditions.get("OtherProxyPresent") == "True" and conditions["Ready"] == "False"
    return "" if named else f"{conditions}"


def rollout_problem(environment: Environment) -> str:
    selector = "--selector=app.kubernetes.io/component=agent"
    (agents,) = install.items(environment.kubectl, "daemonsets", "--namespace", install.NAMESPACE, selector)
    status, wanted = agents["status"], agents["status"]["desiredNumberScheduled"]
    seen = status.get("observedGeneration") == agents["metadata"]["generation"]
    counts = {key: status.get(key, 0) for key in ("updatedNumberScheduled", "numberAvailable")}
    return "" if seen and set(counts.values()) == {wanted} else f"{counts} of {wanted}"


def served_everywhere(environment: Environment, address: str, servers: list[str]) -> None:
    for node in environment.nodes:
        client = environment.pod(node)
        until(answered(client, address, 80), 90)
        outcome = client.get(address, 80, "/hostname", 30)
        assert outcome.problem(set(servers)) == "", node.name


def test_node_by_node_and_back(environment: Environment, servers: list[str], family: str) -> None:
    assert environment.own is not None
    address = environment.service(APP, family)["spec"]["clusterIP"]
    first, second = environment.nodes[:2]
    place = environment.own.nodes[1].place

    def has_link() -> str:
        return "vpp0 is there" if "vpp0" in place.run("ip", "-brief", "link") else ""

    # Back: the second node leaves the selection and gets kube-proxy again.
    environment.kubectl("label", "node", first.name, f"{LABEL}=here")
    install.install(environment.kubeconfig, r"nodeSelector.example\.com/takeover=here")
    until(lambda: "" if set(dataplanes(environment)) == {first.name} else f"{dataplanes(environment)}", 120)
    until(has_link, 120)
    environment.own.start_proxy(second.name)
    install.wait_ready(environment.kubectl, 1)
    served_everywhere(environment, address, servers)
    assert has_link() == ""

    # And over again: nothing changes on the node before kube-proxy's rules are gone.
    environment.kubectl("label", "node", second.name, f"{LABEL}=here")
    until(lambda: other_proxy_problem(environment, second.name), 120)
    served_everywhere(environment, address, servers)
    assert has_link() == ""
    environment.own.stop_proxy()
    install.wait_ready(environment.kubectl, 2)
    served_everywhere(environment, address, servers)
    assert has_link()
    environment.delete(f"service/{APP}")


def test_another_proxys_rules_are_named(environment: Environment) -> None:
    assert environment.own is not None
    node = environment.nodes[1].name
    environment.own.start_proxy(node)

    until(lambda: other_proxy_problem(environment, node), 120)
    text = environment.kubectl("describe", "dataplane", node)
    assert "kube-proxy --cleanup" in text
    assert dataplanes(environment)[environment.nodes[0].name]["Ready"] == "True"
    environment.own.stop_proxy()
    install.wait_ready(environment.kubectl, len(environment.nodes))
    assert dataplanes(environment)[node].get("OtherProxyPresent", "False") == "False"


def test_beside_kube_proxy_for_chosen_services(
    environment: Environment, servers: list[str], family: str
) -> None:
    """Both serve what is theirs on the same nodes, at the same time."""
    assert environment.own is not None
    environment.own.start_proxy()
    install.install(environment.kubeconfig, "services.proxyName=vpp")
    # Node after node gets its agent anew, which takes longer than a Service may.
    until(lambda: rollout_problem(environment), 240)
    labels = {"service.kubernetes.io/service-proxy-name": "vpp"}
    ours = environment.service("chosen", family, selector={"app": APP}, labels=labels)
    others = environment.service(APP, family)
    served_everywhere(environment, ours["spec"]["clusterIP"], servers)
    served_everywhere(environment, others["spec"]["clusterIP"], servers)
    install.wait_ready(environment.kubectl, len(environment.nodes))

    def counts() -> str:
        found = {
            item["status"]["services"]["summary"] for item in install.items(environment.kubectl, "dataplanes")
        }
        return "" if found == {"1/1"} else f"{found}"

    # One Service is the operator's.
    until(counts, 60)
    environment.delete("service/chosen", f"service/{APP}")
