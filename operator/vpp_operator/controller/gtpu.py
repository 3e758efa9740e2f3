"""Status of GTP-U objects: acceptance at once, what the agents report every 30 s, at most 20 writes a second.

Acceptance comes from the same table as the agents' (:class:`vpp_operator.gtpu.table.GtpuTable`), without
endpoints that are active, so that no record is made. Figures are read from every agent; a status is written
when it differs from the one that the object has.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from ..api.base import API_VERSION, GROUP, VERSION, JsonObject
from ..api.conditions import Condition
from ..api.gtpu_report import NodeReport
from ..api.problem import Owner
from ..gtpu.cluster import NodeRanges, reserved
from ..gtpu.decode import DecodeError, decode_endpoint, decode_set, decode_tunnel
from ..gtpu.model import ENDPOINT, SET, TUNNEL, Carrier, Endpoint, IpNetwork, Tunnel, TunnelSet
from ..gtpu.rules import candidate
from ..gtpu.table import GtpuTable
from ..kube import AccessError, ApiAccess, ApiError, TokenFile
from ..watch import Watch, WatchTarget
from .agents import AgentAddress, AgentReader
from .gtpu_status import Reports, endpoint_status, set_status, tunnel_status
from .lease import NotLeaderError
from .settings import Settings
from .state import ClusterState

__all__ = ["GtpuController"]

_log = structlog.get_logger(__name__)

FIELD_MANAGER: Final = "operator"
_PLURAL: Final = {ENDPOINT: "gtpuendpoints", TUNNEL: "gtputunnels", SET: "gtputunnelsets"}
_DECODE: Final[dict[str, Callable[[Mapping[str, Any]], Any]]] = {
    ENDPOINT: decode_endpoint,
    TUNNEL: decode_tunnel,
    SET: decode_set,
}
_SERVICE_CIDRS: Final = "/apis/networking.k8s.io/v1/servicecidrs"


@dataclass(frozen=True, slots=True)
class _Seen:
    """An object as it came in."""

    obj: Endpoint | Tunnel | TunnelSet
    status: JsonObject


class _Sink:
    def __init__(self, kind: str, controller: GtpuController) -> None:
        self._kind = kind
        self._controller = controller

    def upsert(self, namespace: str, name: str, obj: _Seen) -> None:
        self._controller.upsert(obj)

    def delete(self, namespace: str, name: str) -> None:
        self._controller.delete(Owner(self._kind, namespace, name))

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        if not isinstance(error, DecodeError):
            error = DecodeError(Owner(self._kind, namespace, name), "object", str(error))
        self._controller.reject(error)

    def listed(self, resource_version: str) -> None:
        self._controller.listed(self._kind)

    def progress(self, resource_version: str) -> None:
        return


def _decoder(kind: str) -> Callable[[dict[str, Any]], _Seen]:
    decode = _DECODE[kind]
    return lambda obj: _Seen(decode(obj), obj.get("status") or {})


class GtpuController:
    """Lives as long as this process leads."""

    WRITES_PER_SECOND = 20.0
    # Changes that come together are looked at together; a change is asked about at the agents after this.
    SETTLE_SECONDS = 0.2
    ASK_SECONDS = 2.0
    # An agent that does not answer keeps its last report for so many readings.
    KEEP_READINGS = 3

    def __init__(
        self,
        api: ApiAccess,
        settings: Settings,
        state: ClusterState,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.table = GtpuTable()
        self.reports = Reports()
        self.writes = 0
        self._api = api
        self._settings = settings
        self._state = state
        self._clock = clock
        self._now = now
        self._objects: dict[Owner, _Seen] = {}
        self._by_endpoint: dict[str, set[Owner]] = {}
        self._service_cidrs: tuple[IpNetwork, ...] = ()
        self._listed: set[str] = set()
        self._kept: dict[str, tuple[NodeReport, int]] = {}
        self._urgent: dict[Owner, None] = {}
        self._figures: dict[Owner, None] = {}
        self._changed = asyncio.Event()
        self._work = asyncio.Event()
        self._ask = asyncio.Event()
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    # ----------------------------------------------------------------------------------------------- input

    def upsert(self, seen: _Seen) -> None:
        """Take an object that is new or changed."""
        obj = seen.obj
        old = self._objects.get(obj.owner)
        self._objects[obj.owner] = seen
        if old is not None and old.obj == obj:
            # The status alone: our own write came back, or somebody else's is to be undone.
            self._mark(obj.owner, urgent=False)
            return
        if isinstance(obj, Endpoint):
            self.table.upsert_endpoint(obj)
        else:
            self._by_endpoint.setdefault(obj.endpoint, set()).add(obj.owner)
            if isinstance(obj, Tunnel):
                self.table.upsert_tunnel(obj)
            else:
                self.table.upsert_set(obj)
        self._mark(obj.owner, urgent=True)
        self._touch(obj.owner)

    def delete(self, owner: Owner) -> None:
        """Forget an object."""
        seen = self._objects.pop(owner, None)
        if owner.kind == ENDPOINT:
            self.table.delete_endpoint(owner.name)
        elif owner.kind == TUNNEL:
            self.table.delete_tunnel(owner.namespace, owner.name)
        else:
            self.table.delete_set(owner.namespace, owner.name)
        if seen is not None and not isinstance(seen.obj, Endpoint):
            self._by_endpoint.get(seen.obj.endpoint, set()).discard(owner)
            self._mark_endpoint(seen.obj.endpoint)
        self._urgent.pop(owner, None)
        self._figures.pop(owner, None)
        self._touch(owner)

    def reject(self, error: DecodeError) -> None:
        """An object could not be read."""
        self.table.reject(error)
        self._touch(error.owner)

    def listed(self, kind: str) -> None:
        """A kind has been listed completely."""
        self._listed.add(kind)
        self._changed.set()

    def _touch(self, owner: Owner) -> None:
        self._changed.set()
        self._ask.set()

    def _mark(self, owner: Owner, *, urgent: bool) -> None:
        if urgent:
            self._figures.pop(owner, None)
            self._urgent[owner] = None
        elif owner not in self._urgent:
            self._figures[owner] = None
        self._work.set()

    def _mark_endpoint(self, name: str) -> None:
        owner = Owner(ENDPOINT, "", name)
        if owner in self._objects:
            self._mark(owner, urgent=False)

    # ------------------------------------------------------------------------------------------------ work

    def watches(self) -> list[Watch[_Seen]]:
        """Return the watches of the three kinds."""
        return [
            Watch(
                self._api,
                WatchTarget(f"/apis/{GROUP}/{VERSION}/{_PLURAL[kind]}"),
                _decoder(kind),
                _Sink(kind, self),
            )
            for kind in (ENDPOINT, TUNNEL, SET)
        ]

    async def run(self) -> None:
        """Follow, read and write until cancelled; ends only with an error."""
        async with asyncio.TaskGroup() as group:
            for watch in self.watches():
                group.create_task(watch.run(), name=f"watch {watch.target.path}")
            group.create_task(self._settle(), name="gtpu acceptance")
            group.create_task(self._write(), name="gtpu status")
            if self._settings.figures_token_file:
                group.create_task(self._read(), name="gtpu figures")

    async def drain(self, seconds: float) -> bool:
        """Write no more; wait for what is under way and return whether it ended."""
        self._closed = True
        self._work.set()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _settle(self) -> None:
        """Decide what is accepted whenever something changed."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(self.SETTLE_SECONDS)
            self._changed.clear()
            if len(self._listed) < len(_PLURAL):
                # Who is older shows only when all are known.
                continue
            self._reserve()
            while self.table.pending:
                changes = self.table.update(1000)
                for owner in changes.standings | changes.problems:
                    if owner in self._objects:
                        self._mark(owner, urgent=True)
                    seen = self._objects.get(owner)
                    if seen is not None and not isinstance(seen.obj, Endpoint):
                        self._mark_endpoint(seen.obj.endpoint)
                await asyncio.sleep(0)
            self._work.set()

    def _reserve(self) -> None:
        """Tell the table what belongs to the cluster."""
        nodes = (NodeRanges.of(node.pod_cidrs, node.addresses) for node in self._state.nodes.values())
        self.table.reserve(reserved(nodes, self._service_cidrs))

    # ------------------------------------------------------------------------------------------- the agents

    async def _read(self) -> None:
        """Ask all agents every 30 s, and soon after a change."""
        async with AgentReader(TokenFile(Path(self._settings.figures_token_file))) as reader:
            while True:
                began = self._clock()
                self._ask.clear()
                await self._read_service_cidrs()
                if any(owner.kind == ENDPOINT for owner in self._objects):
                    self.take_reports(await reader.read(self.agents()))
                left = began + self._settings.figures_seconds - self._clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.1, left)):
                        await self._ask.wait()
                        await asyncio.sleep(self.ASK_SECONDS)

    def agents(self) -> list[AgentAddress]:
        """Return the agents that can be asked."""
        found = []
        for name, dataplane in self._state.dataplanes.items():
            server, node = dataplane.status.figures, self._state.nodes.get(name)
            if server is not None and node is not None and node.addresses:
                found.append(AgentAddress(name, node.addresses[0], server.port, server.certificate_sha256))
        return found

    def take_reports(self, reports: Mapping[str, NodeReport]) -> None:
        """Take what the agents say, and mark what that changes."""
        kept = {
            node: (report, left - 1)
            for node, (report, left) in self._kept.items()
            if left > 1 and node in self._state.dataplanes
        }
        self._kept = kept | {node: (report, self.KEEP_READINGS) for node, report in reports.items()}
        before = self.reports
        self.reports = Reports.of((report for report, _ in self._kept.values()), complete=True)
        # Nodes may have come or gone.
        self._changed.set()
        for owner, seen in self._objects.items():
            if before.complete and self._told(before, seen.obj) == self._told(self.reports, seen.obj):
                continue
            # What is new about programming goes before figures.
            urgent = _state(before, owner) != _state(self.reports, owner) or not before.complete
            self._mark(owner, urgent=urgent)

    def _told(self, reports: Reports, obj: Endpoint | Tunnel | TunnelSet) -> object:
        """Return everything of the reports that an object's status is made of."""
        if not isinstance(obj, Endpoint):
            return reports.objects.get(obj.owner), sorted(reports.endpoints.get(obj.endpoint, ()))
        carried = [
            {node: report.programmed for node, report in reports.objects.get(owner, {}).items()}
            for owner in self._by_endpoint.get(obj.name, ())
        ]
        problems = {node: report.problems.get(obj.name) for node, report in reports.nodes.items()}
        return reports.endpoints.get(obj.name), carried, problems

    async def _read_service_cidrs(self) -> None:
        found: set[IpNetwork] = set()
        try:
            for item in (await self._api.read(_SERVICE_CIDRS)).get("items") or ():
                found |= {ipaddress.ip_network(text) for text in item["spec"].get("cidrs") or ()}
        except (ApiError, AccessError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            _log.info("service ranges not read", error=f"{type(error).__name__}: {error}")
            return
        cidrs = tuple(sorted(found, key=str))
        if cidrs != self._service_cidrs:
            self._service_cidrs = cidrs
            self._changed.set()

    # ---------------------------------------------------------------------------------------------- writing

    async def _write(self) -> None:
        """Write what differs, conditions before figures, slowly enough."""
        pause = 1.0 / self.WRITES_PER_SECOND
        looked = 0
        while True:
            owner = self._next()
            if owner is None:
                self._work.clear()
                await self._work.wait()
                continue
            looked += 1
            if looked % 50 == 0:
                await asyncio.sleep(0)
            status = self.status_of(owner)
            seen = self._objects.get(owner)
            if status is None or seen is None or _same(seen.status, status):
                continue
            began = self._clock()
            self._idle.clear()
            try:
                await self._apply(owner, status)
                self.writes += 1
            except NotLeaderError:
                raise
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.warning(
                    "status not written", object=str(owner), error=f"{type(error).__name__}: {error}"
                )
                if not (isinstance(error, ApiError) and error.status in (400, 403, 422)):
                    # What the API server would refuse again is left to the next change.
                    self._mark(owner, urgent=False)
                    await asyncio.sleep(1.0)
            finally:
                self._idle.set()
            await asyncio.sleep(max(0.0, began + pause - self._clock()))

    def _next(self) -> Owner | None:
        if self._closed or len(self._listed) < len(_PLURAL) or self.table.pending:
            return None
        for queue in (self._urgent, self._figures):
            if queue:
                owner = next(iter(queue))
                del queue[owner]
                return owner
        return None

    def status_of(self, owner: Owner) -> JsonObject | None:
        """Return the status that an object should have; None: it is gone."""
        seen = self._objects.get(owner)
        if seen is None:
            return None
        before, now = _conditions(seen.status), self._now()
        standing, obj = self.table.standing(owner), seen.obj
        if isinstance(obj, Endpoint):
            return endpoint_status(
                obj,
                standing,
                [(carrier, self.table.standing(carrier.owner)) for carrier in self._carriers(obj.name)],
                self.reports,
                before,
                now,
                selected=any(
                    candidate(obj, node.labels)
                    for name, node in self._state.nodes.items()
                    if name in self._state.dataplanes
                ),
            ).to_json()
        found = self._objects.get(Owner(ENDPOINT, "", obj.endpoint))
        endpoint = found.obj if found is not None and isinstance(found.obj, Endpoint) else None
        if isinstance(obj, Tunnel):
            return tunnel_status(obj, standing, endpoint, self.reports, before, now).to_json()
        return set_status(obj, standing, endpoint, self.reports, before, now).to_json()

    def _carriers(self, endpoint: str) -> Iterable[Carrier]:
        for owner in self._by_endpoint.get(endpoint, ()):
            seen = self._objects.get(owner)
            if seen is not None and not isinstance(seen.obj, Endpoint):
                yield seen.obj

    async def _apply(self, owner: Owner, status: JsonObject) -> None:
        metadata = {"name": owner.name} | ({"namespace": owner.namespace} if owner.namespace else {})
        where = f"/namespaces/{owner.namespace}" if owner.namespace else ""
        path = f"/apis/{GROUP}/{VERSION}{where}/{_PLURAL[owner.kind]}/{owner.name}/status"
        body = {"apiVersion": API_VERSION, "kind": owner.kind, "metadata": metadata, "status": status}
        try:
            await self._api.apply(path, body, field_manager=FIELD_MANAGER)
        except ApiError as error:
            # Deleted a moment ago: the watch will say so.
            if error.status != 404:
                raise


def _conditions(status: JsonObject) -> list[Condition]:
    found = []
    for entry in status.get("conditions") or ():
        with contextlib.suppress(ValueError):
            found.append(Condition.model_validate(entry))
    return found


def _state(reports: Reports, owner: Owner) -> object:
    """Return what conditions are made of."""
    if owner.kind == ENDPOINT:
        return {
            node: (e.generation, e.programmed, e.message, tuple((p.peer, p.up) for p in e.paths))
            for node, e in reports.endpoints.get(owner.name, {}).items()
        }
    return {
        node: (o.generation, o.programmed, o.total, o.up, o.reason)
        for node, o in reports.objects.get(owner, {}).items()
    }


def _same(current: JsonObject, wanted: JsonObject) -> bool:
    """Whether a status says the same; a round-trip time alone is not worth a write."""
    return _without_rtt(current) == _without_rtt(wanted)


def _without_rtt(status: JsonObject) -> JsonObject:
    paths = status.get("paths")
    if not paths:
        return status
    return status | {"paths": [{k: v for k, v in p.items() if k != "rttMicroseconds"} for p in paths]}
