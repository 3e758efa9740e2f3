"""JSON objects of the API server -> typed records, with kube-proxy's values for absent fields.

The API server has validated what comes in here; a decoder that meets something else raises
:class:`DecodeError` naming the field, so that one broken object is reported and all others go on.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import Any, Final

from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import Protocol

from .model import (
    Address,
    Endpoint,
    EndpointSlice,
    EndpointState,
    Ingress,
    ObjectName,
    Service,
    ServicePort,
    SlicePort,
)

__all__ = [
    "LABEL_HEADLESS",
    "LABEL_PROXY_NAME",
    "LABEL_SERVICE_NAME",
    "DecodeError",
    "decode_service",
    "decode_slice",
    "parse_address",
]

LABEL_SERVICE_NAME: Final = "kubernetes.io/service-name"
LABEL_PROXY_NAME: Final = "service.kubernetes.io/service-proxy-name"
LABEL_HEADLESS: Final = "service.kubernetes.io/headless"
TOPOLOGY_ANNOTATIONS: Final = (
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/topology-aware-hints",
)

DEFAULT_AFFINITY_SECONDS: Final = 10800
"""sessionAffinityConfig.clientIP.timeoutSeconds where it is absent (API default)."""

PROTOCOLS: Final[Mapping[str, Protocol]] = {p.name: p for p in Protocol}
FAMILIES: Final[Mapping[str, int]] = {"IPv4": 4, "IPv6": 6, "FQDN": 0}
PAD: Final = bytes(12)
_SLOPPY_OCTET: Final = re.compile(r"0{0,9}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])")

Json = Mapping[str, Any]


class DecodeError(ValueError):
    """An object is not what its kind says.

    ``owner`` is the broken object, ``service`` the Service that it speaks of where that is known, ``field``
    the path of the field, ``generation`` the object's.
    """

    def __init__(
        self, owner: Owner, field: str, message: str, service: ObjectName | None = None, generation: int = 0
    ) -> None:
        super().__init__(f"{owner}: {field}: {message}")
        self.owner = owner
        self.field = field
        self.message = message
        self.service = service
        self.generation = generation


class _FieldError(Exception):
    """A field is wrong: its path and why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _object(parent: Json, key: str, path: str) -> Json:
    """Return an object; absent or null: empty."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _FieldError(path + key, f"must be an object, found {_found(value)}")
    return value


def _list(parent: Json, key: str, path: str) -> list[Any]:
    """Return a list; absent or null: empty."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _FieldError(path + key, f"must be a list, found {_found(value)}")
    return value


def _string(parent: Json, key: str, path: str, default: str = "") -> str:
    value = parent.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise _FieldError(path + key, f"must be a string, found {_found(value)}")
    return value


def _integer(parent: Json, key: str, path: str, low: int, high: int, default: int = 0) -> int:
    value = parent.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _FieldError(path + key, f"must be an integer from {low} to {high}, found {_found(value)}")
    return value


def _boolean(parent: Json, key: str, path: str, default: bool) -> bool:
    value = parent.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _FieldError(path + key, f"must be true or false, found {_found(value)}")
    return value


def _entry(value: object, path: str) -> Json:
    if not isinstance(value, dict):
        raise _FieldError(path, f"must be an object, found {_found(value)}")
    return value


