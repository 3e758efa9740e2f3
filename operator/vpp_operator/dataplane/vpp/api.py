"""VPP's binary API as the transport of messages: each travels in one ``khost_call`` of the plugin khost.

vpp_papi's asyncio client does the encoding, the handshake and the matching of replies. What it leaves open is
closed here: its two tasks are watched, since nothing else notices that they ended and a reply that can no
longer come is awaited for ever; its result codes of ``connect`` become errors; and the messages are this
module's own description, not what the running VPP says, so that a VPP of another release is found at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpp_papi.vpp_papi_async import VPPApiClient, VPPApiJSONFiles

from vpp_operator.dataplane.messages import Answer, unavailable
from vpp_operator.dataplane.protocol import (
    DataplaneError,
    DataplaneIncompatibleError,
    DataplaneUnavailableError,
)
from vpp_operator.dataplane.wire import HEADER, Header, WireError

__all__ = ["KHOST_API", "ApiSocket"]

CONNECT_TIMEOUT = 5.0
CLIENT_NAME = "vpp-operator"

KHOST_API: dict[str, Any] = {
    "messages": [
        [
            "khost_call",
            ["u16", "_vl_msg_id"],
            ["u32", "client_index"],
            ["u32", "context"],
            ["u32", "length"],
            ["u8", "request", 0, "length"],
            {"crc": "0x497d58c0"},
        ],
        [
            "khost_call_reply",
            ["u16", "_vl_msg_id"],
            ["u32", "context"],
            ["i32", "retval"],
            ["u32", "length"],
            ["u8", "answer", 0, "length"],
            {"crc": "0x95b92a6a"},
        ],
    ],
    "services": {"khost_call": {"reply": "khost_call_reply"}},
}
"""The messages used here, as vppapigen describes them in khost.api.json."""


class _Client(VPPApiClient):  # type: ignore[misc]
    """vpp_papi's client with :data:`KHOST_API` instead of all that the running VPP offers."""

    async def get_api_definitions(self) -> None:
        """Take our own definitions and drop those of others that this VPP does not have."""
        messages, services = VPPApiJSONFiles.process_json_str(json.dumps(KHOST_API))
        for name, message in messages.items():
            expected = f"{name}_{message.crc[2:]}"
            if expected not in self.message_table:
                raise DataplaneIncompatibleError(self._difference(name, expected))
        self.messages.update(messages)
        self.services.update(services)
        known = {n: m for n, m in self.messages.items() if f"{n}_{m.crc[2:]}" in self.message_table}
        self.messages.clear()
        self.messages.update(known)

    def _difference(self, name: str, expected: str) -> str:
        others = [n for n in self.message_table if n.rpartition("_")[0] == name]
        if not others:
            return (
                f"the VPP at {self.server_address} has no message {name}: its plugin khost is not loaded. "
                "Its log says why: khost_plugin.so must lie in a directory of startup.conf's `plugins` and "
                "belong to this release of VPP; use the operator's own image, or build the plugins against "
                "the VPP that runs (make vpp-plugins)"
            )
        return (
            f"the plugin khost of the VPP at {self.server_address} speaks another version of {name}: "
            f"{', '.join(others)}, the agent {expected}. Bring engine and agent to the same release"
        )


@dataclass(slots=True)
class _Connection:
    client: _Client
    pending: set[asyncio.Future[Answer]] = field(default_factory=set)
    error: str = ""
    """Why the connection is over; empty while it is alive."""


