"""The tables of a run, in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.vpp.gains import Gain, gains
from bench.vpp.records import NEW_FLOWS, Left, Machine, Rate, Results, Row, Scaling, Spread, Step
from bench.vpp.targets import verdicts

BEGIN = "<!-- bench-vpp: begin (written by `make bench-vpp`) -->"
END = "<!-- bench-vpp: end -->"
IN_ORDER, AT_RANDOM = "in order", "at random"
ONE = "1 tunnel"

FEW_PROCESSORS = (
    "This machine has {} processors: VPP's main thread and all other processes run on those of the workers,"
    " too. A round counts if each worker had 95 % of its processor. The processors may also be two halves of"
    " one core: the first row, whose workers share no table of ours, says what is the most here."
)


def number(value: float) -> str:
    """Clocks for people: one digit after the point below 20, none above."""
    return f"{value:.1f}" if value < 20 else f"{value:.0f}"


def cell(value: Spread) -> str:
    """Median and range of the rounds."""
    return f"{number(value.median)} ({number(value.low)} to {number(value.high)})"


def chain(steps: Iterable[Step]) -> str:
    """Nodes with their clocks per packet; one that is visited twice says so, the plugin's own are set off."""
    parts = []
    for step in steps:
        times = f" (x{step.visits})" if step.visits > 1 else ""
        name = f"**{step.node}**" if step.own else step.node
        parts.append(f"{name}{times} {number(step.clocks.median)}")
    return ", ".join(parts)


