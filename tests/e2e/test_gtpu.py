"""GTP-U end to end: users behind a gNB simulator reach a host of the data network through a node.

The gNB and the host are machines outside the cluster; what they send and check is put together from the
standards (tests/cluster/gnb_program.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from tests.cluster import install
from tests.cluster.mobile import N3, PORT, Bearer, Flow, MobileNetwork
from tests.cluster.paths import PACKAGE
from tests.cluster.places import Place
from tests.cluster.progress import wait_for
from tests.e2e.environment import NAMESPACE, Environment, python_pod

pytestmark = [pytest.mark.product, pytest.mark.own_cluster]

API = "vpp-operator.dev/v1alpha1"
RATE = 200
"""Datagrams a second of a flow: little, so that a loaded machine loses none by itself."""

ENGINE = "app.kubernetes.io/component=engine"

COLUMNS = "NAME ENDPOINT REMOTE TEID NODES READY RX-PPS TX-PPS AGE"

Json = dict[str, Any]


class Gtpu:
    """The objects of these tests and the machines around them."""

    def __init__(self, environment: Environment, mobile: MobileNetwork) -> None:
        assert environment.own is not None
        self.environment = environment
        self.mobile = mobile
        self.nodes = {node.name: node for node in environment.own.nodes}

    def endpoint(self, name: str, address: str, pools: list[str], **spec: Any) -> None:
        self._apply(
            "GtpuEndpoint",
            name,
            {"localAddress": address, "uePools": pools, "allowedNamespaces": [NAMESPACE]} | spec,
        )

    def tunnel(self, name: str, endpoint: str, remote: str, teid: int, ue: list[str], **spec: Any) -> None:
        self._apply(
            "GtpuTunnel",
            name,
            {
                "endpointRef": {"name": endpoint},
                "remoteAddress": remote,
                "localTeid": teid,
                "remoteTeid": teid + 1_000_000,
                "inner": {"ueAddresses": ue},
            }
            | spec,
        )

    def _apply(self, kind: str, name: str, spec: Json) -> None:
        metadata: Json = {"name": name}
        if kind != "GtpuEndpoint":
            metadata["namespace"] = NAMESPACE
        body = {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}
        self.environment.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def patch(self, kind: str, name: str, spec: Json) -> None:
        self.environment.kubectl(
            "patch", "--namespace", NAMESPACE, kind, name, "--type=merge", "-p", json.dumps({"spec": spec})
        )

    def get(self, kind: str, name: str) -> Json:
        found: Json = json.loads(
            self.environment.kubectl("get", "--namespace", NAMESPACE, kind, name, "-o", "json")
        )
        return found

    def delete(self, kind: str, *names: str) -> None:
        self.environment.kubectl("delete", "--namespace", NAMESPACE, "--ignore-not-found", kind, *names)

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty where there is none for this generation."""
        found = self.get(kind, name)
        for entry in found.get("status", {}).get("conditions", ()):
            if entry["type"] == type_ and entry.get("observedGeneration") == found["metadata"]["generation"]:
                return entry["status"], entry["reason"], entry["message"]
        return "", "", ""

    def expect(
        self, kind: str, name: str, type_: str, status: str, reason: str = "", seconds: float = 60
    ) -> str:
        """Wait for a condition; returns its message."""

        def problem() -> str:
            found = self.condition(kind, name, type_)
            fine = found[0] == status and (not reason or found[1] == reason)
            return "" if fine else f"{kind} {name}: {type_} is {found}"

        wait_for(f"{name} {type_}={status}", problem, seconds, 0.5)
        return self.condition(kind, name, type_)[2]

    def cable(self, node: str, state: str) -> None:
        """Set a node's port of the switch up or down."""
        assert self.environment.own is not None
        self.environment.own.network.place.run("ip", "link", "set", node, state)

    def active_nodes(self, endpoint: str) -> list[str]:
        nodes: list[str] = self.get("gtpuendpoint", endpoint).get("status", {}).get("activeNodes", [])
        return nodes


