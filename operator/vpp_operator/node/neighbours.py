"""Addresses of endpoints' own at the node's neighbours: proxy ARP and proxy ND, announcements, and what the
node itself reaches. Everything here blocks.

The kernel answers for an address with a proxy entry on the interface it is asked on, when forwarding is on
and its route leads elsewhere: no setting is needed for ARP; for ND net.ipv6.conf.all.proxy_ndp.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vpp_operator.node.gtpu import Ground
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.spec import IpAddress, IpNetwork
from vpp_operator.node.state import ENGINE_LINK, FRAME_ENGINE_LINK, FRAME_LINK, HOST_LINK, OWNER, Proxy

__all__ = ["announce", "announcement", "change_proxy", "proxy_nd_is_on", "read_ground", "read_proxies"]

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_NTF_PROXY = 8
_RTM_GETNEIGH = 30
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NDA_DST, _NDA_PROTOCOL = 1, 12
_MAIN = 254
_UNICAST = 1
_BROADCAST = b"\xff" * 6
_ALL_NODES = bytes.fromhex("333300000001")


def _dump_proxies(family: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield interface index and attributes of the proxy entries (RTM_GETNEIGH; pyroute2 cannot ask for
    them)."""
    body = struct.pack("=BxxxiHBB", int(_AF[family]), 0, 0, _NTF_PROXY, 0)
    flags = 1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(5)
        netlink.bind((0, 0))
        netlink.send(struct.pack("=IHHII", 16 + len(body), _RTM_GETNEIGH, flags, 1, 0) + body)
        while True:
            data = netlink.recv(1 << 20)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise NetlinkError(-struct.unpack_from("=i", data, 16)[0])
                index, _, entry_flags = struct.unpack_from("=iHB", data, 20)
                if entry_flags & _NTF_PROXY:
                    yield index, dict(_attributes(data[28:length]))
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[(max(length, 4) + 3) & ~3 :]


def read_proxies(ip: IPRoute) -> Iterator[Proxy]:
    """Yield our proxy entries."""
    names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}
    for family in _AF:
        for index, attributes in _dump_proxies(family):
            if attributes.get(_NDA_PROTOCOL) == bytes([OWNER]):
                yield Proxy(family, str(ipaddress.ip_address(attributes[_NDA_DST])), names.get(index, ""))


def change_proxy(ip: IPRoute, verb: str, proxy: Proxy) -> None:
    """Add or delete (``verb``: ``replace`` or ``del``) an entry; one that is gone already does no harm."""
    found = ip.link_lookup(ifname=proxy.interface)
    if not found:
        if verb == "del":
            return
        raise NodeNetworkError(f"{proxy}: the interface is gone")
    arguments: dict[str, Any] = {"family": int(_AF[proxy.family]), "dst": proxy.address, "ifindex": found[0]}
    try:
        ip.neigh(verb, flags=_NTF_PROXY, protocol=OWNER, state=0, **arguments)
    except NetlinkError as exc:
        if verb != "del" or exc.code not in (2, 3):  # ENOENT, ESRCH
            raise


def announcement(address: IpAddress, mac: bytes) -> bytes:
    """Return the Ethernet frame that tells neighbours where an address is now.

    IPv4: gratuitous ARP request (RFC 5227, section 3). IPv6: unsolicited Neighbor Advertisement with the
    override flag to all nodes (RFC 4861, section 7.2.6). ``mac``: 6 bytes.
    """
    if address.version == 4:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + address.packed + bytes(6) + address.packed
        return _BROADCAST + mac + struct.pack(">H", 0x0806) + body
    to = ipaddress.IPv6Address("ff02::1").packed
    # Flags: router, override.
    message = struct.pack(">BBHI", 136, 0, 0, 0xA0000000) + address.packed + b"\x02\x01" + mac
    pseudo = address.packed + to + struct.pack(">II", len(message), 58)
    total = sum(struct.unpack(f">{len(pseudo + message) // 2}H", pseudo + message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
    header = struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + address.packed + to
    return _ALL_NODES + mac + struct.pack(">H", 0x86DD) + header + message


def announce(address: IpAddress, interface: str) -> None:
    """Send the announcement of an address on an interface. Errors: :class:`NodeNetworkError`."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0))
            mac = raw.getsockname()[4]
            if len(mac) == 6:  # elsewhere neighbours are not found by address
                raw.send(announcement(address, mac))
    except PermissionError as exc:
        message = f"announce {address} on {interface}: {exc}; the agent needs the capability NET_RAW"
        raise NodeNetworkError(message) from exc
    except OSError as exc:
        raise NodeNetworkError(f"announce {address} on {interface}: {exc}") from exc


def proxy_nd_is_on() -> bool:
    """Return whether the host answers for IPv6 addresses with a proxy entry; True where it has no IPv6."""
    try:
        return Path("/proc/sys/net/ipv6/conf/all/proxy_ndp").read_text().strip() != "0"
    except OSError:
        return True


def read_ground(ip: IPRoute) -> Ground:
    """Return the node's addresses and where its main table leads, our own link left out."""
    names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}
    links = (HOST_LINK, ENGINE_LINK, FRAME_LINK, FRAME_ENGINE_LINK)
    ours = {index for index, name in names.items() if name in links}
    local: dict[IpAddress, str] = {}
    for entry in ip.get_addr():
        if entry["index"] not in ours:
            text = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
            local[ipaddress.ip_address(text)] = names.get(entry["index"], "")
    connected: dict[IpNetwork, str] = {}
    routed: set[IpNetwork] = set()
    gateways: set[IpAddress] = set()
    for af in _AF.values():
        for route in ip.get_routes(family=af, table=_MAIN):
            if route["type"] != _UNICAST or route.get_attr("RTA_OIF") in ours:
                continue
            hops = [route, *(route.get_attr("RTA_MULTIPATH") or ())]
            via = [hop.get_attr("RTA_GATEWAY") for hop in hops]
            with contextlib.suppress(ValueError):
                gateways |= {ipaddress.ip_address(v) for v in via if v}
            destination = route.get_attr("RTA_DST")
            if destination is None or route["dst_len"] == 0:
                continue
            network = ipaddress.ip_network((destination, route["dst_len"]))
            if any(via) or any(hop.get_attr("RTA_VIA") for hop in hops):
                routed.add(network)
            elif not network.is_link_local and not network.is_multicast:
                connected[network] = names.get(route.get_attr("RTA_OIF") or 0, "")
    return Ground(local, connected, frozenset(routed), frozenset(gateways))
