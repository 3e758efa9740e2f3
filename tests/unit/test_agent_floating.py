"""Floating endpoints: never two nodes active, whatever happens to agents, nodes and the API server.

The API server here is a model that can be cut off from one node; tests/control/test_agent_floating.py does
the same with a real one.
"""

from __future__ import annotations

import asyncio
import copy
import ipaddress
import random
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import orjson
import pytest

from vpp_operator.agent.floating import FloatingEndpoints
from vpp_operator.agent.lease import FloatingLease, LeaseTimes, lease_name, node_is_gone
from vpp_operator.gtpu.model import Endpoint, IpAddress
from vpp_operator.kube import ApiError

TIMES = LeaseTimes(duration=45.0, valid=30.0, renew=8.0, retry=2.0, call=5.0)
ADDRESS = ipaddress.ip_address("192.0.2.99")


def endpoint(name: str = "n3") -> Endpoint:
    return Endpoint(
        name=name,
        address=ADDRESS,
        pools=(ipaddress.ip_network("10.45.0.0/16"),),
        namespaces=frozenset("*"),
        uid="u1",
        floating=True,
    )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Leases and Nodes, with optimistic concurrency."""

    def __init__(self) -> None:
        self.leases: dict[str, dict[str, Any]] = {}
        self.nodes: dict[str, str] = {}
        self.version = 0
        self.cut: set[str] = set()
        self.writes = 0

    def client(self, node: str) -> Client:
        return Client(self, node)

    def ready(self, node: str, status: str) -> None:
        self.nodes[node] = status


class Client:
    def __init__(self, server: Server, node: str) -> None:
        self.server = server
        self.node = node
        self.before_write: Callable[[], Awaitable[None]] | None = None
        self.lose_answers = False

    async def request(
        self, method: str, path: str, *, body: Any = None, params: Any = None, content_type: str = ""
    ) -> Any:
        if self.node in self.server.cut:
            raise TimeoutError("cut off")
        name = path.rpartition("/")[2]
        if path.startswith("/api/v1/nodes/"):
            if name not in self.server.nodes:
                raise ApiError(404, "NotFound", name)
            ready = {"type": "Ready", "status": self.server.nodes[name]}
            return {"spec": {}, "status": {"conditions": [ready]}}
        leases = self.server.leases
        if method == "GET":
            if name not in leases:
                raise ApiError(404, "NotFound", name)
            return copy.deepcopy(leases[name])
        if self.before_write is not None:
            await self.before_write()
        made = orjson.loads(orjson.dumps(body))
        name = made["metadata"]["name"]
        if method == "POST" and name in leases:
            raise ApiError(409, "AlreadyExists", name)
        if method == "PUT":
            if name not in leases:
                raise ApiError(404, "NotFound", name)
            if made["metadata"]["resourceVersion"] != leases[name]["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", name)
        self.server.version += 1
        self.server.writes += 1
        made["metadata"]["resourceVersion"] = str(self.server.version)
        leases[name] = made
        if self.lose_answers:
            raise TimeoutError("the answer was lost")
        return copy.deepcopy(made)


def lease(server: Server, node: str, clock: Clock, **more: Any) -> FloatingLease:
    return FloatingLease(
        more.pop("client", server.client(node)),
        "system",
        "n3",
        node,
        times=TIMES,
        may_take=more.pop("may_take", lambda: True),
        clock=clock,
        jitter=lambda low, high: high,
        **more,
    )


async def test_one_takes_it_and_the_other_waits() -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    assert await a.step() == TIMES.renew and a.active() and a.known
    await b.step()
    assert not b.active() and b.known and b.holder == "a"
    made = server.leases["gtpu-n3"]
    assert made["spec"]["holderIdentity"] == "a" and made["spec"]["leaseDurationSeconds"] == 45
    assert made["metadata"]["ownerReferences"][0]["kind"] == "GtpuEndpoint" if a.uid else True


async def test_an_expired_lease_of_a_ready_node_is_left_alone() -> None:
    """The agent is away (an upgrade pulls an image for minutes): its node goes on serving the address."""
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    await a.step()
    for _ in range(100):
        clock.now += 8
        await b.step()
    assert not b.active()
    # The agent is back, as a new process: it goes on without the Lease ever having been another's.
    again = lease(server, "a", clock)
    await again.step()
    assert again.active() and server.leases["gtpu-n3"]["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("gone", ["Unknown", ""])
async def test_a_node_that_is_gone_is_replaced_after_the_duration(gone: str) -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    await a.step()
    await b.step()
    if gone:
        server.ready("a", gone)
    else:
        del server.nodes["a"]
    seen = clock.now
    while not b.active():
        assert clock.now - seen < 60
        clock.now += 4
        await b.step()
    assert clock.now - seen >= TIMES.duration and not a.active()
    assert server.leases["gtpu-n3"]["spec"]["leaseTransitions"] == 2


async def test_a_node_cut_off_has_stopped_before_another_takes_over() -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    await a.step()
    server.cut.add("a")
    server.ready("a", "Unknown")
    stopped = taken = 0.0
    while not taken:
        clock.now += 0.5
        await a.step()
        await b.step()
        if not a.active() and not stopped:
            stopped = clock.now
        if b.active():
            taken = clock.now
    assert taken - stopped >= TIMES.duration - TIMES.valid
    # Back again: it sees whose the Lease is.
    server.cut.clear()
    await a.step()
    assert not a.active() and a.holder == "b"


async def test_a_renewal_whose_answer_is_lost_confirms_nothing() -> None:
    server, clock = Server(), Clock()
    client = server.client("a")
    a = lease(server, "a", clock, client=client)
    client.lose_answers = True
    await a.step()
    assert not a.active() and not a.known and server.leases["gtpu-n3"]["spec"]["holderIdentity"] == "a"
    client.lose_answers = False
    clock.now += 2
    began = clock.now
    await a.step()
    assert a.active() and a.until == began + TIMES.valid


async def test_a_slow_renewal_counts_from_before_it_left() -> None:
    server, clock = Server(), Clock()
    client = server.client("a")
    a = lease(server, "a", clock, client=client)

    async def slow() -> None:
        clock.now += 20

    client.before_write = slow
    began = clock.now
    await a.step()
    assert a.until == began + TIMES.valid


async def test_a_takeover_that_was_overtaken_by_a_renewal_fails() -> None:
    server, clock = Server(), Clock()
    server.ready("a", "Unknown")
    a = lease(server, "a", clock)
    client = server.client("b")
    b = lease(server, "b", clock, client=client)
    await a.step()
    await b.step()
    clock.now += 50

    async def meanwhile() -> None:
        await a.step()

    client.before_write = meanwhile
    assert await b.step() <= 0.5 and not b.active() and a.active()


async def test_what_is_given_up_is_taken_at_once() -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    await a.step()
    assert await a.release() and not a.active()
    await b.step()
    assert b.active()
    assert await a.release(), "another's Lease is not touched"
    assert server.leases["gtpu-n3"]["spec"]["holderIdentity"] == "b"


async def test_a_node_that_may_not_serve_takes_nothing() -> None:
    server, clock = Server(), Clock()
    a = lease(server, "a", clock, may_take=lambda: False)
    await a.step()
    assert a.known and not a.active() and not server.leases


async def test_a_lease_deleted_by_hand_goes_to_its_holder() -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a, b = lease(server, "a", clock), lease(server, "b", clock)
    await a.step()
    await b.step()
    server.leases.clear()
    await b.step()
    assert not b.active() and not server.leases
    clock.now += 8
    await a.step()
    assert a.active()


def test_gone_is_what_the_cluster_says() -> None:
    def node(status: str, *taints: str) -> dict[str, Any]:
        return {
            "spec": {"taints": [{"key": key} for key in taints]},
            "status": {"conditions": [{"type": "Ready", "status": status}]},
        }

    assert node_is_gone(None) and node_is_gone(node("Unknown"))
    assert not node_is_gone(node("True")) and not node_is_gone(node("False"))
    assert node_is_gone(node("True", "node.kubernetes.io/out-of-service"))
    assert not node_is_gone(node("True", "node.kubernetes.io/unschedulable"))


def test_names_of_leases_fit() -> None:
    assert lease_name("n3") == "gtpu-n3"
    assert len(lease_name("x" * 253)) <= 253 and lease_name("x" * 253) != lease_name("x" * 252 + "y")


# ------------------------------------------------------------------------------------ the node as a whole


class Node:
    """What the endpoints' manager does to one node."""

    def __init__(self, server: Server, name: str, journal: Path, clock: Clock) -> None:
        self.serves: set[str] = set()
        self.known = False
        self.withdrawn: list[IpAddress] = []
        self.stuck = False
        self.may_take = True
        self.may_keep = True
        self.floating = FloatingEndpoints(
            server.client(name),
            "system",
            name,
            journal,
            held=self.held,
            withdraw=self.withdraw,
            may_take=lambda: self.may_take,
            may_keep=lambda: self.may_keep,
            times=LeaseTimes(duration=0.9, valid=0.5, renew=0.1, retry=0.05, call=0.2),
        )
        self.floating.WATCHDOG_SECONDS = 0.02

    def held(self, names: Collection[str], known: bool) -> None:
        self.known = known
        self.serves |= set(names)

    async def withdraw(self, addresses: Collection[IpAddress]) -> None:
        if self.stuck:
            raise OSError("netlink: busy")
        self.withdrawn += addresses
        if ADDRESS in addresses:
            self.serves.discard("n3")


