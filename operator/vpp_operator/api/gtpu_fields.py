"""What the GTP-U kinds share: addresses, TEIDs, figures, and the rules that the API server evaluates."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from .base import AlsoRules, Cidr, KubeModel, Rule
from .dataplane import Count

__all__ = [
    "MAX_TEID",
    "NAME",
    "UNICAST",
    "EndpointRef",
    "PathCount",
    "Teid",
    "TunnelFigures",
    "UePrefix",
    "UnicastAddress",
    "immutable",
    "is_unicast",
]

MAX_TEID: Final = 2**32 - 1
"""Largest Tunnel Endpoint Identifier; 0 is no tunnel's (TS 29.281, 5.1)."""

NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Name of an object (RFC 1123 subdomain)."""


def immutable(field: str) -> Rule:
    """Return the rule that a field keeps the value it was created with."""
    return Rule("self == oldSelf", f"{field} cannot be changed; delete the object and create it anew")


def is_unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address can be one host's in a routed network: not unspecified, loopback, link-local,
    multicast or reserved (IPv4 0/8 and 224/3)."""
    if isinstance(address, ipaddress.IPv4Address) and not 1 <= address.packed[0] <= 223:
        return False
    return not (
        address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast
    )


def _unicast(text: str) -> str:
    address = ipaddress.ip_address(text)
    if str(address) != text or (address.version == 6 and address.ipv4_mapped is not None):
        raise ValueError(f"{text!r} is not in its canonical form; write {address}")
    if not is_unicast(address):
        raise ValueError(f"{text} is not a unicast address that is routed")
    return text


def _unicast_prefix(text: str) -> str:
    if not is_unicast(ipaddress.ip_network(text).network_address):
        raise ValueError(f"{text} is not a prefix of unicast addresses")
    return text


def _cel_unicast(text: str, address: str) -> str:
    """CEL: the first address of ``text`` (its octets) and ``address`` (an IP) is routed unicast."""
    return (
        f"{address}.isGlobalUnicast() && "
        f"({address}.family() == 6 || "
        f"({text}.matches('^[1-9]') && !{text}.matches('^(22[4-9]|2[3-5][0-9])')))"
    )


UNICAST: Final = "must be an IPv4 or IPv6 unicast address in canonical form, as in 192.0.2.1 or 2001:db8::1"

UnicastAddress = Annotated[
    str,
    AfterValidator(_unicast),
    Field(min_length=2, max_length=39),
    AlsoRules(Rule(f"isIP(self) && ip.isCanonical(self) && {_cel_unicast('self', 'ip(self)')}", UNICAST)),
]
"""A unicast address in canonical form: no loopback, link-local, multicast or reserved one."""

UePrefix = Annotated[
    Cidr,
    AfterValidator(_unicast_prefix),
    AlsoRules(
        Rule(
            f"!isCIDR(self) || ({_cel_unicast('self', 'cidr(self).ip()')})",
            "must be a prefix of unicast addresses, as in 10.60.0.1/32 or 2001:db8:60:1::/64",
        )
    ),
]
"""A prefix of user equipment in canonical form."""

Teid = Annotated[int, Field(ge=1, le=MAX_TEID)]
"""A Tunnel Endpoint Identifier, 1 to 4294967295."""


class EndpointRef(KubeModel):
    """The GtpuEndpoint that a tunnel ends at."""

    name: str = Field(min_length=1, max_length=253, pattern=NAME)
    """Name of the GtpuEndpoint."""


class PathCount(KubeModel):
    """How many of the paths to peers are up (TS 29.281, 7.2)."""

    up: Count
    """Paths whose peer answered the last Echo Request."""

    total: Count
    """Paths that are watched."""

    summary: str = Field(max_length=32)
    """up/total, for kubectl get."""

    @classmethod
    def of(cls, up: int, total: int) -> PathCount:
        """Return the count with its summary."""
        return cls(up=up, total=total, summary=f"{up}/{total}")


class TunnelFigures(KubeModel):
    """Rates of one or more tunnels over the last interval, and drops."""

    rx_pps: Count
    """Packets per second that came out of the tunnel (decapsulated, from the peer)."""

    tx_pps: Count
    """Packets per second that went into the tunnel (encapsulated, to the peer)."""

    rx_bps: Count
    """Bits per second that came out of the tunnel (inner layer 3 lengths)."""

    tx_bps: Count
    """Bits per second that went into the tunnel (inner layer 3 lengths)."""

    drops: Count
    """Packets of the tunnel dropped since the engine started."""
