"""Hostile messages over VPP's API socket: each record is refused by itself, its neighbours in the batch are
taken, VPP stays up and forwards."""

from __future__ import annotations

import errno
import ipaddress
import json
import re
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.contract.conftest import needs_root
from tests.contract.engine_gtpu import CAPACITY, I4, O4, endpoint, peer, tunnel, ue
from tests.contract.engine_lab import Wire, add_host_link, namespaces
from tests.contract.engine_messages import BAD, message
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_services import USABLE, V4, V6, Service, pack, settings
from tests.contract.engine_vpp import NO_VPP, VppEngine, vpp_engine, vpp_prefix
from tests.contract.vpp_messages import RawClient, raw_client

from vpp_operator.dataplane.records import (
    RECORD_SIZE,
    ConfigKey,
    ConfigRecord,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Table,
)
from vpp_operator.dataplane.wire import HEADER, MessageType

pytestmark = pytest.mark.skipif(vpp_prefix() is None, reason=NO_VPP)

INVAL, NOENT, NOSPC, BUSY = -errno.EINVAL, -errno.ENOENT, -errno.ENOSPC, -errno.EBUSY
EXIST, TOO_BIG, NOT_SERVED = -errno.EEXIST, -errno.E2BIG, -errno.EOPNOTSUPP
INVALID_VALUE, INVALID_VALUE_2 = -7, -8
INVALID_SW_IF_INDEX = -2
MAX_VRFS = 256
WEB = Service("web", 4, Protocol.UDP, 80, ((V4.endpoints[0], 8080),), vip=V4.vip)
ip = ipaddress.ip_address


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[VppEngine, Wire]]:
    needs_root()
    with namespaces("node") as [namespace]:
        add_host_link(namespace)
        # Thousands of routes come and go, each while workers stand still; on a busy machine a worker may not
        # come to that within the second after which VPP gives up.
        with vpp_engine(namespace, workers=0, capacity=CAPACITY) as engine:
            engine.start()
            wire = Wire(namespace)
            yield engine, wire
            wire.close()


@pytest.fixture
def client(running: tuple[VppEngine, Wire]) -> Iterator[RawClient]:
    """A client of a VPP that has no record; afterwards that VPP serves as if nothing had been."""
    engine, wire = running
    with raw_client(engine.socket_path) as connected:
        connected.empty()
        yield connected
        serves(engine, connected, wire)


def fill(client: RawClient, records: list[Record]) -> None:
    for table, packed in pack(records).items():
        if packed:
            assert client.change(MessageType.UPSERT, table, list(packed.values())) == {}
    client.commit()


def serves(engine: VppEngine, client: RawClient, wire: Wire) -> None:
    """The process is the same, it answers, takes a Service and forwards to it."""
    assert engine.process is not None and engine.process.poll() is None, engine.log()
    client.empty()
    fill(client, settings() + WEB.records())
    wire.drain()
    back = wire.exchange(packet(Protocol.UDP, (V4.pod, 41000), (V4.vip, 80))).packet
    assert addresses(back)[1] == V4.endpoints[0]


def altered(record: Record, offset: int, layout: str, value: int) -> bytes:
    """Return a packed record with another number in one place."""
    raw = bytearray(record.pack())
    struct.pack_into(layout, raw, offset, value)
    return bytes(raw)


NODE = ConfigRecord(ConfigKey.SNAT_ADDRESS, 4, 0, ip(V4.node))
PORTS = ConfigRecord(ConfigKey.SNAT_PORT_RANGE, 0, 1024 | 2047 << 16)
PODS = PrefixRecord(ipaddress.ip_network(V4.pods), PrefixClass.POD)
SERVICE = ServiceRecord(1, 4, Protocol.UDP)
FRONTEND = FrontendRecord(4, Protocol.UDP, 80, ip(V4.vip), 1, FrontendKind.CLUSTER_IP)
ENDPOINT = EndpointRecord(1, ip(V4.endpoints[0]), 8080, USABLE)
LOCAL, PEER, TUNNEL, UE = endpoint(O4), peer(O4), tunnel(O4), ue(O4, I4.prefix)

