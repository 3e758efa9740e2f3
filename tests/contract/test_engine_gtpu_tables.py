"""GTP-U programming: records come and go in their order, what is refused is named, a restart keeps them."""

from __future__ import annotations

import errno
import ipaddress
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.contract.engine_gtpu import (
    CAPACITY,
    I4,
    LOCAL_TEID,
    MANY,
    O4,
    O6,
    REMOTE_TEID,
    encapsulated,
    endpoint,
    gtp,
    gtpu,
    hop,
    peer,
    pools,
    switches,
    tunnel,
    ue,
)
from tests.contract.engine_lab import Namespace, Wire
from tests.contract.engine_packets import packet
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_services import difference, pack, settings
from tests.contract.engines import ENGINES, Onward, engine_named

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    GtpuEndpointRecord,
    GtpuPayload,
    GtpuPeerRecord,
    GtpuPsc,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    Table,
    UePrefixRecord,
    digest,
)

TABLES = (Table.GTPU_ENDPOINT, Table.GTPU_PEER, Table.GTPU_TUNNEL, Table.GTPU_UE)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, node, CAPACITY) as process:
        process.start()
        yield process


async def dumped(dataplane: MessageDataplane) -> dict[Table, dict[bytes, int]]:
    found: dict[Table, dict[bytes, int]] = {}
    for table in Table:
        entries = [entry async for piece in dataplane.dump(table) for entry in piece]
        found[table] = dict(entries)
        assert len(found[table]) == len(entries), "an entry came twice"
    return found


def digests(records: list[Record]) -> dict[Table, dict[bytes, int]]:
    return {t: {key: digest(raw) for key, raw in rows.items()} for t, rows in pack(records).items()}


def some_tunnels() -> list[Record]:
    records = [
        *pools(),
        endpoint(O4),
        endpoint(O6, dscp=46, mtu=1400),
        peer(O4),
        peer(O4, O4.other_peer),
        peer(O6),
    ]
    for number in range(20):
        o = O6 if number % 3 == 0 else O4
        teid = number + 1 if number % 2 else MANY + number
        psc = GtpuPsc(number % 3)
        records += [
            tunnel(o, local_teid=teid, remote_teid=1000 + number, psc=psc, qfi=number),
            ue(o, f"10.60.2.{number}/32", teid),
            ue(o, f"fd00:60:2:{number:x}::/64", teid),
        ]
    return records


async def test_dump_is_what_was_programmed(dataplane: MessageDataplane) -> None:
    wanted = some_tunnels()
    assert await dataplane.apply(difference([], wanted)) == []
    assert await dumped(dataplane) == digests(wanted)
    for table, rows in pack(wanted).items():
        assert await dataplane.fetch(table, [bytes(KEY_SIZE[table]), *rows]) == list(rows.values())
    assert await dataplane.apply(difference([], wanted)) == [], "again"
    assert await dumped(dataplane) == digests(wanted)
    stats = await dataplane.stats()
    used = {
        name: stats.tables[name].used for name in ("gtpuEndpoints", "gtpuPeers", "gtpuTunnels", "gtpuUes")
    }
    assert used == {"gtpuEndpoints": 2, "gtpuPeers": 3, "gtpuTunnels": 20, "gtpuUes": 40}
    assert await dataplane.apply(difference(wanted, [])) == []
    assert not any((await dumped(dataplane)).values())
    stats = await dataplane.stats()
    assert not any(stats.tables[name].used for name in used)


async def test_everything_changes_in_place(dataplane: MessageDataplane) -> None:
    before = some_tunnels()
    after: list[Record] = []
    for record in before:
        match record:
            case GtpuTunnelRecord():
                remote = O4.other_peer if record.endpoint == O4.id else O6.peer
                after.append(replace(record, remote=ipaddress.ip_address(remote), remote_teid=5, qfi=63))
            case GtpuPeerRecord():
                after.append(replace(record, echo_interval_ms=60000, t3_ms=1, n3=9, mtu=1400))
            case GtpuEndpointRecord():
                after.append(replace(record, dscp=1, mtu=1300, port_low=2152, port_high=2152))
            case _:
                after.append(record)
    assert await dataplane.apply(difference([], before)) == []
    assert await dataplane.apply(difference(before, after)) == []
    assert await dumped(dataplane) == digests(after)


