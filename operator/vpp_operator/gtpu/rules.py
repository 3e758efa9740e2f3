"""What makes an endpoint or a tunnel acceptable, and what it then claims for itself alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner
from vpp_operator.api.resolve import matches

from .claims import Claim
from .model import Carrier, Endpoint, IpAddress, IpNetwork, Tunnel, bounds

__all__ = [
    "ACCEPTED",
    "Reserved",
    "Standing",
    "candidate",
    "carrier_claims",
    "carrier_conflict",
    "carrier_fault",
    "endpoint_claims",
    "endpoint_conflict",
    "endpoint_fault",
]


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether an object is accepted; if not, why and what to do. The same on every node."""

    accepted: bool
    reason: Reason
    message: str


ACCEPTED: Final = Standing(True, Reason.AS_EXPECTED, "")


@dataclass(frozen=True, slots=True)
class Reserved:
    """What belongs to the cluster: pod and service ranges, and the addresses of all nodes."""

    ranges: frozenset[IpNetwork] = frozenset()
    nodes: frozenset[IpAddress] = frozenset()


def candidate(endpoint: Endpoint, labels: Mapping[str, str]) -> bool:
    """Whether a node with ``labels`` is one that may serve the endpoint."""
    return matches(endpoint.node_selector, labels)


def _refused(reason: Reason, message: str) -> Standing:
    return Standing(False, reason, message)


def _overlap(network: IpNetwork, others: Iterable[IpNetwork]) -> IpNetwork | None:
    """Return the first (in text order) of ``others`` that overlaps ``network``."""
    found = [other for other in others if other.version == network.version and other.overlaps(network)]
    return min(found, key=str, default=None)


def endpoint_fault(endpoint: Endpoint, reserved: Reserved) -> Standing | None:
    """Return why an endpoint is refused whatever other endpoints there are; None: it is not."""
    for pool in endpoint.pools:
        other = _overlap(pool, reserved.ranges)
        if other is not None:
            return _refused(
                Reason.OVERLAPS_CLUSTER_RANGE,
                f"spec.uePools: {pool} overlaps {other}, a pod or service range of the cluster. "
                "Take a prefix of its own for user equipment.",
            )
        inside = [node for node in reserved.nodes if node.version == pool.version and node in pool]
        if inside:
            return _refused(
                Reason.OVERLAPS_CLUSTER_RANGE,
                f"spec.uePools: {pool} contains {min(inside, key=str)}, the address of a node. "
                "Take a prefix of its own for user equipment.",
            )
    local = _overlap(ipaddress.ip_network(endpoint.address), reserved.ranges)
    if local is not None:
        return _refused(
            Reason.OVERLAPS_CLUSTER_RANGE,
            f"spec.localAddress: {endpoint.address} lies in {local}, a pod or service range of the cluster. "
            "Take an address of the nodes' network.",
        )
    if endpoint.floating and endpoint.address in reserved.nodes:
        return _refused(
            Reason.OVERLAPS_CLUSTER_RANGE,
            f"spec.localAddress: {endpoint.address} is the address of a node. Take one that no node has, or "
            "mode NodeAddress.",
        )
    return None


def endpoint_claims(endpoint: Endpoint) -> tuple[Claim, ...]:
    """Return what an endpoint claims: its address and its pools, in one space per family."""
    address = int(endpoint.address)
    return (
        Claim(endpoint.address.version, address, address),
        *(Claim(pool.version, *bounds(pool)) for pool in endpoint.pools),
    )


def endpoint_conflict(winner: Owner, claim: Claim) -> Standing:
    """Return the standing of an endpoint that overlaps what an older one has."""
    return _refused(
        Reason.CONFLICT,
        f"spec.localAddress, spec.uePools: {_range(claim.space, claim.first, claim.last)} belongs to the "
        f"older GtpuEndpoint {winner.name}. Change it in one of them.",
    )


def carrier_fault(carrier: Carrier, endpoint: Endpoint | None, standing: Standing | None) -> Standing | None:
    """Return why a tunnel or set is refused whatever other tunnels there are; None: it is not.

    ``endpoint`` is the one that it names (None: there is none), ``standing`` that endpoint's.
    """
    name = carrier.endpoint
    if endpoint is None:
        return _refused(
            Reason.ENDPOINT_NOT_FOUND,
            f"spec.endpointRef.name: there is no GtpuEndpoint {name}. Create it, or name another.",
        )
    if not endpoint.allows(carrier.namespace):
        # Before anything that would tell a stranger more about the endpoint.
        return _refused(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"spec.endpointRef.name: GtpuEndpoint {name} does not allow namespace {carrier.namespace}. Ask "
            "its administrator to add it to spec.allowedNamespaces.",
        )
    if standing is None or not standing.accepted:
        why = f" ({standing.reason})" if standing else ""
        return _refused(
            Reason.ENDPOINT_NOT_ACCEPTED,
            f"spec.endpointRef.name: GtpuEndpoint {name} is not accepted itself{why}; see its conditions.",
        )
    family = endpoint.address.version
    wrong = [peer for peer in carrier.peers if peer.version != family]
    if wrong:
        field = "spec.remoteAddress" if isinstance(carrier, Tunnel) else "spec.peers"
        return _refused(
            Reason.FAMILY_MISMATCH,
            f"{field}: {wrong[0]} is not an IPv{family} address as that of GtpuEndpoint {name}, "
            f"{endpoint.address}. Give the peer's IPv{family} address.",
        )
    return _teid_fault(carrier, endpoint) or _pool_fault(carrier, endpoint)


