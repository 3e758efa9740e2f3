"""Never two writers: operator processes under load, killed, stopped, cut off, asked to end.

Every request that may change something is in the API server's audit log, with the process that sent it. A
leader's term begins with its first write to the Lease and ends where the next leader's begins; no write may
lie outside.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.cluster.progress import ClusterError
from tests.control.operator_lab import (
    NAMESPACE,
    RELEASE,
    WAIT_SECONDS,
    Operator,
    Request,
    Wire,
    get,
    installed,
    make_node,
    requests,
    wait_for,
)

LEASE_S = 12
TIMES = {"LEASE_SECONDS": str(LEASE_S), "LEASE_RENEW_SECONDS": "5", "LEASE_RETRY_SECONDS": "1"}


class Load(threading.Thread):
    """Changes a tuning again and again, so that the leader always has something to write."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(daemon=True)
        self._plane = plane
        self._ended = threading.Event()
        self.changes = 0

    def run(self) -> None:
        while not self._ended.wait(0.1):
            patch = json.dumps({"spec": {"paused": self.changes % 2 == 0}})
            with contextlib.suppress(ClusterError):
                self._plane.kubectl("patch", "dataplanetuning", "load", "--type=merge", "-p", patch)
                self.changes += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leader")


@pytest.fixture(scope="module")
def plane(directory: Path) -> Iterator[ControlPlane]:
    with installed(directory, audit=True) as running:
        for number in range(1, 5):
            make_node(running, f"node-{number}", number=number)
        tuning = {
            "apiVersion": "vpp-operator.dev/v1alpha1",
            "kind": "DataplaneTuning",
            "metadata": {"name": "load"},
        }
        running.kubectl("apply", "-f", "-", stdin=json.dumps(tuning))
        load = Load(running)
        load.start()
        yield running
        load.end()
        assert load.changes > 20


@pytest.fixture
def operators() -> Iterator[list[Operator]]:
    running: list[Operator] = []
    yield running
    for operator in running:
        operator.end()


def sent_by(log: list[Request], name: str) -> list[Request]:
    return [request for request in log if f"({name}_" in request.agent]


def lease_writes(log: list[Request], name: str) -> list[Request]:
    return [r for r in sent_by(log, name) if r.resource == "leases" and r.status < 300]


def other_requests(log: list[Request], name: str) -> list[Request]:
    """Everything but the Lease that the process sent to change something, whether it was let or not."""
    return [r for r in sent_by(log, name) if r.resource != "leases"]


def assert_one_after_the_other(directory: Path, first: str, second: str) -> None:
    log = requests(directory / "audit.log")
    before, after = other_requests(log, first), other_requests(log, second)
    assert len(before) >= 5 and len(after) >= 5, "both must have had something to write"
    took_over = lease_writes(log, second)[0].at
    late = [request for request in before if request.at >= took_over]
    assert not late, f"{first} wrote after {second} led (from {took_over}): {late}"
    early = [request for request in after if request.at < took_over]
    assert not early, f"{second} wrote before it led: {early}"
    assert before[0].at > lease_writes(log, first)[0].at


def start_pair(
    plane: ControlPlane, directory: Path, operators: list[Operator], case: str, server: str = ""
) -> tuple[Operator, Operator]:
    """A leader that has written already, and a waiting replica."""
    leader = Operator(plane, directory, f"{case}-1", server=server, **TIMES)
    operators.append(leader)
    leader.wait_leading()
    waiting = Operator(plane, directory, f"{case}-2", **TIMES)
    operators.append(waiting)
    wait_for("the second waits", lambda: waiting.said("waiting for the Lease"))
    audit = directory / "audit.log"
    wait_for("the leader writes", lambda: len(other_requests(requests(audit), leader.name)) > 8)
    assert not other_requests(requests(audit), waiting.name)
    return leader, waiting


def settle(plane: ControlPlane, directory: Path, name: str) -> None:
    audit = directory / "audit.log"
    wait_for("the next leader writes", lambda: len(other_requests(requests(audit), name)) > 8)


def test_killed_leader_is_replaced(plane: ControlPlane, directory: Path, operators: list[Operator]) -> None:
    leader, waiting = start_pair(plane, directory, operators, "kill")
    leader.process.kill()
    began = time.monotonic()
    waiting.wait_leading()
    assert time.monotonic() - began > LEASE_S / 2, "a Lease that still held was taken"
    settle(plane, directory, waiting.name)
    assert_one_after_the_other(directory, leader.name, waiting.name)


def test_stopped_leader_writes_nothing_when_it_goes_on(
    plane: ControlPlane, directory: Path, operators: list[Operator]
) -> None:
    leader, waiting = start_pair(plane, directory, operators, "stop")
    leader.process.send_signal(signal.SIGSTOP)
    waiting.wait_leading()
    settle(plane, directory, waiting.name)
    leader.process.send_signal(signal.SIGCONT)
    assert leader.process.wait(WAIT_SECONDS) == 1
    settle(plane, directory, waiting.name)
    assert_one_after_the_other(directory, leader.name, waiting.name)
    holder = get(plane, "lease", RELEASE, "-n", NAMESPACE)["spec"]["holderIdentity"]
    assert holder.startswith(waiting.name), "the former leader released a Lease that was not its own"


def test_leader_that_cannot_reach_the_api_server_ends_in_time(
    plane: ControlPlane, directory: Path, operators: list[Operator]
) -> None:
    with Wire(plane.server) as wire:
        leader, waiting = start_pair(plane, directory, operators, "cut", f"https://127.0.0.1:{wire.port}")
        wire.cut()
        began = time.monotonic()
        waiting.wait_leading()
        took = time.monotonic() - began
        assert leader.process.wait(WAIT_SECONDS) == 1
        settle(plane, directory, waiting.name)
    assert took > LEASE_S / 2
    assert_one_after_the_other(directory, leader.name, waiting.name)


def test_asked_to_end_it_hands_over_at_once(
    plane: ControlPlane, directory: Path, operators: list[Operator]
) -> None:
    leader, waiting = start_pair(plane, directory, operators, "term")
    asked = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    leader.process.send_signal(signal.SIGTERM)
    waiting.wait_leading()
    released = lease_writes(requests(directory / "audit.log"), leader.name)[-1].at
    assert released >= asked, "the Lease was not released"
    assert leader.process.wait(WAIT_SECONDS) == 0
    settle(plane, directory, waiting.name)
    assert_one_after_the_other(directory, leader.name, waiting.name)


def test_api_server_restart_ends_no_leadership_for_good(
    plane: ControlPlane, directory: Path, operators: list[Operator]
) -> None:
    leader = Operator(plane, directory, "restart-1", **TIMES)
    operators.append(leader)
    leader.wait_leading()
    plane.stop_apiserver()
    # It cannot tell this from a cut network, behind which another replica may lead: it must give up.
    assert leader.process.wait(WAIT_SECONDS) == 1
    plane.start_apiserver()
    again = Operator(plane, directory, "restart-2", **TIMES)
    operators.append(again)
    again.wait_leading()
    settle(plane, directory, again.name)
