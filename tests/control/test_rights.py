"""The chart's accounts can do what their processes need; an attacker who has taken one can do no more."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.control.operator_lab import NAMESPACE, RELEASE, get, installed, make_node, wait_for

DATAPLANES = "/apis/vpp-operator.dev/v1alpha1/dataplanes"
GTPU = "/apis/vpp-operator.dev/v1alpha1"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
TUNINGS = "/apis/vpp-operator.dev/v1alpha1/dataplanetunings"
APPLY, MERGE, JSON = (
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/json",
)
OUR_CONDITION = "vpp-operator.dev/Programmed"


@dataclass
class Account:
    """Somebody with a token, who sends whatever he likes."""

    plane: ControlPlane
    token: str

    def send(
        self, method: str, path: str, body: Any = None, kind: str = JSON, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; the status and the decoded answer."""
        request = urllib.request.Request(
            self.plane.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind, **headers},
        )
        context = ssl.create_default_context(cafile=str(self.plane.authority))
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def apply(self, path: str, body: Any, manager: str) -> tuple[int, dict[str, Any]]:
        """Server-side apply, as the processes do."""
        return self.send("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY)

    def refused(self, method: str, path: str, body: Any = None, kind: str = JSON) -> str:
        """Send a request that must be refused; the API server's words."""
        status, answer = self.send(method, path, body, kind)
        assert status == 403, f"{method} {path} was answered {status}: {answer}"
        return str(answer["message"])


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with installed(tmp_path_factory.mktemp("rights")) as running:
        for number, name in enumerate(("node-a", "node-b"), 1):
            make_node(running, name, number=number, labels={"kept": "yes"})
            dataplane = {
                "apiVersion": "vpp-operator.dev/v1alpha1",
                "kind": "Dataplane",
                "metadata": {"name": name},
            }
            running.kubectl("apply", "-f", "-", stdin=json.dumps(dataplane))
            running.kubectl("apply", "-f", "-", stdin=json.dumps(agent_pod(name)))
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "shop", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        }
        running.kubectl("apply", "-f", "-", stdin=json.dumps(service))
        others = {"type": "other.example/Ready", "status": "True", "reason": "Fine", "message": ""}
        status = {"conditions": [{**others, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        running.kubectl(
            "patch",
            "service",
            "shop",
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": status}),
        )
        wait_for_policies(running)
        yield running


def agent_pod(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"agent-{node}", "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "serviceAccountName": f"{RELEASE}-agent",
            "containers": [{"name": "agent", "image": "none.example/none"}],
        },
    }


def wait_for_policies(plane: ControlPlane) -> None:
    """Wait until the API server enforces the policies (it compiles them a moment after they are made)."""
    unbound = Account(plane, plane.token(NAMESPACE, f"{RELEASE}-agent"))
    operator = Account(plane, plane.token(NAMESPACE, RELEASE))
    node = {"metadata": {"annotations": {"probe": "x"}}}
    service = {"metadata": {"annotations": {"probe": "x"}}}
    shop = "/api/v1/namespaces/default/services/shop/status"
    wait_for(
        "the admission policies hold",
        lambda: (
            unbound.apply(f"{DATAPLANES}/node-a/status", status_of("node-a"), "agent")[0] == 403
            and operator.send("PATCH", "/api/v1/nodes/node-a", node, MERGE)[0] == 403
            and operator.send("PATCH", shop, service, MERGE)[0] == 403
        ),
    )


def status_of(name: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "Dataplane",
        "metadata": {"name": name},
        "status": {"sessions": 7},
        **more,
    }


@pytest.fixture(scope="module")
def agent(plane: ControlPlane) -> Account:
    """The agent of node-a: its token is bound to its pod, as the kubelet asks for it."""
    return Account(plane, plane.token(NAMESPACE, f"{RELEASE}-agent", bound=("Pod", "agent-node-a")))


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Account:
    return Account(plane, plane.token(NAMESPACE, RELEASE))


# ------------------------------------------------------------------------------------------- the agent


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/services",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-a",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/networking.k8s.io/v1/servicecidrs",
        DATAPLANES,
        f"{DATAPLANES}/node-a",
        f"{GTPU}/gtpuendpoints",
        f"{GTPU}/gtputunnels",
        f"{GTPU}/gtputunnelsets",
    ],
)
def test_agent_reads_what_it_follows(agent: Account, path: str) -> None:
    assert agent.send("GET", path)[0] == 200


