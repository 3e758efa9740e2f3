"""The few settings of the whole host that the dataplane needs: set by a privileged init container, else
checked.

Forwarding in both families, answering for GTP-U addresses by proxy ND, and the source ports of translated
flows kept away from the host's own sockets.
What was changed is in the journal with its value before; ``restore`` puts it back.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vpp_operator.node.journal import DEFAULT_JOURNAL, Entry, Journal
from vpp_operator.node.spec import DEFAULT_SNAT_RANGES, Finding

__all__ = ["apply", "check", "format_ports", "main", "parse_ports", "restore"]

_SYSCTL = Path("/proc/sys/net")
_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
_PROXY_ND = "ipv6/conf/all/proxy_ndp"
"""Lets the node answer for IPv6 addresses of GTP-U endpoints' own: only for those with a proxy entry."""
_RESERVED = "ipv4/ip_local_reserved_ports"
_KIND = "setting"


def parse_ports(text: str) -> set[int]:
    """Read ports and ranges separated by commas, as the kernel writes them. Raises ValueError naming the
    part."""
    ports: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise ValueError(f"{part!r} is no port range; write 10000-29999")
        first, last = int(low), int(high or low)
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"{part!r} must go upwards within 1-65535")
        ports.update(range(first, last + 1))
    return ports


def format_ports(ports: Iterable[int]) -> str:
    """Write ports as ranges separated by commas: ``10000-29999,31000``."""
    ranges: list[list[int]] = []
    for port in sorted(ports):
        if ranges and ranges[-1][1] == port - 1:
            ranges[-1][1] = port
        else:
            ranges.append([port, port])
    return ",".join(f"{low}-{high}" if low != high else f"{low}" for low, high in ranges)


def _read(name: str, root: Path) -> str | None:
    try:
        return (root / name).read_text().strip()
    except OSError:
        return None


def _set(journal: Journal, name: str, value: str, root: Path) -> bool:
    """Set one value, its old one journalled before; returns whether it had to be changed."""
    before = _read(name, root)
    if before is None or before == value:
        return False
    journal.record(Entry(_KIND, name, before))
    (root / name).write_text(value)
    return True


def apply(
    ranges: Iterable[tuple[int, int]], journal: Path = DEFAULT_JOURNAL, root: Path = _SYSCTL
) -> list[str]:
    """Set what is needed; returns a line for each change. ``ranges``: source ports of translated flows.

    Errors: OSError where /proc/sys is read-only.
    """
    made = Journal(journal)
    changed = []
    with made.locked():
        if _read("ipv6/conf/all/forwarding", root) == "0":
            # A router ignores router advertisements unless told otherwise: the node would lose its default
            # route.
            for setting in sorted((root / "ipv6/conf").glob("*/accept_ra")):
                name = str(setting.relative_to(root))
                if _read(name, root) == "1" and _set(made, name, "2", root):
                    changed.append(f"{name} = 2")
        for name in (*_FORWARDING, _PROXY_ND):
            if _set(made, name, "1", root):
                changed.append(f"{name} = 1")
        reserved = _read(_RESERVED, root)
        if reserved is not None:
            wanted = parse_ports(reserved) | {p for low, high in ranges for p in range(low, high + 1)}
            if _set(made, _RESERVED, format_ports(wanted), root):
                changed.append(f"{_RESERVED} = {format_ports(wanted)}")
    return changed


def restore(journal: Path = DEFAULT_JOURNAL, root: Path = _SYSCTL) -> list[str]:
    """Put back what ``apply`` changed, unless it was changed again since; returns a line for each setting."""
    made = Journal(journal)
    lines = []
    with made.locked():
        for entry in reversed(made.entries()):
            if entry.kind != _KIND or entry.original is None:
                continue
            now = _read(entry.name, root)
            ours = "1" if entry.name in (*_FORWARDING, _PROXY_ND) else "2"
            if now is not None and (entry.name == _RESERVED or now == ours):
                # An empty list of ports is written as a newline.
                (root / entry.name).write_text(entry.original + "\n")
                lines.append(f"{entry.name} = {entry.original or '(none)'}")
            made.forget(entry)
    return lines


def check(
    ranges: Iterable[tuple[int, int]], families: Iterable[int] = (4, 6), root: Path = _SYSCTL
) -> list[Finding]:
    """Return what is not set as it must be."""
    remedy = "set it on the node, or leave the chart's hostSettings.apply on"
    findings = []
    for family, name in zip((4, 6), _FORWARDING, strict=True):
        if family in families and _read(name, root) == "0":
            message = f"net.{name.replace('/', '.')} is 0: the node forwards no packets"
            findings.append(Finding("HostSettingsOK", "HostSettingDiffers", message, remedy))
    reserved = _read(_RESERVED, root)
    ephemeral = (_read("ipv4/ip_local_port_range", root) or "").split()
    if reserved is not None and len(ephemeral) == 2:
        own = set(range(int(ephemeral[0]), int(ephemeral[1]) + 1)) - parse_ports(reserved)
        shared = own & {p for low, high in ranges for p in range(low, high + 1)}
        if shared:
            message = (
                f"source ports {format_ports(shared)} of translated flows also go to the node's own sockets"
                " (net.ipv4.ip_local_reserved_ports)"
            )
            findings.append(Finding("HostSettingsOK", "HostSettingDiffers", message, remedy))
    return findings


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Set the host's settings (``vpp-operator host-settings``). Exit 2: SOURCE_PORTS is wrong.

    A host that cannot be written to is reported and left to the agent's conditions: the pod starts all the
    same.
    """
    parser = argparse.ArgumentParser(prog="vpp-operator host-settings", description=main.__doc__)
    parser.add_argument("--journal", type=Path, default=DEFAULT_JOURNAL)
    options = parser.parse_args(argv)
    text = (os.environ if environ is None else environ).get("SOURCE_PORTS", "")
    try:
        ports = parse_ports(text)
    except ValueError as exc:
        print(f"SOURCE_PORTS: {exc}", file=sys.stderr)
        return 2
    ranges = [(p, p) for p in ports] or list(DEFAULT_SNAT_RANGES)
    try:
        for line in apply(ranges, options.journal):
            print(f"set {line}")
    except OSError as exc:
        print(f"cannot set: {exc}; a privileged container can", file=sys.stderr)
    return 0
