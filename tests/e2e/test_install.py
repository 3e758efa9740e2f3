"""What a user sees of an installation: `helm test`, `kubectl get dataplanes`, the examples."""

from __future__ import annotations

import json
import os
import re
import time

import pytest
from tests.cluster import install
from tests.cluster.paths import REPOSITORY
from tests.e2e.environment import Environment

pytestmark = pytest.mark.product


def test_helm_test(environment: Environment) -> None:
    install.helm(environment.kubeconfig, "test", install.RELEASE, "--namespace", install.NAMESPACE)


def test_get_dataplanes_prints_the_columns(environment: Environment) -> None:
    header, *lines = environment.kubectl("get", "dataplanes").splitlines()
    wanted = ["NAME", "ENGINE", "READY", "SERVICES", "TUNNELS", "SESSIONS", "RX-PPS", "TX-PPS", "AGE"]
    assert header.split() == wanted
    assert sorted(line.split()[0] for line in lines) == sorted(node.name for node in environment.nodes)
    assert all(line.split()[2] == "True" for line in lines)


def test_the_engine_is_the_one_asked_for_or_says_why_not(environment: Environment) -> None:
    wanted = os.environ.get("VPP_OPERATOR_E2E_ENGINE", "auto")
    for dataplane in install.items(environment.kubectl, "dataplanes"):
        status = dataplane["status"]
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        assert ready["message"].lower().startswith(f"{status['engine']} "), ready
        if wanted != "auto":
            assert status["engine"] == wanted, ready
        elif status["engine"] != "vpp":
            assert re.search(r"VPP was not taken: \S+ \S+", ready["message"]), ready


def test_every_service_is_programmed_on_every_node(environment: Environment) -> None:
    def counts() -> set[str]:
        dataplanes = install.items(environment.kubectl, "dataplanes")
        return {dataplane["status"]["services"]["summary"] for dataplane in dataplanes}

    end = time.monotonic() + 60
    while True:
        (summary, *others) = counts()
        programmed, _, total = summary.partition("/")
        if not others and programmed == total and int(total) > 0:
            return
        assert time.monotonic() < end, f"programmed/total: {counts()}"
        time.sleep(1)


def test_foreign_objects_carry_no_mark_of_ours(environment: Environment) -> None:
    """No annotation and no finalizer on Nodes, Services and EndpointSlices; one label on Nodes is allowed."""
    for kind in ("nodes", "services", "endpointslices.discovery.k8s.io"):
        found = json.loads(environment.kubectl("get", kind, "--all-namespaces", "-o", "json"))["items"]
        for item in found:
            metadata = item["metadata"]
            marks = [*metadata.get("annotations", {}), *metadata.get("finalizers", ())]
            ours = [mark for mark in marks if "vpp" in mark and "meta.helm.sh" not in mark]
            assert ours == [], f"{kind} {metadata['name']}: {ours}"


def test_the_examples_apply(environment: Environment) -> None:
    examples = str(REPOSITORY / "examples")
    try:
        environment.kubectl("apply", "-f", examples)
        environment.kubectl("rollout", "status", "deployment/web", "--timeout=180s", timeout=200)
        tunings = install.items(environment.kubectl, "dataplanetunings")
        assert {tuning["metadata"]["name"] for tuning in tunings} >= {"default"}
    finally:
        environment.kubectl("delete", "--ignore-not-found", "-f", examples)
