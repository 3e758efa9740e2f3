"""What came of a DataplaneTuning: its status from the nodes' plans and reports. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from ..api.conditions import Condition, ConditionStatus, ConditionType, Reason, merge_conditions, rfc3339
from ..api.dataplane import DataplaneStatus, SwitchState
from ..api.tuning import (
    DataplaneTuning,
    DataplaneTuningStatus,
    Engine,
    ObservedSetting,
    ObservedValue,
    TuningNodes,
)
from .desired import NodePlan
from .facts import DataplaneFacts

__all__ = ["tuning_status"]

_MOST_VALUES = 16
_MOST_MESSAGES = 5


def tuning_status(
    tuning: DataplaneTuning,
    plans: Iterable[NodePlan],
    dataplanes: Mapping[str, DataplaneFacts],
    now: datetime,
) -> DataplaneTuningStatus:
    """Return the status of `tuning`. Transition times of unchanged conditions are kept."""
    name = tuning.metadata.name
    matched = [plan for plan in plans if name in plan.resolution.matched]
    applied = pending = 0
    waiting: Counter[str] = Counter()
    conflicts: dict[str, None] = {}
    missing: dict[str, None] = {}
    for plan in matched:
        decided = {field for field, decider in plan.resolution.decided.items() if decider == name}
        conflicts |= dict.fromkeys(c.message for c in plan.resolution.conflicts if c.tuning == name)
        dataplane = dataplanes.get(plan.node.name)
        if plan.missing_profile and "runtime.hugepages" in decided:
            missing[plan.missing_profile] = None
            waiting["runtime.hugepages"] += 1
            continue
        late = _pending_restart(decided, dataplane)
        pending += bool(late)
        open_fields = late | _not_in_effect(decided, plan, dataplane)
        waiting.update(open_fields)
        applied += not open_fields
    conditions = (
        _condition(tuning, ConditionType.ACCEPTED, not conflicts, Reason.CONFLICT, _joined(conflicts), now),
        _applied_condition(tuning, len(matched), applied, pending, waiting, _joined(missing), now),
    )
    before = tuning.status.conditions if tuning.status and tuning.status.conditions else ()
    return DataplaneTuningStatus(
        observed_generation=tuning.metadata.generation,
        conditions=merge_conditions(before, conditions),
        nodes=TuningNodes(matched=len(matched), applied=applied, pending_restart=pending),
        in_effect=_in_effect(
            dataplanes[plan.node.name].status for plan in matched if plan.node.name in dataplanes
        ),
    )


def _pending_restart(decided: set[str], dataplane: DataplaneFacts | None) -> set[str]:
    if dataplane is None or dataplane.status.tuning is None:
        return set()
    reported = dataplane.status.tuning.pending_restart or ()
    return {field for field in decided if any(field == r or field.startswith(f"{r}.") for r in reported)}


def _not_in_effect(decided: set[str], plan: NodePlan, dataplane: DataplaneFacts | None) -> set[str]:
    """Return the decided fields that the node does not report in effect."""
    if dataplane is None or dataplane.spec != plan.spec:
        return decided
    status = dataplane.status
    ready = dataplane.condition(ConditionType.READY)
    if status.observed_generation != dataplane.generation or ready is None:
        return decided
    if ready.status == ConditionStatus.UNKNOWN:
        return decided
    found = set()
    if "engine" in decided and plan.spec.engine not in (Engine.AUTO, status.engine):
        found.add("engine")
    gtpu = status.tuning.gtpu if status.tuning else None
    for field in decided:
        area, _, key = field.partition(".")
        if area != "gtpu":
            continue
        wanted = plan.spec.tuning.gtpu.to_json()[key]
        state = gtpu.to_json().get(key) if gtpu is not None else None
        # What the node's engine has no step for is neither on nor open.
        if state not in (_word(wanted), SwitchState.NOT_APPLICABLE):
            found.add(field)
    for setting in (status.tuning.host or ()) if status.tuning else ():
        if f"host.{setting.name}" in decided and setting.found != setting.wanted:
            found.add(f"host.{setting.name}")
    return found


def _in_effect(statuses: Iterable[DataplaneStatus]) -> tuple[ObservedSetting, ...] | None:
    values: dict[str, Counter[str]] = {}
    for status in statuses:
        for field, value in _reported(status):
            values.setdefault(field, Counter())[value] += 1
    if not values:
        return None
    return tuple(
        ObservedSetting(
            field=field,
            values=tuple(
                ObservedValue(value=value, nodes=nodes)
                for value, nodes in sorted(
                    counter.most_common(_MOST_VALUES), key=lambda item: (-item[1], item[0])
                )
            ),
        )
        for field, counter in sorted(values.items())
    )


def _reported(status: DataplaneStatus) -> Iterator[tuple[str, str]]:
    if status.engine:
        yield "engine", status.engine
    if status.workers is not None:
        yield "runtime.workers", str(status.workers)
    if status.tuning is None:
        return
    if status.tuning.gtpu is not None:
        for key, value in status.tuning.gtpu.to_json().items():
            yield f"gtpu.{key}", str(value)
    for setting in status.tuning.host or ():
        yield f"host.{setting.name}", setting.found


def _word(value: object) -> str:
    """Return a switch of the tuning in the words of an engine."""
    if isinstance(value, bool):
        return SwitchState.ON if value else SwitchState.OFF
    return str(value)


def _joined(messages: Mapping[str, None]) -> str:
    shown = sorted(messages)[:_MOST_MESSAGES]
    more = f" (and {len(messages) - len(shown)} more)" if len(messages) > len(shown) else ""
    return " ".join(shown) + more


def _condition(
    tuning: DataplaneTuning, kind: ConditionType, holds: bool, reason: Reason, message: str, now: datetime
) -> Condition:
    return Condition(
        type=kind,
        status=ConditionStatus.TRUE if holds else ConditionStatus.FALSE,
        observed_generation=tuning.metadata.generation,
        last_transition_time=rfc3339(now),
        reason=Reason.AS_EXPECTED if holds else reason,
        message="" if holds else message,
    )


def _applied_condition(
    tuning: DataplaneTuning,
    matched: int,
    applied: int,
    pending: int,
    waiting: Mapping[str, int],
    missing: str,
    now: datetime,
) -> Condition:
    fields = ", ".join(f"{field} ({nodes})" for field, nodes in sorted(waiting.items())[:8])
    if not matched:
        reason, message = Reason.NO_NODES_MATCH, "nodeSelector matches no node that has a dataplane"
    elif missing:
        reason, message = Reason.UNSUPPORTED, missing
    elif pending:
        reason = Reason.RESTART_PENDING
        message = f"in effect on {applied} of {matched} nodes; {pending} wait for a restart; open: {fields}"
    else:
        reason = Reason.PROGRAMMING
        message = f"in effect on {applied} of {matched} nodes; open (number of nodes): {fields}"
    return _condition(
        tuning, ConditionType.TUNING_APPLIED, bool(matched) and applied == matched, reason, message, now
    )
