"""Dataplane: one per node, made by the operator, carrying the node's status and throughput."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from .base import Cidr, Column, CustomResource, KubeModel, ResourceInfo, Rule, list_map, list_set, rules
from .conditions import Conditions
from .tuning import (
    EMBEDDED_DRIVERS,
    Engine,
    EngineField,
    InterfacesField,
    Loop,
    PausedField,
    ResolvedTuning,
)

__all__ = [
    "MAX_PROBLEMS",
    "AttachMode",
    "ClocksPerPacket",
    "Dataplane",
    "DataplaneProblem",
    "DataplaneSpec",
    "DataplaneStatus",
    "DropCount",
    "FiguresServer",
    "GtpuInEffect",
    "HostSetting",
    "ProgrammedCount",
    "Rates",
    "ReportStep",
    "SwitchState",
    "SyncedKind",
    "Throughput",
    "TuningInEffect",
]

MAX_PROBLEMS = 64
"""Most problems listed in a status; the count beside the list is of all."""


class ReportStep(IntEnum):
    """Seconds between two reports of figures, by the number of nodes: <500, <1500, more."""

    SMALL = 10
    MEDIUM = 30
    LARGE = 100


class AttachMode(StrEnum):
    """How pods of the node are connected, as far as it matters to Services between them."""

    ROUTED = "Routed"
    ISOLATED_BRIDGE = "IsolatedBridge"
    TRANSLATED_BRIDGE = "TranslatedBridge"


class DataplaneSpec(KubeModel):
    """What the operator wants on the node. Written by the operator only."""

    model_config = ConfigDict(json_schema_extra=rules(EMBEDDED_DRIVERS))

    engine: EngineField = Engine.AUTO
    paused: PausedField = False
    interfaces: InterfacesField = ()

    pod_cidrs: tuple[Cidr, ...] = Field(
        default=(),
        alias="podCIDRs",
        max_length=16,
        json_schema_extra=list_set()
        | rules(
            Rule(
                "self.all(a, isCIDR(a)) ? self.all(a, self.exists_one(b, cidr(a).containsIP(cidr(b).ip()) "
                "|| cidr(b).containsIP(cidr(a).ip()))) : true",
                "prefixes must not overlap",
            )
        ),
    )
    """Prefixes of the pods on this node, both families (from Node.spec.podCIDRs)."""

    tuning: ResolvedTuning = ResolvedTuning()
    """Settings resolved from the DataplaneTunings that select the node over the built-in defaults."""

    report_step_seconds: ReportStep = ReportStep.SMALL
    """Seconds between two reports of figures in the status: 10, 30 or 100, by the number of nodes."""


Count = Annotated[int, Field(ge=0)]


class ProgrammedCount(KubeModel):
    """How many of the wanted objects are in the dataplane's tables."""

    programmed: Count
    """Objects that are fully programmed."""

    total: Count
    """Objects that should be."""

    summary: str = Field(max_length=32)
    """programmed/total, for kubectl get."""

    @classmethod
    def of(cls, programmed: int, total: int) -> ProgrammedCount:
        """Return the count with its summary."""
        return cls(programmed=programmed, total=total, summary=f"{programmed}/{total}")


class Rates(KubeModel):
    """Rates over the interval."""

    rx_pps: Count
    """Packets received per second."""

    tx_pps: Count
    """Packets sent per second."""

    rx_bps: Count
    """Bits received per second (layer 3 lengths)."""

    tx_bps: Count
    """Bits sent per second (layer 3 lengths)."""


class Throughput(KubeModel):
    """Rates in total and by path."""

    interval_start: str = Field(json_schema_extra={"format": "date-time"})
    """Start of the interval that the rates are means of (RFC 3339)."""

    interval_end: str = Field(json_schema_extra={"format": "date-time"})
    """End of that interval (RFC 3339)."""

    total: Rates
    """All packets that the dataplane handled."""

    service: Rates | None = None
    """Packets of Services."""

    gtpu_decap: Rates | None = None
    """Packets that left a GTP-U tunnel here."""

    gtpu_encap: Rates | None = None
    """Packets that entered a GTP-U tunnel here."""


