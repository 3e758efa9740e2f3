"""What passes through each Service on this node, read from the engine when Prometheus asks."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vpp_operator.dataplane.protocol import DataplaneError, ServiceCounters
from vpp_operator.services.model import ObjectName

__all__ = ["ServiceFigures"]

_KEY: Final = struct.Struct("<Q")


class _Engine(Protocol):
    async def service_counters(self, keys: Sequence[bytes] | None = None) -> list[ServiceCounters]: ...


class ServiceFigures(Collector):
    """Counters of the first :attr:`LIMIT` Services; how many there are beyond is told, too.

    A Service's ports, protocols and families are summed up. Nothing is told while the engine does not answer.
    """

    LIMIT: Final = 1000
    """Five series each: what a Prometheus takes from every node without being sized for it."""
    FRESH: Final = 1.0
    """Seconds for which figures are not read anew, however often they are asked for."""

    def __init__(
        self,
        engine: _Engine,
        services: Callable[[], Iterable[tuple[ObjectName, Iterable[int]]]],
        total: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``services``: each Service with the ids of its records, always in the same order."""
        self._engine = engine
        self._services = services
        self._total = total
        self._clock = clock
        self._read_at = -math.inf
        self._reading = asyncio.Lock()
        self._figures: dict[ObjectName, ServiceCounters] = {}

    async def refresh(self) -> None:
        """Read the engine's counters."""
        async with self._reading:
            if self._clock() - self._read_at < self.FRESH:
                return
            owners = {id_: name for name, ids in islice(self._services(), self.LIMIT) for id_ in ids}
            figures = {name: ServiceCounters(0) for name in owners.values()}
            try:
                found = await self._engine.service_counters([_KEY.pack(id_) for id_ in owners])
            except DataplaneError:
                found, figures = [], {}
            for one in found:
                name = owners[one.service]
                figures[name] = _sum(figures[name], one)
            self._figures, self._read_at = figures, self._clock()

    def collect(self) -> Iterator[Metric]:
        """Yield what was read last."""
        labels = ["namespace", "service"]
        for unit in ("packets", "bytes"):
            family = CounterMetricFamily(
                f"vpp_operator_service_{unit}",
                f"Traffic of a Service in {unit}: towards its endpoints, and back",
                labels=[*labels, "direction"],
            )
            for name, figures in self._figures.items():
                for direction in ("forward", "reverse"):
                    family.add_metric([*name, direction], float(getattr(figures, f"{direction}_{unit}")))
            yield family
        sessions = GaugeMetricFamily("vpp_operator_service_sessions", "Flows tracked", labels=labels)
        for name, figures in self._figures.items():
            sessions.add_metric([*name], float(figures.sessions))
        yield sessions
        yield GaugeMetricFamily(
            "vpp_operator_services_without_figures",
            f"Services beyond the first {self.LIMIT}",
            value=float(max(0, self._total() - self.LIMIT)),
        )


def _sum(a: ServiceCounters, b: ServiceCounters) -> ServiceCounters:
    return ServiceCounters(
        0,
        a.forward_packets + b.forward_packets,
        a.forward_bytes + b.forward_bytes,
        a.reverse_packets + b.reverse_packets,
        a.reverse_bytes + b.reverse_bytes,
        a.sessions + b.sessions,
        a.sessions_created + b.sessions_created,
    )
