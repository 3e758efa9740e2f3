# SPDX-License-Identifier: Apache-2.0
"""The golden GTP-U messages read by a second decoder, Wireshark's: the same fields, and nothing malformed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from scapy.utils import wrpcap
from tests.unit.test_gtpu_golden import MESSAGES

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

FIELDS = (
    "message",
    "length",
    "teid",
    "seq_number",
    "npdu_number",
    "ext_hdr.next",
    "ext_hdr.pdu_ses_con.pdu_type",
    "ext_hdr.pdu_ses_con.qos_flow_id",
    "ext_hdr.udp_port",
    "recovery",
    "teid_data",
    "gsn_ipv4",
)
RAW_IP = 101

EXPECTED = {
    "echo_request": {"message": 1, "teid": 0, "seq_number": 0x0102},
    "echo_response": {"message": 2, "teid": 0, "seq_number": 0x0102, "recovery": 0},
    "pdu_plain": {"message": 255, "teid": 0x1001},
    "pdu_sequence": {"message": 255, "seq_number": 0xABCD, "npdu_number": 7},
    "pdu_psc_uplink": {
        "message": 255,
        "ext_hdr.pdu_ses_con.pdu_type": 1,
        "ext_hdr.pdu_ses_con.qos_flow_id": 9,
    },
    "pdu_psc_downlink": {
        "message": 255,
        "ext_hdr.pdu_ses_con.pdu_type": 0,
        "ext_hdr.pdu_ses_con.qos_flow_id": 63,
    },
    "pdu_chain": {"message": 255},
    "error_indication": {"message": 26, "teid": 0, "teid_data": 0x2001, "gsn_ipv4": "192.0.2.50"},
    "error_indication_port": {
        "message": 26,
        "ext_hdr.udp_port": 0x1234,
        "teid_data": 0x3333,
        "gsn_ipv4": "192.0.2.1",
    },
    "end_marker": {"message": 254, "teid": 0x1001},
    "end_marker_psc": {"message": 254, "teid": 0x2001, "ext_hdr.pdu_ses_con.qos_flow_id": 9},
    "notification": {"message": 31, "teid": 0},
}
G_PDUS = [name for name in EXPECTED if name.startswith("pdu_")]


def read(capture: Path, *fields: str) -> list[list[str]]:
    """The fields of each packet; several values of one are separated by commas."""
    command = ["tshark", "-n", "-r", str(capture), "-o", "ip.check_checksum:TRUE", "-o"]
    command += ["udp.check_checksum:TRUE", "-T", "fields", "-E", "separator=;"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split(";") for line in done.stdout.splitlines()]


def value(text: str) -> int | str:
    """A field's first value, as a number where it is one."""
    first = text.split(",")[0]
    try:
        return int(first, 0)
    except ValueError:
        return first


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What Wireshark reads of each message, over IPv4 and (``/6``) over IPv6."""
    capture = tmp_path_factory.mktemp("tshark") / "golden.pcap"
    outers = {
        "": IP(src="198.51.100.21", dst="192.0.2.50") / UDP(sport=2152, dport=2152),
        "/6": IPv6(src="2001:db8:51::21", dst="2001:db8::50") / UDP(sport=2152, dport=2152),
    }
    names = [name + outer for outer in outers for name in MESSAGES]
    packets = [outers[o] / Raw(message) for o in outers for message in MESSAGES.values()]
    wrpcap(str(capture), packets, linktype=RAW_IP)
    other = ("_ws.malformed", "ip.src", "icmp.type", "icmp.checksum.status", "_ws.expert.severity")
    rows = read(capture, *(f"gtp.{field}" for field in FIELDS), *other)
    return {n: dict(zip((*FIELDS, *other), row, strict=True)) for n, row in zip(names, rows, strict=True)}


def test_every_message_is_expected() -> None:
    assert EXPECTED.keys() == MESSAGES.keys()


@pytest.mark.parametrize("outer", ["", "/6"])
@pytest.mark.parametrize("name", EXPECTED)
def test_fields(decoded: dict[str, dict[str, str]], name: str, outer: str) -> None:
    found = decoded[name + outer]
    wanted = EXPECTED[name] | {"length": len(MESSAGES[name]) - 8}
    assert {field: value(found[field]) for field in wanted} == wanted
    assert found["_ws.malformed"] == ""


@pytest.mark.parametrize("name", G_PDUS)
def test_inner_packet(decoded: dict[str, dict[str, str]], name: str) -> None:
    """Behind all optional parts: the user's ICMP Echo Request, whose checksum is right."""
    found = decoded[name]
    assert found["ip.src"].split(",")[-1] == "10.45.0.2"
    assert (found["icmp.type"], found["icmp.checksum.status"]) == ("8", "1")


def test_a_message_cut_short_is_noticed(tmp_path: Path) -> None:
    """The decoder does look: a length that says more than there is, is malformed."""
    capture = tmp_path / "cut.pcap"
    cut = MESSAGES["error_indication"][:-3]
    wrpcap(str(capture), [IP() / UDP(sport=2152, dport=2152) / Raw(cut)], linktype=RAW_IP)
    (row,) = read(capture, "gtp.message", "_ws.malformed")
    assert row[0] == "0x1a" and row[1]