class ClocksPerPacket(KubeModel):
    """Mean CPU clock cycles for a packet, by path."""

    service: Count | None = None
    """Packets of Services, in clock cycles per packet."""

    gtpu_decap: Count | None = None
    """Packets that left a GTP-U tunnel here, in clock cycles per packet."""

    gtpu_encap: Count | None = None
    """Packets that entered a GTP-U tunnel here, in clock cycles per packet."""


class DropCount(KubeModel):
    """Packets dropped for one reason."""

    reason: str = Field(min_length=1, max_length=64)
    """The reason, as the dataplane names it."""

    packets: Count
    """Packets since the engine started."""


class SyncedKind(KubeModel):
    """How far the agent has followed one kind."""

    kind: str = Field(min_length=1, max_length=63)
    """The kind, as in Service."""

    resource_version: str = Field(max_length=64)
    """resourceVersion up to which all changes are in the tables."""


class DataplaneProblem(KubeModel):
    """An object that is not, or not fully, served on this node."""

    kind: str = Field(min_length=1, max_length=63)
    """Kind of the object."""

    namespace: str | None = Field(default=None, max_length=63)
    """Namespace of the object; absent for cluster-scoped kinds."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the object."""

    reason: str = Field(min_length=1, max_length=64)
    """Cause, one CamelCase word."""

    message: str = Field(max_length=1024)
    """The cause in words, and the remedy."""

    generation: int | None = Field(default=None, ge=0)
    """Generation of the object that the problem was seen with."""


class HostSetting(KubeModel):
    """A host setting as wanted and as found."""

    name: str = Field(min_length=1, max_length=64)
    """Name of the setting in the tuning, as in cpuGovernor."""

    wanted: str = Field(max_length=64)
    """Value asked for, as text."""

    found: str = Field(max_length=64)
    """Value on the node, as text."""


class SwitchState(StrEnum):
    """What an engine says of a switch."""

    ON = "on"
    OFF = "off"
    NOT_APPLICABLE = "notApplicable"


class GtpuInEffect(KubeModel):
    """Switches of the GTP-U path as the engine reports them: on, off, or notApplicable where the engine has
    no such step."""

    lookup_cache: SwitchState | None = None
    """Reuse of the last tunnel found."""

    skip_inner_ip_input: SwitchState | None = None
    """Decapsulated packets pass by the IP input node."""

    gtpu_bypass: SwitchState | None = None
    """GTP-U packets leave the IP path right after its input."""

    prefetch: SwitchState | None = None
    """Headers, buckets and tunnels are fetched ahead."""

    skip_outer_lookup: SwitchState | None = None
    """Encapsulated packets are sent by the peer's adjacency."""

    loop: Loop | None = None
    """Packets handled side by side: single, dual or quad."""


class TuningInEffect(KubeModel):
    """Settings that the engine runs with."""

    gtpu: GtpuInEffect | None = None
    """Switches of the GTP-U path as the engine reports them."""

    pending_restart: tuple[str, ...] | None = Field(default=None, max_length=32, json_schema_extra=list_set())
    """Paths of the settings that wait for a restart of the engine, as in runtime.workers."""

    host: tuple[HostSetting, ...] | None = Field(
        default=None, max_length=16, json_schema_extra=list_map("name")
    )
    """Host settings that were asked for."""


class FiguresServer(KubeModel):
    """Where the node's agent serves per-tunnel figures by HTTPS."""

    port: int = Field(ge=1, le=65535)
    """TCP port on the node's addresses."""

    certificate_sha256: str = Field(pattern="^[0-9a-f]{64}$", alias="certificateSHA256")
    """SHA-256 fingerprint of the server's certificate, which is made anew at each start of the agent."""


