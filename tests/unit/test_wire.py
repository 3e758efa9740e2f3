"""Answers of the embedded engine about GTP-U: read as what they are, refused when they cannot be."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from vpp_operator.dataplane.protocol import PathCondition, PathState, TunnelCounters
from vpp_operator.dataplane.wire import Header, WireError, decode_counters, decode_paths

COUNTERS = struct.Struct("<QIIQQQQQ")
PATH = struct.Struct("<QB7x16sBBBxIQ")


def header(count: int) -> Header:
    return Header(0, 0, 1, 0, count, 0, 0, 0, 0)


def test_sizes_are_those_of_the_engine() -> None:
    assert (COUNTERS.size, PATH.size) == (56, 48)


def test_counters() -> None:
    raw = COUNTERS.pack(7, 9, 0, 1, 2, 3, 4, 5) + COUNTERS.pack(7, 10, 3, 0, 0, 0, 0, 0)
    assert decode_counters(header(2), raw) == [
        TunnelCounters(7, 9, 1, 2, 3, 4, 5),
        TunnelCounters(7, 10, end_marker_seen=True, error_indication_seen=True),
    ]
    for seen, marker, error in ((1, True, False), (2, False, True)):
        [one] = decode_counters(header(1), COUNTERS.pack(7, 9, seen, 0, 0, 0, 0, 0))
        assert (one.end_marker_seen, one.error_indication_seen) == (marker, error)


def test_paths() -> None:
    v4, v6 = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")
    raw = PATH.pack(7, 4, v4.packed.ljust(16, b"\0"), 1, 42, 1, 1500, 10**9) + PATH.pack(
        8, 6, v6.packed, 2, 0, 0, 0, 0
    )
    assert decode_paths(header(2), raw) == [
        PathState(7, v4, PathCondition.UP, restart_counter=42, rtt_us=1500, answered_ns=10**9),
        PathState(8, v6, PathCondition.DOWN),
    ]
    # A restart counter of 0 is one, too.
    [path] = decode_paths(header(1), PATH.pack(7, 4, bytes(16), 1, 0, 1, 3, 5))
    assert path.restart_counter == 0


@pytest.mark.parametrize(("family", "state"), [(5, 0), (0, 0), (4, 3), (6, 255)])
def test_paths_that_cannot_be(family: int, state: int) -> None:
    with pytest.raises(WireError, match="path"):
        decode_paths(header(1), PATH.pack(7, family, bytes(16), state, 0, 0, 0, 0))


@pytest.mark.parametrize("decode", [decode_counters, decode_paths])
def test_cut_answers(decode: object) -> None:
    assert callable(decode)
    with pytest.raises(WireError, match="2 entries"):
        decode(header(2), bytes(56))