@pytest.fixture(scope="module")
def gtpu(environment: Environment) -> Iterator[Gtpu]:
    assert environment.own is not None
    mobile = environment.own.mobile
    places = [node.place for node in environment.own.nodes]
    mobile.start(places)
    made = Gtpu(environment, mobile)
    yield made
    for kind in ("gtputunnels", "gtputunnelsets"):
        environment.kubectl("delete", "--namespace", NAMESPACE, kind, "--all")
    environment.kubectl("delete", "gtpuendpoints", "--all")
    mobile.disconnect(places)


@pytest.fixture(scope="module")
def n3(gtpu: Gtpu) -> str:
    """An endpoint at an address of the first node, outer IPv4."""
    node = gtpu.environment.nodes[0].addresses["IPv4"]
    gtpu.endpoint(
        "e2e-n3",
        node,
        ["10.61.0.0/16", "2001:db8:61::/48"],
        teidRange={"base": 1, "count": 1000},
        echo={"intervalSeconds": 5, "t3Seconds": 1, "n3": 2},
    )
    gtpu.mobile.route("10.61.0.0/16", node)
    gtpu.mobile.route("2001:db8:61::/48", gtpu.environment.nodes[0].addresses["IPv6"])
    gtpu.expect("gtpuendpoint", "e2e-n3", "Active", "True")
    return node


def bearer(gtpu: Gtpu, local: str, teid: int, ue: str, *ends: tuple[str, int, int | None]) -> Bearer:
    """A user's way; without ``ends`` the gNB's first address, and the TEID of `Gtpu.tunnel`."""
    gnb = gtpu.mobile.gnb6 if ":" in local else gtpu.mobile.gnb4
    at = {address: (number, qfi) for address, number, qfi in ends} or {gnb[0]: (teid + 1_000_000, None)}
    return Bearer(local, teid, at, ue, gtpu.mobile.data6 if ":" in ue else gtpu.mobile.data4)


def carried(gtpu: Gtpu, way: Bearer, seconds: float = 30) -> None:
    """Wait until a user's datagrams come back, then send a few, all of which must."""
    wait_for(f"{way.ue} is carried", lambda: gtpu.mobile.flow(way, 20, 0.2).problem(way.ue), seconds, 0.5)
    flow = gtpu.mobile.flow(way, RATE, 1)
    # All that were sent came back; a loaded machine sends less in a second.
    assert flow.problem(way.ue) == ""
    assert flow.sent > RATE / 2


def during(flow: Callable[[], Flow], *actions: Callable[[], None]) -> Flow:
    """Run a flow, and beside it the actions, one a second."""
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(flow)
        for action in actions:
            time.sleep(1)
            action()
        return running.result()


def test_both_families_through_one_tunnel(gtpu: Gtpu, n3: str) -> None:
    gtpu.tunnel("both", "e2e-n3", gtpu.mobile.gnb4[0], 10, ["10.61.0.10/32", "2001:db8:61:10::/64"])
    for ue in ("10.61.0.10", "2001:db8:61:10::1"):
        carried(gtpu, bearer(gtpu, n3, 10, ue))
    for condition in ("Accepted", "Programmed", "PathUp", "Ready"):
        gtpu.expect("gtputunnel", "both", condition, "True")
    (node,) = gtpu.get("gtputunnel", "both")["status"]["nodes"]
    assert node["node"] == gtpu.environment.nodes[0].name and node["programmed"]


def test_outer_ipv6(gtpu: Gtpu) -> None:
    local = gtpu.environment.nodes[1].addresses["IPv6"]
    gtpu.endpoint("e2e-v6", local, ["10.62.0.0/16", "2001:db8:62::/48"])
    gtpu.mobile.route("10.62.0.0/16", gtpu.environment.nodes[1].addresses["IPv4"])
    gtpu.mobile.route("2001:db8:62::/48", local)
    gtpu.tunnel("outer6", "e2e-v6", gtpu.mobile.gnb6[0], 20, ["10.62.0.1/32", "2001:db8:62:1::/64"])
    for ue in ("10.62.0.1", "2001:db8:62:1::1"):
        carried(gtpu, bearer(gtpu, local, 20, ue))
    gtpu.expect("gtpuendpoint", "e2e-v6", "Active", "True")
    assert gtpu.active_nodes("e2e-v6") == [gtpu.environment.nodes[1].name]


