"""What the agent knows -> Dataplane.status. Pure; times are given.

Condition polarity: Ready and Programmed are good when True; Degraded and the named ones (OtherProxyPresent,
CapacityExceeded, ...) are bad when True, and named ones appear only while they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from vpp_operator.agent.enginesettings import switches_in_effect
from vpp_operator.agent.refusals import Cause
from vpp_operator.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    merge_conditions,
    rfc3339,
)
from vpp_operator.api.dataplane import (
    MAX_PROBLEMS,
    AttachMode,
    ClocksPerPacket,
    DataplaneProblem,
    DataplaneStatus,
    DropCount,
    FiguresServer,
    ProgrammedCount,
    Rates,
    SyncedKind,
    Throughput,
    TuningInEffect,
)
from vpp_operator.api.problem import Problem
from vpp_operator.dataplane.choice import EngineChoice
from vpp_operator.dataplane.protocol import EngineInfo, EngineStats, PathStats
from vpp_operator.node.spec import Finding

__all__ = ["Knowledge", "build_status", "changed", "measure"]

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_GOOD_WHEN_TRUE = {ConditionType.HOST_SETTINGS_OK.value, ConditionType.PREFLIGHT_PASSED.value}
_MAX_DROPS = 16
_MESSAGE = 1024
_ETHERNET_BYTES = 14


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates over one interval; None: no packet counted, or the counters began anew."""

    throughput: Throughput | None = None
    clocks: ClocksPerPacket | None = None


@dataclass(slots=True)
class Knowledge:
    """Everything the status is made of."""

    node_name: str
    agent_version: str = ""
    generation: int | None = None
    selected: bool = True
    paused: bool = False
    wanted_engine: str = "auto"
    choice: EngineChoice | None = None
    """What the engine's pod chose, and why; None: it has not said."""
    waiting_for: str = ""
    """Lists and facts that have not come in yet, in words; empty: all have."""
    programming: bool = True
    """What was found on the engine has not been brought to the desired state yet."""
    pending: int = 0
    engine_error: str = ""
    engine_incompatible: bool = False
    """The engine is there, and of another release than the agent."""
    info: EngineInfo | None = None
    stats: EngineStats | None = None
    measured: Measured = field(default_factory=Measured)
    steering_error: str = ""
    findings: Sequence[Finding] = ()
    services_total: int = 0
    tunnels_total: int = 0
    """GTP-U tunnels that this node should have."""
    tunnels_missing: int = 0
    """Tunnels of these that are not, or not fully, programmed."""
    figures: FiguresServer | None = None
    services_impaired: int = 0
    """Services of these that have a problem, their slices' problems included."""
    problems: Sequence[Problem] = ()
    refused: Mapping[Cause, int] = field(default_factory=dict)
    """Records that the dataplane refused: number by what that follows from."""
    ports_exhausted: bool = False
    sessions_full: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    changes: int = 0
    """Objects that came, changed or went since the agent started."""
    attach_mode: AttachMode | None = None
    pending_restart: Sequence[str] = ()


def measure(before: EngineStats | None, after: EngineStats | None, now: datetime) -> Measured:
    """Return the mean rates between two readings of the counters; ``now`` is when the second was made."""
    if before is None or after is None or after.now_ns <= before.now_ns:
        return Measured()
    nanoseconds = after.now_ns - before.now_ns
    rates: dict[str, Rates] = {}
    clocks: dict[str, int] = {}
    total = PathStats()
    for name, path in after.paths.items():
        delta = _difference(before.paths.get(name, PathStats()), path)
        if delta is None:
            return Measured()
        rates[name] = _rates(delta, nanoseconds)
        if delta.packets:
            clocks[name] = round(delta.clocks / delta.packets)
        total = _sum(total, delta)
    link = _difference(_link(before), _link(after))
    if "linkRxPackets" in after.counters and link is not None:
        # A user's packet to a Service takes two paths.
        total = link
    throughput = Throughput(
        interval_start=rfc3339(now - timedelta(microseconds=nanoseconds / 1000)),
        interval_end=rfc3339(now),
        total=_rates(total, nanoseconds),
        service=rates.get("service"),
        gtpu_decap=rates.get("gtpuDecap"),
        gtpu_encap=rates.get("gtpuEncap"),
    )
    per_packet = ClocksPerPacket(
        service=clocks.get("service"),
        gtpu_decap=clocks.get("gtpuDecap"),
        gtpu_encap=clocks.get("gtpuEncap"),
    )
    return Measured(throughput, per_packet if clocks else None)


