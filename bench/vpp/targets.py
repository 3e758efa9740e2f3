"""What was aimed at, beside what was measured. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.vpp.records import COUNTERS, Results, Row


@dataclass(frozen=True)
class Verdict:
    """One target: clocks per packet at most, or records a second at least."""

    what: str
    target: str
    measured: str
    missed: float
    """By how much, in the unit of the target; 0 or less: met."""
    made_of: str = ""
    """What the figure consists of."""
    beside: str = ""
    """VPP's own plugins in the same run, in the same unit."""

    @property
    def text(self) -> str:
        """In words."""
        return "met" if self.missed <= 0 else f"missed by {self.missed:,.0f}"


@dataclass(frozen=True)
class _Clocks:
    """Rows of one case and load, of which the best or the worst counts."""

    what: str
    clocks: float
    case: str
    load: str
    own: bool = False
    """The plugin's own nodes count, not the whole path."""
    best: bool = False
    """Forms of the same: the best one counts."""


FIB_OR_FEATURE = r"kgtpu, all switches on, gtpuBypass (Fib|Feature)"
ENCAP = r"kgtpu, all switches on, IPv4 payload"
CLOCKS = (
    _Clocks("known flow, 64k flows, our nodes", 50, r"klb, .*", "64,000 flows, 1,000 Services", own=True),
    _Clocks(
        "1M flows, 100k Services, our nodes", 80, r"klb, .*", "1,000,000 flows, 100,000 Services", own=True
    ),
    _Clocks(
        "new flow beside 1M, our nodes",
        400,
        r"klb, .*",
        "beside 1,000,000 live flows, 1,000 Services",
        own=True,
    ),
    _Clocks("decapsulation, 1 tunnel, path", 45, FIB_OR_FEATURE, "1 tunnel", best=True),
    _Clocks("3,000 tunnels at random", 55, FIB_OR_FEATURE, "3,000 tunnels, random", best=True),
    _Clocks("100,000 tunnels at random", 65, FIB_OR_FEATURE, "100,000 tunnels, random", best=True),
    _Clocks("1M tunnels at random", 75, FIB_OR_FEATURE, "1,000,000 tunnels, random", best=True),
    _Clocks(
        "1M tunnels at random, by hash",
        85,
        FIB_OR_FEATURE + ", TEIDs by hash",
        "1,000,000 tunnels, random",
        best=True,
    ),
    _Clocks("encapsulation, 1 tunnel, path", 46, ENCAP, "1 tunnel"),
    _Clocks("encapsulation, 1M tunnels at random", 90, ENCAP, "1,000,000 tunnels, random"),
)
RECORDS_A_SECOND = 500_000


def _own(row: Row) -> float:
    return row.plugin.median


def _path(row: Row) -> float:
    return row.path.median


def _find(rows: Sequence[Row], group: str, case: str, load: str = ".*") -> list[Row]:
    return [
        row
        for row in rows
        if row.group.startswith(group) and re.fullmatch(case, row.case) and re.fullmatch(load, row.load)
    ]


def _of_path(row: Row) -> str:
    """Whose clocks a path takes: our nodes', and each of VPP's."""
    rest = [step for step in row.steps if not step.own]
    nodes = ", ".join(f"{step.node} {step.clocks.median:.0f}" for step in rest)
    return f"ours {row.plugin.median:.0f}; VPP's {row.path.median - row.plugin.median:.0f}: {nodes}"


def _beside(rows: Sequence[Row], like: Row, of: Callable[[Row], float]) -> str:
    """VPP's own plugins in the group and load of a row."""
    found = _find(rows, like.group, "in-tree .*|in-tree, .*", re.escape(like.load))
    return "; ".join(f"{row.case.removeprefix('in-tree').strip(' ,')} {of(row):.0f}" for row in found)


def _plain(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    measured = [row for row in rows if not row.group.startswith(("Pages", "Optimisations"))]
    for target in CLOCKS:
        of = _own if target.own else _path
        unsorted = _find(measured, "", target.case, re.escape(target.load))
        of_target = sorted(unsorted, key=of)
        if of_target:
            counts = of_target[0 if target.best else -1]
            value, least = of(counts), of(of_target[0])
            shown = f"{value:.0f}" if target.best or len(of_target) == 1 else f"{least:.0f} to {value:.0f}"
            found.append(
                Verdict(
                    target.what,
                    f"{target.clocks:.0f}",
                    shown,
                    value - target.clocks,
                    f"most: {counts.case}" if target.own else _of_path(counts),
                    _beside(measured, unsorted[0], of),
                )
            )
    return found


def _more_than(
    rows: Sequence[Row],
    what: str,
    group: str,
    case: str,
    base: str,
    most: float,
    of: Callable[[Row], float],
) -> list[Verdict]:
    """How much more one case takes than another of the same group and load."""
    found = []
    for row in _find(rows, group, case):
        for other in _find(rows, group, base, re.escape(row.load)):
            more = of(row) - of(other)
            text = f"{what}, {row.load}" if group.startswith("GTP-U") else what
            both = f"{of(row):.0f} against {of(other):.0f}"
            found.append(Verdict(text, f"+{most:.0f}", f"{more:+.1f}", more - most, both))
    return found


def _differences(rows: Sequence[Row]) -> list[Verdict]:
    found = []
    for way in ("decapsulation", "encapsulation"):
        group, base = f"GTP-U: {way} by form", r"kgtpu, .*IPv4 outside"
        for what, case, most in (
            (f"{way} with PSC", r"kgtpu, .*IPv4 outside, PSC", 3),
            (f"{way} over IPv6", r"kgtpu, .*IPv6 outside", 15),
        ):
            found += _more_than(rows, what, group, case, base, most, _path)
    for way in ("decapsulation", "encapsulation"):
        name = f"kgtpu, {way}, counters "
        what = f"{way}, counters of each tunnel beside one for all"
        found += _more_than(
            rows, what, COUNTERS, f"{name}of each tunnel", f"{name}one for all tunnels", 10, _path
        )
    for case in (
        "UDP, to the Service",
        "UDP, from the endpoint",
        "TCP, to the Service",
        "TCP, from the endpoint",
    ):
        group = "Services: IPv6 beside IPv4"
        what = f"klb over IPv6, {case}, our nodes"
        found += _more_than(rows, what, group, f"klb over IPv6, {case}", f"klb, {case}", 12, _own)
    group, noop = "IPv4 forwarding", "a feature that does nothing.*"
    tax = "tax of {} on other packets, beside a feature that does nothing"
    found += _more_than(rows, tax.format("klb"), group, r"klb .*", noop, 5, _own)
    found += _more_than(rows, tax.format("gtpuBypass Feature"), group, r"kgtpu .*Feature.*", noop, 2, _own)
    what = "tax of gtpuBypass Fib, beside no feature (2 are noise)"
    found += _more_than(rows, what, group, r"kgtpu .*Fib", "no feature", 2, _path)
    return found


def verdicts(results: Results) -> list[Verdict]:
    """The targets of which something was measured."""
    found = _plain(results.rows) + _differences(results.rows)
    rates = [rate.per_second for rate in results.rates if rate.case.endswith("pack, difference, apply")]
    if rates:
        span = f"{min(rates):,.0f} to {max(rates):,.0f}"
        missed = RECORDS_A_SECOND - min(rates)
        found.append(
            Verdict("records a second, from Python's typed records", f"{RECORDS_A_SECOND:,}", span, missed)
        )
    return found