def test_a_user_reaches_services_of_the_cluster(gtpu: Gtpu, n3: str) -> None:
    """UE -> tunnel -> ClusterIP -> pod on the other node, and back into the tunnel."""
    environment = gtpu.environment
    gtpu.tunnel("service", "e2e-n3", gtpu.mobile.gnb4[0], 15, ["10.61.0.15/32", "2001:db8:61:15::/64"])
    program = (PACKAGE / "gnb_program.py").read_text()
    pod = python_pod("data", environment.client_image, program, environment.nodes[1], False)
    pod["metadata"]["labels"] = {"app": "data"}
    pod["spec"]["containers"][0]["args"] = ["data", str(PORT)]
    environment.apply(pod)
    ports = [{"name": "data", "port": PORT, "targetPort": PORT, "protocol": "UDP"}]
    try:
        for family, ue in (("IPv4", "10.61.0.15"), ("IPv6", "2001:db8:61:15::1")):
            service = environment.service("data", family, ports=ports)
            way = replace(bearer(gtpu, n3, 15, ue), host=service["spec"]["clusterIP"])

            def problem(way: Bearer = way) -> str:
                flow = gtpu.mobile.flow(way, 20, 0.2)
                return "" if flow.answered == flow.sent else f"{flow.answered} of {flow.sent}: {flow.errors}"

            wait_for(f"{ue} is answered by the Service", problem, 60, 0.5)
            flow = gtpu.mobile.flow(way, RATE, 1)
            assert (flow.answered, flow.errors) == (flow.sent, {}) and flow.sent > RATE / 2
            environment.delete("service/data")
    finally:
        environment.delete("service/data", "pod/data")


@pytest.mark.parametrize(("teid", "ue"), [(90, "10.61.0.90"), (91, "2001:db8:61:91::1")])
def test_tcp_streams_through_a_tunnel(gtpu: Gtpu, n3: str, teid: int, ue: str) -> None:
    """A user's machine and a host of the data network, whose segments the network card would make: large
    frames reach the engine, packets of the path's size the user."""
    length = 64 if ":" in ue else 32
    pool = f"2001:db8:61:{teid}::/64" if ":" in ue else f"{ue}/{length}"
    gtpu.tunnel(f"streams-{teid}", "e2e-n3", gtpu.mobile.radio, teid, [pool])
    teids = (teid, teid + 1_000_000)
    gtpu.expect("gtputunnel", f"streams-{teid}", "Programmed", "True")
    before = sent_by(gtpu.mobile.data)
    assert gtpu.mobile.stream(n3, teids, ue, 128) == ""
    packets, size = (after - first for after, first in zip(sent_by(gtpu.mobile.data), before, strict=True))
    assert size > 128 * 65536
    # How large TCP makes them depends on when acknowledgements come; a frame of the link has 1514 bytes.
    assert size > packets * 1514, "the host sent segments for the card to cut"


def sent_by(place: Place) -> tuple[int, int]:
    """Packets and bytes that left a machine, as its stack hands them to the card."""
    (link,) = json.loads(place.run("ip", "-json", "-stats", "link", "show", "eth0"))
    return link["stats64"]["tx"]["packets"], link["stats64"]["tx"]["bytes"]


def test_ethernet_frames_through_a_tunnel(gtpu: Gtpu, n3: str) -> None:
    node = gtpu.nodes[gtpu.environment.nodes[0].name].place
    gtpu._apply(
        "GtpuTunnel",
        "frames",
        {
            "endpointRef": {"name": "e2e-n3"},
            "remoteAddress": gtpu.mobile.radio,
            "localTeid": 95,
            "remoteTeid": 1_000_095,
            "payload": "Ethernet",
            "inner": {"vlan": 195},
        },
    )
    gtpu.expect("gtputunnel", "frames", "Programmed", "True")
    wait_for(
        "the link for frames",
        lambda: "" if "vppe0" in node.run("ip", "-brief", "link", "show", "up") else "no vppe0",
        30,
        0.5,
    )
    gtpu.mobile.echo_frames(node, "vppe0", 195)
    assert gtpu.mobile.frames(n3, (95, 1_000_095), 200) == "200"


