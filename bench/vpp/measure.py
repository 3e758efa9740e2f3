"""Rounds of packets through one path, with the proof that they took it."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.vpp.engine import BenchError, Vpp
from bench.vpp.others import Watch
from bench.vpp.records import Row, Step, spread
from bench.vpp.runtime import NodeRun, parse_errors, parse_runtime, parse_streams, sent_bytes

VECTOR = 256
ROUND_SECONDS = 120.0
_AROUND = re.compile(r"^(pg-input|ethernet-input|interface-output|pg\d+-(output|tx))$")


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Switch:
    """What a case needs beyond what its lab set up, and how that is undone after each of its rounds."""

    enter: Callable[[], None] = _nothing
    leave: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Case:
    """One way through VPP.

    `path` are the nodes that every packet visits, in order, as often as it visits them, without generator,
    Ethernet input and interface output; `plugin` those of them that belong to the plugin of the case.
    """

    group: str
    name: str
    load: str
    stream: str
    path: tuple[str, ...]
    plugin: frozenset[str] = frozenset()
    packets: int = 1024 * VECTOR
    switch: Switch = Switch()
    slack: float = 0.0
    """Share of the packets that may take a shorter way than `path`; none may take another or be lost."""
    proof: tuple[str, ...] = ()
    """Counters of our engine that count every packet of the case: proof of what was done to them."""
    leaves: int = 0
    """Bytes of each packet as it leaves, Ethernet header included; 0: not looked at."""
    repeats: bool = True
    """False: each packet of the stream is good once only (the first of a flow), so none goes unmeasured."""

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.group}: {self.name}, {self.load}"


def send(vpp: Vpp, stream: str, packets: int) -> None:
    """Send so many packets of a stream, vectors of 256, and wait for the last one."""
    vpp.cli(f"packet-generator configure {stream} limit {packets}")
    vpp.cli(f"packet-generator enable-stream {stream}")
    deadline = time.monotonic() + ROUND_SECONDS
    while True:
        enabled, count = parse_streams(vpp.cli("show packet-generator"))[stream]
        if not enabled:
            break
        if time.monotonic() > deadline:
            vpp.cli(f"packet-generator disable-stream {stream}")
            raise BenchError(f"stream {stream} sent {count} of {packets} packets in {ROUND_SECONDS:.0f} s")
        time.sleep(0.002)
    if count != packets:
        raise BenchError(f"stream {stream} sent {count} packets, not {packets}")


def on_the_way(nodes: Sequence[NodeRun]) -> tuple[tuple[NodeRun, ...], tuple[NodeRun, ...]]:
    """Nodes of the path, and those around it that are not counted."""
    inside = tuple(node for node in nodes if not _AROUND.match(node.name))
    around = tuple(node for node in nodes if _AROUND.match(node.name))
    return inside, around


def faults(path: Sequence[str], nodes: Sequence[NodeRun], packets: int, slack: float = 0.0) -> list[str]:
    """What shows that packets were lost or went another way than `path`; empty if none did.

    `slack` is the share of the packets that may miss a node of the path.
    """
    inside, around = on_the_way(nodes)
    expected = Counter(path)
    seen = {node.name: node.vectors for node in inside}
    wrong = [
        f"{name} saw {seen.get(name, 0)} packets, not {visits * packets}"
        for name, visits in expected.items()
        if not (visits - slack) * packets <= seen.get(name, 0) <= visits * packets
    ]
    wrong += [
        f"{vectors} packets went through {name}" for name, vectors in seen.items() if name not in expected
    ]
    sent = sum(node.vectors for node in around if node.name.endswith("-tx"))
    if sent != packets:
        wrong.append(f"{sent} of {packets} packets left")
    wrong += [
        f"{node.name} had {node.density} packets a call, not {VECTOR}"
        for node in inside
        if node.name in expected and node.density < VECTOR * 0.99
    ]
    return wrong


def unproven(
    proof: Sequence[str], before: Mapping[str, int], after: Mapping[str, int], packets: int
) -> list[str]:
    """Counters that did not count each packet, the last few of a vector left out."""
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in proof}
    return [f"{name} counted {count} of {packets}" for name, count in grown.items() if count < 0.98 * packets]


class Meter:
    """Rounds of several cases, alternating, in one VPP."""

    def __init__(
        self,
        vpp: Vpp,
        rounds: int,
        say: Callable[[str], None],
        counters: Callable[[], Counter[str]] = Counter,
    ) -> None:
        self._vpp = vpp
        self._counters = counters
        self._rounds = rounds
        self._say = say

    def run(self, cases: Sequence[Case]) -> list[Row]:
        """All cases in every round; a case's packets go first unmeasured, then measured."""
        seen: dict[str, list[tuple[NodeRun, ...]]] = {case.label: [] for case in cases}
        watch = Watch(self._vpp.pid)
        for _ in range(self._rounds):
            for case in cases:
                with self.switched(case):
                    self._warm(case)
                    seen[case.label].append(self.once(case))
        others = watch.others()
        rows = [row(case, seen[case.label], others) for case in cases]
        for found in rows:
            self._say(
                f"  {found.case}, {found.load}: {found.path.median:.1f} ({found.plugin.median:.1f} its own)"
            )
        return rows

    def check(self, case: Case) -> None:
        """One round that counts for nothing; BenchError if the packets do not take the case's path."""
        with self.switched(case):
            self._warm(case)
            nodes = self.once(case)
            if case.leaves:
                self._check_length(case, nodes)

    def _check_length(self, case: Case, nodes: Sequence[NodeRun]) -> None:
        interface = next(name.removesuffix("-tx") for n in nodes if (name := n.name).endswith("-tx"))
        before = sent_bytes(self._vpp.cli(f"show interface {interface}"))
        send(self._vpp, case.stream, VECTOR)
        length = (sent_bytes(self._vpp.cli(f"show interface {interface}")) - before) / VECTOR
        if length != case.leaves:
            raise BenchError(f"{case.label}: packets of {length:g} bytes left, not {case.leaves}")

    @contextlib.contextmanager
    def switched(self, case: Case) -> Iterator[None]:
        """What the case needs, meanwhile."""
        case.switch.enter()
        try:
            yield
        finally:
            case.switch.leave()

    def _warm(self, case: Case) -> None:
        if case.repeats:
            send(self._vpp, case.stream, case.packets)

    def once(self, case: Case) -> tuple[NodeRun, ...]:
        """One round; BenchError with VPP's error counters if the packets did not take the case's path."""
        before = self._counters() if case.proof else Counter[str]()
        self._vpp.cli("clear errors")
        self._vpp.cli("clear runtime")
        send(self._vpp, case.stream, case.packets)
        threads = parse_runtime(self._vpp.cli("show runtime"))
        nodes = next((nodes for nodes in threads.values() if any(n.name == "pg-input" for n in nodes)), ())
        wrong = faults(case.path, nodes, case.packets, case.slack)
        if case.proof:
            wrong += unproven(case.proof, before, self._counters(), case.packets)
        if wrong:
            counted = "; ".join(
                f"{e.node} {e.reason}: {e.count}" for e in parse_errors(self._vpp.cli("show errors"))
            )
            raise BenchError(f"{case.label}: {'; '.join(wrong)} (errors: {counted or 'none'})")
        return nodes


def row(case: Case, rounds: Sequence[Sequence[NodeRun]], others: float) -> Row:
    """What the rounds of a case come to; `others` as in Row."""
    visits = Counter(case.path)

    def cost(nodes: Sequence[NodeRun], name: str) -> float:
        return sum(node.clocks * node.vectors for node in nodes if node.name == name) / case.packets

    def step(name: str, count: int) -> Step:
        return Step(name, count, spread([cost(nodes, name) for nodes in rounds]), name in case.plugin)

    def total(names: Sequence[str]) -> list[float]:
        return [sum(cost(nodes, name) for name in names) for nodes in rounds]

    around = sorted({node.name for nodes in rounds for node in on_the_way(nodes)[1]})
    return Row(
        case.group,
        case.name,
        case.load,
        len(rounds),
        case.packets,
        others,
        spread(total(list(visits))),
        spread(total([name for name in visits if name in case.plugin])),
        tuple(step(name, count) for name, count in visits.items()),
        tuple(step(name, 1) for name in around),
    )