def _link(stats: EngineStats) -> PathStats:
    """Return what crossed the engine's links, in layer 3 lengths."""
    get = stats.counters.get
    rx, tx = get("linkRxPackets", 0), get("linkTxPackets", 0)
    return PathStats(
        rx, tx, get("linkRxBytes", 0) - _ETHERNET_BYTES * rx, get("linkTxBytes", 0) - _ETHERNET_BYTES * tx
    )


_PATH_FIELDS = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "clocks", "packets")


def _difference(before: PathStats, after: PathStats) -> PathStats | None:
    """Return the increase; None when a counter fell: the engine began to count anew."""
    values = [getattr(after, name) - getattr(before, name) for name in _PATH_FIELDS]
    return PathStats(*values) if min(values) >= 0 else None


def _sum(one: PathStats, other: PathStats) -> PathStats:
    return PathStats(*(getattr(one, name) + getattr(other, name) for name in _PATH_FIELDS))


def _rates(delta: PathStats, nanoseconds: int) -> Rates:
    def per_second(value: int) -> int:
        return round(value * 1_000_000_000 / nanoseconds)

    return Rates(
        rx_pps=per_second(delta.rx_packets),
        tx_pps=per_second(delta.tx_packets),
        rx_bps=per_second(delta.rx_bytes * 8),
        tx_bps=per_second(delta.tx_bytes * 8),
    )


# ------------------------------------------------------------------------------------------------ conditions


class _Conditions:
    def __init__(self, generation: int | None, now: datetime) -> None:
        self._generation = generation
        self._now = rfc3339(now)
        self.all: dict[str, Condition] = {}

    def set(self, kind: str, status: ConditionStatus, reason: str, message: str) -> None:
        self.all[kind] = Condition(
            type=kind,
            status=status,
            observed_generation=self._generation,
            last_transition_time=self._now,
            reason=reason,
            message=message[:_MESSAGE],
        )


def _conditions(k: Knowledge, now: datetime) -> Iterable[Condition]:
    conditions = _Conditions(k.generation, now)
    for finding in k.findings:
        if finding.condition != ConditionType.DEGRADED:
            good = finding.condition in _GOOD_WHEN_TRUE
            conditions.set(
                finding.condition,
                _FALSE if good else _TRUE,
                finding.reason,
                f"{finding.message}. Remedy: {finding.remedy}",
            )
    full = [cause.text(_capacity(k)) for cause in sorted(k.refused) if cause.full]
    if full or k.sessions_full:
        sessions = (
            "the table of sessions was full within the last five minutes and new flows were dropped; "
            "raise runtime.capacity.sessions in a DataplaneTuning for this node"
        )
        texts = full + ([sessions] if k.sessions_full else [])
        conditions.set(ConditionType.CAPACITY_EXCEEDED, _TRUE, Reason.CAPACITY_EXCEEDED, "; ".join(texts))
    if k.ports_exhausted:
        conditions.set(
            ConditionType.PORT_POOL_EXHAUSTED,
            _TRUE,
            Reason.PORT_POOL_EXHAUSTED,
            "new flows were dropped within the last five minutes because no source port was left: widen the "
            "chart's value sourcePorts.ranges",
        )
    conditions.set(ConditionType.READY, *_ready(k))
    conditions.set(ConditionType.PROGRAMMED, *_programmed(k))
    conditions.set(ConditionType.DEGRADED, *_degraded(k, conditions.all))
    return conditions.all.values()


