"""The reconcile loop: one task that keeps the dataplane equal to what the cluster's objects ask for.

Level-based. Sources say what changed, the plan is the difference to what the dataplane acknowledged or
dumped, and only this task talks to the dataplane. While a batch is applied, further changes gather, so that a
burst becomes one batch. Nothing is planned in a table before its source has listed completely.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

import structlog

from vpp_operator.agent.audit import Audit
from vpp_operator.agent.plan import Plan, acknowledge_slices, add_keys
from vpp_operator.agent.retry import Retries
from vpp_operator.agent.sources import Source
from vpp_operator.agent.tables import Tables
from vpp_operator.dataplane.protocol import (
    Dataplane,
    DataplaneError,
    DataplaneIncompatibleError,
    DataplaneUnavailableError,
    EngineInfo,
    EngineStats,
    Failure,
)
from vpp_operator.dataplane.records import KEY_SIZE, Table
from vpp_operator.watch import Backoff

__all__ = ["Loop", "LoopFigures", "Steering"]

_log = structlog.get_logger(__name__)

Parts = dict[Table, list[tuple[int, list[bytes]]]]
"""Keys by table, in lists of one part of the table's shards each."""

_ORDER: Final = (
    Table.CONFIG,
    Table.PREFIX,
    Table.SERVICE,
    Table.ENDPOINT,
    Table.FRONTEND,
    Table.GTPU_ENDPOINT,
    Table.GTPU_PEER,
    Table.GTPU_TUNNEL,
    Table.GTPU_UE,
)
"""What a record depends on comes before it."""

_STEERED: Final = frozenset(_ORDER[: _ORDER.index(Table.GTPU_PEER)])
"""The tables that decide what the node's network sends to the dataplane."""


_MADE_ROOM: Final = frozenset({-errno.ENOSPC, -errno.EEXIST, -errno.EBUSY, -errno.ENOENT})
"""Refusals that a deletion may have ended: a full table; an identity or prefix that another record had, a
record in use, and what depends on the record that could not come for that."""


class Steering(Protocol):
    """The node's side: sends traffic to the dataplane for what is programmed there."""

    def note(self, table: Table, key: bytes, record: bytes | None, programmed: bool) -> None:
        """Take note of a key: its wanted record (None: not wanted), and whether it is programmed now."""
        ...

    def waiting(self) -> bool:
        """Whether :meth:`apply` has something to do."""
        ...

    async def apply(self) -> None:
        """Bring the node there. Never raises for what goes wrong on the node: reports and retries itself."""
        ...


@dataclass(slots=True)
class LoopFigures:
    """Counters since the process started, and the last durations in seconds."""

    batches: int = 0
    upserts: int = 0
    deletes: int = 0
    refused: int = 0
    mended: int = 0
    audits: int = 0
    connects: int = 0
    last_apply_seconds: float = 0.0
    last_plan_seconds: float = 0.0
    last_audit_step_seconds: float = 0.0
    longest_audit_step_seconds: float = 0.0


@dataclass(slots=True)
class LoopTimes:
    """How often things are done, in seconds."""

    audit: float = 180.0
    stats: float = 1.0


