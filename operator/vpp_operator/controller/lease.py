"""Leadership by a Lease, and the fence that keeps a former leader from writing.

The election helper of the client library (kubernetes.aio.leaderelection) is the state machine; `GuardedLock`
is what it works on. The helper alone is not enough, each point seen in its code:

- it lets connection errors escape and then leaves the leader's task running: here every failed call is a
  failed renewal, and the end of the helper, however it comes, is the end of leadership;
- a call may take five minutes: here each is bounded well below the renew deadline;
- it measures with the wall clock, which may jump, and with its own lease duration even where the holder's is
  longer: here the lock measures with CLOCK_BOOTTIME (which goes on while the process or the machine is
  stopped) and shows the helper a foreign Lease as fresh until the longer of the two durations has passed
  without a change;
- its Lease cannot be created (an argument that its own client refuses): here it is;
- it has no release.

Why there are never two writers
    Let D be the lease duration and R the time for which a renewal lets the leader write. A renewal that
    succeeded was made by the API server not before the moment t at which the call began. Every request of the
    leader that may change something passes `Fence.check` immediately before its bytes go to the kernel
    (kube.py, guard), which raises from t + R on. Bytes in the kernel reach the server within U or die with
    their connection (TCP user timeout), and there the request has a deadline of S (query parameter timeout);
    R + U + S <= D. Another replica replaces the Lease only after it has seen the same resourceVersion for at
    least D, counted from when it first saw it, which is after t; and the replacement names that
    resourceVersion, so that it fails if a renewal came in between. So what the former leader wrote is done
    before the next one begins. A process that was stopped finds its fence closed when it goes on, since the
    clock went on. A Lease seen with another holder closes the fence at once.

    What remains: a process stopped for longer than D - R in the few instructions between the check and
    send(2), and a store that commits later than the request's deadline. One request may then come late. It
    does no lasting harm: its content was computed from the same objects, the next leader sees the change and
    corrects it, and deletions name the UID of what they delete.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import structlog
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from ..kube import WRITE_LAG_S, AccessError

__all__ = ["Fence", "GuardedLock", "Leadership", "NotLeaderError", "boot_time"]

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class NotLeaderError(Exception):
    """The Lease may be another's by now: nothing must be written."""


def boot_time() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _now() -> Any:
    # As text: the client writes a datetime without a fraction when its microseconds happen to be 0, which the
    # API server refuses in a MicroTime.
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Fence:
    """Lets requests through only while no other replica can lead."""

    def __init__(self, valid_seconds: float, clock: Callable[[], float] = boot_time) -> None:
        self._valid = valid_seconds
        self._clock = clock
        self._until = float("-inf")
        self._shut = False

    def renewed(self, began: float) -> None:
        """A renewal whose call began at `began` (the fence's clock) succeeded."""
        self._until = max(self._until, began + self._valid)

    def shut(self) -> None:
        """Let nothing through any more, for good."""
        self._shut = True

    @property
    def remaining(self) -> float:
        """Seconds for which requests may still pass; 0 or less: none."""
        return float("-inf") if self._shut else self._until - self._clock()

    def check(self) -> None:
        """Raise `NotLeaderError` unless requests may pass now."""
        if self.remaining <= 0:
            raise NotLeaderError(
                "the Lease was not renewed in time: another replica may lead, nothing is written"
            )


class _NoAnswer(ApiException):
    """The API server did not answer in time. The helper takes any ApiException but a 404 as "try again"."""


