"""Steering of GTP-U on the node: gNB, engine, data network, with a masquerading CNI and FORWARD dropping."""

from __future__ import annotations

import ipaddress
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from tests.contract.node_gtpu_lab import (
    DATA,
    GNB,
    OWN,
    POOLS,
    PORT,
    UE,
    Gnb,
    GtpuLab,
    mac_of,
    neighbour,
    ue_datagram,
)
from tests.contract.node_lab import NODE, OUTSIDE, PODS, EchoServer, ask, client, inside, sh, unique_prefix

from vpp_operator.node import GtpuSteer, NodeNetworkError, preflight

FAMILIES = (4, 6)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GtpuLab]:
    """The steering in place, an echo server in the data network and in pod2."""
    with GtpuLab(f"{unique_prefix()}g", tmp_path_factory.mktemp("run") / "journal.json") as made:
        made.masquerade()
        made.apply()
        made.engine.start()
        servers = [
            EchoServer(made.names[ns], address[family], 7000)
            for ns, address in (("data", DATA), ("pod2", PODS[2]), ("node", NODE))
            for family in FAMILIES
        ]
        try:
            yield made
        finally:
            for server in servers:
                server.__exit__()


@pytest.fixture
def engine(lab: GtpuLab):
    """The stand-in, nothing seen yet."""
    time.sleep(0.05)
    lab.gtpu.seen.clear()
    lab.gtpu.peer = ("", "")
    return lab.gtpu


def round_trip(lab: GtpuLab, source: tuple[str, str], local: str, family: int, to: str, size: int = 5) -> str:
    """Send a UE's datagram to an echo server through the GTP-U address and return the client it saw."""
    with Gnb(lab.names[source[0]], source[1], local) as gnb:
        payload = bytes(range(256)) * 6
        gnb.send(ue_datagram(family, to, 7000, payload[:size]))
        answer = gnb.receive()
        assert (answer.src, answer.dst, answer[UDP].sport, answer[UDP].dport) == (to, UE[family], 7000, 5000)
        peer, _, data = bytes(answer[UDP].payload).partition(b" ")
        assert data == payload[:size]
        return peer.decode()


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("inner", FAMILIES)
@pytest.mark.parametrize("local", [NODE, OWN], ids=["node", "own"])
def test_a_ue_reaches_the_data_network_with_its_own_address(lab, engine, outer, inner, local):
    """Neither way is masqueraded or dropped, the outer source is the GTP-U address."""
    for _ in range(3):
        seen = round_trip(lab, ("out", GNB[outer]), local[outer], inner, DATA[inner])
        assert seen == UE[inner]


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("inner", FAMILIES)
def test_a_ue_reaches_pods_and_the_node(lab, engine, outer, inner):
    for address in (PODS[2], NODE):
        assert round_trip(lab, ("out", GNB[outer]), OWN[outer], inner, address[inner]) == UE[inner]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("local", [NODE, OWN], ids=["node", "own"])
def test_a_gnb_in_a_pod_of_the_node(lab, engine, family, local):
    """The CNI would masquerade its packets: the engine sees the pod's address."""
    assert round_trip(lab, ("pod1", PODS[1][family]), local[family], family, DATA[family]) == UE[family]
    assert engine.peer == (local[family], PODS[1][family])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gnb_process_on_the_node(lab, engine, family):
    """From the host's own stack to an address of the endpoint's own."""
    assert round_trip(lab, ("node", NODE[family]), OWN[family], family, DATA[family]) == UE[family]


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("local", [NODE, OWN], ids=["node", "own"])
def test_outer_fragments_reach_the_engine(lab, engine, outer, local):
    """A full inner packet makes the outer one larger than the link: later fragments carry no port."""
    inner = outer
    with (
        Gnb(lab.names["out"], GNB[outer], local[outer]) as gnb,
        client(lab.names["data"], DATA[inner], socket.SOCK_DGRAM) as data,
    ):
        data.bind((DATA[inner], 7001))
        payload = bytes(range(256)) * 6
        payload = payload[: 1500 - (28 if inner == 4 else 48)]
        gnb.send(ue_datagram(inner, DATA[inner], 7001, payload))
        received, peer = data.recvfrom(4000)
    assert received == payload and peer[:2] == (UE[inner], 5000)
    fragments = engine.took(lambda p: (p.frag > 0 or p.flags.MF) if IP in p else p.nh == 44)
    assert len(fragments) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_pods_the_node_and_others_reach_a_ue(lab, engine, family):
    """The first packet comes from the other side; the UE sees who sent it, and nothing is masqueraded."""
    with Gnb(lab.names["out"], GNB[family], NODE[family]) as gnb:
        engine.peer = (NODE[family], GNB[family])
        for ns, address in (("pod1", PODS[1]), ("node", NODE), ("data", DATA)):
            with client(lab.names[ns], UE[family], socket.SOCK_DGRAM) as s:
                s.connect((UE[family], 9))
                s.send(b"down")
                packet = gnb.receive()
                assert (packet.src, packet.dst) == (address[family], UE[family])
                assert bytes(packet[UDP].payload)[:4] == b"down"


