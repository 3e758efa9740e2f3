"""What a Service does to a packet, in plain Python and by kube-proxy's rules: the packet kernel's oracle.

It shares no code with the kernel. Where the kernel may choose (endpoint, source port) or where a time-out is
only known to within an eighth, the model knows the allowed set, takes over what it sees, and expects the flow
to stay so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPv6, in6_chksum
from scapy.packet import Packet
from scapy.utils import checksum
from tests.contract.kernel_harness import Action, Outcome, Way

TCP_FLAGS = {"SYN": "S", "SYNACK": "SA", "ACK": "A", "DATA": "PA", "FIN": "FA", "RST": "R"}
TIMEOUTS = {
    "SYN_SENT": 120.0,
    "SYN_RECV": 60.0,
    "ESTABLISHED": 86400.0,
    "FIN_WAIT": 120.0,
    "CLOSE_WAIT": 3600.0,
    "LAST_ACK": 30.0,
    "TIME_WAIT": 120.0,
    "CLOSE": 10.0,
    "UDP": 30.0,
    "UDP_REPLIED": 120.0,
}
"""nf_conntrack's, with kube-proxy's CLOSE_WAIT and ESTABLISHED (research, 1.7)."""
TICK = 0.14
"""Two ticks of the kernel's clock of sessions."""


class Endpoint(Enum):
    """Conditions of an endpoint, as EndpointSlices give them."""

    ABSENT = "absent"
    READY = "ready"
    TERMINATING = "terminating, serving"
    ENDED = "terminating, not serving"
    UNREADY = "not ready"

    @property
    def serving(self) -> bool:
        """Condition serving."""
        return self in (Endpoint.READY, Endpoint.TERMINATING)


@dataclass
class Service:
    """A service port: how it is reached and by whom it is served."""

    name: str
    proto: int
    port: int
    vip: str
    external: str = ""
    node_port: int = 0
    present: bool = True
    drops: bool = False
    """Empty verdict DROP (else REJECT)."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    births: dict[str, int] = field(default_factory=dict)
    """How often each endpoint has come."""

    def usable(self) -> list[str]:
        """Ready ones; if there are none, those that terminate but still serve (research, 1.3)."""
        ready = [a for a, state in self.endpoints.items() if state is Endpoint.READY]
        return ready or [a for a, state in self.endpoints.items() if state is Endpoint.TERMINATING]

    def any_serving(self) -> bool:
        """Whether a UDP flow that lost its endpoint has another one."""
        return any(state.serving for state in self.endpoints.values())


@dataclass(frozen=True)
class Tuple:
    """Addresses and ports of a packet."""

    src: str
    sport: int
    dst: str
    dport: int
    proto: int


@dataclass(eq=False)
class Flow:
    """A translated flow."""

    original: Tuple
    sent: Tuple
    """As its packets leave."""
    service: str
    birth: int
    started: str
    refreshed: float
    history: list[tuple[str, str]] = field(default_factory=list)

    @property
    def answer(self) -> Tuple:
        """As the endpoint's packets come in."""
        s = self.sent
        return Tuple(s.dst, s.dport, s.src, s.sport, s.proto)

    @property
    def returned(self) -> Tuple:
        """As they leave to the client."""
        o = self.original
        return Tuple(o.dst, o.dport, o.src, o.sport, o.proto)

    def state(self) -> str:
        """Connection tracking's state, from all that was seen."""
        if self.original.proto == 17:
            return "UDP_REPLIED" if any(way == "reverse" for way, _ in self.history) else "UDP"
        kinds = self.history
        if any(kind == "RST" for _, kind in kinds):
            return "CLOSE"
        fins = {way: i for i, (way, kind) in reversed(list(enumerate(kinds))) if kind == "FIN"}
        acks = [(way, i) for i, (way, kind) in enumerate(kinds) if kind in ("ACK", "DATA", "FIN")]
        if len(fins) == 2:
            return "TIME_WAIT" if any(i > max(fins.values()) for _, i in acks) else "LAST_ACK"
        if fins:
            [(closer, at)] = fins.items()
            return "CLOSE_WAIT" if any(way != closer and i > at for way, i in acks) else "FIN_WAIT"
        replies = [i for i, (way, kind) in enumerate(kinds) if way == "reverse" and kind == "SYNACK"]
        if replies and any(way == "forward" and i > replies[0] for way, i in acks):
            return "ESTABLISHED"
        if self.started != "SYN" and any(way == "reverse" for way, _ in acks):
            return "ESTABLISHED"
        return "SYN_RECV" if replies else "SYN_SENT"

    def over(self) -> bool:
        """A new SYN begins another connection."""
        return self.state() in ("TIME_WAIT", "CLOSE")


