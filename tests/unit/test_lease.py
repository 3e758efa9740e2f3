"""The fence and the lock of the leader election, with a clock that the test turns and a store in memory."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection

from vpp_operator.controller.lease import Fence, GuardedLock, Leadership, NotLeaderError


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """The Lease API as the lock uses it: replacing needs the version that was read."""

    def __init__(self) -> None:
        self.lease: client.V1Lease | None = None
        self.version = 0
        self.fault: BaseException | None = None
        self.hang = False

    async def _enter(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault

    def _copy(self, lease: client.V1Lease) -> client.V1Lease:
        spec = client.V1LeaseSpec(
            holder_identity=lease.spec.holder_identity or None,
            lease_duration_seconds=lease.spec.lease_duration_seconds,
            lease_transitions=lease.spec.lease_transitions,
        )
        # The record needs times; which ones does not matter to the lock.
        spec.acquire_time = spec.renew_time = datetime(2026, 1, 1)
        return client.V1Lease(
            metadata=client.V1ObjectMeta(name="l", resource_version=str(self.version)), spec=spec
        )

    async def read_namespaced_lease(self, name: str, namespace: str) -> client.V1Lease:
        await self._enter()
        if self.lease is None:
            error = ApiException(status=404, reason="Not Found")
            error.body = '{"code": 404}'
            raise error
        return self._copy(self.lease)

    async def create_namespaced_lease(self, namespace: str, body: client.V1Lease) -> None:
        await self._enter()
        if self.lease is not None:
            raise ApiException(status=409, reason="Conflict")
        self.version += 1
        self.lease = body

    async def replace_namespaced_lease(self, name: str, namespace: str, body: client.V1Lease) -> None:
        await self._enter()
        if body.metadata.resource_version != str(self.version):
            raise ApiException(status=409, reason="Conflict")
        self.version += 1
        self.lease = body


async def nothing() -> None:
    await asyncio.Event().wait()


class Replica:
    """One candidate; `step` is one round of the library's election."""

    def __init__(self, store: Store, clock: Clock, name: str, *, seconds: float = 15.0) -> None:
        self.fence = Fence(9.0, clock)
        self.lock = GuardedLock(
            "l",
            "ns",
            name,
            SimpleNamespace(),  # type: ignore[arg-type]
            fence=self.fence,
            lease_seconds=seconds,
            call_seconds=0.05,
            clock=clock,
        )
        self.lock.api_instance = store  # type: ignore[assignment]
        self.election = LeaderElection(Config(self.lock, seconds, 9.0, 2.0, nothing, nothing))

    async def step(self) -> bool:
        return await self.election.try_acquire_or_renew()

    @property
    def may_write(self) -> bool:
        return self.fence.remaining > 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store()


def test_fence_lets_through_for_a_time_after_each_renewal(clock: Clock) -> None:
    fence = Fence(9, clock)
    with pytest.raises(NotLeaderError):
        fence.check()
    fence.renewed(clock.now)
    clock.now += 8.9
    fence.check()
    fence.renewed(clock.now - 1)
    clock.now += 7.9
    fence.check()
    clock.now += 0.2
    with pytest.raises(NotLeaderError):
        fence.check()
    fence.renewed(clock.now)
    fence.shut()
    with pytest.raises(NotLeaderError):
        fence.check()


async def test_second_replica_waits_for_the_whole_lease(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step() and one.may_write
    assert not await two.step() and not two.may_write
    clock.now += 14.9
    assert not await two.step()
    assert not one.may_write, "the first has stopped long before"
    clock.now += 0.2
    assert await two.step() and two.may_write


async def test_renewed_lease_is_never_taken(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step()
    for _ in range(20):
        clock.now += 5
        assert await one.step() and one.may_write
        assert not await two.step()


async def test_wall_clock_does_not_matter(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step()
    assert not await two.step()
    monkeypatch.setattr("kubernetes.aio.leaderelection.leaderelection.time.time", lambda: 1e10)
    assert not await two.step(), "the wall clock jumped, the Lease still holds"
    monkeypatch.setattr("kubernetes.aio.leaderelection.leaderelection.time.time", lambda: 1e9)
    clock.now += 15.1
    assert await two.step(), "the wall clock went back, the Lease is over all the same"


async def test_longer_lease_of_the_holder_counts(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one", seconds=60), Replica(store, clock, "two", seconds=15)
    assert await one.step()
    assert not await two.step()
    clock.now += 30
    assert not await two.step()
    clock.now += 31
    assert await two.step()


async def test_takeover_fails_when_a_renewal_came_in_between(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step()
    assert not await two.step()
    clock.now += 15.1
    found = await two.lock.get("l", "ns")
    assert found[0] and found[1].holder_identity is None  # type: ignore[union-attr]
    assert await one.step()
    assert not await two.lock.update("l", "ns", found[1]) and not two.may_write  # type: ignore[arg-type]


async def test_released_lease_is_taken_at_once(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step()
    assert not await two.step()
    assert await one.lock.release() and not one.may_write
    assert await two.step() and two.may_write
    assert not await one.lock.release(), "what is another's is not released"
    assert two.may_write


async def test_lease_of_another_closes_the_fence_at_once(store: Store, clock: Clock) -> None:
    one, two = Replica(store, clock, "one"), Replica(store, clock, "two")
    assert await one.step() and one.may_write
    assert store.lease is not None
    store.lease.spec.holder_identity = "two"
    store.version += 1
    assert not await one.step() and not one.may_write
    assert await two.step()


@pytest.mark.parametrize(
    "fault", [OSError("gone"), TimeoutError(), ApiException(status=500), ValueError("no JSON")]
)
async def test_no_answer_is_a_failed_renewal(store: Store, clock: Clock, fault: BaseException) -> None:
    one = Replica(store, clock, "one")
    assert await one.step()
    store.fault = fault
    assert not await one.step()
    assert one.may_write
    clock.now += 9.1
    assert not one.may_write
    store.fault = None
    assert await one.step() and one.may_write


async def test_call_without_an_end_is_cut_off(store: Store, clock: Clock) -> None:
    one = Replica(store, clock, "one")
    store.hang = True
    assert not await asyncio.wait_for(one.step(), 2)


async def test_lease_must_leave_time_for_what_is_under_way() -> None:
    api: Any = client.ApiClient(client.Configuration(host="https://127.0.0.1:1"))
    times = {"renew_seconds": 5.0, "retry_seconds": 1.0}
    with pytest.raises(ValueError, match="LEASE_SECONDS"):
        Leadership(api, name="l", namespace="ns", identity="i", lease_seconds=6.5, **times)
    await api.rest_client.close()
