"""Joining the dataplane to the node's network: link, routes, rules, packet marks; with a journal to undo it
all.

All functions here block (netlink, ``nft``); from asyncio: :func:`asyncio.to_thread`, one call at a time.
``network = NodeNetwork()`` works in the network namespace it is called in.

============================  =======================================================================
``network.apply(spec)``       bring the node to a NodeSpec; returns Applied(steps, refused)
``apply(spec, verify=True)``  every few minutes: read back, mend what differs
``network.check(spec)``       list of Findings: what differs from spec, without touching it
``network.ask()``             ask the neighbours for own addresses that an apply left open (``ask_in``)
``network.announce(spec)``    tell neighbours once more where GTP-U addresses of their own are
``network.withdraw(addrs)``   let go of such addresses at once, whatever else is known
``network.undo()``            the Dataplane was deleted or the node deselected
``preflight.check(spec)``     list of Finding(condition, reason, message, remedy, subject)
``preflight.attach_mode``     how pods are connected: routed, bridge, isolated or unknown
============================  =======================================================================

``apply`` is incremental: a change of one endpoint is one small nftables transaction; a second apply does
nothing. It raises :class:`NodeSpecError` (nothing touched) or :class:`NodeNetworkError` (the next apply goes
on from what is there). GTP-U addresses and UE pools that cannot be on this node are left out and returned in
``refused``. Call it before frontends are programmed and after they are withdrawn: an entry too many costs a
detour, never a packet. What leaves ``endpoints``, ``node_ports`` or ``external`` keeps being taken in for a
day, because established flows outlive it; the kernel then drops the entry itself. What leaves ``gtpu`` or
``ue_pools`` is the node's again at once. SIGTERM and crashes leave everything in place on purpose.

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
