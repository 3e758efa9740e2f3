"""The GTP-U table: increments equal the whole, and both equal a plain reading of the rules."""

from __future__ import annotations

import ipaddress
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit import gtpu_objects as make

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    GtpuPayload,
    GtpuPeerRecord,
    GtpuPsc,
    GtpuTunnelRecord,
    Table,
    UePrefixRecord,
    gtpu_endpoint_id,
)
from vpp_operator.gtpu.cluster import NodeRanges, reserved
from vpp_operator.gtpu.model import Carrier, Endpoint, Tunnel
from vpp_operator.gtpu.table import TABLES, Changes, GtpuTable, Options


class Dataplane:
    """Applies changes as an engine would and keeps what came of them."""

    def __init__(self, table: GtpuTable) -> None:
        self.table = table
        self.records: make.Records = {table: {} for table in TABLES}
        self.problems: set[Owner] = set()
        self.standings: set[Owner] = set()

    def take(self, limit: int | None = None) -> Changes:
        changes = self.table.update(limit)
        for table in TABLES:
            assert not changes.deletes[table] & changes.upserts[table].keys()
            for key in changes.deletes[table]:
                self.records[table].pop(key, None)
            self.records[table].update(changes.upserts[table])
        self._check_names()
        self.problems |= changes.problems
        self.standings |= changes.standings
        return changes

    def _check_names(self) -> None:
        """After each slice, what a record names is there: an engine refuses anything else."""
        named = {raw[24:32] for raw in self.records[Table.GTPU_ENDPOINT].values()}
        assert len(named) == len(self.records[Table.GTPU_ENDPOINT]), "two records of one endpoint"
        peers = self.records[Table.GTPU_PEER]
        assert {key[:8] for key in peers} <= named
        for raw in self.records[Table.GTPU_TUNNEL].values():
            tunnel = GtpuTunnelRecord.unpack(raw)
            assert GtpuPeerRecord(tunnel.endpoint, tunnel.remote).pack()[:32] in peers
        tunnels = {key[:12] for key in self.records[Table.GTPU_TUNNEL]}
        assert {raw[24:36] for raw in self.records[Table.GTPU_UE].values()} <= tunnels

    def drain(self, limit: int | None = None) -> None:
        for _ in range(10_000):
            self.take(limit)
            if not self.table.pending:
                return
        raise AssertionError("the table never settles")


def loaded(*objects: Endpoint | Carrier, active: tuple[str, ...] = ("n3",)) -> Dataplane:
    table = GtpuTable()
    for one in objects:
        put(table, one)
    table.activate(active)
    plane = Dataplane(table)
    plane.drain()
    return plane


def put(table: GtpuTable, one: Endpoint | Carrier) -> None:
    if isinstance(one, Endpoint):
        table.upsert_endpoint(one)
    elif isinstance(one, Tunnel):
        table.upsert_tunnel(one)
    else:
        table.upsert_set(one)


def remove(table: GtpuTable, owner: Owner) -> None:
    if owner.kind == "GtpuEndpoint":
        table.delete_endpoint(owner.name)
    elif owner.kind == "GtpuTunnel":
        table.delete_tunnel(owner.namespace, owner.name)
    else:
        table.delete_set(owner.namespace, owner.name)


# ------------------------------------------------------------------------------- increments equal the whole

TIMES = [f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)]

