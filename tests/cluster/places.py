"""Places: the network namespaces (and more) that stand for machines, and the links between them.

Every place hangs on one bridge, the underlay network, with an IPv4 and an IPv6 address. The namespaces have
no names on the machine; a place is reached through the pid of its first process, and is gone when that
process is.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import process
from tests.cluster.paths import PACKAGE
from tests.cluster.progress import ClusterError, run, wait_for


@dataclass(frozen=True)
class Underlay:
    """Addresses of the underlay network of the cluster ``name``.

    IPv4 comes from 198.18.0.0/15 (RFC 2544, for tests between networks): the machine itself has a link in
    it. Two clusters of different names have different networks.
    """

    name: str

    @property
    def octet(self) -> int:
        """What differs between clusters."""
        return zlib.crc32(self.name.encode()) % 250 + 1

    def ipv4(self, host: int) -> str:
        """IPv4 address of a host number (1..254)."""
        return f"198.18.{self.octet}.{host}"

    def ipv6(self, host: int) -> str:
        """IPv6 address of a host number."""
        return f"fd00:198:18:{self.octet:x}::{host:x}"

    @property
    def link(self) -> str:
        """Name of the machine's own link into the network."""
        return f"vpo-{self.octet:02x}"


@dataclass(frozen=True)
class Place:
    """One place. ``host`` is its host number on the underlay; ``directory`` holds its records and files."""

    name: str
    host: int
    directory: Path
    mark: str
    isolated: bool = False

    @property
    def pid(self) -> int:
        """Pid of its first process, as the machine sees it; 0 when the place is not there."""
        first = process.Recorded.read(self.directory / "init.pid")
        return first.pid if first is not None and first.alive else 0

    def create(self) -> None:
        """Make the namespaces and wait until they are set up."""
        if self.pid:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        spaces: list[object] = [
            "unshare",
            "--net",
            "--uts",
            "--ipc",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
        ]
        script = [sys.executable, "-I", PACKAGE / "place_init.py", "--hostname", self.name, "--ready", ready]
        if self.isolated:
            script += ["--var", self.directory / "var"]
        outer = process.start("unshare", [*spaces, *script], self.directory, mark=self.mark)

        def check() -> str:
            if not outer.alive:
                raise ClusterError(f"{self.name}: {process.tail('unshare', self.directory)}")
            return "" if ready.exists() else "its first process is not ready"

        wait_for(f"place {self.name}", check, 20, 0.02)
        process.record(int(ready.read_text()), self.directory / "init.pid")
        self.run("ip", "link", "set", "lo", "up")

    def destroy(self) -> None:
        """End the first process, and with it everything in the place."""
        # The daemons' outer halves (nsenter) first: a place ends only when its processes are reaped, which is
        # for them to do as long as they live.
        daemons = {path.stem for path in self.directory.glob("*.pid")} - {"init", "unshare"}
        for name in (*sorted(daemons), "init", "unshare"):
            process.stop(name, self.directory, seconds=3)

    def enter(self, *, network_only: bool = False) -> list[str]:
        """The words to put before a command so that it runs in the place."""
        if not self.pid:
            raise ClusterError(f"{self.name} does not run; `python -m tests.cluster up` starts the cluster")
        spaces = ["--net"] if network_only else ["--net", "--uts", "--ipc", "--mount", "--root", "--pid"]
        return ["nsenter", f"--target={self.pid}", *spaces, "--"]

    def run(self, *command: object, stdin: str | None = None, timeout: float | None = 60) -> str:
        """Run a command in the place; returns its output."""
        return run([*self.enter(), *command], stdin=stdin, timeout=timeout)

    def sysctl(self, settings: Mapping[str, int]) -> None:
        """Set values below /proc/sys/net."""
        lines = [f"echo {value} > /proc/sys/net/{name}\n" for name, value in settings.items()]
        self.run("sh", "-e", stdin="".join(lines))

    def forward(self) -> None:
        """Make the place a router for both families."""
        self.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv6/conf/default/forwarding": 1})

    def start(self, name: str, command: Sequence[object]) -> None:
        """Start a daemon in the place (also when a record of it exists: see ``daemon_runs``)."""
        words = [str(word) for word in command]
        process.start(name, [*self.enter(), *words], self.directory, mark=self.mark)

    def end_of(self, name: str) -> str:
        """Text that tells that a daemon ended, with its last words."""
        return f"{name} on {self.name} ended:\n{process.tail(name, self.directory)}"

    def daemon_runs(self, name: str) -> bool:
        """Whether the daemon ``name`` runs."""
        recorded = process.Recorded.read(self.directory / f"{name}.pid")
        return recorded is not None and recorded.alive


class Network:
    """The bridge with its gateway, in a place of its own, and the machine's link into it."""

    def __init__(self, underlay: Underlay, place: Place) -> None:
        self.underlay = underlay
        self.place = place

    def create(self) -> None:
        """Make the bridge. The gateway forwards nothing: what has no other way is answered as unreachable."""
        fresh = not self.place.pid
        self.place.create()
        if not fresh:
            return
        self.place.forward()
        net = self.underlay
        self.place.run(
            "ip",
            "-batch",
            "-",
            stdin=f"""link add fabric type bridge forward_delay 0
link set fabric up
address add {net.ipv4(1)}/24 dev fabric
address add {net.ipv6(1)}/64 dev fabric nodad
""",
        )
        if Path(f"/sys/class/net/{net.link}").exists():
            raise ClusterError(f"link {net.link} is there: another cluster has this network; choose a --name")
        peer = ["peer", "name", "machine", "netns", self.place.pid]
        run(["ip", "link", "add", net.link, "type", "veth", *peer])
        self.place.run("ip", "link", "set", "machine", "master", "fabric", "up")
        run(["ip", "address", "add", f"{net.ipv4(254)}/24", "dev", net.link])
        run(["ip", "link", "set", net.link, "up"])
        off = Path(f"/proc/sys/net/ipv6/conf/{net.link}/disable_ipv6")
        if off.exists() and off.read_text().strip() == "0":
            run(["ip", "address", "add", f"{net.ipv6(254)}/64", "dev", net.link, "nodad"])

    def attach(self, place: Place) -> None:
        """Create the place and connect it: eth0 with both addresses and default routes to the gateway."""
        fresh = not place.pid
        place.create()
        if not fresh:
            return
        net = self.underlay
        inside = [*self.place.enter(network_only=True), "ip"]
        run([*inside, "link", "add", place.name, "type", "veth", "peer", "name", "eth0", "netns", place.pid])
        run([*inside, "link", "set", place.name, "master", "fabric", "up"])
        place.sysctl({"ipv6/conf/all/accept_ra": 0, "ipv6/conf/default/accept_dad": 0})
        place.run(
            "ip",
            "-batch",
            "-",
            stdin=f"""link set eth0 up
address add {net.ipv4(place.host)}/24 dev eth0
address add {net.ipv6(place.host)}/64 dev eth0 nodad
route add default via {net.ipv4(1)}
route add ::/0 via {net.ipv6(1)}
""",
        )

    def destroy(self) -> None:
        """Remove the bridge's place; the machine's link goes with its other end."""
        self.place.destroy()
