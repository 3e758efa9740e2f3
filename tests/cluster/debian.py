"""The Debian packages that the project needs, installed where they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.cluster.paths import PACKAGE
from tests.cluster.progress import ClusterError, run, say, step


def packages() -> list[str]:
    """Names of the packages, from debian-packages.txt."""
    lines = (PACKAGE / "debian-packages.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def missing() -> list[str]:
    """Those that are not installed."""
    form = "--showformat=${Package} ${db:Status-Status}\\n"
    query = ["dpkg-query", "--show", form, *packages()]
    # It fails when one is unknown, and lists the others all the same.
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [name for name in packages() if name not in installed]


def ensure() -> None:
    """Install what is missing by apt."""
    if shutil.which("dpkg-query") is None:
        say(f"--> this is not Debian; install the equivalent of: {' '.join(packages())}")
        return
    wanted = missing()
    if not wanted:
        say("--> Debian packages: all there")
        return
    if os.geteuid() != 0:
        raise ClusterError(f"as root: apt-get install {' '.join(wanted)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with step(f"Debian packages: {' '.join(wanted)}"):
        run(["apt-get", "update"], env=environment, timeout=600)
        run(
            ["apt-get", "install", "--yes", "--no-install-recommends", *wanted],
            env=environment,
            timeout=1800,
        )
