"""klb between packet generators: what goes in and comes out, byte by byte, and by which nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.contract.engine_packets import (
    ICMP,
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    Raw,
    addresses,
    forwarded,
    network,
    packet,
    parse,
    ports,
)
from tests.contract.engine_services import (
    SNAT_PORTS,
    USABLE,
    V4,
    V6,
    Addresses,
    Service,
    difference,
    settings,
)
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import counters, programme
from tests.contract.vpp_load import ROOM, two_sides, under_load
from tests.contract.vpp_services import (
    CLIENTS,
    ENDPOINTS,
    NEIGHBOURS,
    barriers,
    dropped,
    everything,
    fragments,
    router,
    traced,
    web,
)

from vpp_operator.dataplane.records import (
    EndpointRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Verdict,
)

FAMILIES = pytest.mark.parametrize("a", [V4, V6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=["tcp", "udp"])
ENDPOINT_PORT = 8080


@pytest.fixture(scope="module")
def running() -> Iterator[Graph]:
    with router() as g:
        yield g


@pytest_asyncio.fixture
async def vpp(running: Graph) -> AsyncIterator[Graph]:
    """A VPP with one Service in both families and protocols, and no session."""
    await programme(running, everything())
    yield running
    await programme(running, [], everything())
    async with running.engine.dataplane() as dataplane:
        await dataplane.flush_sessions()


def only(out: dict[str, list[bytes]], name: str) -> bytes:
    """Return the one packet that came out, by this link."""
    assert {n: len(packets) for n, packets in out.items() if packets} == {name: 1}
    return out[name][0]


def dont_fragment(raw: bytes) -> bytes:
    """Return an IPv4 packet with that bit set."""
    layer = parse(raw)
    layer.flags = "DF"
    del layer.chksum
    return bytes(layer)


def node_of(a: Addresses, name: str) -> str:
    return f"klb{a.family}-{name}"


# ---- translation ----


@FAMILIES
@PROTOCOLS
async def test_cluster_ip_both_ways_byte_by_byte(vpp: Graph, a: Addresses, protocol: Protocol) -> None:
    client, vip, endpoint = (a.pod, 40000), (a.vip, 80), (a.endpoints[0], ENDPOINT_PORT)
    request = packet(protocol, client, vip)
    assert only(vpp.send(CLIENTS, [request]), ENDPOINTS) == forwarded(request, destination=endpoint)
    answer = packet(protocol, endpoint, client, b"answer", flags="SA")
    assert only(vpp.send(ENDPOINTS, [answer]), CLIENTS) == forwarded(answer, source=vip)
    more = packet(protocol, client, vip, b"more", flags="A")
    assert only(vpp.send(CLIENTS, [more]), ENDPOINTS) == forwarded(more, destination=endpoint)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("kind", ["cluster-ip", "node-port", "external-ip"])
async def test_masqueraded_both_ways_byte_by_byte(
    vpp: Graph, a: Addresses, protocol: Protocol, kind: str
) -> None:
    client, endpoint = (a.outside, 40000), (a.endpoints[0], ENDPOINT_PORT)
    target = {"cluster-ip": (a.vip, 80), "node-port": (a.node, 30080), "external-ip": (a.external, 80)}[kind]
    request = packet(protocol, client, target)
    there = only(vpp.send(CLIENTS, [request]), ENDPOINTS)
    port = ports(there)[0]
    assert SNAT_PORTS[0] <= port <= SNAT_PORTS[1]
    assert there == forwarded(request, source=(a.node, port), destination=endpoint)
    answer = packet(protocol, endpoint, (a.node, port), b"answer", flags="SA")
    back = only(vpp.send(ENDPOINTS, [answer]), CLIENTS)
    assert back == forwarded(answer, source=target, destination=client)


@FAMILIES
async def test_node_port_of_an_address_that_is_vpps_own(vpp: Graph, a: Addresses) -> None:
    own = {4: "169.254.1.1", 6: "fd00:1::1"}[a.family]
    host = PrefixRecord(ipaddress.ip_network(own), PrefixClass.HOST)
    await programme(vpp, [*everything(), host], everything())
    request = packet(Protocol.TCP, (a.outside, 40001), (own, 30080))
    there = only(vpp.send(CLIENTS, [request]), ENDPOINTS)
    assert addresses(there) == (a.node, a.endpoints[0])
    await programme(vpp, everything(), [*everything(), host])


@FAMILIES
async def test_a_frame_with_everything_in_it(vpp: Graph, a: Addresses) -> None:
    """256 packets of one vector: new and known flows, refused ones and others' traffic, in any order."""
    rng = random.Random(a.family)
    known = [packet(Protocol.UDP, (a.pod, 41000 + i), (a.vip, 80)) for i in range(64)]
    vpp.send(CLIENTS, known)
    new = [packet(Protocol.UDP, (a.pod, 42000 + i), (a.vip, 80)) for i in range(64)]
    others = [packet(Protocol.UDP, (a.pod, 43000 + i), (a.endpoints[3], 53)) for i in range(64)]
    refused = [packet(Protocol.UDP, (a.pod, 44000 + i), (a.unallocated, 80)) for i in range(64)]
    mixed = known + new + others + refused
    rng.shuffle(mixed)
    vpp.errors()
    out = vpp.send(CLIENTS, mixed)
    wanted = [
        forwarded(p, destination=(a.endpoints[0], ENDPOINT_PORT) if addresses(p)[1] == a.vip else None)
        for p in mixed
        if addresses(p)[1] != a.unallocated
    ]
    assert out[CLIENTS] == []
    assert sorted(out[ENDPOINTS]) == sorted(wanted)
    assert dropped(vpp, node_of(a, "feature")) == {"address of a service range that no": 64}


