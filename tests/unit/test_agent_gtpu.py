"""GTP-U in the agent: what is active here, who may read figures, rates by object."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.agent_memory import MemoryDataplane

from vpp_operator.agent.enginesettings import switches_in_effect, switches_value
from vpp_operator.agent.facts import NodeFacts, NodeObject
from vpp_operator.agent.figures import Reviewer
from vpp_operator.agent.gtpureport import TunnelStats
from vpp_operator.agent.gtpusource import GtpuSource
from vpp_operator.agent.loop import Loop
from vpp_operator.agent.refusals import tunnel_key
from vpp_operator.api.gtpu_report import AUDIENCE
from vpp_operator.api.tuning import Loop as LoopWidth
from vpp_operator.api.tuning import ResolvedGtpu
from vpp_operator.dataplane.protocol import PathState, TunnelCounters
from vpp_operator.dataplane.records import (
    GtpuEndpointRecord,
    GtpuTunnelRecord,
    Table,
    UePrefixRecord,
    gtpu_endpoint_id,
)
from vpp_operator.gtpu.cluster import NodeRanges
from vpp_operator.gtpu.flow import Anchor, InForce
from vpp_operator.gtpu.model import Endpoint, Tunnel, TunnelSet
from vpp_operator.gtpu.table import GtpuTable
from vpp_operator.kube import ApiError

ADDRESS = ipaddress.ip_address("192.0.2.1")


def endpoint(**more: Any) -> Endpoint:
    pools = (ipaddress.ip_network("10.45.0.0/16"),)
    fields = {"name": "n3", "address": ADDRESS, "pools": pools, "namespaces": frozenset("*")} | more
    return Endpoint(**fields)


def tunnel(teid: int = 1) -> Tunnel:
    return Tunnel(
        namespace="t",
        name=f"t{teid}",
        endpoint="n3",
        remote=ipaddress.ip_address("192.0.2.200"),
        local_teid=teid,
        remote_teid=teid,
        prefixes=(ipaddress.ip_network(f"10.45.0.{teid}/32"),),
    )


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def source(facts: NodeFacts | None, clock: Clock | None = None) -> GtpuSource:
    return GtpuSource(GtpuTable(), lambda: facts, clock=clock or Clock())


def listed(made: GtpuSource) -> None:
    for kind in made.KINDS:
        made.note(kind, "1", listed=True)


def taken(made: GtpuSource) -> dict[Table, int]:
    counts = dict.fromkeys(made.tables, 0)
    while made.waiting():
        for table, records in made.take().upserts.items():
            counts[table] += len(records)
    return counts


HERE = NodeFacts(NodeObject("u", (ADDRESS,), (), {"role": "edge"}), own_addresses=frozenset({ADDRESS}))


def test_an_address_of_this_node_is_served_and_a_floating_one_with_its_lease() -> None:
    made = source(HERE)
    made.upsert_endpoint(endpoint())
    made.table.upsert_tunnel(tunnel())
    listed(made)
    assert not made.ready() and made.missing() == ["the Leases of Floating GtpuEndpoints"]
    made.set_held((), True)
    assert made.ready() and taken(made)[Table.GTPU_TUNNEL] == 1
    assert made.addresses() == {ADDRESS: False}

    floating = endpoint(name="f", address=ipaddress.ip_address("192.0.2.9"), floating=True, pools=())
    made.upsert_endpoint(floating)
    assert made.floating() == {"f": floating} and "f" not in made.active
    made.set_held({"f"}, True)
    taken(made)
    assert made.active == {"n3", "f"} and made.addresses()[floating.address]
    made.set_held((), True)
    taken(made)
    assert made.active == {"n3"} and made.addresses() == {ADDRESS: False}


def test_nothing_is_active_before_the_other_nodes_are_known() -> None:
    known: list[NodeRanges] | None = None
    made = GtpuSource(GtpuTable(), lambda: HERE, cluster=lambda: known, clock=Clock())
    made.upsert_endpoint(endpoint(address=ipaddress.ip_address("192.0.2.2")))
    listed(made)
    made.set_held((), True)
    assert made.ready(), "an endpoint of another node asks for nothing"
    made.upsert_endpoint(endpoint())
    assert not made.ready() and made.missing() == ["the Nodes"] and not made.active
    known = [NodeRanges.of(["10.45.7.0/24"], ["192.0.2.2"])]
    made.refresh()
    assert made.ready() and made.active == {"n3"}
    taken(made)
    assert made.addresses() == {} and [p.reason for p in made.problems()] == ["OverlapsClusterRange"]
    known = []
    made.refresh()
    taken(made)
    assert made.addresses() == {ADDRESS: False} and made.problems() == []


def test_kinds_that_the_api_server_does_not_have_are_not_waited_for() -> None:
    clock = Clock()
    made = source(HERE, clock)
    made.refused("GtpuEndpoint", 404)
    assert made.needed(), "it may have just started"
    clock.now += 11
    made.refused("GtpuEndpoint", 404)
    assert not made.needed() and not made.ready() and made.missing() == []
    listed(made)
    assert made.needed()
    # A kind that was there and is refused for a moment changes nothing.
    made.set_held((), True)
    made.refused("GtpuEndpoint", 404)
    clock.now += 60
    assert made.needed() and made.ready()


def test_the_tunnel_that_a_ue_prefix_names() -> None:
    ue = UePrefixRecord(ipaddress.ip_network("10.45.0.1/32"), gtpu_endpoint_id("n3"), 77)
    record = GtpuTunnelRecord(gtpu_endpoint_id("n3"), 77, 5, ADDRESS)
    assert tunnel_key(ue.pack()) == record.pack()[: GtpuTunnelRecord.KEY]


def test_switches_of_the_tuning_and_what_the_engine_says() -> None:
    assert switches_value(ResolvedGtpu(lookup_cache=False, loop=LoopWidth.DUAL)) == 2 | 8 | 16 | 2 << 8
    found = switches_in_effect(
        {"lookupCache": "off", "loop": "dual", "gtpuBypass": "notApplicable", "x": "y"}
    )
    assert found is not None
    assert found.to_json() == {"lookupCache": "off", "loop": "dual", "gtpuBypass": "notApplicable"}
    assert switches_in_effect({}) is None


async def test_an_endpoints_address_changes_in_one_batch() -> None:
    """The tunnels at the new address come before the old ones go; each user's prefix is in one of the two."""
    made = source(HERE)
    made.upsert_endpoint(endpoint())
    for teid in range(1, 101):
        made.table.upsert_tunnel(tunnel(teid))
    listed(made)
    made.set_held((), True)
    dataplane = MemoryDataplane()
    loop = Loop(dataplane, [made])
    for _ in range(3):
        await loop.turn()
    assert len(dataplane.tables[Table.GTPU_UE]) == 100
    before = len(dataplane.batches)
    old = set(dataplane.tables[Table.GTPU_TUNNEL])
    other = ipaddress.ip_address("192.0.2.77")
    moved = endpoint(address=other)
    facts = dataclasses.replace(HERE, own_addresses=frozenset({ADDRESS, other}))
    made._facts = lambda: facts
    made.upsert_endpoint(moved)
    for _ in range(3):
        await loop.turn()
    assert len(dataplane.batches) == before + 1 and loop.figures.refused == 0
    tunnels, ues = dataplane.tables[Table.GTPU_TUNNEL], dataplane.tables[Table.GTPU_UE]
    assert len(tunnels) == len(ues) == 100 and not old & set(tunnels)
    assert {UePrefixRecord.unpack(raw).endpoint for raw in ues.values()} == {moved.ident}
    (record,) = dataplane.tables[Table.GTPU_ENDPOINT].values()
    assert GtpuEndpointRecord.unpack(record).address == other
    assert made.owner_of(Table.GTPU_TUNNEL, next(iter(tunnels))) is not None
    assert made.owner_of(Table.GTPU_TUNNEL, next(iter(old))) is None


