"""Our plugins built anew from their sources with one thing changed, for what no switch turns off."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bench.vpp.engine import BenchError

SOURCES = Path(__file__).resolve().parents[2] / "vpp-plugins"
_OF_TUNNEL = re.compile(
    r"counters\[(?:slot|run->slot|e->tunnel|FP_GTPU_RX \(s, i\)->e->tunnel)\]"
    r"|(?<=counters\[w->worker\])\[slot\]"
)
"""A tunnel's counters by its slot, in the kernels of GTP-U."""
LEAST = 4
"""Places at least: counting and fetching ahead, in both directions."""


def in_one_place(text: str) -> tuple[str, int]:
    """The source with the first tunnel's counters for everyone's, and how often. Pure."""
    return _OF_TUNNEL.subn(lambda found: "[0]" if found[0] == "[slot]" else "counters[0]", text)


def one_counter(prefix: Path, directory: Path) -> Path:
    """Build them so that all tunnels count in the counters of the first; where they lie.

    BenchError if the sources are not what is looked for, or do not build.
    """
    copy, built = directory / "vpp-plugins", directory / "build"
    shutil.copytree(SOURCES, copy)
    changed = 0
    for path in (copy / "fastpath" / "fp_tunnel.h", *sorted((copy / "fastpath").glob("fp_gtpu_*.h"))):
        text, times = in_one_place(path.read_text())
        path.write_text(text)
        changed += times
    if changed < LEAST:
        raise BenchError(f"{changed} places in the kernels count for a tunnel, not {LEAST} or more")
    command = ["make", "-C", str(copy), "vpp", f"VPP_PREFIX={prefix}", f"BUILD={built}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the plugins do not build: {(done.stdout + done.stderr)[-1000:]}")
    return built / "vpp"
