"""VPP under test: where it is, its plugins, and one process of it in a namespace."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel
from tests.contract.engine_lab import Namespace, run
from tests.contract.engine_process import ROOT, Engine, started_in_memory

from vpp_operator.dataplane.protocol import DataplaneError
from vpp_operator.dataplane.vpp.adapter import VppDataplane
from vpp_operator.dataplane.vpp.api import ApiSocket
from vpp_operator.dataplane.vpp.startup import StartupConf, render_startup

NO_VPP = "no VPP here: `vpp` is not on PATH and VPP_PREFIX is not set"


@functools.cache
def vpp_prefix() -> Path | None:
    """Return where VPP is installed: VPP_PREFIX, or where `vpp` is found on PATH."""
    if given := os.environ.get("VPP_PREFIX"):
        return Path(given)
    found = shutil.which("vpp")
    return Path(found).resolve().parents[1] if found else None


@functools.cache
def plugin_directories() -> tuple[Path, ...]:
    """Build the plugins against that VPP, or take those in the directory that VPP_PLUGINS names."""
    if given := os.environ.get("VPP_PLUGINS"):
        return (Path(given),)
    command = ["make", "-C", str(ROOT / "vpp-plugins"), "vpp", f"VPP_PREFIX={vpp_prefix()}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = (ROOT / "build" / "vpp-plugins" / "vpp").glob("lib/**/vpp_plugins")
    return tuple(sorted(found))


@dataclass
class VppEngine(Engine):
    """A VPP process with the plugins khost, klb and kgtpu. ``options`` are lines of startup.conf."""

    KIND = "vpp"
    LARGE_UDP = False

    @property
    def conf(self) -> StartupConf:
        """Its startup.conf."""
        return StartupConf(
            directory=self.directory / "run",
            region=self.region_path,
            workers=self.workers,
            capacity=self.capacity,
            interfaces=self.interfaces,
            extra_plugin_paths=plugin_directories(),
            extra=self.options,
        )

    @property
    def socket_path(self) -> Path:
        """Socket of the binary API."""
        return self.conf.api_socket

    def command(self) -> list[str]:
        """Write startup.conf and return the command that starts VPP with it."""
        prefix = vpp_prefix()
        assert prefix is not None
        self.conf.directory.mkdir(exist_ok=True)
        file = self.directory / "startup.conf"
        file.write_text(render_startup(self.conf))
        return [str(prefix / "bin" / "vpp"), "-c", str(file)]

    def transport(self) -> ApiSocket:
        """Return what carries its messages, not connected."""
        return ApiSocket(self.socket_path)

    def launch(self) -> None:
        """Start it; its link has what the agent sets for VPP, which sends no large UDP frames."""
        links = self.namespace.call(lambda: {name for _, name in socket.if_nameindex()})
        if "vpp0" in links:
            run(*self.namespace.command("ethtool", "-K", "vpp0", "tx-udp-segmentation", "off"))
        super().launch()

    def connection(self, call_timeout: float = 10.0) -> VppDataplane:
        """Return its adapter, not connected."""
        return VppDataplane(self.socket_path, call_timeout)

    def check(self) -> dict[str, Any] | None:
        """Ask for INFO on a connection of its own; works inside of a running event loop, too."""
        answers: list[dict[str, Any]] = []

        def ask() -> None:
            with contextlib.suppress(DataplaneError):
                answers.append(asyncio.run(self._info()))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return answers[0] if answers else None

    async def _info(self) -> dict[str, Any]:
        async with self.dataplane() as dataplane:
            info = asdict(await dataplane.info())
        return {to_camel(name): value for name, value in info.items()}

    def cli(self, command: str) -> str:
        """Run a command of VPP's own command line."""
        prefix = vpp_prefix()
        assert prefix is not None
        vppctl = [str(prefix / "bin" / "vppctl"), "-s", str(self.conf.cli_socket)]
        return subprocess.run([*vppctl, *command.split()], capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def vpp_engine(
    namespace: Namespace, *, workers: int = 1, capacity: dict[str, int] | None = None
) -> Iterator[VppEngine]:
    """Give a VPP that is not started yet."""
    with started_in_memory(
        lambda directory: VppEngine(namespace, directory, workers, capacity=capacity or {})
    ) as engine:
        yield engine
