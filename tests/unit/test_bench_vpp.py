"""The pure parts of `make bench-vpp`: what VPP says is read right, and what was measured is told right."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from bench.vpp import gtpu_in_tree, others, packets, pages, profile, table, variant
from bench.vpp.engine import BenchError, Installation, Setup, find, last_words, startup_conf, worker_threads
from bench.vpp.gains import gains
from bench.vpp.gtpu_own import ALL, Switches
from bench.vpp.lab_switches import combinations
from bench.vpp.measure import Case, faults, on_the_way, row, unproven
from bench.vpp.network import address
from bench.vpp.records import (
    COUNTERS,
    NEW_FLOWS,
    Left,
    Machine,
    Rate,
    Results,
    Row,
    Scaling,
    Spread,
    Step,
    spread,
)
from bench.vpp.runtime import NodeRun, parse_errors, parse_runtime, parse_streams, sent_bytes
from bench.vpp.targets import verdicts
from bench.vpp.together import Sample, doubt, window
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

RUNTIME = """\
Thread 0 vpp_main (lcore 0)
Time .5, 10.000000 sec internal node vector rate 0.00 loops/sec 1497646.36
  vector rates in 0.0000e0, out 0.0000e0, drop 0.0000e0, punt 0.0000e0
         Name             State     Calls      Vectors        Suspends      Packet-Clocks   Vectors/Call
api-rx-from-ring            "running"            0           0           2          8.74e4            0.00
ip4-full-reassembly-expire-wal "any wait"            0           0          10      7.23e3            0.00
---------------
Thread 1 vpp_wk_0 (lcore 1)
Time .5, 10.000000 sec internal node vector rate 256.00 loops/sec 35211113.39
  vector rates in 5.1096e5, out 5.1096e5, drop 0.0000e0, punt 0.0000e0
         Name             State     Calls      Vectors        Suspends      Packet-Clocks   Vectors/Call
ethernet-input               active           1000      256000           0          6.02e0          256.00
ip4-input                    active           2000      512000           0          1.05e1          256.00
ip4-lookup                   active           1000      256000           0          9.12e0          256.00
pg-input                    disabled          1001      256000           0          4.65e1          255.74
pg1-output                   active           1000      256000           0          2.76e0          256.00
pg1-tx                       active           1000      256000           0          6.36e0          256.00
"""


def worker() -> tuple[NodeRun, ...]:
    return parse_runtime(RUNTIME)["vpp_wk_0"]


def test_runtime_has_the_nodes_that_moved_packets() -> None:
    threads = parse_runtime(RUNTIME)
    assert list(threads) == ["vpp_wk_0"]
    assert [node.name for node in worker()] == [
        "ethernet-input",
        "ip4-input",
        "ip4-lookup",
        "pg-input",
        "pg1-output",
        "pg1-tx",
    ]
    assert worker()[1] == NodeRun("ip4-input", 2000, 512000, 10.5, 256.0)


def test_runtime_without_workers_is_mains() -> None:
    lines = RUNTIME.split("---------------\n")[1].splitlines(keepends=True)[1:]
    assert [node.name for node in parse_runtime("".join(lines))["vpp_main"]][1] == "ip4-input"


def test_errors_and_streams() -> None:
    errors = """\
   Count                  Node                              Reason               Severity
    262144              null-node                     blackholed packets           error
         3             gtpu4-input                  good packets decapsulated      info
"""
    assert [(e.node, e.reason, e.count, e.severity) for e in parse_errors(errors)] == [
        ("null-node", "blackholed packets", 262144, "error"),
        ("gtpu4-input", "good packets decapsulated", 3, "info"),
    ]
    streams = """\
Name               Enabled        Count     Parameters
a                    No          256000     limit 256000, rate 0.00e0 pps, size 64-64, worker 0,
b                   Yes             512     limit 256000, rate 0.00e0 pps, size 64-64, worker 0,
"""
    assert parse_streams(streams) == {"a": (False, 256000), "b": (True, 512)}


PATH = ("ip4-input", "ip4-lookup", "ip4-input")


def test_bytes_that_an_interface_sent() -> None:
    shown = """\
              Name               Idx    State  MTU (L3/IP4/IP6/MPLS)     Counter          Count
