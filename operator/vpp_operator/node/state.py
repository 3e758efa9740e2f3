"""NodeSpec -> what the kernel is to hold: link, rules, routes, sets. Pure, and so is the difference to what
it holds."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from vpp_operator.node.gtpu import NOTHING_ACCEPTED, Accepted
from vpp_operator.node.spec import IpAddress, IpNetwork, NodePort, NodeSpec, NodeSpecError, Target

__all__ = [
    "Action",
    "AddProxy",
    "AddRoute",
    "AddRule",
    "Before",
    "Constants",
    "DelFrameLink",
    "DelProxy",
    "DelRoute",
    "DelRule",
    "Difference",
    "FamilyConstants",
    "FrameLink",
    "HostLink",
    "Kernel",
    "MakeFrameLink",
    "MakeLink",
    "Proxy",
    "Route",
    "Rule",
    "SetElements",
    "Steering",
    "difference",
    "plan_announcement",
    "plan_loss",
    "plan_network",
    "plan_undo",
    "plan_withdrawal",
    "steering_state",
]

HOST_LINK = "vpp0"
ENGINE_LINK = "vpp1"
FRAME_LINK, FRAME_ENGINE_LINK = "vppe0", "vppe1"
"""The link of tunnels that carry Ethernet. A VLAN on it is one tunnel; the node's own stack takes no part."""
HOST_MAC = "02:76:70:70:00:01"
GATEWAY_MAC = "02:76:70:70:00:02"
"""Where the host sends packets for the dataplane. Not the MAC of vpp1: the kernel drops them there as another
host's, so that only the engine's packet socket takes them."""
ENGINE_MAC = "02:76:70:70:00:03"
GATEWAYS = {4: "169.254.118.1", 6: "fe80::76:70ff:fe70:2"}
"""On-link next hops with static neighbours; nothing answers for them and no interface carries them."""

HOST_ADDRESS = "169.254.118.2"
"""On the host's end, scope link: without any IPv4 address the kernel's loose reverse-path filter drops all
that comes in."""

TABLE_MARKED = 7071
TABLE_SERVICES = 7072
TABLE_LOCAL = 255
OWNER = 118
"""Routing protocol number on every rule and route of ours (unassigned in iproute2's rt_protos): tells them
from others'."""
KERNEL = 2
MARK = 0x2000
"""The one bit of the packet mark that is used. Bits 14 and 15 are Kubernetes', 8-11 and 16-31 those of
CNIs."""

PREF_RETURNED_LOCAL = 1
PREF_RETURNED = 2
PREF_MARKED = 3
PREF_LOCAL = 4
PREF_SERVICES = 5
PREF_END = 6
"""All below what other software uses, so that moving the local table to 4 lets nothing else come before
it."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """A policy routing rule: what it selects (interface, mark) and where it leads (a table, another rule, or
    nowhere)."""

    family: int
    priority: int
    table: int = 0
    iifname: str = ""
    mark: int = 0
    goto: int = 0
    protocol: int = OWNER

    def __str__(self) -> str:
        select = f" iif {self.iifname}" if self.iifname else ""
        select += f" fwmark {self.mark:#x}/{self.mark:#x}" if self.mark else ""
        action = f"goto {self.goto}" if self.goto else f"lookup {self.table}" if self.table else "nop"
        return f"IPv{self.family} rule {self.priority}:{select} {action}"


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """A route through the host link, with the source address that the node itself uses on it."""

    family: int
    table: int
    destination: str
    source: str

    def __str__(self) -> str:
        return f"IPv{self.family} route {self.destination} in table {self.table} src {self.source}"


@dataclass(frozen=True, slots=True, order=True)
class Proxy:
    """An entry of proxy ARP or proxy ND: the node answers for the address on that interface."""

    family: int
    address: str
    interface: str

    def __str__(self) -> str:
        return f"proxy {'ARP' if self.family == 4 else 'ND'} for {self.address} on {self.interface}"


@dataclass(frozen=True, slots=True)
class HostLink:
    """The veth pair with what was set on it. ``families``: those whose gateway has its neighbour entry."""

    mtu: int
    families: frozenset[int]
    settings: bool = True
    """IPv4 settings, MAC addresses, no IPv6 address generation, both ends up: as they must be."""
    large_udp: bool = True
    """Large UDP frames cross it whole; else the kernel cuts them into datagrams before."""


@dataclass(frozen=True, slots=True)
class FrameLink:
    """The veth pair of tunnels that carry Ethernet."""

    mtu: int
    settings: bool = True
    """No IPv6 address generation, both ends up: as they must be."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the node holds of ours, and the rules for the local table whoever made them."""

    link: HostLink | None
    rules: frozenset[Rule] = frozenset()
    routes: frozenset[Route] = frozenset()
    proxies: frozenset[Proxy] = frozenset()
    frames: FrameLink | None = None


