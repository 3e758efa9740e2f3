"""Conditions keep the time of their last change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from vpp_operator.api.conditions import Condition, ConditionStatus, Reason, merge_conditions, rfc3339

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def condition(
    kind: str, status: ConditionStatus, time: str, reason: Reason = Reason.AS_EXPECTED
) -> Condition:
    return Condition(type=kind, status=status, last_transition_time=time, reason=reason, message="")


def test_time_changes_with_the_status_only() -> None:
    before = [
        condition("Ready", ConditionStatus.TRUE, OLD),
        condition("Programmed", ConditionStatus.TRUE, OLD),
        condition("Gone", ConditionStatus.TRUE, OLD),
    ]
    wanted = [
        condition("Ready", ConditionStatus.TRUE, NEW, Reason.PROBLEMS),
        condition("Programmed", ConditionStatus.FALSE, NEW),
        condition("Degraded", ConditionStatus.FALSE, NEW),
    ]
    merged = merge_conditions(before, wanted)
    assert [(c.type, c.last_transition_time) for c in merged] == [
        ("Degraded", NEW),
        ("Programmed", NEW),
        ("Ready", OLD),
    ]
    assert merged[2].reason == Reason.PROBLEMS
    assert merge_conditions(merged, reversed(wanted)) == merged


def test_times_as_the_api_server_writes_them() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-01-02T01:04:05Z"
    assert rfc3339(datetime(2026, 1, 2, tzinfo=UTC)) == NEW
