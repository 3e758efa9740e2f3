"""What the agent looks at on its node from time to time."""

from __future__ import annotations

from typing import Protocol

from vpp_operator.api.conditions import ConditionType
from vpp_operator.api.dataplane import AttachMode
from vpp_operator.node.preflight import attach_mode, check
from vpp_operator.node.spec import Finding, NodeSpec

__all__ = ["NodeChecks", "PreflightChecks"]


_MODES = {
    "routed": AttachMode.ROUTED,
    "isolated": AttachMode.ISOLATED_BRIDGE,
    "bridge": AttachMode.TRANSLATED_BRIDGE,
}


class NodeChecks(Protocol):
    """What is looked at on the node from time to time. Both calls block."""

    def findings(self, spec: NodeSpec) -> list[Finding]:
        """Return what hinders or limits the dataplane."""
        ...

    def attach_mode(self, spec: NodeSpec) -> AttachMode | None:
        """Return how the node's pods are connected; None: not known."""
        ...


class PreflightChecks:
    """The node package's checks. Both calls block.

    ``beside_other_proxy``: another service proxy is meant to run here, for the Services that are not ours.
    """

    def __init__(self, beside_other_proxy: bool = False) -> None:
        self._expected = {ConditionType.OTHER_PROXY_PRESENT} if beside_other_proxy else set()

    def findings(self, spec: NodeSpec) -> list[Finding]:
        """Return what hinders or limits the dataplane."""
        return [finding for finding in check(spec) if finding.condition not in self._expected]

    def attach_mode(self, spec: NodeSpec) -> AttachMode | None:
        """Return how the node's pods are connected; None: not known."""
        return _MODES.get(attach_mode(spec.pod_cidrs))