def parse(raw: bytes) -> Packet:
    """Decode an IP packet."""
    return (IP if raw[0] >> 4 == 4 else IPv6)(raw)


def transport(packet: Packet) -> Packet:
    """The TCP or UDP layer."""
    return packet[TCP] if TCP in packet else packet[UDP]


def tuple_of(packet: Packet) -> Tuple:
    """Addresses and ports of a decoded packet."""
    l4 = transport(packet)
    return Tuple(packet.src, l4.sport, packet.dst, l4.dport, 6 if TCP in packet else 17)


def check_checksums(raw: bytes) -> None:
    """Every checksum is what scapy computes; a UDP checksum of 0 is none (IPv4)."""
    packet = parse(raw)
    check_header(raw)
    l4 = raw[20:] if IP in packet else raw[40:]
    if UDP in packet and packet[UDP].chksum == 0:
        assert IP in packet, "a UDP checksum is mandatory in IPv6"
        return
    if ICMP in packet:
        assert checksum(l4) == 0, "ICMP checksum"
        return
    number = packet.proto if IP in packet else packet.nh
    pseudo = in4_chksum if IP in packet else in6_chksum
    assert pseudo(number, packet, l4) in (0, 0xFFFF), f"checksum of protocol {number}"


def check_header(raw: bytes) -> None:
    """Of the IPv4 header alone."""
    assert raw[0] >> 4 == 6 or checksum(raw[:20]) == 0, "header checksum"


def ttl(packet: Packet) -> int:
    """TTL or hop limit."""
    return int(packet.ttl if IP in packet else packet.hlim)