endpoints = st.builds(
    make.endpoint,
    st.sampled_from(["n3", "n9", "x"]),
    address=st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    pools=st.sampled_from([["10.60.0.0/16", "2001:db8:60::/48"], ["10.61.0.0/16"], ["10.60.1.0/24"]]),
    namespaces=st.sampled_from([["a"], ["a", "b"]]),
    created=st.sampled_from(TIMES),
    uid=st.sampled_from(["1", "2"]),
    teid_base=st.just(100),
    teid_count=st.sampled_from([0, 0, 6]),
    echo_interval_ms=st.sampled_from([0, 60000]),
)
tunnels = st.builds(
    make.tunnel,
    st.sampled_from("pqrs"),
    namespace=st.sampled_from("ab"),
    endpoint=st.sampled_from(["n3", "n3", "n9"]),
    remote=st.sampled_from(["198.51.100.7", "198.51.100.8", "2001:db8::7"]),
    local_teid=st.integers(100, 110),
    remote_teid=st.integers(1, 3),
    prefixes=st.sampled_from(
        [
            ["10.60.0.1/32"],
            ["10.60.0.2/32", "2001:db8:60:1::/64"],
            ["10.60.0.0/30"],
            ["10.60.0.1/32", "10.60.0.5/32"],
            ["10.61.0.1/32"],
            ["2001:db8:60::/56"],
        ]
    ),
    created=st.sampled_from(TIMES),
    uid=st.sampled_from(["1", "2", "3"]),
    psc=st.sampled_from([GtpuPsc.NONE, GtpuPsc.DL]),
    qfi=st.integers(0, 1),
)
vlans = st.builds(
    make.tunnel,
    st.sampled_from("pq"),
    local_teid=st.integers(100, 102),
    payload=st.just(GtpuPayload.ETHERNET),
    prefixes=st.just([]),
    vlan=st.integers(1, 2),
    created=st.sampled_from(TIMES),
)
sets = st.builds(
    make.tunnel_set,
    st.sampled_from("pq"),
    namespace=st.sampled_from("ab"),
    count=st.integers(1, 7),
    local_teid=st.integers(98, 106),
    remote_teid=st.integers(1, 3),
    remotes=st.sampled_from([["198.51.100.7"], ["198.51.100.7", "198.51.100.8", "198.51.100.9"]]),
    bases=st.sampled_from(
        [["10.60.0.0/32"], ["10.60.0.2/31", "2001:db8:60::/64"], ["2001:db8:60:1::/80"], ["10.60.255.252/32"]]
    ),
    step=st.integers(1, 3),
    created=st.sampled_from(TIMES),
    uid=st.sampled_from(["1", "2", "3"]),
)
objects = endpoints | tunnels | sets | vlans
NAMES = ["n3", "n9", "x"]
steps = st.lists(
    st.one_of(
        objects.map(lambda one: ("put", one)),
        objects.map(lambda one: ("remove", one.owner)),
        st.sets(st.sampled_from(NAMES)).map(lambda names: ("activate", names)),
        st.sampled_from([None, 1, 3]).map(lambda limit: ("update", limit)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=250, deadline=None)
@given(steps)
def test_increments_equal_the_whole(story: list[tuple[str, Any]]) -> None:
    table = GtpuTable()
    table.activate(["n3"])
    active: set[str] = {"n3"}
    plane = Dataplane(table)
    there: dict[Owner, Endpoint | Carrier] = {make.endpoint().owner: make.endpoint()}
    put(table, make.endpoint())
    for action, value in story:
        if action == "put":
            there[value.owner] = value
            put(table, value)
        elif action == "remove":
            there.pop(value, None)
            remove(table, value)
        elif action == "activate":
            active = value
            table.activate(value)
        else:
            plane.take(value)
    plane.drain(2)

    accepted_endpoints = make.endpoint_winners(o for o in there.values() if isinstance(o, Endpoint))
    carriers = [o for o in there.values() if not isinstance(o, Endpoint)]
    accepted = make.carrier_winners(carriers, accepted_endpoints)
    expected = make.records(accepted_endpoints, accepted, active)
    assert plane.records == expected
    # The whole, loaded at once, says the same of every object.
    whole = loaded(*there.values(), active=tuple(active))
    assert whole.records == expected
    winners = {one.owner for one in [*accepted_endpoints, *accepted]}
    for owner in there:
        assert table.standing(owner) == whole.table.standing(owner)
        assert table.standing(owner).accepted == (owner in winners)
        assert table.problems(owner) == whole.table.problems(owner)
        assert bool(table.problems(owner)) == (owner not in winners)
    assert table.owners_with_problems() == there.keys() - winners
    # What it says it wants is what it gave, each record with its owner.
    told: make.Records = {table: {} for table in TABLES}
    for owner, kind, record in table.desired():
        key = record[: KEY_SIZE[kind]]
        told[kind][key] = record
        assert table.owner_of(kind, key) == owner
    assert told == expected
    assert table.tunnels() == len(expected[Table.GTPU_TUNNEL])
    keys = [key for owner in make.owners(carriers) for key in table.tunnel_keys(owner)]
    assert sorted(keys) == sorted(expected[Table.GTPU_TUNNEL])
    assert not table.update(), "nothing is left to say"


@settings(max_examples=100, deadline=None)
@given(st.lists(objects, min_size=2, max_size=12), st.lists(objects, max_size=6))
def test_every_change_of_a_verdict_is_told(
    first: list[Endpoint | Carrier], then: list[Endpoint | Carrier]
) -> None:
    plane = loaded(*first)
    owners = {one.owner for one in first + then}
    before = {o: (plane.table.standing(o), plane.table.problems(o)) for o in owners}
    plane.problems, plane.standings = set(), set()
    for one in then:
        put(plane.table, one)
    plane.drain(1)
    for owner in owners:
        standing, problems = before[owner]
        if plane.table.standing(owner) != standing:
            assert owner in plane.standings
        if plane.table.problems(owner) != problems:
            assert owner in plane.problems


# ----------------------------------------------------------------------------------------------------- cases


def test_a_user_that_moves_is_one_record() -> None:
    """A handover changes the tunnel's record in place: nothing is taken out, so nothing is lost."""
    plane = loaded(
        make.endpoint(),
        make.tunnel(psc=GtpuPsc.DL, qfi=1),
        make.tunnel("u", local_teid=1, prefixes=["10.60.0.9/32"]),
    )
    plane.table.upsert_tunnel(make.tunnel(remote="198.51.100.99", remote_teid=7, psc=GtpuPsc.DL, qfi=2))
    changes = plane.take()
    assert {t: len(changes.upserts[t]) for t in TABLES if changes.upserts[t]} == {
        Table.GTPU_PEER: 1,
        Table.GTPU_TUNNEL: 1,
    }
    assert not any(changes.deletes.values()), "the old peer still has another tunnel"
    (raw,) = changes.upserts[Table.GTPU_TUNNEL].values()
    record = GtpuTunnelRecord.unpack(raw)
    assert (str(record.remote), record.remote_teid, record.qfi) == ("198.51.100.99", 7, 2)


def test_the_last_tunnel_takes_its_peer_along() -> None:
    plane = loaded(make.endpoint(), make.tunnel())
    plane.table.delete_tunnel("a", "t")
    changes = plane.take()
    assert {t: len(changes.deletes[t]) for t in TABLES} == {
        Table.GTPU_ENDPOINT: 0,
        Table.GTPU_PEER: 1,
        Table.GTPU_TUNNEL: 1,
        Table.GTPU_UE: 1,
    }


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"prefixes": ["10.60.0.2/32"]}, "spec.localTeid: TEID 100 of GtpuEndpoint n3"),
        ({"local_teid": 5, "prefixes": ["10.60.0.0/24"]}, "spec.inner.ueAddresses: 10.60.0.1/32"),
    ],
    ids=["TEID", "prefix"],
)
def test_the_older_wins_and_the_newer_takes_over(change: dict[str, Any], wanted: str) -> None:
    old = make.tunnel("old", created="2026-01-01T00:00:00Z")
    new = make.tunnel("new", **change)
    plane = loaded(make.endpoint(), new, old)
    assert make.owners([old]) == {o for o, t, _ in plane.table.desired() if t is Table.GTPU_TUNNEL}
    standing = plane.table.standing(new.owner)
    assert (standing.accepted, standing.reason) == (False, Reason.CONFLICT)
    assert standing.message.startswith(f"{wanted} belongs to the older GtpuTunnel old")
    plane.table.delete_tunnel("a", "old")
    plane.drain()
    assert plane.table.standing(new.owner).accepted
    assert not plane.table.owners_with_problems()


