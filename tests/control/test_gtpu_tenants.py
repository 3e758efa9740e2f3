"""Whoever may edit a namespace may make tunnels there, and touch nothing that decides on prefixes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.control.operator_lab import RELEASE, installed, wait_for
from tests.control.test_rights import GTPU, MERGE, Account

NAMESPACE = "tenant"
TUNNELS = f"{GTPU}/namespaces/{NAMESPACE}/gtputunnels"
TUNNEL = {
    "apiVersion": "vpp-operator.dev/v1alpha1",
    "kind": "GtpuTunnel",
    "metadata": {"name": "ue-1"},
    "spec": {
        "endpointRef": {"name": "n3"},
        "remoteAddress": "192.0.2.30",
        "localTeid": 1,
        "remoteTeid": 2,
        "inner": {"ueAddresses": ["10.60.0.1/32"]},
    },
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with installed(tmp_path_factory.mktemp("tenants")) as running:
        running.kubectl("create", "namespace", NAMESPACE)
        for account, role in (("editor", "edit"), ("viewer", "view")):
            running.kubectl("create", "serviceaccount", "--namespace", NAMESPACE, account)
            running.kubectl(
                "create",
                "rolebinding",
                "--namespace",
                NAMESPACE,
                account,
                f"--clusterrole={RELEASE}-tunnels-{role}",
                f"--serviceaccount={NAMESPACE}:{account}",
            )
        yield running


def account(plane: ControlPlane, name: str) -> Account:
    return Account(plane, plane.token(NAMESPACE, name))


def test_editor_makes_tunnels_in_the_namespace(plane: ControlPlane) -> None:
    editor = account(plane, "editor")
    wait_for("the rights hold", lambda: editor.send("GET", TUNNELS)[0] == 200)
    status, made = editor.send("POST", TUNNELS, TUNNEL)
    assert status == 201, made
    status, moved = editor.send("PATCH", f"{TUNNELS}/ue-1", {"spec": {"remoteTeid": 3}}, MERGE)
    assert (status, moved["spec"]["remoteTeid"]) == (200, 3)
    assert editor.send("DELETE", f"{TUNNELS}/ue-1")[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{GTPU}/namespaces/default/gtputunnels"),
        ("GET", f"{GTPU}/gtputunnels"),
        ("GET", f"{GTPU}/gtpuendpoints"),
        ("POST", f"{GTPU}/gtpuendpoints"),
        ("PATCH", f"{GTPU}/gtpuendpoints/n3"),
        ("PATCH", f"{TUNNELS}/ue-1/status"),
        ("POST", f"{GTPU}/dataplanetunings"),
    ],
)
def test_editor_can_do_nothing_else(plane: ControlPlane, method: str, path: str) -> None:
    body = None if method == "GET" else {"metadata": {"name": "x"}}
    account(plane, "editor").refused(method, path, body, MERGE if method == "PATCH" else "application/json")


def test_viewer_only_looks(plane: ControlPlane) -> None:
    viewer = account(plane, "viewer")
    wait_for("the rights hold", lambda: viewer.send("GET", TUNNELS)[0] == 200)
    viewer.refused("POST", TUNNELS, TUNNEL)
    viewer.refused("DELETE", f"{TUNNELS}/ue-1")


def test_roles_come_with_those_of_the_cluster(plane: ControlPlane) -> None:
    """By these labels Kubernetes adds the rights to its roles edit, admin and view."""
    for role, parts in (("edit", {"edit", "admin"}), ("view", {"view"})):
        found = json.loads(plane.kubectl("get", "clusterrole", f"{RELEASE}-tunnels-{role}", "-o", "json"))
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        labels = found["metadata"]["labels"]
        assert {name.removeprefix(prefix) for name in labels if name.startswith(prefix)} == parts
