"""What the leader says of GTP-U objects, from acceptance and the nodes' reports."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest

from vpp_operator.api.conditions import Condition, ConditionStatus, Reason
from vpp_operator.api.gtpu_report import (
    EndpointReport,
    Figures,
    NodeReport,
    ObjectReport,
    PathReport,
)
from vpp_operator.controller.gtpu_status import Reports, endpoint_status, set_status, tunnel_status
from vpp_operator.gtpu.model import Endpoint, Tunnel, TunnelSet
from vpp_operator.gtpu.rules import ACCEPTED, Standing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINT = Endpoint(
    name="n3",
    address=ipaddress.ip_address("192.0.2.1"),
    pools=(ipaddress.ip_network("10.45.0.0/16"),),
    namespaces=frozenset("*"),
    generation=2,
)
TUNNEL = Tunnel(
    namespace="t",
    name="one",
    endpoint="n3",
    remote=ipaddress.ip_address("192.0.2.200"),
    local_teid=1,
    remote_teid=2,
    generation=3,
    prefixes=(ipaddress.ip_network("10.45.0.1/32"),),
)
MANY = TunnelSet(
    namespace="t",
    name="many",
    endpoint="n3",
    count=1000,
    local_teid=100,
    remote_teid=100,
    remotes=(ipaddress.ip_address("192.0.2.200"),),
    bases=(ipaddress.ip_network("10.45.4.0/32"),),
    step=1,
)
CONFLICT = Standing(False, Reason.CONFLICT, "TEID 1 belongs to the older GtpuTunnel zero")


def report(node: str, *objects: ObjectReport, **endpoint: object) -> NodeReport:
    fields: dict[str, object] = {"name": "n3", "generation": 2, "programmed": True} | endpoint
    return NodeReport(node, True, (EndpointReport(**fields),), objects)  # type: ignore[arg-type]


def of_tunnel(**more: object) -> ObjectReport:
    fields: dict[str, object] = {"generation": 3, "programmed": 1, "total": 1} | more
    return ObjectReport("GtpuTunnel", "t", "one", **fields)  # type: ignore[arg-type]


def verdicts(conditions: tuple[Condition, ...] | None) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status.value, c.reason) for c in conditions or ()}


def test_a_tunnel_that_carries_packets() -> None:
    figures = Figures(100, 90, 80_000, 70_000, 3)
    reports = Reports.of([report("a", of_tunnel(up=True, figures=figures))], complete=True)
    status = tunnel_status(TUNNEL, ACCEPTED, ENDPOINT, reports, (), NOW)
    assert set(verdicts(status.conditions).values()) == {("True", "AsExpected")}
    assert status.programmed_nodes is not None and status.programmed_nodes.summary == "1/1"
    assert status.totals is not None and (status.totals.rx_pps, status.totals.drops) == (100, 3)
    assert status.nodes is not None and status.nodes[0].node == "a" and status.nodes[0].tx_bps == 70_000


@pytest.mark.parametrize(
    ("standing", "reports", "expected"),
    [
        (CONFLICT, [report("a")], {"Accepted": "Conflict", "Programmed": "Conflict", "Ready": "Conflict"}),
        (ACCEPTED, [], {"Programmed": "NoNodeHasAddress", "Ready": "NoNodeHasAddress"}),
        (ACCEPTED, [report("a")], {"Programmed": "Programming", "Ready": "Programming"}),
        # What the node says is of an older generation.
        (
            ACCEPTED,
            [report("a", of_tunnel(generation=2))],
            {"Programmed": "Programming", "Ready": "Programming"},
        ),
        (
            ACCEPTED,
            [report("a", of_tunnel(programmed=0, reason="RejectedByDataplane", message="errno 28"))],
            {"Programmed": "RejectedByDataplane", "Ready": "RejectedByDataplane"},
        ),
        (ACCEPTED, [report("a", of_tunnel(up=False))], {"PathUp": "NoEchoReply", "Ready": "NoEchoReply"}),
    ],
)
def test_why_a_tunnel_is_not_ready(
    standing: Standing, reports: list[NodeReport], expected: dict[str, str]
) -> None:
    status = tunnel_status(TUNNEL, standing, ENDPOINT, Reports.of(reports, complete=True), (), NOW)
    found = {
        kind: reason for kind, (state, reason) in verdicts(status.conditions).items() if state == "False"
    }
    assert found == expected


def test_a_path_that_nobody_watches_does_not_keep_a_tunnel_from_being_ready() -> None:
    silent = Endpoint(
        name="n3",
        address=ENDPOINT.address,
        pools=ENDPOINT.pools,
        namespaces=ENDPOINT.namespaces,
        echo_interval_ms=0,
    )
    reports = Reports.of([report("a", of_tunnel())], complete=True)
    found = verdicts(tunnel_status(TUNNEL, ACCEPTED, silent, reports, (), NOW).conditions)
    assert found["PathUp"] == ("Unknown", "EchoOff") and found["Ready"] == ("True", "AsExpected")


def test_before_the_nodes_were_asked_nothing_is_said_about_them() -> None:
    found = verdicts(tunnel_status(TUNNEL, ACCEPTED, ENDPOINT, Reports(), (), NOW).conditions)
    assert found["Accepted"] == ("True", "AsExpected")
    assert found["Programmed"] == ("Unknown", "Programming") and found["Ready"][0] == "Unknown"


def test_transition_times_are_kept() -> None:
    reports = Reports.of([report("a", of_tunnel(up=True))], complete=True)
    first = tunnel_status(TUNNEL, ACCEPTED, ENDPOINT, reports, (), NOW)
    later = NOW + timedelta(hours=1)
    again = tunnel_status(TUNNEL, ACCEPTED, ENDPOINT, reports, first.conditions or (), later)
    assert again == first
    lost = tunnel_status(TUNNEL, CONFLICT, ENDPOINT, reports, first.conditions or (), later)
    times = {c.type: c.last_transition_time for c in lost.conditions or ()}
    assert times["PathUp"] == "2026-01-01T00:00:00Z" and times["Accepted"] == "2026-01-01T01:00:00Z"


def test_a_set_is_as_programmed_as_on_its_worst_node() -> None:
    def of_set(programmed: int) -> ObjectReport:
        figures = Figures(10, 20, 30, 40, 1)
        return ObjectReport("GtpuTunnelSet", "t", "many", 0, programmed, 1000, figures=figures)

    reports = Reports.of([report("a", of_set(1000)), report("b", of_set(400))], complete=True)
    status = set_status(MANY, ACCEPTED, ENDPOINT, reports, (), NOW)
    assert status.tunnels is not None and status.tunnels.summary == "400/1000"
    assert status.totals is not None and (status.totals.rx_pps, status.totals.drops) == (20, 2)
    assert status.nodes is not None and [n.programmed for n in status.nodes] == [True, False]
    assert verdicts(status.conditions)["Programmed"][0] == "False"


def test_an_endpoint_counts_its_tunnels_and_paths() -> None:
    paths = (PathReport("192.0.2.200", True, 800, 4), PathReport("192.0.2.201", False))
    reports = Reports.of([report("a", of_tunnel(), paths=paths)], complete=True)
    carriers = [(TUNNEL, ACCEPTED), (MANY, CONFLICT)]
    status = endpoint_status(ENDPOINT, ACCEPTED, carriers, reports, (), NOW)
    assert status.tunnels is not None and status.tunnels.summary == "1/1" and status.errors == 1000
    assert status.path_count is not None and status.path_count.summary == "1/2"
    assert status.paths is not None and [p.up for p in status.paths] == [False, True]
    found = verdicts(status.conditions)
    assert found["Active"][0] == "True" and found["PathUp"] == ("False", "NoEchoReply")


def test_what_a_node_cannot_do_for_an_endpoint_is_its_condition() -> None:
    odd = report("a", programmed=False, reason="Conflict", message="10.45.0.0/16 overlaps 10.45.1.0/24")
    reports = Reports.of([odd], complete=True)
    status = endpoint_status(ENDPOINT, ACCEPTED, [], reports, (), NOW)
    programmed = next(c for c in status.conditions or () if c.type == "Programmed")
    assert programmed.status == ConditionStatus.FALSE and programmed.reason == "Conflict"
    assert "overlaps" in programmed.message


def test_an_endpoint_whose_selector_takes_no_node_says_so() -> None:
    asked = Reports.of([], complete=True)
    status = endpoint_status(ENDPOINT, ACCEPTED, [], asked, (), NOW, selected=False)
    assert verdicts(status.conditions)["Active"] == ("False", "NoNodesMatch")
    status = endpoint_status(ENDPOINT, ACCEPTED, [], asked, (), NOW)
    assert verdicts(status.conditions)["Active"] == ("False", "NoNodeHasAddress")


def test_a_floating_endpoint_that_nobody_holds_says_why() -> None:
    floating = Endpoint(
        name="n3",
        address=ENDPOINT.address,
        pools=ENDPOINT.pools,
        namespaces=ENDPOINT.namespaces,
        floating=True,
    )
    silent = NodeReport("a", True, problems={"n3": "403 Forbidden: leases"})
    status = endpoint_status(floating, ACCEPTED, [], Reports.of([silent], complete=True), (), NOW)
    active = next(c for c in status.conditions or () if c.type == "Active")
    assert active.reason == "NotActive" and "403 Forbidden" in active.message


def test_a_report_survives_the_wire_and_rubbish_does_not() -> None:
    sent = report("a", of_tunnel(figures=Figures(1, 2, 3, 4, 5)), paths=(PathReport("192.0.2.9", None),))
    assert NodeReport.from_json(sent.to_json()) == sent
    for raw in (
        b"",
        b"[]",
        b"{}",
        b'{"node":"a","settled":true,"endpoints":[{}],"objects":[],"problems":{}}',
    ):
        with pytest.raises(ValueError, match="report"):
            NodeReport.from_json(raw)
