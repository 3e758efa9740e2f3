"""Settings of the agent: command line for what a person changes, environment for what the chart gives."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from vpp_operator.agent.facts import PortRange, parse_networks, parse_port_ranges
from vpp_operator.agent.lease import LeaseTimes
from vpp_operator.node.spec import DEFAULT_SNAT_RANGES, IpNetwork

__all__ = ["Bind", "Settings", "SettingsError", "parse_bind", "parse_settings"]


RUN_DIR = Path("/run/vpp-operator")
STATE_DIR = Path("/var/lib/vpp-operator")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


class SettingsError(ValueError):
    """A setting is wrong; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is decided outside."""

    node_name: str
    socket: Path = RUN_DIR / "embedded.sock"
    vpp_socket: Path = RUN_DIR / "vpp" / "api.sock"
    run_dir: Path = RUN_DIR
    state_dir: Path = STATE_DIR
    health: Bind = Bind("127.0.0.1", 9470)
    metrics: Bind = Bind("127.0.0.1", 9471)
    figures: Bind = Bind("", 9472)
    engine: str = "auto"
    node_selector: Mapping[str, str] | None = None
    service_cidrs: tuple[IpNetwork, ...] = ()
    pod_cidrs: tuple[IpNetwork, ...] = ()
    external_ips: bool = True
    proxy_name: str | None = None
    source_ports: tuple[PortRange, ...] = DEFAULT_SNAT_RANGES
    steering: bool = True
    audit_seconds: float = 180.0
    lease_times: LeaseTimes = field(default_factory=LeaseTimes)


def parse_bind(text: str, setting: str) -> Bind:
    """Read host:port or [ipv6]:port. Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535 or (":" in host and host[0] != "["):
        raise SettingsError(
            f"{setting}: {text!r} is no address to listen on; write 127.0.0.1:9470 or [::]:9470"
        )
    return Bind(host.strip("[]"), int(port))


def _selector(text: str) -> dict[str, str] | None:
    if not text:
        return None
    try:
        selector = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"NODE_SELECTOR: not JSON ({error}); give an object of labels") from None
    if not selector:
        return None
    if not isinstance(selector, dict) or not all(isinstance(value, str) for value in selector.values()):
        raise SettingsError(
            'NODE_SELECTOR: give an object of labels with text values, as in {"role": "edge"}'
        )
    return selector


def _boolean(text: str, setting: str, default: bool) -> bool:
    if not text:
        return default
    if text.lower() not in ("true", "false"):
        raise SettingsError(f"{setting}: {text!r} is neither true nor false")
    return text.lower() == "true"


def _proxy_name(text: str) -> str | None:
    if not text:
        return None
    if not _LABEL_VALUE.fullmatch(text):
        raise SettingsError(
            f"PROXY_NAME: {text!r} cannot be the value of a label; give at most 63 letters, digits, '-', '_' "
            "and '.'"
        )
    return text


def parse_settings(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read command line and environment.

    Raises:
        SettingsError: a value is wrong or missing.
    """
    parser = argparse.ArgumentParser(
        prog="vpp-operator agent",
        description="Follow the cluster's Services and keep this node's dataplane equal to them.",
    )
    parser.add_argument("--node-name", default=environ.get("NODE_NAME", ""), help="default: NODE_NAME")
    parser.add_argument(
        "--socket", type=Path, default=RUN_DIR / "embedded.sock", help="control socket of the embedded engine"
    )
    parser.add_argument(
        "--vpp-socket", type=Path, default=RUN_DIR / "vpp" / "api.sock", help="binary API socket of VPP"
    )
    parser.add_argument("--run-dir", type=Path, default=RUN_DIR, help="kept until the next boot")
    parser.add_argument("--state-dir", type=Path, default=STATE_DIR, help="kept over a boot")
    parser.add_argument("--health-bind", default="127.0.0.1:9470", help="/healthz and /readyz")
    parser.add_argument("--metrics-bind", default="127.0.0.1:9471", help="/metrics for Prometheus")
    parser.add_argument("--figures-bind", default=":9472", help="per-tunnel figures for the operator (HTTPS)")
    parser.add_argument(
        "--no-steering", action="store_true", help="program the dataplane, leave the node's network alone"
    )
    parser.add_argument(
        "--audit-seconds", type=float, default=180.0, help="pause between comparisons with the dataplane"
    )
    options = parser.parse_args(argv)
    if not options.node_name:
        raise SettingsError("NODE_NAME: not set; set it to the name of the Node this process runs on")
    if options.audit_seconds < 1:
        raise SettingsError("--audit-seconds: give at least 1")
    try:
        return Settings(
            node_name=options.node_name,
            socket=options.socket,
            vpp_socket=options.vpp_socket,
            run_dir=options.run_dir,
            state_dir=options.state_dir,
            health=parse_bind(options.health_bind, "--health-bind"),
            metrics=parse_bind(options.metrics_bind, "--metrics-bind"),
            figures=parse_bind(options.figures_bind, "--figures-bind"),
            engine=environ.get("ENGINE") or "auto",
            node_selector=_selector(environ.get("NODE_SELECTOR", "")),
            service_cidrs=parse_networks(environ.get("SERVICE_CIDRS", ""), "SERVICE_CIDRS"),
            pod_cidrs=parse_networks(environ.get("POD_CIDRS", ""), "POD_CIDRS"),
            external_ips=_boolean(environ.get("EXTERNAL_IPS", ""), "EXTERNAL_IPS", True),
            proxy_name=_proxy_name(environ.get("PROXY_NAME", "")),
            source_ports=parse_port_ranges(environ.get("SOURCE_PORTS", ""), "SOURCE_PORTS")
            or DEFAULT_SNAT_RANGES,
            steering=not options.no_steering,
            audit_seconds=options.audit_seconds,
        )
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(str(error)) from None
