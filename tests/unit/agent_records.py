"""Hypothesis strategies: consistent sets of records, as Services would make them."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from vpp_operator.dataplane.records import (
    KEY_SIZE,
    ConfigKey,
    ConfigRecord,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceFlag,
    ServiceRecord,
    Table,
    UePrefixRecord,
)

Tables = dict[Table, dict[bytes, bytes]]


def add(tables: Tables, record: Record) -> None:
    raw = record.pack()
    tables[record.TABLE][raw[: KEY_SIZE[record.TABLE]]] = raw


def _add_gtpu(draw: st.DrawFn, tables: Tables) -> None:
    """Endpoints with tunnels whose peers move, and UE prefixes that go from one tunnel to another."""
    taken: set[int] = set()
    for ident in draw(st.sets(st.integers(1, 2))):
        local = ipaddress.IPv4Address(f"192.0.2.{ident}")
        add(tables, GtpuEndpointRecord(local, ident, mtu=draw(st.sampled_from([0, 1400]))))
        for teid in draw(st.sets(st.integers(1, 3))):
            peer = ipaddress.IPv4Address(f"192.0.2.{draw(st.integers(100, 101))}")
            add(tables, GtpuPeerRecord(ident, peer))
            add(tables, GtpuTunnelRecord(ident, teid, draw(st.integers(1, 2)), peer))
            ue = draw(st.integers(1, 3))
            if ue not in taken:
                taken.add(ue)
                add(tables, UePrefixRecord(ipaddress.IPv4Network(f"10.45.0.{ue}/32"), ident, teid))


@st.composite
def record_sets(draw: st.DrawFn) -> Tables:
    """A small set in which every frontend and endpoint has its service; keys overlap between sets."""
    tables: Tables = {table: {} for table in Table}
    for ident in draw(st.sets(st.integers(1, 5))):
        flags = draw(st.sampled_from([ServiceFlag(0), ServiceFlag.AFFINITY_CLIENT_IP]))
        add(tables, ServiceRecord(ident, 4, Protocol.TCP, flags))
        for last in draw(st.sets(st.integers(1, 4))):
            state = draw(st.sampled_from([EndpointFlag.SERVES, EndpointFlag.SERVES | EndpointFlag.CLUSTER]))
            add(tables, EndpointRecord(ident, ipaddress.IPv4Address(f"10.0.0.{last}"), 80, state))
        for port in draw(st.sets(st.integers(1, 3))):
            # The same address and port for several services: a frontend that moves between them.
            add(
                tables,
                FrontendRecord(
                    4,
                    Protocol.TCP,
                    port,
                    ipaddress.IPv4Address("10.96.0.1"),
                    ident,
                    FrontendKind.CLUSTER_IP,
                ),
            )
    _add_gtpu(draw, tables)
    for index in draw(st.sets(st.integers(0, 2))):
        add(tables, ConfigRecord(ConfigKey.SNAT_PORT_RANGE, index, draw(st.integers(1, 3))))
    for last in draw(st.sets(st.integers(1, 3))):
        add(tables, PrefixRecord(ipaddress.IPv4Network(f"10.1.{last}.0/24"), PrefixClass.POD))
    return tables
