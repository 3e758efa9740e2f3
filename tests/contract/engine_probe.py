"""How long no packet passes: datagrams every millisecond, and when their echoes came.

As a program, in a namespace: ``echo ADDRESS PORT`` answers datagrams; ``ask ADDRESS PORT FILE`` sends them
and appends the moment of each answer (CLOCK_MONOTONIC, as text) to FILE.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.contract.engine_lab import Namespace

STEP = 0.001


def gap(answers: Sequence[float], start: float, end: float) -> float:
    """Return the longest time without an answer that touches the interval, in seconds.

    Raises ValueError where nothing was answered before or after.
    """
    before = max(a for a in answers if a <= start)
    after = min(a for a in answers if a >= end)
    times = [a for a in answers if before <= a <= after]
    return max(b - a for a, b in itertools.pairwise(times))


@contextlib.contextmanager
def probing(
    client: Namespace, servers: Namespace, target: tuple[str, int], endpoint: tuple[str, int], file: Path
) -> Iterator[None]:
    """Send datagrams to the target, which the endpoint answers, until the end."""
    started: list[subprocess.Popen[bytes]] = []
    file.touch()
    try:
        for namespace, words in (
            (servers, ("echo", *map(str, endpoint))),
            (client, ("ask", *map(str, target), str(file))),
        ):
            command = namespace.command(sys.executable, "-m", "tests.contract.engine_probe", *words)
            started.append(subprocess.Popen(command, cwd=Path(__file__).parents[2]))
        end = time.monotonic() + 20
        while not file.stat().st_size:
            assert time.monotonic() < end, "the first datagram is not answered"
            time.sleep(0.05)
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


def read_answers(file: Path) -> list[float]:
    """Return the moments of all answers until now."""
    return [float(line) for line in file.read_text().split("\n")[:-1]]


def _echo(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((address, port))
        while True:
            data, sender = own.recvfrom(100)
            own.sendto(data, sender)


def _ask(address: str, port: int, file: str) -> None:
    with (
        socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as own,
        open(file, "a", buffering=1) as answers,
    ):
        own.connect((address, port))
        own.settimeout(STEP)
        while True:
            with contextlib.suppress(OSError):
                own.send(b"?")
            with contextlib.suppress(OSError):
                own.recv(100)
                answers.write(f"{time.monotonic()}\n")
                time.sleep(STEP)


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        _echo(sys.argv[2], int(sys.argv[3]))
    else:
        _ask(sys.argv[2], int(sys.argv[3]), sys.argv[4])