class ApiSocket:
    """Transport over VPP's API socket at ``path`` (startup.conf: ``socksvr { socket-name PATH }``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: _Connection | None = None

    @property
    def place(self) -> str:
        """The socket's path."""
        return str(self._path)

    async def connect(self) -> None:
        """Connect, unless there is a connection that is alive.

        Raises:
            DataplaneUnavailableError: nobody answers there.
            DataplaneIncompatibleError: VPP lacks the plugin khost, or has another version of its messages.
        """
        if self._connection is not None and not self._connection.error:
            return
        await self.close()
        client = _Client(server_address=self.place)
        events: asyncio.Queue[Any] = asyncio.Queue()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                code = await client.connect(CLIENT_NAME, events)
        except DataplaneError:
            await _discard(client)
            raise
        except (OSError, EOFError, TimeoutError) as error:
            await _discard(client)
            raise self._nobody(str(error) or "timed out") from error
        except KeyError as error:
            await _discard(client)
            raise DataplaneIncompatibleError(
                f"the VPP at {self.place} lacks the message {error}: it is older than what the agent knows "
                "(VPP 26.06). Bring engine and agent to the same release"
            ) from error
        if code:
            raise self._nobody("no such socket, or no right to it")
        connection = _Connection(client)
        for task in (client.socket_task, client.queue_task):
            task.add_done_callback(lambda done: self._end(connection, _reason(done)))
        self._connection = connection

    async def close(self) -> None:
        """Let go of the connection; VPP forgets the client when its socket closes."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._end(connection, "closed by this process")
        await _discard(connection.client)

    async def send(self, context: int, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; vpp_papi matches the reply by a context of its own."""
        connection = self._connection
        if connection is None or connection.error:
            raise unavailable(self.place, connection.error if connection else "not connected")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.pending.add(answer)
        reply = connection.client.api.khost_call(length=len(request), request=request)
        reply.add_done_callback(lambda done: self._take(connection, context, done, answer))
        return answer

    def fail(self, reason: str) -> None:
        """End the connection."""
        if self._connection is not None:
            self._end(self._connection, reason)

    def _take(
        self,
        connection: _Connection,
        context: int,
        reply: asyncio.Future[Any],
        answer: asyncio.Future[Answer],
    ) -> None:
        connection.pending.discard(answer)
        if answer.done() or reply.cancelled():
            return
        message = reply.result()
        if message.retval:
            answer.set_exception(
                DataplaneError(
                    f"the VPP at {self.place} refused a message: {message.retval}; its log says why "
                    "(out of memory: give main-heap-size more in startup.conf)"
                )
            )
            answer.exception()  # retrieved: whoever waited may be gone
            return
        raw = bytes(message.answer)
        try:
            if len(raw) < HEADER.size:
                raise WireError(f"an answer of {len(raw)} bytes")
            header = Header.unpack(raw[: HEADER.size])
            if header.length != len(raw) or header.context != context:
                raise WireError(f"answer {header.context} of {len(raw)} bytes, {header} to request {context}")
        except WireError as error:
            connection.pending.add(answer)
            self._end(connection, str(error))
            return
        answer.set_result((header, raw[HEADER.size :]))

    def _end(self, connection: _Connection, reason: str) -> None:
        """End a connection: every call that waits gets the reason."""
        if connection.error:
            return
        connection.error = reason
        connection.client.writer.close()
        pending, connection.pending = connection.pending, set()
        for answer in pending:
            if not answer.done():
                answer.set_exception(unavailable(self.place, reason))
                answer.exception()  # retrieved: whoever waited may be gone

    def _nobody(self, why: str) -> DataplaneUnavailableError:
        return DataplaneUnavailableError(
            f"no VPP answers at {self.place} ({why}): "
            "is the engine's pod on this node running, and its socket's directory mounted here?"
        )


def _reason(task: asyncio.Task[None]) -> str:
    """Why one of the client's tasks ended."""
    if task.cancelled():
        return "closed by this process"
    error = task.exception()
    if error is None or isinstance(error, EOFError):
        return "VPP closed the connection"
    return f"{type(error).__name__}: {error}"


async def _discard(client: _Client) -> None:
    """End the tasks and the socket of a client, as far as it got."""
    tasks = [getattr(client, name) for name in ("queue_task", "socket_task") if hasattr(client, name)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if hasattr(client, "writer"):
        client.writer.close()
        with contextlib.suppress(OSError):
            await client.writer.wait_closed()
