"""The pure part of node/: NodeSpec to desired state, differences, nftables scripts."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpp_operator.node import NodePort, NodeSpec, NodeSpecError, Target
from vpp_operator.node.chains import chains
from vpp_operator.node.network import set_changes
from vpp_operator.node.nft import SetContent
from vpp_operator.node.ruleset import SETS, element_text, load, updates
from vpp_operator.node.state import (
    KERNEL,
    TABLE_LOCAL,
    TABLE_MARKED,
    TABLE_SERVICES,
    AddRoute,
    AddRule,
    DelRoute,
    DelRule,
    HostLink,
    Kernel,
    Rule,
    SetElements,
    plan_network,
    plan_undo,
    steering_state,
)

LOCALS = frozenset(Rule(f, 0, table=TABLE_LOCAL, protocol=KERNEL) for f in (4, 6))
FRESH = Kernel(None, LOCALS)


def networks(*texts):
    return frozenset(ipaddress.ip_network(t) for t in texts)


SPEC = NodeSpec(
    addresses=(ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")),
    service_cidrs=networks("10.96.0.0/16", "fd00:96::/112"),
    pod_cidrs=networks("10.244.1.0/24", "fd00:244:1::/64"),
    node_ports=frozenset({NodePort(6, 30080)}),
    external=frozenset({Target.of("203.0.113.9", 6, 443)}),
    endpoints=frozenset({Target.of("10.244.1.2", 6, 8080), Target.of("fd00:244:1::2", 17, 53)}),
)


def carry_out(kernel: Kernel, actions) -> Kernel:
    """What the kernel would hold; a rule or route that is there twice, or missing, fails."""
    link, rules, routes = kernel.link, set(kernel.rules), set(kernel.routes)
    for action in actions:
        match action:
            case AddRule(rule):
                assert rule not in rules
                rules.add(rule)
            case DelRule(rule):
                rules.remove(rule)
            case AddRoute(route):
                key = (route.family, route.table, route.destination)
                routes = {r for r in routes if (r.family, r.table, r.destination) != key} | {route}
            case DelRoute(route):
                routes.remove(route)
            case _:
                link = getattr(action, "link", None)
        for family in {r.family for r in rules}:
            assert any(r.table == TABLE_LOCAL and not r.iifname and r.family == family for r in rules), (
                "the local table is out of reach"
            )
    return Kernel(link, frozenset(rules), frozenset(routes))


SPECS = [
    SPEC,
    dataclasses.replace(SPEC, addresses=SPEC.addresses[:1]),
    dataclasses.replace(SPEC, addresses=(ipaddress.ip_address("192.0.2.7"), SPEC.addresses[1])),
    dataclasses.replace(SPEC, service_cidrs=networks("10.97.0.0/16"), external=frozenset()),
]


@pytest.mark.parametrize("first", SPECS)
@pytest.mark.parametrize("second", SPECS)
def test_the_second_plan_is_empty_and_undo_leaves_nothing(first, second):
    kernel = FRESH
    for spec in (first, second):
        desired = steering_state(spec, 1500)
        kernel = carry_out(kernel, plan_network(desired, kernel))
        assert plan_network(desired, kernel) == []
        assert {r for r in kernel.rules if r.protocol == KERNEL} == {
            r for r in LOCALS if r.family not in spec.families()
        }
    kernel = carry_out(kernel, plan_undo(kernel))
    assert kernel == FRESH
    assert plan_undo(kernel) == []


def test_a_plan_stopped_anywhere_is_undone_and_gone_on_with():
    desired = steering_state(SPEC, 1500)
    actions = plan_network(desired, FRESH)
    for count in range(len(actions)):
        half = carry_out(FRESH, actions[:count])
        assert carry_out(half, plan_undo(half)) == FRESH
        assert carry_out(half, plan_network(desired, half)).rules == desired.rules


def test_what_leads_into_the_dataplane_comes_after_its_way_out():
    actions = [a.rule for a in plan_network(steering_state(SPEC, 1500), FRESH) if isinstance(a, AddRule)]
    for family in (4, 6):
        order = [r.priority for r in actions if r.family == family]
        assert order == sorted(order, reverse=True)
    removed = [
        a.rule.table
        for a in plan_undo(Kernel(None, steering_state(SPEC, 1500).rules))
        if isinstance(a, DelRule)
    ]
    assert set(removed[:4]) == {TABLE_MARKED, TABLE_SERVICES}


def test_rules_of_others_are_left_alone():
    other = Rule(4, 9, table=TABLE_LOCAL, protocol=3)
    kernel = Kernel(None, LOCALS | {other})
    desired = steering_state(SPEC, 1500)
    kernel = carry_out(kernel, plan_network(desired, kernel))
    assert other in kernel.rules
    assert other in carry_out(kernel, plan_undo(kernel)).rules


def test_a_changed_link_is_set_up_and_not_made_anew():
    desired = steering_state(SPEC, 9000)
    actual = Kernel(HostLink(1500, frozenset({4, 6})), desired.rules, desired.routes)
    (action,) = plan_network(desired, actual)
    assert action.link.mtu == 9000 and not action.create


def test_each_external_address_has_one_route_whatever_its_ports():
    external = frozenset(Target.of("203.0.113.9", p, n) for p in (6, 17) for n in (80, 443))
    state = steering_state(dataclasses.replace(SPEC, external=external), 1500)
    assert len(state.routes) == len(steering_state(SPEC, 1500).routes)
    assert len(state.sets["external4"]) == 4


def test_without_pod_ranges_every_client_counts():
    state = steering_state(dataclasses.replace(SPEC, pod_cidrs=frozenset()), 1500)
    assert state.sets["pods4"] == networks("0.0.0.0/0")
    assert state.sets["pods6"] == networks("::/0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"addresses": ()}, "addresses: empty"),
        ({"addresses": (ipaddress.ip_address("127.0.0.1"),)}, "addresses: 127.0.0.1"),
        ({"service_cidrs": networks("0.0.0.0/0")}, "service_cidrs: 0.0.0.0/0"),
        ({"service_cidrs": networks("192.0.2.0/24")}, "service_cidrs: .* own address"),
        ({"mtu": 500}, "mtu: 500"),
        ({"snat_ranges": ((10, 5),)}, "snat_ranges: 10-5"),
        ({"snat_ranges": ((10, 20), (15, 30))}, "snat_ranges: 15-30 overlaps"),
        ({"node_ports": frozenset({NodePort(6, 70000)})}, "node_ports: port 70000"),
        ({"node_ports": frozenset({NodePort(6, 15000)})}, "node_ports: 15000 lies within snat_ranges"),
        ({"node_ports": frozenset({NodePort(1, 30000)})}, "node_ports: protocol 1"),
        ({"endpoints": frozenset({Target(b"abc", 6, 1)})}, "endpoints: an address of 3 bytes"),
        ({"external": frozenset({Target.of("192.0.2.9", 6, 0)})}, "external: port 0"),
    ],
)
def test_bad_specs_name_the_field(change, message):
    with pytest.raises(NodeSpecError, match=message):
        steering_state(dataclasses.replace(SPEC, **change), 1500)


targets = st.builds(
    Target, st.binary(min_size=4, max_size=4), st.sampled_from([6, 17, 132]), st.integers(1, 65535)
)


@given(
    st.frozensets(targets, max_size=20),
    st.frozensets(targets, max_size=20),
    st.frozensets(targets, max_size=9),
)
def test_set_changes_lead_from_any_state_to_any_other(have, want, lingering):
    held = {"endpoints4": SetContent(have, lingering - have)}
    desired = dataclasses.replace(steering_state(SPEC, 1500), sets={"endpoints4": want}, differences={})
    changes = set_changes(desired, held)
    now, running_out = set(have), set(lingering - have)
    for change in changes:
        assert change.name == "endpoints4"
        assert change.lingering == change.add & running_out
        now |= change.add
        now -= change.remove
    assert now == want
    assert bool(changes) == (have != want)


def test_an_element_that_runs_out_is_swapped_and_a_new_one_added():
    new, back, gone = (Target.of(f"10.0.0.{n}", 6, 80) for n in (1, 2, 3))
    (script,) = updates(
        [SetElements("endpoints4", frozenset({new, back}), frozenset({gone}), frozenset({back}))]
    )
    lines = script.splitlines()
    assert [line.split()[0] for line in lines] == ["add", "delete", "add", "add", "delete", "add"]
    assert element_text(back) in lines[1] and element_text(new) not in lines[1]
    assert element_text(gone) in lines[4]
    assert "timeout 1d" in lines[5] and "timeout" not in "".join(lines[:5])


def test_many_elements_are_spread_over_transactions():
    many = frozenset(Target(n.to_bytes(4, "big"), 6, 80) for n in range(50_000))
    scripts = load({"endpoints4": many}, steering_state(SPEC, 1500).constants)
    assert 3 < len(scripts) < 8
    assert sum(script.count("0x") for script in scripts[1:]) == len(many)


def test_every_rule_has_a_digest_of_its_own():
    constants = steering_state(SPEC, 1500).constants
    comments = [c for chain in chains(constants).values() for c in chain.comments()]
    assert len(set(comments)) == len(comments)
    text = load({}, constants)[0]
    assert all(f'comment "{c}"' in text for c in comments)
    assert all(name in text for name in SETS)


def test_element_texts():
    assert element_text(Target.of("10.0.0.1", 6, 80)) == "0x0a000001 . 6 . 80"
    assert element_text(NodePort(17, 30000)) == "17 . 30000"
    assert element_text((10, 10)) == "10"
    assert element_text((10, 20)) == "10-20"
    assert element_text(b"\x0a\0\0\x01") == "10.0.0.1"
