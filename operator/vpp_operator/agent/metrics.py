"""The agent's metrics, read from its parts when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vpp_operator.agent.loop import Loop
from vpp_operator.agent.reporter import Reporter
from vpp_operator.agent.steering import NodeSteering
from vpp_operator.dataplane.protocol import EngineStats
from vpp_operator.dataplane.records import Table
from vpp_operator.watch import Watch

__all__ = ["AgentCollector"]

_LOOP_COUNTERS = {
    "batches": "Batches applied to the dataplane",
    "upserts": "Records sent to the dataplane",
    "deletes": "Records deleted in the dataplane",
    "refused": "Records that the dataplane refused, each try counted",
    "mended": "Records found altered or lost in the dataplane",
    "audits": "Complete comparisons with what the dataplane holds",
    "connects": "Connections made to the engine",
}
_LOOP_SECONDS = {
    "last_apply_seconds": "Duration of the last batch",
    "last_plan_seconds": "Duration of the last planning",
    "longest_audit_step_seconds": "Longest slice of a comparison",
}
_WATCH_COUNTERS = {
    "lists": "Complete lists read",
    "streams": "Watch streams opened",
    "events": "Events received",
    "broken": "Objects that could not be decoded",
    "stalls": "Streams given up because nothing came",
    "failures": "Interruptions",
}


def _samples(
    kind: type[Any], name: str, text: str, label: str, values: Mapping[str, float]
) -> CounterMetricFamily | GaugeMetricFamily:
    family: CounterMetricFamily | GaugeMetricFamily = kind(f"vpp_operator_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


class AgentCollector(Collector):
    """Collects from the loop, the watches, the steering, the reporter and the engine's last counters."""

    def __init__(
        self,
        loop: Loop,
        watches: Callable[[], Mapping[str, Watch[Any]]],
        reporter: Reporter,
        steering: NodeSteering | None,
        services: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._watches = watches
        self._reporter = reporter
        self._steering = steering
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._of_the_loop()
        yield from self._of_the_watches()
        if self._loop.stats is not None:
            yield from _of_the_engine(self._loop.stats)

    def _of_the_loop(self) -> Iterator[Metric]:
        loop = self._loop
        for name, text in _LOOP_COUNTERS.items():
            yield CounterMetricFamily(f"vpp_operator_{name}", text, value=getattr(loop.figures, name))
        for name, text in _LOOP_SECONDS.items():
            yield GaugeMetricFamily(f"vpp_operator_{name}", text, value=getattr(loop.figures, name))
        unsettled = list(loop.unsettled())
        gauges: dict[str, tuple[str, float]] = {
            "engine_connected": ("1: the engine answers", loop.connected()),
            "synced": ("1: every kind has been listed completely", loop.synced()),
            "services": ("Services that are this node's to serve", self._services()),
            "records_pending": ("Records that wait to be programmed", loop.pending()),
            "records_refused": ("Records that the dataplane refuses now", sum(1 for u in unsettled if u[2])),
        }
        if self._steering is not None:
            gauges["steering_ok"] = ("1: the node's network is as it should be", not self._steering.error)
            gauges["last_steering_seconds"] = ("Duration of the last change", self._steering.last_seconds)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"vpp_operator_{name}", text, value=float(value))
        desired = {table.name.lower(): float(loop.desired_count(table)) for table in Table}
        yield _samples(GaugeMetricFamily, "records_desired", "Records wanted, by table", "table", desired)
        yield CounterMetricFamily(
            "vpp_operator_status_writes", "Status reports written", value=self._reporter.writes
        )
        yield CounterMetricFamily(
            "vpp_operator_status_failures", "Status reports not written", value=self._reporter.failures
        )

    def _of_the_watches(self) -> Iterable[Metric]:
        watches = self._watches()
        for name, text in _WATCH_COUNTERS.items():
            values = {kind: float(getattr(watch.figures, name)) for kind, watch in watches.items()}
            yield _samples(CounterMetricFamily, f"watch_{name}", text, "kind", values)
        ages = {kind: watch.age() for kind, watch in watches.items()}
        yield _samples(
            GaugeMetricFamily, "watch_age_seconds", "Time since the API server said anything", "kind", ages
        )


def _of_the_engine(stats: EngineStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("vpp_operator_dataplane_sessions", "Flows tracked", value=stats.sessions)
    counters = {name: float(value) for name, value in stats.counters.items()}
    yield _samples(CounterMetricFamily, "dataplane_events", "The engine's counters", "event", counters)
    drops = {name: float(value) for name, value in stats.drops.items()}
    yield _samples(CounterMetricFamily, "dataplane_drops", "Packets dropped", "reason", drops)
    for unit in ("packets", "bytes"):
        family = CounterMetricFamily(
            f"vpp_operator_dataplane_{unit}", f"Traffic in {unit}", labels=["path", "direction"]
        )
        for path, figures in stats.paths.items():
            for direction in ("rx", "tx"):
                family.add_metric([path, direction], float(getattr(figures, f"{direction}_{unit}")))
        yield family
    for what, text in (("size", "Entries that fit"), ("used", "Entries in use"), ("bytes", "Memory")):
        values = {name: float(getattr(table, what)) for name, table in stats.tables.items()}
        yield _samples(GaugeMetricFamily, f"dataplane_table_{what}", text, "table", values)