# Per table: what has to be there before; a record that is taken; another; those that are not, and why.
HOSTILE: dict[Table, tuple[list[Record], Record, Record, list[tuple[bytes, int]]]] = {
    Table.CONFIG: (
        [],
        NODE,
        PORTS,
        [
            (altered(NODE, 0, "<I", 0), INVAL),
            (altered(NODE, 0, "<I", 99), INVAL),
            (altered(NODE, 0, "<I", 0xFFFFFFFF), INVAL),
            (altered(NODE, 4, "<I", 5), INVAL),
            (altered(NODE, 4, "<I", 0x104), INVAL),
            (altered(NODE, 8, "<Q", 1), INVAL),
            (altered(PORTS, 4, "<I", 16), INVAL),
            (altered(PORTS, 8, "<Q", 2047 | 1024 << 16), INVAL),
            (altered(PORTS, 8, "<Q", 1 << 63), INVAL),
            (ConfigRecord(ConfigKey.MASQUERADE_ALL, 0, 2).pack(), INVAL),
            (ConfigRecord(ConfigKey.GTPU_SWITCHES, 0, 3 << 8).pack(), INVAL),
            (ConfigRecord(ConfigKey.GTPU_SWITCHES, 0, 0xFF | 1 << 8).pack(), INVAL),
        ],
    ),
    Table.PREFIX: (
        [],
        PODS,
        PrefixRecord(ipaddress.ip_network(V6.services), PrefixClass.SERVICE),
        [
            (altered(PODS, 4, "<B", 5), INVAL),
            (altered(PODS, 5, "<B", 33), INVAL),
            (altered(PODS, 5, "<B", 255), INVAL),
            (altered(PODS, 5, "<B", 8), INVAL),
            (altered(PODS, 6, "<B", 0), INVAL),
            (altered(PODS, 6, "<B", 5), INVAL),
            (altered(PODS, 7, "<B", 1), INVAL),
            (altered(PODS, 24, "<Q", 1), INVAL),
            (altered(PODS, 0, "<I", 0xFFFFFFFF), INVAL),
        ],
    ),
    Table.SERVICE: (
        [],
        SERVICE,
        ServiceRecord(2, 6, Protocol.TCP),
        [
            (altered(SERVICE, 0, "<Q", 0), INVAL),
            (altered(SERVICE, 8, "<B", 0), INVAL),
            (altered(SERVICE, 9, "<B", 1), INVAL),
            (altered(SERVICE, 9, "<B", 132), NOT_SERVED),
            (altered(SERVICE, 10, "<B", 8), INVAL),
            (altered(SERVICE, 11, "<B", 2), INVAL),
            (altered(SERVICE, 12, "<I", 86401), INVAL),
            (altered(SERVICE, 16, "<Q", 1), INVAL),
        ],
    ),
    Table.FRONTEND: (
        [SERVICE],
        FRONTEND,
        replace(FRONTEND, port=81),
        [
            (altered(FRONTEND, 0, "<I", 0xFFFFFFFF), INVAL),
            (altered(FRONTEND, 4, "<B", 6), INVAL),
            (altered(FRONTEND, 5, "<B", 6), INVAL),
            (altered(FRONTEND, 5, "<B", 1), INVAL),
            (altered(FRONTEND, 6, "<H", 0), INVAL),
            (altered(FRONTEND, 8, "<B", 1), INVAL),
            (altered(FRONTEND, 9, "<B", 1), INVAL),
            (altered(FRONTEND, 20, "<I", 1), INVAL),
            (altered(FRONTEND, 32, "<Q", 0), NOENT),
            (altered(FRONTEND, 32, "<Q", 4711), NOENT),
            (altered(FRONTEND, 32, "<Q", 2**64 - 1), NOENT),
            (altered(FRONTEND, 40, "<B", 4), INVAL),
            (altered(FRONTEND, 40, "<B", 255), INVAL),
            (altered(FRONTEND, 47, "<B", 1), INVAL),
        ],
    ),
    Table.ENDPOINT: (
        [SERVICE],
        ENDPOINT,
        replace(ENDPOINT, port=8081),
        [
            (altered(ENDPOINT, 0, "<Q", 4711), NOENT),
            (altered(ENDPOINT, 8, "<B", 6), INVAL),
            (altered(ENDPOINT, 8, "<B", 255), INVAL),
            (altered(ENDPOINT, 9, "<B", 1), INVAL),
            (altered(ENDPOINT, 10, "<H", 0), INVAL),
            (altered(ENDPOINT, 12, "<I", 1), INVAL),
            (altered(ENDPOINT, 32, "<B", 16), INVAL),
            (altered(ENDPOINT, 33, "<B", 1), INVAL),
        ],
    ),
    Table.GTPU_ENDPOINT: (
        [],
        LOCAL,
        replace(LOCAL, address=ip("192.0.2.51"), id=4711),
        [
            (altered(LOCAL, 0, "<I", 0xFFFFFFFF), INVAL),
            (altered(LOCAL, 4, "<B", 3), INVAL),
            (altered(LOCAL, 5, "<B", 1), INVAL),
            (altered(LOCAL, 8, "<B", 240), INVAL),
            (altered(LOCAL, 24, "<Q", 0), INVAL),
            (replace(LOCAL, address=ip("192.0.2.52")).pack(), EXIST),
            (altered(LOCAL, 32, "<I", 0), INVAL),
            (altered(replace(LOCAL, teid_base=2), 36, "<I", 0xFFFFFFFF), INVAL),
            (altered(LOCAL, 36, "<I", 0xFFFFFFFF), TOO_BIG),
            (altered(LOCAL, 40, "<H", 1), INVAL),
            (altered(LOCAL, 42, "<B", 64), INVAL),
            (altered(LOCAL, 43, "<B", 2), INVAL),
            (altered(LOCAL, 44, "<H", 65535), INVAL),
        ],
    ),
    Table.GTPU_PEER: (
        [LOCAL],
        PEER,
        peer(O4, O4.other_peer),
        [
            (altered(PEER, 0, "<Q", 4711), NOENT),
            (altered(PEER, 8, "<B", 6), INVAL),
            (altered(PEER, 9, "<B", 1), INVAL),
            (altered(PEER, 16, "<B", 224), INVAL),
            (altered(replace(PEER, echo_interval_ms=1000), 36, "<I", 0), INVAL),
            (altered(replace(PEER, echo_interval_ms=1000), 42, "<B", 0), INVAL),
            (altered(PEER, 40, "<H", 1), INVAL),
            (altered(PEER, 43, "<B", 1), INVAL),
        ],
    ),
    Table.GTPU_TUNNEL: (
        [LOCAL, PEER],
        TUNNEL,
        replace(TUNNEL, local_teid=0xFFFFFFFF),
        [
            (altered(TUNNEL, 0, "<Q", 4711), NOENT),
            (altered(TUNNEL, 8, "<I", 0), INVAL),
            (altered(TUNNEL, 12, "<I", 1), INVAL),
            (altered(TUNNEL, 16, "<I", 0), INVAL),
            (altered(TUNNEL, 20, "<I", 0xFFFFFFFF), INVAL),
            (altered(TUNNEL, 24, "<B", 9), NOENT),
            (altered(TUNNEL, 40, "<B", 0), INVAL),
            (altered(TUNNEL, 40, "<B", 3), INVAL),
            (altered(TUNNEL, 41, "<B", 3), INVAL),
            (altered(TUNNEL, 42, "<B", 64), INVAL),
            (altered(TUNNEL, 43, "<B", 4), INVAL),
            (altered(TUNNEL, 44, "<B", 6), INVAL),
            (altered(TUNNEL, 45, "<B", 1), INVAL),
        ],
    ),
    Table.GTPU_UE: (
        [LOCAL, PEER, TUNNEL],
        UE,
        ue(O4, "10.60.0.6/32"),
        [
            (altered(UE, 0, "<I", 0xFFFFFFFF), INVAL),
            (altered(UE, 0, "<I", 7), INVAL),
            (altered(UE, 4, "<B", 5), INVAL),
            (altered(UE, 4, "<B", 0), INVAL),
            (altered(UE, 5, "<B", 33), INVAL),
            (altered(UE, 5, "<B", 1), INVAL),
            (altered(UE, 6, "<B", 1), INVAL),
            (altered(UE, 24, "<Q", 4711), NOENT),
            (altered(UE, 32, "<I", 4711), NOENT),
            (altered(UE, 36, "<I", 1), INVAL),
        ],
    ),
}


