"""kgtpu between packet generators: what goes in and comes out, byte by byte, and by which nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.packet import Raw
from tests.contract.engine_gtpu import (
    ECHO_REQUEST,
    ECHO_RESPONSE,
    ERROR_INDICATION,
    I4,
    I6,
    O4,
    O6,
    PORT,
    Outer,
    container,
    encapsulated,
    gtp,
    gtpu,
    hop,
    tunnel,
    ue,
    unwrap,
)
from tests.contract.engine_packets import ICMP, IP, UDP, addresses, network, packet, parse
from tests.contract.engine_services import V4, V6
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import (
    ALL,
    CHECKS,
    FIB,
    NETWORK,
    OTHER_ROUTERS,
    PEERS,
    ROUTERS,
    counters,
    down,
    gateway,
    programme,
    route,
    setting,
    up,
    without_ids,
)

from vpp_operator.dataplane.records import GtpuPsc, GtpuSwitch, Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
FORMS = {"off": ALL & ~GtpuSwitch.BYPASS, "feature": ALL, "fib": ALL | FIB}


@pytest.fixture(scope="module")
def vpp() -> Iterator[Graph]:
    with gateway() as g:
        yield g


@OUTER
@pytest.mark.parametrize("psc", [GtpuPsc.NONE, GtpuPsc.DL, GtpuPsc.UL], ids=["plain", "dl", "ul"])
async def test_both_ways_byte_by_byte(vpp: Graph, o: Outer, psc: GtpuPsc) -> None:
    records = gtpu(o, psc=psc, qfi=9)
    await programme(vpp, records)
    try:
        ups = [up(i, b"x" * n) for i in (I4, I6) for n in (1, 64, 1300)]
        extensions = None if psc == GtpuPsc.NONE else container(psc, 9)
        flags = {} if extensions is None else {"E": 1, "next_ex": 0x85}
        out = vpp.send(PEERS, [gtp(o, p, extensions=extensions, **flags) for p in ups])
        assert out == {PEERS: [], NETWORK: [hop(p) for p in ups]}

        downs = [down(i, b"x" * n) for i in (I4, I6) for n in (1, 64, 1300)]
        out = vpp.send(NETWORK, downs)
        assert out[NETWORK] == []
        wanted = [
            encapsulated(o, hop(p), got, psc=psc, qfi=9) for p, got in zip(downs, out[PEERS], strict=True)
        ]
        assert out[PEERS] == wanted
    finally:
        await programme(vpp, [], records)


# ---- the six switches ----

NODES = {
    "off": ({"ip4-local", "ip4-udp-lookup", "kgtpu4-input"}, {"kgtpu4-bypass", "kgtpu4-local"}),
    "feature": ({"kgtpu4-bypass"}, {"ip4-local", "ip4-receive", "ip4-udp-lookup", "kgtpu4-local"}),
    "fib": ({"kgtpu4-local"}, {"ip4-local", "ip4-receive", "ip4-udp-lookup", "kgtpu4-bypass"}),
}
"""Nodes that an outer packet over IPv4 passes, and that it does not, by the form of gtpuBypass."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("skip_inner", [False, True], ids=["", "skip-inner"])
@pytest.mark.parametrize("skip_outer", [False, True], ids=["", "skip-outer"])
async def test_each_switch_changes_the_way_and_not_the_bytes(
    vpp: Graph, form: str, skip_inner: bool, skip_outer: bool
) -> None:
    bits = FORMS[form] & ~GtpuSwitch.SKIP_INNER_IP_INPUT & ~GtpuSwitch.SKIP_OUTER_LOOKUP
    bits |= GtpuSwitch.SKIP_INNER_IP_INPUT if skip_inner else GtpuSwitch(0)
    bits |= GtpuSwitch.SKIP_OUTER_LOOKUP if skip_outer else GtpuSwitch(0)
    records = [*gtpu(O4), setting(bits)]
    await programme(vpp, records)
    try:
        before = await counters(vpp)
        vpp.cli("clear runtime")
        ups = [up(i, b"x" * n) for i in (I4, I6) for n in range(1, 20)]
        assert vpp.send(PEERS, [gtp(O4, p) for p in ups]) == {PEERS: [], NETWORK: [hop(p) for p in ups]}
        seen = vpp.nodes()
        passed, avoided = NODES[form]
        passed = {"ip4-receive" if n == "ip4-local" and "ip4-receive" in seen else n for n in passed}
        assert passed <= seen, seen
        assert not avoided & seen, seen
        assert ("ip6-input" in seen) is not skip_inner, seen

        vpp.cli("clear runtime")
        downs = [down(i, b"x" * n) for i in (I4, I6) for n in range(1, 20)]
        out = vpp.send(NETWORK, downs)
        assert out[PEERS] == [encapsulated(O4, hop(p), got) for p, got in zip(downs, out[PEERS], strict=True)]
        grown = {name: n - before.get(name, 0) for name, n in (await counters(vpp)).items()}
        assert grown["gtpuBypassed"] == (0 if form == "off" else len(ups))
        assert grown["gtpuInnerInputSkipped"] == (len(ups) if skip_inner else 0)
        assert grown["gtpuOuterLookupSkipped"] == (len(downs) if skip_outer else 0)
        async with vpp.engine.dataplane() as dataplane:
            effect = (await dataplane.stats()).gtpu_switches
        assert effect["gtpuBypass"] == ("off" if form == "off" else "on")
        assert effect.get("gtpuBypassForm", "off") == form
        assert effect["skipInnerIpInput"] == ("on" if skip_inner else "off")
        assert effect["skipOuterLookup"] == ("on" if skip_outer else "off")
    finally:
        await programme(vpp, [], records)


