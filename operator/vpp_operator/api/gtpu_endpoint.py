"""GtpuEndpoint: a local GTP-U address, who may end tunnels at it, and which users' prefixes they carry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field

from .base import AlsoRules, Column, CustomResource, KubeModel, ResourceInfo, Rule, list_map, list_set, rules
from .conditions import Conditions
from .dataplane import Count, ProgrammedCount
from .gtpu_fields import MAX_TEID, PathCount, Teid, UePrefix, UnicastAddress, immutable
from .tuning import LabelSelector

__all__ = [
    "ALL_NAMESPACES",
    "MAX_PATHS",
    "Echo",
    "EndpointMode",
    "GtpuEndpoint",
    "GtpuEndpointSpec",
    "GtpuEndpointStatus",
    "PathStatus",
    "TeidRange",
]

ALL_NAMESPACES: Final = "*"
"""Entry of allowedNamespaces that stands for every namespace."""

MAX_POOLS: Final = 64
MAX_PATHS: Final = 256
"""Most paths listed in a status; the count beside the list is of all."""


class EndpointMode(StrEnum):
    """Which node an endpoint is served by."""

    NODE_ADDRESS = "NodeAddress"
    FLOATING = "Floating"


class TeidRange(KubeModel):
    """Consecutive TEIDs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"self.base + self.count - 1 <= {MAX_TEID}",
                f"teidRange: base + count - 1 must not exceed {MAX_TEID}",
            )
        )
    )

    base: Teid
    """First TEID of the range, 1 to 4294967295."""

    count: int = Field(ge=1, le=4194304)
    """Number of TEIDs in the range. The dataplane keeps 8 bytes of memory for each."""


class Echo(KubeModel):
    """Path management by Echo Requests (TS 29.281, 7.2). Requests of peers are always answered."""

    interval_seconds: int = Field(default=60, ge=0, le=86400)
    """Seconds between two Echo Requests to a peer that answers; 0 sends none. TS 29.281 asks for 60 or
    more towards peers of others."""

    t3_seconds: int = Field(default=3, ge=1, le=60)
    """Seconds to wait for a response before the request is repeated (T3-RESPONSE)."""

    n3: int = Field(default=3, ge=1, le=20)
    """Times that a request is sent before the path counts as down (N3-REQUESTS)."""


