"""What the operator keeps of each object it follows: records decoded from the API server's JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..api.base import JsonObject
from ..api.conditions import Condition
from ..api.dataplane import DataplaneSpec, DataplaneStatus
from ..api.tuning import DataplaneTuning

__all__ = [
    "COMPONENT_LABEL",
    "PROFILE_LABEL",
    "DaemonSetFacts",
    "DataplaneFacts",
    "NodeFacts",
    "PodFacts",
    "decode_daemonset",
    "decode_dataplane",
    "decode_node",
    "decode_pod",
    "decode_tuning",
]

PROFILE_LABEL = "vpp-operator.dev/profile"
COMPONENT_LABEL = "app.kubernetes.io/component"

# What makes a container another one. Probes and pull policies may change without a restart.
_CONTAINER_FIELDS = ("image", "command", "args", "env", "resources", "securityContext")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A Node: prefixes of its pods (both families), and whether its kubelet reports it Ready."""

    name: str
    uid: str
    labels: Mapping[str, str]
    pod_cidrs: tuple[str, ...]
    ready: bool
    deleting: bool
    addresses: tuple[str, ...] = ()
    """InternalIPs."""


@dataclass(frozen=True, slots=True)
class DaemonSetFacts:
    """One of the chart's DaemonSets: its component (engine, agent), profile and containers."""

    name: str
    component: str
    profile: str
    containers: Mapping[str, JsonObject]
    init_containers: Mapping[str, JsonObject]
    annotations: Mapping[str, str]
    hugepages: Mapping[str, str]
    """Huge pages that a pod of it gets, by page size: {"2Mi": "512Mi"}."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod of a DaemonSet of the chart."""

    name: str
    uid: str
    component: str
    owner: str
    """Name of its DaemonSet."""
    node: str
    ready: bool
    deleting: bool
    created: str
    containers: Mapping[str, JsonObject]
    init_containers: Mapping[str, JsonObject]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataplaneFacts:
    """A Dataplane; `spec` is None where the stored one cannot be read (then it is written anew)."""

    name: str
    uid: str
    generation: int
    owner_uid: str
    spec: DataplaneSpec | None
    status: DataplaneStatus

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of this type."""
        return next((c for c in self.status.conditions or () if c.type == kind), None)


def _meta(obj: JsonObject) -> JsonObject:
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not meta.get("name"):
        raise ValueError("metadata.name is missing")
    return meta


def _condition_true(obj: JsonObject, kind: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def _containers(spec: JsonObject, field: str) -> dict[str, JsonObject]:
    return {
        container["name"]: {key: container[key] for key in _CONTAINER_FIELDS if container.get(key)}
        for container in spec.get(field) or ()
    }


def decode_node(obj: JsonObject) -> NodeFacts:
    """Read a v1 Node."""
    meta, spec = _meta(obj), obj.get("spec") or {}
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return NodeFacts(
        name=meta["name"],
        uid=meta.get("uid", ""),
        labels=dict(meta.get("labels") or {}),
        pod_cidrs=tuple(cidrs),
        ready=_condition_true(obj, "Ready"),
        deleting="deletionTimestamp" in meta,
        addresses=tuple(
            str(entry.get("address", ""))
            for entry in (obj.get("status") or {}).get("addresses") or ()
            if entry.get("type") == "InternalIP"
        ),
    )


def decode_tuning(obj: JsonObject) -> DataplaneTuning:
    """Read a DataplaneTuning. Raises ValueError (pydantic's) for one that the models refuse."""
    return DataplaneTuning.model_validate(obj)


def decode_daemonset(obj: JsonObject) -> DaemonSetFacts:
    """Read an apps/v1 DaemonSet."""
    meta, template = _meta(obj), obj["spec"]["template"]
    labels = meta.get("labels") or {}
    spec = template.get("spec") or {}
    hugepages: dict[str, str] = {}
    for container in spec.get("containers") or ():
        limits = (container.get("resources") or {}).get("limits") or {}
        for name, quantity in limits.items():
            if name.startswith("hugepages-"):
                hugepages[name.removeprefix("hugepages-")] = str(quantity)
    return DaemonSetFacts(
        name=meta["name"],
        component=labels.get(COMPONENT_LABEL, ""),
        profile=labels.get(PROFILE_LABEL, ""),
        containers=_containers(spec, "containers"),
        init_containers=_containers(spec, "initContainers"),
        annotations=dict((template.get("metadata") or {}).get("annotations") or {}),
        hugepages=hugepages,
    )


def decode_pod(obj: JsonObject) -> PodFacts:
    """Read a v1 Pod."""
    meta, spec = _meta(obj), obj.get("spec") or {}
    owner = next((o["name"] for o in meta.get("ownerReferences") or () if o.get("controller")), "")
    return PodFacts(
        name=meta["name"],
        uid=meta.get("uid", ""),
        component=(meta.get("labels") or {}).get(COMPONENT_LABEL, ""),
        owner=owner,
        node=spec.get("nodeName") or _wanted_node(spec),
        ready=_condition_true(obj, "Ready"),
        deleting="deletionTimestamp" in meta,
        created=meta.get("creationTimestamp") or "",
        containers=_containers(spec, "containers"),
        init_containers=_containers(spec, "initContainers"),
        annotations=dict(meta.get("annotations") or {}),
    )


def _wanted_node(spec: JsonObject) -> str:
    # The DaemonSet controller names the node in an affinity until the scheduler has bound the pod.
    required: Any = spec.get("affinity") or {}
    for key in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        required = required.get(key) or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def decode_dataplane(obj: JsonObject) -> DataplaneFacts:
    """Read a Dataplane; a status that cannot be read counts as none."""
    meta = _meta(obj)
    spec: DataplaneSpec | None
    try:
        spec = DataplaneSpec.model_validate(obj.get("spec") or {})
    except ValueError:
        spec = None
    try:
        status = DataplaneStatus.model_validate(obj.get("status") or {})
    except ValueError:
        status = DataplaneStatus()
    owners = [o for o in meta.get("ownerReferences") or () if o.get("kind") == "Node"]
    return DataplaneFacts(
        name=meta["name"],
        uid=meta.get("uid", ""),
        generation=int(meta.get("generation") or 0),
        owner_uid=owners[0].get("uid", "") if owners else "",
        spec=spec,
        status=status,
    )
