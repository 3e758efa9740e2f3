"""One builder at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.paths import cache_directory
from tests.cluster.progress import say


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock ``name`` in the cache; says so when another run holds it. Let go when the process
    ends."""
    with (cache_directory() / f".{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"    waiting for another run that builds {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
