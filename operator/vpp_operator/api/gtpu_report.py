"""What an agent tells the operator about the GTP-U objects on its node: the answer of GET /v1/gtpu.

No custom resource: typed records that both sides share, JSON on the wire.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from .problem import Owner

__all__ = [
    "AUDIENCE",
    "FLOATING_LABEL",
    "PATH",
    "EndpointReport",
    "Figures",
    "NodeReport",
    "ObjectReport",
    "PathReport",
]

PATH: Final = "/v1/gtpu"
"""Path of the report, and the non-resource URL that a reader needs the verb get on."""

AUDIENCE: Final = "vpp-operator.dev/agent"
"""Audience of a reader's token: the API server takes no such token, so that an agent can do nothing with it
but read other agents' figures."""


FLOATING_LABEL: Final = "vpp-operator.dev/floating-endpoint"
"""Label of the Leases by which nodes hold Floating GtpuEndpoints."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Packets and inner bits per second over the last interval; drops since the engine started."""

    rx_pps: int = 0
    tx_pps: int = 0
    rx_bps: int = 0
    tx_bps: int = 0
    drops: int = 0


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """A GtpuTunnel or GtpuTunnelSet that the node serves, or should.

    ``programmed`` of ``total`` tunnels are in the tables. ``up``: whether the peers answer Echo Requests
    (False: one does not; None: not known, or none are sent). ``reason`` and ``message`` say why something is
    not programmed.
    """

    kind: str
    namespace: str
    name: str
    generation: int
    programmed: int
    total: int
    up: bool | None = None
    reason: str = ""
    message: str = ""
    figures: Figures | None = None

    @property
    def owner(self) -> Owner:
        """The object."""
        return Owner(self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class PathReport:
    """The path to a peer; ``up`` None: no Echo has been answered or lost yet."""

    peer: str
    up: bool | None
    rtt_us: int | None = None
    restart_counter: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """A GtpuEndpoint that is active on the node. ``message``: what the node cannot do for it."""

    name: str
    generation: int
    programmed: bool
    paths: tuple[PathReport, ...] = ()
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Everything of one node. ``settled``: all objects have been listed and programmed at least once."""

    node: str
    settled: bool
    endpoints: tuple[EndpointReport, ...] = ()
    objects: tuple[ObjectReport, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """Why a Floating endpoint's Lease cannot be worked with, by endpoint."""

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: bytes) -> NodeReport:
        """Read it. Raises ValueError for what is no report."""
        try:
            data: dict[str, Any] = orjson.loads(raw)
            return cls(
                node=str(data["node"]),
                settled=bool(data["settled"]),
                endpoints=tuple(
                    EndpointReport(**{**e, "paths": tuple(PathReport(**p) for p in e["paths"])})
                    for e in data["endpoints"]
                ),
                objects=tuple(
                    ObjectReport(**{**o, "figures": Figures(**o["figures"]) if o["figures"] else None})
                    for o in data["objects"]
                ),
                problems={str(k): str(v) for k, v in data["problems"].items()},
            )
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            raise ValueError(f"not a report of GTP-U figures: {type(error).__name__}: {error}") from None
