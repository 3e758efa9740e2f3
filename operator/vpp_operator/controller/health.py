"""The operator's HTTP server: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .gtpu import GtpuController
from .reconcile import Controller

__all__ = ["Health", "start_server"]


class Health(Collector):
    """What the process says about itself; the application fills it in."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.leading: Callable[[], bool] = lambda: False
        self.lease_age: Callable[[], float] = lambda: float("inf")
        """Seconds since the API server last answered about the Lease."""
        self.longest_lease_age = 60.0
        self.loaded = False
        self.controller: Controller | None = None
        self.gtpu: GtpuController | None = None

    def ready(self) -> str:
        """Return why the process is not ready; empty if it is. A waiting replica is ready as well."""
        age = self.lease_age()
        if age > self.longest_lease_age:
            return "the API server does not answer"
        if self.leading() and not self.loaded:
            return "leads, but has not listed everything yet"
        return ""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield _gauge("vpp_operator_leading", "1 while this replica holds the Lease", float(self.leading()))
        controller = self.controller
        if controller is None:
            return
        state, queue, rollout = controller.state, controller.queue, controller.rollout
        yield _gauge("vpp_operator_nodes", "Nodes with a dataplane", len(controller.plans))
        yield _gauge("vpp_operator_queue_length", "Keys waiting for a reconcile", len(queue))
        yield _counter("vpp_operator_reconciles", "Reconciles that succeeded", queue.done)
        yield _counter("vpp_operator_reconcile_errors", "Reconciles that failed", queue.errors)
        yield _gauge(
            "vpp_operator_services_with_problems",
            "Services with a problem on some node",
            len(controller.problems.services()),
        )
        yield _gauge("vpp_operator_rollout_pods", "Pods that are still to be replaced", rollout.outdated)
        yield _gauge(
            "vpp_operator_rollout_stopped",
            "1 while a rollout waits for a node that does not come back",
            float(controller.rollout_stopped),
        )
        if self.gtpu is not None:
            yield _counter(
                "vpp_operator_gtpu_status_writes", "Writes of GTP-U objects' status", self.gtpu.writes
            )
            yield _gauge(
                "vpp_operator_agents_reporting",
                "Agents whose last report is kept",
                len(self.gtpu.reports.nodes),
            )
        ready = GaugeMetricFamily(
            "vpp_operator_dataplanes", "Dataplanes by status of the condition Ready", labels=["ready"]
        )
        counts = {"True": 0, "False": 0, "Unknown": 0}
        for dataplane in state.dataplanes.values():
            condition = dataplane.condition("Ready")
            counts[str(condition.status) if condition else "Unknown"] += 1
        for status, count in counts.items():
            ready.add_metric([status], count)
        yield ready


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


async def start_server(health: Health, port: int) -> web.AppRunner:
    """Serve on every address of the pod; port 0 takes any. End it with ``cleanup()``."""
    registry = CollectorRegistry()
    registry.register(health)

    async def healthz(_: web.Request) -> web.Response:
        # The event loop runs: that is all that a restart could mend.
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = health.ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