# ---- refused ----


@FAMILIES
@PROTOCOLS
async def test_no_endpoint_is_rejected(vpp: Graph, a: Addresses, protocol: Protocol) -> None:
    await programme(vpp, everything(0), everything())
    request = packet(protocol, (a.pod, 40000), (a.vip, 80))
    answer = parse(only(vpp.send(CLIENTS, [request]), CLIENTS))
    await programme(vpp, everything(), everything(0))
    assert (answer.src, answer.dst) == (a.node, a.pod)
    assert (answer.ttl if a is V4 else answer.hlim) == 64
    error = answer[ICMP] if a is V4 else answer[ICMPv6DestUnreach]
    assert (error.type, error.code) == ((3, 3) if a is V4 else (1, 4))
    assert request.startswith(bytes(error.payload)) and len(bytes(error.payload)) >= 28
    same = answer.copy()
    if a is V4:
        del same.chksum, same[ICMP].chksum
    else:
        del same[ICMPv6DestUnreach].cksum
    assert bytes(same) == bytes(answer), "checksums"


@FAMILIES
async def test_no_endpoint_is_dropped_by_policy_and_counted(vpp: Graph, a: Addresses) -> None:
    dropping = everything(0, empty=Verdict.DROP)
    await programme(vpp, dropping, everything())
    vpp.errors()
    out = vpp.send(CLIENTS, [packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80))])
    await programme(vpp, everything(), dropping)
    assert out == {CLIENTS: [], ENDPOINTS: []}
    assert dropped(vpp, node_of(a, "feature")) == {"no usable endpoint, dropped by poli": 1}


@FAMILIES
async def test_ttl_that_runs_out_is_told_of_the_packet_before_translation(vpp: Graph, a: Addresses) -> None:
    request = packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80), ttl=1)
    answer = parse(only(vpp.send(CLIENTS, [request]), CLIENTS))
    error = answer[ICMP] if a is V4 else answer[ICMPv6TimeExceeded]
    assert error.type == (11 if a is V4 else 3)
    assert addresses(bytes(error.payload)) == (a.pod, a.vip)


# ---- what is related ----


@FAMILIES
async def test_icmp_error_is_translated(vpp: Graph, a: Addresses) -> None:
    request = packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80))
    there = only(vpp.send(CLIENTS, [request]), ENDPOINTS)
    router_behind = {4: "10.244.2.99", 6: "fd00:244:2::99"}[a.family]
    about = ICMP(type=3, code=4, nexthopmtu=1400) if a is V4 else ICMPv6PacketTooBig(mtu=1400)
    error = bytes(network(router_behind, a.pod) / about / Raw(there))
    back = parse(only(vpp.send(ENDPOINTS, [error]), CLIENTS))
    inner = parse(bytes((back[ICMP] if a is V4 else back[ICMPv6PacketTooBig]).payload))
    assert (inner.src, inner.dst) == (a.pod, a.vip)
    assert ports(bytes(inner))[1] == 80


