"""VPP as a :class:`vpp_operator.dataplane.protocol.Dataplane`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vpp_operator.dataplane.messages import CALL_TIMEOUT, MessageDataplane
from vpp_operator.dataplane.protocol import EngineInfo, EngineStats
from vpp_operator.dataplane.vpp.api import ApiSocket
from vpp_operator.dataplane.vpp.stats import StatsSegment

__all__ = ["VppDataplane"]


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

    async def stats(self) -> EngineStats:
        """Read counters and table sizes: the plugins' by message, the links' from the segment."""
        stats = await super().stats()
        return replace(stats, counters={**stats.counters, **await self._segment.links()})
