"""A mobile network beside the cluster: a gNB with users behind it, and a host of the data network.

Both are machines outside the cluster (:class:`tests.cluster.places.Place`) that run gnb_program.py.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.cluster.paths import PACKAGE
from tests.cluster.places import Place, Underlay
from tests.cluster.progress import ClusterError, wait_for

_UE_PROGRAM = (sys.executable, "-I", PACKAGE / "ue_program.py")

N3 = "192.0.2.{}"
"""IPv4 network between gNB and nodes (the one of examples/gtpu-tunnel.yaml), on the same wire as the rest."""

PORT = 7000
"""Port of the data-network host, UDP."""

STREAM_PORT = 7001
"""Its port for streams, TCP."""


@dataclass(frozen=True)
class Bearer:
    """A user's way: the tunnel as the gNB knows it, and whom the user talks to.

    ``at``: own address -> TEID and QFI (None: no PDU Session Container) of downlink packets there.
    """

    local: str
    uplink_teid: int
    at: dict[str, tuple[int, int | None]]
    ue: str
    host: str


@dataclass(frozen=True)
class Flow:
    """What came of a flow; ``arrived``: answers by own address, ``seen``: clients that the host saw."""

    sent: int
    answered: int
    errors: dict[str, int]
    arrived: dict[str, int]
    seen: dict[str, int]
    counts: dict[str, int]

    def problem(self, ue: str) -> str:
        """What is wrong, "" if nothing."""
        if self.errors:
            return ", ".join(f"{count} x {error}" for error, count in self.errors.items())
        if not self.sent or self.answered != self.sent:
            return f"{self.answered} of {self.sent} datagrams came back"
        strange = self.seen.keys() - {ue}
        return f"the host saw {', '.join(sorted(strange))} instead of {ue}" if strange else ""


class MobileNetwork:
    """The gNB's and the data network's machine. The gNB has two addresses in each family: IPv4 of the network
    N3, which the nodes get addresses of too, IPv6 of the underlay network."""

    def __init__(self, underlay: Underlay, gnb: Place, data: Place) -> None:
        self._underlay = underlay
        self.gnb = gnb
        self.data = data
        self.gnb4 = (N3.format(30), N3.format(31))
        self.gnb6 = (underlay.ipv6(30), underlay.ipv6(31))
        self.radio = N3.format(32)
        """Address of the gNB for users with a machine of their own."""
        self.data4 = underlay.ipv4(40)
        self.data6 = underlay.ipv6(40)

    def start(self, nodes: Sequence[Place]) -> None:
        """Connect everything to N3 and start both programs, unless it is so already."""
        for place in (*nodes, self.gnb, self.data):
            place.run("ip", "address", "replace", f"{N3.format(place.host)}/24", "dev", "eth0")
        for address in (self.gnb4[1], self.radio):
            self.gnb.run("ip", "address", "replace", f"{address}/24", "dev", "eth0")
        self.gnb.run("ip", "address", "replace", f"{self.gnb6[1]}/64", "dev", "eth0", "nodad")
        program = [sys.executable, "-I", PACKAGE / "gnb_program.py"]
        if not self.gnb.daemon_runs("gnb"):
            self.gnb.start("gnb", [*program, "gnb", self._control, *self.gnb4, *self.gnb6])
        if not self.data.daemon_runs("data"):
            self.data.start("data", [*program, "data", PORT])
        if not self.data.daemon_runs("streams"):
            self.data.start("streams", [*_UE_PROGRAM, "serve", STREAM_PORT])
        wait_for("the gNB simulator", self._gnb_problem, 20, 0.1)

    def disconnect(self, nodes: Sequence[Place]) -> None:
        """Take the nodes off N3."""
        for place in nodes:
            place.run("ip", "address", "delete", f"{N3.format(place.host)}/24", "dev", "eth0")

    def route(self, pool: str, via: str) -> None:
        """Send the users' prefix from the data network to a node."""
        source = self.data6 if ":" in pool else self.data4
        self.data.run("ip", "route", "replace", pool, "via", via, "src", source)

    def flow(
        self, bearer: Bearer, rate: float, seconds: float, *, stream: bool = False, size: int = 16
    ) -> Flow:
        """A user's datagrams to the data-network host and back; ``stream``: many down for one up."""
        request: dict[str, Any] = {
            "local": bearer.local,
            "uplinkTeid": bearer.uplink_teid,
            "at": bearer.at,
            "ue": bearer.ue,
            "host": bearer.host,
            "port": PORT,
            "rate": rate,
            "seconds": seconds,
            "stream": stream,
            "size": size,
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(seconds + 30)
            control.connect(self._control)
            with control.makefile("rw") as lines:
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = json.loads(lines.readline())
        if "failed" in answer:
            raise ClusterError(f"gNB simulator: {answer['failed']}")
        return Flow(**answer)

    def user(self, local: str, teids: tuple[int, int], ue: Sequence[str], *command: object) -> str:
        """Run a command on a user's machine behind :attr:`radio`; returns its output. ``teids``: of the
        uplink at ``local``, and of the downlink."""
        addresses = [f"--address={address}" for address in ue]
        tunnel = ("ue", *addresses, self.radio, local, *teids)
        return self.gnb.run(*_UE_PROGRAM, *tunnel, *command, timeout=120)

    def stream(self, local: str, teids: tuple[int, int], ue: str, blocks: int) -> str:
        """Send so many blocks of 64 KiB by TCP from a user's machine to the data network, and as many back;
        returns what is wrong, "" if nothing."""
        host = self.data6 if ":" in ue else self.data4
        found = self.user(local, teids, [ue], *_UE_PROGRAM, "fetch", host, STREAM_PORT, blocks).strip()
        return "" if found == f"{blocks} 0 0" else f"blocks, wrong there, wrong here: {found}"

    def frames(self, local: str, teids: tuple[int, int], count: int) -> str:
        """Send so many Ethernet frames through a tunnel; returns how many came back."""
        return self.gnb.run(*_UE_PROGRAM, "frames", self.radio, local, *teids, count, timeout=120).strip()

    def echo_frames(self, node: Place, interface: str, vlan: int) -> None:
        """Be an Ethernet host on a node: frames of a VLAN are sent back."""
        node.start("frames", [*_UE_PROGRAM, "echo", interface, vlan])

    @property
    def _control(self) -> str:
        return str(self.gnb.directory / "control")

    def _gnb_problem(self) -> str:
        if not self.gnb.daemon_runs("gnb"):
            raise ClusterError(self.gnb.end_of("gnb"))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.connect(self._control)
        except OSError as error:
            return str(error)
        return ""
