"""Brings the cluster to what the nodes and tunings ask for: the I/O of the operator.

Events only mark keys as dirty; the queue's workers look at the whole state and write the difference. Every
write is server-side apply by the field manager ``operator`` (or a deletion that names the UID), and passes
the fence of the Lease.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from ..api.base import API_VERSION, JsonObject
from ..api.conditions import Condition, ConditionStatus, ConditionType, Reason, merge_conditions, rfc3339
from ..api.dataplane import ReportStep
from ..kube import ApiAccess, ApiError
from .desired import DEFAULT_PROFILE, NodePlan, dataplane_object, node_plan, report_step, selected
from .facts import PROFILE_LABEL, DataplaneFacts, PodFacts
from .lease import NotLeaderError
from .problems import ServiceName, ServiceProblems, current_condition, service_condition, service_event
from .queue import WorkQueue
from .rollout import Decision, plan_rollout
from .settings import Settings
from .state import DATAPLANES, KINDS, TUNINGS, ClusterState
from .tunings import tuning_status

__all__ = ["FIELD_MANAGER", "Controller", "Key"]

FIELD_MANAGER = "operator"

# Changes that come together are written together, after this many seconds.
_SETTLE_S = 1.0
_RESYNC_S = 300.0
_ROLLOUT_S = 5.0
_PAGE = 500

_log = structlog.get_logger(__name__)


class Key(NamedTuple):
    """Something to reconcile: node, reach (is its agent there), tuning, service, rollout, resync."""

    what: str
    name: str = ""
    namespace: str = ""


class Controller:
    """The reconcilers over one state; lives as long as this process leads."""

    def __init__(
        self,
        api: ApiAccess,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.state = ClusterState()
        self.plans: dict[str, NodePlan] = {}
        self.problems = ServiceProblems()
        self.rollout = Decision(None, (), 0)
        self.rollout_stopped = False
        self.queue: WorkQueue[Key] = WorkQueue(self._work, fatal=(NotLeaderError,))
        self._api = api
        self._settings = settings
        self._clock = clock
        self._now = now
        self._step: ReportStep | None = None
        self._not_ready_since: dict[str, float] = {}
        self._marked: set[str] = set()
        self._restarted: dict[str, int] = {}
        self._waiting_since: dict[str, float] = {}
        self._events_made: set[str] = set()

    # ------------------------------------------------------------------------------------------- input

    async def load(self) -> None:
        """List everything once, so that the first look is at the whole cluster."""
        for kind, followed in KINDS.items():
            async for obj in self._list(followed.path, ours_only=followed.ours_only):
                self.deliver(kind, False, obj)
        async for service in self._list("/api/v1/services"):
            # A former leader's condition whose problem may be gone by now.
            if current_condition(service) is not None:
                meta = service["metadata"]
                self.queue.add(Key("service", meta["name"], meta["namespace"]), 30.0)
        self.queue.add(Key("rollout"), _ROLLOUT_S)
        self.queue.add(Key("resync"), _RESYNC_S)

    def deliver(self, kind: str, gone: bool, obj: JsonObject) -> None:
        """Take an event about an object of a kind of `KINDS`."""
        objects = self.state.of(kind)
        name = (obj.get("metadata") or {}).get("name", "")
        old = objects.get(name)
        if gone:
            new = objects.pop(name, None) and None
        else:
            try:
                new = KINDS[kind].decode(obj)
            except (ValueError, KeyError, TypeError) as error:
                # One object that cannot be read leaves all others alone; what it said before still holds.
                _log.warning("object not understood", kind=kind, name=name, error=str(error))
                return
            if new == old:
                return
            objects[name] = new
        self._changed(kind, name, old, new)

    def _changed(self, kind: str, name: str, old: object, new: object) -> None:
        if kind == "Node":
            self._nodes_changed()
            self.queue.add(Key("node", name))
            self.queue.add(Key("rollout"), _SETTLE_S)
        elif kind == "DataplaneTuning":
            # A change of the status alone comes back from this process.
            if getattr(old, "spec", None) != getattr(new, "spec", None):
                self._all_nodes()
            self.queue.add(Key("tuning", name), _SETTLE_S)
        elif kind == "DaemonSet":
            self._all_nodes()
            self.queue.add(Key("rollout"), _SETTLE_S)
        else:
            for pod in (old, new):
                if isinstance(pod, PodFacts) and pod.component == "agent":
                    self.queue.add(Key("reach", pod.node))
            self.queue.add(Key("rollout"), _SETTLE_S)

    def _nodes_changed(self) -> None:
        count = sum(selected(node, self._settings.node_selector) for node in self.state.nodes.values())
        step = report_step(count, self._step)
        if step != self._step:
            self._step = step
            self._all_nodes()

    def _all_nodes(self) -> None:
        for name in self.state.nodes.keys() | self.state.dataplanes.keys():
            self.queue.add(Key("node", name))

    # ------------------------------------------------------------------------- Dataplanes (a watch's sink)

    def upsert(self, namespace: str, name: str, obj: DataplaneFacts) -> None:
        """Take a Dataplane that is new or changed."""
        old = self.state.dataplanes.get(name)
        self.state.dataplanes[name] = obj
        for service in self.problems.report(name, obj.status.problems or ()):
            self._service_dirty(service)
        if old is None or (old.spec, old.owner_uid) != (obj.spec, obj.owner_uid):
            self.queue.add(Key("node", name))
        if old is None:
            self.queue.add(Key("reach", name))
        if old is None or _tuning_part(old) != _tuning_part(obj):
            self._tunings_dirty()
            self.queue.add(Key("rollout"), _SETTLE_S)

    def delete(self, namespace: str, name: str) -> None:
        """Forget a Dataplane."""
        self.state.dataplanes.pop(name, None)
        for service in self.problems.report(name, ()):
            self._service_dirty(service)
        self._restarted.pop(name, None)
        self._marked.discard(name)
        self.queue.add(Key("node", name))
        self._tunings_dirty()

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Take note of a Dataplane that cannot be read: it is written anew."""
        _log.warning("Dataplane not understood", name=name, error=str(error))
        self.delete(namespace, name)

    def listed(self, resource_version: str) -> None:
        """All Dataplanes are known."""
        if not self.state.dataplanes_listed:
            self.state.dataplanes_listed = True
            self._all_nodes()

    def progress(self, resource_version: str) -> None:
        """Nothing to do."""

    def _service_dirty(self, service: ServiceName) -> None:
        self.queue.add(Key("service", service[1], service[0]), _SETTLE_S)

    def _tunings_dirty(self) -> None:
        for name in self.state.tunings:
            self.queue.add(Key("tuning", name), 2 * _SETTLE_S)

    # -------------------------------------------------------------------------------------------- work

    async def _work(self, key: Key) -> None:
        match key.what:
            case "node":
                await self._node(key.name)
            case "reach":
                await self._reach(key.name)
            case "tuning":
                await self._tuning(key.name)
            case "service":
                await self._service((key.namespace, key.name))
            case "rollout":
                await self._rollout()
            case "resync":
                self.queue.add(key, _RESYNC_S)
                await self._resync()

    async def _node(self, name: str) -> None:
        """Make the node's Dataplane and label what they should be."""
        if not self.state.dataplanes_listed:
            return
        node, dataplane = self.state.nodes.get(name), self.state.dataplanes.get(name)
        if node is None or not selected(node, self._settings.node_selector):
            if self.plans.pop(name, None) is not None:
                self._tunings_dirty()
            if dataplane is not None:
                await self._delete(f"{DATAPLANES}/{name}", dataplane.uid)
                _log.info(
                    "Dataplane deleted", node=name, reason="no node" if node is None else "node deselected"
                )
            if node is not None and not node.deleting:
                await self._label(name, node.labels.get(PROFILE_LABEL), DEFAULT_PROFILE)
            return
        plan = node_plan(
            node,
            self.state.tunings.values(),
            engine=self._settings.engine,
            step=self._step or ReportStep.SMALL,
            daemonsets=self.state.daemonsets.values(),
        )
        if plan != self.plans.get(name):
            self.plans[name] = plan
            self._tunings_dirty()
        if dataplane is None and not await self._still_there(name, node.uid):
            return
        if dataplane is None or dataplane.spec != plan.spec or dataplane.owner_uid != node.uid:
            await self._api.apply(f"{DATAPLANES}/{name}", dataplane_object(plan), field_manager=FIELD_MANAGER)
            _log.info("Dataplane applied", node=name, new=dataplane is None)
        await self._label(name, node.labels.get(PROFILE_LABEL), plan.profile)

    async def _still_there(self, name: str, uid: str) -> bool:
        """Ask for the node itself before something is made for it: a missed deletion must not come back."""
        try:
            current = await self._api.read(f"/api/v1/nodes/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            self.deliver("Node", True, {"metadata": {"name": name}})
            return False
        if current["metadata"]["uid"] != uid:
            self.deliver("Node", False, current)
            return False
        return True

    async def _label(self, name: str, current: str | None, profile: str) -> None:
        wanted = None if profile == DEFAULT_PROFILE else profile
        if current == wanted:
            return
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            # An empty set takes back what was applied before.
            "metadata": {"name": name, "labels": {PROFILE_LABEL: wanted} if wanted else {}},
        }
        await self._api.apply(f"/api/v1/nodes/{name}", body, field_manager=FIELD_MANAGER)

    async def _reach(self, name: str) -> None:
        """Say Ready=Unknown where the agent has not been Ready for a while; the agent takes it back."""
        dataplane = self.state.dataplanes.get(name)
        if dataplane is None or self.state.agent_ready(name):
            self._not_ready_since.pop(name, None)
            self._marked.discard(name)
            return
        since = self._not_ready_since.setdefault(name, self._clock())
        left = since + self._settings.unreachable_seconds - self._clock()
        if left > 0:
            self.queue.add(Key("reach", name), left)
            return
        # Once: an agent that is there without being Ready may know better.
        if name in self._marked:
            return
        old = dataplane.condition(ConditionType.READY)
        if old is None or old.status != ConditionStatus.UNKNOWN:
            condition = Condition(
                type=ConditionType.READY,
                status=ConditionStatus.UNKNOWN,
                observed_generation=dataplane.generation,
                last_transition_time=rfc3339(self._now()),
                reason=Reason.AGENT_UNREACHABLE,
                message="the agent on the node has not been Ready for "
                f"{self._settings.unreachable_seconds:g} s; the node goes on with what was programmed. Look "
                "at the agent's pod and at the node.",
            )
            merged = merge_conditions([old] if old else [], [condition])
            await self._apply_status(
                f"{DATAPLANES}/{name}", "Dataplane", name, {"conditions": [c.to_json() for c in merged]}
            )
            _log.warning("agent unreachable", node=name)
        self._marked.add(name)

    async def _tuning(self, name: str) -> None:
        """Write the tuning's status when it has changed."""
        tuning = self.state.tunings.get(name)
        if tuning is None:
            return
        status = tuning_status(tuning, self.plans.values(), self.state.dataplanes, self._now())
        if status != tuning.status:
            await self._apply_status(f"{TUNINGS}/{name}", "DataplaneTuning", name, status.to_json())

    async def _service(self, name: ServiceName) -> None:
        """Put the condition on the Service, or take it away."""
        path = f"/api/v1/namespaces/{name[0]}/services/{name[1]}"
        try:
            service = await self._api.read(path)
        except ApiError as error:
            if error.status == 404:
                return
            raise
        problems = self.problems.of(name)
        current = current_condition(service)
        if not problems and current is None:
            return
        conditions = []
        if problems:
            conditions = [service_condition(service, problems, len(self.state.dataplanes), self._now())]
        if [current] != conditions:
            body: JsonObject = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name[1], "namespace": name[0]},
                "status": {"conditions": conditions},
            }
            await self._api.apply(f"{path}/status", body, field_manager=FIELD_MANAGER)
        if conditions:
            await self._event(service, conditions[0])

    async def _event(self, service: JsonObject, condition: JsonObject) -> None:
        event = service_event(service, condition, self._settings.identity, self._now())
        made = f"{event['metadata']['namespace']}/{event['metadata']['name']}"
        if made in self._events_made:
            return
        try:
            await self._api.request(
                "POST",
                f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events",
                body=event,
                params={"fieldManager": FIELD_MANAGER},
            )
        except ApiError as error:
            # There already, by a former leader; or the namespace is going away.
            if error.status not in (403, 404, 409):
                raise
        self._events_made.add(made)

    async def _rollout(self) -> None:
        """Replace the next outdated pod when nothing is on its way back."""
        state = self.state
        decision = plan_rollout(
            state.nodes, state.daemonsets.values(), state.pods.values(), state.dataplanes, self._restarted
        )
        self.rollout = decision
        if decision.outdated:
            self.queue.add(Key("rollout"), _ROLLOUT_S)
        self._watch_waiting(decision)
        pod = decision.delete
        if pod is None or not self._settings.rollout_enabled or not state.dataplanes_listed:
            return
        await self._delete(f"/api/v1/namespaces/{self._api.access.namespace}/pods/{pod.name}", pod.uid)
        if pod.component == "engine" and pod.node in state.dataplanes:
            self._restarted[pod.node] = state.dataplanes[pod.node].generation
        _log.info(
            "pod replaced", pod=pod.name, node=pod.node, reason=decision.reason, left=decision.outdated - 1
        )

    def _watch_waiting(self, decision: Decision) -> None:
        now = self._clock()
        self._waiting_since = {node: self._waiting_since.get(node, now) for node in decision.waiting_for}
        late = [n for n, at in self._waiting_since.items() if now - at > self._settings.rollout_ready_seconds]
        stopped = bool(late) and decision.outdated > 0
        if stopped and not self.rollout_stopped:
            _log.error(
                "rollout stopped: nodes do not come back Ready with their new pods; look at their pods",
                nodes=late[:8],
                left=decision.outdated,
            )
        self.rollout_stopped = stopped

    async def _resync(self) -> None:
        """Forget objects whose deletion was missed: kopf does not tell what went while it did not watch."""
        for kind, followed in KINDS.items():
            known = dict(self.state.of(kind))
            present = {
                obj["metadata"]["name"]
                async for obj in self._list(followed.path, ours_only=followed.ours_only)
            }
            for name, obj in known.items():
                if name not in present and self.state.of(kind).get(name) is obj:
                    self.deliver(kind, True, {"metadata": {"name": name}})

    # ---------------------------------------------------------------------------------------- requests

    async def _apply_status(self, path: str, kind: str, name: str, status: JsonObject) -> None:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "status": status}
        try:
            await self._api.apply(f"{path}/status", body, field_manager=FIELD_MANAGER)
        except ApiError as error:
            if error.status != 404:
                raise

    async def _delete(self, path: str, uid: str) -> None:
        """Delete the object with this UID; one that is gone or another one is left alone."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._api.request("DELETE", path, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def _list(self, path: str, *, ours_only: bool = False) -> AsyncIterator[JsonObject]:
        params = {"limit": str(_PAGE)}
        if ours_only:
            params["labelSelector"] = (
                f"app.kubernetes.io/instance={self._settings.release},"
                "app.kubernetes.io/component in (agent,engine)"
            )
        while True:
            page = await self._api.read(path.format(namespace=self._api.access.namespace), params=params)
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            params["continue"] = token


def _tuning_part(dataplane: DataplaneFacts) -> object:
    """Return what a tuning's status and the rollout depend on; figures are not in it."""
    status = dataplane.status
    return (
        dataplane.generation,
        dataplane.spec,
        status.observed_generation,
        status.engine,
        status.workers,
        status.tuning,
        dataplane.condition(ConditionType.READY),
    )
