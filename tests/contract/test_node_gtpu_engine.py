"""GTP-U through the node with the real engine: gNB, node, data network, pods and Services."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from scapy.layers.inet import IP, UDP
from tests.contract.engine_process import EmbeddedEngine
from tests.contract.engine_services import Service, difference
from tests.contract.node_gtpu_lab import DATA, GNB, OWN, POOLS, PORT, Gnb, GtpuLab, UserEquipment, ue_datagram
from tests.contract.node_lab import NODE, PODS, REMOTE_POD, VIP, EchoServer, ask, client, sh, unique_prefix

from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    UePrefixRecord,
    gtpu_endpoint_id,
)

FAMILIES = (4, 6)


@dataclass(frozen=True)
class Tunnel:
    """A tunnel to the gNB by one of the node's GTP-U addresses, with a UE of both families."""

    number: int
    family: int
    local: str

    @property
    def teid(self) -> int:
        return 0x100 + self.number

    def ue(self, family: int) -> str:
        return f"10.45.{self.number}.7" if family == 4 else f"2001:db8:45:{self.number}::7"

    def records(self):
        ident = gtpu_endpoint_id(f"n3-{self.number}")
        gnb = ipaddress.ip_address(GNB[self.family])
        yield GtpuEndpointRecord(ipaddress.ip_address(self.local), ident, teid_base=0x100, teid_count=16)
        yield GtpuPeerRecord(ident, gnb)
        yield GtpuTunnelRecord(ident, self.teid, 0xA000 + self.number, gnb)
        for network in (f"{self.ue(4)}/32", f"2001:db8:45:{self.number}::/64"):
            yield UePrefixRecord(ipaddress.ip_network(network), ident, self.teid)


TUNNELS = [
    Tunnel(number, family, addresses[family])
    for number, (addresses, family) in enumerate(itertools.product((NODE, OWN), FAMILIES), 1)
]


def records(lab: GtpuLab):
    spec = lab.spec()
    made = [
        ConfigRecord(ConfigKey.SNAT_PORT_RANGE, i, low | high << 16)
        for i, (low, high) in enumerate(spec.snat_ranges)
    ]
    made += [PrefixRecord(n, PrefixClass.POD) for n in spec.pod_cidrs]
    made += [PrefixRecord(n, PrefixClass.SERVICE) for n in spec.service_cidrs]
    made += [PrefixRecord(ipaddress.ip_network(p), PrefixClass.UE_POOL) for p in POOLS.values()]
    for family, address in NODE.items():
        own = ipaddress.ip_address(address)
        made += [
            PrefixRecord(ipaddress.ip_network(address), PrefixClass.HOST),
            ConfigRecord(ConfigKey.SNAT_ADDRESS, family, 0, own),
            ConfigRecord(ConfigKey.ICMP_SOURCE, family, 0, own),
        ]
        endpoints = tuple((e[family], 8080) for e in (PODS[2], REMOTE_POD))
        made += Service("dns", family, Protocol.UDP, 53, endpoints, VIP[family]).records()
    for tunnel in TUNNELS:
        made += tunnel.records()
    return made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory):
    """Everything in place, echo servers in the data network, pods and the node."""
    directory = tmp_path_factory.mktemp("run")
    with GtpuLab(f"{unique_prefix()}r", directory / "journal.json") as made, contextlib.ExitStack() as stack:
        made.masquerade()
        made.apply()
        node = made.names["node"]
        namespace = SimpleNamespace(command=lambda *c: ["nsenter", f"--net=/run/netns/{node}", *c])
        made.real = EmbeddedEngine(namespace, directory)
        made.real.start()
        stack.callback(made.real.stop)
        for ns, address, port in (
            ("data", DATA, 7000),
            ("pod2", PODS[2], 7000),
            ("node", NODE, 7000),
            ("pod2", PODS[2], 8080),
            ("out", REMOTE_POD, 8080),
        ):
            for family in FAMILIES:
                stack.enter_context(EchoServer(made.names[ns], address[family], port))
        yield made


@pytest.fixture
async def programmed(lab) -> AsyncIterator[GtpuLab]:
    """The lab with tunnels and a Service in the engine."""
    if not getattr(lab, "programmed", False):
        async with lab.real.dataplane() as dataplane:
            assert await dataplane.apply(difference([], records(lab))) == []
        lab.programmed = True
    yield lab


def round_trip(
    lab: GtpuLab, tunnel: Tunnel, inner: int, to: str, port: int, size: int = 5, sport: int = 5000
) -> str:
    """Send a UE's datagram to an echo server and return the client that it saw."""
    ue = tunnel.ue(inner)
    with Gnb(lab.names["out"], GNB[tunnel.family], tunnel.local) as gnb:
        payload = (bytes(range(256)) * 6)[:size]
        gnb.send(ue_datagram(inner, to, port, payload, sport, ue), tunnel.teid)
        answer = gnb.receive()
        assert (answer.src, answer.dst, answer[UDP].sport, answer[UDP].dport) == (to, ue, port, sport)
        peer, _, data = bytes(answer[UDP].payload).partition(b" ")
        assert data == payload
        return peer.decode()


@pytest.mark.parametrize("tunnel", TUNNELS, ids=lambda t: t.local)
@pytest.mark.parametrize("inner", FAMILIES)
async def test_a_ue_keeps_its_address(programmed, tunnel, inner):
    """To the data network, a pod and the node, masqueraded nowhere, through FORWARD's drop."""
    for to in (DATA, PODS[2], NODE):
        for _ in range(2):
            assert round_trip(programmed, tunnel, inner, to[inner], 7000) == tunnel.ue(inner)