def test_agent_reports_for_its_node(plane: ControlPlane, agent: Account) -> None:
    status, answer = agent.apply(f"{DATAPLANES}/node-a/status", status_of("node-a"), "agent")
    assert status == 200, answer
    assert get(plane, "dataplane", "node-a")["status"]["sessions"] == 7


def test_agent_cannot_report_for_another_node(plane: ControlPlane, agent: Account) -> None:
    for kind in (APPLY, MERGE):
        path = f"{DATAPLANES}/node-b/status?fieldManager=agent"
        message = agent.refused("PATCH", path, status_of("node-b"), kind)
        assert "node-a" in message and "not of node-b" in message
    assert "status" not in get(plane, "dataplane", "node-b")


def test_name_in_the_body_does_not_help(agent: Account) -> None:
    status, _ = agent.apply(f"{DATAPLANES}/node-b/status", status_of("node-a"), "agent")
    assert status in (400, 403)


def test_token_that_names_no_node_writes_nothing(plane: ControlPlane) -> None:
    unbound = Account(plane, plane.token(NAMESPACE, f"{RELEASE}-agent"))
    message = unbound.refused(
        "PATCH", f"{DATAPLANES}/node-a/status?fieldManager=x", status_of("node-a"), APPLY
    )
    assert "bound to a pod" in message


def test_another_account_of_the_node_has_no_such_right(plane: ControlPlane) -> None:
    default = Account(plane, plane.token(NAMESPACE, "default", bound=("Node", "node-a")))
    default.refused("PATCH", f"{DATAPLANES}/node-a/status?fieldManager=x", status_of("node-a"), APPLY)


def test_agent_smuggles_nothing_in_beside_the_status(plane: ControlPlane, agent: Account) -> None:
    before = get(plane, "dataplane", "node-a")
    body = {
        "metadata": {"labels": {"evil": "yes"}, "finalizers": ["evil.example/stay"], "ownerReferences": []},
        "spec": {"engine": "vpp", "paused": True},
        "status": {"sessions": 8},
    }
    status, answer = agent.send("PATCH", f"{DATAPLANES}/node-a/status", body, MERGE)
    assert status == 200, answer
    after = get(plane, "dataplane", "node-a")
    assert after["status"]["sessions"] == 8
    assert after["spec"] == before["spec"]
    for field in ("labels", "finalizers", "ownerReferences"):
        assert after["metadata"].get(field) == before["metadata"].get(field)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", f"{DATAPLANES}/node-a"),
        ("PUT", f"{DATAPLANES}/node-a"),
        ("PUT", f"{DATAPLANES}/node-a/status"),
        ("DELETE", f"{DATAPLANES}/node-a"),
        ("DELETE", DATAPLANES),
        ("POST", DATAPLANES),
        ("GET", TUNINGS),
        ("PATCH", f"{TUNINGS}/any"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets"),
        ("GET", "/api/v1/configmaps"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/pods"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods"),
        ("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/agent-node-b"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods/agent-node-b/exec"),
        ("PATCH", "/api/v1/nodes/node-a"),
        ("PATCH", "/api/v1/nodes/node-a/status"),
        ("GET", "/api/v1/nodes/node-a/proxy/"),
        ("PATCH", "/api/v1/namespaces/default/services/shop"),
        ("PATCH", "/api/v1/namespaces/default/services/shop/status"),
        ("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"),
        ("POST", "/api/v1/namespaces/default/events"),
        ("DELETE", f"{LEASES}/{RELEASE}"),
        ("GET", LEASES),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-b"),
        ("POST", f"{GTPU}/gtpuendpoints"),
        ("PATCH", f"{GTPU}/gtpuendpoints/n3/status"),
        ("PATCH", f"{GTPU}/namespaces/default/gtputunnels/one"),
        ("PATCH", f"{GTPU}/namespaces/default/gtputunnels/one/status"),
        ("DELETE", f"{GTPU}/namespaces/default/gtputunnels/one"),
        ("GET", "/v1/gtpu"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{RELEASE}/token"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{RELEASE}-agent/token"),
        ("DELETE", f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{RELEASE}-agent"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
)
def test_agent_can_do_nothing_else(agent: Account, method: str, path: str) -> None:
    agent.refused(method, path, None if method in ("GET", "DELETE") else {}, kind_of(method))


def kind_of(method: str) -> str:
    return MERGE if method == "PATCH" else JSON


def test_agent_cannot_be_somebody_else(agent: Account) -> None:
    status, answer = agent.send("GET", "/api/v1/services", **{"Impersonate-User": "kubernetes-admin"})
    assert status == 403 and "impersonate" in answer["message"]


def lease(name: str, holder: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "labels": labels},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 45},
    }


