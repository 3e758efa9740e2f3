"""The engine as a process: its start, its interface going and coming, its idle cost, its privileges."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.conftest import needs_root
from tests.contract.engine_lab import Namespace, Wire, add_host_link, namespaces
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import SMALL, EmbeddedEngine, Engine, embedded_engine, embedded_program
from tests.contract.engine_services import V4, Service, difference, settings
from tests.contract.engines import ENGINES, engine_named

from vpp_operator.dataplane.records import Protocol

CAP_NET_RAW = 13
LAYOUT_AT = 16
"""Where the region's header has the hash of its layout (fp_layout.h)."""


@pytest.fixture
def bare_node() -> Iterator[Namespace]:
    needs_root()
    with namespaces("bare") as [namespace]:
        yield namespace


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def bare_engine(request: pytest.FixtureRequest, bare_node: Namespace) -> Iterator[EmbeddedEngine]:
    """An engine that is not started, in a namespace without its interface."""
    with embedded_engine(bare_node, workers=request.param, capacity=SMALL) as engine:
        yield engine


@pytest.fixture(params=ENGINES)
def bare(request: pytest.FixtureRequest, bare_node: Namespace) -> Iterator[Engine]:
    """Any engine that is not started, in a namespace without its interface."""
    with engine_named(request.param, bare_node, SMALL) as engine:
        yield engine


async def works(engine: Engine) -> None:
    service = Service("web", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], settings() + service.records())) == []
    wire = Wire(engine.namespace)
    for port in range(40000, 40032):  # enough for every worker to have some
        back = wire.exchange(packet(Protocol.UDP, (V4.pod, port), (V4.vip, 80))).packet
        assert addresses(back)[1] == V4.endpoints[0]
    assert wire.receive(0.2) is None, "a packet came twice"
    wire.close()


async def test_interface_may_come_after_the_engine(bare: Engine) -> None:
    bare.start(wait_for_links=False)
    bare.wait_for_links([])
    add_host_link(bare.namespace)
    bare.wait_for_links(["vpp1"])
    await works(bare)


async def test_interface_goes_and_comes_back(bare: Engine) -> None:
    add_host_link(bare.namespace)
    bare.start()
    await works(bare)
    pid = bare.pid
    bare.namespace.ip("link", "delete", "vpp0")
    bare.wait_for_links([])
    add_host_link(bare.namespace)
    bare.wait_for_links(["vpp1"])
    await works(bare)
    bare.namespace.ip("link", "set", "vpp1", "down")
    bare.wait_for_links([])
    bare.namespace.ip("link", "set", "vpp1", "up")
    bare.wait_for_links(["vpp1"])
    await works(bare)
    assert bare.pid == pid


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_idle_engine_waits(bare_engine: EmbeddedEngine) -> None:
    add_host_link(bare_engine.namespace)
    bare_engine.capacity = {}  # the default tables: their ageing is part of the cost
    bare_engine.start()
    await works(bare_engine)
    await asyncio.sleep(0.5)
    before, start = cpu_seconds(bare_engine.pid), time.monotonic()
    await asyncio.sleep(4)
    share = (cpu_seconds(bare_engine.pid) - before) / (time.monotonic() - start)
    assert share <= 0.01