def test_equal_age_is_decided_by_uid() -> None:
    plane = loaded(make.endpoint(), make.tunnel("p", uid="2"), make.tunnel("q", uid="1"))
    assert not plane.table.standing(make.tunnel("p").owner).accepted
    assert plane.table.standing(make.tunnel("q").owner).accepted


def test_one_namespace_learns_nothing_of_anothers_objects() -> None:
    secret = make.tunnel_set("secret-name", namespace="b", created="2026-01-01T00:00:00Z", count=64)
    plane = loaded(make.endpoint(), secret, make.tunnel("probe", prefixes=["10.60.1.7/32"]))
    message = plane.table.standing(make.tunnel("probe").owner).message
    assert message.startswith(
        "spec.inner.ueAddresses: 10.60.1.7/32 belongs to an older GtpuTunnelSet of another"
    )
    assert "secret" not in message and "10.60.1.63" not in message


def test_a_set_claims_the_whole_span_between_its_prefixes() -> None:
    plane = loaded(make.endpoint(), make.tunnel_set(step=10, count=3, bases=["10.60.1.0/32"]))
    between = make.tunnel("between", prefixes=["10.60.1.5/32"], created="2026-02-01T00:00:00Z")
    after = make.tunnel("after", local_teid=7, prefixes=["10.60.1.21/32"], created="2026-02-01T00:00:00Z")
    put(plane.table, between)
    put(plane.table, after)
    plane.drain()
    assert plane.table.standing(between.owner).reason is Reason.CONFLICT
    assert plane.table.standing(after.owner).accepted


