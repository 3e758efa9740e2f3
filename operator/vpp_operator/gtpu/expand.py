"""Tunnels and sets -> packed records, in bulk: a column of bytes at a time, no object per tunnel."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain

from vpp_operator.dataplane.records import (
    RECORD_SIZE,
    GtpuEndpointFlag,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelFlag,
    GtpuTunnelRecord,
    Table,
    UePrefixRecord,
)

from .model import Carrier, Endpoint, IpAddress, IpNetwork, Tunnel, TunnelSet

__all__ = ["SLICE", "all_records", "endpoint_record", "peer_record", "split", "tunnel_records", "ue_records"]

TUNNEL_SIZE = RECORD_SIZE[Table.GTPU_TUNNEL]
UE_SIZE = RECORD_SIZE[Table.GTPU_UE]

SLICE = 16384
"""Tunnels expanded at a time."""

# Places of the fields that count up, in the records' layouts.
LOCAL_TEID = 8
REMOTE_TEID = 16
UE_ADDRESS = 8
UE_TEID = 32


def endpoint_record(endpoint: Endpoint) -> bytes:
    """Return the record of an endpoint."""
    return GtpuEndpointRecord(
        address=endpoint.address,
        id=endpoint.ident,
        teid_base=endpoint.teid_base,
        teid_count=endpoint.teid_count,
        mtu=endpoint.mtu,
        dscp=endpoint.dscp,
        flags=GtpuEndpointFlag.ENTROPY if endpoint.entropy else GtpuEndpointFlag.NONE,
    ).pack()


def peer_record(endpoint: Endpoint, address: IpAddress) -> bytes:
    """Return the record of a peer of an endpoint."""
    return GtpuPeerRecord(
        endpoint=endpoint.ident,
        address=address,
        echo_interval_ms=endpoint.echo_interval_ms,
        t3_ms=endpoint.t3_ms,
        n3=endpoint.n3,
    ).pack()


def _flags(carrier: Carrier) -> GtpuTunnelFlag:
    flags = GtpuTunnelFlag.NONE
    if carrier.source_check:
        flags |= GtpuTunnelFlag.INNER_SOURCE_CHECK
    if carrier.end_marker:
        flags |= GtpuTunnelFlag.END_MARKER_ON_REPLACE
    return flags


def _template(carrier: Carrier, ident: int, remote: IpAddress) -> bytes:
    return GtpuTunnelRecord(
        endpoint=ident,
        local_teid=carrier.local_teid,
        remote_teid=carrier.remote_teid,
        remote=remote,
        payload=carrier.payload,
        psc=carrier.psc,
        qfi=carrier.qfi,
        flags=_flags(carrier),
        inner_vrf=carrier.inner_vrf,
    ).pack()


def _column(records: bytearray, at: int, size: int, values: array[int], big: bool = False) -> None:
    """Write ``values`` into the field at ``at`` of each record, byte by byte of the field."""
    if big != (sys.byteorder == "big"):
        values.byteswap()
    raw = values.tobytes()
    width = values.itemsize
    for byte in range(width):
        records[at + byte :: size] = raw[byte::width]


def tunnel_records(carrier: Carrier, ident: int, start: int, stop: int) -> bytes:
    """Return the packed tunnel records of tunnels ``start`` to ``stop`` (excluded), end to end."""
    if isinstance(carrier, Tunnel):
        return _template(carrier, ident, carrier.remote) if start == 0 < stop else b""
    count = stop - start
    peers = len(carrier.remotes)
    cycle = b"".join(
        _template(carrier, ident, carrier.remotes[(start + i) % peers]) for i in range(min(peers, count))
    )
    records = bytearray(cycle * -(-count * TUNNEL_SIZE // max(1, len(cycle))))[: count * TUNNEL_SIZE]
    first, remote = carrier.local_teid + start, carrier.remote_teid + start
    _column(records, LOCAL_TEID, TUNNEL_SIZE, array("I", range(first, first + count)))
    _column(records, REMOTE_TEID, TUNNEL_SIZE, array("I", range(remote, remote + count)))
    return bytes(records)


def ue_records(carrier: Carrier, ident: int, start: int, stop: int) -> bytes:
    """Return the packed UE prefix records of tunnels ``start`` to ``stop`` (excluded), end to end."""
    if isinstance(carrier, Tunnel):
        prefixes: tuple[IpNetwork | int, ...] = (carrier.vlan,) if carrier.vlan else carrier.prefixes
        if not start == 0 < stop:
            return b""
        return b"".join(
            UePrefixRecord(prefix, ident, carrier.local_teid, carrier.inner_vrf).pack() for prefix in prefixes
        )
    return b"".join(_ue_block(carrier, base, ident, start, stop) for base in carrier.bases)


def _ue_block(carrier: TunnelSet, base: IpNetwork, ident: int, start: int, stop: int) -> bytes:
    count = stop - start
    template = UePrefixRecord(base, ident, carrier.local_teid, carrier.inner_vrf).pack()
    records = bytearray(template * count)
    stride = carrier.step << (base.max_prefixlen - base.prefixlen)
    first = int(base.network_address) + start * stride
    addresses = range(first, first + count * stride, stride)
    if base.version == 4:
        _column(records, UE_ADDRESS, UE_SIZE, array("I", addresses), big=True)
    else:
        _column(records, UE_ADDRESS, UE_SIZE, array("Q", (a >> 64 for a in addresses)), big=True)
        if base.prefixlen > 64:
            low = (1 << 64) - 1
            _column(records, UE_ADDRESS + 8, UE_SIZE, array("Q", (a & low for a in addresses)), big=True)
    teid = carrier.local_teid + start
    _column(records, UE_TEID, UE_SIZE, array("I", range(teid, teid + count)))
    return bytes(records)


def split(records: bytes, size: int) -> Iterator[bytes]:
    """Yield the records of a block one by one."""
    return (records[at : at + size] for at in range(0, len(records), size))


def all_records(carrier: Carrier, ident: int) -> Iterable[tuple[Table, bytes]]:
    """Yield every record of a tunnel or set with its table, in slices that bound the memory."""
    for start in range(0, carrier.count, SLICE):
        stop = min(start + SLICE, carrier.count)
        yield from chain(
            ((Table.GTPU_TUNNEL, r) for r in split(tunnel_records(carrier, ident, start, stop), TUNNEL_SIZE)),
            ((Table.GTPU_UE, r) for r in split(ue_records(carrier, ident, start, stop), UE_SIZE)),
        )
