"""Killed at every step of joining and of leaving the node's network: all is undone, and the node stays
connected."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.contract.node_gtpu_lab import GtpuLab
from tests.contract.node_lab import NODE, OUTSIDE, EchoServer, Lab, client, inside, sh, unique_prefix

from vpp_operator.node import NodeNetwork, NodeNetworkError, NodeSpec

PING = ("ping", "-n", "-i", "0.05", "-W", "1")

SNAPSHOT = """
ip rule; ip -6 rule
ip route show table all; ip -6 route show table all | sed 's/expires [0-9]*sec//'
ip neigh show proxy; ip -6 neigh show proxy
ip -br link | cut -d' ' -f1
nft -s list ruleset 2>/dev/null
sysctl -a 2>/dev/null | grep -E 'ipv[46].conf.eth0|ip_forward'
"""


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    """A node that is to take in all there is, GTP-U addresses and pools too."""
    with GtpuLab(f"{unique_prefix()}k", tmp_path / "journal.json") as made:
        made.masquerade()
        yield made


class Connected:
    """A TCP conversation and a ping between the outside and the node, all the time; every answer is waited
    for."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._stop = threading.Event()
        self.answers = 0
        self.slowest = 0.0
        self.error: Exception | None = None

    def __enter__(self) -> Connected:
        out = self._lab.names["out"]
        self._server = EchoServer(self._lab.names["node"], NODE[4], 7000)
        self._socket = client(out, NODE[4], socket.SOCK_STREAM)
        self._socket.connect((NODE[4], 7000))
        self._pings = [
            subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{self._lab.names[ns]}",
                    *["ping", "-n", "-i", "0.05", "-W", "1"],
                    address,
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for ns, address in (("node", OUTSIDE[4]), ("node", OUTSIDE[6]), ("out", NODE[6]))
        ]
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()
        return self

    def _talk(self) -> None:
        try:
            while not self._stop.is_set():
                begin = time.monotonic()
                self._socket.sendall(b"x")
                assert self._socket.recv(100)
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.answers += 1
                time.sleep(0.01)
        except Exception as exc:
            self.error = exc

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._server.__exit__()
        for ping in self._pings:
            ping.send_signal(signal.SIGINT)
            report, _ = ping.communicate(timeout=10)
            # The last request may still be under way when ping ends.
            summary = next(line for line in report.splitlines() if "received" in line).split()
            sent, received = int(summary[0]), int(summary[3])
            assert sent - received <= 1, report
        assert self.error is None, self.error
        assert self.answers > 10


def killed(lab: Lab, what: Callable[[NodeNetwork], object], step: int) -> bool:
    """Run in a child that gets SIGKILL before its step number ``step``; returns whether it came that far."""

    def run() -> bool:
        child = os.fork()
        if child == 0:
            steps = 0

            def on_step(text: str) -> None:
                nonlocal steps
                if steps == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                steps += 1

            try:
                what(NodeNetwork(lab.journal, on_step))
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    return inside(lab.names["node"], run)


def apply(spec: NodeSpec) -> Callable[[NodeNetwork], object]:
    return lambda network: network.apply(spec)


def test_killed_at_every_step_of_applying(lab):
    before = sh(lab.names["node"], SNAPSHOT)
    with Connected(lab):
        step = 0
        while killed(lab, apply(lab.spec()), step):
            lab.undo()
            assert sh(lab.names["node"], SNAPSHOT) == before, f"after a kill at step {step}"
            assert not lab.journal.exists()
            step += 1
        assert step > 20
        # The last one went through; now from a state that a kill left halfway.
        lab.undo()
        assert killed(lab, apply(lab.spec()), step // 2)
        assert lab.apply(verify=True) != ()
        assert lab.apply(verify=True) == ()
        lab.undo()
        assert sh(lab.names["node"], SNAPSHOT) == before


def test_killed_at_every_step_of_undoing(lab):
    before = sh(lab.names["node"], SNAPSHOT)
    with Connected(lab):
        step = 0
        while True:
            lab._network = None
            lab.apply()
            if not killed(lab, lambda network: network.undo(), step):
                break
            lab.undo()
            assert sh(lab.names["node"], SNAPSHOT) == before, f"after a kill at step {step}"
            step += 1
        assert step > 20
    assert sh(lab.names["node"], SNAPSHOT) == before


def test_undo_without_a_journal(lab):
    before = sh(lab.names["node"], SNAPSHOT)
    lab.apply()
    lab.journal.write_text("{damaged")
    lab.undo()
    assert sh(lab.names["node"], SNAPSHOT) == before


def test_a_link_of_another_is_left_alone(lab):
    sh(lab.names["node"], "ip link add vpp0 type bridge")
    before = sh(lab.names["node"], SNAPSHOT)
    with pytest.raises(NodeNetworkError, match="vpp0"):
        lab.apply()
    assert sh(lab.names["node"], SNAPSHOT) == before
