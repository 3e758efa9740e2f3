"""What the dataplane must know of its node: addresses, pod and service ranges, source ports. Pure.

Facts come from the Node object, the cluster's service ranges and the node's own interfaces; the outcome is
the records of the tables CONFIG and PREFIX, and the addresses that the node's steering needs.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vpp_operator.api.conditions import Reason
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    ConfigKey,
    ConfigRecord,
    PrefixClass,
    PrefixRecord,
    Record,
    Table,
)
from vpp_operator.node.spec import DEFAULT_SNAT_RANGES, Finding, IpAddress, IpNetwork

__all__ = [
    "MAX_SNAT_RANGES",
    "NodeFacts",
    "NodeObject",
    "decode_node",
    "decode_service_cidrs",
    "node_records",
    "parse_networks",
    "parse_port_ranges",
    "pod_range_findings",
    "snat_ranges",
]

PortRange = tuple[int, int]

MAX_SNAT_RANGES = 16
"""Ranges that the dataplane takes (records: SNAT_PORT_RANGE)."""


@dataclass(frozen=True, slots=True)
class NodeObject:
    """What is kept of the Node: InternalIPs in their order, pod ranges, labels."""

    uid: str = ""
    internal_ips: tuple[IpAddress, ...] = ()
    pod_cidrs: tuple[IpNetwork, ...] = ()
    labels: Mapping[str, str] | None = None
    leaving: bool = False
    """The node is about to go: cordoned (as a drain does first), being deleted or shut down."""


def _networks(texts: Iterable[Any], field: str) -> tuple[IpNetwork, ...]:
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(str(text)))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
    return tuple(networks)


def decode_node(obj: Mapping[str, Any]) -> NodeObject:
    """Read a Node. Raises ValueError naming the field."""
    meta, spec, status = obj.get("metadata") or {}, obj.get("spec") or {}, obj.get("status") or {}
    addresses: list[IpAddress] = []
    for entry in status.get("addresses") or ():
        if entry.get("type") == "InternalIP":
            try:
                addresses.append(ipaddress.ip_address(entry.get("address", "")))
            except ValueError as error:
                raise ValueError(f"status.addresses: {error}") from None
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return NodeObject(
        meta.get("uid", ""),
        tuple(addresses),
        _networks(cidrs, "spec.podCIDRs"),
        dict(meta.get("labels") or {}),
        _leaving(obj),
    )


def _leaving(obj: Mapping[str, Any]) -> bool:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if spec.get("unschedulable") or (obj.get("metadata") or {}).get("deletionTimestamp"):
        return True
    # The kubelet's words when the machine shuts down (graceful node shutdown).
    return any(
        c.get("type") == "Ready" and c.get("status") != "True" and "shutting down" in c.get("message", "")
        for c in status.get("conditions") or ()
    )


def decode_service_cidrs(obj: Mapping[str, Any]) -> tuple[IpNetwork, ...]:
    """Read a ServiceCIDR (networking.k8s.io/v1). Raises ValueError naming the field."""
    return _networks((obj.get("spec") or {}).get("cidrs") or (), "spec.cidrs")


def parse_networks(text: str, setting: str) -> tuple[IpNetwork, ...]:
    """Read prefixes separated by commas. Raises ValueError naming the setting and the remedy."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"{setting}: {error}; write prefixes as in 10.96.0.0/12,fd00::/108") from None


def parse_port_ranges(text: str, setting: str) -> tuple[PortRange, ...]:
    """Read port ranges as in 10000-29999,61000-65535. Raises ValueError naming the setting and the remedy."""
    ranges = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise ValueError(f"{setting}: {part!r} is no port range; write 10000-29999")
        first, last = int(low), int(high or low)
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"{setting}: {part!r} must go upwards within 1-65535")
        ranges.append((first, last))
    ranges.sort()
    for (_, last), (first, _) in itertools.pairwise(ranges):
        if first <= last:
            raise ValueError(f"{setting}: ranges overlap at port {first}; merge them")
    return tuple(ranges)


