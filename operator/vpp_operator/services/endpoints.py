"""EndpointSlices of one Service -> the endpoints of one of its ports, as kube-proxy chooses them.

Merging as its EndpointSliceCache (union over slices, one entry for each address and port, a non-terminating
duplicate wins); the sets as its CategorizeEndpoints, without topology.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vpp_operator.dataplane.records import EndpointFlag

from .model import EndpointSlice, EndpointState, ServicePort

__all__ = ["EndpointKey", "categorize", "merge"]

EndpointKey = tuple[bytes, int]
"""Address (16 bytes) and port."""

_READY: Final = int(EndpointState.READY)
_SERVING: Final = int(EndpointState.SERVING)
_TERMINATING: Final = int(EndpointState.TERMINATING)
_SERVING_TERMINATING: Final = _SERVING | _TERMINATING
_ON_NODE: Final = 8
"""Beside the states in a merged value: runs on this node."""

# Which of two duplicates is taken: the non-terminating one; then, so that the order of slices never matters,
# the one that is ready, then serving, then on this node.
_RANK: Final = tuple(
    (0 if value & _TERMINATING else 8)
    | (4 if value & _READY else 0)
    | (2 if value & _SERVING else 0)
    | (1 if value & _ON_NODE else 0)
    for value in range(16)
)


def merge(
    slices: Iterable[EndpointSlice], port: ServicePort, family: int, node: str
) -> dict[EndpointKey, int]:
    """Return the endpoints of ``port`` in one family: state bits, and bit 8 for those on ``node``.

    Slices match by port *name* and protocol, and their own number counts, whatever targetPort says.
    """
    merged: dict[EndpointKey, int] = {}
    for piece in slices:
        if piece.family != family:
            continue
        for slice_port in piece.ports:
            if slice_port.name != port.name or slice_port.protocol != port.protocol:
                continue
            number = slice_port.port
            for address, state, host in piece.endpoints:
                value = state | _ON_NODE if node and host == node else state
                key = (address, number)
                other = merged.get(key)
                if other is None or _RANK[value] > _RANK[other]:
                    merged[key] = value
    return merged


def categorize(merged: dict[EndpointKey, int]) -> list[tuple[EndpointKey, EndpointFlag]]:
    """Return the endpoints to program with their flags, those of no use left out.

    CLUSTER: the ready ones, or if there is none the serving terminating ones. LOCAL: the same among those on
    this node, falling back by itself. SERVES: serving, or chosen for new flows: an established UDP flow may
    stay. (A chosen endpoint that is not serving, as with publishNotReadyAddresses, keeps its flows too: to
    start them anew would only pick from the same set.)
    """
    cluster = _in_force(merged.values())
    local = _in_force(value for value in merged.values() if value & _ON_NODE)
    flags_of = [_flags(value, cluster, local) for value in range(16)]
    return [(key, flags_of[value]) for key, value in merged.items() if flags_of[value] & EndpointFlag.SERVES]


def _in_force(values: Iterable[int]) -> int:
    """Return the state bits that an endpoint needs to be in the set: ready, else serving and terminating."""
    fallback = 0
    for value in values:
        if value & _READY:
            return _READY
        if value & _SERVING_TERMINATING == _SERVING_TERMINATING:
            fallback = _SERVING_TERMINATING
    return fallback


def _flags(value: int, cluster: int, local: int) -> EndpointFlag:
    flags = EndpointFlag(0)
    if cluster and value & cluster == cluster:
        flags |= EndpointFlag.CLUSTER
    if value & _ON_NODE:
        flags |= EndpointFlag.ON_NODE
        if local and value & local == local:
            flags |= EndpointFlag.LOCAL
    if value & _SERVING or flags & (EndpointFlag.CLUSTER | EndpointFlag.LOCAL):
        flags |= EndpointFlag.SERVES
    return flags
