"""`python -m bench.vpp`: measure, print the tables, write them into the document."""

from __future__ import annotations

import argparse
import gc
import re
import signal
import sys
import time
from pathlib import Path

from bench.vpp import table
from bench.vpp.engine import BenchError, Setup, clocks_per_second, find, running
from bench.vpp.labs import Bench, Lab
from bench.vpp.plan import every_lab
from bench.vpp.profile import hardware_counters
from bench.vpp.records import Machine, Results

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "build" / "vpp-plugins" / "vpp"
RESULTS = ROOT / "build" / "bench-vpp.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
SWITCHES = ROOT / "docs" / "optimisations.md"
STARVED = "deadlock"
"""VPP's last word if a worker got no processor for a second: others used the machine."""
NO_COUNTERS = (
    "This machine has no hardware counters: VPP's perfmon has nothing to read. Samples by a timer.\n"
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench-vpp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="alternating rounds of each case (9)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="leave the labs out that take minutes")
    size.add_argument("--long", action="store_true", help="only the labs that take minutes")
    parser.add_argument("--only", default="", metavar="PATTERN", help="labs whose name matches")
    parser.add_argument("--list", action="store_true", help="list the labs and end")
    parser.add_argument("--plugins", type=Path, default=PLUGINS, help="where our plugins were built")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"where the records go ({RESULTS.name})"
    )
    parser.add_argument("--keep", action="store_true", help="add to the records of an earlier run")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: the tables of earlier records"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"also write the tables into {DOCUMENT.name} and {SWITCHES.name}"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="also sample where our plugins' clocks go (needs perf)"
    )
    return parser.parse_args()


def machine(bench: Bench) -> Machine:
    """The processor and its clock as Linux names them."""
    info = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    with running(bench.installation, Setup()) as vpp:
        return Machine(
            names[0] if names else "unknown processor",
            len(names),
            clocks_per_second(),
            vpp.cli("show version").split(" built")[0].strip(),
            vpp.workers,
        )


def measure(bench: Bench, labs: list[Lab], results: Path) -> None:
    """Run the labs; the records are written after each, so that what was measured is kept."""
    for lab in labs:
        began = time.monotonic()
        bench.say(f"{lab.name}")
        try:
            try:
                lab.run(bench)
            except BenchError as error:
                if STARVED not in str(error):
                    raise
                bench.say(f"  once more, for VPP ended: {error}")
                lab.run(bench)
        except BenchError as error:
            bench.leave(lab.name, "whole lab", "-", str(error))
        bench.say(f"  {time.monotonic() - began:.0f} s")
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(bench.results.to_json())


def main() -> int:
    """Measure or render as the command line says; the exit code."""
    options = arguments()
    labs = [
        lab
        for lab in every_lab()
        if re.search(options.only, lab.name)
        and not (options.short and lab.long)
        and not (options.long and not lab.long)
    ]
    if options.list:
        print("\n".join(lab.name for lab in labs))
        return 0
    earlier = None
    if (options.keep or options.render) and options.results.exists():
        earlier = Results.from_json(options.results.read_text())
    if options.render:
        if earlier is None:
            raise BenchError(f"no records in {options.results}: run the benchmark first")
        results = earlier
    else:
        bench = Bench(
            find(options.plugins), options.rounds, lambda line: print(line, file=sys.stderr, flush=True)
        )
        bench.results.machine = machine(bench)
        if options.profile:
            bench.profiles = [] if hardware_counters() else [NO_COUNTERS]
        measure(bench, labs, options.results)
        results = (earlier or Results()).merged(bench.results)
        options.results.write_text(results.to_json())
        if options.profile:
            options.profile.write_text("\n".join(bench.profiles or []))
    tables = table.render(results)
    print(tables)
    if options.write:
        for document, inside in ((DOCUMENT, False), (SWITCHES, True)):
            part = table.render(table.only(results, "Optimisations", inside))
            document.write_text(table.insert(document.read_text(), part))
    return 0


if __name__ == "__main__":
    # an end from outside also ends the VPP of the moment
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        # millions of records that live as long as the run: looking through them again and again takes minutes
        gc.disable()
        sys.exit(main())
    except BenchError as error:
        print(f"bench-vpp: {error}", file=sys.stderr)
        sys.exit(2)
