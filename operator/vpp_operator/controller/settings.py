"""Settings of the operator process, from its environment (set by the chart)."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ..api.tuning import Engine

__all__ = ["Settings", "SettingsError"]


class SettingsError(ValueError):
    """A setting cannot be used; the text names the variable and the remedy."""


@dataclass(frozen=True)
class Settings:
    """What the operator process is told. Times are in seconds."""

    identity: str
    """Name of this process in the Lease: the pod's name and a part that no other process has had."""
    release: str = "vpp-operator"
    lease_name: str = "vpp-operator"
    lease_seconds: float = 15.0
    """A replica takes over when the Lease has not been renewed for this long."""
    renew_seconds: float = 10.0
    """The leader writes nothing any more when it has not renewed the Lease for this long."""
    retry_seconds: float = 2.0
    engine: Engine = Engine.AUTO
    node_selector: Mapping[str, str] | None = None
    rollout_enabled: bool = True
    rollout_ready_seconds: float = 120.0
    unreachable_seconds: float = 40.0
    http_port: int = 8080
    figures_token_file: str = ""
    """Token for the agents' figures; empty: they are not read."""
    figures_seconds: float = 30.0
    """Pause between two readings of all agents."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment.

        Raises:
            SettingsError: a variable cannot be read.
        """
        name = environ.get("POD_NAME") or socket.gethostname()
        settings = cls(
            identity=f"{name}_{uuid.uuid4()}",
            release=environ.get("RELEASE") or cls.release,
            lease_name=environ.get("LEASE_NAME") or cls.lease_name,
            lease_seconds=_number(environ, "LEASE_SECONDS", cls.lease_seconds, 1, 600),
            renew_seconds=_number(environ, "LEASE_RENEW_SECONDS", cls.renew_seconds, 1, 600),
            retry_seconds=_number(environ, "LEASE_RETRY_SECONDS", cls.retry_seconds, 1, 60),
            engine=_engine(environ.get("ENGINE") or cls.engine),
            node_selector=_labels(environ, "NODE_SELECTOR"),
            rollout_enabled=_switch(environ, "ROLLOUT_ENABLED", cls.rollout_enabled),
            rollout_ready_seconds=_number(
                environ, "ROLLOUT_READY_SECONDS", cls.rollout_ready_seconds, 1, 3600
            ),
            unreachable_seconds=_number(environ, "UNREACHABLE_SECONDS", cls.unreachable_seconds, 1, 3600),
            figures_token_file=environ.get("FIGURES_TOKEN_FILE") or "",
            figures_seconds=_number(environ, "FIGURES_SECONDS", cls.figures_seconds, 1, 3600),
            http_port=int(_number(environ, "HTTP_PORT", cls.http_port, 0, 65535)),
        )
        if settings.renew_seconds <= 1.2 * settings.retry_seconds:
            raise SettingsError("LEASE_RENEW_SECONDS: must be more than 1.2 times LEASE_RETRY_SECONDS")
        if settings.lease_seconds <= settings.renew_seconds:
            raise SettingsError("LEASE_SECONDS: must be more than LEASE_RENEW_SECONDS")
        return settings


def _number(environ: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise SettingsError(f"{name}: {text!r} is no number from {low:g} to {high:g}")
    return value


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name) or str(default).lower()
    if text not in ("true", "false"):
        raise SettingsError(f"{name}: {text!r} is neither true nor false")
    return text == "true"


def _engine(text: str) -> Engine:
    try:
        return Engine(text)
    except ValueError:
        raise SettingsError(f"ENGINE: {text!r} is none of {', '.join(Engine)}") from None


def _labels(environ: Mapping[str, str], name: str) -> Mapping[str, str] | None:
    text = environ.get(name) or "{}"
    try:
        labels = json.loads(text)
    except json.JSONDecodeError:
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise SettingsError(f'{name}: {text!r} is no JSON object of labels, as in {{"pool": "edge"}}')
    return labels
