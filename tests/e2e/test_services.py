"""Services carry packets, in both families, and pods see the client addresses that kube-proxy's rules
promise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.traffic import Client, Outcome
from tests.e2e.environment import Environment, host_of

# Three endpoints, one of them missed by chance once in ten million.
REQUESTS = 40
APP = "echo"


@pytest.fixture(scope="module")
def servers(environment: Environment) -> Iterator[set[str]]:
    names = environment.servers(APP, 3)
    yield set(names)
    environment.delete(*(f"pod/{name}" for name in names))


@pytest.fixture
def service(environment: Environment, family: str, servers: set[str]) -> Iterator[dict[str, str]]:
    """A NodePort Service with a TCP and a UDP port; its addresses and node ports."""
    made = environment.service(APP, family, type="NodePort")
    node_ports = {port["name"]: str(port["nodePort"]) for port in made["spec"]["ports"]}
    yield {"ip": made["spec"]["clusterIP"], **node_ports}
    environment.delete(f"service/{APP}")


def until(check: Callable[[], str], seconds: float = 20) -> None:
    """Wait for a change to be programmed: until ``check`` returns ""."""
    end = time.monotonic() + seconds
    while problem := check():
        assert time.monotonic() < end, problem
        time.sleep(0.5)


def answered(client: Client, host: str, port: int) -> Callable[[], str]:
    return lambda: client.get(host, port, "/hostname", 1, timeout=2).problem()


def clients(outcome: Outcome) -> set[str]:
    """Client addresses that the servers saw; agnhost and the tests' server print them differently."""
    assert outcome.complete, outcome.problem()
    return {host_of(body) if "[" in body else body for body in outcome.bodies}


def test_pod_to_cluster_ip_keeps_the_pods_address(
    environment: Environment, service: dict[str, str], servers: set[str], family: str
) -> None:
    for node in environment.nodes:
        client = environment.pod(node)
        until(answered(client, service["ip"], 80))
        assert client.get(service["ip"], 80, "/hostname", REQUESTS).problem(servers) == ""
        own = environment.client_pod_address(node, family)
        assert clients(client.get(service["ip"], 80, "/clientip", REQUESTS)) == {own}


def test_node_to_cluster_ip_comes_from_the_node(
    environment: Environment, service: dict[str, str], servers: set[str]
) -> None:
    for node in environment.nodes:
        client = environment.on_node(node)
        until(answered(client, service["ip"], 80))
        assert client.get(service["ip"], 80, "/hostname", REQUESTS).problem(servers) == ""
        assert clients(client.get(service["ip"], 80, "/clientip", REQUESTS)) <= environment.addresses_on(node)


def test_outside_to_node_port_comes_from_the_node(
    environment: Environment, service: dict[str, str], servers: set[str], family: str
) -> None:
    for node in environment.nodes:
        address, port = node.addresses[family], int(service["tcp"])
        until(answered(environment.outside, address, port))
        assert environment.outside.get(address, port, "/hostname", REQUESTS).problem(servers) == ""
        seen = clients(environment.outside.get(address, port, "/clientip", REQUESTS))
        assert seen <= environment.addresses_on(node)


def test_pod_and_node_to_node_port(
    environment: Environment, service: dict[str, str], servers: set[str], family: str
) -> None:
    """From a pod and from a host process, to the own node's address and to the other's."""
    port = int(service["tcp"])
    for source in environment.nodes:
        for client in (environment.pod(source), environment.on_node(source)):
            for node in environment.nodes:
                until(answered(client, node.addresses[family], port))
                outcome = client.get(node.addresses[family], port, "/hostname", REQUESTS)
                assert outcome.problem(servers) == "", f"{client.name} -> {node.name}"


def test_datagrams(environment: Environment, service: dict[str, str], servers: set[str], family: str) -> None:
    node = environment.nodes[0]
    client = environment.pod(node)
    until(lambda: client.datagrams(service["ip"], 81, 100, 1, timeout=2).problem())
    outcome = client.datagrams(service["ip"], 81, 100, REQUESTS)
    assert outcome.complete, outcome.problem()
    own = environment.client_pod_address(node, family)
    assert set(outcome.bodies) == {f"{server} {own}" for server in servers}

    address, port = node.addresses[family], int(service["udp"])
    until(lambda: environment.outside.datagrams(address, port, 100, 1, timeout=2).problem())
    outcome = environment.outside.datagrams(address, port, 100, REQUESTS)
    assert outcome.complete, outcome.problem()
    assert {body.split()[0] for body in outcome.bodies} == servers
    assert {body.split()[1] for body in outcome.bodies} <= environment.addresses_on(node)


def test_two_services_on_one_pod_and_port(
    environment: Environment, service: dict[str, str], servers: set[str], family: str
) -> None:
    """The way back belongs to the flow, not to the endpoint."""
    second = environment.service("echo-again", family, selector={"app": APP})
    try:
        client = environment.pod(environment.nodes[0])
        for address in (service["ip"], second["spec"]["clusterIP"]):
            until(answered(client, address, 80))
            assert client.get(address, 80, "/hostname", REQUESTS).problem(servers) == ""
    finally:
        environment.delete("service/echo-again")


