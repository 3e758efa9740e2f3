"""DataplaneTunings that select a node -> its settings, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpp_operator.api.dataplane import DataplaneSpec
from vpp_operator.api.resolve import matches, resolve
from vpp_operator.api.tuning import (
    DataplaneTuning,
    Engine,
    InterfaceDriver,
    LabelSelector,
    Loop,
    ResolvedTuning,
)

TIMES = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z")
LABELS = {"pool": "fast", "zone": "a"}


def tuning(name: str, age: int = 0, priority: int = 0, uid: str = "", **spec: Any) -> DataplaneTuning:
    """A tuning; ``age`` 0 is the oldest."""
    return DataplaneTuning.model_validate(
        {
            "metadata": {"name": name, "uid": uid or name, "creationTimestamp": TIMES[age]},
            "spec": {"priority": priority, **spec},
        }
    )


def test_without_tunings_the_built_in_defaults() -> None:
    resolution = resolve([], LABELS)
    assert resolution.spec == DataplaneSpec()
    assert resolution.spec.tuning == ResolvedTuning()
    assert (resolution.decided, resolution.matched, resolution.conflicts) == ({}, (), ())


def test_node_facts_stay() -> None:
    base = DataplaneSpec.model_validate({"podCIDRs": ["10.244.0.0/24"], "reportStepSeconds": 30})
    spec = resolve([tuning("a", paused=True)], LABELS, base).spec
    assert (spec.pod_cidrs, spec.report_step_seconds, spec.paused) == (("10.244.0.0/24",), 30, True)


def test_higher_priority_decides_field_by_field() -> None:
    resolution = resolve(
        [
            tuning("low", gtpu={"loop": "single", "prefetch": False}, runtime={"workers": 2}),
            tuning("high", 1, priority=5, gtpu={"loop": "dual"}, runtime={"capacity": {"sessions": 4096}}),
        ],
        LABELS,
    )
    gtpu, runtime = resolution.spec.tuning.gtpu, resolution.spec.tuning.runtime
    assert (gtpu.loop, gtpu.prefetch, gtpu.lookup_cache) == (Loop.DUAL, False, True)
    assert (runtime.workers, runtime.capacity.sessions, runtime.capacity.services) == (2, 4096, 16384)
    assert resolution.decided == {
        "gtpu.loop": "high",
        "gtpu.prefetch": "low",
        "runtime.workers": "low",
        "runtime.capacity.sessions": "high",
    }
    assert resolution.matched == ("high", "low")
    assert resolution.conflicts == (), "another priority is no conflict"


@pytest.mark.parametrize("reverse", [False, True])
def test_equal_priority_the_newer_is_in_conflict(reverse: bool) -> None:
    pair = [
        tuning("new", 1, gtpu={"skipInnerIpInput": True, "loop": "quad"}, engine="vpp"),
        tuning("old", 0, gtpu={"skipInnerIpInput": False, "loop": "quad"}),
    ]
    resolution = resolve(reversed(pair) if reverse else pair, LABELS)
    assert resolution.spec.tuning.gtpu.skip_inner_ip_input is False
    # What only the newer one speaks of is its to decide, and equal values are no conflict.
    assert resolution.spec.engine is Engine.VPP
    (conflict,) = resolution.conflicts
    assert (conflict.tuning, conflict.other, conflict.field) == ("new", "old", "gtpu.skipInnerIpInput")
    assert "priorities" in conflict.message


def test_same_second_the_smaller_uid_is_older() -> None:
    resolution = resolve(
        [tuning("a", uid="2", engine="vpp"), tuning("b", uid="1", engine="embedded")], LABELS
    )
    assert resolution.spec.engine is Engine.EMBEDDED
    assert [c.tuning for c in resolution.conflicts] == ["a"]


def test_a_conflict_below_a_decided_field_does_not_matter() -> None:
    resolution = resolve(
        [
            tuning("top", priority=1, runtime={"workers": 4}),
            tuning("a", runtime={"workers": 2}),
            tuning("b", 1, runtime={"workers": 3}),
        ],
        LABELS,
    )
    assert resolution.spec.tuning.runtime.workers == 4
    assert resolution.conflicts == ()


def test_hugepages_are_one_value() -> None:
    resolution = resolve(
        [
            tuning("a", runtime={"hugepages": {"pageSize": "2Mi", "count": 512}}),
            tuning("b", 1, runtime={"hugepages": {"pageSize": "1Gi", "count": 512}}),
        ],
        LABELS,
    )
    pages = resolution.spec.tuning.runtime.hugepages
    assert pages is not None and (pages.page_size, pages.count) == ("2Mi", 512)
    assert [c.field for c in resolution.conflicts] == ["runtime.hugepages"]


def test_interfaces_merge_by_name_and_field() -> None:
    resolution = resolve(
        [
            tuning("a", interfaces=[{"name": "eth2", "role": "uplink"}, {"name": "eth1"}]),
            tuning("b", priority=1, interfaces=[{"name": "eth2", "driver": "dpdk"}]),
        ],
        LABELS,
    )
    found = [(i.name, i.driver, i.role) for i in resolution.spec.interfaces]
    assert found == [("eth1", None, None), ("eth2", InterfaceDriver.DPDK, "uplink")]
    assert resolution.decided["interfaces[eth2].driver"] == "b"
    assert resolution.decided["interfaces[eth1]"] == "a"


def test_what_fits_each_but_not_the_node_is_left_out_and_said() -> None:
    """Each object passes the API server by itself; their sum would be refused as a Dataplane."""
    resolution = resolve(
        [
            tuning("engine", engine="embedded", priority=1),
            tuning("driver", interfaces=[{"name": "eth1", "driver": "dpdk"}]),
        ],
        LABELS,
    )
    (interface,) = resolution.spec.interfaces
    assert (interface.name, interface.driver) == ("eth1", None)
    (conflict,) = resolution.conflicts
    assert (conflict.tuning, conflict.other) == ("driver", "engine")
    assert conflict.field == "interfaces[eth1].driver" and "dpdk" in conflict.message

    resolution = resolve(
        [
            tuning("a", interfaces=[{"name": f"a{i}"} for i in range(10)]),
            tuning("b", 1, interfaces=[{"name": f"b{i}"} for i in range(10)]),
        ],
        LABELS,
    )
    assert len(resolution.spec.interfaces) == 16
    assert {c.tuning for c in resolution.conflicts} == {"b"}
    assert len(resolution.conflicts) == 4


SELECTORS: dict[str, tuple[dict[str, Any], bool]] = {
    "empty": ({}, True),
    "label": ({"matchLabels": {"pool": "fast"}}, True),
    "other value": ({"matchLabels": {"pool": "slow"}}, False),
    "absent label": ({"matchLabels": {"disk": ""}}, False),
    "In": ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}, True),
    "In, another": ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}, False),
    "In, absent": ({"matchExpressions": [{"key": "disk", "operator": "In", "values": [""]}]}, False),
    "NotIn": ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, False),
    "NotIn, absent": ({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["a"]}]}, True),
    "Exists": ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, True),
    "Exists, absent": ({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}, False),
    "DoesNotExist": ({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}, True),
    "DoesNotExist, there": ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, False),
    "all must hold": (
        {
            "matchLabels": {"pool": "fast"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}],
        },
        False,
    ),
}


@pytest.mark.parametrize(("selector", "expected"), SELECTORS.values(), ids=SELECTORS)
def test_selector(selector: dict[str, Any], expected: bool) -> None:
    assert matches(LabelSelector.model_validate(selector), LABELS) is expected
    assert bool(resolve([tuning("a", nodeSelector=selector)], LABELS).matched) is expected


def test_no_selector_selects_every_node() -> None:
    assert matches(None, {})


def refused(spec: dict[str, Any]) -> bool:
    """What the API server refuses in one object never gets here."""
    drivers = [interface.get("driver") for interface in spec.get("interfaces", [])]
    return spec.get("engine") == "embedded" and "dpdk" in drivers


specs = st.fixed_dictionaries(
    {},
    optional={
        "engine": st.sampled_from(("auto", "vpp", "embedded")),
        "paused": st.booleans(),
        "gtpu": st.fixed_dictionaries(
            {}, optional={"loop": st.sampled_from(("single", "dual")), "prefetch": st.booleans()}
        ),
        "runtime": st.fixed_dictionaries(
            {},
            optional={
                "workers": st.integers(1, 3),
                "capacity": st.fixed_dictionaries({}, optional={"tunnels": st.sampled_from((1024, 2048))}),
            },
        ),
        "interfaces": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(("e1", "e2"))},
                optional={"driver": st.sampled_from(("auto", "dpdk", "af_xdp"))},
            ),
            max_size=2,
            unique_by=lambda interface: interface["name"],
        ),
    },
).filter(lambda spec: not refused(spec))


@st.composite
def tunings(draw: st.DrawFn) -> list[DataplaneTuning]:
    count = draw(st.integers(0, 4))
    chosen: list[dict[str, Any]] = [draw(specs) for _ in range(count)]
    return [
        tuning(f"t{i}", draw(st.integers(0, 2)), draw(st.integers(0, 1)), **spec)
        for i, spec in enumerate(chosen)
    ]


@settings(deadline=None)
@given(tunings(), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_result_is_valid(found: list[DataplaneTuning], random: Any) -> None:
    first = resolve(found, LABELS)
    random.shuffle(found)
    assert resolve(found, LABELS) == first
    assert DataplaneSpec.model_validate(first.spec.to_json()) == first.spec
    if first.spec.engine is Engine.EMBEDDED:
        assert all(i.driver is not InterfaceDriver.DPDK for i in first.spec.interfaces)
    priorities = {t.metadata.name: t.spec.priority for t in found}
    for conflict in first.conflicts:
        assert conflict.tuning != conflict.other
        assert priorities[conflict.tuning] == priorities[conflict.other] or "embedded" in conflict.message
