"""The settings file that the engine reads when it starts, and which of them wait for a restart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vpp_operator.api.tuning import ResolvedRuntime
from vpp_operator.dataplane.protocol import EngineInfo

__all__ = ["pending_restart", "settings_text", "write_settings"]


def _wanted(runtime: ResolvedRuntime) -> dict[str, tuple[str, int]]:
    """Return the engine's name of each setting with its path in the tuning and its value."""
    capacity = runtime.capacity.model_dump()
    wanted = {"workers": ("runtime.workers", runtime.workers)}
    for name in ("sessions", "services", "frontends", "endpoints"):
        if name in capacity:
            wanted[name] = (f"runtime.capacity.{name}", capacity[name])
    return wanted


def settings_text(runtime: ResolvedRuntime) -> str:
    """Return the file's lines."""
    return "".join(f"{name}={value}\n" for name, (_, value) in _wanted(runtime).items())


def write_settings(file: Path, runtime: ResolvedRuntime) -> bool:
    """Write the file if it differs; return whether it did. Raises OSError."""
    text = settings_text(runtime)
    if file.exists() and file.read_text() == text:
        return False
    part = file.with_suffix(".part")
    part.write_text(text)
    os.replace(part, file)  # noqa: PTH105 - atomic on one file system
    return True


def pending_restart(runtime: ResolvedRuntime, info: EngineInfo) -> tuple[str, ...]:
    """Return the paths of the settings that the running engine does not have."""
    running: Mapping[str, int] = {**info.capacity, "workers": info.workers}
    # An engine may round a capacity up, never down.
    return tuple(
        path
        for name, (path, value) in _wanted(runtime).items()
        if name in running and (running[name] < value or (name == "workers" and running[name] != value))
    )
