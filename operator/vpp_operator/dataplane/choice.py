"""Which engine runs on this node, and why: the file ``engine`` of the run directory.

The engine's pod writes it before the engine starts; the agent reads it whenever it connects. Its first line
is ``vpp`` or ``embedded``, so that a shell reads it, too; lines ``key=value`` follow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vpp_operator.api.tuning import ResolvedRuntime

__all__ = [
    "EMBEDDED",
    "FILE_NAME",
    "TUNING_FILE",
    "VPP",
    "EngineChoice",
    "choice_text",
    "parse_choice",
    "read_choice",
    "started_with",
    "write_choice",
]

FILE_NAME: Final = "engine"
TUNING_FILE: Final = "tuning.json"
"""What the node's tuning asks of the engine; the agent writes it for the engine's next pod."""
VPP: Final = "vpp"
EMBEDDED: Final = "embedded"
_STARTED: Final = "started."


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine of a node."""

    engine: str
    """What was started: vpp or embedded."""
    wanted: str = "auto"
    """What had been asked for: auto, vpp or embedded."""
    reason: str = ""
    """Why it is not VPP although VPP was asked for or could have been taken."""
    notes: tuple[str, ...] = ()
    """What the engine does without on this node, and what that costs."""
    started: Mapping[str, str] = field(default_factory=dict)
    """Settings of the tuning that it was started with and does not report itself, by name: workers, buffers,
    mainCore."""


def started_with(runtime: ResolvedRuntime) -> dict[str, str]:
    """Return :attr:`EngineChoice.started` for these settings."""
    core = runtime.main_core
    settings = {"workers": runtime.workers, "buffers": runtime.buffers, "mainCore": core}
    return {name: str(value) for name, value in settings.items() if value is not None}


def _line(text: str) -> str:
    return " ".join(text.split())


def choice_text(choice: EngineChoice) -> str:
    """Return the file's text."""
    pairs = [("wanted", choice.wanted), ("reason", choice.reason), *(("note", n) for n in choice.notes)]
    pairs += [(f"{_STARTED}{name}", value) for name, value in sorted(choice.started.items())]
    return "".join([f"{choice.engine}\n", *(f"{key}={_line(value)}\n" for key, value in pairs if value)])


def parse_choice(text: str) -> EngineChoice | None:
    """Return what the file's text says; None: it names no engine that there is."""
    engine, *lines = text.splitlines() or [""]
    if engine not in (VPP, EMBEDDED):
        return None
    pairs = [(key, value) for key, _, value in (line.partition("=") for line in lines)]
    last = dict(pairs)
    notes = tuple(value for key, value in pairs if key == "note")
    started = {k.removeprefix(_STARTED): value for k, value in pairs if k.startswith(_STARTED)}
    return EngineChoice(engine, last.get("wanted", "auto"), last.get("reason", ""), notes, started)


def read_choice(run_dir: Path) -> EngineChoice | None:
    """Return the node's engine; None: no pod has chosen one yet, or the file cannot be read."""
    try:
        return parse_choice((run_dir / FILE_NAME).read_text(errors="replace"))
    except OSError:
        return None


def write_choice(run_dir: Path, choice: EngineChoice) -> None:
    """Write the file, whole or not at all. Raises OSError."""
    part = run_dir / f"{FILE_NAME}.new"
    part.write_text(choice_text(choice))
    os.replace(part, run_dir / FILE_NAME)  # noqa: PTH105 - atomic on one file system
