"""Preflight against the kernel, the commands, and what steering costs traffic that is for no Service."""

from __future__ import annotations

import ipaddress
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.contract.node_lab import NODE, NODE_PORT, PODS, EchoServer, Lab, client, inside, sh, unique_prefix

from vpp_operator.node import preflight


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with Lab(f"{unique_prefix()}c", tmp_path / "journal.json") as made:
        yield made


def findings(lab: Lab, **changes):
    return inside(lab.names["node"], lambda: preflight.check(lab.spec(**changes)))


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    node = f"--net=/run/netns/{lab.names['node']}"
    python = [sys.executable, "-m", "vpp_operator.cli", *words]
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        ["nsenter", node, *python], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_a_good_node_has_no_findings(lab):
    lab.masquerade()
    assert findings(lab) == []
    lab.apply()
    assert findings(lab) == []
    sh(lab.names["node"], "sysctl -qw net.ipv4.ip_local_port_range='32768 65000'")
    (finding,) = findings(lab)
    assert finding.condition == "HostSettingsOK" and "61000-65000" in finding.message
    sh(lab.names["node"], "sysctl -qw net.ipv4.ip_local_reserved_ports=10000-29999,61000-65535")
    assert findings(lab) == []
    sh(lab.names["node"], "sysctl -qw net.ipv4.ip_forward=0")
    (finding,) = findings(lab)
    assert finding.reason == "HostSettingDiffers" and "ip_forward" in finding.message


@pytest.fixture
def settled(lab):
    sh(lab.names["node"], "sysctl -qw net.ipv4.ip_local_reserved_ports=10000-29999,61000-65535")
    return lab


def test_kube_proxy_in_both_modes_is_recognised(settled):
    assert findings(settled) == []
    sh(settled.names["node"], "nft add table ip kube-proxy")
    (finding,) = findings(settled)
    assert finding.condition == "OtherProxyPresent" and "kube-proxy" in finding.remedy
    sh(
        settled.names["node"],
        "nft delete table ip kube-proxy; iptables -t nat -N KUBE-SVC-NPX46M4PTMTKRN6Y;"
        "ip link add cilium_host type veth",
    )
    assert [f.condition for f in findings(settled)] == ["OtherProxyPresent", "OtherProxyPresent"]


def test_listeners_in_the_way_are_named(settled):
    with (
        EchoServer(settled.names["node"], NODE[4], 10001),
        EchoServer(settled.names["node"], NODE[4], NODE_PORT),
    ):
        text = " ".join(f.message for f in findings(settled))
    assert "10001" in text and str(NODE_PORT) in text


def test_a_forward_chain_that_drops_is_named(settled):
    sh(
        settled.names["node"],
        "nft add table inet fw;"
        "nft add chain inet fw f '{ type filter hook forward priority 0; policy drop; }'",
    )
    (finding,) = findings(settled)
    assert "inet fw" in finding.message and "vpp0" in finding.remedy


def test_attach_modes(settled):
    def mode() -> str:
        return inside(settled.names["node"], lambda: preflight.attach_mode(settled.spec().pod_cidrs))

    assert mode() == "routed"
    sh(
        settled.names["node"],
        "ip link add br0 type bridge; ip link set br0 up; ip route add 10.244.1.0/24 dev br0",
    )
    assert mode() == "bridge"
    sh(settled.names["node"], "ip link add port type veth peer name other; ip link set port master br0")
    assert mode() == "bridge"
    sh(settled.names["node"], "bridge link set dev port isolated on")
    assert mode() == "isolated"


def test_the_commands(lab, tmp_path):
    journal = f"--journal={lab.journal}"
    before = sh(
        lab.names["node"], "ip rule; nft list ruleset; cat /proc/sys/net/ipv4/ip_local_reserved_ports"
    )
    assert command(lab, "host-settings", journal).returncode == 0
    lab.apply()
    shown = command(lab, "node", "show", journal)
    assert shown.returncode == 0, shown.stderr
    assert f"{PODS[2][4]} 6 8080" in shown.stdout and "nftables table: loaded" in shown.stdout
    result = tmp_path / "preflight.json"
    checked = command(lab, "preflight", f"--result={result}")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(result.read_text())["findings"] == []
    for _ in range(2):
        done = command(lab, "node", "cleanup", journal)
        assert done.returncode == 0, done.stderr
    assert "nothing of ours" in done.stdout
    after = sh(lab.names["node"], "ip rule; nft list ruleset; cat /proc/sys/net/ipv4/ip_local_reserved_ports")
    assert after == before
    assert list(lab.journal.parent.glob("journal*")) == []


def _seconds_per_packet(lab: Lab) -> float:
    """Time to send small datagrams from a pod to a port of another that is no endpoint."""
    count = 20_000
    with client(lab.names["pod1"], PODS[2][4], socket.SOCK_DGRAM) as sender:
        sender.connect((PODS[2][4], 9))
        begin = time.perf_counter()
        for _ in range(count):
            sender.send(b"x" * 22)
        return (time.perf_counter() - begin) / count


def test_what_unmarked_traffic_pays(lab, record_property):
    """Five alternating rounds; the ratio is reported, and fails only where something is badly wrong."""
    sink = client(lab.names["pod2"], PODS[2][4], socket.SOCK_DGRAM)
    sink.bind((PODS[2][4], 9))
    # Conntrack in both, as on every node.
    sh(lab.names["node"], "iptables -t nat -A POSTROUTING -s 10.244.1.0/24 ! -d 10.244.0.0/16 -j MASQUERADE")
    many = frozenset(ipaddress.ip_network(f"10.96.{n}.0/24") for n in range(0, 200, 2))
    with_steering, without = [], []
    for _ in range(5):
        lab._network = None
        lab.apply(lab.spec(service_cidrs=many))
        with_steering.append(_seconds_per_packet(lab))
        lab.undo()
        without.append(_seconds_per_packet(lab))
    sink.close()
    ratio = statistics.median(with_steering) / statistics.median(without)
    report = {
        "ns_with": round(statistics.median(with_steering) * 1e9),
        "ns_without": round(statistics.median(without) * 1e9),
        "ratio": round(ratio, 3),
    }
    record_property("unmarked", report)
    print(report)
    assert ratio < 2, report