_T = TypeVar("_T")
Element = Target | NodePort | bytes | tuple[int, int] | IpNetwork


@dataclass(frozen=True, slots=True)
class FamilyConstants:
    """What stands in the rules of one family instead of in a set; None: too many, the set is looked up."""

    served: bool = False
    services: tuple[IpNetwork, ...] | None = ()
    covers: tuple[IpNetwork, ...] = ()
    """Where the services are looked up: a few prefixes that hold all of them, compared before; empty: none
    do so usefully."""
    pods: tuple[IpNetwork, ...] | None = ()
    snat: tuple[bytes, ...] | None = ()
    gtpu: bool = False
    """Whether there are GTP-U addresses to look for."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What stands in the nftables rules themselves, since it is little and seldom changes."""

    v4: FamilyConstants
    v6: FamilyConstants
    snat_ports: tuple[tuple[int, int], ...] | None = ()
    node_ports: tuple[int, int] = (1, 65535)
    """Bounds that hold all node ports: most packets need no lookup."""


NO_CONSTANTS = Constants(FamilyConstants(), FamilyConstants())
_IN_RULES = 6
"""Comparisons in rules that cost as much as one lookup in a set of intervals."""
_NODE_PORTS = (30000, 32767)
"""Kubernetes' default --service-node-port-range."""


@dataclass(frozen=True, slots=True)
class Difference(Generic[_T]):
    """What makes ``base`` into another set."""

    base: frozenset[_T]
    add: frozenset[_T]
    remove: frozenset[_T]


@dataclass(frozen=True, slots=True)
class Steering:
    """Desired state. Sets by name: see ``ruleset.py``."""

    link: HostLink
    rules: frozenset[Rule]
    routes: frozenset[Route]
    sets: Mapping[str, frozenset[Element]] = field(default_factory=dict)
    constants: Constants = field(default_factory=lambda: NO_CONSTANTS)
    proxies: frozenset[Proxy] = frozenset()
    frames: FrameLink | None = None
    differences: Mapping[str, Difference[Any]] = field(default_factory=dict, compare=False)
    """How large sets came about from an earlier state, where it is known."""


@dataclass(frozen=True, slots=True)
class Before:
    """A spec with the state that follows from it."""

    spec: NodeSpec
    state: Steering


@dataclass(frozen=True, slots=True)
class MakeLink:
    """Create the veth pair, or bring it to the desired settings."""

    link: HostLink
    create: bool


@dataclass(frozen=True, slots=True)
class DelLink:
    """Remove the veth pair."""


@dataclass(frozen=True, slots=True)
class MakeFrameLink:
    """Create the veth pair of Ethernet tunnels, or bring it to the desired settings."""

    link: FrameLink
    create: bool


@dataclass(frozen=True, slots=True)
class DelFrameLink:
    """Remove the veth pair of Ethernet tunnels."""


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a rule."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class DelRule:
    """Delete a rule."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route, replacing one with the same destination."""

    route: Route


@dataclass(frozen=True, slots=True)
class DelRoute:
    """Delete a route."""

    route: Route


@dataclass(frozen=True, slots=True)
class AddProxy:
    """Announce an address and answer for it from now on."""

    proxy: Proxy


