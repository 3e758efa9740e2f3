"""GTP-U through the agent: a real API server before it, the real embedded engine behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cluster.controlplane import ControlPlane
from tests.contract.engine_lab import Namespace
from tests.contract.engine_process import EmbeddedEngine, embedded_engine
from tests.control import agent_access as make
from tests.control.agent_access import merge, running, until
from tests.control.test_agent import (
    DATAPLANE,
    NODE,
    RecordingNetwork,
    apply_dataplane,
    held,
    new_agent,
    status,
    until_condition,
)

from vpp_operator.agent.app import Agent
from vpp_operator.agent.lease import LeaseTimes
from vpp_operator.api.gtpu_report import AUDIENCE, NodeReport
from vpp_operator.api.problem import Owner
from vpp_operator.controller.agents import AgentAddress, AgentReader
from vpp_operator.controller.facts import decode_dataplane, decode_node
from vpp_operator.controller.gtpu import GtpuController
from vpp_operator.controller.settings import Settings as OperatorSettings
from vpp_operator.controller.state import ClusterState
from vpp_operator.dataplane.records import (
    ConfigKey,
    ConfigRecord,
    GtpuEndpointRecord,
    GtpuSwitch,
    GtpuTunnelRecord,
    PrefixClass,
    PrefixRecord,
    Table,
    UePrefixRecord,
    gtpu_switches,
)
from vpp_operator.kube import ApiAccess, ApiError, TokenFile

GROUP = "/apis/vpp-operator.dev/v1alpha1"
ENDPOINTS = f"{GROUP}/gtpuendpoints"
TUNNELS = f"{GROUP}/namespaces/default/gtputunnels"
SETS = f"{GROUP}/namespaces/default/gtputunnelsets"
READER = "figures-reader"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with make.agent_plane() as running_plane:
        yield running_plane


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace("agtpu")
    yield made
    made.delete()


@pytest.fixture
def engine(namespace: Namespace) -> Iterator[EmbeddedEngine]:
    sizes = {"sessions": 1024, "services": 256, "frontends": 256, "endpoints": 256, "tunnels": 4096}
    with embedded_engine(namespace, capacity=sizes) as made:
        made.start(wait_for_links=False)
        yield made


@pytest.fixture
async def admin(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    async with ApiAccess(make.administrator(plane, tmp_path), user_agent="test") as api:
        await make.apply_node(api, NODE)
        await apply_dataplane(api)
        yield api
        for collection in (TUNNELS, SETS, ENDPOINTS):
            for item in (await api.read(collection))["items"]:
                await api.request("DELETE", f"{collection}/{item['metadata']['name']}")
        for path in (DATAPLANE, f"/api/v1/nodes/{NODE}"):
            await api.request("DELETE", path)


async def make_endpoint(api: ApiAccess, name: str = "n3", address: str = "192.0.2.7", **spec: Any) -> None:
    body = {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "GtpuEndpoint",
        "metadata": {"name": name},
        "spec": {"localAddress": address, "uePools": ["10.45.0.0/16"], "allowedNamespaces": ["*"]} | spec,
    }
    await api.request("POST", ENDPOINTS, body=body)


async def make_tunnel(api: ApiAccess, name: str, teid: int, ue: str, **spec: Any) -> None:
    body = {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "GtpuTunnel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "endpointRef": {"name": "n3"},
            "remoteAddress": "192.0.2.200",
            "localTeid": teid,
            "remoteTeid": teid + 1000,
            "inner": {"ueAddresses": [ue]},
        }
        | spec,
    }
    await api.request("POST", TUNNELS, body=body)


async def make_set(api: ApiAccess, name: str, count: int, teid: int, ue: str) -> None:
    body = {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "GtpuTunnelSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "endpointRef": {"name": "n3"},
            "count": count,
            "localTeidBase": teid,
            "remoteTeidBase": teid,
            "peers": ["192.0.2.201", "192.0.2.202"],
            "ueBase": {"ipv4": ue},
        },
    }
    await api.request("POST", SETS, body=body)


async def tunnels(engine: EmbeddedEngine) -> dict[int, GtpuTunnelRecord]:
    found = [GtpuTunnelRecord.unpack(raw) for raw in await held(engine, Table.GTPU_TUNNEL)]
    return {tunnel.local_teid: tunnel for tunnel in found}


async def until_so(check: Callable[[], Awaitable[object]], seconds: float = make.WAIT_SECONDS) -> None:
    """Wait until what ``check`` returns is true."""
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)


async def _peer_moved(engine: EmbeddedEngine) -> bool:
    return (await tunnels(engine))[1].remote_teid == 77


def programmed(agent: Agent, count: int) -> bool:
    settled = agent.loop.settled_once and not agent.loop.pending() and not agent.gtpu.waiting()
    return settled and agent.loop.desired_count(Table.GTPU_TUNNEL) == count


async def test_tunnels_are_programmed_and_changed_in_place(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_endpoint(admin)
    await make_tunnel(admin, "one", 1, "10.45.0.1/32")
    network = RecordingNetwork()
    agent = new_agent(plane, tmp_path, engine, network)
    async with running(agent.run()):
        await until(lambda: programmed(agent, 1))
        endpoint = GtpuEndpointRecord.unpack((await held(engine, Table.GTPU_ENDPOINT))[0])
        assert str(endpoint.address) == "192.0.2.7"
        assert str((await tunnels(engine))[1].remote) == "192.0.2.200"
        ue = UePrefixRecord.unpack((await held(engine, Table.GTPU_UE))[0])
        assert (str(ue.prefix), ue.local_teid) == ("10.45.0.1/32", 1)
        pools = [PrefixRecord.unpack(raw) for raw in await held(engine, Table.PREFIX)]
        assert [str(p.network) for p in pools if p.prefix_class == PrefixClass.UE_POOL] == ["10.45.0.0/16"]
        await until(lambda: bool(network.specs and network.specs[-1].gtpu))
        spec = network.specs[-1]
        assert [(str(s.address), s.own) for s in spec.gtpu] == [("192.0.2.7", False)]
        assert [str(n) for n in spec.ue_pools] == ["10.45.0.0/16"]

        # The peer moves: one record changes, nothing goes.
        deletes = agent.loop.figures.deletes
        await merge(admin, f"{TUNNELS}/one", {"spec": {"remoteAddress": "192.0.2.210", "remoteTeid": 77}})
        await until_so(lambda: _peer_moved(engine))
        assert str((await tunnels(engine))[1].remote) == "192.0.2.210"
        await until(lambda: not agent.loop.pending())
        # The peer that no tunnel names any more may go, a tunnel or UE prefix must not.
        assert agent.loop.figures.deletes - deletes <= 1

        # A clash: the older one stays, and the newer one is a problem here.
        await asyncio.sleep(1.1)
        await make_tunnel(admin, "two", 1, "10.45.0.2/32")
        await until_condition(admin, "Degraded", status="True")
        found = await status(admin)
        assert [(p["name"], p["reason"]) for p in found["problems"]] == [("two", "Conflict")]
        assert found["tunnels"]["summary"] == "1/1"
        assert [u.local_teid for u in map(UePrefixRecord.unpack, await held(engine, Table.GTPU_UE))] == [1]

        await make_set(admin, "many", 500, 10_000, "10.45.4.0/32")
        await until(lambda: programmed(agent, 501))
        assert len(await tunnels(engine)) == 501

    # A new process on the same engine sends nothing and takes nothing away.
    again = new_agent(plane, tmp_path, engine, network)
    async with running(again.run()):
        await until(lambda: programmed(again, 501))
        assert (again.loop.figures.upserts, again.loop.figures.deletes) == (0, 0)
        assert len(await tunnels(engine)) == 501
        await admin.request("DELETE", f"{SETS}/many")
        await until(lambda: programmed(again, 1))
        assert len(await tunnels(engine)) == 1
        await admin.request("DELETE", f"{ENDPOINTS}/n3")
        await until(lambda: programmed(again, 0))
        assert not await held(engine, Table.GTPU_ENDPOINT) and not await held(engine, Table.GTPU_PEER)
        await until(lambda: not network.specs[-1].gtpu and not network.specs[-1].ue_pools)


async def test_the_address_of_an_endpoint_changes_with_all_its_tunnels(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_endpoint(admin, address="192.0.2.50", mode="Floating")
    await make_tunnel(admin, "one", 1, "10.45.0.1/32")
    await make_set(admin, "many", 300, 10_000, "10.45.4.0/32")
    network = RecordingNetwork()
    times = LeaseTimes(duration=4.5, valid=3.0, renew=0.8, retry=0.2, call=1.0)
    agent = new_agent(plane, tmp_path, engine, network, lease_times=times)
    async with running(agent.run()):
        await until(lambda: programmed(agent, 301))
        before = await held(engine, Table.GTPU_UE)
        batches = agent.loop.figures.batches
        await merge(admin, f"{ENDPOINTS}/n3", {"spec": {"localAddress": "192.0.2.51"}})

        async def moved() -> bool:
            found = [GtpuEndpointRecord.unpack(raw) for raw in await held(engine, Table.GTPU_ENDPOINT)]
            return [str(e.address) for e in found] == ["192.0.2.51"]

        await until_so(moved)
        await until(lambda: programmed(agent, 301))
        assert agent.loop.figures.batches - batches == 1 and agent.loop.figures.refused == 0
        after = await held(engine, Table.GTPU_UE)
        assert len(before) == len(after) == 301 and not set(before) & set(after)
        assert len(await held(engine, Table.GTPU_TUNNEL)) == 301
        await until(
            lambda: [(str(s.address), s.own) for s in network.specs[-1].gtpu] == [("192.0.2.51", True)]
        )


async def test_an_endpoint_of_another_node_is_not_served(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_endpoint(admin, address="192.0.2.8")
    await make_tunnel(admin, "one", 1, "10.45.0.1/32")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        assert agent.gtpu.total() == 0 and not await held(engine, Table.GTPU_ENDPOINT)
        # Selected by its labels only.
        await make_endpoint(
            admin, "other", "192.0.2.7", uePools=["10.46.0.0/16"], nodeSelector={"matchLabels": {"role": "x"}}
        )
        await asyncio.sleep(1.0)
        assert not await held(engine, Table.GTPU_ENDPOINT)
        await merge(admin, f"/api/v1/nodes/{NODE}", {"metadata": {"labels": {"role": "x"}}})
        await until(lambda: agent.gtpu.active == {"other"})
        await until_so(lambda: held(engine, Table.GTPU_ENDPOINT))


OTHER = "agent-other-node"
"""A node without an agent, whose ranges end in 8."""


@pytest.mark.parametrize("pool", ["10.244.8.0/24", "192.0.2.8/32", "10.96.128.0/17"])
async def test_a_pool_of_another_node_is_not_programmed(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path, pool: str
) -> None:
    """Leader and agent come to the same verdict: a pod range, an address, a service range."""

    async def pools() -> set[str]:
        found = [PrefixRecord.unpack(raw) for raw in await held(engine, Table.PREFIX)]
        return {str(p.network) for p in found if p.prefix_class == PrefixClass.UE_POOL}

    await make.apply_node(admin, OTHER, 8)
    await make_endpoint(admin, uePools=[pool])
    await make_tunnel(admin, "one", 1, f"{pool.split('/')[0]}/32")
    state = ClusterState()
    for name in (NODE, OTHER):
        state.nodes[name] = decode_node(await admin.read(f"/api/v1/nodes/{name}"))
    leader = GtpuController(admin, OperatorSettings("leader"), state)
    await leader._read_service_cidrs()
    network = RecordingNetwork()
    agent = new_agent(plane, tmp_path, engine, network)
    async with running(agent.run()), running(leader.run()):
        await until_is(admin, f"{ENDPOINTS}/n3", "Accepted", status="False", reason="OverlapsClusterRange")
        await until_is(admin, f"{TUNNELS}/one", "Accepted", status="False", reason="EndpointNotAccepted")
        await until(lambda: agent.loop.settled_once)
        found = agent.gtpu.table.standing(Owner("GtpuEndpoint", "", "n3"))
        accepted = await condition_of(admin, f"{ENDPOINTS}/n3", "Accepted")
        assert (found.reason, found.message) == (accepted["reason"], accepted["message"])
        assert not await held(engine, Table.GTPU_ENDPOINT) and not await tunnels(engine)
        assert not await pools()
        assert not any(spec.gtpu or spec.ue_pools for spec in network.specs)

        # The other node goes; one that comes takes the pool back.
        await admin.request("DELETE", f"/api/v1/nodes/{OTHER}")
        if pool.startswith("10.96."):
            await asyncio.sleep(0.5)
            assert not await pools()
            return
        await until(lambda: programmed(agent, 1))
        await until_so(pools)
        await make.apply_node(admin, OTHER, 8)
        await until(lambda: programmed(agent, 0))
        await until(lambda: not network.specs[-1].gtpu and not network.specs[-1].ue_pools)
        assert not await held(engine, Table.GTPU_ENDPOINT)
        await admin.request("DELETE", f"/api/v1/nodes/{OTHER}")


async def test_a_node_without_gtpu_does_not_follow_the_others(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_endpoint(admin, address="192.0.2.8")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)
        assert not agent.nodes.known
        await make_endpoint(admin, "here", uePools=["10.46.0.0/16"])
        await until(lambda: agent.nodes.known and agent.gtpu.active == {"here"})


async def test_switches_take_effect_live_and_are_reported(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: agent.loop.settled_once)

        async def value() -> int:
            config = [ConfigRecord.unpack(raw) for raw in await held(engine, Table.CONFIG)]
            return next(c.value for c in config if c.key == ConfigKey.GTPU_SWITCHES)

        default = GtpuSwitch.LOOKUP_CACHE | GtpuSwitch.PREFETCH | GtpuSwitch.BYPASS
        assert await value() == gtpu_switches(default | GtpuSwitch.SKIP_OUTER_LOOKUP, 4)
        await apply_dataplane(admin, tuning={"gtpu": {"lookupCache": False, "loop": "dual"}})
        wanted = gtpu_switches(GtpuSwitch.PREFETCH | GtpuSwitch.BYPASS | GtpuSwitch.SKIP_OUTER_LOOKUP, 2)

        async def switched() -> bool:
            return await value() == wanted

        await until_so(switched)
        async with asyncio.timeout(make.WAIT_SECONDS):
            while True:
                effect = ((await status(admin)).get("tuning") or {}).get("gtpu") or {}
                if effect.get("loop") == "dual":
                    break
                await asyncio.sleep(0.2)
        assert (effect["lookupCache"], effect["prefetch"]) == ("off", "on")
        assert effect["gtpuBypass"] == effect["skipOuterLookup"] == "notApplicable"


# ------------------------------------------------------------------------------------------------- figures


def reader_account(plane: ControlPlane, *, allowed: bool, audience: str = AUDIENCE) -> str:
    """A token of an account that may, or may not, read the figures."""
    name = READER if allowed else f"{READER}-not"
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}
    ]
    if allowed:
        rules = [{"nonResourceURLs": ["/v1/gtpu"], "verbs": ["get"]}]
        rbac = "rbac.authorization.k8s.io"
        documents += [
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
            },
        ]
    make._apply(plane, *documents)
    return plane.kubectl("create", "token", name, f"--audience={audience}" if audience else "").strip()


async def ask(agent: Agent, token: str) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{agent.settings.figures.port}/v1/gtpu"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session:
        async with session.get(url, ssl=context, headers=headers) as response:
            return response.status


async def test_figures_are_for_those_who_may_and_from_the_pinned_server(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    await make_endpoint(admin)
    await make_tunnel(admin, "one", 1, "10.45.0.1/32")
    agent = new_agent(plane, tmp_path, engine)
    async with running(agent.run()):
        await until(lambda: programmed(agent, 1))
        await until_condition(admin, "Ready", status="True")
        assert await ask(agent, "") == 401
        assert await ask(agent, "nonsense") == 401
        # A token for the API server is not taken: whoever holds an agent must not collect those.
        assert await ask(agent, plane.token("default", "test-admin")) == 401
        assert await ask(agent, reader_account(plane, allowed=False)) == 403

        server = (await status(admin))["figures"]
        assert server["port"] == agent.settings.figures.port
        token = tmp_path / "reader"
        token.write_text(reader_account(plane, allowed=True))
        address = AgentAddress(NODE, "127.0.0.1", server["port"], server["certificateSHA256"])
        async with AgentReader(TokenFile(token)) as reader:
            found = await reader.read([address])
            assert [o.name for o in found[NODE].objects] == ["one"]
            assert found[NODE].objects[0].programmed == 1 and found[NODE].endpoints[0].name == "n3"
            # Somebody else's certificate: not read, and the token is not shown.
            other = AgentAddress(NODE, "127.0.0.1", server["port"], "00" * 32)
            assert await reader.read([other]) == {}
            wrong_node = AgentAddress("other", "127.0.0.1", server["port"], server["certificateSHA256"])
            assert await reader.read([wrong_node]) == {}
        # The API server itself takes no such token.
        async with aiohttp.ClientSession() as session:
            context = ssl.create_default_context(cafile=str(plane.authority))
            headers = {"Authorization": f"Bearer {token.read_text()}"}
            url = f"{plane.server}/api/v1/namespaces"
            async with session.get(url, ssl=context, headers=headers) as response:
                assert response.status == 401


# -------------------------------------------------------------------------------------------------- leader


async def condition_of(api: ApiAccess, path: str, kind: str) -> dict[str, Any]:
    conditions = ((await api.read(path)).get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), {})


async def until_is(api: ApiAccess, path: str, kind: str, **want: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(make.WAIT_SECONDS):
            while True:
                found = await condition_of(api, path, kind)
                if all(found.get(field) == value for field, value in want.items()):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{path} {kind}: {found}, not {want}") from None


async def test_the_leader_says_what_is_accepted_programmed_and_carried(
    plane: ControlPlane, admin: ApiAccess, engine: EmbeddedEngine, tmp_path: Path
) -> None:
    token = tmp_path / "reader"
    token.write_text(reader_account(plane, allowed=True))
    state = ClusterState()
    settings = OperatorSettings("leader", figures_token_file=str(token), figures_seconds=1.0)
    leader = GtpuController(admin, settings, state)
    leader.ASK_SECONDS = 0.2

    async def follow() -> None:
        """Stand for the operator's own watches of Nodes and Dataplanes."""
        while True:
            node = decode_node(await admin.read(f"/api/v1/nodes/{NODE}"))
            dataplane = await admin.read(DATAPLANE)
            state.nodes[NODE] = node
            state.dataplanes[NODE] = decode_dataplane(dataplane)
            await asyncio.sleep(0.2)

    await make_endpoint(admin)
    await make_endpoint(admin, "elsewhere", "192.0.2.77", uePools=["10.50.0.0/16"])
    await make_tunnel(admin, "one", 1, "10.45.0.1/32")
    # Who is older shows in seconds.
    await asyncio.sleep(1.1)
    await make_endpoint(admin, "late", "192.0.2.78", uePools=["10.45.128.0/17"])
    await make_tunnel(admin, "two", 1, "10.45.0.2/32")
    await make_tunnel(admin, "outside", 3, "10.99.0.1/32")
    await make_set(admin, "many", 300, 10_000, "10.45.4.0/32")
    agent = new_agent(plane, tmp_path, engine)
    # The agent serves on this machine's loopback, not on the Node's address.
    leader.agents = lambda: [  # type: ignore[method-assign]
        AgentAddress(name, "127.0.0.1", d.status.figures.port, d.status.figures.certificate_sha256)
        for name, d in state.dataplanes.items()
        if d.status.figures is not None
    ]
    async with running(agent.run()), running(follow()), running(leader.run()):
        await until_is(admin, f"{TUNNELS}/one", "Ready", status="True")
        await until_is(admin, f"{TUNNELS}/two", "Accepted", status="False", reason="Conflict")
        await until_is(admin, f"{TUNNELS}/two", "Ready", status="False", reason="Conflict")
        await until_is(admin, f"{TUNNELS}/outside", "Accepted", status="False", reason="OutsidePools")
        await until_is(admin, f"{SETS}/many", "Ready", status="True")
        await until_is(admin, f"{ENDPOINTS}/n3", "Active", status="True")
        await until_is(admin, f"{ENDPOINTS}/late", "Accepted", status="False", reason="Conflict")
        found = await until_is(admin, f"{ENDPOINTS}/elsewhere", "Active", status="False")
        assert found["reason"] == "NoNodeHasAddress" and "192.0.2.77" in found["message"]
        many = (await admin.read(f"{SETS}/many"))["status"]
        assert many["tunnels"]["summary"] == "300/300"
        assert [n["node"] for n in many["nodes"]] == [NODE] and many["totals"]["rxPps"] == 0
        endpoint = (await admin.read(f"{ENDPOINTS}/n3"))["status"]
        assert endpoint["activeNodes"] == [NODE] and endpoint["tunnels"]["summary"] == "301/301"
        assert endpoint["errors"] == 2

        # Nothing changes, nothing is written.
        await asyncio.sleep(2.0)
        writes = leader.writes
        await asyncio.sleep(4.0)
        assert leader.writes == writes

        # The older one goes: the newer one is accepted, and programmed a moment later.
        await admin.request("DELETE", f"{TUNNELS}/one")
        await until_is(admin, f"{TUNNELS}/two", "Ready", status="True")


