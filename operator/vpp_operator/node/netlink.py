"""Link, routes and rules by netlink: reading what is there, and carrying out single actions. Everything here
blocks.

Settings go through RTM_SETLINK, because /proc/sys is read-only in an unprivileged container.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.ethtool import Ethtool
from pyroute2.netlink.exceptions import NetlinkError

from vpp_operator.node import neighbours
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.spec import IpAddress
from vpp_operator.node.state import (
    ENGINE_LINK,
    ENGINE_MAC,
    FRAME_ENGINE_LINK,
    FRAME_LINK,
    GATEWAY_MAC,
    GATEWAYS,
    HOST_ADDRESS,
    HOST_LINK,
    HOST_MAC,
    OWNER,
    TABLE_LOCAL,
    TABLE_MARKED,
    TABLE_SERVICES,
    Action,
    AddProxy,
    AddRoute,
    AddRule,
    DelFrameLink,
    DelLink,
    DelProxy,
    DelRoute,
    DelRule,
    FrameLink,
    HostLink,
    Kernel,
    MakeFrameLink,
    MakeLink,
    Route,
    Rule,
)

__all__ = ["connection", "default_rules", "perform", "read_kernel", "uplink_mtu"]

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_FAMILY = {int(v): k for k, v in _AF.items()}
_LOOKUP, _GOTO, _NOP = 1, 2, 3  # FR_ACT_TO_TBL, FR_ACT_GOTO, FR_ACT_NOP
_ONLINK = 4
_SCOPE_LINK = 253
_PERMANENT = 0x80
_ADDR_GEN_NONE = 1
_RTM_SETLINK = 19
_IFLA_AF_SPEC, _IFLA_INET_CONF = 26, 1
_UDP_SEGMENTATION = "tx-udp-segmentation"
_NLA_NESTED = 0x8000
_DEVCONF = {
    "forwarding": 1,
    "send_redirects": 6,
    "rp_filter": 8,
    "accept_local": 23,
}  # linux/ip.h, IPV4_DEVCONF_*
_HOST_SETTINGS = {"forwarding": 1, "send_redirects": 0, "rp_filter": 2, "accept_local": 1}
"""Packets from the dataplane carry addresses of the node and of pods as their source, and go on from here."""


@contextlib.contextmanager
def connection() -> Iterator[IPRoute]:
    """Open a netlink socket in the network namespace of the calling thread."""
    with IPRoute() as ip:
        yield ip


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _set_ipv4(index: int, settings: dict[str, int]) -> None:
    """Set net.ipv4.conf values of one interface (RTM_SETLINK, IFLA_INET_CONF; pyroute2 cannot encode it)."""
    conf = b"".join(_attribute(_DEVCONF[k], struct.pack("=I", v)) for k, v in settings.items())
    spec = _attribute(socket.AF_INET | _NLA_NESTED, _attribute(_IFLA_INET_CONF | _NLA_NESTED, conf))
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + _attribute(_IFLA_AF_SPEC | _NLA_NESTED, spec)
    flags = 1 | 4  # NLM_F_REQUEST | NLM_F_ACK
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(5)
        netlink.bind((0, 0))
        netlink.send(struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, flags, 1, 0) + body)
        error: int = struct.unpack_from("=i", netlink.recv(65536), 16)[0]
    if error:
        raise NetlinkError(-error)


def _link(ip: IPRoute, name: str) -> Any | None:
    try:
        found = list(ip.get_links(ifname=name))
    except NetlinkError as exc:
        if exc.code == 19:  # ENODEV
            return None
        raise
    return found[0] if found else None


def _address_generation(link: Any) -> int | None:
    spec = link.get_nested("IFLA_AF_SPEC", "AF_INET6")
    mode = spec.get_attr("IFLA_INET6_ADDR_GEN_MODE") if spec else None
    return None if mode is None else int(mode)


def _is_veth_pair(host: Any, engine: Any | None) -> bool:
    return bool(
        host.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "veth"
        and engine is not None
        and host.get_attr("IFLA_LINK") == engine["index"]
    )


def _large_udp(wanted: bool | None = None) -> bool:
    """Return whether large UDP frames cross the link whole; set it before, unless ``wanted`` is None."""
    with Ethtool() as ethtool:
        known = ethtool.get_features(HOST_LINK)
        feature = known.features.get(_UDP_SEGMENTATION)
        if feature is None:
            # Such a kernel has no large UDP frames.
            return wanted is not False
        if wanted is not None and feature.enable != wanted:
            feature.enable = wanted
            ethtool.set_features(HOST_LINK, known)
        return bool(feature.enable)


def _read_link(ip: IPRoute) -> HostLink | None:
    host, engine = _link(ip, HOST_LINK), _link(ip, ENGINE_LINK)
    if host is None:
        return None
    if not _is_veth_pair(host, engine):
        raise NodeNetworkError(
            f"interface {HOST_LINK} exists and is no veth pair with {ENGINE_LINK}; it is not ours: rename it"
        )
    assert engine is not None
    ipv4 = host.get_nested("IFLA_AF_SPEC", "AF_INET") or {}
    up = all(link["flags"] & 1 for link in (host, engine))
    good = (
        up
        and host.get_attr("IFLA_ADDRESS") == HOST_MAC
        and engine.get_attr("IFLA_ADDRESS") == ENGINE_MAC
        and all(ipv4.get(k) == v for k, v in _HOST_SETTINGS.items())
        and all(_address_generation(link) in (None, _ADDR_GEN_NONE) for link in (host, engine))
        and host.get_attr("IFLA_MTU") == engine.get_attr("IFLA_MTU")
        and HOST_ADDRESS in (a.get_attr("IFA_LOCAL") for a in ip.get_addr(index=host["index"]))
    )
    families = frozenset(f for f in (4, 6) if _has_neighbour(ip, host["index"], f))
    return HostLink(host.get_attr("IFLA_MTU"), families, bool(good), _large_udp())


def _read_frame_link(ip: IPRoute) -> FrameLink | None:
    host, engine = _link(ip, FRAME_LINK), _link(ip, FRAME_ENGINE_LINK)
    if host is None or not _is_veth_pair(host, engine):
        return None
    ends = (host, engine)
    good = all(
        end["flags"] & 1
        and _address_generation(end) in (None, _ADDR_GEN_NONE)
        and end.get_attr("IFLA_MTU") == host.get_attr("IFLA_MTU")
        for end in ends
        if end is not None
    )
    return FrameLink(host.get_attr("IFLA_MTU"), good)


def _has_neighbour(ip: IPRoute, index: int, family: int) -> bool:
    return any(
        n.get_attr("NDA_DST") == GATEWAYS[family]
        and n.get_attr("NDA_LLADDR") == GATEWAY_MAC
        and n["state"] == _PERMANENT
        for n in ip.get_neighbours(family=_AF[family], ifindex=index)
    )


def _read_rules(ip: IPRoute) -> Iterator[Rule]:
    for family, af in _AF.items():
        for raw in ip.get_rules(family=af):
            rule = Rule(
                family,
                raw.get_attr("FRA_PRIORITY") or 0,
                table=(raw.get_attr("FRA_TABLE") or raw["table"]) if raw["action"] == _LOOKUP else 0,
                iifname=raw.get_attr("FRA_IIFNAME") or "",
                mark=raw.get_attr("FRA_FWMARK") or 0,
                goto=raw.get_attr("FRA_GOTO") or 0,
                protocol=raw.get_attr("FRA_PROTOCOL") or 0,
            )
            narrow = raw["src_len"] or raw["dst_len"] or raw["flags"] & 2 or raw.get_attr("FRA_OIFNAME")
            if rule.protocol == OWNER or (rule.table == TABLE_LOCAL and not narrow):
                yield rule


def default_rules(ip: IPRoute, family: int) -> list[int]:
    """Return the priorities of the rules of a family: what a person sees first."""
    return [raw.get_attr("FRA_PRIORITY") or 0 for raw in ip.get_rules(family=_AF[family])]


def _read_routes(ip: IPRoute, link: int | None) -> Iterator[Route]:
    for family, af in _AF.items():
        for table in (TABLE_MARKED, TABLE_SERVICES):
            for raw in ip.get_routes(family=af, table=table):
                destination = raw.get_attr("RTA_DST")
                text = f"{destination}/{raw['dst_len']}" if destination else "default"
                source = raw.get_attr("RTA_PREFSRC") or ""
                if raw.get_attr("RTA_OIF") != link or raw.get_attr("RTA_GATEWAY") != GATEWAYS[family]:
                    source = "?"  # not where it must lead: differs from any desired route
                yield Route(family, table, text, source)


def read_kernel(ip: IPRoute) -> Kernel:
    """Return what the node holds of ours."""
    link = _read_link(ip)
    raw = _link(ip, HOST_LINK)
    index = raw["index"] if raw is not None else None
    proxies = frozenset(neighbours.read_proxies(ip))
    rules, routes = frozenset(_read_rules(ip)), frozenset(_read_routes(ip, index))
    return Kernel(link, rules, routes, proxies, _read_frame_link(ip))


def uplink_mtu(ip: IPRoute, addresses: Iterable[IpAddress]) -> int:
    """Return the MTU in bytes of the interface that holds the first of the addresses that is there; 0 when
    none is."""
    wanted = [str(a) for a in addresses]
    holders = {a.get_attr("IFA_ADDRESS"): a["index"] for a in ip.get_addr()}
    holders |= {a.get_attr("IFA_LOCAL"): a["index"] for a in ip.get_addr() if a.get_attr("IFA_LOCAL")}
    for address in wanted:
        if address in holders:
            link = next(iter(ip.get_links(holders[address])))
            return min(int(link.get_attr("IFLA_MTU")), 65535)
    return 0


def _make_frame_link(ip: IPRoute, link: FrameLink, *, create: bool) -> None:
    if create:
        for name in (FRAME_LINK, FRAME_ENGINE_LINK):
            if _link(ip, name) is not None:
                raise NodeNetworkError(f"interface {name} exists and is not ours; rename or remove it")
        ip.link("add", ifname=FRAME_LINK, kind="veth", peer={"ifname": FRAME_ENGINE_LINK})
    for name in (FRAME_LINK, FRAME_ENGINE_LINK):
        raw = _link(ip, name)
        assert raw is not None
        _no_generated_addresses(ip, raw)
        ip.link("set", index=raw["index"], mtu=link.mtu)
        ip.link("set", index=raw["index"], state="up")


def _no_generated_addresses(ip: IPRoute, link: Any) -> None:
    if _address_generation(link) is not None:
        mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]}
        ip.link("set", index=link["index"], IFLA_AF_SPEC={"attrs": [("AF_INET6", mode)]})


def _make_link(ip: IPRoute, link: HostLink, *, create: bool) -> None:
    if create:
        if _link(ip, ENGINE_LINK) is not None:
            raise NodeNetworkError(f"interface {ENGINE_LINK} exists without {HOST_LINK}; rename or remove it")
        ip.link(
            "add",
            ifname=HOST_LINK,
            kind="veth",
            address=HOST_MAC,
            peer={"ifname": ENGINE_LINK, "address": ENGINE_MAC},
        )
    for name, mac in ((HOST_LINK, HOST_MAC), (ENGINE_LINK, ENGINE_MAC)):
        raw = _link(ip, name)
        assert raw is not None
        index = raw["index"]
        _no_generated_addresses(ip, raw)
        ip.link("set", index=index, mtu=link.mtu, address=mac)
        if name == HOST_LINK:
            _set_ipv4(index, _HOST_SETTINGS)
            ip.addr("replace", index=index, address=HOST_ADDRESS, prefixlen=32, scope=_SCOPE_LINK)
            _enable_ipv6(link)
            _large_udp(link.large_udp)
        ip.link("set", index=index, state="up")
    index = ip.link_lookup(ifname=HOST_LINK)[0]
    for family in sorted(link.families):
        ip.neigh(
            "replace",
            family=_AF[family],
            dst=GATEWAYS[family],
            lladdr=GATEWAY_MAC,
            ifindex=index,
            state="permanent",
        )


def _enable_ipv6(link: HostLink) -> None:
    setting = Path(f"/proc/sys/net/ipv6/conf/{HOST_LINK}/disable_ipv6")
    if 6 in link.families and setting.exists() and setting.read_text().strip() != "0":
        setting.write_text("0")


def _rule_arguments(rule: Rule) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "family": int(_AF[rule.family]),
        "priority": rule.priority,
        "protocol": rule.protocol,
    }
    if rule.iifname:
        arguments["iifname"] = rule.iifname
    if rule.mark:
        arguments |= {"fwmark": rule.mark, "fwmask": rule.mark}
    if rule.goto:
        return arguments | {"action": "goto", "goto": rule.goto}
    return arguments | ({"table": rule.table} if rule.table else {"action": "nop"})


def _change_rule(ip: IPRoute, verb: str, rule: Rule) -> None:
    try:
        ip.rule(verb, **_rule_arguments(rule))
    except NetlinkError as exc:
        # EEXIST and ENOENT: what was wanted is so.
        if exc.code != (17 if verb == "add" else 2):
            raise


def _change_route(ip: IPRoute, verb: str, route: Route) -> None:
    arguments: dict[str, Any] = {
        "family": int(_AF[route.family]),
        "dst": route.destination,
        "table": route.table,
    }
    if verb == "replace":
        found = ip.link_lookup(ifname=HOST_LINK)
        if not found:
            raise NodeNetworkError(f"{route}: interface {HOST_LINK} is gone")
        arguments |= {"gateway": GATEWAYS[route.family], "oif": found[0], "proto": OWNER}
        arguments |= {"prefsrc": route.source}
        if route.family == 4:
            arguments["flags"] = _ONLINK
    try:
        ip.route(verb, **arguments)
    except NetlinkError as exc:
        if verb == "del" and exc.code in (2, 3):  # ENOENT, ESRCH: gone already, e.g. with its link
            return
        if verb == "replace" and exc.code == 22:
            raise NodeNetworkError(
                f"{route}: refused; addresses: {route.source} must be on this node"
            ) from exc
        raise


def perform(ip: IPRoute, action: Action) -> None:
    """Carry out one action. Errors: :class:`NodeNetworkError`."""
    try:
        match action:
            case MakeLink(link, create):
                _make_link(ip, link, create=create)
            case MakeFrameLink(frames, create):
                _make_frame_link(ip, frames, create=create)
            case DelLink() | DelFrameLink():
                found = ip.link_lookup(ifname=HOST_LINK if isinstance(action, DelLink) else FRAME_LINK)
                if found:
                    ip.link("del", index=found[0])
            case AddRule(rule):
                _change_rule(ip, "add", rule)
            case DelRule(rule):
                _change_rule(ip, "del", rule)
            case AddRoute(route):
                _change_route(ip, "replace", route)
            case DelRoute(route):
                _change_route(ip, "del", route)
            case AddProxy(proxy):
                # Announced first: an entry that is there tells that it was.
                neighbours.announce(ipaddress.ip_address(proxy.address), proxy.interface)
                neighbours.change_proxy(ip, "replace", proxy)
            case DelProxy(proxy):
                neighbours.change_proxy(ip, "del", proxy)
    except NetlinkError as exc:
        hint = "; the agent needs the capability NET_ADMIN" if exc.code == 1 else ""
        raise NodeNetworkError(f"{describe(action)}: {exc}{hint}") from exc


def describe(action: Action) -> str:
    """Return a line for people about an action."""
    match action:
        case MakeLink(link, create):
            return f"{'create' if create else 'set up'} link {HOST_LINK}-{ENGINE_LINK}, MTU {link.mtu}"
        case DelLink():
            return f"remove link {HOST_LINK}-{ENGINE_LINK}"
        case MakeFrameLink(frames, create):
            verb = "create" if create else "set up"
            return f"{verb} link {FRAME_LINK}-{FRAME_ENGINE_LINK}, MTU {frames.mtu}"
        case DelFrameLink():
            return f"remove link {FRAME_LINK}-{FRAME_ENGINE_LINK}"
        case AddRule(rule):
            return f"add {rule}"
        case DelRule(rule):
            return f"remove {rule}"
        case AddRoute(route):
            return f"add {route}"
        case DelRoute(route):
            return f"remove {route}"
        case AddProxy(proxy):
            return f"announce, and add {proxy}"
        case DelProxy(proxy):
            return f"remove {proxy}"
