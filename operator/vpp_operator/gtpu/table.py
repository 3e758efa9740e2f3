"""The desired GTP-U tables, kept up to date by object events. A state machine: no I/O, no clock.

A change of one object costs about the size of that object; a set of a million comes out in slices. The
outcome depends on the objects that are there, never on the order in which they came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    Table,
)

from .claims import Arbiter, Claim
from .decode import DecodeError
from .expand import all_records
from .flow import Anchor, Flow, InForce
from .model import ENDPOINT, SET, TUNNEL, Age, Carrier, Endpoint, IpAddress, IpNetwork, Tunnel, TunnelSet
from .rules import (
    ACCEPTED,
    Reserved,
    Standing,
    carrier_claims,
    carrier_conflict,
    carrier_fault,
    endpoint_claims,
    endpoint_conflict,
    endpoint_fault,
)
from .waiting import Waiting

__all__ = ["TABLES", "Changes", "GtpuTable", "Options"]

TABLES: Final = (Table.GTPU_ENDPOINT, Table.GTPU_PEER, Table.GTPU_TUNNEL, Table.GTPU_UE)
"""The tables whose records come from GTP-U objects."""

T = TypeVar("T", Tunnel, TunnelSet)


@dataclass(frozen=True, slots=True)
class Options:
    """What the node's engine takes. ``inner_vrfs``: inner VRFs other than 0."""

    inner_vrfs: bool = False


@dataclass(slots=True)
class Changes:
    """The difference that one update made.

    ``upserts``: record by key; ``deletes``: keys; a key is in one of the two at most. ``problems``: owners
    whose list of problems changed; ``standings``: owners whose standing changed. ``steering``: the local
    addresses or pools changed.
    """

    upserts: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in TABLES})
    deletes: dict[Table, set[bytes]] = field(default_factory=lambda: {table: set() for table in TABLES})
    problems: set[Owner] = field(default_factory=set)
    standings: set[Owner] = field(default_factory=set)
    steering: bool = False

    def __bool__(self) -> bool:
        return (
            any(self.upserts.values())
            or any(self.deletes.values())
            or bool(self.problems or self.standings or self.steering)
        )

    def merge(self, later: Changes) -> None:
        """Add a later difference: the two together, as if they had been one."""
        for table in TABLES:
            upserts, deletes = self.upserts[table], self.deletes[table]
            for key in later.deletes[table]:
                upserts.pop(key, None)
            deletes.update(later.deletes[table])
            deletes.difference_update(later.upserts[table])
            upserts.update(later.upserts[table])
        self.problems |= later.problems
        self.standings |= later.standings
        self.steering |= later.steering


