"""The last test: `helm uninstall` leaves nothing on the nodes, and nothing in the API server but the
definitions."""

from __future__ import annotations

import json
import time

import pytest
from tests.cluster import install
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.node_state import NodeState, node_state

pytestmark = [pytest.mark.product, pytest.mark.own_cluster]


def test_uninstall_leaves_nothing(environment: Environment, states_before: dict[str, NodeState]) -> None:
    assert environment.own is not None
    environment.kubectl("delete", "namespace", NAMESPACE, "--wait=true")
    install.uninstall(environment.kubeconfig)
    found = []
    for node in environment.own.nodes:
        left = node_state(node.place).differences(states_before[node.name])
        found += [f"{node.name}: {line}" for line in left]
        processes = node.place.run("sh", "-c", "pidof vpp vpp-embedded vpp-operator || true").strip()
        found += [f"{node.name}: process {processes}"] if processes else []
    assert found == []
    nodes = install.items(environment.kubectl, "nodes")
    labels = [label for node in nodes for label in node["metadata"]["labels"] if "vpp-operator" in label]
    assert labels == []
    # The pods of what Helm deleted last end a moment after it.
    end = time.monotonic() + 30
    while pods := _pods(environment):
        assert time.monotonic() < end, pods
        time.sleep(1)
    for kind in ("leases.coordination.k8s.io", "daemonsets", "jobs", "serviceaccounts"):
        text = environment.kubectl("get", kind, "--all-namespaces", "-o", "json")
        names = [item["metadata"]["name"] for item in json.loads(text)["items"]]
        assert [name for name in names if "vpp" in name] == [], kind
    for kind in ("clusterroles", "clusterrolebindings", "validatingadmissionpolicies"):
        names = [item["metadata"]["name"] for item in install.items(environment.kubectl, kind)]
        assert [name for name in names if "vpp" in name] == [], kind


def _pods(environment: Environment) -> list[str]:
    pods = install.items(environment.kubectl, "pods", "--all-namespaces")
    return [pod["metadata"]["name"] for pod in pods if "vpp" in pod["metadata"]["name"]]
