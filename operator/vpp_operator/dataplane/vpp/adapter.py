"""VPP as a :class:`vpp_operator.dataplane.protocol.Dataplane`."""

from __future__ import annotations

from pathlib import Path

from vpp_operator.dataplane.messages import CALL_TIMEOUT, MessageDataplane
from vpp_operator.dataplane.vpp.api import ApiSocket

__all__ = ["VppDataplane"]


class VppDataplane(MessageDataplane):
    """Dataplane over the binary API of a VPP with the plugin khost.

    Args:
        api_socket: VPP's API socket.
        call_timeout: seconds that VPP has for one message; longer silence ends the connection.
    """

    def __init__(self, api_socket: Path, call_timeout: float = CALL_TIMEOUT) -> None:
        super().__init__(ApiSocket(api_socket), call_timeout)
