"""Which pod of an engine or agent DaemonSet is to be deleted next, if any. Pure.

The DaemonSets have updateStrategy OnDelete, so that one hand decides across all of them: node by node, on a
node the agent before the engine, one pod at a time. Nothing is deleted while a node that already has the new
pods is not Ready with all of them: the rollout stops at the first node that does not come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .facts import DaemonSetFacts, DataplaneFacts, NodeFacts, PodFacts

__all__ = ["Decision", "outdated", "plan_rollout"]

_ORDER = ("agent", "engine")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    delete: PodFacts | None
    """The pod to delete; None if there is nothing to do, or if something must come back first."""
    waiting_for: tuple[str, ...]
    """Nodes that are not Ready with their new pods."""
    outdated: int
    """Pods that are still to be replaced."""
    reason: str = ""
    """Why the pod is replaced."""


def outdated(pod: PodFacts, daemonset: DaemonSetFacts) -> bool:
    """Whether the pod is another than its DaemonSet asks for now.

    An engine's init container does not count: it comes with the agent's image, and an upgrade of the agent
    must not touch the engine.
    """
    if pod.containers != daemonset.containers:
        return True
    if daemonset.component != "engine" and pod.init_containers != daemonset.init_containers:
        return True
    return any(pod.annotations.get(key) != value for key, value in daemonset.annotations.items())


def plan_rollout(
    nodes: Mapping[str, NodeFacts],
    daemonsets: Iterable[DaemonSetFacts],
    pods: Iterable[PodFacts],
    dataplanes: Mapping[str, DataplaneFacts],
    restarted: Mapping[str, int],
) -> Decision:
    """Decide from what is there.

    `restarted`: node -> generation of its Dataplane for which the engine was restarted already, so that an
    engine that cannot take a setting is not restarted again and again for it.
    """
    by_name = {daemonset.name: daemonset for daemonset in daemonsets}
    by_node: dict[str, list[PodFacts]] = {}
    for pod in pods:
        if pod.owner in by_name and pod.node in nodes:
            by_node.setdefault(pod.node, []).append(pod)
    needed = {daemonset.component for daemonset in by_name.values()}
    candidates: list[tuple[PodFacts, str]] = []
    waiting: list[str] = []
    for node in sorted(by_node):
        reasons = {
            pod.name: _reason(pod, by_name[pod.owner], dataplanes.get(node), restarted.get(node))
            for pod in by_node[node]
        }
        present = {pod.component for pod in by_node[node] if not pod.deleting}
        missing = needed - present
        broken_new = any(not reasons[pod.name] and (pod.deleting or not pod.ready) for pod in by_node[node])
        going = any(pod.deleting for pod in by_node[node])
        if missing or broken_new or going:
            waiting.append(node)
        if going or not nodes[node].ready:
            # A pod on a dead node would stay Terminating; it is replaced when the node is back.
            continue
        candidates += [(pod, reasons[pod.name]) for pod in by_node[node] if reasons[pod.name]]
    # What does not work already is mended first, also on a node that others wait for.
    candidates.sort(key=lambda item: (item[0].ready, item[0].node, _ORDER.index(item[0].component)))
    if not candidates:
        return Decision(None, tuple(waiting), 0)
    pod, reason = candidates[0]
    if any(node != pod.node for node in waiting) or (pod.node in waiting and pod.ready):
        return Decision(None, tuple(waiting), len(candidates))
    return Decision(pod, tuple(waiting), len(candidates), reason)


def _reason(
    pod: PodFacts, daemonset: DaemonSetFacts, dataplane: DataplaneFacts | None, restarted: int | None
) -> str:
    if pod.deleting or pod.component not in _ORDER:
        return ""
    if outdated(pod, daemonset):
        return "its DaemonSet asks for another pod"
    if pod.component != "engine" or dataplane is None or dataplane.status.tuning is None:
        return ""
    waiting = dataplane.status.tuning.pending_restart or ()
    current = dataplane.status.observed_generation == dataplane.generation != restarted
    if waiting and current and dataplane.spec is not None and not dataplane.spec.paused:
        return f"settings wait for a restart: {', '.join(waiting)}"
    return ""
