"""The embedded engine as a :class:`vpp_operator.dataplane.protocol.Dataplane`.

One connection at a time; whoever uses the adapter calls :meth:`EmbeddedDataplane.connect` again after a
DataplaneUnavailableError. Bulk changes travel as several messages at once, at most 4,096 records each.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vpp_operator.dataplane.embedded import wire
from vpp_operator.dataplane.embedded.model import decode_info, decode_stats
from vpp_operator.dataplane.embedded.wire import HEADER, REPLY, Header, MessageType, WireError
from vpp_operator.dataplane.protocol import (
    Batch,
    DataplaneError,
    DataplaneUnavailableError,
    EngineInfo,
    EngineStats,
    Failure,
    PathState,
    TunnelCounters,
)
from vpp_operator.dataplane.records import KEY_SIZE, Table

__all__ = ["EmbeddedDataplane"]

CONNECT_TIMEOUT = 2.0
CALL_TIMEOUT = 10.0
IN_FLIGHT = 8
"""Bulk messages on their way at once: enough that the engine never waits for the next one."""


_Answer = tuple[Header, bytes]


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pending: dict[int, asyncio.Future[_Answer]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    error: str = ""
    """Why the connection is over; empty while it is alive."""


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
    connection: _Connection
    answer: asyncio.Future[_Answer]


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


def _errno_text(code: int) -> str:
    return f"{errno.errorcode.get(-code, code)} ({os.strerror(-code)})"


class EmbeddedDataplane:
    """Dataplane over the control socket of vpp-embedded.

    Args:
        socket_path: the engine's ``--socket``.
        call_timeout: seconds that the engine has for one message; longer silence ends the connection.
    """

    def __init__(self, socket_path: Path, call_timeout: float = CALL_TIMEOUT) -> None:
        self._path = socket_path
        self._timeout = call_timeout
        self._connection: _Connection | None = None
        self._context = 0

    async def connect(self) -> EngineInfo:
        """Connect (again) and read the engine's identity; keeps a connection that is alive."""
        if self._connection is None or self._connection.error:
            await self.close()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    reader, writer = await asyncio.open_unix_connection(self._path)
            except (OSError, TimeoutError) as error:
                raise DataplaneUnavailableError(
                    f"no engine answers at {self._path} ({error or 'timed out'}): "
                    "is the engine's pod on this node running, and its socket's directory mounted here?"
                ) from error
            connection = _Connection(reader, writer)
            connection.task = asyncio.create_task(self._read_answers(connection))
            self._connection = connection
        return await self.info()

    async def close(self) -> None:
        """Let go of the connection; nothing programmed changes."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._fail(connection, "closed by this process")
        if connection.task is not None:
            connection.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connection.task
        with contextlib.suppress(OSError):
            await connection.writer.wait_closed()

    async def info(self) -> EngineInfo:
        """Read identity, capacities and interfaces."""
        _, payload = await self._call(_Step(MessageType.INFO))
        with self._decoding():
            return decode_info(payload)

    async def stats(self) -> EngineStats:
        """Read counters and table sizes."""
        _, payload = await self._call(_Step(MessageType.STATS))
        with self._decoding():
            return decode_stats(payload)

    async def apply(self, batch: Batch) -> list[Failure]:
        """Program a batch in the order that :class:`Batch` gives; return the records that failed."""
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
        found: list[TunnelCounters] = []
        if keys is None:
            async for header, payload in self._pages(_Step(MessageType.GTPU_COUNTERS)):
                with self._decoding():
                    found += wire.decode_counters(header, payload)
            return found
        for part in wire.changes(keys):
            header, payload = await self._call(_Step(MessageType.GTPU_COUNTERS, Table.GTPU_TUNNEL, part))
            with self._decoding():
                found += wire.decode_counters(header, payload)
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

    async def _pages(self, step: _Step) -> AsyncIterator[_Answer]:
        """Ask again with the cursor of each answer until the last one."""
        while True:
            header, payload = await self._call(step)
            yield header, payload
            if header.cursor == 0:
                return
            step = replace(step, cursor=header.cursor)

    async def _call(self, step: _Step) -> _Answer:
        return await self._finish(await self._send(step))

    async def _send(self, step: _Step) -> _Call:
        connection = self._connection
        if connection is None or connection.error:
            raise self._unavailable(connection.error if connection else "not connected")
        self._context = (self._context + 1) & 0xFFFFFFFF
        request = wire.encode(
            step.message, self._context, table=step.table, records=step.records, cursor=step.cursor
        )
        call = _Call(step, connection, asyncio.get_running_loop().create_future())
        connection.pending[self._context] = call.answer
        try:
            connection.writer.write(request)
            async with asyncio.timeout(self._timeout):
                await connection.writer.drain()
        except (OSError, TimeoutError) as error:
            self._fail(connection, str(error) or f"the engine took nothing for {self._timeout:g} s")
            raise self._unavailable(connection.error) from error
        return call

    async def _finish(self, call: _Call) -> _Answer:
        try:
            async with asyncio.timeout(self._timeout):
                header, payload = await call.answer
        except TimeoutError as error:
            # A late answer could be taken for another's: the connection ends here.
            self._fail(call.connection, f"no answer to {call.step} for {self._timeout:g} s")
            raise self._unavailable(call.connection.error) from error
        if header.type != call.step.message | REPLY:
            raise self._unusable(f"{call.step} was answered by type {header.type:#x}")
        if header.retval:
            raise DataplaneError(
                f"the engine refused {call.step}: {_errno_text(header.retval)}; "
                "engine and agent of different releases? Bring both to the same one"
            )
        return header, payload

    async def _read_answers(self, connection: _Connection) -> None:
        try:
            while True:
                header = Header.unpack(await connection.reader.readexactly(HEADER.size))
                payload = await connection.reader.readexactly(header.length - HEADER.size)
                future = connection.pending.pop(header.context, None)
                if future is not None and not future.done():
                    future.set_result((header, payload))
        except asyncio.IncompleteReadError:
            self._fail(connection, "the engine closed the connection")
        except (OSError, WireError) as error:
            self._fail(connection, str(error))

    def _fail(self, connection: _Connection, reason: str) -> None:
        """End a connection: every call that waits gets the reason."""
        if connection.error:
            return
        connection.error = reason
        connection.writer.close()
        pending, connection.pending = connection.pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(self._unavailable(reason))
                future.exception()  # retrieved: whoever waited may be gone

    def _unavailable(self, reason: str) -> DataplaneUnavailableError:
        return DataplaneUnavailableError(
            f"the engine at {self._path} is not available: {reason}; what is programmed stays. "
            "Connect again; if that fails, look at the engine pod's log on this node"
        )

    def _unusable(self, reason: str) -> DataplaneError:
        if self._connection is not None:
            self._fail(self._connection, reason)
        return DataplaneError(
            f"the engine at {self._path} sent what cannot be understood: {reason}; "
            "engine and agent of different releases? Bring both to the same one"
        )

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except WireError as error:
            raise self._unusable(str(error)) from error
