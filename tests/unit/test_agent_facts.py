"""Facts of the node become its records; settings are read with errors that name them."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpp_operator.agent.facts import (
    MAX_SNAT_RANGES,
    NodeFacts,
    NodeObject,
    decode_node,
    decode_service_cidrs,
    node_records,
    parse_networks,
    parse_port_ranges,
    snat_ranges,
)
from vpp_operator.agent.interfaces import listening_ports, parse_listeners
from vpp_operator.agent.nodesource import NodeSource
from vpp_operator.agent.servers import ServerMemory, decode_kubernetes_slice
from vpp_operator.agent.settings import Bind, SettingsError, parse_bind, parse_settings
from vpp_operator.agent.sinks import matches
from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    PrefixClass,
    PrefixRecord,
    Table,
)
from vpp_operator.kube import Server, ServerList, parse_servers

NODE = {
    "metadata": {"name": "n1", "uid": "u", "labels": {"role": "edge"}},
    "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
    "status": {
        "addresses": [
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "2001:db8::1"},
            {"type": "InternalIP", "address": "192.0.2.7"},
        ]
    },
}


def test_records_of_a_dual_stack_node() -> None:
    facts = NodeFacts(
        decode_node(NODE),
        own_addresses=frozenset({ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("10.244.1.1")}),
        pod_cidrs=decode_node(NODE).pod_cidrs,
        service_cidrs=decode_service_cidrs({"spec": {"cidrs": ["10.96.0.0/16"]}}),
        snat_ranges=((10000, 29999),),
    )
    tables = node_records(facts)
    config = {ConfigRecord.unpack(raw) for raw in tables[Table.CONFIG].values()}
    v4, v6 = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")
    assert config == {
        ConfigRecord(ConfigKey.SNAT_PORT_RANGE, 0, 10000 | 29999 << 16),
        ConfigRecord(ConfigKey.SNAT_ADDRESS, 4, address=v4),
        ConfigRecord(ConfigKey.SNAT_ADDRESS, 6, address=v6),
        ConfigRecord(ConfigKey.ICMP_SOURCE, 4, address=v4),
        ConfigRecord(ConfigKey.ICMP_SOURCE, 6, address=v6),
    }
    prefixes = {PrefixRecord.unpack(raw) for raw in tables[Table.PREFIX].values()}
    expected = [
        ("192.0.2.1/32", PrefixClass.HOST),
        ("10.244.1.1/32", PrefixClass.HOST),
        ("2001:db8::1/128", PrefixClass.HOST),
        ("10.244.1.0/24", PrefixClass.POD),
        ("fd00:10:244:1::/64", PrefixClass.POD),
        ("10.96.0.0/16", PrefixClass.SERVICE),
    ]
    assert prefixes == {PrefixRecord(ipaddress.ip_network(n), c) for n, c in expected}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"spec": {"podCIDRs": ["10.244.1.0/40"]}}, "spec.podCIDRs"),
        ({"status": {"addresses": [{"type": "InternalIP", "address": "x"}]}}, "status.addresses"),
    ],
)
def test_a_broken_node_names_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        decode_node(NODE | change)


ranges = st.lists(
    st.tuples(st.integers(1, 300), st.integers(0, 40)).map(lambda r: (r[0], r[0] + r[1])), max_size=4
)


@given(ranges, st.sets(st.integers(1, 340), max_size=20))
def test_taken_ports_are_out_and_only_they(pool: list[tuple[int, int]], taken: set[int]) -> None:
    result = snat_ranges(pool, taken)
    ports = {p for low, high in result for p in range(low, high + 1)}
    want = {p for low, high in pool for p in range(low, high + 1)} - taken
    assert len(result) <= MAX_SNAT_RANGES
    assert ports <= want
    if len(result) < MAX_SNAT_RANGES:
        assert ports == want


def test_the_largest_pieces_are_kept() -> None:
    taken = range(1010, 2000, 10)
    result = snat_ranges([(1000, 1999), (5000, 9000)], taken)
    assert len(result) == MAX_SNAT_RANGES and (5000, 9000) in result


def test_port_ranges_are_read_and_refused_with_the_remedy() -> None:
    assert parse_port_ranges("61000-65535, 10000-29999", "S") == ((10000, 29999), (61000, 65535))
    assert parse_port_ranges("", "S") == ()
    for text in ("a-b", "10-5", "0-5", "1-70000", "10-20,20-30"):
        with pytest.raises(ValueError, match="SOURCE_PORTS"):
            parse_port_ranges(text, "SOURCE_PORTS")


def test_networks_are_read_and_refused_with_the_remedy() -> None:
    assert [str(n) for n in parse_networks("10.96.0.0/12, fd00::/108", "S")] == ["10.96.0.0/12", "fd00::/108"]
    with pytest.raises(ValueError, match=r"SERVICE_CIDRS: .*10\.96\.0\.0/12"):
        parse_networks("10.96.0.1/12", "SERVICE_CIDRS")


def test_listeners_of_a_proc_table() -> None:
    lines = [
        "  sl  local_address rem_address   st tx_queue",
        "   0: 00000000:280A 00000000:0000 0A 00000000:00000000",
        "   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000",
        "garbage",
    ]
    assert parse_listeners(lines, 0x0A) == {0x280A}


def test_listeners_of_this_machine(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] in listening_ports()
    assert listening_ports(tmp_path) == frozenset()


def node_source(**more: object) -> NodeSource:
    source = NodeSource("n1", ((10000, 29999),), **more)  # type: ignore[arg-type]
    source.set_node(decode_node(NODE))
    source.set_addresses(frozenset())
    return source


def test_the_source_is_ready_when_every_fact_is_known() -> None:
    source = NodeSource("n1", ((10000, 29999),))
    assert source.missing() == "Node n1"
    source.set_node(decode_node(NODE))
    assert source.missing() == "the cluster's ServiceCIDRs"
    source.service_cidrs_known()
    assert source.missing() == "the node's own addresses"
    source.set_addresses(frozenset())
    assert source.missing() == "the UE pools of the GtpuEndpoints"
    source.set_ue_pools(frozenset())
    assert source.ready()


def test_a_node_without_an_address_is_waited_for() -> None:
    source = node_source()
    source.set_node(decode_node(NODE | {"status": {}}))
    assert "InternalIP" in source.missing()


def test_a_broken_node_keeps_the_last_good_one_and_says_so() -> None:
    source = node_source(service_cidrs=(ipaddress.ip_network("10.96.0.0/16"),))
    source.take()
    source.set_node(None, "spec.podCIDRs: bad")
    update = source.take()
    assert not any(update.upserts.values()) and not any(update.deletes.values())
    assert [p.message for p in source.problems()] == [
        "spec.podCIDRs: bad. Its last valid version stays in force."
    ]


def test_only_differences_are_given_out() -> None:
    source = node_source(service_cidrs=(ipaddress.ip_network("10.96.0.0/16"),))
    first = source.take()
    assert first.upserts[Table.PREFIX] and first.upserts[Table.CONFIG]
    source.set_addresses(frozenset({ipaddress.ip_address("198.51.100.1")}))
    second = source.take()
    assert [str(PrefixRecord.unpack(r).network) for r in second.upserts[Table.PREFIX].values()] == [
        "198.51.100.1/32"
    ]
    source.set_addresses(frozenset())
    assert len(list(source.take().deletes[Table.PREFIX])) == 1


def test_a_listener_takes_its_port_out_of_the_pool_for_good() -> None:
    source = node_source()
    source.set_listeners(frozenset({10250, 40000}))
    assert source.facts.snat_ranges == ((10000, 10249), (10251, 29999))
    source.set_listeners(frozenset())
    source.set_node_ports([12000, 30080])
    assert source.facts.snat_ranges == ((10000, 10249), (10251, 11999), (12001, 29999))


ENVIRONMENT = {"NODE_NAME": "n1", "NODE_SELECTOR": '{"role": "edge"}', "SOURCE_PORTS": "10000-20000"}


def test_settings_from_environment_and_command_line() -> None:
    settings = parse_settings(["--health-bind=[::1]:1", "--metrics-bind=0.0.0.0:2"], ENVIRONMENT)
    assert settings.node_name == "n1" and settings.source_ports == ((10000, 20000),)
    assert settings.health == Bind("::1", 1) and settings.metrics == Bind("0.0.0.0", 2)
    assert matches({"role": "edge", "x": "y"}, settings.node_selector)
    assert not matches({"role": "core"}, settings.node_selector)
    assert not matches({}, settings.node_selector) and matches({}, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODE_NAME", ""),
        ("NODE_SELECTOR", "[1]"),
        ("NODE_SELECTOR", "{"),
        ("SERVICE_CIDRS", "x"),
        ("SOURCE_PORTS", "9-1"),
        ("EXTERNAL_IPS", "maybe"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        parse_settings([], ENVIRONMENT | {name: value})


@pytest.mark.parametrize("text", ["9470", "::1:80", "a:b", "a:70000"])
def test_a_wrong_bind_address_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="--x"):
        parse_bind(text, "--x")


def kubernetes_slice(*hosts: str) -> dict[str, object]:
    return {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [host]} for host in hosts],
        "ports": [{"name": "https", "port": 6443}],
    }


def test_the_api_servers_are_remembered_behind_the_given_ones(tmp_path: Path) -> None:
    file = tmp_path / "state" / "api-servers"
    given = parse_servers("192.0.2.1:6443")
    first = ServerList(given)
    memory = ServerMemory(first, file)
    memory.load()
    memory.learn("kubernetes", decode_kubernetes_slice(kubernetes_slice("198.51.100.1", "198.51.100.2")))
    assert file.read_text() == "198.51.100.1:6443,198.51.100.2:6443\n"
    assert first.servers == (*given, Server("198.51.100.1", 6443), Server("198.51.100.2", 6443))

    later = ServerList(given)
    ServerMemory(later, file).load()
    assert later.servers == first.servers

    file.write_text("nonsense:::")
    spoiled = ServerList(given)
    ServerMemory(spoiled, file).load()
    assert spoiled.servers == given


def test_other_slices_teach_nothing() -> None:
    other = kubernetes_slice("198.51.100.1") | {"metadata": {"labels": {"kubernetes.io/service-name": "x"}}}
    assert decode_kubernetes_slice(other) == ()


def test_a_node_without_pod_ranges_takes_the_given_ones_and_else_says_so() -> None:
    def source(pod_cidrs: str, **spec: object) -> NodeSource:
        made = NodeSource("n", ((10000, 29999),), parse_networks("10.96.0.0/16,fd00::/112", ""))
        if pod_cidrs:
            made = NodeSource(
                "n",
                ((10000, 29999),),
                parse_networks("10.96.0.0/16,fd00::/112", ""),
                parse_networks(pod_cidrs, ""),
            )
        addresses = [{"type": "InternalIP", "address": a} for a in ("192.0.2.1", "2001:db8::1")]
        made.set_node(decode_node({"spec": spec, "status": {"addresses": addresses}}))
        made.set_addresses(frozenset())
        return made

    assert source("").facts.families_without_pods() == (4, 6)
    assert source("10.244.0.0/16").facts.families_without_pods() == (6,)
    both = source("10.244.0.0/16,fd00:1::/48", podCIDRs=["10.1.0.0/24"])
    assert both.facts.families_without_pods() == ()
    assert [str(n) for n in both.facts.pod_cidrs] == ["10.1.0.0/24", "fd00:1::/48"]


def test_settings_of_the_node_become_records() -> None:
    facts = NodeFacts(
        NodeObject(),
        masquerade_all=True,
        gtpu_switches=0x403,
        ue_pools=frozenset(parse_networks("10.45.0.0/16", "")),
    )
    tables = node_records(facts)
    config = {ConfigRecord.unpack(raw) for raw in tables[Table.CONFIG].values()}
    assert ConfigRecord(ConfigKey.MASQUERADE_ALL, value=1) in config
    assert ConfigRecord(ConfigKey.GTPU_SWITCHES, value=0x403) in config
    prefixes = {PrefixRecord.unpack(raw) for raw in tables[Table.PREFIX].values()}
    assert prefixes == {PrefixRecord(ipaddress.ip_network("10.45.0.0/16"), PrefixClass.UE_POOL)}


def test_a_version_seen_goes_on_without_a_changed_fact() -> None:
    source = NodeSource("n", ())
    source.take()
    assert not source.waiting()
    source.note_version("Node", "7")
    assert source.waiting() and source.take().versions == {"Node": "7"} and not source.waiting()
