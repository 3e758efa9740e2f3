"""The node's own records (CONFIG and PREFIX) as a source of the loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vpp_operator.agent.facts import NodeFacts, NodeObject, PortRange, node_records, snat_ranges
from vpp_operator.agent.sources import Update
from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import Table
from vpp_operator.node.spec import IpAddress, IpNetwork

__all__ = ["NodeSource"]


class NodeSource:
    """Facts of the node, from the Node object, the cluster's service ranges and the kernel.

    ``service_cidrs`` given: used instead of the cluster's ServiceCIDR objects. ``pod_cidrs``: used where
    neither the Node nor its Dataplane has any of a family. ``ranges``: source ports of
    masqueraded flows, from which listeners and node ports are taken out.
    """

    tables = (Table.CONFIG, Table.PREFIX)

    def __init__(
        self,
        node_name: str,
        ranges: tuple[PortRange, ...],
        service_cidrs: tuple[IpNetwork, ...] = (),
        pod_cidrs: tuple[IpNetwork, ...] = (),
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._node_name = node_name
        self._ranges = ranges
        self._fixed_cidrs = service_cidrs
        self._fixed_pod_cidrs = pod_cidrs
        self._changed = changed
        self._node: NodeObject | None = None
        self._node_error = ""
        self._fallback_pod_cidrs: tuple[IpNetwork, ...] = ()
        self._masquerade_all = False
        self._gtpu_switches: int | None = None
        self._ue_pools: frozenset[IpNetwork] | None = None
        self._cidrs: dict[str, tuple[IpNetwork, ...]] = {}
        self._cidrs_known = bool(service_cidrs)
        self._addresses: frozenset[IpAddress] | None = None
        self._listeners: frozenset[int] = frozenset()
        self._node_ports: frozenset[int] = frozenset()
        self._versions: dict[str, str] = {}
        self._given_versions: dict[str, str] = {}
        self._given: dict[Table, dict[bytes, bytes]] = {table: {} for table in self.tables}
        self._dirty = True
        self._taken: frozenset[int] = frozenset()
        self.facts = NodeFacts(NodeObject(), snat_ranges=ranges)

    # ----------------------------------------------------------------------------------------------- facts

    def set_node(self, node: NodeObject | None, error: str = "") -> None:
        """Take the Node; with an error the last good one stays."""
        self._node_error = error
        if node is not None:
            self._node = node
        self._touch()

    def set_fallback_pod_cidrs(self, networks: tuple[IpNetwork, ...]) -> None:
        """Take the pod ranges to use where the Node has none."""
        if networks != self._fallback_pod_cidrs:
            self._fallback_pod_cidrs = networks
            self._touch()

    def set_masquerade_all(self, masquerade: bool) -> None:
        """Masquerade every flow to a ClusterIP, or only those that must be."""
        if masquerade != self._masquerade_all:
            self._masquerade_all = masquerade
            self._touch()

    def set_gtpu_switches(self, value: int | None) -> None:
        """Take the value of the setting GTPU_SWITCHES."""
        if value != self._gtpu_switches:
            self._gtpu_switches = value
            self._touch()

    def set_ue_pools(self, pools: frozenset[IpNetwork]) -> None:
        """Take the prefixes of user equipment behind this node's tunnels."""
        if pools != self._ue_pools:
            self._ue_pools = pools
            self._touch()

    def _pod_cidrs(self) -> tuple[IpNetwork, ...]:
        found = (self._node.pod_cidrs if self._node is not None else ()) or self._fallback_pod_cidrs
        families = {network.version for network in found}
        return (*found, *(n for n in self._fixed_pod_cidrs if n.version not in families))

    def set_service_cidrs(self, name: str, networks: tuple[IpNetwork, ...] | None) -> None:
        """Take the ranges of one ServiceCIDR; None: it is gone."""
        if networks is None:
            self._cidrs.pop(name, None)
        else:
            self._cidrs[name] = networks
        self._touch()

    def service_cidrs_known(self) -> None:
        """All ServiceCIDRs have been listed, or the cluster does not give them out."""
        if not self._cidrs_known:
            self._cidrs_known = True
            self._touch()

    def set_addresses(self, addresses: frozenset[IpAddress]) -> None:
        """Take the addresses of the node's interfaces."""
        if addresses != self._addresses:
            self._addresses = addresses
            self._touch()

    def set_listeners(self, ports: frozenset[int]) -> None:
        """Take the ports that programs of the node listen on.

        A port once taken out of the pool stays out while this process runs: flows may use what is left.
        """
        self._listeners |= {port for port in ports if self._in_pool(port)}
        self._retake()

    def set_node_ports(self, ports: Iterable[int]) -> None:
        """Take the node ports of all Services."""
        self._node_ports = frozenset(port for port in ports if self._in_pool(port))
        self._retake()

    def _in_pool(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self._ranges)

    def _retake(self) -> None:
        taken = self._listeners | self._node_ports
        if taken != self._taken:
            self._taken = taken
            self._touch()

    def note_version(self, kind: str, resource_version: str) -> None:
        """Everything of ``kind`` up to this resourceVersion has come in."""
        self._versions[kind] = resource_version

    def _touch(self) -> None:
        self._dirty = True
        node = self._node or NodeObject()
        cidrs = self._fixed_cidrs or tuple(sorted({n for c in self._cidrs.values() for n in c}, key=str))
        self.facts = dataclasses.replace(
            self.facts,
            node=node,
            own_addresses=self._addresses or frozenset(),
            pod_cidrs=self._pod_cidrs(),
            service_cidrs=cidrs,
            snat_ranges=snat_ranges(self._ranges, self._taken),
            masquerade_all=self._masquerade_all,
            gtpu_switches=self._gtpu_switches,
            ue_pools=self._ue_pools or frozenset(),
        )
        self._changed()

    @property
    def labels(self) -> Mapping[str, str] | None:
        """Labels of the Node; None: not known yet."""
        return self._node.labels if self._node is not None else None

    def known(self) -> NodeFacts | None:
        """Return the facts once the Node and its addresses are known."""
        known = self._node is not None and self._addresses is not None and self.facts.addresses()
        return self.facts if known else None

    def missing(self) -> str:
        """Say what is still waited for; empty: nothing."""
        if self._node is None:
            return f"Node {self._node_name}"
        if not self.facts.addresses():
            return f"an InternalIP in the status of Node {self._node_name}"
        if not self._cidrs_known:
            return "the cluster's ServiceCIDRs"
        if self._addresses is None:
            return "the node's own addresses"
        return "the UE pools of the GtpuEndpoints" if self._ue_pools is None else ""

    # ---------------------------------------------------------------------------------------------- source

    def ready(self) -> bool:
        """Whether all facts are known."""
        return not self.missing()

    def needed(self) -> bool:
        """Always."""
        return True

    def waiting(self) -> bool:
        """Whether a fact changed since the last take, or more of the kinds has been seen."""
        return self._dirty or self._versions != self._given_versions

    def take(self) -> Update:
        """Return the difference that the facts make."""
        self._dirty = False
        wanted = node_records(self.facts)
        upserts = {
            table: {k: r for k, r in records.items() if self._given[table].get(k) != r}
            for table, records in wanted.items()
        }
        deletes = {table: self._given[table].keys() - records.keys() for table, records in wanted.items()}
        self._given = wanted
        self._given_versions = dict(self._versions)
        return Update(upserts, deletes, self._given_versions)

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the Node: all records here are its."""
        return Owner("Node", "", self._node_name)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the Node."""
        found: list[Any] = []
        if self._node_error:
            found.append((Reason.INVALID, f"{self._node_error}. Its last valid version stays in force."))
        if self.ready() and not self.facts.snat_ranges:
            found.append(
                (
                    Reason.PORT_POOL_EXHAUSTED,
                    "every source port of the pool is taken by a listener or node port: widen the "
                    "chart's value sourcePorts.ranges",
                )
            )
        return [Problem("Node", "", self._node_name, reason, text) for reason, text in found]
