"""What is kept of the GTP-U objects: the fields that decide forwarding and acceptance."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vpp_operator.api.gtpu_endpoint import ALL_NAMESPACES
from vpp_operator.api.problem import Owner
from vpp_operator.api.tuning import LabelSelector
from vpp_operator.dataplane.records import DSCP_INNER, GtpuPayload, GtpuPsc, gtpu_endpoint_id

__all__ = [
    "ENDPOINT",
    "SET",
    "TUNNEL",
    "Age",
    "Carrier",
    "Endpoint",
    "IpAddress",
    "IpNetwork",
    "Tunnel",
    "TunnelSet",
    "bounds",
]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

ENDPOINT: Final = "GtpuEndpoint"
TUNNEL: Final = "GtpuTunnel"
SET: Final = "GtpuTunnelSet"

# Sorts after every RFC 3339 time: an object without one is the newest.
_NEWEST: Final = "~"


def bounds(network: IpNetwork) -> tuple[int, int]:
    """Return the first and last address as numbers (network.broadcast_address makes an object each time)."""
    first = int(network.network_address)
    return first, first + (1 << (network.max_prefixlen - network.prefixlen)) - 1


class Age(NamedTuple):
    """Order of objects in a conflict: the smallest is the oldest and wins. Creation, then UID."""

    created: str
    uid: str
    owner: Owner


def _name(made: Endpoint | Tunnel | TunnelSet, owner: Owner) -> None:
    """Make owner and age once: with 100,000 objects they are asked for a million times, and kept."""
    object.__setattr__(made, "owner", owner)
    object.__setattr__(made, "age", Age(made.created or _NEWEST, made.uid, owner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A GtpuEndpoint. ``teid_count`` 0: any TEID. ``mtu`` in outer bytes, 0: the link's."""

    name: str
    address: IpAddress
    pools: tuple[IpNetwork, ...]
    namespaces: frozenset[str]
    uid: str = ""
    created: str = ""
    generation: int = 0
    floating: bool = False
    node_selector: LabelSelector | None = None
    teid_base: int = 0
    teid_count: int = 0
    echo_interval_ms: int = 60_000
    t3_ms: int = 3000
    n3: int = 3
    mtu: int = 0
    dscp: int = DSCP_INNER
    entropy: bool = True
    owner: Owner = field(init=False, repr=False, compare=False)
    """The endpoint as the owner of records."""
    age: Age = field(init=False, repr=False, compare=False)
    """Its place in a conflict."""
    ident: int = field(init=False, repr=False, compare=False)
    """Its identity in the records."""

    def __post_init__(self) -> None:
        _name(self, Owner(ENDPOINT, "", self.name))
        object.__setattr__(self, "ident", gtpu_endpoint_id(self.name, self.address))

    def allows(self, namespace: str) -> bool:
        """Whether tunnels of a namespace may end here."""
        return namespace in self.namespaces or ALL_NAMESPACES in self.namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """A GtpuTunnel. Ethernet: ``vlan`` and no prefixes; else prefixes and ``vlan`` 0."""

    namespace: str
    name: str
    endpoint: str
    remote: IpAddress
    local_teid: int
    remote_teid: int
    uid: str = ""
    created: str = ""
    generation: int = 0
    payload: GtpuPayload = GtpuPayload.IP
    prefixes: tuple[IpNetwork, ...] = ()
    vlan: int = 0
    inner_vrf: int = 0
    psc: GtpuPsc = GtpuPsc.NONE
    qfi: int = 0
    source_check: bool = True
    end_marker: bool = True
    owner: Owner = field(init=False, repr=False, compare=False)
    """The tunnel as the owner of records."""
    age: Age = field(init=False, repr=False, compare=False)
    """Its place in a conflict."""

    def __post_init__(self) -> None:
        _name(self, Owner(TUNNEL, self.namespace, self.name))

    @property
    def count(self) -> int:
        """Number of tunnels: one."""
        return 1

    @property
    def peers(self) -> tuple[IpAddress, ...]:
        """Addresses of the peers in use: one."""
        return (self.remote,)

    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """Return family (0: VLAN), first and last address, as numbers, of each prefix."""
        if self.vlan:
            return ((0, self.vlan, self.vlan),)
        return tuple((net.version, *bounds(net)) for net in self.prefixes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSet:
    """A GtpuTunnelSet: tunnel i has TEIDs ``local_teid + i`` and ``remote_teid + i``, peer
    ``remotes[i % len]``, and of each of ``bases`` the prefix ``i * step`` further on."""

    namespace: str
    name: str
    endpoint: str
    count: int
    local_teid: int
    remote_teid: int
    remotes: tuple[IpAddress, ...]
    bases: tuple[IpNetwork, ...]
    step: int = 1
    uid: str = ""
    created: str = ""
    generation: int = 0
    inner_vrf: int = 0
    psc: GtpuPsc = GtpuPsc.NONE
    qfi: int = 0
    source_check: bool = True
    end_marker: bool = True
    owner: Owner = field(init=False, repr=False, compare=False)
    """The set as the owner of records."""
    age: Age = field(init=False, repr=False, compare=False)
    """Its place in a conflict."""

    def __post_init__(self) -> None:
        _name(self, Owner(SET, self.namespace, self.name))

    @property
    def peers(self) -> tuple[IpAddress, ...]:
        """Addresses of the peers in use."""
        return self.remotes[: self.count]

    @property
    def payload(self) -> GtpuPayload:
        """What the tunnels carry: IP."""
        return GtpuPayload.IP

    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """Return family, first and last address, as numbers, from the first tunnel's prefix to the last's."""
        found = []
        for base in self.bases:
            first, last = bounds(base)
            stride = self.step << (base.max_prefixlen - base.prefixlen)
            found.append((base.version, first, last + (self.count - 1) * stride))
        return tuple(found)


Carrier = Tunnel | TunnelSet
"""An object that tunnels come from."""
