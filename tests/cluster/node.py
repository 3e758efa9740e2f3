"""A node: containerd, kubelet and the pod network in a place of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import parts, process
from tests.cluster.controlplane import POD_RANGES, ControlPlane
from tests.cluster.places import Place, Underlay
from tests.cluster.progress import ClusterError, run, wait_for

PAUSE_IMAGE = "docker.io/vpp-operator/pause:1"
CLUSTER_DNS = ("10.96.0.10", "fd00:10:96::a")
_SOCKET = "/run/containerd/containerd.sock"
_EVICTION_SIGNALS = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
_CGROUP_ROOTS = Path("/sys/fs/cgroup")

# Taken from the drop-in of a kubeadm node, without what needs systemd or a cgroup of its own per quality of
# service.
_CONTAINERD = """version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# The tracing plugins wait for a collector, NRI and the snapshotters that are not used only cost start-up.
disabled_plugins = [
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
# An unprivileged machine may not lower the score; the kubelet asks for it.
restrict_oom_score_adj = true
# A profile would be loaded into the machine's kernel and stay there.
disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


@dataclass(frozen=True)
class Node:
    """One node: its place, and ``index`` (1..) from which the pod subnets follow."""

    place: Place
    index: int
    underlay: Underlay
    control_plane: ControlPlane

    @property
    def name(self) -> str:
        """Name of the Node object."""
        return self.place.name

    @property
    def addresses(self) -> tuple[str, str]:
        """IPv4 and IPv6 address on the underlay."""
        return self.underlay.ipv4(self.place.host), self.underlay.ipv6(self.place.host)

    @property
    def pod_subnets(self) -> tuple[str, str]:
        """IPv4 and IPv6 range of the node's pods."""
        return f"10.244.{self.index}.0/24", f"fd00:10:244:{self.index:x}::/64"

    @property
    def cgroup(self) -> str:
        """Name of the cgroup below which the node's pods run."""
        return f"{self.place.mark}-{self.name}"

    # -- life --------------------------------------------------------------------------------------------

    def start(self, others: Sequence[Node]) -> None:
        """Start what does not run yet: pod network, containerd. The kubelet comes after the images."""
        self._write_files()
        self._join_networks(others)
        if not self.place.daemon_runs("containerd"):
            # The shim and runc are looked up in PATH.
            path = f"PATH={parts.binary('containerd').parent}:/usr/sbin:/usr/bin:/sbin:/bin"
            config = self.place.directory / "containerd.toml"
            self.place.start("containerd", ["env", path, parts.binary("containerd"), "--config", config])
        wait_for(f"containerd on {self.name}", self._containerd_problem, 60)

    def start_kubelet(self) -> None:
        """Start the kubelet; its Node object is made here, because it carries the pod subnets."""
        if self.place.daemon_runs("kubelet"):
            return
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name},
            "spec": {"podCIDRs": list(self.pod_subnets), "podCIDR": self.pod_subnets[0]},
        }
        self.control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(node))
        for controller in self.cgroup_directories():
            controller.mkdir(exist_ok=True)
        directory = self.place.directory
        arguments = [
            f"--config={directory / 'kubelet.json'}",
            f"--kubeconfig={self.control_plane.directory / f'kubelet-{self.name}.kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={','.join(self.addresses)}",
            "--root-dir=/var/lib/kubelet",
        ]
        self.place.start("kubelet", [parts.binary("kubelet"), *arguments])

    def stop_daemon(self, name: str) -> None:
        """End one daemon of the node (kubelet, containerd, kube-proxy); containers go on."""
        outer = process.Recorded.read(self.place.directory / f"{name}.pid")
        if outer is not None:
            for daemon in process.children(outer.pid) if outer.alive else ():
                daemon.end()
        process.stop(name, self.place.directory)

    def destroy(self) -> None:
        """End the node with all its containers, and remove their cgroups."""
        self.place.destroy()
        for controller in self.cgroup_directories():
            _remove_cgroups(controller)

    def start_proxy(self) -> None:
        """Start kube-proxy (nftables mode), for comparison; nothing starts it unasked."""
        if self.place.daemon_runs("kube-proxy"):
            return
        config = self.control_plane.kubeconfig_for_user("system:kube-proxy", file="kube-proxy")
        arguments = [
            f"--kubeconfig={config}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={POD_RANGES}",
            f"--hostname-override={self.name}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]
        self.place.start("kube-proxy", [parts.binary("kube-proxy"), *arguments])

    def stop_proxy(self) -> None:
        """Stop kube-proxy and take its rules away."""
        self.stop_daemon("kube-proxy")
        self.place.run(parts.binary("kube-proxy"), "--cleanup")

    # -- images ------------------------------------------------------------------------------------------

    def import_image(self, archive: Path) -> bool:
        """Import a docker-archive; returns False when this very file was imported before."""
        done = self.place.directory / "images" / archive.name
        stamp = f"{archive.resolve()} {archive.stat().st_mtime_ns}"
        if done.exists() and done.read_text() == stamp:
            return False
        self.place.run(*self._ctr(), "images", "import", "--local", archive, timeout=300)
        done.parent.mkdir(exist_ok=True)
        done.write_text(stamp)
        return True

    def tag_image(self, name: str, tag: str, further: str) -> None:
        """Give an image that is on the node a further tag."""
        self.place.run(*self._ctr(), "images", "tag", "--force", f"{name}:{tag}", f"{name}:{further}")

    def _ctr(self) -> list[object]:
        return [parts.binary("ctr"), "--address", _SOCKET, "--namespace", "k8s.io"]

    # -- details -----------------------------------------------------------------------------------------

    def _containerd_problem(self) -> str:
        if not self.place.daemon_runs("containerd"):
            raise ClusterError(self.place.end_of("containerd"))
        try:
            self.place.run(*self._ctr(), "version")
        except ClusterError as error:
            return str(error)
        return ""

    def _write_files(self) -> None:
        directory = self.place.directory
        cni = directory / "cni"
        cni.mkdir(exist_ok=True)
        # An overlay cannot lie on an overlay: then layers are copied.
        below = run(["stat", "--file-system", "--format=%T", directory]).strip()
        (directory / "containerd.toml").write_text(
            _CONTAINERD.format(
                socket=_SOCKET,
                snapshotter="native" if below == "overlayfs" else "overlayfs",
                pause=PAUSE_IMAGE,
                cni=cni,
            )
        )
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": subnet}] for subnet in self.pod_subnets],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }
        network = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "mtu": 1500, "ipMasq": False, "ipam": ipam},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        (cni / "10-pods.conflist").write_text(json.dumps(network, indent=2))
        (directory / "resolv.conf").write_text(f"nameserver {self.underlay.ipv4(1)}\n")
        user = f"system:node:{self.name}"
        self.control_plane.kubeconfig_for_user(user, ["system:nodes"], file=f"kubelet-{self.name}")
        serving = self.control_plane.authority_files.issue(
            f"serving-{self.name}", user, ["system:nodes"], [self.name, *self.addresses]
        )
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "x509": {"clientCAFile": str(self.control_plane.authority)},
                "anonymous": {"enabled": False},
            },
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "clusterDomain": "cluster.local",
            "clusterDNS": list(CLUSTER_DNS),
            "resolvConf": str(directory / "resolv.conf"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            # The machine's disk is not the node's: nothing is evicted or collected because it is full.
            "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
            "imageGCHighThresholdPercent": 100,
            "serializeImagePulls": False,
        }
        (directory / "kubelet.json").write_text(json.dumps(config, indent=2))

    def _join_networks(self, others: Sequence[Node]) -> None:
        """Routes to the other nodes' pods, and the firewall that a real node has."""
        done = self.place.directory / "network-of"
        if done.exists() and done.read_text() == str(self.place.pid):
            return
        self.place.forward()
        self.place.run("ip", "-batch", "-", stdin=pod_routes(others))
        for command, pods in zip(("iptables", "ip6tables"), POD_RANGES.split(","), strict=True):
            self.place.run(f"{command}-restore", stdin=firewall(pods))
        done.write_text(str(self.place.pid))

    def cgroup_directories(self) -> list[Path]:
        """The node's cgroup in the one hierarchy (v2) or in each controller's (v1)."""
        if (_CGROUP_ROOTS / "cgroup.controllers").exists():
            return [_CGROUP_ROOTS / self.cgroup]
        # In v1 a controller may be there under several names (cpu, cpu,cpuacct): links are the same place.
        mounted = [entry for entry in _CGROUP_ROOTS.iterdir() if entry.is_dir() and not entry.is_symlink()]
        return [entry / self.cgroup for entry in mounted]


