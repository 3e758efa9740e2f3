"""Records of the dataplane's tables, in the layout that every engine takes.

A record is its packed bytes: ``key + value``, of one fixed size per table, integers little-endian, addresses
16 bytes in network order (an IPv4 address fills the first four). The same layout is described for C in
``vpp-plugins/fastpath/wire.h``; ``tests/unit/test_records.py`` holds the two together. Bulk paths carry the
bytes as they are; the dataclasses here build them and show them to people.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self

import xxhash

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = [
    "DSCP_INNER",
    "KEY_SIZE",
    "RECORD_SIZE",
    "ConfigKey",
    "ConfigRecord",
    "EndpointFlag",
    "EndpointRecord",
    "FrontendKind",
    "FrontendRecord",
    "GtpuEndpointFlag",
    "GtpuEndpointRecord",
    "GtpuPayload",
    "GtpuPeerRecord",
    "GtpuPsc",
    "GtpuSwitch",
    "GtpuTunnelFlag",
    "GtpuTunnelRecord",
    "PrefixClass",
    "PrefixRecord",
    "Protocol",
    "Record",
    "ServiceFlag",
    "ServiceRecord",
    "Table",
    "UePrefixRecord",
    "Verdict",
    "digest",
    "gtpu_endpoint_id",
    "gtpu_switches",
    "packed",
    "service_id",
]


class Table(IntEnum):
    """Tables that the control plane writes. The numbers are part of the wire format."""

    CONFIG = 1
    PREFIX = 2
    SERVICE = 3
    FRONTEND = 4
    ENDPOINT = 5
    GTPU_ENDPOINT = 6
    GTPU_PEER = 7
    GTPU_TUNNEL = 8
    GTPU_UE = 9


class Protocol(IntEnum):
    """IP protocol numbers of service traffic."""

    TCP = 6
    UDP = 17
    SCTP = 132


class FrontendKind(IntEnum):
    """Which of a Service's addresses a frontend is; it decides the masquerade rule that applies."""

    CLUSTER_IP = 0
    NODE_PORT = 1
    EXTERNAL_IP = 2
    LOAD_BALANCER = 3


class Verdict(IntEnum):
    """What a new flow gets when no endpoint is usable (kube-proxy: REJECT, or DROP for a Local policy)."""

    REJECT = 0
    DROP = 1


class ServiceFlag(IntFlag):
    """Policies of a service port; a set bit that an engine does not serve yet is refused by it."""

    INTERNAL_LOCAL = 1
    EXTERNAL_LOCAL = 2
    AFFINITY_CLIENT_IP = 4


NO_FLAGS = ServiceFlag(0)


class EndpointFlag(IntFlag):
    """State of one endpoint of a service port."""

    SERVES = 1
    """EndpointSlice condition ``serving``: an established UDP flow may stay."""
    CLUSTER = 2
    """Member of the set for cluster-wide traffic."""
    LOCAL = 4
    """Member of the set for Local traffic policies."""
    ON_NODE = 8
    """Runs on this node."""


class PrefixClass(IntEnum):
    """What a packet from or to a prefix is."""

    HOST = 1
    """An address of this node itself."""
    POD = 2
    """Pods of this node (local-traffic detector; kube-proxy masquerade rule a)."""
    SERVICE = 3
    """A service range: an address in it that no Service has is dropped."""
    UE_POOL = 4
    """Addresses of user equipment behind tunnels: one that no tunnel has is unreachable."""


class ConfigKey(IntEnum):
    """Settings of the dataplane that are one value each (``index`` tells apart those of one kind)."""

    MASQUERADE_ALL = 1
    """value 1: every flow to a ClusterIP is masqueraded."""
    SNAT_PORT_RANGE = 2
    """index 0..15; value = low | high << 16, both included."""
    SNAT_ADDRESS = 3
    """index 4 or 6: the source address of masqueraded flows of that family."""
    ICMP_SOURCE = 4
    """index 4 or 6: the source address of ICMP errors that the dataplane sends."""
    GTPU_SWITCHES = 5
    """value: see :func:`gtpu_switches`; without it all switches are on, with loop 4."""


class GtpuSwitch(IntFlag):
    """Optimisations of the GTP-U path that are on or off."""

    LOOKUP_CACHE = 1
    PREFETCH = 2
    SKIP_INNER_IP_INPUT = 4
    BYPASS = 8
    SKIP_OUTER_LOOKUP = 16
    BYPASS_FIB = 32
    """With BYPASS: by the local address's FIB entry, not by a feature of the interfaces."""


