"""A small node: two pods' namespaces, and a host between them that sends Services through the engine.

What the agent's steering does with marks is done here by the interface that a packet comes from: requests
to the service range and everything from the servers goes through the engine.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from tests.contract.engine_lab import ENGINE_MAC, Namespace, add_host_link, namespaces
from tests.contract.engine_services import V4, V6, Addresses

GATEWAYS = {4: "169.254.77.1", 6: "fe80::77:1"}


@dataclass(frozen=True)
class Node:
    """Namespaces of the client pod, the host with the engine, and the servers (all endpoints' addresses)."""

    client: Namespace
    host: Namespace
    servers: Namespace

    def route_services(self, through_engine: bool) -> None:
        """Steer through the engine, or let the client reach the servers directly (to compare)."""
        verb = "add" if through_engine else "del"
        for family in ("-4", "-6"):
            self.host.ip(family, "rule", verb, "pref", "150", "iif", "servers", "lookup", "101")


def _pod_link(
    host: Namespace, pod: Namespace, name: str, mtu: int, *places: tuple[Addresses, str, str]
) -> None:
    """A veth between host and pod; ``places`` are (family, host's address, pod's address)."""
    host.ip("link", "add", name, "mtu", str(mtu), "type", "veth", "peer", "name", "eth0", "netns", pod.name)
    pod.ip("link", "set", "eth0", "mtu", str(mtu), "up")
    host.ip("link", "set", name, "up")
    for a, gateway, address in places:
        family = f"-{a.family}"
        extra = ["nodad"] if a is V6 else []
        host.ip(family, "address", "add", f"{gateway}/{'32' if a is V4 else '128'}", "dev", name, *extra)
        pod.ip(family, "address", "add", f"{address}/{'32' if a is V4 else '128'}", "dev", "eth0", *extra)
        pod.ip(family, "route", "add", gateway, "dev", "eth0")
        pod.ip(family, "route", "add", "default", "via", gateway, "src", address)
        host.ip(family, "route", "add", address, "dev", name)


@contextlib.contextmanager
def node_with_pods(mtu: int = 1500) -> Iterator[Node]:
    """Make it; the engine is still to be started in ``host``."""
    with namespaces("client", "host", "servers") as [client, host, servers]:
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            host.sysctl(name, 1)
        add_host_link(host, mtu)
        host.sysctl("ipv4/conf/vpp0/rp_filter", 0)
        host.sysctl("ipv4/conf/all/rp_filter", 0)
        host.sysctl("ipv4/conf/vpp0/accept_local", 1)
        _pod_link(host, client, "client", mtu, (V4, "10.244.1.1", V4.pod), (V6, "fd00:244:1::ff", V6.pod))
        _pod_link(
            host,
            servers,
            "servers",
            mtu,
            (V4, "10.244.2.1", V4.endpoints[0]),
            (V6, "fd00:244:2::ff", V6.endpoints[0]),
        )
        for a in (V4, V6):
            for address in a.endpoints[1:]:
                extra = ["nodad"] if a is V6 else []
                servers.ip("address", "add", f"{address}/{'32' if a is V4 else '128'}", "dev", "eth0", *extra)
                host.ip(f"-{a.family}", "route", "add", address, "dev", "servers")
            host.ip("address", "add", a.node, "dev", "lo")
            family, gateway = f"-{a.family}", GATEWAYS[a.family]
            host.ip("neighbor", "add", gateway, "lladdr", ENGINE_MAC.hex(":"), "dev", "vpp0")
            host.ip(family, "rule", "add", "pref", "100", "iif", "vpp0", "lookup", "main")
            host.ip(family, "rule", "add", "pref", "200", "lookup", "100")
            for table, destination in (("100", a.services), ("101", "default")):
                route = [destination, "via", gateway, "dev", "vpp0", "onlink", "table", table]
                host.ip(family, "route", "add", *route)
        node = Node(client, host, servers)
        node.route_services(True)
        yield node


def connect(namespace: Namespace, address: str, port: int, timeout: float = 5.0) -> socket.socket:
    """Open a TCP connection from a namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = namespace.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    connection.connect((address, port))
    return connection


def listen(namespace: Namespace, address: str, port: int) -> socket.socket:
    """Listen for TCP connections in a namespace."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = namespace.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(512)
    return listener