pg5                               6      up          9000/0/0/0     tx packets                   256
                                                                    tx bytes                   29184
"""
    assert sent_bytes(shown) == 256 * 114
    assert sent_bytes(shown.replace("tx bytes", "rx bytes")) == 0


def test_a_right_path_has_no_faults() -> None:
    assert faults(PATH, worker(), 256000) == []
    assert {node.name for node in on_the_way(worker())[1]} == {
        "ethernet-input",
        "pg-input",
        "pg1-output",
        "pg1-tx",
    }


@pytest.mark.parametrize(
    ("path", "packets_sent", "fault"),
    [
        (("ip4-input", "ip4-lookup"), 256000, "ip4-input saw 512000 packets, not 256000"),
        (("ip4-input", "ip4-input"), 256000, "256000 packets went through ip4-lookup"),
        ((*PATH, "gtpu4-input"), 256000, "gtpu4-input saw 0 packets, not 256000"),
        (PATH, 256256, "256000 of 256256 packets left"),
    ],
)
def test_another_path_or_a_lost_packet_is_a_fault(
    path: tuple[str, ...], packets_sent: int, fault: str
) -> None:
    assert fault in faults(path, worker(), packets_sent)


def test_a_few_packets_may_take_a_shorter_way_where_that_is_said() -> None:
    few = [dataclasses.replace(n, vectors=255990) if n.name == "ip4-lookup" else n for n in worker()]
    assert faults(PATH, few, 256000, 0.001) == []
    assert faults(PATH, few, 256000) == ["ip4-lookup saw 255990 packets, not 256000"]
    assert faults(PATH, few, 256000, 0.00001) == ["ip4-lookup saw 255990 packets, not 256000"]


def test_short_vectors_are_a_fault() -> None:
    thin = [
        dataclasses.replace(node, density=128.0) if node.name == "ip4-lookup" else node for node in worker()
    ]
    assert faults(PATH, thin, 256000) == ["ip4-lookup had 128.0 packets a call, not 256"]


def test_a_layer_2_node_of_the_path_is_not_around_it() -> None:
    inside, _ = on_the_way(
        [NodeRun("l2-output", 1, 256, 3.0, 256.0), NodeRun("interface-output", 1, 256, 3.0, 256.0)]
    )
    assert [node.name for node in inside] == ["l2-output"]


def test_a_row_counts_each_visit() -> None:
    case = Case("group", "case", "load", "stream", PATH, frozenset({"ip4-lookup"}), packets=256000)
    slower = [dataclasses.replace(node, clocks=node.clocks * 2) for node in worker()]
    found = row(case, [worker(), slower, worker()], 0.25)
    assert found.path.median == pytest.approx(2 * 10.5 + 9.12)
    assert found.path.high == pytest.approx(2 * (2 * 10.5 + 9.12))
    assert found.plugin == Spread(pytest.approx(9.12), pytest.approx(9.12), pytest.approx(18.24))
    assert [(step.node, step.visits, step.own) for step in found.steps] == [
        ("ip4-input", 2, False),
        ("ip4-lookup", 1, True),
    ]
    assert (found.rounds, found.others) == (3, 0.25)


def test_spread() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert spread([1.0, 2.0]).median == 1.5
    with pytest.raises(ValueError, match="no values"):
        spread([])


def results() -> Results:
    case = Case(
        "group A", "in-tree | default", "1 tunnel", "s", PATH, frozenset({"ip4-lookup"}), packets=256000
    )
    return Results(
        Machine("CPU", 2, 2.6e9, "vpp v26.06-release", 1),
        [row(case, [worker()], 0.5)],
        [Rate("programming", "tunnels", 3000, 0.5)],
        [Left("group A", "other", "1 flow", "it drops them")],
        [
            Scaling(
                "Two workers",
                "klb",
                "1 flow",
                3,
                0.25,
                spread([10e6, 11e6, 10.4e6]),
                spread([17e6, 18.2e6, 19e6]),
            )
        ],
    )


def test_results_survive_json() -> None:
    assert Results.from_json(results().to_json()) == results()


def test_merging_replaces_the_same_case_only() -> None:
    older, newer = results(), results()
    newer.rows = [
        dataclasses.replace(newer.rows[0], others=0.0),
        dataclasses.replace(newer.rows[0], case="other", load="1 flow"),
    ]
    newer.left, newer.machine = [], None
    merged = older.merged(newer)
    assert [(r.case, r.others) for r in merged.rows] == [("in-tree | default", 0.0), ("other", 0.5)]
    assert merged.left == []  # measured now
    newer.rows = [dataclasses.replace(newer.rows[0], case="another", load="1 flow")]
    assert older.merged(newer).left == []  # the load was tried again
    newer.rows = [dataclasses.replace(newer.rows[0], load="2 flows")]
    assert older.merged(newer).left == older.left
    assert merged.machine == older.machine


def test_tables() -> None:
    text = table.render(results())
    assert "#### group A" in text
    assert (
        "| in-tree \\| default | 1 tunnel | 30 (30 to 30) | 9.1 (9.1 to 9.1) "
        "| ip4-input (x2) 21, **ip4-lookup** 9.1 |" in text
    )
    assert "| tunnels | 3,000 | 0.50 | 6,000 |" in text
    assert "- group A, other, 1 flow: it drops them" in text
    assert "other processes used 0.50 of the processors" in text


def test_table_of_two_workers() -> None:
    text = table.render(results())
    assert "| klb | 1 flow | 10.4 (10.0 to 11.0) | 18.2 (17.0 to 19.0) | 1.75 |" in text
    assert "This machine has 2 processors" in text
    few = dataclasses.replace(results().machine or pytest.fail(), processors=4)
    assert "This machine has" not in "".join(table.scalings_table(results().workers, few))


def test_new_flows_a_second() -> None:
    found = results()
    assert "flows a second" not in table.render(found)
    found.rows = [dataclasses.replace(found.rows[0], group=NEW_FLOWS, case="klb", load="beside 1 flow")]
    assert "one worker, by the clocks of the path. klb beside 1 flow: 86.3." in table.render(found)


def test_merging_two_workers() -> None:
    older, newer = results(), results()
    newer.workers = [dataclasses.replace(newer.workers[0], rounds=9)]
    newer.left = []
    older.left = [Left("Two workers", "klb", "1 flow", "not at work together")]
    merged = older.merged(newer)
    assert [found.rounds for found in merged.workers] == [9]
    assert merged.left == []


def test_tables_go_between_the_marks() -> None:
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.insert(document, "new\n") == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="no lines"):
        table.insert("before", "new")


def test_one_document_takes_the_switches_and_another_the_rest() -> None:
    all_of_it = results()
    all_of_it.rows.append(dataclasses.replace(all_of_it.rows[0], group="Optimisations: decapsulation"))
    switches = table.only(all_of_it, "Optimisations", True)
    rest = table.only(all_of_it, "Optimisations", False)
    assert [row.group for row in switches.rows] == ["Optimisations: decapsulation"]
    assert [row.group for row in rest.rows] == ["group A"]
    assert (switches.rates, rest.rates) == ([], all_of_it.rates)


def test_paths_follow_from_the_switches() -> None:
    off = Switches()
    assert off.decap_path()[-5:] == (
        "ip4-udp-lookup",
        "kgtpu4-input",
        "ip4-input",
        "ip4-lookup",
        "ip4-rewrite",
    )
    assert Switches(bypass="feature").decap_path() == (
        "ip4-input",
        "kgtpu4-bypass",
        "ip4-input",
        "ip4-lookup",
        "ip4-rewrite",
    )
    assert ALL.decap_path() == ("ip4-input", "ip4-lookup", "kgtpu4-local", "ip4-lookup", "ip4-rewrite")
    assert ALL.frame_decap_path() == ("ip4-input", "ip4-lookup", "kgtpu4-local")
    assert "gtpuInnerInputSkipped" in ALL.decap_proof()
    assert ALL.frame_decap_proof() == ("gtpuDecapsulated", "gtpuBypassed", "gtpuLoopQuad", "gtpuPrefetched")
    assert ALL.encap_path() == ("ip4-input", "ip4-lookup", "kgtpu4-encap", "ip4-rewrite")
    assert off.encap_path() == ("ip4-input", "ip4-lookup", "kgtpu4-encap", "ip4-lookup", "ip4-rewrite")


def test_every_switch_is_measured_alone_and_missing() -> None:
    rows = combinations(("bypass", "loop", "skip_inner"))
    assert [name for name, _ in rows] == [
        "all off",
        "gtpuBypass (Feature) alone",
        "gtpuBypass (Fib) alone",
        "loop dual alone",
        "loop quad alone",
        "skipInnerIpInput alone",
        "all on",
        "all but gtpuBypass (Fib)",
        "all but loop quad",
        "all but skipInnerIpInput",
    ]
    switches = dict(rows)
    assert switches["all on"] == Switches(skip_inner=True, bypass="fib", loop=4)  # of those that are measured
    assert switches["all but loop quad"] == Switches(skip_inner=True, bypass="fib", loop=1)


def test_switches_as_the_engine_takes_them() -> None:
    assert ALL.record().value == 1 | 2 | 4 | 8 | 16 | 32 | 4 << 8
    assert Switches(bypass="feature", loop=2).record().value == 8 | 2 << 8
    assert Switches().record().value == 1 << 8


def test_what_an_optimisation_gains() -> None:
    def switched(case: str, clocks: float, load: str = "1 tunnel") -> Row:
        path = Spread(clocks, clocks, clocks)
        return Row("Optimisations: x", case, load, 1, 256, 0.0, path, path, (), ())

    rows = [
        switched("all off", 100.0),
        switched("prefetch alone", 99.0),
        switched("gtpuBypass (Feature) alone", 70.0),
        switched("gtpuBypass (Fib) alone", 75.0),
        switched("loop quad alone", 120.0),
        switched("all on", 60.0),
        switched("all but prefetch", 61.0),
        switched("all but gtpuBypass (Fib)", 80.0),
        switched("all but loop quad", 70.0),
    ]
    found = {gain.switch: (gain.alone, gain.last, gain.verdict) for gain in gains(rows)}
    assert found == {
        "prefetch": (1.0, 1.0, "gains nothing"),
        "gtpuBypass (Feature)": (30.0, None, "gains"),
        "gtpuBypass (Fib)": (25.0, 20.0, "gains"),
        "loop quad": (-20.0, 10.0, "depends on the others"),
    }
    assert gains(rows[1:]) == []  # nothing to compare with
    assert "| loop quad | 1 tunnel | -20 | +10 | - | - | depends on the others |" in table.gains_table(rows)

    for order, clocks in (("in order", 80.0), ("random", 300.0)):
        load = f"3,000 tunnels, {order}"
        rows += [
            switched("all off", clocks, load),
            switched("prefetch alone", 79.0, load),
            switched("all on", 70.0, load),
        ]
    text = table.render(Results(rows=rows))
    verdict = "gains nothing in order, gains at random"
    assert f"| prefetch | 3,000 tunnels | +1 | - | +221 | - | {verdict} |" in text
    assert "| case | 1 tunnel | 3,000 tunnels |" in text
    assert "| all off | 100 | 80 / 300 |" in text
    assert "| all but prefetch | 61 | - / - |" in text
    assert "| all off | 3,000 tunnels, random | 300 (300 to 300) |" in text
    assert "3,000 tunnels, in order |" not in text  # node by node only at random
    assert "In order: 1 rounds each" in text


def test_counters_prove_what_was_done() -> None:
    assert unproven(("a", "b"), {"a": 5}, {"a": 105, "b": 100}, 100) == []
    assert unproven(("a", "b"), {"a": 5}, {"a": 105, "b": 0}, 100) == ["b counted 0 of 100"]


def test_packets_are_what_scapy_would_write() -> None:
    source, destination = address("10.0.0.1"), address("10.255.0.2")
    plain = packets.udp(source, destination, 1000, 2000, b"odd")
    assert plain == bytes(IP(src="10.0.0.1", dst="10.255.0.2", id=0) / UDP(sport=1000, dport=2000) / b"odd")
    for flags, sequence, acknowledged in ((packets.SYN, 0, 0), (packets.SYN_ACK, 0, 1), (packets.ACK, 1, 1)):
        expected = TCP(sport=1, dport=2, seq=sequence, ack=acknowledged, flags=flags, window=0xFFFF)
        assert packets.tcp(source, destination, 1, 2, b"data", flags) == bytes(
            IP(src="10.0.0.1", dst="10.255.0.2", id=0) / expected / b"data"
        )
    six = [int(ipaddress.ip_address(text)) for text in ("fd00::1", "fd00:92::5")]
    ends = IPv6(src="fd00::1", dst="fd00:92::5")
    assert packets.udp_ipv6(*six, 1000, 2000, b"odd") == bytes(ends / UDP(sport=1000, dport=2000) / b"odd")
    syn = TCP(sport=1, dport=2, seq=0, ack=0, flags=packets.SYN, window=0xFFFF)
    assert packets.tcp_ipv6(*six, 1, 2, b"", packets.SYN) == bytes(ends / syn)
    data = TCP(sport=1, dport=2, seq=1, ack=1, flags=packets.ACK, window=0xFFFF)
    assert packets.tcp_ipv6(*six, 1, 2, b"data!", packets.ACK) == bytes(ends / data / b"data!")
    outer = IP(packets.gtpu(source, destination, 77, plain))
    assert outer[GTP_U_Header].teid == 77
    assert bytes(outer[GTP_U_Header].payload) == plain
    assert (outer.len, outer[UDP].chksum) == (36 + len(plain), 0)
    assert bytes(IP(bytes(outer))) == bytes(outer)
    assert len(packets.ethernet(b"\2" * 6, plain)) == 60
    frame = Ether(packets.tagged(b"\2" * 6, 100, plain))
    assert (frame.dst, frame[Dot1Q].vlan, bytes(frame[IP])[: len(plain)]) == ("02:02:02:02:02:02", 100, plain)


@pytest.mark.parametrize("inner", [bytes(range(48)), bytes(range(47))])
@pytest.mark.parametrize("extension", [b"", packets.psc_uplink(9)])
def test_g_pdus_over_ipv6_and_with_a_pdu_session_container(inner: bytes, extension: bytes) -> None:
    source, destination = (int(ipaddress.ip_address(text)) for text in ("fd00::1", "fd00::2"))
    raw = packets.gtpu_ipv6(source, destination, 77, inner, extension)
    outer = IPv6(raw)
    checksum = outer[UDP].chksum
    del outer[UDP].chksum
    assert IPv6(bytes(outer))[UDP].chksum == checksum != 0
    assert (outer.src, outer.dst, outer.plen) == ("fd00::1", "fd00::2", len(raw) - 40)
    message = raw[48:]
    assert message[:8] == bytes((0x34 if extension else 0x30, 0xFF, 0, len(message) - 8, 0, 0, 0, 77))
    assert message[8:] == extension + inner
    assert packets.gtpu(1, 2, 77, inner, extension)[28:] == message
    assert packets.ethernet(b"\2" * 6, raw)[12:14] == b"\x86\xdd"


def test_uplink_container_as_scapy_reads_it() -> None:
    message = GTP_U_Header(packets.gtpu(1, 2, 77, b"E" * 48, packets.psc_uplink(9))[28:])
    assert (message.E, message.next_ex) == (1, 0x85)
    container = message[GTPPDUSessionContainer]
    assert (container.ExtHdrLen, container.type, container.QFI, container.NextExtHdr) == (1, 1, 9, 0)


def test_paths_over_ipv6() -> None:
    assert ALL.decap_path(6) == ("ip6-input", "ip6-lookup", "kgtpu6-local", "ip4-lookup", "ip4-rewrite")
    assert ALL.encap_path(6) == ("ip4-input", "ip4-lookup", "kgtpu4-encap", "ip6-rewrite")
    off = Switches()
    assert off.decap_path(6)[:5] == (
        "ip6-input",
        "ip6-lookup",
        "ip6-receive",
        "ip6-udp-lookup",
        "kgtpu6-input",
    )
    assert off.encap_path(6)[2:] == ("kgtpu4-encap", "ip6-lookup", "ip6-rewrite")
    assert gtpu_in_tree.best_path(6)[:3] == ("ip6-input", "ip6-gtpu-bypass", "gtpu6-input")


def test_shuffled_is_the_same_in_every_run() -> None:
    order = packets.shuffled(1000)
    assert sorted(order) == list(range(1000))
    assert order == packets.shuffled(1000) != list(range(1000))


def test_startup_conf_loads_only_what_is_measured(tmp_path) -> None:
    (tmp_path / "lib" / "x86_64-linux-gnu" / "vpp_plugins").mkdir(parents=True)
    text = startup_conf(Installation(tmp_path, None), Setup(), tmp_path / "run", 2)
    assert "corelist-workers 1" in text
    assert "plugin default { disable }" in text
    assert "plugin gtpu_plugin.so { enable }" in text
    assert "khost" not in text
    assert "corelist-workers" not in startup_conf(Installation(tmp_path, None), Setup(), tmp_path / "run", 1)
    assert "plugin khost_plugin.so { enable }" in startup_conf(
        Installation(tmp_path, None), Setup(own=True), tmp_path, 2
    )
    more = Setup(plugins=(tmp_path / "built" / "noop_plugin.so",), workers=2)
    text = startup_conf(Installation(tmp_path, None), more, tmp_path / "run", 2)
    assert f":{tmp_path / 'built'}\n" in text
    assert "plugin noop_plugin.so { enable }" in text
    assert "  workers 2\n  relative\n" in text


def test_without_vpp_it_says_what_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("VPP_PREFIX", raising=False)
    with pytest.raises(BenchError, match="VPP_PREFIX is not set; install VPP"):
        find(tmp_path)
    monkeypatch.setenv("VPP_PREFIX", str(tmp_path))
    with pytest.raises(BenchError, match="has no bin/vpp"):
        find(tmp_path)


def test_threads_of_the_workers() -> None:
    text = """\