def test_rates_and_columns(gtpu: Gtpu, n3: str) -> None:
    gtpu.tunnel("rates", "e2e-n3", gtpu.mobile.gnb4[0], 30, ["10.61.0.30/32"])
    way = bearer(gtpu, n3, 30, "10.61.0.30")
    carried(gtpu, way)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(gtpu.mobile.flow, way, RATE, 75)

        def problem() -> str:
            header, row = gtpu.environment.kubectl(
                "get", "--namespace", NAMESPACE, "gtputunnels", "rates"
            ).splitlines()
            assert header.split() == [
                "NAME",
                "ENDPOINT",
                "REMOTE",
                "TEID",
                "NODES",
                "READY",
                "RX-PPS",
                "TX-PPS",
                "AGE",
            ]
            found = dict(zip(header.split(), row.split(), strict=False))
            fine = all(
                found[name].isdigit() and 0.7 * RATE <= int(found[name]) <= 1.3 * RATE
                for name in ("RX-PPS", "TX-PPS")
            )
            return "" if fine else row

        wait_for("rates of the tunnel", problem, 75, 1)
        assert running.result().problem(way.ue) == ""


def test_a_peer_that_moves_loses_nothing(gtpu: Gtpu, n3: str) -> None:
    """Handover: address, TEID and QFI change under a stream of packets to the user."""
    first, second = gtpu.mobile.gnb4
    gtpu.tunnel(
        "moves", "e2e-n3", first, 40, ["10.61.0.40/32"], remoteTeid=41, psc={"direction": "DL", "qfi": 1}
    )
    way = bearer(gtpu, n3, 40, "10.61.0.40", (first, 41, 1), (second, 42, 5))
    carried(gtpu, way)
    flow = during(
        lambda: gtpu.mobile.flow(way, RATE, 5, stream=True),
        lambda: gtpu.patch(
            "gtputunnel",
            "moves",
            {"remoteAddress": second, "remoteTeid": 42, "psc": {"qfi": 5}},
        ),
    )
    assert flow.problem(way.ue) == "", "every packet arrived once, at the old gNB or at the new one"
    assert flow.arrived.keys() == {first, second}
    assert flow.counts.get(f"endMarkers at {first}", 0) >= 1, "the old gNB was told that it was the last"
    # Now the user is at the new gNB, both ways.
    carried(gtpu, bearer(gtpu, n3, 40, "10.61.0.40", (second, 42, 5)))


def test_switches_change_while_packets_flow(gtpu: Gtpu, n3: str) -> None:
    gtpu.tunnel("switches", "e2e-n3", gtpu.mobile.gnb4[0], 50, ["10.61.0.50/32"])
    way = bearer(gtpu, n3, 50, "10.61.0.50")
    carried(gtpu, way)

    def tune(**gtpu_fields: Any) -> Callable[[], None]:
        body = {
            "apiVersion": API,
            "kind": "DataplaneTuning",
            "metadata": {"name": "e2e-gtpu"},
            "spec": {"priority": 1000, "gtpu": gtpu_fields},
        }

        def apply() -> None:
            gtpu.environment.kubectl("apply", "-f", "-", stdin=json.dumps(body))

        return apply

    def in_effect(field: str) -> dict[str, int]:
        for entry in gtpu.get("dataplanetuning", "e2e-gtpu").get("status", {}).get("inEffect", ()):
            if entry["field"] == f"gtpu.{field}":
                return {value["value"]: value["nodes"] for value in entry["values"]}
        return {}

    def restarts() -> list[int]:
        pods = json.loads(gtpu.environment.kubectl("get", "pods", "-A", "-l", ENGINE, "-o", "json"))["items"]
        return [status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]]

    before = restarts()
    assert len(before) == 2
    try:
        flow = during(
            lambda: gtpu.mobile.flow(way, RATE, 8),
            tune(lookupCache=False, loop="single", prefetch=False),
            tune(lookupCache=True, loop="dual", prefetch=False),
            tune(lookupCache=False, loop="quad", prefetch=True),
        )
        assert flow.problem(way.ue) == ""
        wanted = {"lookupCache": {"off": 2}, "loop": {"quad": 2}, "prefetch": {"on": 2}}

        def problem() -> str:
            found = {field: in_effect(field) for field in wanted}
            return "" if found == wanted else str(found)

        wait_for("the switches in effect", problem, 60, 0.5)
        assert restarts() == before
    finally:
        gtpu.environment.kubectl("delete", "dataplanetuning", "e2e-gtpu", "--ignore-not-found")