@pytest.mark.parametrize("table", Table, ids=lambda t: t.name.lower())
def test_hostile_records_are_refused_beside_good_ones(client: RawClient, table: Table) -> None:
    """Each between two good ones: just the bad ones fail, with the code that says why."""
    needed, good, other, bad = HOSTILE[table]
    fill(client, needed)
    batch, expected = [good.pack()], {}
    for raw, code in bad:
        expected[len(batch)] = code
        batch += [raw, good.pack()]
    batch.append(other.pack())
    assert client.change(MessageType.UPSERT, table, batch) == expected
    client.commit()
    size = good.KEY
    wanted = {good.pack()[:size], other.pack()[:size]}
    assert set(client.keys(table)) == wanted | {r.pack()[:size] for r in needed if table == r.TABLE}
    assert client.fetch(table, [good.pack()[:size], other.pack()[:size]]) == [good.pack(), other.pack()]


@pytest.mark.parametrize("table", Table, ids=lambda t: t.name.lower())
def test_duplicates_in_a_batch(client: RawClient, table: Table) -> None:
    """The same record 1,000 times is one; keys deleted 1,000 times, or never there, are gone."""
    needed, good, other, _ = HOSTILE[table]
    fill(client, needed)
    before = len(client.keys(table))
    assert client.change(MessageType.UPSERT, table, [good.pack(), other.pack()] * 1000) == {}
    client.commit()
    assert len(client.keys(table)) == before + 2
    keys = [r.pack()[: r.KEY] for r in (good, other)]
    assert client.change(MessageType.DELETE, table, keys * 1000) == {}
    client.commit()
    assert len(client.keys(table)) == before
    assert client.fetch(table, keys * 100) == []


