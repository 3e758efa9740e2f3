"""All nodes' ranges and addresses, followed by those nodes only that may serve a GtpuEndpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from vpp_operator.gtpu.cluster import NodeRanges, decode_node_ranges
from vpp_operator.kube import ApiAccess
from vpp_operator.watch import Watch, WatchTarget

__all__ = ["ClusterNodes"]

_log = structlog.get_logger(__name__)


class ClusterNodes:
    """Takes the Nodes from a watch that begins when somebody asks for them (:meth:`follow`).

    ``changed`` is called when a range or address came or went, not for every heartbeat of a kubelet. A
    cluster that does not let this account list its Nodes is taken to have none.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.nodes: dict[str, NodeRanges] = {}
        self.known = False
        """Whether all have been listed."""
        self._changed = changed
        self._wanted = asyncio.Event()

    def follow(self) -> None:
        """The Nodes are needed from now on."""
        self._wanted.set()

    async def run(self, api: ApiAccess) -> None:
        """Wait until they are needed, then follow them until cancelled."""
        await self._wanted.wait()
        target = WatchTarget("/api/v1/nodes")
        await Watch(api, target, decode_node_ranges, self, on_refused=self.refused).run()

    def refused(self, code: int) -> None:
        """The API server refuses the list."""
        if code in (403, 404) and not self.known:
            _log.warning("Nodes are not listed: ranges of other nodes are not known", status=code)
            self._complete()

    def upsert(self, namespace: str, name: str, node: NodeRanges) -> None:
        """Take a Node."""
        if self.nodes.get(name) != node:
            self.nodes[name] = node
            self._tell()

    def delete(self, namespace: str, name: str) -> None:
        """Forget a Node."""
        if self.nodes.pop(name, None) is not None:
            self._tell()

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        """Keep what was known of a Node that cannot be read."""
        _log.error("Node not understood", name=name, error=str(error))

    def listed(self, resource_version: str) -> None:
        """The list is complete."""
        if not self.known:
            self._complete()

    def progress(self, resource_version: str) -> None:
        """An event or bookmark came."""

    def _complete(self) -> None:
        self.known = True
        self._changed()

    def _tell(self) -> None:
        # During the first list nobody looks at what is not complete.
        if self.known:
            self._changed()
