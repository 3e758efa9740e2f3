"""Messages of the contract tests as bytes, hostile ones among them."""

from __future__ import annotations

from vpp_operator.dataplane.wire import HEADER, REPLY, MessageType

EPROTO, EINVAL = -71, -22
CONTEXT = 77


def message(
    kind: int,
    payload: bytes = b"",
    *,
    length: int | None = None,
    version: int = 1,
    count: int = 0,
    record_size: int = 0,
    table: int = 0,
    cursor: int = 0,
) -> bytes:
    size = HEADER.size + len(payload) if length is None else length
    return HEADER.pack(size, kind, version, CONTEXT, count, record_size, table, 0, cursor) + payload


BAD = {
    "version": (message(MessageType.INFO, version=2), EPROTO),
    "type 0": (message(0), EINVAL),
    "type 12": (message(12), EINVAL),
    "a reply": (message(MessageType.INFO | REPLY), EINVAL),
    "table 0": (message(MessageType.DUMP, table=0), EINVAL),
    "table 10": (message(MessageType.DUMP, table=10), EINVAL),
    "table 65535": (message(MessageType.UPSERT, bytes(32), count=1, record_size=32, table=65535), EINVAL),
    "record size": (message(MessageType.UPSERT, bytes(31), count=1, record_size=31, table=3), EINVAL),
    "record size 0": (message(MessageType.UPSERT, b"", count=5, record_size=0, table=3), EINVAL),
    "count too large": (message(MessageType.UPSERT, bytes(32), count=2, record_size=32, table=3), EINVAL),
    "count too small": (message(MessageType.UPSERT, bytes(64), count=1, record_size=32, table=3), EINVAL),
    "count wraps": (message(MessageType.UPSERT, b"", count=0x08000000, record_size=32, table=3), EINVAL),
    "too many records": (
        message(MessageType.DELETE, bytes(8 * 4097), count=4097, record_size=8, table=3),
        EINVAL,
    ),
    "payload for INFO": (message(MessageType.INFO, b"x"), EINVAL),
    "count for COMMIT": (message(MessageType.COMMIT, count=1), EINVAL),
    "counters of services": (
        message(MessageType.GTPU_COUNTERS, bytes(16), count=1, record_size=16, table=3),
        EINVAL,
    ),
    "counters of Services, by tunnels' keys": (
        message(MessageType.SERVICE_COUNTERS, bytes(16), count=1, record_size=16, table=8),
        EINVAL,
    ),
    "counters of Services, key size": (
        message(MessageType.SERVICE_COUNTERS, bytes(16), count=1, record_size=16, table=3),
        EINVAL,
    ),
    "counters of Services, payload without count": (
        message(MessageType.SERVICE_COUNTERS, bytes(8), table=3),
        EINVAL,
    ),
    "counters, key size": (
        message(MessageType.GTPU_COUNTERS, bytes(8), count=1, record_size=8, table=8),
        EINVAL,
    ),
    "counters, payload without count": (message(MessageType.GTPU_COUNTERS, bytes(16), table=8), EINVAL),
    "counters, count wraps": (
        message(MessageType.GTPU_COUNTERS, b"", count=0x10000000, record_size=16, table=8),
        EINVAL,
    ),
    "payload for GTPU_PATHS": (message(MessageType.GTPU_PATHS, b"x"), EINVAL),
}