class GuardedLock(LeaseLock):
    """A Lease whose calls always return, and whose age is measured with a clock that does not jump.

    The library's helper calls `get`, `create` and `update`; all three report a failure where there was no
    answer.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        identity: str,
        api: kubernetes_client.ApiClient,
        *,
        fence: Fence,
        lease_seconds: float,
        call_seconds: float,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        super().__init__(name, namespace, identity, api)
        self.last_answer = float("-inf")
        """When the API server last answered (the clock's time)."""
        self.holder: str | None = None
        """Holder of the Lease as last seen."""
        self._fence = fence
        self._lease_seconds = lease_seconds
        self._call_seconds = call_seconds
        self._clock = clock
        self._seen_version = ""
        self._seen_at = 0.0
        self._leading = False
        self._free = True
        self._looks = 0

    # ------------------------------------------------------------------------------------- for the helper

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """Return the record, so that the helper takes a Lease of another for free exactly when it is."""
        began = self._clock()
        found, record = await self._bounded(
            super().get(name, namespace), (False, _NoAnswer(reason="no answer"))
        )
        if not found or not isinstance(record, LeaderElectionRecord):
            return found, record  # type: ignore[return-value]
        lease = self.lease_reference
        version = str(lease.metadata.resource_version) if lease is not None and lease.metadata else ""
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()
        self.holder = record.holder_identity
        self._free = True
        if record.holder_identity in (None, self.identity):
            return True, record
        if self._leading:
            # Only by hand or after a lapse that the fence has seen already. Whoever it is, it is not us.
            self._fence.shut()
        longest = max(self._lease_seconds, float(record.lease_duration or 0))
        if began - self._seen_at >= longest:
            record.holder_identity = None
        else:
            # The helper takes a record that differs from the last as just renewed.
            self._free = False
            self._looks += 1
            record.renew_time = f"{record.renew_time}, look {self._looks}"
        return True, record

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create the Lease; False if that failed."""
        return await self._write(self._create(name, namespace, election_record))

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Replace the Lease as it was last read; False if that failed, it has changed or is another's."""
        if not self._free:
            # The helper's clock jumped while it was looking.
            return False
        return await self._write(super().update(name, namespace, updated_record))

    def update_lease(
        self,
        leader_election_record: LeaderElectionRecord,
        current_spec: kubernetes_client.V1LeaseSpec | None = None,
    ) -> kubernetes_client.V1LeaseSpec:
        """Return the Lease's content with us as the holder, times in UTC (the library writes local time)."""
        spec = current_spec or kubernetes_client.V1LeaseSpec()
        now = _now()
        if spec.holder_identity != self.identity:
            spec.acquire_time = now
            spec.lease_transitions = (spec.lease_transitions or 0) + 1
        spec.holder_identity = self.identity
        spec.lease_duration_seconds = max(1, round(self._lease_seconds))
        spec.renew_time = now
        return spec

    # -------------------------------------------------------------------------------------------- release

    async def release(self) -> bool:
        """Give the Lease up so that another replica leads at once. Return whether that succeeded."""
        self._fence.shut()
        found, record = await self._bounded(super().get(self.name, self.namespace), (False, None))
        lease = self.lease_reference
        if not found or lease is None or lease.spec is None or not isinstance(record, LeaderElectionRecord):
            return False
        if record.holder_identity != self.identity:
            return False
        lease.spec.holder_identity = ""
        lease.spec.renew_time = _now()
        return await self._bounded(self._replace(lease), False)

    async def _create(self, name: str, namespace: str, record: LeaderElectionRecord) -> bool:
        # The library's own passes pretty=True, which its generated client refuses (it wants text).
        body = kubernetes_client.V1Lease(
            metadata=kubernetes_client.V1ObjectMeta(name=name), spec=self.update_lease(record)
        )
        try:
            await self.api_instance.create_namespaced_lease(namespace, body)
        except ApiException as error:
            _log.info("Lease not created", status=error.status, reason=error.reason)
            return False
        return True

    async def _replace(self, lease: kubernetes_client.V1Lease) -> bool:
        try:
            await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)
        except ApiException:
            return False
        return True

    # --------------------------------------------------------------------------------------------- shared

    async def _write(self, call: Awaitable[bool]) -> bool:
        began = self._clock()
        written = await self._bounded(call, False)
        if written:
            self._fence.renewed(began)
            self.holder = self.identity
            self._leading = True
        return written

    async def _bounded(self, call: Awaitable[T], failed: T) -> T:
        try:
            async with asyncio.timeout(self._call_seconds):
                result = await call
        except (aiohttp.ClientError, OSError, TimeoutError, AccessError, ApiException, ValueError) as error:
            _log.warning("Lease: no answer", error=f"{type(error).__name__}: {error}")
            return failed
        if not (isinstance(result, tuple) and isinstance(result[1], ApiException) and not result[1].status):
            self.last_answer = self._clock()
        return result


class Leadership:
    """Waits for the Lease, keeps it, and tells when it is lost."""

    def __init__(
        self,
        api: kubernetes_client.ApiClient,
        *,
        name: str,
        namespace: str,
        identity: str,
        lease_seconds: float,
        renew_seconds: float,
        retry_seconds: float,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        # What is under way when the fence closes must be over before the next replica leads.
        valid = min(renew_seconds, lease_seconds - WRITE_LAG_S)
        if valid <= retry_seconds:
            raise ValueError(
                f"LEASE_SECONDS: must exceed LEASE_RETRY_SECONDS by more than {WRITE_LAG_S:g} s, in which "
                "requests that are under way come to their end"
            )
        self.fence = Fence(valid, clock)
        # Two calls a renewal (get, replace), and a second try within the deadline.
        call_seconds = (valid - retry_seconds) / 4
        self.lock = GuardedLock(
            name,
            namespace,
            identity,
            api,
            fence=self.fence,
            lease_seconds=lease_seconds,
            call_seconds=call_seconds,
            clock=clock,
        )
        self._acquired = asyncio.Event()
        self._config = Config(
            self.lock,
            lease_duration=lease_seconds,
            renew_deadline=renew_seconds,
            retry_period=retry_seconds,
            onstarted_leading=self._started,
            onstopped_leading=None,  # type: ignore[arg-type]
        )
        self._task: asyncio.Task[Any] | None = None

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self.fence.remaining > 0

    async def acquire(self) -> None:
        """Wait until this process leads.

        Raises:
            NotLeaderError: the election ended for another reason.
        """
        self._task = asyncio.create_task(LeaderElection(self._config).run(), name="election")
        waiting = asyncio.create_task(self._acquired.wait(), name="acquired")
        try:
            await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._acquired.is_set():
            raise NotLeaderError(f"the election ended: {self._reason()}")

    async def lost(self) -> str:
        """Wait until leadership is lost and return why."""
        assert self._task is not None
        while not self._task.done():
            remaining = self.fence.remaining
            if remaining <= 0:
                return "the Lease was not renewed in time, or is another's"
            # The renewals move the end on; a stopped process is past it when it goes on.
            await asyncio.wait({self._task}, timeout=min(remaining, 0.5))
        return self._reason()

    async def stop(self, *, release: bool) -> None:
        """End the election, and give the Lease up if `release` (only when nothing is being written)."""
        self.fence.shut()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
        if release and self._acquired.is_set():
            released = await self.lock.release()
            _log.info("Lease released" if released else "Lease not released: it runs out by itself")

    async def _started(self) -> None:
        self._acquired.set()
        await asyncio.Event().wait()

    def _reason(self) -> str:
        assert self._task is not None
        if self._task.cancelled():
            return "cancelled"
        error = self._task.exception() if self._task.done() else None
        return f"{type(error).__name__}: {error}" if error else "the Lease could not be renewed in time"
