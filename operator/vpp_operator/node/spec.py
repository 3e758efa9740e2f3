"""What the dataplane needs of the node's network, and what is wrong with it: the records of this package."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

__all__ = [
    "DEFAULT_SNAT_RANGES",
    "GTPU_PORT",
    "Finding",
    "GtpuSteer",
    "IpAddress",
    "IpNetwork",
    "NodePort",
    "NodeSpec",
    "NodeSpecError",
    "Target",
]

DEFAULT_SNAT_RANGES: tuple[tuple[int, int], ...] = ((10000, 29999), (61000, 65535))
"""Source ports of masqueraded flows: outside the node ports (30000-32767) and the kernel's ephemeral ports
(32768-60999)."""

GTPU_PORT = 2152
"""UDP port of GTP-U (TS 29.281, 4.4.2)."""

_PORT_PROTOCOLS = (6, 17, 132)
_MIN_MTU = 1280  # RFC 8200, section 5: what every IPv6 link carries


class NodeSpecError(ValueError):
    """A field of a :class:`NodeSpec` is wrong; the message names it and the remedy. Nothing was changed."""


class Target(NamedTuple):
    """Address, protocol and port. The address is packed (4 or 16 bytes): 100,000 of these are compared at
    each change."""

    address: bytes
    protocol: int
    """IANA number: 6 TCP, 17 UDP, 132 SCTP."""
    port: int

    @classmethod
    def of(cls, address: IpAddress | str, protocol: int, port: int) -> Target:
        """Build one from an address object or its text."""
        return cls(ipaddress.ip_address(address).packed, int(protocol), port)


class NodePort(NamedTuple):
    """A node port: protocol (IANA number) and port, at every local address of the node."""

    protocol: int
    port: int


class GtpuSteer(NamedTuple):
    """A GTP-U address whose UDP port 2152 belongs to the dataplane, later outer fragments included."""

    address: IpAddress
    own: bool = False
    """False: an address of this node, everything but UDP 2152 stays with the node. True: an address of the
    endpoint's own, on no interface; the node announces it by proxy ARP or proxy ND, and all of it goes to the
    dataplane."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Everything that decides which packets reach the dataplane.

    Passing a Target too many costs a detour of the packets that match it, never their loss; one too few
    leaves a reply untranslated. So ``endpoints`` holds all endpoints of programmed Services, on this node and
    on others.
    """

    addresses: tuple[IpAddress, ...]
    """The node's addresses; the first of each family is the source of what the node itself sends to Services.
    A family without an address here is not served."""
    service_cidrs: frozenset[IpNetwork]
    """Service ranges. Beside another service proxy: the ClusterIPs that are ours, as /32 and /128."""
    pod_cidrs: frozenset[IpNetwork] = frozenset()
    """Pods of this node: the clients whose flows to a ClusterIP are not masqueraded (kube-proxy's
    local-traffic detector). Empty in a family: not known, so replies of endpoints are taken in whatever
    client they are for."""
    node_ports: frozenset[NodePort] = frozenset()
    """Allocated node ports, and only these: another listener in the node-port range is not disturbed."""
    external: frozenset[Target] = frozenset()
    """External IPs and load-balancer VIPs with their ports, whether or not the address is the node's own."""
    endpoints: frozenset[Target] = frozenset()
    """Endpoints of all programmed Services, local or remote."""
    snat_ranges: tuple[tuple[int, int], ...] = DEFAULT_SNAT_RANGES
    """Source ports of masqueraded flows, (low, high), both included."""
    snat_addresses: tuple[IpAddress, ...] = ()
    """Source addresses of masqueraded flows; empty: the first of ``addresses`` in each family."""
    gtpu: tuple[GtpuSteer, ...] = ()
    """GTP-U addresses that are active on this node. One that cannot be is left out and reported (see
    :class:`vpp_operator.node.network.Applied`); the others are not disturbed."""
    large_udp: bool = True
    """The engine takes large UDP frames (UDP_SEGMENT) whole. VPP knows none: the kernel cuts them for it."""
    ue_pools: tuple[IpNetwork, ...] = ()
    """Prefixes of user equipment: routed to the dataplane. One that overlaps what the node itself reaches is
    left out and reported."""
    frames: bool = False
    """Whether there are tunnels that carry Ethernet: their frames pass the link ``vppe0``, one VLAN per
    tunnel."""
    mtu: int = 0
    """MTU of the host link in bytes; 0: that of the interface holding the first of ``addresses``."""

    def source(self, family: int) -> IpAddress | None:
        """Return the first of the node's addresses of a family (4 or 6), or None when it is not served."""
        return next((a for a in self.addresses if a.version == family), None)

    def families(self) -> tuple[int, ...]:
        """Return the families that are served."""
        return tuple(f for f in (4, 6) if self.source(f) is not None)

    def validate(self) -> None:
        """Raise :class:`NodeSpecError` when a field cannot be brought onto a node."""
        self.validate_settings()
        self.validate_elements(self.node_ports, self.external, self.endpoints)

    def validate_settings(self) -> None:
        """Raise :class:`NodeSpecError` for a wrong field other than the large sets."""
        if not self.addresses:
            raise NodeSpecError("addresses: empty; give the node's InternalIP addresses")
        for address in (*self.addresses, *self.snat_addresses):
            if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
                raise NodeSpecError(f"addresses: {address} is no address that others reach the node at")
        for network in self.service_cidrs:
            if network.prefixlen == 0:
                raise NodeSpecError(f"service_cidrs: {network} would take in all traffic of the node")
            for address in self.addresses:
                if address in network:
                    raise NodeSpecError(f"service_cidrs: {network} holds the node's own address {address}")
        if self.mtu and not _MIN_MTU <= self.mtu <= 65535:
            raise NodeSpecError(f"mtu: {self.mtu} is not within {_MIN_MTU}..65535 bytes")
        _validate_ranges(self.snat_ranges)

    def validate_elements(
        self, node_ports: Iterable[NodePort], external: Iterable[Target], endpoints: Iterable[Target]
    ) -> None:
        """Raise :class:`NodeSpecError` for a wrong element of the large sets: those given are looked at."""
        for port in node_ports:
            _validate_port("node_ports", port.protocol, port.port)
            if any(low <= port.port <= high for low, high in self.snat_ranges):
                raise NodeSpecError(
                    f"node_ports: {port.port} lies within snat_ranges; take it out of the source-port pool"
                )
        _validate_targets("external", external)
        _validate_targets("endpoints", endpoints)