def test_same_key_with_different_values_in_a_batch(client: RawClient) -> None:
    """The last one holds."""
    fill(client, [SERVICE])
    batch = [replace(ENDPOINT, flags=USABLE if n % 2 else type(USABLE)(0)).pack() for n in range(999)]
    assert client.change(MessageType.UPSERT, Table.ENDPOINT, batch) == {}
    client.commit()
    assert client.fetch(Table.ENDPOINT, [batch[-1][:32]]) == [batch[-1]]


def test_what_others_need_is_not_deleted(client: RawClient) -> None:
    fill(client, [SERVICE, FRONTEND, ENDPOINT, LOCAL, PEER, TUNNEL, UE])
    for record in (SERVICE, LOCAL, PEER, TUNNEL):
        stays, gone = record.pack()[: record.KEY], bytes(record.KEY - 1) + b"\x77"
        assert client.change(MessageType.DELETE, record.TABLE, [gone, stays, gone]) == {1: BUSY}, record
        assert client.fetch(record.TABLE, [stays]) == [record.pack()]


FULL: dict[Table, tuple[str, list[Record], list[Record]]] = {
    Table.PREFIX: (
        "prefixes",
        [],
        [PrefixRecord(ipaddress.ip_network(f"10.1.{i}.0/24"), PrefixClass.POD) for i in range(40)],
    ),
    Table.SERVICE: ("services", [], [ServiceRecord(i + 1, 4, Protocol.UDP) for i in range(300)]),
    Table.FRONTEND: (
        "frontends",
        [SERVICE],
        [replace(FRONTEND, port=i + 1) for i in range(300)],
    ),
    Table.ENDPOINT: (
        "endpoints",
        [SERVICE],
        [replace(ENDPOINT, port=i + 1) for i in range(300)],
    ),
    Table.GTPU_ENDPOINT: (
        "gtpu-endpoints",
        [],
        [replace(LOCAL, address=ip("192.0.2.1") + i, id=i + 1, teid_count=16) for i in range(20)],
    ),
    Table.GTPU_PEER: ("gtpu-peers", [LOCAL], [peer(O4, f"10.9.0.{i + 1}") for i in range(60)]),
    Table.GTPU_TUNNEL: (
        "tunnels",
        [LOCAL, PEER],
        [replace(TUNNEL, local_teid=i + 1) for i in range(300)],
    ),
    Table.GTPU_UE: (
        "ues",
        [LOCAL, PEER, TUNNEL],
        [ue(O4, f"10.60.{i >> 8}.{i & 255}/32") for i in range(600)],
    ),
}


