"""What is not an ordinary packet: fragments, packets that are too big for the way, and who else uses the
node's ports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.environment import Environment
from tests.e2e.test_services import answered, until

APP = "parts"


@pytest.fixture(scope="module")
def server(environment: Environment) -> Iterator[str]:
    """One server, on the second node, so that packets through the first are forwarded."""
    (name,) = environment.servers(APP, 1, environment.nodes[1:])
    yield name
    environment.delete(f"pod/{name}")


@pytest.fixture
def node_ports(environment: Environment, family: str, server: str) -> Iterator[dict[str, int]]:
    made = environment.service(APP, family, type="NodePort")
    ports = {port["name"]: port["nodePort"] for port in made["spec"]["ports"]}
    address = environment.nodes[0].addresses[family]
    until(answered(environment.outside, address, ports["tcp"]))
    yield ports
    environment.delete(f"service/{APP}")


@pytest.mark.own_cluster
def test_fragmented_datagrams_through_a_node_port(
    environment: Environment, node_ports: dict[str, int], server: str, family: str
) -> None:
    for node in environment.nodes:
        # 1400 fits a packet, 4000 and its answer come in three fragments.
        for size in (1400, 4000):
            outcome = environment.outside.datagrams(node.addresses[family], node_ports["udp"], size, 10)
            assert outcome.complete, f"{size} bytes through {node.name}: {outcome.problem()}"
            assert {body.split()[0] for body in outcome.bodies} == {server}


@pytest.mark.own_cluster
def test_fragmentation_needed_reaches_the_server(
    environment: Environment, node_ports: dict[str, int], family: str
) -> None:
    """The way from the first node to the client takes 1300 bytes; the server behind the second has to learn
    it."""
    assert environment.own is not None
    first = environment.own.nodes[0]
    client = first.underlay.ipv4(20) if family == "IPv4" else first.underlay.ipv6(20)
    first.place.run("ip", "route", "replace", client, "dev", "eth0", "mtu", "1300")
    try:
        address = environment.nodes[0].addresses[family]
        outcome = environment.outside.get(address, node_ports["tcp"], "/big", 3, timeout=15)
        assert outcome.complete, outcome.problem()
        assert {len(body) for body in outcome.bodies} == {2**20}
    finally:
        first.place.run("ip", "route", "delete", client, "dev", "eth0")


@pytest.mark.own_cluster
def test_a_host_listener_in_the_node_port_range_is_not_disturbed(
    environment: Environment, node_ports: dict[str, int], family: str
) -> None:
    assert environment.own is not None
    place = environment.own.nodes[0].place
    port = next(number for number in range(32700, 32767) if number not in node_ports.values())
    address = environment.nodes[0].addresses[family]
    any_address = "0.0.0.0" if family == "IPv4" else "::"
    place.start("listener", ["python3", "-m", "http.server", "--bind", any_address, str(port)])
    try:
        until(lambda: environment.outside.get(address, port, "/", 1, timeout=2).problem())
        outcome = environment.outside.get(address, port, "/", 10)
        assert outcome.complete, outcome.problem()
    finally:
        environment.own.nodes[0].stop_daemon("listener")
