"""C and Python agree on every record: a C program filled with the same values writes the same bytes."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpp_operator.dataplane import wire
from vpp_operator.dataplane.records import (
    DSCP_INNER,
    KEY_SIZE,
    RECORD_SIZE,
    ConfigKey,
    ConfigRecord,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    GtpuEndpointFlag,
    GtpuEndpointRecord,
    GtpuPayload,
    GtpuPeerRecord,
    GtpuPsc,
    GtpuTunnelFlag,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceFlag,
    ServiceRecord,
    Table,
    UePrefixRecord,
    Verdict,
    digest,
)

FASTPATH = Path(__file__).parents[2] / "vpp-plugins" / "fastpath"

V4 = ipaddress.ip_address("10.96.1.2")
V6 = ipaddress.ip_address("fd00:96::1:2")

SAMPLES: dict[str, Record] = {
    "config": ConfigRecord(ConfigKey.SNAT_ADDRESS, 6, 0x0102030405060708, V6),
    "prefix": PrefixRecord(ipaddress.ip_network("10.96.0.0/12"), PrefixClass.SERVICE, vrf=7),
    "service": ServiceRecord(
        0x1122334455667788,
        6,
        Protocol.UDP,
        ServiceFlag.EXTERNAL_LOCAL | ServiceFlag.AFFINITY_CLIENT_IP,
        Verdict.DROP,
        10800,
    ),
    "frontend": FrontendRecord(
        6, Protocol.TCP, 8443, V6, 0x1122334455667788, FrontendKind.LOAD_BALANCER, vrf=9
    ),
    "node_port": FrontendRecord(4, Protocol.UDP, 30053, None, 0x1122334455667788, FrontendKind.NODE_PORT),
    "endpoint": EndpointRecord(
        0x1122334455667788, V4, 5353, EndpointFlag.SERVES | EndpointFlag.LOCAL | EndpointFlag.ON_NODE
    ),
    "gtpu_endpoint": GtpuEndpointRecord(
        V6,
        0x1122334455667788,
        0x10000,
        0x20000,
        1464,
        DSCP_INNER,
        GtpuEndpointFlag.ENTROPY,
        40000,
        50000,
        vrf=3,
    ),
    "gtpu_peer": GtpuPeerRecord(0x1122334455667788, V4, 60000, 3000, 5, 1400),
    "gtpu_tunnel": GtpuTunnelRecord(
        0x1122334455667788,
        0xFFFFFFFE,
        0x01020304,
        V6,
        GtpuPayload.ETHERNET,
        GtpuPsc.UL,
        63,
        GtpuTunnelFlag.INNER_SOURCE_CHECK | GtpuTunnelFlag.END_MARKER_ON_REPLACE,
        inner_vrf=5,
    ),
    "gtpu_ue": UePrefixRecord(
        ipaddress.ip_network("fd00:96::/64"), 0x1122334455667788, 0xFFFFFFFE, inner_vrf=5
    ),
    "gtpu_vlan": UePrefixRecord(4094, 0x1122334455667788, 7),
}


@pytest.fixture(scope="module")
def c_output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        pytest.fail("a C compiler is needed (cc, or CC)")
    source, program = Path(__file__).with_name("records.c"), tmp_path_factory.mktemp("records") / "records"
    options = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *options, f"-I{FASTPATH}", "-o", program, source], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)


@pytest.mark.parametrize("name", SAMPLES)
def test_c_writes_the_same_bytes(name: str, c_output: dict[str, str]) -> None:
    assert SAMPLES[name].pack().hex() == c_output[name]


def test_message_header_is_the_same(c_output: dict[str, str]) -> None:
    header = (0x01020304, wire.MessageType.FETCH, wire.VERSION, 0x11121314, 0x21222324, 0x3132)
    packed = wire.HEADER.pack(*header, Table.ENDPOINT, -22, 0x4142434445464748)
    assert packed.hex() == c_output["message"]


def test_limits_are_the_same(c_output: dict[str, str]) -> None:
    assert [int(n) for n in c_output["keys"].split()] == [KEY_SIZE[t] for t in Table]
    assert [int(n) for n in c_output["limits"].split()] == [wire.MAX_RECORDS, wire.MAX_BYTES, wire.REPLY]


@pytest.mark.parametrize("name", SAMPLES)
def test_record_survives_packing(name: str) -> None:
    record = SAMPLES[name]
    packed = record.pack()
    assert len(packed) == RECORD_SIZE[record.TABLE]
    assert type(record).unpack(packed) == record


def test_every_number_has_a_name_in_c() -> None:
    text = (FASTPATH / "wire.h").read_text()
    names = {
        "FP_TABLE_": Table,
        "FP_CONFIG_": ConfigKey,
        "FP_PREFIX_": PrefixClass,
        "FP_FRONTEND_": FrontendKind,
        "FP_EMPTY_": Verdict,
        "FP_SERVICE_": ServiceFlag,
        "FP_ENDPOINT_": EndpointFlag,
        "FP_MSG_": wire.MessageType,
    }
    for prefix, numbers in names.items():
        for member in numbers:
            assert f"{prefix}{member.name} = {member.value}," in text


def test_digest_is_xxh64() -> None:
    # Vector of the XXH64 specification: the empty input, seed 0.
    assert digest(b"") == 0xEF46DB3751D8E999


@given(st.integers(0, 2**64 - 1), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 15))
def test_key_tells_endpoints_apart(
    service: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, flags: int
) -> None:
    record = EndpointRecord(service, address, port, EndpointFlag(flags)).pack()
    other = EndpointRecord(service, address, port, EndpointFlag(flags ^ 1)).pack()
    size = KEY_SIZE[Table.ENDPOINT]
    assert record[:size] == other[:size]
    assert digest(record) != digest(other)


def test_refuses_records_of_a_wrong_size() -> None:
    good = SAMPLES["endpoint"].pack()
    with pytest.raises(ValueError, match="ENDPOINT: a record is not 40 bytes"):
        wire.encode(wire.MessageType.UPSERT, 1, table=Table.ENDPOINT, records=[good, good[:-1], good + b"x"])
    with pytest.raises(ValueError, match="ENDPOINT: 4097 records"):
        wire.encode(wire.MessageType.UPSERT, 1, table=Table.ENDPOINT, records=[good] * 4097)