REFUSED: dict[str, tuple[Callable[[], Carrier], Reason, str]] = {
    "no endpoint": (
        lambda: make.tunnel(endpoint="n6"),
        Reason.ENDPOINT_NOT_FOUND,
        "spec.endpointRef.name: there is no GtpuEndpoint n6",
    ),
    "namespace": (
        lambda: make.tunnel(namespace="c"),
        Reason.NAMESPACE_NOT_ALLOWED,
        "spec.endpointRef.name: GtpuEndpoint n3 does not allow namespace c",
    ),
    "family": (
        lambda: make.tunnel(remote="2001:db8::7"),
        Reason.FAMILY_MISMATCH,
        "spec.remoteAddress: 2001:db8::7 is not an IPv4 address",
    ),
    "family of a set": (
        lambda: make.tunnel_set(remotes=["2001:db8::7"]),
        Reason.FAMILY_MISMATCH,
        "spec.peers: 2001:db8::7",
    ),
    "TEID": (
        lambda: make.tunnel(local_teid=5000),
        Reason.OUTSIDE_TEID_RANGE,
        "spec.localTeid: 5000 is not in the range 100 to 4095",
    ),
    "TEIDs of a set": (
        lambda: make.tunnel_set(local_teid=4090),
        Reason.OUTSIDE_TEID_RANGE,
        "spec.localTeidBase: 4090 to 4097 are not in the range 100 to 4095",
    ),
    "pool": (
        lambda: make.tunnel(prefixes=["10.60.0.1/32", "10.99.0.1/32"]),
        Reason.OUTSIDE_POOLS,
        "spec.inner.ueAddresses: 10.99.0.1/32 is in no pool of GtpuEndpoint n3",
    ),
    "wider than the pool": (
        lambda: make.tunnel(prefixes=["10.60.0.0/15"]),
        Reason.OUTSIDE_POOLS,
        "spec.inner.ueAddresses: 10.60.0.0/15 is in no pool",
    ),
    "set that runs out of the pool": (
        lambda: make.tunnel_set(bases=["10.60.255.252/32"]),
        Reason.OUTSIDE_POOLS,
        "spec.ueBase: 10.60.255.252 to 10.61.0.3 is in no pool",
    ),
}


