"""DataplaneTuning: settings for the nodes that a selector matches, and the settings' own definitions.

Each setting is defined once, as an annotated type with its range, unit and meaning. The tuning object
holds them as optional (absent = not spoken of); the resolved form in a Dataplane has them all.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from .base import Column, CustomResource, KubeModel, ResourceInfo, Rule, list_map, list_set, rules
from .conditions import Conditions

__all__ = [
    "CapacityTuning",
    "CpuGovernor",
    "DataplaneTuning",
    "DataplaneTuningSpec",
    "DataplaneTuningStatus",
    "Engine",
    "GtpuTuning",
    "HostTuning",
    "Hugepages",
    "Interface",
    "InterfaceDriver",
    "InterfaceRole",
    "LabelRequirement",
    "LabelSelector",
    "Loop",
    "ResolvedCapacity",
    "ResolvedGtpu",
    "ResolvedHost",
    "ResolvedRuntime",
    "ResolvedTuning",
    "RuntimeTuning",
]


class Engine(StrEnum):
    """Which program forwards packets."""

    AUTO = "auto"
    VPP = "vpp"
    EMBEDDED = "embedded"


class Loop(StrEnum):
    """How many packets a packet kernel handles side by side."""

    SINGLE = "single"
    DUAL = "dual"
    QUAD = "quad"


class InterfaceDriver(StrEnum):
    """How the dataplane takes a network interface."""

    AUTO = "auto"
    DPDK = "dpdk"
    AF_XDP = "af_xdp"
    RDMA = "rdma"
    AF_PACKET = "af_packet"


class InterfaceRole(StrEnum):
    """What an interface is for."""

    UPLINK = "uplink"


class CpuGovernor(StrEnum):
    """Linux cpufreq governors."""

    PERFORMANCE = "performance"
    POWERSAVE = "powersave"
    ONDEMAND = "ondemand"
    CONSERVATIVE = "conservative"
    SCHEDUTIL = "schedutil"
    USERSPACE = "userspace"


# ---------------------------------------------------------------------------------------------- settings

EngineField = Annotated[
    Engine,
    Field(
        description="Program that forwards packets: vpp, embedded, or auto (vpp where the node can run it, "
        "else embedded, with the reason in the Dataplane's conditions)."
    ),
]
PausedField = Annotated[
    bool,
    Field(
        description="true stops the agent from changing anything on the node. What is programmed stays and "
        "keeps forwarding."
    ),
]
LookupCacheField = Annotated[
    bool,
    Field(
        description="Reuse the last tunnel lookup for a packet with the same outer source, destination and "
        "TEID. Takes effect while packets flow."
    ),
]
SkipInnerIpInputField = Annotated[
    bool,
    Field(
        description="Send a decapsulated packet on without the node ip4-input or ip6-input, after own checks "
        "with the same verdict. Takes effect while packets flow."
    ),
]
GtpuBypassField = Annotated[
    bool,
    Field(
        description="Take GTP-U to a local tunnel address out of the path before lookup, local delivery and "
        "UDP. Takes effect while packets flow."
    ),
]
PrefetchField = Annotated[
    bool,
    Field(
        description="Prefetch headers, hash buckets and tunnel records ahead of their use. Takes effect "
        "while packets flow."
    ),
]
SkipOuterLookupField = Annotated[
    bool,
    Field(
        description="Send an encapsulated packet by the peer's tracked adjacency instead of looking its "
        "outer destination up again. Takes effect while packets flow."
    ),
]
LoopField = Annotated[
    Loop,
    Field(
        description="Packets handled side by side in the GTP-U kernels: single (1), dual (2) or quad (4). "
        "Takes effect while packets flow."
    ),
]
WorkersField = Annotated[
    int, Field(ge=1, le=64, description="Threads that forward packets. A change restarts the engine.")
]
MainCoreField = Annotated[
    int,
    Field(
        ge=0,
        le=1023,
        description="CPU number that the engine's main thread is pinned to; absent = not pinned. A change "
        "restarts the engine.",
    ),
]
BuffersField = Annotated[
    int,
    Field(
        ge=1024,
        le=16777216,
        description="Packet buffers per NUMA node (2 KiB each). A change restarts the engine.",
    ),
]
RxQueuesField = Annotated[
    int, Field(ge=1, le=64, description="Receive queues per interface. A change restarts the engine.")
]
SessionsField = Annotated[
    int,
    Field(
        ge=1024,
        le=16777216,
        description="Flows that can be tracked at a time, per address family (64 bytes each in IPv4, 128 in "
        "IPv6, beside the index). A change restarts the engine with empty tables.",
    ),
]
ServicesField = Annotated[
    int,
    Field(
        ge=256,
        le=1048576,
        description="Service ports, counted once per address family. A change restarts the engine with empty "
        "tables.",
    ),
]
FrontendsField = Annotated[
    int,
    Field(
        ge=256,
        le=4194304,
        description="Addresses and ports at which service ports are reached: cluster IPs, node ports, "
        "external IPs. A change restarts the engine with empty tables.",
    ),
]
EndpointsField = Annotated[
    int,
    Field(
        ge=1024,
        le=8388608,
        description="Endpoints, counted once per service port. A change restarts the engine with empty "
        "tables.",
    ),
]
TunnelsField = Annotated[
    int,
    Field(
        ge=1024,
        le=4194304,
        description="GTP-U tunnels. A change restarts the engine with empty tables.",
    ),
]
GovernorField = Annotated[CpuGovernor, Field(description="cpufreq governor of every CPU of the node.")]
MaxCStateField = Annotated[
    int,
    Field(
        ge=0,
        le=9,
        description="Deepest CPU idle state that may be used, as its number under "
        "/sys/devices/system/cpu/cpu*/cpuidle; 0 = polling only.",
    ),
]


class HostMode(StrEnum):
    """What is done about host settings."""

    CHECK = "Check"
    APPLY = "Apply"


HostModeField = Annotated[
    HostMode,
    Field(
        description="Check reports host settings that differ; Apply sets them too, which needs a privileged "
        "pod."
    ),
]


class Hugepages(KubeModel):
    """Huge pages of one size."""

    page_size: Literal["2Mi", "1Gi"]
    """Size of one page: 2Mi or 1Gi."""

    count: int = Field(ge=1, le=1048576)
    """Number of pages."""


RuntimeHugepagesField = Annotated[
    Hugepages,
    Field(
        description="Huge pages that the engine's pod requests; absent = ordinary pages. A change restarts "
        "the engine."
    ),
]
HostHugepagesField = Annotated[
    Hugepages, Field(description="Huge pages that the node should have reserved (at least this many).")
]

MAX_INTERFACES: Final = 16
"""Most interfaces of one node."""

EMBEDDED_INTERFACE_DRIVERS: Final = (
    InterfaceDriver.AUTO,
    InterfaceDriver.AF_PACKET,
    InterfaceDriver.AF_XDP,
)
"""Drivers that the embedded engine has."""

INTERFACE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$"


class Interface(KubeModel):
    """A network interface that the dataplane takes over."""

    name: str = Field(
        min_length=1,
        max_length=15,
        pattern=INTERFACE_NAME,
        json_schema_extra=rules(
            Rule(
                "!(self in ['lo', 'vpp0', 'vpp1'])",
                "lo, vpp0 and vpp1 (the dataplane's own link to the host) cannot be taken over",
            )
        ),
    )
    """Name of the interface on the node, as in eth1."""

    driver: InterfaceDriver | None = None
    """How it is taken: dpdk, af_xdp, rdma, af_packet, or auto (the fastest that works). Absent = auto."""

    role: InterfaceRole | None = None
    """What it is for. uplink: the node's traffic goes through the dataplane on it. Absent = uplink."""


