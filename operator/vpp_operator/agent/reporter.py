"""Writing Dataplane.status: conditions at once, figures at their step, nothing when nothing changed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
import structlog

from vpp_operator.agent.status import Knowledge, build_status, changed, measure
from vpp_operator.api.base import API_VERSION
from vpp_operator.api.conditions import Condition, ConditionType, Reason
from vpp_operator.api.dataplane import Dataplane, DataplaneStatus
from vpp_operator.dataplane.protocol import EngineStats
from vpp_operator.kube import ApiError
from vpp_operator.watch import Backoff

__all__ = ["FIELD_MANAGER", "Apply", "Reporter"]

_log = structlog.get_logger(__name__)

FIELD_MANAGER = "agent"


class Apply(Protocol):
    """Server-side apply (see :meth:`vpp_operator.kube.ApiAccess.apply`)."""

    async def apply(self, path: str, body: Any, *, field_manager: str, force: bool = True) -> Any:
        """Apply ``body`` at ``path``."""
        ...


class Reporter:
    """Keeps the status of this node's Dataplane up to date, once there is such an object.

    ``knowledge`` is asked for the present state before each report. :meth:`condition_changed` asks for a
    report at once; at most one a second goes out.
    """

    AT_ONCE_SECONDS = 1.0
    # Exhaustion is reported for this long after the last drop, so that a condition does not flap.
    HOLD_SECONDS = 300.0

    def __init__(
        self,
        api: Apply,
        node_name: str,
        knowledge: Callable[[], Knowledge],
        *,
        may_take_back: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.writes = 0
        self.failures = 0
        self.last_error = ""
        self._api = api
        self._node_name = node_name
        self._knowledge = knowledge
        self._may_take_back = may_take_back
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._object: Dataplane | None = None
        self._step = 10.0
        self._written: DataplaneStatus | None = None
        self._written_changes = 0
        self._base: EngineStats | None = None
        self._seen: EngineStats | None = None
        self._ports_exhausted_at = float("-inf")
        self._sessions_full_at = float("-inf")
        self._wake = asyncio.Event()
        self._at_once = False
        self._next_figures = 0.0
        self._last_write = float("-inf")
        self._backoff = Backoff(first=1.0, longest=30.0)

    def set_object(self, dataplane: Dataplane | None) -> None:
        """Take the Dataplane as it is on the API server; None: there is none, so nothing is reported."""
        before, self._object = self._object, dataplane
        if dataplane is None:
            self._written = None
            return
        self._step = float(dataplane.spec.report_step_seconds)
        if before is None or before.metadata.uid != dataplane.metadata.uid:
            self._written = None
            # The first report spreads over a step, so that a restart of all agents is no burst.
            self._next_figures = self._clock() + self._jitter(0.0, self._step)
            self.condition_changed()
        elif before.metadata.generation != dataplane.metadata.generation or self._taken_away():
            self.condition_changed()

    def _taken_away(self) -> bool:
        """Whether the operator has declared this agent unreachable, and it is not."""
        return (
            any(
                condition.type == ConditionType.READY and condition.reason == Reason.AGENT_UNREACHABLE
                for condition in self._existing()
            )
            and self._may_take_back()
        )

    def _existing(self) -> tuple[Condition, ...]:
        status = self._object.status if self._object is not None else None
        return (status.conditions or ()) if status is not None else ()

    def condition_changed(self) -> None:
        """Something that conditions speak of is different: report soon."""
        self._at_once = True
        self._wake.set()

    def observe(self, stats: EngineStats) -> None:
        """Take the engine's counters (about once a second)."""
        before, self._seen = self._seen, stats
        if before is None:
            return
        now = self._clock()
        changed_before = self._holds()
        if stats.drops.get("portsExhausted", 0) > before.drops.get("portsExhausted", 0):
            self._ports_exhausted_at = now
        if stats.drops.get("sessionTableFull", 0) > before.drops.get("sessionTableFull", 0):
            self._sessions_full_at = now
        if self._holds() != changed_before:
            self.condition_changed()

    def _holds(self) -> tuple[bool, bool]:
        now = self._clock()
        return (
            now - self._ports_exhausted_at < self.HOLD_SECONDS,
            now - self._sessions_full_at < self.HOLD_SECONDS,
        )

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._wait()
            if self._object is None:
                continue
            figures = self._clock() >= self._next_figures
            self._at_once = False
            if await self.report(figures=figures):
                self._backoff.reset()
            else:
                self._at_once = True
                await asyncio.sleep(self._backoff.pause())

    async def _wait(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock()
            due = self._next_figures if self._object is not None else now + 3600.0
            if self._at_once and self._object is not None:
                due = min(due, self._last_write + self.AT_ONCE_SECONDS)
            if due <= now:
                return
            try:
                async with asyncio.timeout(due - now):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def report(self, *, figures: bool) -> bool:
        """Write the status if it differs from what is there; ``figures``: measure rates anew.

        Returns False when the write failed and is to be tried again.
        """
        knowledge = self._knowledge()
        knowledge.ports_exhausted, knowledge.sessions_full = self._holds()
        if figures:
            self._next_figures = self._clock() + self._step * self._jitter(0.9, 1.1)
            if knowledge.info is not None:
                knowledge.measured = measure(self._base, knowledge.stats, self._now())
            self._base = knowledge.stats
        before = self._existing()
        if self._written is not None and not self._taken_away():
            # What was written last, though the watch may not have brought it back yet.
            before = self._written.conditions or ()
        status = build_status(knowledge, before, self._now())
        if not figures:
            status = self._keep_figures(status)
        # What was seen goes out with the figures, but not for the API server's bookmarks alone.
        seen = figures and knowledge.changes != self._written_changes
        if not seen and not changed(self._written, status) and not self._taken_away():
            return True
        if not await self._write(status):
            return False
        self._written_changes = knowledge.changes
        return True

    def _keep_figures(self, status: DataplaneStatus) -> DataplaneStatus:
        """Leave the figures as last reported: this report is about conditions."""
        written = self._written
        if written is None:
            return status
        names = ("throughput", "clocks_per_packet", "sessions", "drops")
        return status.model_copy(update={name: getattr(written, name) for name in names})

    async def _write(self, status: DataplaneStatus) -> bool:
        path = f"/apis/{API_VERSION}/dataplanes/{self._node_name}/status"
        body = {
            "apiVersion": API_VERSION,
            "kind": "Dataplane",
            "metadata": {"name": self._node_name},
            "status": status.to_json(),
        }
        self._last_write = self._clock()
        try:
            await self._api.apply(path, body, field_manager=FIELD_MANAGER)
        except ApiError as error:
            if error.status == 404:
                # Deleted a moment ago: the watch will say so.
                return True
            return self._failed(str(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return self._failed(f"{type(error).__name__}: {error}")
        self.writes += 1
        self.last_error = ""
        self._written = status
        return True

    def _failed(self, error: str) -> bool:
        self.failures += 1
        if error != self.last_error:
            _log.warning("status not written", error=error)
        self.last_error = error
        return False
