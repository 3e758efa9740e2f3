"""The service table as a state machine: increments equal the whole, whatever the order of events."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.service_objects import NODE, Json, endpoint, endpoint_slice, port, put, service, table_of

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    RECORD_SIZE,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    Protocol,
    Table,
    service_id,
)
from vpp_operator.services.compute import Options
from vpp_operator.services.decode import decode_service, decode_slice
from vpp_operator.services.model import ObjectName
from vpp_operator.services.table import TABLES, Changes, ServiceTable

Records = dict[Table, dict[bytes, bytes]]

# Few names, addresses and ports, so that objects meet, overlap and clash; what makes an object count for
# nothing (other proxy, headless, foreign port) is rare.
NAMES = ("a", "a", "b", "b", "c")
VIPS = ("10.96.0.1", "10.96.0.2", "192.0.2.1")
VIPS6 = ("fd00::1", "fd00::2")
TIMES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "")

ports: st.SearchStrategy[list[Json]] = st.lists(
    st.builds(
        port,
        st.sampled_from((80, 80, 443)),
        st.sampled_from(("", "", "x")),
        st.sampled_from(("TCP", "TCP", "TCP", "UDP", "SCTP")),
        st.sampled_from((None, 30080)),
    ),
    min_size=1,
    max_size=2,
) | st.just([])
policies = st.sampled_from(("Cluster",) * 5 + ("Local",))
services = st.builds(
    service,
    st.sampled_from(NAMES),
    st.sampled_from(
        ([VIPS[0]], [VIPS[1]], [VIPS[0], VIPS6[0]], [VIPS6[1], VIPS[1]], [VIPS[0]], [VIPS[1]], ["None"])
    ),
    ports,
    created=st.sampled_from(TIMES),
    uid=st.sampled_from(("1", "2")),
    generation=st.integers(1, 3),
    labels=st.sampled_from(({},) * 7 + ({"service.kubernetes.io/service-proxy-name": "other"},)),
    type=st.sampled_from(("ClusterIP", "ClusterIP", "NodePort", "NodePort", "LoadBalancer", "ExternalName")),
    externalIPs=st.lists(st.sampled_from((*VIPS, *VIPS6)), max_size=2),
    internalTrafficPolicy=policies,
    externalTrafficPolicy=policies,
    sessionAffinity=st.sampled_from(("None", "None", "ClientIP")),
)
conditions = st.sampled_from(("ready serving", "serving terminating", "terminating", "", None))


def slices_of(kind: str, pods: tuple[str, ...]) -> st.SearchStrategy[Json]:
    """EndpointSlices of one family."""
    endpoints = st.builds(
        endpoint, st.sampled_from(pods), conditions, st.sampled_from((None, NODE, "node-b"))
    )
    return st.builds(
        endpoint_slice,
        st.sampled_from(("s", "t", "u")),
        st.lists(endpoints, min_size=1, max_size=4),
        st.lists(
            st.tuples(
                st.sampled_from(("", "", "x")),
                st.sampled_from(("TCP", "TCP", "UDP")),
                st.sampled_from((8080, 8080, 8081)),
            ),
            min_size=1,
            max_size=2,
        ),
        of=st.sampled_from((*NAMES, "")),
        kind=st.just(kind),
        labels=st.sampled_from(({},) * 7 + ({"service.kubernetes.io/headless": ""},)),
    )


IPV4_SLICES = slices_of("IPv4", ("10.1.0.1", "10.1.0.2", "10.1.0.3"))
slices = IPV4_SLICES | IPV4_SLICES | slices_of("IPv6", ("fd01::1", "fd01::2"))

# An event: an object as it is now; or (kind, name) that is gone; or an update in between, of all (None) or of
# so many Services.
events = st.lists(
    services
    | slices
    | slices
    | st.tuples(st.just("Service"), st.sampled_from(NAMES))
    | st.tuples(st.just("EndpointSlice"), st.sampled_from(("s", "t", "u")))
    | st.none()
    | st.none()
    | st.integers(1, 2),
    min_size=5,
    max_size=40,
)

# What the events start from, so that the first of them already meet something.
START = [
    service("a", [VIPS[0]], externalIPs=[VIPS[2]], created=TIMES[0]),
    service("b", [VIPS[1]], externalIPs=[VIPS[2]], created=TIMES[1]),
    endpoint_slice("s", [endpoint("10.1.0.1"), endpoint("10.1.0.2", node=NODE)], of="a"),
    endpoint_slice("t", ["10.1.0.1"], of="b"),
    None,
]


def identity(document: Json) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def remove(table: ServiceTable, kind: str, name: str) -> None:
    (table.delete_service if kind == "Service" else table.delete_slice)("default", name)


def records(table: ServiceTable) -> Records:
    """What is desired, by key; every key once."""
    found: Records = {kind: {} for kind in TABLES}
    for owner, kind, record in table.desired():
        key = record[: KEY_SIZE[kind]]
        assert len(record) == RECORD_SIZE[kind]
        assert key not in found[kind], "two records with one key"
        assert table.owner_of(kind, key) == owner
        found[kind][key] = record
    return found


def problems(table: ServiceTable) -> dict[Owner, list[Problem]]:
    found = {owner: table.problems(owner) for owner in table.owners_with_problems()}
    assert all(found.values())
    return found


def apply(state: Records, changes: Changes) -> None:
    """Bring ``state`` forward; a difference never deletes what is not there or upserts what is."""
    for kind in TABLES:
        upserts, deletes = changes.upserts[kind], changes.deletes[kind]
        assert not upserts.keys() & deletes
        for key in deletes:
            del state[kind][key]
        for key, record in upserts.items():
            assert state[kind].get(key) != record, "an upsert that changes nothing"
            state[kind][key] = record


def run(steps: list[Any]) -> Iterator[tuple[ServiceTable, dict[tuple[str, str], Json], Changes]]:
    """Play events; yield table, objects and difference at each update."""
    table = ServiceTable(Options(NODE))
    objects: dict[tuple[str, str], Json] = {}
    for step in [*START, *steps, None]:
        if step is None or isinstance(step, int):
            yield table, objects, table.update(step)
        elif isinstance(step, tuple):
            objects.pop(step, None)
            remove(table, *step)
        else:
            objects[identity(step)] = step
            put(table, step)


@settings(max_examples=400, deadline=None)
@given(events)
def test_increments_equal_the_whole(steps: list[Any]) -> None:
    state: Records = {kind: {} for kind in TABLES}
    known: dict[Owner, list[Problem]] = {}
    for table, objects, changes in run(steps):
        apply(state, changes)
        assert records(table) == state
        now = problems(table)
        for owner in known.keys() | now.keys():
            assert known.get(owner) == now.get(owner) or owner in changes.problems
        known = now
        if not table.pending:
            whole = table_of(objects.values())
            assert state == records(whole)
            assert known == problems(whole)
            assert table.services() == whole.services()
    assert not table.pending
    assert not table.update(), "nothing is left to do"


@settings(max_examples=200, deadline=None)
@given(events)
def test_merged_differences_equal_the_steps(steps: list[Any]) -> None:
    state: Records = {kind: {} for kind in TABLES}
    total = Changes()
    for _, _, changes in run(steps):
        apply(state, changes)
        total.merge(changes)
    assert {kind: dict(total.upserts[kind]) for kind in TABLES} == state
    assert not any(total.upserts[kind].keys() & total.deletes[kind] for kind in TABLES)


@settings(max_examples=200, deadline=None)
@given(st.lists(services | slices, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_matter(documents: list[Json], random: Any) -> None:
    last = list({identity(document): document for document in documents}.values())
    first = table_of(last)
    random.shuffle(last)
    second = table_of(last)
    assert records(first) == records(second)
    assert problems(first) == problems(second)


@settings(max_examples=100, deadline=None)
@given(st.lists(services | slices, max_size=12))
def test_everything_gone_leaves_nothing(documents: list[Json]) -> None:
    table = table_of(documents)
    before = records(table)
    table.retain_slices(set())
    table.retain_services(set())
    changes = table.update()
    assert {kind: before[kind].keys() for kind in TABLES} == changes.deletes
    assert not any(records(table).values())
    assert not problems(table)
    assert table.services() == 0
    internals = {name: value for name, value in vars(table).items() if name != "_options"}
    assert not any(internals.values()), "something is kept of objects that are gone"


@settings(max_examples=100, deadline=None)
@given(st.lists(services | slices, max_size=12))
def test_the_same_again_is_no_work(documents: list[Json]) -> None:
    last = {identity(document): document for document in documents}.values()
    table = table_of(last)
    for document in last:
        put(table, document)
    assert table.pending == 0
    assert not table.update()


def test_packed_records_are_those_of_the_record_types() -> None:
    """The table packs records itself for speed; they are the same bytes."""
    documents = [
        service(ips=["10.96.0.10", "fd00::10"], ports=[port(53, "dns", "UDP", 30053)], type="NodePort"),
        endpoint_slice("s", [endpoint("10.1.0.1", node=NODE)], [("dns", "UDP", 5353)]),
        endpoint_slice("t", ["fd01::1"], [("dns", "UDP", 5354)], kind="IPv6"),
    ]
    found = records(table_of(documents))
    four = service_id("default", "web", "dns", Protocol.UDP, 4)
    six = service_id("default", "web", "dns", Protocol.UDP, 6)
    frontends = {
        FrontendRecord(
            4, Protocol.UDP, 53, ipaddress.ip_address("10.96.0.10"), four, FrontendKind.CLUSTER_IP
        ),
        FrontendRecord(6, Protocol.UDP, 53, ipaddress.ip_address("fd00::10"), six, FrontendKind.CLUSTER_IP),
        FrontendRecord(4, Protocol.UDP, 30053, None, four, FrontendKind.NODE_PORT),
        FrontendRecord(6, Protocol.UDP, 30053, None, six, FrontendKind.NODE_PORT),
    }
    assert set(found[Table.FRONTEND].values()) == {record.pack() for record in frontends}
    serves = EndpointFlag.CLUSTER | EndpointFlag.SERVES
    here = serves | EndpointFlag.LOCAL | EndpointFlag.ON_NODE
    endpoints = {
        EndpointRecord(four, ipaddress.ip_address("10.1.0.1"), 5353, here),
        EndpointRecord(six, ipaddress.ip_address("fd01::1"), 5354, serves),
    }
    assert set(found[Table.ENDPOINT].values()) == {record.pack() for record in endpoints}


def test_one_changed_slice_touches_one_service() -> None:
    documents = [service(f"s{i}", [f"10.96.0.{i}"]) for i in range(1, 50)]
    documents += [endpoint_slice(f"s{i}", [f"10.1.0.{i}"], of=f"s{i}") for i in range(1, 50)]
    table = table_of(documents)
    put(table, endpoint_slice("s7", ["10.1.0.7", "10.2.0.7"], of="s7"))
    assert table.pending == 1
    changes = table.update()
    (record,) = changes.upserts[Table.ENDPOINT].values()
    assert EndpointRecord.unpack(record).address == ipaddress.ip_address("10.2.0.7")
    assert not changes.upserts[Table.SERVICE] and not changes.upserts[Table.FRONTEND]
    assert not any(changes.deletes.values())


def test_update_in_portions() -> None:
    table = ServiceTable(Options(NODE))
    for i in range(1, 11):
        put(table, service(f"s{i}", [f"10.96.0.{i}"]))
    total = Changes()
    for left in (7, 4, 1, 0):
        total.merge(table.update(3))
        assert table.pending == left
    assert len(total.upserts[Table.FRONTEND]) == 10


def test_merge_of_coming_going_and_coming_again() -> None:
    with_port, without = service(), service(ports=[])
    table = ServiceTable(Options(NODE))
    total = Changes()
    for document in (with_port, without, with_port):
        put(table, document)
        total.merge(table.update())
    assert {kind: dict(total.upserts[kind]) for kind in TABLES} == records(table)
    assert not any(total.deletes.values())
    put(table, without)
    total.merge(table.update())
    assert not any(total.upserts.values())
    assert len(total.deletes[Table.FRONTEND]) == 1


def test_problems_speak_of_the_last_update() -> None:
    """Between an event and its update, the table still answers, with what it computed."""
    table = table_of(
        [
            service("a", ["10.96.0.1"], externalIPs=["192.0.2.1"], created=TIMES[0]),
            service("b", ["10.96.0.2"], externalIPs=["192.0.2.1"], created=TIMES[1]),
        ]
    )
    loser = Owner("Service", "default", "b")
    put(table, service("b", ["10.96.0.2"], externalIPs=["192.0.2.1"], created=TIMES[1], generation=2))
    assert [problem.generation for problem in table.problems(loser)] == [1]
    remove(table, "Service", "b")
    assert [problem.generation for problem in table.problems(loser)] == [1]
    assert table.update().problems == {loser}
    assert table.problems(loser) == []


def test_recreated_service_is_the_younger_one() -> None:
    """A Service deleted and made anew under its name loses its seniority."""
    old, new = TIMES[:2]
    table = table_of(
        [
            service("a", ["10.96.0.1"], externalIPs=["192.0.2.1"], created=old),
            service("b", ["10.96.0.2"], externalIPs=["192.0.2.1"], created=new),
        ]
    )
    remove(table, "Service", "a")
    recreated = service(
        "a", ["10.96.0.1"], externalIPs=["192.0.2.1"], created="2026-01-03T00:00:00Z", uid="z"
    )
    put(table, recreated)
    table.update()
    (problem,) = table.problems(Owner("Service", "default", "a"))
    assert problem.reason is Reason.CONFLICT
    assert not table.problems(Owner("Service", "default", "b"))


def test_slice_moves_to_another_service() -> None:
    table = table_of([service("a", ["10.96.0.1"]), service("b", ["10.96.0.2"])])
    put(table, endpoint_slice("s", ["10.1.0.1"], of="a"))
    table.update()
    put(table, endpoint_slice("s", ["10.1.0.1"], of="b"))
    changes = table.update()
    owner = table.owner_of(Table.ENDPOINT, next(iter(changes.upserts[Table.ENDPOINT])))
    assert owner == Owner("Service", "default", "b")
    assert len(changes.deletes[Table.ENDPOINT]) == 1


def test_retain_keeps_what_the_list_has() -> None:
    table = table_of([service("a", ["10.96.0.1"]), service("b", ["10.96.0.2"])])
    table.retain_services({ObjectName("default", "b")})
    table.update()
    assert {owner.name for owner, _, _ in table.desired()} == {"b"}


def test_owner_of_an_unknown_key() -> None:
    table = table_of([])
    for kind in TABLES:
        assert table.owner_of(kind, bytes(KEY_SIZE[kind])) is None
    assert table.owner_of(Table.CONFIG, bytes(8)) is None


def test_decoded_objects_compare_by_content() -> None:
    assert decode_service(service()) == decode_service(service())
    assert decode_slice(endpoint_slice("s", ["10.1.0.1"])) != decode_slice(endpoint_slice("s", ["10.1.0.2"]))
