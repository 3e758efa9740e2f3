"""The nftables table of the dataplane: its sets, and the scripts that load and change it. Pure.

Sets hold numbers, not types, because nftables only compares the header embedded in an ICMP error as raw
bytes; so one set serves a packet and an error about it. Set names end in the family where they hold
addresses:

===============  =========================  =================================================
set              element                    matches
===============  =========================  =================================================
services4/6      prefix                     to a service range, a UE pool or a GTP-U address of its own:
                                            conntrack and CNIs leave it alone
node_ports       protocol . port            to a local address
external4/6      address . protocol . port  to an external IP or load-balancer VIP
snat4/6          address                    with snat_ports: replies of masqueraded flows
endpoints4/6     address . protocol . port  replies of endpoints to the pods of this node
pods4/6          prefix                     pods of this node
gtpu4/6          address                    GTP-U to an address of the node
direct4/6        flow                       filled by the kernel: flows past the dataplane whose replies
                                            would else be taken in (pods that talk to an endpoint
                                            without its Service or through another proxy's, ports
                                            that a CNI's masquerading picked); the last request of
                                            a flow decides
===============  =========================  =================================================

The rules are in ``chains.py``; small sets stand in them as constants and are looked up in rare cases only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vpp_operator.node.chains import chains, family_fields
from vpp_operator.node.spec import NodePort, Target
from vpp_operator.node.state import Constants, Element, SetElements

__all__ = ["FAMILY", "LINGER", "SETS", "TABLE", "NftSet", "element_text", "load", "replace_rules", "updates"]

FAMILY = "inet"
TABLE = "vpp-operator"
LINGER = "1d"
"""How long removed elements still match: an established TCP flow outlives its endpoint's place in the set (24
h idle)."""
_CHUNK = 512
_BATCH = 16384


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


def _sets() -> Iterator[NftSet]:
    v4, v6 = family_fields()
    yield NftSet("node_ports", f"typeof {v4.proto} . {v4.dport}", ("timeout",), lingers=True)
    yield NftSet("snat_ports", f"typeof {v4.dport}", ("interval",))
    for family, triple in ((f.family, f"typeof {f.src} . {f.proto} . {f.sport}") for f in (v4, v6)):
        address = f"type ipv{family}_addr"
        yield NftSet(f"services{family}", address, ("interval",))
        yield NftSet(f"pods{family}", address, ("interval",))
        yield NftSet(f"snat{family}", address)
        yield NftSet(f"gtpu{family}", address)
        yield NftSet(f"external{family}", triple, ("timeout",), lingers=True)
        yield NftSet(f"endpoints{family}", triple, ("timeout",), size=1 << 21, lingers=True)
        flow = f"{address} . ipv{family}_addr . inet_proto . inet_service . inet_service"
        yield NftSet(f"direct{family}", flow, ("dynamic", "timeout"), 1 << 18, "5m", dynamic=True)


SETS: dict[str, NftSet] = {s.name: s for s in _sets()}


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


def load(sets: Mapping[str, frozenset[Element]], constants: Constants) -> list[str]:
    """Return the scripts that load the table anew. The first is one transaction and holds all but the bulk of
    large sets."""
    lines = [
        f"add table {FAMILY} {TABLE}",
        f"delete table {FAMILY} {TABLE}",
        f"table {FAMILY} {TABLE} {{",
        *(f"  {s.declaration()}" for s in SETS.values()),
        *(f"  {c.declaration()}" for c in chains(constants).values()),
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


def replace_rules(constants: Constants, chains_held: Iterable[str] = ()) -> str:
    """Return the script that gives the chains, all of them there, their rules for ``constants``: packets meet
    the old rules or the new ones. ``chains_held``: names of chains whose rules are right already."""
    right = set(chains_held)
    lines = []
    for chain in chains(constants).values():
        if chain.name in right:
            continue
        lines.append(f"flush chain {FAMILY} {TABLE} {chain.name}")
        lines += (f"add rule {FAMILY} {TABLE} {chain.name} {rule}" for rule in chain.commented())
    return "\n".join(lines) + "\n"


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
