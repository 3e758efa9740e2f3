"""An account with the agent's rights on the test's API server, and objects for the agent's tests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from tests.cluster.controlplane import ControlPlane

from vpp_operator.kube import Access, ApiAccess, ServerList, TokenFile, parse_servers

ACCOUNT = "agent-under-test"

RULES = [
    {"apiGroups": [""], "resources": ["services", "nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["servicecidrs"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["vpp-operator.dev"],
        "resources": ["dataplanes", "gtpuendpoints", "gtputunnels", "gtputunnelsets"],
        "verbs": ["get", "list", "watch"],
    },
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]},
    {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
    {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    {"apiGroups": ["vpp-operator.dev"], "resources": ["dataplanes/status"], "verbs": ["patch"]},
]


def _apply(plane: ControlPlane, *documents: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    plane.kubectl("apply", "-f", "-", stdin=text)


async def until(check: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait until ``check`` holds."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something beside the test and end it; its failure is the test's."""
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def access(plane: ControlPlane, folder: Path, server: str = "") -> Access:
    """Make the account if it is not there, and return the way to the API server with its token."""
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": "default"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": ACCOUNT},
            "rules": RULES,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
        },
    ]
    _apply(plane, *documents)
    token = folder / "token"
    token.write_text(plane.token("default", ACCOUNT))
    servers = ServerList(parse_servers(server or plane.server))
    return Access(servers, plane.authority, TokenFile(token), "default")


def administrator(plane: ControlPlane, folder: Path) -> Access:
    """Return a way to the API server with all rights, for making objects quickly."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-admin"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "test-admin", "namespace": "default"}],
    }
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "test-admin", "namespace": "default"},
    }
    _apply(plane, account, binding)
    token = folder / "admin-token"
    token.write_text(plane.token("default", "test-admin"))
    return Access(ServerList(parse_servers(plane.server)), plane.authority, TokenFile(token), "default")


def service(name: str, ports: int = 1, **spec: Any) -> dict[str, Any]:
    """Return a Service without a selector, so that the test's own slices count."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": f"p{i}", "port": 80 + i} for i in range(ports)]} | spec,
    }


def endpoint_slice(
    name: str, service_name: str, addresses: list[str], port: int = 8080, family: str = "IPv4"
) -> dict[str, Any]:
    """Return an EndpointSlice for port p0 of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": family,
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
        "ports": [{"name": "p0", "port": port, "protocol": "TCP"}],
    }


SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


async def create(api: ApiAccess, path: str, body: dict[str, Any]) -> Any:
    """Create an object."""
    return await api.request("POST", path, body=body)


async def store(plane: ControlPlane, key: str, body: dict[str, Any]) -> None:
    """Write an object into etcd past the API server's validation (it reads JSON as well as protobuf)."""
    port = (plane.directory / "etcd.ports").read_text().split()[0]
    entry = {
        "key": base64.b64encode(key.encode()).decode(),
        "value": base64.b64encode(json.dumps(body).encode()).decode(),
    }
    async with aiohttp.ClientSession() as session:
        async with session.post(f"http://127.0.0.1:{port}/v3/kv/put", json=entry) as response:
            assert response.status == 200, await response.text()


async def compact(plane: ControlPlane) -> None:
    """Forget all history in etcd, as it does by itself every five minutes."""
    port = (plane.directory / "etcd.ports").read_text().split()[0]
    url = f"http://127.0.0.1:{port}/v3/kv"
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/range", json={"key": "AA=="}) as response:
            revision = (await response.json())["header"]["revision"]
        async with session.post(
            f"{url}/compaction", json={"revision": revision, "physical": True}
        ) as response:
            assert response.status == 200, await response.text()