def _capacity(k: Knowledge) -> Mapping[str, int]:
    return k.info.capacity if k.info is not None else {}


_Verdict = tuple[ConditionStatus, str, str]


def _no_engine(k: Knowledge) -> Reason:
    return Reason.ENGINE_INCOMPATIBLE if k.engine_incompatible else Reason.ENGINE_UNREACHABLE


def _not_yet(k: Knowledge) -> _Verdict | None:
    """Return why nothing can be said to be programmed; None: it can."""
    if not k.selected:
        return (
            _FALSE,
            Reason.SWITCHED_OFF,
            "the node is not selected (chart value nodeSelector): it has its own network back",
        )
    if k.info is None:
        return _FALSE, _no_engine(k), k.engine_error or "connecting to the engine"
    if k.waiting_for:
        return _FALSE, Reason.SYNCING, f"waiting for {k.waiting_for} from the API server"
    if k.paused and k.programming:
        return _FALSE, Reason.PAUSED, _paused(k)
    if k.programming:
        return _FALSE, Reason.PROGRAMMING, f"{k.pending} records are being programmed"
    if k.steering_error:
        return (
            _FALSE,
            Reason.NODE_NETWORK_FAILED,
            f"the node's network is not as it should be: {k.steering_error}",
        )
    return None


def _paused(k: Knowledge) -> str:
    return f"paused (spec.paused): {k.pending} changes wait; what is programmed keeps forwarding"


def _ready(k: Knowledge) -> _Verdict:
    verdict = _not_yet(k)
    if verdict is not None:
        return verdict
    for finding in k.findings:
        if finding.condition == ConditionType.OTHER_PROXY_PRESENT:
            return _FALSE, Reason.OTHER_PROXY_RULES, f"{finding.message}. Remedy: {finding.remedy}"
    assert k.info is not None
    engine = k.info.release if k.info.vpp_version else f"{k.info.engine} {k.info.version}"
    message = f"{engine} forwards with {k.info.workers} worker(s)"
    if k.wanted_engine == "auto" and k.info.engine != "vpp":
        message += f"; VPP was not taken: {_why_not_vpp(k)}"
    if k.choice is not None and k.choice.engine == k.info.engine:
        message = "; ".join([message, *k.choice.notes])
    return _TRUE, Reason.AS_EXPECTED, message


def _why_not_vpp(k: Knowledge) -> str:
    if k.choice is not None and k.choice.wanted != "embedded":
        return k.choice.reason or "its pod does not say why"
    if k.choice is not None:
        return "it was not asked for when the engine's pod started; the next one may take it"
    return "this node's pods bring the embedded engine only"


def _programmed(k: Knowledge) -> _Verdict:
    if k.info is None and k.selected:
        return _UNKNOWN, _no_engine(k), k.engine_error or "connecting to the engine"
    verdict = _not_yet(k)
    if verdict is not None:
        return verdict
    if k.paused and k.pending:
        return _FALSE, Reason.PAUSED, _paused(k)
    if k.refused:
        texts = [f"{count}: {cause.text(_capacity(k))}" for cause, count in k.refused.items()]
        full = any(cause.full for cause in k.refused)
        reason = Reason.CAPACITY_EXCEEDED if full else Reason.REJECTED_BY_DATAPLANE
        return _FALSE, reason, f"records that are not programmed: {'; '.join(texts)}"
    return _TRUE, Reason.AS_EXPECTED, "the tables are as the cluster's objects ask for"