def parse_address(text: object) -> Address:
    """Return an IP address as kube-proxy reads it; raise ValueError saying what is wrong.

    As its ParseIPSloppy: leading zeros in IPv4 are decimal, IPv4-mapped IPv6 is IPv4; no zone.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be an IP address, found {_found(text)}")
    if ":" not in text:
        try:
            return Address(4, socket.inet_pton(socket.AF_INET, text) + PAD)
        except (OSError, ValueError):
            pass
        octets = text.split(".")
        if len(octets) == 4 and all(map(_SLOPPY_OCTET.fullmatch, octets)):
            return Address(4, bytes(map(int, octets)) + PAD)
        raise ValueError(f"must be an IP address, found {_found(text)}")
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        raise ValueError(f"must be an IP address, found {_found(text)}") from None
    if packed.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        return Address(4, packed[12:] + PAD)
    return Address(6, packed)


def _address(text: object, path: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise _FieldError(path, str(error)) from None


def _protocol(entry: Json, path: str) -> Protocol:
    name = _string(entry, "protocol", path, "TCP")
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise _FieldError(path + "protocol", f"must be TCP, UDP or SCTP, found {_found(name)}") from None


def _identity(kind: str, document: object) -> tuple[Owner, Json, int]:
    """Return owner, metadata and generation; an object without a name cannot even be reported."""
    if not isinstance(document, dict):
        raise DecodeError(Owner(kind, "", "?"), "", f"must be an object, found {_found(document)}")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise DecodeError(Owner(kind, "", "?"), "metadata", f"must be an object, found {_found(metadata)}")
    names: list[str] = []
    for key in ("namespace", "name"):
        value = metadata.get(key)
        if not isinstance(value, str) or not value:
            owner = Owner(kind, *names, *("?",) * (2 - len(names)))
            raise DecodeError(owner, f"metadata.{key}", f"must be a name, found {_found(value)}")
        names.append(value)
    generation = metadata.get("generation")
    return Owner(kind, *names), metadata, generation if isinstance(generation, int) else 0


def decode_service(document: object) -> Service:
    """Return the Service of a JSON object (core/v1); raise :class:`DecodeError` naming the field."""
    owner, metadata, generation = _identity("Service", document)
    assert isinstance(document, dict)
    try:
        return _service(owner, metadata, generation, document)
    except _FieldError as error:
        service = ObjectName(owner.namespace, owner.name)
        raise DecodeError(owner, error.field, error.message, service, generation) from None


def _service(owner: Owner, metadata: Json, generation: int, document: Json) -> Service:
    spec = _object(document, "spec", "")
    labels = _object(metadata, "labels", "metadata.")
    affinity = 0
    if _string(spec, "sessionAffinity", "spec.") == "ClientIP":
        path = "spec.sessionAffinityConfig.clientIP."
        config = _object(spec, "sessionAffinityConfig", "spec.")
        client = _object(config, "clientIP", "spec.sessionAffinityConfig.")
        affinity = _integer(client, "timeoutSeconds", path, 1, 86400, DEFAULT_AFFINITY_SECONDS)
    proxy_name = labels.get(LABEL_PROXY_NAME)
    if proxy_name is not None and not isinstance(proxy_name, str):
        raise _FieldError(f"metadata.labels[{LABEL_PROXY_NAME}]", "must be a string")
    return Service(
        namespace=owner.namespace,
        name=owner.name,
        uid=_string(metadata, "uid", "metadata."),
        created=_string(metadata, "creationTimestamp", "metadata."),
        generation=generation,
        type=_string(spec, "type", "spec.", "ClusterIP"),
        cluster_ips=_cluster_ips(spec),
        external_ips=tuple(
            _address(text, f"spec.externalIPs[{i}]")
            for i, text in enumerate(_list(spec, "externalIPs", "spec."))
        ),
        ingress=_ingress(_object(document, "status", "")),
        ports=tuple(
            _service_port(_entry(entry, f"spec.ports[{i}]"), f"spec.ports[{i}].")
            for i, entry in enumerate(_list(spec, "ports", "spec."))
        ),
        proxy_name=proxy_name,
        affinity_seconds=affinity,
        internal_local=_string(spec, "internalTrafficPolicy", "spec.") == "Local",
        external_local=_string(spec, "externalTrafficPolicy", "spec.") == "Local",
        source_ranges=_restricts(_list(spec, "loadBalancerSourceRanges", "spec.")),
        topology=_topology(spec, _object(metadata, "annotations", "metadata.")),
    )


def _cluster_ips(spec: Json) -> tuple[Address, ...]:
    """Cluster IPs by kube-proxy's GetClusterIPByFamily; none for "" and None (ShouldSkipService)."""
    first = _string(spec, "clusterIP", "spec.")
    if first in ("", "None"):
        return ()
    families = _list(spec, "ipFamilies", "spec.")
    if not families:
        return (_address(first, "spec.clusterIP"),)
    addresses: list[Address] = []
    listed = _list(spec, "clusterIPs", "spec.")
    for i, (family, text) in enumerate(zip(families, listed, strict=False)):
        if family not in ("IPv4", "IPv6"):
            raise _FieldError(f"spec.ipFamilies[{i}]", f"must be IPv4 or IPv6, found {_found(family)}")
        address = _address(text, f"spec.clusterIPs[{i}]")
        if address.family != FAMILIES[family]:
            raise _FieldError(
                f"spec.clusterIPs[{i}]",
                f"must be an {family} address as spec.ipFamilies[{i}] says, found {text}",
            )
        if all(address.family != other.family for other in addresses):
            addresses.append(address)
    return tuple(addresses)


def _service_port(entry: Json, path: str) -> ServicePort:
    port = _integer(entry, "port", path, 1, 65535)
    if not port:
        raise _FieldError(path + "port", "must be an integer from 1 to 65535, found none")
    return ServicePort(
        name=_string(entry, "name", path),
        protocol=_protocol(entry, path),
        port=port,
        node_port=_integer(entry, "nodePort", path, 0, 65535),
    )


