"""The two-node cluster: what it consists of, up, down and status."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.cluster import addons, images, parts, process
from tests.cluster.controlplane import ControlPlane
from tests.cluster.mobile import MobileNetwork
from tests.cluster.node import Node, pod_routes
from tests.cluster.paths import run_directory
from tests.cluster.places import Network, Place, Underlay
from tests.cluster.progress import ClusterError, run, say, step, wait_for

DEFAULT_NAME = os.environ.get("VPP_OPERATOR_CLUSTER", "vpo")
_APISERVER_PORT = 6443
# /var and /run are private to a node, so what its daemons use from outside must not lie there.
_PRIVATE = ("/var/", "/run/", "/dev/", "/proc/", "/sys/")


@dataclass(frozen=True)
class Cluster:
    """A cluster by name; the object itself holds nothing, everything is in the run directory and the
    processes."""

    name: str = DEFAULT_NAME

    @property
    def directory(self) -> Path:
        """The run directory."""
        return run_directory(self.name)

    @property
    def mark(self) -> str:
        """What this cluster's processes and cgroups are marked with."""
        return f"vpp-operator-test-{self.name}"

    @cached_property
    def underlay(self) -> Underlay:
        """Addresses of the network between the places."""
        return Underlay(self.name)

    @cached_property
    def network(self) -> Network:
        """The bridge between the places."""
        return Network(self.underlay, self._place("fabric", 1))

    @cached_property
    def head(self) -> Place:
        """Where the control plane runs."""
        return self._place("control-plane", 10)

    @cached_property
    def outside(self) -> Place:
        """A machine outside the cluster, on the nodes' network."""
        return self._place("outside", 20)

    @cached_property
    def mobile(self) -> MobileNetwork:
        """A gNB and a host of the data network, on the nodes' network."""
        return MobileNetwork(self.underlay, self._place("gnb", 30), self._place("data", 40))

    @cached_property
    def machines(self) -> list[Place]:
        """Places that are no nodes."""
        return [self.head, self.outside, self.mobile.gnb, self.mobile.data]

    @cached_property
    def nodes(self) -> list[Node]:
        """Both nodes."""
        return [
            Node(
                self._place(f"node{index}", 10 + index, isolated=True),
                index,
                self.underlay,
                self.control_plane,
            )
            for index in (1, 2)
        ]

    @cached_property
    def control_plane(self) -> ControlPlane:
        """The control plane with all its components."""
        return ControlPlane(
            controller_manager=True,
            scheduler=True,
            directory=self.directory / "control-plane",
            address=self.underlay.ipv4(10),
            port=_APISERVER_PORT,
            advertise=True,
            enter=lambda: self.head.enter(network_only=True),
            mark=self.mark,
        )

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator; the server's address is reachable from the machine itself."""
        return self.control_plane.kubeconfig

    @property
    def running(self) -> bool:
        """Whether every place is there."""
        places = [self.network.place, *self.machines, *(node.place for node in self.nodes)]
        return all(place.pid for place in places)

    def node(self, name: str) -> Node:
        """A node by its name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"{name}: no such node; there are {', '.join(node.name for node in self.nodes)}")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator; returns its output."""
        return self.control_plane.kubectl(*arguments, stdin=stdin)

    # -- up ----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start everything that does not run yet, and wait until the nodes are Ready and DNS answers."""
        if f"{self.directory}/".startswith(_PRIVATE):
            raise ClusterError(
                f"{self.directory}: the nodes have a /var and /run of their own; set VPP_OPERATOR_RUN"
            )
        parts.ensure(["containerd"])
        archives = images.ensure(images.CLUSTER)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            if not self.running:
                self._down()  # what a crash left is of no use
            with step(f"cluster {self.name}: network"):
                self.network.create()
                for place in (*self.machines, *(node.place for node in self.nodes)):
                    self.network.attach(place)
                self.head.run("ip", "-batch", "-", stdin=pod_routes(self.nodes))
            with step(f"cluster {self.name}: control plane"):
                self.control_plane.start()
            with step(f"cluster {self.name}: containerd, images, kubelets"):
                for node in self.nodes:
                    node.start([other for other in self.nodes if other is not node])
                self.load(archives)
                for node in self.nodes:
                    node.start_kubelet()
                addons.apply(self.control_plane)
            with step(f"cluster {self.name}: nodes Ready, DNS running"):
                wait_for("the nodes are Ready", self._nodes_problem, 120, 0.5)
                addons.wait(self.control_plane)

    def load(self, archives: list[Path]) -> bool:
        """Import image archives on every node; returns whether a node had one of them not yet."""
        imported = [node.import_image(archive) for archive in archives for node in self.nodes]
        return any(imported)

    def start_proxy(self, name: str | None = None) -> None:
        """Start kube-proxy (nftables mode) on one node, or on every one."""
        self.control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(addons.proxy_access()))
        for node in self.nodes:
            if name in (None, node.name):
                node.start_proxy()

    def stop_proxy(self) -> None:
        """Stop kube-proxy on every node and take its rules away."""
        for node in self.nodes:
            node.stop_proxy()

    # -- down --------------------------------------------------------------------------------------------

    def down(self) -> None:
        """End everything and remove the run directory; fine when nothing runs, and after a crash."""
        if self.directory.exists():
            with self._exclusive():
                self._down()
            shutil.rmtree(self.directory)
        else:
            self._down()
        left = self.leftovers()
        if left:
            raise ClusterError("not removed: " + "; ".join(left))

    def _down(self) -> None:
        for node in self.nodes:
            node.destroy()
        self.control_plane.close()
        for place in reversed(self.machines):
            place.destroy()
        self.network.destroy()
        for stray in process.marked(self.mark):  # their records were lost
            stray.end(seconds=2)
        if Path(f"/sys/class/net/{self.underlay.link}").exists():
            run(["ip", "link", "delete", self.underlay.link])
        if self.directory.exists():
            for entry in self.directory.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry)

    def leftovers(self) -> list[str]:
        """What is still there of the cluster: processes, mounts, the link, cgroups."""
        found = [f"process {stray.pid}" for stray in process.marked(self.mark)]
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        found += [f"mount {line.split()[1]}" for line in mounts if str(self.directory) in line]
        if Path(f"/sys/class/net/{self.underlay.link}").exists():
            found.append(f"link {self.underlay.link}")
        found += [
            f"cgroup {path}" for node in self.nodes for path in node.cgroup_directories() if path.exists()
        ]
        return found

    # -- status ------------------------------------------------------------------------------------------

    def status(self) -> int:
        """Say what runs; returns 0 when everything does."""
        places = {
            self.network.place: ["unshare"],
            **{machine: ["unshare"] for machine in self.machines},
            **{node.place: ["unshare", "containerd", "kubelet"] for node in self.nodes},
        }
        fine = True
        for place, daemons in places.items():
            missing = [daemon for daemon in daemons if not place.daemon_runs(daemon)]
            fine = fine and not missing
            say(f"{place.name:14} {'runs' if not missing else 'stopped: ' + ', '.join(missing)}")
        if self.head.pid:
            try:
                say(self.kubectl("get", "nodes", "-o", "wide", "--request-timeout=5s"))
            except ClusterError as error:
                say(str(error))
                fine = False
        return 0 if fine else 1

    # -- details -----------------------------------------------------------------------------------------

    def _place(self, name: str, host: int, isolated: bool = False) -> Place:
        return Place(name, host, self.directory / name, self.mark, isolated)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _nodes_problem(self) -> str:
        for node in self.nodes:
            if not node.place.daemon_runs("kubelet"):
                raise ClusterError(node.place.end_of("kubelet"))
        items = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        ready = {
            item["metadata"]["name"]
            for item in items
            for condition in item.get("status", {}).get("conditions", ())
            if condition["type"] == "Ready" and condition["status"] == "True"
        }
        waiting = [node.name for node in self.nodes if node.name not in ready]
        return f"waiting for {', '.join(waiting)}" if waiting else ""
