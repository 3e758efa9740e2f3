"""The objects that kopf follows, handed over to the event loop that reconciles them.

kopf runs in a thread and an event loop of its own: it takes the process's signal handlers where it can, and
cancels every task of its loop when it ends, whoever made it. On built-in kinds it gets `kopf.on.event`
handlers only, which write nothing: no annotation, no finalizer. The same for own kinds, since nothing here
needs to be remembered on an object.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import kopf
import structlog

from ..api.base import GROUP, VERSION, JsonObject
from ..kube import Access, new_session

__all__ = ["EventSource", "kopf_settings"]

_log = structlog.get_logger(__name__)

Deliver = Callable[[str, bool, JsonObject], None]
"""Called in the main event loop with the kind, whether the object is gone, and the object."""


class _Forever:
    """Pauses between attempts without an end; not `Sized`, so that kopf never gives up."""

    def __iter__(self) -> Any:
        return itertools.chain((1, 1, 2, 3, 5), itertools.repeat(8))


def kopf_settings(settings: kopf.OperatorSettings, release: str) -> kopf.OperatorSettings:
    """Set everything that matters explicitly. Times are in seconds."""
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 3
    settings.networking.error_backoffs = _Forever()
    settings.networking.trust_env = False
    settings.watching.connect_timeout = 3
    settings.watching.server_timeout = 300
    # Longer than the API server's bookmarks are apart.
    settings.watching.inactivity_timeout = 90
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = 500
    settings.queueing.worker_limit = 64
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 1
    settings.execution.max_workers = 1
    settings.process.ultimate_exiting_timeout = None
    ours = f"app.kubernetes.io/instance={release},app.kubernetes.io/component in (agent,engine)"
    settings.watching.label_selectors["pods"] = ours
    settings.watching.label_selectors["apps", "daemonsets"] = ours
    return settings


class EventSource:
    """Runs kopf in a thread; `ended` resolves when kopf has ended, whatever the reason."""

    def __init__(self, access: Access, *, release: str, user_agent: str, deliver: Deliver) -> None:
        self._access = access
        self._release = release
        self._user_agent = user_agent
        self._deliver = deliver
        self._main = asyncio.get_running_loop()
        self._stop = threading.Event()
        self.ended: asyncio.Future[str] = self._main.create_future()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    async def stop(self, seconds: float = 5.0) -> None:
        """End kopf; it only reads, so that nothing depends on it ending in time."""
        self._stop.set()
        await asyncio.wait({self.ended}, timeout=seconds)

    # -------------------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        reason = "kopf ended"
        try:
            asyncio.run(self._operate())
        except BaseException as error:
            reason = f"kopf ended: {type(error).__name__}: {error}"
            _log.exception("kopf failed")
        finally:
            # Without the main loop there is nobody who wants to know.
            with contextlib.suppress(RuntimeError):
                self._main.call_soon_threadsafe(self._finish, reason)

    def _finish(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def _operate(self) -> None:
        logging.getLogger("kopf").setLevel(logging.WARNING)
        await kopf.operator(
            registry=self._registry(),
            settings=kopf_settings(kopf.OperatorSettings(), self._release),
            standalone=True,
            # For peering, which is off; kopf would look the user's name up, which a container need not have.
            identity=self._user_agent,  # type: ignore[arg-type]
            # Cluster-scoped kinds are followed anyway.
            namespaces=[self._access.namespace],
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        access, user_agent = self._access, self._user_agent

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = new_session(access, user_agent=user_agent)
            return kopf.AiohttpSession(server=access.base_url, aiohttp_session=session)

        kinds = {
            "Node": ("", "v1", "nodes"),
            "DataplaneTuning": (GROUP, VERSION, "dataplanetunings"),
            "DaemonSet": ("apps", "v1", "daemonsets"),
            "Pod": ("", "v1", "pods"),
        }
        for kind, resource in kinds.items():
            kopf.on.event(*resource, registry=registry, id=f"follow-{kind.lower()}")(self._handler(kind))
        return registry

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def follow(type: str | None, body: kopf.Body, **_: Any) -> None:
            # kopf's own view of the object changes under its hands: hand over a copy of the top.
            obj: JsonObject = dict(body)
            self._main.call_soon_threadsafe(self._deliver, kind, type == "DELETED", obj)

        return follow
