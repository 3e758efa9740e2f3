"""The program that starts an engine in its pod (images/vpp/engine): what preflight chose, or the embedded
engine and why. With the real engines; VPP where there is one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contract.engine_process import ROOT, embedded_program
from tests.contract.engine_vpp import NO_VPP, plugin_directories, vpp_prefix

from vpp_operator.api.tuning import ResolvedCapacity, ResolvedRuntime
from vpp_operator.dataplane.choice import EngineChoice, read_choice, write_choice
from vpp_operator.node.choose import Request, look, prepare

PROGRAM = ROOT / "images" / "vpp" / "engine"
SMALL = ResolvedRuntime(buffers=1024, capacity=ResolvedCapacity(sessions=1024, services=256, endpoints=1024))
Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with the embedded engine and the tools that the program uses, and nothing else."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for tool in ("cut", "grep", "mv", "sleep", "tail", "tr"):
        (directory / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    (directory / "vpp-embedded").symlink_to(embedded_program())
    return directory


@pytest.fixture
def launch(tmp_path: Path, programs: Path) -> Iterator[Run]:
    """Start the program; what runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    environment = {"PATH": str(programs), "RUN_DIR": str(run_dir)}

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [PROGRAM, *words], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def embedded_options(tmp_path: Path) -> list[str]:
    run_dir = tmp_path / "run"
    return [
        f"--socket={run_dir / 'embedded.sock'}",
        f"--region={run_dir / 'region'}",
        "--sessions=1024",
        "--interface=absent0",
        "--ethernet-interface=absent1",
    ]


def answers(launch: Run, process: subprocess.Popen[str], seconds: float = 40) -> bool:
    """Ask as the pod's probes do until the engine answers, or has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        probe = launch("check")
        probe.communicate(timeout=20)
        if probe.returncode == 0:
            return True
        time.sleep(0.2)
    return False


def program_of(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/exe").readlink().name


@pytest.mark.parametrize("choice", [None, EngineChoice("embedded", "auto", "too few CPUs")])
def test_embedded_is_started_where_it_was_chosen_or_nothing_was(
    tmp_path: Path, launch: Run, choice: EngineChoice | None
) -> None:
    if choice is not None:
        write_choice(tmp_path / "run", choice)
    process = launch("run", *embedded_options(tmp_path))
    assert answers(launch, process) and program_of(process) == "vpp-embedded"
    assert read_choice(tmp_path / "run") == choice


def test_a_vpp_that_is_not_there_is_replaced_and_the_reason_kept(tmp_path: Path, launch: Run) -> None:
    prepare(Request("auto", True, SMALL), look(), tmp_path / "run")
    process = launch("run", *embedded_options(tmp_path))
    assert answers(launch, process) and program_of(process) == "vpp-embedded"
    choice = read_choice(tmp_path / "run")
    assert choice is not None and (choice.engine, choice.wanted) == ("embedded", "auto")
    assert "at a trial, VPP ended or did not answer" in choice.reason and "127" in choice.reason


def test_wrong_use_says_how(launch: Run) -> None:
    process = launch("start")
    assert "usage: engine run" in process.communicate(timeout=10)[1] and process.returncode == 2


@pytest.fixture
def vpp(programs: Path) -> Path:
    """VPP's programs beside the embedded engine; returns where they are from."""
    prefix = vpp_prefix()
    if prefix is None:
        pytest.skip(NO_VPP)
    for name in ("vpp", "vppctl"):
        (programs / name).symlink_to(prefix / "bin" / name)
    return prefix


def use_plugins(run_dir: Path, directories: tuple[Path, ...]) -> None:
    """Let both startup files name these directories, not that of the image."""
    names = ":".join(str(directory) for directory in directories)
    for file in (run_dir / "vpp" / "startup.conf", run_dir / "vpp" / "trial" / "startup.conf"):
        text = file.read_text()
        assert "add-path /usr/lib/vpp-operator/vpp_plugins\n" in text
        file.write_text(text.replace("/usr/lib/vpp-operator/vpp_plugins", names))


def test_vpp_is_tried_once_and_started(tmp_path: Path, launch: Run, vpp: Path) -> None:
    run_dir = tmp_path / "run"
    chosen = prepare(Request("auto", True, SMALL), look(), run_dir)
    use_plugins(run_dir, plugin_directories())
    process = launch("run", *embedded_options(tmp_path))
    assert answers(launch, process), process.stderr
    assert program_of(process) == "vpp" and (run_dir / "vpp" / "tried").exists()
    assert read_choice(run_dir) == chosen
    assert (run_dir / "region").stat().st_size > 0
    process.kill()
    process.communicate(timeout=20)
    (run_dir / "vpp" / "trial" / "startup.conf").unlink()
    again = launch("run")
    assert answers(launch, again) and program_of(again) == "vpp", "a restart is not tried"


def test_a_vpp_without_our_plugins_is_replaced_and_the_reason_kept(
    tmp_path: Path, launch: Run, vpp: Path
) -> None:
    run_dir = tmp_path / "run"
    prepare(Request("vpp", True, SMALL), look(), run_dir)
    use_plugins(run_dir, (tmp_path / "nothing",))
    process = launch("run", *embedded_options(tmp_path))
    assert answers(launch, process) and program_of(process) == "vpp-embedded"
    choice = read_choice(run_dir)
    assert choice is not None and choice.wanted == "vpp"
    assert "could not load the plugin khost" in choice.reason
    assert not (run_dir / "vpp" / "tried").exists()
