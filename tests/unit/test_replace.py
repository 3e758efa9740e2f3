"""Replacing in slices: all of a batch is in them, in an order in which it fits, links kept together."""

from __future__ import annotations

import errno
import ipaddress
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.agent_records import Tables, record_sets

from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    GtpuTunnelRecord,
    Protocol,
    ServiceRecord,
    Table,
    UePrefixRecord,
)
from vpp_operator.dataplane.replace import (
    FAMILIES,
    ROOMY,
    STEP,
    Family,
    let_go_ahead,
    may_be_tight,
    owner_of,
    room_is_coming,
    slices,
    tight_tables,
    without_room,
)


def batch_of(before: Tables, after: Tables) -> Batch:
    """From one state to another, as the agent plans it."""
    upserts = {t: [r for k, r in after[t].items() if before[t].get(k) != r] for t in Table}
    deletes = {t: [k for k in before[t] if k not in after[t]] for t in Table}
    ues = before[Table.GTPU_UE]
    deletes[Table.GTPU_UE] += [k for k, r in after[Table.GTPU_UE].items() if ues.get(k, r) != r]
    return Batch(upserts, deletes)


def holders(family: Family, before: Tables) -> dict[bytes, bytes]:
    return {key: owner_of(family.linked, raw) for key, raw in before[family.linked].items()}


@given(record_sets(), record_sets(), st.sampled_from(FAMILIES), st.integers(1, 5))
@settings(max_examples=300)
def test_the_slices_lead_where_the_batch_leads(
    before: Tables, after: Tables, family: Family, size: int
) -> None:
    batch = batch_of(before, after)
    tables = {table: dict(before[table]) for table in family.tables}
    counted = [t for t in family.tables if t is not family.linked]
    for part in slices(family, batch, holders(family, before), counted, size):
        assert sum(map(len, part.upserts.values())) + sum(map(len, part.deletes.values()))
        for table, keys in part.deletes.items():
            for key in keys:
                del tables[table][key]
        for table, records in part.upserts.items():
            for record in records:
                tables[table][record[: KEY_SIZE[table]]] = record
    assert tables == {table: after[table] for table in family.tables}


@given(record_sets(), record_sets(), st.sampled_from(FAMILIES), st.integers(1, 5))
def test_no_more_comes_than_went_before(before: Tables, after: Tables, family: Family, size: int) -> None:
    batch = batch_of(before, after)
    counted = [t for t in family.tables if t is not family.linked]
    gone, come = Counter[Table](), Counter[Table]()
    for part in slices(family, batch, holders(family, before), counted, size):
        gone.update({table: len(keys) for table, keys in part.deletes.items()})
        come.update({table: len(records) for table, records in part.upserts.items()})
        for table in counted:
            assert come[table] <= gone[table] or gone[table] == len(batch.deletes[table])


@given(record_sets(), record_sets(), st.sampled_from(FAMILIES), st.integers(1, 5))
def test_letting_go_ahead_leads_to_the_same(before: Tables, after: Tables, family: Family, size: int) -> None:
    batch = batch_of(before, after)
    tables = {table: dict(before[table]) for table in family.tables}
    cut = list(slices(family, batch, holders(family, before), [family.owner], size))
    parts = list(let_go_ahead(cut))
    for part in parts:
        assert not (any(part.upserts.values()) and any(part.deletes.values()))
        for table, keys in part.deletes.items():
            for key in keys:
                del tables[table][key]
        for table, records in part.upserts.items():
            tables[table].update((record[: KEY_SIZE[table]], record) for record in records)
    assert tables == {table: after[table] for table in family.tables}
    for number, one in enumerate(cut[1:]):
        if one.deletes and cut[number].upserts:
            going, coming = Batch({}, one.deletes), Batch(cut[number].upserts)
            assert parts.index(going) < parts.index(coming), "the next slice's room is not made ahead"


def test_fields_of_owners() -> None:
    service = 0x1122334455667788
    address = ipaddress.ip_address("192.0.2.1")
    endpoint = EndpointRecord(service, address, 80, EndpointFlag.SERVES).pack()
    frontend = FrontendRecord(4, Protocol.TCP, 80, address, service, FrontendKind.CLUSTER_IP).pack()
    assert owner_of(Table.ENDPOINT, endpoint) == ServiceRecord(service, 4, Protocol.TCP).pack()[:8]
    assert owner_of(Table.FRONTEND, frontend) == service.to_bytes(8, "little")
    tunnel = GtpuTunnelRecord(service, 0x99AABBCC, 1, address).pack()
    ue = UePrefixRecord(100, service, 0x99AABBCC).pack()
    assert owner_of(Table.GTPU_UE, ue) == tunnel[: GtpuTunnelRecord.KEY]


def test_others_get_their_turn_while_many_are_sorted() -> None:
    tunnels = [
        GtpuTunnelRecord(1, teid, teid, ipaddress.ip_address("192.0.2.1")).pack()
        for teid in range(1, 3 * STEP)
    ]
    batch = Batch({Table.GTPU_TUNNEL: tunnels}, {Table.GTPU_TUNNEL: [raw[:16] for raw in tunnels]})
    parts = list(let_go_ahead(slices(FAMILIES[1], batch, {}, [Table.GTPU_TUNNEL], STEP)))
    first = next(number for number, part in enumerate(parts) if part)
    assert first == 4, "two while those that go were sorted, two with those that come"
    assert parts[first:].count(Batch()) == 2, "while what else is to go was looked for"


def test_only_many_in_too_little_room_are_cut() -> None:
    many, some = [b""] * (ROOMY + 1), [b""]
    replacing = Batch({Table.GTPU_TUNNEL: many}, {Table.GTPU_TUNNEL: some})
    assert may_be_tight(replacing)
    assert tight_tables(replacing, {"gtpuTunnels": ROOMY}) == {Table.GTPU_TUNNEL: ROOMY}
    assert not tight_tables(replacing, {"gtpuTunnels": ROOMY + 1})
    assert not may_be_tight(Batch({Table.GTPU_TUNNEL: many})), "nothing goes"
    assert not may_be_tight(Batch({Table.GTPU_TUNNEL: some}, {Table.GTPU_TUNNEL: many}))


def test_what_may_come_after_others_went() -> None:
    tunnel, ue, other = b"t" * 48, b"u" * 40, b"o" * 40
    batch = Batch({Table.GTPU_TUNNEL: [tunnel], Table.GTPU_UE: [ue, other]})
    full = Failure(Table.GTPU_TUNNEL, tunnel[:16], -errno.ENOSPC)
    follows = Failure(Table.GTPU_UE, ue[:24], -errno.ENOENT)
    bad = Failure(Table.GTPU_UE, other[:24], -errno.EINVAL)
    again, final = without_room(batch, [full, follows, bad], [Table.GTPU_TUNNEL])
    assert dict(again.upserts) == {Table.GTPU_TUNNEL: [tunnel], Table.GTPU_UE: [ue]} and final == [bad]
    assert without_room(batch, [full, bad], [Table.GTPU_UE]) == (Batch(), [full, bad]), "no room was made"
    assert room_is_coming([bad, full], {"gtpuTunnels": 1}), "less is in the table than can be"
    assert not room_is_coming([bad, full], {"gtpuTunnels": 0, "services": 1}), "it is full"
    assert not room_is_coming([bad, follows], {"gtpuTunnels": 1}), "nothing found no room"