def gtpu_switches(switches: GtpuSwitch, loop: int) -> int:
    """Value of the setting GTPU_SWITCHES; ``loop`` packets (1, 2 or 4) are handled side by side."""
    return int(switches) | loop << 8


class GtpuEndpointFlag(IntFlag):
    """Options of a local GTP-U address."""

    NONE = 0
    ENTROPY = 1
    """The outer UDP source port follows from the inner flow; else it is always 2152."""


class GtpuPayload(IntEnum):
    """What a tunnel carries. IP means IPv4 and IPv6."""

    IP = 1
    ETHERNET = 2


class GtpuPsc(IntEnum):
    """PDU Session Container written on encapsulation (TS 38.415): none, downlink or uplink type."""

    NONE = 0
    DL = 1
    UL = 2


class GtpuTunnelFlag(IntFlag):
    """Options of a tunnel."""

    NONE = 0
    INNER_SOURCE_CHECK = 1
    """A decapsulated packet's source must be in one of the tunnel's UE prefixes."""
    END_MARKER_ON_REPLACE = 2
    """An End Marker goes to the old peer when peer address or remote TEID change (TS 29.281, 7.3.2)."""


DSCP_INNER = 255
"""DSCP of the outer packet: copied from the inner one."""


def _from_address(family: int, raw: bytes) -> IpAddress:
    return ipaddress.IPv4Address(raw[:4]) if family == 4 else ipaddress.IPv6Address(raw)


digest: Callable[[bytes], int] = xxhash.xxh64_intdigest
"""64-bit digest (XXH64, seed 0) of a packed record; engines compute the same from what they hold."""


