"""Long-running processes, each recorded by pid and start time in a file, and ended by exactly that pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.progress import ClusterError

# Every process of a test cluster carries this variable, so that one whose record was lost can still be told.
MARK = "VPP_OPERATOR_TEST_CLUSTER"


@dataclass(frozen=True)
class Recorded:
    """A process that was started: its pid, and its start time so that a reused pid is not taken for it."""

    pid: int
    started: int

    @classmethod
    def read(cls, path: Path) -> Recorded | None:
        """The process that a record file names; None without a (whole) record."""
        try:
            pid, started = path.read_text().split()
        except (OSError, ValueError):
            return None
        return cls(int(pid), int(started))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _start_time(self.pid) == self.started

    def end(self, seconds: float = 10.0) -> None:
        """Ask it to end, wait, and kill it if it does not; returns when it is gone."""
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
            end = time.monotonic() + patience
            with contextlib.suppress(ProcessLookupError):
                if self.alive:
                    os.kill(self.pid, number)
                    os.kill(self.pid, signal.SIGCONT)  # a stopped process would not see the request
            while self.alive and time.monotonic() < end:
                _reap(self.pid)
                time.sleep(0.02)
            if not self.alive:
                _reap(self.pid)
                return
        raise ClusterError(f"process {self.pid} does not end")


def record(pid: int, path: Path) -> Recorded:
    """Write the record of a process that was just started."""
    process = Recorded(pid, _start_time(pid))
    scratch = path.with_suffix(".new")
    scratch.write_text(f"{process.pid} {process.started}\n")
    scratch.rename(path)
    return process


def start(
    name: str,
    command: Iterable[object],
    directory: Path,
    *,
    mark: str,
    env: Mapping[str, str] | None = None,
) -> Recorded:
    """Start a daemon: its record is ``directory/name.pid``, its output goes to ``directory/name.log``."""
    environment = dict(os.environ if env is None else env)
    environment[MARK] = mark
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    recorded = record(process.pid, directory / f"{name}.pid")
    process.returncode = 0  # Recorded.end reaps it; without this, Popen warns of a child still running.
    return recorded


def stop(name: str, directory: Path, seconds: float = 10.0) -> None:
    """End the daemon ``name`` if it runs, and remove its record."""
    path = directory / f"{name}.pid"
    recorded = Recorded.read(path)
    if recorded is not None:
        recorded.end(seconds)
    path.unlink(missing_ok=True)


def tail(name: str, directory: Path, lines: int = 15) -> str:
    """The last lines of a daemon's output."""
    try:
        text = (directory / f"{name}.log").read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def marked(mark: str) -> list[Recorded]:
    """All processes that carry the mark, whether recorded or not."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(Recorded(int(entry.name), _start_time(int(entry.name))))
        except OSError:
            continue  # it ended in between, or it is not ours to read
    return [process for process in found if process.alive]


def _start_time(pid: int) -> int:
    """Start time in clock ticks since boot; 0 for a process that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def children(pid: int) -> list[Recorded]:
    """The direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            if int(text.rpartition(")")[2].split()[1]) == pid:
                found.append(Recorded(int(entry.name), _start_time(int(entry.name))))
    return [child for child in found if child.alive]
