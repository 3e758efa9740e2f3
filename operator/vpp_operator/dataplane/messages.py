"""A dataplane that is asked by messages (:mod:`vpp_operator.dataplane.wire`), whatever carries them.

Here is what all engines have in common: the order of a batch, paging, what failed, what an answer means.
How a message gets there and its answer back is the :class:`Transport` of an engine's adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import Protocol, TypeVar

from vpp_operator.dataplane import replace as replace_
from vpp_operator.dataplane import wire
from vpp_operator.dataplane.model import decode_info, decode_stats
from vpp_operator.dataplane.protocol import (
    Batch,
    DataplaneError,
    DataplaneUnavailableError,
    EngineInfo,
    EngineStats,
    Failure,
    PathState,
    ServiceCounters,
    TunnelCounters,
)
from vpp_operator.dataplane.records import KEY_SIZE, Table
from vpp_operator.dataplane.wire import REPLY, Header, MessageType, WireError

__all__ = ["CALL_TIMEOUT", "Answer", "MessageDataplane", "Transport", "errno_text", "unavailable"]

CALL_TIMEOUT = 10.0
IN_FLIGHT = 8
"""Bulk messages on their way at once: enough that the engine never waits for the next one."""
PAUSES = (0.001, 0.004, 0.015, 0.05, 0.2)
"""Seconds until what found no room is tried again: room that was given up is there once packets that use it
have left all workers."""
LATE_PAUSE = 0.25
LATE_PAUSES = 8
"""The same where a worker gets no processor: as long as more room was given up than was found."""
_NAMED_BY_OTHERS = (Table.GTPU_PEER, Table.GTPU_ENDPOINT, Table.PREFIX, Table.CONFIG)
"""What goes after all else."""

Answer = tuple[Header, bytes]
_Counters = TypeVar("_Counters", TunnelCounters, ServiceCounters)


def errno_text(code: int) -> str:
    """Return name and meaning of a negative errno."""
    return f"{errno.errorcode.get(-code, code)} ({os.strerror(-code)})"


def unavailable(place: str, reason: str) -> DataplaneUnavailableError:
    """Return the error of a connection that is over."""
    return DataplaneUnavailableError(
        f"the engine at {place} is not available: {reason}; what is programmed stays. "
        "Connect again; if that fails, look at the engine pod's log on this node"
    )


class Transport(Protocol):
    """One connection at a time to an engine. Its answers come in any order, each to its own request."""

    @property
    def place(self) -> str:
        """Where the engine is, for people."""
        ...

    async def connect(self) -> None:
        """Connect, unless there is a connection that is alive. Raises DataplaneError with the remedy."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...

    async def send(self, context: int, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; wait only for room to send it. Raises DataplaneUnavailableError.

        The future fails with DataplaneError as soon as the connection is over.
        """
        ...

    def fail(self, reason: str) -> None:
        """End the connection: every request that waits fails with ``reason``."""
        ...


@dataclass(frozen=True, slots=True)
class _Step:
    """One message: a request about one table, or about none."""

    message: MessageType
    table: Table | None = None
    records: Sequence[bytes] = ()
    cursor: int = 0

    def __str__(self) -> str:
        return self.message.name if self.table is None else f"{self.message.name} of {self.table.name}"


@dataclass(frozen=True, slots=True)
class _Call:
    """A step on its way."""

    step: _Step
    answer: asyncio.Future[Answer]


def _steps(batch: Batch) -> list[_Step]:
    """Order a batch so that every flow stays served at each moment (see :class:`Batch`)."""

    def change(message: MessageType, source: Mapping[Table, Sequence[bytes]], *tables: Table) -> list[_Step]:
        return [_Step(message, t, part) for t in tables for part in wire.changes(source.get(t, ()))]

    upsert = partial(change, MessageType.UPSERT, batch.upserts)
    delete = partial(change, MessageType.DELETE, batch.deletes)
    endpoints = upsert(Table.ENDPOINT) + delete(Table.ENDPOINT)
    services = upsert(Table.SERVICE)
    return [
        *delete(Table.FRONTEND, Table.GTPU_UE),
        *upsert(Table.CONFIG, Table.PREFIX),
        *services,
        *endpoints,
        *([_Step(MessageType.COMMIT)] if endpoints or services else []),
        *upsert(Table.FRONTEND),
        *upsert(Table.GTPU_ENDPOINT, Table.GTPU_PEER, Table.GTPU_TUNNEL, Table.GTPU_UE),
        *delete(Table.GTPU_TUNNEL, Table.GTPU_PEER, Table.GTPU_ENDPOINT),
        *delete(Table.SERVICE, Table.PREFIX, Table.CONFIG),
    ]


class MessageDataplane:
    """Dataplane over a transport. Bulk changes travel as several messages at once.

    Whoever uses it calls :meth:`connect` again after a DataplaneUnavailableError.

    Args:
        transport: how messages reach the engine.
        call_timeout: seconds that the engine has for one message; longer silence ends the connection.
    """

    def __init__(self, transport: Transport, call_timeout: float = CALL_TIMEOUT) -> None:
        self._transport = transport
        self._timeout = call_timeout
        self._context = 0

    async def connect(self) -> EngineInfo:
        """Connect (again) and read the engine's identity; keeps a connection that is alive."""
        await self._transport.connect()
        return await self.info()

    async def close(self) -> None:
        """Let go of the connection; nothing programmed changes."""
        await self._transport.close()

    async def info(self) -> EngineInfo:
        """Read identity, capacities and interfaces."""
        _, payload = await self._call(_Step(MessageType.INFO))
        with self._decoding():
            return decode_info(payload)

    async def stats(self) -> EngineStats:
        """Read counters and table sizes."""
        return await self._engine_stats()

    async def _engine_stats(self) -> EngineStats:
        """Read what the plugins say themselves: an adapter's own figures may take longer."""
        _, payload = await self._call(_Step(MessageType.STATS))
        with self._decoding():
            return decode_stats(payload)

    async def apply(self, batch: Batch) -> list[Failure]:
        """Program a batch in the order that :class:`Batch` gives; return the records that failed.

        Records that find no room beside those that they replace come after these are gone; where there are
        many of them, in slices (:mod:`vpp_operator.dataplane.replace`).
        """
        if replace_.may_be_tight(batch):
            tight = replace_.tight_tables(batch, await self._room())
            if tight:
                return await self._replace(batch, tight)
        return await self._settle(batch, [table for table, keys in batch.deletes.items() if keys])

    async def _room(self) -> dict[str, int]:
        """Read how many records are missing to a table's size, by its name in the statistics."""
        return {name: t.size - t.used for name, t in (await self._engine_stats()).tables.items()}

    async def _run(self, batch: Batch) -> list[Failure]:
        """Send the messages of a batch."""
        failures: list[Failure] = []
        flying: deque[_Call] = deque()
        try:
            for step in _steps(batch):
                if len(flying) == IN_FLIGHT:
                    failures += await self._failures(flying.popleft())
                flying.append(await self._send(step))
            while flying:
                failures += await self._failures(flying.popleft())
        finally:
            for call in flying:
                call.answer.cancel()
        return failures

    async def _settle(
        self, batch: Batch, freed: Collection[Table], pauses: Sequence[float] = PAUSES
    ) -> list[Failure]:
        """Send a batch, and again what found no room although records of the tables ``freed`` went."""
        failures = await self._run(batch)
        late = repeat(LATE_PAUSE, LATE_PAUSES if pauses else 0)
        for number, pause in enumerate(chain(pauses, late)):
            batch, final = replace_.without_room(batch, failures, freed)
            if not batch:
                break
            if number >= len(pauses) and not replace_.room_is_coming(failures, await self._room()):
                break
            await asyncio.sleep(pause)
            failures = final + await self._run(batch)
        return failures

    async def _replace(self, batch: Batch, tight: Mapping[Table, int]) -> list[Failure]:
        """Program a batch that has no room, in ``tight`` tables, beside what it replaces."""
        families = [f for f in replace_.FAMILIES if not tight.keys().isdisjoint(f.tables)]
        sliced = {table for family in families for table in family.tables}
        last = {t: keys for t, keys in batch.deletes.items() if t in _NAMED_BY_OTHERS}
        failures = await self._run(
            Batch(
                {t: records for t, records in batch.upserts.items() if t not in sliced},
                {t: keys for t, keys in batch.deletes.items() if t not in sliced and t not in last},
            )
        )
        late: list[Failure] = []
        for family in families:
            room = min(tight[table] for table in family.tables if table in tight)
            roomy = room > replace_.ROOMY
            size = min(replace_.SLICE, room // 2) if roomy else replace_.SLICE
            pauses: Sequence[float] = PAUSES
            held = await self._holders(family, batch)
            parts = replace_.slices(family, batch, held, list(tight), size)
            if not roomy:
                parts = replace_.let_go_ahead(parts)
            for part in parts:
                if not part:
                    await asyncio.sleep(0)
                    continue
                refused = await self._settle(part, family.tables, pauses)
                if any(failure.code == -errno.ENOSPC for failure in refused):
                    pauses = ()  # too many are wanted: no need to find that out for each slice
                late += refused
        again, final = replace_.without_room(batch, late, sliced)
        failures += final + await self._settle(again, sliced)
        return failures + await self._run(Batch({}, last))

    async def _holders(self, family: replace_.Family, batch: Batch) -> dict[bytes, bytes]:
        """Return the owners of the linked records that the engine holds under a batch's keys."""
        table = family.linked
        size = KEY_SIZE[table]
        held: dict[bytes, bytes] = {}
        for source in (batch.deletes, batch.upserts):
            for part in wire.changes(source.get(table, ())):
                keys = [key for raw in part if (key := raw[:size]) not in held]
                for record in await self.fetch(table, keys):
                    held[record[:size]] = replace_.owner_of(table, record)
        return held

    async def dump(self, table: Table) -> AsyncIterator[list[tuple[bytes, int]]]:
        """Yield pieces of (key, digest) of what the table really holds; stable under change."""
        async for header, payload in self._pages(_Step(MessageType.DUMP, table)):
            with self._decoding():
                piece = wire.decode_dump(header, payload, table)
            if piece:
                yield piece

    async def fetch(self, table: Table, keys: Sequence[bytes]) -> list[bytes]:
        """Read whole records by key; keys that are not there are left out."""
        records: list[bytes] = []
        for part in wire.changes(keys):
            header, payload = await self._call(_Step(MessageType.FETCH, table, part))
            with self._decoding():
                records += wire.decode_records(header, payload, table)
        return records

    async def gtpu_counters(self, keys: Sequence[bytes] | None = None) -> list[TunnelCounters]:
        """Read the counters of tunnels by the keys of their records, or of all; absent ones are left out."""
        return await self._counters(MessageType.GTPU_COUNTERS, Table.GTPU_TUNNEL, keys, wire.decode_counters)

    async def service_counters(self, keys: Sequence[bytes] | None = None) -> list[ServiceCounters]:
        """Read the counters of Services by the keys of their records, or of all; absent ones are left out."""
        return await self._counters(
            MessageType.SERVICE_COUNTERS, Table.SERVICE, keys, wire.decode_service_counters
        )

    async def _counters(
        self,
        kind: MessageType,
        table: Table,
        keys: Sequence[bytes] | None,
        decode: Callable[[Header, bytes], list[_Counters]],
    ) -> list[_Counters]:
        found: list[_Counters] = []
        if keys is None:
            async for header, payload in self._pages(_Step(kind)):
                with self._decoding():
                    found += decode(header, payload)
            return found
        for part in wire.changes(keys):
            header, payload = await self._call(_Step(kind, table, part))
            with self._decoding():
                found += decode(header, payload)
        return found

    async def gtpu_paths(self) -> list[PathState]:
        """Read the state of the paths to all peers."""
        found: list[PathState] = []
        async for header, payload in self._pages(_Step(MessageType.GTPU_PATHS)):
            with self._decoding():
                found += wire.decode_paths(header, payload)
        return found

    async def flush_sessions(self) -> int:
        """Drop all sessions (for tests and people); return how many there were."""
        header, _ = await self._call(_Step(MessageType.FLUSH_SESSIONS))
        return header.count

    async def _failures(self, call: _Call) -> list[Failure]:
        header, payload = await self._finish(call)
        table, records = call.step.table, call.step.records
        if table is None:
            return []
        with self._decoding():
            failed = wire.decode_failures(header, payload, len(records))
        return [Failure(table, records[index][: KEY_SIZE[table]], code) for index, code in failed]

    async def _pages(self, step: _Step) -> AsyncIterator[Answer]:
        """Ask again with the cursor of each answer until the last one."""
        while True:
            header, payload = await self._call(step)
            yield header, payload
            if header.cursor == 0:
                return
            step = replace(step, cursor=header.cursor)

    async def _call(self, step: _Step) -> Answer:
        return await self._finish(await self._send(step))

    async def _send(self, step: _Step) -> _Call:
        self._context = (self._context + 1) & 0xFFFFFFFF
        request = wire.encode(
            step.message, self._context, table=step.table, records=step.records, cursor=step.cursor
        )
        try:
            async with asyncio.timeout(self._timeout):
                return _Call(step, await self._transport.send(self._context, request))
        except TimeoutError as error:
            raise self._silent(f"the engine took nothing for {self._timeout:g} s") from error

    async def _finish(self, call: _Call) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                header, payload = await call.answer
        except TimeoutError as error:
            # A late answer could be taken for another's: the connection ends here.
            raise self._silent(f"no answer to {call.step} for {self._timeout:g} s") from error
        if header.type != call.step.message | REPLY:
            raise self._unusable(f"{call.step} was answered by type {header.type:#x}")
        if header.retval:
            raise DataplaneError(
                f"the engine refused {call.step}: {errno_text(header.retval)}; "
                "engine and agent of different releases? Bring both to the same one"
            )
        return header, payload

    def _silent(self, reason: str) -> DataplaneUnavailableError:
        self._transport.fail(reason)
        return unavailable(self._transport.place, reason)

    def _unusable(self, reason: str) -> DataplaneError:
        self._transport.fail(reason)
        return DataplaneError(
            f"the engine at {self._transport.place} sent what cannot be understood: {reason}; "
            "engine and agent of different releases? Bring both to the same one"
        )

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except WireError as error:
            raise self._unusable(str(error)) from error
