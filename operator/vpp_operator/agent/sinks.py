"""From the watches into the agent's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vpp_operator.agent.sources import ServiceSource
from vpp_operator.services.model import EndpointSlice, Service
from vpp_operator.services.table import ServiceTable

__all__ = ["ObjectSink", "ServiceSink", "SliceSink"]

T = TypeVar("T")


class _TableSink:
    """What Services and EndpointSlices share: tell the source, wake the loop."""

    kind = ""

    def __init__(self, table: ServiceTable, source: ServiceSource, wake: Callable[[], None]) -> None:
        self._table = table
        self._source = source
        self._wake = wake

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Report an object that cannot be read on itself."""
        self._source.reject(self.kind, namespace, name, error)
        self._wake()

    def listed(self, resource_version: str) -> None:
        """The list is complete."""
        self._source.note(self.kind, resource_version, listed=True)
        self._wake()

    def progress(self, resource_version: str) -> None:
        """An event or bookmark came."""
        self._source.note(self.kind, resource_version)
        self._wake()


class ServiceSink(_TableSink):
    """Services into the table."""

    kind = "Service"

    def upsert(self, namespace: str, name: str, obj: Service) -> None:
        """Take a Service."""
        self._table.upsert_service(obj)

    def delete(self, namespace: str, name: str) -> None:
        """Forget a Service."""
        self._table.delete_service(namespace, name)


class SliceSink(_TableSink):
    """EndpointSlices into the table."""

    kind = "EndpointSlice"

    def upsert(self, namespace: str, name: str, obj: EndpointSlice) -> None:
        """Take an EndpointSlice."""
        self._table.upsert_slice(obj)

    def delete(self, namespace: str, name: str) -> None:
        """Forget an EndpointSlice."""
        self._table.delete_slice(namespace, name)


@dataclass(frozen=True, slots=True)
class ObjectSink(Generic[T]):
    """Hands objects of a rare kind to callbacks."""

    changed: Callable[[str, T | None], None]
    """Name and object; None: it is gone."""
    failed: Callable[[str, Exception], None]
    """Name and what is wrong with the object."""
    complete: Callable[[], None] = lambda: None
    """The list is complete (again)."""
    version: Callable[[str], None] = lambda version: None
    """resourceVersion up to which everything was handed over."""

    def upsert(self, namespace: str, name: str, obj: T) -> None:
        """Take an object."""
        self.changed(name, obj)

    def delete(self, namespace: str, name: str) -> None:
        """Forget an object."""
        self.changed(name, None)

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Pass on what is wrong with an object."""
        self.failed(name, error)

    def listed(self, resource_version: str) -> None:
        """The list is complete."""
        self.version(resource_version)
        self.complete()

    def progress(self, resource_version: str) -> None:
        """An event or bookmark came."""
        self.version(resource_version)


def matches(labels: Any, selector: Any) -> bool:
    """Whether labels satisfy a node selector (every label with its value); no selector: always."""
    return all((labels or {}).get(key) == value for key, value in (selector or {}).items())
