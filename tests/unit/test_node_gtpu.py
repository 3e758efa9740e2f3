"""GTP-U on the node without a kernel: what is accepted, what is derived from it, and the frames sent."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from vpp_operator.node import GtpuSteer, NodePort, NodeSpec, Target
from vpp_operator.node.chains import chains
from vpp_operator.node.gtpu import Accepted, Ground, accept, listener_findings
from vpp_operator.node.neighbours import announcement
from vpp_operator.node.network import set_changes
from vpp_operator.node.nft import SetContent
from vpp_operator.node.preflight import udp_listeners
from vpp_operator.node.ruleset import replace_rules
from vpp_operator.node.state import (
    TABLE_SERVICES,
    AddProxy,
    Before,
    DelProxy,
    DelRoute,
    Kernel,
    Proxy,
    Route,
    plan_announcement,
    plan_loss,
    plan_undo,
    plan_withdrawal,
    steering_state,
)


def networks(*texts):
    return frozenset(ipaddress.ip_network(t) for t in texts)


def ip(text):
    return ipaddress.ip_address(text)


SPEC = NodeSpec(
    addresses=(ip("192.0.2.1"), ip("2001:db8::1")),
    service_cidrs=networks("10.96.0.0/16", "fd00:96::/112"),
    pod_cidrs=networks("10.244.1.0/24", "fd00:244:1::/64"),
)
GROUND = Ground(
    local={
        ip("192.0.2.1"): "eth0",
        ip("2001:db8::1"): "eth0",
        ip("198.51.100.1"): "n6",
        ip("127.0.0.1"): "lo",
    },
    connected={
        ipaddress.ip_network(n): i
        for n, i in (
            ("192.0.2.0/24", "eth0"),
            ("192.0.2.128/25", "eth1"),
            ("2001:db8::/64", "eth0"),
            ("198.51.100.0/24", "n6"),
            ("192.0.2.77/32", "tunl0"),
        )
    },
    routed=networks("10.0.0.0/8", "10.244.2.0/24", "172.16.0.0/24"),
    gateways=frozenset({ip("192.0.2.254")}),
)


def accepted(*steers, pools=(), spec=SPEC):
    gtpu = tuple(GtpuSteer(ip(a), own) for a, own in steers)
    made = dataclasses.replace(spec, gtpu=gtpu, ue_pools=tuple(ipaddress.ip_network(p) for p in pools))
    return accept(made, GROUND)


def test_addresses_of_the_node_and_of_their_own():
    got = accepted(("192.0.2.1", False), ("192.0.2.50", True), ("192.0.2.200", True), ("203.0.113.5", True))
    assert got.local == (ip("192.0.2.1"),)
    # Announced where the longest on-link network holds them; elsewhere others route them here.
    assert got.own == ((ip("192.0.2.50"), "eth0"), (ip("192.0.2.200"), "eth1"), (ip("203.0.113.5"), ""))
    assert got.refused == ()


@pytest.mark.parametrize(
    ("address", "own", "reason", "message"),
    [
        ("192.0.2.9", False, "Invalid", "on no interface"),
        ("192.0.2.1", True, "Conflict", "the node's address on eth0"),
        ("192.0.2.254", True, "Conflict", "a gateway"),
        ("192.0.2.77", True, "Conflict", "through tunl0"),
        ("10.244.1.9", True, "Conflict", "pod range 10.244.1.0/24"),
        ("10.96.0.9", True, "Conflict", "service range 10.96.0.0/16"),
        ("127.0.0.1", False, "Invalid", "no address that peers reach"),
        ("224.0.0.5", True, "Invalid", "no address that peers reach"),
        ("fe80::1", True, "Invalid", "no address that peers reach"),
    ],
)
def test_addresses_refused(address, own, reason, message):
    got = accepted((address, own), ("192.0.2.51", True), pools=("10.45.0.0/16",))
    (finding,) = got.refused
    assert (finding.subject, finding.reason) == (address, reason)
    assert message in finding.message and finding.remedy
    assert got.own == ((ip("192.0.2.51"), "eth0"),) and got.pools == tuple(networks("10.45.0.0/16"))


def test_an_address_in_both_modes_and_twice():
    assert accepted(("192.0.2.50", True), ("192.0.2.50", True)).own == ((ip("192.0.2.50"), "eth0"),)
    got = accepted(("192.0.2.1", False), ("192.0.2.1", True))
    assert got.local and "one mode" in got.refused[0].remedy


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("0.0.0.0/0", "holds"),
        ("192.0.2.0/30", "holds the node's address 192.0.2.1"),
        ("192.0.2.254/31", "holds the node's gateway"),
        ("192.0.2.48/29", "holds the GTP-U address 192.0.2.50"),
        ("192.0.2.64/29", "overlaps the node's network"),
        ("10.244.1.128/25", "overlaps the pod range"),
        ("10.96.0.0/12", "overlaps the service range"),
        ("10.244.2.0/24", "which the node routes elsewhere"),
        ("172.16.0.0/12", "holds 172.16.0.0/24, which the node routes elsewhere"),
        ("fd00:244::/32", "overlaps the pod range"),
        ("224.0.0.0/8", "no addresses of user equipment"),
    ],
)
def test_pools_refused(pool, message):
    got = accepted(("192.0.2.50", True), pools=(pool, "10.45.0.0/16", "2001:db8:45::/48"))
    (finding,) = got.refused
    assert finding.subject == pool and message in finding.message, finding
    assert got.pools == (ipaddress.ip_network("10.45.0.0/16"), ipaddress.ip_network("2001:db8:45::/48"))


def test_a_pool_within_a_wide_route_is_usual():
    assert accepted(pools=("10.45.0.0/16",)).refused == ()


def test_a_family_that_the_node_has_not():
    spec = dataclasses.replace(SPEC, addresses=SPEC.addresses[:1])
    got = accepted(("2001:db8::50", True), ("192.0.2.1", False), pools=("2001:db8:45::/48",), spec=spec)
    assert got.local and {f.subject for f in got.refused} == {"2001:db8::50", "2001:db8:45::/48"}
    assert {f.reason for f in got.refused} == {"Unsupported"}


GTPU = Accepted(
    local=(ip("192.0.2.1"),),
    own=((ip("192.0.2.50"), "eth0"), (ip("192.0.2.51"), "eth0"), (ip("203.0.113.5"), "")),
    pools=tuple(networks("10.45.0.0/16")),
)


def test_what_follows_on_the_node():
    state = steering_state(SPEC, 1500, GTPU)
    assert state.sets["gtpu4"] == {ip("192.0.2.1").packed} and state.sets["gtpu6"] == frozenset()
    own = networks("192.0.2.50/32", "192.0.2.51/32", "203.0.113.5/32", "10.45.0.0/16")
    assert own < state.sets["services4"]
    routes = {r.destination for r in state.routes if r.table == TABLE_SERVICES and r.family == 4}
    assert {str(n) for n in own} < routes
    assert state.proxies == {Proxy(4, a, "eth0") for a in ("192.0.2.50", "192.0.2.51")}
    rules = {name: " ".join(chain.rules) for name, chain in chains(state.constants).items()}
    assert "jump gtpu4" in rules["ports4"] and "gtpu" not in rules["ports6"]
    without = chains(steering_state(SPEC, 1500).constants)
    assert not any("2152" in rule for rule in without["ports4"].rules + without["errors4"].rules)


def test_neighbours_are_told_last_and_let_go_first():
    state, none = steering_state(SPEC, 1500, GTPU), steering_state(SPEC, 1500)
    fresh = Kernel(None)
    held = Kernel(state.link, state.rules, state.routes, state.proxies)
    assert [a.proxy for a in plan_announcement(state, fresh)] == sorted(state.proxies)
    assert plan_announcement(state, held) == plan_withdrawal(state, held) == []
    assert all(isinstance(a, DelProxy) for a in plan_withdrawal(none, held))
    assert isinstance(plan_undo(held)[0], DelProxy)
    assert all(isinstance(a, AddProxy) for a in plan_announcement(state, fresh))


def test_what_is_lost_is_withdrawn_and_nothing_else():
    state = steering_state(SPEC, 1500, GTPU)
    held = Kernel(state.link, state.rules, state.routes, state.proxies)
    assert plan_loss([ip("192.0.2.50"), ip("2001:db8::50")], held) == [
        DelProxy(Proxy(4, "192.0.2.50", "eth0")),
        DelRoute(Route(4, TABLE_SERVICES, "192.0.2.50/32", "192.0.2.1")),
    ]


def test_gratuitous_arp_read_by_another():
    mac = bytes.fromhex("020000000001")
    frame = Ether(announcement(ip("192.0.2.50"), mac))
    assert frame.dst == "ff:ff:ff:ff:ff:ff" and frame.src == "02:00:00:00:00:01"
    arp = frame[ARP]
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, "192.0.2.50", "192.0.2.50", "02:00:00:00:00:01")


def test_unsolicited_advertisement_read_by_another():
    frame = Ether(announcement(ip("2001:db8::50"), bytes.fromhex("020000000001")))
    packet = frame[IPv6]
    assert (frame.dst, packet.dst, packet.hlim) == ("33:33:00:00:00:01", "ff02::1", 255)
    message = packet[ICMPv6ND_NA]
    assert (message.tgt, message.R, message.S, message.O) == ("2001:db8::50", 1, 0, 1)
    assert packet[ICMPv6NDOptDstLLAddr].lladdr == "02:00:00:00:00:01"
    sent = message.cksum
    del message.cksum
    assert IPv6(bytes(packet))[ICMPv6ND_NA].cksum == sent


UDP_TABLE = """  sl  local_address rem_address   st
   0: 010200C0:0868 00000000:0000 07 00000000:00000000
   1: 010200C0:0868 640200C0:0868 07 00000000:00000000
   2: 00000000:0035 00000000:0000 07 00000000:00000000
