"""What a run of the benchmark found, as typed records and as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median

NEW_FLOWS = "Services: first packets of new flows"
"""The group whose packets each begin a flow."""
COUNTERS = "GTP-U: counters of each tunnel"
"""The group with counters of each tunnel beside one for all."""


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the rounds, in the unit of the values."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """The spread of at least one value; ValueError without any."""
    if not values:
        raise ValueError("no values")
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True)
class Step:
    """One node of a path: clocks per packet of the path (visits times clocks per visit)."""

    node: str
    visits: int
    clocks: Spread
    own: bool
    """The node belongs to the plugin that the row is about."""


@dataclass(frozen=True)
class Row:
    """One case, measured: whole path from IP input to the rewrite, and the plugin's own nodes alone."""

    group: str
    case: str
    load: str
    rounds: int
    packets: int
    """Packets of one round."""
    others: float
    """Processors that other processes used while it was measured; 0.1 is little, 1 and more spoils it."""
    path: Spread
    plugin: Spread
    steps: tuple[Step, ...]
    around: tuple[Step, ...]
    """Nodes that are not counted: generator, Ethernet input, interface output."""


@dataclass(frozen=True)
class Rate:
    """Programming: records a second, through the API as Python uses it."""

    group: str
    case: str
    records: int
    seconds: float
    others: float = 0.0
    """As in Row."""

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Scaling:
    """Two workers: packets a second by the clock on the wall, all that VPP and the generator do included.

    `one`: of a worker while the other one has no packets, the mean of both; `both`: of the two in sum, while
    both are at work.
    """

    group: str
    case: str
    load: str
    rounds: int
    others: float
    """As in Row."""
    one: Spread
    both: Spread

    @property
    def ratio(self) -> float:
        """Packets a second of both against one of them; 2 at best."""
        return self.both.median / self.one.median


@dataclass(frozen=True)
class Left:
    """A case that was not measured, and why."""

    group: str
    case: str
    load: str
    reason: str


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    processors: int
    clocks_per_second: float
    vpp: str
    workers: int
    """0: main carried the packets itself."""


@dataclass
class Results:
    """All that one run found."""

    machine: Machine | None = None
    rows: list[Row] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    workers: list[Scaling] = field(default_factory=list)

    def merged(self, newer: Results) -> Results:
        """These records, those of the same case and load replaced by the newer ones'.

        What these did not measure of a group and load is forgotten where the newer ones tried that load.
        """
        rows = {(r.group, r.case, r.load): r for r in self.rows + newer.rows}
        rates = {(r.group, r.case, r.records): r for r in self.rates + newer.rates}
        measured = {(r.group, r.case, r.load) for r in newer.rows}
        measured |= {(r.group, r.case, r.load) for r in newer.workers}
        tried = {(group, load) for group, _, load in measured} | {(r.group, r.load) for r in newer.left}
        left = {
            (r.group, r.case, r.load): r
            for r in [*(r for r in self.left if (r.group, r.load) not in tried), *newer.left]
        }
        workers = {(r.group, r.case, r.load): r for r in self.workers + newer.workers}
        return Results(
            newer.machine or self.machine,
            list(rows.values()),
            list(rates.values()),
            [item for key, item in left.items() if key not in measured],
            list(workers.values()),
        )

    def to_json(self) -> str:
        """All records as one JSON object."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Results:
        """The inverse of `to_json`; KeyError or TypeError where the text is of another kind."""
        data = json.loads(text)
        return Results(
            Machine(**data["machine"]) if data["machine"] else None,
            [_row(row) for row in data["rows"]],
            [Rate(**rate) for rate in data["rates"]],
            [Left(**left) for left in data["left"]],
            [_scaling(scaling) for scaling in data.get("workers", [])],
        )


def _scaling(data: dict[str, object]) -> Scaling:
    spreads = {name: Spread(**data[name]) for name in ("one", "both")}  # type: ignore[arg-type]
    return Scaling(**(data | spreads))  # type: ignore[arg-type]


def _row(data: dict[str, object]) -> Row:
    values = dict(data)
    values["path"] = Spread(**values["path"])  # type: ignore[arg-type]
    values["plugin"] = Spread(**values["plugin"])  # type: ignore[arg-type]
    for part in ("steps", "around"):
        values[part] = tuple(
            Step(**(step | {"clocks": Spread(**step["clocks"])}))
            for step in values[part]  # type: ignore[attr-defined]
        )
    return Row(**values)  # type: ignore[arg-type]
