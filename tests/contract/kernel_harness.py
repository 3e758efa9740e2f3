"""The Service kernel as a library: its clock, its random numbers and its packets are the caller's."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from vpp_operator.dataplane.records import KEY_SIZE, Record, Table

PLUGINS = Path(__file__).parents[2] / "vpp-plugins"
START = 10**15
"""First moment, in ns."""
ROOM = 2048


class Action(IntEnum):
    """enum fp_action."""

    FORWARD = 0
    HOLD = 1
    DROP = 2
    REPLY = 3


class Way(IntEnum):
    """enum fp_way."""

    PASS = 0
    FORWARD = 1
    REVERSE = 2
    NONE = 3


@dataclass(frozen=True)
class Outcome:
    """What the kernel made of a packet."""

    action: Action
    way: Way
    reason: str
    packet: bytes


class _Packet(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_uint32),
        ("room", ctypes.c_uint32),
        ("mtu", ctypes.c_uint32),
        ("worker", ctypes.c_uint32),
        ("cookie", ctypes.c_uint64),
        ("action", ctypes.c_uint8),
        ("reason", ctypes.c_uint8),
        ("way", ctypes.c_uint8),
        ("overrun", ctypes.c_uint8),
    )


@functools.cache
def library(directory: Path) -> ctypes.CDLL:
    """Build the kernel into a shared library and load it."""
    path = directory / "kernel.so"
    flags = ["-shared", "-fPIC", "-fvisibility=hidden", "-std=gnu11", "-O2", "-D_GNU_SOURCE"]
    includes = [f"-I{PLUGINS}", f"-I{PLUGINS / 'fastpath'}"]
    source = PLUGINS / "test" / "oracle_harness.c"
    subprocess.run(["gcc", *flags, *includes, "-o", path, source], check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.oracle_new.restype = ctypes.c_void_p
    loaded.oracle_new.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    loaded.oracle_reason.restype = ctypes.c_char_p
    for name in ("oracle_sessions", "oracle_unaccounted"):
        getattr(loaded, name).restype = ctypes.c_uint64
        getattr(loaded, name).argtypes = [ctypes.c_void_p]
    loaded.oracle_time.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
    for name in ("oracle_upsert", "oracle_delete"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p]
    for name in ("oracle_commit", "oracle_free"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p]
    loaded.oracle_packet.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Packet)]
    loaded.oracle_ready.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32),
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32),
    ]
    return loaded


class Kernel:
    """A region in memory with two workers."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._library = library(directory)
        self._handle = self._library.oracle_new(seed, START)
        assert self._handle, "no memory"
        self.now = START

    def close(self) -> None:
        """Give everything back."""
        self._library.oracle_free(self._handle)

    def change(self, old: Sequence[Record], new: Sequence[Record]) -> None:
        """Lead the tables from one state to another, in the order of protocol.Batch."""
        before = {(r.TABLE, r.pack()[: r.KEY]): r.pack() for r in old}
        after = {(r.TABLE, r.pack()[: r.KEY]): r.pack() for r in new}
        gone = [key for key in before if key not in after]
        come = [(key, raw) for key, raw in after.items() if before.get(key) != raw]

        def delete(*tables: Table) -> None:
            for table, key in gone:
                if table in tables:
                    code = self._library.oracle_delete(self._handle, table, key)
                    assert code == 0, (table, code)

        def upsert(*tables: Table) -> None:
            for (table, _), raw in come:
                if table in tables:
                    code = self._library.oracle_upsert(self._handle, table, raw)
                    assert code == 0, (table, code)

        self._library.oracle_time(self._handle, self.now, 0)
        delete(Table.FRONTEND)
        upsert(Table.CONFIG, Table.PREFIX)
        upsert(Table.SERVICE)
        upsert(Table.ENDPOINT)
        delete(Table.ENDPOINT)
        assert self._library.oracle_commit(self._handle) == 0
        upsert(Table.FRONTEND)
        delete(Table.SERVICE, Table.PREFIX, Table.CONFIG)
        assert set(KEY_SIZE) >= {table for table, _ in after}

    def pass_time(self, seconds: float) -> None:
        """Let time go by; whatever has expired then is aged out."""
        self.now += int(seconds * 1e9)
        self._library.oracle_time(self._handle, self.now, 1)

    def send(self, packet: bytes, worker: int = 0, mtu: int = 0, cookie: int = 0) -> Outcome:
        """Hand a packet to a worker."""
        block = ctypes.create_string_buffer(packet, ROOM)
        d = _Packet(length=len(packet), room=ROOM, mtu=mtu, worker=worker, cookie=cookie)
        assert self._library.oracle_packet(self._handle, block, ctypes.byref(d)) == 0
        assert not d.overrun, "written behind the packet's room"
        assert self._library.oracle_unaccounted(self._handle) == 0, "not counted exactly once"
        reason = self._library.oracle_reason(d.reason).decode()
        return Outcome(Action(d.action), Way(d.way), reason, block.raw[: d.length])

    def ready(self, worker: int = 0) -> list[tuple[int, bool]]:
        """Held fragments whose time has come: (cookie, expired)."""
        cookies, expired = (ctypes.c_uint64 * 64)(), (ctypes.c_uint8 * 64)()
        count = self._library.oracle_ready(self._handle, worker, cookies, expired, 64)
        return [(cookies[i], bool(expired[i])) for i in range(count)]

    @property
    def sessions(self) -> int:
        """Live sessions."""
        return int(self._library.oracle_sessions(self._handle))
