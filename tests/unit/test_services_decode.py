"""Decoding Services and EndpointSlices: what is broken is named, field and all."""

from __future__ import annotations

import copy
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.service_objects import Json, endpoint, endpoint_slice, port, service

from vpp_operator.api.problem import Owner
from vpp_operator.dataplane.records import Protocol
from vpp_operator.services.decode import DecodeError, decode_service, decode_slice, parse_address
from vpp_operator.services.model import Ingress, ObjectName, ServicePort

FULL_SERVICE = service(
    ips=["10.96.0.10", "fd00::10"],
    ports=[port(80, "http", "TCP", 30080)],
    type="LoadBalancer",
    externalIPs=["192.0.2.1"],
    sessionAffinity="ClientIP",
    sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
    loadBalancerSourceRanges=["192.0.2.0/24"],
    status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
)
FULL_SLICE = endpoint_slice("s", [endpoint("10.1.0.1", node="node-a"), "10.1.0.2"])


def changed(document: Json, path: str, value: Any) -> Json:
    """A copy with ``path`` (spec/ports/0/port) set to ``value``."""
    document = copy.deepcopy(document)
    place: Any = document
    *parents, last = (int(word) if word.isdigit() else word for word in path.split("/"))
    for word in parents:
        place = place[word]
    place[last] = value
    return document


BROKEN_SERVICES = [
    ("spec", 5, "spec"),
    ("spec/clusterIP", 5, "spec.clusterIP"),
    ("spec/clusterIPs/1", "fd00:::1", "spec.clusterIPs[1]"),
    ("spec/clusterIPs/1", "10.96.0.11", "spec.clusterIPs[1]"),
    ("spec/clusterIPs", "10.96.0.10", "spec.clusterIPs"),
    ("spec/ipFamilies/0", "IPv5", "spec.ipFamilies[0]"),
    ("spec/ports", {}, "spec.ports"),
    ("spec/ports/0", None, "spec.ports[0]"),
    ("spec/ports/0/port", 0, "spec.ports[0].port"),
    ("spec/ports/0/port", None, "spec.ports[0].port"),
    ("spec/ports/0/port", True, "spec.ports[0].port"),
    ("spec/ports/0/port", "80", "spec.ports[0].port"),
    ("spec/ports/0/nodePort", 65536, "spec.ports[0].nodePort"),
    ("spec/ports/0/name", 1, "spec.ports[0].name"),
    ("spec/ports/0/protocol", "ICMP", "spec.ports[0].protocol"),
    ("spec/externalIPs/0", "example.org", "spec.externalIPs[0]"),
    ("spec/sessionAffinityConfig/clientIP/timeoutSeconds", 86401, "clientIP.timeoutSeconds"),
    ("status/loadBalancer/ingress/0/ip", "203.0.113", "status.loadBalancer.ingress[0].ip"),
    ("metadata/labels", [], "metadata.labels"),
    ("metadata/labels", {"service.kubernetes.io/service-proxy-name": 1}, "service-proxy-name"),
]


@pytest.mark.parametrize(("path", "value", "field"), BROKEN_SERVICES)
def test_broken_service_names_the_field(path: str, value: Any, field: str) -> None:
    decode_service(FULL_SERVICE)
    with pytest.raises(DecodeError) as error:
        decode_service(changed(FULL_SERVICE, path, value))
    assert field in error.value.field
    assert error.value.owner == Owner("Service", "default", "web")
    assert error.value.service == ObjectName("default", "web")
    assert str(error.value).startswith("Service/default/web: ")


BROKEN_SLICES = [
    ("addressType", "IPX", "addressType"),
    ("addressType", None, "addressType"),
    ("addressType", "IPv6", "endpoints[0].addresses[0]"),
    ("ports", 1, "ports"),
    ("ports/0", "x", "ports[0]"),
    ("ports/0/port", 70000, "ports[0].port"),
    ("ports/0/port", 80.5, "ports[0].port"),
    ("ports/0/protocol", "QUIC", "ports[0].protocol"),
    ("endpoints", "x", "endpoints"),
    ("endpoints/1", ["10.1.0.2"], "endpoints[1]"),
    ("endpoints/1/addresses", "10.1.0.2", "endpoints[1].addresses"),
    ("endpoints/1/addresses/0", "10.1.0.256", "endpoints[1].addresses[0]"),
    ("endpoints/1/addresses/0", "fe80::1%eth0", "endpoints[1].addresses[0]"),
    ("endpoints/1/addresses/0", 7, "endpoints[1].addresses[0]"),
    ("endpoints/0/conditions", True, "endpoints[0].conditions"),
    ("endpoints/0/conditions/ready", "true", "endpoints[0].conditions.ready"),
    ("endpoints/0/nodeName", 3, "endpoints[0].nodeName"),
]


