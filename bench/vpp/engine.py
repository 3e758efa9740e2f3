"""One VPP for a measurement: found, configured, started, spoken to, stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.vpp import pages

IN_TREE_PLUGINS = ("lb", "cnat", "gtpu")
OWN_PLUGINS = ("khost", "klb", "kgtpu")
START_SECONDS = 30.0
_NOISE = re.compile(r"#\d+ |from /|vnet_feature_arc_init|vat-plug|Backtrace|received signal|Code:")


class BenchError(Exception):
    """What stops the benchmark, with the remedy."""


@dataclass(frozen=True)
class Installation:
    """A VPP on this machine: its prefix, and where our plugins lie if they were built."""

    prefix: Path
    own_plugins: Path | None

    @property
    def program(self) -> Path:
        """The vpp program."""
        return self.prefix / "bin" / "vpp"


def clocks_per_second() -> float:
    """Of the time stamp counter, as Linux says; 0.0 if it does not."""
    clock = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return float(clock[1]) * 1e6 if clock else 0.0


def find(own_plugins: Path) -> Installation:
    """VPP by VPP_PREFIX or on PATH; BenchError names what is missing."""
    prefix = os.environ.get("VPP_PREFIX")
    program = Path(prefix) / "bin" / "vpp" if prefix else None
    if program is None and (found := shutil.which("vpp")):
        program = Path(found).resolve()
    if program is None or not program.exists():
        where = (
            f"VPP_PREFIX={prefix} has no bin/vpp" if prefix else "no vpp on PATH and VPP_PREFIX is not set"
        )
        raise BenchError(f"no VPP: {where}; install VPP 26.06 or set VPP_PREFIX to its prefix")
    if os.geteuid() != 0:
        raise BenchError("VPP needs root here: run as root")
    built = any(own_plugins.rglob("khost_plugin.so")) if own_plugins.is_dir() else False
    return Installation(program.parent.parent, own_plugins if built else None)


@dataclass(frozen=True)
class Setup:
    """How the VPP of one lab is started. Sizes in bytes; `own` loads khost, klb and kgtpu.

    `plugins` are files NAME_plugin.so to load as well. `preload` is a library that goes before VPP's own;
    more than one worker needs that of `native.affinity_library`.
    """

    own: bool = False
    heap: int = 4 << 30
    statistics: int = 512 << 20
    buffers: int = 32768
    khost: tuple[str, ...] = ()
    cnat: tuple[str, ...] = ()
    workers: int = 1
    plugins: tuple[Path, ...] = ()
    preload: Path | None = None

    def with_own(self, *sizes: str) -> Setup:
        """The same with our plugins, and the sizes of their tables as startup.conf has them."""
        return dataclasses.replace(self, own=True, khost=(*self.khost, *sizes))


def startup_conf(installation: Installation, setup: Setup, directory: Path, processors: int) -> str:
    """The startup.conf of a VPP with its workers, or with main alone on a machine of one processor.

    Pages are of the default size, so that it starts without reserved ones; `pages` makes them huge later.
    """
    plugins = [f"{name}_plugin.so" for name in IN_TREE_PLUGINS + (OWN_PLUGINS if setup.own else ())]
    plugins += [path.name for path in setup.plugins]
    paths = [str(p) for p in installation.prefix.glob("lib/**/vpp_plugins")]
    paths += sorted({str(path.parent) for path in setup.plugins})
    if setup.own and installation.own_plugins:
        paths += sorted({str(p.parent) for p in installation.own_plugins.rglob("khost_plugin.so")})
    sections = {
        "unix": [
            "nodaemon",
            "nosyslog",
            "nocolor",
            f"runtime-dir {directory}",
            f"cli-listen {directory}/cli.sock",
            "nobanner",
        ],
        "api-segment": [f"prefix {directory.name}"],
        "socksvr": [f"socket-name {directory}/api.sock"],
        "statseg": [f"socket-name {directory}/stats.sock", f"size {setup.statistics}", "page-size default"],
        "memory": [f"main-heap-size {setup.heap}", "main-heap-page-size default"],
        "buffers": [f"buffers-per-numa {setup.buffers}", "page-size default"],
        "cpu": cpu_section(setup, processors),
        "plugins": [
            f"path {':'.join(paths)}",
            "plugin default { disable }",
            *(f"plugin {name} {{ enable }}" for name in plugins),
        ],
    }
    if setup.cnat:
        sections["cnat"] = list(setup.cnat)
    if setup.own:
        sections["khost"] = [f"region {region_path(directory)}", *setup.khost]
    return "".join(
        f"{name} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n" for name, lines in sections.items()
    )


def cpu_section(setup: Setup, processors: int) -> list[str]:
    """Main and one worker on processors of their own; several workers on those VPP is made to believe in."""
    if setup.workers > 1:
        return ["main-core 0", f"workers {setup.workers}", "relative"]
    return ["main-core 0", "corelist-workers 1"] if processors > 1 else ["main-core 0"]


def region_path(directory: Path) -> Path:
    """Where the tables of the VPP of this directory lie: in memory, not on a disk."""
    return Path("/dev/shm") / directory.name


class Vpp:
    """A running VPP. CLI and API calls raise BenchError with VPP's own words."""

    def __init__(self, process: subprocess.Popen[bytes], api: Any, directory: Path) -> None:
        self._process = process
        self._api = api
        self.directory = directory
        self.worker_threads: tuple[int, ...] = ()

    @property
    def workers(self) -> int:
        """How many there are; without any, main carries the packets."""
        return len(self.worker_threads)

    def prefer(self, wanted: bool) -> None:
        """Whether workers go before all other processes.

        They do while packets are measured, so that no preemption is counted, and while they sleep: VPP ends
        itself if a worker that is waited for is not there within a second. Not while they poll for nothing.
        """
        policy = (os.SCHED_FIFO, 1) if wanted else (os.SCHED_OTHER, 0)
        for thread in self.worker_threads:
            os.sched_setscheduler(thread, policy[0], os.sched_param(policy[1]))

    @property
    def pid(self) -> int:
        """Of the VPP process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether VPP still runs."""
        return self._process.poll() is None

    def cli(self, command: str) -> str:
        """The answer to one CLI command; BenchError where VPP reports a failure."""
        reply = self.call("cli_inband", cmd=command)
        return str(reply.reply)

    def script(self, lines: Sequence[str]) -> str:
        """Many CLI commands at once, from a file; VPP stops at the first that fails.

        `exec` says nothing about failures, so the callers count what they made.
        """
        path = self.directory / "script.cli"
        path.write_text("\n".join(lines) + "\n")
        return self.cli(f"exec {path}")

    def call(self, message: str, **arguments: Any) -> Any:
        """One API request; BenchError if its retval is not 0."""
        if not self.alive():
            raise BenchError(f"VPP ended with {self._process.returncode}: {self.log_tail()}")
        try:
            reply = getattr(self._api.api, message)(**arguments)
        except OSError as error:
            # VPP closed the socket: most often it ended
            raise BenchError(f"VPP does not answer {message} ({error}), {self.end()}") from error
        if getattr(reply, "retval", 0) != 0:
            said = str(getattr(reply, "reply", "")).strip()
            shown = arguments.get("cmd", arguments)
            raise BenchError(f"VPP refused {message} {shown}: {reply.retval} {said}")
        return reply

    def enumeration(self, name: str) -> Any:
        """An enum of VPP's API, e.g. vl_api_address_family_t."""
        from vpp_papi import VppEnum

        return getattr(VppEnum, name)

    @property
    def api_socket(self) -> Path:
        """Of the binary API."""
        return self.directory / "api.sock"

    @property
    def stats_socket(self) -> Path:
        """Of the statistics segment."""
        return self.directory / "stats.sock"

    def transport(self) -> Any:
        """The client of vpp_papi itself, for what must be measured below `call`."""
        return self._api

    def end(self) -> str:
        """What is known of VPP when it does not answer: whether it ended, and its last words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return f"exit {self._process.poll()}: {self.log_tail()}"

    def log_tail(self) -> str:
        """The last words of VPP on its standard output and error."""
        return last_words((self.directory / "vpp.log").read_text(errors="replace"))

    def collapse_pages(self, tables: bool = True) -> pages.Collapsed:
        """Put what VPP has allocated so far onto 2 MiB pages; without `tables` all but our region."""
        region = str(region_path(self.directory))
        return pages.collapse(self.pid, pages.everything if tables else lambda name: name != region)

    def huge_tables(self) -> float:
        """The share of our region that lies on 2 MiB pages."""
        smaps = Path(f"/proc/{self.pid}/smaps").read_text()
        return pages.huge_share(smaps, str(region_path(self.directory)))


@contextlib.contextmanager
def running(installation: Installation, setup: Setup) -> Iterator[Vpp]:
    """A VPP of its own directory and sockets; ended, whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="bench-vpp-"))
    (directory / "startup.conf").write_text(
        startup_conf(installation, setup, directory, len(os.sched_getaffinity(0)))
    )
    log = (directory / "vpp.log").open("wb")
    libraries = ":".join(str(p) for p in installation.prefix.glob("lib/*-linux-gnu")) or str(
        installation.prefix / "lib"
    )
    process = subprocess.Popen(
        [str(installation.program), "-c", str(directory / "startup.conf")],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        env=os.environ
        | {"LD_LIBRARY_PATH": libraries}
        | ({"LD_PRELOAD": str(setup.preload)} if setup.preload else {}),
    )
    api = None
    try:
        api = _connect(process, directory)
        vpp = Vpp(process, api, directory)
        vpp.worker_threads = worker_threads(vpp.cli("show threads"))
        vpp.prefer(True)
        yield vpp
    finally:
        if api is not None:
            with contextlib.suppress(Exception):
                api.disconnect()
        _end(process)
        log.close()
        shutil.rmtree(directory, ignore_errors=True)
        for left in Path("/dev/shm").glob(f"{directory.name}*"):
            left.unlink(missing_ok=True)