async def test_a_tunnel_that_does_not_fit_says_so_with_figure_and_remedy(
    plane: ControlPlane, admin: ApiAccess, namespace: Namespace, tmp_path: Path
) -> None:
    sizes = {"sessions": 1024, "services": 256, "frontends": 256, "endpoints": 256, "tunnels": 64}
    await make_endpoint(admin)
    with embedded_engine(namespace, capacity=sizes) as small:
        small.start(wait_for_links=False)
        agent = new_agent(plane, tmp_path, small)
        async with running(agent.run()):
            await until(lambda: agent.loop.settled_once)
            assert agent.loop.info is not None
            room = agent.loop.info.capacity["tunnels"]
            words = (
                f"the table of tunnels is full ({room}); raise runtime.capacity.tunnels in a DataplaneTuning"
            )
            await make_set(admin, "many", room, 10_000, "10.45.4.0/32")
            await until(lambda: programmed(agent, room))
            await make_tunnel(admin, "late", 1, "10.45.0.1/32")

            full = await until_condition(admin, "CapacityExceeded", status="True")
            assert full["message"].startswith(words)
            found = await status(admin)
            assert [(p["name"], p["reason"]) for p in found["problems"]] == [("late", "CapacityExceeded")]
            assert found["tunnels"]["summary"] == f"{room}/{room + 1}"
            reports = {o.name: o for o in (await agent.reports.make()).objects}
            assert (reports["many"].programmed, reports["many"].reason) == (room, "")
            late = reports["late"]
            assert (late.programmed, late.reason) == (0, "CapacityExceeded")
            assert late.message.startswith(f"1 of 1 tunnels are not programmed: {words}")

            await admin.request("DELETE", f"{SETS}/many")
            await until_condition(admin, "Degraded", status="False")
            assert set(await tunnels(small)) == {1}


async def test_a_flood_of_objects_is_written_slowly_enough(
    plane: ControlPlane, admin: ApiAccess, tmp_path: Path
) -> None:
    await make_endpoint(admin)
    for i in range(80):
        await make_tunnel(admin, f"t{i}", 1 + i, f"10.45.1.{i}/32")
    leader = GtpuController(admin, OperatorSettings("leader"), ClusterState())
    report = NodeReport(NODE, True)
    began = asyncio.get_running_loop().time()
    async with running(leader.run()):
        await until(lambda: leader.writes >= 60)
        assert asyncio.get_running_loop().time() - began >= 60 / 20 - 0.1
        leader.take_reports({NODE: report})
        await asyncio.sleep(1.0)
        before = leader.writes
        await asyncio.sleep(2.0)
        assert leader.writes - before <= 2 * 20 + 2
        assert await leader.drain(5.0)
        stopped = leader.writes
        await asyncio.sleep(0.5)
        assert leader.writes == stopped
    with pytest.raises(ApiError):
        await admin.read(f"{TUNNELS}/none")
