"""What is kept of Services and EndpointSlices: the fields that decide forwarding, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import Protocol

__all__ = [
    "Address",
    "Endpoint",
    "EndpointSlice",
    "EndpointState",
    "Ingress",
    "ObjectName",
    "Service",
    "ServicePort",
    "SlicePort",
]


class ObjectName(NamedTuple):
    """Namespace and name of an object."""

    namespace: str
    name: str


class Address(NamedTuple):
    """An IP address: family 4 or 6, and 16 bytes in network order (IPv4 in the first four, rest zero)."""

    family: int
    packed: bytes


class ServicePort(NamedTuple):
    """One port of a Service. ``node_port`` 0: none. Endpoints are found by name and protocol."""

    name: str
    protocol: Protocol
    port: int
    node_port: int = 0


class Ingress(NamedTuple):
    """One load balancer address. ``vip`` False: the balancer proxies (ipMode Proxy), nothing to do here."""

    address: Address
    vip: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """A Service.

    ``cluster_ips`` holds at most one address per family, by kube-proxy's rule of ipFamilies and clusterIPs
    (GetClusterIPByFamily); none for a headless one. ``created`` is metadata.creationTimestamp (RFC 3339, UTC:
    text order is time order). ``proxy_name`` is the label service.kubernetes.io/service-proxy-name, None
    without it.
    """

    namespace: str
    name: str
    uid: str = ""
    created: str = ""
    generation: int = 0
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    ingress: tuple[Ingress, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    proxy_name: str | None = None
    affinity_seconds: int = 0
    """0: no affinity; else ClientIP affinity with this time-out."""
    internal_local: bool = False
    """internalTrafficPolicy Local."""
    external_local: bool = False
    """externalTrafficPolicy Local."""
    source_ranges: bool = False
    """loadBalancerSourceRanges restrict the sources (no range of length 0 among them)."""
    topology: str = ""
    """The field that asks for topology, as in ``spec.trafficDistribution: PreferClose``; empty: none."""

    @property
    def key(self) -> ObjectName:
        """Namespace and name."""
        return ObjectName(self.namespace, self.name)

    @property
    def owner(self) -> Owner:
        """The Service as the owner of records."""
        return Owner("Service", self.namespace, self.name)


class EndpointState(IntFlag):
    """Conditions of an endpoint, with kube-proxy's values where they are absent."""

    READY = 1
    """``ready``; absent: true."""
    SERVING = 2
    """``serving``; absent: true."""
    TERMINATING = 4
    """``terminating``; absent: false."""


class Endpoint(NamedTuple):
    """One endpoint of a slice: its first address (16 bytes), its conditions, its node ("" unknown)."""

    address: bytes
    state: int
    node: str = ""


class SlicePort(NamedTuple):
    """One port of a slice; ``port`` is authoritative for this slice's endpoints."""

    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """An EndpointSlice.

    ``service`` is the label kubernetes.io/service-name. ``family`` 4 or 6; 0 for FQDN, which nothing serves.
    ``headless``: the label service.kubernetes.io/headless is there; such slices are not looked at.
    """

    namespace: str
    name: str
    service: str
    family: int
    generation: int = 0
    headless: bool = False
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def key(self) -> ObjectName:
        """Namespace and name."""
        return ObjectName(self.namespace, self.name)
