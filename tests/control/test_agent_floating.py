"""Floating endpoints with two whole agents, each with a real engine, on a real API server.

What a node serves is what its network was told last (the part of the node that attracts traffic).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.cluster.ports import free_port
from tests.contract.engine_lab import Namespace
from tests.contract.engine_process import EmbeddedEngine, embedded_engine
from tests.control import agent_access as make
from tests.control.agent_access import merge, until
from tests.control.operator_lab import Wire
from tests.control.test_agent import RecordingNetwork, held

from vpp_operator.agent.app import Agent
from vpp_operator.agent.lease import LeaseTimes
from vpp_operator.agent.settings import Bind, Settings
from vpp_operator.dataplane.embedded import EmbeddedDataplane
from vpp_operator.dataplane.records import Table
from vpp_operator.kube import ApiAccess
from vpp_operator.node.spec import NodeSpec

NODES = ("float-a", "float-b")
ENDPOINTS = "/apis/vpp-operator.dev/v1alpha1/gtpuendpoints"
TUNNELS = "/apis/vpp-operator.dev/v1alpha1/namespaces/default/gtputunnels"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/gtpu-n3"
ADDRESS = "192.0.2.99"
# As in production, a tenth of it.
TIMES = LeaseTimes(duration=4.5, valid=3.0, renew=0.8, retry=0.2, call=1.0)


class ServingNetwork(RecordingNetwork):
    """Knows whether the address is served here, by what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.serving = False

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> None:
        super().apply(spec, verify=verify)
        self.serving = any(steer.own and str(steer.address) == ADDRESS for steer in spec.gtpu)

    def withdraw(self, addresses: Any) -> None:
        super().withdraw(addresses)
        if ADDRESS in map(str, addresses):
            self.serving = False


class Machine:
    """One node: an engine, a network, and agents that come and go."""

    def __init__(self, name: str, plane: ControlPlane, folder: Path, engine: EmbeddedEngine) -> None:
        self.name = name
        self.plane = plane
        self.folder = folder
        self.engine = engine
        self.network = ServingNetwork()
        self.agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, server: str = "") -> Agent:
        assert self._task is None
        settings = Settings(
            node_name=self.name,
            socket=self.engine.socket_path,
            run_dir=self.folder,
            state_dir=self.folder / "state",
            health=Bind("127.0.0.1", free_port()),
            metrics=Bind("127.0.0.1", free_port()),
            figures=Bind("127.0.0.1", free_port()),
            lease_times=TIMES,
        )
        access = make.access(self.plane, self.folder, server)
        self.agent = Agent(settings, access, EmbeddedDataplane(self.engine.socket_path), self.network)
        self._task = asyncio.create_task(self.agent.run())
        return self.agent

    async def stop(self, *, leave: bool = False) -> None:
        """End the agent, as a restart or an upgrade does; ``leave``: by SIGTERM."""
        task, self._task = self._task, None
        if task is None:
            return
        if leave:
            assert self.agent is not None
            await self.agent.leave()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with make.agent_plane() as running_plane:
        yield running_plane


