"""The last known API servers, kept on the node: an agent that starts while the installed list is outdated
still reaches the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from vpp_operator.kube import AccessError, Server, ServerList, parse_servers

__all__ = ["ServerMemory", "decode_kubernetes_slice"]

_log = structlog.get_logger(__name__)


def decode_kubernetes_slice(obj: Mapping[str, Any]) -> tuple[Server, ...]:
    """Return the API servers of an EndpointSlice of the Service default/kubernetes; () if it is another's."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if labels.get("kubernetes.io/service-name") != "kubernetes":
        return ()
    ports = [p.get("port") for p in obj.get("ports") or () if p.get("name") == "https" and p.get("port")]
    hosts = [
        entry["addresses"][0]
        for entry in obj.get("endpoints") or ()
        if entry.get("addresses") and (entry.get("conditions") or {}).get("ready") is not False
    ]
    return tuple(Server(host, port) for host in hosts for port in ports)


class ServerMemory:
    """Keeps a :class:`ServerList` up to date with the cluster, and a copy in a file.

    The list given at start always stays in use as well: behind a load balancer the cluster's own list may
    not be reachable from here.
    """

    def __init__(self, servers: ServerList, file: Path) -> None:
        self._servers = servers
        self._given = servers.servers
        self._file = file
        self._slices: dict[str, tuple[Server, ...]] = {}

    def load(self) -> None:
        """Add what was known before, behind the given list."""
        try:
            known = parse_servers(self._file.read_text(), str(self._file))
        except FileNotFoundError:
            return
        except (OSError, AccessError) as error:
            _log.warning("last known API servers not usable", file=str(self._file), error=str(error))
            return
        self._servers.replace((*self._given, *known))

    def learn(self, name: str, servers: tuple[Server, ...]) -> None:
        """Take the API servers that one slice names; () when it is gone."""
        if servers:
            self._slices[name] = servers
        else:
            self._slices.pop(name, None)
        known = [server for name in sorted(self._slices) for server in self._slices[name]]
        if not known:
            return
        if self._servers.replace((*self._given, *known)) or not self._file.exists():
            self._save(known)

    def _save(self, servers: list[Server]) -> None:
        text = ",".join(str(server) for server in servers) + "\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(text)
            os.replace(part, self._file)  # noqa: PTH105 - atomic on one file system
        except OSError as error:
            _log.warning("last known API servers not kept", file=str(self._file), error=str(error))
