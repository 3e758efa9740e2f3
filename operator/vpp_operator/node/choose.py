"""Which engine this node is to run, and what VPP starts with here.

Deciding is pure; :func:`look` reads the machine, :func:`prepare` writes the files.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vpp_operator.api.tuning import Hugepages, ResolvedCapacity, ResolvedRuntime
from vpp_operator.dataplane.choice import (
    EMBEDDED,
    TUNING_FILE,
    VPP,
    EngineChoice,
    started_with,
    write_choice,
)
from vpp_operator.dataplane.vpp.startup import (
    PAGE_BYTES,
    StartupConf,
    StartupError,
    buffer_memory,
    huge_memory,
    render_startup,
)

__all__ = ["Machine", "Request", "choose", "look", "prepare", "read_request", "trial"]

_MIB = 1 << 20
_ARCHITECTURES = ("x86_64", "aarch64")
_NEEDED_FLAG = {"x86_64": "sse4_2"}
"""What VPP's packages are compiled for at least."""
_RINGS = 64 * _MIB
"""Packet rings of a worker, locked memory."""
_PROGRAM = 160 * _MIB
"""VPP itself, with its threads' stacks and statistics."""
_PAGE_NAMES = {"2Mi": "2M", "1Gi": "1G"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What of the machine decides whether and how VPP runs."""

    architecture: str
    flags: frozenset[str]
    """Flags of its CPUs, where the kernel names them."""
    cpus: int
    """CPUs that the engine may use."""
    memory: int
    """Bytes that are available; 0: not known."""
    numa_nodes: int = 1
    free_huge: Mapping[str, int] = field(default_factory=dict)
    """Free huge pages by size, "2M" or "1G"."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the node's engine."""

    engine: str
    """auto, vpp or embedded."""
    brings_vpp: bool
    """Whether the engine's pod has VPP in its image."""
    runtime: ResolvedRuntime
    hugepages: Hugepages | None = None
    """Huge pages that the pod requests; those of ``runtime`` are served by a pod that does."""


def _hindrance(request: Request, machine: Machine, conf: StartupConf) -> str:
    """Return why VPP cannot run here; empty: nothing is known against it."""
    if not request.brings_vpp:
        return "the engine's pods bring the embedded engine only (chart values engine, images.vpp.repository)"
    if machine.architecture not in _ARCHITECTURES:
        return f"VPP is not built for {machine.architecture}, only for {' and '.join(_ARCHITECTURES)}"
    flag = _NEEDED_FLAG.get(machine.architecture)
    if flag and machine.flags and flag not in machine.flags:
        return f"the CPU lacks {flag}, which VPP's packages are compiled for"
    try:
        render_startup(conf)
    except StartupError as error:
        return f"its startup file cannot be written: {error}"
    needed = _PROGRAM + max(1, conf.workers, conf.rx_queues) * _RINGS
    if conf.page_size is None:
        needed += machine.numa_nodes * buffer_memory(conf)
    if machine.memory and machine.memory < needed:
        return (
            f"VPP needs {_mib(needed)} with these settings and {_mib(machine.memory)} are available; "
            "lower runtime.buffers or runtime.workers, or free memory"
        )
    return ""


def _mib(size: int) -> str:
    return f"{-(-size // _MIB)} MiB"


def _page_size(request: Request, machine: Machine, conf: StartupConf) -> tuple[str | None, str]:
    """Return the page size to use, and what doing without huge pages costs where that is so."""
    given = request.hugepages
    huge = replace(conf, page_size=_PAGE_NAMES[given.page_size] if given else "2M")
    assert huge.page_size is not None
    page, needed = PAGE_BYTES[huge.page_size], huge_memory(huge, machine.numa_nodes)
    pages = needed // page
    if given is None:
        why = "the engine's pod requests no huge pages"
        remedy = f"vpp.hugepages {{pageSize: 2Mi, count: {pages}}} in the chart, and as many on the node"
    elif given.count < pages:
        why = f"the engine's pod requests {given.count} huge pages of {given.page_size} and VPP needs {pages}"
        remedy = "request as many, or lower runtime.buffers"
    elif machine.free_huge.get(huge.page_size, 0) < pages:
        free = machine.free_huge.get(huge.page_size, 0)
        why = f"{free} huge pages of {given.page_size} are free on the node and VPP needs {pages}"
        remedy = "reserve more on the node (vm.nr_hugepages)"
    else:
        return huge.page_size, ""
    ordinary = buffer_memory(replace(conf, page_size=None))
    cost = (
        f"without huge pages ({why}): packet buffers take {_mib(ordinary)} per NUMA node, not "
        f"{_mib(buffer_memory(huge))}, and each has a page of 4 KiB of its own to be translated, as have "
        f"tables; drivers that need huge pages (dpdk) cannot be used. Remedy: {remedy}"
    )
    return None, cost


def _workers(request: Request, machine: Machine) -> tuple[int, str]:
    """Return the worker threads that there are CPUs for beside the main thread."""
    wanted, most = request.runtime.workers, max(0, machine.cpus - 1)
    if wanted <= most:
        return wanted, ""
    got = f"{most} worker thread(s)" if most else "its main thread alone, which answers the agent as well"
    may = f"the engine may use {machine.cpus} CPU(s)"
    return most, f"runtime.workers asks for {wanted} and {may}: it forwards with {got}"


def choose(request: Request, machine: Machine, run_dir: Path) -> tuple[EngineChoice, StartupConf]:
    """Decide which engine the node runs; the settings are those that VPP has if it is taken."""
    runtime = request.runtime
    workers, few = _workers(request, machine)
    conf = StartupConf(
        directory=run_dir / "vpp",
        region=run_dir / "region",
        workers=workers,
        main_core=runtime.main_core,
        buffers=runtime.buffers,
        rx_queues=runtime.rx_queues,
        capacity=runtime.capacity.model_dump(),
        extra_plugin_paths=(Path("/usr/lib/vpp-operator/vpp_plugins"),),
    )
    page_size, slow = _page_size(request, machine, conf)
    conf = replace(conf, page_size=page_size)
    if request.engine == EMBEDDED:
        return EngineChoice(EMBEDDED, request.engine), conf
    reason = _hindrance(request, machine, conf)
    if reason:
        return EngineChoice(EMBEDDED, request.engine, reason), conf
    notes = tuple(note for note in (few, slow) if note)
    return EngineChoice(VPP, request.engine, notes=notes, started=started_with(runtime)), conf


def trial(conf: StartupConf) -> StartupConf:
    """Return settings to try VPP with, apart from the real ones: the same threads, memory and plugins; no
    region and no link."""
    return replace(conf, directory=conf.directory / "trial", region=None)


def prepare(request: Request, machine: Machine, run_dir: Path) -> EngineChoice:
    """Choose the engine, and leave in ``run_dir`` what its container starts with. Raises OSError."""
    choice, conf = choose(request, machine, run_dir)
    if choice.engine == VPP:
        for one in (conf, trial(conf)):
            one.directory.mkdir(parents=True, exist_ok=True)
            (one.directory / "startup.conf").write_text(render_startup(one))
        # A new pod may bring another VPP.
        (conf.directory / "tried").unlink(missing_ok=True)
    write_choice(run_dir, choice)
    return choice


def read_request(
    run_dir: Path, engine: str, brings_vpp: bool, hugepages: str, defaults: Mapping[str, int | None]
) -> Request:
    """Return what is asked of the engine: the node's tuning where the agent has left one in ``run_dir``, else
    ``engine`` and ``defaults`` (workers and capacities by name; None: the built-in one)."""
    given = {name: value for name, value in defaults.items() if value is not None}
    workers = {"workers": given.pop("workers")} if "workers" in given else {}
    runtime = ResolvedRuntime(capacity=ResolvedCapacity(**given), **workers)
    size, _, count = hugepages.partition(":")
    pages = Hugepages.model_validate({"pageSize": size, "count": int(count)}) if hugepages else None
    try:
        tuned = json.loads((run_dir / TUNING_FILE).read_text())
        engine, runtime = str(tuned["engine"]), ResolvedRuntime.model_validate(tuned["runtime"])
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, OSError) as error:
        print(f"{run_dir / TUNING_FILE}: left out: {error}", file=sys.stderr)
    return Request(engine, brings_vpp, runtime, pages)


def look(root: Path = Path("/")) -> Machine:
    """Read the machine; ``root`` is where proc and sys are found."""
    return Machine(
        architecture=platform.machine(),
        flags=frozenset(_flags(root)),
        cpus=len(os.sched_getaffinity(0)),
        memory=_available(root),
        numa_nodes=max(1, len(list((root / "sys/devices/system/node").glob("node[0-9]*")))),
        free_huge=_free_huge(root),
    )


def _flags(root: Path) -> Iterator[str]:
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return
    if found := re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE):
        yield from found[1].split()


def _available(root: Path) -> int:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _free_huge(root: Path) -> dict[str, int]:
    free = {}
    for name, size in PAGE_BYTES.items():
        try:
            path = root / f"sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/free_hugepages"
            free[name] = int(path.read_text())
        except (OSError, ValueError):
            continue
    return free
