"""The node's own addresses and listening ports, read from the kernel."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from pyroute2 import IPRoute

from vpp_operator.node.spec import IpAddress

__all__ = ["AddressWatch", "listening_ports", "own_addresses", "parse_listeners"]

_OUR_LINKS = ("vpp0", "vpp1")
_TENTATIVE, _DADFAILED = 0x40, 0x08  # linux/if_addr.h
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100
_LISTEN, _UDP_BOUND = 0x0A, 0x07  # net/tcp_states.h; an unconnected UDP socket is in TCP_CLOSE


def own_addresses() -> frozenset[IpAddress]:
    """Return the addresses of the interfaces here; not loopback, link-local or the host link's. Blocks."""
    found: set[IpAddress] = set()
    with IPRoute() as ip:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
        for entry in ip.get_addr():
            if names.get(entry["index"]) in _OUR_LINKS:
                continue
            flags = entry.get_attr("IFA_FLAGS") or entry["flags"]
            if flags & (_TENTATIVE | _DADFAILED):
                continue
            # On a point-to-point link IFA_ADDRESS is the peer's.
            text = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
            address = ipaddress.ip_address(text)
            if not (address.is_loopback or address.is_link_local or address.is_multicast):
                found.add(address)
    return frozenset(found)


class AddressWatch:
    """Calls back in the event loop when an address comes or goes in this network namespace."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            while self._socket.recv(65536):
                pass
        except OSError:
            # Drained, or the kernel dropped some (ENOBUFS): look at all addresses either way.
            pass
        self._changed()

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def parse_listeners(lines: Iterable[str], state: int) -> set[int]:
    """Return the local ports of sockets in ``state`` from a table as /proc/net/tcp (proc(5))."""
    ports = set()
    for line in lines:
        fields = line.split()
        if len(fields) > 3 and fields[0].endswith(":") and fields[3] == f"{state:02X}":
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def listening_ports(proc: Path = Path("/proc/self/net")) -> frozenset[int]:
    """Return the TCP and UDP ports that programs of this network namespace listen on. Blocks."""
    ports: set[int] = set()
    for name, state in (("tcp", _LISTEN), ("tcp6", _LISTEN), ("udp", _UDP_BOUND), ("udp6", _UDP_BOUND)):
        try:
            with open(proc / name) as table:
                ports |= parse_listeners(table, state)
        except FileNotFoundError:
            # No IPv6 on this node.
            continue
    return frozenset(ports)