@dataclass(frozen=True, slots=True)
class DelProxy:
    """Answer for an address no longer."""

    proxy: Proxy


Action = (
    MakeLink
    | DelLink
    | MakeFrameLink
    | DelFrameLink
    | AddRule
    | DelRule
    | AddRoute
    | DelRoute
    | AddProxy
    | DelProxy
)


@dataclass(frozen=True, slots=True)
class SetElements:
    """Change of one nftables set. ``lingering``: elements of ``add`` that still run out, of an earlier
    removal."""

    name: str
    add: frozenset[Element]
    remove: frozenset[Element]
    lingering: frozenset[Element] = frozenset()


def _rules(family: int) -> Iterable[Rule]:
    yield Rule(family, PREF_RETURNED_LOCAL, table=TABLE_LOCAL, iifname=HOST_LINK)
    # Past the rules that lead into the dataplane, to all that the node has: main, and a CNI's own rules.
    yield Rule(family, PREF_RETURNED, iifname=HOST_LINK, goto=PREF_END)
    yield Rule(family, PREF_MARKED, table=TABLE_MARKED, mark=MARK)
    yield Rule(family, PREF_LOCAL, table=TABLE_LOCAL)
    yield Rule(family, PREF_SERVICES, table=TABLE_SERVICES)
    yield Rule(family, PREF_END)


def _networks(networks: Iterable[IpNetwork], family: int) -> list[IpNetwork]:
    if family == 4:
        return list(ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network)))
    return list(ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network)))


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and merged[-1][1] + 1 == low:
            merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def _few(elements: Iterable[Any]) -> tuple[Any, ...] | None:
    listed = tuple(elements)
    return listed if len(listed) <= _IN_RULES else None


def _covers(networks: frozenset[IpNetwork]) -> tuple[IpNetwork, ...]:
    """Return at most six prefixes, of one length, that hold all networks of a family; none when only wide
    ones would do."""
    heads = [int(n.network_address) for n in networks]
    one = next(iter(networks))
    width, low, high = one.max_prefixlen, 0, min(n.prefixlen for n in networks)
    while low < high:  # the longest with few different ones
        middle = (low + high + 1) // 2
        if len({head >> (width - middle) for head in heads}) <= _IN_RULES:
            low = middle
        else:
            high = middle - 1
    if low < 8:
        return ()
    heads = sorted({head >> (width - low) << (width - low) for head in heads})
    return tuple(type(one)((head, low)) for head in heads)


def _constants(spec: NodeSpec, sets: Mapping[str, frozenset[Element]]) -> Constants:
    def of(family: int) -> FamilyConstants:
        return FamilyConstants(
            family in spec.families(),
            services := _few(sorted(sets[f"services{family}"], key=str)),
            () if services is not None else _covers(cast(frozenset[IpNetwork], sets[f"services{family}"])),
            _few(sorted(sets[f"pods{family}"], key=str)),
            _few(sorted(sets[f"snat{family}"], key=str)),
            bool(sets[f"gtpu{family}"]),
        )

    low, high = _NODE_PORTS
    within = all(low <= p.port <= high for p in spec.node_ports)
    return Constants(
        of(4),
        of(6),
        snat_ports=_few(_merged(spec.snat_ranges)),
        node_ports=_NODE_PORTS if within else (1, 65535),
    )


