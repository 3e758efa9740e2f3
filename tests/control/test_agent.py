"""The whole agent: a real API server before it and the real embedded engine behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cluster.controlplane import ControlPlane
from tests.cluster.paths import REPOSITORY
from tests.cluster.ports import free_port
from tests.contract.engine_lab import Namespace
from tests.contract.engine_process import EmbeddedEngine, embedded_engine
from tests.control import agent_access as make
from tests.control.agent_access import running, until

from vpp_operator.agent.app import Agent
from vpp_operator.agent.settings import Bind, Settings
from vpp_operator.agent.steering import Network
from vpp_operator.dataplane.embedded import EmbeddedDataplane
from vpp_operator.dataplane.protocol import Batch
from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    EndpointRecord,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Table,
)
from vpp_operator.kube import ApiAccess, ApiError
from vpp_operator.node.spec import IpAddress, NodeSpec

NODE = "agent-node"
DATAPLANE = f"/apis/vpp-operator.dev/v1alpha1/dataplanes/{NODE}"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with make.agent_plane() as running_plane:
        yield running_plane


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace("agent")
    yield made
    made.delete()


@pytest.fixture
def engine(namespace: Namespace) -> Iterator[EmbeddedEngine]:
    sizes = {"sessions": 1024, "services": 2048, "frontends": 4096, "endpoints": 16384}
    with embedded_engine(namespace, capacity=sizes) as made:
        made.start(wait_for_links=False)
        yield made


@pytest.fixture
async def admin(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    """The administrator, with a Node and its Dataplane; what a test makes is removed."""
    async with ApiAccess(make.administrator(plane, tmp_path), user_agent="test") as api:
        await make.apply_node(api, NODE)
        await apply_dataplane(api)
        yield api
        for path in (make.SERVICES, make.SLICES):
            for item in (await api.read(path))["items"]:
                if item["metadata"]["name"] != "kubernetes":
                    await api.request("DELETE", f"{path}/{item['metadata']['name']}")
        for path in (DATAPLANE, f"/api/v1/nodes/{NODE}"):
            with contextlib.suppress(ApiError):
                await api.request("DELETE", path)


async def apply_dataplane(api: ApiAccess, **spec: Any) -> None:
    body = {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "Dataplane",
        "metadata": {"name": NODE},
        "spec": spec,
    }
    await api.apply(DATAPLANE, body, field_manager="operator")


def new_agent(
    plane: ControlPlane, folder: Path, engine: EmbeddedEngine, network: Network | None = None, **more: Any
) -> Agent:
    """An agent that leaves this machine's network alone, unless it is given a stand-in for it."""
    settings = Settings(
        node_name=NODE,
        socket=engine.socket_path,
        run_dir=folder,
        state_dir=folder / "state",
        health=Bind("127.0.0.1", free_port()),
        metrics=Bind("127.0.0.1", free_port()),
        figures=Bind("127.0.0.1", free_port()),
        **more,
    )
    return Agent(settings, make.access(plane, folder), EmbeddedDataplane(engine.socket_path), network)