InterfacesField = Annotated[
    tuple[Interface, ...],
    Field(
        max_length=MAX_INTERFACES,
        json_schema_extra=list_map("name"),
        description="Network interfaces that the dataplane takes over, by name. None = only the link to the "
        "host.",
    ),
]

EMBEDDED_DRIVERS = Rule(
    "!has(self.engine) || self.engine != 'embedded' || !has(self.interfaces) || self.interfaces.all(i, "
    f"!has(i.driver) || i.driver in {[driver.value for driver in EMBEDDED_INTERFACE_DRIVERS]})",
    "engine embedded takes interfaces with driver auto, af_packet or af_xdp only",
)


# --------------------------------------------------------------------- as written in a tuning: optional


class GtpuTuning(KubeModel):
    """Switches of the GTP-U path. Absent = not decided by this tuning."""

    lookup_cache: LookupCacheField | None = None
    skip_inner_ip_input: SkipInnerIpInputField | None = None
    gtpu_bypass: GtpuBypassField | None = None
    prefetch: PrefetchField | None = None
    skip_outer_lookup: SkipOuterLookupField | None = None
    loop: LoopField | None = None


class CapacityTuning(KubeModel):
    """Sizes of the tables. Absent = not decided by this tuning."""

    sessions: SessionsField | None = None
    services: ServicesField | None = None
    frontends: FrontendsField | None = None
    endpoints: EndpointsField | None = None
    tunnels: TunnelsField | None = None


