"""etcd and the API server alone, for the control tests; with more components, the head of the cluster.

In a test::

    from tests.cluster.controlplane import ControlPlane

    @pytest.fixture(scope="session")
    def control_plane():
        with ControlPlane() as plane:        # ControlPlane(controller_manager=True) also runs that
            yield plane

    plane.kubeconfig                         # Path: administrator (system:masters)
    plane.server, plane.authority            # "https://127.0.0.1:40123", Path of the CA certificate
    plane.client()                           # kubernetes.client.ApiClient of the administrator
    plane.kubectl("apply", "-f", "-", stdin=text)
    token = plane.token("vpp-operator", "agent")                          # TokenRequest
    token = plane.token("vpp-operator", "agent", bound=("Pod", "agent-x"))  # or ("Node", "node1")
    plane.kubeconfig_for(token)              # Path: a kubeconfig with that token
    plane.kubeconfig_for_user("jane", ["developers"])                     # with a client certificate
    plane.stop_apiserver(); plane.start_apiserver()                       # same port, same data

It starts in a few seconds, listens on loopback only, and removes everything at the end; what a killed run
left is removed by the next start. There is no kubelet, so pods stay Pending and Nodes are
what a test creates. Without the controller manager nothing makes ServiceAccounts, EndpointSlices or garbage
collection happen.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.cluster import parts, pki, process
from tests.cluster.paths import run_directory
from tests.cluster.ports import free_ports
from tests.cluster.progress import ClusterError, run, wait_for

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

SERVICE_RANGES = "10.96.0.0/16,fd00:10:96::/112"
POD_RANGES = "10.244.0.0/16,fd00:10:244::/56"


class ControlPlane:
    """A control plane in a directory of its own; see the module's text for its use.

    ``address`` is where the API server listens; ``enter`` is put before every command (nsenter, to run it in
    a network namespace); ``advertise`` publishes the address in the EndpointSlice default/kubernetes, which
    loopback cannot be.
    """

    def __init__(
        self,
        *,
        controller_manager: bool = False,
        scheduler: bool = False,
        apiserver_arguments: Sequence[str] = (),
        directory: Path | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        advertise: bool = False,
        enter: Callable[[], list[str]] = list,
        mark: str | None = None,
    ) -> None:
        self.controller_manager = controller_manager
        self.scheduler = scheduler
        self.apiserver_arguments = list(apiserver_arguments)
        self.address = address
        self.port = port
        self.advertise = advertise
        self.enter = enter
        self._temporary = directory is None
        if directory is None:
            sweep()
            base = run_directory("control")
            base.mkdir(parents=True, exist_ok=True)
            directory = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
            process.record(os.getpid(), directory / "owner")
        self.directory = directory
        self.mark = mark or str(directory)

    # -- life -----------------------------------------------------------------------------------------------

    def __enter__(self) -> ControlPlane:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start every component that does not run yet and wait until the API server is ready."""
        parts.ensure(["etcd", "kubernetes"])
        for folder in (self.directory, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self._prepare()
        self._start_etcd()
        self.start_apiserver()
        if self.controller_manager:
            self._start("kube-controller-manager", self._controller_manager_arguments())
        if self.scheduler:
            client = f"--kubeconfig={self.directory / 'scheduler.kubeconfig'}"
            self._start("kube-scheduler", [client, "--leader-elect=false", "--bind-address=127.0.0.1"])

    def close(self) -> None:
        """End every process; a directory of its own goes, too."""
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            process.stop(name, self.logs, seconds=5)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop_apiserver(self, seconds: float = 10.0) -> None:
        """End the API server; clients lose their connections, etcd keeps the objects."""
        process.stop("kube-apiserver", self.logs, seconds=seconds)

    def start_apiserver(self, ready: bool = True) -> None:
        """Start the API server on the same port; waits until it is ready unless told otherwise."""
        self._start("kube-apiserver", self._apiserver_arguments())
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds: float = 90.0) -> None:
        """Wait until /readyz answers ok."""

        def check() -> str:
            recorded = process.Recorded.read(self.logs / "kube-apiserver.pid")
            if recorded is None or not recorded.alive:
                raise ClusterError(f"kube-apiserver ended:\n{process.tail('kube-apiserver', self.logs)}")
            return self._readyz()

        wait_for("the API server is ready", check, seconds)

    # -- what clients need ----------------------------------------------------------------------------------

    @property
    def logs(self) -> Path:
        """Folder of the components' output (<component>.log) and process records."""
        return self.directory / "logs"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.port}"

    @property
    def authority_files(self) -> pki.Authority:
        """The certificate authority, to issue more."""
        return pki.Authority(self.directory / "pki")

    @property
    def authority(self) -> Path:
        """The CA certificate."""
        return self.directory / "pki" / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.directory / "admin.kubeconfig"

    def client(self, kubeconfig: Path | None = None) -> ApiClient:
        """A Kubernetes client for the administrator or for another kubeconfig."""
        from kubernetes import config

        load: Callable[[str], ApiClient] = config.new_client_from_config
        return load(str(kubeconfig or self.kubeconfig))

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl and return its output; ClusterError with its message when it fails."""
        command = [parts.binary("kubectl"), "--kubeconfig", kubeconfig or self.kubeconfig, *arguments]
        return run(command, stdin=stdin, timeout=120)

    def token(
        self, namespace: str, account: str, *, bound: tuple[str, str] | None = None, seconds: int = 3600
    ) -> str:
        """A token of a ServiceAccount by TokenRequest; ``bound`` is (kind, name) of a Pod, Node or Secret."""
        words = ["create", "token", account, "--namespace", namespace, f"--duration={seconds}s"]
        if bound is not None:
            words += ["--bound-object-kind", bound[0], "--bound-object-name", bound[1]]
        return self.kubectl(*words).strip()

    def kubeconfig_for(self, token: str) -> Path:
        """A kubeconfig that uses a token."""
        handle, name = tempfile.mkstemp(prefix="token-", suffix=".kubeconfig", dir=self.directory)
        os.close(handle)
        return pki.write_kubeconfig(Path(name), self.server, self.authority, token=token)

    def kubeconfig_for_user(self, user: str, groups: Sequence[str] = (), file: str | None = None) -> Path:
        """A kubeconfig with a client certificate for ``user`` in ``groups``."""
        name = file or "user-" + "".join(c if c.isalnum() else "-" for c in f"{user}-{'-'.join(groups)}")
        pair = self.authority_files.issue(name, user, groups)
        path = self.directory / f"{name}.kubeconfig"
        return pki.write_kubeconfig(path, self.server, self.authority, client=pair)

    # -- the components -------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        directory = self.directory / "pki"
        authority = self.authority_files
        self._etcd_ports = self._remembered_ports("etcd.ports", 2)
        if not self.port:
            (self.port,) = self._remembered_ports("apiserver.port", 1)
        hosts = [self.address, "127.0.0.1", "localhost", "10.96.0.1", "fd00:10:96::1"]
        hosts += [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])
        if not (directory / "service-account.key").exists():
            pki.write_key(directory / "service-account.key")
        self.kubeconfig_for_user("kubernetes-admin", ["system:masters"], file="admin")
        self.kubeconfig_for_user("system:kube-controller-manager", file="controller-manager")
        self.kubeconfig_for_user("system:kube-scheduler", file="scheduler")

    def _remembered_ports(self, file: str, count: int) -> list[int]:
        path = self.directory / file
        if not path.exists():
            path.write_text(" ".join(str(port) for port in free_ports(count)))
        return [int(word) for word in path.read_text().split()]

    def _start(self, name: str, arguments: Sequence[str]) -> None:
        recorded = process.Recorded.read(self.logs / f"{name}.pid")
        if recorded is None or not recorded.alive:
            process.start(name, [*self.enter(), parts.binary(name), *arguments], self.logs, mark=self.mark)

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        arguments = [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # the data is worth nothing after a crash of the machine
            "--logger=zap",
            "--log-level=warn",
        ]
        self._start("etcd", arguments)

    def _apiserver_arguments(self) -> list[str]:
        files = self.directory / "pki"
        advertised = (
            [f"--advertise-address={self.address}"] if self.advertise else ["--endpoint-reconciler-type=none"]
        )
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--bind-address={self.address}",
            f"--secure-port={self.port}",
            *advertised,
            f"--tls-cert-file={files / 'apiserver.crt'}",
            f"--tls-private-key-file={files / 'apiserver.key'}",
            f"--client-ca-file={files / 'ca.crt'}",
            f"--kubelet-certificate-authority={files / 'ca.crt'}",
            f"--kubelet-client-certificate={files / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={files / 'apiserver-kubelet-client.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={files / 'service-account.key'}",
            f"--service-account-signing-key-file={files / 'service-account.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICE_RANGES}",
            "--allow-privileged=true",
            "--profiling=false",
            # One second instead of seventy in which a stopped server goes on answering: restart tests need
            # it gone.
            "--shutdown-delay-duration=0s",
            *self.apiserver_arguments,
        ]

    def _controller_manager_arguments(self) -> list[str]:
        files = self.directory / "pki"
        return [
            f"--kubeconfig={self.directory / 'controller-manager.kubeconfig'}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={files / 'service-account.key'}",
            f"--root-ca-file={files / 'ca.crt'}",
            f"--service-cluster-ip-range={SERVICE_RANGES}",
            f"--cluster-cidr={POD_RANGES}",
            "--allocate-node-cidrs",
            "--node-cidr-mask-size-ipv4=24",
            "--node-cidr-mask-size-ipv6=64",
        ]

    def _readyz(self) -> str:
        context = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", timeout=5, context=context) as answer:
                return "" if answer.status == 200 else f"/readyz: {answer.status}"
        except urllib.error.HTTPError as error:
            return f"/readyz: {error.code}: {error.read(2000).decode(errors='replace')}"
        except OSError as error:
            return f"/readyz: {error}"


def sweep() -> None:
    """Remove what control planes left whose owner was killed."""
    for directory in _orphans():
        for path in (directory / "logs").glob("*.pid"):
            recorded = process.Recorded.read(path)
            if recorded is not None:
                recorded.end(seconds=2)
        shutil.rmtree(directory, ignore_errors=True)


def _orphans() -> Iterator[Path]:
    base = run_directory("control")
    for directory in base.iterdir() if base.exists() else ():
        owner = process.Recorded.read(directory / "owner")
        if owner is not None and not owner.alive:
            yield directory