def steering_state(
    spec: NodeSpec, mtu: int, gtpu: Accepted = NOTHING_ACCEPTED, before: Before | None = None
) -> Steering:
    """Return what the node is to hold for ``spec``; ``mtu`` in bytes for the host link, ``gtpu`` what of the
    GTP-U fields can be brought onto this node.

    ``before``: an earlier spec with its state, from which the large sets are derived by their difference.
    Errors: :class:`NodeSpecError` when a field is wrong.
    """
    spec.validate_settings()
    old = before.spec if before else None
    ports = difference(spec.node_ports, old.node_ports if old else frozenset())
    targets = {
        name: difference(getattr(spec, name), getattr(old, name, frozenset()))
        for name in ("external", "endpoints")
    }
    again = old is not None and old.snat_ranges != spec.snat_ranges
    spec.validate_elements(
        spec.node_ports if again else ports.add, targets["external"].add, targets["endpoints"].add
    )
    families = spec.families()
    rules = frozenset(rule for family in families for rule in _rules(family))
    routes: set[Route] = set()
    sets: dict[str, frozenset[Element]] = {
        "node_ports": cast(frozenset[Element], spec.node_ports),
        "snat_ports": frozenset(_merged(spec.snat_ranges)),
    }
    differences: dict[str, Difference[Any]] = {"node_ports": ports}
    for family in (4, 6):
        served = family in families
        source = str(spec.source(family))
        # An address of a GTP-U endpoint's own and the pools of user equipment are the dataplane's as a whole,
        # as the service ranges are.
        own = [ipaddress.ip_network(a) for a, _ in gtpu.own if served and a.version == family]
        services = _networks([*spec.service_cidrs, *gtpu.pools], family) if served else []
        for name, change in targets.items():
            of_family = _of_family(f"{name}{family}", getattr(spec, name), change, served, before)
            sets[f"{name}{family}"], differences[f"{name}{family}"] = of_family
        external = cast(frozenset[Target], sets[f"external{family}"])
        foreign = [ipaddress.ip_network(a) for a in {t.address for t in external}]
        everywhere = ipaddress.ip_network("0.0.0.0/0" if family == 4 else "::/0")
        if served:
            routes.add(Route(family, TABLE_MARKED, "default", source))
            routes.update(
                Route(family, TABLE_SERVICES, str(network), source)
                # Own addresses are not merged: each may be withdrawn by itself.
                for network in (*_networks([*services, *foreign], family), *own)
            )
        snat = [a.packed for a in spec.snat_addresses if a.version == family]
        if not snat and (first := spec.source(family)) is not None:
            snat = [first.packed]
        sets[f"services{family}"] = frozenset([*services, *own])
        sets[f"pods{family}"] = frozenset(_networks(spec.pod_cidrs, family) or [everywhere])
        sets[f"snat{family}"] = frozenset(snat)
        sets[f"gtpu{family}"] = frozenset(a.packed for a in gtpu.local if a.version == family)
    if not mtu:
        raise NodeSpecError(f"mtu: no interface holds {spec.addresses[0]}; give the MTU or a local address")
    proxies = frozenset(Proxy(a.version, str(a), interface) for a, interface in gtpu.own if interface)
    link = HostLink(mtu, frozenset(families), large_udp=spec.large_udp)
    constants = _constants(spec, sets)
    frames = FrameLink(mtu) if spec.frames else None
    return Steering(link, rules, frozenset(routes), sets, constants, proxies, frames, differences)


def difference(now: frozenset[_T], before: frozenset[_T]) -> Difference[_T]:
    """Return what makes ``before`` into ``now``; nothing is compared where both are one object."""
    if now is before:
        return Difference(before, frozenset(), frozenset())
    add = now - before if before else now
    # Mostly something was only added: a second pass over all finds nothing then.
    gone = before - now if len(before) + len(add) != len(now) else frozenset[_T]()
    return Difference(before, add, gone)


def _of_family(
    name: str, targets: frozenset[Target], change: Difference[Target], served: bool, before: Before | None
) -> tuple[frozenset[Element], Difference[Element]]:
    """Return the targets of a family and their difference to the earlier ones. Unchanged ones are not gone
    through: the set is the object it was."""
    size = 4 if name.endswith("4") else 16
    if not served:
        return frozenset(), Difference(frozenset(), frozenset(), frozenset())
    if before is None or int(name[-1]) not in before.spec.families():
        now = frozenset[Element](t for t in targets if len(t.address) == size)
        return now, Difference(frozenset(), now, frozenset())
    old = before.state.sets[name]
    new = frozenset(t for t in change.add if len(t.address) == size)
    gone = frozenset(t for t in change.remove if len(t.address) == size)
    if new or gone:
        return (old - gone) | new if gone else old | new, Difference(old, new, gone)
    return old, Difference(old, frozenset(), frozenset())