class RuntimeTuning(KubeModel):
    """Settings that need a restart of the engine, one node at a time. Absent = not decided by this tuning."""

    workers: WorkersField | None = None
    main_core: MainCoreField | None = None
    hugepages: RuntimeHugepagesField | None = None
    buffers: BuffersField | None = None
    rx_queues: RxQueuesField | None = None
    capacity: CapacityTuning | None = None
    """Sizes of the tables."""


class HostTuning(KubeModel):
    """Settings of the node itself: checked and reported, set only when asked."""

    mode: HostModeField | None = None
    cpu_governor: GovernorField | None = None
    max_c_state: MaxCStateField | None = None
    hugepages: HostHugepagesField | None = None


# ------------------------------------------------------------------------------------ resolved: all there


class ResolvedGtpu(KubeModel):
    """Switches of the GTP-U path, all decided."""

    lookup_cache: LookupCacheField = True
    # Off until its verdicts have been shown equal on the node's engine: it leaves a whole input node out.
    skip_inner_ip_input: SkipInnerIpInputField = False
    gtpu_bypass: GtpuBypassField = True
    prefetch: PrefetchField = True
    skip_outer_lookup: SkipOuterLookupField = True
    loop: LoopField = Loop.QUAD


class ResolvedCapacity(KubeModel):
    """Sizes of the tables, all decided."""

    sessions: SessionsField = 262144
    services: ServicesField = 16384
    frontends: FrontendsField = 32768
    endpoints: EndpointsField = 131072
    tunnels: TunnelsField = 16384


class ResolvedRuntime(KubeModel):
    """Settings that need a restart of the engine, all decided."""

    workers: WorkersField = 1
    main_core: MainCoreField | None = None
    hugepages: RuntimeHugepagesField | None = None
    buffers: BuffersField = 16384
    rx_queues: RxQueuesField = 1
    capacity: ResolvedCapacity = ResolvedCapacity()
    """Sizes of the tables."""


class ResolvedHost(KubeModel):
    """Settings of the node itself; an absent one is not looked at."""

    mode: HostModeField = HostMode.CHECK
    cpu_governor: GovernorField | None = None
    max_c_state: MaxCStateField | None = None
    hugepages: HostHugepagesField | None = None


class ResolvedTuning(KubeModel):
    """The settings of one node, resolved from the tunings that select it over the built-in defaults."""

    gtpu: ResolvedGtpu = ResolvedGtpu()
    """Switches of the GTP-U path; take effect while packets flow."""

    runtime: ResolvedRuntime = ResolvedRuntime()
    """Settings that need a restart of the engine."""

    host: ResolvedHost = ResolvedHost()
    """Settings of the node itself."""


# ------------------------------------------------------------------------------------------------- the kind

LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
)
LABEL_KEYS = Rule(
    f"self.all(key, size(key) <= 317 && key.matches(r'{LABEL_KEY}'))",
    "each key must be a label key: an optional DNS name and a slash, then letters, digits, '-', '_' and '.'",
)
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]


