"""Progress lines and errors for people."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class ClusterError(Exception):
    """Something that the person at the terminal has to know; the message says what and what to do."""


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print ``text`` before and the seconds it took after, also when it failed."""
    say(f"--> {text}")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"    failed after {time.monotonic() - start:.1f} s: {text}")
        raise
    say(f"    {time.monotonic() - start:.1f} s: {text}")


def run(
    command: Iterable[object],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    log: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command to its end and return its standard output.

    Output goes to ``log`` when given (then "" is returned). Raises ClusterError with the last lines of the
    output when the command fails or is not there.
    """
    words = [str(word) for word in command]
    try:
        if log is None:
            done = subprocess.run(
                words,
                cwd=cwd,
                env=env,
                input=stdin,
                text=True,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
            output, error = done.stdout, done.stderr
        else:
            with log.open("a") as sink:
                done = subprocess.run(
                    words,
                    cwd=cwd,
                    env=env,
                    input=stdin,
                    text=True,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            output, error = "", ""
    except FileNotFoundError as missing:
        raise ClusterError(
            f"{words[0]}: command not found; `python -m tests.cluster packages` installs it"
        ) from missing
    except subprocess.TimeoutExpired as late:
        raise ClusterError(f"{' '.join(words)}: not finished after {timeout:.0f} s") from late
    if done.returncode != 0:
        text = log.read_text(errors="replace") if log is not None else error + output
        tail = "\n".join(text.strip().splitlines()[-20:])
        where = f" (all of it: {log})" if log is not None else ""
        raise ClusterError(f"{' '.join(words)}: exit status {done.returncode}{where}\n{tail}")
    return output


def wait_for(what: str, check: Callable[[], str | None], seconds: float, interval: float = 0.2) -> None:
    """Call ``check`` until it returns None or "" (= fine); its last text tells in the error what was
    missing."""
    end = time.monotonic() + seconds
    while True:
        problem = check()
        if not problem:
            return
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not after {seconds:.0f} s: {problem}")
        time.sleep(interval)


def fail(error: ClusterError) -> int:
    """Print the error; returns the exit status."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1
