"""Reading the agents' reports of GTP-U objects by HTTPS, with the certificate that their Dataplane names."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog

from ..api.gtpu_report import PATH, NodeReport
from ..kube import AccessError, TokenFile

__all__ = ["AgentAddress", "AgentReader"]

_TIMEOUT_S: Final = 10.0
_CONCURRENCY: Final = 32
_MOST_BYTES: Final = 256 * 2**20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Where a node's agent serves its report: address, port, SHA-256 of its certificate (hex)."""

    node: str
    address: str
    port: int
    fingerprint: str

    @property
    def url(self) -> str:
        """URL of the report."""
        host = f"[{self.address}]" if ipaddress.ip_address(self.address).version == 6 else self.address
        return f"https://{host}:{self.port}{PATH}"


class AgentReader:
    """Reads many agents at once. A context manager."""

    def __init__(self, token: TokenFile) -> None:
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._errors: dict[str, str] = {}

    async def __aenter__(self) -> AgentReader:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONCURRENCY, keepalive_timeout=5.0),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S, sock_connect=3.0),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, agents: Iterable[AgentAddress]) -> dict[str, NodeReport]:
        """Return the reports by node; an agent that does not answer is left out, and logged once."""
        room = asyncio.Semaphore(_CONCURRENCY)

        async def one(agent: AgentAddress) -> NodeReport | None:
            async with room:
                return await self._one(agent)

        reports = await asyncio.gather(*(one(agent) for agent in agents))
        return {report.node: report for report in reports if report is not None}

    async def _one(self, agent: AgentAddress) -> NodeReport | None:
        assert self._session is not None
        try:
            async with self._session.get(
                agent.url,
                # Pinned: the certificate is the one that this node's agent wrote into its Dataplane.
                ssl=aiohttp.Fingerprint(bytes.fromhex(agent.fingerprint)),
                headers={"Authorization": f"Bearer {self._token.read()}"},
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(_MOST_BYTES)
                while chunk := await response.content.read(_MOST_BYTES):
                    raw += chunk
                    if len(raw) > _MOST_BYTES:
                        raise ValueError("the report is too large")
                if response.status != 200:
                    raise ValueError(f"status {response.status}: {raw[:200].decode(errors='replace')}")
            report = NodeReport.from_json(raw)
            if report.node != agent.node:
                raise ValueError(f"the report speaks of node {report.node}")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, AccessError) as error:
            text = f"{type(error).__name__}: {error}"
            if self._errors.get(agent.node) != text:
                self._errors[agent.node] = text
                _log.warning("agent not read", node=agent.node, url=agent.url, error=text)
            return None
        self._errors.pop(agent.node, None)
        return report
