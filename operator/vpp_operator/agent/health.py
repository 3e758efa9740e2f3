"""HTTP servers of the agent: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from vpp_operator.agent.settings import Bind

__all__ = ["health_app", "metrics_app", "serve"]

Check = Callable[[], str]
"""Returns why not; empty: all is well."""


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        why = check()
        return web.Response(text=(why or "ok") + "\n", status=503 if why else 200)

    return handler


def health_app(live: Check, ready: Check) -> web.Application:
    """Return the application with /healthz (alive) and /readyz (first sync done and programmed)."""
    app = web.Application()
    app.router.add_get("/healthz", _answer(live))
    app.router.add_get("/readyz", _answer(ready))
    return app


def metrics_app(registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]]) -> web.Application:
    """Return the application with /metrics; ``refresh`` is awaited before the registry is asked."""

    async def metrics(_: web.Request) -> web.Response:
        await refresh()
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


async def serve(app: web.Application, bind: Bind, context: ssl.SSLContext | None = None) -> web.AppRunner:
    """Start to serve; the caller cleans the runner up. Raises OSError when the address is taken."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, bind.host or None, bind.port, ssl_context=context).start()
    return runner
