"""What each optimisation gains, from the rows that switch it alone and leave it out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.vpp.records import Row

OFF, ON = "all off", "all on"
ALONE, MISSING = " alone", "all but "


@dataclass(frozen=True)
class Gain:
    """Clocks per packet of the whole path that one switch saves; negative: it costs.

    `alone` is against all off, `last` is what is lost if only this one is left out; None: not measured.
    """

    group: str
    switch: str
    load: str
    alone: float | None
    last: float | None
    noise: float
    """Differences up to this are nothing: 2 clocks, or 3 of 100."""

    @property
    def verdict(self) -> str:
        """In words."""
        known = [value for value in (self.alone, self.last) if value is not None]
        if not known or all(abs(value) <= self.noise for value in known):
            return "gains nothing"
        if all(value >= -self.noise for value in known):
            return "gains"
        if all(value <= self.noise for value in known):
            return "costs"
        return "depends on the others"


def gains(rows: Sequence[Row]) -> list[Gain]:
    """One gain for each group, load and switch among the rows, in the rows' order."""
    found = []
    for group, load in dict.fromkeys((row.group, row.load) for row in rows):
        paths = {row.case: row.path.median for row in rows if (row.group, row.load) == (group, load)}
        if OFF not in paths or ON not in paths:
            continue
        names = [name.removesuffix(ALONE) for name in paths if name.endswith(ALONE)]
        for name in names:
            alone = paths[OFF] - paths[name + ALONE]
            without = paths.get(MISSING + name)
            last = None if without is None else without - paths[ON]
            noise = max(2.0, 0.03 * paths[OFF])
            found.append(Gain(group, name, load, alone, last, noise))
    return found