@pytest.mark.parametrize(("path", "value", "field"), BROKEN_SLICES)
def test_broken_slice_names_the_field_and_its_service(path: str, value: Any, field: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode_slice(changed(FULL_SLICE, path, value))
    assert error.value.field == field
    assert error.value.owner == Owner("EndpointSlice", "default", "s")
    assert error.value.service == ObjectName("default", "web")


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"metadata": None}, {"metadata": {"namespace": "a"}}]
)
def test_object_without_a_name(document: Any) -> None:
    for decode in (decode_service, decode_slice):
        with pytest.raises(DecodeError, match=r"metadata|must be an object"):
            decode(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(document: Any) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    return [(key, *rest) for key, value in items for rest in [(), *paths(value)]]


@given(data=st.data())
def test_any_change_decodes_or_is_a_decode_error(data: st.DataObject) -> None:
    """Nothing else ever comes out of a decoder, whatever stands wherever."""
    for document, decode in ((FULL_SERVICE, decode_service), (FULL_SLICE, decode_slice)):
        path = data.draw(st.sampled_from(paths(document)))
        broken = copy.deepcopy(document)
        place: Any = broken
        for word in path[:-1]:
            place = place[word]
        place[path[-1]] = data.draw(JSON)
        try:
            decode(broken)
        except DecodeError as error:
            assert error.field and error.message


@given(st.ip_addresses())
def test_addresses_are_packed(address: Any) -> None:
    parsed = parse_address(str(address))
    mapped = address.version == 6 and address.ipv4_mapped
    if mapped:
        address = mapped
    assert parsed == (address.version, address.packed.ljust(16, b"\0"))


def test_addresses_as_kube_proxy_reads_them() -> None:
    assert parse_address("010.1.02.3").packed[:4] == socket.inet_aton("10.1.2.3")
    assert parse_address("::ffff:10.1.2.3").family == 4
    wrong = [
        "",
        "10.1.2",
        "10.1.2.3.4",
        "1.2.3.256",
        "1.2..3",
        "٣.1.1.1",
        "10.1.2.3/32",
        " 10.1.2.3",
        "a\0",
        "9" * 5000,
    ]
    for text in [*wrong, "::1%lo", "g::", ".".join(["9" * 5000] * 4)]:
        with pytest.raises(ValueError, match="must be an IP address"):
            parse_address(text)


def test_absent_fields_have_the_api_defaults() -> None:
    decoded = decode_service(service(ports=[{"port": 80}], sessionAffinity="ClientIP"))
    assert decoded.ports == (ServicePort("", Protocol.TCP, 80, 0),)
    assert decoded.affinity_seconds == 10800
    assert not decode_service(service()).affinity_seconds


def test_ingress_by_ip_mode() -> None:
    """ipMode Proxy is no VIP; an entry with a host name only is skipped (kube-proxy)."""
    entries = [
        {"ip": "203.0.113.1"},
        {"ip": "203.0.113.2", "ipMode": "Proxy"},
        {"ip": "203.0.113.3", "ipMode": "VIP"},
        {"hostname": "lb.example.org"},
        {"ip": "", "hostname": "lb.example.org"},
    ]
    decoded = decode_service(service(status={"loadBalancer": {"ingress": entries}}))
    assert decoded.ingress == (
        Ingress(parse_address("203.0.113.1"), True),
        Ingress(parse_address("203.0.113.2"), False),
        Ingress(parse_address("203.0.113.3"), True),
    )


@pytest.mark.parametrize(
    ("ranges", "restricts"),
    [
        ([], False),
        (None, False),
        (["192.0.2.0/24"], True),
        (["192.0.2.0/24", "0.0.0.0/0"], False),
        (["::/0"], False),
        ([" 0.0.0.0/0 "], False),
        (["nonsense"], True),
    ],
)
def test_source_ranges_any_zero_length_is_no_restriction(ranges: Any, restricts: bool) -> None:
    assert decode_service(service(loadBalancerSourceRanges=ranges)).source_ranges is restricts
