"""The node's network with the real embedded engine on vpp1: Services from pods, the node and outside."""

from __future__ import annotations

import ipaddress
import itertools
from types import SimpleNamespace

import pytest
from tests.contract.engine_process import EmbeddedEngine
from tests.contract.engine_services import Service, difference
from tests.contract.node_lab import (
    EXTERNAL,
    NODE,
    NODE_PORT,
    OUTSIDE,
    PODS,
    REMOTE_POD,
    VIP,
    EchoServer,
    Lab,
    ask,
    unique_prefix,
)

from vpp_operator.dataplane.records import ConfigKey, ConfigRecord, PrefixClass, PrefixRecord, Protocol

ENDPOINTS = (PODS[2], REMOTE_POD, NODE)


def records(spec):
    made = [
        ConfigRecord(ConfigKey.SNAT_PORT_RANGE, i, low | high << 16)
        for i, (low, high) in enumerate(spec.snat_ranges)
    ]
    for family, address in NODE.items():
        own = ipaddress.ip_address(address)
        made += [
            PrefixRecord(ipaddress.ip_network(address), PrefixClass.HOST),
            ConfigRecord(ConfigKey.SNAT_ADDRESS, family, 0, own),
            ConfigRecord(ConfigKey.ICMP_SOURCE, family, 0, own),
        ]
    made += [PrefixRecord(n, PrefixClass.POD) for n in spec.pod_cidrs]
    made += [PrefixRecord(n, PrefixClass.SERVICE) for n in spec.service_cidrs]
    for family, protocol in itertools.product((4, 6), (Protocol.TCP, Protocol.UDP)):
        endpoints = tuple((e[family], 8080) for e in ENDPOINTS)
        made += Service(f"web{protocol}", family, protocol, 80, endpoints, VIP[family]).records()
        made += Service(
            f"out{protocol}", family, protocol, 443, endpoints, external=EXTERNAL[family], node_port=NODE_PORT
        ).records()
    return made


async def test_services_with_the_real_engine(tmp_path):
    """A masquerading CNI, FORWARD dropping; every endpoint is hit and sees the client it must see."""
    with Lab(f"{unique_prefix()}e", tmp_path / "journal.json") as lab:
        lab.masquerade()
        lab.apply()
        node = lab.names["node"]
        namespace = SimpleNamespace(command=lambda *c: ["nsenter", f"--net=/run/netns/{node}", *c])
        engine = EmbeddedEngine(namespace, tmp_path)
        engine.start()
        servers = [
            EchoServer(lab.names[ns], address[family], 8080)
            for ns, address in (("pod2", PODS[2]), ("out", REMOTE_POD), ("node", NODE))
            for family in (4, 6)
        ]
        try:
            async with engine.dataplane() as dataplane:
                assert await dataplane.apply(difference([], records(lab.spec()))) == []
            for family, protocol in itertools.product((4, 6), ("tcp", "udp")):
                for size in (5, 1200):
                    for _ in range(4):
                        seen = ask(lab.names["pod1"], VIP[family], 80, protocol, b"x" * size)
                        assert seen == PODS[1][family]
                for source, address, port in (
                    ("node", VIP[family], 80),
                    ("node", NODE[family], NODE_PORT),
                    ("out", NODE[family], NODE_PORT),
                    ("out", EXTERNAL[family], 443),
                    ("pod1", NODE[family], NODE_PORT),
                    ("pod1", EXTERNAL[family], 443),
                ):
                    for _ in range(4):
                        assert ask(lab.names[source], address, port, protocol) == NODE[family]
            large = bytes(range(256)) * 400
            for family in (4, 6):
                assert ask(lab.names["pod1"], VIP[family], 80, "tcp", large) == PODS[1][family]
                assert ask(lab.names["out"], NODE[family], NODE_PORT, "udp", large[:4000]) == NODE[family]
                with pytest.raises(ConnectionRefusedError):
                    ask(lab.names["pod1"], VIP[family], 81, "tcp")
                with EchoServer(node, NODE[family], NODE_PORT + 1):
                    assert ask(lab.names["out"], NODE[family], NODE_PORT + 1) == OUTSIDE[family]
        finally:
            for server in servers:
                server.__exit__()
            engine.stop()
