"""Planning: what it makes is what is wanted, and a second plan is empty, for every pair of states."""

from __future__ import annotations

import copy

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.agent_memory import MemoryDataplane
from tests.unit.agent_records import Tables, record_sets

from vpp_operator.agent.plan import Plan, acknowledge, add_keys, plan_all
from vpp_operator.dataplane.protocol import Failure
from vpp_operator.dataplane.records import KEY_SIZE, Table, digest


def digests(tables: Tables) -> dict[Table, dict[bytes, int]]:
    return {table: {k: digest(r) for k, r in records.items()} for table, records in tables.items()}


@given(record_sets(), record_sets())
@settings(max_examples=300)
async def test_applying_the_plan_reaches_the_desired_state(before: Tables, desired: Tables) -> None:
    dataplane = MemoryDataplane(tables=copy.deepcopy(before), connected=True)
    actual = digests(before)
    plan = plan_all(desired, actual)
    failures = await dataplane.apply(plan.batch())
    assert failures == []
    assert dataplane.tables == desired
    acknowledge(plan, failures, actual)
    assert actual == digests(desired)
    assert len(plan_all(desired, actual)) == 0


@given(record_sets(), record_sets())
async def test_an_equal_record_is_never_sent(before: Tables, desired: Tables) -> None:
    plan = plan_all(desired, digests(before))
    for table, records in plan.upserts.items():
        for record in records:
            assert before[table].get(record[: KEY_SIZE[table]]) != record
    for table, keys in plan.deletes.items():
        # A UE prefix that goes to another tunnel is let go of first.
        moved = {k for k in keys if table is Table.GTPU_UE and before[table][k] != desired[table].get(k)}
        assert not (set(keys) - moved) & desired[table].keys()


@given(record_sets(), record_sets(), st.sets(st.sampled_from(list(Table))))
async def test_other_tables_are_left_alone(before: Tables, desired: Tables, tables: set[Table]) -> None:
    plan = plan_all(desired, digests(before), tables)
    assert plan.upserts.keys() | plan.deletes.keys() <= tables


@given(record_sets(), record_sets(), st.data())
async def test_a_refused_record_stays_as_it_was(before: Tables, desired: Tables, data: st.DataObject) -> None:
    actual = digests(before)
    plan = plan_all(desired, actual)
    keys = [(t, r[: KEY_SIZE[t]]) for t, records in plan.upserts.items() for r in records]
    keys += [(t, k) for t, deleted in plan.deletes.items() for k in deleted]
    failed = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    was = {key: actual[key[0]].get(key[1]) for key in keys}
    acknowledge(plan, [Failure(t, k, -28) for t, k in failed], actual)
    again = plan_all(desired, actual)
    planned = {(t, r[: KEY_SIZE[t]]) for t, records in again.upserts.items() for r in records}
    planned |= {(t, k) for t, deleted in again.deletes.items() for k in deleted}
    assert planned == failed
    assert all(actual[t].get(k) == was[t, k] for t, k in failed)


@given(record_sets(), record_sets())
async def test_planning_key_by_key_is_planning_at_once(before: Tables, desired: Tables) -> None:
    actual = digests(before)
    pieces = Plan()
    for table in Table:
        for key in sorted(desired[table].keys() | actual[table].keys()):
            add_keys(pieces, table, [key], desired[table], actual[table])
    assert pieces == plan_all(desired, actual)
