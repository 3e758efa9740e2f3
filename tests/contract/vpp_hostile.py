"""Malformed, truncated and odd packets, the same ones at every run, and what may come of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.contract.engine_gtpu import (
    ECHO_REQUEST,
    END_MARKER,
    ERROR_INDICATION,
    LOCAL_TEID,
    NOTIFICATION,
    Inner,
    Outer,
    container,
    ends_of,
    gtp,
    packed,
)
from tests.contract.engine_lab import Wire
from tests.contract.engine_packets import (
    ICMP,
    ICMPv6PacketTooBig,
    Raw,
    network,
    packet,
)
from tests.contract.engine_services import V4, V6, Addresses
from tests.contract.vpp_services import fragments

from vpp_operator.dataplane.records import GtpuPsc, Protocol

GOLDENS = Path(__file__).parents[2] / "vpp-plugins" / "test" / "golden_gtpu.h"
LONGEST = 1500
"""Bytes of a packet: what an Ethernet link carries."""
AT_ONCE = 64
"""Packets that are sent to an engine at once: fewer than its rings take."""


def service_seeds(a: Addresses) -> tuple[list[bytes], list[bytes]]:
    """Return well-formed packets from the clients' side, and from the endpoints'."""
    payload = b"x" * 64
    there = [
        packet(p, (a.pod, 40000), to, payload)
        for p in (Protocol.TCP, Protocol.UDP)
        for to in ((a.vip, 80), (a.node, 30080), (a.external, 80), (a.unallocated, 1), (a.vip, 81))
    ]
    there += [
        packet(Protocol.TCP, (a.pod, 40000), (a.vip, 80), payload, flags=f) for f in ("A", "FA", "R", "")
    ]
    there += [packet(Protocol.UDP, (a.outside, 40000), (a.vip, 80), payload)]
    there += [packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), b"y" * 1300)]
    there += fragments(a, packet(Protocol.UDP, (a.pod, 40000), (a.vip, 80), b"x" * 900), 256)
    back = [
        packet(p, (a.endpoints[0], 8080), (a.pod, 40000), b"x" * n)
        for p in (Protocol.TCP, Protocol.UDP)
        for n in (0, 64, 1300)
    ]
    back += fragments(a, packet(Protocol.UDP, (a.endpoints[0], 8080), (a.pod, 40000), b"x" * 900), 256)
    error = ICMP(type=3, code=4) if a is V4 else ICMPv6PacketTooBig()
    about = packet(Protocol.TCP, (a.pod, 40000), (a.endpoints[0], 8080), payload)
    back.append(bytes(network(a.endpoints[1], a.pod) / error / Raw(about)))
    return there, back


def goldens() -> list[bytes]:
    """Return the hand-written GTP-U messages of the kernels' own tests."""
    text = re.sub(r"/\*.*?\*/", "", GOLDENS.read_text(), flags=re.DOTALL)
    found = re.findall(r'GOLDEN \(\w+,\s*((?:"[^"]*"\s*)+)\)', text)
    assert len(found) > 5
    return [bytes.fromhex("".join(re.findall(r'"([^"]*)"', octets)).replace(" ", "")) for octets in found]


