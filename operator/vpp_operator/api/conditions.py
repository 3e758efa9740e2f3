"""Conditions (metav1.Condition): types, reasons, and the rule for their transition times."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import KubeModel, list_map

__all__ = [
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Conditions",
    "Reason",
    "merge_conditions",
    "rfc3339",
]


class ConditionStatus(StrEnum):
    """Whether the condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """The condition types of this group: a closed list."""

    READY = "Ready"
    """The node forwards packets and everything that was asked for is in effect."""
    PROGRAMMED = "Programmed"
    """The tables of the dataplane equal what the cluster asks for."""
    DEGRADED = "Degraded"
    """Packets flow, but something is missing or slower than it could be."""
    ACCEPTED = "Accepted"
    """The object is valid and in conflict with no other."""
    TUNING_APPLIED = "TuningApplied"
    """Every setting of the tuning is in effect on the nodes it selects."""
    OTHER_PROXY_PRESENT = "OtherProxyPresent"
    """Another service proxy's rules are on the node and would win silently."""
    NETWORK_POLICY_LIMITED = "NetworkPolicyLimited"
    """A policy engine on the node filters before translation: it sees the service address."""
    PORT_POOL_EXHAUSTED = "PortPoolExhausted"
    """New flows were dropped because no source port was left for translation."""
    CAPACITY_EXCEEDED = "CapacityExceeded"
    """A table is full; new entries are refused."""
    HOST_SETTINGS_OK = "HostSettingsOK"
    """The host settings that were asked for are in effect."""
    PREFLIGHT_PASSED = "PreflightPassed"
    """The node has what the dataplane needs."""
    ACTIVE = "Active"
    """A node serves the GTP-U endpoint."""
    PATH_UP = "PathUp"
    """The peers of the tunnel answer Echo Requests."""


class Reason(StrEnum):
    """Reasons of conditions and problems: a closed list, one word each, CamelCase."""

    AS_EXPECTED = "AsExpected"
    ADDRESS_IN_USE = "AddressInUse"
    AGENT_UNREACHABLE = "AgentUnreachable"
    CONFLICT = "Conflict"
    CAPACITY_EXCEEDED = "CapacityExceeded"
    ENGINE_FALLBACK = "EngineFallback"
    ENGINE_INCOMPATIBLE = "EngineIncompatible"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    HOST_SETTING_DIFFERS = "HostSettingDiffers"
    INVALID = "Invalid"
    OTHER_PROXY_RULES = "OtherProxyRules"
    PAUSED = "Paused"
    POD_RANGE_UNKNOWN = "PodRangeUnknown"
    POLICY_BEFORE_TRANSLATION = "PolicyBeforeTranslation"
    PORT_POOL_EXHAUSTED = "PortPoolExhausted"
    PREFLIGHT_FAILED = "PreflightFailed"
    PROBLEMS = "Problems"
    PROGRAMMING = "Programming"
    REJECTED_BY_DATAPLANE = "RejectedByDataplane"
    RESTART_PENDING = "RestartPending"
    SWITCHED_OFF = "SwitchedOff"
    SYNCING = "Syncing"
    UNSUPPORTED = "Unsupported"
    NO_NODES_MATCH = "NoNodesMatch"
    NODE_NETWORK_FAILED = "NodeNetworkFailed"
    ECHO_OFF = "EchoOff"
    ENDPOINT_NOT_ACCEPTED = "EndpointNotAccepted"
    ENDPOINT_NOT_FOUND = "EndpointNotFound"
    FAMILY_MISMATCH = "FamilyMismatch"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    NO_ECHO_REPLY = "NoEchoReply"
    NO_NODE_HAS_ADDRESS = "NoNodeHasAddress"
    NOT_ACTIVE = "NotActive"
    OUTSIDE_POOLS = "OutsidePools"
    OUTSIDE_TEID_RANGE = "OutsideTeidRange"
    OVERLAPS_CLUSTER_RANGE = "OverlapsClusterRange"


class Condition(KubeModel):
    """One condition, as metav1.Condition."""

    type: str = Field(max_length=316, pattern=r"^[A-Za-z][A-Za-z0-9./-]*$")
    """Type of the condition, as in Ready."""

    status: ConditionStatus
    """Whether it holds: True, False or Unknown."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the object that the condition speaks of."""

    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})
    """Time of the last change of the status (RFC 3339)."""

    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    """Cause of the last change, one CamelCase word."""

    message: str = Field(max_length=32768)
    """The cause in words, and the remedy."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32, json_schema_extra=list_map("type"))]
"""The conditions of an object, one per type."""


def rfc3339(moment: datetime) -> str:
    """Return an aware ``moment`` as the API server writes times: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge_conditions(existing: Iterable[Condition], wanted: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return ``wanted`` with the transition times of ``existing`` where the status did not change.

    Types that are only in ``existing`` go. The result is sorted by type, so that equal content is equal
    whatever order it was made in, and an unchanged status needs no write.
    """
    before = {condition.type: condition for condition in existing}
    merged = []
    for condition in wanted:
        old = before.get(condition.type)
        if old is not None and old.status == condition.status:
            condition = condition.model_copy(update={"last_transition_time": old.last_transition_time})
        merged.append(condition)
    return tuple(sorted(merged, key=lambda condition: condition.type))
