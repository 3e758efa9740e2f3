"""Fixtures of the control tests: a real etcd and API server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.controlplane import ControlPlane


@pytest.fixture(scope="session")
def controlplane() -> Iterator[ControlPlane]:
    """One control plane for the whole session; tests name what they create so that they do not meet."""
    with ControlPlane() as plane:
        yield plane
