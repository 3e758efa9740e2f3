"""The Lease of one Floating endpoint, as one node sees it: when it may be active, take over, and must stop.

Why no two nodes are active
    A node is active for an endpoint only while its last *confirmed* renewal is younger than V
    (``valid``), measured with CLOCK_BOOTTIME from before the request left. It renews every few seconds,
    so it is active without a gap as long as the API server answers at all within V. Past V it withdraws:
    neither its engine nor its network serves the address any more, which takes less than D - V (D: the
    Lease's duration). Another node takes the Lease over only

    1. when its holder gave it up, which it does after it has withdrawn; or
    2. when the Lease was not renewed for D, counted from when this very version was first seen (so after
       the renewal was made, by the observer's own clock, and for the longer of the two nodes' durations),
       *and* the cluster says that the holder's node is gone: no Node object, Ready=Unknown, or an
       administrator's taint node.kubernetes.io/out-of-service.

    The write names the resourceVersion that was looked at, so it fails if a renewal came in between.

    The second half of 2 is needed because an agent is not the dataplane: an agent that is restarted,
    upgraded, crashed or stopped renews nothing, and its node goes on serving the address. On a node that
    is Ready nothing was lost, and the address stays. For the same reason the holder is the *node*, not
    the process: an agent that starts finds the Lease its own, renews, and goes on without a packet lost.

    A node that is cut off from the API server is Ready=Unknown for the others, while its dataplane is
    well. Its agent withdraws at V. An agent that is started while the API server cannot be reached finds
    in the node's journal until when its predecessor was allowed to be active, and withdraws then, or when
    one look at the Lease has failed, whichever is later (:mod:`floating`).

    What remains: a node that is cut off and whose agent cannot be run at all, or is stopped, for longer
    than D. Its kernel goes on answering neighbours for the address. IPv6: the new node's duplicate address
    detection hears that, and it does not take the address before the old node is silent
    (:mod:`vpp_operator.node.claims`). IPv4: Linux answers no ARP probe for a proxy entry, so the new node
    announces the address beside the old one; GTP-U keeps no state between packets, so what still reaches
    the old node is forwarded there. Fencing such a node needs its power switch: the out-of-service taint is
    the place to say it was done.

    The price: while no API server answers for longer than V, Floating addresses are withdrawn everywhere,
    since a holder cannot tell a cluster without API server from a node without network. Addresses of
    nodes (mode NodeAddress) do not depend on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
import structlog

from vpp_operator.api.base import API_VERSION
from vpp_operator.api.gtpu_report import FLOATING_LABEL
from vpp_operator.kube import AccessError, ApiError

__all__ = ["FloatingLease", "LeaseTimes", "Requests", "boot_time", "lease_name", "node_is_gone"]

_log = structlog.get_logger(__name__)


def boot_time() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """All in seconds."""

    duration: float = 45.0
    """D: without a renewal for this long, a Lease whose node is gone may be taken."""
    valid: float = 30.0
    """V: a confirmed renewal lets the node be active for this long."""
    renew: float = 8.0
    """Pause between two renewals, and longest pause between two looks at another's Lease."""
    retry: float = 2.0
    """Pause after a call that failed."""
    call: float = 5.0
    """Longest time of one call."""


class Requests(Protocol):
    """The API server (see :class:`vpp_operator.kube.ApiAccess`)."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request and return the decoded answer."""
        ...


def lease_name(endpoint: str) -> str:
    """Return the name of an endpoint's Lease."""
    name = f"gtpu-{endpoint}"
    return name if len(name) <= 253 else f"gtpu-{hashlib.sha256(endpoint.encode()).hexdigest()}"