@FAMILIES
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)], ids=["in-order", "last-first"])
@pytest.mark.parametrize("target", ["cluster-ip", "node-port"])
async def test_fragments_follow_their_first(
    vpp: Graph, a: Addresses, order: tuple[int, ...], target: str
) -> None:
    payload = bytes(i & 0xFF for i in range(2000))
    destination = (a.vip, 80) if target == "cluster-ip" else (a.node, 30080)
    pieces = fragments(a, packet(Protocol.UDP, (a.pod, 40000), destination, payload))
    out = vpp.send(CLIENTS, [pieces[i] for i in order], quiet=0.2)
    assert out[CLIENTS] == []
    assert len(out[ENDPOINTS]) == len(pieces)
    assert {addresses(p)[1] for p in out[ENDPOINTS]} == {a.endpoints[0]}
    assert sorted(len(p) for p in out[ENDPOINTS]) == sorted(len(p) for p in pieces)

    source = addresses(out[ENDPOINTS][0])[0]
    first = next(p for p in out[ENDPOINTS] if (parse(p).frag == 0 if a is V4 else p[42:44] == b"\0\1"))
    port = int.from_bytes(first[20:22] if a is V4 else first[48:50])
    back = fragments(a, packet(Protocol.UDP, (a.endpoints[0], ENDPOINT_PORT), (source, port), payload))
    out = vpp.send(ENDPOINTS, [back[i] for i in order], quiet=0.2)
    assert {addresses(p) for p in out[CLIENTS]} == {(destination[0], a.pod)}
    assert len(out[CLIENTS]) == len(back)


@FAMILIES
async def test_fragments_without_a_first_are_let_go(vpp: Graph, a: Addresses) -> None:
    before = (await counters(vpp)).get("fragmentExpired", 0)
    pieces = fragments(a, packet(Protocol.UDP, (a.pod, 40009), (a.vip, 80), b"x" * 2000))[1:]
    assert vpp.send(CLIENTS, pieces, quiet=0.5) == {CLIENTS: [], ENDPOINTS: []}
    assert (await counters(vpp))["fragmentExpired"] == before + len(pieces)


# ---- others' traffic ----


@FAMILIES
async def test_others_pass_by_the_filter(vpp: Graph, a: Addresses) -> None:
    other = packet(Protocol.UDP, (a.pod, 40000), (a.endpoints[3], 53))
    said = traced(vpp, CLIENTS, [other], node_of(a, "feature"))
    assert "passed by the filter" in said
    assert only(vpp.send(CLIENTS, [other]), ENDPOINTS) == forwarded(other)


@FAMILIES
async def test_what_the_kernel_passes_goes_by_the_covering_route(vpp: Graph, a: Addresses) -> None:
    """A port of an external address that no Service has: the route that would be there without klb."""
    other = packet(Protocol.TCP, (a.outside, 40000), (a.external, 81))
    assert vpp.send(CLIENTS, [other]) == {CLIENTS: [], ENDPOINTS: []}
    via = NEIGHBOURS[ENDPOINTS][a.family == 6]
    prefix = {4: "198.51.100.0/24", 6: "2001:db8:51::/64"}[a.family]
    vpp.cli(f"ip route add {prefix} via {via} {ENDPOINTS}")
    try:
        await asyncio.sleep(1.3)
        assert only(vpp.send(CLIENTS, [other]), ENDPOINTS) == forwarded(other)
        known = packet(Protocol.TCP, (a.outside, 40000), (a.external, 80))
        assert addresses(only(vpp.send(CLIENTS, [known]), ENDPOINTS))[1] == a.endpoints[0]
    finally:
        vpp.cli(f"ip route del {prefix} via {via} {ENDPOINTS}")


