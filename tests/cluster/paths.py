"""Where things lie: the cache of what was built, and the run directories of what is running."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(__file__).resolve().parent


def cache_directory() -> Path:
    """The cache: ``VPP_OPERATOR_CACHE``, by default ``~/.cache/vpp-operator``; made when missing."""
    directory = Path(
        os.environ.get("VPP_OPERATOR_CACHE") or Path.home() / ".cache" / "vpp-operator"
    ).expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def run_directory(name: str) -> Path:
    """The run directory of the cluster ``name``: below ``VPP_OPERATOR_RUN``, by default ``run/`` in the
    cache."""
    base = os.environ.get("VPP_OPERATOR_RUN")
    return (Path(base).expanduser().resolve() if base else cache_directory() / "run") / name
