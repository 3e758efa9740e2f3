# SPDX-License-Identifier: Apache-2.0
"""The C tests' golden GTP-U messages, written by hand from TS 29.281, are read by scapy as meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib import gtp
from scapy.layers.inet import ICMP, IP

GOLDEN = Path(__file__).resolve().parents[2] / "vpp-plugins/test/golden_gtpu.h"


def messages() -> dict[str, bytes]:
    """Name and octets of each message in the header file."""
    text = re.sub(r"/\*.*?\*/", " ", GOLDEN.read_text(), flags=re.DOTALL)
    entries = re.findall(r"GOLDEN\s*\(\s*(\w+)\s*,((?:\s*\"[0-9a-f ]*\")+)\s*\)", text)
    return {name: bytes.fromhex("".join(re.findall(r'"([^"]*)"', octets))) for name, octets in entries}


MESSAGES = messages()


def test_all_messages_are_read() -> None:
    """The pattern above finds every entry."""
    assert len(MESSAGES) == GOLDEN.read_text().count("\nGOLDEN (") == 12


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (
            "echo_request",
            {"version": 1, "PT": 1, "S": 1, "E": 0, "PN": 0, "gtp_type": 1, "teid": 0, "seq": 0x0102},
        ),
        ("echo_response", {"S": 1, "gtp_type": 2, "teid": 0, "seq": 0x0102}),
        ("pdu_plain", {"S": 0, "E": 0, "PN": 0, "gtp_type": 255, "teid": 0x1001}),
        ("pdu_sequence", {"S": 1, "E": 0, "PN": 1, "gtp_type": 255, "seq": 0xABCD, "npdu": 7}),
        ("pdu_psc_uplink", {"E": 1, "S": 0, "gtp_type": 255, "next_ex": 0x85}),
        ("pdu_psc_downlink", {"E": 1, "S": 0, "gtp_type": 255, "next_ex": 0x85}),
        ("pdu_chain", {"E": 1, "S": 1, "gtp_type": 255, "next_ex": 0x40}),
        ("error_indication", {"S": 1, "E": 0, "gtp_type": 26, "teid": 0}),
        ("error_indication_port", {"S": 1, "E": 1, "gtp_type": 26, "teid": 0, "next_ex": 0x40}),
        ("end_marker", {"S": 0, "E": 0, "gtp_type": 254, "teid": 0x1001}),
        ("end_marker_psc", {"S": 0, "E": 1, "gtp_type": 254, "teid": 0x2001, "next_ex": 0x85}),
        ("notification", {"S": 1, "E": 0, "gtp_type": 31, "teid": 0}),
    ],
)
def test_header(name: str, fields: dict[str, Any]) -> None:
    """Flags, type, TEID and sequence number; the length is that of the rest."""
    header = gtp.GTP_U_Header(MESSAGES[name])
    assert {field: getattr(header, field) for field in fields} == fields
    assert header.length == len(MESSAGES[name]) - 8


@pytest.mark.parametrize("name", ["pdu_plain", "pdu_sequence", "pdu_psc_uplink", "pdu_psc_downlink"])
def test_inner_packet(name: str) -> None:
    """The payload is the same ICMP Echo Request everywhere, with checksums that scapy computes alike."""
    packet = gtp.GTP_U_Header(MESSAGES[name])
    inner = packet[IP]
    assert (inner.src, inner.dst, inner[ICMP].type) == ("10.45.0.2", "198.51.100.7", 8)
    anew = IP(bytes(inner))
    del anew.chksum, anew[ICMP].chksum
    assert bytes(anew) == bytes(inner)


@pytest.mark.parametrize(
    ("name", "direction", "qfi"),
    [("pdu_psc_uplink", 1, 9), ("pdu_psc_downlink", 0, 63), ("end_marker_psc", 0, 9)],
)
def test_pdu_session_container(name: str, direction: int, qfi: int) -> None:
    """PDU type and QFI of the container."""
    container = gtp.GTP_U_Header(MESSAGES[name])[gtp.GTPPDUSessionContainer]
    assert (container.ExtHdrLen, container.type, container.QFI, container.NextExtHdr) == (
        1,
        direction,
        qfi,
        0,
    )


def test_information_elements() -> None:
    """Recovery of the Echo Response; TEID and peer address of the Error Indication."""
    answer = gtp.GTPEchoResponse(MESSAGES["echo_response"][12:])
    assert [(ie.ietype, ie.restart_counter) for ie in answer.IE_list] == [(14, 0)]
    error = gtp.GTPErrorIndication(MESSAGES["error_indication"][12:])
    assert [ie.ietype for ie in error.IE_list] == [16, 133]
    assert error.IE_list[0].TEIDI == 0x2001
    assert error.IE_list[1].ipv4_address == "192.0.2.50"
    port = gtp.GTP_UDPPort_ExtensionHeader(MESSAGES["error_indication_port"][12:])
    assert (port.length, port.udp_port, port.next_ex) == (1, 0x1234, 0)
    error = gtp.GTPErrorIndication(MESSAGES["error_indication_port"][16:])
    assert [ie.ietype for ie in error.IE_list] == [16, 133]
    assert error.IE_list[0].TEIDI == 0x3333
    assert error.IE_list[1].ipv4_address == "192.0.2.1"
