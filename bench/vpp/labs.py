"""What is measured: each lab starts one VPP, programs it, and runs its cases in alternating rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.vpp.control import Control
from bench.vpp.engine import BenchError, Installation, Setup, Vpp, running
from bench.vpp.measure import VECTOR, Case, Meter, send
from bench.vpp.profile import profile
from bench.vpp.records import Left, Results

from vpp_operator.dataplane.protocol import DataplaneError

SHORT_ROUND = 1024 * VECTOR
NO_PLUGINS = "our plugins are not built: make vpp-plugins"


@dataclass
class Bench:
    """What all labs share."""

    installation: Installation
    rounds: int
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)
    profiles: list[str] | None = None
    """Texts of profiles of our plugins' cases; None: none are wanted."""
    _directory: TemporaryDirectory[str] = field(
        default_factory=lambda: TemporaryDirectory(prefix="bench-vpp-native-")
    )

    def built(self, what: Callable[[Path], Path]) -> Path:
        """A helper in C (see `native`), built where it stays for this run."""
        return what(Path(self._directory.name))

    @property
    def own(self) -> bool:
        """Whether our plugins are there."""
        return self.installation.own_plugins is not None

    @contextmanager
    def vpp(self, setup: Setup) -> Iterator[Vpp]:
        """A VPP for one lab."""
        with running(self.installation, setup) as vpp:
            yield vpp

    @contextmanager
    def control(self, vpp: Vpp) -> Iterator[Control]:
        """Our plugins' tables in it."""
        control = Control(vpp.api_socket)
        try:
            yield control
        except DataplaneError as error:
            raise BenchError(f"{error}; {vpp.end()}") from error
        finally:
            control.close()

    def measure(
        self, vpp: Vpp, cases: Sequence[Case], control: Control | None = None, huge: bool = True
    ) -> None:
        """Rounds of the cases on 2 MiB pages; a case that does not take its path is noted as not measured.

        `control` reads the counters of the cases that have them as proof. Without `huge` our tables stay on
        the pages they are on, all else goes to 2 MiB pages.
        """
        vpp.collapse_pages(huge)
        meter = Meter(vpp, self.rounds, self.say, control.counters if control else Counter)
        sound = []
        for case in cases:
            try:
                meter.check(case)
                sound.append(case)
            except BenchError as error:
                if not vpp.alive():
                    raise
                reason = str(error).removeprefix(f"{case.label}: ")
                self.leave(case.group, case.name, case.load, reason)
        self.results.rows += meter.run(sound) if sound else []
        if self.profiles is not None:
            self.profiles += [
                text for case in sound if case.proof and (text := self._profile(meter, vpp, case))
            ]

    def _profile(self, meter: Meter, vpp: Vpp, case: Case) -> str:
        if not case.repeats:
            return ""
        try:
            with meter.switched(case):
                text = profile(vpp, case.label, lambda: send(vpp, case.stream, case.packets)).text()
        except BenchError as error:
            text = f"{case.label}: {error}\n"
        self.say(text)
        return text

    def withdraw(self, cases: Sequence[Case], reason: str) -> None:
        """Take back what was measured of the cases: it is not what they say."""
        for case in cases:
            self.results.rows = [
                row
                for row in self.results.rows
                if (row.group, row.case, row.load) != (case.group, case.name, case.load)
            ]
            self.leave(case.group, case.name, case.load, reason)

    def leave(self, group: str, case: str, load: str, reason: str) -> None:
        """Note what is not measured, and why."""
        self.say(f"  not measured: {case}, {load}: {reason}")
        self.results.left.append(Left(group, case, load, reason))


def side_by_side(
    bench: Bench,
    setup: Setup,
    group: str,
    load: str,
    in_tree: Callable[[Vpp], list[Case]] | str,
    own: Callable[[Vpp, Control, list[Case]], None],
) -> None:
    """One VPP with its own plugins set up by `in_tree`, then ours.

    `own` programs ours and measures, the cases of `in_tree` among its own. Text instead of `in_tree` is why
    VPP's own are left out. Without our plugins the others are measured alone.
    """
    with bench.vpp(setup) as vpp:
        cases: list[Case] = []
        if isinstance(in_tree, str):
            bench.leave(group, "in-tree", load, in_tree)
        else:
            cases = in_tree(vpp)
        if not bench.own:
            bench.leave(group, "ours", load, NO_PLUGINS)
            bench.measure(vpp, cases)
            return
        with bench.control(vpp) as control:
            own(vpp, control, cases)


@dataclass(frozen=True)
class Lab:
    """A lab by name: `run` adds to the bench's results."""

    name: str
    run: Callable[[Bench], None]
    long: bool = False
    """Left out of a short run."""


def count_text(count: int, what: str) -> str:
    """For example "1 flow", "64,000 flows"."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def round_packets(items: int) -> int:
    """Packets of a round that touches so many items equally often: whole vectors, at least a short round."""
    return max(SHORT_ROUND, -(-items // VECTOR) * VECTOR)
