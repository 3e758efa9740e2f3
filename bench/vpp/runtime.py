"""What VPP says of its nodes and drops, as records. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_THREAD = re.compile(r"^Thread (\d+) (\S+)")
# name, state, calls, vectors, suspends, clocks, vectors per call: the state may hold a space ("event wait")
_NODE = re.compile(
    r"^(?P<name>\S+)\s+\S.*?\s+(?P<calls>\d+)\s+(?P<vectors>\d+)\s+(?P<suspends>\d+)"
    r"\s+(?P<clocks>[\d.]+e-?\d+)\s+(?P<density>[\d.]+)\s*$"
)
_ERROR = re.compile(r"^\s*(?P<count>\d+)\s+(?P<node>\S+)\s+(?P<reason>.+?)\s+(?P<severity>\S+)\s*$")
_STREAM = re.compile(r"^(?P<name>\S+)\s+(?P<enabled>Yes|No)\s+(?P<count>\d+)\s")

_SENT = re.compile(r"\btx bytes\s+(\d+)")


@dataclass(frozen=True)
class NodeRun:
    """One node on one thread since `clear runtime`: clocks are per packet (vector)."""

    name: str
    calls: int
    vectors: int
    clocks: float
    density: float
    """Packets per call."""


@dataclass(frozen=True)
class ErrorCount:
    """One counter of `show errors`."""

    node: str
    reason: str
    severity: str
    count: int


def parse_runtime(text: str) -> dict[str, tuple[NodeRun, ...]]:
    """Nodes that moved packets, by thread name, from the text of `show runtime`.

    Without workers VPP prints no thread line; the nodes are then under "vpp_main".
    """
    threads: dict[str, list[NodeRun]] = {}
    thread = "vpp_main"
    for line in text.splitlines():
        if match := _THREAD.match(line):
            thread = match[2]
        elif (match := _NODE.match(line)) and int(match["vectors"]):
            run = NodeRun(
                match["name"],
                int(match["calls"]),
                int(match["vectors"]),
                float(match["clocks"]),
                float(match["density"]),
            )
            threads.setdefault(thread, []).append(run)
    return {name: tuple(nodes) for name, nodes in threads.items()}


def parse_errors(text: str) -> tuple[ErrorCount, ...]:
    """The counters of `show errors`, in its order."""
    found = []
    for line in text.splitlines():
        if match := _ERROR.match(line):
            found.append(ErrorCount(match["node"], match["reason"], match["severity"], int(match["count"])))
    return tuple(found)


def parse_streams(text: str) -> dict[str, tuple[bool, int]]:
    """Streams of `show packet-generator`: name to (still enabled, packets generated)."""
    return {
        match["name"]: (match["enabled"] == "Yes", int(match["count"]))
        for line in text.splitlines()
        if (match := _STREAM.match(line))
    }


def sent_bytes(text: str) -> int:
    """Bytes that an interface has sent, from the text of `show interface NAME`; 0 if none are told."""
    match = _SENT.search(text)
    return int(match[1]) if match else 0
