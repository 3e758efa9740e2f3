"""The rules of the dataplane's nftables table: which packets are marked for it, and which conntrack leaves
alone. Pure.

Every packet of the node passes here, so what is compared is ordered by cost: a few prefixes, addresses and
port ranges stand in the rules themselves (:class:`Constants`), because a masked comparison costs a fraction
of a set's lookup; the destination decides which of the large sets can match at all, at most two a packet.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vpp_operator.node.spec import GTPU_PORT, IpNetwork
from vpp_operator.node.state import HOST_LINK, MARK, Constants, FamilyConstants

__all__ = ["Chain", "Fields", "chains", "family_fields"]

_ERRORS4 = "{ destination-unreachable, time-exceeded, parameter-problem }"
_ERRORS6 = "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"
_SNATTED = "ct status snat"
_DNATTED = "ct status dnat"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain: its hook ((type, hook, priority), None for none) and rules. Each rule carries its digest as a
    comment, so that a dump tells whether it is still the rule that was loaded."""

    name: str
    hook: tuple[str, str, int] | None
    rules: tuple[str, ...]

    def comments(self) -> tuple[str, ...]:
        """Return the digests in order."""
        return tuple(_digest(f"{self.name} {self.hook} {rule}") for rule in self.rules)

    def commented(self) -> list[str]:
        """Return the rules as nft reads them."""
        return [f'{r} comment "{c}"' for r, c in zip(self.rules, self.comments(), strict=True)]

    def declaration(self) -> str:
        """Return the nft text that declares the chain with its rules."""
        head = []
        if self.hook is not None:
            kind, hook, priority = self.hook
            head.append(f"type {kind} hook {hook} priority {priority}; policy accept;")
        return f"chain {self.name} {{\n    " + "\n    ".join(head + self.commented()) + "\n  }"


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Fields:
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
    Fields(
        4, "ip", "@nh,96,32", "@nh,128,32", "@nh,72,8", "@nh,160,16", "@nh,176,16",
        "@th,160,32", "@th,192,32", "@th,136,8", "@th,224,16", "@th,240,16",
    ),
    Fields(
        6, "ip6", "@nh,64,128", "@nh,192,128", "@nh,48,8", "@nh,320,16", "@nh,336,16",
        "@th,128,128", "@th,256,128", "@th,112,8", "@th,384,16", "@th,400,16",
    ),
)  # fmt: skip


def family_fields() -> tuple[Fields, Fields]:
    """Return the fields of IPv4 and of IPv6."""
    return _FIELDS


def _prefix(field: str, network: IpNetwork) -> str:
    """Return the comparison of an address field with a prefix; empty where every address is in it.

    Whole words are compared where possible: the kernel has short cuts for 1, 2 and 4 bytes.
    """
    length, width = network.prefixlen, network.max_prefixlen
    base = field.rpartition(",")[0]
    value = int(network.network_address)
    if length == 0:
        return ""
    if length in (8, 16, 32, 64, 128) or (width == 128 and length % 8 == 0):
        return f"{base},{length} {value >> (width - length):#x}"
    if length < 32:
        head = f"{base},32"
        return f"{head} & {int(network.netmask) >> (width - 32):#x} == {value >> (width - 32):#x}"
    return f"{field} & {int(network.netmask):#x} == {value:#x}"


def _either(
    field: str, networks: tuple[IpNetwork, ...] | None, lookup: str, then: str | Iterable[str]
) -> Iterator[str]:
    """Yield rules for what is in one of the networks, or, where these are too many, in the set."""
    tails = (then,) if isinstance(then, str) else tuple(then)
    tests = [lookup] if networks is None else [_prefix(field, n) for n in networks]
    for test in tests:
        for tail in tails:
            yield f"{test} {tail}".strip()


def _ranges(field: str, c: Constants) -> list[str]:
    if c.snat_ports is None:
        return [f"{field} @snat_ports"]
    return [f"{field} {low}-{high}" if low != high else f"{field} {low}" for low, high in c.snat_ports]


def _addresses(raw: tuple[bytes, ...] | None) -> tuple[IpNetwork, ...] | None:
    return None if raw is None else tuple(ipaddress.ip_network(a) for a in raw)