async def until(check: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_the_network_follows_the_lease(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    a = Node(server, "a", tmp_path / "a", clock)
    b = Node(server, "b", tmp_path / "b", clock)
    tasks = [asyncio.create_task(node.floating.run()) for node in (a, b)]
    try:
        a.floating.set_endpoints({}, False)
        assert not a.known
        a.floating.set_endpoints({"n3": endpoint()}, True)
        await until(lambda: a.known and a.serves == {"n3"})
        b.floating.set_endpoints({"n3": endpoint()}, True)
        await until(lambda: b.known)
        assert b.serves == set()

        # What cannot be withdrawn is not released either.
        a.may_keep, a.stuck = False, True
        await asyncio.sleep(0.3)
        assert server.leases["gtpu-n3"]["spec"]["holderIdentity"] == "a" and b.serves == set()
        a.stuck = False
        await until(lambda: b.serves == {"n3"})
        assert a.serves == set() and a.withdrawn == [ADDRESS]
        a.may_keep = True

        # Cut off: withdrawn before the other one takes it.
        order: list[str] = []
        server.cut.add("b")
        server.ready("b", "Unknown")
        await until(lambda: b.serves == set())
        order.append("b stopped" if a.serves == set() else "both")
        await until(lambda: a.serves == {"n3"})
        assert order == ["b stopped"]

        # The endpoint goes: so does the address, and the Lease is given back.
        a.floating.set_endpoints({}, True)
        await until(lambda: server.leases["gtpu-n3"]["spec"]["holderIdentity"] == "")
        assert a.serves == set()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_agent_that_starts_cut_off_keeps_to_its_predecessors_time(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.ready("a", "True")
    first = Node(server, "a", tmp_path / "a", clock)
    task = asyncio.create_task(first.floating.run())
    first.floating.set_endpoints({"n3": endpoint()}, True)
    await until(lambda: first.serves == {"n3"})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    server.cut.add("a")
    second = Node(server, "a", tmp_path / "a", clock)
    second.serves = {"n3"}  # the kernel still does
    task = asyncio.create_task(second.floating.run())
    try:
        await asyncio.sleep(0.1)
        assert second.serves == {"n3"}, "its time is not over"
        await until(lambda: second.serves == set(), 2.0)
        # The API server again: the Lease is still this node's.
        server.cut.clear()
        second.floating.set_endpoints({"n3": endpoint()}, True)
        await until(lambda: second.serves == {"n3"})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_moves_nothing_and_a_drain_does(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    for name in ("a", "b"):
        server.ready(name, "True")
    a = Node(server, "a", tmp_path / "a", clock)
    b = Node(server, "b", tmp_path / "b", clock)
    tasks = {node: asyncio.create_task(node.floating.run()) for node in (a, b)}
    a.floating.set_endpoints({"n3": endpoint()}, True)
    await until(lambda: a.serves == {"n3"})
    b.floating.set_endpoints({"n3": endpoint()}, True)
    tasks[a].cancel()
    await asyncio.gather(tasks[a], return_exceptions=True)
    await asyncio.sleep(1.5)  # longer than the Lease's duration
    assert b.serves == set() and a.serves == {"n3"} and a.withdrawn == []

    again = Node(server, "a", tmp_path / "a", clock)
    tasks[again] = asyncio.create_task(again.floating.run())
    again.floating.set_endpoints({"n3": endpoint()}, True)
    await until(lambda: again.serves == {"n3"})
    assert again.withdrawn == []
    assert await again.floating.release_all() and again.withdrawn == [ADDRESS]
    await until(lambda: b.serves == {"n3"}, 1.0)
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("seed", range(20))
async def test_never_two_whatever_happens(seed: int) -> None:
    """Random cuts, restarts and node failures: by the model's clock, no two are active at any step.

    A node that is Ready=Unknown is cut off, as the node controller finds by its missing heartbeats.
    """
    chance = random.Random(seed)
    server, clock = Server(), Clock()
    names = ["a", "b", "c"]
    for name in names:
        server.ready(name, "True")
    leases = {name: lease(server, name, clock) for name in names}
    due = dict.fromkeys(names, clock.now)
    cut_since: dict[str, float] = {}
    active_steps = 0
    for _ in range(4000):
        clock.now += 0.5
        event = chance.random()
        name = chance.choice(names)
        if event < 0.004:
            server.cut.add(name)
            cut_since[name] = clock.now
        elif event < 0.012 and name in server.cut:
            server.cut.discard(name)
            del cut_since[name]
            server.ready(name, "True")
        elif event < 0.014 and name not in server.cut:
            # A new agent on the same node; what the old one was active for goes on by the journal.
            before = leases[name].until
            leases[name] = lease(server, name, clock)
            leases[name].until = before
            due[name] = clock.now
        for node, since in cut_since.items():
            if clock.now - since > 40:
                server.ready(node, "Unknown")
        for node in names:
            if clock.now >= due[node]:
                due[node] = clock.now + await leases[node].step()
        active = [node for node in names if leases[node].active()]
        assert len(active) <= 1, (seed, clock.now, active)
        active_steps += len(active)
    assert active_steps > 2000
