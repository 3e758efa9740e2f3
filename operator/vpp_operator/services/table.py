"""The desired service table, kept up to date by object events. A state machine: no I/O, no clock.

A change of one Service or slice costs about the size of that Service. The outcome depends on the objects that
are there, never on the order in which they came.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import KEY_SIZE, FrontendRecord, Table

from .compute import NOTHING, Computed, Options, compute, in_scope
from .decode import DecodeError
from .model import EndpointSlice, ObjectName, Service

__all__ = ["TABLES", "Changes", "ServiceTable"]

TABLES: Final = (Table.SERVICE, Table.FRONTEND, Table.ENDPOINT)
"""The tables whose records come from Services."""

# Sorts after every RFC 3339 time: an object without one is the newest.
_NEWEST: Final = "~"


class _Claim(NamedTuple):
    """A Service's claim on a frontend key. The smallest wins: oldest creation, then UID."""

    created: str
    uid: str
    name: ObjectName


@dataclass(slots=True)
class Changes:
    """The difference that one update made to the records.

    ``upserts``: record by key; ``deletes``: keys; a key is in one of the two at most. ``problems``: owners
    whose list of problems changed.
    """

    upserts: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in TABLES})
    deletes: dict[Table, set[bytes]] = field(default_factory=lambda: {table: set() for table in TABLES})
    problems: set[Owner] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(self.upserts.values()) or any(self.deletes.values()) or bool(self.problems)

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


