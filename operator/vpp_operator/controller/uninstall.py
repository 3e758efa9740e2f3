"""What `helm uninstall` runs before the chart goes, so that nothing stays on the nodes or in the cluster.

``stop`` deletes the operator, the agents and the engines, and waits until their pods are gone: an agent would
put back what is taken away. The chart's cleanup DaemonSet then undoes every node. ``finish`` waits for that
and deletes the Dataplanes, the label on Nodes and the Leases. Nodes that are not Ready are not waited for.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiohttp
import structlog

from ..api.base import JsonObject
from ..api.gtpu_report import FLOATING_LABEL
from ..kube import Access, AccessError, ApiAccess, ApiError
from .facts import COMPONENT_LABEL, PROFILE_LABEL
from .state import DATAPLANES

__all__ = ["UninstallError", "finish", "main", "stop"]

_POLL_S = 1.0

_log = structlog.get_logger(__name__)


class UninstallError(Exception):
    """The nodes could not be cleaned in time; the text names them and the remedy."""


async def stop(api: ApiAccess, release: str, fullname: str, seconds: float) -> None:
    """Delete operator, agents and engines and wait for the end of their pods on nodes that are Ready.

    Raises:
        UninstallError: pods are still there after `seconds`.
    """
    apps = f"/apis/apps/v1/namespaces/{api.access.namespace}"
    await _delete(api, f"{apps}/deployments/{fullname}")
    selector = _selector(release, ("agent", "engine"))
    for daemonset in (await api.read(f"{apps}/daemonsets", params={"labelSelector": selector}))["items"]:
        await _delete(api, f"{apps}/daemonsets/{daemonset['metadata']['name']}")
    deadline = time.monotonic() + seconds
    while left := await _pods_left(api, release):
        if time.monotonic() > deadline:
            raise UninstallError(
                f"these pods have not ended in {seconds:g} s: {', '.join(left[:8])}. Look at them, then run "
                "helm uninstall again."
            )
        await asyncio.sleep(_POLL_S)


async def finish(api: ApiAccess, release: str, fullname: str, seconds: float) -> None:
    """Wait until every Ready node is clean, then delete what is left in the cluster.

    Raises:
        UninstallError: nodes are not clean after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while left := await _nodes_left(api, release):
        if time.monotonic() > deadline:
            raise UninstallError(
                f"these nodes are not clean after {seconds:g} s: {', '.join(left[:8])}. Look at the pods of "
                f"DaemonSet {fullname}-cleanup there, then run helm uninstall again."
            )
        await asyncio.sleep(_POLL_S)
    for dataplane in (await api.read(DATAPLANES))["items"]:
        await _delete(api, f"{DATAPLANES}/{dataplane['metadata']['name']}")
    for node in await _nodes(api, label_selector=PROFILE_LABEL):
        await api.request(
            "PATCH",
            f"/api/v1/nodes/{node['metadata']['name']}",
            body={"metadata": {"labels": {PROFILE_LABEL: None}}},
            content_type="application/merge-patch+json",
        )
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.access.namespace}/leases"
    await _delete(api, f"{leases}/{fullname}")
    for lease in (await api.read(leases, params={"labelSelector": FLOATING_LABEL}))["items"]:
        await _delete(api, f"{leases}/{lease['metadata']['name']}")


def _selector(release: str, components: Iterable[str]) -> str:
    return f"app.kubernetes.io/instance={release},{COMPONENT_LABEL} in ({','.join(components)})"


async def _delete(api: ApiAccess, path: str) -> None:
    try:
        await api.request("DELETE", path, params={"propagationPolicy": "Background"})
    except ApiError as error:
        # Not there, or its kind is not: a second run, or another way of installing the definitions.
        if error.status != 404:
            raise


async def _nodes(api: ApiAccess, *, label_selector: str = "") -> list[JsonObject]:
    params = {"labelSelector": label_selector} if label_selector else None
    items: list[JsonObject] = (await api.read("/api/v1/nodes", params=params))["items"]
    return items


async def _ready_nodes(api: ApiAccess) -> set[str]:
    linux = await _nodes(api, label_selector="kubernetes.io/os=linux")
    return {node["metadata"]["name"] for node in linux if _true(node, "Ready")}


async def _pods(api: ApiAccess, release: str, components: Iterable[str]) -> list[JsonObject]:
    path = f"/api/v1/namespaces/{api.access.namespace}/pods"
    items: list[JsonObject] = (
        await api.read(path, params={"labelSelector": _selector(release, components)})
    )["items"]
    return items


async def _pods_left(api: ApiAccess, release: str) -> list[str]:
    ready = await _ready_nodes(api)
    pods = await _pods(api, release, ("operator", "agent", "engine"))
    return sorted(pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") in ready)


async def _nodes_left(api: ApiAccess, release: str) -> list[str]:
    clean = {
        pod["spec"].get("nodeName") for pod in await _pods(api, release, ("cleanup",)) if _true(pod, "Ready")
    }
    return sorted(await _ready_nodes(api) - clean)


def _true(obj: JsonObject, kind: str) -> bool:
    conditions: Any = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


async def _run(step: str, environ: Mapping[str, str]) -> None:
    access = Access.from_environment(environ)
    release = environ.get("RELEASE") or "vpp-operator"
    fullname = environ.get("RELEASE_FULLNAME") or release
    seconds = float(environ.get("TIMEOUT_SECONDS") or 180)
    async with ApiAccess(access, user_agent="vpp-operator-uninstall") as api:
        await (stop if step == "stop" else finish)(api, release, fullname, seconds)


def main(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Run the step named by the one argument: stop or finish. Return the exit status."""
    if list(arguments) not in (["stop"], ["finish"]):
        print("vpp-operator uninstall: give one step, stop or finish", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(arguments[0], os.environ if environ is None else environ))
    except (AccessError, ApiError, UninstallError, aiohttp.ClientError, OSError) as error:
        print(f"vpp-operator uninstall {arguments[0]}: {error}", file=sys.stderr)
        return 1
    _log.info("done", step=arguments[0])
    return 0
