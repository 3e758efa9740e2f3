"""Nodes x DataplaneTunings -> what each node's Dataplane says. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..api.base import API_VERSION, JsonObject
from ..api.dataplane import DataplaneSpec, ReportStep
from ..api.resolve import Resolution, resolve
from ..api.tuning import DataplaneTuning, Engine, Hugepages
from .facts import DaemonSetFacts, NodeFacts

__all__ = [
    "DEFAULT_PROFILE",
    "NodePlan",
    "dataplane_object",
    "node_plan",
    "quantity_bytes",
    "report_step",
    "selected",
]

DEFAULT_PROFILE = "default"

# Up to these numbers of nodes; going back needs a tenth less, so that one node more or less rewrites nothing.
_STEPS = ((500, ReportStep.SMALL), (1500, ReportStep.MEDIUM))
_BACK = 0.9


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What one node gets."""

    node: NodeFacts
    resolution: Resolution
    profile: str
    missing_profile: str
    """What no profile of the chart offers, for the tuning's condition; empty if all is there."""

    @property
    def spec(self) -> DataplaneSpec:
        """Spec of the node's Dataplane."""
        return self.resolution.spec


def selected(node: NodeFacts, selector: Mapping[str, str] | None) -> bool:
    """Whether the node is to have a dataplane: its labels match and it is not being deleted."""
    if node.deleting or node.labels.get("kubernetes.io/os", "linux") != "linux":
        return False
    return all(node.labels.get(key) == value for key, value in (selector or {}).items())


def report_step(nodes: int, current: ReportStep | None) -> ReportStep:
    """Return the seconds between two reports of figures for this number of nodes (at most 50 writes/s)."""
    for limit, step in _STEPS:
        if nodes < (limit * _BACK if current is not None and current > step else limit):
            return step
    return ReportStep.LARGE


def node_plan(
    node: NodeFacts,
    tunings: Iterable[DataplaneTuning],
    *,
    engine: Engine,
    step: ReportStep,
    daemonsets: Iterable[DaemonSetFacts],
) -> NodePlan:
    """Resolve the tunings for one node and choose its profile."""
    base = DataplaneSpec(engine=engine, pod_cidrs=_prefixes(node.pod_cidrs), report_step_seconds=step)
    resolution = resolve(tunings, node.labels, base)
    profile, missing = _profile(resolution.spec.tuning.runtime.hugepages, daemonsets)
    return NodePlan(node, resolution, profile, missing)


def dataplane_object(plan: NodePlan) -> JsonObject:
    """Return the Dataplane to apply: owned by its Node, so that it goes with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Dataplane",
        "metadata": {
            "name": plan.node.name,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": plan.node.name, "uid": plan.node.uid}
            ],
        },
        "spec": plan.spec.to_json(),
    }


def _prefixes(texts: Iterable[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))


def _profile(hugepages: Hugepages | None, daemonsets: Iterable[DaemonSetFacts]) -> tuple[str, str]:
    """Return the profile that gives the huge pages asked for with the least excess, and what is missing.

    Only what must be in a pod's template makes a profile: huge pages. Everything else the engine reads at its
    start.
    """
    if hugepages is None:
        return DEFAULT_PROFILE, ""
    wanted = hugepages.count * quantity_bytes(hugepages.page_size)
    offers = sorted(
        (quantity_bytes(daemonset.hugepages[hugepages.page_size]), daemonset.profile)
        for daemonset in daemonsets
        if daemonset.component == "engine" and hugepages.page_size in daemonset.hugepages
    )
    for size, profile in offers:
        if size >= wanted:
            return profile, ""
    return DEFAULT_PROFILE, (
        f"runtime.hugepages: no engine DaemonSet requests {hugepages.count} huge pages of "
        f"{hugepages.page_size}; the engine runs on ordinary pages. Add a profile that requests them to the "
        "chart, or remove the setting."
    )


_UNITS = {
    "": 1,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T|)")


def quantity_bytes(text: str) -> int:
    """Return a resource.Quantity of memory in bytes. Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity of memory, as in 512Mi")
    return int(float(found[1]) * _UNITS[found[2]])