@pytest.fixture(scope="module")
def verdicts(vpp: Graph) -> Callable[[bytes, bool], object]:
    async def ask(inner: bytes, on: bool) -> tuple[dict[str, list[bytes]], set[str]]:
        records = [*gtpu(O4), setting(ALL if on else ALL & ~GtpuSwitch.SKIP_INNER_IP_INPUT)]
        await programme(vpp, records)
        try:
            vpp.errors()
            out = vpp.send(PEERS, [gtp(O4, inner)])
            return out, {reason for reason in vpp.errors() if "neighbor" not in reason and "pg" not in reason}
        finally:
            await programme(vpp, [], records)

    return ask


@pytest.mark.parametrize("name", CHECKS)
async def test_skip_inner_ip_input_has_the_verdict_of_the_input_node(
    verdicts: Callable[[bytes, bool], object], name: str
) -> None:
    off, on = [await verdicts(CHECKS[name], state) for state in (False, True)]  # type: ignore[misc]
    assert without_ids(on[0]) == without_ids(off[0])
    assert on[1] == off[1]
    if name.startswith("good"):
        assert off[0][NETWORK] == [hop(CHECKS[name])]
    elif name in ("checksum", "version", "header-too-short", "fragment-offset-1", "length-below-header"):
        assert off[0] == {PEERS: [], NETWORK: []}
        assert off[1], "a drop that nobody counts"


# ---- signalling, and what is not for us ----


@OUTER
@pytest.mark.parametrize("form", FORMS)
async def test_echo_and_unknown_teid_are_answered(vpp: Graph, o: Outer, form: str) -> None:
    records = [*gtpu(o), setting(FORMS[form])]
    await programme(vpp, records)
    try:
        echo = bytes(
            network(o.peer, o.local)
            / UDP(sport=40000, dport=PORT)
            / GTP_U_Header(teid=0, gtp_type=ECHO_REQUEST, S=1, seq=0x55)
        )
        out = vpp.send(PEERS, [echo, gtp(o, up(I4), teid=0x999)])
        assert out[NETWORK] == []
        response, error = out[PEERS]
        fields, _ = unwrap_to(response, 40000)
        assert (fields["type"], fields["sequence"], fields["teid"]) == (ECHO_RESPONSE, 0x55, 0)
        assert unwrap(error)[0]["type"] == ERROR_INDICATION
        assert addresses(response) == addresses(error) == (o.local, o.peer)
        assert parse(response).ttl == 64 if o.family == 4 else parse(response).hlim == 64
    finally:
        await programme(vpp, [], records)


