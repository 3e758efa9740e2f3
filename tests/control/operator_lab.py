"""A control plane with the chart on it, and operator processes whose every request it records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import parts
from tests.cluster.controlplane import ControlPlane
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, run

NAMESPACE = "vpp-system"
RELEASE = "vpp-operator"
CHART = REPOSITORY / "charts" / "vpp-operator"

_AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
"""


WAIT_SECONDS = 180.0
"""How long an event is waited for: a loaded machine may be slow, and what comes sooner costs nothing."""


def wait_for(what: str, check: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait until ``check`` returns something true, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not in {seconds:g} s: {what}"
        time.sleep(0.1)


def helm(plane: ControlPlane, *arguments: str) -> str:
    """Run helm as the administrator."""
    parts.ensure(["helm"])
    environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    return run([parts.binary("helm"), *arguments], env=environment, timeout=300)


@contextlib.contextmanager
def installed(tmp_path: Path, *values: str, audit: bool = False) -> Iterator[ControlPlane]:
    """A control plane with the controller manager, and the chart installed by helm."""
    arguments = []
    if audit:
        policy = tmp_path / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY)
        arguments = [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={tmp_path / 'audit.log'}",
            "--audit-log-mode=blocking",
        ]
    with ControlPlane(controller_manager=True, apiserver_arguments=arguments) as plane:
        server = plane.server.removeprefix("https://")
        settings = [f"apiServer.endpoints={{{server}}}", *values]
        flags = [word for setting in settings for word in ("--set", setting)]
        helm(plane, "install", RELEASE, str(CHART), "-n", NAMESPACE, "--create-namespace", *flags)
        kinds = ("dataplanes", "dataplanetunings", "gtpuendpoints", "gtputunnels", "gtputunnelsets")
        for kind in kinds:
            # A kind that has just been defined is refused (429) until its storage is ready.
            wait_for(f"{kind} are served", lambda kind=kind: _works(plane, "get", kind))
        wait_for(
            "accounts are made", lambda: _works(plane, "-n", NAMESPACE, "get", "serviceaccount", "default")
        )
        yield plane


def _works(plane: ControlPlane, *words: str) -> bool:
    try:
        plane.kubectl(*words)
    except ClusterError:
        return False
    return True


def make_node(
    plane: ControlPlane, name: str, *, number: int = 1, labels: Mapping[str, str] | None = None
) -> None:
    """Create a Node that reports Ready."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **(labels or {})}},
        "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(node))
    set_node_ready(plane, name)


def set_node_ready(plane: ControlPlane, name: str) -> None:
    """Be the kubelet that reports its node."""
    set_status(plane, "node", name, {"conditions": [_condition("Ready", "True")]})


def _condition(kind: str, status: str) -> dict[str, str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "type": kind,
        "status": status,
        "reason": "Test",
        "message": "",
        "lastTransitionTime": now,
        "lastHeartbeatTime": now,
    }


def set_status(
    plane: ControlPlane, kind: str, name: str, status: dict[str, Any], namespace: str = ""
) -> None:
    """Merge into an object's status."""
    where = ["-n", namespace] if namespace else []
    patch = json.dumps({"status": status})
    plane.kubectl("patch", kind, name, *where, "--subresource=status", "--type=merge", "-p", patch)


def set_pod_ready(plane: ControlPlane, name: str, ready: bool) -> None:
    """Be the kubelet that reports a pod."""
    condition = _condition("Ready", "True" if ready else "False")
    del condition["lastHeartbeatTime"]
    set_status(plane, "pod", name, {"phase": "Running", "conditions": [condition]}, NAMESPACE)


def get(plane: ControlPlane, *words: str) -> Any:
    """The object or list that kubectl get returns."""
    return json.loads(plane.kubectl("get", *words, "-o", "json"))


@dataclass(frozen=True)
class Request:
    """A request that may change something, as the API server recorded it."""

    at: str
    agent: str
    verb: str
    resource: str
    name: str
    status: int


def requests(audit: Path) -> list[Request]:
    """What the audit log says so far, in order."""
    found = []
    for line in audit.read_text().splitlines():
        entry = json.loads(line)
        reference = entry.get("objectRef") or {}
        resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
        found.append(
            Request(
                entry["stageTimestamp"],
                entry.get("userAgent", ""),
                entry["verb"],
                resource,
                reference.get("name", ""),
                (entry.get("responseStatus") or {}).get("code", 0),
            )
        )
    return sorted(found, key=lambda request: request.at)


class Operator:
    """An operator process with the rights of the chart's account."""

    def __init__(
        self, plane: ControlPlane, directory: Path, name: str, *, server: str = "", **environment: str
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        token = directory / f"{name}.token"
        token.write_text(plane.token(NAMESPACE, RELEASE))
        settings = {
            "PYTHONPATH": str(REPOSITORY / "operator"),
            "API_SERVERS": server or plane.server,
            "KUBE_CA_FILE": str(plane.authority),
            "KUBE_TOKEN_FILE": str(token),
            "POD_NAMESPACE": NAMESPACE,
            "POD_NAME": name,
            "RELEASE": RELEASE,
            "LEASE_NAME": RELEASE,
            "HTTP_PORT": "0",
            **environment,
        }
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vpp_operator.cli", "operator"],
                env={**os.environ, **settings},
                stdout=output,
                stderr=output,
            )

    def said(self, event: str) -> bool:
        """Whether the log has this event."""
        return f'"event":"{event}"' in self.log.read_text().replace('": "', '":"')

    def wait_leading(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until this process leads."""
        wait_for(f"{self.name} leads", lambda: self.said("leading"), seconds)

    def end(self) -> None:
        """Make sure that the process is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Wire:
    """A TCP proxy to the API server that can go silent, as a cut network does."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.removeprefix("https://").rpartition(":")
        self._port = int(port)
        self._silent = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Let nothing through any more; connections stay open, new ones are taken and ignored."""
        self._silent.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent.is_set():
            await asyncio.Event().wait()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self._silent.is_set():
                    # What was on its way is lost.
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()
        writer.close()