def tunnel_seeds(o: Outer, i: Inner) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return well-formed packets from the peers, from the data network, and outer fragments."""
    inner = [
        packet(p, (i.ue, 4000), (i.host, 53), b"x" * n)
        for p in (Protocol.UDP, Protocol.TCP)
        for n in (0, 64, 1200)
    ]
    inner.append(packet(Protocol.UDP, (i.stranger, 4000), (i.host, 53), b"x"))
    there = [gtp(o, raw) for raw in inner] * 4
    there += [gtp(o, raw, E=1, next_ex=0x85, extensions=container(GtpuPsc.UL, 9)) for raw in inner[:2]]
    there += [gtp(o, inner[0], teid=0x999), gtp(o, inner[0], S=1, seq=7), gtp(o, b"")]
    kinds = (ECHO_REQUEST, END_MARKER, ERROR_INDICATION, NOTIFICATION, 77)
    there += [gtp(o, b"", kind=kind, teid=LOCAL_TEID, S=1, seq=1) for kind in kinds]
    for message in goldens():
        raw = bytearray(gtp(o, b""))
        start = len(raw) - 8
        datagram = raw[start - 8 : start - 4] + (8 + len(message)).to_bytes(2) + b"\0\0" + message
        there.append(_with_payload(o, bytes(raw[: start - 8]), bytes(datagram)))
    pieces = [
        p for n in (256, 512, 1024) for p in fragments(V4 if o.family == 4 else V6, gtp(o, inner[2]), n)
    ]
    back = [packet(Protocol.UDP, (i.host, 53), (i.ue, 4000), b"x" * n) for n in (0, 64, 1200)] * 2
    back += [packet(Protocol.TCP, (i.host, 53), (i.ue, 4000), b"x", flags="A")]
    back += [packet(Protocol.UDP, (i.host, 53), (i.stranger, 4000), b"x")]
    back += fragments(
        V4 if i.family == 4 else V6, packet(Protocol.UDP, (i.host, 53), (i.ue, 1), b"x" * 900), 256
    )
    return there, back, pieces


def _with_payload(o: Outer, header: bytes, payload: bytes) -> bytes:
    """Return a packet of this header with another payload; an IPv4 UDP checksum is 0, none."""
    raw = bytearray(header)
    if o.family == 4:
        raw[2:4] = (len(header) + len(payload)).to_bytes(2)
        repair(raw)
    else:
        raw[4:6] = len(payload).to_bytes(2)
    return bytes(raw) + payload


def repair(raw: bytearray) -> None:
    """Make the IPv4 header checksum right, whatever else is wrong."""
    size = (raw[0] & 15) * 4
    if raw[0] >> 4 != 4 or size < 20 or size > len(raw):
        return
    raw[10:12] = b"\0\0"
    total = sum(int.from_bytes(raw[at : at + 2]) for at in range(0, size, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    raw[10:12] = (~total & 0xFFFF).to_bytes(2)


def repair_udp(raw: bytearray) -> None:
    """Leave the UDP checksum out over IPv4, and make it right over IPv6."""
    if raw[0] == 0x45 and len(raw) >= 28 and raw[9] == 17:
        raw[26:28] = b"\0\0"
    elif raw[0] >> 4 == 6 and len(raw) >= 48 and raw[6] == 17:
        datagram = raw[40:]
        datagram[6:8] = b"\0\0"
        summed = (
            raw[8:40] + len(datagram).to_bytes(4) + b"\0\0\0\x11" + datagram + b"\0" * (len(datagram) & 1)
        )
        total = sum(int.from_bytes(summed[at : at + 2]) for at in range(0, len(summed), 2)) % 0xFFFF
        raw[46:48] = ((~total & 0xFFFF) or 0xFFFF).to_bytes(2)


def mutated(seeds: Sequence[bytes], count: int, seed: int) -> list[bytes]:
    """Return the seeds, then `count` of them with some bytes changed, cut off or added."""
    rng = random.Random(seed)
    made = list(seeds)
    for _ in range(count):
        raw = bytearray(rng.choice(seeds))
        version = raw[0] >> 4
        # Headers are more interesting than payloads.
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(min(len(raw), 96) if rng.random() < 0.8 else len(raw))
            raw[at] = rng.choice((0, 1, 0xFF, raw[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        if rng.random() < 0.2:
            del raw[rng.randrange(20, len(raw) + 1) :]
        elif rng.random() < 0.1:
            raw += rng.randbytes(rng.randrange(1, 200))
            del raw[LONGEST:]
        # VPP chooses the node by the frame's type, which a sender derives from the version.
        raw[0] = raw[0] & 0x0F | version << 4
        if rng.random() < 0.8:
            repair(raw)
        if rng.random() < 0.7:
            repair_udp(raw)
        made.append(bytes(raw))
    return made


def plain(raw: bytes, local: Iterable[str] = ()) -> bytes:
    """Return a packet without what each engine or hop sets as it likes: TTL and header checksum; for one from
    a `local` address source port, flow label and checksum, since these ports are chosen at random."""
    p = bytearray(raw)
    four = p[0] >> 4 == 4
    size = (p[0] & 15) * 4 if four else 40
    if four:
        p[8:9], p[10:12] = b"\0", b"\0\0"
    else:
        p[7:8] = b"\0"
    if ends_of(raw)[0] in {packed(address) for address in local}:
        if not four:
            p[0:4] = b"\x60\0\0\0"
        proto = p[9] if four else p[6]
        if not four and proto == 44:
            proto, size = p[40], 48
        field = {6: 16, 17: 6}.get(proto)
        p[size : size + 2] = b"\0\0"
        if field is not None:
            p[size + field : size + field + 2] = b"\0\0"
    return bytes(p)


def is_error(raw: bytes) -> bool:
    """Whether it is an ICMP error."""
    size = (raw[0] & 15) * 4 if raw[0] >> 4 == 4 else 40
    proto = raw[9] if raw[0] >> 4 == 4 else raw[6]
    kind = raw[size] if len(raw) > size else 0
    return (proto == 1 and kind in (3, 4, 11, 12)) or (proto == 58 and kind in (1, 2, 3, 4))


def quoted(raw: bytes) -> bytes:
    """Return what identifies the packet that an ICMP error is about: addresses, protocol and first bytes."""
    size = (raw[0] & 15) * 4 if raw[0] >> 4 == 4 else 40
    return signature(raw[size + 8 :])


def signature(raw: bytes) -> bytes:
    """Return addresses and protocol of a packet."""
    return raw[9:10] + raw[12:20] if raw[0] >> 4 == 4 else raw[6:7] + raw[8:40]


def is_answer(o: Outer, raw: bytes) -> bool:
    """Whether it is a GTP-U message of the local address other than a G-PDU."""
    four = raw[0] >> 4 == 4
    at = (raw[0] & 15) * 4 if four else 40
    return ends_of(raw)[0] == packed(o.local) and (raw[9] if four else raw[6]) == 17 and raw[at + 9] != 255


def through_wire(wire: Wire, packets: Sequence[bytes]) -> list[bytes]:
    """Send packets to an engine on a link, and return what came. Fast: fragments wait for each other as long
    as they do behind a packet generator."""
    came = []
    for at in range(0, len(packets), AT_ONCE):
        for raw in packets[at : at + AT_ONCE]:
            wire.send(raw)
        while (frame := wire.receive(0.003)) is not None:
            came.append(frame.packet)
    return came + [frame.packet for frame in wire.drain()]


__all__ = [
    "is_answer",
    "is_error",
    "mutated",
    "plain",
    "quoted",
    "service_seeds",
    "signature",
    "through_wire",
    "tunnel_seeds",
]
