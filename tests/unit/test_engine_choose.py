"""Which engine preflight chooses on which machine, and what VPP is to start with there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vpp_operator.api.tuning import Hugepages, ResolvedRuntime
from vpp_operator.dataplane.choice import EngineChoice, read_choice
from vpp_operator.node import preflight
from vpp_operator.node.choose import Machine, Request, choose, look, prepare, read_request

MACHINE = Machine("x86_64", frozenset({"sse4_2", "avx2"}), cpus=4, memory=8 << 30, free_huge={"2M": 1024})
PAGES = Hugepages.model_validate({"pageSize": "2Mi", "count": 512})
RUN = Path("/run/vpp-operator")


def request(**changes: Any) -> Request:
    return replace(Request("auto", brings_vpp=True, runtime=ResolvedRuntime(), hugepages=PAGES), **changes)


def test_auto_takes_vpp_where_nothing_is_against_it() -> None:
    choice, conf = choose(request(), MACHINE, RUN)
    assert choice == EngineChoice("vpp", "auto", started={"workers": "1", "buffers": "16384"})
    assert (conf.workers, conf.page_size, conf.directory, conf.region) == (
        1, "2M", RUN / "vpp", RUN / "region",
    )  # fmt: skip
    assert conf.capacity["sessions"] == 262144


def test_embedded_is_taken_as_asked_without_a_reason() -> None:
    assert choose(request(engine="embedded"), MACHINE, RUN)[0] == EngineChoice("embedded", "embedded")


@pytest.mark.parametrize("engine", ["auto", "vpp"])
@pytest.mark.parametrize(
    ("asked", "machine", "named"),
    [
        ({"brings_vpp": False}, {}, "bring the embedded engine only"),
        ({}, {"architecture": "riscv64"}, "not built for riscv64"),
        ({}, {"flags": frozenset({"sse2"})}, "lacks sse4_2"),
        ({"hugepages": None}, {"memory": 200 << 20}, "200 MiB are available"),
        ({"runtime": ResolvedRuntime(buffers=1 << 20)}, {"memory": 1 << 30}, "VPP needs"),
    ],
)
def test_why_vpp_was_not_taken(
    engine: str, asked: dict[str, Any], machine: dict[str, Any], named: str
) -> None:
    choice, _ = choose(request(engine=engine, **asked), replace(MACHINE, **machine), RUN)
    assert (choice.engine, choice.wanted) == ("embedded", engine)
    assert named in choice.reason


def test_what_is_not_known_is_not_held_against_vpp() -> None:
    blind = Machine("x86_64", frozenset(), cpus=2, memory=0)
    assert choose(request(hugepages=None), blind, RUN)[0].engine == "vpp"


@pytest.mark.parametrize(
    ("pages", "free", "named"),
    [
        (None, 1024, "requests no huge pages"),
        (PAGES.model_copy(update={"count": 100}), 1024, "requests 100 huge pages of 2Mi and VPP needs 146"),
        (PAGES, 145, "145 huge pages of 2Mi are free on the node and VPP needs 146"),
    ],
)
def test_without_huge_pages_vpp_runs_and_says_what_that_costs(
    pages: Hugepages | None, free: int, named: str
) -> None:
    machine = replace(MACHINE, free_huge={"2M": free})
    choice, conf = choose(request(hugepages=pages), machine, RUN)
    assert choice.engine == "vpp" and conf.page_size is None
    (note,) = choice.notes
    assert named in note and "take 88 MiB per NUMA node, not 36 MiB" in note and "Remedy: " in note


def test_huge_pages_are_counted_for_each_numa_node() -> None:
    machine = replace(MACHINE, numa_nodes=2, free_huge={"2M": 163})
    assert choose(request(), machine, RUN)[1].page_size is None
    assert choose(request(), replace(machine, free_huge={"2M": 164}), RUN)[1].page_size == "2M"


@pytest.mark.parametrize(("cpus", "wanted", "got"), [(4, 3, 3), (4, 8, 3), (2, 1, 1), (1, 1, 0)])
def test_no_more_workers_than_cpus_beside_the_main_thread(cpus: int, wanted: int, got: int) -> None:
    asked = request(runtime=ResolvedRuntime(workers=wanted))
    choice, conf = choose(asked, replace(MACHINE, cpus=cpus), RUN)
    assert conf.workers == got
    assert any(f"asks for {wanted}" in note for note in choice.notes) == (got < wanted)


def test_the_agents_tuning_wins_over_the_charts_defaults(tmp_path: Path) -> None:
    defaults = {"workers": 2, "sessions": 4096, "tunnels": None}
    first = read_request(tmp_path, "auto", True, "1Gi:4", defaults)
    assert (first.engine, first.runtime.workers, first.runtime.capacity.sessions) == ("auto", 2, 4096)
    assert first.runtime.capacity.tunnels == ResolvedRuntime().capacity.tunnels
    assert first.hugepages == Hugepages.model_validate({"pageSize": "1Gi", "count": 4})
    runtime = ResolvedRuntime(workers=5).model_dump(by_alias=True, mode="json")
    (tmp_path / "tuning.json").write_text(json.dumps({"engine": "embedded", "runtime": runtime}))
    then = read_request(tmp_path, "auto", True, "", defaults)
    assert (then.engine, then.runtime.workers, then.hugepages) == ("embedded", 5, None)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"engine": "vpp"}', '{"engine": "vpp", "runtime": {"workers": 0}}']
)
def test_a_damaged_tuning_is_left_out_and_named(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tuning.json").write_text(text)
    assert read_request(tmp_path, "auto", True, "", {}).engine == "auto"
    assert "tuning.json: left out: " in capsys.readouterr().err


def test_the_files_of_a_vpp_that_is_tried_first(tmp_path: Path) -> None:
    (tmp_path / "vpp").mkdir()
    (tmp_path / "vpp" / "tried").touch()
    assert prepare(request(), MACHINE, tmp_path).engine == "vpp"
    real, trial = (tmp_path / "vpp" / name for name in ("startup.conf", "trial/startup.conf"))
    assert f"region {tmp_path}/region" in real.read_text()
    assert "region" not in trial.read_text() and "vpp1" not in trial.read_text(), (
        "touches nothing of the real one"
    )
    assert "khost_plugin.so { enable }" in trial.read_text()
    assert not (tmp_path / "vpp" / "tried").exists()
    assert read_choice(tmp_path) == choose(request(), MACHINE, tmp_path)[0]


def test_preflight_leaves_its_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = f"--result={tmp_path / 'preflight.json'}"
    assert preflight.main([result, "--engine=vpp", "--workers=1", "--sessions=2048"]) == 0
    choice = read_choice(tmp_path)
    assert choice is not None and choice.engine == "embedded" and "images.vpp" in choice.reason
    assert "images.vpp" in capsys.readouterr().out
    assert preflight.main([f"--result={tmp_path / 'other' / 'preflight.json'}"]) == 0
    assert read_choice(tmp_path / "other") is None


def test_the_machine_that_this_runs_on() -> None:
    machine = look()
    assert machine.cpus >= 1 and machine.memory > 0 and machine.numa_nodes >= 1


def test_a_machine_by_its_files(tmp_path: Path) -> None:
    for name, text in {
        "proc/cpuinfo": "processor : 0\nflags\t\t: fpu sse4_2\n",
        "proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2048 kB\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "7\n",
        "sys/devices/system/node/node0/x": "",
        "sys/devices/system/node/node1/x": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = look(tmp_path)
    assert (machine.flags, machine.memory, machine.numa_nodes) == (frozenset({"fpu", "sse4_2"}), 2 << 20, 2)
    assert machine.free_huge == {"2M": 7}
