"""The operator's view of the cluster, kept up to date by events and by lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..api.base import GROUP, VERSION, JsonObject
from ..api.tuning import DataplaneTuning
from .facts import (
    DaemonSetFacts,
    DataplaneFacts,
    NodeFacts,
    PodFacts,
    decode_daemonset,
    decode_node,
    decode_pod,
    decode_tuning,
)

__all__ = ["DATAPLANES", "KINDS", "TUNINGS", "ClusterState", "Followed"]

DATAPLANES = f"/apis/{GROUP}/{VERSION}/dataplanes"
TUNINGS = f"/apis/{GROUP}/{VERSION}/dataplanetunings"


@dataclass(frozen=True, slots=True)
class Followed:
    """A kind that is followed by events: where to list it, and how to read one."""

    path: str
    """Path of the collection; ``{namespace}`` stands for the operator's own."""
    ours_only: bool
    """Whether only the objects of this release are listed, by their labels."""
    decode: Callable[[JsonObject], Any]


KINDS = {
    "Node": Followed("/api/v1/nodes", False, decode_node),
    "DataplaneTuning": Followed(TUNINGS, False, decode_tuning),
    "DaemonSet": Followed("/apis/apps/v1/namespaces/{namespace}/daemonsets", True, decode_daemonset),
    "Pod": Followed("/api/v1/namespaces/{namespace}/pods", True, decode_pod),
}


@dataclass(slots=True)
class ClusterState:
    """Objects by name. `dataplanes` is complete once `dataplanes_listed` is true."""

    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    tunings: dict[str, DataplaneTuning] = field(default_factory=dict)
    daemonsets: dict[str, DaemonSetFacts] = field(default_factory=dict)
    pods: dict[str, PodFacts] = field(default_factory=dict)
    dataplanes: dict[str, DataplaneFacts] = field(default_factory=dict)
    dataplanes_listed: bool = False

    def of(self, kind: str) -> dict[str, Any]:
        """Return the objects of a kind of `KINDS`."""
        objects: dict[str, dict[str, Any]] = {
            "Node": self.nodes,
            "DataplaneTuning": self.tunings,
            "DaemonSet": self.daemonsets,
            "Pod": self.pods,
        }
        return objects[kind]

    def agent_ready(self, node: str) -> bool:
        """Whether an agent's pod on the node is Ready."""
        return any(p.node == node and p.component == "agent" and p.ready for p in self.pods.values())
