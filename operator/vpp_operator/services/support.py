"""What of a Service is not served yet, and what it gets instead (design: Custom resources, Services).

A field that restricts: the entries it restricts are not programmed, since serving them would let through what
the user has shut out. A field that only prefers: served without it. Either way a Problem.
"""

from __future__ import annotations

from typing import Final

from vpp_operator.api.conditions import Reason
from vpp_operator.api.problem import Problem
from vpp_operator.dataplane.records import FrontendKind, Protocol

from .model import Service

__all__ = ["SUPPORTED_PROTOCOLS", "programmed_kinds", "unsupported"]

SUPPORTED_PROTOCOLS: Final = frozenset({Protocol.TCP, Protocol.UDP})
"""Protocols that the packet kernels translate."""


def programmed_kinds(service: Service, external_ips: bool) -> frozenset[FrontendKind]:
    """Return the kinds of frontend of ``service`` that are programmed.

    ``external_ips`` False: external IPs are switched off in this cluster.
    """
    kinds = set()
    if not service.internal_local:
        kinds.add(FrontendKind.CLUSTER_IP)
    # externalTrafficPolicy counts for all that is reached from outside (kube-proxy ExternallyAccessible).
    if not service.external_local:
        kinds.add(FrontendKind.NODE_PORT)
        if external_ips:
            kinds.add(FrontendKind.EXTERNAL_IP)
    return frozenset(kinds)


def _externally_accessible(service: Service) -> bool:
    return service.type in ("LoadBalancer", "NodePort") or bool(service.external_ips)


def unsupported(service: Service, external_ips: bool = True) -> list[Problem]:
    """Return a Problem for each field of ``service`` that is not served as asked; empty: all of it is."""
    messages: list[tuple[Reason, str]] = []

    def add(message: str, reason: Reason = Reason.UNSUPPORTED) -> None:
        messages.append((reason, message))

    if service.internal_local:
        add(
            "spec.internalTrafficPolicy Local is not supported yet: the cluster IPs are not programmed. "
            "Use Cluster to have them served."
        )
    if service.external_local and _externally_accessible(service):
        add(
            "spec.externalTrafficPolicy Local is not supported yet: node ports, external IPs and the "
            "health check node port are not programmed. Use Cluster to have them served."
        )
    if service.affinity_seconds:
        add(
            "spec.sessionAffinity ClientIP is not supported yet: each new connection picks its endpoint "
            "anew. Use None if that is intended."
        )
    vips = [entry for entry in service.ingress if entry.vip] if service.type == "LoadBalancer" else []
    if vips:
        add(
            "status.loadBalancer.ingress: load balancer addresses are not supported yet and are not "
            "programmed. The cluster IPs and node ports of this Service are."
        )
    if service.source_ranges and service.type == "LoadBalancer":
        add(
            "spec.loadBalancerSourceRanges is not supported yet: the load balancer addresses that it "
            "restricts are not programmed."
        )
    if service.topology:
        add(f"{service.topology} is not supported yet: traffic goes to all endpoints alike.")
    for port in service.ports:
        if port.protocol not in SUPPORTED_PROTOCOLS:
            add(
                f"spec.ports: protocol {port.protocol.name} is not supported yet: port {port.port} is not "
                "programmed. TCP and UDP ports are."
            )
    if service.external_ips and not external_ips:
        add(
            "spec.externalIPs are switched off in this cluster and are not programmed. Set the chart's "
            "value externalIPs.enabled to true, or remove them.",
            Reason.SWITCHED_OFF,
        )
    return [
        Problem("Service", service.namespace, service.name, reason, message, service.generation)
        for reason, message in messages
    ]
