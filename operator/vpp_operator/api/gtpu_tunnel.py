"""GtpuTunnel and GtpuTunnelSet: tunnels that end at a GtpuEndpoint, one by one or many by arithmetic."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from .base import AlsoRules, Column, CustomResource, KubeModel, ResourceInfo, Rule, list_map, list_set, rules
from .conditions import Conditions
from .dataplane import ProgrammedCount
from .gtpu_fields import (
    MAX_TEID,
    EndpointRef,
    Teid,
    TunnelFigures,
    UePrefix,
    UnicastAddress,
    immutable,
)

__all__ = [
    "MAX_SET",
    "GtpuTunnel",
    "GtpuTunnelSet",
    "GtpuTunnelSetSpec",
    "GtpuTunnelSetStatus",
    "GtpuTunnelSpec",
    "GtpuTunnelStatus",
    "Inner",
    "InnerSourceCheck",
    "Payload",
    "Psc",
    "PscDirection",
    "SetTemplate",
    "TunnelNode",
    "UeBase",
]

MAX_SET: Final = 4194304
"""Most tunnels of a GtpuTunnelSet."""

MAX_UE_PREFIXES: Final = 16
MAX_NODES: Final = 64
IPV4_UNICAST_END: Final = 0xE0000000
"""First IPv4 address after the unicast ones (224.0.0.0)."""


class Payload(StrEnum):
    """What a tunnel carries."""

    IP = "IP"
    ETHERNET = "Ethernet"


class PscDirection(StrEnum):
    """PDU type of the PDU Session Container that is written (TS 38.415, 5.5.2)."""

    DL = "DL"
    UL = "UL"


class InnerSourceCheck(StrEnum):
    """What is done about the source of a decapsulated packet."""

    STRICT = "Strict"
    OFF = "Off"


class Psc(KubeModel):
    """PDU Session Container of packets into the tunnel."""

    direction: PscDirection
    """DL: towards a gNB, as a UPF sends it. UL: towards a UPF, as a gNB sends it."""

    qfi: int = Field(ge=0, le=63)
    """QoS Flow Identifier, 0 to 63. It may be changed without losing a packet."""


class Inner(KubeModel):
    """What is inside the tunnel."""

    ue_addresses: tuple[UePrefix, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_UE_PREFIXES,
        json_schema_extra=list_set()
        | rules(
            Rule(
                "self.all(a, isCIDR(a)) ? self.all(a, self.exists_one(b, cidr(a).containsIP(cidr(b).ip()) "
                "|| cidr(b).containsIP(cidr(a).ip()))) : true",
                "prefixes must not overlap",
            )
        ),
    )
    """Prefixes behind the tunnel, as in 10.60.0.1/32 and 2001:db8:60:1::/64, within the endpoint's uePools:
    packets to them go into the tunnel, and packets from it must come from them. With payload IP."""

    vlan: int | None = Field(default=None, ge=1, le=4094)
    """VLAN id whose frames go into the tunnel, 1 to 4094. With payload Ethernet."""

    vrf: int = Field(default=0, ge=0, le=MAX_TEID)
    """Number of the routing table that inner packets belong to; 0 = the node's own. Others need engine
    vpp."""


SOURCE_CHECK = (
    "Strict drops packets from the tunnel whose source is not one of the tunnel's own prefixes (spoofed); "
    "Off lets them pass."
)
END_MARKER = (
    "true sends an End Marker to the old peer when the peer's address or TEID changes, so that a handover "
    "reorders nothing (TS 29.281, 7.3.2)."
)
SourceCheckField = Annotated[InnerSourceCheck, Field(description=SOURCE_CHECK)]
EndMarkerField = Annotated[bool, Field(description=END_MARKER)]


class GtpuTunnelSpec(KubeModel):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.payload == 'Ethernet' || has(self.inner.ueAddresses)",
                "inner.ueAddresses: needed with payload IP",
            ),
            Rule(
                "self.payload == 'Ethernet' || !has(self.inner.vlan)",
                "inner.vlan: only with payload Ethernet",
            ),
            Rule(
                "self.payload == 'IP' || has(self.inner.vlan)",
                "inner.vlan: needed with payload Ethernet",
            ),
            Rule(
                "self.payload == 'IP' || !has(self.inner.ueAddresses)",
                "inner.ueAddresses: only with payload IP",
            ),
        )
    )

    endpoint_ref: Annotated[EndpointRef, AlsoRules(immutable("endpointRef"))]
    """The GtpuEndpoint that the tunnel ends at. It cannot be changed."""

    remote_address: UnicastAddress
    """Address of the peer (a gNB, another UPF), of the endpoint's family. It may be changed without losing
    a packet."""

    local_teid: Annotated[Teid, AlsoRules(immutable("localTeid"))]
    """TEID that the peer sends to, 1 to 4294967295, unique for the endpoint. It cannot be changed."""

    remote_teid: Teid
    """TEID that packets to the peer carry, 1 to 4294967295. It may be changed without losing a packet."""

    payload: Payload = Payload.IP
    """What the tunnel carries: IP (IPv4 and IPv6) or Ethernet (frames)."""

    inner: Inner
    """What is inside the tunnel: the users' prefixes, or a VLAN."""

    psc: Psc | None = None
    """PDU Session Container of packets into the tunnel (5G). Absent = none is written (4G). Packets from
    the tunnel may carry one or not."""

    inner_source_check: SourceCheckField = InnerSourceCheck.STRICT
    end_marker_on_replace: EndMarkerField = True


