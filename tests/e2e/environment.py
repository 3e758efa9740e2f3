"""The cluster that the end-to-end tests run on: one of their own, or any other one that KUBECONFIG names."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.cluster import images, install, parts
from tests.cluster.cluster import Cluster
from tests.cluster.progress import ClusterError, run
from tests.cluster.traffic import Client, client_program, place_client, pod_client

NAMESPACE = "e2e"
_HERE = Path(__file__).resolve().parent
SERVER_PROGRAM = (_HERE / "server_program.py").read_text()
HOLDER_PROGRAM = (_HERE / "holder_program.py").read_text()


@dataclass(frozen=True)
class NodeInfo:
    """A node of the cluster and its addresses by family ("IPv4", "IPv6")."""

    name: str
    addresses: dict[str, str]


@dataclass
class Environment:
    """Where tests run. ``own`` is the cluster in namespaces, None for a foreign one."""

    kubeconfig: Path
    own: Cluster | None
    _made: set[str] = field(default_factory=set)

    # -- the cluster -------------------------------------------------------------------------------------

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl; returns its output."""
        command = [parts.binary("kubectl"), "--kubeconfig", self.kubeconfig, *words]
        return run(command, stdin=stdin, timeout=timeout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects in the tests' namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", stdin=json.dumps(listed))

    def delete(self, *names: str) -> None:
        """Delete objects (kind/name) of the tests' namespace and wait until they are gone."""
        self.kubectl("delete", "--namespace", NAMESPACE, "--ignore-not-found", "--grace-period=1", *names)

    def items(self, kind: str, *options: str) -> list[dict[str, Any]]:
        """Objects of the tests' namespace (or of none)."""
        return install.items(self.kubectl, kind, "--namespace", NAMESPACE, *options)

    @cached_property
    def nodes(self) -> list[NodeInfo]:
        """The nodes, in the order of their names."""
        found = []
        for node in install.items(self.kubectl, "nodes"):
            addresses: dict[str, str] = {}
            for entry in node["status"]["addresses"]:
                if entry["type"] == "InternalIP":
                    addresses.setdefault(family_of(entry["address"]), entry["address"])
            found.append(NodeInfo(node["metadata"]["name"], addresses))
        return found

    def engine_pods(self) -> str:
        """What the engine's pods bring, also their image's name: vpp (with embedded in it) or embedded."""
        selector = "--selector=app.kubernetes.io/component=engine"
        (daemonset,) = install.items(self.kubectl, "daemonsets", "--namespace", install.NAMESPACE, selector)
        name: str = daemonset["spec"]["template"]["spec"]["containers"][0]["name"]
        return name

    def product_says(self) -> str:
        """What one looks at first when a test has failed: pods, conditions, the last log lines."""
        selector = "--selector=app.kubernetes.io/name=vpp-operator"
        words = ["logs", "--prefix", "--all-containers", "--tail=60", "--max-log-requests=20", selector]
        try:
            logs = self.kubectl(*words, "--namespace", install.NAMESPACE)
        except ClusterError as error:
            logs = str(error)
        return f"{install.diagnosis(self.kubectl)}\n{logs}"

    def engines(self) -> set[str]:
        """The engines that forward on the nodes."""
        return {item["status"].get("engine", "") for item in install.items(self.kubectl, "dataplanes")}

    # -- clients -----------------------------------------------------------------------------------------

    @property
    def client_image(self) -> str:
        """An image with Python."""
        default = images.AGNHOST if self.own else "docker.io/library/python:3.11-slim-bookworm"
        return os.environ.get("VPP_OPERATOR_CLIENT_IMAGE", default)

    def pod(self, node: NodeInfo) -> Client:
        """A client in a pod on the node."""
        return self._client(node, host_network=False)

    def on_node(self, node: NodeInfo) -> Client:
        """A client in the node's own network."""
        return self._client(node, host_network=True)

    @cached_property
    def outside(self) -> Client:
        """A client on a machine outside the cluster: with a foreign cluster, this machine."""
        if self.own is not None:
            return place_client(self.own.outside)

        def here(words: list[str]) -> str:
            return run([sys.executable, "-", *words], stdin=client_program(), timeout=300)

        return Client("this machine", here)

    def addresses_on(self, node: NodeInfo) -> set[str]:
        """Every address that the node itself has."""
        self.on_node(node)
        command = ["exec", "--namespace", NAMESPACE, self._client_name(node, True), "--", "python3", "-c"]
        files = "print(open('/proc/net/fib_trie').read(), open('/proc/net/if_inet6').read())"
        lines = self.kubectl(*command, files).splitlines()
        found = {before.split()[-1] for before, line in pairwise(lines) if "/32 host LOCAL" in line}
        for words in (line.split() for line in lines):
            if len(words) == 6 and len(words[0]) == 32:
                found.add(str(ipaddress.IPv6Address(int(words[0], 16))))
        return found

    def pod_address(self, name: str, family: str) -> str:
        """A pod's address in a family."""
        status = json.loads(self.kubectl("get", "pod", "--namespace", NAMESPACE, name, "-o", "json"))[
            "status"
        ]
        addresses: list[str] = [entry["ip"] for entry in status["podIPs"]]
        return next(address for address in addresses if family_of(address) == family)

    def client_pod_address(self, node: NodeInfo, family: str) -> str:
        """Address of the client pod on the node."""
        self.pod(node)
        return self.pod_address(self._client_name(node, False), family)

    def hold(self, client_node: NodeInfo, host: str, port: int, connections: int) -> Holder:
        """Open connections from the client pod on a node and keep them; see holder_program.py."""
        self.pod(client_node)
        command = [str(parts.binary("kubectl")), "--kubeconfig", str(self.kubeconfig), "exec", "--stdin"]
        command += ["--namespace", NAMESPACE, self._client_name(client_node, False), "--"]
        return Holder([*command, "python3", "-c", HOLDER_PROGRAM, host, str(port), str(connections)])

    def _client_name(self, node: NodeInfo, host_network: bool) -> str:
        return f"client-{'host-' if host_network else ''}{node.name}"

    def _client(self, node: NodeInfo, host_network: bool) -> Client:
        name = self._client_name(node, host_network)
        if name not in self._made:
            self.apply(
                python_pod(name, self.client_image, "import time; time.sleep(86400)", node, host_network)
            )
            self.kubectl(
                "wait", "--namespace", NAMESPACE, "--for=condition=Ready", f"pod/{name}", "--timeout=90s"
            )
            self._made.add(name)
        return pod_client(self.kubectl, NAMESPACE, name)

    # -- servers and Services ----------------------------------------------------------------------------

    def servers(self, app: str, count: int, nodes: Sequence[NodeInfo] = ()) -> list[str]:
        """Server pods (server_program.py) spread over ``nodes`` (all by default); returns their names when
        Ready."""
        chosen = list(nodes) or self.nodes
        names = [f"{app}-{index}" for index in range(count)]
        pods = []
        for index, name in enumerate(names):
            pod = python_pod(name, self.client_image, SERVER_PROGRAM, chosen[index % len(chosen)], False)
            pod["metadata"]["labels"] = {"app": app}
            probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
            pod["spec"]["containers"][0]["readinessProbe"] = probe
            pods.append(pod)
        self.apply(*pods)
        wait = ["wait", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=90s"]
        self.kubectl(*wait, *(f"pod/{name}" for name in names))
        return names

    def service(self, name: str, family: str, **spec: Any) -> dict[str, Any]:
        """Create a Service of one family; returns it with what the API server filled in."""
        ports = [
            {"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "udp", "port": 81, "targetPort": 8081, "protocol": "UDP"},
        ]
        body = {
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "selector": {"app": name},
            "ports": ports,
        }
        body.update(spec)
        labels = body.pop("labels", {})
        metadata = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body})
        made: dict[str, Any] = json.loads(
            self.kubectl("get", "service", "--namespace", NAMESPACE, name, "-o", "json")
        )
        return made


class Holder:
    """Connections that a client in a pod keeps open."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.servers: list[str] = self._answer()["servers"]

    def check(self) -> dict[str, Any]:
        """Use every connection, the idle ones, too: {"alive", "moved", "lost": [what happened]}."""
        assert self._process.stdin is not None
        self._process.stdin.write("check\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the client."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the client of the connections ended: {self._process.stderr.read()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def family_of(address: str) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in address else "IPv4"


def host_of(text: str) -> str:
    """The address of "address:port" or "[address]:port"."""
    return text.rpartition(":")[0].strip("[]")


def python_pod(name: str, image: str, program: str, node: NodeInfo, host_network: bool) -> dict[str, Any]:
    """A pod that runs a Python program on a node."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", program],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node.name,
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }
