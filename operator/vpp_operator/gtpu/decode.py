"""JSON objects of the API server -> typed objects.

The API server has validated what comes in here by the same models' schema; what it let pass and is wrong all
the same (an object older than its definition) raises :class:`DecodeError` naming the field.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from vpp_operator.api.base import CustomResource
from vpp_operator.api.gtpu_endpoint import EndpointMode, GtpuEndpoint
from vpp_operator.api.gtpu_tunnel import (
    GtpuTunnel,
    GtpuTunnelSet,
    InnerSourceCheck,
    Payload,
    Psc,
    PscDirection,
)
from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import DSCP_INNER, GtpuPayload, GtpuPsc

from .model import ENDPOINT, SET, TUNNEL, Endpoint, Tunnel, TunnelSet

__all__ = ["DecodeError", "decode_endpoint", "decode_set", "decode_tunnel"]

_PSC: Final = {PscDirection.DL: GtpuPsc.DL, PscDirection.UL: GtpuPsc.UL}
_LAST_ADDRESS: Final = {4: 2**32 - 1, 6: 2**128 - 1}

M = TypeVar("M", bound=CustomResource)


class DecodeError(ValueError):
    """An object is not what its kind says: whose, the path of the field, why, the object's generation."""

    def __init__(self, owner: Owner, field: str, message: str, generation: int = 0) -> None:
        super().__init__(f"{owner}: {field}: {message}")
        self.owner = owner
        self.field = field
        self.message = message
        self.generation = generation


def _model(model: type[M], kind: str, obj: Mapping[str, Any]) -> tuple[M, Owner, int]:
    metadata = obj.get("metadata") or {}
    owner = Owner(kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
    generation = metadata.get("generation")
    number = generation if isinstance(generation, int) else 0
    try:
        return model.model_validate(obj), owner, number
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise DecodeError(owner, path or "spec", str(first["msg"]), number) from None


def decode_endpoint(obj: Mapping[str, Any]) -> Endpoint:
    """Read a GtpuEndpoint. Raises :class:`DecodeError`."""
    made, _, generation = _model(GtpuEndpoint, ENDPOINT, obj)
    spec = made.spec
    return Endpoint(
        name=made.metadata.name,
        uid=made.metadata.uid or "",
        created=made.metadata.creation_timestamp or "",
        generation=generation,
        address=ipaddress.ip_address(spec.local_address),
        floating=spec.mode is EndpointMode.FLOATING,
        node_selector=spec.node_selector,
        teid_base=spec.teid_range.base if spec.teid_range else 0,
        teid_count=spec.teid_range.count if spec.teid_range else 0,
        pools=tuple(ipaddress.ip_network(pool) for pool in spec.ue_pools),
        namespaces=frozenset(spec.allowed_namespaces),
        echo_interval_ms=spec.echo.interval_seconds * 1000,
        t3_ms=spec.echo.t3_seconds * 1000,
        n3=spec.echo.n3,
        mtu=spec.mtu or 0,
        dscp=DSCP_INNER if spec.dscp is None else spec.dscp,
        entropy=spec.entropy,
    )


def _psc(psc: Psc | None) -> tuple[GtpuPsc, int]:
    return (_PSC[psc.direction], psc.qfi) if psc else (GtpuPsc.NONE, 0)


def decode_tunnel(obj: Mapping[str, Any]) -> Tunnel:
    """Read a GtpuTunnel. Raises :class:`DecodeError`."""
    made, owner, generation = _model(GtpuTunnel, TUNNEL, obj)
    spec = made.spec
    psc, qfi = _psc(spec.psc)
    prefixes = tuple(ipaddress.ip_network(text) for text in spec.inner.ue_addresses or ())
    vlan = spec.inner.vlan or 0
    ethernet = spec.payload is Payload.ETHERNET
    if ethernet and (prefixes or not vlan):
        raise DecodeError(owner, "spec.inner", "payload Ethernet takes vlan and no ueAddresses", generation)
    if not ethernet and (vlan or not prefixes):
        raise DecodeError(owner, "spec.inner", "payload IP takes ueAddresses and no vlan", generation)
    return Tunnel(
        namespace=made.metadata.namespace or "",
        name=made.metadata.name,
        uid=made.metadata.uid or "",
        created=made.metadata.creation_timestamp or "",
        generation=generation,
        endpoint=spec.endpoint_ref.name,
        remote=ipaddress.ip_address(spec.remote_address),
        local_teid=spec.local_teid,
        remote_teid=spec.remote_teid,
        payload=GtpuPayload.ETHERNET if ethernet else GtpuPayload.IP,
        prefixes=prefixes,
        vlan=vlan,
        inner_vrf=spec.inner.vrf,
        psc=psc,
        qfi=qfi,
        source_check=spec.inner_source_check is InnerSourceCheck.STRICT,
        end_marker=spec.end_marker_on_replace,
    )


def decode_set(obj: Mapping[str, Any]) -> TunnelSet:
    """Read a GtpuTunnelSet. Raises :class:`DecodeError`."""
    made, owner, generation = _model(GtpuTunnelSet, SET, obj)
    spec = made.spec
    psc, qfi = _psc(spec.template.psc)
    bases = tuple(
        ipaddress.ip_network(text) for text in (spec.ue_base.ipv4, spec.ue_base.ipv6_prefix) if text
    )
    found = TunnelSet(
        namespace=made.metadata.namespace or "",
        name=made.metadata.name,
        uid=made.metadata.uid or "",
        created=made.metadata.creation_timestamp or "",
        generation=generation,
        endpoint=spec.endpoint_ref.name,
        count=spec.count,
        local_teid=spec.local_teid_base,
        remote_teid=spec.remote_teid_base,
        remotes=tuple(ipaddress.ip_address(peer) for peer in spec.peers),
        bases=bases,
        step=spec.ue_base.step,
        inner_vrf=spec.template.vrf,
        psc=psc,
        qfi=qfi,
        source_check=spec.template.inner_source_check is InnerSourceCheck.STRICT,
        end_marker=spec.template.end_marker_on_replace,
    )
    if not bases:
        raise DecodeError(owner, "spec.ueBase", "ipv4 or ipv6Prefix is needed", generation)
    if max(spec.local_teid_base, spec.remote_teid_base) + spec.count > 2**32:
        raise DecodeError(owner, "spec.count", "goes beyond TEID 4294967295", generation)
    if any(last > _LAST_ADDRESS[family] for family, _, last in found.spans()):
        raise DecodeError(owner, "spec.ueBase", "goes beyond the last address", generation)
    return found