"""
UDP6_TABLE = """  sl  local_address rem_address   st
   0: B80D0120000000000000000001000000:0868 00000000000000000000000000000000:0000 07
   1: 00000000000000000000000000000000:0868 00000000000000000000000000000000:0000 07
"""


def test_listeners_on_the_port():
    found = list(udp_listeners(UDP_TABLE))
    assert found == [(ip("192.0.2.1"), 2152), (ip("0.0.0.0"), 53)]
    found6 = list(udp_listeners(UDP6_TABLE))
    assert found6 == [(ip("2001:db8::1"), 2152), (ip("::"), 2152)]
    gtpu = Accepted(local=(ip("192.0.2.1"), ip("198.51.100.1")))
    assert [f.subject for f in listener_findings(gtpu, found, True)] == ["192.0.2.1"]
    # A socket at :: takes in IPv4 as well.
    assert [f.subject for f in listener_findings(gtpu, found6, True)] == ["192.0.2.1", "198.51.100.1"]
    assert listener_findings(gtpu, [(ip("192.0.2.9"), 2152), (ip("192.0.2.1"), 2153)], True) == []


def test_proxy_nd_that_is_off_is_named_where_it_matters():
    gtpu = Accepted(own=((ip("2001:db8::50"), "eth0"), (ip("2001:db8:9::1"), ""), (ip("192.0.2.50"), "eth0")))
    (finding,) = listener_findings(gtpu, [], False)
    assert finding.subject == "2001:db8::50" and "proxy_ndp" in finding.message
    assert listener_findings(gtpu, [], True) == []


def test_many_service_ranges_are_looked_up_behind_what_covers_them():
    many = frozenset(ipaddress.ip_network(f"10.96.{n}.7/32") for n in range(200))
    state = steering_state(dataclasses.replace(SPEC, service_cidrs=many), 1500)
    constants = state.constants.v4
    assert constants.services is None and 0 < len(constants.covers) <= 6
    assert all(any(n.subnet_of(c) for c in constants.covers) for n in many)
    scattered = frozenset(ipaddress.ip_network(f"{n}.1.2.3/32") for n in range(11, 100))
    constants = steering_state(dataclasses.replace(SPEC, service_cidrs=scattered), 1500).constants.v4
    assert constants.services is None and constants.covers == ()


def test_only_chains_that_differ_are_replaced():
    before, after = steering_state(SPEC, 1500).constants, steering_state(SPEC, 1500, GTPU).constants
    same = [n for n, c in chains(after).items() if c == chains(before)[n]]
    script = replace_rules(after, same)
    flushed = {line.split()[-1] for line in script.splitlines() if line.startswith("flush")}
    assert flushed == {"steer4", "ports4", "errors4"}


targets = st.builds(
    Target,
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.sampled_from([6, 17, 132]),
    st.integers(1, 65535),
)
ports = st.builds(NodePort, st.sampled_from([6, 17]), st.integers(30000, 32767))
specs = st.builds(
    lambda endpoints, external, node_ports, addresses: dataclasses.replace(
        SPEC, endpoints=endpoints, external=external, node_ports=node_ports, addresses=addresses
    ),
    st.frozensets(targets, max_size=12),
    st.frozensets(targets, max_size=4),
    st.frozensets(ports, max_size=4),
    st.sampled_from([SPEC.addresses, SPEC.addresses[:1], SPEC.addresses[1:]]),
)


@given(st.lists(specs, min_size=2, max_size=6))
def test_increments_equal_the_whole(sequence):
    """A chain of states, each derived from the one before, and what is sent to the kernel for it."""
    state = steering_state(sequence[0], 1500)
    held = {name: SetContent(elements) for name, elements in state.sets.items()}
    for old, spec in itertools.pairwise(sequence):
        state = steering_state(spec, 1500, before=Before(old, state))
        whole = steering_state(spec, 1500)
        assert state == whole
        now = {name: set(content.elements) for name, content in held.items()}
        for change in set_changes(state, held):
            assert not change.add & now[change.name] and change.remove <= now[change.name]
            now[change.name] = (now[change.name] | change.add) - change.remove
        assert now == whole.sets
        held = {name: SetContent(elements) for name, elements in state.sets.items()}