@FAMILIES
async def test_a_flow_outlives_its_service(vpp: Graph, a: Addresses) -> None:
    """Endpoint, node port and external address go, the filter is built anew: the connection goes on."""
    client, endpoint = (a.outside, 40000), (a.endpoints[0], ENDPOINT_PORT)
    flows = {}
    for target in ((a.external, 80), (a.node, 30080)):
        request = packet(Protocol.TCP, client, target)
        there = only(vpp.send(CLIENTS, [request]), ENDPOINTS)
        flows[target] = (a.node, ports(there)[0])
        answer = packet(Protocol.TCP, endpoint, flows[target], flags="SA")
        only(vpp.send(ENDPOINTS, [answer]), CLIENTS)
        only(vpp.send(CLIENTS, [packet(Protocol.TCP, client, target, flags="A")]), ENDPOINTS)
    await programme(vpp, settings(), everything())
    # Enough comes and goes to have the filter built anew.
    network_of = ipaddress.ip_network("172.16.0.0/16" if a is V4 else "fd00:172::/112")
    crowd: list[Record] = [ServiceRecord(7, a.family, Protocol.TCP)]
    crowd += [EndpointRecord(7, network_of[i + 1], 80, USABLE) for i in range(3000)]
    await programme(vpp, [*settings(), *crowd], settings())
    await programme(vpp, settings(), [*settings(), *crowd])
    await asyncio.sleep(2.5)
    try:
        assert "0 changes since" in vpp.engine.cli("show klb summary")
        for target, nat in flows.items():
            more = packet(Protocol.TCP, client, target, b"more", flags="PA")
            there = only(vpp.send(CLIENTS, [more]), ENDPOINTS)
            assert there == forwarded(more, source=nat, destination=endpoint)
            answer = packet(Protocol.TCP, endpoint, nat, b"answer", flags="PA")
            back = only(vpp.send(ENDPOINTS, [answer]), CLIENTS)
            assert back == forwarded(answer, source=target, destination=client)
    finally:
        await programme(vpp, everything(), settings())


# ---- what VPP says itself ----

SMALL_MTU = 1300


def too_big(a: Addresses, raw: bytes, mtu: int) -> bytes:
    """Return what an ICMP error that tells of ``mtu`` says of the packet that was too big."""
    answer = parse(raw)
    if a is V4:
        assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, mtu)
        error = answer[ICMP]
    else:
        assert answer[ICMPv6PacketTooBig].mtu == mtu
        error = answer[ICMPv6PacketTooBig]
    said = bytes(error.payload)
    del error.payload
    again = answer.copy()
    again /= Raw(said)
    if a is V4:
        del again.chksum, again.len, again[ICMP].chksum
    else:
        del again.plen, again[ICMPv6PacketTooBig].cksum
    assert bytes(again) == raw, "checksums"
    return said


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("source", ["pod", "masqueraded"])
async def test_too_big_is_told_of_the_packet_before_translation(
    vpp: Graph, a: Addresses, protocol: Protocol, source: str
) -> None:
    """VPP finds it behind the translation: who sent it knows its own addresses only."""
    client = (a.pod, 40000) if source == "pod" else (a.outside, 40000)
    target = (a.vip, 80) if source == "pod" else (a.node, 30080)
    there = only(vpp.send(CLIENTS, [packet(protocol, client, target)]), ENDPOINTS)
    nat, large = (addresses(there)[0], ports(there)[0]), b"x" * 1400
    for name, sender, receiver, other in (
        (ENDPOINTS, client, target, CLIENTS),
        (CLIENTS, (a.endpoints[0], ENDPOINT_PORT), nat, ENDPOINTS),
    ):
        vpp.cli(f"set interface mtu packet {SMALL_MTU} {name}")
        try:
            request = packet(protocol, sender, receiver, large, flags="A" if name == ENDPOINTS else "SA")
            request = dont_fragment(request) if a is V4 else request
            answer = only(vpp.send(other, [request]), other)
            assert addresses(answer)[1] == sender[0]
            said = too_big(a, answer, SMALL_MTU)
            assert (addresses(said), ports(said)) == ((sender[0], receiver[0]), (sender[1], receiver[1]))
            assert said[28 if a is V4 else 48 :] in request, "nothing else has changed"
        finally:
            vpp.cli(f"set interface mtu packet 1500 {name}")


@FAMILIES
async def test_too_big_of_others_is_left_alone(vpp: Graph, a: Addresses) -> None:
    request = packet(Protocol.UDP, (a.pod, 40000), (a.endpoints[3], 53), b"x" * 1400)
    request = dont_fragment(request) if a is V4 else request
    vpp.cli(f"set interface mtu packet {SMALL_MTU} {ENDPOINTS}")
    try:
        answer = only(vpp.send(CLIENTS, [request]), CLIENTS)
    finally:
        vpp.cli(f"set interface mtu packet 1500 {ENDPOINTS}")
    assert addresses(answer)[1] == a.pod
    assert addresses(too_big(a, answer, SMALL_MTU)) == (a.pod, a.endpoints[3])


# ---- for people ----


