"""Which GTP-U addresses and UE pools can be brought onto this node. Pure.

What cannot is left out and named, with the remedy; the rest of the spec is not disturbed. A pool in the wrong
place would take away what the node itself reaches, so all that the node's own routes lead to is protected.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vpp_operator.node.spec import GTPU_PORT, Finding, GtpuSteer, IpAddress, IpNetwork, NodeSpec

__all__ = ["NOTHING_ACCEPTED", "Accepted", "Ground", "accept", "listener_findings"]


@dataclass(frozen=True, slots=True)
class Ground:
    """What the node reaches by itself: its addresses and the routes of its main table."""

    local: Mapping[IpAddress, str] = field(default_factory=dict)
    """Addresses of the node and their interfaces."""
    connected: Mapping[IpNetwork, str] = field(default_factory=dict)
    """On-link networks and their interfaces."""
    routed: frozenset[IpNetwork] = frozenset()
    """Destinations by way of a gateway, the default route left out."""
    gateways: frozenset[IpAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What of a spec's GTP-U fields is brought onto the node, and what is not."""

    local: tuple[IpAddress, ...] = ()
    """Addresses of the node: UDP 2152 to them is marked."""
    own: tuple[tuple[IpAddress, str], ...] = ()
    """Addresses of endpoints' own, with the interface they are announced on; empty: no network of the node
    holds the address, others route it here."""
    pools: tuple[IpNetwork, ...] = ()
    refused: tuple[Finding, ...] = ()


NOTHING_ACCEPTED = Accepted()


def accept(spec: NodeSpec, ground: Ground) -> Accepted:
    """Return what of ``spec.gtpu`` and ``spec.ue_pools`` is possible on this ground, in the spec's order."""
    local: list[IpAddress] = []
    own: list[tuple[IpAddress, str]] = []
    pools: list[IpNetwork] = []
    refused: list[Finding] = []
    seen: dict[IpAddress, bool] = {}
    for steer in spec.gtpu:
        if seen.get(steer.address) == steer.own:
            continue
        wrong = _wrong_address(steer, spec, ground, seen)
        if wrong is not None:
            refused.append(wrong)
            continue
        seen[steer.address] = steer.own
        if steer.own:
            own.append((steer.address, _interface(steer.address, ground)))
        else:
            local.append(steer.address)
    for pool in dict.fromkeys(spec.ue_pools):
        wrong = _wrong_pool(pool, spec, ground, seen)
        if wrong is None:
            pools.append(pool)
        else:
            refused.append(wrong)
    return Accepted(tuple(local), tuple(own), tuple(pools), tuple(refused))


def _finding(reason: str, subject: object, message: str, remedy: str) -> Finding:
    return Finding("Degraded", reason, f"{subject} {message}", remedy, str(subject))


def _interface(address: IpAddress, ground: Ground) -> str:
    """Return the interface of the longest on-link network that holds the address; empty for none."""
    holding = [n for n in ground.connected if n.version == address.version and address in n]
    return ground.connected[max(holding, key=lambda n: n.prefixlen)] if holding else ""


def _not_served(family: int, spec: NodeSpec, subject: object) -> Finding | None:
    if spec.source(family) is not None:
        return None
    message = f"cannot be reached: the node has no IPv{family} address"
    return _finding("Unsupported", subject, message, "choose nodes with addresses of that family")


def _wrong_address(
    steer: GtpuSteer, spec: NodeSpec, ground: Ground, seen: Mapping[IpAddress, bool]
) -> Finding | None:
    address = steer.address
    if address in seen:
        message = "is given both as the node's address and as an endpoint's own"
        return _finding("Conflict", address, message, "use one mode for all endpoints of an address")
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        return _finding("Invalid", address, "is no address that peers reach", "give a unicast address")
    if missing := _not_served(address.version, spec, address):
        return missing
    if not steer.own:
        if address in ground.local:
            return None
        message = "is on no interface of this node"
        remedy = "add the address to the node, select the nodes that have it, or let it float"
        return _finding("Invalid", address, message, remedy)
    if address in ground.local:
        message = f"is the node's address on {ground.local[address]}, so it cannot be an endpoint's own"
        return _finding("Conflict", address, message, "use the mode NodeAddress, or an address of its own")
    if address in ground.gateways:
        return _finding("Conflict", address, "is a gateway of the node", "give an unused address")
    if (alone := ipaddress.ip_network(address)) in ground.connected:
        message = f"is reached through {ground.connected[alone]} already"
        return _finding("Conflict", address, message, "give an unused address")
    for what, networks in (("pod", spec.pod_cidrs), ("service", spec.service_cidrs)):
        for network in networks:
            if network.version == address.version and address in network:
                return _finding(
                    "Conflict", address, f"lies within the {what} range {network}", "give an unused address"
                )
    return None


def _overlaps(pool: IpNetwork, others: Iterable[IpNetwork]) -> Iterator[IpNetwork]:
    return (n for n in others if n.version == pool.version and pool.overlaps(n))


def _wrong_pool(
    pool: IpNetwork, spec: NodeSpec, ground: Ground, endpoints: Mapping[IpAddress, bool]
) -> Finding | None:
    if missing := _not_served(pool.version, spec, pool):
        return missing
    if pool.is_loopback or pool.is_multicast or pool.is_link_local:
        return _finding("Invalid", pool, "holds no addresses of user equipment", "give a unicast prefix")
    addresses = {
        **dict.fromkeys((*ground.local, *spec.addresses), "the node's address"),
        **dict.fromkeys(ground.gateways, "the node's gateway"),
        **dict.fromkeys(endpoints, "the GTP-U address"),
    }
    for address, what in addresses.items():
        if address.version == pool.version and address in pool:
            return _finding("Conflict", pool, f"holds {what} {address}", "give a prefix of its own")
    for what, networks in (
        ("pod range", spec.pod_cidrs),
        ("service range", spec.service_cidrs),
        ("node's network", ground.connected),
    ):
        for network in _overlaps(pool, networks):
            return _finding("Conflict", pool, f"overlaps the {what} {network}", "give a prefix of its own")
    for network in _overlaps(pool, ground.routed):
        # A narrower pool within a wide route is usual (10.45.0.0/16 within 10.0.0.0/8).
        if network.prefixlen >= pool.prefixlen:
            message = f"holds {network}, which the node routes elsewhere"
            return _finding("Conflict", pool, message, "give a prefix of its own, or remove that route")
    return None


def listener_findings(
    accepted: Accepted, listeners: Iterable[tuple[IpAddress, int]], proxy_nd: bool
) -> list[Finding]:
    """Return what stands in the way of accepted addresses on the host itself.

    ``listeners``: address and port of the host's UDP sockets that wait for anybody; ``proxy_nd``: whether the
    host answers for IPv6 addresses of others.
    """
    findings = []
    bound = [address for address, port in listeners if port == GTPU_PORT]
    for address in accepted.local:
        if any(b == address or (b.is_unspecified and b.version >= address.version) for b in bound):
            message = f": a process of the node listens on UDP {GTPU_PORT}; its packets go to the dataplane"
            remedy = "stop that process (another user plane function?), or give the endpoint another address"
            findings.append(_finding("PreflightFailed", address, message, remedy))
    for address, interface in accepted.own:
        if address.version == 6 and interface and not proxy_nd:
            message = "is not answered for: net.ipv6.conf.all.proxy_ndp is 0"
            remedy = "set it on the node, or leave the chart's hostSettings.apply on"
            found = Finding(
                "HostSettingsOK", "HostSettingDiffers", f"{address} {message}", remedy, str(address)
            )
            findings.append(found)
    return findings