def _ingress(status: Json) -> tuple[Ingress, ...]:
    """Load balancer addresses; those with a host name only are skipped."""
    balancer = _object(status, "loadBalancer", "status.")
    entries = []
    for i, value in enumerate(_list(balancer, "ingress", "status.loadBalancer.")):
        path = f"status.loadBalancer.ingress[{i}]"
        entry = _entry(value, path)
        if entry.get("ip"):
            vip = _string(entry, "ipMode", path + ".", "VIP") == "VIP"
            entries.append(Ingress(_address(entry["ip"], path + ".ip"), vip))
    return tuple(entries)


def _restricts(ranges: list[Any]) -> bool:
    """Whether source ranges restrict anything: a range of length 0 lets every source in (kube-proxy).

    A range that cannot be read counts as a restriction: the safe side.
    """

    def everything(text: object) -> bool:
        try:
            return ipaddress.ip_network(str(text).strip(), strict=False).prefixlen == 0
        except ValueError:
            return False

    return bool(ranges) and not any(everything(text) for text in ranges)


def _topology(spec: Json, annotations: Json) -> str:
    distribution = _string(spec, "trafficDistribution", "spec.")
    if distribution:
        return f"spec.trafficDistribution: {distribution}"
    for annotation in TOPOLOGY_ANNOTATIONS:
        mode = annotations.get(annotation)
        if isinstance(mode, str) and mode.lower() not in ("", "disabled"):
            return f"metadata.annotations[{annotation}]: {mode}"
    return ""


def decode_slice(document: object) -> EndpointSlice:
    """Return the EndpointSlice of a JSON object (discovery.k8s.io/v1).

    Raises :class:`DecodeError` naming the field.
    """
    owner, metadata, generation = _identity("EndpointSlice", document)
    assert isinstance(document, dict)
    service: str = ""
    try:
        labels = _object(metadata, "labels", "metadata.")
        service = _string(labels, LABEL_SERVICE_NAME, "metadata.labels.")
        return _slice(owner, labels, service, generation, document)
    except _FieldError as error:
        known = ObjectName(owner.namespace, service) if service else None
        raise DecodeError(owner, error.field, error.message, known, generation) from None


def _slice(owner: Owner, labels: Json, service: str, generation: int, document: Json) -> EndpointSlice:
    kind = _string(document, "addressType", "")
    family = FAMILIES.get(kind)
    if family is None:
        raise _FieldError("addressType", f"must be IPv4, IPv6 or FQDN, found {_found(kind)}")
    ports = []
    for i, value in enumerate(_list(document, "ports", "")):
        path = f"ports[{i}]."
        entry = _entry(value, f"ports[{i}]")
        # kube-proxy skips a port without a name ("" is one) or without a number.
        number = _integer(entry, "port", path, 0, 65535)
        if entry.get("name") is not None and number:
            ports.append(SlicePort(_string(entry, "name", path), _protocol(entry, path), number))
    endpoints: list[Endpoint] = []
    if family:
        for i, value in enumerate(_list(document, "endpoints", "")):
            endpoint = _endpoint(value, i, family)
            if endpoint is not None:
                endpoints.append(endpoint)
    return EndpointSlice(
        namespace=owner.namespace,
        name=owner.name,
        service=service,
        family=family,
        generation=generation,
        headless=LABEL_HEADLESS in labels,
        ports=tuple(ports),
        endpoints=tuple(endpoints),
    )


_NO_CONDITIONS: Final = int(EndpointState.READY | EndpointState.SERVING)
_READY: Final = int(EndpointState.READY)
_SERVING: Final = int(EndpointState.SERVING)
_TERMINATING: Final = int(EndpointState.TERMINATING)


def _endpoint(value: object, index: int, family: int) -> Endpoint | None:
    """One endpoint, by its first address; None without any (kube-proxy skips it)."""
    path = f"endpoints[{index}]"
    entry = _entry(value, path)
    addresses = _list(entry, "addresses", path + ".")
    if not addresses:
        return None
    address = _address(addresses[0], path + ".addresses[0]")
    if address.family != family:
        raise _FieldError(
            path + ".addresses[0]",
            f"must be an IPv{family} address as addressType says, found {addresses[0]}",
        )
    conditions = entry.get("conditions")
    state = _NO_CONDITIONS
    if conditions is not None:
        where = path + ".conditions."
        conditions = _object(entry, "conditions", path + ".")
        state = (
            (_READY if _boolean(conditions, "ready", where, True) else 0)
            | (_SERVING if _boolean(conditions, "serving", where, True) else 0)
            | (_TERMINATING if _boolean(conditions, "terminating", where, False) else 0)
        )
    return Endpoint(address.packed, state, _string(entry, "nodeName", path + "."))
