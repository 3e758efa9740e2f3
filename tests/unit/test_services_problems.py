"""What is not served as asked is said, and why: unsupported fields, clashes, broken and huge objects."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.service_objects import (
    NODE,
    Json,
    endpoint,
    endpoint_slice,
    port,
    put,
    service,
    show,
    table_of,
)

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import Table
from vpp_operator.services.decode import DecodeError, decode_service, decode_slice
from vpp_operator.services.model import ObjectName
from vpp_operator.services.support import unsupported
from vpp_operator.services.table import ServiceTable

WEB = Owner("Service", "default", "web")
INGRESS = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}

UNSUPPORTED: dict[str, tuple[Json, list[str]]] = {
    "nothing": ({}, []),
    "internal policy": ({"internalTrafficPolicy": "Local"}, ["spec.internalTrafficPolicy"]),
    "external policy": (
        {"type": "NodePort", "externalTrafficPolicy": "Local"},
        ["spec.externalTrafficPolicy"],
    ),
    "external policy with external IPs": (
        {"externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"},
        ["spec.externalTrafficPolicy"],
    ),
    "external policy counts only where something is reached from outside": (
        {"externalTrafficPolicy": "Local"},
        [],
    ),
    "affinity": ({"sessionAffinity": "ClientIP"}, ["spec.sessionAffinity"]),
    "load balancer address": ({"type": "LoadBalancer", "status": INGRESS}, ["status.loadBalancer.ingress"]),
    "load balancer without an address yet": ({"type": "LoadBalancer"}, []),
    "load balancer that proxies": (
        {
            "type": "LoadBalancer",
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}]}},
        },
        [],
    ),
    "source ranges": (
        {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]},
        ["spec.loadBalancerSourceRanges"],
    ),
    "source ranges that let all in": (
        {"type": "LoadBalancer", "loadBalancerSourceRanges": ["0.0.0.0/0"]},
        [],
    ),
    "traffic distribution": ({"trafficDistribution": "PreferSameZone"}, ["spec.trafficDistribution"]),
    "topology annotation": (
        {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}},
        ["topology-mode"],
    ),
    "topology annotation off": ({"annotations": {"service.kubernetes.io/topology-mode": "Disabled"}}, []),
    "SCTP": ({"ports": [port(80), port(81, "s", "SCTP")]}, ["port 81"]),
    "two at once": (
        {"internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"},
        ["spec.internalTrafficPolicy", "spec.sessionAffinity"],
    ),
}


@pytest.mark.parametrize(("changes", "fields"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported(changes: dict[str, Any], fields: list[str]) -> None:
    problems = unsupported(decode_service(service(generation=7, **changes)))
    assert len(problems) == len(fields)
    for problem, field in zip(problems, fields, strict=True):
        assert field in problem.message
        assert problem.reason is Reason.UNSUPPORTED
        assert (problem.kind, problem.namespace, problem.name, problem.generation) == (*WEB, 7)


def test_external_ips_switched_off_is_said() -> None:
    table = table_of([service(externalIPs=["192.0.2.1"])], external_ips=False)
    (problem,) = table.problems(WEB)
    assert problem.reason is Reason.SWITCHED_OFF
    assert "externalIPs.enabled" in problem.message


def test_a_service_of_another_proxy_has_no_problems() -> None:
    labels = {"service.kubernetes.io/service-proxy-name": "other"}
    table = table_of([service(labels=labels, internalTrafficPolicy="Local")])
    assert table.problems(WEB) == []
    assert table.services() == 0


OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
VIP = "192.0.2.1:80/TCP EXTERNAL_IP -> "


def clash(first: Json, second: Json) -> ServiceTable:
    return table_of(
        [
            first,
            second,
            endpoint_slice("a", ["10.1.0.1"], of="a"),
            endpoint_slice("b", ["10.1.0.2"], of="b"),
        ]
    )


def shared(name: str, created: str, uid: str | None = None, **more: Any) -> Json:
    ip = {"a": "10.96.0.1", "b": "10.96.0.2"}[name]
    return service(name, [ip], created=created, uid=uid, externalIPs=["192.0.2.1"], **more)


def vip_lines(table: ServiceTable) -> list[str]:
    return [line for line in show(table) if line.startswith("192.0.2.1")]


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (shared("a", OLD), shared("b", NEW), "a"),
        (shared("a", NEW), shared("b", OLD), "b"),
        (shared("a", OLD, "2"), shared("b", OLD, "1"), "b"),
        (shared("a", "", "1"), shared("b", NEW, "2"), "b"),
    ],
    ids=["a is older", "b is older", "same second: smaller UID", "without a time: the newest"],
)
def test_vip_clash_the_older_wins(first: Json, second: Json, winner: str) -> None:
    loser = "b" if winner == "a" else "a"
    for pair in ((first, second), (second, first)):
        table = clash(*pair)
        address = {"a": "10.1.0.1", "b": "10.1.0.2"}[winner]
        assert vip_lines(table) == [f"{VIP}{address}:8080[cluster serves]"]
        # The loser's other entries are served.
        assert len(show(table)) == 3
        assert table.problems(Owner("Service", "default", winner)) == []
        (problem,) = table.problems(Owner("Service", "default", loser))
        assert problem.reason is Reason.CONFLICT
        assert f"default/{winner}" in problem.message
        assert "192.0.2.1 port 80/TCP" in problem.message
        assert table.owners_with_problems() == {Owner("Service", "default", loser)}


def test_vip_clash_the_loser_takes_over_when_the_winner_goes() -> None:
    table = clash(shared("a", OLD), shared("b", NEW))
    table.delete_service("default", "a")
    changes = table.update()
    assert vip_lines(table) == [f"{VIP}10.1.0.2:8080[cluster serves]"]
    assert changes.problems == {Owner("Service", "default", "b")}
    assert table.owners_with_problems() == set()
    # The key changes hands: one upsert, no delete that would take it away again.
    (key,) = changes.upserts[Table.FRONTEND]
    assert key not in changes.deletes[Table.FRONTEND]
    assert table.owner_of(Table.FRONTEND, key) == Owner("Service", "default", "b")


def test_vip_clash_an_older_one_comes_back() -> None:
    table = clash(shared("b", NEW), service("c", ["10.96.0.3"]))
    assert vip_lines(table) == [f"{VIP}10.1.0.2:8080[cluster serves]"]
    put(table, shared("a", OLD))
    assert table.update().problems == {Owner("Service", "default", "b")}
    assert vip_lines(table) == [f"{VIP}10.1.0.1:8080[cluster serves]"]


def test_vip_clash_is_per_port_and_protocol() -> None:
    table = clash(shared("a", OLD), shared("b", NEW, ports=[port(80, "", "UDP"), port(81, "x")]))
    assert len(vip_lines(table)) == 3
    assert table.owners_with_problems() == set()


def test_node_port_clash() -> None:
    ports = [port(80, node_port=30080)]
    table = clash(
        service("a", ["10.96.0.1"], ports, created=OLD, type="NodePort"),
        service("b", ["10.96.0.2"], ports, created=NEW, type="NodePort"),
    )
    (problem,) = table.problems(Owner("Service", "default", "b"))
    assert "node port 30080/TCP" in problem.message


def test_conflict_carries_the_generation_of_now() -> None:
    table = clash(shared("a", OLD), shared("b", NEW))
    put(table, shared("b", NEW, generation=2))
    assert table.update().problems == {Owner("Service", "default", "b")}
    assert table.problems(Owner("Service", "default", "b"))[0].generation == 2


def broken_slice() -> DecodeError:
    document = endpoint_slice("s", ["10.1.0.1"])
    document["endpoints"][0]["addresses"] = ["10.1.0.999"]
    with pytest.raises(DecodeError) as error:
        decode_slice(document)
    return error.value


def test_broken_slice_its_last_valid_version_stays_and_the_service_says_why() -> None:
    table = table_of([service(), endpoint_slice("s", ["10.1.0.1"])])
    before = show(table)
    table.reject(broken_slice())
    assert table.update().problems == {WEB}
    assert show(table) == before
    (problem,) = table.problems(WEB)
    assert (problem.kind, problem.name, problem.reason) == ("EndpointSlice", "s", Reason.INVALID)
    assert "endpoints[0].addresses[0]" in problem.message
    put(table, endpoint_slice("s", ["10.1.0.1"]))
    assert table.update().problems == {WEB}
    assert table.problems(WEB) == []


def test_broken_object_that_goes_takes_its_problem_along() -> None:
    table = table_of([service()])
    table.reject(broken_slice())
    table.update()
    table.delete_slice("default", "s")
    assert table.update().problems == {WEB}
    assert table.owners_with_problems() == set()
    table.reject(broken_slice())
    table.retain_slices({ObjectName("default", "s")})
    assert table.owners_with_problems() == {WEB}
    table.retain_slices(set())
    assert table.owners_with_problems() == set()


def test_broken_slice_of_an_unknown_service_is_its_own_problem() -> None:
    table = table_of([])
    error = broken_slice()
    table.reject(DecodeError(error.owner, error.field, error.message))
    assert table.update().problems == {Owner("EndpointSlice", "default", "s")}
    assert len(table.problems(Owner("EndpointSlice", "default", "s"))) == 1


def test_huge_service_is_cut_and_says_so_and_the_others_are_whole() -> None:
    pods = [f"10.{i >> 8}.{i & 255}.1" for i in range(300)]
    documents = [
        service(),
        endpoint_slice("s", pods),
        service("small", ["10.96.0.11"]),
        endpoint_slice("t", ["10.1.0.1"], of="small"),
    ]
    table = table_of(documents, max_endpoints=200)
    lines = show(table)
    assert [line.count("cluster serves") for line in lines] == [200, 1]
    (problem,) = table.problems(WEB)
    assert problem.reason is Reason.CAPACITY_EXCEEDED
    assert "300" in problem.message and "200" in problem.message
    assert show(table_of(reversed(documents), max_endpoints=200)) == lines


def test_huge_service_keeps_the_endpoints_of_this_node() -> None:
    pods = [endpoint(f"10.1.0.{i}", node=NODE if i > 8 else "node-b") for i in range(1, 11)]
    terminating = endpoint("10.0.0.1", "serving terminating", NODE)
    table = table_of([service(), endpoint_slice("s", [terminating, *pods])], max_endpoints=3)
    (line,) = show(table)
    found = sorted(backend.split(":")[0] for backend in line.split(" -> ")[1].split(", "))
    assert found == ["10.1.0.1", "10.1.0.10", "10.1.0.9"]


def test_two_ports_of_one_number_and_protocol_the_first_is_served() -> None:
    """The API server refuses them; should they come, the outcome is one of the two, always the same."""
    table = table_of(
        [
            service(ports=[port(80, "a"), port(80, "b")]),
            endpoint_slice("s", ["10.1.0.1"], [("a", "TCP", 8080), ("b", "TCP", 8081)]),
        ]
    )
    assert show(table) == ["10.96.0.10:80/TCP CLUSTER_IP -> 10.1.0.1:8080[cluster serves]"]