class DataplaneStatus(KubeModel):
    """What the node reports. Written by the node's preflight and agent only."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the status speaks of."""

    conditions: Conditions | None = None
    """Ready, Programmed, Degraded, and named ones such as OtherProxyPresent and NetworkPolicyLimited."""

    engine: str | None = Field(default=None, max_length=32)
    """Program in use: vpp or embedded."""

    engine_version: str | None = Field(default=None, max_length=64)
    """Its version."""

    agent_version: str | None = Field(default=None, max_length=64)
    """Version of the agent."""

    attach_mode: AttachMode | None = None
    """How pods of the node are connected: Routed; IsolatedBridge (bridge ports isolated, proxy ARP);
    TranslatedBridge (source translation between pods of this node)."""

    workers: int | None = Field(default=None, ge=0)
    """Threads that forward packets."""

    services: ProgrammedCount | None = None
    """Services in the tables."""

    tunnels: ProgrammedCount | None = None
    """GTP-U tunnels in the tables."""

    sessions: int | None = Field(default=None, ge=0)
    """Flows tracked now, both families."""

    throughput: Throughput | None = None
    """Rates in total and by path."""

    clocks_per_packet: ClocksPerPacket | None = None
    """Mean CPU clock cycles for a packet, by path."""

    drops: tuple[DropCount, ...] | None = Field(
        default=None, max_length=16, json_schema_extra=list_map("reason")
    )
    """Packets dropped, by reason, the most frequent first."""

    synced: tuple[SyncedKind, ...] | None = Field(
        default=None, max_length=16, json_schema_extra=list_map("kind")
    )
    """How far the agent has followed each watched kind."""

    tuning: TuningInEffect | None = None
    """Settings that the engine runs with."""

    figures: FiguresServer | None = None
    """Where the agent serves per-tunnel figures."""

    problem_count: int | None = Field(default=None, ge=0)
    """Objects that are not, or not fully, served on this node."""

    problems: tuple[DataplaneProblem, ...] | None = Field(
        default=None, max_length=MAX_PROBLEMS, json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The first 64 of them."""


class Dataplane(CustomResource):
    """The packet dataplane of one node: the name is the node's."""

    info: ClassVar[ResourceInfo] = ResourceInfo(
        kind="Dataplane",
        plural="dataplanes",
        singular="dataplane",
        short_names=("dp",),
        categories=("vpp",),
        columns=(
            Column("Engine", "string", ".status.engine", "Program in use"),
            Column(
                "Ready",
                "string",
                ".status.conditions[?(@.type=='Ready')].status",
                "Forwards as asked",
            ),
            Column("Services", "string", ".status.services.summary", "Services programmed/total"),
            Column("Tunnels", "string", ".status.tunnels.summary", "GTP-U tunnels programmed/total"),
            Column("Sessions", "integer", ".status.sessions", "Flows tracked now"),
            Column("Rx-PPS", "integer", ".status.throughput.total.rxPps", "Packets received per second"),
            Column("Tx-PPS", "integer", ".status.throughput.total.txPps", "Packets sent per second"),
            Column("Rx-bps", "integer", ".status.throughput.total.rxBps", "Bits received per second", 1),
            Column("Tx-bps", "integer", ".status.throughput.total.txBps", "Bits sent per second", 1),
            Column(
                "Service-Clocks",
                "integer",
                ".status.clocksPerPacket.service",
                "CPU clock cycles for a packet of a Service",
                1,
            ),
            Column(
                "Decap-Clocks",
                "integer",
                ".status.clocksPerPacket.gtpuDecap",
                "CPU clock cycles for a packet that leaves a GTP-U tunnel",
                1,
            ),
            Column(
                "Encap-Clocks",
                "integer",
                ".status.clocksPerPacket.gtpuEncap",
                "CPU clock cycles for a packet that enters a GTP-U tunnel",
                1,
            ),
            Column("Version", "string", ".status.engineVersion", "Version of the program in use", 1),
            Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
        ),
    )

    kind: str = "Dataplane"
    spec: DataplaneSpec = DataplaneSpec()
    """What the operator wants on the node."""

    status: DataplaneStatus | None = None
    """What the node reports."""