async def test_bad_records_are_named_and_the_others_go_on(dataplane: MessageDataplane) -> None:
    good = gtpu(O4)
    assert await dataplane.apply(difference([], good)) == []

    def altered(record: Record, offset: int, content: bytes) -> bytes:
        raw = bytearray(record.pack())
        raw[offset : offset + len(content)] = content
        return bytes(raw)

    def at_address(address: str, **more: int) -> GtpuEndpointRecord:
        return replace(endpoint(O4), address=ipaddress.ip_address(address), **more)

    other = tunnel(O4, local_teid=9)
    bad = {
        Table.GTPU_ENDPOINT: [
            altered(at_address("192.0.2.60", id=7), 4, b"\x05"),
            replace(endpoint(O4), address=ipaddress.ip_address("192.0.2.61"), id=0).pack(),
            replace(endpoint(O4), address=ipaddress.ip_address("192.0.2.62"), id=8, dscp=64).pack(),
            replace(
                endpoint(O4), address=ipaddress.ip_address("192.0.2.63"), id=9, port_low=9, port_high=8
            ).pack(),
        ],
        Table.GTPU_PEER: [
            replace(peer(O4, "198.51.100.99"), endpoint=4711).pack(),
            altered(peer(O4, "198.51.100.98"), 8, b"\x06"),
        ],
        Table.GTPU_TUNNEL: [
            replace(other, local_teid=0).pack(),
            replace(other, qfi=64).pack(),
            replace(other, local_teid=10, remote=ipaddress.ip_address("198.51.100.77")).pack(),
            altered(replace(other, local_teid=11), 40, b"\x03"),
            altered(replace(other, local_teid=12), 41, b"\x03"),
        ],
        Table.GTPU_UE: [
            ue(O4, "10.60.3.1/32", 4711).pack(),
            altered(ue(O4, "10.60.3.0/24"), 11, b"\x01"),
            altered(ue(O4, "10.60.3.2/32"), 5, b"\x21"),
        ],
    }
    extra = [tunnel(O4, local_teid=13), ue(O4, "10.60.3.3/32", 13)]
    upserts = {table: list(records) for table, records in bad.items()}
    for record in extra:
        upserts[record.TABLE].insert(1, record.pack())
    failures = await dataplane.apply(Batch(upserts=upserts))
    refused = {(f.table, f.key): f.code for f in failures}
    assert set(refused) == {(t, raw[: KEY_SIZE[t]]) for t, records in bad.items() for raw in records}
    assert set(refused.values()) <= {-errno.EINVAL, -errno.ENOENT}
    assert refused[Table.GTPU_PEER, bad[Table.GTPU_PEER][0][:32]] == -errno.ENOENT
    assert refused[Table.GTPU_TUNNEL, bad[Table.GTPU_TUNNEL][2][:16]] == -errno.ENOENT
    assert refused[Table.GTPU_UE, bad[Table.GTPU_UE][0][:24]] == -errno.ENOENT
    assert await dumped(dataplane) == digests([*good, *extra])


async def test_what_is_in_use_is_not_deleted(dataplane: MessageDataplane) -> None:
    records = gtpu(O4)
    assert await dataplane.apply(difference([], records)) == []
    for record in (endpoint(O4), peer(O4), tunnel(O4)):
        key = record.pack()[: record.KEY]
        assert await dataplane.apply(Batch(deletes={record.TABLE: [key]})) == [
            Failure(record.TABLE, key, -errno.EBUSY)
        ]
    key = peer(O4, O4.other_peer).pack()[: GtpuPeerRecord.KEY]
    assert await dataplane.apply(Batch(deletes={Table.GTPU_PEER: [key]})) == []


async def test_prefix_of_another_tunnel_stays(dataplane: MessageDataplane, wire: Wire) -> None:
    records = [*gtpu(O4), tunnel(O4, local_teid=2, remote_teid=22)]
    assert await dataplane.apply(difference([], records)) == []
    taken = ue(O4, I4.prefix, 2)
    key = taken.pack()[: UePrefixRecord.KEY]
    upsert = Batch(upserts={Table.GTPU_UE: [taken.pack()]})
    assert await dataplane.apply(upsert) == [Failure(Table.GTPU_UE, key, -errno.EEXIST)]
    request = packet(Protocol.UDP, (I4.host, 53), (I4.ue, 4000))
    there = wire.exchange(request).packet
    assert there == encapsulated(O4, hop(request), there)
    # With its deletion in the same batch it moves.
    assert await dataplane.apply(Batch(upserts=upsert.upserts, deletes={Table.GTPU_UE: [key]})) == []
    there = wire.exchange(request).packet
    assert there == encapsulated(O4, hop(request), there, teid=22)


