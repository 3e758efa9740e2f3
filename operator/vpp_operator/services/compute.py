"""One Service and its EndpointSlices -> its records, as far as they do not depend on other Services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Problem
from vpp_operator.dataplane.records import (
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    ServiceFlag,
    ServiceRecord,
    Verdict,
    service_id,
)

from .endpoints import EndpointKey, categorize, merge
from .model import Address, EndpointSlice, Service, ServicePort
from .support import SUPPORTED_PROTOCOLS, programmed_kinds, unsupported

__all__ = ["Computed", "Options", "compute", "in_scope"]

MAIN_VRF: Final = 0
ANY_ADDRESS: Final = bytes(16)

_pack_frontend = FrontendRecord.LAYOUT.pack
_pack_endpoint = EndpointRecord.LAYOUT.pack


@dataclass(frozen=True, slots=True)
class Options:
    """What the table depends on beside the objects.

    ``node_name``: this node, for local endpoints. ``proxy_name``: serve the Services whose label
    service.kubernetes.io/service-proxy-name has this value; None: those without the label, as kube-proxy
    does. ``max_endpoints``: most endpoints of one service port and family, so that one Service cannot fill
    the table for all.
    """

    node_name: str
    external_ips: bool = True
    proxy_name: str | None = None
    max_endpoints: int = 20000


@dataclass(slots=True)
class Computed:
    """Records of one Service: packed; frontends by key, as claims that another Service may win.

    ``ids``: ids of its service records. ``generation``: of the Service that they were made from.
    """

    services: frozenset[bytes] = frozenset()
    endpoints: frozenset[bytes] = frozenset()
    frontends: dict[bytes, bytes] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    ids: frozenset[int] = frozenset()
    generation: int = 0


NOTHING: Final = Computed()


def in_scope(service: Service, options: Options) -> bool:
    """Whether the Service is this proxy's: kube-proxy's ShouldSkipService and its watch's label selector."""
    if service.type == "ExternalName" or not service.cluster_ips:
        return False
    return service.proxy_name == options.proxy_name


def compute(service: Service, slices: Sequence[EndpointSlice], options: Options) -> Computed:
    """Return the records of ``service``; a port without any frontend has none at all."""
    if not in_scope(service, options):
        return NOTHING
    kinds = programmed_kinds(service, options.external_ips)
    problems = unsupported(service, options.external_ips)
    services: set[bytes] = set()
    endpoints: set[bytes] = set()
    frontends: dict[bytes, bytes] = {}
    ids: set[int] = set()
    for port in service.ports:
        if port.protocol not in SUPPORTED_PROTOCOLS:
            continue
        for cluster_ip in service.cluster_ips:
            family = cluster_ip.family
            ident = service_id(service.namespace, service.name, port.name, port.protocol, family)
            found = _frontends(service, port, cluster_ip, ident, kinds)
            if not found:
                continue
            for key, record in found.items():
                frontends.setdefault(key, record)
            ids.add(ident)
            # No policy bits yet: what needs them is not programmed (support.py), and empty sets are rejected.
            services.add(ServiceRecord(ident, family, port.protocol, ServiceFlag(0), Verdict.REJECT).pack())
            chosen = categorize(merge(slices, port, family, options.node_name))
            if len(chosen) > options.max_endpoints:
                problems.append(_too_many(service, port, family, len(chosen), options.max_endpoints))
                chosen = _first(chosen, options.max_endpoints)
            endpoints.update(
                _pack_endpoint(ident, family, number, 0, address, flags)
                for (address, number), flags in chosen
            )
    return Computed(
        services=frozenset(services),
        endpoints=frozenset(endpoints),
        frontends=frontends,
        problems=tuple(problems),
        ids=frozenset(ids),
        generation=service.generation,
    )


def _frontends(
    service: Service,
    port: ServicePort,
    cluster_ip: Address,
    ident: int,
    kinds: frozenset[FrontendKind],
) -> dict[bytes, bytes]:
    """Return the frontends of one port in the family of ``cluster_ip``, record by key.

    As kube-proxy: node ports and external IPs only in families in which the Service has a cluster IP. An
    address that is there twice is what it is first: cluster IP, then external IP.
    """
    family = cluster_ip.family
    wanted: list[tuple[FrontendKind, bytes, int]] = []
    if FrontendKind.CLUSTER_IP in kinds:
        wanted.append((FrontendKind.CLUSTER_IP, cluster_ip.packed, port.port))
    if FrontendKind.EXTERNAL_IP in kinds:
        wanted += (
            (FrontendKind.EXTERNAL_IP, address.packed, port.port)
            for address in service.external_ips
            if address.family == family
        )
    if FrontendKind.NODE_PORT in kinds and port.node_port:
        wanted.append((FrontendKind.NODE_PORT, ANY_ADDRESS, port.node_port))
    found: dict[bytes, bytes] = {}
    for kind, address, number in wanted:
        node_port = kind is FrontendKind.NODE_PORT
        record = _pack_frontend(MAIN_VRF, family, port.protocol, number, node_port, address, ident, kind)
        found.setdefault(record[: FrontendRecord.KEY], record)
    return found


def _first(
    chosen: list[tuple[EndpointKey, EndpointFlag]], limit: int
) -> list[tuple[EndpointKey, EndpointFlag]]:
    """Return ``limit`` endpoints: this node's first, then those for new flows, then by address."""
    return sorted(
        chosen,
        key=lambda item: (
            not item[1] & EndpointFlag.LOCAL,
            not item[1] & EndpointFlag.CLUSTER,
            item[0],
        ),
    )[:limit]


def _too_many(service: Service, port: ServicePort, family: int, found: int, limit: int) -> Problem:
    return Problem(
        "Service",
        service.namespace,
        service.name,
        Reason.CAPACITY_EXCEEDED,
        f"port {port.port}/{port.protocol.name} has {found} IPv{family} endpoints; {limit} of them are "
        "served. Spread them over several Services.",
        service.generation,
    )
