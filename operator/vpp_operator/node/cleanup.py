"""``vpp-operator node cleanup``: undo all that was made on this node, and give back the settings changed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vpp_operator.node import hostsettings
from vpp_operator.node.journal import DEFAULT_JOURNAL, NodeNetworkError
from vpp_operator.node.network import NodeNetwork

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Undo everything; safe to run at any time, any number of times. Exit 1: something could not be
    undone."""
    parser = argparse.ArgumentParser(prog="vpp-operator node cleanup", description=main.__doc__)
    parser.add_argument("--journal", type=Path, default=DEFAULT_JOURNAL, help="default %(default)s")
    options = parser.parse_args(argv)
    failed = 0
    try:
        steps = NodeNetwork(options.journal).undo().steps
        print("\n".join(steps) or "nothing of ours is on this node")
    except (NodeNetworkError, OSError) as exc:
        print(f"network: {exc}", file=sys.stderr)
        failed = 1
    try:
        for line in hostsettings.restore(options.journal):
            print(f"set back {line}")
    except OSError as exc:
        print(f"settings: {exc}; a privileged container can", file=sys.stderr)
        failed = 1
    if not failed:
        options.journal.with_suffix(".lock").unlink(missing_ok=True)
    return failed
