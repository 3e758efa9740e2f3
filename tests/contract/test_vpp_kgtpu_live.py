"""kgtpu while things change: the port shared with VPP's own gtpu, route flaps, switches under load."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import time
from pathlib import Path

import pytest
from tests.contract.engine_gtpu import (
    I4,
    I6,
    O4,
    endpoint,
    gtp,
    gtpu,
    hop,
    peer,
    pools,
    tunnel,
    ue,
    unwrap,
)
from tests.contract.engine_packets import UDP, network, packet, parse
from tests.contract.engine_services import difference
from tests.contract.engine_vpp import vpp_prefix
from tests.contract.vpp_graph import Graph
from tests.contract.vpp_gtpu import (
    ALL,
    FIB,
    NETWORK,
    OTHER_ROUTERS,
    PEERS,
    ROUTERS,
    gateway,
    programme,
    setting,
    up,
)

from vpp_operator.dataplane.records import GtpuSwitch, Protocol, Record

TUNNELS = int(os.environ.get("VPP_OPERATOR_TEST_TUNNELS", "20000"))
THEIRS = "192.0.9.70"
"""Address of a tunnel of VPP's own gtpu plugin."""
WITH_GTPU = ("plugins { plugin gtpu_plugin.so { enable } }",)


def _their_tunnel(g: Graph) -> None:
    g.cli(
        f"set interface ip address {PEERS} {THEIRS}/24",
        f"create gtpu tunnel src {THEIRS} dst {O4.peer} teid 77 tteid 78 encap-vrf-id 0 decap-next ip4",
        "enable ip4 interface gtpu_tunnel0",
    )


def _to_them() -> bytes:
    from scapy.contrib.gtp import GTP_U_Header

    inner = packet(Protocol.UDP, ("10.70.0.1", 1), (I4.host, 2))
    return (
        bytes(network(O4.peer, THEIRS) / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=77, gtp_type=255))
        + inner
    )


@pytest.mark.parametrize("first", ["theirs", "ours"])
async def test_the_port_is_shared_with_vpps_own_gtpu(first: str) -> None:
    with gateway(options=WITH_GTPU) as g:
        g.cli(f"ip route add 10.70.0.0/16 via {I4.host} {NETWORK}")
        records = [*gtpu(O4), setting(ALL & ~GtpuSwitch.BYPASS)]
        theirs, ours = _to_them(), gtp(O4, up(I4))

        def arrived() -> list[bool]:
            out = g.send(PEERS, [theirs, ours])[NETWORK]
            sources = {parse(p).src for p in out}
            return ["10.70.0.1" in sources, I4.ue in sources]

        if first == "theirs":
            _their_tunnel(g)
            assert arrived() == [True, False]
            await programme(g, records)
        else:
            await programme(g, records)
            assert arrived() == [False, True]
            _their_tunnel(g)
        assert arrived() == [True, True]
        await programme(g, [], records)
        assert arrived() == [True, False]


def _many(peers: int, tunnels: int) -> list[Record]:
    addresses = [ipaddress.ip_address("198.51.100.0") + n for n in range(1, 250)]
    addresses += [ipaddress.ip_address("198.52.0.0") + n for n in range(1, peers - len(addresses) + 1)]
    records: list[Record] = [*pools(), setting(ALL), endpoint(O4)]
    records += [peer(O4, str(a)) for a in addresses]
    first = int(ipaddress.ip_address("10.60.0.0"))
    for n in range(tunnels):
        records.append(tunnel(O4, local_teid=n + 1, remote_teid=n + 1, remote=addresses[n % len(addresses)]))
        if n < 65536:
            records.append(ue(O4, f"{ipaddress.ip_address(first + n)}/32", n + 1))
    return records


def _stops(g: Graph) -> int:
    found = re.search(r"workers stopped (\d+) times", g.engine.cli("show kgtpu peers max 1"))
    assert found
    return int(found[1])


def _papi(g: Graph) -> object:
    from vpp_papi import VPPApiClient

    prefix = vpp_prefix()
    assert prefix is not None
    files = [str(f) for f in Path(prefix / "share" / "vpp" / "api").rglob("*.api.json")]
    client = VPPApiClient(apifiles=files, server_address=str(g.engine.socket_path), use_socket=True)
    client.connect("flaps")
    return client


