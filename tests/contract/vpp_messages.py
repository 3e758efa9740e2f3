"""A client of VPP's binary API that sends whatever it is told, well-formed or not."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.engine_messages import message
from vpp_papi import VPPApiClient

from vpp_operator.dataplane.records import KEY_SIZE, RECORD_SIZE, Table
from vpp_operator.dataplane.wire import HEADER, Header, MessageType


@dataclass
class RawClient:
    """A connection of vpp_papi's own client, below which bytes can be written to the socket as they are."""

    papi: Any

    def call(self, request: bytes) -> tuple[int, bytes]:
        """Send khost_call; return its retval and the answer."""
        reply = self.papi.api.khost_call(length=len(request), request=request)
        return reply.retval, bytes(reply.answer)

    def ask(self, request: bytes) -> tuple[Header, bytes]:
        """Send a message that gets an answer; return its header and payload."""
        retval, answer = self.call(request)
        assert retval == 0, retval
        return Header(*HEADER.unpack(answer[: HEADER.size])), answer[HEADER.size :]

    def change(self, kind: MessageType, table: Table, records: list[bytes]) -> dict[int, int]:
        """Upsert records or delete keys; return the refused ones as index: code."""
        size = RECORD_SIZE[table] if kind == MessageType.UPSERT else KEY_SIZE[table]
        header, payload = self.ask(
            message(kind, b"".join(records), count=len(records), record_size=size, table=table)
        )
        failures = dict(struct.iter_unpack("<Ii", payload))
        assert header.retval == 0 and header.count == len(records) - len(failures)
        return failures

    def commit(self) -> None:
        """Publish what was changed."""
        assert self.ask(message(MessageType.COMMIT))[0].retval == 0

    def fetch(self, table: Table, keys: list[bytes]) -> list[bytes]:
        """Return the records of those keys that are there."""
        size = KEY_SIZE[table]
        header, payload = self.ask(
            message(MessageType.FETCH, b"".join(keys), count=len(keys), record_size=size, table=table)
        )
        size = RECORD_SIZE[table]
        assert header.retval == 0 and len(payload) == header.count * size
        return [payload[i : i + size] for i in range(0, len(payload), size)]

    def keys(self, table: Table) -> list[bytes]:
        """Return all keys of a table."""
        found, cursor = [], 0
        while True:
            header, payload = self.ask(message(MessageType.DUMP, table=table, cursor=cursor))
            step = KEY_SIZE[table] + 8
            assert header.retval == 0 and len(payload) == header.count * step
            found += [payload[i : i + KEY_SIZE[table]] for i in range(0, len(payload), step)]
            if not (cursor := header.cursor):
                return found

    def empty(self) -> None:
        """Delete every record, users before what they name."""
        for table in (Table.GTPU_UE, Table.GTPU_TUNNEL, Table.FRONTEND, Table.ENDPOINT, *Table):
            keys = self.keys(table)
            for at in range(0, len(keys), 4096):
                self.change(MessageType.DELETE, table, keys[at : at + 4096])
        self.commit()

    def number(self, name: str) -> int:
        """Return the number of a message of the API."""
        found = [i for n, i in self.papi.transport.message_table.items() if n.rpartition("_")[0] == name]
        assert len(found) == 1, name
        return int(found[0])

    def write(self, number: int, body: bytes) -> None:
        """Write one frame of the socket: message number and client, then any bytes. No answer is awaited."""
        head = struct.pack(">HI", number, self.papi.transport.socket_index)
        self.papi.transport.write(head + body)

    def write_call(self, length: int, request: bytes, context: int = 0) -> None:
        """Write a khost_call that says it is `length` bytes long."""
        self.write(self.number("khost_call"), struct.pack(">II", context, length) + request)


@contextlib.contextmanager
def raw_client(socket_path: Path) -> Iterator[RawClient]:
    """Connect to VPP's API socket."""
    papi = VPPApiClient(server_address=str(socket_path), bootstrapapi=True)
    assert papi.connect("test") == 0
    try:
        yield RawClient(papi)
    finally:
        papi.disconnect()