async def test_full_tables_refuse_and_stay_correct(
    dataplane: MessageDataplane, wire: Wire, onward: Onward
) -> None:
    base: list[Record] = [*pools(), endpoint(O4), peer(O4)]
    assert await dataplane.apply(difference([], base)) == []
    tunnels = [tunnel(O4, local_teid=teid) for teid in range(1, CAPACITY["tunnels"] + 11)]
    failures = await dataplane.apply(difference([], list(tunnels)))
    assert failures and {f.code for f in failures} == {-errno.ENOSPC}
    refused = {f.key for f in failures}
    kept = [t for t in tunnels if t.pack()[: t.KEY] not in refused]
    assert len(kept) >= CAPACITY["tunnels"]
    assert (await dumped(dataplane))[Table.GTPU_TUNNEL] == digests(list(kept))[Table.GTPU_TUNNEL]
    assert await dataplane.apply(difference([], [ue(O4, I4.prefix, kept[-1].local_teid)])) == []
    inner = packet(Protocol.UDP, (I4.ue, 4000), (I4.host, 53))
    assert wire.exchange(gtp(O4, inner, teid=kept[-1].local_teid)).packet == onward(inner)
    # Room again, for the ones that had to stay out.
    gone = [t.pack()[: t.KEY] for t in kept[: len(refused)]]
    assert await dataplane.apply(Batch(deletes={Table.GTPU_TUNNEL: gone})) == []
    late = [t.pack() for t in tunnels if t.pack()[: t.KEY] in refused]
    for _ in range(50):  # freed slots come back when every worker has passed on
        failures = await dataplane.apply(Batch(upserts={Table.GTPU_TUNNEL: late}))
        if not failures:
            break
    assert failures == []


async def test_counters_of_chosen_and_of_all_tunnels(dataplane: MessageDataplane, wire: Wire) -> None:
    wanted = [*gtpu(O4), *(tunnel(O4, local_teid=teid) for teid in range(1, 20))]
    assert await dataplane.apply(difference([], wanted)) == []
    inner = packet(Protocol.UDP, (I4.ue, 4000), (I4.host, 53))
    for _ in range(3):
        wire.exchange(gtp(O4, inner))
    key = tunnel(O4).pack()[: GtpuTunnelRecord.KEY]
    absent = tunnel(O4, local_teid=4711).pack()[: GtpuTunnelRecord.KEY]
    [one] = await dataplane.gtpu_counters([absent, key])
    assert (one.endpoint, one.local_teid, one.rx_packets) == (O4.id, LOCAL_TEID, 3)
    everything = await dataplane.gtpu_counters()
    assert {c.local_teid for c in everything} == {*range(1, 20), LOCAL_TEID}
    assert sum(c.rx_packets for c in everything) == 3
    assert await dataplane.gtpu_counters([]) == []
    # A tunnel that comes again starts at 0.
    assert await dataplane.apply(difference(wanted, pools())) == []
    assert await dataplane.apply(difference(pools(), wanted)) == []
    assert all(c.rx_packets == 0 for c in await dataplane.gtpu_counters())


async def test_a_killed_engine_keeps_tunnels(engine: Engine, wire: Wire, onward: Onward) -> None:
    wanted = some_tunnels()
    inner = packet(Protocol.UDP, ("10.60.2.4", 4000), (I4.host, 53))
    request = packet(Protocol.UDP, (I4.host, 53), ("10.60.2.4", 4000))
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], wanted)) == []
        first = await dataplane.info()
    there = wire.exchange(request).packet
    for end in (engine.kill, engine.stop):
        end()
        engine.start()
        async with engine.dataplane() as dataplane:
            assert (await dataplane.info()).creation_id == first.creation_id
            assert await dumped(dataplane) == digests(wanted)
            assert wire.exchange(gtp(O4, inner, teid=MANY + 4)).packet == onward(inner)
            assert wire.exchange(request).packet == there
            assert await dataplane.apply(difference([], wanted)) == []


async def test_ethernet_payload_is_served(dataplane: MessageDataplane) -> None:
    wanted = [*gtpu(O4), tunnel(O4, local_teid=7, remote_teid=77, payload=GtpuPayload.ETHERNET)]
    assert await dataplane.apply(difference([], wanted)) == []
    assert await dumped(dataplane) == digests(wanted)


FORWARDING_GRAPH = ("skipInnerIpInput", "gtpuBypass", "skipOuterLookup")
"""What only an engine with a forwarding graph of its own can skip."""


