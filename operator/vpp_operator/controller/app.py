"""The operator process: waits for the Lease, reconciles while it holds it, and ends when it does not.

A process leads at most once: losing the Lease, or the end of anything it leads with, ends the process, and
the pod starts anew as a waiting replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata

import structlog

from ..kube import Access, AccessError, ApiAccess, new_api_client
from ..watch import Watch, WatchTarget
from .events import EventSource
from .facts import DataplaneFacts, decode_dataplane
from .gtpu import GtpuController
from .health import Health, start_server
from .lease import Leadership, NotLeaderError, boot_time
from .reconcile import Controller
from .settings import Settings, SettingsError
from .state import DATAPLANES

__all__ = ["main", "run"]

_DRAIN_S = 8.0

_log = structlog.get_logger(__name__)


async def run(settings: Settings, access: Access) -> int:
    """Run until SIGTERM (0) or until leadership is lost or something fails (1)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    user_agent = f"vpp-operator/{_version()} ({settings.identity})"
    health = Health(settings.identity)
    api = new_api_client(access, user_agent=user_agent, connections=2)
    leadership = Leadership(
        api,
        name=settings.lease_name,
        namespace=access.namespace,
        identity=settings.identity,
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.renew_seconds,
        retry_seconds=settings.retry_seconds,
    )
    health.leading = lambda: leadership.leading
    health.lease_age = lambda: boot_time() - leadership.lock.last_answer
    health.longest_lease_age = 4 * settings.lease_seconds
    server = await start_server(health, settings.http_port)
    _log.info("waiting for the Lease", identity=settings.identity, lease=settings.lease_name)
    drained = False
    try:
        acquiring = asyncio.create_task(leadership.acquire(), name="acquire")
        if await _first(acquiring, stopped := asyncio.create_task(stop.wait(), name="stop")) is stopped:
            acquiring.cancel()
            return 0
        await acquiring
        _log.info("leading", identity=settings.identity)
        reason, drained = await _lead(settings, access, leadership, health, stopped, user_agent)
        _log.info("no longer leading", reason=reason, drained=drained)
        return 0 if stop.is_set() else 1
    except NotLeaderError as error:
        _log.error("not leading", error=str(error))
        return 1
    finally:
        await leadership.stop(release=drained)
        await api.rest_client.close()
        await server.cleanup()


async def _lead(
    settings: Settings,
    access: Access,
    leadership: Leadership,
    health: Health,
    stopped: asyncio.Task[bool],
    user_agent: str,
) -> tuple[str, bool]:
    """Reconcile until anything ends; return why, and whether all writes have come to their end."""
    async with ApiAccess(access, user_agent=user_agent, guard=leadership.fence.check) as api:
        controller = Controller(api, settings)
        health.controller = controller
        events = EventSource(
            access, release=settings.release, user_agent=user_agent, deliver=controller.deliver
        )
        watch = Watch(api, WatchTarget(DATAPLANES), decode_dataplane, controller)
        gtpu = GtpuController(api, settings, controller.state)
        health.gtpu = gtpu
        lost = asyncio.create_task(leadership.lost(), name="lost")
        work = asyncio.create_task(_work(controller, events, watch, gtpu, health), name="work")
        ended = asyncio.create_task(_ended(events), name="kopf")
        try:
            first = await _first(stopped, lost, work, ended)
            reason = _why(first)
        finally:
            ends = await asyncio.gather(controller.queue.drain(_DRAIN_S), gtpu.drain(_DRAIN_S))
            drained = all(ends)
            for task in (lost, work, ended):
                task.cancel()
            await asyncio.gather(lost, work, ended, return_exceptions=True)
            await events.stop()
    return reason, drained


async def _work(
    controller: Controller,
    events: EventSource,
    watch: Watch[DataplaneFacts],
    gtpu: GtpuController,
    health: Health,
) -> None:
    """List, then follow and reconcile. Ends only with an error."""
    await controller.load()
    health.loaded = True
    events.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run(), name="dataplanes")
        group.create_task(controller.queue.run(), name="queue")
        group.create_task(gtpu.run(), name="gtpu")


async def _ended(events: EventSource) -> str:
    return await asyncio.shield(events.ended)


async def _first(*tasks: asyncio.Task[object]) -> asyncio.Task[object]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return next(task for task in tasks if task in done)


def _why(task: asyncio.Task[object]) -> str:
    if task.get_name() == "stop":
        return "SIGTERM"
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        return f"{task.get_name()}: {type(error).__name__}: {error}"
    return str(task.result())


def _version() -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version("vpp-operator")
    return "0"


def main(arguments: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> int:
    """Run the operator process; the command line takes no arguments, all settings are in the environment."""
    environment = os.environ if environ is None else environ
    try:
        settings = Settings.from_environment(environment)
        access = Access.from_environment(environment)
    except (SettingsError, AccessError) as error:
        print(f"vpp-operator operator: {error}", file=sys.stderr)
        return 2
    try:
        return asyncio.run(run(settings, access))
    except ValueError as error:
        print(f"vpp-operator operator: {error}", file=sys.stderr)
        return 2