def _ports(f: Fields, c: Constants, fc: FamilyConstants) -> Iterator[Chain]:
    """Yield the chains of packets with ports, by their destination."""
    n = f.family
    from_endpoint = f"{f.src} . {f.proto} . {f.sport} @endpoints{n} goto reply{n}"
    flow = f"{f.ip} saddr . {f.ip} daddr . meta l4proto . th sport . th dport"
    own = f"fib daddr type local {f.ip} daddr != {'127.0.0.0/8' if n == 4 else '::1'}"
    learn = f"update @direct{n} {{ {flow} }}"
    to_endpoint = f"{f.dst} . {f.proto} . {f.dport} @endpoints{n} {learn}"
    external = f"{f.dst} . {f.proto} . {f.dport} @external{n} goto divert"
    everywhere = fc.pods is not None and any(p.prefixlen == 0 for p in fc.pods)
    asked = tuple(_either(f.src, fc.pods, f"{f.ip} saddr @pods{n}", to_endpoint))
    low, high = c.node_ports
    node_port = f"{f.proto} . {f.dport} @node_ports {own} goto reply{n}"
    # Ports are elsewhere: the dataplane sorts it out, and passes what is not for a Service.
    head = ["@nh,4,4 != 5 goto divert"] if n == 4 else []
    if fc.gtpu:
        head.append(f"{f.dport} {GTPU_PORT} jump gtpu{n}")
    head.append(f"{f.dport} {low}-{high} {node_port}" if (low, high) != (1, 65535) else node_port)
    snat = _addresses(fc.snat)
    if everywhere:
        dispatch = [external, from_endpoint]
    else:
        dispatch = [
            *_either(f.dst, fc.pods, f"{f.ip} daddr @pods{n}", f"goto to_pod{n}"),
            external,
            *_either(f.dst, snat, f"{f.ip} daddr @snat{n}", f"goto to_node{n}"),
        ]
    yield Chain(f"ports{n}", None, (*head, *dispatch, *asked))
    yield Chain(f"to_pod{n}", None, (from_endpoint, *asked))
    yield Chain(f"to_node{n}", None, (*(f"{r} {from_endpoint}" for r in _ranges(f.dport, c)), *asked))
    # A CNI's masquerading picks source ports at random, ours among them.
    node_port = f"{f.proto} . {f.sport} @node_ports {learn}"
    yield Chain(
        f"leave{n}",
        None,
        (
            f"{f.sport} {low}-{high} {node_port}" if (low, high) != (1, 65535) else node_port,
            *(f"{r} goto pool{n}" for r in _ranges(f.sport, c)),
        ),
    )
    yield Chain(f"pool{n}", None, tuple(_either(f.src, snat, f"{f.ip} saddr @snat{n}", to_endpoint)))
    # What follows returns: other rules may have something to say about a packet that is no reply.
    yield Chain(f"gtpu{n}", None, (f"{f.ip} daddr @gtpu{n} meta l4proto udp goto divert",))


