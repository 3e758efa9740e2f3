"""A real API server takes GTP-U objects that are right and refuses those that are wrong, naming the field."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from tests.cluster.controlplane import ControlPlane

from vpp_operator.api.base import GROUP, VERSION
from vpp_operator.api.dataplane import ProgrammedCount
from vpp_operator.api.gtpu_endpoint import GtpuEndpoint, GtpuEndpointStatus, PathStatus
from vpp_operator.api.gtpu_fields import PathCount, TunnelFigures
from vpp_operator.api.gtpu_tunnel import (
    GtpuTunnel,
    GtpuTunnelSet,
    GtpuTunnelSetStatus,
    GtpuTunnelStatus,
    TunnelNode,
)

CRDS = Path(__file__).parents[2] / "crds"
KINDS = (GtpuEndpoint, GtpuTunnel, GtpuTunnelSet)
NAMES = (f"g{number}" for number in itertools.count())
TIME = "2026-01-02T03:04:05Z"
NAMESPACE = "default"

Json = dict[str, Any]


class Api:
    """Objects of the GTP-U kinds on the API server, whatever their scope."""

    def __init__(self, objects: client.CustomObjectsApi) -> None:
        self.objects = objects

    def create(self, kind: str, spec: Json) -> Json:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": next(NAMES)},
            "spec": spec,
        }
        options = {"field_validation": "Strict", "field_manager": "test"}
        plural = kind.lower() + "s"
        if kind == "GtpuEndpoint":
            made = self.objects.create_cluster_custom_object(GROUP, VERSION, plural, body, **options)
        else:
            made = self.objects.create_namespaced_custom_object(
                GROUP, VERSION, NAMESPACE, plural, body, **options
            )
        assert isinstance(made, dict)
        return made

    def patch(self, made: Json, change: Json, status: bool = False) -> Json:
        plural, name = made["kind"].lower() + "s", made["metadata"]["name"]
        scope = "cluster" if made["kind"] == "GtpuEndpoint" else "namespaced"
        place = (GROUP, VERSION, plural) if scope == "cluster" else (GROUP, VERSION, NAMESPACE, plural)
        call = getattr(self.objects, f"patch_{scope}_custom_object" + ("_status" if status else ""))
        patched = call(*place, name, change, field_validation="Strict")
        assert isinstance(patched, dict)
        return patched


@pytest.fixture(scope="module")
def api(controlplane: ControlPlane) -> Iterator[Api]:
    controlplane.kubectl("apply", "--server-side", "-f", str(CRDS))
    for model in KINDS:
        name = f"crd/{model.info.plural}.{GROUP}"
        controlplane.kubectl("wait", "--for=condition=Established", "--timeout=30s", name)
    objects = client.CustomObjectsApi(controlplane.client())
    deadline = time.monotonic() + 30
    while True:  # discovery follows the condition by a moment
        try:
            for model in KINDS:
                objects.list_cluster_custom_object(GROUP, VERSION, model.info.plural)
            break
        except client.ApiException:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield Api(objects)
    objects.delete_collection_cluster_custom_object(GROUP, VERSION, "gtpuendpoints")
    for plural in ("gtputunnels", "gtputunnelsets"):
        objects.delete_collection_namespaced_custom_object(GROUP, VERSION, NAMESPACE, plural)


def refused(error: pytest.ExceptionInfo[client.ApiException]) -> str:
    assert error.value.status in (400, 422), error.value.body
    message = json.loads(error.value.body or "")["message"]
    assert isinstance(message, str)
    return message


def without(spec: Json, *path: str) -> Json:
    """A copy of ``spec`` without the field at ``path``."""
    copy: Json = json.loads(json.dumps(spec))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


ENDPOINT: Json = {
    "localAddress": "192.0.2.1",
    "uePools": ["10.60.0.0/16", "2001:db8:60::/48"],
    "allowedNamespaces": ["tenant-a"],
}
ENDPOINT_DEFAULTS: Json = {
    "mode": "NodeAddress",
    "echo": {"intervalSeconds": 60, "t3Seconds": 3, "n3": 3},
    "entropy": True,
}
TUNNEL: Json = {
    "endpointRef": {"name": "n3"},
    "remoteAddress": "198.51.100.7",
    "localTeid": 100,
    "remoteTeid": 200,
    "inner": {"ueAddresses": ["10.60.0.1/32", "2001:db8:60:1::/64"]},
}
ETHERNET: Json = TUNNEL | {"payload": "Ethernet", "inner": {"vlan": 100}}
SET: Json = {
    "endpointRef": {"name": "n3"},
    "count": 1000000,
    "localTeidBase": 65536,
    "remoteTeidBase": 1,
    "peers": ["198.51.100.7", "198.51.100.8"],
    "ueBase": {"ipv4": "10.64.0.0/32", "ipv6Prefix": "2001:db8:64::/64"},
}


def test_defaults(api: Api) -> None:
    assert api.create("GtpuEndpoint", ENDPOINT)["spec"] == ENDPOINT | ENDPOINT_DEFAULTS
    tunnel = api.create("GtpuTunnel", TUNNEL | {"psc": {"direction": "DL", "qfi": 9}})["spec"]
    assert tunnel == TUNNEL | {
        "payload": "IP",
        "psc": {"direction": "DL", "qfi": 9},
        "inner": TUNNEL["inner"] | {"vrf": 0},
        "innerSourceCheck": "Strict",
        "endMarkerOnReplace": True,
    }
    made = api.create("GtpuTunnelSet", SET)["spec"]
    assert made == SET | {
        "ueBase": SET["ueBase"] | {"step": 1},
        "template": {"vrf": 0, "innerSourceCheck": "Strict", "endMarkerOnReplace": True},
    }


GOOD: dict[str, tuple[str, Json]] = {
    "floating, all fields": (
        "GtpuEndpoint",
        {
            "localAddress": "2001:db8::1",
            "mode": "Floating",
            "nodeSelector": {"matchLabels": {"role": "upf"}},
            "teidRange": {"base": 4294967295, "count": 1},
            "uePools": ["10.60.0.0/16"],
            "allowedNamespaces": ["*"],
            "echo": {"intervalSeconds": 0, "t3Seconds": 1, "n3": 1},
            "mtu": 1280,
            "dscp": 46,
            "entropy": False,
        },
    ),
    "largest TEIDs": ("GtpuTunnel", TUNNEL | {"localTeid": 4294967295, "remoteTeid": 4294967295}),
    "Ethernet": ("GtpuTunnel", ETHERNET),
    "IPv6 peer, no source check": (
        "GtpuTunnel",
        TUNNEL | {"remoteAddress": "2001:db8::7", "innerSourceCheck": "Off", "endMarkerOnReplace": False},
    ),
    "set up to the last TEID": ("GtpuTunnelSet", SET | {"count": 2, "localTeidBase": 4294967294}),
    "set up to the last unicast prefix": (
        "GtpuTunnelSet",
        SET | {"count": 256, "ueBase": {"ipv4": "223.255.0.0/24"}},
    ),
    "set, IPv6 only, wide steps": (
        "GtpuTunnelSet",
        SET | {"count": 4194304, "ueBase": {"ipv6Prefix": "fd00::/56", "step": 1048576}},
    ),
}


@pytest.mark.parametrize(("kind", "spec"), GOOD.values(), ids=GOOD)
def test_accepted_and_read_back(api: Api, kind: str, spec: Json) -> None:
    made = api.create(kind, spec)
    model = next(model for model in KINDS if model.info.kind == kind)
    read = model.model_validate(made)
    assert read.spec.to_json() == made["spec"]  # type: ignore[attr-defined]


UNICAST = "must be an IPv4 or IPv6 unicast address"
CANONICAL = "must be an IPv4 or IPv6 prefix in canonical form"
UE_UNICAST = "must be a prefix of unicast addresses"


def unicast_cases(kind: str, spec: Json, field: str) -> dict[str, tuple[str, Json, str]]:
    wrong = {
        "no address": "host",
        "IPv4 multicast": "224.0.0.5",
        "reserved": "240.0.0.1",
        "broadcast": "255.255.255.255",
        "this network": "0.1.2.3",
        "unspecified": "0.0.0.0",
        "loopback": "127.0.0.1",
        "link-local": "169.254.1.1",
        "IPv6 multicast": "ff02::1",
        "IPv6 link-local": "fe80::1",
        "IPv6 unspecified": "::",
        "IPv6 loopback": "::1",
        "IPv6 not canonical": "2001:DB8::1",
        "mapped": "::ffff:192.0.2.1",
        "leading zero": "192.0.02.1",
    }
    return {
        f"{kind}.{field}: {why}": (kind, spec | {field: text}, f"spec.{field}: Invalid value")
        for why, text in wrong.items()
    }


BAD: dict[str, tuple[str, Json, str]] = {
    **unicast_cases("GtpuEndpoint", ENDPOINT, "localAddress"),
    **unicast_cases("GtpuTunnel", TUNNEL, "remoteAddress"),
    "endpoint without an address": (
        "GtpuEndpoint",
        without(ENDPOINT, "localAddress"),
        "spec.localAddress: Required",
    ),
    "mode": ("GtpuEndpoint", ENDPOINT | {"mode": "Anycast"}, 'spec.mode: Unsupported value: "Anycast"'),
    "no pools": ("GtpuEndpoint", ENDPOINT | {"uePools": []}, "spec.uePools"),
    "pool twice": ("GtpuEndpoint", ENDPOINT | {"uePools": ["10.0.0.0/8"] * 2}, "spec.uePools[1]: Duplicate"),
    "pools overlap": (
        "GtpuEndpoint",
        ENDPOINT | {"uePools": ["10.0.0.0/8", "10.1.0.0/16"]},
        "spec.uePools: Invalid value",
    ),
    "pool with host bits": (
        "GtpuEndpoint",
        ENDPOINT | {"uePools": ["10.0.0.1/8"]},
        f'spec.uePools[0]: Invalid value: "10.0.0.1/8": {CANONICAL}',
    ),
    "multicast pool": ("GtpuEndpoint", ENDPOINT | {"uePools": ["ff00::/8"]}, UE_UNICAST),
    "everything": ("GtpuEndpoint", ENDPOINT | {"uePools": ["0.0.0.0/0"]}, UE_UNICAST),
    "pool with the local address": (
        "GtpuEndpoint",
        ENDPOINT | {"uePools": ["192.0.2.0/24"]},
        "uePools: must not contain localAddress",
    ),
    "no namespaces": ("GtpuEndpoint", ENDPOINT | {"allowedNamespaces": []}, "spec.allowedNamespaces"),
    "namespaces missing": (
        "GtpuEndpoint",
        without(ENDPOINT, "allowedNamespaces"),
        "spec.allowedNamespaces: Required",
    ),
    "namespace name": (
        "GtpuEndpoint",
        ENDPOINT | {"allowedNamespaces": ["Tenant"]},
        "spec.allowedNamespaces[0]",
    ),
    "namespace twice": ("GtpuEndpoint", ENDPOINT | {"allowedNamespaces": ["a", "a"]}, "Duplicate value"),
    "TEID range from 0": (
        "GtpuEndpoint",
        ENDPOINT | {"teidRange": {"base": 0, "count": 1}},
        "teidRange.base",
    ),
    "TEID range too long": (
        "GtpuEndpoint",
        ENDPOINT | {"teidRange": {"base": 4294967295, "count": 2}},
        "teidRange: base + count - 1 must not exceed 4294967295",
    ),
    "empty TEID range": (
        "GtpuEndpoint",
        ENDPOINT | {"teidRange": {"base": 1, "count": 0}},
        "spec.teidRange.count",
    ),
    "echo interval": ("GtpuEndpoint", ENDPOINT | {"echo": {"intervalSeconds": -1}}, "echo.intervalSeconds"),
    "t3": ("GtpuEndpoint", ENDPOINT | {"echo": {"t3Seconds": 0}}, "spec.echo.t3Seconds"),
    "n3": ("GtpuEndpoint", ENDPOINT | {"echo": {"n3": 0}}, "spec.echo.n3"),
    "mtu": ("GtpuEndpoint", ENDPOINT | {"mtu": 500}, "spec.mtu"),
    "mtu for IPv6": (
        "GtpuEndpoint",
        ENDPOINT | {"localAddress": "2001:db8::1", "mtu": 1279},
        "mtu: must be at least 1280",
    ),
    "dscp": ("GtpuEndpoint", ENDPOINT | {"dscp": 64}, "spec.dscp"),
    "selector": (
        "GtpuEndpoint",
        ENDPOINT | {"nodeSelector": {"matchLabels": {"a b": "c"}}},
        "spec.nodeSelector.matchLabels",
    ),
    "endpoint, unknown field": ("GtpuEndpoint", ENDPOINT | {"port": 2152}, 'unknown field "spec.port"'),
    "no endpoint": ("GtpuTunnel", without(TUNNEL, "endpointRef"), "spec.endpointRef: Required"),
    "endpoint name": ("GtpuTunnel", TUNNEL | {"endpointRef": {"name": "N3"}}, "spec.endpointRef.name"),
    "local TEID 0": ("GtpuTunnel", TUNNEL | {"localTeid": 0}, "spec.localTeid"),
    "local TEID too large": ("GtpuTunnel", TUNNEL | {"localTeid": 4294967296}, "spec.localTeid"),
    "remote TEID 0": ("GtpuTunnel", TUNNEL | {"remoteTeid": 0}, "spec.remoteTeid"),
    "remote TEID too large": ("GtpuTunnel", TUNNEL | {"remoteTeid": 4294967296}, "spec.remoteTeid"),
    "payload": ("GtpuTunnel", TUNNEL | {"payload": "IPv4"}, "spec.payload: Unsupported value"),
    "no inner": ("GtpuTunnel", without(TUNNEL, "inner"), "spec.inner: Required"),
    "IP without prefixes": ("GtpuTunnel", TUNNEL | {"inner": {}}, "inner.ueAddresses: needed"),
    "IP with a VLAN": (
        "GtpuTunnel",
        TUNNEL | {"inner": TUNNEL["inner"] | {"vlan": 5}},
        "inner.vlan: only with payload Ethernet",
    ),
    "Ethernet without a VLAN": ("GtpuTunnel", ETHERNET | {"inner": {}}, "inner.vlan: needed"),
    "Ethernet with prefixes": (
        "GtpuTunnel",
        ETHERNET | {"inner": {"vlan": 5, "ueAddresses": ["10.60.0.1/32"]}},
        "inner.ueAddresses: only with payload IP",
    ),
    "VLAN 0": ("GtpuTunnel", ETHERNET | {"inner": {"vlan": 0}}, "spec.inner.vlan"),
    "VLAN 4095": ("GtpuTunnel", ETHERNET | {"inner": {"vlan": 4095}}, "spec.inner.vlan"),
    "UE address without a length": (
        "GtpuTunnel",
        TUNNEL | {"inner": {"ueAddresses": ["10.60.0.1"]}},
        f'spec.inner.ueAddresses[0]: Invalid value: "10.60.0.1": {CANONICAL}',
    ),
    "UE prefix with host bits": (
        "GtpuTunnel",
        TUNNEL | {"inner": {"ueAddresses": ["10.60.0.1/24"]}},
        CANONICAL,
    ),
    "UE prefix multicast": ("GtpuTunnel", TUNNEL | {"inner": {"ueAddresses": ["239.1.1.1/32"]}}, UE_UNICAST),
    "UE prefix twice": (
        "GtpuTunnel",
        TUNNEL | {"inner": {"ueAddresses": ["10.60.0.1/32"] * 2}},
        "spec.inner.ueAddresses[1]: Duplicate",
    ),
    "UE prefixes overlap": (
        "GtpuTunnel",
        TUNNEL | {"inner": {"ueAddresses": ["10.60.0.0/31", "10.60.0.1/32"]}},
        "spec.inner.ueAddresses: Invalid value",
    ),
    "17 UE prefixes": (
        "GtpuTunnel",
        TUNNEL | {"inner": {"ueAddresses": [f"10.60.0.{i}/32" for i in range(1, 18)]}},
        "spec.inner.ueAddresses",
    ),
    "VRF": ("GtpuTunnel", TUNNEL | {"inner": TUNNEL["inner"] | {"vrf": -1}}, "spec.inner.vrf"),
    "psc direction": ("GtpuTunnel", TUNNEL | {"psc": {"direction": "up", "qfi": 1}}, "spec.psc.direction"),
    "psc without qfi": ("GtpuTunnel", TUNNEL | {"psc": {"direction": "DL"}}, "spec.psc.qfi: Required"),
    "qfi": ("GtpuTunnel", TUNNEL | {"psc": {"direction": "DL", "qfi": 64}}, "spec.psc.qfi"),
    "source check": ("GtpuTunnel", TUNNEL | {"innerSourceCheck": "Loose"}, "spec.innerSourceCheck"),
    "tunnel, unknown field": ("GtpuTunnel", TUNNEL | {"peer": "x"}, 'unknown field "spec.peer"'),
    "empty set": ("GtpuTunnelSet", SET | {"count": 0}, "spec.count"),
    "set too large": ("GtpuTunnelSet", SET | {"count": 4194305}, "spec.count"),
    "set beyond the local TEIDs": (
        "GtpuTunnelSet",
        SET | {"count": 2, "localTeidBase": 4294967295},
        "localTeidBase + count - 1 must not exceed 4294967295",
    ),
    "set beyond the remote TEIDs": (
        "GtpuTunnelSet",
        SET | {"count": 2, "remoteTeidBase": 4294967295},
        "remoteTeidBase + count - 1 must not exceed 4294967295",
    ),
    "set from TEID 0": ("GtpuTunnelSet", SET | {"localTeidBase": 0}, "spec.localTeidBase"),
    "set beyond IPv4": (
        "GtpuTunnelSet",
        SET | {"count": 257, "ueBase": {"ipv4": "223.255.0.0/24"}},
        "ueBase.ipv4: the prefixes of count tunnels",
    ),
    "set beyond IPv4 by its step": (
        "GtpuTunnelSet",
        SET | {"count": 4194304, "ueBase": {"ipv4": "10.0.0.0/32", "step": 1048576}},
        "ueBase.ipv4: the prefixes of count tunnels",
    ),
    "set without users": ("GtpuTunnelSet", SET | {"ueBase": {}}, "ueBase: ipv4 or ipv6Prefix is needed"),
    "step 0": ("GtpuTunnelSet", SET | {"ueBase": SET["ueBase"] | {"step": 0}}, "spec.ueBase.step"),
    "IPv4 base of IPv6": (
        "GtpuTunnelSet",
        SET | {"ueBase": {"ipv4": "2001:db8::/64"}},
        "ipv4: must be an IPv4 prefix",
    ),
    "IPv4 base too short": (
        "GtpuTunnelSet",
        SET | {"ueBase": {"ipv4": "10.0.0.0/7"}},
        "ipv4: must be an IPv4 prefix of length 8 to 32",
    ),
    "IPv6 base too short": (
        "GtpuTunnelSet",
        SET | {"ueBase": {"ipv6Prefix": "2001:db8::/48"}},
        "ipv6Prefix: must be an IPv6 prefix of length 56 to 128",
    ),
    "no peers": ("GtpuTunnelSet", SET | {"peers": []}, "spec.peers"),
    "peer twice": ("GtpuTunnelSet", SET | {"peers": ["192.0.2.9"] * 2}, "spec.peers[1]: Duplicate"),
    "peers of two families": (
        "GtpuTunnelSet",
        SET | {"peers": ["192.0.2.9", "2001:db8::9"]},
        "spec.peers: Invalid value",
    ),
    "multicast peer": (
        "GtpuTunnelSet",
        SET | {"peers": ["224.0.0.1"]},
        f'spec.peers[0]: Invalid value: "224.0.0.1": {UNICAST}',
    ),
    "template": ("GtpuTunnelSet", SET | {"template": {"psc": {"qfi": 1}}}, "spec.template.psc.direction"),
}


@pytest.mark.parametrize(("kind", "spec", "message"), BAD.values(), ids=BAD)
def test_refused(api: Api, kind: str, spec: Json, message: str) -> None:
    with pytest.raises(client.ApiException) as error:
        api.create(kind, spec)
    assert message in refused(error)


FIXED: dict[str, tuple[str, Json, Json, str]] = {
    "TEID range": (
        "GtpuEndpoint",
        ENDPOINT | {"teidRange": {"base": 1, "count": 9}},
        {"teidRange": {"count": 10}},
        "teidRange cannot be changed",
    ),
    "TEID range added": (
        "GtpuEndpoint",
        ENDPOINT,
        {"teidRange": {"base": 1, "count": 10}},
        "teidRange cannot be added",
    ),
    "endpointRef": ("GtpuTunnel", TUNNEL, {"endpointRef": {"name": "n9"}}, "endpointRef cannot be changed"),
    "localTeid": ("GtpuTunnel", TUNNEL, {"localTeid": 101}, "localTeid cannot be changed"),
    "endpointRef of a set": (
        "GtpuTunnelSet",
        SET,
        {"endpointRef": {"name": "n9"}},
        "endpointRef cannot be changed",
    ),
    "localTeidBase": ("GtpuTunnelSet", SET, {"localTeidBase": 1}, "localTeidBase cannot be changed"),
}


@pytest.mark.parametrize(("kind", "spec", "change", "message"), FIXED.values(), ids=FIXED)
def test_cannot_be_changed(api: Api, kind: str, spec: Json, change: Json, message: str) -> None:
    made = api.create(kind, spec)
    with pytest.raises(client.ApiException) as error:
        api.patch(made, {"spec": change})
    assert message in refused(error)


def test_the_address_of_an_endpoint_can_be_changed(api: Api) -> None:
    made = api.create("GtpuEndpoint", ENDPOINT)
    assert api.patch(made, {"spec": {"localAddress": "192.0.2.2"}})["spec"]["localAddress"] == "192.0.2.2"


def test_what_moves_with_a_user_can_be_changed(api: Api) -> None:
    made = api.create("GtpuTunnel", TUNNEL | {"psc": {"direction": "DL", "qfi": 1}})
    moved = api.patch(made, {"spec": {"remoteAddress": "198.51.100.9", "remoteTeid": 7, "psc": {"qfi": 5}}})
    assert moved["metadata"]["generation"] == 2
    assert moved["spec"]["psc"] == {"direction": "DL", "qfi": 5}


FIGURES = TunnelFigures(rx_pps=10, tx_pps=20, rx_bps=3000, tx_bps=4000, drops=5)
CONDITIONS = [
    {"type": kind, "status": "True", "reason": "AsExpected", "message": "", "lastTransitionTime": TIME}
    for kind in ("Accepted", "Active", "PathUp", "Programmed", "Ready")
]


def columns(controlplane: ControlPlane, *arguments: str) -> dict[str, str]:
    header, row = controlplane.kubectl("get", *arguments).splitlines()
    return dict(zip(header.split(), row.split(), strict=True))


def test_tunnel_status_is_printed(api: Api, controlplane: ControlPlane) -> None:
    made = api.create("GtpuTunnel", TUNNEL)
    name = made["metadata"]["name"]
    node = TunnelNode(node="node1", programmed=True, **FIGURES.model_dump())
    status = GtpuTunnelStatus(
        observed_generation=1,
        programmed_nodes=ProgrammedCount.of(1, 2),
        nodes=(node,),
        totals=FIGURES,
    )
    wanted = status.to_json() | {"conditions": CONDITIONS}
    assert api.patch(made, {"status": wanted}, status=True)["status"] == wanted
    header = controlplane.kubectl("get", "gtputunnels", name).splitlines()[0].split()
    assert header == ["NAME", "ENDPOINT", "REMOTE", "TEID", "NODES", "READY", "RX-PPS", "TX-PPS", "AGE"]
    row = columns(controlplane, "gtpt", name, "-o", "wide")
    assert (row["ENDPOINT"], row["REMOTE"], row["TEID"]) == ("n3", "198.51.100.7", "100")
    assert (row["NODES"], row["READY"], row["RX-PPS"], row["TX-PPS"]) == ("1/2", "True", "10", "20")
    assert (row["RX-BPS"], row["TX-BPS"], row["DROPS"], row["REASON"]) == ("3000", "4000", "5", "AsExpected")


def test_set_status_is_printed(api: Api, controlplane: ControlPlane) -> None:
    made = api.create("GtpuTunnelSet", SET)
    status = GtpuTunnelSetStatus(tunnels=ProgrammedCount.of(1000000, 1000000), totals=FIGURES)
    api.patch(made, {"status": status.to_json() | {"conditions": CONDITIONS}}, status=True)
    row = columns(controlplane, "gtpts", made["metadata"]["name"])
    assert (row["COUNT"], row["PROGRAMMED"], row["READY"]) == ("1000000", "1000000/1000000", "True")


def test_endpoint_status_is_printed(api: Api, controlplane: ControlPlane) -> None:
    made = api.create("GtpuEndpoint", ENDPOINT)
    status = GtpuEndpointStatus(
        active_nodes=("node1",),
        tunnels=ProgrammedCount.of(3, 3),
        path_count=PathCount.of(1, 2),
        paths=(
            PathStatus(node="node1", peer="198.51.100.7", up=True, rtt_microseconds=150, restart_counter=3),
            PathStatus(node="node1", peer="198.51.100.8", up=False),
        ),
    )
    api.patch(made, {"status": status.to_json() | {"conditions": CONDITIONS}}, status=True)
    row = columns(controlplane, "gtpep", made["metadata"]["name"])
    assert (row["ADDRESS"], row["MODE"], row["ACCEPTED"], row["ACTIVE"]) == (
        "192.0.2.1",
        "NodeAddress",
        "True",
        "True",
    )
    assert (row["NODES"], row["TUNNELS"], row["PATHS"]) == ('["node1"]', "3/3", "1/2")


def test_every_field_is_explained_with_its_unit(api: Api, controlplane: ControlPlane) -> None:
    assert "in microseconds" in controlplane.kubectl("explain", "gtpep.status.paths.rttMicroseconds")
    assert "in bytes" in controlplane.kubectl("explain", "gtpuendpoints.spec.mtu")
    assert "Bits per second" in controlplane.kubectl("explain", "gtputunnels.status.totals.rxBps")