class TunnelNode(TunnelFigures):
    """The tunnel, or the set's tunnels, on one node."""

    node: str = Field(min_length=1, max_length=253)
    """Name of the node."""

    programmed: bool
    """Whether everything is in the node's tables."""


class GtpuTunnelStatus(KubeModel):
    """What came of it."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the status speaks of."""

    conditions: Conditions | None = None
    """Accepted (False with reason Conflict beside an older tunnel), Programmed, PathUp (the peer answers
    Echo Requests), and Ready for all together."""

    programmed_nodes: ProgrammedCount | None = None
    """Nodes on which the tunnel is programmed, of those that serve its endpoint."""

    nodes: tuple[TunnelNode, ...] | None = Field(
        default=None, max_length=MAX_NODES, json_schema_extra=list_map("node")
    )
    """Nodes that serve the endpoint, with the tunnel's figures there."""

    totals: TunnelFigures | None = None
    """Sums over the nodes."""


_READY = Column(
    "Ready", "string", ".status.conditions[?(@.type=='Ready')].status", "Carries packets both ways"
)
_FIGURES = (
    Column("Rx-PPS", "integer", ".status.totals.rxPps", "Packets per second out of the tunnel"),
    Column("Tx-PPS", "integer", ".status.totals.txPps", "Packets per second into the tunnel"),
)
_WIDE = (
    Column("Rx-bps", "integer", ".status.totals.rxBps", "Bits per second out of the tunnel", 1),
    Column("Tx-bps", "integer", ".status.totals.txBps", "Bits per second into the tunnel", 1),
    Column("Drops", "integer", ".status.totals.drops", "Packets dropped", 1),
    Column("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", "Cause of Ready", 1),
)
_AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since creation")


class GtpuTunnel(CustomResource):
    """A GTP-U tunnel between a GtpuEndpoint and a peer, for the users' prefixes behind it."""

    info: ClassVar[ResourceInfo] = ResourceInfo(
        kind="GtpuTunnel",
        plural="gtputunnels",
        singular="gtputunnel",
        short_names=("gtpt",),
        categories=("vpp",),
        scope="Namespaced",
        columns=(
            Column("Endpoint", "string", ".spec.endpointRef.name", "GtpuEndpoint that it ends at"),
            Column("Remote", "string", ".spec.remoteAddress", "Address of the peer"),
            Column("TEID", "integer", ".spec.localTeid", "Local TEID"),
            Column("Nodes", "string", ".status.programmedNodes.summary", "Nodes programmed/serving"),
            _READY,
            *_FIGURES,
            *_WIDE,
            _AGE,
        ),
    )

    kind: str = "GtpuTunnel"
    spec: GtpuTunnelSpec
    """What is wanted."""

    status: GtpuTunnelStatus | None = None
    """What came of it; written by the operator."""


# ------------------------------------------------------------------------------------------------------ sets


