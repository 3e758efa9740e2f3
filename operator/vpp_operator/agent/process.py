"""The node process from its start to its end. SIGTERM ends it and leaves everything on the node as it is.

Only Floating endpoints of a node that is itself about to go are given to another one before.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Mapping, Sequence

import structlog

from vpp_operator.agent.app import Agent
from vpp_operator.agent.checks import PreflightChecks
from vpp_operator.agent.settings import SettingsError, parse_settings
from vpp_operator.dataplane.chosen import ChosenDataplane
from vpp_operator.kube import Access, AccessError
from vpp_operator.node.network import NodeNetwork

__all__ = ["main"]

_log = structlog.get_logger(__name__)


async def _run_until_signal(agent: Agent) -> None:
    running = asyncio.create_task(agent.run())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        stopped.cancel()
        return running.result()
    await agent.leave()
    running.cancel()
    try:
        await running
    except asyncio.CancelledError:
        _log.info("ending; links, rules and tables stay as they are")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the agent until SIGTERM; return the exit code (2: a setting is wrong)."""
    environ = os.environ if environ is None else environ
    try:
        settings = parse_settings(sys.argv[1:] if argv is None else argv, environ)
        access = Access.from_environment(environ)
    except (SettingsError, AccessError) as error:
        _log.error("cannot start", error=str(error))
        return 2
    # Reading 10,000 Services and 100,000 endpoints makes millions of objects and no cycles: with the default
    # thresholds, collections take half of the time.
    gc.set_threshold(100_000, 50, 1000)
    network = NodeNetwork(settings.run_dir / "journal.json") if settings.steering else None
    agent = Agent(
        settings,
        access,
        ChosenDataplane(settings.run_dir, settings.engine, settings.socket, settings.vpp_socket),
        network,
        PreflightChecks(beside_other_proxy=settings.proxy_name is not None) if settings.steering else None,
    )
    asyncio.run(_run_until_signal(agent))
    return 0
