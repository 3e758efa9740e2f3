"""The cluster of the end-to-end tests, with the chart installed.

By default a cluster of their own ("e2e", or VPP_OPERATOR_E2E_CLUSTER), ended afterwards; VPP_OPERATOR_KEEP=1
keeps it for the next run.
With KUBECONFIG the tests run on that cluster, whose images have to be there, and install the chart unless it
is. VPP_OPERATOR_E2E_ENGINE=vpp (or embedded, auto) asks for an engine; without it the chart decides, and VPP
is there for it where VPP_PREFIX names one or `vpp` is on PATH.
With VPP_OPERATOR_E2E_PROXY=kube-proxy nothing is installed and kube-proxy serves: the same tests then judge
themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.cluster import images, install, parts, vpp
from tests.cluster.cluster import Cluster
from tests.cluster.places import Place
from tests.cluster.progress import ClusterError, wait_for
from tests.e2e.environment import NAMESPACE, Environment
from tests.e2e.node_state import NodeState, node_state

COMPARED = os.environ.get("VPP_OPERATOR_E2E_PROXY") == "kube-proxy"
ENGINE = os.environ.get("VPP_OPERATOR_E2E_ENGINE", "")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "product: needs the chart, not just something that serves Services")
    config.addinivalue_line("markers", "own_cluster: looks into the nodes or changes them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("product") and COMPARED:
            item.add_marker(pytest.mark.skip(reason="kube-proxy serves here, for comparison"))
        if ENGINE == "vpp" and vpp.missing() and not os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason=f"VPP_OPERATOR_E2E_ENGINE=vpp: {vpp.missing()}"))
        if item.get_closest_marker("own_cluster") and os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason="not on a foreign cluster (KUBECONFIG)"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what the product said of itself then: afterwards the cluster is gone."""
    report = yield
    environment = getattr(item, "funcargs", {}).get("environment")
    if report.failed and call.when == "call" and isinstance(environment, Environment) and not COMPARED:
        report.sections.append(("of the product", environment.product_says()))
    return report


@pytest.fixture(scope="session")
def bare() -> Iterator[Environment]:
    """The cluster before anything is installed."""
    parts.ensure(["kubernetes", "helm"])
    foreign = os.environ.get("KUBECONFIG")
    if foreign:
        yield Environment(Path(foreign), None)
        return
    cluster = Cluster(os.environ.get("VPP_OPERATOR_E2E_CLUSTER", "e2e"))
    archives = [] if COMPARED else images.ensure(images.product())
    try:
        cluster.up()
        cluster.load(archives)
        yield Environment(cluster.kubeconfig, cluster)
    finally:
        if not os.environ.get("VPP_OPERATOR_KEEP"):
            cluster.down()


@pytest.fixture(scope="session")
def states_before(bare: Environment) -> dict[str, NodeState]:
    """What the nodes looked like before the chart was installed (own cluster only)."""
    if bare.own is None:
        return {}
    for node in bare.own.nodes:
        # The kubelet makes rules of its own a moment after it has started.
        wait_for(f"the kubelet's rules on {node.name}", partial(_kubelet_problem, node.place), 60)
    return {node.name: node_state(node.place) for node in bare.own.nodes}


def _kubelet_problem(place: Place) -> str:
    rulesets = [place.run(f"{command}-save") for command in ("iptables", "ip6tables")]
    return "" if all("KUBE-KUBELET-CANARY" in rules for rules in rulesets) else "no canary chain yet"


@pytest.fixture(scope="session")
def environment(bare: Environment, states_before: dict[str, NodeState]) -> Environment:
    """The cluster with the chart installed and everything Ready."""
    if COMPARED:
        assert bare.own is not None
        bare.own.start_proxy()
    else:
        install.install(bare.kubeconfig)
        try:
            install.wait_ready(bare.kubectl, len(bare.nodes))
        except ClusterError as error:
            pytest.exit(f"the chart did not become Ready: {error}", returncode=1)
    bare.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")  # of a run that was killed
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    bare.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    return bare


@pytest.fixture(params=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest, environment: Environment) -> str:
    """Every test that asks for it runs once in each family."""
    name: str = request.param
    if any(name not in node.addresses for node in environment.nodes):
        pytest.skip(f"the cluster's nodes have no {name} address")
    return name
