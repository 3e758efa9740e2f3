"""Programming: what is asked for is there, what is refused is named, what was altered is found."""

from __future__ import annotations

import errno
import ipaddress
import re
from dataclasses import replace

import pytest
from tests.contract.engine_lab import Wire
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import SMALL, Engine
from tests.contract.engine_services import V4, V6, Service, difference, pack, settings

from vpp_operator.dataplane.messages import MessageDataplane
from vpp_operator.dataplane.protocol import Batch, Failure
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    Protocol,
    Record,
    ServiceFlag,
    ServiceRecord,
    Table,
    digest,
)


def some_services(n: int = 8) -> list[Record]:
    records = settings()
    for i in range(n):
        for a in (V4, V6):
            base = ipaddress.ip_address(a.vip)
            service = Service(
                f"s{i}",
                a.family,
                Protocol.TCP if i % 2 else Protocol.UDP,
                80 + i,
                tuple((address, 8080 + i) for address in a.endpoints[: i % 5]),
                vip=str(base + i),
                node_port=30000 + i,
            )
            records += service.records()
    return records


async def dumped(dataplane: MessageDataplane) -> dict[Table, dict[bytes, int]]:
    found: dict[Table, dict[bytes, int]] = {}
    for table in Table:
        entries = [entry async for piece in dataplane.dump(table) for entry in piece]
        found[table] = dict(entries)
        assert len(found[table]) == len(entries), "an entry came twice"
    return found


def digests(records: list[Record]) -> dict[Table, dict[bytes, int]]:
    return {t: {key: digest(raw) for key, raw in rows.items()} for t, rows in pack(records).items()}


async def test_dump_is_what_was_programmed(dataplane: MessageDataplane) -> None:
    wanted = some_services()
    assert await dataplane.apply(difference([], wanted)) == []
    assert await dumped(dataplane) == digests(wanted)


async def test_fetch_returns_the_records(dataplane: MessageDataplane) -> None:
    wanted = pack(some_services())
    assert await dataplane.apply(Batch(upserts={t: list(rows.values()) for t, rows in wanted.items()})) == []
    for table, rows in wanted.items():
        absent = bytes(KEY_SIZE[table])
        assert await dataplane.fetch(table, [absent, *rows]) == list(rows.values())


async def test_changes_arrive_and_applying_twice_changes_nothing(dataplane: MessageDataplane) -> None:
    first = some_services()
    assert await dataplane.apply(difference([], first)) == []
    # The third service goes, all others turn into services with other endpoints and flags.
    second: list[Record] = []
    gone = {service.id for service in first if isinstance(service, ServiceRecord)}.pop()
    for record in first:
        if isinstance(record, ServiceRecord) and record.id == gone:
            continue
        if isinstance(record, FrontendRecord | EndpointRecord) and record.service == gone:
            continue
        if isinstance(record, EndpointRecord) and record.port % 2:
            continue
        if isinstance(record, EndpointRecord):
            record = replace(record, flags=EndpointFlag.SERVES)
        second.append(record)
    assert await dataplane.apply(difference(first, second)) == []
    assert await dumped(dataplane) == digests(second)
    assert await dataplane.apply(difference([], second)) == []
    assert await dumped(dataplane) == digests(second)
    assert await dataplane.apply(difference(second, [])) == []
    assert await dumped(dataplane) == {t: {} for t in Table}
    stats = await dataplane.stats()
    assert stats.tables["services"].used == stats.tables["endpoints"].used == 0


async def test_replacing_all_endpoints_never_shows_an_empty_set(
    dataplane: MessageDataplane, wire: Wire
) -> None:
    base = settings()
    states = [
        base + Service("web", 4, Protocol.UDP, 80, ((address, 80),), vip=V4.vip).records()
        for address in V4.endpoints[:2]
    ]
    assert await dataplane.apply(difference([], states[0])) == []
    for port in range(40000, 40100):
        old, new = states[port % 2], states[1 - port % 2]
        wire.send(packet(Protocol.UDP, (V4.pod, port), (V4.vip, 80)))
        assert await dataplane.apply(difference(old, new)) == []
        frame = wire.receive()
        assert frame is not None
        assert addresses(frame.packet)[1] in V4.endpoints[:2]
    assert (await dataplane.stats()).drops["noEndpoint"] == 0


