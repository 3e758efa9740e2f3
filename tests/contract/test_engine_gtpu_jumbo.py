"""GTP-U on links of 9,000 bytes: large frames in pieces, packets that fill several buffers of an engine."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator

import pytest
from tests.contract.conftest import needs_root
from tests.contract.engine_gtpu import (
    CAPACITY,
    I4,
    I6,
    O4,
    O6,
    Inner,
    Outer,
    checksums_hold,
    gtp,
    gtpu,
    unwrap,
)
from tests.contract.engine_lab import (
    GSO_TCP4,
    GSO_TCP6,
    NEEDS_CSUM,
    Namespace,
    Offload,
    Wire,
    add_host_link,
    namespaces,
)
from tests.contract.engine_packets import TCP, packet, parse
from tests.contract.engine_process import Engine
from tests.contract.engine_services import difference
from tests.contract.engines import ENGINES, Onward, engine_named

from vpp_operator.dataplane.records import Protocol

OUTER = pytest.mark.parametrize("o", [O4, O6], ids=["over-ipv4", "over-ipv6"])
INNER = pytest.mark.parametrize("i", [I4, I6], ids=["ipv4", "ipv6"])
LINK = 9000


@pytest.fixture
def jumbo() -> Iterator[Namespace]:
    needs_root()
    with namespaces("node") as [node]:
        add_host_link(node, LINK)
        yield node


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, jumbo: Namespace) -> Iterator[Engine]:
    with engine_named(request.param, jumbo, CAPACITY) as process:
        process.start()
        yield process


def tcp(i: Inner, content: bytes, seq: int = 0) -> tuple[bytes, int, int]:
    """Return a segment to the user with a checksum that is left to be done, and where TCP's header and
    contents begin."""
    raw = bytearray(packet(Protocol.TCP, (i.host, 80), (i.ue, 4000), content, flags="A"))
    at = 20 if i.family == 4 else 40
    raw[at + 4 : at + 8] = seq.to_bytes(4, "big")
    pseudo = raw[at - (8 if i.family == 4 else 32) : at] + struct.pack("!HH", 6, len(raw) - at)
    raw[at + 16 : at + 18] = (sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo)) % 0xFFFF).to_bytes(2, "big")
    return bytes(raw), at, at + 20


@OUTER
@INNER
async def test_large_frames_in_large_pieces(engine: Engine, o: Outer, i: Inner) -> None:
    content = b"".join(struct.pack("!H", n) for n in range(20_000))
    wire = Wire(engine.namespace)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        sizes = (1000, 1790, 2000, 8000)
        for size in sizes:
            raw, at, header = tcp(i, content)
            kind = GSO_TCP4 if i.family == 4 else GSO_TCP6
            wire.send(raw, Offload(NEEDS_CSUM, kind, 14 + header, size, 14 + at, 16))
            for start in range(0, len(content), size):
                outer = wire.receive()
                assert outer is not None, (size, start)
                checksums_hold(outer.packet)
                inner = parse(unwrap(outer.packet)[1])
                assert bytes(inner[TCP].payload) == content[start : start + size]
        assert (await dataplane.stats()).counters["gtpuSegmented"] == len(sizes)
    wire.close()


@OUTER
@INNER
@pytest.mark.parametrize("size", [1000, 4000])
async def test_large_frames_keep_their_place(engine: Engine, o: Outer, i: Inner, size: int) -> None:
    """A stream in small and large segments, all of which lie there when the engine looks: one vector."""
    stream = b"".join(struct.pack("!I", n) for n in range(24_000))
    lengths = [100, 40_000, 700, size, 30_500, 600]
    lengths.append(len(stream) - sum(lengths))
    wire = Wire(engine.namespace)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        assert engine.process
        engine.process.send_signal(signal.SIGSTOP)
        try:
            at = 0
            for length in lengths:
                raw, l4, header = tcp(i, stream[at : at + length], at)
                kind = (GSO_TCP4 if i.family == 4 else GSO_TCP6) if length > size else 0
                wire.send(raw, Offload(NEEDS_CSUM, kind, 14 + header, size if kind else 0, 14 + l4, 16))
                at += length
        finally:
            engine.process.send_signal(signal.SIGCONT)
        seen = 0
        while seen < len(stream):
            outer = wire.receive()
            assert outer is not None, f"{seen} bytes came"
            checksums_hold(outer.packet)
            inner = parse(unwrap(outer.packet)[1])
            assert inner[TCP].seq == seen
            content = bytes(inner[TCP].payload)
            assert 0 < len(content) <= size
            assert content == stream[seen : seen + len(content)]
            seen += len(content)
        large = sum(length > size for length in lengths)
        assert (await dataplane.stats()).counters["gtpuSegmented"] == large
    wire.close()


@OUTER
@INNER
async def test_packets_in_several_buffers(engine: Engine, o: Outer, i: Inner) -> None:
    """From one buffer of VPP to five; the last byte is in its place."""
    wire = Wire(engine.namespace)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        for length in (1900, *range(1990, 2050, 7), 4096, 8000, 8800):
            content = bytes(n % 251 for n in range(length))
            raw, at, header = tcp(i, content)
            wire.send(raw, Offload(NEEDS_CSUM, csum_start=14 + at, csum_offset=16, header_length=14 + header))
            outer = wire.receive()
            assert outer is not None, length
            checksums_hold(outer.packet)
            assert bytes(parse(unwrap(outer.packet)[1])[TCP].payload) == content
    wire.close()


@OUTER
@INNER
async def test_packets_out_of_the_tunnel(engine: Engine, onward: Onward, o: Outer, i: Inner) -> None:
    """Outer packets of several buffers, checksums outside and inside; one of them for nobody."""
    wire = Wire(engine.namespace)
    async with engine.dataplane() as dataplane:
        assert await dataplane.apply(difference([], gtpu(o))) == []
        for length in (1900, *range(1960, 2050, 9), 4096, 8000, 8800):
            inner = packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), bytes(n % 251 for n in range(length)))
            assert wire.exchange(gtp(o, inner)).packet == onward(inner), length
            wrong = bytearray(gtp(o, inner))
            wrong[-1] ^= 1
            wire.send(bytes(wrong))
        wire.expect_nothing()
        inner = packet(Protocol.UDP, (i.ue, 4000), (i.host, 53), bytes(4000))
        answer = wire.exchange(gtp(o, inner, teid=0xABCDEF)).packet
        assert parse(answer).src == o.local and b"\x36\x1a" in answer[:80], "Error Indication"
        stats = await dataplane.stats()
        assert stats.drops["gtpuBadChecksum"] == 14
    wire.close()