class Counting:
    """Counters of an engine, which may start again."""

    def __init__(self) -> None:
        self.each = 0
        self.asked = 0

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        assert keys is not None and len(keys) <= TunnelStats.SLICE
        self.asked += 1
        ident = endpoint().ident
        teids = [int.from_bytes(key[8:12], "little") for key in keys]
        n = self.each
        return [TunnelCounters(ident, teid, n, 100 * n, 2 * n, 50 * n, 1) for teid in teids]

    async def gtpu_paths(self) -> list[PathState]:
        return []


async def test_rates_are_sums_over_the_objects_tunnels() -> None:
    clock, engine = Clock(), Counting()
    stats = TunnelStats(engine, clock)
    many = TunnelSet(
        namespace="t",
        name="many",
        endpoint="n3",
        count=5000,
        local_teid=100,
        remote_teid=1,
        remotes=(ADDRESS,),
        bases=(ipaddress.ip_network("10.45.4.0/32"),),
        step=1,
    )
    carriers = [InForce(carrier, Anchor.of(endpoint())) for carrier in (many, tunnel(1), tunnel(2))]
    await stats.read(carriers)
    assert stats.figures[many.owner].drops == 5000 and stats.figures[many.owner].rx_pps == 0
    engine.each, clock.now = 10, clock.now + 10
    await stats.read(carriers)
    assert stats.figures[many.owner].rx_pps == 5000 and stats.figures[many.owner].tx_bps == 5000 * 50 * 8
    assert stats.figures[tunnel(1).owner].rx_pps == 1 and stats.figures[tunnel(1).owner].rx_bps == 800
    # Asked again at once: the same answer.
    asked = engine.asked
    await stats.read(carriers)
    assert engine.asked == asked
    # The engine began anew: no rates, and no negative ones.
    engine.each, clock.now = 3, clock.now + 10
    await stats.read(carriers)
    assert stats.figures[many.owner].rx_pps == 0