class Model:
    """All Services of a node in one family, and its flows."""

    def __init__(
        self,
        family: int,
        node: str,
        pods: str,
        services_range: str,
        masquerade_all: bool,
        ports: tuple[int, int],
    ) -> None:
        self.family = family
        self.node = node
        self.pods = ipaddress.ip_network(pods)
        self.range = ipaddress.ip_network(services_range)
        self.masquerade_all = masquerade_all
        self.ports = ports
        self.services: dict[str, Service] = {}
        self.now = 0.0
        self.flows: list[Flow] = []
        self.forward: dict[Tuple, Flow] = {}
        self.reverse: dict[Tuple, Flow] = {}
        self.errors_sent = 0
        """ICMP errors since time last went on: 50 are sent at once, then one in a millisecond."""
        self.judged: dict[str, int] = {}

    # ---- flows ----

    def add(self, flow: Flow) -> None:
        """Take over a flow."""
        for old in (self.forward.get(flow.original), self.reverse.get(flow.answer)):
            if old:
                self.forget(old)
        self.flows.append(flow)
        self.forward[flow.original] = self.reverse[flow.answer] = flow

    def forget(self, flow: Flow) -> None:
        """It is gone."""
        self.flows.remove(flow)
        del self.forward[flow.original]
        del self.reverse[flow.answer]

    def life(self, flow: Flow) -> str:
        """live, dead, or unknown: a refresh is stored only when an eighth of the time-out has passed."""
        age, timeout = self.now - flow.refreshed, TIMEOUTS[flow.state()]
        if age < timeout * 7 / 8 - TICK:
            return "live"
        return "dead" if age > timeout + TICK else "unknown"

    def pass_time(self, seconds: float) -> None:
        """Time goes by; what has surely expired is gone."""
        self.now += seconds
        self.errors_sent = 0
        for flow in list(self.flows):
            if self.life(flow) == "dead":
                self.forget(flow)

    def target(self, t: Tuple) -> tuple[Service, str] | None:
        """The Service that a packet is for, and by which kind of address; service addresses come first."""
        for service in self.services.values():
            if service.present and service.proto == t.proto and service.port == t.dport:
                if service.vip == t.dst:
                    return service, "cluster"
                if service.external and service.external == t.dst:
                    return service, "external"
        for service in self.services.values():
            if (
                service.present
                and service.proto == t.proto
                and service.node_port == t.dport
                and t.dst == self.node
            ):
                return service, "node"
        return None

    def restarts(self, flow: Flow, t: Tuple, kind: str) -> list[bool]:
        """Whether the client's packet begins the flow anew, as far as is known."""
        if t.proto == 6:
            if kind != "SYN":
                return [False]
            if flow.over():
                return [True]
            if flow.state() != "SYN_SENT":
                return [False]
        target = self.target(t)
        if target is None or not target[0].any_serving():
            return [False]
        service = self.services[flow.service]
        state = service.endpoints.get(flow.sent.dst, Endpoint.ABSENT)
        if not service.present or not state.serving:
            return [True]
        # gone and come back meanwhile: the same to kube-proxy, another one to the kernel
        return [False] if service.births[flow.sent.dst] == flow.birth else [True, False]

    # ---- judging ----

    def judge(self, raw: bytes, kind: str, outcome: Outcome) -> str:
        """Check what became of a TCP or UDP packet and remember its flow. Returns what it was taken for."""
        packet = parse(raw)
        t = tuple_of(packet)
        errors = []
        for name, check in self._possible(t, kind):
            try:
                check(packet, raw, t, kind, outcome)
            except AssertionError as error:
                errors.append(f"as {name}: {error}")
            else:
                self.judged[name] = self.judged.get(name, 0) + 1
                return name
        raise AssertionError(f"{packet.summary()} -> {outcome}:\n" + "\n".join(errors))

    def _possible(self, t: Tuple, kind: str) -> Iterator[tuple[str, Callable[..., None]]]:
        flow = self.forward.get(t)
        if flow:
            life, anew = self.life(flow), self.restarts(flow, t, kind)
            if life != "dead" and False in anew:
                yield "known flow", self._known
            if life != "live" or True in anew:
                yield "flow anew", self._first
            return
        flow = self.reverse.get(t)
        if flow:
            life = self.life(flow)
            if life != "dead":
                yield "answer", self._answer
            if life == "live":
                return
        yield "first packet", self._first

    def _translated(
        self, packet: Packet, raw: bytes, outcome: Outcome, way: Way, want: Tuple | None = None
    ) -> Tuple:
        """Forwarded with other addresses and ports, one hop less, whole, with right checksums."""
        assert (outcome.action, outcome.way) == (Action.FORWARD, way), "verdict"
        out = parse(outcome.packet)
        got = tuple_of(out)
        assert want is None or got == want, f"left as {got}, not as {want}"
        assert ttl(out) == ttl(packet) - 1, "TTL"
        assert bytes(transport(out).payload) == bytes(transport(packet).payload), "payload"
        assert len(outcome.packet) == len(raw), "length"
        if TCP in packet:
            assert (out[TCP].seq, out[TCP].ack, out[TCP].flags) == (
                packet[TCP].seq,
                packet[TCP].ack,
                packet[TCP].flags,
            )
        elif packet[UDP].chksum == 0:
            assert out[UDP].chksum == 0, "a UDP checksum of 0 stays 0"
        check_checksums(outcome.packet)
        return got

    def _known(self, packet: Packet, raw: bytes, t: Tuple, kind: str, outcome: Outcome) -> None:
        flow = self.forward[t]
        if ttl(packet) == 1:
            self.answered(packet, raw, outcome, "time exceeded", "ttlExpired")
            return
        self._translated(packet, raw, outcome, Way.FORWARD, flow.sent)
        flow.history.append(("forward", kind))
        flow.refreshed = self.now

    def _answer(self, packet: Packet, raw: bytes, t: Tuple, kind: str, outcome: Outcome) -> None:
        flow = self.reverse[t]
        if ttl(packet) == 1:
            self.answered(packet, raw, outcome, "time exceeded", "ttlExpired")
            return
        self._translated(packet, raw, outcome, Way.REVERSE, flow.returned)
        flow.history.append(("reverse", kind))
        flow.refreshed = self.now

    def _first(self, packet: Packet, raw: bytes, t: Tuple, kind: str, outcome: Outcome) -> None:
        target = self.target(t)
        if target is None:
            self.by_address(packet, raw, outcome)
        elif not target[0].usable():
            if target[0].drops:
                assert (outcome.action, outcome.reason) == (Action.DROP, "noEndpointDropped"), (
                    "DROP when empty"
                )
            else:
                self.answered(packet, raw, outcome, "port unreachable", "noEndpoint")
        elif t.proto == 6 and kind not in ("SYN", "ACK", "DATA"):
            assert (outcome.action, outcome.reason) == (Action.DROP, "invalidState"), "cannot begin a flow"
        elif ttl(packet) == 1:
            self.answered(packet, raw, outcome, "time exceeded", "ttlExpired")
        else:
            self._new_flow(packet, raw, t, kind, outcome, *target)
            return
        if t in self.forward:
            self.forget(self.forward[t])

    def _new_flow(
        self, packet: Packet, raw: bytes, t: Tuple, kind: str, outcome: Outcome, service: Service, by: str
    ) -> None:
        """Rules a, b and d of the research, 1.6; ports by connection tracking's rule: never one in use."""
        old = self.forward.get(t)
        others = [flow for flow in self.flows if flow is not old]

        def holders(endpoint: str, address: str, port: int) -> list[Flow]:
            answer = Tuple(endpoint, 8080, address, port, t.proto)
            return [flow for flow in others if flow.answer == answer]

        def free(endpoint: str, port: int) -> bool:
            """May be free: nobody has it, or nobody for sure, or a SYN may take it over."""
            have = holders(endpoint, self.node, port)
            return all(self.life(f) != "live" or (kind == "SYN" and f.over()) for f in have)

        def certainly_free(endpoint: str, port: int) -> bool:
            have = holders(endpoint, self.node, port)
            return all(self.life(f) == "dead" or (kind == "SYN" and f.over()) for f in have)

        low, high = self.ports
        if outcome.action is Action.DROP:
            assert outcome.reason == "portsExhausted", outcome.reason
            assert any(self._masquerades(t.src, endpoint, by) for endpoint in service.usable())
            full = [
                endpoint
                for endpoint in service.usable()
                if not any(certainly_free(endpoint, port) for port in range(low, high + 1))
            ]
            assert full, "there was a free port"
            if old:
                self.forget(old)
            return
        got = self._translated(packet, raw, outcome, Way.FORWARD)
        assert got.dst in service.usable() and got.dport == 8080, f"{got.dst} serves {service.name} not"
        if self._masquerades(t.src, got.dst, by):
            assert got.src == self.node, "the source is to be translated"
            assert low <= got.sport <= high, "a port of the pool"
            assert free(got.dst, got.sport), "the port is another flow's"
        else:
            assert got.src == t.src, "the client's address is kept"
            taken = holders(got.dst, t.src, t.sport)
            if not any(self.life(f) == "live" for f in taken):
                kept = got.sport == t.sport or any(self.life(f) == "unknown" for f in taken)
                assert kept, "the client's port is kept where it is free"
            others_have = holders(got.dst, t.src, got.sport)
            assert all(self.life(f) != "live" for f in others_have), "the port is another flow's"
        if old:
            self.forget(old)
        self.add(Flow(t, got, service.name, service.births[got.dst], kind, self.now, [("forward", kind)]))

    def _masquerades(self, client: str, endpoint: str, by: str) -> bool:
        if client == endpoint or by != "cluster":
            return True
        return self.masquerade_all or ipaddress.ip_address(client) not in self.pods

    def by_address(self, packet: Packet, raw: bytes, outcome: Outcome, may_answer: bool = True) -> None:
        """What is no flow's: by its destination address alone (research, 1.5)."""
        of_cluster = any(s.present and s.vip == packet.dst for s in self.services.values())
        of_other = any(s.present and s.external == packet.dst for s in self.services.values())
        if of_cluster and may_answer:
            self.answered(packet, raw, outcome, "port unreachable", "undefinedPort")
        elif of_cluster:
            assert (outcome.action, outcome.reason) == (Action.DROP, "undefinedPort"), (
                "no error about an error"
            )
        elif not of_other and ipaddress.ip_address(packet.dst) in self.range:
            assert (outcome.action, outcome.reason) == (Action.DROP, "unallocatedAddress")
        else:
            assert (outcome.action, outcome.way) == (Action.FORWARD, Way.PASS), "none of our business"
            assert outcome.packet == raw, "touched"

    def answered(self, packet: Packet, raw: bytes, outcome: Outcome, error: str, reason: str) -> None:
        """An ICMP error came back, with the packet as it was sent; or none, if there were too many."""
        assert outcome.reason == reason, outcome.reason
        if outcome.action is Action.DROP:
            assert self.errors_sent >= 50, "no ICMP error"
            return
        assert outcome.action is Action.REPLY and self.errors_sent < 50 + 1
        self.errors_sent += 1
        reply = parse(outcome.packet)
        assert (reply.src, reply.dst) == (self.node, packet.src)
        check_checksums(outcome.packet)
        if self.family == 4:
            want = {"port unreachable": (3, 3), "time exceeded": (11, 0)}[error]
            assert (reply[ICMP].type, reply[ICMP].code) == want
            embedded = outcome.packet[28:]
        else:
            layer = ICMPv6DestUnreach if error == "port unreachable" else ICMPv6TimeExceeded
            assert layer in reply and reply[layer].code == {"port unreachable": 4, "time exceeded": 0}[error]
            embedded = outcome.packet[48:]
        assert embedded == raw[: len(embedded)] and len(embedded) >= min(len(raw), 28), (
            "the packet as it was sent"
        )
