"""The nftables table of the dataplane: which packets are marked for it, and which conntrack leaves alone.
Pure.

Sets hold numbers, not types, because nftables only compares the header embedded in an ICMP error as raw
bytes; so one set serves a packet and an error about it. Set names end in the family where they hold
addresses:

===============  =========================  =================================================
set              element                    matches
===============  =========================  =================================================
services4/6      prefix                     to a service range: conntrack and CNIs leave it alone
node_ports       protocol . port            to a local address
external4/6      address . protocol . port  to an external IP or load-balancer VIP
snat4/6          address                    with snat_ports: replies of masqueraded flows
endpoints4/6     address . protocol . port  replies of endpoints to the pods of this node
pods4/6          prefix                     pods of this node
direct4/6        flow                       filled by the kernel: flows past the dataplane whose replies
                                            would else be taken in (pods that talk to an endpoint
                                            without its Service, ports that a CNI's masquerading
                                            picked); the last request of a flow decides
===============  =========================  =================================================
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vpp_operator.node.spec import NodePort, Target
from vpp_operator.node.state import HOST_LINK, MARK, Element, SetElements

__all__ = [
    "CHAINS",
    "FAMILY",
    "LINGER",
    "SETS",
    "TABLE",
    "Chain",
    "NftSet",
    "element_text",
    "load",
    "updates",
]

FAMILY = "inet"
TABLE = "vpp-operator"
LINGER = "1d"
"""How long removed elements still match: an established TCP flow outlives its endpoint's place in the set (24
h idle)."""
_CHUNK = 512
_BATCH = 16384

_ERRORS4 = "{ destination-unreachable, time-exceeded, parameter-problem }"
_ERRORS6 = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"


@dataclass(frozen=True, slots=True)
class NftSet:
    """A named set: its type (or typeof), flags; ``lingers``: removed elements run out instead of going at
    once."""

    name: str
    kind: str
    flags: tuple[str, ...] = ()
    size: int = 0
    timeout: str = ""
    lingers: bool = False
    dynamic: bool = False

    def declaration(self) -> str:
        """Return the nft text that declares the set."""
        parts = [self.kind]
        if self.size:
            parts.append(f"size {self.size}")
        if self.flags:
            parts.append(f"flags {','.join(self.flags)}")
        if self.timeout:
            parts.append(f"timeout {self.timeout}")
        return f"set {self.name} {{ {'; '.join(parts)}; }}"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain: its hook ("" for none) and rules. Each rule carries its digest as a comment, so that a dump
    tells whether it is still the rule that was loaded."""

    name: str
    hook: str
    rules: tuple[str, ...]

    def comments(self) -> tuple[str, ...]:
        """Return the digests in order."""
        return tuple(_digest(f"{self.name} {self.hook} {rule}") for rule in self.rules)

    def declaration(self) -> str:
        """Return the nft text that declares the chain with its rules."""
        head = [f"{self.hook}; policy accept;"] if self.hook else []
        body = [f'{r} comment "{c}"' for r, c in zip(self.rules, self.comments(), strict=True)]
        return f"chain {self.name} {{\n    " + "\n    ".join(head + body) + "\n  }"


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where a family has what is compared. ``e_``: in the header embedded in an ICMP error."""

    family: int
    ip: str
    src: str
    dst: str
    proto: str
    sport: str
    dport: str
    e_src: str
    e_dst: str
    e_proto: str
    e_sport: str
    e_dport: str


# Ports are counted from the network header (a packet with options or extension headers is dealt with before),
# because nft gives raw bytes at the transport header's ports a type that the embedded ones cannot have. RFC
# 792: 8 bytes, then the IPv4 header. RFC 4443: 8 bytes, then the IPv6 header. Offsets in bits.
_FIELDS = (
    _Fields(
        4, "ip", "@nh,96,32", "@nh,128,32", "@nh,72,8", "@nh,160,16", "@nh,176,16",
        "@th,160,32", "@th,192,32", "@th,136,8", "@th,224,16", "@th,240,16",
    ),
    _Fields(
        6, "ip6", "@nh,64,128", "@nh,192,128", "@nh,48,8", "@nh,320,16", "@nh,336,16",
        "@th,128,128", "@th,256,128", "@th,112,8", "@th,384,16", "@th,400,16",
    ),
)  # fmt: skip


def _sets() -> Iterator[NftSet]:
    v4, v6 = _FIELDS
    yield NftSet("node_ports", f"typeof {v4.proto} . {v4.dport}", ("timeout",), lingers=True)
    yield NftSet("snat_ports", f"typeof {v4.dport}", ("interval",))
    for family, triple in ((f.family, f"typeof {f.src} . {f.proto} . {f.sport}") for f in (v4, v6)):
        address = f"type ipv{family}_addr"
        yield NftSet(f"services{family}", address, ("interval",))
        yield NftSet(f"pods{family}", address, ("interval",))
        yield NftSet(f"snat{family}", address)
        yield NftSet(f"external{family}", triple, ("timeout",), lingers=True)
        yield NftSet(f"endpoints{family}", triple, ("timeout",), size=1 << 21, lingers=True)
        flow = f"{address} . ipv{family}_addr . inet_proto . inet_service . inet_service"
        yield NftSet(f"direct{family}", flow, ("dynamic", "timeout"), 1 << 18, "5m", dynamic=True)


SETS: dict[str, NftSet] = {s.name: s for s in _sets()}


def _family_chains(f: _Fields) -> Iterator[Chain]:
    n = f.family
    flow = f"{f.ip} saddr . {f.ip} daddr . meta l4proto . th sport . th dport"
    reverse = f"{f.ip} daddr . {f.ip} saddr . meta l4proto . th dport . th sport"
    own = f"fib daddr type local {f.ip} daddr != {'127.0.0.0/8' if n == 4 else '::1'}"
    from_endpoint = f"{f.src} . {f.proto} . {f.sport} @endpoints{n}"
    to_endpoint = f"{f.dst} . {f.proto} . {f.dport} @endpoints{n}"
    about_endpoint = f"{f.e_dst} . {f.e_proto} . {f.e_dport} @endpoints{n}"
    learn = f"update @direct{n} {{ {flow} }}"
    odd = "ip hdrlength != 5" if n == 4 else "@nh,48,8 { 0, 43, 44, 60 }"
    ports = f"goto ports{n}"
    icmp = f"icmp{'' if n == 4 else 'v6'}"
    # Neighbour discovery is ICMPv6 too: only errors are looked at.
    steer = [
        f"{f.ip} daddr @services{n} notrack accept",
        f"meta l4proto vmap {{ tcp : {ports}, udp : {ports}, sctp : {ports}, {icmp} : goto errors{n} }}",
    ]
    yield Chain(
        f"ports{n}",
        "",
        (
            # Ports are elsewhere: the dataplane sorts it out, and passes what is not for a Service.
            f"{odd} goto divert",
            f"{f.proto} . {f.dport} @node_ports {own} goto reply{n}",
            f"{f.dst} . {f.proto} . {f.dport} @external{n} goto divert",
            f"{f.ip} daddr @snat{n} {f.dport} @snat_ports {from_endpoint} goto reply{n}",
            f"{f.ip} daddr @pods{n} {from_endpoint} goto reply{n}",
            f"{f.ip} saddr @pods{n} {to_endpoint} {learn}",
        ),
    )
    yield Chain(f"reply{n}", "", (f"{reverse} @direct{n} return", "goto divert"))
    embedded = "@th,64,8 != 0x45 goto divert" if n == 4 else "@th,112,8 { 0, 43, 44, 60 } goto divert"
    yield Chain(
        f"errors{n}",
        "",
        (
            f"{icmp} type != {_ERRORS4 if n == 4 else _ERRORS6} return",
            embedded,
            f"{f.ip} daddr @snat{n} {f.e_sport} @snat_ports {about_endpoint} goto divert",
            f"{f.ip} daddr @pods{n} {about_endpoint} goto divert",
            f"{f.e_proto} . {f.e_sport} @node_ports fib daddr type local goto divert",
            f"{f.e_src} . {f.e_proto} . {f.e_sport} @external{n} goto divert",
        ),
    )
    yield Chain(f"steer{n}", "", tuple(steer))
    # A CNI's masquerading picks source ports at random, ours among them.
    yield Chain(
        f"leave{n}",
        "",
        (
            f"{f.proto} . {f.sport} @node_ports {learn}",
            f"{f.ip} saddr @snat{n} {f.sport} @snat_ports {to_endpoint} {learn}",
        ),
    )
    yield Chain(f"forget{n}", "", (f"{to_endpoint} delete @direct{n} {{ {flow} }}",))


def _chains() -> Iterator[Chain]:
    yield Chain("divert", "", (f"meta mark set meta mark | {MARK:#x} notrack accept",))
    for fields in _FIELDS:
        yield from _family_chains(fields)
    yield Chain(
        "returned",
        "",
        (
            "meta nfproto vmap { ipv4 : jump forget4, ipv6 : jump forget6 }",
            # What the node itself takes in stays tracked, so that its firewall knows replies to what it
            # asked.
            "fib daddr type local return",
            "notrack",
        ),
    )
    families = "meta nfproto vmap { ipv4 : goto steer4, ipv6 : goto steer6 }"
    yield Chain(
        "prerouting",
        "type filter hook prerouting priority raw",
        # The ct expression brings conntrack's defragmentation into the hook: ports of later fragments are
        # known then.
        ("ct state untracked return", f'iifname "{HOST_LINK}" goto returned', families),
    )
    yield Chain(
        "leaving",
        "type filter hook postrouting priority srcnat + 10",
        (
            f'iifname "{HOST_LINK}" return',
            "meta l4proto != { tcp, udp, sctp } return",
            "meta nfproto vmap { ipv4 : goto leave4, ipv6 : goto leave6 }",
        ),
    )
    yield Chain(
        "output",
        "type route hook output priority mangle",
        ("ct state untracked return", f'oifname "{HOST_LINK}" return', families),
    )
    # A binding to the address it has: the masquerading of a CNI, later in the hook, finds the flow decided.
    yield Chain(
        "postrouting",
        "type nat hook postrouting priority srcnat - 1",
        tuple(
            f'meta nfproto {nf} oifname "{HOST_LINK}" snat {ip} to {ip} saddr'
            for nf, ip in (("ipv4", "ip"), ("ipv6", "ip6"))
        ),
    )


CHAINS: dict[str, Chain] = {c.name: c for c in _chains()}


def element_text(element: Element) -> str:
    """Return an element as nft reads it."""
    if isinstance(element, Target):
        return f"0x{element.address.hex()} . {element.protocol} . {element.port}"
    if isinstance(element, NodePort):
        return f"{element.protocol} . {element.port}"
    if isinstance(element, bytes):
        return str(ipaddress.ip_address(element))
    if isinstance(element, tuple):
        low, high = element
        return f"{low}-{high}" if low != high else f"{low}"
    return str(element)


def _command(verb: str, name: str, elements: Iterable[Element], suffix: str = "") -> Iterator[str]:
    texts = [element_text(e) + suffix for e in elements]
    for start in range(0, len(texts), _CHUNK):
        yield f"{verb} element {FAMILY} {TABLE} {name} {{ {', '.join(texts[start : start + _CHUNK])} }}"


def load(sets: dict[str, frozenset[Element]]) -> list[str]:
    """Return the scripts that load the table anew. The first is one transaction and holds all but the bulk of
    large sets."""
    lines = [
        f"add table {FAMILY} {TABLE}",
        f"delete table {FAMILY} {TABLE}",
        f"table {FAMILY} {TABLE} {{",
        *(f"  {s.declaration()}" for s in SETS.values()),
        *(f"  {c.declaration()}" for c in CHAINS.values()),
        "}",
    ]
    rest: list[SetElements] = []
    for name in SETS:
        elements = sets.get(name, frozenset())
        if len(elements) > _BATCH:
            rest.append(SetElements(name, elements, frozenset()))
        else:
            lines += _command("add", name, elements)
    return ["\n".join(lines) + "\n", *updates(rest)]


def updates(changes: Iterable[SetElements]) -> list[str]:
    """Return scripts, each one transaction, that make the changes; many elements are spread over several."""
    scripts: list[str] = []
    lines: list[str] = []
    weight = 0
    for change in changes:
        if not (change.add or change.remove):
            continue
        if not SETS[change.name].lingers:
            # Intervals: small, replaced as a whole within the transaction.
            lines += _command("delete", change.name, change.remove)
            lines += _command("add", change.name, change.add)
            continue
        for verb_elements in (change.add, change.remove):
            ordered = list(verb_elements)
            for start in range(0, len(ordered), _BATCH):
                part = ordered[start : start + _BATCH]
                if weight + len(part) > _BATCH and lines:
                    scripts.append("\n".join(lines) + "\n")
                    lines, weight = [], 0
                lines += _swap(change, part, remove=verb_elements is change.remove)
                weight += len(part)
    if lines:
        scripts.append("\n".join(lines) + "\n")
    return scripts


def _swap(change: SetElements, part: list[Element], *, remove: bool) -> Iterator[str]:
    """Add, or turn into elements that run out. A timeout only changes by a delete and an add; the add before
    it makes the delete succeed when the element ran out meanwhile."""
    name = change.name
    if not remove:
        running_out = [e for e in part if e in change.lingering]
        yield from _command("add", name, running_out)
        yield from _command("delete", name, running_out)
        yield from _command("add", name, part)
        return
    yield from _command("add", name, part)
    yield from _command("delete", name, part)
    yield from _command("add", name, part, f" timeout {LINGER}")