def test_a_pod_reaches_itself_through_its_service(environment: Environment, family: str) -> None:
    node = environment.nodes[0]
    (name,) = environment.servers("alone", 1, [node])
    try:
        address = environment.service("alone", family)["spec"]["clusterIP"]
        until(answered(environment.pod(node), address, 80))
        from tests.cluster.traffic import pod_client
        from tests.e2e.environment import NAMESPACE

        itself = pod_client(environment.kubectl, NAMESPACE, name)
        seen = clients(itself.get(address, 80, "/clientip", 5))
        assert seen <= environment.addresses_on(node), "the source is the node, or the answer would go astray"
    finally:
        environment.delete("service/alone", f"pod/{name}")


def test_no_endpoint_is_refused(environment: Environment, family: str) -> None:
    made = environment.service("nobody", family, type="NodePort")
    try:
        node = environment.nodes[0]
        port = made["spec"]["ports"][0]["nodePort"]
        ways = (
            (environment.pod(node), made["spec"]["clusterIP"], 80),
            (environment.on_node(node), made["spec"]["clusterIP"], 80),
            (environment.outside, node.addresses[family], port),
        )
        for client, host, number in ways:

            def refused(client: Client = client, host: str = host, number: int = number) -> str:
                errors = client.get(host, number, "/hostname", 1, timeout=3).errors
                return "" if any("refused" in error for error in errors) else f"{client.name}: {errors}"

            until(refused)
    finally:
        environment.delete("service/nobody")


def test_endpoints_follow_the_pods(
    environment: Environment, service: dict[str, str], servers: set[str], family: str
) -> None:
    client = environment.pod(environment.nodes[0])
    until(answered(client, service["ip"], 80))
    leaves = sorted(servers)[0]
    environment.delete(f"pod/{leaves}")
    try:
        until(
            lambda: client.get(service["ip"], 80, "/hostname", REQUESTS, timeout=2).problem(
                servers - {leaves}
            )
        )
    finally:
        environment.servers(APP, len(servers))
    until(lambda: client.get(service["ip"], 80, "/hostname", REQUESTS, timeout=2).problem(servers))


def test_a_deleted_service_answers_no_more(environment: Environment, servers: set[str], family: str) -> None:
    made = environment.service("brief", family, selector={"app": APP}, type="NodePort")
    client = environment.pod(environment.nodes[0])
    address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
    node = environment.nodes[0].addresses[family]
    until(answered(client, address, 80))
    until(answered(environment.outside, node, port))
    environment.delete("service/brief")
    until(
        lambda: "" if not client.get(address, 80, "/hostname", 1, timeout=1).answered else "ClusterIP answers"
    )
    until(
        lambda: (
            "" if not environment.outside.get(node, port, "/hostname", 1, timeout=1).answered else "NodePort"
        )
    )


def test_another_proxys_service_is_left_alone(
    environment: Environment, servers: set[str], family: str
) -> None:
    labels = {"service.kubernetes.io/service-proxy-name": "another"}
    foreign = environment.service("foreign", family, selector={"app": APP}, labels=labels)
    ours = environment.service("ours", family, selector={"app": APP})
    try:
        client = environment.pod(environment.nodes[0])
        until(
            answered(client, ours["spec"]["clusterIP"], 80)
        )  # later changes than the foreign one are programmed
        assert client.get(foreign["spec"]["clusterIP"], 80, "/hostname", 1, timeout=2).answered == 0
    finally:
        environment.delete("service/foreign", "service/ours")


@pytest.mark.own_cluster
def test_external_ip(environment: Environment, servers: set[str], family: str) -> None:
    assert environment.own is not None
    external = "198.51.100.7" if family == "IPv4" else "2001:db8:100::7"
    node = environment.nodes[0]
    outside = environment.own.outside
    outside.run("ip", "route", "replace", external, "via", node.addresses[family])
    environment.service("external", family, selector={"app": APP}, externalIPs=[external])
    try:
        until(answered(environment.outside, external, 80))
        assert environment.outside.get(external, 80, "/hostname", REQUESTS).problem(servers) == ""
        pod = environment.pod(node)
        assert pod.get(external, 80, "/hostname", REQUESTS).problem(servers) == ""
    finally:
        environment.delete("service/external")
        outside.run("ip", "route", "delete", external)


def test_cluster_dns(environment: Environment, service: dict[str, str], family: str) -> None:
    """Pods find Services by name, through the DNS Service's own address."""
    dns = environment.kubectl(
        "get",
        "services",
        "--all-namespaces",
        "--selector=k8s-app=kube-dns",
        "-o",
        "jsonpath={.items[0].spec.clusterIPs}",
    )
    servers = [address.strip('[]"') for address in dns.split(",")]
    record = "A" if family == "IPv4" else "AAAA"
    for node in environment.nodes:
        for server in servers:
            outcome = environment.pod(node).dns(server, f"{APP}.e2e.svc.cluster.local", record, 10)
            assert outcome.problem({service["ip"]}) == ""