class GtpuTable:
    """GTP-U objects in, records, standings and problems out.

    Events only mark what they touch; :meth:`update` does the work and returns the difference. The other
    methods speak of the state as of the last update that left nothing :attr:`pending`.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._endpoints: dict[str, Endpoint] = {}
        self._carriers: dict[Owner, Carrier] = {}
        self._by_endpoint: dict[str, set[Owner]] = {}
        self._broken: dict[Owner, Problem] = {}
        self._reserved = Reserved()
        self._active: frozenset[str] = frozenset()

        # What the next update has to look at.
        self._dirty_endpoints: set[str] = set()
        self._dirty = Waiting(self._age)
        self._reported: set[Owner] = set()
        # Endpoints whose name or address had other records: once those are gone.
        self._again: set[str] = set()

        # The outcome of the last update.
        self._local = Arbiter()
        self._tunnels = Arbiter()
        self._standings: dict[Owner, Standing] = {}
        self._problems: dict[Owner, Problem] = {}
        self._names: dict[int, str] = {}
        self._idents: dict[str, int] = {}
        self._anchors: dict[Anchor, Anchor] = {}
        self._flow = Flow()
        self._steering: tuple[tuple[tuple[IpAddress, bool], ...], tuple[IpNetwork, ...]] = ((), ())

    # ----------------------------------------------------------------------------------------- events

    def upsert_endpoint(self, endpoint: Endpoint) -> None:
        """Take a GtpuEndpoint as it is now."""
        self._mend(endpoint.owner)
        if self._endpoints.get(endpoint.name) != endpoint:
            self._endpoints[endpoint.name] = endpoint
            self._dirty_endpoints.add(endpoint.name)

    def delete_endpoint(self, name: str) -> None:
        """The GtpuEndpoint is gone."""
        self._mend(Owner(ENDPOINT, "", name))
        if self._endpoints.pop(name, None) is not None:
            self._dirty_endpoints.add(name)

    def upsert_tunnel(self, tunnel: Tunnel) -> None:
        """Take a GtpuTunnel as it is now."""
        self._upsert(tunnel)

    def delete_tunnel(self, namespace: str, name: str) -> None:
        """The GtpuTunnel is gone."""
        self._delete(Owner(TUNNEL, namespace, name))

    def upsert_set(self, tunnels: TunnelSet) -> None:
        """Take a GtpuTunnelSet as it is now."""
        self._upsert(tunnels)

    def delete_set(self, namespace: str, name: str) -> None:
        """The GtpuTunnelSet is gone."""
        self._delete(Owner(SET, namespace, name))

    def retain_endpoints(self, present: Collection[str]) -> None:
        """A complete list came in: the GtpuEndpoints that are not in it are gone."""
        for name in self._endpoints.keys() - present:
            self.delete_endpoint(name)
        self._forget_broken(ENDPOINT, {("", name) for name in present})

    def retain_tunnels(self, present: Collection[tuple[str, str]]) -> None:
        """A complete list came in: the GtpuTunnels (namespace, name) that are not in it are gone."""
        self._retain(TUNNEL, set(present))

    def retain_sets(self, present: Collection[tuple[str, str]]) -> None:
        """A complete list came in: the GtpuTunnelSets (namespace, name) that are not in it are gone."""
        self._retain(SET, set(present))

    def reject(self, error: DecodeError) -> None:
        """An object could not be read: its last good version stays in force, and it gets a problem."""
        message = (
            f"{error.field}: {error.message}. Its last valid version stays in force; correct the object."
        )
        self._broken[error.owner] = Problem(*error.owner, Reason.INVALID, message, error.generation)
        self._reported.add(error.owner)

    def activate(self, names: Collection[str]) -> None:
        """Set which endpoints this node serves: only those have records here."""
        active = frozenset(names)
        self._dirty_endpoints |= active ^ self._active
        self._active = active

    def reserve(self, reserved: Reserved) -> None:
        """Set what belongs to the cluster itself (see :func:`vpp_operator.gtpu.cluster.reserved`)."""
        if reserved != self._reserved:
            self._reserved = reserved
            self._dirty_endpoints |= self._endpoints.keys()

    def _upsert(self, carrier: Carrier) -> None:
        owner = carrier.owner
        self._mend(owner)
        old = self._carriers.get(owner)
        if old == carrier:
            return
        if old is not None and old.endpoint != carrier.endpoint:
            self._unlink(owner, old.endpoint)
        self._carriers[owner] = carrier
        self._by_endpoint.setdefault(carrier.endpoint, set()).add(owner)
        self._dirty.add(owner)

    def _delete(self, owner: Owner) -> None:
        self._mend(owner)
        old = self._carriers.pop(owner, None)
        if old is not None:
            self._unlink(owner, old.endpoint)
            self._dirty.add(owner)

    def _unlink(self, owner: Owner, endpoint: str) -> None:
        owners = self._by_endpoint[endpoint]
        owners.discard(owner)
        if not owners:
            del self._by_endpoint[endpoint]

    def _retain(self, kind: str, present: set[tuple[str, str]]) -> None:
        for owner in [o for o in self._carriers if o.kind == kind and (o.namespace, o.name) not in present]:
            self._delete(owner)
        self._forget_broken(kind, present)

    def _forget_broken(self, kind: str, present: set[tuple[str, str]]) -> None:
        for owner in [o for o in self._broken if o.kind == kind and (o.namespace, o.name) not in present]:
            self._mend(owner)

    def _mend(self, owner: Owner) -> None:
        if self._broken.pop(owner, None) is not None:
            self._reported.add(owner)

    # ----------------------------------------------------------------------------------------- update

    @property
    def pending(self) -> int:
        """About how many objects and records the next :meth:`update` has to go through."""
        waiting = (self._dirty_endpoints, self._dirty, self._reported, self._again)
        return sum(len(names) for names in waiting) + self._flow.pending

    def update(self, limit: int | None = None) -> Changes:
        """Recompute what the events since the last update touched; return the difference.

        ``limit``: about that many objects and records now, :attr:`pending` says how many are left.
        """
        changes = Changes()
        changes.problems |= self._reported
        changes.standings |= {owner for owner in self._reported if owner not in self._standings}
        self._reported.clear()
        self._settle_endpoints(changes)
        self._settle_carriers(limit, changes)
        self._flow.drain(limit, not self._dirty, changes.upserts, changes.deletes)
        for table in TABLES:
            # A key that one object lets go and another takes over is an upsert only.
            changes.deletes[table].difference_update(changes.upserts[table])
        return changes

    def _settle_endpoints(self, changes: Changes) -> None:
        dirty, self._dirty_endpoints = self._dirty_endpoints, set()
        if self._again and not self._dirty and not self._flow.pending:
            dirty |= self._again
            self._again.clear()
        if not dirty:
            return
        faults: dict[Owner, Standing] = {}
        for name in dirty:
            owner = Owner(ENDPOINT, "", name)
            endpoint = self._endpoints.get(name)
            fault = endpoint_fault(endpoint, self._reserved) if endpoint else None
            if endpoint is None or fault is not None:
                self._local.drop(owner)
                if fault is not None:
                    faults[owner] = fault
            else:
                self._local.put(endpoint.age, endpoint_claims(endpoint))
        touched = {owner.name for owner in self._local.settle()} | dirty
        for name in touched:
            owner = Owner(ENDPOINT, "", name)
            endpoint = self._endpoints.get(name)
            standing: Standing | None = None
            if endpoint is not None:
                self._names[endpoint.ident] = name
                lost = self._local.lost_to(owner)
                standing = faults.get(owner) or (endpoint_conflict(*lost) if lost else ACCEPTED)
            ident = endpoint.ident if endpoint is not None else 0
            if (old := self._idents.pop(name, 0)) != ident:
                self._names.pop(old, None)
            if ident:
                self._idents[name] = ident
            self._note(owner, standing, endpoint.generation if endpoint else 0, changes)
            serving = endpoint if standing and standing.accepted and name in self._active else None
            self._again.discard(name)
            if serving is not None and not self._flow.free(serving):
                self._again.add(name)
                serving = None
            self._flow.endpoint(name, serving)
            self._dirty.update(self._by_endpoint.get(name, ()))
        steering = self._steered()
        changes.steering = steering != self._steering
        self._steering = steering

    def _settle_carriers(self, limit: int | None, changes: Changes) -> None:
        dirty = self._dirty.take(limit)
        faults: dict[Owner, Standing] = {}
        for owner in dirty:
            carrier = self._carriers.get(owner)
            if carrier is None:
                self._tunnels.drop(owner)
                continue
            endpoint = self._endpoints.get(carrier.endpoint)
            fault = carrier_fault(
                carrier, endpoint, self._standings.get(Owner(ENDPOINT, "", carrier.endpoint))
            )
            if fault is not None:
                faults[owner] = fault
                self._tunnels.drop(owner)
            else:
                self._tunnels.put(carrier.age, carrier_claims(carrier))
        for owner in self._tunnels.settle() | dirty:
            if owner in self._dirty:
                # Its turn comes later, but what it lost goes before another gets it.
                if not self._tunnels.holds(owner):
                    self._flow.carrier(owner, None)
                continue
            carrier = self._carriers.get(owner)
            standing = None
            if carrier is not None:
                lost = self._tunnels.lost_to(owner)
                standing = faults.get(owner) or (carrier_conflict(carrier, *lost) if lost else ACCEPTED)
            self._place(owner, carrier, standing, changes)

    def _age(self, owner: Owner) -> Age | None:
        carrier = self._carriers.get(owner)
        return carrier.age if carrier is not None else None

    def _place(
        self, owner: Owner, carrier: Carrier | None, standing: Standing | None, changes: Changes
    ) -> None:
        """Put a tunnel or set into the tables of this node, or take it out."""
        wanted: InForce | None = None
        limited: Standing | None = None
        if carrier is not None and standing is not None and standing.accepted:
            endpoint = self._endpoints[carrier.endpoint]
            if carrier.endpoint in self._active and carrier.endpoint not in self._again:
                if carrier.inner_vrf and not self._options.inner_vrfs:
                    field_name = "spec.inner.vrf" if isinstance(carrier, Tunnel) else "spec.template.vrf"
                    limited = Standing(
                        False,
                        Reason.UNSUPPORTED,
                        f"{field_name}: {carrier.inner_vrf} needs engine vpp; this node's engine has the "
                        "routing table 0 only. Take 0, or nodes with engine vpp.",
                    )
                else:
                    wanted = InForce(carrier, self._anchor(endpoint))
        generation = carrier.generation if carrier else 0
        self._note(owner, standing, generation, changes, limited)
        self._flow.carrier(owner, wanted)

    def _anchor(self, endpoint: Endpoint) -> Anchor:
        """Return the endpoint's anchor, one object for all that hang on it."""
        found = Anchor.of(endpoint)
        return self._anchors.setdefault(found, found)

    def _note(
        self,
        owner: Owner,
        standing: Standing | None,
        generation: int,
        changes: Changes,
        limited: Standing | None = None,
    ) -> None:
        """Keep the verdict over an object; None: it is gone."""
        if self._standings.get(owner) != standing:
            changes.standings.add(owner)
            if standing is None:
                del self._standings[owner]
            else:
                self._standings[owner] = standing
        what = limited or standing
        problem = None
        if what is not None and not what.accepted:
            problem = Problem(*owner, what.reason, what.message, generation)
        if self._problems.get(owner) != problem:
            changes.problems.add(owner)
            if problem is None:
                del self._problems[owner]
            else:
                self._problems[owner] = problem

    def _steered(self) -> tuple[tuple[tuple[IpAddress, bool], ...], tuple[IpNetwork, ...]]:
        serving = [
            endpoint
            for name, endpoint in sorted(self._endpoints.items())
            if name in self._active and self.standing(endpoint.owner).accepted
        ]
        return (
            tuple((endpoint.address, endpoint.floating) for endpoint in serving),
            tuple(pool for endpoint in serving for pool in endpoint.pools),
        )

    # ---------------------------------------------------------------------------------------- outcome

    def addresses(self) -> tuple[tuple[IpAddress, bool], ...]:
        """Return the local addresses that this node serves; True: the address is no node's (Floating)."""
        return self._steering[0]

    def pools(self) -> tuple[IpNetwork, ...]:
        """Return the users' prefixes that this node serves."""
        return self._steering[1]

    def standing(self, owner: Owner) -> Standing:
        """Return whether an object is accepted, and why not."""
        found = self._standings.get(owner)
        if found is not None:
            return found
        broken = self._broken.get(owner)
        return Standing(False, Reason.INVALID, broken.message if broken else "The object is not known.")

    def tunnels(self) -> int:
        """Return the number of tunnels that this node should have."""
        return sum(force.carrier.count for force in self._flow.in_force.values())

    def carriers(self) -> Iterator[InForce]:
        """Yield the tunnels and sets that this node should have, with what they hang on."""
        return iter(list(self._flow.in_force.values()))

    def served(self, owner: Owner) -> int:
        """Return the number of tunnels of an object that this node should have."""
        force = self._flow.in_force.get(owner)
        return force.carrier.count if force else 0

    def tunnel_keys(self, owner: Owner) -> Iterator[bytes]:
        """Yield the keys of the tunnel records of an object on this node."""
        force = self._flow.in_force.get(owner)
        if force is not None:
            size = KEY_SIZE[Table.GTPU_TUNNEL]
            for table, record in all_records(force.carrier, force.anchor.ident):
                if table is Table.GTPU_TUNNEL:
                    yield record[:size]

    def desired(self) -> Iterator[tuple[Owner, Table, bytes]]:
        """Yield every record with its owner and table; a peer's owner is its endpoint."""
        for table, name, record in self._flow.shared():
            yield Owner(ENDPOINT, "", name), table, record
        for owner, force in self._flow.in_force.items():
            for table, record in all_records(force.carrier, force.anchor.ident):
                yield owner, table, record

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the owner of the record with ``key``; None if no such record is desired."""
        if table is Table.GTPU_UE:
            vrf, family = int.from_bytes(key[:4], "little"), key[4]
            width = {0: 2, 4: 4, 6: 16}.get(family)
            if width is None:
                return None
            number = int.from_bytes(key[8 : 8 + width], "big")
            return self._tunnels.holder(Claim(("ue", vrf, family), number, number))
        if table is Table.GTPU_ENDPOINT:
            for kind, name, record in self._flow.shared():
                if kind is table and record[: len(key)] == key:
                    return Owner(ENDPOINT, "", name)
            return None
        endpoint = self._names.get(int.from_bytes(key[:8], "little"))
        if endpoint is None:
            return None
        if table is Table.GTPU_PEER:
            return Owner(ENDPOINT, "", endpoint)
        teid = int.from_bytes(key[8:12], "little")
        return self._tunnels.holder(Claim(("teid", endpoint), teid, teid))

    def problems(self, owner: Owner) -> list[Problem]:
        """Return what is wrong with ``owner``, sorted; empty: nothing."""
        found = (self._broken.get(owner), self._problems.get(owner))
        return sorted(problem for problem in found if problem is not None)

    def owners_with_problems(self) -> set[Owner]:
        """Return the owners for which :meth:`problems` is not empty."""
        return set(self._broken) | set(self._problems)
