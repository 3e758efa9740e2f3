"""What a cluster has before anything is installed: CoreDNS, and the rights of kube-proxy where it is
started."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.controlplane import ControlPlane
from tests.cluster.node import CLUSTER_DNS
from tests.cluster.progress import wait_for

DNS_IMAGE = "docker.io/vpp-operator/coredns:1"
_COREFILE = """.:53 {
    errors
    health {
        lameduck 1s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    cache 5
    reload
}
"""

_Object = dict[str, Any]
_LABELS = {"k8s-app": "kube-dns"}
_OWN = {"name": "coredns", "namespace": "kube-system"}


def apply(plane: ControlPlane) -> None:
    """Create CoreDNS with its Service."""
    items = {"apiVersion": "v1", "kind": "List", "items": _dns(plane)}
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(items))


def wait(plane: ControlPlane) -> None:
    """Wait until CoreDNS is ready."""

    def check() -> str:
        text = plane.kubectl("--namespace=kube-system", "get", "deployment", "coredns", "-o", "json")
        status = json.loads(text)["status"]
        if status.get("readyReplicas", 0) >= 1:
            return ""
        return plane.kubectl("--namespace=kube-system", "get", "pods", "-o", "wide")

    wait_for("CoreDNS is ready", check, 120, 0.5)


def proxy_access() -> _Object:
    """The binding that lets kube-proxy read what it needs."""
    return _binding("system:kube-proxy", "system:node-proxier", {"kind": "User", "name": "system:kube-proxy"})


def _binding(name: str, role: str, subject: dict[str, str]) -> _Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def _dns(plane: ControlPlane) -> list[_Object]:
    read = ["list", "watch"]
    role: _Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": read},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        ],
    }
    # No Service works before the proxy does, so CoreDNS is told where the API server itself is.
    environment = {"KUBERNETES_SERVICE_HOST": plane.address, "KUBERNETES_SERVICE_PORT": str(plane.port)}
    container = {
        "name": "coredns",
        "image": DNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    deployment: _Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_OWN, "labels": _LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    }
    service: _Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
        "spec": {
            "clusterIP": CLUSTER_DNS[0],
            "clusterIPs": list(CLUSTER_DNS),
            "ipFamilyPolicy": "RequireDualStack",
            "selector": _LABELS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }
    config: _Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _OWN,
        "data": {"Corefile": _COREFILE},
    }
    account: _Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _OWN}
    binding = _binding("system:coredns", "system:coredns", {"kind": "ServiceAccount", **_OWN})
    return [account, role, binding, config, deployment, service]
