"""The tooling of the test cluster: what can be told without starting one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster import debian, parts, process
from tests.cluster.node import firewall
from tests.cluster.places import Underlay
from tests.cluster.progress import ClusterError, run
from tests.cluster.traffic import Outcome
from tests.conftest import allowed_skips


def test_every_part_names_its_version_and_a_directory_that_follows_its_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VPP_OPERATOR_CACHE", str(tmp_path))
    for part in parts.PARTS.values():
        assert part.version.startswith("v"), part.name
        assert (part.source / "go.sum").exists(), part.name
        assert part.directory.name.startswith(f"{part.name}-{part.version}-")
    changed = parts.Part("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "./other"}, 1)
    assert changed.directory != parts.PARTS["etcd"].directory
    with pytest.raises(ClusterError, match="parts kubernetes"):
        parts.binary("kubelet")


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ClusterError, match="kubernets: no such part; there are etcd, kubernetes"):
        parts.ensure(["kubernets"])


def test_kubernetes_modules_are_all_of_one_release() -> None:
    for name in ("kubernetes", "agnhost"):
        part = parts.PARTS[name]
        staging = "v0" + part.version[2:]
        lines = (part.source / "go.mod").read_text().splitlines()
        replaced = [line.split() for line in lines if "=>" in line]
        assert replaced and all(words[-1] == staging and words[0] == words[2] for words in replaced)


def test_debian_packages_are_names() -> None:
    names = debian.packages()
    assert len(names) == len(set(names)) and {"runc", "buildah", "nftables"} <= set(names)
    assert all(name == name.strip().lower() and " " not in name for name in names)


def test_firewall_masquerades_what_leaves_the_pods_of_its_family() -> None:
    four, six = firewall("10.244.0.0/16"), firewall("fd00:10:244::/56")
    for text, pods in ((four, "10.244.0.0/16"), (six, "fd00:10:244::/56")):
        lines = text.splitlines()
        assert ":FORWARD DROP" in lines
        within = lines.index(f"-A CNI-POSTROUTING -s {pods} -d {pods} -j RETURN")
        assert within < lines.index(f"-A CNI-POSTROUTING -s {pods} -j MASQUERADE --random-fully")
    assert "224.0.0.0/4" in four and "ff00::/8" in six


def test_clusters_of_other_names_have_other_networks() -> None:
    networks = {Underlay(name).ipv4(1) for name in ("vpo", "e2e", "demo")}
    assert len(networks) == 3
    assert all(len(Underlay(name).link) <= 15 for name in ("vpo", "a" * 60))


def test_outcome_tells_what_is_wrong() -> None:
    fine = Outcome(4, 4, {"a": 3, "b": 1}, {})
    assert fine.problem({"a", "b"}) == "" and fine.problem() == ""
    assert fine.problem({"a", "b", "c"}) == "never answered: c"
    assert fine.problem({"a"}) == "answered by no endpoint: b"
    assert (
        Outcome(4, 3, {"a": 3}, {"timed out": 1}).problem() == "3 of 4 requests were answered (1 x timed out)"
    )
    assert Outcome(0, 0, {}, {}).problem() == "0 of 0 requests were answered"


def test_allowed_skips_are_patterns_with_reasons() -> None:
    text = "# comment\n\ntests/contract/*vpp*: no VPP on this machine\n"
    assert allowed_skips(text) == [("tests/contract/*vpp*", "no VPP on this machine")]


def test_a_failed_command_says_what_it_printed() -> None:
    with pytest.raises(ClusterError, match=r"exit status 3(?s:.*)the reason"):
        run(["sh", "-c", "echo the reason >&2; exit 3"])
    with pytest.raises(ClusterError, match="command not found"):
        run(["no-such-command-anywhere"])


def test_a_daemon_is_ended_by_its_own_pid_and_start_time(tmp_path: Path) -> None:
    mark = f"unit-{os.getpid()}"
    started = process.start("sleeper", ["sleep", "60"], tmp_path, mark=mark)
    try:
        assert started.alive and process.Recorded.read(tmp_path / "sleeper.pid") == started
        assert started in process.marked(mark)
        assert not process.Recorded(started.pid, started.started + 1).alive, "a reused pid is another process"
    finally:
        process.stop("sleeper", tmp_path)
    assert not started.alive and process.marked(mark) == [] and not (tmp_path / "sleeper.pid").exists()


def test_a_daemon_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    started = process.start("stubborn", ["sh", "-c", script], tmp_path, mark="unit")
    while "ready" not in process.tail("stubborn", tmp_path):
        pass
    started.end(seconds=0.2)
    assert not started.alive


def test_the_command_line_passes_words_through() -> None:
    command = [sys.executable, "-m", "tests.cluster", "step", "counting", "sh", "-c", "exit 7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7 and "--> counting" in done.stdout and "failed after" in done.stdout
