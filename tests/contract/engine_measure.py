"""How fast the embedded host is on this machine: ``python -m tests.contract.engine_measure``.

Prints ratios within one run; nothing here is asserted, since absolute numbers are the machine's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.contract.engine_gtpu import I4, O4, gtpu
from tests.contract.engine_lab import Wire, add_host_link, namespaces, run
from tests.contract.engine_node import Node, node_with_pods
from tests.contract.engine_packets import addresses, packet
from tests.contract.engine_process import embedded_engine
from tests.contract.engine_services import USABLE, V4, Service, difference, settings

from vpp_operator.dataplane.protocol import Batch
from vpp_operator.dataplane.records import (
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Table,
    digest,
)

SERVICES = 10_000
ENDPOINTS_EACH = 10


async def programming() -> None:
    """Typed objects -> packed records -> programmed, results read; then all dumped and compared."""
    capacity = {"services": 16384, "frontends": 16384, "endpoints": 131072}
    with namespaces("rate") as [namespace], embedded_engine(namespace, capacity=capacity) as engine:
        add_host_link(namespace)
        engine.start()
        async with engine.dataplane() as dataplane:
            base = int(ipaddress.ip_address("10.128.0.0"))
            records: list[Record] = []
            for i in range(SERVICES):
                records.append(ServiceRecord(i + 1, 4, Protocol.TCP))
                vip = ipaddress.IPv4Address(base + i)
                records.append(FrontendRecord(4, Protocol.TCP, 80, vip, i + 1, FrontendKind.CLUSTER_IP))
                records += [
                    EndpointRecord(i + 1, ipaddress.IPv4Address(base + (1 << 20) + i * 16 + k), 8080, USABLE)
                    for k in range(ENDPOINTS_EACH)
                ]
            start = time.perf_counter()
            packed: dict[Table, list[bytes]] = {table: [] for table in Table}
            for record in records:
                packed[record.TABLE].append(record.pack())
            between = time.perf_counter()
            failures = await dataplane.apply(Batch(upserts=packed))
            end = time.perf_counter()
            assert not failures, failures[:3]
            n = len(records)
            print(f"programming, {n} distinct records from typed objects: {n / (end - start):,.0f}/s")
            print(
                f"  packing {n / (between - start):,.0f}/s; packed to programmed {n / (end - between):,.0f}/s"
            )
            start = time.perf_counter()
            found = 0
            for table in Table:
                values = {digest(raw) for raw in packed[table]}
                async for piece in dataplane.dump(table):
                    found += sum(value in values for _, value in piece)
            print(f"  dump and compare: {n / (time.perf_counter() - start):,.0f}/s, {found} of {n} found")
            wire = Wire(namespace)
            last = str(ipaddress.IPv4Address(base + SERVICES - 1))
            # No source translation is set up here, so that only a pod of this node is served.
            pods = PrefixRecord(ipaddress.ip_network(V4.pods), PrefixClass.POD)
            assert await dataplane.apply(difference([], [pods])) == []
            there = wire.exchange(packet(Protocol.TCP, (V4.pod, 40000), (last, 80)))
            print(f"  the last service forwards to {addresses(there.packet)[1]}")
            wire.close()


async def small_packets(flows: int, program: Path) -> None:
    """64-byte frames of known flows, as fast as one worker takes them."""
    with namespaces("pps") as [namespace], embedded_engine(namespace) as engine:
        add_host_link(namespace)
        engine.start()
        async with engine.dataplane() as dataplane:
            service = Service("udp", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
            assert await dataplane.apply(difference([], settings() + service.records())) == []

            def flood(seconds: float) -> int:
                command = [program, "vpp0", V4.pod, V4.vip, 80, flows, seconds]
                line = namespace.command(*map(str, command))
                return int(subprocess.run(line, check=True, capture_output=True, text=True).stdout)

            await asyncio.to_thread(flood, 0.5)
            before = await dataplane.stats()
            start = time.perf_counter()
            sent = await asyncio.to_thread(flood, 3.0)
            seconds = time.perf_counter() - start
            after = await dataplane.stats()
            path, old = after.paths["service"], before.paths["service"]
            handled = after.counters["linkTxPackets"] - before.counters["linkTxPackets"]
            lost = after.counters["linkRxRingFull"] - before.counters["linkRxRingFull"]
            clocks = (path.clocks - old.clocks) / max(1, path.packets - old.packets)
            print(
                f"64-byte frames, {flows} flows, 1 worker: {handled / seconds:,.0f}/s there and back "
                f"(offered {sent / seconds:,.0f}/s, ring full {lost / seconds:,.0f}/s), "
                f"kernels {clocks:.0f} clocks each"
            )


async def tunnels(program: Path) -> None:
    """What GTP-U costs the packets of Services, and packets into a tunnel cost; in turns."""
    with namespaces("gtpu") as [namespace], embedded_engine(namespace) as engine:
        add_host_link(namespace)
        engine.start()
        async with engine.dataplane() as dataplane:
            service = Service("udp", 4, Protocol.UDP, 80, ((V4.endpoints[0], 80),), vip=V4.vip)
            without = settings() + service.records()
            with_tunnel = gtpu(O4) + service.records()

            async def clocks(destination: str, *paths: str) -> float:
                command = [program, "vpp0", V4.pod, destination, 80, 1000, 1.0]
                before = (await dataplane.stats()).paths
                await asyncio.to_thread(run, *namespace.command(*map(str, command)))
                after = (await dataplane.stats()).paths
                return sum(
                    (after[p].clocks - before[p].clocks) / max(1, after[p].packets - before[p].packets)
                    for p in paths
                )

            found: dict[str, list[float]] = {"none": [], "endpoint": [], "encapsulation": []}
            for _ in range(5):
                assert await dataplane.apply(difference(with_tunnel, without)) == []
                found["none"].append(await clocks(V4.vip, "service"))
                assert await dataplane.apply(difference(without, with_tunnel)) == []
                found["endpoint"].append(await clocks(V4.vip, "service"))
                found["encapsulation"].append(await clocks(I4.ue, "service", "gtpuEncap"))
            medians = {name: sorted(values)[2] for name, values in found.items()}
            print(
                "clocks of the kernels, medians of 5: a Service's packet without GTP-U "
                f"{medians['none']:.0f}, with an endpoint {medians['endpoint']:.0f}; "
                f"into a tunnel {medians['encapsulation']:.0f}"
            )


def iperf(node: Node, target: str, port: int, seconds: int = 4) -> float:
    """Gbit/s of one TCP connection from the client pod."""
    server = subprocess.Popen(
        node.servers.command("iperf3", "-s", "-1", "-p", "8080", "-B", V4.endpoints[0]),
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        command = node.client.command("iperf3", "-J", "-t", str(seconds), "-c", target, "-p", str(port))
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
    finally:
        server.terminate()
        server.wait()


NFT_DNAT = (
    "add table ip compare; "
    "add chain ip compare nat { type nat hook prerouting priority dstnat; }; "
    "add rule ip compare nat ip daddr 10.99.0.10 tcp dport 80 dnat to %s:8080"
)


async def large_frames() -> None:
    """One TCP connection: direct, through an nftables DNAT as kube-proxy's, through the engine; in turns."""
    with node_with_pods() as node, embedded_engine(node.host) as engine:
        engine.start()
        async with engine.dataplane() as dataplane:
            service = Service("web", 4, Protocol.TCP, 80, ((V4.endpoints[0], 8080),), vip=V4.vip)
            assert await dataplane.apply(difference([], settings() + service.records())) == []
            await asyncio.to_thread(run, *node.host.command("nft", NFT_DNAT % V4.endpoints[0]))
            results: dict[str, list[float]] = {"direct": [], "nftables": [], "engine": []}
            for _ in range(3):
                node.route_services(False)
                results["direct"].append(await asyncio.to_thread(iperf, node, V4.endpoints[0], 8080))
                results["nftables"].append(await asyncio.to_thread(iperf, node, "10.99.0.10", 80))
                node.route_services(True)
                results["engine"].append(await asyncio.to_thread(iperf, node, V4.vip, 80))
            means = {name: sum(values) / len(values) for name, values in results.items()}
            print("one TCP connection, Gbit/s:", {k: [round(v, 1) for v in vs] for k, vs in results.items()})
            print(
                f"  engine/direct {means['engine'] / means['direct']:.2f}, "
                f"engine/nftables {means['engine'] / means['nftables']:.2f}"
            )


async def main() -> None:
    """Run all of them."""
    compiler = shutil.which("cc") or "cc"
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "flood"
        source = Path(__file__).with_name("engine_flood.c")
        await asyncio.to_thread(run, compiler, "-O2", "-Wall", "-o", str(program), str(source))
        await programming()
        for flows in (1, 10_000):
            await small_packets(flows, program)
        await tunnels(program)
        await large_frames()


if __name__ == "__main__":
    asyncio.run(main())