@FAMILIES
async def test_traces_explain_every_verdict(vpp: Graph, a: Addresses) -> None:
    feature, vip = node_of(a, "feature"), node_of(a, "vip")
    request = packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80))
    said = traced(vpp, CLIENTS, [request], feature)
    assert "translated towards an endpoint" in said and a.endpoints[0] in said and a.vip in said
    answer = packet(Protocol.TCP, (a.endpoints[0], ENDPOINT_PORT), (a.pod, 40000), flags="SA")
    said = traced(vpp, ENDPOINTS, [answer], feature)
    assert "translated back towards the client" in said and a.vip in said
    said = traced(vpp, CLIENTS, [packet(Protocol.TCP, (a.pod, 40000), (a.vip, 81))], feature)
    assert "answered with an ICMP error, because: undefinedPort" in said
    said = traced(vpp, CLIENTS, [packet(Protocol.TCP, (a.pod, 40000), (a.unallocated, 81))], feature)
    assert "dropped: unallocatedAddress" in said
    later = fragments(a, packet(Protocol.UDP, (a.pod, 40077), (a.vip, 80), b"x" * 1000))[1]
    assert "held until the first fragment" in traced(vpp, CLIENTS, [later], vip)


async def test_show_commands_are_bounded_and_agree(vpp: Graph) -> None:
    requests = [packet(Protocol.UDP, (V4.pod, 40000 + i), (V4.vip, 80)) for i in range(50)]
    vpp.send(CLIENTS, requests)
    said = vpp.engine.cli("show klb sessions max 5")
    assert said.startswith("IPv4: 50 of ")
    assert len([line for line in said.splitlines() if "=>" in line]) == 5
    assert f"{V4.vip}:80 => {V4.pod}:" in said
    identity = web(V4, Protocol.TCP).id
    said = vpp.engine.cli(f"show klb services id {identity}")
    for part in (
        f"Service {identity} IPv4 TCP",
        f"{V4.vip}:80",
        "node port 30080",
        f"-> {V4.endpoints[0]}:8080",
    ):
        assert part in said
    assert "there is no Service 4711" in vpp.engine.cli("show klb services id 4711")
    assert "unknown input" in vpp.engine.cli("show klb sessions all")


# ---- bad packets ----


@FAMILIES
async def test_hostile_packets(vpp: Graph, a: Addresses) -> None:
    """Cut, lengthened and altered packets of every kind: none brings VPP down, the Service still works."""
    rng = random.Random(1 + a.family)
    seeds = [
        packet(p, (a.pod, 40000), to, b"x" * 64)
        for p in (Protocol.TCP, Protocol.UDP)
        for to in ((a.vip, 80), (a.node, 30080), (a.external, 80), (a.unallocated, 1))
    ]
    seeds += [packet(p, (a.endpoints[0], 8080), (a.pod, 40000)) for p in (Protocol.TCP, Protocol.UDP)]
    seeds += fragments(a, packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), b"x" * 900), 256)
    error = ICMP(type=3, code=4) if a is V4 else ICMPv6PacketTooBig()
    seeds.append(
        bytes(network("10.244.2.99" if a is V4 else "fd00:244:2::99", a.pod) / error / Raw(seeds[0]))
    )
    hostile = []
    for _ in range(4000):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        raw = raw[: rng.randrange(20, len(raw) + 1)] if rng.random() < 0.3 else raw
        if a is V4 and rng.random() < 0.7:
            raw[10:12] = b"\0\0"
            total = sum(int.from_bytes(raw[i : i + 2]) for i in range(0, 20, 2))
            total = (total & 0xFFFF) + (total >> 16)
            raw[10:12] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2)
        raw[0] = raw[0] & 0x0F | a.family << 4
        hostile.append(bytes(raw))
    vpp.send(CLIENTS, hostile)
    vpp.send(ENDPOINTS, hostile)
    async with vpp.engine.dataplane() as dataplane:
        await dataplane.flush_sessions()
    request = packet(Protocol.TCP, (a.pod, 45000), (a.vip, 80))
    assert only(vpp.send(CLIENTS, [request]), ENDPOINTS) == forwarded(
        request, destination=(a.endpoints[0], ENDPOINT_PORT)
    )


# ---- in company ----