async def test_route_flaps_stop_no_worker() -> None:
    """1,000 changes of the route of 1,000 peers, whatever the number of their tunnels."""
    with gateway(workers=1, **{"gtpu-peers": 1024, "tunnels": TUNNELS, "ues": 65536}) as g:
        g.cli(f"ip route add 198.52.0.0/16 via {ROUTERS[4]} {PEERS}")
        await programme(g, _many(1000, TUNNELS))
        client = _papi(g)
        try:
            interface = next(
                i.sw_if_index
                for i in client.api.sw_interface_dump()
                if i.interface_name == PEERS  # type: ignore[attr-defined]
            )

            def move(router: str) -> None:
                path = {
                    "sw_if_index": interface,
                    "proto": 0,
                    "nh": {"address": {"ip4": ipaddress.ip_address(router)}},
                    "n_labels": 0,
                    "label_stack": [{}] * 16,
                }
                reply = client.api.ip_route_add_del(  # type: ignore[attr-defined]
                    is_add=1,
                    is_multipath=0,
                    route={"table_id": 0, "prefix": "198.52.0.0/16", "n_paths": 1, "paths": [path]},
                )
                assert reply.retval == 0

            for n in range(4):
                move((OTHER_ROUTERS, ROUTERS)[n % 2][4])
            before = _stops(g)
            own = _stops(g) - before  # what reading the figure costs
            before, start = _stops(g), time.monotonic()
            for n in range(1000):
                move((OTHER_ROUTERS, ROUTERS)[n % 2][4])
            took, stops = time.monotonic() - start, _stops(g) - before - own
            print(f"{TUNNELS} tunnels: 1,000 changes in {took:.2f} s, workers stopped {stops} times for them")
            assert stops <= 0
            shown = g.engine.cli("show kgtpu peers max 300")
            assert "way changed 100" in shown
            out = g.send(NETWORK, [packet(Protocol.UDP, (I4.host, 1), ("10.60.3.3", 2))])
            assert len(out[PEERS]) == 1
        finally:
            client.disconnect()  # type: ignore[attr-defined]


SWITCHES = {
    "lookupCache": [setting(ALL), setting(ALL & ~GtpuSwitch.LOOKUP_CACHE)],
    "prefetch": [setting(ALL), setting(ALL & ~GtpuSwitch.PREFETCH)],
    "skipInnerIpInput": [setting(ALL), setting(ALL & ~GtpuSwitch.SKIP_INNER_IP_INPUT)],
    "gtpuBypass-feature": [setting(ALL), setting(ALL & ~GtpuSwitch.BYPASS)],
    "gtpuBypass-fib": [setting(ALL), setting(ALL | FIB)],
    "skipOuterLookup": [setting(ALL), setting(ALL & ~GtpuSwitch.SKIP_OUTER_LOOKUP)],
    "loop": [setting(ALL, width) for width in (4, 1, 2)],
}
"""The states that each is switched through, the first again after the last."""
TOGGLES = int(os.environ.get("VPP_OPERATOR_TEST_TOGGLES", "100"))


@pytest.mark.parametrize("name", SWITCHES)
async def test_a_switch_toggled_under_load_loses_nothing(name: str) -> None:
    """Packets flow while the switch changes: all come out, with the same bytes."""
    with gateway(workers=1) as g:
        records = gtpu(O4)
        await programme(g, [*records, setting(ALL)])
        ups = [up(i, b"u%03d" % n) for i in (I4, I6) for n in range(32)]
        g.send(PEERS, [gtp(O4, p) for p in ups])  # neighbours and caches are warm
        task = asyncio.create_task(asyncio.to_thread(_flow, g, ups))
        toggled = 0
        async with g.engine.dataplane() as dataplane:
            states = SWITCHES[name]
            while toggled < TOGGLES or not task.done():
                old, new = states[toggled % len(states)], states[(toggled + 1) % len(states)]
                # a setting's old slots are free once every worker has gone round its loop
                while failures := await dataplane.apply(difference([old], [new])):
                    assert [f.code for f in failures] == [-errno.ENOSPC]
                    await asyncio.sleep(0.01)
                toggled += 1
        sent, out = await task
        assert toggled >= TOGGLES
        assert len(out) == sent, f"{sent - len(out)} of {sent} lost in {toggled} toggles: {g.errors()}"
        assert sorted(set(out)) == sorted({hop(p) for p in ups})


def _flow(g: Graph, ups: list[bytes]) -> tuple[int, list[bytes]]:
    repeat = 300
    out = g.send(PEERS, [gtp(O4, p) for p in ups], times=repeat, limit=120, rate=4000)
    return len(ups) * repeat, out[NETWORK]


@pytest.mark.parametrize("workers", [0, 1])
async def test_all_tunnels_of_a_full_table_change_at_once(workers: int) -> None:
    """What the old ones held is used again within the call, however few are spare."""
    n = 600
    bases = [*pools(), endpoint(O4), peer(O4), peer(O4, O4.other_peer)]

    def tunnels(remote_teid: int) -> list[Record]:
        records: list[Record] = []
        for k in range(n):
            prefix = f"10.60.{k // 250}.{k % 250 + 1}/32"
            records += [
                tunnel(O4, local_teid=1 + k, remote_teid=remote_teid + k),
                ue(O4, prefix, 1 + k),
            ]
        return records

    with gateway(workers=workers, tunnels=n, ues=n) as g:
        old: list[Record] = []
        for remote_teid in (1, 70000, 1, 70000):
            new = [*bases, *tunnels(remote_teid)]
            await programme(g, new, old)
            old = new
        out = g.send(NETWORK, [packet(Protocol.UDP, (I4.host, 53), ("10.60.1.7", 4000))])
        fields, _ = unwrap(out[PEERS][0])
        assert fields["teid"] == 70000 + 256
