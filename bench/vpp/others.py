"""What other processes took of the machine while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def busy_ticks(stat: str) -> int:
    """Ticks all processors were busy, idle and waiting left out, from the text of /proc/stat. Pure."""
    fields = [int(value) for value in stat.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _wait, interrupts, softirqs, stolen = fields[:8]
    return user + nice + system + interrupts + softirqs + stolen


def process_ticks(stat: str) -> int:
    """Ticks of one process from the text of /proc/PID/stat, whose name may hold spaces. Pure."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Watch:
    """Counts from its making on."""

    def __init__(self, vpp: int) -> None:
        self._pids = (vpp, os.getpid())
        self._began = (time.monotonic(), *self._ticks())

    def _ticks(self) -> tuple[int, int]:
        ours = sum(process_ticks(Path(f"/proc/{pid}/stat").read_text()) for pid in self._pids)
        return busy_ticks(Path("/proc/stat").read_text()), ours

    def others(self) -> float:
        """Processors that neither VPP nor this process used, on average since the beginning."""
        began, busy, ours = self._began
        now_busy, now_ours = self._ticks()
        ticks = max((time.monotonic() - began) * _TICK, 1.0)
        return max(((now_busy - busy) - (now_ours - ours)) / ticks, 0.0)