FLOATING = {"vpp-operator.dev/floating-endpoint": "true"}


def test_agent_holds_leases_of_floating_endpoints_for_its_own_node(
    plane: ControlPlane, agent: Account
) -> None:
    other = Account(plane, plane.token(NAMESPACE, f"{RELEASE}-agent", bound=("Pod", "agent-node-b")))
    path = f"{LEASES}/gtpu-n3"
    assert agent.send("POST", LEASES, lease("gtpu-n3", "node-a", **FLOATING))[0] == 201

    def put(who: Account, holder: str, **metadata: Any) -> tuple[int, dict[str, Any]]:
        current = agent.send("GET", path)[1]
        body = {**current, "metadata": {**current["metadata"], **metadata}}
        return who.send("PUT", path, {**body, "spec": {**current["spec"], "holderIdentity": holder}})

    assert put(agent, "node-a")[0] == 200
    # Not for another node, and nobody gives back what is another node's.
    assert put(agent, "node-b")[0] == 403
    assert put(other, "")[0] == 403
    # The label that makes it one of these Leases stays.
    assert put(agent, "node-a", labels={})[0] == 403
    # Taking over is for each to decide: whose node is gone, the rules say. Giving back is the holder's.
    assert put(other, "node-b")[0] == 200
    assert put(agent, "")[0] == 403 and put(other, "")[0] == 200
    assert "gtpu-n3" in agent.refused("DELETE", path)


def test_agent_cannot_touch_the_operators_lease(plane: ControlPlane, agent: Account) -> None:
    def version(name: str) -> str:
        return str(agent.send("GET", f"{LEASES}/{name}")[1]["metadata"]["resourceVersion"])

    plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(lease(RELEASE, "leader")))
    for body in (
        lease(RELEASE, "node-a"),
        lease(RELEASE, ""),
        lease(RELEASE, "node-a", **FLOATING),
    ):
        body["metadata"]["resourceVersion"] = version(RELEASE)
        agent.refused("PUT", f"{LEASES}/{RELEASE}", body)
    agent.refused("POST", LEASES, lease("other", "node-a", **FLOATING))
    agent.refused("POST", LEASES, lease("gtpu-x", "node-a"))
    agent.refused("POST", LEASES, lease("gtpu-x", "node-b", **FLOATING))
    # A former Lease of the operator's, named as one of ours, is not ours without the label.
    plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(lease("gtpu-y", "leader")))
    taken = lease("gtpu-y", "node-a", **FLOATING)
    taken["metadata"]["resourceVersion"] = version("gtpu-y")
    agent.refused("PUT", f"{LEASES}/gtpu-y", taken)
    unbound = Account(plane, plane.token(NAMESPACE, f"{RELEASE}-agent"))
    unbound.refused("POST", LEASES, lease("gtpu-z", "node-a", **FLOATING))


def test_agent_has_tokens_reviewed_and_no_more(agent: Account, operator: Account) -> None:
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": operator.token, "audiences": ["vpp-operator.dev/agent"]},
    }
    status, answer = agent.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert status == 201 and not answer["status"].get("authenticated"), "a token for the API server"
    access = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{NAMESPACE}:{RELEASE}",
            "nonResourceAttributes": {"path": "/v1/gtpu", "verb": "get"},
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    status, answer = agent.send("POST", path, access)
    assert status == 201 and answer["status"]["allowed"], "the operator may read figures"
    access["spec"]["user"] = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-agent"
    assert not agent.send("POST", path, access)[1]["status"]["allowed"], "an agent may not"


# ---------------------------------------------------------------------------------------- the operator


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nodes",
        DATAPLANES,
        TUNINGS,
        "/api/v1/services",
        f"/api/v1/namespaces/{NAMESPACE}/pods",
        f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets",
        "/apis/networking.k8s.io/v1/servicecidrs",
        f"{GTPU}/gtpuendpoints",
        f"{GTPU}/gtputunnels",
        f"{GTPU}/gtputunnelsets",
    ],
)
def test_operator_reads_what_it_follows(operator: Account, path: str) -> None:
    assert operator.send("GET", path)[0] == 200


def node_patch(**metadata: Any) -> dict[str, Any]:
    return {"metadata": metadata}


def test_operator_sets_its_label_on_a_node(plane: ControlPlane, operator: Account) -> None:
    label = "vpp-operator.dev/profile"
    for labels, expected in (({label: "huge"}, "huge"), ({}, None)):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-b", "labels": labels}}
        status, answer = operator.apply("/api/v1/nodes/node-b", node, "operator")
        assert status == 200, answer
        now = get(plane, "node", "node-b")["metadata"]["labels"]
        assert now.get(label) == expected and now["kept"] == "yes"


