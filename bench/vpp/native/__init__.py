"""Small helpers in C, built for the run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.vpp.engine import BenchError, Installation

SOURCES = Path(__file__).parent
NOOP = "bench-noop"
"""The feature node of the plugin `noop`."""


def noop_plugin(installation: Installation, directory: Path) -> Path:
    """A VPP plugin with one feature that does nothing; BenchError if there is no compiler or no header."""
    include = installation.prefix / "include"
    if not (include / "vnet" / "vnet.h").exists():
        raise BenchError(f"no-op feature: {include} has no headers of VPP; install its development package")
    target = directory / "noop_plugin.so"
    return _build(SOURCES / "noop_plugin.c", target, f"-I{include}", "-march=native", "-D_GNU_SOURCE")


def affinity_library(directory: Path) -> Path:
    """A library to preload, by which VPP starts more threads than there are processors."""
    return _build(SOURCES / "affinity.c", directory / "affinity.so", "-D_GNU_SOURCE", "-Wall", "-Wextra")


def small_pages_library(directory: Path) -> Path:
    """A library to preload, by which no part of VPP asks for huge pages itself."""
    return _build(
        SOURCES / "small_pages.c", directory / "small_pages.so", "-D_GNU_SOURCE", "-Wall", "-Wextra"
    )


def _build(source: Path, target: Path, *more: str) -> Path:
    compiler = next((found for name in ("clang", "gcc") if (found := shutil.which(name))), None)
    if compiler is None:
        raise BenchError(f"{source.name} needs a C compiler: install clang or gcc")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O3", "-shared", "-fPIC", "-Werror", *more, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{source.name} does not build: {done.stderr[-1000:]}")
    return target