def test_conflict_the_older_stays(gtpu: Gtpu, n3: str) -> None:
    gtpu.tunnel("older", "e2e-n3", gtpu.mobile.gnb4[0], 60, ["10.61.0.60/32"])
    carried(gtpu, bearer(gtpu, n3, 60, "10.61.0.60"))
    time.sleep(1.1)  # creation times have whole seconds
    gtpu.tunnel("same-teid", "e2e-n3", gtpu.mobile.gnb4[0], 60, ["10.61.0.64/32"])
    gtpu.tunnel("same-ue", "e2e-n3", gtpu.mobile.gnb4[0], 62, ["10.61.0.60/31"])
    message = gtpu.expect("gtputunnel", "same-teid", "Accepted", "False", "Conflict")
    assert message.startswith(
        "spec.localTeid: TEID 60 of GtpuEndpoint e2e-n3 belongs to the older GtpuTunnel"
    )
    message = gtpu.expect("gtputunnel", "same-ue", "Accepted", "False", "Conflict")
    assert message.startswith("spec.inner.ueAddresses: 10.61.0.60/32 belongs to the older GtpuTunnel older")
    carried(gtpu, bearer(gtpu, n3, 60, "10.61.0.60"))
    gtpu.delete("gtputunnel", "older")
    gtpu.expect("gtputunnel", "same-teid", "Accepted", "True")
    carried(gtpu, bearer(gtpu, n3, 60, "10.61.0.64"))


def test_not_accepted(gtpu: Gtpu, n3: str) -> None:
    gnb = gtpu.mobile.gnb4[0]
    gtpu.endpoint("e2e-others", N3.format(99), ["10.69.0.0/16"], allowedNamespaces=["others"])
    gtpu.tunnel("nowhere", "missing", gnb, 70, ["10.61.0.70/32"])
    gtpu.tunnel("stranger", "e2e-others", gnb, 71, ["10.69.0.1/32"])
    gtpu.tunnel("outside", "e2e-n3", gnb, 72, ["10.69.0.2/32"])
    gtpu.tunnel("teid", "e2e-n3", gnb, 5000, ["10.61.0.73/32"])
    gtpu.tunnel("family", "e2e-n3", gtpu.mobile.gnb6[0], 74, ["10.61.0.74/32"])
    for name, reason, field in (
        ("nowhere", "EndpointNotFound", "spec.endpointRef.name"),
        ("stranger", "NamespaceNotAllowed", "spec.endpointRef.name"),
        ("outside", "OutsidePools", "spec.inner.ueAddresses"),
        ("teid", "OutsideTeidRange", "spec.localTeid"),
        ("family", "FamilyMismatch", "spec.remoteAddress"),
    ):
        message = gtpu.expect("gtputunnel", name, "Accepted", "False", reason)
        assert message.startswith(field), message
        gtpu.expect("gtputunnel", name, "Ready", "False")


def test_an_address_that_no_node_has(gtpu: Gtpu) -> None:
    gtpu.endpoint("e2e-nowhere", N3.format(98), ["10.68.0.0/16"])
    gtpu.expect("gtpuendpoint", "e2e-nowhere", "Accepted", "True")
    message = gtpu.expect("gtpuendpoint", "e2e-nowhere", "Active", "False", "NoNodeHasAddress")
    assert N3.format(98) in message


def test_a_set(gtpu: Gtpu, n3: str) -> None:
    """Tunnels by arithmetic: the first, one between, the last."""
    body = {
        "endpointRef": {"name": "e2e-n3"},
        "count": 500,
        "localTeidBase": 500,
        "remoteTeidBase": 1_000_500,
        "peers": list(gtpu.mobile.gnb4),
        "ueBase": {"ipv4": "10.61.16.0/32"},
    }
    gtpu._apply("GtpuTunnelSet", "many", body)
    for i in (0, 333, 499):
        ue = f"10.61.{16 + i // 256}.{i % 256}"
        end = (gtpu.mobile.gnb4[i % 2], 1_000_500 + i, None)
        carried(gtpu, bearer(gtpu, n3, 500 + i, ue, end))
    gtpu.expect("gtputunnelset", "many", "Ready", "True")
    assert gtpu.get("gtputunnelset", "many")["status"]["tunnels"]["summary"] == "500/500"
    gtpu.delete("gtputunnelset", "many")