def rows_table(rows: Sequence[Row]) -> list[str]:
    """The rows of one group."""
    lines = [
        "| case | load | path | its own nodes | node by node |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        own = cell(row.plugin) if any(step.own for step in row.steps) else "-"
        name = row.case.replace("|", "\\|")
        lines.append(f"| {name} | {row.load} | {cell(row.path)} | {own} | {chain(row.steps)} |")
    lines += ["", _meanwhile(rows)]
    return lines


def gains_table(rows: Sequence[Row]) -> list[str]:
    """What each optimisation gains; nothing where no rows switch any."""
    found = gains(rows)
    if not found:
        return []

    def clocks(gain: Gain | None) -> str:
        known = (gain.alone, gain.last) if gain else (None, None)
        return " | ".join("-" if value is None else f"{value:+.0f}" for value in known)

    lines = [
        "Clocks per packet that a switch saves on the whole path: alone, and as the last one missing.",
        "",
        "| switch | load | in order: alone | as the last | at random: alone | as the last | |",
        "|---|---|---|---|---|---|---|",
    ]
    for switch, tunnels in dict.fromkeys((gain.switch, _order(gain.load)[0]) for gain in found):
        of = {
            order: gain
            for gain in found
            for at, order in (_order(gain.load),)
            if (gain.switch, at) == (switch, tunnels)
        }
        words = {gain.verdict: "" for gain in of.values()}
        if len(words) > 1:
            words = {gain.verdict: f" {order}" for order, gain in of.items()}
        verdict = ", ".join(f"{word}{order}" for word, order in words.items())
        cells = " | ".join(clocks(of.get(order)) for order in (IN_ORDER, AT_RANDOM))
        lines.append(f"| {switch} | {tunnels} | {cells} | {verdict} |")
    return [*lines, ""]


def orders_table(rows: Sequence[Row]) -> list[str]:
    """Clocks of the whole path of each case, tunnels in order beside tunnels at random."""
    paths = {(row.case, *_order(row.load)): row.path.median for row in rows}
    loads = list(dict.fromkeys(_order(row.load)[0] for row in rows))

    def clocks(case: str, load: str) -> str:
        known = [paths.get((case, load, order)) for order in (IN_ORDER, AT_RANDOM)]
        shown = ["-" if value is None else f"{value:.0f}" for value in known]
        return shown[0] if load == ONE else " / ".join(shown)

    return [
        "Clocks per packet of the whole path: tunnels in order / at random.",
        "",
        f"| case | {' | '.join(loads)} |",
        "|---|" + "---|" * len(loads),
        *(
            f"| {case} | {' | '.join(clocks(case, load) for load in loads)} |"
            for case in dict.fromkeys(row.case for row in rows)
        ),
        "",
    ]


def switches_tables(rows: Sequence[Row]) -> list[str]:
    """A group whose rows switch optimisations: what they gain, all paths, and node by node at random."""
    measured = [row for row in rows if _order(row.load)[1] == IN_ORDER and row.load != ONE]
    nodes = [row for row in rows if row not in measured] or measured
    more = ["", f"In order: {_meanwhile(measured)}"] if measured and nodes is not measured else []
    return [*gains_table(rows), *orders_table(rows), *rows_table(nodes), *more]


def _order(load: str) -> tuple[str, str]:
    """A load of tunnels as their number and their order; one tunnel is always in order."""
    number, comma, order = load.rpartition(", ")
    return (number, AT_RANDOM if order == "random" else IN_ORDER) if comma else (load, IN_ORDER)


def flows_line(rows: Sequence[Row], machine: Machine | None) -> list[str]:
    """New flows a second, for the group whose packets each begin one."""
    if machine is None or not rows or rows[0].group != NEW_FLOWS:
        return []
    found = [
        f"{row.case} {row.load}: {machine.clocks_per_second / row.path.median / 1e6:.1f}" for row in rows
    ]
    return ["", f"Million flows a second of one worker, by the clocks of the path. {'; '.join(found)}."]


def rates_table(rates: Sequence[Rate]) -> list[str]:
    """Programming."""
    lines = ["| what | records | seconds | records a second |", "|---|---|---|---|"]
    lines += [
        f"| {rate.case} | {rate.records:,} | {rate.seconds:.2f} | {rate.per_second:,.0f} |" for rate in rates
    ]
    return lines


def scalings_table(scalings: Sequence[Scaling], machine: Machine | None) -> list[str]:
    """Two workers against one."""
    processors = machine.processors if machine else 0
    lines = [
        "Million packets a second by the clock on the wall, generator and all else included: one worker",
        "while the other one has nothing to do, and both in sum while both are at work.",
        *([FEW_PROCESSORS.format(processors)] if processors < 3 else []),
        "",
        "| case | load | one worker | both | times |",
        "|---|---|---|---|---|",
    ]
    for found in scalings:
        one, both = (million(value) for value in (found.one, found.both))
        lines.append(f"| {found.case} | {found.load} | {one} | {both} | {found.ratio:.2f} |")
    return [*lines, "", _meanwhile(scalings)]


def million(value: Spread) -> str:
    """Median and range of the rounds, in millions."""
    median, low, high = (f"{part / 1e6:.1f}" for part in (value.median, value.low, value.high))
    return f"{median} ({low} to {high})"


def targets_table(results: Results) -> list[str]:
    """Targets beside what was measured; nothing where none is."""
    found = verdicts(results)
    if not found:
        return []
    return [
        "#### Against the targets",
        "",
        "| target, clocks per packet | at most | measured | | made of | VPP's own in the same run |",
        "|---|---|---|---|---|---|",
        *(
            f"| {verdict.what} | {verdict.target} | {verdict.measured} | {verdict.text} "
            f"| {verdict.made_of or '-'} | {verdict.beside or '-'} |"
            for verdict in found
        ),
        "",
    ]


def left_table(left: Sequence[Left]) -> list[str]:
    """What was not measured."""
    return [
        "Not measured:",
        "",
        *(f"- {item.group}, {item.case}, {item.load}: {item.reason}" for item in left),
    ]


def only(results: Results, groups: str, inside: bool) -> Results:
    """The part of a run whose groups begin with `groups`, or all but that, with the rates."""
    return Results(
        results.machine,
        [row for row in results.rows if row.group.startswith(groups) is inside],
        [] if inside else results.rates,
        [item for item in results.left if item.group.startswith(groups) is inside],
        [] if inside else results.workers,
    )


def render(results: Results) -> str:
    """All tables of a run."""
    lines: list[str] = []
    if machine := results.machine:
        worker = "one worker beside main" if machine.workers else "no worker, main carries the packets"
        lines += [
            f"{machine.processor}, {machine.processors} processors, time stamp counter "
            f"{machine.clocks_per_second / 1e9:.2f} GHz; {machine.vpp}, {worker}.",
            "",
        ]
    for group in dict.fromkeys(row.group for row in results.rows):
        rows = [row for row in results.rows if row.group == group]
        lines += [
            f"#### {group}",
            "",
            *(switches_tables(rows) if gains(rows) else rows_table(rows)),
            *flows_line(rows, results.machine),
            "",
        ]
    if results.workers:
        lines += ["#### Two workers", "", *scalings_table(results.workers, results.machine), ""]
    if results.rates:
        lines += ["#### Programming", "", *rates_table(results.rates), ""]
    lines += targets_table(results)
    if results.left:
        lines += [*left_table(results.left), ""]
    return "\n".join(lines).rstrip() + "\n"


def insert(document: str, tables: str) -> str:
    """The document with what lies between its two marks replaced; ValueError if a mark is missing."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{tables}\n{END}{tail}"


def _meanwhile(rows: Sequence[Row | Scaling]) -> str:
    rounds, others = sorted({row.rounds for row in rows}), [row.others for row in rows]
    used = f"other processes used {_range(others)} of the processors"
    return f"{_enumerate(rounds)} rounds each; meanwhile {used}."


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _enumerate(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
