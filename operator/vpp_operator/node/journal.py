"""What was made on the node, written down before it is made, so that it can be undone after a crash at any
point.

One JSON file on a tmpfs, replaced atomically: neither it nor what it lists outlives a reboot.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DEFAULT_JOURNAL", "Entry", "Journal", "NodeNetworkError"]

DEFAULT_JOURNAL = Path("/run/vpp-operator/journal.json")
_VERSION = 1


class NodeNetworkError(Exception):
    """The kernel or a tool refused; the message says what was being done. The next call goes on from what is
    there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something made (``original`` None) or a setting changed (``original``: its value before)."""

    kind: str
    name: str
    original: str | None = None


class Journal:
    """The list of entries in a file. Every change is on disk when the method returns."""

    def __init__(self, path: Path = DEFAULT_JOURNAL) -> None:
        self.path = path
        self._entries: list[Entry] | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out (agent, init container, cleanup) and read anew what they wrote."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._entries = None
            yield

    def entries(self) -> tuple[Entry, ...]:
        """Return the entries, oldest first. A damaged file counts as empty: all that is ours is recognised
        without it."""
        if self._entries is None:
            self._entries = _read(self.path)
        return tuple(self._entries)

    def record(self, entry: Entry) -> None:
        """Write an entry down; one with the same kind and name stays as it is, since it holds the older
        original."""
        entries = list(self.entries())
        if any((e.kind, e.name) == (entry.kind, entry.name) for e in entries):
            return
        self._write([*entries, entry])

    def forget(self, entry: Entry) -> None:
        """Strike an entry off."""
        self._write([e for e in self.entries() if (e.kind, e.name) != (entry.kind, entry.name)])

    def keep(self, kind: str) -> None:
        """Strike off all entries but those of one kind."""
        self._write([e for e in self.entries() if e.kind == kind])

    def _write(self, entries: list[Entry]) -> None:
        if not entries:
            self.path.unlink(missing_ok=True)
            self._entries = []
            return
        made = [{"kind": e.kind, "name": e.name, "original": e.original} for e in entries]
        temporary = self.path.with_suffix(".new")
        with open(temporary, "w") as file:
            json.dump({"version": _VERSION, "made": made}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._entries = entries


def _read(path: Path) -> list[Entry]:
    try:
        document = json.loads(path.read_text())
        if document["version"] != _VERSION:
            return []
        return [Entry(str(e["kind"]), str(e["name"]), e["original"]) for e in document["made"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