def _validate_ranges(ranges: Iterable[tuple[int, int]]) -> None:
    last = 0
    for low, high in sorted(ranges):
        if not 0 < low <= high <= 65535:
            raise NodeSpecError(f"snat_ranges: {low}-{high} is not a range within 1..65535")
        if low <= last:
            raise NodeSpecError(f"snat_ranges: {low}-{high} overlaps another range; merge them")
        last = high


def _validate_port(field: str, protocol: int, port: int) -> None:
    if protocol not in _PORT_PROTOCOLS:
        raise NodeSpecError(
            f"{field}: protocol {protocol} has no ports here; TCP 6, UDP 17 and SCTP 132 have"
        )
    if not 0 < port <= 65535:
        raise NodeSpecError(f"{field}: port {port} is not within 1..65535")


def _validate_targets(field: str, targets: Iterable[Target]) -> None:
    wrong = (
        t for t in targets if len(t[0]) not in (4, 16) or t[1] not in _PORT_PROTOCOLS or not 0 < t[2] <= 65535
    )
    for target in wrong:
        if len(target.address) not in (4, 16):
            raise NodeSpecError(
                f"{field}: an address of {len(target.address)} bytes; IPv4 has 4, IPv6 has 16"
            )
        _validate_port(field, target.protocol, target.port)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the node that limits or hinders the dataplane."""

    condition: str
    """Condition type of the Dataplane it belongs to, e.g. ``OtherProxyPresent``, ``NetworkPolicyLimited``,
    ``Degraded``."""
    reason: str
    """One CamelCase word."""
    message: str
    """What was found, with names and numbers."""
    remedy: str
    """What to do about it."""
    subject: str = ""
    """The address or prefix of the spec that it is about, where it is about one."""