async def test_switches_in_effect(engine: Engine, dataplane: MessageDataplane) -> None:
    graph = engine.KIND == "vpp"
    never = dict.fromkeys(FORWARDING_GRAPH, "off" if graph else "notApplicable")
    default = {"lookupCache": "on", "prefetch": "on", "loop": "quad"}
    if graph:
        default |= dict.fromkeys(FORWARDING_GRAPH, "on") | {"gtpuBypassForm": "feature"}
    assert (await dataplane.info()).gtpu_switches == never | default
    for cache in (False, True):
        for prefetch in (False, True):
            for loop, name in ((1, "single"), (2, "dual"), (4, "quad")):
                assert await dataplane.apply(difference([], [switches(cache, prefetch, loop)])) == []
                wanted = never | {
                    "lookupCache": "on" if cache else "off",
                    "prefetch": "on" if prefetch else "off",
                    "loop": name,
                }
                assert (await dataplane.info()).gtpu_switches == wanted
                assert (await dataplane.stats()).gtpu_switches == wanted
    assert await dataplane.apply(difference([switches(True, True, 4)], [])) == []
    assert (await dataplane.info()).gtpu_switches == never | default


@pytest.mark.parametrize("count", [int(os.environ.get("VPP_OPERATOR_TEST_TUNNELS", "1000000"))])
async def test_many_tunnels(node: Namespace, count: int) -> None:
    """One endpoint, `count` tunnels with a UE each, by index and by hash: programmed, dumped, used."""
    capacity = {"sessions": 1024, "tunnels": count, "ues": count, "gtpu-peers": 16}
    records = {Table.GTPU_TUNNEL: tunnels_in_bulk(count), Table.GTPU_UE: ues_in_bulk(count)}
    with embedded_engine(node, capacity=capacity) as engine:
        engine.start()
        wire = Wire(node)
        async with engine.dataplane() as dataplane:
            half = count // 2
            pool = PrefixRecord(ipaddress.ip_network("10.48.0.0/12"), PrefixClass.UE_POOL)
            base = [*settings(), pool, endpoint(O4, teid_count=half), peer(O4)]
            assert await dataplane.apply(difference([], base)) == []
            start = time.perf_counter()
            assert await dataplane.apply(Batch(upserts=records)) == []
            programmed = time.perf_counter()
            for table, rows in records.items():
                found = {entry async for piece in dataplane.dump(table) for entry in piece}
                size = KEY_SIZE[table]
                assert found == {(raw[:size], digest(raw)) for raw in rows}
            end = time.perf_counter()
            rate = 2 * count / (programmed - start)
            print(f"{count} tunnels: {rate:,.0f} records/s, dumped in {end - programmed:.1f} s")
            for number in (0, half - 1, half, count - 1):
                address = str(ipaddress.ip_address(UE_BASE + number))
                inner = packet(Protocol.UDP, (address, 4000), (I4.host, 53))
                assert wire.exchange(gtp(O4, inner, teid=number + 1)).packet == inner
                request = packet(Protocol.UDP, (I4.host, 53), (address, 4000))
                there = wire.exchange(request).packet
                assert there == encapsulated(O4, hop(request), there, teid=REMOTE_TEID + number)
            counters = await dataplane.gtpu_counters()
            assert len(counters) == count
            assert sum(c.rx_packets for c in counters) == sum(c.tx_packets for c in counters) == 4
        engine.kill()
        engine.start()
        async with engine.dataplane() as dataplane:
            assert (await dataplane.stats()).tables["gtpuTunnels"].used == count
            assert wire.exchange(gtp(O4, inner, teid=count)).packet == inner
        wire.close()


UE_BASE = int(ipaddress.ip_address("10.48.0.0"))


def tunnels_in_bulk(count: int) -> list[bytes]:
    """Packed tunnel records with local TEIDs from 1 and remote TEIDs from REMOTE_TEID on."""
    sample = tunnel(O4, local_teid=1).pack()
    head, tail = sample[:8], sample[20:]
    layout = struct.Struct("<IxxxxI")
    return [head + layout.pack(1 + n, REMOTE_TEID + n) + tail for n in range(count)]


def ues_in_bulk(count: int) -> list[bytes]:
    """Packed UE records: one address for each of the tunnels."""
    sample = ue(O4, "10.48.0.0/32", 1).pack()
    return [
        sample[:8] + (UE_BASE + n).to_bytes(4, "big") + sample[12:32] + struct.pack("<I4x", 1 + n)
        for n in range(count)
    ]


def test_bulk_records_are_records() -> None:
    assert tunnels_in_bulk(3)[2] == tunnel(O4, local_teid=3, remote_teid=REMOTE_TEID + 2).pack()
    assert ues_in_bulk(3)[2] == ue(O4, "10.48.0.2/32", 3).pack()
