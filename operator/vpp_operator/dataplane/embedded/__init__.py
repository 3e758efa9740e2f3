"""Adapter for the embedded engine (vpp-embedded): its control socket as a Dataplane."""

from pathlib import Path

from vpp_operator.dataplane.embedded.transport import ControlSocket
from vpp_operator.dataplane.messages import CALL_TIMEOUT, MessageDataplane

__all__ = ["EmbeddedDataplane"]


class EmbeddedDataplane(MessageDataplane):
    """Dataplane over the control socket of vpp-embedded.

    Args:
        socket_path: the engine's ``--socket``.
        call_timeout: seconds that the engine has for one message; longer silence ends the connection.
    """

    def __init__(self, socket_path: Path, call_timeout: float = CALL_TIMEOUT) -> None:
        super().__init__(ControlSocket(socket_path), call_timeout)