@pytest.mark.parametrize(
    "patch",
    [
        node_patch(labels={"node-role.kubernetes.io/control-plane": ""}),
        node_patch(labels={"kept": "no"}),
        node_patch(labels={"kept": None}),
        node_patch(labels={"vpp-operator.dev/profile": "x", "other": "y"}),
        node_patch(annotations={"evil": "yes"}),
        node_patch(finalizers=["evil.example/stay"]),
        node_patch(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "node-b", "uid": "1"}]),
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "evil", "effect": "NoExecute"}]}},
    ],
)
def test_operator_changes_nothing_else_of_a_node(operator: Account, patch: dict[str, Any]) -> None:
    message = operator.refused("PATCH", "/api/v1/nodes/node-a", patch, MERGE)
    assert "vpp-operator.dev/profile" in message


def service_status(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": "default"},
        "status": status,
    }


SHOP = "/api/v1/namespaces/default/services/shop"


def condition(kind: str, status: str = "False") -> dict[str, Any]:
    times = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"type": kind, "status": status, "reason": "Conflict", "message": "m", **times}


def test_operator_sets_and_removes_its_condition_on_a_service(plane: ControlPlane, operator: Account) -> None:
    for conditions in ([condition(OUR_CONDITION)], []):
        status, answer = operator.apply(f"{SHOP}/status", service_status(conditions=conditions), "operator")
        assert status == 200, answer
        kinds = [c["type"] for c in get(plane, "service", "shop")["status"]["conditions"]]
        assert kinds == ["other.example/Ready"] + [c["type"] for c in conditions]


@pytest.mark.parametrize(
    "body",
    [
        service_status(loadBalancer={"ingress": [{"ip": "192.0.2.66"}]}),
        service_status(conditions=[condition("other.example/Ready", "False")]),
        service_status(conditions=[condition("evil.example/New")]),
        service_status(conditions=[condition(OUR_CONDITION), condition("evil.example/New")]),
        {
            **service_status(),
            "metadata": {"name": "shop", "namespace": "default", "annotations": {"evil": "yes"}},
        },
        {
            **service_status(),
            "metadata": {"name": "shop", "namespace": "default", "finalizers": ["evil.example/a"]},
        },
    ],
)
def test_operator_changes_nothing_else_of_a_service(operator: Account, body: dict[str, Any]) -> None:
    status, answer = operator.apply(f"{SHOP}/status", body, "operator")
    assert status == 403, answer
    assert OUR_CONDITION in answer["message"]


def test_operator_cannot_take_away_conditions_of_others(operator: Account) -> None:
    message = operator.refused("PATCH", f"{SHOP}/status", {"status": {"conditions": None}}, MERGE)
    assert OUR_CONDITION in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", SHOP),
        ("DELETE", SHOP),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods"),
        ("PATCH", f"/api/v1/namespaces/{NAMESPACE}/pods/agent-node-a"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/pods/agent-node-a/exec"),
        ("GET", "/api/v1/pods"),
        ("DELETE", "/api/v1/namespaces/default/pods/any"),
        ("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets"),
        ("GET", "/api/v1/configmaps"),
        ("PATCH", "/api/v1/nodes/node-a/status"),
        ("DELETE", "/api/v1/nodes/node-a"),
        ("PATCH", f"{TUNINGS}/any"),
        ("DELETE", f"{TUNINGS}/any"),
        ("PATCH", f"{GTPU}/gtpuendpoints/n3"),
        ("DELETE", f"{GTPU}/gtpuendpoints/n3"),
        ("PATCH", f"{GTPU}/namespaces/default/gtputunnels/one"),
        ("POST", f"{GTPU}/namespaces/default/gtputunnelsets"),
        ("PUT", f"{LEASES}/gtpu-n3"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("PATCH", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/{RELEASE}-agent"),
        ("POST", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"),
        ("PUT", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/another"),
        ("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{RELEASE}"),
        ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"),
        ("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{RELEASE}-agent/token"),
        (
            "DELETE",
            f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{RELEASE}-operator-nodes",
        ),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
        ("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dataplanes.vpp-operator.dev"),
    ],
)
def test_operator_can_do_nothing_else(operator: Account, method: str, path: str) -> None:
    operator.refused(method, path, None if method in ("GET", "DELETE") else {}, kind_of(method))