async def get(bind: Bind, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{bind.host}:{bind.port}{path}") as response:
            return response.status, await response.text()


async def held(engine: EmbeddedEngine, table: Table) -> list[bytes]:
    """What the engine really holds, read over a connection of the test's own."""
    async with engine.dataplane() as dataplane:
        keys = [key async for chunk in dataplane.dump(table) for key, _ in chunk]
        return await dataplane.fetch(table, keys)


async def endpoints(engine: EmbeddedEngine) -> set[str]:
    return {str(EndpointRecord.unpack(raw).address) for raw in await held(engine, Table.ENDPOINT)}


async def make_service(api: ApiAccess, name: str, *addresses: str, **spec: Any) -> None:
    await make.create(api, make.SERVICES, make.service(name, **spec))
    await make.create(api, make.SLICES, make.endpoint_slice(f"{name}-1", name, list(addresses)))


async def status(api: ApiAccess) -> dict[str, Any]:
    found: dict[str, Any] = (await api.read(DATAPLANE)).get("status") or {}
    return found


async def condition(api: ApiAccess, kind: str) -> dict[str, Any]:
    found = (await status(api)).get("conditions") or ()
    return next((c for c in found if c["type"] == kind), {})


async def until_condition(api: ApiAccess, kind: str, **want: str) -> dict[str, Any]:
    async with asyncio.timeout(make.WAIT_SECONDS):
        while True:
            found = await condition(api, kind)
            if all(found.get(field) == value for field, value in want.items()):
                return found
            await asyncio.sleep(0.1)


async def test_programs_the_cluster_and_reports(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    dual = {"ipFamilyPolicy": "RequireDualStack", "type": "NodePort"}
    await make_service(admin, "one", "10.244.7.2", "10.244.8.2", **dual)
    six = make.endpoint_slice("one-6", "one", ["fd00:10:244:7::2"], family="IPv6")
    await make.create(admin, make.SLICES, six)
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        service = await admin.read(f"{make.SERVICES}/one")
        frontends = [FrontendRecord.unpack(raw) for raw in await held(engine, Table.FRONTEND)]
        addresses = {str(f.address) for f in frontends if f.address is not None and f.port == 80}
        assert addresses == set(service["spec"]["clusterIPs"])
        node_port = service["spec"]["ports"][0]["nodePort"]
        assert {(f.family, f.port) for f in frontends if f.address is None} == {
            (4, node_port),
            (6, node_port),
        }
        # default/kubernetes has an endpoint only where an API server publishes itself.
        assert await endpoints(engine) == {"10.244.7.2", "10.244.8.2", "fd00:10:244:7::2"}

        prefixes = [PrefixRecord.unpack(raw) for raw in await held(engine, Table.PREFIX)]
        of_class = {c: {str(p.network) for p in prefixes if p.prefix_class == c} for c in PrefixClass}
        assert of_class[PrefixClass.POD] == {"10.244.7.0/24", "fd00:10:244:7::/64"}
        assert of_class[PrefixClass.SERVICE] == {"10.96.0.0/16", "fd00:10:96::/112"}
        assert of_class[PrefixClass.HOST] >= {"192.0.2.7/32", "2001:db8::7/128"}
        config = [ConfigRecord.unpack(raw) for raw in await held(engine, Table.CONFIG)]
        assert {str(c.address) for c in config if c.key == ConfigKey.SNAT_ADDRESS} == {
            "192.0.2.7",
            "2001:db8::7",
        }

        await until_condition(admin, "Ready", status="True")
        found = await status(admin)
        assert found["services"]["summary"] == "2/2" and found["engine"] == "embedded"
        assert {entry["kind"] for entry in found["synced"]} == {
            "Service",
            "EndpointSlice",
            "Node",
            "ServiceCIDR",
            "GtpuEndpoint",
            "GtpuTunnel",
            "GtpuTunnelSet",
        }
        assert found["problemCount"] == 0
        assert await get(agent.settings.health, "/readyz") == (200, "ok\n")
        assert (await get(agent.settings.health, "/healthz"))[0] == 200
        code, text = await get(agent.settings.metrics, "/metrics")
        assert code == 200 and "vpp_operator_synced 1.0" in text
        assert 'vpp_operator_records_desired{table="endpoint"} 3.0' in text
        assert text.count("vpp_operator_service_sessions{") == 2


async def test_a_restart_plans_nothing_and_changes_follow(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    for i in range(20):
        await make_service(admin, f"r{i}", f"10.244.7.{i + 1}")
    first = new_agent(plane, tmp_path, engine)
    async with running(first.run()):
        await until(lambda: first.loop.settled_once)
        assert first.loop.figures.upserts > 60
    before = {table: sorted(await held(engine, table)) for table in Table}

    second = new_agent(plane, tmp_path, engine)
    async with running(second.run()):
        await until(lambda: second.loop.settled_once)
        figures = second.loop.figures
        assert (figures.batches, figures.upserts, figures.deletes) == (0, 0, 0)
        assert {table: sorted(await held(engine, table)) for table in Table} == before
        changed = make.endpoint_slice("r3-1", "r3", ["10.244.9.9"])
        await admin.request("PUT", f"{make.SLICES}/r3-1", body=changed)
        await until(lambda: figures.deletes == 1)
        assert (figures.upserts, figures.deletes) == (1, 1)
        found = await endpoints(engine)
        assert "10.244.9.9" in found and "10.244.7.4" not in found


async def test_an_absent_api_server_takes_nothing_away(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    for i in range(5):
        await make_service(admin, f"k{i}", f"10.244.7.{i + 1}")
    first = new_agent(plane, tmp_path, engine)
    async with running(first.run()):
        await until(lambda: first.loop.settled_once)
        await asyncio.to_thread(plane.stop_apiserver)
        await until(lambda: first.watches["EndpointSlice"].figures.failures >= 2)
        assert len(await endpoints(engine)) == 5 and first.not_ready() == ""
    # A new process that cannot reach the API server knows nothing and removes nothing.
    second = new_agent_without_account(tmp_path, plane, engine)
    async with running(second.run()):
        await until(lambda: second.loop.connected() and second.watches["Service"].figures.failures >= 2)
        assert len(await endpoints(engine)) == 5
        assert (await get(second.settings.health, "/readyz"))[0] == 503
        assert (await get(second.settings.health, "/healthz"))[0] == 200
        await asyncio.to_thread(plane.start_apiserver)
        await make_service(admin, "k-new", "10.244.7.100")
        await until(lambda: second.loop.settled_once)
        await until(lambda: second.loop.figures.upserts > 0)
        figures = second.loop.figures
        assert figures.deletes == 0 and figures.upserts == 3, (
            "the difference only: service, frontend, endpoint"
        )


def new_agent_without_account(folder: Path, plane: ControlPlane, engine: EmbeddedEngine) -> Agent:
    """As :func:`new_agent`, with the token that is there already (no API server to ask for one)."""
    from vpp_operator.kube import Access, ServerList, TokenFile, parse_servers

    access = Access(
        ServerList(parse_servers(plane.server)), plane.authority, TokenFile(folder / "token"), "default"
    )
    settings = Settings(
        node_name=NODE,
        socket=engine.socket_path,
        run_dir=folder,
        state_dir=folder / "state",
        health=Bind("127.0.0.1", free_port()),
        metrics=Bind("127.0.0.1", free_port()),
        figures=Bind("127.0.0.1", free_port()),
    )
    return Agent(settings, access, EmbeddedDataplane(engine.socket_path), None)


async def test_a_broken_slice_is_reported_and_the_others_go_on(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_service(admin, "good", "10.244.7.1")
    await make.create(admin, make.SERVICES, make.service("odd"))
    broken = make.endpoint_slice("odd-1", "odd", ["10.244.7.400"])
    await make.store(plane, "/registry/endpointslices/default/odd-1", broken)
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        assert await endpoints(engine) == {"10.244.7.1"}
        await until_condition(admin, "Ready", status="True")
        await until_condition(admin, "Degraded", status="True", reason="Problems")
        found = await status(admin)
        assert found["services"]["summary"] == "2/3"
        assert [(p["name"], p["reason"]) for p in found["problems"]] == [("odd-1", "Invalid")]
        assert "10.244.7.400" in found["problems"][0]["message"]
        fixed = make.endpoint_slice("odd-1", "odd", ["10.244.7.2"])
        await admin.request("DELETE", f"{make.SLICES}/odd-1")
        await make.create(admin, make.SLICES, fixed)
        await until_condition(admin, "Degraded", status="False")
        assert await endpoints(engine) == {"10.244.7.1", "10.244.7.2"}


async def test_a_full_table_is_said_on_the_service_that_did_not_fit(
    plane: ControlPlane, admin: ApiAccess, namespace: Namespace, tmp_path: Path
) -> None:
    sizes = {"sessions": 1024, "services": 256, "frontends": 512, "endpoints": 1024}
    with embedded_engine(namespace, capacity=sizes) as small:
        small.start(wait_for_links=False)
        agent = new_agent(plane, tmp_path, small)
        async with running(agent.run()):
            await until(lambda: agent.loop.settled_once)
            assert agent.loop.info is not None
            room = agent.loop.info.capacity["endpoints"]
            await make.create(admin, make.SERVICES, make.service("big"))
            number = 0
            while number <= room:
                part = [f"10.1.{(number + i) // 250}.{(number + i) % 250 + 1}" for i in range(500)]
                await make.create(admin, make.SLICES, make.endpoint_slice(f"big-{number}", "big", part))
                number += 500
            full = await until_condition(admin, "CapacityExceeded", status="True")
            assert "runtime.capacity.endpoints" in full["message"]
            found = await status(admin)
            assert [(p["name"], p["reason"]) for p in found["problems"]] == [("big", "CapacityExceeded")]
            await make_service(admin, "late", "10.2.0.1")
            await until(lambda: agent.loop.pending() == 0 and agent.services.total() == 3)
            await admin.request("DELETE", f"{make.SERVICES}/big")
            await until_condition(admin, "Degraded", status="False")
            assert await endpoints(small) == {"10.2.0.1"}


async def test_what_was_changed_behind_its_back_is_mended(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    for i in range(5):
        await make_service(admin, f"m{i}", f"10.244.7.{i + 1}")
    agent = new_agent(plane, tmp_path, engine, audit_seconds=1.0)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        before = {table: sorted(await held(engine, table)) for table in Table}
        async with engine.dataplane() as other:
            raw = before[Table.ENDPOINT][0]
            altered = raw[:32] + bytes([raw[32] ^ 1]) + raw[33:]
            lost = before[Table.FRONTEND][0][:32]
            await other.apply(Batch({Table.ENDPOINT: [altered]}, {Table.FRONTEND: [lost]}))
        assert {table: sorted(await held(engine, table)) for table in Table} != before
        await until(lambda: agent.loop.figures.mended == 2)
        await until(lambda: agent.loop.pending() == 0)
        assert {table: sorted(await held(engine, table)) for table in Table} == before


async def test_an_engine_that_lost_everything_is_programmed_anew(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_service(admin, "again", "10.244.7.1")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        before = {table: sorted(await held(engine, table)) for table in Table}
        # The first report may come before the engine was reached.
        await until_condition(admin, "Ready", status="True")
        engine.kill()
        await until_condition(admin, "Ready", status="False", reason="EngineUnreachable")
        engine.region_path.unlink()
        engine.start(wait_for_links=False)
        await until_condition(admin, "Ready", status="True")
        assert {table: sorted(await held(engine, table)) for table in Table} == before
        connects, upserts = agent.loop.figures.connects, agent.loop.figures.upserts
        # With its region kept there is nothing to do.
        engine.kill()
        engine.start(wait_for_links=False)
        await until(lambda: agent.loop.figures.connects > connects and agent.loop.connected())
        await asyncio.sleep(0.2)
        assert agent.loop.figures.upserts == upserts
        assert {table: sorted(await held(engine, table)) for table in Table} == before


async def test_paused_changes_nothing_and_goes_on_afterwards(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await apply_dataplane(admin, paused=True)
    await make_service(admin, "waits", "10.244.7.1")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        paused = await until_condition(admin, "Programmed", reason="Paused")
        assert "changes wait" in paused["message"]
        assert await held(engine, Table.SERVICE) == []
        await apply_dataplane(admin, paused=False)
        await until_condition(admin, "Programmed", status="True")
        assert await endpoints(engine) == {"10.244.7.1"}
        await apply_dataplane(admin, paused=True)
        await until(lambda: agent.loop.paused)
        await make_service(admin, "later", "10.244.7.2")
        await until_condition(admin, "Programmed", reason="Paused")
        assert await endpoints(engine) == {"10.244.7.1"}


async def test_runs_without_a_dataplane_object(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await admin.request("DELETE", DATAPLANE)
    await make_service(admin, "default", "10.244.7.1")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        assert await endpoints(engine) == {"10.244.7.1"}
        assert agent.reporter.writes == 0
        await apply_dataplane(admin)
        await until_condition(admin, "Ready", status="True")


async def test_ready_is_taken_back_from_the_operator(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until_condition(admin, "Ready", status="True")
        unreachable = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "AgentUnreachable",
            "message": "the agent was not Ready for 40 s",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        body = {
            "apiVersion": "vpp-operator.dev/v1alpha1",
            "kind": "Dataplane",
            "metadata": {"name": NODE},
            "status": {"conditions": [unreachable]},
        }
        await admin.apply(f"{DATAPLANE}/status", body, field_manager="operator")
        await until_condition(admin, "Ready", status="True", reason="AsExpected")


async def test_a_quiet_node_writes_nothing(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    agent = new_agent(plane, tmp_path, engine)
    agent.reporter._step = 0.2
    async with running(agent.run()):
        await until_condition(admin, "Ready", status="True")
        agent.reporter._step = 0.2
        agent.reporter._next_figures = 0.0
        agent.reporter.condition_changed()
        await asyncio.sleep(2.0)
        writes, version = agent.reporter.writes, (await admin.read(DATAPLANE))["metadata"]["resourceVersion"]
        await asyncio.sleep(2.0)
        assert agent.reporter.writes == writes
        assert (await admin.read(DATAPLANE))["metadata"]["resourceVersion"] == version


class RecordingNetwork:
    """Stands for this machine's network, which no control test may change."""

    def __init__(self) -> None:
        self.specs: list[NodeSpec] = []
        self.undone = 0
        self.withdrawn: list[IpAddress] = []
        self.announced: list[NodeSpec] = []

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> None:
        spec.validate()
        self.specs.append(spec)

    def joined(self) -> bool:
        return bool(self.specs)

    def withdraw(self, addresses: Collection[IpAddress]) -> None:
        self.withdrawn += addresses

    def announce(self, spec: NodeSpec) -> None:
        self.announced.append(spec)

    def undo(self) -> None:
        self.undone += 1


async def test_the_node_is_steered_and_gets_its_network_back(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_service(admin, "np", "10.244.7.1", type="NodePort", externalIPs=["203.0.113.5"])
    network = RecordingNetwork()
    agent = new_agent(plane, tmp_path, engine, network, node_selector={"role": "edge"})
    async with running(agent.run()):
        await until(lambda: agent.not_ready() == "")
        spec = network.specs[-1]
        node_port = (await admin.read(f"{make.SERVICES}/np"))["spec"]["ports"][0]["nodePort"]
        assert {(p.protocol, p.port) for p in spec.node_ports} == {(6, node_port)}
        assert [(socket.inet_ntoa(t.address), t.port) for t in spec.external] == [("203.0.113.5", 80)]
        assert [(socket.inet_ntoa(t.address), t.port) for t in spec.endpoints] == [("10.244.7.1", 8080)]
        assert {str(n) for n in spec.service_cidrs} == {"10.96.0.0/16", "fd00:10:96::/112"}
        assert [str(a) for a in spec.addresses] == ["192.0.2.7", "2001:db8::7"]
        assert all(s.endpoints for s in network.specs if s.node_ports), "replies first, then traffic"

        path = f"/api/v1/nodes/{NODE}"
        await make.merge(admin, path, {"metadata": {"labels": {"role": "core"}}})
        await until(lambda: network.undone == 1)
        await until_condition(admin, "Ready", status="False", reason="SwitchedOff")
        await make.merge(admin, path, {"metadata": {"labels": {"role": "edge"}}})
        await until_condition(admin, "Ready", status="True")
        assert network.specs[-1] == spec


async def test_sigterm_ends_the_process_and_leaves_everything_in_place(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_service(admin, "stays", "10.244.7.1")
    make.access(plane, tmp_path)
    health = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY / "operator"),
        "NODE_NAME": NODE,
        "API_SERVERS": plane.server,
        "KUBE_CA_FILE": str(plane.authority),
        "KUBE_TOKEN_FILE": str(tmp_path / "token"),
        "POD_NAMESPACE": "default",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vpp_operator.cli", "agent", "--no-steering"),
        f"--figures-bind=127.0.0.1:{free_port()}",
        *(f"--socket={engine.socket_path}", f"--run-dir={tmp_path}", f"--state-dir={tmp_path / 'state'}"),
        *(f"--health-bind=127.0.0.1:{health}", f"--metrics-bind=127.0.0.1:{free_port()}"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(make.WAIT_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    if (await get(Bind("127.0.0.1", health), "/readyz"))[0] == 200:
                        break
                await asyncio.sleep(0.1)
        before = {table: sorted(await held(engine, table)) for table in Table}
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), make.WAIT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, log.decode()
    entries = [json.loads(line) for line in log.decode().splitlines()]
    assert any(entry["event"].startswith("ending") for entry in entries)
    assert {table: sorted(await held(engine, table)) for table in Table} == before
    assert "10.244.7.1" in await endpoints(engine)
