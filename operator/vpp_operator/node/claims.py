"""Addresses of endpoints' own: taken only once the link was asked and nobody else has them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from vpp_operator.node.gtpu import Accepted
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.probe import probe
from vpp_operator.node.spec import Finding, IpAddress

__all__ = ["AddressClaims"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the link said at a time (monotonic seconds): ``other``, the MAC address of who has the address;
    ``error``, why it could not be asked. Neither: it is free."""

    at: float
    interface: str
    other: str = ""
    error: str = ""

    @property
    def free(self) -> bool:
        return not (self.other or self.error)


class AddressClaims:
    """Knows which own addresses may be announced.

    :meth:`admit` is asked at each apply and never waits; :meth:`ask` asks the link for those that are still
    to be decided, beside applies of other things.
    """

    FREE_SECONDS = 10.0
    """For how long nobody's answer lets an address be taken."""
    AGAIN_SECONDS = 30.0
    """When an address that somebody has is asked for again."""

    def __init__(
        self,
        asker: Callable[[Collection[IpAddress], str], dict[IpAddress, bytes]] = probe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asker = asker
        self._clock = clock
        self._answers: dict[IpAddress, _Answer] = {}
        self._open: dict[IpAddress, str] = {}
        self._lock = threading.Lock()

    def admit(self, accepted: Accepted, standing: Collection[IpAddress]) -> tuple[Accepted, float | None]:
        """Return what may be brought onto the node, and in how many seconds :meth:`ask` has something to do
        (None: nothing).

        ``standing``: own addresses that this node announces already. One on no network of the node is not
        announced, so nobody is asked.
        """
        with self._lock:
            return self._admit(accepted, standing)

    def _admit(self, accepted: Accepted, standing: Collection[IpAddress]) -> tuple[Accepted, float | None]:
        now = self._clock()
        own: list[tuple[IpAddress, str]] = []
        refused: list[Finding] = []
        due: list[float] = []
        self._answers = {a: x for a, x in self._answers.items() if any(a == b for b, _ in accepted.own)}
        self._open = {}
        for address, interface in accepted.own:
            answer = self._answers.get(address)
            if answer is not None and answer.interface != interface:
                answer = None
            fresh = answer is not None and answer.free and now < answer.at + self.FREE_SECONDS
            if not interface or address in standing or fresh:
                own.append((address, interface))
                continue
            again = answer.at + self.AGAIN_SECONDS if answer is not None and not answer.free else now
            due.append(max(0.0, again - now))
            if again <= now:
                self._open[address] = interface
            refused.append(self._finding(address, interface, answer))
        admitted = replace(accepted, own=tuple(own), refused=(*accepted.refused, *refused))
        return admitted, min(due, default=None)

    def ask(self) -> None:
        """Ask the links for the addresses that the last :meth:`admit` left open. Takes about a second."""
        with self._lock:
            waiting = dict(self._open)
        for interface in set(waiting.values()):
            addresses = [a for a, i in waiting.items() if i == interface]
            error = ""
            found: dict[IpAddress, bytes] = {}
            try:
                found = self._asker(addresses, interface)
            except NodeNetworkError as exc:
                error = str(exc)
            now = self._clock()
            with self._lock:
                for address in addresses:
                    other = found[address].hex(":") if address in found else ""
                    self._answers[address] = _Answer(now, interface, other, error)

    def forget(self, addresses: Collection[IpAddress]) -> None:
        """They were let go: somebody else may have them before they come back."""
        with self._lock:
            for address in addresses:
                self._answers.pop(address, None)

    def _finding(self, address: IpAddress, interface: str, answer: _Answer | None) -> Finding:
        subject = str(address)
        if answer is None or answer.free:
            message = f"{address} is asked for on {interface} before it is taken"
            return Finding("Degraded", "Programming", message, "wait a moment", subject)
        if answer.error:
            message = f"{address} is not taken: {answer.error}"
            return Finding("Degraded", "NodeNetworkFailed", message, "see the message; tried again", subject)
        message = f"{address} is not taken: the host with MAC address {answer.other} on {interface} has it"
        remedy = (
            "take the address from that host, or give the endpoint another one; it is asked for again every "
            f"{self.AGAIN_SECONDS:.0f} s"
        )
        return Finding("Degraded", "AddressInUse", message, remedy, subject)
