"""Images from ordinary Dockerfiles without an engine: Debian's buildah, and a base system made by
debootstrap."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.lock import exclusive
from tests.cluster.paths import cache_directory
from tests.cluster.progress import ClusterError, run, step

RELEASE = "bookworm"
# What every image built here finds in its base; the Dockerfiles install the rest.
_BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")


def base_image() -> str:
    """Name (in buildah's storage) of the base system, made by debootstrap when it is missing."""
    key = hashlib.sha256(repr((RELEASE, _BASE_PACKAGES)).encode()).hexdigest()[:8]
    name = f"localhost/vpp-operator-base:{RELEASE}-{key}"
    if subprocess.run([*_buildah(), "inspect", "--type", "image", name], capture_output=True).returncode != 0:
        with step(f"base system of the images: debootstrap {RELEASE} (first time: 1 min)"):
            _make_base(name)
    return name


def build(
    name: str, context: Path, dockerfile: Path, archive: Path, arguments: Mapping[str, str], log: Path
) -> None:
    """Build a Dockerfile and write the image as a docker-archive named ``name`` to ``archive``
    (atomically)."""
    scratch = archive.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with exclusive("buildah"), tempfile.TemporaryDirectory(prefix="vpp-operator-build-") as settings:
        command = [*_buildah(), "bud", "--isolation", "chroot", "--layers", "--network", "host"]
        command += _package_settings(Path(settings))
        for key, value in arguments.items():
            command += ["--build-arg", f"{key}={value}"]
        run([*command, "--tag", name, "--file", str(dockerfile), str(context)], log=log, timeout=1800)
        run([*_buildah(), "push", name, f"docker-archive:{scratch}:{name}"], log=log, timeout=600)
    scratch.rename(archive)


def _buildah() -> list[str]:
    directory = cache_directory() / "buildah"
    directory.mkdir(exist_ok=True)
    # An overlay cannot lie on an overlay.
    below = run(["stat", "--file-system", "--format=%T", directory]).strip()
    driver = "vfs" if below == "overlayfs" else "overlay"
    # A mount namespace of its own: the storage leaves mounts behind.
    command = [
        "unshare",
        "--mount",
        "buildah",
        "--root",
        directory / "storage",
        "--runroot",
        directory / "run",
    ]
    return [*(str(word) for word in command), "--storage-driver", driver]


def _make_base(name: str) -> None:
    with exclusive("buildah"), tempfile.TemporaryDirectory(prefix=".base-", dir=cache_directory()) as scratch:
        root, context = Path(scratch) / "root", Path(scratch) / "context"
        context.mkdir()
        packages = f"--include={','.join(_BASE_PACKAGES)}"
        log = cache_directory() / "base.log"
        log.unlink(missing_ok=True)
        command: list[object] = ["debootstrap", "--variant=minbase", packages, RELEASE, root, _mirror()]
        # A mount namespace: debootstrap mounts /proc in the new root, and leaves it there when it fails.
        run(["unshare", "--mount", *command], log=log, timeout=1200)
        for directory in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / directory, ignore_errors=True)
        run(
            ["tar", "--create", "--file", context / "root.tar", "--directory", root, "--exclude=./dev/*", "."]
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
        run([*_buildah(), "bud", "--isolation", "chroot", "--tag", name, context], log=log)


def _mirror() -> str:
    """The archive that this machine's own apt uses for the release."""
    targets = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    )
    for line in targets.splitlines():
        uri, release, component = line.split()
        if (release, component) == (RELEASE, "main"):
            return uri
    raise ClusterError(f"apt has no source for Debian {RELEASE}: the base of the images is made from it")


def _package_settings(directory: Path) -> list[str]:
    """Volumes for RUN steps: how apt and pip reach their archives on this machine. Nothing of it stays in an
    image."""
    volumes = {
        name: name
        for name in (
            "/etc/apt/sources.list",
            "/etc/apt/sources.list.d",
            "/etc/apt/trusted.gpg.d",
            "/etc/ssl/certs",
        )
        if Path(name).exists()
    }
    wanted = {"index-url", "extra-index-url", "cert", "trusted-host", "proxy", "default-timeout"}
    listed = run([sys.executable, "-m", "pip", "config", "list"])
    pairs = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    lines = ["[global]", *(f"{key} = {value}" for key, value in pairs.items() if key in wanted)]
    (directory / "pip.conf").write_text("\n".join(lines) + "\n")
    volumes[str(directory / "pip.conf")] = "/etc/pip.conf"
    return [word for source, target in volumes.items() for word in ("--volume", f"{source}:{target}:ro")]


def digest_of(paths: Sequence[Path], root: Path, more: object = ()) -> str:
    """Short hash of files (names relative to ``root``, execute bits, contents) and of ``more``."""
    digest = hashlib.sha256(repr(more).encode())
    for path in sorted(paths):
        executable = os.access(path, os.X_OK)
        digest.update(f"\0{path.relative_to(root)}\0{executable}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
