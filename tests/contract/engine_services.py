"""Services as records, for the engine's contract tests: the agent's part, without Kubernetes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from vpp_operator.dataplane.protocol import Batch
from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Table,
    Verdict,
    service_id,
)

USABLE = EndpointFlag.SERVES | EndpointFlag.CLUSTER


@dataclass(frozen=True)
class Addresses:
    """The same places in one address family."""

    family: int
    node: str
    """Of the node: node ports, source translation, ICMP errors."""
    pods: str
    services: str
    vip: str
    unallocated: str
    """In the service range, of no Service."""
    external: str
    """An external IP."""
    pod: str
    """A client pod of this node."""
    outside: str
    """A client outside of the cluster."""
    endpoints: tuple[str, ...]


V4 = Addresses(
    4,
    "192.0.2.10",
    "10.244.1.0/24",
    "10.96.0.0/16",
    "10.96.0.10",
    "10.96.0.99",
    "198.51.100.7",
    "10.244.1.5",
    "203.0.113.9",
    ("10.244.2.7", "10.244.2.8", "10.244.2.9", "10.244.2.10"),
)
V6 = Addresses(
    6,
    "2001:db8::10",
    "fd00:244:1::/64",
    "fd00:96::/112",
    "fd00:96::10",
    "fd00:96::99",
    "2001:db8:51::7",
    "fd00:244:1::5",
    "2001:db8:113::9",
    ("fd00:244:2::7", "fd00:244:2::8", "fd00:244:2::9", "fd00:244:2::10"),
)

SNAT_PORTS = (10000, 29999)


def settings() -> list[Record]:
    """What every node has: prefixes of both families, source translation, the sender of ICMP errors."""
    low, high = SNAT_PORTS
    records: list[Record] = [ConfigRecord(ConfigKey.SNAT_PORT_RANGE, 0, low | high << 16)]
    for a in (V4, V6):
        node = ipaddress.ip_address(a.node)
        records += [
            PrefixRecord(ipaddress.ip_network(a.node), PrefixClass.HOST),
            PrefixRecord(ipaddress.ip_network(a.pods), PrefixClass.POD),
            PrefixRecord(ipaddress.ip_network(a.services), PrefixClass.SERVICE),
            ConfigRecord(ConfigKey.SNAT_ADDRESS, a.family, 0, node),
            ConfigRecord(ConfigKey.ICMP_SOURCE, a.family, 0, node),
        ]
    return records


@dataclass(frozen=True)
class Service:
    """A service port in one family. ``endpoints`` are (address, port)."""

    name: str
    family: int
    protocol: Protocol
    port: int
    endpoints: tuple[tuple[str, int], ...]
    vip: str = ""
    external: str = ""
    node_port: int = 0
    empty: Verdict = Verdict.REJECT
    flags: EndpointFlag = field(default=USABLE)

    @property
    def id(self) -> int:
        """Identity in the records."""
        return service_id("test", self.name, "", self.protocol, self.family)

    def records(self) -> list[Record]:
        """All its records."""
        records: list[Record] = [
            ServiceRecord(self.id, self.family, self.protocol, empty_verdict=self.empty),
        ]
        for kind, address in (
            (FrontendKind.CLUSTER_IP, self.vip),
            (FrontendKind.EXTERNAL_IP, self.external),
        ):
            if address:
                records.append(
                    FrontendRecord(
                        self.family, self.protocol, self.port, ipaddress.ip_address(address), self.id, kind
                    )
                )
        if self.node_port:
            records.append(
                FrontendRecord(
                    self.family, self.protocol, self.node_port, None, self.id, FrontendKind.NODE_PORT
                )
            )
        records += [
            EndpointRecord(self.id, ipaddress.ip_address(address), port, self.flags)
            for address, port in self.endpoints
        ]
        return records


def pack(records: list[Record]) -> dict[Table, dict[bytes, bytes]]:
    """Return table -> key -> packed record."""
    packed: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}
    for record in records:
        raw = record.pack()
        packed[record.TABLE][raw[: record.KEY]] = raw
    return packed


def difference(old: list[Record], new: list[Record]) -> Batch:
    """Return the batch that leads from one state to another."""
    before, after = pack(old), pack(new)
    return Batch(
        upserts={t: [raw for key, raw in after[t].items() if before[t].get(key) != raw] for t in Table},
        deletes={t: [key for key in before[t] if key not in after[t]] for t in Table},
    )
