"""Pods of one node on an L2 bridge, and the real engine: a Service whose endpoint shares the bridge."""

from __future__ import annotations

import ipaddress
import itertools
from types import SimpleNamespace

import pytest
from tests.contract.engine_process import EmbeddedEngine
from tests.contract.engine_services import Service, difference
from tests.contract.node_lab import (
    NODE,
    NODE_PORT,
    POD_GATEWAY,
    PODS,
    REMOTE_POD,
    VIP,
    EchoServer,
    Lab,
    ask,
    inside,
    sh,
    unique_prefix,
)

from vpp_operator.dataplane.records import ConfigKey, ConfigRecord, PrefixClass, PrefixRecord, Protocol
from vpp_operator.node import Target, preflight

REFUSED = (TimeoutError, ConnectionError)


class BridgeLab(Lab):
    """Pods attached as the CNI plugin bridge does: ports of cni0, which holds the gateway addresses."""

    def _pod(self, number: int, addresses: dict[int, str]) -> None:
        node, pod = self.names["node"], self.names[f"pod{number}"]
        if number == 1:
            sh(node, "ip link add cni0 type bridge; ip link set cni0 up")
            for family, length in ((4, 24), (6, 64)):
                nodad = "nodad" if family == 6 else ""
                sh(node, f"ip addr add {POD_GATEWAY[family]}/{length} dev cni0 {nodad}")
        sh(node, f"ip link add pod{number} type veth peer name eth0 netns {pod}")
        sh(node, f"ip link set pod{number} master cni0 up; bridge link set dev pod{number} hairpin on")
        sh(pod, "ip link set eth0 up")
        for family, length in ((4, 24), (6, 64)):
            nodad = "nodad" if family == 6 else ""
            sh(pod, f"ip addr add {addresses[family]}/{length} dev eth0 {nodad}")
            sh(pod, f"ip -{family} route add default via {POD_GATEWAY[family]}")


def records(lab: Lab, masquerade_all: bool):
    spec = lab.spec()
    made = [
        ConfigRecord(ConfigKey.SNAT_PORT_RANGE, i, low | high << 16)
        for i, (low, high) in enumerate(spec.snat_ranges)
    ]
    if masquerade_all:
        made.append(ConfigRecord(ConfigKey.MASQUERADE_ALL, value=1))
    made += [PrefixRecord(n, PrefixClass.POD) for n in spec.pod_cidrs]
    made += [PrefixRecord(n, PrefixClass.SERVICE) for n in spec.service_cidrs]
    for family, address in NODE.items():
        own = ipaddress.ip_address(address)
        made += [
            PrefixRecord(ipaddress.ip_network(address), PrefixClass.HOST),
            ConfigRecord(ConfigKey.SNAT_ADDRESS, family, 0, own),
            ConfigRecord(ConfigKey.ICMP_SOURCE, family, 0, own),
        ]
        for protocol in (Protocol.TCP, Protocol.UDP):
            for name, port, where in (("near", 80, PODS[2]), ("far", 81, REMOTE_POD), ("self", 82, PODS[1])):
                made += Service(
                    f"{name}{protocol}", family, protocol, port, ((where[family], 8080),), VIP[family]
                ).records()
            made += Service(
                f"out{protocol}", family, protocol, 443, ((PODS[2][family], 8080),), node_port=NODE_PORT
            ).records()
    return made


@pytest.mark.parametrize("through_iptables", [0, 1], ids=["bridged", "br_netfilter"])
async def test_a_service_with_an_endpoint_on_the_clients_bridge(tmp_path, through_iptables):
    """Without source translation the reply goes straight to the client, from an address that it did not ask;
    with it every combination works, and traffic past Services is as before."""
    with BridgeLab(f"{unique_prefix()}b", tmp_path / "journal.json") as lab:
        node = lab.names["node"]
        settings = " ".join(f"net.bridge.bridge-nf-call-ip{v}tables={through_iptables}" for v in ("", "6"))
        sh(node, f"[ ! -d /proc/sys/net/bridge ] || sysctl -qw {settings}")
        lab.masquerade()
        # With br_netfilter neighbour discovery between pods passes FORWARD, whose policy drops here.
        sh(node, "ip6tables -A FORWARD -p icmpv6 -j ACCEPT")
        here = {Target.of(PODS[1][f], p, 8080) for f in (4, 6) for p in (6, 17)}
        lab.apply(lab.spec(endpoints=lab.spec().endpoints | here))
        assert inside(node, lambda: preflight.attach_mode(lab.spec().pod_cidrs)) == "bridge"
        namespace = SimpleNamespace(command=lambda *c: ["nsenter", f"--net=/run/netns/{node}", *c])
        engine = EmbeddedEngine(namespace, tmp_path)
        engine.start()
        servers = [
            EchoServer(lab.names[ns], address[family], 8080)
            for ns, address in (("pod1", PODS[1]), ("pod2", PODS[2]), ("out", REMOTE_POD))
            for family in (4, 6)
        ]
        try:
            async with engine.dataplane() as dataplane:
                plain = records(lab, False)
                assert await dataplane.apply(difference([], plain)) == []
                with pytest.raises(REFUSED):
                    ask(lab.names["pod1"], VIP[4], 80, "tcp")
                translated = records(lab, True)
                assert await dataplane.apply(difference(plain, translated)) == []
            for family, protocol in itertools.product((4, 6), ("tcp", "udp")):
                pod1 = lab.names["pod1"]
                for port in (80, 81, 82):
                    for _ in range(3):
                        assert ask(pod1, VIP[family], port, protocol) == NODE[family]
                assert ask(pod1, NODE[family], NODE_PORT, protocol) == NODE[family]
                assert ask(lab.names["out"], NODE[family], NODE_PORT, protocol) == NODE[family]
                assert ask(node, VIP[family], 80, protocol) == NODE[family]
                # Past every Service, to the same endpoint.
                assert ask(pod1, PODS[2][family], 8080, protocol) == PODS[1][family]
                assert ask(pod1, VIP[family], 80, protocol, b"x" * 3000) == NODE[family]
        finally:
            for server in servers:
                server.__exit__()
            engine.stop()