def service_id(namespace: str, name: str, port_name: str, protocol: Protocol, family: int) -> int:
    """64-bit identity of a service port in one address family (kube-proxy's ServicePortName)."""
    return xxhash.xxh64_intdigest(f"{namespace}/{name}/{port_name}/{protocol.value}/{family}".encode()) or 1


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """One setting. Key: (key, index)."""

    key: ConfigKey
    index: int = 0
    value: int = 0
    address: IpAddress | None = None

    TABLE: ClassVar[Table] = Table.CONFIG
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IIQ16s")
    KEY: ClassVar[int] = 8

    def pack(self) -> bytes:
        """Return the 32 bytes of the record."""
        address = self.address.packed if self.address is not None else b""
        return self.LAYOUT.pack(self.key, self.index, self.value, address)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 32 bytes of a record."""
        key, index, value, address = cls.LAYOUT.unpack(raw)
        has_address = key in (ConfigKey.SNAT_ADDRESS, ConfigKey.ICMP_SOURCE)
        return cls(ConfigKey(key), index, value, _from_address(index, address) if has_address else None)


@dataclass(frozen=True, slots=True)
class PrefixRecord:
    """A prefix with a class. Key: (vrf, family, length, class, address); bits beyond the length are zero."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    prefix_class: PrefixClass
    vrf: int = 0

    TABLE: ClassVar[Table] = Table.PREFIX
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IBBBx16sQ")
    KEY: ClassVar[int] = 24

    def pack(self) -> bytes:
        """Return the 32 bytes of the record (the value, 8 bytes, is reserved and zero)."""
        net = self.network
        return self.LAYOUT.pack(
            self.vrf, net.version, net.prefixlen, self.prefix_class, net.network_address.packed, 0
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 32 bytes of a record."""
        vrf, family, length, prefix_class, address, _ = cls.LAYOUT.unpack(raw)
        network = ipaddress.ip_network((_from_address(family, address), length))
        return cls(network, PrefixClass(prefix_class), vrf)


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service port of one family: what all its frontends share. Key: id (see :func:`service_id`)."""

    id: int
    family: int
    protocol: Protocol
    flags: ServiceFlag = NO_FLAGS
    empty_verdict: Verdict = Verdict.REJECT
    affinity_seconds: int = 0

    TABLE: ClassVar[Table] = Table.SERVICE
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QBBBBIQQ")
    KEY: ClassVar[int] = 8

    def pack(self) -> bytes:
        """Return the 32 bytes of the record (the last 16 are reserved and zero)."""
        return self.LAYOUT.pack(
            self.id, self.family, self.protocol, self.flags, self.empty_verdict, self.affinity_seconds, 0, 0
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 32 bytes of a record."""
        ident, family, protocol, flags, verdict, affinity, _, _ = cls.LAYOUT.unpack(raw)
        return cls(ident, family, Protocol(protocol), ServiceFlag(flags), Verdict(verdict), affinity)


@dataclass(frozen=True, slots=True)
class FrontendRecord:
    """An address and port at which a service port is reached.

    Key: (vrf, family, protocol, port, is a node port, address). A node port has address ``None``: it is
    reached at every local address of the node.
    """

    family: int
    protocol: Protocol
    port: int
    address: IpAddress | None
    service: int
    kind: FrontendKind
    vrf: int = 0

    TABLE: ClassVar[Table] = Table.FRONTEND
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IBBHB7x16sQB7x")
    KEY: ClassVar[int] = 32

    def pack(self) -> bytes:
        """Return the 48 bytes of the record."""
        address = self.address.packed if self.address is not None else b""
        node_port = self.kind == FrontendKind.NODE_PORT
        return self.LAYOUT.pack(
            self.vrf, self.family, self.protocol, self.port, node_port, address, self.service, self.kind
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 48 bytes of a record."""
        vrf, family, protocol, port, node_port, address, service, kind = cls.LAYOUT.unpack(raw)
        addr = None if node_port else _from_address(family, address)
        return cls(family, Protocol(protocol), port, addr, service, FrontendKind(kind), vrf)


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint of a service port. Key: (service id, family, port, address)."""

    service: int
    address: IpAddress
    port: int
    flags: EndpointFlag

    TABLE: ClassVar[Table] = Table.ENDPOINT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QBxHI16sB7x")
    KEY: ClassVar[int] = 32

    def pack(self) -> bytes:
        """Return the 40 bytes of the record."""
        return self.LAYOUT.pack(
            self.service, self.address.version, self.port, 0, self.address.packed, self.flags
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 40 bytes of a record."""
        service, family, port, _, address, flags = cls.LAYOUT.unpack(raw)
        return cls(service, _from_address(family, address), port, EndpointFlag(flags))


def gtpu_endpoint_id(name: str, address: IpAddress | None = None) -> int:
    """64-bit identity of a GtpuEndpoint at an address, by which its peers, tunnels and UE prefixes name it.

    At another address it is another one to the engine: the tunnels there come before the old ones go.
    """
    return xxhash.xxh64_intdigest(f"gtpu/{name}/{address or ''}".encode()) or 1


@dataclass(frozen=True, slots=True)
class GtpuEndpointRecord:
    """A local GTP-U address. Key: (vrf, family, address).

    TEIDs of [teid_base, teid_base + teid_count) are looked up by index, all others by hash; ``mtu`` is the
    largest outer packet in bytes (0: the link's).
    """

    address: IpAddress
    id: int
    teid_base: int = 0
    teid_count: int = 0
    mtu: int = 0
    dscp: int = 0
    flags: GtpuEndpointFlag = GtpuEndpointFlag.ENTROPY
    port_low: int = 49152
    port_high: int = 65535
    vrf: int = 0

    TABLE: ClassVar[Table] = Table.GTPU_ENDPOINT
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IB3x16sQIIHBBHHQQ")
    KEY: ClassVar[int] = 24

    def pack(self) -> bytes:
        """Return the 64 bytes of the record."""
        return self.LAYOUT.pack(
            self.vrf,
            self.address.version,
            self.address.packed,
            self.id,
            self.teid_base,
            self.teid_count,
            self.mtu,
            self.dscp,
            self.flags,
            self.port_low,
            self.port_high,
            0,
            0,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 64 bytes of a record."""
        vrf, family, address, ident, base, count, mtu, dscp, flags, low, high, _, _ = cls.LAYOUT.unpack(raw)
        return cls(
            _from_address(family, address),
            ident,
            base,
            count,
            mtu,
            dscp,
            GtpuEndpointFlag(flags),
            low,
            high,
            vrf,
        )


@dataclass(frozen=True, slots=True)
class GtpuPeerRecord:
    """A peer of an endpoint: what all tunnels to one address share. Key: (endpoint id, family, address).

    ``echo_interval_ms`` 0 sends no Echo Requests; ``t3_ms`` and ``n3`` are T3-RESPONSE and N3-REQUESTS of
    TS 29.281, 7.2.1; ``mtu`` is the path's, in outer bytes (0: the endpoint's).
    """

    endpoint: int
    address: IpAddress
    echo_interval_ms: int = 0
    t3_ms: int = 3000
    n3: int = 3
    mtu: int = 0

    TABLE: ClassVar[Table] = Table.GTPU_PEER
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QB7x16sIIHB5x")
    KEY: ClassVar[int] = 32

    def pack(self) -> bytes:
        """Return the 48 bytes of the record."""
        return self.LAYOUT.pack(
            self.endpoint,
            self.address.version,
            self.address.packed,
            self.echo_interval_ms,
            self.t3_ms,
            self.mtu,
            self.n3,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 48 bytes of a record."""
        endpoint, family, address, interval, t3, mtu, n3 = cls.LAYOUT.unpack(raw)
        return cls(endpoint, _from_address(family, address), interval, t3, n3, mtu)


@dataclass(frozen=True, slots=True)
class GtpuTunnelRecord:
    """A tunnel. Key: (endpoint id, local TEID). ``remote`` is the address of a peer record."""

    endpoint: int
    local_teid: int
    remote_teid: int
    remote: IpAddress
    payload: GtpuPayload = GtpuPayload.IP
    psc: GtpuPsc = GtpuPsc.NONE
    qfi: int = 0
    flags: GtpuTunnelFlag = GtpuTunnelFlag.INNER_SOURCE_CHECK
    inner_vrf: int = 0

    TABLE: ClassVar[Table] = Table.GTPU_TUNNEL
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<QI4xII16sBBBBB3x")
    KEY: ClassVar[int] = 16

    def pack(self) -> bytes:
        """Return the 48 bytes of the record."""
        remote = self.remote.packed
        return self.LAYOUT.pack(
            self.endpoint,
            self.local_teid,
            self.remote_teid,
            self.inner_vrf,
            remote,
            self.payload,
            self.psc,
            self.qfi,
            self.flags,
            4 if len(remote) == 4 else 6,  # faster than its version
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 48 bytes of a record."""
        endpoint, local, remote_teid, vrf, address, payload, psc, qfi, flags, family = cls.LAYOUT.unpack(raw)
        return cls(
            endpoint,
            local,
            remote_teid,
            _from_address(family, address),
            GtpuPayload(payload),
            GtpuPsc(psc),
            qfi,
            GtpuTunnelFlag(flags),
            vrf,
        )


@dataclass(frozen=True, slots=True)
class UePrefixRecord:
    """Addresses behind a tunnel: what is encapsulated into it, and what may come out of it.

    ``prefix`` is a network, or the VLAN id (1..4094) of an Ethernet tunnel. Key: (inner_vrf, family, length,
    address).
    """

    prefix: ipaddress.IPv4Network | ipaddress.IPv6Network | int
    endpoint: int
    local_teid: int
    inner_vrf: int = 0

    TABLE: ClassVar[Table] = Table.GTPU_UE
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IBB2x16sQI4x")
    KEY: ClassVar[int] = 24

    def pack(self) -> bytes:
        """Return the 40 bytes of the record."""
        if isinstance(self.prefix, int):
            family, length, address = 0, 12, self.prefix.to_bytes(2, "big")
        else:
            length, address = self.prefix.prefixlen, self.prefix.network_address.packed
            family = 4 if len(address) == 4 else 6  # faster than its version
        return self.LAYOUT.pack(self.inner_vrf, family, length, address, self.endpoint, self.local_teid)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 40 bytes of a record."""
        vrf, family, length, address, endpoint, teid = cls.LAYOUT.unpack(raw)
        if family == 0:
            return cls(int.from_bytes(address[:2], "big"), endpoint, teid, vrf)
        network = ipaddress.ip_network((_from_address(family, address), length))
        return cls(network, endpoint, teid, vrf)


Record = (
    ConfigRecord
    | PrefixRecord
    | ServiceRecord
    | FrontendRecord
    | EndpointRecord
    | GtpuEndpointRecord
    | GtpuPeerRecord
    | GtpuTunnelRecord
    | UePrefixRecord
)


def packed(records: Iterable[Record]) -> dict[Table, dict[bytes, bytes]]:
    """Return the packed records by table and key; of two with the same key the later one."""
    found: dict[type[Record], dict[bytes, bytes]] = {kind: {} for kind in _TYPES}
    for record in records:
        raw = record.pack()
        found[type(record)][raw[: record.KEY]] = raw
    return {kind.TABLE: rows for kind, rows in found.items() if rows}


_TYPES: tuple[type[Record], ...] = (
    ConfigRecord,
    PrefixRecord,
    ServiceRecord,
    FrontendRecord,
    EndpointRecord,
    GtpuEndpointRecord,
    GtpuPeerRecord,
    GtpuTunnelRecord,
    UePrefixRecord,
)
KEY_SIZE: dict[Table, int] = {t.TABLE: t.KEY for t in _TYPES}
RECORD_SIZE: dict[Table, int] = {t.TABLE: t.LAYOUT.size for t in _TYPES}
