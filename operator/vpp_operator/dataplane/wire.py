"""Messages that every engine takes (``vpp-plugins/fastpath/wire.h``), however they reach it.

A message is a 32-byte header and a payload, little-endian. Requests are answered in the order in which
they were sent, so that several may be on their way at once.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from vpp_operator.dataplane.protocol import (
    PathCondition,
    PathState,
    ServiceCounters,
    TunnelCounters,
)
from vpp_operator.dataplane.records import KEY_SIZE, RECORD_SIZE, Table

__all__ = [
    "HEADER",
    "MAX_BYTES",
    "MAX_RECORDS",
    "REPLY",
    "VERSION",
    "Header",
    "MessageType",
    "WireError",
    "changes",
    "decode_counters",
    "decode_dump",
    "decode_failures",
    "decode_paths",
    "decode_records",
    "decode_service_counters",
    "encode",
]

HEADER = struct.Struct("<IHHIIHHiQ")
VERSION = 1
MAX_RECORDS = 4096
MAX_BYTES = 256 * 1024
REPLY = 0x8000

_FAILURE = struct.Struct("<Ii")
_COUNTERS = struct.Struct("<QIIQQQQQ")
_SERVICE_COUNTERS = struct.Struct("<QQQQQQQ")
_PATH = struct.Struct("<QB7x16sBBBxIQ")
_END_MARKER_SEEN = 1
_ERROR_INDICATION_SEEN = 2


class WireError(ValueError):
    """Bytes from the engine that are no valid answer."""


class MessageType(IntEnum):
    """Requests; an answer has the request's number with the bit :data:`REPLY` set."""

    INFO = 1
    UPSERT = 2
    DELETE = 3
    COMMIT = 4
    DUMP = 5
    FETCH = 6
    STATS = 7
    FLUSH_SESSIONS = 8
    GTPU_COUNTERS = 9
    GTPU_PATHS = 10
    SERVICE_COUNTERS = 11


@dataclass(frozen=True, slots=True)
class Header:
    """A message's header; ``length`` counts the whole message, ``retval`` is 0 or a negative errno."""

    length: int
    type: int
    version: int
    context: int
    count: int
    record_size: int
    table: int
    retval: int
    cursor: int

    @classmethod
    def unpack(cls, raw: bytes) -> Header:
        """Read 32 bytes; raise WireError when they cannot head a message."""
        header = cls(*HEADER.unpack(raw))
        if not HEADER.size <= header.length <= MAX_BYTES:
            raise WireError(f"message length {header.length}")
        return header


def encode(
    message: MessageType,
    context: int,
    *,
    table: Table | None = None,
    records: Sequence[bytes] = (),
    cursor: int = 0,
) -> bytes:
    """Return a request; ``records`` are packed records (UPSERT) or keys (others) of ``table``.

    Raises ValueError naming the table when a record has the wrong size or there are too many.
    """
    record_size = 0
    payload = b""
    if records:
        if table is None:
            raise ValueError("records need a table")
        record_size = RECORD_SIZE[table] if message == MessageType.UPSERT else KEY_SIZE[table]
        payload = b"".join(records)
        if len(records) > MAX_RECORDS:
            raise ValueError(f"{table.name}: {len(records)} records in one message, at most {MAX_RECORDS}")
        if set(map(len, records)) != {record_size}:
            raise ValueError(f"{table.name}: a record is not {record_size} bytes long")
    header = HEADER.pack(
        HEADER.size + len(payload),
        message,
        VERSION,
        context,
        len(records),
        record_size,
        table or 0,
        0,
        cursor,
    )
    return header + payload


def changes(records: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut records into pieces that fit one message."""
    for start in range(0, len(records), MAX_RECORDS):
        yield records[start : start + MAX_RECORDS]


def _expect(header: Header, payload: bytes, record_size: int) -> None:
    if len(payload) != header.count * record_size:
        raise WireError(f"{header.count} entries of {record_size} bytes in {len(payload)} bytes")


def decode_failures(header: Header, payload: bytes, sent: int) -> list[tuple[int, int]]:
    """Return (index, negative errno) of the records that the engine did not take, of ``sent`` records."""
    if len(payload) % _FAILURE.size or header.count + len(payload) // _FAILURE.size != sent:
        raise WireError(f"{header.count} records taken and {len(payload)} bytes of failures, of {sent} sent")
    failures: list[tuple[int, int]] = list(_FAILURE.iter_unpack(payload))
    if any(index >= sent for index, _ in failures):
        raise WireError("a failure names a record that was not sent")
    return failures


def decode_dump(header: Header, payload: bytes, table: Table) -> list[tuple[bytes, int]]:
    """Return (key, digest) of the entries of one piece of a dump."""
    entry = struct.Struct(f"<{KEY_SIZE[table]}sQ")
    _expect(header, payload, entry.size)
    return list(entry.iter_unpack(payload))


def decode_records(header: Header, payload: bytes, table: Table) -> list[bytes]:
    """Return the packed records of an answer to FETCH."""
    size = RECORD_SIZE[table]
    _expect(header, payload, size)
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def decode_counters(header: Header, payload: bytes) -> list[TunnelCounters]:
    """Return the entries of an answer to GTPU_COUNTERS."""
    _expect(header, payload, _COUNTERS.size)
    return [
        TunnelCounters(
            endpoint,
            teid,
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            drops,
            bool(seen & _END_MARKER_SEEN),
            bool(seen & _ERROR_INDICATION_SEEN),
        )
        for endpoint, teid, seen, rx_packets, rx_bytes, tx_packets, tx_bytes, drops in _COUNTERS.iter_unpack(
            payload
        )
    ]


def decode_service_counters(header: Header, payload: bytes) -> list[ServiceCounters]:
    """Return the entries of an answer to SERVICE_COUNTERS."""
    _expect(header, payload, _SERVICE_COUNTERS.size)
    return [ServiceCounters(*entry) for entry in _SERVICE_COUNTERS.iter_unpack(payload)]


def decode_paths(header: Header, payload: bytes) -> list[PathState]:
    """Return the entries of an answer to GTPU_PATHS."""
    _expect(header, payload, _PATH.size)
    paths = []
    for endpoint, family, raw, state, restart, has_restart, rtt_us, at_ns in _PATH.iter_unpack(payload):
        if family not in (4, 6) or state > max(PathCondition):
            raise WireError(f"a path of family {family} in state {state}")
        address = ipaddress.IPv4Address(raw[:4]) if family == 4 else ipaddress.IPv6Address(raw)
        paths.append(
            PathState(
                endpoint,
                address,
                PathCondition(state),
                restart_counter=restart if has_restart else None,
                rtt_us=rtt_us if at_ns else None,
                answered_ns=at_ns or None,
            )
        )
    return paths
