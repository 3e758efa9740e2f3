"""Where desired records come from. Each table has one source."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vpp_operator.api.problem import Owner, Problem
from vpp_operator.dataplane.records import Table
from vpp_operator.services.decode import DecodeError
from vpp_operator.services.table import TABLES, ServiceTable

_FRONTEND_KEY = struct.Struct("<IBBHB7x16s")

__all__ = ["ServiceSource", "Source", "Update"]


@dataclass(slots=True)
class Update:
    """The difference that came since the last one; a key is in one of the two at most.

    ``versions``: resourceVersion by kind up to which objects are in it.
    """

    upserts: Mapping[Table, Mapping[bytes, bytes]]
    deletes: Mapping[Table, Iterable[bytes]]
    versions: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Desired records of some tables, kept up to date by whoever feeds the source."""

    @property
    def tables(self) -> Iterable[Table]:
        """The tables whose records come from here only."""
        ...

    def ready(self) -> bool:
        """Whether everything has been listed: nothing is planned in the tables before."""
        ...

    def needed(self) -> bool:
        """Whether the agent is not ready before this source is: its kinds are there, as far as is known."""
        ...

    def waiting(self) -> bool:
        """Whether :meth:`take` has something to do."""
        ...

    def take(self) -> Update:
        """Do a bounded amount of work (some ms); call again while :meth:`waiting`."""
        ...

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the object that a record comes from."""
        ...

    def problems(self) -> Iterable[Problem]:
        """Return what is wrong with the objects."""
        ...


class ServiceSource:
    """Services and EndpointSlices. Both must have been listed before anything is programmed (kube-proxy)."""

    tables = TABLES
    KINDS = ("Service", "EndpointSlice")
    # Services recomputed between two looks at the event loop.
    SERVICES = 32

    def __init__(
        self, table: ServiceTable, node_ports_changed: Callable[[Iterable[int]], None] = lambda ports: None
    ) -> None:
        self._table = table
        self._node_ports: dict[bytes, int] = {}
        self._node_ports_changed = node_ports_changed
        self._listed: set[str] = set()
        self._versions: dict[str, str] = {}
        self._dirty = False

    def ready(self) -> bool:
        """Whether both kinds have been listed."""
        return len(self._listed) == len(self.KINDS)

    def needed(self) -> bool:
        """Always."""
        return True

    def waiting(self) -> bool:
        """Whether an event came since the last take, or that one did not get through."""
        return self._dirty

    def take(self) -> Update:
        """Recompute some of what changed."""
        changes = self._table.update(self.SERVICES)
        self._dirty = bool(self._table.pending)
        self._note_node_ports(changes.upserts[Table.FRONTEND], changes.deletes[Table.FRONTEND])
        return Update(changes.upserts, changes.deletes, dict(self._versions))

    def _note_node_ports(self, added: Iterable[bytes], removed: Iterable[bytes]) -> None:
        known = self._node_ports
        before = len(known)
        gone = [known.pop(key) for key in removed if key in known]
        for key in added:
            _, _, _, port, node_port, _ = _FRONTEND_KEY.unpack(key)
            if node_port:
                known[key] = port
        if gone or len(known) != before:
            self._node_ports_changed(known.values())

    def missing(self) -> list[str]:
        """Return the kinds that have not been listed yet."""
        return [kind for kind in self.KINDS if kind not in self._listed]

    def owner_of(self, table: Table, key: bytes) -> Owner | None:
        """Return the Service of a record."""
        return self._table.owner_of(table, key)

    def problems(self) -> list[Problem]:
        """Return the problems of all Services and slices."""
        return [
            problem
            for owner in sorted(self._table.owners_with_problems())
            for problem in self._table.problems(owner)
        ]

    def impaired(self) -> set[Owner]:
        """Return the Services that have a problem; one of their slices' is theirs."""
        return {owner for owner in self._table.owners_with_problems() if owner.kind == "Service"}

    def total(self) -> int:
        """Return the number of Services that are this node's to serve."""
        return self._table.services()

    def note(self, kind: str, resource_version: str, *, listed: bool = False) -> None:
        """An event of ``kind`` came in, or its list is complete."""
        if listed:
            self._listed.add(kind)
        self._versions[kind] = resource_version
        self._dirty = True

    def reject(self, kind: str, namespace: str, name: str, error: Exception) -> None:
        """An object could not be decoded."""
        if not isinstance(error, DecodeError):
            error = DecodeError(Owner(kind, namespace, name), "object", f"{type(error).__name__}: {error}")
        self._table.reject(error)
        self._dirty = True
