"""Where a path's clocks go within its nodes: `perf` samples the worker's program counter while packets pass.

The samples are taken by a timer (`cpu-clock`), so no hardware counters are needed, which virtual machines
often lack. An instruction that waits for memory shows up at the one behind it.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.vpp.engine import BenchError, Vpp

FREQUENCY = 20_000
SECONDS = 2.0
ATTACH = 0.3
"""Until perf is at work."""
OWN = ("klb_plugin.so", "kgtpu_plugin.so", "khost_plugin.so")


@dataclass(frozen=True)
class Sample:
    """One sample: where the program counter was."""

    address: int
    symbol: str
    library: str


@dataclass(frozen=True)
class Mapped:
    """An executable mapping of a file: [start, end) of the process are `offset` and more of the file."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class Profile:
    """Samples of one case in our plugins, by function; inlined ones by name if there is debug information."""

    label: str
    samples: int
    own: int
    """Samples in our plugins."""
    functions: tuple[tuple[str, float], ...]
    """Name and share of `own`, the largest first."""

    def text(self) -> str:
        """For people."""
        lines = [f"{self.label}: {self.own} of {self.samples} samples in our plugins"]
        return (
            "\n".join([*lines, *(f"  {100 * share:5.1f} %  {name}" for name, share in self.functions)]) + "\n"
        )


def hardware_counters() -> bool:
    """Whether the processor's counters can be read here: VPP's perfmon plugin needs them."""
    perf = shutil.which("perf")
    if perf is None:
        return False
    done = subprocess.run([perf, "stat", "-e", "cycles", "true"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and "<not supported>" not in done.stderr


def parse_script(text: str) -> Iterator[Sample]:
    """Samples in the text of `perf script -F ip,sym,dso`: "   7f.. symbol (/path/library.so)". Pure."""
    for line in text.splitlines():
        match = re.match(r"^\s*([0-9a-f]+)\s+(.*?)\s+\((.*)\)\s*$", line)
        if match:
            yield Sample(int(match[1], 16), match[2], match[3])


def executable(maps: str) -> tuple[Mapped, ...]:
    """Executable mappings of files in the text of /proc/PID/maps. Pure."""
    found = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/"):
            low, _, high = fields[0].partition("-")
            found.append(Mapped(int(low, 16), int(high, 16), int(fields[2], 16), fields[5]))
    return tuple(found)


def inlined(text: str) -> dict[int, str]:
    """Innermost function of each address in the output of `addr2line -a -f -i`. Pure.

    An address, then pairs of lines: a function and its place, the innermost first; "??" if it is not known.
    """
    found: dict[int, str] = {}
    address = None
    for line in text.splitlines():
        if line.startswith("0x"):
            address = int(line, 16)
        elif address is not None:
            if line != "??":
                found[address] = line
            address = None
    return found


def shares(names: Iterable[str], least: float = 0.01) -> tuple[tuple[str, float], ...]:
    """Each name's share, the largest first; those below `least` are left out. Pure."""
    counted = Counter(names)
    total = sum(counted.values())
    return tuple((name, n / total) for name, n in counted.most_common() if n / total >= least)


def profile(vpp: Vpp, label: str, turn: Callable[[], None]) -> Profile:
    """Sample the first worker while `turn` sends packets, again and again; BenchError without `perf`."""
    perf = shutil.which("perf")
    if perf is None:
        raise BenchError("no perf: install linux-perf to see where the clocks go")
    data = vpp.directory / "perf.data"
    thread = vpp.worker_threads[0] if vpp.worker_threads else vpp.pid
    where = ["-t", str(thread), "-o", str(data)]
    recorder = subprocess.Popen(
        [perf, "record", "-q", "-e", "cpu-clock:u", "-F", str(FREQUENCY), *where],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        time.sleep(ATTACH)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            turn()
    finally:
        recorder.send_signal(signal.SIGINT)
        _, said = recorder.communicate(timeout=30)
    script = [perf, "script", "-i", str(data), "-F", "ip,sym,dso"]
    text = subprocess.run(script, capture_output=True, text=True, check=False).stdout
    data.unlink(missing_ok=True)
    samples = list(parse_script(text))
    own = [sample for sample in samples if Path(sample.library).name in OWN]
    if not own:
        raise BenchError(f"perf took {len(samples)} samples, none in our plugins: {said.decode()[-300:]}")
    return Profile(label, len(samples), len(own), shares(_names(vpp, own)))


def _names(vpp: Vpp, own: Sequence[Sample]) -> Iterator[str]:
    maps = executable(Path(f"/proc/{vpp.pid}/maps").read_text())
    inner = _inner(maps, {sample.address for sample in own})
    for sample in own:
        where = re.sub(r"_x86_64_v\d$", "", sample.symbol)
        name = inner.get(sample.address, sample.symbol)
        yield where if name == sample.symbol else f"{where}: {name}"


def _inner(maps: Sequence[Mapped], addresses: Iterable[int]) -> Mapping[int, str]:
    program = shutil.which("addr2line")
    if program is None:
        return {}
    by_file: dict[str, dict[int, int]] = {}
    for address in addresses:
        for mapped in maps:
            if mapped.start <= address < mapped.end:
                # text of a shared library: linkers give it the address of its place in the file
                by_file.setdefault(mapped.path, {})[address - mapped.start + mapped.offset] = address
    found: dict[int, str] = {}
    for path, known in by_file.items():
        done = subprocess.run(
            [program, "-a", "-f", "-i", "-e", path],
            input="".join(f"{address:#x}\n" for address in known),
            capture_output=True,
            text=True,
            check=False,
        )
        found |= {known[a]: name for a, name in inlined(done.stdout).items() if a in known}
    return found