class LabelRequirement(KubeModel):
    """A requirement on one label (metav1.LabelSelectorRequirement)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : "
                "!has(self.values) || size(self.values) == 0",
                "values is needed with In and NotIn, and must be absent with Exists and DoesNotExist",
            )
        )
    )

    key: str = Field(max_length=317, pattern=LABEL_KEY)
    """Key of the label."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """In, NotIn, Exists or DoesNotExist."""

    values: tuple[LabelValue, ...] | None = Field(default=None, max_length=64, json_schema_extra=list_set())
    """Values for In and NotIn."""


class LabelSelector(KubeModel):
    """A label selector (metav1.LabelSelector): all requirements must hold; empty matches everything."""

    match_labels: dict[str, LabelValue] | None = Field(
        default=None, max_length=64, json_schema_extra=rules(LABEL_KEYS)
    )
    """Labels that must be there with these values."""

    match_expressions: tuple[LabelRequirement, ...] | None = Field(default=None, max_length=64)
    """Requirements that must hold."""


class DataplaneTuningSpec(KubeModel):
    """What is wanted, and where."""

    model_config = ConfigDict(json_schema_extra=rules(EMBEDDED_DRIVERS))

    node_selector: LabelSelector | None = None
    """Nodes that the tuning is for, by their labels. Absent or empty = all nodes."""

    priority: int = Field(default=0, ge=-1000000, le=1000000)
    """Where two tunings select one node, the higher priority decides, field by field. Equal priority with
    different values: the older tuning decides and the newer gets the condition Accepted=False, reason
    Conflict."""

    engine: EngineField | None = None
    paused: PausedField | None = None
    interfaces: InterfacesField | None = None
    gtpu: GtpuTuning | None = None
    """Switches of the GTP-U path; take effect while packets flow."""

    runtime: RuntimeTuning | None = None
    """Settings that need a restart of the engine, rolled out one node at a time."""

    host: HostTuning | None = None
    """Settings of the node itself: checked and reported, set only when asked."""


class TuningNodes(KubeModel):
    """How far the tuning has come, in numbers of nodes."""

    matched: int = Field(ge=0)
    """Nodes that the selector matches."""

    applied: int = Field(ge=0)
    """Matched nodes on which every decided setting is in effect."""

    pending_restart: int = Field(ge=0)
    """Matched nodes whose engine must restart before all settings are in effect."""


class ObservedValue(KubeModel):
    """One value of a setting and how many nodes report it."""

    value: str = Field(max_length=64)
    """The value in effect, as text."""

    nodes: int = Field(ge=0)
    """Matched nodes that report it."""


class ObservedSetting(KubeModel):
    """What the matched nodes report of one setting."""

    field: str = Field(max_length=64)
    """Path of the setting in the spec, as in gtpu.lookupCache."""

    values: tuple[ObservedValue, ...] = Field(max_length=16, json_schema_extra=list_map("value"))
    """The values in effect."""


class DataplaneTuningStatus(KubeModel):
    """What came of it."""

    observed_generation: int | None = Field(default=None, ge=0)
    """Generation of the spec that the status speaks of."""

    conditions: Conditions | None = None
    """Accepted (False with reason Conflict beside an equal tuning), TuningApplied."""

    nodes: TuningNodes | None = None
    """How far the tuning has come."""

    in_effect: tuple[ObservedSetting, ...] | None = Field(
        default=None, max_length=64, json_schema_extra=list_map("field")
    )
    """What the Dataplanes of the matched nodes report as in effect, setting by setting."""


class DataplaneTuning(CustomResource):
    """Settings for the dataplanes of the nodes that a selector matches."""

    info: ClassVar[ResourceInfo] = ResourceInfo(
        kind="DataplaneTuning",
        plural="dataplanetunings",
        singular="dataplanetuning",
        short_names=("dpt",),
        categories=("vpp",),
        columns=(
            Column("Priority", "integer", ".spec.priority", "Decides where tunings overlap"),
            Column("Engine", "string", ".spec.engine", "Program that forwards packets"),
            Column(
                "Accepted", "string", ".status.conditions[?(@.type=='Accepted')].status", "Free of conflicts"
            ),
            Column("Matched", "integer", ".status.nodes.matched", "Nodes that the selector matches"),
            Column("Applied", "integer", ".status.nodes.applied", "Nodes where it is in effect"),
            Column("Pending", "integer", ".status.nodes.pendingRestart", "Nodes that wait for a restart"),
            Column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
        ),
    )

    kind: str = "DataplaneTuning"
    spec: DataplaneTuningSpec = DataplaneTuningSpec()
    """What is wanted, and where."""

    status: DataplaneTuningStatus | None = None
    """What came of it; written by the operator."""
