"""Joining the node's network, in network namespaces: what reaches the dataplane, what does not, and undoing
it all."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from tests.contract.node_lab import (
    EXTERNAL,
    NODE,
    NODE_PORT,
    OUTSIDE,
    POD_GATEWAY,
    PODS,
    REMOTE_POD,
    VIP,
    EchoServer,
    Lab,
    ask,
    client,
    inside,
    sh,
    unique_prefix,
)

from vpp_operator.node import Target

FAMILIES = (4, 6)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node with a masquerading CNI, FORWARD dropping, strict reverse-path filters; endpoints in pod2, out
    and the node."""
    journal: Path = tmp_path_factory.mktemp("run") / "journal.json"
    with Lab(unique_prefix(), journal) as made:
        made.masquerade()
        made.apply()
        made.engine.start()
        servers = [
            EchoServer(made.names[ns], address[family], 8080)
            for ns, address in (("pod2", PODS[2]), ("out", REMOTE_POD), ("node", NODE))
            for family in FAMILIES
        ]
        try:
            yield made
        finally:
            for server in servers:
                server.__exit__()


@pytest.fixture
def engine(lab: Lab):
    """The stand-in without frontends, after the last test's connections have closed."""
    time.sleep(0.05)
    lab.engine.frontends.clear()
    lab.engine._flows.clear()
    lab.engine.seen.clear()
    return lab.engine


