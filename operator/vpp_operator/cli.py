"""The command line ``vpp-operator``: one subcommand for each process, imported only when it is run."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import orjson
import structlog

__all__ = ["main", "set_up_logging"]

COMMANDS: dict[tuple[str, ...], tuple[str, str]] = {
    ("operator",): ("vpp_operator.controller.app", "the controller: one per cluster leads, the others wait"),
    ("agent",): ("vpp_operator.agent.process", "the node process: keeps this node's dataplane up to date"),
    ("uninstall",): ("vpp_operator.controller.uninstall", "the steps of the chart's uninstallation"),
    ("preflight",): ("vpp_operator.node.preflight", "check that this node can run the dataplane"),
    ("host-settings",): ("vpp_operator.node.hostsettings", "set the few global settings of this node"),
    ("node", "show"): ("vpp_operator.node.show", "show what was changed on this node"),
    ("node", "cleanup"): ("vpp_operator.node.cleanup", "undo what was changed on this node"),
}
LEVELS = ("debug", "info", "warning", "error")


def usage() -> str:
    """Return the help text."""
    width = max(len(" ".join(words)) for words in COMMANDS)
    lines = [f"  {' '.join(words):<{width}}  {text}" for words, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vpp-operator COMMAND [--help] ...",
            "",
            *lines,
            "",
            f"LOG_LEVEL: {', '.join(LEVELS)} (default info)",
        ]
    )


def set_up_logging(level: str) -> None:
    """Log JSON lines to standard error, libraries included. Raises ValueError for an unknown level."""
    if level.lower() not in LEVELS:
        raise ValueError(f"LOG_LEVEL: {level!r} is none of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]

    def dumps(obj: object, **_: object) -> str:
        return orjson.dumps(obj, default=str).decode()

    renderer = structlog.processors.JSONRenderer(dumps)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code (2: wrong use)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["--help"], ["-h"], ["help"]):
        print(usage())
        return 0
    for command, (module, _) in COMMANDS.items():
        if tuple(words[: len(command)]) == command:
            try:
                set_up_logging(os.environ.get("LOG_LEVEL") or "info")
            except ValueError as error:
                print(f"vpp-operator: {error}", file=sys.stderr)
                return 2
            return int(importlib.import_module(module).main(words[len(command) :]) or 0)
    shown = " ".join(words[:2]) or "no command"
    print(f"vpp-operator: {shown}: there is no such command\n\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
