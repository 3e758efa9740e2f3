"""What the agent looks at on its node from time to time."""

from __future__ import annotations

from vpp_operator.api.dataplane import AttachMode
from vpp_operator.node.preflight import attach_mode, check
from vpp_operator.node.spec import Finding, NodeSpec

__all__ = ["PreflightChecks"]


class PreflightChecks:
    """The node package's checks. Both calls block."""

    def findings(self, spec: NodeSpec) -> list[Finding]:
        """Return what hinders or limits the dataplane."""
        return list(check(spec))

    def attach_mode(self, spec: NodeSpec) -> AttachMode | None:
        """Return how the node's pods are connected; None: not known."""
        return AttachMode.ROUTED if attach_mode(spec.pod_cidrs) == "routed" else None
