"""What the node's network must send to the dataplane, kept up to date record by record.

An address attracts traffic from when it is programmed until it is no longer wanted; replies of an endpoint
are taken in while it is wanted or still programmed. So a flow never meets a dataplane that does not know its
address, and no reply passes by untranslated.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
import time
from collections.abc import Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar

import structlog

from vpp_operator.agent.facts import NodeFacts
from vpp_operator.dataplane.records import FrontendKind, PrefixClass, Table
from vpp_operator.node.network import Applied
from vpp_operator.node.spec import Finding, GtpuSteer, IpAddress, IpNetwork, NodePort, NodeSpec, Target
from vpp_operator.watch import Backoff

__all__ = ["Network", "NodeSteering", "SteeringSets"]

_log = structlog.get_logger(__name__)

E = TypeVar("E")

_FRONTEND = struct.Struct("<IBBHB7x16sQB7x")
_ENDPOINT_KEY = struct.Struct("<QBxHI16s")
_PREFIX_KEY = struct.Struct("<IBBBx16s")
_SERVICE_HEAD = struct.Struct("<QBB")
_GTPU_ENDPOINT_KEY = struct.Struct("<IB3x16s")


class _Counted(Generic[E]):
    """A set whose elements several keys may need; its frozen form is made once per change."""

    def __init__(self) -> None:
        self._count: dict[E, int] = {}
        self._frozen: frozenset[E] | None = frozenset()

    def add(self, element: E) -> bool:
        count = self._count.get(element, 0)
        self._count[element] = count + 1
        if not count:
            self._frozen = None
        return not count

    def remove(self, element: E) -> bool:
        count = self._count[element]
        if count > 1:
            self._count[element] = count - 1
            return False
        del self._count[element]
        self._frozen = None
        return True

    def frozen(self) -> frozenset[E]:
        if self._frozen is None:
            # From the dict itself: its hashes are taken over, not computed again.
            self._frozen = frozenset(self._count)
        return self._frozen


class SteeringSets:
    """Node ports, external addresses, ClusterIPs, endpoints and GTP-U addresses of the records. Pure."""

    def __init__(self) -> None:
        self.changed = False
        self._protocols: dict[int, int] = {}
        self._frontends: dict[bytes, NodePort | Target | bytes] = {}
        self._endpoints: dict[bytes, Target] = {}
        self._prefixes: dict[bytes, IpNetwork] = {}
        self._ue_pools: dict[bytes, IpNetwork] = {}
        self._gtpu: dict[bytes, IpAddress] = {}
        self._node_ports: _Counted[NodePort] = _Counted()
        self._external: _Counted[Target] = _Counted()
        self._cluster_ips: _Counted[bytes] = _Counted()
        self._targets: _Counted[Target] = _Counted()

    def note(self, table: Table, key: bytes, record: bytes | None, programmed: bool) -> None:
        """Take note of a key: its wanted record (None: not wanted), and whether it is programmed."""
        if table is Table.FRONTEND:
            self._frontend(key, record if programmed or key in self._frontends else None)
        elif table is Table.ENDPOINT:
            self._endpoint(key, record is not None or programmed)
        elif table is Table.PREFIX:
            known = key in self._prefixes or key in self._ue_pools
            self._prefix(key, record is not None and (programmed or known))
        elif table is Table.GTPU_ENDPOINT:
            self._gtpu_address(key, record is not None and (programmed or key in self._gtpu))
        elif table is Table.SERVICE:
            if record is not None:
                ident, _, protocol = _SERVICE_HEAD.unpack_from(record)
                self._protocols[ident] = protocol
            elif not programmed:
                self._protocols.pop(int.from_bytes(key[:8], "little"), None)

    def _prefix(self, key: bytes, present: bool) -> None:
        _, family, length, prefix_class, raw = _PREFIX_KEY.unpack(key)
        if prefix_class not in (PrefixClass.SERVICE, PrefixClass.UE_POOL):
            return
        known = self._prefixes if prefix_class == PrefixClass.SERVICE else self._ue_pools
        if present == (key in known):
            return
        self.changed = True
        if present:
            known[key] = ipaddress.ip_network((raw[:4] if family == 4 else raw, length))
        else:
            del known[key]

    def _gtpu_address(self, key: bytes, present: bool) -> None:
        if present == (key in self._gtpu):
            return
        self.changed = True
        if present:
            _, family, raw = _GTPU_ENDPOINT_KEY.unpack(key)
            self._gtpu[key] = ipaddress.ip_address(raw[:4] if family == 4 else raw)
        else:
            del self._gtpu[key]

    def _frontend(self, key: bytes, record: bytes | None) -> None:
        old = self._frontends.get(key)
        new: NodePort | Target | bytes | None = None
        if record is not None:
            _, family, protocol, port, node_port, raw, _, kind = _FRONTEND.unpack(record)
            address = raw[:4] if family == 4 else raw
            if node_port:
                new = NodePort(protocol, port)
            elif kind == FrontendKind.CLUSTER_IP:
                new = address
            else:
                new = Target(address, protocol, port)
        if new == old and type(new) is type(old):
            return
        if old is not None:
            del self._frontends[key]
            self.changed |= self._change(old, add=False)
        if new is not None:
            self._frontends[key] = new
            self.changed |= self._change(new, add=True)

    def _change(self, entry: NodePort | Target | bytes, *, add: bool) -> bool:
        if isinstance(entry, NodePort):
            return self._node_ports.add(entry) if add else self._node_ports.remove(entry)
        if isinstance(entry, Target):
            return self._external.add(entry) if add else self._external.remove(entry)
        return self._cluster_ips.add(entry) if add else self._cluster_ips.remove(entry)

    def _endpoint(self, key: bytes, present: bool) -> None:
        old = self._endpoints.get(key)
        if (old is not None) == present:
            return
        if old is not None:
            del self._endpoints[key]
            self.changed |= self._targets.remove(old)
            return
        ident, family, port, _, raw = _ENDPOINT_KEY.unpack(key)
        protocol = self._protocols.get(ident)
        if protocol is None:
            # Left behind by an earlier life, its service unknown: nothing of ours sends to it any more.
            return
        target = Target(raw[:4] if family == 4 else raw, protocol, port)
        self._endpoints[key] = target
        self.changed |= self._targets.add(target)

    def node_ports(self) -> frozenset[NodePort]:
        """Return the programmed node ports."""
        return self._node_ports.frozen()

    def external(self) -> frozenset[Target]:
        """Return the programmed external addresses with their ports."""
        return self._external.frozen()

    def endpoints(self) -> frozenset[Target]:
        """Return the endpoints whose replies are taken in."""
        return self._targets.frozen()

    def gtpu(self) -> frozenset[IpAddress]:
        """Return the programmed GTP-U addresses."""
        return frozenset(self._gtpu.values())

    def ue_pools(self) -> frozenset[IpNetwork]:
        """Return the programmed prefixes of user equipment."""
        return frozenset(self._ue_pools.values())

    def service_networks(self) -> frozenset[IpNetwork]:
        """Return the programmed service ranges, and each ClusterIP outside them as a network of its own."""
        ranges = set(self._prefixes.values())
        outside: set[IpNetwork] = set()
        for raw in self._cluster_ips.frozen():
            address = ipaddress.ip_address(raw)
            if not any(address in network for network in ranges):
                outside.add(ipaddress.ip_network(address))
        return frozenset(ranges | outside)


class Network(Protocol):
    """The node's network (see :class:`vpp_operator.node.network.NodeNetwork`); both calls block."""

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> object:
        """Bring the node to ``spec``; with ``verify`` read back what it holds first."""
        ...

    def withdraw(self, addresses: Collection[IpAddress]) -> object:
        """Take own GTP-U addresses away at once; the rest is not touched."""
        ...

    def joined(self) -> bool:
        """Whether anything of ours is on the node."""
        ...

    def ask(self) -> object:
        """Ask the neighbours for own addresses that the last apply left open."""
        ...

    def announce(self, spec: NodeSpec) -> object:
        """Tell neighbours once more where the own addresses of ``spec`` are."""
        ...

    def undo(self) -> object:
        """Remove all that is ours."""
        ...