def unwrap_to(raw: bytes, port: int) -> tuple[dict[str, int], bytes]:
    """As unwrap, of a message that goes to another port."""
    at = 20 if raw[0] >> 4 == 4 else 40
    assert raw[at + 2 : at + 4] == port.to_bytes(2, "big")
    return unwrap(raw[: at + 2] + PORT.to_bytes(2, "big") + raw[at + 4 :])


@pytest.mark.parametrize("form", FORMS)
async def test_outer_fragments_are_reassembled(vpp: Graph, form: str) -> None:
    records = [*gtpu(O4), setting(FORMS[form])]
    await programme(vpp, records)
    try:
        inner = up(I4, b"z" * 1200)
        whole = IP(gtp(O4, inner))
        pieces = []
        raw = bytes(whole.payload)
        for at in range(0, len(raw), 400):
            flags = "MF" if at + 400 < len(raw) else 0
            header = IP(src=O4.peer, dst=O4.local, id=77, proto=17, flags=flags, frag=at // 8)
            pieces.append(bytes(header / Raw(raw[at : at + 400])))
        for order in (pieces, pieces[::-1]):
            out = vpp.send(PEERS, order)
            assert out == {PEERS: [], NETWORK: [hop(inner)]}
    finally:
        await programme(vpp, [], records)


@pytest.mark.parametrize("form", FORMS)
async def test_other_packets_go_their_way(vpp: Graph, form: str) -> None:
    """To the local address, to the port at other addresses, and through."""
    records = [*gtpu(O4), setting(FORMS[form])]
    await programme(vpp, records)
    try:
        closed = packet(Protocol.UDP, ("192.0.2.1", 4000), (O4.local, 9))
        elsewhere = packet(Protocol.UDP, (O4.peer, 2152), (I4.host, PORT))
        out = vpp.send(PEERS, [closed, elsewhere])
        assert out[NETWORK] == [hop(elsewhere)]
        assert [(p[ICMP].type, p[ICMP].code) for p in map(parse, out[PEERS])] == [(3, 3)]
        nobody = packet(Protocol.UDP, ("192.0.2.1", 4000), ("203.0.113.1", PORT))
        out = vpp.send(PEERS, [nobody])
        assert [(p[ICMP].type, p[ICMP].code) for p in map(parse, out[PEERS])] == [(3, 3)]
    finally:
        await programme(vpp, [], records)


@OUTER
@pytest.mark.parametrize("form", ["feature", "fib"])
async def test_gtpu_and_others_in_one_vector(vpp: Graph, o: Outer, form: str) -> None:
    """Wherever in a vector the first G-PDU is, and whatever follows it, each packet goes its own way."""
    v = V4 if o is O4 else V6
    i = I4 if o is O4 else I6
    records = [*gtpu(o), setting(FORMS[form])]
    await programme(vpp, records)
    try:
        inner = up(i, b"inside")
        ours = gtp(o, inner)
        for before in (0, 1, 3, 4, 5, 8, 13):
            others = [
                packet(
                    (Protocol.UDP, Protocol.TCP)[n % 2],
                    (v.outside, 2000 + n),
                    (i.host, (80, PORT)[n % 3 == 1]),
                )
                for n in range(before + 6)
            ]
            sent = [*others[:before], ours, *others[before : before + 3], ours, *others[before + 3 :]]
            passed = (await counters(vpp))["gtpuBypassed"]
            out = vpp.send(PEERS, sent)
            assert out[PEERS] == []
            assert sorted(out[NETWORK]) == sorted([hop(p) for p in others] + 2 * [hop(inner)])
            assert (await counters(vpp))["gtpuBypassed"] - passed == 2
    finally:
        await programme(vpp, [], records)


async def test_nested_gtpu_is_dropped(vpp: Graph) -> None:
    records = [*gtpu(O4), tunnel(O4, local_teid=0x202), ue(O4, "10.60.0.6/32", 0x202)]
    await programme(vpp, records)
    try:
        nested = bytes(
            IP(src=I4.ue, dst=O4.local)
            / UDP(sport=9, dport=PORT)
            / GTP_U_Header(teid=0x202, gtp_type=255)
            / Raw(packet(Protocol.UDP, ("10.60.0.6", 1), (I4.host, 2)))
        )
        assert vpp.send(PEERS, [gtp(O4, nested)]) == {PEERS: [], NETWORK: []}
        assert (await counters(vpp))["gtpuNested"] == 1
    finally:
        await programme(vpp, [], records)


# ---- the way to a peer ----


@pytest.mark.parametrize("skip", [True, False], ids=["adjacency", "lookup"])
async def test_the_way_follows_the_routes(vpp: Graph, skip: bool) -> None:
    records = [*gtpu(O4), setting(ALL if skip else ALL & ~GtpuSwitch.SKIP_OUTER_LOOKUP)]
    await programme(vpp, records)
    packets = [down(I4), down(I6)]

    def goes() -> bool:
        return len(vpp.send(NETWORK, packets)[PEERS]) == 2

    try:
        assert goes()
        route(vpp, O4, ROUTERS[4], delete=True)
        assert not goes(), "no route"
        if skip:
            assert (await counters(vpp))["unresolved"] >= 2
        route(vpp, O4, OTHER_ROUTERS[4])
        assert goes()
        route(vpp, O4, OTHER_ROUTERS[4], delete=True)
        vpp.cli("ip route add 198.51.100.0/24 via 10.99.0.1")  # recursive
        assert not goes(), "its next hop has no route yet"
        vpp.cli(f"ip route add 10.99.0.1/32 via {ROUTERS[4]} {PEERS}")
        assert goes()
        vpp.cli(f"ip route add {O4.peer}/32 via 192.0.2.77 {PEERS}")
        assert not goes(), "the neighbour is not known"
        vpp.cli(f"set ip neighbor {PEERS} 192.0.2.77 02:76:70:70:20:00 static")
        assert goes()
        vpp.cli(f"ip route del {O4.peer}/32 via 192.0.2.77 {PEERS}")
        vpp.cli(f"ip route add {O4.peer}/32 via {ROUTERS[4]} {PEERS} via {OTHER_ROUTERS[4]} {PEERS}")
        assert goes(), "two ways at once"
    finally:
        for command in (
            f"set ip neighbor del {PEERS} 192.0.2.77 02:76:70:70:20:00",
            f"ip route del {O4.peer}/32",
            "ip route del 198.51.100.0/24",
            f"ip route del 10.99.0.1/32 via {ROUTERS[4]} {PEERS}",
        ):
            vpp.engine.cli(command)
        route(vpp, O4, ROUTERS[4])
        await programme(vpp, [], records)


@OUTER
async def test_the_link_of_the_peer_limits_inner_packets(vpp: Graph, o: Outer) -> None:
    records = gtpu(o)
    await programme(vpp, records)
    vpp.cli(f"set interface mtu packet 1300 {PEERS}")
    try:
        fits = 1300 - o.overhead
        whole = down(I4, b"x" * (fits - 28))
        out = vpp.send(NETWORK, [whole])
        assert [len(p) for p in out[PEERS]] == [1300]
        big = IP(down(I4, b"x" * (fits - 27)))
        big.flags = "DF"
        del big.chksum
        answers = vpp.send(NETWORK, [bytes(big), down(I6, b"x" * (fits - 47))])[NETWORK]
        four = next(p for p in map(parse, answers) if p.version == 4)
        six = next(p for p in map(parse, answers) if p.version == 6)
        assert (four[ICMP].type, four[ICMP].code, four[ICMP].nexthopmtu) == (3, 4, fits)
        assert max(fits, 1280) == six.payload.mtu
        big.flags = 0
        del big.chksum
        out = vpp.send(NETWORK, [bytes(big)])
        assert len(out[PEERS]) == 2, "fragments of the inner packet"
    finally:
        vpp.cli(f"set interface mtu packet 1500 {PEERS}")
        await programme(vpp, [], records)


async def test_a_miss_in_the_pool_is_answered(vpp: Graph) -> None:
    records = gtpu(O4)
    await programme(vpp, records)
    try:
        out = vpp.send(NETWORK, [packet(Protocol.UDP, (I4.host, 5), (I4.stranger, 6))])
        assert out[PEERS] == []
        assert [(p[ICMP].type, p[ICMP].code) for p in map(parse, out[NETWORK])] == [(3, 1)]
    finally:
        await programme(vpp, [], records)


async def test_a_user_is_told_what_cannot_be_sent_on(vpp: Graph) -> None:
    """By the configured source of ICMP errors: the interface that users come in by has no address."""
    records = gtpu(O4)
    await programme(vpp, records)
    vpp.cli(f"set interface mtu packet 1300 {NETWORK}")
    before = await counters(vpp)
    try:
        dead = [up(I4, ttl=1), up(I6, ttl=1)]
        big = IP(up(I4, b"x" * 1300))
        big.flags = "DF"
        del big.chksum
        sent = [*dead, bytes(big), up(I6, b"x" * 1300)]
        answers = []
        for raw in sent:
            out = vpp.send(PEERS, [gtp(O4, raw)])
            assert out[NETWORK] == []
            answers += [parse(unwrap(answer)[1]) for answer in out[PEERS]]
        late4, late6, big4, big6 = answers
        assert [a.src for a in answers] == [V4.node, V6.node] * 2
        assert [a.dst for a in answers] == [I4.ue, I6.ue] * 2
        assert (late4[ICMP].type, late4[ICMP].code) == (11, 0)
        assert (big4[ICMP].type, big4[ICMP].code, big4[ICMP].nexthopmtu) == (3, 4, 1300)
        assert (late6.payload.type, late6.payload.code) == (3, 0)
        assert (big6.payload.type, big6.payload.mtu) == (2, 1300)
        for answer, raw in zip(answers, sent, strict=True):
            told = bytes(answer[ICMP].payload if answer.version == 4 else answer.payload.payload)
            assert raw.startswith(told[: len(raw)]), "about the packet as it was sent"
        grown = {name: n - before.get(name, 0) for name, n in (await counters(vpp)).items()}
        assert (grown["ttlExpired"], grown["tooBig"]) == (2, 2)
    finally:
        vpp.cli(f"set interface mtu packet 1500 {NETWORK}")
        await programme(vpp, [], records)


async def test_errors_about_others_are_still_vpps(vpp: Graph) -> None:
    records = gtpu(O4)
    await programme(vpp, records)
    try:
        out = vpp.send(NETWORK, [packet(Protocol.UDP, (I4.host, 5), (O4.peer, 6), ttl=1)])
        (answer,) = map(parse, out[NETWORK])
        assert (answer.src, answer[ICMP].type) == ("203.0.113.1", 11)
    finally:
        await programme(vpp, [], records)


# ---- addresses that VPP does not have itself ----


async def test_an_address_of_the_host_is_taken_without_being_received() -> None:
    """The host's own traffic to that address passes through."""
    with gateway(own=False) as g:
        host = "192.0.2.60"
        g.cli(
            f"set ip neighbor {PEERS} {host} 02:76:70:70:20:00 static",
            f"ip route add {O4.local}/32 via {host} {PEERS}",
        )
        for form in FORMS:
            records = [*gtpu(O4), setting(FORMS[form])]
            await programme(g, records)
            inner = up(I4, b"q" * 900)
            other = packet(Protocol.TCP, (O4.peer, 1), (O4.local, 443))
            big = IP(src=O4.peer, dst=O4.local, id=9, proto=6) / Raw(b"t" * 64)
            raw = bytes(IP(gtp(O4, inner)).payload)
            pieces = [
                bytes(IP(src=O4.peer, dst=O4.local, id=5, proto=17, flags="MF") / Raw(raw[:480])),
                bytes(IP(src=O4.peer, dst=O4.local, id=5, proto=17, frag=60) / Raw(raw[480:])),
            ]
            out = g.send(PEERS, [gtp(O4, inner), other, bytes(big), *pieces])
            assert out == {NETWORK: [hop(inner)] * 2, PEERS: [hop(other), hop(bytes(big))]}, form
            dns = bytes(UDP(sport=9, dport=53, len=968) / Raw(b"d" * 960))
            pieces = [
                bytes(IP(src=O4.peer, dst=O4.local, id=11, proto=17, flags="MF") / Raw(dns[:480])),
                bytes(IP(src=O4.peer, dst=O4.local, id=11, proto=17, frag=60) / Raw(dns[480:])),
            ]
            out = g.send(PEERS, pieces)
            assert out == {NETWORK: [], PEERS: [hop(p) for p in pieces]}, form
            await programme(g, [], records)
        assert "kgtpu: local" not in g.engine.cli(f"show ip fib {O4.local}/32")