async def test_bad_records_are_named_and_the_others_go_on(dataplane: MessageDataplane) -> None:
    good = Service("good", 4, Protocol.TCP, 80, ((V4.endpoints[0], 80),), vip=V4.vip).records()
    service = next(r for r in good if isinstance(r, ServiceRecord))
    unknown = 12345
    bad = {
        "protocol": replace(service, id=1).pack()[:9] + b"\x63" + replace(service, id=1).pack()[10:],
        "family": replace(service, id=2, family=5).pack(),
        "flag": replace(service, id=3, flags=ServiceFlag(0x80)).pack(),
    }
    orphan_endpoint = EndpointRecord(unknown, ipaddress.ip_address(V4.endpoints[0]), 80, EndpointFlag.CLUSTER)
    orphan_frontend = FrontendRecord(
        4, Protocol.TCP, 81, ipaddress.ip_address(V4.vip), unknown, FrontendKind.CLUSTER_IP
    )
    batch = difference([], [*settings(), *good, orphan_endpoint, orphan_frontend])
    assert batch.upserts[Table.SERVICE]
    upserts = {**batch.upserts, Table.SERVICE: [*bad.values(), *batch.upserts[Table.SERVICE]]}
    failures = await dataplane.apply(Batch(upserts=upserts))
    assert {(f.table, f.key, f.code) for f in failures} == {
        *((Table.SERVICE, raw[:8], -errno.EINVAL) for raw in bad.values()),
        (Table.ENDPOINT, orphan_endpoint.pack()[: EndpointRecord.KEY], -errno.ENOENT),
        (Table.FRONTEND, orphan_frontend.pack()[: FrontendRecord.KEY], -errno.ENOENT),
    }
    assert await dumped(dataplane) == digests(settings() + good)


async def test_service_in_use_is_not_deleted(dataplane: MessageDataplane) -> None:
    records = Service("web", 4, Protocol.TCP, 80, ((V4.endpoints[0], 80),), vip=V4.vip).records()
    assert await dataplane.apply(difference([], records)) == []
    key = records[0].pack()[: ServiceRecord.KEY]
    assert await dataplane.apply(Batch(deletes={Table.SERVICE: [key]})) == [
        Failure(Table.SERVICE, key, -errno.EBUSY)
    ]


async def test_deleting_what_is_not_there_is_no_failure(dataplane: MessageDataplane) -> None:
    batch = Batch(deletes={table: [bytes(KEY_SIZE[table])] for table in Table})
    assert await dataplane.apply(batch) == []


async def test_full_tables_refuse_and_stay_correct(dataplane: MessageDataplane) -> None:
    services: list[Record] = [ServiceRecord(i + 1, 4, Protocol.TCP) for i in range(SMALL["services"] + 10)]
    failures = await dataplane.apply(difference([], services))
    stats = await dataplane.stats()
    assert failures and {f.code for f in failures} == {-errno.ENOSPC}
    assert stats.tables["services"].used == len(services) - len(failures) >= SMALL["services"]
    kept = await dumped(dataplane)
    refused = {f.key for f in failures}
    wanted = {key: value for key, value in digests(services)[Table.SERVICE].items() if key not in refused}
    assert kept[Table.SERVICE] == wanted
    # Room again, for the ones that had to stay out.
    free = list(wanted)[: len(refused)]
    again = Batch(deletes={Table.SERVICE: free})
    assert await dataplane.apply(again) == []
    late = [r.pack() for r in services if r.pack()[:8] in refused]
    for _ in range(50):  # freed slots come back when every worker has passed on
        failures = await dataplane.apply(Batch(upserts={Table.SERVICE: late}))
        if not failures:
            break
    assert failures == []


