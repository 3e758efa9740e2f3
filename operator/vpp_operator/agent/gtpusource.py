"""GtpuEndpoints, GtpuTunnels and GtpuTunnelSets as a source of the loop; which endpoints are active."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from vpp_operator.agent.facts import NodeFacts
from vpp_operator.agent.sources import Update
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import Table
from vpp_operator.gtpu.cluster import NodeRanges, reserved
from vpp_operator.gtpu.decode import DecodeError
from vpp_operator.gtpu.model import ENDPOINT, SET, TUNNEL, Endpoint, IpAddress, IpNetwork, Tunnel, TunnelSet
from vpp_operator.gtpu.rules import candidate
from vpp_operator.gtpu.table import TABLES, GtpuTable

__all__ = ["GtpuSink", "GtpuSource"]

_FAMILY = 4
"""Offset of the family in a UE prefix's key; 0: a VLAN."""


class GtpuSource:
    """Keeps a :class:`GtpuTable` and tells it which endpoints are active on this node.

    An endpoint with mode NodeAddress is active where the node has its address and its labels match; a
    Floating one where the node holds its Lease. Nothing is planned before all three kinds were listed and the
    Lease of every Floating endpoint for this node was looked at: what the dataplane holds may be active.

    ``cluster`` gives the ranges of all nodes, None while they are not known; it is asked from when an
    endpoint is for this node. Until it knows, none is active.
    """

    tables = TABLES
    KINDS: Final = (ENDPOINT, TUNNEL, SET)
    # Records made between two looks at the event loop: some 5 ms.
    RECORDS = 2048
    ABSENT_SECONDS = 10.0

    def __init__(
        self,
        table: GtpuTable,
        facts: Callable[[], NodeFacts | None],
        *,
        changed: Callable[[], None] = lambda: None,
        steering_changed: Callable[[], None] = lambda: None,
        endpoints_changed: Callable[[], None] = lambda: None,
        cluster: Callable[[], Collection[NodeRanges] | None] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.table = table
        self.endpoints: dict[str, Endpoint] = {}
        self.active: frozenset[str] = frozenset()
        """Names of the endpoints that are active here."""
        self._facts = facts
        self._changed = changed
        self._steering_changed = steering_changed
        self._endpoints_changed = endpoints_changed
        self._cluster = cluster
        self._cluster_known = True
        self._held: frozenset[str] = frozenset()
        self._leases_known = False
        self._listed: set[str] = set()
        self._refused_since: dict[str, float] = {}
        self._clock = clock
        self._versions: dict[str, str] = {}
        self._dirty = False
        self._settled = False
        self._vlans: set[bytes] = set()

    def upsert_endpoint(self, endpoint: Endpoint) -> None:
        """Take a GtpuEndpoint."""
        self.endpoints[endpoint.name] = endpoint
        self.table.upsert_endpoint(endpoint)
        self.refresh()

    def delete_endpoint(self, name: str) -> None:
        """Forget a GtpuEndpoint."""
        self.endpoints.pop(name, None)
        self.table.delete_endpoint(name)
        self.refresh()

    def set_held(self, names: Collection[str], known: bool) -> None:
        """Take the Floating endpoints whose Lease this node holds; ``known``: every Lease was looked at."""
        self._held = frozenset(names)
        self._leases_known = self._leases_known or known
        self.refresh()

    def refresh(self) -> None:
        """Decide anew which endpoints are active here: an endpoint, the node or a Lease changed."""
        facts = self._facts()
        if facts is None:
            return
        nodes: Collection[NodeRanges] | None = ()
        if any(self._is_for_this_node(e, facts) for e in self.endpoints.values()):
            nodes = self._cluster()
        self._cluster_known = nodes is not None
        if nodes is not None:
            own = NodeRanges(frozenset(facts.pod_cidrs), frozenset(facts.addresses()))
            self.table.reserve(reserved((own, *nodes), facts.service_cidrs))
            active = frozenset(name for name, e in self.endpoints.items() if self._is_active(e, facts))
            if active != self.active:
                self.active = active
                self.table.activate(active)
        self._endpoints_changed()
        self._touch()

    def _is_for_this_node(self, endpoint: Endpoint, facts: NodeFacts) -> bool:
        has = endpoint.address in facts.own_addresses or endpoint.address in facts.addresses()
        return (has or endpoint.floating) and candidate(endpoint, facts.node.labels or {})

    def _is_active(self, endpoint: Endpoint, facts: NodeFacts) -> bool:
        if endpoint.floating:
            return endpoint.name in self._held
        return self._is_for_this_node(endpoint, facts)

    def floating(self) -> dict[str, Endpoint]:
        """Return the Floating endpoints that this node may hold."""
        facts = self._facts()
        labels = (facts.node.labels or {}) if facts is not None else {}
        return {n: e for n, e in self.endpoints.items() if e.floating and candidate(e, labels)}

    def listed(self, kind: str) -> bool:
        """Whether a kind has been listed completely."""
        return kind in self._listed

    def note(self, kind: str, resource_version: str, *, listed: bool = False) -> None:
        """An event of ``kind`` came in, or its list is complete."""
        if listed:
            self._listed.add(kind)
            self._refused_since.pop(kind, None)
            self.refresh()
        self._versions[kind] = resource_version
        self._touch()

    def refused(self, kind: str, code: int) -> None:
        """The API server does not serve a kind (404) or not to us (403): it is not waited for."""
        if code in (403, 404) and kind not in self._listed:
            self._refused_since.setdefault(kind, self._clock())
            if not self.needed():
                self._steering_changed()
                self._changed()

    def reject(self, error: DecodeError) -> None:
        """An object could not be read."""
        self.table.reject(error)
        self._touch()

    def _touch(self) -> None:
        self._dirty = True
        self._changed()

    def missing(self) -> list[str]:
        """Return what is still waited for; empty: nothing."""
        if not self.needed():
            return []
        missing = [f"{kind}s" for kind in self.KINDS if kind not in self._listed]
        if not missing and not self._leases_known:
            missing = ["the Leases of Floating GtpuEndpoints"]
        if not missing and not self._cluster_known:
            missing = ["the Nodes"]
        return missing

    def ready(self) -> bool:
        """Whether all kinds have been listed, and it is known what is active here."""
        listed = len(self._listed) == len(self.KINDS)
        return listed and self._leases_known and self._cluster_known and self._facts() is not None

    def needed(self) -> bool:
        """Whether the API server serves all kinds, as far as is known.

        One that has just started may say 404 for a moment.
        """
        now = self._clock()
        return all(now - since < self.ABSENT_SECONDS for since in self._refused_since.values())

    def waiting(self) -> bool:
        """Whether an event came since the last take, or that one did not get through."""
        return self._dirty

    def take(self) -> Update:
        """Make some of the records that changed."""
        changes = self.table.update(self.RECORDS)
        self._dirty = bool(self.table.pending)
        before = bool(self._vlans)
        self._vlans.difference_update(changes.deletes[Table.GTPU_UE])
        self._vlans.update(key for key in changes.upserts[Table.GTPU_UE] if key[_FAMILY] == 0)
        if changes.steering or not self._settled or bool(self._vlans) != before:
            self._settled = True
            self._steering_changed()
        return Update(changes.upserts, changes.deletes, dict(self._versions))

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the object of a record."""
        return self.table.owner_of(table, key)

    def problems(self) -> list[Problem]:
        """Return the problems of all objects that concern this node."""
        return [p for o in sorted(self.table.owners_with_problems()) for p in self.table.problems(o)]

    def total(self) -> int:
        """Return the number of tunnels wanted on this node."""
        return self.table.tunnels()

    def frames(self) -> bool:
        """Whether a tunnel here carries Ethernet frames."""
        return bool(self._vlans)

    def addresses(self) -> Mapping[IpAddress, bool]:
        """Return the active, accepted GTP-U addresses; True: of the endpoint's own, announced by the node."""
        return dict(self.table.addresses())

    def pools(self) -> frozenset[IpNetwork]:
        """Return the prefixes of users behind the active endpoints."""
        return frozenset(self.table.pools())


class GtpuSink:
    """From a watch of one of the kinds into the source."""

    def __init__(self, kind: str, source: GtpuSource, wake: Callable[[], None]) -> None:
        self._kind = kind
        self._source = source
        self._wake = wake

    def upsert(self, namespace: str, name: str, obj: Any) -> None:
        """Take an object."""
        if isinstance(obj, Endpoint):
            self._source.upsert_endpoint(obj)
        elif isinstance(obj, Tunnel):
            self._source.table.upsert_tunnel(obj)
        elif isinstance(obj, TunnelSet):
            self._source.table.upsert_set(obj)

    def delete(self, namespace: str, name: str) -> None:
        """Forget an object."""
        if self._kind == ENDPOINT:
            self._source.delete_endpoint(name)
        elif self._kind == TUNNEL:
            self._source.table.delete_tunnel(namespace, name)
        else:
            self._source.table.delete_set(namespace, name)

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Report an object that cannot be read on itself; its last valid version stays in force."""
        if not isinstance(error, DecodeError):
            error = DecodeError(
                Owner(self._kind, namespace, name), "object", f"{type(error).__name__}: {error}"
            )
        self._source.reject(error)
        self._wake()

    def listed(self, resource_version: str) -> None:
        """The list is complete."""
        self._source.note(self._kind, resource_version, listed=True)
        self._wake()

    def progress(self, resource_version: str) -> None:
        """An event or bookmark came."""
        self._source.note(self._kind, resource_version)
        self._wake()