ID     Name                Type        LWP     Sched Policy (Priority)  lcore  Core   Socket State
0      vpp_main                        8804    other (0)                0      0      0
1      vpp_wk_0            workers     8805    other (0)                1      1      0
"""
    assert worker_threads(text) == (8805,)


def test_ticks_of_all_and_of_one_process() -> None:
    assert others.busy_ticks("cpu  10 1 5 1000 7 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == 25
    assert others.process_ticks("42 (vpp main) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0") == 100


def test_mappings_that_can_be_huge() -> None:
    text = """\
1000000000-1008000000 rw-s 00000000 00:01 12316 /memfd:buffers-numa-0 (deleted)
ffffff000-1000000000 ---p 00000000 00:00 0
7f33a0000000-7f33a0001000 rw-p 00000000 00:00 0
7f33a0180000-7f33a0480000 rw-p 00000000 00:00 0
"""
    assert list(pages.mappings(text)) == [(0x1000000000, 0x1008000000), (0x7F33A0200000, 0x7F33A0400000)]
    assert list(pages.mappings(text, lambda name: not name.startswith("/memfd:"))) == [
        (0x7F33A0200000, 0x7F33A0400000)
    ]
    assert list(pages.mappings(text, lambda name: name == "")) == [(0x7F33A0200000, 0x7F33A0400000)]


def test_share_of_a_file_on_huge_pages() -> None:
    text = """\