async def test_beside_vpps_own_load_balancers() -> None:
    """lb and cnat are loaded, and lb serves an address of its own."""
    options = ("plugins { plugin lb_plugin.so { enable } plugin cnat_plugin.so { enable } }",)
    with router(options=options) as g:
        assert "lb_plugin" in g.engine.cli("show plugins") and "cnat_plugin" in g.engine.cli("show plugins")
        g.cli("lb conf ip4-src-address 169.254.2.1")
        g.cli("lb vip 198.18.0.1/32 protocol udp port 53 encap nat4 type clusterip target_port 5353")
        g.cli("lb as 198.18.0.1/32 protocol udp port 53 10.244.2.50")
        g.cli(f"lb set interface nat4 in {ENDPOINTS}")
        await programme(g, everything())
        for a in (V4, V6):
            request = packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80))
            there = only(g.send(CLIENTS, [request]), ENDPOINTS)
            assert there == forwarded(request, destination=(a.endpoints[0], ENDPOINT_PORT))
        theirs = packet(Protocol.UDP, (V4.pod, 40000), ("198.18.0.1", 53))
        assert addresses(only(g.send(CLIENTS, [theirs]), ENDPOINTS))[1] == "10.244.2.50"


# ---- workers ----


@FAMILIES
async def test_directions_of_a_flow_on_different_workers(a: Addresses) -> None:
    with router(workers=2) as g:
        await programme(g, everything(4))
        requests = [packet(Protocol.TCP, (a.pod, 40000 + i), (a.vip, 80)) for i in range(500)]
        there = g.send(CLIENTS, requests, worker=0)[ENDPOINTS]
        assert len(there) == 500
        chosen = {ports(p)[0]: addresses(p)[1] for p in there}
        assert set(chosen.values()) == set(a.endpoints)
        answers = [
            packet(Protocol.TCP, (endpoint, ENDPOINT_PORT), (a.pod, port), flags="SA")
            for port, endpoint in chosen.items()
        ]
        back = g.send(ENDPOINTS, answers, worker=1)[CLIENTS]
        assert sorted(back) == sorted(forwarded(p, source=(a.vip, 80)) for p in answers)
        # And the other way round: the client's next segments on the worker that made no session.
        more = [packet(Protocol.TCP, (a.pod, port), (a.vip, 80), b"more", flags="A") for port in chosen]
        again = g.send(CLIENTS, more, worker=1)[ENDPOINTS]
        assert sorted(again) == sorted(
            forwarded(p, destination=(chosen[ports(p)[0]], ENDPOINT_PORT)) for p in more
        )
        assert (await counters(g))["sessionsCreated"] == 500


@FAMILIES
async def test_the_same_flows_begin_on_both_workers_at_once(a: Addresses) -> None:
    """Whoever comes first makes the session; both send the flow to its endpoint."""
    flows = 2000
    with router(workers=2) as g:
        await programme(g, everything(4))
        requests = [packet(Protocol.TCP, (a.pod, 20000 + i), (a.vip, 80)) for i in range(flows)]
        there = g.send(CLIENTS, requests, workers=(0, 1), rate=50_000)[ENDPOINTS]
        assert len(there) == 2 * flows
        chosen = {(ports(p)[0], addresses(p)[1]) for p in there}
        assert len(chosen) == flows
        assert {endpoint for _, endpoint in chosen} == set(a.endpoints)
        assert (await counters(g))["sessionsCreated"] == flows


async def test_endpoints_are_replaced_without_a_barrier() -> None:
    """100,000 endpoints of 1,000 Services, under load: the workers never stop, no packet is lost."""
    old, new = two_sides()
    with router(workers=1, **ROOM) as g:
        await programme(g, old)
        request = packet(Protocol.UDP, (V4.pod, 40000), (V4.vip, 80))
        g.send(CLIENTS, [request])
        batch = difference(old, new)
        async with g.engine.dataplane() as dataplane:
            async with under_load(g, dataplane, 20_000):
                # To ask stops the workers once: a session of the command line.
                before, asked = barriers(g), barriers(g)
                assert await dataplane.apply(batch) == []
                assert barriers(g) - asked == asked - before == 1
            assert (await dataplane.stats()).counters["sessionsCreated"] == 1
        one = Service("one", 4, Protocol.UDP, 53, (("10.244.2.7", 53),), vip="10.96.7.7")
        await programme(g, [*new, *one.records()], new)
        probe = packet(Protocol.UDP, (V4.pod, 40000), ("10.96.7.7", 53))
        assert addresses(only(g.send(CLIENTS, [probe]), ENDPOINTS))[1] == "10.244.2.7"