@pytest.mark.parametrize("family", FAMILIES)
def test_all_else_at_the_nodes_address_is_the_nodes(lab, engine, family):
    for source, address in (("out", OUTSIDE), ("pod1", PODS[1]), ("node", NODE)):
        assert ask(lab.names[source], NODE[family], 7000, "udp", b"x" * 4000) == address[family]
        assert ask(lab.names[source], NODE[family], 7000, "tcp") == address[family]
    sh(lab.names["out"], f"ping -c1 -W2 {NODE[family]}")
    with EchoServer(lab.names["node"], NODE[family], PORT - 1):
        assert ask(lab.names["out"], NODE[family], PORT - 1, "udp") == OUTSIDE[family]
    # TCP port 2152 is no GTP-U.
    with client(lab.names["out"], NODE[family], socket.SOCK_STREAM) as s, pytest.raises(ConnectionError):
        s.connect((NODE[family], PORT))
    assert not engine.took(lambda p: p.dst == NODE[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_about_a_gpdu_reaches_the_engine(lab, engine, family):
    """Nobody listens at the peer: its port unreachable is about a packet that the host never sent."""
    engine.peer = (NODE[family], GNB[family])
    with client(lab.names["data"], UE[family], socket.SOCK_DGRAM) as s:
        s.connect((UE[family], 9))
        s.send(b"nobody")
        time.sleep(0.3)
    kinds = ("ICMP", "ICMPv6DestUnreach")
    assert engine.took(lambda p: any(c.__name__ in kinds for c in p.layers()) and p.dst == NODE[family])


def test_tunnels_and_ues_take_no_conntrack_entries(lab, engine):
    sh(lab.names["node"], "conntrack -F 2>/dev/null")
    for family in FAMILIES:
        for local in (NODE, OWN):
            round_trip(lab, ("out", GNB[family]), local[family], family, DATA[family])
            round_trip(lab, ("out", GNB[family]), local[family], family, PODS[2][family])
    entries = sh(lab.names["node"], "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")
    assert not [e for e in entries.splitlines() if "icmpv6" not in e], entries


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_of_its_own_is_announced_and_answered_for(lab, engine, family):
    """A neighbour that has another's MAC for it learns the node's when the address becomes active, and a new
    neighbour finds it by asking."""
    out, node = lab.names["out"], lab.names["node"]
    without = tuple(s for s in lab.spec().gtpu if s.address.version != family or not s.own)
    lab.apply(lab.spec(gtpu=without))
    assert "proxy" not in sh(node, f"ip -{family} neigh show proxy")
    time.sleep(1.1)  # neighbours believe no change within a second (locktime)
    sh(out, f"ip -{family} neigh replace {OWN[family]} lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    assert lab.apply()[-1].startswith("announce")
    time.sleep(0.2)
    assert neighbour(out, OWN[family]) == mac_of(node)
    # Announced again on demand.
    time.sleep(1.1)
    sh(out, f"ip -{family} neigh replace {OWN[family]} lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    inside(node, lambda: lab._network.announce(lab.spec()))
    time.sleep(0.2)
    assert neighbour(out, OWN[family]) == mac_of(node)
    sh(out, f"ip -{family} neigh del {OWN[family]} dev eth0")
    assert round_trip(lab, ("out", GNB[family]), OWN[family], family, DATA[family]) == UE[family]
    assert neighbour(out, OWN[family]) == mac_of(node)
    assert lab.apply(verify=True) == ()


HOLDS = {
    "address": "ip addr {verb} {own} dev eth0{nodad}",
    "proxy": "ip neigh {verb} proxy {own} dev eth0",
}
"""How another host comes to answer for an address: its own, or (IPv6) as the node of another cluster does."""


@pytest.mark.parametrize(("family", "holds"), [(4, "address"), (6, "address"), (6, "proxy")])
def test_an_address_that_another_host_has_is_not_taken(lab, engine, family, holds):
    """Neither announced nor routed to the engine; the others are served; taken once it is free."""
    out, node = lab.names["out"], lab.names["node"]
    lab.apply(lab.spec(gtpu=()))
    nodad = " nodad" if family == 6 else ""
    try:
        if holds == "proxy":
            sh(out, "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.proxy_ndp=1")
            sh(out, "ip link add else0 type veth peer name else1; ip link set else0 up; ip link set else1 up")
            sh(out, f"ip -6 route add {OWN[6]} dev else0")
        sh(out, HOLDS[holds].format(verb="add", own=OWN[family], nodad=nodad))
        lab.apply()
        applied = inside(node, lambda: lab._network.apply(lab.spec()))
        (finding,) = applied.refused
        assert (finding.reason, finding.subject) == ("AddressInUse", OWN[family])
        assert mac_of(out) in finding.message and 20 < applied.ask_in <= 30
        shown = sh(node, f"ip -{family} neigh show proxy; ip -{family} route show table 7072")
        assert OWN[family] not in shown
        # What that host's neighbours know of it was not changed.
        other = 4 if family == 6 else 6
        assert OWN[other] in sh(node, f"ip -{other} neigh show proxy")
    finally:
        sh(out, HOLDS[holds].format(verb="del", own=OWN[family], nodad=""))
        sh(out, "ip link del else0 2>/dev/null; sysctl -qw net.ipv6.conf.all.forwarding=0", check=False)
    assert not lab.apply(), "it is not asked for again at once"
    lab._network._claims.AGAIN_SECONDS = 0.0
    try:
        assert lab.apply()[-1].startswith("announce")
    finally:
        del lab._network._claims.AGAIN_SECONDS
    sh(out, f"ip -{family} neigh flush all")
    assert round_trip(lab, ("out", GNB[family]), OWN[family], family, DATA[family]) == UE[family]


def test_an_agent_that_starts_asks_for_nothing_that_its_node_has(lab, engine):
    again = lab.network()
    applied = inside(lab.names["node"], lambda: again.apply(lab.spec()))
    assert (applied.steps, applied.refused, applied.ask_in) == ((), (), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_no_longer_wanted_is_the_nodes_again_at_once(lab, engine, family):
    """An address withdrawn is not marked for a day, unlike an endpoint."""
    lab.apply(lab.spec(gtpu=(), ue_pools=()))
    try:
        with EchoServer(lab.names["node"], NODE[family], PORT):
            assert ask(lab.names["out"], NODE[family], PORT, "udp") == OUTSIDE[family]
        shown = sh(lab.names["node"], f"ip -{family} route show table 7072; ip -{family} neigh show proxy")
        assert POOLS[family] not in shown and OWN[family] not in shown
        assert not engine.took(lambda p: UDP in p and p[UDP].dport == PORT)
    finally:
        lab.apply()
    assert lab.apply(verify=True) == ()
    assert round_trip(lab, ("out", GNB[family]), NODE[family], family, DATA[family]) == UE[family]


def test_an_address_is_withdrawn_without_knowing_the_rest(lab, engine):
    """An agent that lost its lease and knows nothing else: neighbours and routes let go, the rest stays."""
    addresses = [ipaddress.ip_address(a) for a in OWN.values()]
    lost = inside(lab.names["node"], lambda: lab.network().withdraw(addresses))
    assert len(lost.steps) == 4, lost.steps
    assert inside(lab.names["node"], lambda: lab.network().withdraw(addresses)).steps == ()
    shown = sh(
        lab.names["node"], "ip neigh show proxy; ip route show table 7072; ip -6 route show table 7072"
    )
    assert not any(a in shown for a in OWN.values()), shown
    for family in FAMILIES:
        assert round_trip(lab, ("out", GNB[family]), NODE[family], family, DATA[family]) == UE[family]
    assert len(lab.apply(verify=True)) == 4
    assert round_trip(lab, ("out", GNB[4]), OWN[4], 4, DATA[4]) == UE[4]


BREAK = {
    "proxy": "ip neigh del proxy {own} dev eth0",
    "elements": "nft flush set inet vpp-operator gtpu4; nft flush set inet vpp-operator services6",
    "rule": "nft flush chain inet vpp-operator gtpu6",
    "route": "ip route flush table 7072",
    "frames": "ip link set vppe1 down",
    "frames gone": "ip link del vppe0",
}


@pytest.mark.parametrize("what", BREAK)
def test_what_was_changed_by_hand_is_mended(lab, engine, what):
    assert lab.apply(verify=True) == ()
    sh(lab.names["node"], BREAK[what].format(own=OWN[4]))
    found = inside(lab.names["node"], lambda: lab.network().check(lab.spec()))
    assert [f.reason for f in found] == ["SteeringDiffers"]
    assert lab.apply(verify=True) != ()
    assert lab.apply(verify=True) == ()
    for family in FAMILIES:
        assert round_trip(lab, ("out", GNB[family]), OWN[family], family, DATA[family]) == UE[family]


def test_a_change_of_one_does_not_disturb_the_others(lab, engine):
    """What is added, and refused, leaves the working ones alone; each change is a few steps."""
    bad_pools = ("0.0.0.0/0", "192.0.2.128/25", "10.244.0.0/16", "10.96.3.0/24", "2001:db8::/64")
    extra = GtpuSteer(ipaddress.ip_address("192.0.2.60"), own=True)
    elsewhere = GtpuSteer(ipaddress.ip_address("192.0.2.9"))
    spec = lab.spec(
        gtpu=(*lab.spec().gtpu, extra, elsewhere),
        ue_pools=(*lab.spec().ue_pools, *(ipaddress.ip_network(p) for p in bad_pools)),
    )
    asked = inside(lab.names["node"], lambda: lab._network.apply(spec))
    assert {f.subject for f in asked.refused} == {*bad_pools, "192.0.2.9", "192.0.2.60"}
    assert len(asked.steps) == 0 and asked.ask_in == 0
    inside(lab.names["node"], lab._network.ask)
    applied = inside(lab.names["node"], lambda: lab._network.apply(spec))
    assert {f.subject for f in applied.refused} == {*bad_pools, "192.0.2.9"} and applied.ask_in is None
    assert all(f.message.startswith(f.subject) and f.remedy for f in applied.refused)
    assert 1 < len(applied.steps) < 5, applied.steps
    again = inside(lab.names["node"], lambda: lab._network.apply(spec))
    assert again.steps == () and again.refused == applied.refused
    assert round_trip(lab, ("out", GNB[4]), "192.0.2.50", 4, DATA[4]) == UE[4]
    # The address comes to the node: it is taken soon.
    sh(lab.names["node"], "ip addr add 192.0.2.9/32 dev eth0")
    try:
        lab._network._look_again = 0.0
        applied = inside(lab.names["node"], lambda: lab._network.apply(spec))
        assert applied.steps and "192.0.2.9" not in {f.subject for f in applied.refused}
    finally:
        sh(lab.names["node"], "ip addr del 192.0.2.9/32 dev eth0")
        lab.apply()


def test_a_listener_on_the_port_is_named(lab, engine):
    def found() -> list[str]:
        findings = inside(lab.names["node"], lambda: preflight.check(lab.spec()))
        return [f"{f.subject}: {f.message}" for f in findings if f.subject]

    assert found() == []
    with EchoServer(lab.names["node"], NODE[4], PORT):
        (text,) = found()
        assert text.startswith(NODE[4]) and "2152" in text
    with client(lab.names["node"], NODE[6], socket.SOCK_DGRAM) as s:
        s.bind(("::", PORT))
        assert {t.split(": ")[0] for t in found()} == {NODE[4], NODE[6]}
    sh(lab.names["node"], "sysctl -qw net.ipv6.conf.all.proxy_ndp=0")
    (text,) = found()
    assert text.startswith(OWN[6]) and "proxy_ndp" in text
    sh(lab.names["node"], "sysctl -qw net.ipv6.conf.all.proxy_ndp=1")


def test_frames_of_ethernet_tunnels_have_a_link_of_their_own(lab, engine):
    """A VLAN on vppe0 reaches vppe1 with its tag; the node's stack has no address there."""
    node = lab.names["node"]

    def opened(interface: str) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind((interface, 3))
        raw.settimeout(2)
        raw.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel hands a tag beside the frame
        return raw

    assert "inet" not in sh(node, "ip addr show vppe0; ip addr show vppe1")
    frame = bytes.fromhex("ffffffffffff0200000000018100000788b5") + b"frame".ljust(50, b"\0")
    with inside(node, lambda: opened("vppe1")) as tap, inside(node, lambda: opened("vppe0")) as source:
        source.send(frame)
        data, ancillary = b"", []
        while b"frame" not in data:
            data, ancillary, _, _ = tap.recvmsg(2000, 256)
    assert int.from_bytes(ancillary[0][2][16:18], sys.byteorder) & 0xFFF == 7
    assert any("vppe0" in step for step in lab.apply(lab.spec(frames=False)))
    lab.apply()
    assert lab.apply(verify=True) == ()


def test_a_link_of_another_name_is_left_alone(lab, engine):
    node = lab.names["node"]
    lab.apply(lab.spec(frames=False))
    sh(node, "ip link add vppe0 type bridge")
    try:
        with pytest.raises(NodeNetworkError, match="vppe0 exists and is not ours"):
            lab.apply()
    finally:
        assert "bridge" in sh(node, "ip -d link show vppe0")
        sh(node, "ip link del vppe0")
    assert lab.apply() != ()
    assert lab.apply(verify=True) == ()


def test_neighbour_discovery_of_the_own_address_stays_with_the_kernel(lab, engine):
    sh(lab.names["out"], f"ip -6 neigh flush dev eth0; ping -c1 -W2 {NODE[6]}")
    assert round_trip(lab, ("out", GNB[6]), OWN[6], 6, DATA[6]) == UE[6]
    assert not engine.took(lambda p: IPv6 in p and p.nh == 58 and bytes(p.payload)[:1] in (b"\x87", b"\x88"))
