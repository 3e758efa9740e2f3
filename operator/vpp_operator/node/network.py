"""Bringing a node to its desired state in steps, each written to the journal before it is made; and undoing
it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vpp_operator.node import firewall, neighbours, netlink, nft
from vpp_operator.node.chains import chains
from vpp_operator.node.claims import AddressClaims
from vpp_operator.node.gtpu import NOTHING_ACCEPTED, Accepted, accept
from vpp_operator.node.journal import DEFAULT_JOURNAL, Entry, Journal, NodeNetworkError
from vpp_operator.node.ruleset import SETS, load, replace_rules, updates
from vpp_operator.node.spec import Finding, IpAddress, NodeSpec
from vpp_operator.node.state import (
    FRAME_LINK,
    OWNER,
    Action,
    AddProxy,
    AddRoute,
    AddRule,
    Before,
    Constants,
    DelFrameLink,
    DelLink,
    DelProxy,
    DelRoute,
    DelRule,
    Difference,
    Element,
    Kernel,
    MakeFrameLink,
    MakeLink,
    SetElements,
    Steering,
    difference,
    plan_announcement,
    plan_loss,
    plan_network,
    plan_undo,
    plan_withdrawal,
    steering_state,
)

__all__ = ["Applied", "NodeNetwork", "NodeNetworkError"]

_LOOK_AGAIN_SECONDS = 10.0
"""What a node's routes and addresses refuse is tried again after that; many routes take a while to read."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply or undo did: a line for each step, none when all was as it should be."""

    steps: tuple[str, ...]
    refused: tuple[Finding, ...] = ()
    """GTP-U addresses and UE pools of the spec that were left out (``subject``), and why."""
    ask_in: float | None = None
    """In how many seconds :meth:`NodeNetwork.ask` has something to do; None: nothing is open."""


@dataclass(frozen=True, slots=True)
class _Step:
    text: str
    run: Callable[[], object]
    entry: Entry | None = None


@dataclass(slots=True)
class _Held:
    """What the node holds, as read or as last applied."""

    kernel: Kernel
    table: nft.TableState
    constants: Constants
    """What ``table.right`` was compared with."""
    sets: dict[str, nft.SetContent] = field(default_factory=dict)
    closed: tuple[firewall.Firewall, ...] = ()
    """FORWARD chains that do not accept the host link yet."""


def set_changes(desired: Steering, held: Mapping[str, nft.SetContent]) -> list[SetElements]:
    """Return what turns the held sets into the desired ones; where the state says how it came about from
    what is held, nothing is compared."""
    changes = []
    for name in SETS:
        if SETS[name].dynamic:
            continue
        have = held.get(name, nft.SetContent())
        change: Difference[Element] | None = desired.differences.get(name)
        if change is None or change.base is not have.elements:
            change = difference(desired.sets.get(name, frozenset()), have.elements)
        if change.add or change.remove:
            changes.append(SetElements(name, change.add, change.remove, change.add & have.lingering))
    return changes


