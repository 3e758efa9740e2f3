"""Fixtures of the contract suites."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.contract.engine_gtpu import hop
from tests.contract.engine_lab import Namespace, Wire, add_host_link, namespaces
from tests.contract.engine_process import SMALL, Engine
from tests.contract.engines import ENGINES, Onward, engine_named

from vpp_operator.dataplane.messages import MessageDataplane


def needs_root() -> None:
    """Skip where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces and packet sockets")


@pytest.fixture
def node() -> Iterator[Namespace]:
    """A namespace with a host link and nothing else."""
    needs_root()
    with namespaces("node") as [namespace]:
        add_host_link(namespace)
        yield namespace


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, node: Namespace) -> Iterator[Engine]:
    """A running engine on the host link, with small tables."""
    with engine_named(request.param, node, SMALL) as process:
        process.start()
        yield process


@pytest_asyncio.fixture
async def dataplane(engine: Engine) -> AsyncIterator[MessageDataplane]:
    """The adapter, connected to the engine."""
    async with engine.dataplane() as connected:
        yield connected


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    """The host's end of the link."""
    end = Wire(engine.namespace)
    yield end
    end.close()


@pytest.fixture
def onward(engine: Engine) -> Onward:
    """VPP routes a packet, and is a hop; the embedded engine gives it back to the node's kernel, which is."""
    return hop if engine.KIND == "vpp" else bytes
