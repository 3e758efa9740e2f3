"""GTP-U objects for tests, and a slow, plain reading of the rules to compare with."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from typing import Any

from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import (
    GtpuEndpointFlag,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelFlag,
    GtpuTunnelRecord,
    Table,
    UePrefixRecord,
    gtpu_endpoint_id,
)
from vpp_operator.gtpu.model import Carrier, Endpoint, Tunnel, TunnelSet

Records = dict[Table, dict[bytes, bytes]]


def endpoint(name: str = "n3", **changes: Any) -> Endpoint:
    values: dict[str, Any] = {
        "address": "192.0.2.1",
        "pools": ["10.60.0.0/16", "2001:db8:60::/48"],
        "namespaces": ["a", "b"],
        "created": "2026-01-01T00:00:00Z",
        "uid": f"uid-{name}",
        "generation": 1,
    } | changes
    values["address"] = ipaddress.ip_address(values["address"])
    values["pools"] = tuple(ipaddress.ip_network(pool) for pool in values["pools"])
    values["namespaces"] = frozenset(values["namespaces"])
    return Endpoint(name=name, **values)


def tunnel(name: str = "t", **changes: Any) -> Tunnel:
    values: dict[str, Any] = {
        "namespace": "a",
        "endpoint": "n3",
        "remote": "198.51.100.7",
        "local_teid": 100,
        "remote_teid": 200,
        "prefixes": ["10.60.0.1/32"],
        "created": "2026-01-02T00:00:00Z",
        "uid": f"uid-{name}",
        "generation": 1,
    } | changes
    values["remote"] = ipaddress.ip_address(values["remote"])
    values["prefixes"] = tuple(ipaddress.ip_network(prefix) for prefix in values["prefixes"])
    return Tunnel(name=name, **values)


def tunnel_set(name: str = "s", **changes: Any) -> TunnelSet:
    values: dict[str, Any] = {
        "namespace": "a",
        "endpoint": "n3",
        "count": 8,
        "local_teid": 1000,
        "remote_teid": 2000,
        "remotes": ["198.51.100.7", "198.51.100.8", "198.51.100.9"],
        "bases": ["10.60.1.0/32", "2001:db8:60:100::/64"],
        "created": "2026-01-02T00:00:00Z",
        "uid": f"uid-{name}",
        "generation": 1,
    } | changes
    values["remotes"] = tuple(ipaddress.ip_address(remote) for remote in values["remotes"])
    values["bases"] = tuple(ipaddress.ip_network(base) for base in values["bases"])
    return TunnelSet(name=name, **values)


def singles(carrier: Carrier) -> list[Tunnel]:
    """The tunnels of a set one by one, as the definition of a set says."""
    if isinstance(carrier, Tunnel):
        return [carrier]
    found = []
    for i in range(carrier.count):
        prefixes = []
        for base in carrier.bases:
            size = base.num_addresses
            start = base.network_address + i * carrier.step * size
            prefixes.append(ipaddress.ip_network(f"{start}/{base.prefixlen}"))
        found.append(
            Tunnel(
                namespace=carrier.namespace,
                name=carrier.name,
                endpoint=carrier.endpoint,
                remote=carrier.remotes[i % len(carrier.remotes)],
                local_teid=carrier.local_teid + i,
                remote_teid=carrier.remote_teid + i,
                prefixes=tuple(prefixes),
                inner_vrf=carrier.inner_vrf,
                psc=carrier.psc,
                qfi=carrier.qfi,
                source_check=carrier.source_check,
                end_marker=carrier.end_marker,
            )
        )
    return found


def endpoint_winners(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """From the oldest on: those that share no address with one that is already in."""
    kept: list[Endpoint] = []
    for one in sorted(endpoints, key=lambda e: (e.created, e.uid, e.name)):
        if not any(_endpoints_clash(one, other) for other in kept):
            kept.append(one)
    return kept


def _endpoints_clash(one: Endpoint, other: Endpoint) -> bool:
    mine = [ipaddress.ip_network(one.address), *one.pools]
    theirs = [ipaddress.ip_network(other.address), *other.pools]
    return any(a.version == b.version and a.overlaps(b) for a in mine for b in theirs)


def carrier_winners(carriers: Iterable[Carrier], endpoints: Collection[Endpoint]) -> list[Carrier]:
    """From the oldest on: those that their endpoint takes and that overlap nothing that is already in."""
    by_name = {one.name: one for one in endpoints}
    kept: list[Carrier] = []
    for one in sorted(carriers, key=lambda c: (c.created, c.uid, c.owner)):
        there = by_name.get(one.endpoint)
        if there is None or not _fits(one, there):
            continue
        if not any(_carriers_clash(one, other) for other in kept):
            kept.append(one)
    return kept


def _fits(carrier: Carrier, there: Endpoint) -> bool:
    if carrier.namespace not in there.namespaces:
        return False
    for one in singles(carrier):
        if one.remote.version != there.address.version:
            return False
        if there.teid_count and not 0 <= one.local_teid - there.teid_base < there.teid_count:
            return False
        for prefix in one.prefixes:
            if not any(p.version == prefix.version and prefix.subnet_of(p) for p in there.pools):  # type: ignore[arg-type]
                return False
    return True


def _carriers_clash(one: Carrier, other: Carrier) -> bool:
    if one.endpoint == other.endpoint:
        teids = {t.local_teid for t in singles(one)} & {t.local_teid for t in singles(other)}
        if teids:
            return True
    if one.inner_vrf != other.inner_vrf:
        return False
    return any(
        a_family == b_family and a_first <= b_last and b_first <= a_last
        for a_family, a_first, a_last in _spans(one)
        for b_family, b_first, b_last in _spans(other)
    )


def _spans(carrier: Carrier) -> list[tuple[int, int, int]]:
    """From the first to the last address of each prefix, of a set over all its tunnels."""
    if isinstance(carrier, Tunnel) and carrier.vlan:
        return [(0, carrier.vlan, carrier.vlan)]
    columns = zip(*(one.prefixes for one in singles(carrier)), strict=True)
    return [
        (column[0].version, int(column[0].network_address), int(column[-1].broadcast_address))
        for column in columns
    ]


def records(endpoints: Iterable[Endpoint], carriers: Iterable[Carrier], active: Collection[str]) -> Records:
    """What a node that serves the endpoints ``active`` should hold of accepted objects."""
    found: Records = {table: {} for table in Table if table >= Table.GTPU_ENDPOINT}

    def add(table: Table, record: Any) -> None:
        raw = record.pack()
        found[table][raw[: record.KEY]] = raw

    served = {one.name: one for one in endpoints if one.name in active}
    for one in served.values():
        flag = GtpuEndpointFlag.ENTROPY if one.entropy else GtpuEndpointFlag.NONE
        add(
            Table.GTPU_ENDPOINT,
            GtpuEndpointRecord(
                one.address,
                gtpu_endpoint_id(one.name, one.address),
                one.teid_base,
                one.teid_count,
                one.mtu,
                one.dscp,
                flag,
            ),
        )
    for carrier in carriers:
        there = served.get(carrier.endpoint)
        if there is None:
            continue
        ident = gtpu_endpoint_id(there.name, there.address)
        for t in singles(carrier):
            flags = GtpuTunnelFlag(int(t.source_check) | 2 * int(t.end_marker))
            add(
                Table.GTPU_PEER,
                GtpuPeerRecord(ident, t.remote, there.echo_interval_ms, there.t3_ms, there.n3),
            )
            add(
                Table.GTPU_TUNNEL,
                GtpuTunnelRecord(
                    ident,
                    t.local_teid,
                    t.remote_teid,
                    t.remote,
                    t.payload,
                    t.psc,
                    t.qfi,
                    flags,
                    t.inner_vrf,
                ),
            )
            for prefix in (t.vlan,) if t.vlan else t.prefixes:
                add(Table.GTPU_UE, UePrefixRecord(prefix, ident, t.local_teid, t.inner_vrf))
    return found


def owners(carriers: Iterable[Carrier]) -> set[Owner]:
    return {carrier.owner for carrier in carriers}
