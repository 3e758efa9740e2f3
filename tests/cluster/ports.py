"""TCP ports on loopback for servers whose port has to be known before they start."""

from __future__ import annotations

import random
import socket

# Not of those that Linux gives to clients (32768-60999), so that between the look and the server's start no
# outgoing connection takes one; and not of those that a node masquerades with, which leave out what listens.
_PORTS = range(3000, 10000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now and that this process has not been given before."""
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(ports) == count:
            return ports
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    raise OSError(f"{count} free ports of {_PORTS.start}-{_PORTS.stop - 1} asked for, {len(ports)} found")


def free_port() -> int:
    """One such port."""
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
