"""The Kubernetes parts, built from Go modules into the cache.

Each part has a Go module of its own in ``go/<part>/`` (go.mod and go.sum pin every dependency). The cache
key is the part's version and a hash of what goes into the build, so a changed go.mod builds anew and an
unchanged one is found.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.golang import go_command, go_environment
from tests.cluster.lock import exclusive
from tests.cluster.paths import PACKAGE, cache_directory
from tests.cluster.progress import ClusterError, run, step


@dataclass(frozen=True)
class Part:
    """One Go module to build.

    ``module`` is the dependency whose version names the part; ``commands`` maps the name of each binary to
    its package; ``links`` are further names of the first binary; ``stamps`` are -X flags, ``{version}`` and
    so on filled in.
    """

    name: str
    module: str
    commands: dict[str, str]
    minutes: float
    links: tuple[str, ...] = ()
    stamps: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """Folder of the part's go.mod."""
        return PACKAGE / "go" / self.name

    @property
    def version(self) -> str:
        """The version that go.mod asks for, such as v1.36.3."""
        text = (self.source / "go.mod").read_text()
        found = re.search(rf"^(?:require )?\s*{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"{self.source}/go.mod does not require {self.module}")
        return found.group(1)

    @property
    def directory(self) -> Path:
        """Where the finished binaries lie."""
        digest = hashlib.sha256(repr((self.commands, self.links, self.stamps)).encode())
        for path in sorted(self.source.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return cache_directory() / f"{self.name}-{self.version}-{digest.hexdigest()[:8]}"


def _kubernetes_stamps(path: str) -> dict[str, str]:
    fields = {
        "gitVersion": "{version}",
        "gitMajor": "{major}",
        "gitMinor": "{minor}",
        "gitTreeState": "clean",
    }
    return {f"{path}.{name}": value for name, value in fields.items()}


_CONTAINERD = "github.com/containerd/containerd/v2"

PARTS = {
    part.name: part
    for part in (
        Part("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "."}, 0.6),
        Part(
            "kubernetes",
            "k8s.io/kubernetes",
            {"kubernetes": "."},
            5,
            links=(
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubectl",
            ),
            stamps=_kubernetes_stamps("k8s.io/component-base/version"),
        ),
        Part(
            "containerd",
            _CONTAINERD,
            {
                "containerd": f"{_CONTAINERD}/cmd/containerd",
                "containerd-shim-runc-v2": f"{_CONTAINERD}/cmd/containerd-shim-runc-v2",
                "ctr": f"{_CONTAINERD}/cmd/ctr",
            },
            1,
            stamps={f"{_CONTAINERD}/version.Version": "{version}"},
        ),
        Part("helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"}, 2),
        Part("agnhost", "k8s.io/kubernetes", {"agnhost": "k8s.io/kubernetes/test/images/agnhost"}, 2),
        Part("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}, 2),
    )
}


def ensure(names: Iterable[str] | None = None) -> None:
    """Build what is missing of the parts ``names`` (all of them by default)."""
    for name in names or PARTS:
        if name not in PARTS:
            raise ClusterError(f"{name}: no such part; there are {', '.join(PARTS)}")
        part = PARTS[name]
        if not part.directory.exists():
            with exclusive(name):
                if not part.directory.exists():
                    _build(part)


def binary(name: str) -> Path:
    """Path of a built command such as kube-apiserver; raises ClusterError when its part was not built yet."""
    for part in PARTS.values():
        if name in part.commands or name in part.links:
            path = part.directory / name
            if not path.exists():
                raise ClusterError(f"{name} is not built: run `python -m tests.cluster parts {part.name}`")
            return path
    raise ClusterError(f"{name}: no part has this command")


def _build(part: Part) -> None:
    go = go_command()
    environment = go_environment(go)
    target = part.directory
    version = part.version
    major, minor = version.removeprefix("v").split(".")[:2]
    flags = ["-s", "-w"]
    for symbol, value in part.stamps.items():
        flags += ["-X", f"{symbol}={value.format(version=version, major=major, minor=minor)}"]
    scratch = Path(tempfile.mkdtemp(prefix=f".{part.name}-", dir=target.parent))
    try:
        with step(f"{part.name} {version}: download and build (first time: {part.minutes:g} min on 2 cores)"):
            for name, package in part.commands.items():
                command = [
                    go,
                    "build",
                    "-trimpath",
                    "-ldflags",
                    " ".join(flags),
                    "-o",
                    scratch / name,
                    package,
                ]
                run(command, cwd=part.source, env=environment)
        first = next(iter(part.commands))
        for link in part.links:
            (scratch / link).symlink_to(first)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