7f081f400000-7f0826d73000 rw-s 00000000 00:1b 94700                      /dev/shm/tables
Size:             124364 kB
Rss:                4096 kB
ShmemPmdMapped:     3072 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh mr mw me ms dd hg
7f0826d73000-7f0826e00000 rw-p 00000000 00:00 0
Rss:                8192 kB
ShmemPmdMapped:     8192 kB
"""
    assert pages.huge_share(text, "/dev/shm/tables") == 0.75
    assert pages.huge_share(text, "/dev/shm/other") == 0.0


def test_one_place_to_count_in() -> None:
    source = """\
  fp_counter_add (&counters[e->tunnel].tx_bytes, total);
  __builtin_prefetch (&view->counters[slot], 1, 3);
  return &w->region->gtpu->counters[w->worker][slot];
  x = r->gtpu->counters[i][slot];
"""
    assert variant.in_one_place(source) == (
        """\
  fp_counter_add (&counters[0].tx_bytes, total);
  __builtin_prefetch (&view->counters[0], 1, 3);
  return &w->region->gtpu->counters[w->worker][0];
  x = r->gtpu->counters[i][slot];
""",
        3,
    )


def test_sources_count_where_they_are_changed() -> None:
    changed = {
        path.name: times
        for path in (variant.SOURCES / "fastpath").glob("fp_*.h")
        if (times := variant.in_one_place(path.read_text())[1])
    }
    assert {"fp_tunnel.h", "fp_gtpu_rx.h", "fp_gtpu_tx.h", "fp_gtpu_encap.h"} <= set(changed)
    assert sum(changed.values()) >= variant.LEAST


def test_targets_are_held_against_what_was_measured() -> None:
    def found(group: str, case: str, load: str, path: float, own: float) -> Row:
        return Row(group, case, load, 3, 256, 0.0, spread([path]), spread([own]), (), ())

    forms, plain = "GTP-U: decapsulation by form of the outer packet", "IPv4 forwarding of other packets"
    load = "64,000 flows, 1,000 Services"
    rows = [
        found("Services: known", "klb, UDP, to the Service", load, 90.0, 55.0),
        found("Services: known", "klb, TCP, to the Service", load, 90.0, 48.0),
        found("Services: known", "in-tree cnat", load, 500.0, 400.0),
        found("Pages of the tables", "klb, TCP, to the Service, 4 KiB pages", load, 90.0, 99.0),
        found("GTP-U: x", "kgtpu, all switches on, gtpuBypass Fib", "1 tunnel", 60.0, 20.0),
        found("GTP-U: x", "kgtpu, all switches on, gtpuBypass Feature", "1 tunnel", 44.0, 20.0),
        found(forms, "kgtpu, all switches on, IPv4 outside", "1 tunnel", 60.0, 20.0),
        found(forms, "kgtpu, all switches on, IPv4 outside, PSC", "1 tunnel", 64.0, 20.0),
        found(forms, "kgtpu, all switches on, IPv6 outside", "1 tunnel", 75.0, 20.0),
        found(COUNTERS, "kgtpu, decapsulation, counters of each tunnel", "2 tunnels", 80.0, 20.0),
        found(COUNTERS, "kgtpu, decapsulation, counters one for all tunnels", "2 tunnels", 71.0, 20.0),
        found(plain, "a feature that does nothing on the interface", "x", 36.0, 2.0),
        found(plain, "klb on the interface", "x", 40.0, 6.5),
        found(plain, "kgtpu gtpuBypass, form Feature on the interface", "x", 40.0, 7.0),
    ]
    rates = [
        Rate("programming", "ours, 1 tunnel: pack, difference, apply", 400_000, 1.0),
        Rate("programming", "ours, 1 tunnel: pack alone", 1, 1.0),
    ]
    told = {v.what: (v.target, v.measured, v.text) for v in verdicts(Results(rows=rows, rates=rates))}
    assert told == {
        "known flow, 64k flows, our nodes": ("50", "48 to 55", "missed by 5"),
        "decapsulation, 1 tunnel, path": ("45", "44", "met"),
        "decapsulation with PSC, 1 tunnel": ("+3", "+4.0", "missed by 1"),
        "decapsulation over IPv6, 1 tunnel": ("+15", "+15.0", "met"),
        "decapsulation, counters of each tunnel beside one for all, 2 tunnels": ("+10", "+9.0", "met"),
        "tax of klb on other packets, beside a feature that does nothing": ("+5", "+4.5", "met"),
        "tax of gtpuBypass Feature on other packets, beside a feature that does nothing": (
            "+2",
            "+5.0",
            "missed by 3",
        ),
        "records a second, from Python's typed records": (
            "500,000",
            "400,000 to 400,000",
            "missed by 100,000",
        ),
    }
    beside = found("GTP-U: x", "in-tree, best configuration", "1 tunnel", 51.0, 20.0)
    step = Step("ip4-input", 1, spread([24.0]), own=False)
    own = Step("kgtpu4-local", 1, spread([20.0]), own=True)
    rows[5] = dataclasses.replace(rows[5], steps=(step, own))
    text = table.render(Results(rows=[*rows, beside]))
    line = "| decapsulation, 1 tunnel, path | 45 | 44 | met | ours 20; VPP's 24: ip4-input 24 "
    assert f"{line}| best configuration 51 |" in text
    assert "| 48 to 55 | missed by 5 | most: klb, UDP, to the Service | cnat 400 |" in text
    assert "| +3 | +4.0 | missed by 1 | 64 against 60 | - |" in text
    assert "targets" not in table.render(results())


def samples(*rows: tuple[float, tuple[int, ...], tuple[float, ...]]) -> list[Sample]:
    return [Sample(*row) for row in rows]


def test_rates_are_of_the_time_in_which_both_workers_are_at_work() -> None:
    seen = samples(
        (0.0, (0, 0), (5.0, 7.0)),
        (0.1, (0, 90), (5.0, 7.1)),  # the second begins first
        (0.2, (100, 200), (5.1, 7.2)),
        (0.6, (500, 620), (5.5, 7.58)),
        (0.9, (1000, 800), (5.7, 7.8)),  # the first is ready
        (1.0, (1000, 1000), (5.7, 7.9)),
    )
    found = window(seen, 1000)
    assert found is not None
    assert found.seconds == pytest.approx(0.4)
    assert found.rates == pytest.approx((1000.0, 1050.0))
    assert found.shares == pytest.approx((1.0, 0.95))
    assert not doubt(dataclasses.replace(found, shares=(1.0, 0.951)))
    assert "94% of their processors" in doubt(dataclasses.replace(found, shares=(1.0, 0.94)))
    assert "for 0.05 s" in doubt(dataclasses.replace(found, seconds=0.05))


def test_workers_that_take_turns_are_not_at_work_together() -> None:
    seen = samples((0.0, (0, 0), (0, 0)), (0.5, (1000, 0), (0.5, 0)), (1.0, (1000, 1000), (0.5, 0.5)))
    assert window(seen, 1000) is None
    assert "together for 0.00 s" in doubt(None)


def test_samples_of_perf_by_function() -> None:
    script = """\
    7f63a8019c40 klb4_feature_node_fn_x86_64_v4 (/usr/lib/vpp_plugins/klb_plugin.so)
    7f63b1c5b1a8 [unknown] ([kernel.kallsyms])