class GtpuEndpointSpec(KubeModel):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!isIP(self.localAddress) || !self.uePools.all(p, isCIDR(p)) || "
                "!self.uePools.exists(p, cidr(p).containsIP(self.localAddress))",
                "uePools: must not contain localAddress",
            ),
            Rule(
                "!has(self.mtu) || !isIP(self.localAddress) || ip(self.localAddress).family() == 4 || "
                "self.mtu >= 1280",
                "mtu: must be at least 1280 with an IPv6 localAddress",
            ),
            Rule(
                "has(self.teidRange) == has(oldSelf.teidRange)",
                "teidRange cannot be added or taken away; delete the object and create it anew",
            ),
        )
    )

    local_address: UnicastAddress
    """Address at which GTP-U (UDP port 2152) is received and from which it is sent, IPv4 or IPv6. If it is
    changed, all tunnels are at the new address from then on; their peers have to be told."""

    mode: EndpointMode = EndpointMode.NODE_ADDRESS
    """NodeAddress: the address is one of a node, and that node serves it. Floating: the address is no
    node's; one of the selected nodes at a time holds it, announces it by gratuitous ARP or neighbour
    advertisement, and another takes over when that one is gone."""

    node_selector: LabelSelector | None = None
    """Nodes that may serve the endpoint, by their labels. Absent or empty = all nodes."""

    teid_range: Annotated[TeidRange, AlsoRules(immutable("teidRange"))] | None = None
    """Local TEIDs that tunnels may have; those are looked up by index instead of by hash. Absent = all. It
    cannot be changed."""

    ue_pools: tuple[UePrefix, ...] = Field(
        min_length=1,
        max_length=MAX_POOLS,
        json_schema_extra=list_set()
        | rules(
            Rule(
                "self.all(a, isCIDR(a)) ? self.all(a, self.exists_one(b, cidr(a).containsIP(cidr(b).ip()) "
                "|| cidr(b).containsIP(cidr(a).ip()))) : true",
                "prefixes must not overlap",
            )
        ),
    )
    """Prefixes that the users' addresses are taken from, IPv4 and IPv6. Every prefix of a tunnel lies in one
    of them. They must overlap no other endpoint's pools and no node, pod or service range."""

    allowed_namespaces: tuple[
        Annotated[str, Field(max_length=63, pattern=r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")], ...
    ] = Field(min_length=1, max_length=256, json_schema_extra=list_set())
    """Namespaces whose tunnels may end here and use the pools; * = every namespace."""

    echo: Echo = Echo()
    """Path management by Echo Requests."""

    mtu: int | None = Field(default=None, ge=576, le=65535)
    """Largest outer packet, in bytes. A larger one is refused with an ICMP error to the inner source. Absent
    = that of the node's link."""

    dscp: int | None = Field(default=None, ge=0, le=63)
    """DSCP of outer packets, 0 to 63 (RFC 2474). Absent = copied from the inner packet."""

    entropy: bool = True
    """true: the outer UDP source port follows from the inner flow, so that routers and receive queues spread
    tunnels' flows. false: the source port is always 2152."""


class PathStatus(KubeModel):
    """The path between a node and a peer."""

    node: str = Field(min_length=1, max_length=253)
    """Node that watches the path."""

    peer: str = Field(min_length=2, max_length=39)
    """Address of the peer."""

    up: bool
    """Whether the peer answered the last Echo Request."""

    rtt_microseconds: int | None = Field(default=None, ge=0)
    """Round-trip time of the last Echo, in microseconds."""

    restart_counter: int | None = Field(default=None, ge=0, le=255)
    """Recovery counter that the peer sent last (TS 29.281, 8.2)."""


class GtpuEndpointStatus(KubeModel):
    """What came of it."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the status speaks of."""

    conditions: Conditions | None = None
    """Accepted (False with reason Conflict beside an older endpoint), Active (a node serves it), Programmed,
    PathUp."""

    active_nodes: tuple[Annotated[str, Field(max_length=253)], ...] | None = Field(
        default=None, max_length=64, json_schema_extra=list_set()
    )
    """Nodes that serve the endpoint now."""

    tunnels: ProgrammedCount | None = None
    """Tunnels that end here: programmed and accepted ones."""

    path_count: PathCount | None = None
    """Paths to peers that are up, and all."""

    paths: tuple[PathStatus, ...] | None = Field(
        default=None, max_length=MAX_PATHS, json_schema_extra=list_map("node", "peer")
    )
    """The first 256 paths, those that are down first."""

    errors: Count | None = None
    """Tunnels that name this endpoint and are not accepted."""


class GtpuEndpoint(CustomResource):
    """A local GTP-U address, the users' prefixes behind its tunnels, and the namespaces that may use it."""

    info: ClassVar[ResourceInfo] = ResourceInfo(
        kind="GtpuEndpoint",
        plural="gtpuendpoints",
        singular="gtpuendpoint",
        short_names=("gtpep",),
        categories=("vpp",),
        columns=(
            Column("Address", "string", ".spec.localAddress", "Local GTP-U address"),
            Column("Mode", "string", ".spec.mode", "NodeAddress or Floating"),
            Column(
                "Accepted",
                "string",
                ".status.conditions[?(@.type=='Accepted')].status",
                "Valid and in conflict with no other",
            ),
            Column(
                "Active",
                "string",
                ".status.conditions[?(@.type=='Active')].status",
                "A node serves it",
            ),
            Column("Nodes", "string", ".status.activeNodes", "Nodes that serve it"),
            Column("Tunnels", "string", ".status.tunnels.summary", "Tunnels programmed/accepted"),
            Column("Paths", "string", ".status.pathCount.summary", "Paths up/watched"),
            Column("Pools", "string", ".spec.uePools", "Users' prefixes", 1),
            Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
        ),
    )

    kind: str = "GtpuEndpoint"
    spec: GtpuEndpointSpec
    """What is wanted."""

    status: GtpuEndpointStatus | None = None
    """What came of it; written by the operator."""