def test_a_floating_endpoint_moves_with_its_tunnels(gtpu: Gtpu) -> None:
    local = N3.format(100)
    gtpu.endpoint("e2e-floating", local, ["10.63.0.0/16"], mode="Floating")
    gtpu.tunnel("floats", "e2e-floating", gtpu.mobile.gnb4[0], 80, ["10.63.0.1/32"])
    gtpu.mobile.route("10.63.0.0/16", local)
    way = bearer(gtpu, local, 80, "10.63.0.1")
    carried(gtpu, way, 60)
    gtpu.expect("gtpuendpoint", "e2e-floating", "Active", "True")
    (first,) = gtpu.active_nodes("e2e-floating")
    other = next(name for name in gtpu.nodes if name != first)
    # The node's cable is pulled: for everybody else it is gone.
    gtpu.cable(first, "down")
    try:
        carried(gtpu, way, 180)
        wait_for(
            "the other node is the active one",
            lambda: "" if gtpu.active_nodes("e2e-floating") == [other] else f"not {other} yet",
            60,
            0.5,
        )
    finally:
        gtpu.cable(first, "up")
        install.wait_ready(gtpu.environment.kubectl, len(gtpu.nodes))
    # The node that comes back lets the other keep it.
    carried(gtpu, way, 60)
    assert gtpu.active_nodes("e2e-floating") == [other]


def test_a_floating_ipv6_endpoint_carries_ipv6_users_and_moves(gtpu: Gtpu) -> None:
    """Outer and inner IPv6; an administrator moves it by its selector."""
    own = gtpu.environment.own
    assert own is not None
    local = own.network.underlay.ipv6(100)

    def on(node: str) -> Json:
        return {"matchLabels": {"kubernetes.io/hostname": node}}

    first, other = gtpu.nodes
    gtpu.endpoint("e2e-floating6", local, ["2001:db8:64::/48"], mode="Floating", nodeSelector=on(first))
    gtpu.tunnel("floats6", "e2e-floating6", gtpu.mobile.gnb6[0], 85, ["2001:db8:64:1::/64"])
    gtpu.mobile.route("2001:db8:64::/48", local)
    way = bearer(gtpu, local, 85, "2001:db8:64:1::1")
    carried(gtpu, way, 60)
    wait_for("it is active", lambda: "" if gtpu.active_nodes("e2e-floating6") == [first] else "no", 60, 0.5)
    gtpu.patch("gtpuendpoint", "e2e-floating6", {"nodeSelector": on(other)})
    wait_for("it moves", lambda: "" if gtpu.active_nodes("e2e-floating6") == [other] else "no", 90, 0.5)
    carried(gtpu, way, 60)


def test_a_floating_address_that_a_machine_has_is_left_to_it(gtpu: Gtpu) -> None:
    """The gNB has the address: no node takes it away; when it lets go, one does."""
    local = N3.format(101)
    gnb = gtpu.mobile.gnb
    gnb.run("ip", "address", "add", f"{local}/24", "dev", "eth0")
    try:
        gtpu.endpoint("e2e-taken", local, ["10.65.0.0/16"], mode="Floating")
        message = gtpu.expect("gtpuendpoint", "e2e-taken", "Programmed", "False", "AddressInUse", 90)
        (link,) = json.loads(gnb.run("ip", "-json", "link", "show", "eth0"))
        assert f"MAC address {link['address']} on eth0 has it" in message
        for node in gtpu.nodes.values():
            assert local not in node.place.run("ip", "neigh", "show", "proxy")
    finally:
        gnb.run("ip", "address", "delete", f"{local}/24", "dev", "eth0")
    gtpu.expect("gtpuendpoint", "e2e-taken", "Programmed", "True", seconds=90)