@pytest.mark.parametrize("table", FULL, ids=lambda t: t.name.lower())
def test_full_table_refuses_what_is_beyond_and_keeps_what_is_in(client: RawClient, table: Table) -> None:
    """Records beyond the capacity are refused one by one; what fits stays, can be changed and replaced."""
    name, needed, records = FULL[table]
    fill(client, needed)
    taken = CAPACITY[name]
    packed = [record.pack() for record in records]
    assert len(packed) > 2 * taken
    refused = client.change(MessageType.UPSERT, table, packed)
    assert set(refused.values()) == {NOSPC}
    there = [raw for i, raw in enumerate(packed) if i not in refused]
    assert taken * 3 // 4 <= len(there) <= taken, "a table of its size takes about as many"
    client.commit()
    size = records[0].KEY
    assert sorted(client.fetch(table, [raw[:size] for raw in packed])) == sorted(there)
    assert client.change(MessageType.UPSERT, table, there) == {}, "what is there is not new"
    assert client.change(MessageType.DELETE, table, [raw[:size] for raw in there]) == {}
    client.commit()
    again = [raw for i, raw in enumerate(packed) if i in refused][: len(there) // 2]
    assert client.change(MessageType.UPSERT, table, again) == {}, "the room can be used again"


@pytest.mark.parametrize("kind", ["services", "tunnels"])
def test_vrfs_without_end(client: RawClient, running: tuple[VppEngine, Wire], kind: str) -> None:
    """A record can name any VRF, and each costs VPP's heap: so many are served, the others refused."""
    engine, _ = running
    if kind == "services":
        fill(client, [SERVICE])

        def record(vrf: int) -> Record:
            return replace(FRONTEND, vrf=vrf, kind=FrontendKind.EXTERNAL_IP)
    else:

        def record(vrf: int) -> Record:
            return PrefixRecord(ipaddress.ip_network("10.60.0.0/16"), PrefixClass.UE_POOL, vrf)

    codes = set()
    for first in range(1, 2000, 8):
        batch = [record(vrf) for vrf in range(first, first + 8)]
        table = batch[0].TABLE
        codes |= set(client.change(MessageType.UPSERT, table, [r.pack() for r in batch]).values())
        client.commit()
        client.change(MessageType.DELETE, table, [r.pack()[: r.KEY] for r in batch])
        client.commit()
    # A Service's VRF goes with its last address, a tunnel's stays.
    assert codes == (set() if kind == "services" else {NOSPC})
    tables = engine.cli("show ip fib summary").count("ipv4-VRF:")
    assert 1 <= tables <= MAX_VRFS


def test_bad_messages_and_then_good_ones(client: RawClient) -> None:
    for name, (content, code) in BAD.items():
        header, payload = client.ask(content)
        assert (header.retval, payload) == (code, b""), name
        header, payload = client.ask(message(MessageType.INFO))
        assert header.retval == 0 and json.loads(payload)["engine"] == "vpp", name


@pytest.mark.parametrize("cursor", [1, 63, 64, 4097, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
def test_cursors_from_nowhere(client: RawClient, cursor: int) -> None:
    """Entries after it, or none, or a refusal; a listing always comes to its end."""
    fill(client, [SERVICE, ENDPOINT, LOCAL, PEER, TUNNEL, UE])
    for kind, tables in (
        (MessageType.DUMP, list(Table)),
        (MessageType.GTPU_COUNTERS, [Table.GTPU_TUNNEL]),
        (MessageType.SERVICE_COUNTERS, [Table.SERVICE]),
        (MessageType.GTPU_PATHS, [Table.GTPU_PEER]),
    ):
        for table in tables:
            at, turns = cursor, 0
            while turns == 0 or at:
                header, _ = client.ask(message(kind, table=table, cursor=at))
                assert header.retval in (0, INVAL)
                at = header.cursor
                turns += 1
                assert turns < 100, (kind, table, at)


def test_frames_that_are_shorter_than_they_say(client: RawClient, running: tuple[VppEngine, Wire]) -> None:
    """VPP itself lets go of a message that is shorter than its own fields say: no answer, no harm."""
    engine, _ = running
    info = message(MessageType.INFO)
    for length, request in (
        (len(info) + 1, info),
        (0x7FFFFFFF, info),
        (0xFFFFFFFF, info),
        (0xFFFFFFFF, b""),
        (len(info), info[:-1]),
        (1, b""),
    ):
        client.write_call(length, request)
        assert client.ask(info)[0].retval == 0
    for name in ("khost_call", "khost_interface", "khost_version"):
        for size in range(12):
            client.write(client.number(name), bytes(size))
            assert client.ask(info)[0].retval == 0
    assert engine.process is not None and engine.process.poll() is None


def refusals(engine: VppEngine) -> int:
    found = re.search(r"messages of the control plane, (\d+) of them refused", engine.cli("show khost"))
    assert found is not None
    return int(found[1])


def test_calls_that_hold_more_or_less_than_they_say(
    client: RawClient, running: tuple[VppEngine, Wire]
) -> None:
    """A khost_call's bytes and its message's length field have to agree."""
    engine, _ = running
    info = message(MessageType.INFO)
    for request, code in (
        (b"", INVALID_VALUE),
        (info[:-1], INVALID_VALUE),
        (struct.pack("<I", 0xFFFFFFFF) + info[4:], INVALID_VALUE_2),
        (struct.pack("<I", 0) + info[4:], INVALID_VALUE_2),
        (info + bytes(1), INVALID_VALUE_2),
        (info + bytes(1 << 20), INVALID_VALUE_2),
        (message(MessageType.INFO, bytes(1 << 20)), INVALID_VALUE_2),
    ):
        refused = refusals(engine)
        assert client.call(request) == (code, b""), len(request)
        assert refusals(engine) == refused + 1


RECORDS = st.sampled_from(list(Table)).flatmap(
    lambda table: st.tuples(
        st.just(table),
        st.lists(
            st.one_of(
                st.binary(min_size=RECORD_SIZE[table], max_size=RECORD_SIZE[table]),
                st.tuples(
                    st.sampled_from([HOSTILE[table][1].pack(), HOSTILE[table][2].pack()]),
                    st.lists(
                        st.tuples(st.integers(0, RECORD_SIZE[table] - 1), st.integers(0, 255)), max_size=4
                    ),
                ).map(lambda made: mutated(*made)),
            ),
            min_size=1,
            max_size=8,
        ),
    )
)
CALLS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        message,
        st.one_of(st.integers(0, 12), st.integers(0, 65535)),
        st.binary(max_size=200),
        version=st.sampled_from([1, 1, 1, 0, 2, 65535]),
        count=st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1)),
        record_size=st.sampled_from([0, 8, 16, 24, 32, 40, 48, 64, 65535]),
        table=st.one_of(st.integers(0, 10), st.integers(0, 65535)),
        cursor=st.one_of(st.integers(0, 70), st.integers(0, 2**64 - 1)),
    ),
)


