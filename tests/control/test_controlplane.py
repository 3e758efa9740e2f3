"""The control plane that the control tests run on keeps what it promises."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from kubernetes import client
from tests.cluster.controlplane import ControlPlane
from tests.cluster.progress import ClusterError


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


def claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    decoded = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(decoded, dict)
    return decoded


def test_objects_outlive_a_restart_of_the_api_server(plane: ControlPlane) -> None:
    plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    server = plane.server
    plane.stop_apiserver()
    with pytest.raises(ClusterError):
        plane.kubectl("get", "--request-timeout=2s", "configmap", "kept")
    plane.start_apiserver()
    assert plane.server == server
    assert plane.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"


def test_token_is_bound_to_its_node_and_rbac_holds(plane: ControlPlane) -> None:
    plane.kubectl("apply", "-f", "-", stdin='{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}')
    plane.kubectl("create", "serviceaccount", "someone")
    token = plane.token("default", "someone", bound=("Node", "n1"))
    bound = claims(token)["kubernetes.io"]
    assert isinstance(bound, dict) and bound["node"]["name"] == "n1"
    core = client.CoreV1Api(plane.client(plane.kubeconfig_for(token)))
    with pytest.raises(client.ApiException) as refused:
        core.list_node()
    assert refused.value.status == 403
    assert [node.metadata.name for node in client.CoreV1Api(plane.client()).list_node().items] == ["n1"]


def test_services_get_addresses_of_both_families(plane: ControlPlane) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "both"},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(service))
    addresses = plane.kubectl("get", "service", "both", "-o", "jsonpath={.spec.clusterIPs}")
    assert addresses.startswith('["10.96.') and '"fd00:10:96::' in addresses
