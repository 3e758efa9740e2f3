"""Records of the dataplane's tables, in the layout that every engine takes.

A record is its packed bytes: ``key + value``, of one fixed size per table, integers little-endian, addresses
16 bytes in network order (an IPv4 address fills the first four). The same layout is described for C in
``vpp-plugins/fastpath/wire.h``; ``tests/unit/test_records.py`` holds the two together. Bulk paths carry the
bytes as they are; the dataclasses here build them and show them to people.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self

import xxhash

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = [
    "KEY_SIZE",
    "RECORD_SIZE",
    "ConfigKey",
    "ConfigRecord",
    "EndpointFlag",
    "EndpointRecord",
    "FrontendKind",
    "FrontendRecord",
    "PrefixClass",
    "PrefixRecord",
    "Protocol",
    "Record",
    "ServiceFlag",
    "ServiceRecord",
    "Table",
    "Verdict",
    "digest",
    "service_id",
]


class Table(IntEnum):
    """Tables that the control plane writes. The numbers are part of the wire format."""

    CONFIG = 1
    PREFIX = 2
    SERVICE = 3
    FRONTEND = 4
    ENDPOINT = 5


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


def _address(address: IpAddress) -> bytes:
    return address.packed.ljust(16, b"\0")


def _from_address(family: int, raw: bytes) -> IpAddress:
    return ipaddress.IPv4Address(raw[:4]) if family == 4 else ipaddress.IPv6Address(raw)


def digest(record: bytes) -> int:
    """64-bit digest (XXH64, seed 0) of a packed record; engines compute the same from what they hold."""
    return xxhash.xxh64_intdigest(record)


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
        address = _address(self.address) if self.address is not None else bytes(16)
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
            self.vrf, net.version, net.prefixlen, self.prefix_class, _address(net.network_address), 0
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
        address = _address(self.address) if self.address is not None else bytes(16)
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
            self.service, self.address.version, self.port, 0, _address(self.address), self.flags
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """Read the 40 bytes of a record."""
        service, family, port, _, address, flags = cls.LAYOUT.unpack(raw)
        return cls(service, _from_address(family, address), port, EndpointFlag(flags))


Record = ConfigRecord | PrefixRecord | ServiceRecord | FrontendRecord | EndpointRecord

_TYPES: tuple[type[Record], ...] = (
    ConfigRecord,
    PrefixRecord,
    ServiceRecord,
    FrontendRecord,
    EndpointRecord,
)
KEY_SIZE: dict[Table, int] = {t.TABLE: t.KEY for t in _TYPES}
RECORD_SIZE: dict[Table, int] = {t.TABLE: t.LAYOUT.size for t in _TYPES}
