"""Packets as bytes, and files of them for the packet generator. Pure but for `write_pcap`."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

PEER_MAC = bytes.fromhex("02fe00000001")
GTPU_PORT = 2152
TCP = 6
UDP = 17
SYN = 0x02
ACK = 0x10
SYN_ACK = SYN | ACK
TAG = 4
"""Bytes of a VLAN tag."""

_IPV4 = struct.Struct("!BBHHHBBHII")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBBHHH")
_GTPU = struct.Struct("!BBHI")
_RECORD = struct.Struct("<IIII")


def fold(total: int) -> int:
    """The one's complement of a one's complement sum (RFC 1071)."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: int, destination: int, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    """An IPv4 packet without options, its checksum right. Addresses as numbers."""
    length = 20 + len(payload)
    total = 0x4500 + length + (ttl << 8 | protocol)
    total += (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
    return (
        _IPV4.pack(0x45, 0, length, 0, 0, ttl, protocol, fold(total & 0xFFFFFFFF), source, destination)
        + payload
    )


@functools.lru_cache(maxsize=64)
def _words(data: bytes) -> int:
    if len(data) & 1:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def udp(source: int, destination: int, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """An IPv4/UDP packet with a UDP checksum."""
    length = 8 + len(payload)
    total = UDP + 2 * length + source_port + destination_port + _words(payload)
    total += (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
    segment = _UDP.pack(source_port, destination_port, length, fold(total) or 0xFFFF) + payload
    return ipv4(source, destination, UDP, segment)


def tcp(
    source: int, destination: int, source_port: int, destination_port: int, payload: bytes, flags: int = ACK
) -> bytes:
    """An IPv4/TCP segment without options, numbered as in a handshake of which both sides start at 0."""
    sequence = 0 if flags & SYN else 1
    acknowledged = 1 if flags & ACK else 0
    offset_flags = 0x5000 | flags
    length = 20 + len(payload)
    total = TCP + length + source_port + destination_port + sequence + acknowledged + offset_flags + 0xFFFF
    total += (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
    total += _words(payload)
    segment = _TCP.pack(
        source_port, destination_port, sequence, acknowledged, 0x50, flags, 0xFFFF, fold(total), 0
    )
    return ipv4(source, destination, TCP, segment + payload)


def ipv6(source: int, destination: int, protocol: int, segment: bytes) -> bytes:
    """An IPv6 packet without extension headers. Addresses as numbers."""
    ends = source.to_bytes(16) + destination.to_bytes(16)
    return struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + ends + segment


def _ipv6_sum(source: int, destination: int, protocol: int, segment: bytes) -> int:
    """The checksum over a segment and its pseudo-header (RFC 8200, 8.1)."""
    padded = source.to_bytes(16) + destination.to_bytes(16) + segment + bytes(len(segment) & 1)
    return fold(protocol + len(segment) + sum(struct.unpack(f"!{len(padded) // 2}H", padded)))


def udp_ipv6(source: int, destination: int, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """An IPv6/UDP packet with the UDP checksum that RFC 8200 wants."""
    length = 8 + len(payload)
    segment = _UDP.pack(source_port, destination_port, length, 0) + payload
    checksum = _ipv6_sum(source, destination, UDP, segment) or 0xFFFF
    segment = _UDP.pack(source_port, destination_port, length, checksum) + payload
    return ipv6(source, destination, UDP, segment)


def tcp_ipv6(
    source: int, destination: int, source_port: int, destination_port: int, payload: bytes, flags: int = ACK
) -> bytes:
    """`tcp` over IPv6."""
    fields = (
        source_port,
        destination_port,
        0 if flags & SYN else 1,
        1 if flags & ACK else 0,
        0x50,
        flags,
        0xFFFF,
    )
    checksum = _ipv6_sum(source, destination, TCP, _TCP.pack(*fields, 0, 0) + payload)
    return ipv6(source, destination, TCP, _TCP.pack(*fields, checksum, 0) + payload)


def psc_uplink(qfi: int) -> bytes:
    """What follows the eight fixed bytes of a G-PDU: a PDU Session Container, UL type (TS 38.415 5.5.2.2)."""
    return bytes((0, 0, 0, 0x85, 1, 0x10, qfi, 0))


def _g_pdu(teid: int, inner: bytes, extension: bytes) -> bytes:
    flags = 0x34 if extension else 0x30
    return _GTPU.pack(flags, 0xFF, len(extension) + len(inner), teid) + extension + inner


def gtpu(source: int, destination: int, teid: int, inner: bytes, extension: bytes = b"") -> bytes:
    """A G-PDU over IPv4 (TS 29.281 5.1) without a UDP checksum; `extension` as `psc_uplink` makes it."""
    message = _g_pdu(teid, inner, extension)
    return ipv4(source, destination, UDP, _UDP.pack(GTPU_PORT, GTPU_PORT, 8 + len(message), 0) + message)


def gtpu_ipv6(source: int, destination: int, teid: int, inner: bytes, extension: bytes = b"") -> bytes:
    """A G-PDU over IPv6 with the UDP checksum that RFC 8200 wants. Addresses as numbers."""
    return udp_ipv6(source, destination, GTPU_PORT, GTPU_PORT, _g_pdu(teid, inner, extension))


def ethernet(mac: bytes, packet: bytes) -> bytes:
    """An Ethernet frame of an IPv4 or IPv6 packet to `mac`, padded to 60 bytes."""
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return (mac + PEER_MAC + kind + packet).ljust(60, b"\0")


def tagged(mac: bytes, vlan: int, packet: bytes) -> bytes:
    """An Ethernet frame of an IPv4 packet to `mac`, with a VLAN tag (IEEE 802.1Q)."""
    frame = ethernet(mac, packet)
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]


def shuffled(count: int, seed: int = 1) -> Sequence[int]:
    """0..count-1 in an order that is the same in every run."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def write_pcap(path: Path, frames: Iterable[bytes]) -> int:
    """Write frames as a capture file of Ethernet; their number."""
    count = 0
    with path.open("wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(_RECORD.pack(0, 0, len(frame), len(frame)) + frame)
            count += 1
    return count