class NodeNetwork:
    """The node's network as the dataplane needs it, in the network namespace of the calling thread. All
    methods block.

    ``on_step`` is called with each step's text before it is made.
    """

    def __init__(self, journal: Path = DEFAULT_JOURNAL, on_step: Callable[[str], None] | None = None) -> None:
        self._journal = Journal(journal)
        self._claims = AddressClaims()
        self._own: frozenset[IpAddress] = frozenset()
        """Own addresses that this node has, as far as this process brought them."""
        self._on_step = on_step or (lambda text: None)
        self._held: _Held | None = None
        self._before: Before | None = None
        self._mtu = 0
        self._ground_of: tuple[object, ...] | None = None
        self._accepted_last = NOTHING_ACCEPTED
        self._look_again = 0.0

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> Applied:
        """Bring the node to ``spec`` and return the steps taken.

        The first call, and each with ``verify``, reads back what the kernel holds; the others compare with
        what was applied last. Errors: :class:`NodeSpecError` (nothing was touched),
        :class:`NodeNetworkError`.
        """
        with self._journal.locked():
            if verify:
                self._ground_of = None
            gtpu, ask_in = self._admitted(spec)
            if verify or self._held is None:
                spec.validate()
                mtu = self._find_mtu(spec)
                desired = steering_state(spec, mtu, gtpu)
                self._held = _read(desired.constants)
            else:
                desired = steering_state(spec, spec.mtu or self._mtu, gtpu, self._before)
            held = self._held
            changes = set_changes(desired, held.sets)
            steps = self._plan(desired, held, changes)
            # Until all steps are made, nobody knows what the node holds.
            self._held = None
            self._carry_out(steps)
            self._held = _after(desired, held, changes)
            self._before = Before(spec, desired)
            own = frozenset(address for address, _ in gtpu.own)
            self._claims.forget(self._own - own)
            self._own = own
            return Applied(tuple(step.text for step in steps), gtpu.refused, ask_in)

    def ask(self) -> None:
        """Ask the neighbours for own addresses that the last apply left open, so that the next one can take
        those that nobody has. Takes about a second, and may run beside other calls."""
        self._claims.ask()

    def plan(self, spec: NodeSpec) -> tuple[str, ...]:
        """Read back what the kernel holds and return the steps that an apply would take."""
        spec.validate()
        with netlink.connection() as ip:
            accepted = accept(spec, neighbours.read_ground(ip))
        gtpu, _ = self._claims.admit(accepted, self._standing())
        desired = steering_state(spec, self._find_mtu(spec), gtpu)
        held = _read(desired.constants)
        return tuple(step.text for step in self._plan(desired, held, set_changes(desired, held.sets)))

    def announce(self, spec: NodeSpec) -> None:
        """Tell neighbours once more where the endpoints' own addresses of ``spec`` are. An apply does so for
        each that becomes active; after a move, again some seconds later, since the frames may be lost.

        Errors: :class:`NodeNetworkError`.
        """
        for address, interface in self._accepted(spec).own:
            if interface and address in self._own:
                neighbours.announce(address, interface)

    def withdraw(self, addresses: Collection[IpAddress]) -> Applied:
        """Take endpoints' own addresses from this node at once, without knowing what else it is to hold: the
        answers to neighbours, then the routes. Safe when nothing is there; the next apply mends the rest.

        Errors: :class:`NodeNetworkError`.
        """
        with self._journal.locked():
            self._held = None
            self._own -= frozenset(addresses)
            self._claims.forget(addresses)
            with netlink.connection() as ip:
                actions = plan_loss(addresses, netlink.read_kernel(ip))
            steps = [self._action(action) for action in actions]
            self._carry_out(steps)
            return Applied(tuple(step.text for step in steps))

    def _accepted(self, spec: NodeSpec) -> Accepted:
        """Return what of the GTP-U fields is possible. The node is looked at when they change, and again from
        time to time while something is refused."""
        if not (spec.gtpu or spec.ue_pools):
            return NOTHING_ACCEPTED
        asked = (spec.gtpu, spec.ue_pools, spec.addresses, spec.pod_cidrs, spec.service_cidrs)
        again = self._accepted_last.refused and time.monotonic() >= self._look_again
        if self._ground_of != asked or again:
            with netlink.connection() as ip:
                self._accepted_last = accept(spec, neighbours.read_ground(ip))
            self._ground_of, self._look_again = asked, time.monotonic() + _LOOK_AGAIN_SECONDS
        return self._accepted_last

    def _admitted(self, spec: NodeSpec) -> tuple[Accepted, float | None]:
        """Return what is accepted and nobody else has, and when to ask for the rest."""
        accepted = self._accepted(spec)
        if not accepted.own:
            return accepted, None
        return self._claims.admit(accepted, self._standing())

    def _standing(self) -> frozenset[IpAddress]:
        """Return the own addresses that this node answers for: the agent before this one may have taken
        them."""
        if self._own or self._held is not None:
            return self._own
        with netlink.connection() as ip:
            return frozenset(ipaddress.ip_address(p.address) for p in neighbours.read_proxies(ip))

    def _find_mtu(self, spec: NodeSpec) -> int:
        if not spec.mtu:
            with netlink.connection() as ip:
                self._mtu = netlink.uplink_mtu(ip, spec.addresses)
        return spec.mtu or self._mtu

    def joined(self) -> bool:
        """Whether anything of ours is on the node, of this process or an earlier one."""
        return bool(self._journal.entries())

    def check(self, spec: NodeSpec) -> list[Finding]:
        """Return what differs from ``spec`` on the node, without touching it."""
        try:
            steps = self.plan(spec)
        except NodeNetworkError as exc:
            return [Finding("Degraded", "SteeringUnreadable", str(exc), "see the message; the agent retries")]
        if not steps:
            return []
        shown = "; ".join(steps[:5]) + (f"; and {len(steps) - 5} more" if len(steps) > 5 else "")
        message = f"the node's network differs from what was programmed. Missing: {shown}"
        remedy = "the agent mends it; if it comes back, find out what else changes rules on this node"
        return [Finding("Degraded", "SteeringDiffers", message, remedy)]

    def undo(self) -> Applied:
        """Remove all that is ours and put back what was changed, whatever state a crash left. Undoing twice
        does no harm."""
        with self._journal.locked():
            self._held = None
            self._claims.forget(self._own)
            self._own = frozenset()
            steps: list[_Step] = []
            if nft.table_exists():
                steps.append(_Step("remove nftables table", nft.delete_table))
            with netlink.connection() as ip:
                actions = plan_undo(netlink.read_kernel(ip))
            steps += [self._action(action) for action in actions]
            named = {firewall.Firewall(e.name) for e in self._journal.entries() if e.kind == "forward"}
            steps += [
                _Step(f"remove accept rules of {f.command}", partial(firewall.delete, f))
                for f in sorted(named | set(firewall.firewalls()))
                if f.tool is not None and firewall.present(f)
            ]
            self._carry_out(steps)
            self._journal.keep("setting")
            return Applied(tuple(step.text for step in steps))

    def _plan(self, desired: Steering, held: _Held, changes: Sequence[SetElements]) -> list[_Step]:
        steps = [
            _Step(
                f"accept {f.command} FORWARD of the host link",
                partial(firewall.insert, f),
                Entry("forward", f.command),
            )
            for f in held.closed
        ]
        steps += [self._action(a) for a in plan_withdrawal(desired, held.kernel)]
        steps += [self._action(a) for a in plan_network(desired, held.kernel)]
        table = Entry("nftables", "vpp-operator")
        if not held.table.loaded:
            scripts = load(desired.sets, desired.constants)
            texts = ["load nftables table", *("fill nftables sets" for _ in scripts[1:])]
        else:
            scripts = updates(changes)
            shown = ", ".join(f"{c.name} +{len(c.add)} -{len(c.remove)}" for c in changes)
            texts = [f"update nftables sets: {shown}"] * len(scripts)
            if len(right := _right_chains(desired.constants, held)) < len(chains(desired.constants)):
                # With the sets that they go with, in one transaction.
                rules = replace_rules(desired.constants, right)
                scripts[:1] = ["".join(scripts[:1]) + rules]
                texts[:1] = ["; ".join([*texts[:1], "replace nftables rules"])]
        steps += [
            _Step(text, partial(nft.run, script), table) for text, script in zip(texts, scripts, strict=True)
        ]
        steps += [self._action(a) for a in plan_announcement(desired, held.kernel)]
        return steps

    def _action(self, action: Action) -> _Step:
        def run() -> None:
            with netlink.connection() as ip:
                netlink.perform(ip, action)

        return _Step(netlink.describe(action), run, _entry(action))

    def _carry_out(self, steps: list[_Step]) -> None:
        for step in steps:
            if step.entry is not None:
                self._journal.record(step.entry)
            self._on_step(step.text)
            step.run()


