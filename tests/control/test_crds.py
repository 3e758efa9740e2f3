"""A real API server takes what is right and refuses what is wrong within one object, saying why."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.cluster.controlplane import ControlPlane

from vpp_operator.api.base import GROUP, VERSION
from vpp_operator.api.conditions import Condition, ConditionStatus, ConditionType, Reason
from vpp_operator.api.crds import KINDS
from vpp_operator.api.dataplane import (
    ClocksPerPacket,
    Dataplane,
    DataplaneProblem,
    DataplaneSpec,
    DataplaneStatus,
    DropCount,
    GtpuInEffect,
    ProgrammedCount,
    Rates,
    SwitchState,
    SyncedKind,
    Throughput,
    TuningInEffect,
)
from vpp_operator.api.tuning import DataplaneTuning, ResolvedGtpu, ResolvedTuning

CRDS = Path(__file__).parents[2] / "crds"
TIME = "2026-01-02T03:04:05Z"
NAMES = (f"t{number}" for number in itertools.count())

Json = dict[str, Any]


@pytest.fixture(scope="module")
def api(controlplane: ControlPlane) -> Iterator[client.CustomObjectsApi]:
    controlplane.kubectl("apply", "--server-side", "-f", str(CRDS))
    for model in KINDS:
        name = f"crd/{model.info.plural}.{GROUP}"
        controlplane.kubectl("wait", "--for=condition=Established", "--timeout=30s", name)
    objects = client.CustomObjectsApi(controlplane.client())
    deadline = time.monotonic() + 30
    while True:  # discovery follows the condition by a moment
        try:
            for model in KINDS:
                objects.list_cluster_custom_object(GROUP, VERSION, model.info.plural)
            break
        except client.ApiException:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield objects
    for model in (Dataplane, DataplaneTuning):
        objects.delete_collection_cluster_custom_object(GROUP, VERSION, model.info.plural)


def create(api: client.CustomObjectsApi, kind: str, spec: Json) -> Json:
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "metadata": {"name": next(NAMES)},
        "spec": spec,
    }
    plural = kind.lower() + "s"
    made = api.create_cluster_custom_object(
        GROUP, VERSION, plural, body, field_validation="Strict", field_manager="test"
    )
    assert isinstance(made, dict)
    return made


def refused(error: pytest.ExceptionInfo[client.ApiException]) -> str:
    assert error.value.status in (400, 422), error.value.body
    message = json.loads(error.value.body or "")["message"]
    assert isinstance(message, str)
    return message


def test_defaults_are_the_built_in_ones(api: client.CustomObjectsApi) -> None:
    made = Dataplane.model_validate(create(api, "Dataplane", {}))
    assert made.spec == DataplaneSpec()
    assert create(api, "DataplaneTuning", {})["spec"] == {"priority": 0}


def test_what_a_model_writes_is_taken_unchanged(api: client.CustomObjectsApi) -> None:
    spec = DataplaneSpec.model_validate(
        {
            "engine": "embedded",
            "interfaces": [{"name": "eth1", "driver": "af_packet", "role": "uplink"}],
            "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "reportStepSeconds": 30,
            "tuning": ResolvedTuning(gtpu=ResolvedGtpu(loop="dual")).to_json(),
        }
    )
    made = create(api, "Dataplane", spec.to_json())
    assert made["spec"] == spec.to_json()
    assert Dataplane.model_validate(made).spec == spec


GOOD = {
    "selector, all kinds of settings": {
        "nodeSelector": {
            "matchLabels": {"example.org/pool": "fast", "empty": ""},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]},
                {"key": "b", "operator": "DoesNotExist"},
            ],
        },
        "priority": -5,
        "engine": "vpp",
        "paused": True,
        "interfaces": [{"name": "eth1", "driver": "dpdk"}, {"name": "eth2.100"}],
        "gtpu": {"lookupCache": False, "loop": "single"},
        "runtime": {
            "workers": 4,
            "mainCore": 0,
            "hugepages": {"pageSize": "2Mi", "count": 512},
            "buffers": 65536,
            "rxQueues": 2,
            "capacity": {"sessions": 4194304, "tunnels": 1048576},
        },
        "host": {"mode": "Apply", "cpuGovernor": "performance", "maxCState": 0},
    },
    "embedded with a driver that it has": {
        "engine": "embedded",
        "interfaces": [{"name": "e", "driver": "auto"}],
    },
    "a driver that needs vpp, engine not decided": {"interfaces": [{"name": "e", "driver": "rdma"}]},
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_tuning_accepted(api: client.CustomObjectsApi, spec: Json) -> None:
    made = create(api, "DataplaneTuning", spec)
    assert made["spec"] == {"priority": 0} | spec
    # What the operator reads is what was written.
    assert DataplaneTuning.model_validate(made).spec.to_json() == {"priority": 0} | spec


BAD_TUNINGS = {
    "unknown engine": ({"engine": "dpdk"}, 'spec.engine: Unsupported value: "dpdk"'),
    "unknown loop": ({"gtpu": {"loop": "octo"}}, "spec.gtpu.loop: Unsupported value"),
    "unknown field": ({"gtpu": {"lookupCash": True}}, 'unknown field "spec.gtpu.lookupCash"'),
    "wrong type": ({"gtpu": {"prefetch": "yes"}}, "spec.gtpu.prefetch: Invalid value"),
    "no worker": ({"runtime": {"workers": 0}}, "spec.runtime.workers"),
    "too many workers": ({"runtime": {"workers": 65}}, "spec.runtime.workers"),
    "negative core": ({"runtime": {"mainCore": -1}}, "spec.runtime.mainCore"),
    "too few sessions": ({"runtime": {"capacity": {"sessions": 10}}}, "spec.runtime.capacity.sessions"),
    "page size": (
        {"runtime": {"hugepages": {"pageSize": "4Ki", "count": 1}}},
        "spec.runtime.hugepages.pageSize",
    ),
    "pages without a count": (
        {"runtime": {"hugepages": {"pageSize": "2Mi"}}},
        "spec.runtime.hugepages.count",
    ),
    "governor": ({"host": {"cpuGovernor": "fast"}}, "spec.host.cpuGovernor"),
    "C-state": ({"host": {"maxCState": 10}}, "spec.host.maxCState"),
    "priority": ({"priority": 10000000}, "spec.priority"),
    "unknown driver": ({"interfaces": [{"name": "e", "driver": "pcap"}]}, "spec.interfaces[0].driver"),
    "unknown role": ({"interfaces": [{"name": "e", "role": "down"}]}, "spec.interfaces[0].role"),
    "interface without a name": ({"interfaces": [{"driver": "auto"}]}, "spec.interfaces[0].name: Required"),
    "interface twice": ({"interfaces": [{"name": "e"}, {"name": "e", "driver": "auto"}]}, "Duplicate value"),
    "interface name too long": ({"interfaces": [{"name": "e" * 16}]}, "spec.interfaces[0].name"),
    "interface name with a slash": ({"interfaces": [{"name": "../e"}]}, "spec.interfaces[0].name"),
    "the link to the host": ({"interfaces": [{"name": "vpp0"}]}, "cannot be taken over"),
    "too many interfaces": ({"interfaces": [{"name": f"e{i}"} for i in range(17)]}, "spec.interfaces"),
    "embedded with dpdk": (
        {"engine": "embedded", "interfaces": [{"name": "a"}, {"name": "b", "driver": "dpdk"}]},
        "engine embedded takes interfaces with driver auto, af_packet or af_xdp only",
    ),
    "In without values": (
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        "values is needed with In and NotIn",
    ),
    "Exists with values": (
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
        "must be absent with Exists",
    ),
    "unknown operator": (
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}},
        "spec.nodeSelector.matchExpressions[0].operator",
    ),
    "value twice": (
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "b"]}]}},
        "Duplicate value",
    ),
    "no label value": (
        {"nodeSelector": {"matchLabels": {"a": "not a value"}}},
        "spec.nodeSelector.matchLabels",
    ),
    "no label key": ({"nodeSelector": {"matchLabels": {"a b": "c"}}}, "must be a label key"),
    "no label key in an expression": (
        {"nodeSelector": {"matchExpressions": [{"key": "-a", "operator": "Exists"}]}},
        "spec.nodeSelector.matchExpressions[0].key",
    ),
}


@pytest.mark.parametrize(("spec", "message"), BAD_TUNINGS.values(), ids=BAD_TUNINGS)
def test_tuning_refused(api: client.CustomObjectsApi, spec: Json, message: str) -> None:
    with pytest.raises(client.ApiException) as error:
        create(api, "DataplaneTuning", spec)
    assert message in refused(error)


CANONICAL = "must be an IPv4 or IPv6 prefix in canonical form"
BAD_DATAPLANES = {
    "unknown engine": ({"engine": "ovs"}, "spec.engine: Unsupported value"),
    "report step": ({"reportStepSeconds": 11}, "spec.reportStepSeconds: Unsupported value"),
    "no prefix": ({"podCIDRs": ["10.0.0.0"]}, CANONICAL),
    "no address": ({"podCIDRs": ["300.0.0.0/24"]}, CANONICAL),
    "IPv4 length": ({"podCIDRs": ["10.0.0.0/33"]}, CANONICAL),
    "IPv6 length": ({"podCIDRs": ["fd00::/129"]}, CANONICAL),
    "host bits": ({"podCIDRs": ["10.0.0.1/24"]}, CANONICAL),
    "IPv6 host bits": ({"podCIDRs": ["fd00::1/64"]}, CANONICAL),
    "not canonical": ({"podCIDRs": ["fd00:0::/64"]}, CANONICAL),
    "mapped": ({"podCIDRs": ["::ffff:10.0.0.0/120"]}, CANONICAL),
    "leading zero": ({"podCIDRs": ["010.0.0.0/24"]}, CANONICAL),
    "prefix twice": ({"podCIDRs": ["10.0.0.0/24", "10.0.0.0/24"]}, "Duplicate value"),
    "prefixes overlap": (
        {"podCIDRs": ["fd00::/64", "10.0.0.0/8", "10.1.0.0/24"]},
        "prefixes must not overlap",
    ),
    "embedded with rdma": (
        {"engine": "embedded", "interfaces": [{"name": "a", "driver": "rdma"}]},
        "engine embedded takes interfaces",
    ),
    "unknown field": ({"podCidrs": []}, 'unknown field "spec.podCidrs"'),
}


@pytest.mark.parametrize(("spec", "message"), BAD_DATAPLANES.values(), ids=BAD_DATAPLANES)
def test_dataplane_refused(api: client.CustomObjectsApi, spec: Json, message: str) -> None:
    with pytest.raises(client.ApiException) as error:
        create(api, "Dataplane", spec)
    assert message in refused(error)


STATUS = DataplaneStatus(
    observed_generation=1,
    conditions=(
        Condition(
            type=ConditionType.READY,
            status=ConditionStatus.TRUE,
            observed_generation=1,
            last_transition_time=TIME,
            reason=Reason.AS_EXPECTED,
            message="",
        ),
    ),
    engine="embedded",
    engine_version="0.1.0",
    agent_version="0.1.0",
    attach_mode="Routed",
    workers=1,
    services=ProgrammedCount.of(31, 32),
    tunnels=ProgrammedCount.of(0, 0),
    sessions=123456789012,
    throughput=Throughput(
        interval_start=TIME,
        interval_end="2026-01-02T03:04:15Z",
        total=Rates(rx_pps=1000, tx_pps=999, rx_bps=3_100_000_000, tx_bps=2_900_000_000),
        service=Rates(rx_pps=1000, tx_pps=999, rx_bps=3_100_000_000, tx_bps=2_900_000_000),
    ),
    clocks_per_packet=ClocksPerPacket(service=50, gtpu_decap=45, gtpu_encap=46),
    drops=(DropCount(reason="no-endpoint", packets=7),),
    synced=(SyncedKind(kind="Service", resource_version="4711"),),
    tuning=TuningInEffect(
        gtpu=GtpuInEffect(lookup_cache=SwitchState.ON), pending_restart=("runtime.workers",), host=()
    ),
    problem_count=70,
    problems=tuple(
        DataplaneProblem(
            kind="Service", namespace="a", name=f"s{i}", reason=Reason.CONFLICT, message="x", generation=3
        )
        for i in range(64)
    ),
)


def write_status(api: client.CustomObjectsApi, name: str, status: Json) -> Json:
    made = api.patch_cluster_custom_object_status(
        GROUP,
        VERSION,
        "dataplanes",
        name,
        {"status": status},
        field_validation="Strict",
    )
    assert isinstance(made, dict)
    return made


def test_status_is_a_subresource_and_printed(
    api: client.CustomObjectsApi, controlplane: ControlPlane
) -> None:
    name = create(api, "Dataplane", {})["metadata"]["name"]
    wanted = STATUS.to_json()
    made = write_status(api, name, wanted)
    assert made["status"] == wanted
    assert made["metadata"]["generation"] == 1, "a status write is no change of the spec"
    assert Dataplane.model_validate(made).status == STATUS

    header, row = controlplane.kubectl("get", "dp", name).splitlines()
    columns = "NAME ENGINE READY SERVICES TUNNELS SESSIONS RX-PPS TX-PPS AGE"
    assert " ".join(header.split()) == columns
    assert row.split()[:-1] == [name, "embedded", "True", "31/32", "0/0", "123456789012", "1000", "999"]
    header, row = controlplane.kubectl("get", "dataplanes", name, "-o", "wide").splitlines()
    wide = dict(zip(header.split(), row.split(), strict=True))
    assert (wide["RX-BPS"], wide["TX-BPS"]) == ("3100000000", "2900000000")
    clocks = [wide[f"{path}-CLOCKS"] for path in ("SERVICE", "DECAP", "ENCAP")]
    assert (clocks, wide["VERSION"]) == (["50", "45", "46"], "0.1.0")
    assert name in controlplane.kubectl("get", "vpp", "-o", "name")
    assert "Bits received per second" in controlplane.kubectl("explain", "dp.status.throughput.total.rxBps")


def condition(**changes: Any) -> Json:
    first: Json = STATUS.to_json()["conditions"][0]
    return first | changes


BAD_STATUS = {
    "65 problems": (
        {"problems": [{"kind": "Service", "name": "a", "reason": "Conflict", "message": ""}] * 65},
        "status.problems",
    ),
    "negative rate": (
        {
            "throughput": {
                "intervalStart": TIME,
                "intervalEnd": TIME,
                "total": {"rxPps": -1, "txPps": 0, "rxBps": 0, "txBps": 0},
            }
        },
        "status.throughput.total.rxPps",
    ),
    "rates without their interval": (
        {"throughput": {"total": {"rxPps": 1, "txPps": 0, "rxBps": 0, "txBps": 0}}},
        "status.throughput.intervalStart: Required",
    ),
    "condition twice": ({"conditions": [condition(), condition(status="False")]}, "Duplicate value"),
    "condition status": ({"conditions": [condition(status="Maybe")]}, "status.conditions[0].status"),
    "condition without a reason": ({"conditions": [condition(reason="")]}, "status.conditions[0].reason"),
    "condition time": (
        {"conditions": [condition(lastTransitionTime="now")]},
        "status.conditions[0].lastTransitionTime",
    ),
    "attach mode": ({"attachMode": "Magic"}, "status.attachMode: Unsupported value"),
    "kind synced twice": ({"synced": [{"kind": "Node", "resourceVersion": "1"}] * 2}, "Duplicate value"),
    "unknown field": ({"mood": "good"}, 'unknown field "status.mood"'),
}


@pytest.mark.parametrize(("status", "message"), BAD_STATUS.values(), ids=BAD_STATUS)
def test_status_refused(api: client.CustomObjectsApi, status: Json, message: str) -> None:
    name = create(api, "Dataplane", {})["metadata"]["name"]
    with pytest.raises(client.ApiException) as error:
        write_status(api, name, status)
    assert message in refused(error)


def test_server_side_apply_merges_conditions_by_type(
    api: client.CustomObjectsApi, controlplane: ControlPlane
) -> None:
    """The operator's condition and the agent's stand side by side, each kept by its writer."""
    name = create(api, "Dataplane", {})["metadata"]["name"]
    for manager, kind in (("agent", "Programmed"), ("operator", "Ready")):
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Dataplane",
            "metadata": {"name": name},
            "status": {"conditions": [condition(type=kind)]},
        }
        text = json.dumps(body)
        controlplane.kubectl(
            "apply",
            "--server-side",
            "--subresource=status",
            f"--field-manager={manager}",
            "-f",
            "-",
            stdin=text,
        )
    made = api.get_cluster_custom_object(GROUP, VERSION, "dataplanes", name)
    assert isinstance(made, dict)
    assert {c["type"] for c in made["status"]["conditions"]} == {"Programmed", "Ready"}