def node_is_gone(node: Any | None) -> bool:
    """Whether the cluster says that a node is gone; None: there is no such Node."""
    if node is None:
        return True
    if any(t.get("key") == "node.kubernetes.io/out-of-service" for t in node["spec"].get("taints") or ()):
        return True
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "Unknown" for c in conditions)


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class FloatingLease:
    """Looks at one Lease, takes it, renews it, gives it up. One task works with it."""

    def __init__(
        self,
        api: Requests,
        namespace: str,
        endpoint: str,
        node: str,
        *,
        times: LeaseTimes,
        may_take: Callable[[], bool],
        may_keep: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = boot_time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.endpoint = endpoint
        self.uid = ""
        """UID of the GtpuEndpoint."""
        self.until = float("-inf")
        """The node may be active until then (the clock's time)."""
        self.known = False
        """Whether it is known if the node holds the Lease."""
        self.holder = ""
        """Holder as last seen; empty: none."""
        self.error = ""
        """Why the Lease cannot be worked with; empty: it can."""
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._node = node
        self._times = times
        self._may_take = may_take
        self._may_keep = may_keep
        self._clock = clock
        self._jitter = jitter
        self._version = ""
        self._seen_at = float("-inf")

    def active(self) -> bool:
        """Whether the node may be active now."""
        return self._clock() < self.until

    async def step(self) -> float:
        """Look at the Lease and do what is to be done; return the pause until the next look.

        When the Lease is another's, :attr:`until` is in the past afterwards: the caller withdraws.
        """
        try:
            lease = await self._get()
            pause = await self._decide(lease)
        except ApiError as error:
            self._failed(str(error))
            if error.status == 403:
                # Not allowed to hold anything.
                self.known = True
            return self._times.retry
        except (aiohttp.ClientError, OSError, TimeoutError, AccessError) as error:
            self._failed(f"{type(error).__name__}: {error}")
            return self._times.retry
        self.error = ""
        return pause

    async def release(self) -> bool:
        """Give the Lease up. Only after the node has withdrawn. Return whether the Lease is not ours now."""
        self.until = float("-inf")
        try:
            lease = await self._get()
            if lease is None or lease["spec"].get("holderIdentity") != self._node:
                return True
            lease["spec"] |= {"holderIdentity": "", "renewTime": _micro_time()}
            await self._call("PUT", f"{self._path}/{lease_name(self.endpoint)}", lease)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError, AccessError) as error:
            self._failed(f"not released, it runs out by itself: {type(error).__name__}: {error}")
            return False
        self.holder = ""
        _log.info("Lease released", endpoint=self.endpoint)
        return True

    async def _decide(self, lease: Any | None) -> float:
        times, now = self._times, self._clock()
        if lease is None:
            ours = self.holder == self._node
            if self._version and not ours and now - self._seen_at < times.duration:
                # Deleted by hand: its holder comes first.
                return times.retry
            if self._may_keep() if ours else self._may_take():
                return await self._take(None)
            self.known, self.holder = True, ""
            return self._pause()
        spec = lease["spec"]
        version = lease["metadata"]["resourceVersion"]
        if version != self._version:
            self._version, self._seen_at = version, now
        self.holder = spec.get("holderIdentity") or ""
        if self.holder == self._node:
            if self._may_keep():
                return await self._take(lease)
            self.known = True
            return 0.0
        if self.until > now:
            _log.warning("Lease lost", endpoint=self.endpoint, holder=self.holder)
        self.until = float("-inf")
        self.known = True
        if self._may_take() and (not self.holder or await self._is_free(spec)):
            return await self._take(lease)
        return self._pause()

    async def _is_free(self, spec: Any) -> bool:
        longest = max(self._times.duration, float(spec.get("leaseDurationSeconds") or 0))
        if self._clock() - self._seen_at < longest:
            return False
        try:
            node = await self._call("GET", f"/api/v1/nodes/{self.holder}")
        except ApiError as error:
            if error.status != 404:
                raise
            node = None
        return node_is_gone(node)

    async def _take(self, lease: Any | None) -> float:
        """Take or renew the Lease. Active only by an answer that confirms it."""
        began = self._clock()
        mine = lease is not None and lease["spec"].get("holderIdentity") == self._node
        body = self._body(lease, mine)
        name = lease_name(self.endpoint)
        try:
            if lease is None:
                answer = await self._call("POST", self._path, body)
            else:
                answer = await self._call("PUT", f"{self._path}/{name}", body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            # Somebody was faster; who, the next look says.
            return self._jitter(0.1, 0.5)
        if not mine or not self.known:
            _log.info("Lease renewed" if mine else "Lease taken", endpoint=self.endpoint, before=self.holder)
        self._version, self._seen_at = answer["metadata"]["resourceVersion"], self._clock()
        self.holder, self.known = self._node, True
        self.until = began + self._times.valid
        return self._pause()

    def _body(self, lease: Any | None, mine: bool) -> Any:
        owner = {
            "apiVersion": API_VERSION,
            "kind": "GtpuEndpoint",
            "name": self.endpoint,
            "uid": self.uid,
        }
        metadata: dict[str, Any] = {
            "name": lease_name(self.endpoint),
            "namespace": self._namespace,
            "labels": {FLOATING_LABEL: "true"},
        }
        if self.uid:
            metadata["ownerReferences"] = [owner]
        spec = dict(lease["spec"]) if lease is not None else {}
        now = _micro_time()
        if not mine:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec["holderIdentity"] = self._node
        spec["leaseDurationSeconds"] = max(1, round(self._times.duration))
        spec["renewTime"] = now
        if lease is not None:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }

    async def _get(self) -> Any | None:
        try:
            return await self._call("GET", f"{self._path}/{lease_name(self.endpoint)}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        async with asyncio.timeout(self._times.call):
            return await self._api.request(method, path, body=body)

    def _pause(self) -> float:
        return self._jitter(self._times.renew / 2, self._times.renew)

    def _failed(self, error: str) -> None:
        if error != self.error:
            _log.warning("Lease not reached", endpoint=self.endpoint, error=error)
        self.error = error
