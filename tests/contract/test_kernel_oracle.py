"""Sequences of packets, table changes and time through the Service kernel, judged by kube-proxy's rules."""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.packet import Packet, Raw
from tests.contract.kernel_harness import Action, Kernel, Outcome, Way
from tests.contract.kernel_model import (
    TCP_FLAGS,
    Endpoint,
    Flow,
    Model,
    Service,
    Tuple,
    check_checksums,
    check_header,
    parse,
    ttl,
    tuple_of,
)

from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Verdict,
    service_id,
)


class Places:
    """The same addresses in one family."""

    def __init__(self, family: int) -> None:
        four = family == 4
        self.family = family
        self.node = "192.0.2.10" if four else "2001:db8::10"
        self.pods = "10.244.1.0/24" if four else "fd00:244:1::/64"
        self.range = "10.96.0.0/16" if four else "fd00:96::/112"
        self.vips = ("10.96.0.10", "10.96.0.11") if four else ("fd00:96::10", "fd00:96::11")
        self.unallocated = "10.96.0.99" if four else "fd00:96::99"
        self.external = "198.51.100.7" if four else "2001:db8:51::7"
        self.outside = "203.0.113.9" if four else "2001:db8:113::9"
        pods = ("10.244.1.5", "10.244.1.6") if four else ("fd00:244:1::5", "fd00:244:1::6")
        far = ("10.244.2.7", "10.244.2.8") if four else ("fd00:244:2::7", "fd00:244:2::8")
        self.endpoints = (*pods, *far)
        """The first two are pods of this node and clients, too."""
        self.clients = (*pods, self.outside)

    def services(self) -> list[Service]:
        """Two protocols on one address, one node port number in both, endpoints shared by all."""
        return [
            Service("web", 6, 80, self.vips[0], node_port=30080),
            Service("dns", 17, 53, self.vips[0], node_port=30053),
            Service("api", 6, 443, self.vips[1], external=self.external),
            Service("log", 17, 80, self.vips[1], external=self.external, node_port=30080),
        ]

    def packet(self, t: Tuple, kind: str, payload: bytes, hops: int = 64, summed: bool = True) -> bytes:
        """A TCP or UDP packet."""
        if t.proto == 6:
            l4: Packet = TCP(sport=t.sport, dport=t.dport, flags=TCP_FLAGS[kind], seq=1000, ack=2000)
        else:
            l4 = UDP(sport=t.sport, dport=t.dport)
            if not summed and self.family == 4:
                l4.chksum = 0
        return bytes(self.ip(t.src, t.dst, hops) / l4 / Raw(payload))

    def ip(self, src: str, dst: str, hops: int = 64) -> Packet:
        """An IP header."""
        return IP(src=src, dst=dst, ttl=hops) if self.family == 4 else IPv6(src=src, dst=dst, hlim=hops)


def records(p: Places, model: Model) -> list[Record]:
    """What the agent would program."""
    node = ipaddress.ip_address(p.node)
    found: list[Record] = [
        ConfigRecord(ConfigKey.SNAT_PORT_RANGE, 0, model.ports[0] | model.ports[1] << 16),
        ConfigRecord(ConfigKey.SNAT_ADDRESS, p.family, 0, node),
        ConfigRecord(ConfigKey.ICMP_SOURCE, p.family, 0, node),
        PrefixRecord(ipaddress.ip_network(p.node), PrefixClass.HOST),
        PrefixRecord(ipaddress.ip_network(p.pods), PrefixClass.POD),
        PrefixRecord(ipaddress.ip_network(p.range), PrefixClass.SERVICE),
    ]
    if model.masquerade_all:
        found.append(ConfigRecord(ConfigKey.MASQUERADE_ALL, 0, 1))
    for service in model.services.values():
        if not service.present:
            continue
        protocol = Protocol(service.proto)
        ident = service_id("test", service.name, "", protocol, p.family)
        verdict = Verdict.DROP if service.drops else Verdict.REJECT
        found.append(ServiceRecord(ident, p.family, protocol, empty_verdict=verdict))
        for kind, address in (
            (FrontendKind.CLUSTER_IP, service.vip),
            (FrontendKind.EXTERNAL_IP, service.external),
        ):
            if address:
                where = ipaddress.ip_address(address)
                found.append(FrontendRecord(p.family, protocol, service.port, where, ident, kind))
        if service.node_port:
            found.append(
                FrontendRecord(p.family, protocol, service.node_port, None, ident, FrontendKind.NODE_PORT)
            )
        usable = service.usable()
        for address, state in service.endpoints.items():
            if state is Endpoint.ABSENT:
                continue
            flags = EndpointFlag(0)
            if state.serving:
                flags |= EndpointFlag.SERVES
            if address in usable:
                flags |= EndpointFlag.CLUSTER
            found.append(EndpointRecord(ident, ipaddress.ip_address(address), 8080, flags))
    return found