@pytest.mark.parametrize(("build", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(build: Callable[[], Carrier], reason: Reason, message: str) -> None:
    carrier = build()
    plane = loaded(make.endpoint(teid_base=100, teid_count=3996), carrier)
    standing = plane.table.standing(carrier.owner)
    assert (standing.accepted, standing.reason) == (False, reason)
    assert standing.message.startswith(message)
    (problem,) = plane.table.problems(carrier.owner)
    assert (problem.reason, problem.generation) == (reason, 1)
    assert not plane.records[Table.GTPU_TUNNEL]


def test_endpoint_in_the_clusters_ranges() -> None:
    def standing(**changes: Any) -> tuple[Reason, str]:
        table = GtpuTable()
        table.upsert_endpoint(make.endpoint(**changes))
        nodes = [NodeRanges.of(["fd00::/64"], ["192.0.2.1"]), NodeRanges.of([], ["10.77.0.1", "none"])]
        table.reserve(reserved(nodes, [ipaddress.ip_network("10.96.0.0/16")]))
        table.update()
        found = table.standing(make.endpoint().owner)
        return found.reason, found.message.split(" ")[0]

    assert standing() == (Reason.AS_EXPECTED, "")
    assert standing(pools=["10.96.4.0/24"]) == (Reason.OVERLAPS_CLUSTER_RANGE, "spec.uePools:")
    assert standing(pools=["10.77.0.0/24"]) == (Reason.OVERLAPS_CLUSTER_RANGE, "spec.uePools:")
    assert standing(address="fd00::9") == (Reason.OVERLAPS_CLUSTER_RANGE, "spec.localAddress:")
    assert standing(floating=True) == (Reason.OVERLAPS_CLUSTER_RANGE, "spec.localAddress:")


def test_what_an_endpoint_loses_its_tunnels_lose_and_get_back() -> None:
    plane = loaded(make.endpoint(), make.tunnel())
    assert (plane.table.addresses(), plane.table.pools()) == (
        ((ipaddress.ip_address("192.0.2.1"), False),),
        make.endpoint().pools,
    )
    older = make.endpoint(
        "older", address="192.0.2.7", pools=["10.60.0.0/24"], created="2025-01-01T00:00:00Z"
    )
    plane.table.upsert_endpoint(older)
    changes = plane.take()
    assert changes.steering
    assert plane.table.standing(make.endpoint().owner).reason is Reason.CONFLICT
    assert plane.table.standing(make.tunnel().owner).reason is Reason.ENDPOINT_NOT_ACCEPTED
    assert not any(plane.records.values())
    assert plane.table.addresses() == ()
    plane.table.delete_endpoint("older")
    assert plane.take().steering
    assert plane.records == make.records([make.endpoint()], [make.tunnel()], ["n3"])


def test_a_node_that_does_not_serve_the_endpoint_has_no_records_but_the_same_verdicts() -> None:
    plane = loaded(make.endpoint(), make.tunnel(), make.tunnel("u"), active=())
    assert not any(plane.records.values())
    assert plane.table.standing(make.tunnel().owner).accepted
    assert plane.table.standing(make.tunnel("u").owner).reason is Reason.CONFLICT
    plane.table.activate(["n3"])
    assert plane.take().steering
    assert len(plane.records[Table.GTPU_TUNNEL]) == 1


def test_inner_vrf_needs_an_engine_that_has_it() -> None:
    there = make.tunnel(inner_vrf=7)
    plane = loaded(make.endpoint(), there)
    (problem,) = plane.table.problems(there.owner)
    assert problem.reason is Reason.UNSUPPORTED and problem.message.startswith("spec.inner.vrf: 7")
    assert plane.table.standing(there.owner).accepted, "it is this node's engine that has not, not the object"
    able = GtpuTable(Options(inner_vrfs=True))
    put(able, make.endpoint())
    put(able, there)
    able.activate(["n3"])
    (raw,) = able.update().upserts[Table.GTPU_UE].values()
    assert UePrefixRecord.unpack(raw).inner_vrf == 7


def test_a_new_list_forgets_what_is_not_in_it() -> None:
    plane = loaded(
        make.endpoint(),
        make.tunnel(),
        make.tunnel("u", local_teid=2, prefixes=["10.60.0.3/32"]),
        make.tunnel_set(),
    )
    left = make.tunnel("u", local_teid=2, prefixes=["10.60.0.3/32"])
    plane.table.retain_tunnels({("a", "u")})
    plane.table.retain_sets(set())
    plane.drain()
    assert plane.records == make.records([make.endpoint()], [left], ["n3"])
    plane.table.retain_endpoints(set())
    plane.drain()
    assert not any(plane.records.values())


def test_a_set_that_grows_or_moves_its_peers_keeps_its_tunnels() -> None:
    plane = loaded(make.endpoint(), make.tunnel_set())
    plane.table.upsert_set(make.tunnel_set(count=10))
    changes = plane.take()
    assert len(changes.upserts[Table.GTPU_TUNNEL]) == 2 and len(changes.upserts[Table.GTPU_UE]) == 4
    assert not any(changes.deletes.values())
    plane.table.upsert_set(make.tunnel_set(count=10, remotes=["198.51.100.7"]))
    changes = plane.take()
    assert not changes.deletes[Table.GTPU_TUNNEL] and not changes.upserts[Table.GTPU_UE]
    assert len(changes.upserts[Table.GTPU_TUNNEL]) == 6, "those that were with the other two peers"
    assert len(changes.deletes[Table.GTPU_PEER]) == 2
    plane.table.upsert_set(make.tunnel_set(count=3, remotes=["198.51.100.7"]))
    changes = plane.take()
    assert len(changes.deletes[Table.GTPU_TUNNEL]) == 7 and not changes.upserts[Table.GTPU_TUNNEL]


def test_a_million_tunnels_in_seconds_and_little_memory() -> None:
    table = GtpuTable()
    table.upsert_endpoint(make.endpoint(pools=["10.64.0.0/10", "fd00::/16"]))
    table.activate(["n3"])
    table.upsert_set(make.tunnel_set(count=1_000_000, local_teid=65536, bases=["10.64.0.0/32", "fd00::/64"]))
    started = time.process_time()
    records = 0
    while True:
        changes = table.update(65536)
        records += sum(len(upserts) for upserts in changes.upserts.values())
        if not table.pending:
            break
    seconds = time.process_time() - started
    assert records == 1 + 3 + 3_000_000
    assert seconds < 20, "some 2 s on a quiet machine"
    ident = gtpu_endpoint_id("n3", make.endpoint().address)
    assert (
        table.owner_of(
            Table.GTPU_TUNNEL,
            GtpuTunnelRecord(ident, 65536 + 999_999, 1, ipaddress.ip_address("192.0.2.9")).pack()[:16],
        )
        == make.tunnel_set().owner
    )
    # A tunnel beside it is one object's work, and one that clashes is found without going through the set.
    tracemalloc.start()
    started = time.process_time()
    clash = make.tunnel(
        "clash", local_teid=500_000, prefixes=["10.64.0.0/32"], created="2027-01-01T00:00:00Z"
    )
    table.upsert_tunnel(clash)
    table.upsert_tunnel(make.tunnel("beside", local_teid=7, prefixes=["10.127.0.1/32"]))
    changes = table.update()
    assert time.process_time() - started < 0.5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20, "bytes"
    assert len(changes.upserts[Table.GTPU_TUNNEL]) == 1
    assert table.standing(clash.owner).reason is Reason.CONFLICT


def test_many_that_want_the_same_cost_no_more_than_their_number() -> None:
    """A tenant's ten thousand clashing tunnels must not stall the node."""
    table = GtpuTable()
    put(table, make.endpoint())
    table.activate(["n3"])
    for number in range(10_000):
        put(table, make.tunnel(f"t{number:05}", created="2026-01-02T00:00:00Z", uid=f"{number:05}"))
    started = time.process_time()
    table.update()
    table.delete_tunnel("a", "t00000")
    changes = table.update()
    assert time.process_time() - started < 15, "under 1 s on a quiet machine"
    assert len(changes.upserts[Table.GTPU_TUNNEL]) == 1
    assert table.standing(make.tunnel("t00001").owner).accepted
