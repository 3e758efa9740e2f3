"""The engines that the contract suite runs over: what passes with one passes with all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from tests.contract.engine_lab import Namespace
from tests.contract.engine_process import Engine, embedded_engine
from tests.contract.engine_vpp import NO_VPP, vpp_engine, vpp_prefix

ENGINES = ("embedded-1", "embedded-2", "vpp-1")
"""Engine and number of workers."""

Onward = Callable[[bytes], bytes]
"""What becomes of a packet that an engine passes on without a Service or tunnel of its own."""


@contextlib.contextmanager
def engine_named(name: str, namespace: Namespace, capacity: dict[str, int] | None = None) -> Iterator[Engine]:
    """Give one of ENGINES that is not started yet; skip the test where there is no VPP to run."""
    kind, _, workers = name.rpartition("-")
    if kind == "vpp" and vpp_prefix() is None:
        pytest.skip(NO_VPP)
    make = vpp_engine if kind == "vpp" else embedded_engine
    with make(namespace, workers=int(workers), capacity=capacity) as engine:
        yield engine