class NodeSteering:
    """Brings the node's network to what the records need, and retries with back-off."""

    VERIFY_SECONDS = 180.0
    # When an address that moved here is announced again: frames may be lost.
    ANNOUNCE_SECONDS = (1.0, 3.0)

    def __init__(
        self,
        network: Network,
        facts: Callable[[], NodeFacts],
        *,
        gtpu: Callable[[], Mapping[IpAddress, bool]] = dict,
        frames: Callable[[], bool] = lambda: False,
        large_udp: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.refused: tuple[Finding, ...] = ()
        """What of the GTP-U addresses and prefixes the node could not take, and why."""
        self._gtpu = gtpu
        self._frames = frames
        self._large_udp = large_udp
        self._announced: frozenset[IpAddress] = frozenset()
        self._announcing: asyncio.Task[None] | None = None
        self._wake = wake
        self._asking: asyncio.Task[None] | None = None
        self._asked = False
        self.error = ""
        """Why the node's network is not as it should be; empty: it is."""
        self.applied = False
        """Whether it was brought there since the process started."""
        self.held = False
        """Whether a node that was not joined yet is left as it is (another service proxy serves there)."""
        self.last_seconds = 0.0
        self._network = network
        self._facts = facts
        self._clock = clock
        self._on_change = on_change
        self._sets = SteeringSets()
        self._facts_changed = True
        self._retry_at = 0.0
        self._verify_at = 0.0
        self._backoff = Backoff(first=1.0, longest=60.0)
        self._lock = asyncio.Lock()

    def note(self, table: Table, key: bytes, record: bytes | None, programmed: bool) -> None:
        """Take note of a key (see :class:`vpp_operator.agent.loop.Steering`)."""
        self._sets.note(table, key, record, programmed)

    def facts_changed(self) -> None:
        """The node's facts are different now."""
        self._facts_changed = True

    def waiting(self) -> bool:
        """Whether something changed, failed, or is to be read back."""
        if self.held and not self.applied:
            return False
        now = self._clock()
        if self.error:
            return now >= self._retry_at
        return self._sets.changed or self._facts_changed or now >= self._verify_at

    def spec(self) -> NodeSpec:
        """Return what the node's network should be."""
        facts = self._facts()
        sets = self._sets
        # An address that is not active here any more goes at once, whatever the dataplane still holds.
        active = self._gtpu()
        gtpu = sorted((a for a in sets.gtpu() if a in active), key=lambda a: (a.version, a.packed))
        return NodeSpec(
            addresses=facts.addresses(),
            service_cidrs=sets.service_networks(),
            pod_cidrs=frozenset(facts.pod_cidrs),
            node_ports=sets.node_ports(),
            external=sets.external(),
            endpoints=sets.endpoints(),
            snat_ranges=tuple(facts.snat_ranges),
            gtpu=tuple(GtpuSteer(address, own=active[address]) for address in gtpu),
            frames=self._frames(),
            large_udp=self._large_udp(),
            ue_pools=tuple(sorted(sets.ue_pools(), key=lambda n: (n.version, n.network_address.packed))),
        )

    async def apply(self) -> None:
        """Bring the node there; what goes wrong is kept in :attr:`error` and tried again later."""
        async with self._lock:
            await self._apply()

    async def _apply(self) -> None:
        started = self._clock()
        verify = started >= self._verify_at or bool(self.error)
        self._sets.changed = self._facts_changed = False
        before = (self.error, self.refused)
        spec = self.spec()
        try:
            result = await asyncio.to_thread(self._network.apply, spec, verify=verify)
        except Exception as error:
            # Whatever the node refuses, Services that are steered already go on.
            self.error = str(error) or type(error).__name__
            self._retry_at = self._clock() + self._backoff.pause()
            if self.error != before[0]:
                _log.error("node network not as it should be", error=self.error)
        else:
            self.error, self.applied = "", True
            self.refused = result.refused if isinstance(result, Applied) else ()
            self._ask_neighbours(result.ask_in if isinstance(result, Applied) else None)
            self._announce(spec)
            self._backoff.reset()
            if verify:
                self._verify_at = self._clock() + self.VERIFY_SECONDS
        self.last_seconds = self._clock() - started
        if (self.error, self.refused) != before:
            self._on_change()

    def _ask_neighbours(self, seconds: float | None) -> None:
        """Ask for the addresses that are open, beside all other work, and apply again with the answers."""
        if self._asking is not None and not self._asking.done():
            if self._asked:
                # What is open now is seen when the answers are applied.
                return
            self._asking.cancel()
        self._asking = None
        if seconds is not None:
            self._asked = False
            self._asking = asyncio.create_task(self._ask(seconds), name="ask for addresses")

    async def _ask(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._asked = True
        try:
            await asyncio.to_thread(self._network.ask)
        except Exception as error:
            # Whatever it is, the addresses stay open: they are asked for again with the next apply.
            _log.error("addresses not asked for", error=str(error))
            await asyncio.sleep(self._backoff.longest)
        self._facts_changed = True
        self._wake()

    def _announce(self, spec: NodeSpec) -> None:
        """Announce addresses that are new here again a little later."""
        refused = {finding.subject for finding in self.refused}
        own = frozenset(s.address for s in spec.gtpu if s.own and str(s.address) not in refused)
        new, self._announced = own - self._announced, own
        if not new:
            return
        if self._announcing is not None:
            self._announcing.cancel()
        self._announcing = asyncio.create_task(self._announce_again(), name="announce")

    async def _announce_again(self) -> None:
        last = 0.0
        for at in self.ANNOUNCE_SECONDS:
            await asyncio.sleep(at - last)
            last = at
            async with self._lock:
                try:
                    await asyncio.to_thread(self._network.announce, self.spec())
                except Exception as error:
                    _log.warning("addresses not announced again", error=str(error))

    async def withdraw(self, addresses: Collection[IpAddress]) -> None:
        """Take own GTP-U addresses away at once; raises what the node's side raises."""
        async with self._lock:
            await asyncio.to_thread(self._network.withdraw, addresses)
            self._announced -= frozenset(addresses)
            self._facts_changed = True

    async def undo(self) -> None:
        """Give the node its own network back; raises what the node's side raises."""
        async with self._lock:
            await asyncio.to_thread(self._network.undo)
            self._facts_changed = True
            self.applied = False
