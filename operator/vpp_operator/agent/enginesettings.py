"""The settings file that the engine reads when it starts, and which of them wait for a restart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vpp_operator.api.dataplane import GtpuInEffect
from vpp_operator.api.tuning import Loop, ResolvedGtpu, ResolvedRuntime
from vpp_operator.dataplane.protocol import EngineInfo
from vpp_operator.dataplane.records import GtpuSwitch, gtpu_switches

__all__ = ["pending_restart", "settings_text", "switches_in_effect", "switches_value", "write_settings"]

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