def _read(constants: Constants) -> _Held:
    """Read back what the node holds, as far as it is ours."""
    with netlink.connection() as ip:
        kernel = netlink.read_kernel(ip)
    state = nft.table_state(constants)
    sets: dict[str, nft.SetContent] = {}
    if state.loaded:
        sets = {name: nft.read_set(name) for name, s in SETS.items() if not s.dynamic}
    closed = tuple(f for f in firewall.firewalls() if not firewall.accepts(f))
    return _Held(kernel, state, constants, sets, closed)


def _right_chains(desired: Constants, held: _Held) -> frozenset[str]:
    """Return the chains whose rules need no change: those found right, as far as they are still wanted."""
    if desired == held.constants:
        return held.table.right
    before = chains(held.constants)
    return frozenset(n for n, c in chains(desired).items() if n in held.table.right and c == before[n])


def _after(desired: Steering, held: _Held, changes: Sequence[SetElements]) -> _Held:
    """Return what the node holds once all steps are made."""
    changed = {change.name: change for change in changes}
    sets = {}
    for name, elements in desired.sets.items():
        lingering = held.sets.get(name, nft.SetContent()).lingering
        if (change := changed.get(name)) and SETS[name].lingers:
            lingering = (lingering - change.add) | change.remove
        sets[name] = nft.SetContent(elements, lingering)
    foreign = frozenset(r for r in held.kernel.rules if r.protocol != OWNER and r.priority != 0)
    kernel = replace(
        held.kernel,
        link=desired.link,
        rules=desired.rules | foreign,
        routes=desired.routes,
        proxies=desired.proxies,
        frames=desired.frames,
    )
    state = nft.TableState(True, True, frozenset(chains(desired.constants)))
    return _Held(kernel, state, desired.constants, sets)


def _entry(action: Action) -> Entry | None:
    match action:
        case MakeLink():
            return Entry("link", "vpp0")
        case AddRule(rule):
            return Entry("rule", str(rule))
        case AddRoute(route):
            return Entry("routes", f"IPv{route.family} table {route.table}")
        case DelRule(rule) if rule.priority == 0:
            return Entry("moved", str(rule), "0")
        case AddProxy(proxy):
            return Entry("proxy", str(proxy))
        case MakeFrameLink():
            return Entry("link", FRAME_LINK)
        case DelRule() | DelRoute() | DelLink() | DelFrameLink() | DelProxy():
            return None
    return None
