"""2 MiB pages for a running process, by process_madvise(MADV_COLLAPSE) (Linux 6.1 and newer)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HUGE = 2 << 20
MADV_COLLAPSE = 25
SYS_PIDFD_OPEN = 434
SYS_PROCESS_MADVISE = 440


@dataclass(frozen=True)
class Collapsed:
    """Bytes that lie on 2 MiB pages now, and bytes the kernel refused (most often never touched)."""

    done: int
    refused: int


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def everything(_: str) -> bool:
    """All mappings."""
    return True


def mappings(text: str, wanted: Callable[[str], bool] = everything) -> Iterator[tuple[int, int]]:
    """Aligned [start, end) of the writable mappings of at least 2 MiB in the text of /proc/PID/maps.

    `wanted` is asked by the name of the file mapped, "" for memory without one.
    """
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 2 or not fields[1].startswith("rw"):
            continue
        if not wanted(fields[5] if len(fields) > 5 else ""):
            continue
        low, _, high = fields[0].partition("-")
        start = -(-int(low, 16) // HUGE) * HUGE
        end = int(high, 16) // HUGE * HUGE
        if end > start:
            yield start, end


def touched(pid: int, start: int, end: int) -> Iterator[int]:
    """Addresses of the 2 MiB pieces of a mapping of which at least one 4 KiB page is present."""
    page = os.sysconf("SC_PAGE_SIZE")
    per_piece = HUGE // page
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for address in range(start, end, HUGE):
            entries = os.pread(pagemap.fileno(), per_piece * 8, address // page * 8)
            # bit 63: present. An 8-byte entry of which the last byte is 0 says not present and not swapped.
            if any(entries[7::8]) and any(byte & 0x80 for byte in entries[7::8]):
                yield address


def collapse(pid: int, wanted: Callable[[str], bool] = everything) -> Collapsed:
    """Collapse touched memory of a process (CAP_SYS_ADMIN); without kernel support nothing is done.

    `wanted` as in `mappings`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    if descriptor < 0:
        return Collapsed(0, 0)
    done = refused = 0
    try:
        for start, end in list(mappings(Path(f"/proc/{pid}/maps").read_text(), wanted)):
            for address in touched(pid, start, end):
                vector = _IoVec(address, HUGE)
                took = libc.syscall(
                    SYS_PROCESS_MADVISE, descriptor, ctypes.byref(vector), 1, MADV_COLLAPSE, 0
                )
                if took == HUGE:
                    done += HUGE
                else:
                    refused += HUGE
    finally:
        os.close(descriptor)
    return Collapsed(done, refused)


def huge_share(smaps: str, name: str) -> float:
    """The share of a mapped file's memory in /proc/PID/smaps that lies on 2 MiB pages. Pure."""
    present = huge = 0
    inside = False
    for line in smaps.splitlines():
        fields = line.split(maxsplit=5)
        if "-" in fields[0] and not fields[0].endswith(":"):
            inside = len(fields) > 5 and fields[5] == name
        elif inside and fields[0] == "Rss:":
            present += int(fields[1])
        elif inside and fields[0] in ("ShmemPmdMapped:", "FilePmdMapped:"):
            huge += int(fields[1])
    return huge / present if present else 0.0