class Loop:
    """Runs as one task (:meth:`run`); :meth:`wake` tells it that something changed."""

    # Keys planned or noted between two looks at the event loop: about 2 ms of work.
    SLICE = 4096
    # Keys looked at in one turn, so that a million tunnels do not keep a Service waiting.
    BATCH = 65536
    # Seconds for which one source is asked for its changes in one turn.
    TAKE_SECONDS = 0.1

    def __init__(
        self,
        dataplane: Dataplane,
        sources: Sequence[Source],
        steering: Steering | None = None,
        *,
        times: LoopTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[], None] = lambda: None,
        on_stats: Callable[[EngineStats], None] = lambda stats: None,
    ) -> None:
        self._on_stats = on_stats
        self._dataplane = dataplane
        self._sources = sources
        self._source_of = {table: source for source in sources for table in source.tables}
        self._steering = steering
        self._times = times or LoopTimes()
        self._clock = clock
        self._on_change = on_change
        self._state = Tables()
        self._ready: set[int] = set()
        self._partial: set[int] = set()
        """Sources that have more to give than was taken: what is known of them is not consistent yet."""
        self._planned: set[Table] = set()
        """Tables of which every wanted record was planned at least once."""
        self._retries = Retries()
        self._wake = asyncio.Event()
        self._backoff = Backoff(first=0.1, longest=5.0)
        self._reconnect_at = 0.0
        self._worked = 0
        """Keys gone through since others had their turn."""
        self._audit: Audit | None = None
        self._audit_at = 0.0
        self._stats_at = 0.0
        self.figures = LoopFigures()
        self.info: EngineInfo | None = None
        """What the engine says of itself; None while it cannot be reached."""
        self.stats: EngineStats | None = None
        """The engine's last counters; kept while it cannot be reached."""
        self.error = ""
        """Why the engine cannot be reached; empty: it can."""
        self.incompatible = False
        """The engine is there, and of another release than this agent."""
        self.paused = False
        self.settled = asyncio.Event()
        """Set once everything was listed and applied completely since the process started."""
        self.programming = True
        """Whether what was found on the connected engine has not been brought to the desired state yet."""
        self.last_turn = clock()
        """When the loop last began a turn, by its clock."""

    # ---------------------------------------------------------------------------------- what others may see

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    def pause(self, paused: bool) -> None:
        """Stop changing the dataplane and the node, or go on. What is programmed stays."""
        if paused != self.paused:
            self.paused = paused
            self.wake()

    @property
    def settled_once(self) -> bool:
        """Whether everything was listed and applied completely since the process started."""
        return self.settled.is_set()

    def connected(self) -> bool:
        """Whether the engine answers."""
        return self.info is not None

    def synced(self) -> bool:
        """Whether every source has listed completely that is waited for."""
        return all(source.ready() or not source.needed() for source in self._sources)

    def pending(self) -> int:
        """Number of records that wait to be applied, refused ones not counted."""
        return sum(len(keys) for keys in self._state.dirty.values())

    def desired_count(self, table: Table) -> int:
        """Number of records that a table should hold."""
        return len(self._state.desired[table])

    def refused(self) -> Iterable[tuple[Table, bytes, int]]:
        """Return the records that the engine refuses: table, key, negative errno."""
        for (table, key), entry in self._retries.items():
            yield table, key, entry.code

    def refusal_of(self, table: Table, key: bytes) -> int:
        """Return the negative errno with which the engine refuses a record; 0: it does not."""
        return self._retries.code((table, key))

    def waiting_in(self, table: Table) -> int:
        """Number of records of a table that wait to be applied."""
        return len(self._state.dirty[table])

    def desired_record(self, table: Table, key: bytes) -> bytes | None:
        """Return a wanted record."""
        return self._state.desired[table].get(key)

    def is_programmed(self, table: Table, key: bytes) -> bool:
        """Whether the engine holds a record of this key, and nothing about it waits or was refused."""
        state = self._state
        return (
            key in state.actual[table] and key not in state.dirty[table] and (table, key) not in self._retries
        )

    def unsettled(self) -> Iterable[tuple[Table, bytes, int]]:
        """Return the records that are not as desired: table, key, the engine's refusal (0: waiting)."""
        for (table, key), entry in self._retries.items():
            yield table, key, entry.code
        for table, keys in self._state.dirty.items():
            for key in keys:
                yield table, key, 0

    def versions(self) -> dict[str, str]:
        """Return the resourceVersion by kind up to which all changes are in the tables."""
        return dict(self._state.versions)

    # ------------------------------------------------------------------------------------------------- turns

    async def run(self) -> None:
        """Run until cancelled. Cancelling changes nothing in the dataplane."""
        while True:
            self._wake.clear()
            await self.turn()
            timeout = self._until_next()
            if timeout <= 0:
                await asyncio.sleep(0)
            else:
                try:
                    async with asyncio.timeout(timeout):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    def _until_next(self) -> float:
        """Seconds until something is due without being woken."""
        now = self._clock()
        if self.info is None:
            return max(0.0, self._reconnect_at - now)
        if self._partial or (self.pending() and not self.paused):
            return 0.0
        if self._audit is not None and self._may_plan():
            return 0.0
        times = [self._stats_at]
        if self._may_plan():
            times.append(self._audit_at)
        due = self._retries.next_due()
        if due is not None and not self.paused:
            times.append(due)
        return max(0.0, min(times) - now)

    def _may_plan(self) -> bool:
        return bool(self._ready)

    async def turn(self) -> None:
        """Do what is to be done now: connect, take changes, apply them, else one slice of the audit."""
        self.last_turn = self._clock()
        await self._take()
        try:
            if self.info is None and not await self._connect():
                return
            await self._settle()
            if not any(source.waiting() for source in self._sources):
                await self._background()
        except DataplaneUnavailableError as error:
            self._disconnected(str(error))
        except DataplaneError as error:
            # The engine refused a whole request: nothing to go on with on this connection.
            _log.error("dataplane refused a request", error=str(error))
            await self._dataplane.close()
            self._disconnected(str(error), isinstance(error, DataplaneIncompatibleError))

    async def _take(self) -> None:
        """Bring the desired records up to date with the sources that are ready."""
        taken: set[int] = set()
        # What one source gives may be what another waits for.
        while now := [i for i, s in enumerate(self._sources) if i not in taken and s.ready()]:
            for index in now:
                taken.add(index)
                await self._take_from(index, self._sources[index])

    async def _take_from(self, index: int, source: Source) -> None:
        state = self._state
        if index not in self._ready:
            # From now on what the dataplane holds in these tables beyond the desired may go.
            self._ready.add(index)
            for table in source.tables:
                await self._mark(table, state.actual[table])
        self._partial.discard(index)
        deadline = self._clock() + self.TAKE_SECONDS
        while source.waiting():
            if self._clock() > deadline:
                self._partial.add(index)
                break
            update = source.take()
            for table, records in update.upserts.items():
                state.desired[table].update(records.items())
                state.dirty[table].update(records)
                self._wanted_anew(table, records)
            for table, keys in update.deletes.items():
                desired = state.desired[table]
                for key in keys:
                    desired.pop(key, None)
                    state.dirty[table].add(key)
                self._wanted_anew(table, keys)
            state.seen_versions.update(update.versions)
            await asyncio.sleep(0)

    async def _mark(self, table: Table, keys: Iterable[bytes]) -> None:
        """Note that keys, a million perhaps, are to be looked at."""
        for part in _slices(keys, self.SLICE):
            self._state.dirty[table].update(part)
            await asyncio.sleep(0)

    def _wanted_anew(self, table: Table, keys: Iterable[bytes]) -> None:
        """Wanted differently now: what was refused of these is tried at once."""
        if len(self._retries):
            for key in keys:
                self._retries.forget((table, key))

    # --------------------------------------------------------------------------------------------- connection

    async def _connect(self) -> bool:
        """Connect and read back everything that is programmed; what it holds is the truth."""
        if self._clock() < self._reconnect_at:
            return False
        info = await self._dataplane.connect()
        self.figures.connects += 1
        state = self._state
        await state.forget_actual()
        self._audit = None
        started = self._clock()
        entries = await self._read_back()
        for index in self._ready:
            for table in self._sources[index].tables:
                await state.forget_dirty(table)
                await self._mark(table, state.desired[table])
                await self._mark(table, state.actual[table])
        self._retries = Retries()
        self._backoff.reset()
        self._audit_at = self._clock() + self._times.audit
        self.info, self.error, self.programming = info, "", True
        self.incompatible = False
        _log.info(
            "dataplane connected",
            engine=info.engine,
            version=info.version,
            creation_id=info.creation_id,
            kept_sessions=info.kept_sessions,
            records=entries,
            seconds=round(self._clock() - started, 3),
        )
        self._on_change()
        return True

    async def _read_back(self) -> int:
        audit = Audit(self._dataplane, self._state.actual)
        while not audit.done:
            await audit.step()
            await asyncio.sleep(0)
        return audit.entries

    def _disconnected(self, error: str, incompatible: bool = False) -> None:
        if self.info is not None or self.error != error:
            _log.warning("dataplane unreachable", error=error)
        self.info, self.error, self._audit = None, error, None
        self.incompatible = incompatible
        self._reconnect_at = self._clock() + self._backoff.pause()
        self._on_change()

    # -------------------------------------------------------------------------------------------------- apply

    async def _settle(self) -> None:
        """Plan the dirty keys and the refused ones that are due, and apply the plan."""
        state = self._state
        if not self.paused:
            for table, key in self._retries.due(self._clock()):
                state.dirty[table].add(key)
        if not self.pending():
            await self._steer()
            self._settled()
            return
        started = self._clock()
        plan, looked_at = await self._plan()
        self.figures.last_plan_seconds = self._clock() - started
        if self.paused and len(plan):
            return
        failures = await self._apply(plan) if len(plan) else []
        # Services last: what they say is needed to let go of their endpoints.
        for table in reversed(looked_at):
            for index, keys in looked_at[table]:
                await self._inform_steering(table, keys)
                state.dirty[table].remove(index, keys)
                await self._rest_after(len(keys))
        await self._steer()
        self._forget_refusals(looked_at, failures)
        self._settled()

    def _settled(self) -> None:
        if self.pending() or self._partial:
            return
        self._state.versions.update(self._state.seen_versions)
        # A source may have become ready while a batch was applied: it is taken at the next turn.
        if self.programming and self._all_taken():
            self.programming = False
            self.settled.set()
            _log.info("everything is programmed", refused=len(self._retries))
            self._on_change()

    async def _plan(self) -> tuple[Plan, Parts]:
        """Plan what is dirty, in slices, and tell the steering what is wanted.

        A turn looks at :attr:`BATCH` wanted records at most, in the order of dependence; what is not wanted
        any more goes in the turn that has none of them left. What has no room beside what it replaces is
        planned with it, whatever their number: the dataplane does it in slices.
        """
        state = self._state
        plan = Plan()
        looked_at: Parts = {}
        unwanted: Parts = {}
        tables = {t for i in self._ready - self._partial for t in self._sources[i].tables}
        capacity = self.info.capacity if self.info is not None else {}
        room = sys.maxsize if await state.tight(tables, capacity) else self.BATCH
        for table in _ORDER:
            if table not in tables:
                continue
            for index, part in state.dirty[table].parts(self.SLICE):
                desired = state.desired[table].shards[index]
                wanted = part[:room]
                if not all(map(desired.__contains__, part)):
                    gone = [key for key in part if key not in desired]
                    wanted = [key for key in part if key in desired][:room]
                    unwanted.setdefault(table, []).append((index, gone))
                await self._plan_part(plan, table, index, wanted, looked_at)
                room -= len(wanted)
                if not room:
                    return plan, looked_at
            self._planned.add(table)
        for table in reversed(_ORDER):
            for index, gone in unwanted.get(table, ()):
                await self._plan_part(plan, table, index, gone, looked_at)
        return plan, {table: looked_at[table] for table in _ORDER if table in looked_at}

    async def _plan_part(
        self, plan: Plan, table: Table, index: int, keys: list[bytes], looked_at: Parts
    ) -> None:
        if keys:
            looked_at.setdefault(table, []).append((index, keys))
            desired, actual = self._state.desired[table], self._state.actual[table]
            add_keys(plan, table, keys, desired.shards[index], actual.shards[index])
            await self._inform_steering(table, keys)
            await self._rest_after(len(keys))

    async def _rest_after(self, keys: int) -> None:
        """Let others have their turn after a slice's worth of keys."""
        self._worked += keys
        if self._worked >= self.SLICE:
            self._worked = 0
            await asyncio.sleep(0)

    async def _inform_steering(self, table: Table, keys: Iterable[bytes]) -> None:
        if self._steering is None or table not in _STEERED:
            return
        desired, actual = self._state.desired[table], self._state.actual[table]
        for part in _slices(keys, self.SLICE):
            for key in part:
                self._steering.note(table, key, desired.get(key), key in actual)
            await self._rest_after(len(part))

    async def _apply(self, plan: Plan) -> list[Failure]:
        """Apply a plan and note what was taken.

        Before it, the node takes in the replies of new endpoints and lets go of addresses that go; addresses
        that are new get their traffic afterwards (see :meth:`_settle`).
        """
        state = self._state
        await self._steer()
        if self._audit is not None:
            for table, records in plan.upserts.items():
                size = KEY_SIZE[table]
                for record in records:
                    self._audit.touched(table, record[:size])
            for table, keys in plan.deletes.items():
                for key in keys:
                    self._audit.touched(table, key)
        started = self._clock()
        failures = await self._dataplane.apply(plan.batch())
        now = self._clock()
        self.figures.last_apply_seconds = now - started
        self.figures.batches += 1
        self.figures.upserts += sum(map(len, plan.upserts.values()))
        self.figures.deletes += sum(map(len, plan.deletes.values()))
        self.figures.refused += len(failures)
        for _ in acknowledge_slices(plan, failures, state.actual, self.SLICE):
            await asyncio.sleep(0)
        self._retries.refused(failures, now)
        if plan.deletes:
            self._retries.hasten(_MADE_ROOM, now)
        return failures

    def _forget_refusals(self, looked_at: Parts, failures: Iterable[Failure]) -> None:
        """Forget the refusal of every record that is as desired now."""
        failed = {(failure.table, failure.key) for failure in failures}
        refused = {table for (table, _), _ in self._retries.items()}
        seen = {
            table: {key for _, keys in looked_at[table] for key in keys}
            for table in refused & looked_at.keys()
        }
        taken = [
            key for key, _ in self._retries.items() if key[1] in seen.get(key[0], ()) and key not in failed
        ]
        for key in taken:
            self._retries.forget(key)
        if failed or taken:
            self._on_change()

    async def _steer(self) -> None:
        # Not before everything was planned once: the steering would forget what is not yet known.
        steering = self._steering
        if steering is None or self.paused or not self._all_taken() or not self._all_planned():
            return
        if steering.waiting():
            await steering.apply()

    def _all_taken(self) -> bool:
        return all(i in self._ready or not s.needed() for i, s in enumerate(self._sources))

    def _all_planned(self) -> bool:
        tables = (t for i in self._ready for t in self._sources[i].tables if t in _STEERED)
        return all(table in self._planned or not self._state.dirty[table] for table in tables)

    # --------------------------------------------------------------------------------------------- background

    async def _background(self) -> None:
        """Counters, and one slice of the comparison with what the dataplane really holds."""
        now = self._clock()
        if now >= self._stats_at:
            self._stats_at = now + self._times.stats
            self.stats = await self._dataplane.stats()
            self._on_stats(self.stats)
        if not self._may_plan():
            return
        if self._audit is None and now >= self._audit_at:
            tables = [table for index in sorted(self._ready) for table in self._sources[index].tables]
            self._audit = Audit(self._dataplane, self._state.actual, tables)
        if self._audit is None:
            return
        started = self._clock()
        found = await self._audit.step()
        step = self._clock() - started
        self.figures.last_audit_step_seconds = step
        self.figures.longest_audit_step_seconds = max(self.figures.longest_audit_step_seconds, step)
        for table, key in found:
            self._state.dirty[table].add(key)
        if found:
            self.figures.mended += len(found)
            _log.warning("records differ from what was programmed: mending", records=len(found))
        if self._audit.done:
            self._audit = None
            self.figures.audits += 1
            self._audit_at = self._clock() + self._times.audit


def _slices(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    rest = iter(keys)
    while part := list(islice(rest, size)):
        yield part
