"""What holds for every suite: with ``--whole-suite`` (as `make test` runs), nothing is left out unnoticed."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent
_ALLOWED = _ROOT / "allowed-skips.txt"
_RAN = pytest.StashKey[Counter[str]]()
_SKIPPED = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole-suite",
        action="store_true",
        help="as root, fail when a suite ran nothing; fail on a skip that allowed-skips.txt does not name",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RAN] = Counter()
    config.stash[_SKIPPED] = []


class _Watcher:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.config.stash[_SKIPPED].append((report.nodeid, reason))
        elif report.when == "call":
            self.config.stash[_RAN][_suite(Path(report.nodeid))] += 1


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Watcher(session.config))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--whole-suite") and exitstatus == 0 and _complaints(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--whole-suite"):
        for complaint in _complaints(config):
            terminalreporter.write_line(f"FAILED suite: {complaint}", red=True)


def _suite(path: Path) -> str:
    """Name of the suite: the folder below tests/."""
    return path.parts[1] if len(path.parts) > 1 else path.name


def _complaints(config: pytest.Config) -> list[str]:
    found = []
    if os.geteuid() == 0 and sys.platform == "linux":
        asked = sorted({_suite(Path(word).resolve().relative_to(_ROOT.parent)) for word in config.args})
        found += [f"{suite} ran no test" for suite in asked if not config.stash[_RAN][suite]]
    allowed = allowed_skips(_ALLOWED.read_text())
    for node, reason in config.stash[_SKIPPED]:
        if not any(fnmatch.fnmatch(node, pattern) and text in reason for pattern, text in allowed):
            found.append(f"{node} was skipped ({reason}) and is not in {_ALLOWED.name}")
    return found


def allowed_skips(text: str) -> list[tuple[str, str]]:
    """Lines ``pattern of node ids: part of the reason``; # starts a comment."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [
        (pattern.strip(), reason.strip()) for pattern, _, reason in (line.rpartition(": ") for line in lines)
    ]
