"""What belongs to the cluster itself and can be no user's: the one rule of leader and agents. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .model import IpAddress, IpNetwork
from .rules import Reserved

__all__ = ["NodeRanges", "decode_node_ranges", "reserved"]


@dataclass(frozen=True, slots=True)
class NodeRanges:
    """A node's pod ranges and InternalIPs."""

    pods: frozenset[IpNetwork] = frozenset()
    addresses: frozenset[IpAddress] = frozenset()

    @classmethod
    def of(cls, pods: Iterable[object], addresses: Iterable[object]) -> NodeRanges:
        """Read them from text or objects; what is no prefix or address is left out."""
        return cls(frozenset(_networks(pods)), frozenset(_addresses(addresses)))


def _networks(texts: Iterable[object]) -> Iterator[IpNetwork]:
    for text in texts:
        try:
            yield ipaddress.ip_network(str(text), strict=False)
        except ValueError:
            continue


def _addresses(texts: Iterable[object]) -> Iterator[IpAddress]:
    for text in texts:
        try:
            yield ipaddress.ip_address(str(text))
        except ValueError:
            continue


def decode_node_ranges(obj: Mapping[str, Any]) -> NodeRanges:
    """Read a v1 Node."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    pods = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    internal = (a.get("address") for a in status.get("addresses") or () if a.get("type") == "InternalIP")
    return NodeRanges.of(pods, internal)


def reserved(nodes: Iterable[NodeRanges], services: Iterable[IpNetwork]) -> Reserved:
    """Return what no GtpuEndpoint may take: pod ranges and addresses of all nodes, and service ranges."""
    ranges = set(services)
    addresses: set[IpAddress] = set()
    for node in nodes:
        ranges |= node.pods
        addresses |= node.addresses
    return Reserved(frozenset(ranges), frozenset(addresses))