def last_words(log: str, lines: int = 3) -> str:
    """The last lines of VPP's log that say something: no stack, no unknown features. Pure."""
    said = [re.sub(r"^vpp\[\d+\]: ", "", line).strip() for line in log.splitlines()]
    kept = [line for line in said if line and not _NOISE.match(line)]
    return " | ".join(kept[-lines:])


def worker_threads(text: str) -> tuple[int, ...]:
    """Thread numbers of the workers, from the text of `show threads`. Pure."""
    found = re.findall(r"^\d+\s+vpp_wk_\d+\s+workers\s+(\d+)", text, re.MULTILINE)
    return tuple(int(number) for number in found)


def _connect(process: subprocess.Popen[bytes], directory: Path) -> Any:
    try:
        from vpp_papi import VPPApiClient
    except ImportError as error:
        raise BenchError("the Python package vpp_papi is missing: make venv") from error
    socket = directory / "api.sock"
    deadline = time.monotonic() + START_SECONDS
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = last_words((directory / "vpp.log").read_text(errors="replace"), 10)
            raise BenchError(f"VPP did not start: {tail}")
        time.sleep(0.05)
    api = VPPApiClient(server_address=str(socket), bootstrapapi=True, read_timeout=600)
    api.connect("bench-vpp")
    return api


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