def _teid_fault(carrier: Carrier, endpoint: Endpoint) -> Standing | None:
    first, last = carrier.local_teid, carrier.local_teid + carrier.count - 1
    low, high = endpoint.teid_base, endpoint.teid_base + endpoint.teid_count - 1
    if not endpoint.teid_count or (low <= first and last <= high):
        return None
    single = isinstance(carrier, Tunnel)
    field = "spec.localTeid" if single else "spec.localTeidBase"
    text = f"{first} is" if single else f"{first} to {last} are"
    return _refused(
        Reason.OUTSIDE_TEID_RANGE,
        f"{field}: {text} not in the range {low} to {high} of GtpuEndpoint {endpoint.name}. "
        "Take TEIDs of that range.",
    )


def _pool_fault(carrier: Carrier, endpoint: Endpoint) -> Standing | None:
    for family, first, last in carrier.spans():
        if family == 0 or any(
            pool_family == family and low <= first and last <= high
            for pool_family, low, high in ((pool.version, *bounds(pool)) for pool in endpoint.pools)
        ):
            continue
        field = "spec.inner.ueAddresses" if isinstance(carrier, Tunnel) else "spec.ueBase"
        return _refused(
            Reason.OUTSIDE_POOLS,
            f"{field}: {_range(family, first, last)} is in no pool of GtpuEndpoint {endpoint.name}, whose "
            f"spec.uePools are {', '.join(str(pool) for pool in endpoint.pools)}.",
        )
    return None


def carrier_claims(carrier: Carrier) -> tuple[Claim, ...]:
    """Return what a tunnel or set claims: TEIDs of its endpoint, users' addresses of its inner VRF."""
    first = carrier.local_teid
    return (
        Claim(("teid", carrier.endpoint), first, first + carrier.count - 1),
        *(Claim(("ue", carrier.inner_vrf, family), low, high) for family, low, high in carrier.spans()),
    )


def carrier_conflict(carrier: Carrier, winner: Owner, claim: Claim) -> Standing:
    """Return the standing of a tunnel or set that overlaps ``claim``, which an older ``winner`` has.

    Of another namespace's object no more is told than that it overlaps.
    """
    assert isinstance(claim.space, tuple)
    own = next(
        mine
        for mine in carrier_claims(carrier)
        if mine.space == claim.space and mine.first <= claim.last and claim.first <= mine.last
    )
    first, last = max(own.first, claim.first), min(own.last, claim.last)
    single = isinstance(carrier, Tunnel)
    if claim.space[0] == "teid":
        field = "spec.localTeid" if single else "spec.localTeidBase"
        what = f"TEID {first}" if first == last else f"TEIDs {first} to {last}"
        what += f" of GtpuEndpoint {carrier.endpoint}"
    else:
        family = claim.space[2]
        field = ("spec.inner.vlan" if family == 0 else "spec.inner.ueAddresses") if single else "spec.ueBase"
        what = _range(family, first, last)
    if winner.namespace == carrier.namespace:
        whose = f"the older {winner.kind} {winner.name}"
    else:
        whose = f"an older {winner.kind} of another namespace"
    return _refused(
        Reason.CONFLICT,
        f"{field}: {what} belongs to {whose}, so nothing of this object is programmed. Change it in one of "
        "them.",
    )


def _range(family: object, first: int, last: int) -> str:
    """Return a range of addresses in words: a prefix where it is one."""
    if family == 0:
        return f"VLAN {first}"
    low: IpAddress = ipaddress.IPv4Address(first) if family == 4 else ipaddress.IPv6Address(first)
    high: IpAddress = ipaddress.IPv4Address(last) if family == 4 else ipaddress.IPv6Address(last)
    networks = list(_summary(low, high))
    return str(networks[0]) if len(networks) == 1 else f"{low} to {high}"


def _summary(low: IpAddress, high: IpAddress) -> Collection[IpNetwork]:
    if isinstance(low, ipaddress.IPv4Address) and isinstance(high, ipaddress.IPv4Address):
        return list(ipaddress.summarize_address_range(low, high))
    if isinstance(low, ipaddress.IPv6Address) and isinstance(high, ipaddress.IPv6Address):
        return list(ipaddress.summarize_address_range(low, high))
    raise AssertionError("addresses of two families")