class UeBase(KubeModel):
    """Prefixes of the first tunnel; each further tunnel has the next ones."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("has(self.ipv4) || has(self.ipv6Prefix)", "ueBase: ipv4 or ipv6Prefix is needed")
        )
    )

    ipv4: (
        Annotated[
            UePrefix,
            AlsoRules(
                Rule(
                    "!isCIDR(self) || (cidr(self).ip().family() == 4 && cidr(self).prefixLength() >= 8)",
                    "ipv4: must be an IPv4 prefix of length 8 to 32",
                )
            ),
        ]
        | None
    ) = None
    """IPv4 prefix of the first tunnel, as in 10.64.0.0/32; its length is that of all."""

    ipv6_prefix: (
        Annotated[
            UePrefix,
            AlsoRules(
                Rule(
                    "!isCIDR(self) || (cidr(self).ip().family() == 6 && cidr(self).prefixLength() >= 56)",
                    "ipv6Prefix: must be an IPv6 prefix of length 56 to 128",
                )
            ),
        ]
        | None
    ) = None
    """IPv6 prefix of the first tunnel, as in 2001:db8:64::/64; its length is that of all."""

    step: int = Field(default=1, ge=1, le=1048576)
    """Number of prefixes from one tunnel to the next; 1 = side by side."""


class SetTemplate(KubeModel):
    """What all tunnels of a set share."""

    psc: Psc | None = None
    """PDU Session Container of packets into the tunnels (5G). Absent = none is written (4G)."""

    vrf: int = Field(default=0, ge=0, le=MAX_TEID)
    """Number of the routing table that inner packets belong to; 0 = the node's own. Others need engine
    vpp."""

    inner_source_check: SourceCheckField = InnerSourceCheck.STRICT
    end_marker_on_replace: EndMarkerField = True


_SHIFTS = [1 << shift for shift in range(25)]
_LAST_IPV4 = (
    "[cidr(self.ueBase.ipv4).ip()].all(a, [self.ueBase.ipv4.split('/')[0].split('.')].all(o, "
    "int(o[0]) * 16777216 + int(o[1]) * 65536 + int(o[2]) * 256 + int(o[3]) + "
    f"self.count * self.ueBase.step * {_SHIFTS}[32 - cidr(self.ueBase.ipv4).prefixLength()] "
    f"<= {IPV4_UNICAST_END}))"
)


class GtpuTunnelSetSpec(KubeModel):
    """What is wanted: tunnel i of count has localTeidBase + i, remoteTeidBase + i, peer i in turn, and the
    i-th prefixes after ueBase."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"self.localTeidBase + self.count - 1 <= {MAX_TEID}",
                f"localTeidBase + count - 1 must not exceed {MAX_TEID}",
            ),
            Rule(
                f"self.remoteTeidBase + self.count - 1 <= {MAX_TEID}",
                f"remoteTeidBase + count - 1 must not exceed {MAX_TEID}",
            ),
            Rule(
                "!has(self.ueBase.ipv4) || !isCIDR(self.ueBase.ipv4) || "
                "cidr(self.ueBase.ipv4).ip().family() == 6 || cidr(self.ueBase.ipv4).prefixLength() < 8 || "
                + _LAST_IPV4,
                "ueBase.ipv4: the prefixes of count tunnels, step apart, go beyond the unicast addresses",
            ),
        )
    )

    endpoint_ref: Annotated[EndpointRef, AlsoRules(immutable("endpointRef"))]
    """The GtpuEndpoint that the tunnels end at. It cannot be changed."""

    count: int = Field(ge=1, le=MAX_SET)
    """Number of tunnels, 1 to 4194304."""

    local_teid_base: Annotated[Teid, AlsoRules(immutable("localTeidBase"))]
    """Local TEID of the first tunnel, 1 to 4294967295. It cannot be changed."""

    remote_teid_base: Teid
    """Remote TEID of the first tunnel, 1 to 4294967295."""

    peers: tuple[UnicastAddress, ...] = Field(
        min_length=1,
        max_length=64,
        json_schema_extra=list_set()
        | rules(
            Rule(
                "self.all(p, isIP(p)) ? self.all(p, ip(p).family() == ip(self[0]).family()) : true",
                "addresses must be of one family",
            )
        ),
    )
    """Addresses of the peers, taken in turn: tunnel i goes to the (i modulo number)-th. Of the endpoint's
    family."""

    ue_base: UeBase
    """Prefixes of the first tunnel, and the distance to the next."""

    template: SetTemplate = SetTemplate()
    """What all tunnels of the set share."""


class GtpuTunnelSetStatus(KubeModel):
    """What came of it."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the status speaks of."""

    conditions: Conditions | None = None
    """Accepted (False with reason Conflict beside an older object: none of its tunnels is programmed then),
    Programmed, PathUp, and Ready for all together."""

    tunnels: ProgrammedCount | None = None
    """Tunnels that are programmed on every node that serves the endpoint, and all."""

    nodes: tuple[TunnelNode, ...] | None = Field(
        default=None, max_length=MAX_NODES, json_schema_extra=list_map("node")
    )
    """Nodes that serve the endpoint, with the sums over the tunnels there."""

    totals: TunnelFigures | None = None
    """Sums over tunnels and nodes."""


class GtpuTunnelSet(CustomResource):
    """Many GTP-U tunnels by arithmetic: up to four million in one object."""

    info: ClassVar[ResourceInfo] = ResourceInfo(
        kind="GtpuTunnelSet",
        plural="gtputunnelsets",
        singular="gtputunnelset",
        short_names=("gtpts",),
        categories=("vpp",),
        scope="Namespaced",
        columns=(
            Column("Endpoint", "string", ".spec.endpointRef.name", "GtpuEndpoint that they end at"),
            Column("TEID", "integer", ".spec.localTeidBase", "First local TEID"),
            Column("Count", "integer", ".spec.count", "Number of tunnels"),
            Column("Programmed", "string", ".status.tunnels.summary", "Tunnels programmed/total"),
            _READY,
            *_FIGURES,
            *_WIDE,
            _AGE,
        ),
    )

    kind: str = "GtpuTunnelSet"
    spec: GtpuTunnelSetSpec
    """What is wanted."""

    status: GtpuTunnelSetStatus | None = None
    """What came of it; written by the operator."""
