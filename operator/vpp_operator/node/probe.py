"""Asking a link whether somebody has an address: ARP probes (RFC 5227) and duplicate address detection
(RFC 4862). Everything here blocks.

Shorter than the standards' pauses (three probes within half a second, half a second to answer): an endpoint
that moves must not wait for long, and a link between nodes answers in milliseconds. The kernel's own delay
before it answers for another host's address (proxy_delay, 0.8 s at most) is waited for.
"""

from __future__ import annotations

import ctypes
import ipaddress
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import Final

from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.spec import IpAddress

__all__ = ["PROBES", "TOTAL_SECONDS", "claimant", "probe", "probe_frame"]

PROBES: Final = 3
_PAUSE_SECONDS: Final = 0.25
TOTAL_SECONDS: Final = 1.0
"""From the first probe until an address that nobody answered for counts as free."""

_ARP, _IPV6 = 0x0806, 0x86DD
_BROADCAST: Final = b"\xff" * 6
_SOLICIT, _ADVERTISE = 135, 136
_SO_ATTACH_FILTER: Final = 26
_ADD_MEMBERSHIP, _MR_MULTICAST = 1, 0

# Of all IPv6 packets only neighbour solicitations and advertisements: next header 58, type 135 or 136.
_ND_FILTER: Final = (
    (0x30, 0, 0, 20),  # ldb [20]
    (0x15, 0, 4, 58),  # jeq 58, else drop
    (0x30, 0, 0, 54),  # ldb [54]
    (0x15, 1, 0, _SOLICIT),
    (0x15, 0, 1, _ADVERTISE),
    (0x06, 0, 0, 0x40000),  # accept
    (0x06, 0, 0, 0),  # drop
)


def _group(address: IpAddress) -> bytes:
    """Return the solicited-node multicast address (RFC 4291, section 2.7.1)."""
    return ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:]


def probe_frame(address: IpAddress, mac: bytes) -> bytes:
    """Return the Ethernet frame that asks for an address and claims nothing: the sender's own address is left
    out. ``mac``: 6 bytes."""
    if address.version == 4:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + bytes(4) + bytes(6) + address.packed
        return _BROADCAST + mac + struct.pack(">H", _ARP) + body
    to = _group(address)
    message = struct.pack(">BBHI", _SOLICIT, 0, 0, 0) + address.packed
    pseudo = bytes(16) + to + struct.pack(">II", len(message), 58)
    total = sum(struct.unpack(f">{len(pseudo + message) // 2}H", pseudo + message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
    header = struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + bytes(16) + to
    return b"\x33\x33" + to[12:] + mac + struct.pack(">H", _IPV6) + header + message


def claimant(frame: bytes, mac: bytes) -> tuple[IpAddress, bytes] | None:
    """Return the address that another host than ``mac`` claims by a frame, and that host's MAC address.

    IPv4 (RFC 5227, 2.1.1): an ARP packet from the address, or another's probe for it. IPv6 (RFC 4862, 5.4):
    a Neighbor Advertisement of the address, or another's solicitation from the unspecified address.
    """
    kind, body = frame[12:14], frame[14:]
    if kind == b"\x08\x06" and len(body) >= 28 and body[:6] == b"\x00\x01\x08\x00\x06\x04":
        operation, sender, source, target = body[6:8], body[8:14], body[14:18], body[24:28]
        if source == bytes(4) and operation == b"\x00\x01":
            source = target
        return (ipaddress.IPv4Address(source), sender) if sender != mac else None
    if kind != b"\x86\xdd" or len(body) < 64 or body[6] != 58 or body[7] != 255:
        return None
    source, message = body[8:24], body[40:]
    if message[0] not in (_SOLICIT, _ADVERTISE) or (message[0] == _SOLICIT and source != bytes(16)):
        return None
    sender = frame[6:12]
    return (ipaddress.IPv6Address(message[8:24]), sender) if sender != mac else None


def _listen(stack: ExitStack, interface: str, kind: int, addresses: Collection[IpAddress]) -> socket.socket:
    raw = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    if kind == _IPV6:
        code = b"".join(struct.pack("=HBBI", *line) for line in _ND_FILTER)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("@HP", len(_ND_FILTER), ctypes.addressof(buffer))
        raw.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    raw.bind((interface, kind))
    raw.setblocking(False)
    if kind == _IPV6:
        index = socket.if_nametoindex(interface)
        for address in addresses:
            # Another's solicitation goes to this group, which a network card may not let in by itself.
            group = b"\x33\x33" + _group(address)[12:]
            membership = struct.pack("=iHH8s", index, _MR_MULTICAST, 6, group)
            raw.setsockopt(263, _ADD_MEMBERSHIP, membership)  # SOL_PACKET
    return raw


def _claims(raw: socket.socket, mac: bytes) -> Iterator[tuple[IpAddress, bytes]]:
    while True:
        try:
            frame, sender = raw.recvfrom(2048)
        except BlockingIOError:
            return
        if sender[2] != socket.PACKET_OUTGOING and (found := claimant(frame, mac)) is not None:
            yield found


def probe(addresses: Collection[IpAddress], interface: str) -> dict[IpAddress, bytes]:
    """Ask the link of ``interface`` for ``addresses``; return who has one: its MAC address (6 bytes).

    An address that nobody claims within :data:`TOTAL_SECONDS` is left out. Errors: :class:`NodeNetworkError`.
    """
    found: dict[IpAddress, bytes] = {}
    try:
        with ExitStack() as stack:
            sockets = {
                version: _listen(stack, interface, kind, [a for a in addresses if a.version == version])
                for version, kind in ((4, _ARP), (6, _IPV6))
                if any(a.version == version for a in addresses)
            }
            mac = next((raw.getsockname()[4] for raw in sockets.values()), b"")
            if len(mac) != 6:  # neighbours are not found by address here
                return {}
            began, sent = time.monotonic(), 0
            while (now := time.monotonic()) < began + TOTAL_SECONDS and len(found) < len(set(addresses)):
                if sent < PROBES and now >= began + sent * _PAUSE_SECONDS:
                    sent += 1
                    for address in addresses:
                        sockets[address.version].send(probe_frame(address, mac))
                due = sent * _PAUSE_SECONDS if sent < PROBES else TOTAL_SECONDS
                ready, _, _ = select.select(
                    sockets.values(), [], [], max(0.0, began + due - time.monotonic())
                )
                for raw in ready:
                    found |= {a: other for a, other in _claims(raw, mac) if a in addresses}
    except PermissionError as exc:
        message = f"ask for addresses on {interface}: {exc}; the agent needs the capability NET_RAW"
        raise NodeNetworkError(message) from exc
    except OSError as exc:
        raise NodeNetworkError(f"ask for addresses on {interface}: {exc}") from exc
    return found
