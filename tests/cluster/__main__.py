"""Command line of the test cluster: ``python -m tests.cluster <command>``."""

from __future__ import annotations

import argparse
import sys

from tests.cluster import parts
from tests.cluster.progress import ClusterError, fail


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description="The test cluster and its parts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("parts", help="build the Kubernetes parts into the cache")
    command.add_argument("names", nargs="*", metavar="PART", help=f"some of: {' '.join(parts.PARTS)}")
    options = parser.parse_args(arguments)
    try:
        parts.ensure(options.names)
    except ClusterError as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