def _family(f: Fields, c: Constants) -> Iterator[Chain]:
    n = f.family
    fc = c.v4 if n == 4 else c.v6
    flow = f"{f.ip} saddr . {f.ip} daddr . meta l4proto . th sport . th dport"
    reverse = f"{f.ip} daddr . {f.ip} saddr . meta l4proto . th dport . th sport"
    about_endpoint = f"{f.e_dst} . {f.e_proto} . {f.e_dport} @endpoints{n}"
    icmp = f"icmp{'' if n == 4 else 'v6'}"
    yield from _ports(f, c, fc)
    yield Chain(f"reply{n}", None, (f"{reverse} @direct{n} return", "goto divert"))
    embedded = "@th,64,8 != 0x45 goto divert" if n == 4 else "@th,112,8 { 0, 43, 44, 60 } goto divert"
    about_gtpu = f"{f.e_dport} {GTPU_PORT} {f.e_proto} 17 {f.ip} daddr @gtpu{n} goto divert"
    # Neighbour discovery is ICMPv6 too: only errors are looked at.
    yield Chain(
        f"errors{n}",
        None,
        (
            f"{icmp} type != {_ERRORS4 if n == 4 else _ERRORS6} return",
            embedded,
            f"{f.ip} daddr @snat{n} {f.e_sport} @snat_ports {about_endpoint} goto divert",
            f"{f.ip} daddr @pods{n} {about_endpoint} goto divert",
            f"{f.e_proto} . {f.e_sport} @node_ports fib daddr type local goto divert",
            f"{f.e_src} . {f.e_proto} . {f.e_sport} @external{n} goto divert",
            *([about_gtpu] if fc.gtpu else []),
        ),
    )
    if n == 4:
        others = f"{f.proto} vmap {{ 1 : goto errors4, 132 : goto ports4 }}"
    else:
        others = (
            f"{f.proto} vmap {{ 58 : goto errors6, 132 : goto ports6,"
            " 0 : goto odd6, 43 : goto odd6, 44 : goto odd6, 60 : goto odd6 }"
        )
        odd = "meta l4proto { tcp, udp, sctp } goto divert"
        yield Chain("odd6", None, (odd, "meta l4proto icmpv6 goto errors6") if fc.served else ())
    services = f"{f.ip} daddr @services{n}"
    if fc.services is None and fc.covers:
        within = tuple(_either(f.dst, fc.covers, "", f"{services} notrack accept"))
    else:
        within = tuple(_either(f.dst, fc.services, services, "notrack accept"))
    steer = (
        *within,
        f"{f.proto} 6 goto ports{n}",
        f"{f.proto} 17 goto ports{n}",
        others,
    )
    yield Chain(f"steer{n}", None, steer if fc.served else ())
    sent = (f"meta l4proto {{ tcp, udp, sctp }} jump leave{n}", f"goto steer{n}")
    yield Chain(f"sent{n}", None, sent if fc.served else ())
    to_endpoint = f"{f.dst} . {f.proto} . {f.dport} @endpoints{n}"
    # A TCP flow begins once: what follows its first segment has nothing to change.
    begun = "meta l4proto tcp tcp flags & (syn | ack) != syn return"
    yield Chain(f"forget{n}", None, (begun, f"{to_endpoint} delete @direct{n} {{ {flow} }}"))
    # Another proxy's flow to an endpoint that Services of ours have, too: its replies are that proxy's.
    yield Chain(f"elsewhere{n}", None, (f"{to_endpoint} update @direct{n} {{ {flow} }}",))


def _by_family(name: str) -> tuple[str, str]:
    return (f"meta nfproto ipv4 goto {name}4", f"meta nfproto ipv6 goto {name}6")


@functools.lru_cache(maxsize=8)
def chains(c: Constants) -> dict[str, Chain]:
    """Return all chains by name, those that others lead to first."""
    made = [Chain("divert", None, (f"meta mark set meta mark | {MARK:#x} notrack accept",))]
    for fields in _FIELDS:
        made += _family(fields, c)
    made += [
        Chain(
            "returned",
            None,
            (
                "meta nfproto vmap { ipv4 : jump forget4, ipv6 : jump forget6 }",
                # What the node itself takes in stays tracked, so that its firewall knows replies to what it
                # asked.
                "fib daddr type local return",
                "notrack",
            ),
        ),
        Chain(
            "prerouting",
            ("filter", "prerouting", -300),
            # The ct expression brings conntrack's defragmentation into the hook: ports of later fragments are
            # known then.
            (f'iifname "{HOST_LINK}" goto returned', "ct state untracked return", *_by_family("steer")),
        ),
        Chain(
            "dnatted",
            None,
            ("meta l4proto != { tcp, udp, sctp } return", *_by_family("elsewhere")),
        ),
        Chain("left", None, ("meta l4proto != { tcp, udp, sctp } return", *_by_family("leave"))),
        Chain(
            "leaving",
            ("filter", "postrouting", 110),
            (f"{_DNATTED} jump dnatted", f"{_SNATTED} goto left"),
        ),
        Chain(
            "output",
            ("route", "output", -150),
            ("ct state untracked return", f'oifname "{HOST_LINK}" return', *_by_family("sent")),
        ),
        # A binding to the address it has: the masquerading of a CNI, later in the hook, finds the flow
        # decided.
        Chain(
            "postrouting",
            ("nat", "postrouting", 99),
            tuple(
                f'meta nfproto {nf} oifname "{HOST_LINK}" snat {ip} to {ip} saddr'
                for nf, ip in (("ipv4", "ip"), ("ipv6", "ip6"))
            ),
        ),
    ]
    return {chain.name: chain for chain in made}
