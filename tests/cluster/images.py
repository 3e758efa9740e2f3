"""The images of the product and of the test cluster, as archives in the cache."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import buildah, parts, vpp
from tests.cluster.addons import DNS_IMAGE
from tests.cluster.node import PAUSE_IMAGE
from tests.cluster.paths import PACKAGE, REPOSITORY, cache_directory
from tests.cluster.progress import ClusterError, run, say, step

_LEFT_OUT = {"build", "__pycache__", ".mypy_cache", ".ruff_cache"}


@dataclass(frozen=True)
class Image:
    """An image to build: paths of the repository for its context, and a static binary to put beside."""

    short: str
    dockerfile: str
    inputs: tuple[str, ...] = ()
    binary: str = ""
    base: bool = False
    foreign_name: str = ""
    vpp: bool = False
    """Needs the machine's VPP, which goes into the context's folder vpp/."""

    @property
    def name(self) -> str:
        """Full name: without a registry, containerd takes docker.io as Docker does."""
        return self.foreign_name or f"docker.io/vpp-operator/{self.short}:{version()}"


def version() -> str:
    """The project's version, which is the tag of its images."""
    with (REPOSITORY / "pyproject.toml").open("rb") as handle:
        return str(tomllib.load(handle)["project"]["version"])


_PYTHON = ("operator", "pyproject.toml", "constraints.txt", "README.md", "images/operator")
PRODUCT = (
    Image("operator", "images/operator/Dockerfile", inputs=_PYTHON, base=True),
    Image(
        "embedded",
        "images/embedded/Dockerfile",
        inputs=("vpp-plugins", "pyproject.toml", "images/embedded"),
        base=True,
    ),
)
VPP = Image(
    "vpp",
    "images/vpp/Dockerfile",
    inputs=("vpp-plugins", "pyproject.toml", "images/vpp"),
    base=True,
    vpp=True,
)
# The examples name the public agnhost image; here the same program comes under the same name.
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
_OWN = "tests/cluster/images"
_KEPT = 4
CLUSTER = (
    Image("pause", f"{_OWN}/pause/Dockerfile", binary="pause", foreign_name=PAUSE_IMAGE),
    Image("coredns", f"{_OWN}/coredns/Dockerfile", binary="coredns", foreign_name=DNS_IMAGE),
    Image("agnhost", f"{_OWN}/agnhost/Dockerfile", binary="agnhost", base=True, foreign_name=AGNHOST),
)


def product() -> tuple[Image, ...]:
    """The product's images that can be built here: that of VPP where the machine has a VPP."""
    return (*PRODUCT, VPP) if vpp.prefix() else PRODUCT


def ensure(images: Iterable[Image]) -> list[Path]:
    """Build what changed of the images; returns their archives."""
    return [_ensure(image) for image in images]


def _ensure(image: Image) -> Path:
    dockerfile = REPOSITORY / image.dockerfile
    if not dockerfile.exists():
        raise ClusterError(f"{image.dockerfile} is not there: the image {image.name} cannot be built")
    directory = cache_directory() / "images"
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vpp-operator-context-") as scratch:
        context = Path(scratch)
        for source in image.inputs:
            _copy(REPOSITORY / source, context / source)
        if image.binary:
            _provide(image.binary, context / image.binary)
        if image.vpp:
            vpp.root_files(context / "vpp")
        shutil.copy(dockerfile, context / "Dockerfile")
        files = [path for path in context.rglob("*") if path.is_file()]
        base = buildah.base_image() if image.base else ""
        digest = buildah.digest_of(files, context, (image.name, base))
        archive = directory / f"{image.short}-{digest}.tar"
        if archive.exists():
            say(f"--> image {image.name}: in the cache")
            return archive
        log = directory / f"{image.short}.log"
        log.unlink(missing_ok=True)
        with step(f"image {image.name}: build"):
            arguments = {"BASE": base, "VERSION": version()} if image.base else {}
            arguments |= {"VPP": "prefix"} if image.vpp else {}
            buildah.build(image.name, context, context / "Dockerfile", archive, arguments, log)
        # Another checkout's run may be about to import one that is not the newest.
        archives = sorted(directory.glob(f"{image.short}-*.tar"), key=lambda path: path.stat().st_mtime)
        for old in archives[:-_KEPT]:
            old.unlink(missing_ok=True)
    return archive


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=lambda _, names: [name for name in names if name in _LEFT_OUT])
    else:
        shutil.copy(source, target)


def _provide(name: str, target: Path) -> None:
    """Put a static binary for an image at ``target``: a part, or the pause program."""
    if name != "pause":
        parts.ensure([name])
        shutil.copy(parts.binary(name), target)
        return
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-s", "-static", "-Wall", "-Wextra", "-Werror"]
    run(["cc", *flags, "-o", target, PACKAGE / "images" / "pause" / "pause.c"])
