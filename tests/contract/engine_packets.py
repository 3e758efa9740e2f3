"""Packets of the contract tests, and what is to become of them, by scapy: it knows nothing of the engine."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from vpp_operator.dataplane.records import Protocol

__all__ = [
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "ICMPv6DestUnreach",
    "ICMPv6PacketTooBig",
    "ICMPv6TimeExceeded",
    "IPv6",
    "IPv6ExtHdrFragment",
    "Packet",
    "Raw",
    "addresses",
    "forwarded",
    "network",
    "packet",
    "parse",
    "ports",
]


def network(source: str, destination: str, ttl: int = 64) -> Packet:
    """Return an IP header of the addresses' family."""
    if ":" in source:
        return IPv6(src=source, dst=destination, hlim=ttl)
    return IP(src=source, dst=destination, ttl=ttl, id=0x1234)


def packet(
    protocol: Protocol,
    source: tuple[str, int],
    destination: tuple[str, int],
    payload: bytes = b"payload",
    *,
    flags: str = "S",
    ttl: int = 64,
) -> bytes:
    """Return a TCP segment (with ``flags``) or a UDP datagram, checksums complete."""
    sport, dport = source[1], destination[1]
    transport: Packet = (
        TCP(sport=sport, dport=dport, flags=flags, seq=1000, ack=2000 if "A" in flags else 0)
        if protocol == Protocol.TCP
        else UDP(sport=sport, dport=dport)
    )
    return bytes(network(source[0], destination[0], ttl) / transport / Raw(payload))


def parse(raw: bytes) -> Packet:
    """Read an IP packet."""
    return IPv6(raw) if raw[0] >> 4 == 6 else IP(raw)


def addresses(raw: bytes) -> tuple[str, str]:
    """Return source and destination."""
    header = parse(raw)
    return header.src, header.dst


def ports(raw: bytes) -> tuple[int, int]:
    """Return source and destination port."""
    layer = parse(raw)
    transport = layer[TCP] if TCP in layer else layer[UDP]
    return transport.sport, transport.dport


def forwarded(
    raw: bytes, *, source: tuple[str, int] | None = None, destination: tuple[str, int] | None = None
) -> bytes:
    """Return the packet as a router that translates sends it on: one hop less, checksums computed anew."""
    layer = parse(raw)
    transport = layer[TCP] if TCP in layer else layer[UDP]
    zero_checksum = UDP in layer and layer[UDP].chksum == 0
    if source is not None:
        layer.src, transport.sport = source
    if destination is not None:
        layer.dst, transport.dport = destination
    if IP in layer:
        layer.ttl -= 1
        del layer.chksum
    else:
        layer.hlim -= 1
    if not zero_checksum:
        del transport.chksum
    return bytes(layer)