KINDS = st.sampled_from(["SYN", "ACK", "DATA", "FIN", "RST"])
ANSWERS = st.sampled_from(["SYNACK", "ACK", "DATA", "FIN", "RST"])
PAYLOADS = st.sampled_from([0, 1, 2, 11, 100, 501]).map(lambda size: bytes(i * 31 % 256 for i in range(size)))
WORKERS = st.integers(0, 1)
HOPS = st.sampled_from([64] * 9 + [1])
OPENING = [
    ("client", "SYN"),
    ("endpoint", "SYNACK"),
    ("client", "ACK"),
    ("client", "DATA"),
    ("endpoint", "ACK"),
]
ENDINGS = [
    [],
    [("client", "FIN"), ("endpoint", "ACK")],
    [("endpoint", "FIN")],
    [("client", "FIN"), ("endpoint", "ACK"), ("endpoint", "FIN")],
    [("client", "FIN"), ("endpoint", "FIN"), ("client", "ACK")],
    [("endpoint", "RST")],
    [("client", "RST")],
]
"""A connection as it should be, up to some point; then pauses as long as the time-outs, and anything."""
PAUSES = st.sampled_from(["0.1", "8", "11", "28", "31", "55", "61", "100", "119", "121", "3500", "3601"])
ANYTHING = st.one_of(
    st.tuples(st.just("client"), st.sampled_from(["SYN", "ACK", "DATA", "FIN", "RST"])),
    st.tuples(st.just("endpoint"), st.sampled_from(["SYNACK", "ACK", "DATA", "FIN", "RST"])),
    st.tuples(st.just("wait"), PAUSES),
)
SCRIPTS = st.builds(
    lambda opened, ending, more: OPENING[:opened] + ending + more,
    st.sampled_from([1, 2, 3, 5, 5, 5]),
    st.sampled_from(ENDINGS),
    st.lists(ANYTHING, max_size=6),
)
STATES = st.sampled_from([Endpoint.READY] * 4 + [*Endpoint])