"""
    samples = list(profile.parse_script(script))
    assert samples[0] == profile.Sample(
        0x7F63A8019C40, "klb4_feature_node_fn_x86_64_v4", "/usr/lib/vpp_plugins/klb_plugin.so"
    )
    assert samples[1].symbol == "[unknown]"
    maps = """\
7f63a8015000-7f63a801a000 r-xp 00004000 fe:00 1 /usr/lib/vpp_plugins/klb_plugin.so
7f63a801a000-7f63a801b000 rw-p 0000a000 fe:00 1 /usr/lib/vpp_plugins/klb_plugin.so
7f63a801c000-7f63a801d000 r-xp 00000000 00:00 0
"""
    assert profile.executable(maps) == (
        profile.Mapped(0x7F63A8015000, 0x7F63A801A000, 0x4000, "/usr/lib/vpp_plugins/klb_plugin.so"),
    )
    told = """\
0x0000000000008c40
fp_bucket_scan
fp_index.h:77
klb4_feature_node_fn_x86_64_v4
klb_node.c:210
0x0000000000008c44
??
??:0
"""
    assert profile.inlined(told) == {0x8C40: "fp_bucket_scan"}


def test_shares_of_functions() -> None:
    found = profile.shares(["a"] * 60 + ["b"] * 39 + ["c"], least=0.02)
    assert found == (("a", 0.6), ("b", 0.39))
    text = profile.Profile("group: case, load", 400, 100, found).text()
    assert text == "group: case, load: 100 of 400 samples in our plugins\n   60.0 %  a\n   39.0 %  b\n"


def test_last_words_are_what_vpp_says_itself() -> None:
    log = """\
vpp[9]: vnet_feature_arc_init:262: feature node 'acl-plugin-out-ip6-fa' not found
vpp[9]: vlib_worker_thread_barrier_sync_int: worker thread deadlock
vpp[9]: received signal SIGABRT, PC 0x7f05
vpp[9]: Backtrace:
vpp[9]: #1  0x00007f052f057ace vlib_cli_dispatch_sub_commands + 0xc5e
vpp[9]:      from /usr/lib/libvlib.so.26.06
"""
    assert last_words(log) == "vlib_worker_thread_barrier_sync_int: worker thread deadlock"
    assert last_words("a\nb\nc\nd\n", 2) == "c | d"