def pod_routes(nodes: Sequence[Node]) -> str:
    """Routes to the pods of ``nodes`` through their addresses, as a batch for ip."""
    lines = []
    for node in nodes:
        for subnet, address in zip(node.pod_subnets, node.addresses, strict=True):
            lines.append(f"route replace {subnet} via {address}\n")
    return "".join(lines)


def firewall(pods: str) -> str:
    """Rules of a node with a CNI, for iptables-restore: what leaves the pod range is masqueraded, FORWARD
    drops what is not from or to a pod."""
    multicast = "ff00::/8" if ":" in pods else "224.0.0.0/4"
    return f"""*filter
:FORWARD DROP
:CNI-FORWARD -
-A FORWARD -j CNI-FORWARD
-A CNI-FORWARD -s {pods} -j ACCEPT
-A CNI-FORWARD -d {pods} -j ACCEPT
COMMIT
*nat
:CNI-POSTROUTING -
-A POSTROUTING -j CNI-POSTROUTING
-A CNI-POSTROUTING -s {pods} -d {pods} -j RETURN
-A CNI-POSTROUTING -s {pods} -d {multicast} -j RETURN
-A CNI-POSTROUTING -s {pods} -j MASQUERADE --random-fully
COMMIT
"""


def _remove_cgroups(top: Path) -> None:
    if not top.is_dir():
        return
    for directory in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        directory.rmdir()
    top.rmdir()
