"""Files of settings that the engine's pod reads when it starts, and which of them wait for a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from vpp_operator.api.dataplane import GtpuInEffect
from vpp_operator.api.tuning import Loop, ResolvedGtpu, ResolvedRuntime
from vpp_operator.dataplane.choice import TUNING_FILE, EngineChoice, started_with
from vpp_operator.dataplane.protocol import EngineInfo
from vpp_operator.dataplane.records import GtpuSwitch, gtpu_switches

__all__ = [
    "pending_restart",
    "settings_text",
    "switches_in_effect",
    "switches_value",
    "tuning_text",
    "write_settings",
]

_LOOP = {Loop.SINGLE: 1, Loop.DUAL: 2, Loop.QUAD: 4}


def switches_value(gtpu: ResolvedGtpu) -> int:
    """Return the value of the setting GTPU_SWITCHES; it takes effect while packets flow."""
    on = {
        GtpuSwitch.LOOKUP_CACHE: gtpu.lookup_cache,
        GtpuSwitch.PREFETCH: gtpu.prefetch,
        GtpuSwitch.SKIP_INNER_IP_INPUT: gtpu.skip_inner_ip_input,
        GtpuSwitch.BYPASS: gtpu.gtpu_bypass,
        GtpuSwitch.SKIP_OUTER_LOOKUP: gtpu.skip_outer_lookup,
    }
    value = GtpuSwitch(0)
    for switch, wanted in on.items():
        value |= switch if wanted else GtpuSwitch(0)
    return gtpu_switches(value, _LOOP[gtpu.loop])


def switches_in_effect(reported: Mapping[str, str]) -> GtpuInEffect | None:
    """Return what the engine says of its switches; None: nothing. Words it adds later are left out."""
    names = {field.alias or name for name, field in GtpuInEffect.model_fields.items()}
    known = {name: state for name, state in reported.items() if name in names}
    return GtpuInEffect.model_validate(known) if known else None


def _wanted(runtime: ResolvedRuntime) -> dict[str, tuple[str, int]]:
    """Return the engine's name of each setting with its path in the tuning and its value."""
    capacity = runtime.capacity.model_dump()
    wanted = {"workers": ("runtime.workers", runtime.workers)}
    for name in ("sessions", "services", "frontends", "endpoints", "tunnels"):
        if name in capacity:
            wanted[name] = (f"runtime.capacity.{name}", capacity[name])
    return wanted


def settings_text(runtime: ResolvedRuntime) -> str:
    """Return the lines of the embedded engine's file."""
    return "".join(f"{name}={value}\n" for name, (_, value) in _wanted(runtime).items())


def tuning_text(engine: str, runtime: ResolvedRuntime) -> str:
    """Return what the engine's next pod is to choose and start by."""
    return json.dumps({"engine": engine, "runtime": runtime.to_json()}, indent=1, sort_keys=True) + "\n"


def write_settings(run_dir: Path, engine: str, runtime: ResolvedRuntime) -> bool:
    """Write the files that differ; return whether there were any. Raises OSError."""
    texts = {"engine.conf": settings_text(runtime), TUNING_FILE: tuning_text(engine, runtime)}
    written = [_write(run_dir / name, text) for name, text in texts.items()]
    return any(written)


def _write(file: Path, text: str) -> bool:
    if file.exists() and file.read_text() == text:
        return False
    part = file.with_suffix(".part")
    part.write_text(text)
    os.replace(part, file)  # noqa: PTH105 - atomic on one file system
    return True


def pending_restart(
    runtime: ResolvedRuntime, info: EngineInfo, engine: str = "", choice: EngineChoice | None = None
) -> tuple[str, ...]:
    """Return the paths of the settings that the running engine does not have.

    ``engine``: the one asked for now; ``choice``: what its pod chose and started by, None where it says
    nothing.
    """
    paths = []
    if choice is not None and engine and choice.wanted != engine:
        # What was refused would be refused again: only another wish is worth a restart.
        paths.append("engine")
    running: dict[str, int] = dict(info.capacity)
    if choice is not None and choice.engine == info.engine and choice.started:
        # How many workers there are CPUs for is the pod's to say.
        now, started = started_with(runtime), choice.started
        paths += [
            f"runtime.{name}" for name in sorted({*now, *started}) if started.get(name) != now.get(name)
        ]
    else:
        running["workers"] = info.workers
    # An engine may round a capacity up, never down.
    paths += [
        path
        for name, (path, value) in _wanted(runtime).items()
        if name in running and (running[name] < value or (name == "workers" and running[name] != value))
    ]
    return tuple(paths)