class ServiceTable:
    """Services and EndpointSlices in, records and problems out.

    Events only mark what they touch; :meth:`update` does the work and returns the difference. The other
    methods speak of the state as of the last update.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._services: dict[ObjectName, Service] = {}
        self._slices: dict[ObjectName, EndpointSlice] = {}
        self._by_service: dict[ObjectName, dict[str, EndpointSlice]] = {}
        # Broken objects: where each is reported, and the problems by that.
        self._broken: dict[Owner, Owner] = {}
        self._broken_problems: dict[Owner, dict[Owner, Problem]] = {}
        # What the next update has to look at.
        self._dirty: set[ObjectName] = set()
        self._reported: set[Owner] = set()

        # The outcome of the last update.
        self._computed: dict[ObjectName, Computed] = {}
        self._in_scope: set[ObjectName] = set()
        self._claims: dict[bytes, list[_Claim]] = {}
        self._contested: dict[bytes, list[ObjectName]] = {}
        self._losing: dict[ObjectName, set[bytes]] = {}
        self._id_owner: dict[int, ObjectName] = {}

    # ----------------------------------------------------------------------------------------- events

    def upsert_service(self, service: Service) -> None:
        """Take a Service as it is now."""
        key = service.key
        self._mend(service.owner)
        if self._services.get(key) != service:
            self._services[key] = service
            self._dirty.add(key)

    def delete_service(self, namespace: str, name: str) -> None:
        """The Service is gone."""
        key = ObjectName(namespace, name)
        self._mend(Owner("Service", namespace, name))
        if self._services.pop(key, None) is not None:
            self._dirty.add(key)

    def upsert_slice(self, piece: EndpointSlice) -> None:
        """Take an EndpointSlice as it is now."""
        self._mend(Owner("EndpointSlice", piece.namespace, piece.name))
        old = self._slices.get(piece.key)
        if old == piece:
            return
        if old is not None:
            self._unlink(old)
        self._slices[piece.key] = piece
        service = _service_of(piece)
        if service is not None:
            self._by_service.setdefault(service, {})[piece.name] = piece
            self._dirty.add(service)

    def delete_slice(self, namespace: str, name: str) -> None:
        """The EndpointSlice is gone."""
        self._mend(Owner("EndpointSlice", namespace, name))
        old = self._slices.pop(ObjectName(namespace, name), None)
        if old is not None:
            self._unlink(old)

    def retain_services(self, present: Collection[ObjectName]) -> None:
        """A complete list came in: the Services that are not in it are gone."""
        for namespace, name in self._services.keys() - present:
            self.delete_service(namespace, name)
        self._forget_broken("Service", present)

    def retain_slices(self, present: Collection[ObjectName]) -> None:
        """A complete list came in: the EndpointSlices that are not in it are gone."""
        for namespace, name in self._slices.keys() - present:
            self.delete_slice(namespace, name)
        self._forget_broken("EndpointSlice", present)

    def _forget_broken(self, kind: str, present: Collection[ObjectName]) -> None:
        for owner in [owner for owner in self._broken if owner.kind == kind]:
            if ObjectName(owner.namespace, owner.name) not in present:
                self._mend(owner)

    def reject(self, error: DecodeError) -> None:
        """An object could not be read: its last good version stays in force, and it gets a problem.

        The problem is listed under its Service where that is known, else under the object itself.
        """
        owner = error.owner
        self._mend(owner)
        message = (
            f"{error.field}: {error.message}. Its last valid version stays in force; correct the object."
        )
        where = Owner("Service", *error.service) if error.service is not None else owner
        self._broken[owner] = where
        self._broken_problems.setdefault(where, {})[owner] = Problem(
            *owner, Reason.INVALID, message, error.generation
        )
        self._reported.add(where)

    def _mend(self, owner: Owner) -> None:
        where = self._broken.pop(owner, None)
        if where is None:
            return
        problems = self._broken_problems[where]
        del problems[owner]
        if not problems:
            del self._broken_problems[where]
        self._reported.add(where)

    def _unlink(self, piece: EndpointSlice) -> None:
        service = _service_of(piece)
        if service is None:
            return
        pieces = self._by_service[service]
        del pieces[piece.name]
        if not pieces:
            del self._by_service[service]
        self._dirty.add(service)

    # ----------------------------------------------------------------------------------------- update

    @property
    def pending(self) -> int:
        """Number of Services that the next :meth:`update` has to recompute."""
        return len(self._dirty)

    def update(self, limit: int | None = None) -> Changes:
        """Recompute what the events since the last update touched; return the difference.

        ``limit``: at most that many Services now, :attr:`pending` says how many are left. The records are
        those of the objects as they are only when none is.
        """
        changes = Changes()
        if limit is None or limit >= len(self._dirty):
            dirty, self._dirty = self._dirty, set()
        else:
            dirty = {self._dirty.pop() for _ in range(limit)}
        changes.problems, self._reported = self._reported, set()

        # Frontend keys whose record or winner may change, with the record in force before.
        touched: dict[bytes, bytes | None] = {}
        for name in dirty:
            self._recompute(name, changes, touched)
        self._settle(touched, changes)
        for table in TABLES:
            # A key that one Service lets go and another takes over is an upsert only.
            changes.deletes[table].difference_update(changes.upserts[table])
        return changes

    def _recompute(self, name: ObjectName, changes: Changes, touched: dict[bytes, bytes | None]) -> None:
        service = self._services.get(name)
        old = self._computed.get(name, NOTHING)
        new = NOTHING
        if service is not None:
            new = compute(service, tuple(self._by_service.get(name, {}).values()), self._options)
        if service is not None and in_scope(service, self._options):
            self._in_scope.add(name)
        else:
            self._in_scope.discard(name)

        claim = _claim(name, service)
        for key in old.frontends.keys() | new.frontends.keys():
            self._touch(key, touched)
            self._place(key, name, claim if key in new.frontends else None)

        _difference(old.services, new.services, Table.SERVICE, changes)
        _difference(old.endpoints, new.endpoints, Table.ENDPOINT, changes)
        for ident in old.ids - new.ids:
            self._id_owner.pop(ident, None)
        self._id_owner.update(dict.fromkeys(new.ids, name))
        # A lost claim is reported with the generation of the Service, which may be what changed.
        if old.problems != new.problems or name in self._losing:
            changes.problems.add(Owner("Service", *name))
        if new is NOTHING:
            self._computed.pop(name, None)
        else:
            self._computed[name] = new

    def _touch(self, key: bytes, touched: dict[bytes, bytes | None]) -> None:
        if key not in touched:
            touched[key] = self._in_force(key)

    def _in_force(self, key: bytes) -> bytes | None:
        claims = self._claims.get(key)
        return self._computed[claims[0].name].frontends[key] if claims else None

    def _place(self, key: bytes, name: ObjectName, claim: _Claim | None) -> None:
        """Replace the claim of ``name`` on ``key``."""
        claims = self._claims.get(key)
        if claims is None:
            if claim is not None:
                self._claims[key] = [claim]
            return
        position = next((i for i, other in enumerate(claims) if other.name == name), None)
        if position is not None:
            if claims[position] == claim:
                return
            del claims[position]
        if claim is not None:
            insort(claims, claim)
        if not claims:
            del self._claims[key]

    def _settle(self, touched: dict[bytes, bytes | None], changes: Changes) -> None:
        """Compare the records in force before and after; note who has the key and who loses it."""
        for key, before in touched.items():
            after = self._in_force(key)
            if after is None:
                if before is not None:
                    changes.deletes[Table.FRONTEND].add(key)
            elif after != before:
                changes.upserts[Table.FRONTEND][key] = after
            self._contest(key, changes)

    def _contest(self, key: bytes, changes: Changes) -> None:
        """Keep the losers of ``key``; the list starts with the winner."""
        old = self._contested.pop(key, [])
        new = [claim.name for claim in self._claims.get(key, ())]
        if len(new) > 1:
            self._contested[key] = new
        else:
            new = []
        if old == new:
            return
        for name in old[1:]:
            keys = self._losing[name]
            keys.discard(key)
            if not keys:
                del self._losing[name]
        for name in new[1:]:
            self._losing.setdefault(name, set()).add(key)
        changes.problems.update(Owner("Service", *name) for name in {*old[1:], *new[1:]})

    # ---------------------------------------------------------------------------------------- outcome

    def services(self) -> int:
        """Return the number of Services that are this proxy's to serve."""
        return len(self._in_scope)

    def desired(self) -> Iterator[tuple[Owner, Table, bytes]]:
        """Yield every record with its owner and table."""
        for name, computed in self._computed.items():
            owner = Owner("Service", *name)
            for record in computed.services:
                yield owner, Table.SERVICE, record
            for record in computed.endpoints:
                yield owner, Table.ENDPOINT, record
            losing = self._losing.get(name, ())
            for key, record in computed.frontends.items():
                if key not in losing:
                    yield owner, Table.FRONTEND, record

    def ids(self) -> Iterator[tuple[ObjectName, frozenset[int]]]:
        """Yield each Service with the ids of its service records; those that came first, first."""
        for name, computed in self._computed.items():
            yield name, computed.ids

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the owner of the record with ``key``; None if no such record is desired."""
        if table is Table.FRONTEND:
            claims = self._claims.get(key)
            return Owner("Service", *claims[0].name) if claims else None
        # Keys of services and endpoints start with the service id.
        name = self._id_owner.get(int.from_bytes(key[:8], "little"))
        return Owner("Service", *name) if name is not None else None

    def problems(self, owner: Owner) -> list[Problem]:
        """Return what is wrong with ``owner``, sorted; empty: nothing."""
        found = list(self._broken_problems.get(owner, {}).values())
        if owner.kind == "Service":
            name = ObjectName(owner.namespace, owner.name)
            found += self._computed.get(name, NOTHING).problems
            found += (self._conflict(name, key) for key in self._losing.get(name, ()))
        return sorted(found)

    def owners_with_problems(self) -> set[Owner]:
        """Return the owners for which :meth:`problems` is not empty."""
        owners = set(self._broken_problems)
        owners.update(Owner("Service", *name) for name in self._losing)
        owners.update(Owner("Service", *name) for name, c in self._computed.items() if c.problems)
        return owners

    def _conflict(self, name: ObjectName, key: bytes) -> Problem:
        winner = self._contested[key][0]
        computed = self._computed[name]
        frontend = FrontendRecord.unpack(computed.frontends[key])
        address = "node port" if frontend.address is None else f"address {frontend.address} port"
        return Problem(
            "Service",
            *name,
            Reason.CONFLICT,
            f"{address} {frontend.port}/{frontend.protocol.name} belongs to the older Service "
            f"{winner.namespace}/{winner.name} and is not programmed for this one. Change it in one of them.",
            computed.generation,
        )


def _service_of(piece: EndpointSlice) -> ObjectName | None:
    """Return the Service that a slice counts for: none without the label, for FQDN, for headless ones."""
    if not piece.service or not piece.family or piece.headless:
        return None
    return ObjectName(piece.namespace, piece.service)


def _claim(name: ObjectName, service: Service | None) -> _Claim | None:
    if service is None:
        return None
    return _Claim(service.created or _NEWEST, service.uid, name)


def _difference(old: frozenset[bytes], new: frozenset[bytes], table: Table, changes: Changes) -> None:
    """Add the difference between two sets of records of one Service to ``changes``."""
    if old == new:
        return
    size = KEY_SIZE[table]
    upserts = changes.upserts[table]
    for record in new - old:
        upserts[record[:size]] = record
    changes.deletes[table].update(record[:size] for record in old - new)
