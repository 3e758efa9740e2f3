"""Floating endpoints on this node: one Lease each, and what the node does when it gets or loses one.

The rules and the argument are :mod:`vpp_operator.agent.lease`'s. Here: a task for each Lease; a watchdog that
withdraws when the time is over, whatever the tasks wait for; a journal of what this node may be active for,
so that an agent that starts without an API server keeps to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

import orjson
import structlog

from vpp_operator.agent.lease import FloatingLease, LeaseTimes, Requests, boot_time
from vpp_operator.gtpu.model import Endpoint, IpAddress

__all__ = ["FloatingEndpoints"]

_log = structlog.get_logger(__name__)


class FloatingEndpoints:
    """Holds the Leases of this node.

    ``held`` is told which endpoints the node is active for now, and whether all Leases have been looked at.
    ``withdraw`` takes addresses away from the node's network at once, whatever else is known, and raises when
    it cannot. ``may_take`` and ``may_keep`` say whether the node could serve.
    """

    WATCHDOG_SECONDS = 0.25

    def __init__(
        self,
        api: Requests,
        namespace: str,
        node: str,
        journal: Path,
        *,
        held: Callable[[Collection[str], bool], None],
        withdraw: Callable[[Collection[IpAddress]], Awaitable[None]],
        may_take: Callable[[], bool],
        may_keep: Callable[[], bool] = lambda: True,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.held: frozenset[str] = frozenset()
        """Endpoints that this node is active for."""
        self._api = api
        self._namespace = namespace
        self._node = node
        self._journal = journal
        self._tell = held
        self._withdraw = withdraw
        self._may_take = may_take
        self._may_keep = may_keep
        self._times = times or LeaseTimes()
        self._clock = clock
        self._leases: dict[str, FloatingLease] = {}
        self._addresses: dict[str, IpAddress] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[bool]] = set()
        self._gone: dict[str, IpAddress] = {}
        """What is to be withdrawn."""
        self._draining = asyncio.Lock()
        self._listed = False
        self._told: tuple[frozenset[str], bool] | None = None
        self._closed = False
        self._written: Mapping[str, object] = {}
        self._inherited = self._read_journal()

    def holders(self) -> Mapping[str, str]:
        """Return the holder of each Lease as last seen, by endpoint."""
        return {name: lease.holder for name, lease in self._leases.items()}

    def errors(self) -> Mapping[str, str]:
        """Return why a Lease cannot be worked with, by endpoint."""
        return {name: lease.error for name, lease in self._leases.items() if lease.error}

    def set_endpoints(self, endpoints: Mapping[str, Endpoint], listed: bool) -> None:
        """Take the Floating endpoints that this node may serve; ``listed``: they are all known."""
        self._listed = self._listed or listed
        if self._closed:
            return
        if self._listed:
            for name in [name for name in self._leases if name not in endpoints]:
                self._leave(name)
        for name, endpoint in endpoints.items():
            self._addresses[name] = endpoint.address
            if name not in self._leases:
                self._leases[name] = FloatingLease(
                    self._api,
                    self._namespace,
                    name,
                    self._node,
                    times=self._times,
                    may_take=lambda: not self._closed and self._may_keep() and self._may_take(),
                    may_keep=self._may_keep,
                    clock=self._clock,
                )
                self._tasks[name] = asyncio.create_task(self._follow(name), name=f"lease {name}")
            self._leases[name].uid = endpoint.uid
        self._publish()

    def _leave(self, name: str) -> None:
        """The endpoint is gone or not for this node any more."""
        lease = self._leases.pop(name)
        self._tasks.pop(name).cancel()
        task = asyncio.create_task(self._give_up([lease]), name=f"give up {name}")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def run(self) -> None:
        """Watch over the time until cancelled. Cancelling leaves Leases and node as they are."""
        try:
            while True:
                await self._check()
                await asyncio.sleep(self.WATCHDOG_SECONDS)
        finally:
            for task in (*self._tasks.values(), *self._leaving):
                task.cancel()

    async def release_all(self) -> bool:
        """The node is going: withdraw, then give every Lease up. Return whether that succeeded."""
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return await self._give_up([self._leases[name] for name in self.held])

    async def _follow(self, name: str) -> None:
        lease = self._leases[name]
        while True:
            if lease.holder == self._node and not self._may_keep():
                await self._give_up([lease])
                await asyncio.sleep(self._times.retry)
                continue
            pause = await lease.step()
            self._publish()
            await self._drain()
            await asyncio.sleep(pause)

    async def _give_up(self, leases: Collection[FloatingLease]) -> bool:
        """Withdraw, then release. What could not be withdrawn is not released: it runs out."""
        for lease in leases:
            lease.until = float("-inf")
        self._publish()
        await self._drain()
        return all([lease.endpoint not in self._gone and await lease.release() for lease in leases])

    async def _check(self) -> None:
        """Withdraw what this node may not be active for any more."""
        overdue = {n for n in self.held if n not in self._leases or not self._leases[n].active()}
        if overdue:
            _log.warning("Lease not renewed in time, withdrawing", endpoints=sorted(overdue))
            self._publish()
        now = self._clock()
        for name, (address, until) in list(self._inherited.items()):
            lease = self._leases.get(name)
            if now >= until or (lease is not None and lease.known):
                del self._inherited[name]
                if name not in self.held:
                    _log.warning("what an earlier agent served is withdrawn", endpoint=name)
                    self._gone[name] = address
        self._write_journal()
        await self._drain()

    def _publish(self) -> None:
        """Tell what the node is active for now."""
        held = frozenset(name for name, lease in self._leases.items() if lease.active())
        for name in self.held - held:
            self._gone[name] = self._addresses[name]
        for name in held:
            self._gone.pop(name, None)
        self.held = held
        # Before it is served: an agent that starts after this one must find what is active.
        self._write_journal()
        known = self._listed and all(lease.known for lease in self._leases.values())
        if (held, known) != self._told:
            self._told = (held, known)
            self._tell(held, known)

    async def _drain(self) -> None:
        """Take away what is to be withdrawn; what fails stays for the next time."""
        async with self._draining:
            gone = dict(self._gone)
            if not gone:
                return
            try:
                await self._withdraw(tuple(gone.values()))
            except Exception as error:
                # Whatever it is, it is tried again until it succeeds.
                _log.error("addresses not withdrawn", endpoints=sorted(gone), error=str(error))
                return
            for name, address in gone.items():
                if self._gone.get(name) == address:
                    del self._gone[name]
            self._write_journal()

    def _read_journal(self) -> dict[str, tuple[IpAddress, float]]:
        try:
            entries = orjson.loads(self._journal.read_bytes())
            # One look at the Lease first: an agent that was away for long most likely still has it.
            first_look = self._clock() + self._times.call + self._times.retry
            return {
                name: (ipaddress.ip_address(entry["address"]), max(float(entry["until"]), first_look))
                for name, entry in entries.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.error("journal of Floating endpoints not read", file=str(self._journal), error=str(error))
            return {}

    def _write_journal(self) -> None:
        entries: dict[str, dict[str, object]] = {
            name: {"address": str(address), "until": until}
            for name, (address, until) in self._inherited.items()
        }
        for name, address in self._gone.items():
            entries[name] = {"address": str(address), "until": 0.0}
        for name in self.held:
            entries[name] = {"address": str(self._addresses[name]), "until": self._leases[name].until}
        if entries == self._written:
            return
        try:
            part = self._journal.with_suffix(".part")
            part.write_bytes(orjson.dumps(entries))
            os.replace(part, self._journal)  # noqa: PTH105 - atomic on one file system
        except OSError as error:
            _log.error("journal of Floating endpoints not written", file=str(self._journal), error=str(error))
            return
        self._written = entries
