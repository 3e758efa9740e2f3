"""Engines under test: started in a namespace, reached by their adapters."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from tests.contract.engine_lab import Namespace

from vpp_operator.dataplane.embedded import EmbeddedDataplane
from vpp_operator.dataplane.embedded.transport import ControlSocket
from vpp_operator.dataplane.messages import MessageDataplane, Transport

ROOT = Path(__file__).parents[2]
EngineT = TypeVar("EngineT", bound="Engine")

# Small tables, so that they can be filled.
SMALL = {
    "sessions": 1024,
    "services": 64,
    "frontends": 64,
    "endpoints": 64,
    "prefixes": 16,
    "fragments": 64,
}


@functools.cache
def embedded_program() -> Path:
    """Build vpp-embedded, or take the one that VPP_EMBEDDED names."""
    if given := os.environ.get("VPP_EMBEDDED"):
        return Path(given)
    subprocess.run(["make", "-C", ROOT / "vpp-plugins", "embedded"], check=True, stdout=subprocess.DEVNULL)
    return ROOT / "build" / "vpp-plugins" / "vpp-embedded"


@dataclass
class Engine:
    """An engine's process. Its region outlives it, until the directory is removed."""

    namespace: Namespace
    directory: Path
    workers: int = 1
    interfaces: tuple[str, ...] = ("vpp1",)
    capacity: dict[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    """More of its own settings: arguments, or lines of its start-up file."""
    wrapper: tuple[str, ...] = ()
    """Command that starts it, with its arguments."""
    process: subprocess.Popen[bytes] | None = None

    KIND: ClassVar[str]
    """What it calls itself."""
    LARGE_UDP: ClassVar[bool] = True
    """Large UDP frames (UDP_SEGMENT) cross its link whole."""

    @property
    def socket_path(self) -> Path:
        """Where its adapter reaches it."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that starts it."""
        raise NotImplementedError

    def connection(self, call_timeout: float = 10.0) -> MessageDataplane:
        """Return its adapter, not connected."""
        raise NotImplementedError

    def transport(self) -> Transport:
        """Return what carries its messages, not connected."""
        raise NotImplementedError

    def check(self) -> dict[str, Any] | None:
        """Ask for INFO from outside; None: no answer."""
        raise NotImplementedError

    @property
    def region_path(self) -> Path:
        """File with tables and sessions."""
        return self.directory / "region"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None
        return self.process.pid

    def launch(self) -> None:
        """Start it and wait for nothing."""
        command = self.namespace.command(*self.wrapper, *self.command())
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start(self, wait_for_links: bool = True) -> None:
        """Start it and wait until it answers and its interfaces are open."""
        self.launch()
        self.wait_for_links(list(self.interfaces) if wait_for_links else None)

    def overwrite_region(self, offset: int, content: bytes) -> None:
        """Change bytes of the region behind the engine's back."""
        with open(self.region_path, "r+b") as region:
            region.seek(offset)
            region.write(content)

    def wait_for_links(self, interfaces: list[str] | None, timeout: float = 60.0) -> None:
        """Wait until it receives on exactly these interfaces (None: until it answers)."""
        end = time.monotonic() + timeout
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"engine ended with {self.process.returncode}: {self.log()}")
            info = self.check()
            if info is not None and (interfaces is None or info["interfaces"] == interfaces):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"engine not ready: {info} {self.log()}")
            time.sleep(0.01)

    def log(self) -> str:
        """Return what it logged."""
        return (self.directory / "log").read_text()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(10)

    @contextlib.asynccontextmanager
    async def dataplane(self) -> AsyncIterator[MessageDataplane]:
        """Connect its adapter."""
        dataplane = self.connection()
        await dataplane.connect()
        try:
            yield dataplane
        finally:
            await dataplane.close()


@dataclass
class EmbeddedEngine(Engine):
    """A vpp-embedded process."""

    KIND = "embedded"

    @property
    def socket_path(self) -> Path:
        """Control socket."""
        return self.directory / "engine.sock"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [
            str(embedded_program()),
            f"--socket={self.socket_path}",
            f"--region={self.region_path}",
            f"--workers={self.workers}",
            *(f"--interface={name}" for name in self.interfaces),
            *(f"--{name}={size}" for name, size in self.capacity.items()),
            *self.options,
        ]

    def connection(self, call_timeout: float = 10.0) -> EmbeddedDataplane:
        """Return its adapter, not connected."""
        return EmbeddedDataplane(self.socket_path, call_timeout)

    def transport(self) -> ControlSocket:
        """Return what carries its messages, not connected."""
        return ControlSocket(self.socket_path)

    def check(self) -> dict[str, Any] | None:
        """Run the probe `vpp-embedded --check`."""
        result = subprocess.run(
            [embedded_program(), "--check", f"--socket={self.socket_path}"], capture_output=True, check=False
        )
        if result.returncode:
            return None
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


@contextlib.contextmanager
def started_in_memory(engine: Callable[[Path], EngineT]) -> Iterator[EngineT]:
    """Give an engine that is not started yet; end it and remove its region afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="vppct-", dir="/dev/shm"))
    made = engine(directory)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()
        shutil.rmtree(directory)
        # VPP's memory for API clients, named after the directory it runs in.
        for left in directory.parent.glob(f"dev-shm-{directory.name}-*"):
            left.unlink()


@contextlib.contextmanager
def embedded_engine(
    namespace: Namespace, *, workers: int = 1, capacity: dict[str, int] | None = None
) -> Iterator[EmbeddedEngine]:
    """Give a vpp-embedded that is not started yet."""
    with started_in_memory(
        lambda directory: EmbeddedEngine(namespace, directory, workers, capacity=capacity or {})
    ) as engine:
        yield engine