ENDPOINTS = {"local": PODS[2], "remote": REMOTE_POD, "host": NODE}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_pod_to_cluster_ip_keeps_the_pods_address(lab, engine, family, protocol, endpoint):
    engine.frontends[(VIP[family], 80)] = (ENDPOINTS[endpoint][family], 8080)
    for _ in range(3):
        assert ask(lab.names["pod1"], VIP[family], 80, protocol, b"hello") == PODS[1][family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("to", ["cluster", "node", "external"])
@pytest.mark.parametrize("source", ["node", "out", "pod1"])
def test_masqueraded(lab, engine, family, protocol, endpoint, to, source):
    """From the node, from outside and from a pod to every kind of address, to endpoints everywhere."""
    if source == "out" and to == "cluster":
        pytest.skip("service ranges are not routed outside")
    engine.pods = ()  # masquerade every flow
    address, port = {
        "cluster": (VIP[family], 80),
        "node": (NODE[family], NODE_PORT),
        "external": (EXTERNAL[family], 443),
    }[to]
    engine.frontends[(address, port)] = (ENDPOINTS[endpoint][family], 8080)
    try:
        assert ask(lab.names[source], address, port, protocol, b"hello") == NODE[family]
    finally:
        engine.pods = type(engine).pods


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("source", ["out", "pod1", "node"])
def test_fragmented_datagrams_both_ways(lab, engine, family, source):
    """Later fragments carry no ports; they reach the dataplane all the same, request and reply."""
    engine.frontends[(NODE[family], NODE_PORT)] = (PODS[2][family], 8080)
    engine.pods = ()
    try:
        payload = bytes(range(256)) * 20
        assert ask(lab.names[source], NODE[family], NODE_PORT, "udp", payload) == NODE[family]
    finally:
        engine.pods = type(engine).pods
    fragments = engine.took(lambda p: p.frag > 0 if IP in p else p.nh == 44)
    assert len(fragments) >= 4


@pytest.mark.parametrize("family", FAMILIES)
def test_replies_to_the_pool_are_taken_in_and_others_are_not(lab, engine, family):
    """A port outside the pool at the node's address is the host's."""
    with EchoServer(lab.names["node"], NODE[family], 9999):
        assert ask(lab.names["out"], NODE[family], 9999, "udp") == OUTSIDE[family]
        assert ask(lab.names["node"], REMOTE_POD[family], 8080, "udp") == NODE[family]
    assert not engine.took(lambda p: UDP in p)


@pytest.mark.parametrize("family", FAMILIES)
def test_port_unreachable_about_a_masqueraded_flow(lab, engine, family):
    """Nobody listens at the endpoint: the client outside gets the refusal of what it sent."""
    engine.frontends[(NODE[family], NODE_PORT)] = (PODS[2][family], 7777)
    lab.apply(lab.spec(endpoints=lab.spec().endpoints | {Target.of(PODS[2][family], 17, 7777)}))
    with pytest.raises(ConnectionRefusedError):
        ask(lab.names["out"], NODE[family], NODE_PORT, "udp")
    assert engine.took(_is_error)
    lab.apply()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("endpoint", ["local", "host"])
def test_port_unreachable_about_a_pods_flow(lab, engine, family, endpoint):
    engine.frontends[(VIP[family], 80)] = (ENDPOINTS[endpoint][family], 7777)
    lab.apply(lab.spec(endpoints=lab.spec().endpoints | {Target.of(ENDPOINTS[endpoint][family], 17, 7777)}))
    with pytest.raises(ConnectionRefusedError):
        ask(lab.names["pod1"], VIP[family], 80, "udp")
    assert engine.took(_is_error)
    lab.apply()


@pytest.mark.parametrize("family", FAMILIES)
def test_too_big_about_a_reply_finds_the_endpoint(lab, engine, family):
    """The way back to a client of a node port has a smaller MTU: the error is addressed to the node
    itself."""
    out, node = lab.names["out"], lab.names["node"]
    engine.frontends[(NODE[family], NODE_PORT)] = (PODS[2][family], 8080)
    engine.pods = ()
    try:
        client_address = "198.51.100.7" if family == 4 else "2001:db8:7::7"
        sh(out, f"ip addr add {client_address}/{32 if family == 4 else 128} dev lo")
        sh(node, f"ip -{family} route add {client_address} via {OUTSIDE[family]} mtu 1300")
        ask(out, NODE[family], NODE_PORT, "udp", b"x", client_address)
        engine.seen.clear()
        # The kernel of the node answers the engine's packet, which must not be fragmented, by an error to its
        # own address.
        with pytest.raises(TimeoutError):
            ask(out, NODE[family], NODE_PORT, "udp", b"x" * 1400, client_address)
        if family == 6:
            assert engine.took(_is_error)
    finally:
        engine.pods = type(engine).pods
        sh(node, f"ip -{family} route del {client_address}")
        sh(out, f"ip addr del {client_address}/{32 if family == 4 else 128} dev lo")


def _is_error(packet):
    return ICMP in packet or any(c.__name__ in ERRORS6 for c in packet.layers())


ERRORS6 = ("ICMPv6DestUnreach", "ICMPv6PacketTooBig", "ICMPv6TimeExceeded")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_listener_in_the_node_port_range_is_not_disturbed(lab, engine, family, protocol):
    with EchoServer(lab.names["node"], NODE[family], NODE_PORT + 1):
        for source, address in (("out", OUTSIDE), ("pod1", PODS[1]), ("node", NODE)):
            assert ask(lab.names[source], NODE[family], NODE_PORT + 1, protocol) == address[family]
    assert not engine.took(lambda p: NODE_PORT + 1 in (_ports(p) or ()))


def _ports(packet):
    layer = packet.getlayer(TCP) or packet.getlayer(UDP)
    return (layer.sport, layer.dport) if layer else None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_traffic_to_an_endpoint_without_its_service_does_not_pass_the_dataplane(
    lab, engine, family, protocol
):
    """Pods, the node and the outside reach endpoints directly, tracked as ever; the same endpoint serves a
    Service too."""
    engine.frontends[(VIP[family], 80)] = (PODS[2][family], 8080)
    assert ask(lab.names["pod1"], PODS[2][family], 8080, protocol) == PODS[1][family]
    for _ in range(10):  # masqueraded by the CNI with random ports, the dataplane's pool among them
        assert ask(lab.names["pod1"], REMOTE_POD[family], 8080, protocol) == NODE[family]
    assert ask(lab.names["pod1"], NODE[family], 8080, protocol) == PODS[1][family]
    assert ask(lab.names["node"], PODS[2][family], 8080, protocol) == POD_GATEWAY[family]
    assert ask(lab.names["out"], NODE[family], 8080, protocol) == OUTSIDE[family]
    assert not engine.took(_ports)
    assert ask(lab.names["pod1"], VIP[family], 80, protocol) == PODS[1][family]
    assert engine.took(_ports)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_node_port_picked_by_masquerading_stays_with_the_pod(lab, engine, family, protocol):
    """A pod's way out is masqueraded to a port that is an allocated node port: the reply is the pod's all the
    same."""
    tool = "iptables" if family == 4 else "ip6tables"
    rule = f"POSTROUTING -p {protocol} -s {PODS[1][family]} --dport 9999 -j MASQUERADE --to-ports {NODE_PORT}"
    sh(lab.names["node"], f"{tool} -t nat -I {rule}; {tool} -I FORWARD -p {protocol} -j ACCEPT")
    try:
        with EchoServer(lab.names["out"], OUTSIDE[family], 9999):
            assert ask(lab.names["pod1"], OUTSIDE[family], 9999, protocol) == NODE[family]
    finally:
        sh(lab.names["node"], f"{tool} -t nat -D {rule}; {tool} -D FORWARD -p {protocol} -j ACCEPT")
    assert not engine.took(_ports)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_used_directly_and_then_through_the_service(lab, engine, family):
    """The same client port: the last request decides which way the reply goes."""
    engine.frontends[(VIP[family], 80)] = (PODS[2][family], 8080)
    s = client(lab.names["pod1"], PODS[2][family], socket.SOCK_DGRAM)
    with s:
        for to in ((PODS[2][family], 8080), (VIP[family], 80), (PODS[2][family], 8080)):
            s.sendto(b"x", to)
            assert s.recvfrom(100)[1][:2] == to


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tcp_port_used_directly_and_then_through_the_service(lab, engine, family):
    """A connection through the Service from a port that was used without it, and back."""
    engine.frontends[(VIP[family], 80)] = (PODS[2][family], 8080)
    for to in ((PODS[2][family], 8080), (VIP[family], 80), (PODS[2][family], 8080), (VIP[family], 80)):
        with client(lab.names["pod1"], PODS[2][family], socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no TIME_WAIT
            s.bind((PODS[1][family], 41000))
            s.connect(to)
            for _ in range(3):
                s.sendall(b"x")
                assert s.recv(200).startswith(f"{PODS[1][family]} ".encode())
        time.sleep(0.05)
        engine._flows.clear()


def test_forwarded_service_flows_take_no_conntrack_entries(lab, engine):
    sh(lab.names["node"], "conntrack -F 2>/dev/null")
    for family in FAMILIES:
        engine.frontends[(VIP[family], 80)] = (PODS[2][family], 8080)
        engine.frontends[(NODE[family], NODE_PORT)] = (REMOTE_POD[family], 8080)
        ask(lab.names["pod1"], VIP[family], 80, "udp", bytes(4000))
        ask(lab.names["out"], NODE[family], NODE_PORT)
    entries = sh(lab.names["node"], "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")
    assert not entries.strip(), entries


def test_neighbour_discovery_is_the_kernels(lab, engine):
    for name in ("node", "pod1", "out"):
        sh(lab.names[name], "ip neigh flush dev eth0; ip -6 neigh flush dev eth0; true")
    assert ask(lab.names["pod1"], REMOTE_POD[6], 8080, "udp") == NODE[6]
    sh(lab.names["out"], f"ping -c1 -W2 {NODE[6]}")
    sh(lab.names["node"], f"ping -c1 -W2 {PODS[2][6]}")
    assert not engine.took(lambda p: p.haslayer(IPv6) and not p.dst.startswith("ff"))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_established_flow_outlives_its_endpoints_place(lab, engine, family):
    """The endpoint leaves the set: flows to it go on through the dataplane until they end."""
    engine.frontends[(VIP[family], 80)] = (PODS[2][family], 8080)
    with client(lab.names["pod1"], VIP[family], socket.SOCK_STREAM) as s:
        s.connect((VIP[family], 80))
        lab.apply(lab.spec(endpoints=frozenset(), node_ports=frozenset()))
        s.sendall(b"still")
        assert s.recv(200).endswith(b"still")
        lab.apply()
        s.sendall(b"again")
        assert s.recv(200).endswith(b"again")
    assert lab.apply(verify=True) == ()


BREAK = {
    "link": "ip link del vpp0",
    "link down": "ip link set vpp0 down",
    "mtu": "ip link set vpp0 mtu 1300",
    "large UDP frames": "ethtool -K vpp0 tx-udp-segmentation off",
    "settings": "echo 0 > /proc/sys/net/ipv4/conf/vpp0/accept_local",
    "neighbours": "ip neigh flush dev vpp0 nud permanent; ip -6 neigh flush dev vpp0 nud permanent",
    "rule": "ip rule del pref 3; ip -6 rule del pref 5",
    "local rule": "ip rule add pref 0 lookup local",
    "route": "ip route flush table 7072; ip -6 route flush table 7071",
    "nftables table": "nft delete table inet vpp-operator",
    "nftables rule": "nft flush chain inet vpp-operator ports4",
    "table of another release": "nft delete table inet vpp-operator; nft add table inet vpp-operator;"
    "nft add chain inet vpp-operator old",
    "hook elsewhere": "nft flush chain inet vpp-operator leaving; nft delete chain inet vpp-operator leaving;"
    "nft 'add chain inet vpp-operator leaving { type filter hook postrouting priority 90; }'",
    "foreign rule": "nft insert rule inet vpp-operator prerouting drop",
    "elements": "nft flush set inet vpp-operator endpoints6; nft flush set inet vpp-operator services4",
    "too many elements": "nft add element inet vpp-operator node_ports '{ 6 . 31000 }'",
    "forward": "iptables -D FORWARD -i vpp0 -m comment --comment vpp-operator -j ACCEPT",
    "everything": "nft flush ruleset; ip link del vpp0; ip rule del pref 2; ip -6 rule del pref 6",
}


@pytest.mark.parametrize("what", BREAK)
def test_what_was_changed_by_hand_is_found_and_mended(lab, engine, what):
    assert lab.apply(verify=True) == ()
    engine.stop()
    sh(lab.names["node"], BREAK[what])
    found = inside(lab.names["node"], lambda: lab.network().check(lab.spec()))
    assert [f.reason for f in found] == ["SteeringDiffers"]
    assert lab.apply(verify=True) != ()
    assert lab.apply(verify=True) == ()
    if what == "everything":
        lab.masquerade()
        lab.apply(verify=True)
    engine.restart()
    for family in FAMILIES:
        engine.frontends[(VIP[family], 80)] = (REMOTE_POD[family], 8080)
        assert ask(lab.names["pod1"], VIP[family], 80) == PODS[1][family]


def test_large_udp_frames_are_cut_for_an_engine_that_knows_none(lab, engine):
    def whole() -> bool:
        return "tx-udp-segmentation: on" in sh(lab.names["node"], "ethtool -k vpp0")

    assert lab.apply() == () and whole()
    assert lab.apply(lab.spec(large_udp=False)) != () and not whole()
    assert lab.apply(lab.spec(large_udp=False), verify=True) == ()
    assert lab.apply() != () and whole()


def test_many_endpoints_are_loaded_and_changed_in_increments(lab, engine, record_property):
    """50,000 endpoints: loading, the change of one, and reading all back."""
    many = (
        frozenset(Target((10 << 24 | 250 << 16 | i).to_bytes(4, "big"), 6, 8080) for i in range(50_000))
        | lab.spec().endpoints
    )
    times = {}
    for name, endpoints, verify in (
        ("load", many, False),
        ("one less", many - {Target.of("10.250.0.7", 6, 8080)}, False),
        ("one more", many, False),
        ("verify", many, True),
    ):
        begin = time.monotonic()
        steps = lab.apply(lab.spec(endpoints=endpoints), verify)
        times[name] = round(time.monotonic() - begin, 3)
        assert bool(steps) == (name != "verify"), steps
    record_property("seconds", times)
    print(times)
    assert times["one more"] < times["load"]
    sh(lab.names["node"], "nft delete table inet vpp-operator")  # without the 50,000 that would run out
    lab.apply(verify=True)
