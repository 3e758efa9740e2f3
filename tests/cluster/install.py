"""The chart on a cluster: install or upgrade, wait until everything is Ready, say what is wrong when it is
not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster import parts, vpp
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, run

NAMESPACE = "vpp-operator"
RELEASE = "vpp-operator"
Kubectl = Callable[..., str]


def helm(kubeconfig: Path, *words: str) -> str:
    """Run helm on the cluster; returns its output."""
    parts.ensure(["helm"])
    environment = dict(os.environ, KUBECONFIG=str(kubeconfig))
    return run([parts.binary("helm"), *words], env=environment, timeout=600)


def install(kubeconfig: Path, *settings: str) -> None:
    """Install the chart, or upgrade what is installed; ``settings`` are helm's --set values."""
    words = ["upgrade", "--install", RELEASE, str(REPOSITORY / "charts" / "vpp-operator")]
    # Without it an upgrade that names no values keeps those of the release before.
    words += ["--namespace", NAMESPACE, "--create-namespace", "--reset-values"]
    for setting in (*engine_settings(), *settings):
        words += ["--set", setting]
    helm(kubeconfig, *words)


def engine_settings() -> list[str]:
    """Chart values that choose the engine: VPP_OPERATOR_E2E_ENGINE, else the chart's default; and the image
    with VPP, if this machine has a VPP to make it of."""
    engine = os.environ.get("VPP_OPERATOR_E2E_ENGINE")
    chosen = [f"engine={engine}"] if engine else []
    return [*chosen, "images.vpp.repository=vpp-operator/vpp"] if vpp.prefix() else chosen


def uninstall(kubeconfig: Path) -> None:
    """Uninstall the chart and wait until its cleaning of the nodes is done."""
    helm(kubeconfig, "uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def wait_ready(kubectl: Kubectl, nodes: int, seconds: float = 180) -> None:
    """Wait until every pod of the release and every node's Dataplane is Ready."""
    end = time.monotonic() + seconds
    while problem := readiness_problem(kubectl, nodes):
        if time.monotonic() > end:
            raise ClusterError(f"not Ready after {seconds:.0f} s: {problem}\n{diagnosis(kubectl)}")
        time.sleep(1)


def readiness_problem(kubectl: Kubectl, nodes: int) -> str:
    """What is not Ready yet, "" if everything is."""
    pods = items(kubectl, "pods", "--namespace", NAMESPACE)
    waiting = [pod["metadata"]["name"] for pod in pods if not _ready(pod)]
    components = {pod["metadata"]["labels"].get("app.kubernetes.io/component") for pod in pods}
    missing = {"operator", "engine", "agent"} - components
    if missing:
        return f"no pod yet of {', '.join(sorted(missing))}"
    if waiting:
        return f"pods {', '.join(waiting)}"
    dataplanes = items(kubectl, "dataplanes")
    if len(dataplanes) < nodes:
        return f"{len(dataplanes)} of {nodes} Dataplanes are there"
    waiting = [dataplane["metadata"]["name"] for dataplane in dataplanes if not _ready(dataplane)]
    return f"Dataplanes {', '.join(waiting)}" if waiting else ""


def diagnosis(kubectl: Kubectl) -> str:
    """What a person would look at first: pods, warnings, conditions, the last lines of what is not Ready."""
    texts = [_try(kubectl, "get", "pods", "--namespace", NAMESPACE, "-o", "wide")]
    events = [
        "get",
        "events",
        "--namespace",
        NAMESPACE,
        "--field-selector=type=Warning",
        "--sort-by=.lastTimestamp",
    ]
    texts.append("\n".join(_try(kubectl, *events).splitlines()[-15:]))
    try:
        for dataplane in items(kubectl, "dataplanes"):
            for condition in dataplane.get("status", {}).get("conditions", ()):
                name, kind = dataplane["metadata"]["name"], condition["type"]
                said = f"{condition.get('reason', '')}: {condition.get('message', '')}"
                texts.append(f"Dataplane {name}: {kind}={condition['status']} {said}")
        for pod in items(kubectl, "pods", "--namespace", NAMESPACE):
            if not _ready(pod):
                texts += _last_words(kubectl, pod)
    except ClusterError as error:
        texts.append(str(error))
    return "\n".join(text for text in texts if text)


def items(kubectl: Kubectl, kind: str, *options: str) -> list[dict[str, Any]]:
    """Objects of a kind."""
    listed: list[dict[str, Any]] = json.loads(kubectl("get", kind, *options, "-o", "json"))["items"]
    return listed


def _ready(item: dict[str, Any]) -> bool:
    if item["metadata"].get("deletionTimestamp"):
        return False
    conditions = item.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _last_words(kubectl: Kubectl, pod: dict[str, Any]) -> list[str]:
    name = pod["metadata"]["name"]
    texts = []
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        state = container.get("state", {})
        begun = container.get("restartCount") or "waiting" not in state
        if not begun or (container.get("ready") and "running" in state):
            continue
        texts.append(f"--- {name}/{container['name']}: {json.dumps(state)}")
        logs = ["logs", "--namespace", NAMESPACE, name, "--container", container["name"], "--tail=15"]
        # A container that restarts at once may have no output yet; then its predecessor's tells.
        texts.append(_try(kubectl, *logs, *(["--previous"] if "running" in state else [])))
    return texts


def _try(kubectl: Kubectl, *words: str) -> str:
    try:
        return kubectl(*words)
    except ClusterError as error:
        return str(error)
