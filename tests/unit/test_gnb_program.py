"""The gNB simulator's own messages, read by an independent decoder (scapy), and what it takes for wrong."""

from __future__ import annotations

import pytest
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from tests.cluster import gnb_program as gnb

ADDRESSES = {4: ("10.60.0.1", "198.51.100.40"), 6: ("2001:db8:60:1::1", "2001:db8:40::40")}


def outer(message: bytes) -> GTP_U_Header:
    return GTP_U_Header(message)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("qfi", [None, 0, 63])
def test_what_it_sends(family: int, qfi: int | None) -> None:
    source, destination = ADDRESSES[family]
    inner = gnb.datagram(source, destination, 5000, 7000, b"odd")
    read = outer(gnb.g_pdu(0x01020304, inner, qfi))
    assert (read.version, read.PT, read.gtp_type, read.teid) == (1, 1, 255, 0x01020304)
    assert read.length == len(bytes(read)) - 8
    if qfi is None:
        assert GTPPDUSessionContainer not in read
    else:
        container = read[GTPPDUSessionContainer]
        assert (container.type, container.QFI, container.NextExtHdr) == (1, qfi, 0)
    packet = read[IP if family == 4 else IPv6]
    assert (packet.src, packet.dst, packet[UDP].sport, packet[UDP].dport) == (source, destination, 5000, 7000)
    assert bytes(packet[UDP].payload) == b"odd"
    # Made anew by scapy, with lengths and checksums of its own, the packet is the same.
    again = packet.copy()
    if family == 4:
        del again.chksum, again.len
    else:
        del again.plen
    del again[UDP].chksum, again[UDP].len
    assert bytes(again) == inner


def downlink(family: int, qfi: int | None) -> bytes:
    source, destination = ADDRESSES[family]
    ip = (IP if family == 4 else IPv6)(src=destination, dst=source)
    header = GTP_U_Header(teid=7)
    if qfi is not None:
        header = GTP_U_Header(teid=7, E=1, next_ex=0x85) / GTPPDUSessionContainer(type=0, QFI=qfi)
    return bytes(header / ip / UDP(sport=7000, dport=5000) / Raw(b"text"))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("qfi", [None, 9])
def test_what_it_reads(family: int, qfi: int | None) -> None:
    teid, found, packet = gnb.read_g_pdu(downlink(family, qfi))
    assert (teid, found) == (7, qfi)
    user, host = ADDRESSES[family]
    assert gnb.read_datagram(packet) == (host, user, 7000, 5000, b"text")


@pytest.mark.parametrize("place", range(20, 60))
def test_a_changed_byte_of_the_inner_packet_is_seen(place: int) -> None:
    message = bytearray(downlink(6, None))
    message[place] ^= 0x10
    with pytest.raises(gnb.WrongError):
        gnb.read_datagram(gnb.read_g_pdu(bytes(message))[2])