def threads(pid: int) -> list[dict[str, str]]:
    """/proc/…/status of every thread."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append({key: value.strip() for key, _, value in (line.partition(":") for line in lines)})
    return found


async def test_privileges_are_given_up(bare_engine: EmbeddedEngine) -> None:
    add_host_link(bare_engine.namespace)
    bare_engine.start()
    await works(bare_engine)
    found_threads = threads(bare_engine.pid)
    assert len(found_threads) == bare_engine.workers + 1
    for found in found_threads:
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(found[name], 16) == 1 << CAP_NET_RAW, name
        assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
        assert found["NoNewPrivs"] == "1"
        assert found["Seccomp"] == "2"


async def test_net_raw_is_enough(bare_engine: EmbeddedEngine) -> None:
    """Started with nothing but that capability, as in its pod."""
    add_host_link(bare_engine.namespace)
    bare_engine.wrapper = ("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all", "--no-new-privs")
    bare_engine.start()
    await works(bare_engine)


async def test_second_engine_waits_for_the_region(bare_engine: EmbeddedEngine) -> None:
    add_host_link(bare_engine.namespace)
    bare_engine.start()
    second = replace(bare_engine, process=None)
    first_process = bare_engine.process
    second.launch()
    try:
        await asyncio.sleep(0.5)
        assert "another engine holds the region" in bare_engine.log()
        await works(bare_engine)
        assert first_process is not None
        bare_engine.stop()
        second.wait_for_links(["vpp1"])
        await works(second)
    finally:
        second.kill()


async def test_other_capacities_make_a_new_region(bare_engine: EmbeddedEngine) -> None:
    add_host_link(bare_engine.namespace)
    bare_engine.start()
    await works(bare_engine)
    async with bare_engine.dataplane() as dataplane:
        first = await dataplane.info()
    bare_engine.stop()
    bare_engine.capacity = {**SMALL, "sessions": 2048}
    bare_engine.start()
    async with bare_engine.dataplane() as dataplane:
        second = await dataplane.info()
    assert not second.attached and second.kept_sessions == 0
    assert first.creation_id != second.creation_id
    await works(bare_engine)


@pytest.mark.parametrize("damage", ["empty", "short", "noise", "header"])
async def test_damaged_region_is_replaced(bare_engine: EmbeddedEngine, damage: str) -> None:
    add_host_link(bare_engine.namespace)
    bare_engine.start()
    await works(bare_engine)
    bare_engine.kill()
    path = bare_engine.region_path
    content = bytearray(path.read_bytes())
    match damage:
        case "empty":
            content.clear()
        case "short":
            del content[len(content) // 2 :]
        case "noise":
            content[:] = os.urandom(len(content))
        case "header":
            content[:4096] = os.urandom(4096)
    path.write_bytes(content)
    bare_engine.start()
    async with bare_engine.dataplane() as dataplane:
        assert not (await dataplane.info()).attached
    await works(bare_engine)


async def test_region_of_another_layout_is_discarded_with_a_warning(bare: Engine) -> None:
    """Who reads the log learns that connections began anew, and why; a first start says no such thing."""
    add_host_link(bare.namespace)
    bare.start()
    await works(bare)
    assert "discarded" not in bare.log()
    bare.stop()
    bare.overwrite_region(LAYOUT_AT, b"another.")
    bare.start()
    async with bare.dataplane() as dataplane:
        info = await dataplane.info()
    assert not info.attached and info.kept_sessions == 0
    (line,) = [line for line in bare.log().splitlines() if "discarded" in line]
    assert (
        "the region has another layout (another version wrote it)" in line and str(bare.region_path) in line
    )
    await works(bare)


def test_log_is_json_and_says_what_happened(bare_engine: EmbeddedEngine) -> None:
    bare_engine.start(wait_for_links=False)
    assert bare_engine.stop() == 0
    lines = [json.loads(line) for line in bare_engine.log().splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "made a new region" and "ready" in events and events[-1] == "stopped"
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workers=0"], "--workers 0: give a number from 1 to 32"),
        (["--workers=two"], "--workers two: give a number"),
        (["--sessions=-5"], "--sessions -5: give a number"),
        (["--interface="], "an interface name has 1 to 15 characters"),
        (["--interface=a", "--interface=a"], "is given twice"),
        (["--socket=" + "x" * 200], "--socket: a path has 1 to 107 characters"),
        (["spare"], "spare: no such argument"),
        (["--nonsense"], "--help"),
        (["--region=/nonexistent/region"], "/nonexistent/region"),
        (["--region=/dev/shm", "--socket=/nonexistent/sock"], "cannot be opened"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], complaint: str) -> None:
    needs_root()
    result = subprocess.run([embedded_program(), *arguments], capture_output=True, text=True, timeout=15)
    assert result.returncode in (1, 2)
    assert complaint in result.stderr


def test_help_names_every_option() -> None:
    result = subprocess.run([embedded_program(), "--help"], capture_output=True, text=True, check=True)
    source = Path(__file__).parents[2] / "vpp-plugins" / "embedded" / "options.c"
    options = [
        line.split('"')[1] for line in source.read_text().splitlines() if "_argument, NULL, OPT_" in line
    ]
    assert len(options) > 10
    assert all(f"--{name}" in result.stdout for name in options)


def test_settings_file_wins_and_bad_lines_are_left_out(bare_engine: EmbeddedEngine) -> None:
    file = bare_engine.directory / "engine.conf"
    file.write_text("# from the agent\nsessions=512\nworkers=99\nsocket=/elsewhere\nnonsense\n")
    bare_engine.options = (f"--settings={file}",)
    bare_engine.start(wait_for_links=False)
    info = bare_engine.check()
    assert info is not None
    assert info["capacity"]["sessions4"] == 512  # type: ignore[index]
    assert info["workers"] == bare_engine.workers
    assert bare_engine.log().count("setting left out") == 3


def test_check_fails_without_an_engine(tmp_path: Path) -> None:
    result = subprocess.run(
        [embedded_program(), "--check", f"--socket={tmp_path}/none"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "no answer at" in result.stderr
