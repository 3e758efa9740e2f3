"""What a refusal follows from, and what is said about it."""

from __future__ import annotations

import errno
import ipaddress

import pytest

from vpp_operator.agent.refusals import Cause, Refusal, causes
from vpp_operator.api.conditions import Reason
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    EndpointFlag,
    EndpointRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    Record,
    Table,
    UePrefixRecord,
)

LOCAL, REMOTE = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.200")
ENDPOINT = GtpuEndpointRecord(LOCAL, 7)
PEER = GtpuPeerRecord(7, REMOTE)
TUNNEL = GtpuTunnelRecord(7, 1, 2, REMOTE)
UE = UePrefixRecord(ipaddress.ip_network("10.45.0.1/32"), 7, 1)
CHAIN: tuple[Record, ...] = (ENDPOINT, PEER, TUNNEL, UE)


def found(*refused: tuple[Record, int]) -> dict[Table, Cause]:
    """The cause of each refused record, whose number is an errno."""

    def key(record: Record) -> tuple[Table, bytes]:
        return record.TABLE, record.pack()[: KEY_SIZE[record.TABLE]]

    codes = {key(record): -code for record, code in refused}
    wanted = {key(record): record.pack() for record in (*CHAIN, *(r for r, _ in refused))}
    refusals = [Refusal(*at, code) for at, code in codes.items()]
    made = causes(refusals, lambda *at: codes.get(at, 0), lambda *at: wanted.get(at))
    return {refusal.table: cause for refusal, cause in made}


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EINVAL])
def test_what_follows_from_a_refusal_has_its_cause(first: int, code: int) -> None:
    refused = [(CHAIN[first], code), *((record, errno.ENOENT) for record in CHAIN[first + 1 :])]
    cause = Cause(CHAIN[first].TABLE, -code)
    assert found(*refused) == {record.TABLE: cause for record, _ in refused}
    # In whatever order they are looked at.
    assert found(*reversed(refused)) == found(*refused)


def test_a_refusal_of_its_own_keeps_it() -> None:
    assert found((TUNNEL, errno.ENOSPC), (UE, errno.EEXIST))[Table.GTPU_UE] == Cause(
        Table.GTPU_UE, -errno.EEXIST
    )
    assert found((UE, errno.ENOENT))[Table.GTPU_UE].code == -errno.ENOENT
    endpoint = EndpointRecord(9, LOCAL, 80, EndpointFlag(0))
    assert found((endpoint, errno.ENOENT))[Table.ENDPOINT] == Cause(Table.ENDPOINT, -errno.ENOENT)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Table.GTPU_TUNNEL, "the table of tunnels is full (16); raise runtime.capacity.tunnels in a"),
        (Table.GTPU_UE, "the table of users' prefixes is full (32); raise runtime.capacity.tunnels in a"),
        (Table.GTPU_PEER, "the table of GTP-U peers is full (8), and its size is the engine's own"),
        (Table.SERVICE, "the table of services is full; raise runtime.capacity.services"),
    ],
)
def test_a_full_table_is_said_with_figure_and_field(table: Table, words: str) -> None:
    cause = Cause(table, -errno.ENOSPC)
    assert cause.reason == Reason.CAPACITY_EXCEEDED
    assert cause.text({"tunnels": 16, "ues": 32, "gtpuPeers": 8}).startswith(words)