def _degraded(k: Knowledge, named: Mapping[str, Condition]) -> _Verdict:
    texts: list[tuple[str, str]] = []
    if k.wanted_engine == "vpp" and k.info is not None and k.info.engine != "vpp":
        texts.append(
            (
                Reason.ENGINE_FALLBACK,
                f"engine vpp was asked for and {k.info.engine} forwards instead: {_why_not_vpp(k)}. "
                "Remedy: remove the cause, or ask for auto or embedded",
            )
        )
    if k.refused:
        full = all(cause.full for cause in k.refused)
        reason = Reason.CAPACITY_EXCEEDED if full else Reason.REJECTED_BY_DATAPLANE
        texts.append((reason, "records are refused, see Programmed"))
    for name, condition in named.items():
        bad = _FALSE if name in _GOOD_WHEN_TRUE else _TRUE
        if name not in (ConditionType.READY, ConditionType.PROGRAMMED) and condition.status == bad:
            texts.append((condition.reason, f"see {name}"))
    texts += [
        (f.reason, f"{f.message}. Remedy: {f.remedy}")
        for f in k.findings
        if f.condition == ConditionType.DEGRADED
    ]
    if k.problems:
        texts.append((Reason.PROBLEMS, f"{len(k.problems)} problem(s) with objects, see status.problems"))
    if not texts:
        return _FALSE, Reason.AS_EXPECTED, "nothing is missing"
    return _TRUE, texts[0][0], "; ".join(text for _, text in texts)


# ---------------------------------------------------------------------------------------------------- status


def build_status(k: Knowledge, before: Iterable[Condition], now: datetime) -> DataplaneStatus:
    """Return the status; ``before``: the conditions in force, whose transition times are kept."""
    stats, info = k.stats, k.info
    problems = sorted(k.problems)
    drops: tuple[DropCount, ...] | None = None
    if stats is not None:
        top = sorted(((n, count) for n, count in stats.drops.items() if count), key=lambda d: (-d[1], d[0]))
        drops = tuple(DropCount(reason=name, packets=count) for name, count in top[:_MAX_DROPS])
    programmed = max(0, k.services_total - k.services_impaired) if not k.programming else 0
    return DataplaneStatus(
        observed_generation=k.generation,
        conditions=merge_conditions(before, _conditions(k, now)),
        engine=info.engine if info else None,
        engine_version=info.release[:64] if info else None,
        agent_version=k.agent_version or None,
        attach_mode=k.attach_mode,
        workers=info.workers if info else None,
        services=ProgrammedCount.of(programmed, k.services_total),
        tunnels=ProgrammedCount.of(max(0, k.tunnels_total - k.tunnels_missing), k.tunnels_total),
        sessions=stats.sessions if stats is not None else None,
        throughput=k.measured.throughput,
        clocks_per_packet=k.measured.clocks,
        drops=drops,
        synced=tuple(
            SyncedKind(kind=kind, resource_version=version) for kind, version in sorted(k.versions.items())
        ),
        tuning=TuningInEffect(
            gtpu=switches_in_effect(stats.gtpu_switches) if stats is not None and info is not None else None,
            pending_restart=tuple(sorted(k.pending_restart)),
        ),
        figures=k.figures,
        problem_count=len(problems),
        problems=tuple(
            DataplaneProblem(
                kind=p.kind,
                namespace=p.namespace or None,
                name=p.name,
                reason=p.reason,
                message=p.message[:_MESSAGE],
                generation=p.generation or None,
            )
            for p in problems[:MAX_PROBLEMS]
        ),
    )


def changed(before: DataplaneStatus | None, after: DataplaneStatus) -> bool:
    """Whether a report is worth a write: anything but the passing of time and of resourceVersions differs."""
    return before is None or _comparable(before) != _comparable(after)


def _comparable(status: DataplaneStatus) -> DataplaneStatus:
    throughput = status.throughput
    if throughput is not None:
        throughput = throughput.model_copy(update={"interval_start": "", "interval_end": ""})
    return status.model_copy(update={"synced": None, "throughput": throughput})
