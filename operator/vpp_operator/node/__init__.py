"""Joining the dataplane to the node's network: link, routes, rules, packet marks; with a journal to undo it
all.

All functions here block (netlink, ``nft``); from asyncio: :func:`asyncio.to_thread`, one call at a time::

    network = NodeNetwork()                        # works in the network namespace it is called in
    await asyncio.to_thread(network.apply, spec)   # spec: NodeSpec; returns Applied(steps), () if nothing was
    to do await asyncio.to_thread(network.apply, spec, verify=True)  # every few minutes: read back, mend what
    differs await asyncio.to_thread(network.check, spec)   # list[Finding]: what differs from spec, without
    touching it await asyncio.to_thread(network.undo)          # the Dataplane was deleted or the node
    deselected await asyncio.to_thread(attach_mode, spec.pod_cidrs)       # AttachMode.ROUTED, BRIDGE or
    UNKNOWN await asyncio.to_thread(preflight.check, spec)             # list[Finding(condition, reason,
    message, remedy)]

``apply`` is incremental: a change of one endpoint is one small nftables transaction; a second apply does
nothing. It raises :class:`NodeSpecError` (nothing touched) or :class:`NodeNetworkError` (the next apply goes
on from what is there). Call it before frontends are programmed and after they are withdrawn: an entry too
many costs a detour, never a packet. What leaves ``endpoints``, ``node_ports`` or ``external`` keeps being
taken in for a day, because established flows outlive it; the kernel then drops the entry itself. SIGTERM and
crashes leave everything in place on purpose.

Commands: ``cleanup.main(argv)`` (``vpp-operator node cleanup``), ``preflight.main(argv)`` (``vpp-operator
preflight``), ``hostsettings.main(argv)`` (the privileged init container), ``show.main(argv)`` (``vpp-operator
node show``).
"""

from __future__ import annotations

from vpp_operator.node.network import Applied, NodeNetwork, NodeNetworkError
from vpp_operator.node.spec import (
    DEFAULT_SNAT_RANGES,
    Finding,
    GtpuSteer,
    NodePort,
    NodeSpec,
    NodeSpecError,
    Target,
)

__all__ = [
    "DEFAULT_SNAT_RANGES",
    "Applied",
    "Finding",
    "GtpuSteer",
    "NodeNetwork",
    "NodeNetworkError",
    "NodePort",
    "NodeSpec",
    "NodeSpecError",
    "Target",
]