class Judge:
    """The API server's word about tokens."""

    def __init__(self) -> None:
        self.asked = 0
        self.audiences: list[str] = [AUDIENCE]
        self.allowed = True
        self.fail: Exception | None = None

    async def request(
        self, method: str, path: str, *, body: Any = None, params: Any = None, content_type: str = ""
    ) -> Any:
        if self.fail is not None:
            raise self.fail
        self.asked += 1
        if path.endswith("tokenreviews"):
            good = body["spec"]["token"].startswith("good")
            user = {"username": "reader", "groups": ["g"]}
            return {"status": {"authenticated": good, "audiences": self.audiences, "user": user}}
        assert body["spec"]["user"] == "reader"
        assert body["spec"]["nonResourceAttributes"] == {"path": "/v1/gtpu", "verb": "get"}
        return {"status": {"allowed": self.allowed}}


async def test_tokens_are_reviewed_once_a_minute() -> None:
    clock, judge = Clock(), Judge()
    reviewer = Reviewer(judge, clock)
    assert [await reviewer.status("good") for _ in range(5)] == [200] * 5 and judge.asked == 2
    clock.now += 61
    judge.allowed = False
    assert await reviewer.status("good") == 403
    assert await reviewer.status("bad") == 401


async def test_an_api_server_without_audiences_vouches_for_nobody() -> None:
    judge = Judge()
    judge.audiences = []
    assert await Reviewer(judge, Clock()).status("good") == 401


async def test_strangers_cause_few_reviews_and_readers_are_not_locked_out() -> None:
    clock, judge = Clock(), Judge()
    reviewer = Reviewer(judge, clock)
    assert await reviewer.status("good") == 200
    answers = [await reviewer.status(f"bad{i}") for i in range(1000)]
    assert answers.count(401) <= 5 and answers.count(429) >= 995
    assert await reviewer.status("good") == 200
    clock.now += 1
    assert await reviewer.status("good2") == 200


@pytest.mark.parametrize("error", [TimeoutError(), OSError("down"), ApiError(500, "Internal", "x")])
async def test_without_the_api_server_nobody_new_is_let_in(error: Exception) -> None:
    clock, judge = Clock(), Judge()
    reviewer = Reviewer(judge, clock)
    judge.fail = error
    assert await reviewer.status("good") == 503
    judge.fail = None
    assert await reviewer.status("good") == 200
