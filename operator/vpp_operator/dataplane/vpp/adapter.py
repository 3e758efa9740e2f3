"""VPP as a :class:`vpp_operator.dataplane.protocol.Dataplane`."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vpp_operator.dataplane.messages import CALL_TIMEOUT, MessageDataplane
from vpp_operator.dataplane.protocol import Batch, EngineInfo, EngineStats, Failure
from vpp_operator.dataplane.records import GtpuPayload, GtpuTunnelRecord, Table
from vpp_operator.dataplane.vpp.api import ApiSocket
from vpp_operator.dataplane.vpp.stats import StatsSegment

__all__ = ["VppDataplane"]

_PAYLOAD_AT = struct.calcsize("<QI4xII16s")
"""Where the payload stands in a packed GtpuTunnelRecord."""


def _without_ethernet(tunnels: Sequence[bytes]) -> tuple[Sequence[bytes], list[Failure]]:
    """Part the tunnels from those that carry Ethernet: kgtpu has no nodes for frames."""
    frames = [raw for raw in tunnels if raw[_PAYLOAD_AT] == GtpuPayload.ETHERNET]
    if not frames:
        return tunnels, []
    key = GtpuTunnelRecord.KEY
    refused = [Failure(Table.GTPU_TUNNEL, raw[:key], -errno.EOPNOTSUPP) for raw in frames]
    return [raw for raw in tunnels if raw[_PAYLOAD_AT] != GtpuPayload.ETHERNET], refused


class VppDataplane(MessageDataplane):
    """Dataplane over the binary API of a VPP with the plugin khost, and its statistics segment.

    Args:
        api_socket: VPP's API socket.
        call_timeout: seconds that VPP has for one message; longer silence ends the connection.
        stats_socket: socket of the statistics segment; None: stats.sock beside the API socket.
    """

    def __init__(
        self, api_socket: Path, call_timeout: float = CALL_TIMEOUT, stats_socket: Path | None = None
    ) -> None:
        super().__init__(ApiSocket(api_socket), call_timeout)
        self._segment = StatsSegment(stats_socket or api_socket.with_name("stats.sock"))

    async def connect(self) -> EngineInfo:
        """Connect (again) and read the engine's identity; keeps a connection that is alive."""
        info = await super().connect()
        self._segment.close()
        return info

    async def close(self) -> None:
        """Let go of the connection; nothing programmed changes."""
        self._segment.close()
        await super().close()

    async def apply(self, batch: Batch) -> list[Failure]:
        """Program a batch; tunnels with Ethernet payload fail with EOPNOTSUPP."""
        tunnels, refused = _without_ethernet(batch.upserts.get(Table.GTPU_TUNNEL, ()))
        if refused:
            batch = replace(batch, upserts={**batch.upserts, Table.GTPU_TUNNEL: tunnels})
        return refused + await super().apply(batch)

    async def stats(self) -> EngineStats:
        """Read counters and table sizes: the plugins' by message, the links' from the segment."""
        stats = await super().stats()
        return replace(stats, counters={**stats.counters, **await self._segment.links()})