class Sequences(RuleBasedStateMachine):
    """One node in one family."""

    directory: ClassVar[Path]
    seen: ClassVar[Counter[str]] = Counter()
    steps: ClassVar[int] = 0

    kernel: Kernel | None = None

    @initialize(
        family=st.sampled_from([4, 6]),
        seed=st.integers(1, 1 << 32),
        masquerade_all=st.booleans(),
        ports=st.sampled_from([(20000, 20003), (20000, 20015), (20000, 29999)]),
        states=st.lists(STATES, min_size=16, max_size=16),
    )
    def begin(
        self, family: int, seed: int, masquerade_all: bool, ports: tuple[int, int], states: list[Endpoint]
    ) -> None:
        self.places = p = Places(family)
        self.kernel = Kernel(self.directory, seed)
        self.model = Model(family, p.node, p.pods, p.range, masquerade_all, ports)
        self.programmed: list[Record] = []
        self.fragment_id = 1
        for i, service in enumerate(p.services()):
            self.model.services[service.name] = service
            for k, address in enumerate(p.endpoints):
                service.births[address] = 0
                self._set(service, address, states[4 * i + k])
        self._program()

    def teardown(self) -> None:
        if self.kernel is None:
            return
        live = sum(self.model.life(flow) == "live" for flow in self.model.flows)
        assert live <= self.kernel.sessions <= len(self.model.flows), "sessions are flows, one each"
        Sequences.seen.update(self.model.judged)
        self.kernel.close()

    @staticmethod
    def _set(service: Service, address: str, state: Endpoint) -> None:
        before = service.endpoints.get(address, Endpoint.ABSENT)
        service.births[address] += before is Endpoint.ABSENT and state is not Endpoint.ABSENT
        service.endpoints[address] = state

    def _program(self) -> None:
        assert self.kernel
        wanted = records(self.places, self.model)
        self.kernel.change(self.programmed, wanted)
        self.programmed = wanted

    def _send(self, raw: bytes, kind: str, worker: int) -> str:
        assert self.kernel
        Sequences.steps += 1
        return self.model.judge(raw, kind, self.kernel.send(raw, worker))

    # ---- the tables change ----

    @rule(name=st.sampled_from(["web", "dns", "api", "log"]), number=st.integers(0, 3), state=STATES)
    def endpoint_changes(self, name: str, number: int, state: Endpoint) -> None:
        service = self.model.services[name]
        assume(service.present)
        self._set(service, self.places.endpoints[number], state)
        self._program()
        Sequences.steps += 1

    @rule(name=st.sampled_from(["web", "dns", "api", "log"]), states=st.lists(STATES, min_size=4, max_size=4))
    def slice_changes(self, name: str, states: list[Endpoint]) -> None:
        service = self.model.services[name]
        assume(service.present)
        for address, state in zip(self.places.endpoints, states, strict=True):
            self._set(service, address, state)
        self._program()
        Sequences.steps += 1

    @rule(name=st.sampled_from(["web", "dns", "api", "log"]), drops=st.booleans())
    def service_comes_or_goes(self, name: str, drops: bool) -> None:
        service = self.model.services[name]
        service.present = not service.present
        service.drops = drops
        for address in self.places.endpoints:
            self._set(service, address, Endpoint.ABSENT)
        if service.present:
            for address in self.places.endpoints[:2]:
                self._set(service, address, Endpoint.READY)
        self._program()
        Sequences.steps += 1

    @precondition(lambda self: self.kernel and self.model.flows)
    @rule(
        number=st.integers(0, 1 << 16),
        state=STATES,
        kind=st.sampled_from(["SYN", "DATA"]),
        back=st.booleans(),
    )
    def endpoint_of_a_flow_changes(self, number: int, state: Endpoint, kind: str, back: bool) -> None:
        """UDP goes to one that serves, if there is one; TCP stays; an unanswered SYN goes elsewhere."""
        flow = self._flow(number)
        service = self.model.services[flow.service]
        assume(service.present)
        self._set(service, flow.sent.dst, Endpoint.ENDED if back else state)
        self._program()
        self._send(self.places.packet(flow.original, kind, b"still there?"), kind, 0)
        if back:
            self._set(service, flow.sent.dst, state)
            self._program()

    # ---- packets ----

    @rule(
        name=st.sampled_from(["web", "dns", "api", "log"]),
        by=st.sampled_from(["vip", "vip", "external", "node"]),
        client=st.integers(0, 2),
        sport=st.integers(1024, 1027),
        kind=st.sampled_from(["SYN", "SYN", "SYN", "ACK", "DATA", "FIN", "RST"]),
        payload=PAYLOADS,
        hops=st.sampled_from([64, 64, 64, 64, 1]),
        summed=st.booleans(),
        worker=WORKERS,
    )
    def client_sends(
        self,
        name: str,
        by: str,
        client: int,
        sport: int,
        kind: str,
        payload: bytes,
        hops: int,
        summed: bool,
        worker: int,
    ) -> None:
        service = self.model.services[name]
        dst = {"vip": service.vip, "external": service.external, "node": self.places.node}[by]
        dport = service.node_port if by == "node" else service.port
        assume(dst and dport)
        t = Tuple(self.places.clients[client], sport, dst, dport, service.proto)
        self._send(self.places.packet(t, kind, payload, hops, summed), kind, worker)

    @precondition(lambda self: self.kernel and self.model.flows)
    @rule(
        number=st.integers(0, 1 << 16),
        kind=KINDS,
        payload=PAYLOADS,
        worker=WORKERS,
        hops=HOPS,
    )
    def client_goes_on(self, number: int, kind: str, payload: bytes, worker: int, hops: int) -> None:
        flow = self._flow(number)
        self._send(self.places.packet(flow.original, kind, payload, hops), kind, worker)

    @precondition(lambda self: self.kernel and self.model.flows)
    @rule(
        number=st.integers(0, 1 << 16),
        kind=ANSWERS,
        payload=PAYLOADS,
        worker=WORKERS,
        hops=HOPS,
    )
    def endpoint_answers(self, number: int, kind: str, payload: bytes, worker: int, hops: int) -> None:
        flow = self._flow(number)
        self._send(self.places.packet(flow.answer, kind, payload, hops), kind, worker)

    @rule(
        name=st.sampled_from(["web", "dns", "api", "log"]),
        by=st.sampled_from(["vip", "vip", "external", "node"]),
        client=st.integers(0, 2),
        sport=st.integers(1024, 1029),
        script=SCRIPTS,
        payload=PAYLOADS,
    )
    def conversation(
        self, name: str, by: str, client: int, sport: int, script: list[tuple[str, str]], payload: bytes
    ) -> None:
        """Packets of one flow both ways, each direction on a worker of its own, until it is refused."""
        p, service = self.places, self.model.services[name]
        dst = {"vip": service.vip, "external": service.external, "node": p.node}[by]
        dport = service.node_port if by == "node" else service.port
        assume(dst and dport and service.present and service.usable())
        t = Tuple(p.clients[client], sport, dst, dport, service.proto)
        for way, kind in script:
            flow = self.model.forward.get(t)
            if way == "wait":
                self._let_pass(float(kind))
            elif way == "client":
                self._send(p.packet(t, kind, payload), kind, 0)
            elif flow:
                self._send(p.packet(flow.answer, kind, payload), kind, 1)

    @rule(
        dst=st.sampled_from(["undefined", "unallocated", "outside", "node", "endpoint"]),
        proto=st.sampled_from([6, 17]),
        client=st.integers(0, 2),
    )
    def packet_of_no_service(self, dst: str, proto: int, client: int) -> None:
        p = self.places
        address = {
            "undefined": p.vips[0],
            "unallocated": p.unallocated,
            "outside": p.outside,
            "node": p.node,
            "endpoint": p.endpoints[3],
        }[dst]
        self._send(p.packet(Tuple(p.clients[client], 5000, address, 9999, proto), "SYN", b"x"), "SYN", 0)

    @rule(dst=st.sampled_from(["vip", "unallocated", "outside"]))
    def ping(self, dst: str) -> None:
        assert self.kernel
        p = self.places
        address = {"vip": p.vips[0], "unallocated": p.unallocated, "outside": p.outside}[dst]
        echo = ICMP(type=8) if p.family == 4 else ICMPv6EchoRequest()
        raw = bytes(p.ip(p.clients[0], address) / echo / Raw(b"ping"))
        self.model.by_address(parse(raw), raw, self.kernel.send(raw))
        Sequences.steps += 1

    # ---- ICMP errors about flows ----

    @precondition(lambda self: self.kernel and self.model.flows)
    @rule(
        number=st.integers(0, 1 << 16),
        to_client=st.booleans(),
        by_router=st.booleans(),
        exceeded=st.booleans(),
        cut=st.booleans(),
        payload=PAYLOADS,
    )
    def icmp_error(
        self, number: int, to_client: bool, by_router: bool, exceeded: bool, cut: bool, payload: bytes
    ) -> None:
        """The endpoint, the client or a router on the way complains about a translated packet."""
        assert self.kernel
        p, flow = self.places, self._flow(number)
        assume(self.model.life(flow) == "live")
        # the packet complained about, as it left; and as its sender knows it
        left, known = (flow.sent, flow.original) if to_client else (flow.returned, flow.answer)
        kind = "ACK" if flow.original.proto == 6 else ""
        original = p.packet(left, kind, payload, hops=9)
        cut_at = 28 if p.family == 4 else 48
        embedded = original[:cut_at] if cut and len(original) > cut_at else original
        whole = len(embedded) == len(original)
        sender = p.outside if by_router else left.dst
        if p.family == 4:
            icmp: Packet = ICMP(type=11, code=0) if exceeded else ICMP(type=3, code=3)
        else:
            icmp = ICMPv6TimeExceeded(code=0) if exceeded else ICMPv6DestUnreach(code=4)
        raw = bytes(p.ip(sender, left.src) / icmp / Raw(embedded))
        outcome = self.kernel.send(raw, number % 2)
        Sequences.steps += 1
        assert outcome.action is Action.FORWARD, outcome
        assert outcome.way is (Way.REVERSE if to_client else Way.FORWARD)
        out = parse(outcome.packet)
        head = 28 if p.family == 4 else 48
        assert out.dst == known.src, "to the one that sent the packet"
        assert out.src == known.dst, "from the one that it was sent to"
        assert ttl(out) == 63
        inner_raw = outcome.packet[head:]
        inner = parse(inner_raw)
        ports = 20 if p.family == 4 else 40
        got = (inner.src, inner_raw[ports : ports + 2], inner.dst, inner_raw[ports + 2 : ports + 4])
        assert got == (known.src, known.sport.to_bytes(2), known.dst, known.dport.to_bytes(2)), (
            "embedded packet"
        )
        check_checksums(outcome.packet)
        if whole:
            check_checksums(inner_raw)
        else:
            check_header(inner_raw)

    @rule(to_vip=st.booleans(), client=st.integers(0, 2))
    def icmp_error_about_nothing(self, to_vip: bool, client: int) -> None:
        assert self.kernel
        p = self.places
        dst = p.vips[0] if to_vip else p.clients[client]
        embedded = p.packet(Tuple(dst, 7, p.outside, 7, 17), "", b"x")
        icmp: Packet = ICMP(type=3, code=3) if p.family == 4 else ICMPv6DestUnreach(code=4)
        raw = bytes(p.ip(p.outside, dst) / icmp / Raw(embedded))
        self.model.by_address(parse(raw), raw, self.kernel.send(raw), may_answer=False)
        Sequences.steps += 1

    # ---- fragments ----

    @rule(
        name=st.sampled_from(["dns", "log"]),
        client=st.integers(0, 2),
        sport=st.integers(1024, 1027),
        order=st.permutations([0, 1, 2]),
        answer=st.booleans(),
        late=st.sampled_from([False, False, False, True]),
    )
    def datagram_in_fragments(
        self, name: str, client: int, sport: int, order: list[int], answer: bool, late: bool
    ) -> None:
        """What the first fragment gets, the others get; those before it wait, but not for ever."""
        assert self.kernel
        p, model = self.places, self.model
        service = model.services[name]
        t = Tuple(p.clients[client], sport, service.vip, service.port, 17)
        if answer:
            assume(t in model.forward)
            t = model.forward[t].answer
        known = model.forward.get(t) or model.reverse.get(t)
        assume(known is None or model.life(known) == "live")
        content = bytes(i * 7 % 256 for i in range(1300))
        whole = p.packet(t, "", content)
        pieces = self._cut(whole)
        outcomes: dict[int, list[tuple[Action, Way, bytes]]] = {0: [], 1: [], 2: []}
        held: list[int] = []
        for number in order:
            if late and number == 0:
                self._let_pass(0.25)
                for cookie, expired in self.kernel.ready():
                    assert expired and cookie in held, "held too long"
                    held.remove(cookie)
                assert not held
            outcome = self.kernel.send(pieces[number], cookie=number)
            Sequences.steps += 1
            if outcome.action is Action.HOLD:
                assert not outcomes[0], "held although the first is known"
                held.append(number)
                continue
            outcomes[number].append((outcome.action, outcome.way, outcome.packet))
            if number == 0:
                first = outcome
                for cookie, expired in self.kernel.ready():
                    assert not expired
                    held.remove(cookie)
                    again = self.kernel.send(pieces[cookie])
                    outcomes[cookie].append((again.action, again.way, again.packet))
        assert not held
        whole_out = first
        if first.action is Action.FORWARD and not (late and order[0] != 0):
            parts = [outcomes[i][0][2] for i in range(3)]
            assert all((o[0][0], o[0][1]) == (first.action, first.way) for o in outcomes.values())
            joined = self._join(parts)
            whole_out = type(first)(first.action, first.way, first.reason, joined)
            model.judge(whole, "", whole_out)
            return
        if first.action is Action.FORWARD:
            # some were given up: only the flow is to be remembered
            self._remember(whole, first.packet)
            return
        for number in (1, 2):
            assert all(action is Action.DROP for action, _, _ in outcomes[number])
        if first.action is Action.DROP:
            model.judge(whole, "", whole_out)
        else:
            model.judge(pieces[0], "", whole_out)

    def _remember(self, whole: bytes, first: bytes) -> None:
        """Judge a datagram of which only the first fragment got through, by putting its content back."""
        out = parse(first)
        body = tuple_of(out)
        content = bytes(parse(whole)[UDP].payload)
        raw = self.places.packet(body, "", content, hops=ttl(out))
        known = tuple_of(parse(whole))
        way = Way.REVERSE if known in self.model.reverse else Way.FORWARD
        self.model.judge(whole, "", Outcome(Action.FORWARD, way, "none", raw))

    def _cut(self, whole: bytes) -> list[bytes]:
        self.fragment_id += 1
        packet = parse(whole)
        if self.places.family == 4:
            packet.id = self.fragment_id
            del packet.chksum
            return [bytes(part) for part in fragment(IP(bytes(packet)), fragsize=480)]
        l4 = bytes(packet.payload)
        parts = fragment6(
            IPv6(src=packet.src, dst=packet.dst, hlim=packet.hlim)
            / IPv6ExtHdrFragment(id=self.fragment_id, nh=17)
            / Raw(l4),
            560,
        )
        return [bytes(part) for part in parts]

    def _join(self, parts: list[bytes]) -> bytes:
        """Reassemble; all fragments have the same addresses and hop count, and right header checksums."""
        decoded = [parse(part) for part in parts]
        assert len({(d.src, d.dst, ttl(d)) for d in decoded}) == 1
        if self.places.family == 4:
            for part in parts:
                check_header(part)
            body = b"".join(part[20:] for part in parts)
            return bytes(IP(src=decoded[0].src, dst=decoded[0].dst, ttl=decoded[0].ttl, proto=17) / Raw(body))
        body = b"".join(part[48:] for part in parts)
        return bytes(IPv6(src=decoded[0].src, dst=decoded[0].dst, hlim=decoded[0].hlim, nh=17) / Raw(body))

    # ---- time ----

    @rule(
        seconds=st.sampled_from(
            [0.01, 0.3, 1.0, 5.0, 9.0, 11.0, 29.0, 31.0, 65.0, 100.0, 125.0, 3500.0, 3700.0, 90000.0]
        )
    )
    def time_passes(self, seconds: float) -> None:
        self._let_pass(seconds)
        Sequences.steps += 1

    def _let_pass(self, seconds: float) -> None:
        assert self.kernel
        self.kernel.pass_time(seconds)
        self.model.pass_time(seconds)

    def _flow(self, number: int) -> Flow:
        return self.model.flows[number % len(self.model.flows)]


