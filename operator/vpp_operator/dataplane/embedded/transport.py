"""The control socket of vpp-embedded: messages as they are, one after the other, on a Unix stream socket."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from vpp_operator.dataplane.messages import Answer, unavailable
from vpp_operator.dataplane.protocol import DataplaneUnavailableError
from vpp_operator.dataplane.wire import HEADER, Header, WireError

__all__ = ["ControlSocket"]

CONNECT_TIMEOUT = 2.0


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pending: dict[int, asyncio.Future[Answer]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    error: str = ""
    """Why the connection is over; empty while it is alive."""


class ControlSocket:
    """Transport over the control socket at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: _Connection | None = None

    @property
    def place(self) -> str:
        """The socket's path."""
        return str(self._path)

    async def connect(self) -> None:
        """Connect, unless there is a connection that is alive."""
        if self._connection is not None and not self._connection.error:
            return
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

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._end(connection, "closed by this process")
        if connection.task is not None:
            connection.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connection.task
        with contextlib.suppress(OSError):
            await connection.writer.wait_closed()

    async def send(self, context: int, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; its answer is known by its context."""
        connection = self._connection
        if connection is None or connection.error:
            raise unavailable(self.place, connection.error if connection else "not connected")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.pending[context] = answer
        try:
            connection.writer.write(request)
            await connection.writer.drain()
        except OSError as error:
            self._end(connection, str(error))
            raise unavailable(self.place, connection.error) from error
        return answer

    def fail(self, reason: str) -> None:
        """End the connection."""
        if self._connection is not None:
            self._end(self._connection, reason)

    async def _read_answers(self, connection: _Connection) -> None:
        try:
            while True:
                header = Header.unpack(await connection.reader.readexactly(HEADER.size))
                payload = await connection.reader.readexactly(header.length - HEADER.size)
                future = connection.pending.pop(header.context, None)
                if future is not None and not future.done():
                    future.set_result((header, payload))
        except asyncio.IncompleteReadError:
            self._end(connection, "the engine closed the connection")
        except (OSError, WireError) as error:
            self._end(connection, str(error))

    def _end(self, connection: _Connection, reason: str) -> None:
        """End a connection: every call that waits gets the reason."""
        if connection.error:
            return
        connection.error = reason
        connection.writer.close()
        pending, connection.pending = connection.pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(unavailable(self.place, reason))
                future.exception()  # retrieved: whoever waited may be gone