@pytest.fixture
async def admin(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    async with ApiAccess(make.administrator(plane, tmp_path), user_agent="test") as api:
        for number, name in enumerate(NODES, 7):
            path = f"/api/v1/nodes/{name}"
            body = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
            }
            await api.apply(path, body, field_manager="test")
            address = {"type": "InternalIP", "address": f"192.0.2.{number}"}
            await merge(api, f"{path}/status", {"status": {"addresses": [address]}})
            await node_is(api, name, "True")
            dataplane = {
                "apiVersion": "vpp-operator.dev/v1alpha1",
                "kind": "Dataplane",
                "metadata": {"name": name},
            }
            await api.request("POST", "/apis/vpp-operator.dev/v1alpha1/dataplanes", body=dataplane)
        endpoint = {
            "apiVersion": "vpp-operator.dev/v1alpha1",
            "kind": "GtpuEndpoint",
            "metadata": {"name": "n3"},
            "spec": {
                "localAddress": ADDRESS,
                "mode": "Floating",
                "uePools": ["10.45.0.0/16"],
                "allowedNamespaces": ["*"],
            },
        }
        await api.request("POST", ENDPOINTS, body=endpoint)
        tunnel = {
            "apiVersion": "vpp-operator.dev/v1alpha1",
            "kind": "GtpuTunnel",
            "metadata": {"name": "one", "namespace": "default"},
            "spec": {
                "endpointRef": {"name": "n3"},
                "remoteAddress": "192.0.2.200",
                "localTeid": 1,
                "remoteTeid": 2,
                "inner": {"ueAddresses": ["10.45.0.1/32"]},
            },
        }
        await api.request("POST", TUNNELS, body=tunnel)
        yield api
        paths = [f"{TUNNELS}/one", f"{ENDPOINTS}/n3", LEASE]
        for name in NODES:
            paths += [f"/api/v1/nodes/{name}", f"/apis/vpp-operator.dev/v1alpha1/dataplanes/{name}"]
        for path in paths:
            with contextlib.suppress(Exception):
                await api.request("DELETE", path)


@pytest.fixture
async def machines(plane: ControlPlane, admin: ApiAccess, tmp_path: Path) -> AsyncIterator[list[Machine]]:
    sizes = {"sessions": 1024, "services": 64, "frontends": 64, "endpoints": 64, "tunnels": 64}
    with contextlib.ExitStack() as stack:
        made = []
        for name in NODES:
            namespace = Namespace(name)
            stack.callback(namespace.delete)
            engine = stack.enter_context(embedded_engine(namespace, capacity=sizes))
            engine.start(wait_for_links=False)
            folder = tmp_path / name
            folder.mkdir()
            made.append(Machine(name, plane, folder, engine))
        yield made
        for machine in made:
            await machine.stop()


async def node_is(api: ApiAccess, name: str, ready: str) -> None:
    condition = {
        "type": "Ready",
        "status": ready,
        "reason": "Test",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
    }
    await merge(api, f"/api/v1/nodes/{name}/status", {"status": {"conditions": [condition]}})


async def tunnels_on(machine: Machine) -> int:
    return len(await held(machine.engine, Table.GTPU_TUNNEL))