def snat_ranges(ranges: Iterable[PortRange], taken: Iterable[int]) -> tuple[PortRange, ...]:
    """Return the source-port ranges less the ports that are taken (listeners, node ports).

    If that leaves more ranges than the dataplane takes, the smallest are left out.
    """
    cuts = sorted(set(taken))
    pieces: list[PortRange] = []
    for low, high in sorted(ranges):
        start = low
        for port in cuts:
            if low <= port <= high:
                if start < port:
                    pieces.append((start, port - 1))
                start = port + 1
        if start <= high:
            pieces.append((start, high))
    pieces.sort(key=lambda piece: piece[0] - piece[1])
    return tuple(sorted(pieces[:MAX_SNAT_RANGES]))


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Everything known of the node."""

    node: NodeObject
    own_addresses: frozenset[IpAddress] = frozenset()
    """Addresses of the node's interfaces, without loopback and link-local ones."""
    pod_cidrs: tuple[IpNetwork, ...] = ()
    service_cidrs: tuple[IpNetwork, ...] = ()
    """Service ranges."""
    snat_ranges: Sequence[PortRange] = DEFAULT_SNAT_RANGES
    masquerade_all: bool = False
    """Pods of this node answer each other past the dataplane: every flow to a ClusterIP is masqueraded."""
    gtpu_switches: int | None = None
    """Value of the setting GTPU_SWITCHES; None: the engine's default."""
    ue_pools: frozenset[IpNetwork] = frozenset()
    """Prefixes of user equipment behind this node's tunnels."""

    def addresses(self) -> tuple[IpAddress, ...]:
        """Return the node's InternalIPs, at most one a family: what it is reached at and sends from."""
        first: dict[int, IpAddress] = {}
        for address in self.node.internal_ips:
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                first.setdefault(address.version, address)
        return tuple(first.values())

    def families_without_pods(self) -> tuple[int, ...]:
        """Return the families with Services here whose pod ranges are not known.

        Where kube-proxy does not know local traffic it masquerades none of it, and relies on replies coming
        back through the node. Here every flow to a ClusterIP of such a family is masqueraded, which always
        works, and hides the client's address from the server.
        """
        known = {network.version for network in self.pod_cidrs}
        served = {network.version for network in self.service_cidrs}
        return tuple(a.version for a in self.addresses() if a.version in served - known)


def pod_range_findings(facts: NodeFacts) -> list[Finding]:
    """Return what it costs that a family's pod ranges are not known."""
    families = facts.families_without_pods()
    if not families or facts.masquerade_all:
        return []
    text = " and ".join(f"IPv{family}" for family in families)
    return [
        Finding(
            "Degraded",
            Reason.POD_RANGE_UNKNOWN,
            f"the Node has no {text} range in spec.podCIDRs, so pods cannot be told from other clients: "
            "every flow to a ClusterIP is masqueraded, and servers see the node's address as its client",
            "give the cluster's pod ranges in the chart's value podCIDRs",
        )
    ]


def node_records(facts: NodeFacts) -> dict[Table, dict[bytes, bytes]]:
    """Return the records of the tables CONFIG and PREFIX."""
    records: list[Record] = []
    if facts.masquerade_all:
        records.append(ConfigRecord(ConfigKey.MASQUERADE_ALL, value=1))
    if facts.gtpu_switches is not None:
        records.append(ConfigRecord(ConfigKey.GTPU_SWITCHES, value=facts.gtpu_switches))
    for index, (low, high) in enumerate(facts.snat_ranges):
        records.append(ConfigRecord(ConfigKey.SNAT_PORT_RANGE, index, low | high << 16))
    for address in facts.addresses():
        records.append(ConfigRecord(ConfigKey.SNAT_ADDRESS, address.version, address=address))
        records.append(ConfigRecord(ConfigKey.ICMP_SOURCE, address.version, address=address))
    hosts = {*facts.own_addresses, *facts.addresses()}
    records += (PrefixRecord(ipaddress.ip_network(a), PrefixClass.HOST) for a in hosts)
    records += (PrefixRecord(network, PrefixClass.POD) for network in set(facts.pod_cidrs))
    records += (PrefixRecord(network, PrefixClass.SERVICE) for network in set(facts.service_cidrs))
    records += (PrefixRecord(network, PrefixClass.UE_POOL) for network in facts.ue_pools)
    tables: dict[Table, dict[bytes, bytes]] = {Table.CONFIG: {}, Table.PREFIX: {}}
    for record in records:
        raw = record.pack()
        tables[record.TABLE][raw[: KEY_SIZE[record.TABLE]]] = raw
    return tables