async def test_full_session_table_refuses_new_flows_only(dataplane: MessageDataplane, wire: Wire) -> None:
    service = Service("dns", 4, Protocol.UDP, 53, ((V4.endpoints[0], 53),), vip=V4.vip)
    assert await dataplane.apply(difference([], settings() + service.records())) == []
    first = packet(Protocol.UDP, (V4.pod, 1024), (V4.vip, 53))
    wire.exchange(first)
    for port in range(1025, 1025 + SMALL["sessions"] + 200):
        wire.send(packet(Protocol.UDP, (V4.pod, port), (V4.vip, 53)))
        wire.receive(0.001)
    wire.drain()
    stats = await dataplane.stats()
    full = stats.drops["sessionTableFull"] + stats.counters["sessionIndexFull"]
    assert full > 0
    assert stats.sessions <= stats.tables["sessions4"].size
    assert addresses(wire.exchange(first).packet)[1] == V4.endpoints[0]
    assert await dataplane.flush_sessions() > 0
    assert (await dataplane.stats()).sessions == 0
    assert addresses(wire.exchange(first).packet)[1] == V4.endpoints[0]


async def test_dump_is_stable_under_change(engine: Engine) -> None:
    """Entries that are there all the time come exactly once, whatever else comes and goes."""
    steady: list[Record] = [ServiceRecord(i + 1, 4, Protocol.TCP) for i in range(30)]
    async with engine.dataplane() as one, engine.dataplane() as other:
        assert await one.apply(difference([], steady)) == []
        for turn in range(30):
            passing: list[Record] = [ServiceRecord(1000 + turn, 4, Protocol.TCP)]
            entries: list[bytes] = []
            async for piece in one.dump(Table.SERVICE):
                entries += [key for key, _ in piece]
                await other.apply(difference([], passing))
                await other.apply(difference(passing, []))
            kept = [key for key in entries if int.from_bytes(key, "little") <= 30]
            assert sorted(kept) == sorted(r.pack()[:8] for r in steady)


async def test_record_altered_by_hand_shows_in_the_dump(engine: Engine, dataplane: MessageDataplane) -> None:
    port = 0xBEE5
    address = ipaddress.ip_address("10.244.77.113")
    service = Service("web", 4, Protocol.TCP, 80, ((str(address), port),), vip=V4.vip)
    assert await dataplane.apply(difference([], service.records())) == []
    before = await dumped(dataplane)
    assert before == digests(service.records())

    # The endpoint's address in network order, and its port 24 bytes after it (fp_endpoint_t).
    content = bytearray(engine.region_path.read_bytes())
    at = content.find(address.packed + bytes(12))
    while at >= 0 and content[at + 24 : at + 26] != port.to_bytes(2, "big"):
        at = content.find(address.packed + bytes(12), at + 1)
    assert at >= 0, "the endpoint is not in the region"
    engine.overwrite_region(at + 24, (port ^ 1).to_bytes(2, "big"))

    after = await dumped(dataplane)
    assert after[Table.ENDPOINT] != before[Table.ENDPOINT]
    assert after[Table.SERVICE] == before[Table.SERVICE]


async def test_stats_name_every_table(engine: Engine, dataplane: MessageDataplane) -> None:
    info, stats = await dataplane.info(), await dataplane.stats()
    assert info.engine == engine.KIND and info.interfaces == ["vpp1"]
    vpp = re.fullmatch(r"VPP \d\d\.\d\d\S* \(plugins (.+)\)", info.release)
    assert (vpp[1] if vpp else info.release) == info.version and bool(vpp) == (engine.KIND == "vpp")
    assert {"services", "frontends", "endpoints", "prefixes", "sessions4", "sessions6"} <= set(stats.tables)
    for table in stats.tables.values():
        assert table.size > 0 and table.bytes > 0 and table.used == 0
    assert all(info.capacity[name] >= SMALL[name] for name in ("services", "endpoints"))


@pytest.mark.parametrize("count", [0, 1, 4096, 4097, 9000])
async def test_deletes_of_any_number(dataplane: MessageDataplane, count: int) -> None:
    keys = [i.to_bytes(8, "little") for i in range(1, count + 1)]
    assert await dataplane.apply(Batch(deletes={Table.SERVICE: keys})) == []
