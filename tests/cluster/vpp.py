"""The VPP that this machine has, if it has one: VPP_PREFIX names its installation, else ``vpp`` is looked for
on PATH. The project never builds VPP."""

from __future__ import annotations

import os
import re
import shutil
from functools import cache
from pathlib import Path

from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, run, step

PLUGINS = REPOSITORY / "build" / "vpp-plugins" / "vpp"
"""Where `make vpp-plugins` leaves ours."""
OWN = ("khost", "klb", "kgtpu")
_PROGRAMS = ("vpp", "vppctl")
# Of VPP's own plugins, what the engine loads.
_TAKEN = ("af_packet_plugin.so",)
# What every base system has, and must have its own of.
_BASE_LIBRARIES = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util))\.so(\..*)?")


@cache
def prefix() -> Path | None:
    """Where VPP is installed; None: nowhere."""
    named = os.environ.get("VPP_PREFIX")
    if named:
        if not (Path(named) / "bin" / "vpp").exists():
            raise ClusterError(
                f"VPP_PREFIX={named}: there is no bin/vpp; name the folder that VPP is installed in"
            )
        return Path(named).resolve()
    program = shutil.which("vpp")
    return Path(program).resolve().parent.parent if program else None


def missing() -> str:
    """Why nothing can be done with VPP; empty: it is there."""
    return "" if prefix() else "there is no VPP: neither VPP_PREFIX nor `vpp` on PATH"


def root_files(target: Path) -> None:
    """Lay out VPP, the libraries it needs and the plugins, as on a root file system."""
    found = prefix()
    if found is None:
        raise ClusterError(missing())
    with step(f"VPP plugins for {found / 'bin' / 'vpp'}"):
        run(
            ["make", "--no-print-directory", "-C", REPOSITORY, "vpp-plugins", f"VPP_PREFIX={found}"],
            timeout=1200,
        )
    own = [_own_plugin(name) for name in OWN]
    plugins = next(found.glob("lib/**/vpp_plugins"), None)
    if plugins is None:
        raise ClusterError(f"{found}/lib: no folder vpp_plugins in it; is VPP installed completely?")
    taken = [plugins / name for name in _TAKEN]
    programs = [found / "bin" / name for name in _PROGRAMS]
    libraries = plugins.parent.relative_to(found)
    for files, folder in (
        (programs, "bin"),
        (_libraries([*programs, *taken, *own], found), libraries),
        (taken, libraries / "vpp_plugins"),
        (own, "lib/vpp-operator/vpp_plugins"),
    ):
        directory = target / "usr" / folder
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            run(["strip", "--strip-unneeded", "-o", directory / file.name, file.resolve()])
            (directory / file.name).chmod(0o755)


def _own_plugin(name: str) -> Path:
    found = next(PLUGINS.glob(f"**/vpp_plugins/{name}_plugin.so"), None)
    if found is None:
        raise ClusterError(f"{PLUGINS}: no {name}_plugin.so in it; run `make vpp-plugins`")
    return found


def _libraries(files: list[Path], found: Path) -> list[Path]:
    """Shared libraries that the files need, VPP's own included, the base system's not."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(next(found.glob("lib/**/libvlib.so")).parent))
    listed: dict[str, Path] = {}
    for file in files:
        for name, path in re.findall(
            r"^\s*(\S+) => (/\S+)", run(["ldd", file], env=environment), re.MULTILINE
        ):
            if not _BASE_LIBRARIES.fullmatch(name):
                listed[name] = Path(path)
    return list(listed.values())