@pytest.fixture(scope="session")
def build_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel")


def test_sequences(build_directory: Path) -> None:
    """As many rounds as it takes for each situation to occur often: what comes up in one round is luck."""
    Sequences.directory = build_directory
    Sequences.steps = 0
    situations = ("first packet", "known flow", "answer", "flow anew")
    for _ in range(5):
        run_state_machine_as_test(
            Sequences,
            settings=settings(
                max_examples=120,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
        print(f"{Sequences.steps} steps: {dict(Sequences.seen)}")
        if Sequences.steps > 3000 and min(Sequences.seen[name] for name in situations) > 20:
            return
    pytest.fail(f"a situation hardly ever occurs: {dict(Sequences.seen)}")


@pytest.mark.parametrize(("family", "count"), [(4, 3), (6, 4)])
def test_new_flows_are_spread_evenly(build_directory: Path, family: int, count: int) -> None:
    """Shares within five standard deviations; then all stick to theirs; a SYN on a connection that was reset
    begins another one, which picks as any other does."""
    flows = 1000
    p = Places(family)
    kernel = Kernel(build_directory, 1)
    model = Model(family, p.node, p.pods, p.range, False, (20000, 29999))
    service = p.services()[0]
    model.services["web"] = service
    service.endpoints = dict.fromkeys(p.endpoints[:count], Endpoint.READY)
    service.births = dict.fromkeys(p.endpoints, 1)
    kernel.change([], records(p, model))

    def endpoint_of(kind: str, number: int, worker: int) -> str:
        t = Tuple(p.outside, 1024 + number, service.vip, 80, 6)
        outcome = kernel.send(p.packet(t, kind, b""), worker)
        assert outcome.action is Action.FORWARD
        return str(parse(outcome.packet).dst)

    homes = [endpoint_of("SYN", i, i % 2) for i in range(flows)]
    assert homes == [endpoint_of("DATA", i, 1 - i % 2) for i in range(flows)], "they stick"
    assert homes == [endpoint_of("RST", i, i % 2) for i in range(flows)]
    again = [endpoint_of("SYN", i, 1 - i % 2) for i in range(flows)]
    stayed = sum(a == b for a, b in zip(homes, again, strict=True))
    mean, deviation = flows / count, (flows * (1 / count) * (1 - 1 / count)) ** 0.5
    for share in (Counter(homes), Counter(again)):
        assert set(share) == set(p.endpoints[:count])
        assert all(abs(n - mean) < 5 * deviation for n in share.values()), share
    assert abs(stayed - mean) < 5 * deviation, "the second pick does not depend on the first"
    kernel.close()