class Witness:
    """Looks all the time, and remembers if ever two nodes served the address."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self.both = 0
        self.none = 0.0

    async def __aenter__(self) -> Witness:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        assert not self.both, "two nodes served the address"

    async def _watch(self) -> None:
        while True:
            serving = sum(machine.network.serving for machine in self._machines)
            self.both += serving > 1
            self.none += 0.01 if not serving else 0.0
            await asyncio.sleep(0.01)


async def first_holder(machines: list[Machine]) -> tuple[Machine, Machine]:
    """Start both agents; the one that serves, and the other."""
    for machine in machines:
        machine.start()
    await until(lambda: any(machine.network.serving for machine in machines), 40)
    holder = next(machine for machine in machines if machine.network.serving)
    other = next(machine for machine in machines if machine is not holder)
    await until(lambda: other.agent is not None and other.agent.not_ready() == "", 40)
    return holder, other


async def test_one_serves_and_a_restart_moves_nothing(machines: list[Machine], admin: ApiAccess) -> None:
    async with Witness(machines) as witness:
        holder, other = await first_holder(machines)
        assert await tunnels_on(holder) == 1 and await tunnels_on(other) == 0
        await until(lambda: bool(holder.network.announced), 10)

        # An agent that is away for longer than the Lease lasts: the node is Ready and goes on.
        await holder.stop(leave=True)
        gone = witness.none
        await asyncio.sleep(2 * TIMES.duration)
        assert holder.network.serving and not other.network.serving
        assert (await admin.read(LEASE))["spec"]["holderIdentity"] == holder.name
        again = holder.start()
        await until(lambda: again.floating.held == {"n3"}, 20)
        await until(lambda: again.not_ready() == "", 20)
        assert holder.network.serving and holder.network.withdrawn == [] and witness.none == gone
        assert again.loop.figures.deletes == 0 and await tunnels_on(holder) == 1
        assert (await admin.read(LEASE))["spec"]["leaseTransitions"] == 1


async def test_a_drained_node_hands_over_at_sigterm(machines: list[Machine], admin: ApiAccess) -> None:
    async with Witness(machines):
        holder, other = await first_holder(machines)
        # kubectl drain cordons first; the agent, a DaemonSet's pod, is stopped when the node goes down.
        await merge(admin, f"/api/v1/nodes/{holder.name}", {"spec": {"unschedulable": True}})
        await asyncio.sleep(1.0)
        assert holder.network.serving
        await holder.stop(leave=True)
        assert not holder.network.serving and holder.network.withdrawn
        await until(lambda: other.network.serving, 10)
        assert await tunnels_on(other) == 1
        # Back, still cordoned: it takes nothing, and what its engine held is gone.
        back = holder.start()
        await until(lambda: back.not_ready() == "", 20)
        assert not holder.network.serving and await tunnels_on(holder) == 0


async def test_a_node_that_is_cut_off_stops_before_another_begins(
    machines: list[Machine], admin: ApiAccess, plane: ControlPlane
) -> None:
    first, second = machines
    with Wire(plane.server) as wire:
        async with Witness(machines):
            first.start(f"https://127.0.0.1:{wire.port}")
            await until(lambda: first.network.serving, 40)
            second.start()
            await until(lambda: second.agent is not None and second.agent.not_ready() == "", 40)
            loop = asyncio.get_running_loop()
            cut = loop.time()
            wire.cut()
            await node_is(admin, first.name, "Unknown")
            await until(lambda: not first.network.serving, 10)
            stopped = loop.time()
            assert not second.network.serving
            await until(lambda: second.network.serving, 15)
            taken = loop.time()
            assert stopped - cut <= TIMES.valid + 0.7
            assert taken - stopped >= (TIMES.duration - TIMES.valid) / 2
            assert taken - cut <= TIMES.duration + 2 * TIMES.renew + 3.0
            assert await tunnels_on(second) == 1

            # An agent that starts on the cut-off node withdraws too, and serves nothing.
            await first.stop()
            first.network.serving = True
            (first.folder / "floating.json").write_text(f'{{"n3":{{"address":"{ADDRESS}","until":0.0}}}}')
            second.network.serving = False  # not to be counted: the kernel of the first is put back by hand
            first.start(f"https://127.0.0.1:{wire.port}")
            await until(lambda: not first.network.serving, 10)


async def test_an_endpoint_that_goes_takes_its_address_along(
    machines: list[Machine], admin: ApiAccess
) -> None:
    async with Witness(machines):
        holder, other = await first_holder(machines)
        # Another node by its labels: it moves there.
        await merge(admin, f"/api/v1/nodes/{other.name}", {"metadata": {"labels": {"n3": "yes"}}})
        selector = {"spec": {"nodeSelector": {"matchLabels": {"n3": "yes"}}}}
        await merge(admin, f"{ENDPOINTS}/n3", selector)
        await until(lambda: other.network.serving, 15)
        assert not holder.network.serving
        await admin.request("DELETE", f"{ENDPOINTS}/n3")
        await until(lambda: not other.network.serving, 15)
        await until(lambda: other.agent is not None and not other.agent.loop.pending(), 15)


async def test_an_engine_that_does_not_come_back_hands_over(
    machines: list[Machine], admin: ApiAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpp_operator.agent.app.ENGINE_GRACE_SECONDS", 3.0)
    async with Witness(machines):
        holder, other = await first_holder(machines)
        # A restart of the engine moves nothing.
        holder.engine.stop()
        await asyncio.sleep(1.0)
        holder.engine.start(wait_for_links=False)
        await until(lambda: holder.agent is not None and holder.agent.loop.connected(), 15)
        assert holder.network.serving
        holder.engine.stop()
        await until(lambda: other.network.serving, 20)
        assert not holder.network.serving
