"""The node process, put together: its parts, the watches that feed them, what it knows of itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import aiohttp
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from vpp_operator.agent.checks import NodeChecks
from vpp_operator.agent.clusternodes import ClusterNodes
from vpp_operator.agent.enginesettings import pending_restart, switches_value, write_settings
from vpp_operator.agent.facts import NodeObject, decode_node, decode_service_cidrs, pod_range_findings
from vpp_operator.agent.figures import Reviewer, figures_app, make_certificate
from vpp_operator.agent.floating import FloatingEndpoints
from vpp_operator.agent.gtpureport import ReportMaker, TunnelStats
from vpp_operator.agent.gtpusource import GtpuSink, GtpuSource
from vpp_operator.agent.health import health_app, metrics_app, serve
from vpp_operator.agent.interfaces import AddressWatch, listening_ports, own_addresses
from vpp_operator.agent.loop import Loop, LoopTimes
from vpp_operator.agent.metrics import AgentCollector
from vpp_operator.agent.nodesource import NodeSource
from vpp_operator.agent.refusals import Refusal, causes, count_causes, refusal_problems, tunnel_key
from vpp_operator.agent.reporter import Reporter
from vpp_operator.agent.servers import ServerMemory, decode_kubernetes_slice
from vpp_operator.agent.servicefigures import ServiceFigures
from vpp_operator.agent.settings import Settings
from vpp_operator.agent.sinks import ObjectSink, ServiceSink, SliceSink, matches
from vpp_operator.agent.sources import ServiceSource, Source
from vpp_operator.agent.status import Knowledge
from vpp_operator.agent.steering import Network, NodeSteering
from vpp_operator.api.base import API_VERSION
from vpp_operator.api.conditions import ConditionType
from vpp_operator.api.dataplane import AttachMode, Dataplane, DataplaneSpec, FiguresServer
from vpp_operator.dataplane.choice import VPP, read_choice
from vpp_operator.dataplane.protocol import Dataplane as DataplaneProtocol
from vpp_operator.dataplane.records import Table
from vpp_operator.gtpu.cluster import NodeRanges
from vpp_operator.gtpu.decode import decode_endpoint, decode_set, decode_tunnel
from vpp_operator.gtpu.model import ENDPOINT, SET, TUNNEL, IpAddress
from vpp_operator.gtpu.table import GtpuTable
from vpp_operator.gtpu.table import Options as GtpuOptions
from vpp_operator.kube import Access, ApiAccess, ApiError
from vpp_operator.node.spec import Finding
from vpp_operator.services.compute import Options
from vpp_operator.services.decode import decode_service, decode_slice
from vpp_operator.services.model import EndpointSlice
from vpp_operator.services.table import ServiceTable
from vpp_operator.watch import Watch, WatchTarget

__all__ = ["Agent"]

_log = structlog.get_logger(__name__)

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
CHECK_SECONDS = 60.0
HELD_CHECK_SECONDS = 2.0
STUCK_SECONDS = 120.0
ENGINE_GRACE_SECONDS = 20.0
"""An engine may be away for this long before Floating endpoints move to another node."""
LEAVE_SECONDS = 12.0


class Agent:
    """All parts of the node process. ``network`` None: the node's own network is left alone."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        dataplane: DataplaneProtocol,
        network: Network | None,
        checks: NodeChecks | None = None,
    ) -> None:
        self.settings = settings
        self._access = access
        self._dataplane = dataplane
        self._checks = checks
        self._spec = DataplaneSpec()
        self._object: Dataplane | None = None
        self._object_known = False
        self._selected = True
        self._undone = False
        self._findings: list[Finding] = []
        self._look = asyncio.Event()
        self._attach_mode: AttachMode | None = None
        self._connected_at = time.monotonic()
        self._engine = ""
        self._figures: FiguresServer | None = None
        self._object_error = ""
        self._memory = ServerMemory(access.servers, settings.state_dir / "api-servers")
        options = Options(
            settings.node_name, external_ips=settings.external_ips, proxy_name=settings.proxy_name
        )
        self._table = ServiceTable(options)
        self.watches: dict[str, Watch[Any]] = {}
        self.node = NodeSource(
            settings.node_name,
            settings.source_ports,
            () if settings.proxy_name else settings.service_cidrs,
            settings.pod_cidrs,
            self._facts_changed,
        )
        self.services = ServiceSource(self._table, self.node.set_node_ports)
        self.nodes = ClusterNodes(lambda: self.gtpu.refresh())
        self.gtpu = GtpuSource(
            GtpuTable(GtpuOptions()),
            self.node.known,
            changed=lambda: self.loop.wake(),
            steering_changed=self._gtpu_changed,
            endpoints_changed=self._endpoints_changed,
            cluster=self._cluster,
        )
        self.steering = (
            NodeSteering(
                network,
                lambda: self.node.facts,
                gtpu=self.gtpu.addresses,
                frames=self.gtpu.frames,
                large_udp=self._takes_large_udp,
                on_change=self._condition_changed,
                wake=lambda: self.loop.wake(),
            )
            if network is not None
            else None
        )
        self.loop = Loop(
            dataplane,
            [self.node, self.services, self.gtpu],
            self.steering,
            times=LoopTimes(audit=settings.audit_seconds),
            on_change=self._condition_changed,
            on_stats=lambda stats: self.reporter.observe(stats),
        )
        if self.steering is not None and network is not None and checks is not None:
            # A node that another proxy serves is looked at before it is joined.
            self.steering.held = not network.joined()
        # Nothing is changed before it is known whether the Dataplane is paused and the node selected.
        self.loop.pause(True)
        self.api = ApiAccess(access, user_agent=f"vpp-operator-agent/{_version()}")
        self.floating = FloatingEndpoints(
            self.api,
            access.namespace,
            settings.node_name,
            settings.run_dir / "floating.json",
            held=self.gtpu.set_held,
            withdraw=self._withdraw,
            may_take=self._may_take,
            may_keep=self._may_keep,
            times=settings.lease_times,
        )
        self.reports = ReportMaker(
            settings.node_name,
            self.gtpu,
            self.loop,
            TunnelStats(dataplane),
            refused=lambda: self.steering.refused if self.steering is not None else (),
            lease_errors=self.floating.errors,
        )
        self.reporter = Reporter(
            self.api, settings.node_name, self.knowledge, may_take_back=lambda: not self.not_ready()
        )

    # --------------------------------------------------------------------------------------------- callbacks

    def _condition_changed(self) -> None:
        self.reporter.condition_changed()

    def _facts_changed(self) -> None:
        self.gtpu.refresh()
        if self.steering is not None:
            self.steering.facts_changed()
        self.loop.wake()

    def _cluster(self) -> Collection[NodeRanges] | None:
        self.nodes.follow()
        return tuple(self.nodes.nodes.values()) if self.nodes.known else None

    def _endpoints_changed(self) -> None:
        self.floating.set_endpoints(self.gtpu.floating(), self.gtpu.listed(ENDPOINT))

    async def _withdraw(self, addresses: Collection[IpAddress]) -> None:
        if self.steering is not None:
            await self.steering.withdraw(addresses)

    def _may_take(self) -> bool:
        """Whether this node could serve a Floating endpoint."""
        facts = self.node.known()
        return (
            self._may_keep()
            and not self._spec.paused
            and facts is not None
            and not facts.node.leaving
            and self.loop.settled_once
            and self.loop.connected()
            and (self.steering is None or (self.steering.applied and not self.steering.error))
        )

    def _may_keep(self) -> bool:
        """Whether this node may go on serving what it has; a restart of the engine is no reason not to."""
        now = asyncio.get_running_loop().time()
        if self.loop.connected():
            self._connected_at = now
        return self._selected and now - self._connected_at < ENGINE_GRACE_SECONDS

    def _takes_large_udp(self) -> bool:
        """As the engine that was last reached does; VPP's host-interfaces know no large UDP frames."""
        if self.loop.info is not None:
            self._engine = self.loop.info.engine
        return self._engine != VPP

    def _gtpu_changed(self) -> None:
        self.node.set_ue_pools(self.gtpu.pools())
        if self.steering is not None:
            self.steering.facts_changed()
        self._condition_changed()

    def _node_changed(self, _: str, node: NodeObject | None) -> None:
        if node is None:
            # A Node that is deleted and made anew must not take the dataplane down with it.
            return
        self.node.set_node(node)
        selected = matches(node.labels, self.settings.node_selector)
        if selected != self._selected:
            self._selected = selected
            _log.warning("node selection changed", selected=selected)
            self._condition_changed()
        self._set_pause()

    def _node_failed(self, _: str, error: Exception) -> None:
        self.node.set_node(None, str(error))

    def _dataplane_changed(self, _: str, dataplane: Dataplane | None) -> None:
        self._object = dataplane
        self._object_error = ""
        self._spec = dataplane.spec if dataplane is not None else DataplaneSpec()
        self.node.set_fallback_pod_cidrs(_networks(self._spec.pod_cidrs))
        self.node.set_gtpu_switches(switches_value(self._spec.tuning.gtpu))
        if dataplane is not None:
            self._write_engine_settings(dataplane)
        self._set_pause()
        self.reporter.set_object(dataplane)

    def _dataplane_failed(self, _: str, error: Exception) -> None:
        self._object_error = f"Dataplane not understood: {error}; its last valid version stays in force"
        _log.error("Dataplane not understood", error=str(error))
        self._dataplane_known()

    def _dataplane_known(self) -> None:
        self._object_known = True
        self._set_pause()

    def _set_pause(self) -> None:
        self.loop.pause(not self._object_known or self._spec.paused or not self._selected)

    def _write_engine_settings(self, dataplane: Dataplane) -> None:
        spec, directory = dataplane.spec, self.settings.run_dir
        try:
            if write_settings(directory, spec.engine.value, spec.tuning.runtime):
                _log.info("engine settings written", directory=str(directory))
        except OSError as error:
            _log.error("engine settings not written", directory=str(directory), error=str(error))

    def _decode_slice(self, obj: dict[str, Any]) -> EndpointSlice:
        meta = obj.get("metadata") or {}
        if meta.get("namespace") == "default":
            servers = decode_kubernetes_slice(obj)
            if servers:
                self._memory.learn(meta.get("name", ""), servers)
        return decode_slice(obj)

    # ------------------------------------------------------------------------------------------------- state

    def not_live(self) -> str:
        """Return why the kubelet should restart this process; empty: it is well."""
        silence = asyncio.get_running_loop().time() - self.loop.last_turn
        return f"the reconcile loop stands still for {silence:.0f} s" if silence > STUCK_SECONDS else ""

    def not_ready(self) -> str:
        """Return what is missing until the first sync is done and programmed; empty: nothing."""
        if not self.loop.synced():
            return f"waiting for {self._waiting_for()}"
        if not self._selected or self._spec.paused:
            return ""
        if not self.loop.settled_once:
            return self.loop.error or f"{self.loop.pending()} records to program"
        if self.steering is not None and not self.steering.applied and not self._other_proxy():
            return self.steering.error or "the node's network is being joined"
        return ""

    def _other_proxy(self) -> Finding | None:
        """The finding because of which the node is left as it is."""
        if self.steering is None or not self.steering.held:
            return None
        return next((f for f in self._findings if f.condition == ConditionType.OTHER_PROXY_PRESENT), None)

    def _waiting_for(self) -> str:
        missing = [f"{kind}s" for kind in self.services.missing()] + self.gtpu.missing()
        if self.node.missing():
            missing.append(self.node.missing())
        return " and ".join(missing)

    def knowledge(self) -> Knowledge:
        """Return what the status is made of."""
        loop, info = self.loop, self.loop.info
        choice = read_choice(self.settings.run_dir)
        refusals = [Refusal(*entry) for entry in loop.refused()]
        sources: tuple[Source, ...] = (self.node, self.services, self.gtpu)
        owners = {table: source for source in sources for table in source.tables}
        refused = [
            (owners[refusal.table].owner_of(refusal.table, refusal.key), cause)
            for refusal, cause in causes(refusals, loop.refusal_of, loop.desired_record)
        ]
        impaired = self.services.impaired() | {o for o, _ in refused if o is not None and o.kind == "Service"}
        capacity = info.capacity if info is not None else {}
        findings = [*self._findings, *(pod_range_findings(self.node.facts) if self.node.ready() else ())]
        if other := self._other_proxy():
            left = f"{other.message}. The node's network is left as it is until they are gone"
            findings[findings.index(other)] = dataclasses.replace(other, message=left)
        if self._object_error:
            findings.append(
                Finding("Degraded", "Invalid", self._object_error, "bring CRD and agent to one release")
            )
        return Knowledge(
            node_name=self.settings.node_name,
            agent_version=_version(),
            generation=self._object.metadata.generation if self._object is not None else None,
            selected=self._selected,
            paused=self._spec.paused,
            wanted_engine=self._spec.engine.value if self._object is not None else self.settings.engine,
            choice=choice,
            waiting_for="" if loop.synced() else self._waiting_for(),
            programming=loop.programming,
            pending=loop.pending(),
            engine_error=loop.error,
            engine_incompatible=loop.incompatible,
            info=info,
            stats=loop.stats,
            steering_error=self.steering.error if self.steering is not None else "",
            findings=findings,
            services_total=self.services.total(),
            services_impaired=len(impaired),
            figures=self._figures,
            tunnels_total=self.gtpu.total(),
            tunnels_missing=self._tunnels_missing(refusals),
            problems=[p for source in sources for p in source.problems()]
            + refusal_problems(refused, capacity),
            refused=count_causes(cause for _, cause in refused),
            versions=loop.versions(),
            changes=sum(w.figures.changes for kind, w in self.watches.items() if kind != "Dataplane"),
            attach_mode=self._attach_mode,
            pending_restart=(
                pending_restart(self._spec.tuning.runtime, info, self._spec.engine.value, choice)
                if info is not None and self._object is not None
                else ()
            ),
        )

    def _tunnels_missing(self, refusals: Iterable[Refusal]) -> int:
        refused: set[bytes] = set()
        for table, key, _ in refusals:
            if table is Table.GTPU_TUNNEL:
                refused.add(key)
            elif table is Table.GTPU_UE:
                refused.add(tunnel_key(self.loop.desired_record(table, key)))
        loop = self.loop
        unmade = self.gtpu.total() - loop.desired_count(Table.GTPU_TUNNEL)
        waiting = max(loop.waiting_in(Table.GTPU_TUNNEL), loop.waiting_in(Table.GTPU_UE))
        return max(0, unmade) + waiting + len(refused)

    # --------------------------------------------------------------------------------------------------- run

    def _make_watches(self) -> None:
        name, wake = self.settings.node_name, self.loop.wake
        own = f"metadata.name={name}"
        proxy = self.settings.proxy_name
        selector = f"{PROXY_NAME_LABEL}={proxy}" if proxy else f"!{PROXY_NAME_LABEL}"

        def cidrs_refused(code: int) -> None:
            # Not served by this cluster, or not for us: each ClusterIP is steered by itself then.
            if code in (403, 404):
                self.node.service_cidrs_known()

        def dataplane_refused(code: int) -> None:
            if code == 404:
                self._dataplane_known()

        for kind, plural, decode in (
            (ENDPOINT, "gtpuendpoints", decode_endpoint),
            (TUNNEL, "gtputunnels", decode_tunnel),
            (SET, "gtputunnelsets", decode_set),
        ):
            self.watches[kind] = Watch(
                self.api,
                WatchTarget(f"/apis/{API_VERSION}/{plural}"),
                decode,
                GtpuSink(kind, self.gtpu, wake),
                on_refused=lambda code, kind=kind: self.gtpu.refused(kind, code),  # type: ignore[misc]
            )
        self.watches |= {
            "Service": Watch(
                self.api,
                WatchTarget("/api/v1/services", selector, "spec.clusterIP!=None"),
                decode_service,
                ServiceSink(self._table, self.services, wake),
            ),
            "EndpointSlice": Watch(
                self.api,
                WatchTarget("/apis/discovery.k8s.io/v1/endpointslices", f"!{HEADLESS_LABEL}"),
                self._decode_slice,
                SliceSink(self._table, self.services, wake),
            ),
            "Node": Watch(
                self.api,
                WatchTarget("/api/v1/nodes", field_selector=own),
                decode_node,
                ObjectSink(
                    self._node_changed,
                    self._node_failed,
                    version=lambda version: self.node.note_version("Node", version),
                ),
            ),
            "Dataplane": Watch(
                self.api,
                WatchTarget(f"/apis/{API_VERSION}/dataplanes", field_selector=own),
                Dataplane.model_validate,
                ObjectSink(self._dataplane_changed, self._dataplane_failed, self._dataplane_known),
                on_refused=dataplane_refused,
            ),
        }
        if self.settings.proxy_name:
            # The other addresses of the service ranges are another proxy's.
            self.node.service_cidrs_known()
        elif not self.settings.service_cidrs:
            self.watches["ServiceCIDR"] = Watch(
                self.api,
                WatchTarget("/apis/networking.k8s.io/v1/servicecidrs"),
                decode_service_cidrs,
                ObjectSink(
                    self.node.set_service_cidrs,
                    lambda cidr, error: _log.error("ServiceCIDR not understood", name=cidr, error=str(error)),
                    self.node.service_cidrs_known,
                    lambda version: self.node.note_version("ServiceCIDR", version),
                ),
                on_refused=cidrs_refused,
            )

    async def run(self) -> None:
        """Run until cancelled."""
        self._memory.load()
        registry = CollectorRegistry()
        registry.register(
            AgentCollector(self.loop, lambda: self.watches, self.reporter, self.steering, self.services.total)
        )
        figures = ServiceFigures(self._dataplane, self._table.ids, self.services.total)
        registry.register(figures)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        async with contextlib.AsyncExitStack() as stack:
            for app, bind in (
                (health_app(self.not_live, self.not_ready), self.settings.health),
                (metrics_app(registry, figures.refresh), self.settings.metrics),
            ):
                runner = await serve(app, bind)
                stack.push_async_callback(runner.cleanup)
            await stack.enter_async_context(self.api)
            stack.push_async_callback(self._dataplane.close)
            await self._serve_figures(stack)
            addresses = asyncio.Event()
            addresses.set()
            stack.callback(AddressWatch(addresses.set).close)
            self._make_watches()
            async with asyncio.TaskGroup() as tasks:
                for kind, watch in self.watches.items():
                    tasks.create_task(watch.run(), name=f"watch {kind}")
                tasks.create_task(self.nodes.run(self.api), name="watch Nodes")
                tasks.create_task(self.loop.run(), name="loop")
                tasks.create_task(self.reporter.run(), name="reporter")
                tasks.create_task(self.floating.run(), name="floating")
                tasks.create_task(self._freeze_when_settled(), name="freeze")
                tasks.create_task(self._follow_addresses(addresses), name="addresses")
                tasks.create_task(self._look_at_node(), name="checks")
                tasks.create_task(_every(2.0, self._undo_if_deselected), name="undo")

    async def _serve_figures(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        context, fingerprint = make_certificate(settings.node_name, settings.run_dir)
        runner = await serve(figures_app(Reviewer(self.api), self.reports.make), settings.figures, context)
        stack.push_async_callback(runner.cleanup)
        port = runner.addresses[0][1]
        self._figures = FiguresServer(port=port, certificate_sha256=fingerprint)

    async def leave(self) -> None:
        """Before the process ends: give Floating endpoints to other nodes if this one is about to go.

        A restart or an upgrade of the agent moves nothing.
        """
        if not self.floating.held:
            return
        facts = self.node.known()
        leaving = facts is not None and facts.node.leaving
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                if not leaving:
                    # The drain may be younger than what the watch has brought.
                    node = await self.api.read(f"/api/v1/nodes/{self.settings.node_name}")
                    leaving = decode_node(node).leaving
                if leaving:
                    released = await self.floating.release_all()
                    _log.info("Floating endpoints given up: the node is going", complete=released)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError, ValueError, RuntimeError) as error:
            _log.warning("Floating endpoints not given up", error=f"{type(error).__name__}: {error}")

    async def _follow_addresses(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            self.node.set_addresses(await asyncio.to_thread(own_addresses))
            # Interfaces of pods come and go in bursts.
            await asyncio.sleep(1.0)

    async def _freeze_when_settled(self) -> None:
        # The objects of a large cluster live as long as the process: the collector need not walk them again.
        await self.loop.settled.wait()
        gc.collect()
        gc.freeze()

    async def _look_at_node(self) -> None:
        while True:
            await _guarded(self._check_node)
            held = self._selected and self.steering is not None and self.steering.held
            self._look.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), HELD_CHECK_SECONDS if held else CHECK_SECONDS)

    async def _check_node(self) -> None:
        self.node.set_listeners(await asyncio.to_thread(listening_ports))
        if self._checks is None or self.steering is None:
            return
        while not self.node.ready():  # noqa: ASYNC110 - facts come from several sides
            await asyncio.sleep(0.2)
        spec = self.steering.spec()
        mode = await asyncio.to_thread(self._checks.attach_mode, spec)
        # Where pods share a bridge, a reply would reach the client past the dataplane, untranslated.
        self.node.set_masquerade_all(mode is AttachMode.TRANSLATED_BRIDGE)
        findings = await asyncio.to_thread(self._checks.findings, spec)
        if findings != self._findings or mode != self._attach_mode:
            self._findings, self._attach_mode = findings, mode
            self._condition_changed()
        if self.steering.held and not self._other_proxy():
            self.steering.held = False
            self.loop.wake()

    async def _undo_if_deselected(self) -> None:
        if self._selected:
            if self._undone:
                self._look.set()
            self._undone = False
        elif not self._undone and self.steering is not None:
            await self.steering.undo()
            self._undone = True
            self.steering.held = self._checks is not None
            _log.warning("the node has its own network back")


async def _every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    while True:
        await _guarded(action)
        await asyncio.sleep(seconds)


async def _guarded(action: Callable[[], Awaitable[None]]) -> None:
    try:
        await action()
    except Exception as error:
        # A look at the node that fails must not end the process: the next one may succeed.
        _log.error("periodic task failed", task=action.__name__, error=str(error))


def _networks(texts: Sequence[str]) -> tuple[Any, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _version() -> str:
    try:
        return version("vpp-operator")
    except PackageNotFoundError:
        return ""