@pytest.mark.parametrize("inner", FAMILIES)
async def test_a_ue_uses_a_service(programmed, inner):
    """Its flow to a ClusterIP comes from outside: the endpoint sees the node, the UE the ClusterIP."""
    for port in range(5000, 5008):
        seen = round_trip(programmed, TUNNELS[2], inner, VIP[inner], 53, sport=port)
        assert seen == NODE[inner]


@pytest.mark.parametrize("tunnel", TUNNELS, ids=lambda t: t.local)
async def test_outer_fragments(programmed, tunnel):
    """A full inner packet makes the outer one too large for the link: its fragments are put together."""
    inner = tunnel.family
    room = 1500 - (28 if inner == 4 else 48)
    payload = (bytes(range(256)) * 6)[:room]
    with (
        Gnb(programmed.names["out"], GNB[inner], tunnel.local) as gnb,
        client(programmed.names["data"], DATA[inner], socket.SOCK_DGRAM) as data,
    ):
        data.bind((DATA[inner], 7001))
        gnb.send(ue_datagram(inner, DATA[inner], 7001, payload, ue=tunnel.ue(inner)), tunnel.teid)
        received, peer = data.recvfrom(4000)
    assert received == payload and peer[:2] == (tunnel.ue(inner), 5000)


@pytest.mark.parametrize("tunnel", TUNNELS, ids=lambda t: t.local)
async def test_what_is_too_large_for_the_tunnel_is_told_to_its_sender(programmed, tunnel):
    """The data network's host learns the path MTU and sends what fits; the UE gets all of it."""
    inner = tunnel.family
    ue = tunnel.ue(inner)
    with (
        Gnb(programmed.names["out"], GNB[inner], tunnel.local) as gnb,
        client(programmed.names["data"], DATA[inner], socket.SOCK_DGRAM) as data,
    ):
        data.connect((ue, 9))
        payload = (bytes(range(256)) * 6)[: 1500 - (28 if inner == 4 else 48)]
        data.send(payload)
        await asyncio.sleep(0.3)
        with contextlib.suppress(OSError):
            data.send(payload)  # the socket is told once
        data.send(payload)
        parts = [gnb.receive(), gnb.receive()]
    assert all(len(bytes(p)) <= 1500 - (36 if inner == 4 else 56) and p.dst == ue for p in parts)
    fragmented = [(p.flags.MF or p.frag) if IP in p else p.nh == 44 for p in parts]
    assert all(fragmented)


@pytest.mark.parametrize("tunnel", TUNNELS, ids=lambda t: t.local)
async def test_an_echo_request_is_answered_from_the_address(programmed, tunnel):
    """TS 29.281, 7.2.2: to the port it came from."""
    with client(programmed.names["out"], tunnel.local, socket.SOCK_DGRAM) as s:
        s.bind((GNB[tunnel.family], 41234))
        s.sendto(struct.pack(">BBHIHH", 0x32, 1, 4, 0, 7, 0), (tunnel.local, PORT))
        answer, peer = s.recvfrom(200)
    assert peer[:2] == (tunnel.local, PORT)
    assert answer[1] == 2 and answer[8:10] == b"\0\7"


@pytest.mark.parametrize("tunnel", TUNNELS[2:], ids=lambda t: t.local)
async def test_tcp_both_ways_with_large_segments(programmed, tunnel):
    """A UE with its own stack: the path MTU is learnt, large segments of the data network's host are cut,
    and outer fragments of the gNB are put together; every byte arrives."""
    content = bytes(range(256)) * 2048
    before = await counters(programmed)
    with (
        Gnb(programmed.names["out"], GNB[tunnel.family], tunnel.local) as gnb,
        UserEquipment(programmed, gnb, tunnel.teid, {f: tunnel.ue(f) for f in FAMILIES}) as ue,
    ):
        for inner in FAMILIES:
            for to, port in ((DATA, 7000), (PODS[2], 8080)):
                seen = await asyncio.to_thread(ask, ue.name, to[inner], port, "tcp", content)
                assert seen == tunnel.ue(inner)
    after = await counters(programmed)
    for name in ("gtpuSegmented", "gtpuReassembled", "icmpErrorsSent"):
        assert after[name] > before[name], (name, before, after)


async def counters(lab: GtpuLab) -> dict[str, int]:
    """Return the engine's counters."""
    async with lab.real.dataplane() as dataplane:
        return dict((await dataplane.stats()).counters)


async def test_nothing_is_tracked(programmed):
    node = programmed.names["node"]
    sh(node, "conntrack -F 2>/dev/null")
    for tunnel in TUNNELS:
        for inner in FAMILIES:
            round_trip(programmed, tunnel, inner, DATA[inner], 7000)
    entries = sh(node, "conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")
    assert not [e for e in entries.splitlines() if "icmpv6" not in e], entries


async def test_a_ue_that_no_tunnel_has_is_unreachable(programmed):
    for family, ue in ((4, "10.45.99.1"), (6, "2001:db8:45:99::1")):
        with (
            client(programmed.names["data"], DATA[family], socket.SOCK_DGRAM) as s,
            pytest.raises(OSError, match="No route to host"),
        ):
            # Unreachable is no lasting error: a UDP socket is told if it asks (IP_RECVERR, IPV6_RECVERR).
            s.setsockopt(*((socket.SOL_IP, 11, 1) if family == 4 else (socket.IPPROTO_IPV6, 25, 1)))
            s.connect((ue, 9))
            for _ in range(5):
                s.send(b"x")
                await asyncio.sleep(0.1)
