"""An account with the agent's rights on the test's API server, and objects for the agent's tests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from tests.cluster.controlplane import ControlPlane
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, wait_for

from vpp_operator.kube import Access, ApiAccess, ServerList, TokenFile, parse_servers

ACCOUNT = "agent-under-test"

WAIT_SECONDS = 180.0
"""How long an event is waited for: a loaded machine may be slow, and what comes sooner costs nothing."""

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


@contextlib.contextmanager
def agent_plane() -> Iterator[ControlPlane]:
    """An API server with the kinds that an agent watches."""
    with ControlPlane() as plane:
        for crd in sorted((REPOSITORY / "crds").glob("*.yaml")):
            plane.kubectl("apply", "-f", str(crd))
        for kind in ("dataplanes", "gtpuendpoints", "gtputunnels", "gtputunnelsets"):
            # A kind that has just been defined is refused (404, 429) until its storage is ready.
            wait_for(f"{kind} are served", lambda: _served(plane, kind), WAIT_SECONDS, 0.1)  # noqa: B023
        yield plane


def _served(plane: ControlPlane, kind: str) -> str:
    try:
        plane.kubectl("get", kind, "--all-namespaces")
    except ClusterError as error:
        return str(error)
    return ""


async def merge(api: ApiAccess, path: str, body: dict[str, Any]) -> None:
    """Patch an object."""
    await api.request("PATCH", path, body=body, content_type="application/merge-patch+json")


async def apply_node(api: ApiAccess, name: str, number: int = 7) -> None:
    """Make a Node with addresses and pod ranges of both families that end in ``number``."""
    path = f"/api/v1/nodes/{name}"
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"role": "edge"}},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
    }
    await api.apply(path, node, field_manager="test")
    addresses = [{"type": "InternalIP", "address": a} for a in (f"192.0.2.{number}", f"2001:db8::{number}")]
    await merge(api, f"{path}/status", {"status": {"addresses": addresses}})


async def until(check: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
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
