"""Which engine a node gets, and how the pod that chose says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpp_operator.dataplane.choice import EngineChoice, choice_text, parse_choice, read_choice, write_choice

CHOICES = (
    EngineChoice("vpp"),
    EngineChoice("embedded", "embedded"),
    EngineChoice("embedded", "auto", "1 CPU = too few"),
    EngineChoice("vpp", "vpp", "", ("no huge pages", "one worker"), {"workers": "2", "buffers": "16384"}),
)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_is_read_back_as_it_was_written(tmp_path: Path, choice: EngineChoice) -> None:
    write_choice(tmp_path, choice)
    assert read_choice(tmp_path) == choice
    assert (tmp_path / "engine").read_text().splitlines()[0] == choice.engine
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_a_reason_stays_one_line() -> None:
    text = choice_text(EngineChoice("embedded", "auto", "it said\nvpp\nand ended"))
    assert parse_choice(text) == EngineChoice("embedded", "auto", "it said vpp and ended")


@pytest.mark.parametrize("text", ["", "\n", "dpdk\n", "vpp2", "wanted=vpp\nvpp\n"])
def test_a_text_that_names_no_engine_is_no_choice(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine").write_text(text)
    assert read_choice(tmp_path) is None


def test_no_file_is_no_choice(tmp_path: Path) -> None:
    assert read_choice(tmp_path) is None
