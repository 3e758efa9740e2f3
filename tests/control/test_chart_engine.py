"""What the chart makes of the values that choose the engine."""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml
from tests.cluster import parts
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, run

CHART = REPOSITORY / "charts" / "vpp-operator"
VPP = "images.vpp.repository=vpp-operator/vpp"


def engine_pod(*settings: str) -> dict[str, Any]:
    """The pod of the engine DaemonSet, as helm renders it."""
    parts.ensure(["helm"])
    words = ["template", "release", CHART, "--show-only", "templates/engine.yaml"]
    for setting in ("apiServer.endpoints={192.0.2.1:6443}", *settings):
        words += ["--set", setting]
    environment = dict(os.environ, KUBECONFIG="/dev/null")
    rendered = run([parts.binary("helm"), *words], env=environment, timeout=60)
    spec: dict[str, Any] = yaml.safe_load(rendered)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("settings", [(), ("engine=auto",), ("engine=vpp",)])
def test_pods_that_may_run_vpp_bring_both_engines(settings: tuple[str, ...]) -> None:
    pod = engine_pod(VPP, *settings)
    (container,), (preflight,) = pod["containers"], pod["initContainers"]
    assert (container["name"], container["image"]) == ("vpp", "vpp-operator/vpp:0.1.0")
    assert container["args"][0] == "run" and "--interface=vpp1" in container["args"]
    assert container["livenessProbe"]["exec"]["command"] == ["/usr/bin/engine", "check"]
    wanted = settings[0] if settings else "engine=auto"
    assert {f"--{wanted}", "--brings-vpp", "--workers=1", "--sessions=262144"} <= set(preflight["args"])
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW", "IPC_LOCK", "SYS_NICE"]}
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert "privileged" not in security
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "512Mi"}


@pytest.mark.parametrize("settings", [(), (VPP, "engine=embedded")])
def test_pods_of_the_embedded_engine_have_no_more_rights_than_it_needs(settings: tuple[str, ...]) -> None:
    pod = engine_pod(*settings)
    (container,), (preflight,) = pod["containers"], pod["initContainers"]
    assert (container["name"], container["image"]) == ("embedded", "vpp-operator/embedded:0.1.0")
    assert container["args"][0] == "--interface=vpp1"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_RAW"]}
    assert "--brings-vpp" not in preflight["args"]
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "256Mi"}


@pytest.mark.parametrize(("size", "count", "memory"), [("2Mi", 256, "512Mi"), ("1Gi", 2, "2Gi")])
def test_huge_pages_are_requested_and_preflight_knows(size: str, count: int, memory: str) -> None:
    pod = engine_pod(VPP, f"vpp.hugepages.pageSize={size}", f"vpp.hugepages.count={count}")
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "100m", "memory": "512Mi", f"hugepages-{size}": memory}
    assert resources["limits"] == {f"hugepages-{size}": memory}
    assert f"--hugepages={size}:{count}" in pod["initContainers"][0]["args"]
    embedded = engine_pod(
        VPP, "engine=embedded", f"vpp.hugepages.pageSize={size}", f"vpp.hugepages.count={count}"
    )
    assert embedded["containers"][0]["resources"]["limits"] == {}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("engine=vpp",), "images.vpp.repository: empty"),
        (("engine=dpdk",), "engine"),
        (("vpp.hugepages.pageSize=4Ki", "vpp.hugepages.count=1"), "pageSize"),
        (("vpp.hugepages.pageSize=2Mi",), "hugepages"),
        (("vpp.hugepages.pageSize=2Mi", "vpp.hugepages.count=0"), "count"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(settings: tuple[str, ...], named: str) -> None:
    with pytest.raises(ClusterError, match=named):
        engine_pod(*settings)