def _is_foreign_local(rule: Rule) -> bool:
    return rule.protocol != OWNER and rule.table == TABLE_LOCAL and not rule.iifname and not rule.mark


def plan_network(desired: Steering, actual: Kernel) -> list[Action]:
    """Return what brings link, routes and rules from ``actual`` to ``desired``: the new in place before the
    old goes."""
    actions: list[Action] = []
    if actual.link != desired.link:
        actions.append(MakeLink(desired.link, create=actual.link is None))
    if desired.frames is not None and actual.frames != desired.frames:
        actions.append(MakeFrameLink(desired.frames, create=actual.frames is None))
    # A new link has none of the old one's routes, whatever was read before.
    present = frozenset[Route]() if actual.link is None else actual.routes
    actions += [AddRoute(r) for r in sorted(desired.routes - present)]
    # The end of the detour before the rule that jumps to it, the local table's new place before the old one
    # goes.
    actions += [
        AddRule(r) for r in sorted(desired.rules - actual.rules, key=lambda r: (-r.priority, r.family))
    ]
    own = [r for r in actual.rules if r.protocol == OWNER]
    moved = {r.family for r in desired.rules}
    stale = [r for r in own if r not in desired.rules]
    stale += [r for r in actual.rules if _is_foreign_local(r) and r.priority == 0 and r.family in moved]
    restore = {r.family for r in own} - moved
    actions += _restore_local(actual, restore)
    actions += [DelRule(r) for r in sorted(stale)]
    replaced = {(r.family, r.table, r.destination) for r in desired.routes}
    actions += [
        DelRoute(r)
        for r in sorted(present - desired.routes)
        if (r.family, r.table, r.destination) not in replaced
    ]
    return actions


def _restore_local(actual: Kernel, families: Iterable[int]) -> list[Action]:
    kept = {r.family for r in actual.rules if _is_foreign_local(r)}
    return [
        AddRule(Rule(family, 0, table=TABLE_LOCAL, protocol=KERNEL))
        for family in sorted(set(families) - kept)
    ]


def plan_withdrawal(desired: Steering, actual: Kernel) -> list[Action]:
    """Return what ends the answers for addresses that are no longer this node's, before their routes go; and
    the link of Ethernet tunnels when there are none."""
    actions: list[Action] = [DelProxy(p) for p in sorted(actual.proxies - desired.proxies)]
    return actions + ([DelFrameLink()] if actual.frames and not desired.frames else [])


def plan_loss(addresses: Collection[IpAddress], actual: Kernel) -> list[Action]:
    """Return what takes endpoints' own addresses from this node, whatever else it holds."""
    lost = {(a.version, str(a)) for a in addresses}
    routes = {(a.version, TABLE_SERVICES, f"{a}/{a.max_prefixlen}") for a in addresses}
    return [
        *(DelProxy(p) for p in sorted(actual.proxies) if (p.family, p.address) in lost),
        *(DelRoute(r) for r in sorted(actual.routes) if (r.family, r.table, r.destination) in routes),
    ]


def plan_announcement(desired: Steering, actual: Kernel) -> list[Action]:
    """Return what attracts the traffic of new addresses: after all that their packets need is there."""
    return [AddProxy(p) for p in sorted(desired.proxies - actual.proxies)]


def plan_undo(actual: Kernel) -> list[Action]:
    """Return what removes all of ours: the local table is back in its place before anything goes."""
    own = sorted(r for r in actual.rules if r.protocol == OWNER)
    actions: list[Action] = [DelProxy(p) for p in sorted(actual.proxies)]
    actions += _restore_local(actual, {r.family for r in own if r.priority == PREF_LOCAL})
    # Those that lead into the dataplane go first.
    first = (PREF_SERVICES, PREF_MARKED)
    actions += [DelRule(r) for r in own if r.priority in first]
    actions += [DelRule(r) for r in own if r.priority not in first]
    actions += [DelRoute(r) for r in sorted(actual.routes)]
    if actual.link is not None:
        actions.append(DelLink())
    if actual.frames is not None:
        actions.append(DelFrameLink())
    return actions