def mutated(raw: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(raw)
    for offset, value in changes:
        changed[offset] = value
    return bytes(changed)


BOUNDED = examples(
    max_examples=400,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@BOUNDED
@given(batch=RECORDS)
def test_any_records(client: RawClient, batch: tuple[Table, list[bytes]]) -> None:
    """What was not refused can be fetched as it was sent (the last of a key)."""
    table, records = batch
    client.empty()
    fill(client, HOSTILE[table][0])
    refused = client.change(MessageType.UPSERT, table, records)
    client.commit()
    assert all(code < 0 for code in refused.values())
    size = HOSTILE[table][1].KEY
    taken = {raw[:size]: raw for i, raw in enumerate(records) if i not in refused}
    found = {raw[:size]: raw for raw in client.fetch(table, list(taken))}
    # A refused record may have come after one of the same key: the one that was taken holds.
    assert found == taken
    assert client.change(MessageType.DELETE, table, [raw[:size] for raw in records]) == {}


@BOUNDED
@given(request=CALLS)
def test_any_bytes(client: RawClient, request: bytes) -> None:
    retval, answer = client.call(request)
    assert retval in (0, INVALID_VALUE, INVALID_VALUE_2)
    assert (retval == 0) == (len(answer) >= HEADER.size)


def test_settings_of_interfaces(client: RawClient, running: tuple[VppEngine, Wire]) -> None:
    """khost_interface: indexes of nothing, values beyond a bool, twice, and one that is deleted under it."""
    engine, _ = running
    api = client.papi.api
    for index in (4711, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF):
        for enable in (True, False):
            reply = api.khost_interface(sw_if_index=index, enable=enable)
            assert reply.retval == INVALID_SW_IF_INDEX, index
    for flags in ((255, 255), (0, 255), (255, 0), (0, 0)):
        body = struct.pack(">IIBB", 0, 0, *flags)
        client.write(client.number("khost_interface"), body)
    made = api.create_loopback().sw_if_index
    for _ in range(2):
        assert api.khost_interface(sw_if_index=made, enable=True).retval == 0
    assert "interface loop0" in engine.cli("show khost")
    assert api.delete_loopback(sw_if_index=made).retval == 0
    assert "interface loop0" not in engine.cli("show khost")
    assert api.khost_interface(sw_if_index=made, enable=True).retval == INVALID_SW_IF_INDEX
    assert api.khost_version().message_version == 1


def test_many_clients_that_come_and_go_within_a_call(
    client: RawClient, running: tuple[VppEngine, Wire]
) -> None:
    """A client that is gone before its answer: the next one is served."""
    engine, _ = running
    batch = [ServiceRecord(i + 1, 4, Protocol.UDP).pack() for i in range(4000)]
    request = message(MessageType.UPSERT, b"".join(batch), count=4000, record_size=32, table=Table.SERVICE)
    for _ in range(20):
        with raw_client(engine.socket_path) as other:
            other.write_call(len(request), request)
            other.papi.transport.socket.close()
    end = time.monotonic() + 10
    while client.ask(message(MessageType.STATS))[0].retval:
        assert time.monotonic() < end
    assert len(client.keys(Table.SERVICE)) <= CAPACITY["services"]
