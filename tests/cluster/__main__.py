"""Command line of the test cluster: ``python -m tests.cluster <command>``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.cluster import debian, images, parts
from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.demo import demo
from tests.cluster.progress import ClusterError, fail, say, step

# Commands that pass words on, and how many words up to there are ours.
_OWN_WORDS = {"kubectl": 1, "helm": 1, "exec-outside": 1, "exec-node": 2, "step": 2}


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="The test cluster.")
    parser.add_argument("--name", default=DEFAULT_NAME, help="name of the cluster (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("packages", help="install the Debian packages that are missing")
    command = commands.add_parser("step", help="run a command between two lines that say what and how long")
    command.add_argument("text")
    command = commands.add_parser("parts", help="build the Kubernetes parts into the cache")
    command.add_argument("words", nargs="*", metavar="PART", help=f"some of: {' '.join(parts.PARTS)}")
    commands.add_parser("demo", help="cluster, chart, examples, traffic; leaves the cluster up")
    commands.add_parser("images", help="build the product's images into the cache")
    commands.add_parser("up", help="start the cluster (quick when it runs)")
    commands.add_parser("down", help="end the cluster and remove every trace of it")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    command = commands.add_parser("load", help="import the product's images on the nodes")
    command = commands.add_parser("kube-proxy", help="start or stop kube-proxy, for comparison")
    command.add_argument("action", choices=["start", "stop"])
    for name in ("kubectl", "helm"):
        commands.add_parser(name, help=f"run {name} as administrator", add_help=False)
    commands.add_parser("exec-outside", help="run a command on a machine outside the cluster")
    command = commands.add_parser("exec-node", help="run a command on a node")
    command.add_argument("node")
    # argparse takes options that follow for its own; what belongs to another command is cut off before.
    own = next(
        (index + count for index, word in enumerate(arguments) if (count := _OWN_WORDS.get(word))), None
    )
    options = parser.parse_args(arguments[:own])
    options.words = options.words if own is None and "words" in options else arguments[own:]
    try:
        return run_command(Cluster(options.name), options)
    except ClusterError as error:
        return fail(error)


def run_command(cluster: Cluster, options: argparse.Namespace) -> int:
    """Run the chosen command on the cluster."""
    match options.command:
        case "packages":
            debian.ensure()
        case "step":
            return timed(options.text, options.words)
        case "parts":
            parts.ensure(options.words)
            for name in options.words or parts.PARTS:
                say(f"--> {name} {parts.PARTS[name].version}: {parts.PARTS[name].directory}")
        case "demo":
            demo(cluster)
        case "images":
            for archive in images.ensure(images.product()):
                say(str(archive))
        case "up":
            cluster.up()
        case "down":
            cluster.down()
        case "status":
            return cluster.status()
        case "kubeconfig":
            say(str(cluster.kubeconfig))
        case "load":
            cluster.load(images.ensure(images.product()))
        case "kube-proxy":
            (cluster.start_proxy if options.action == "start" else cluster.stop_proxy)()
        case "kubectl" | "helm":
            os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
            become([str(parts.binary(options.command)), *options.words])
        case "exec-node":
            become([*cluster.node(options.node).place.enter(), *options.words])
        case "exec-outside":
            become([*cluster.outside.enter(), *options.words])
    return 0


def timed(text: str, command: list[str]) -> int:
    """Run a command as a step; returns its exit status."""
    try:
        with step(text):
            subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 1
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from error
    return 0


def become(command: list[str]) -> None:
    """Replace this process by a command."""
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
