"""``vpp-operator node show``: what was made on this node and what the kernel holds of it, for people."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path

from vpp_operator.node import firewall, netlink, nft
from vpp_operator.node.journal import DEFAULT_JOURNAL, Journal, NodeNetworkError
from vpp_operator.node.ruleset import SETS
from vpp_operator.node.spec import NodePort, Target
from vpp_operator.node.state import Element

__all__ = ["main"]


def _text(element: Element) -> str:
    if isinstance(element, Target):
        return f"{ipaddress.ip_address(element.address)} {element.protocol} {element.port}"
    if isinstance(element, NodePort):
        return f"{element.protocol} {element.port}"
    if isinstance(element, bytes):
        return str(ipaddress.ip_address(element))
    if isinstance(element, tuple):
        return f"{element[0]}-{element[1]}"
    return str(element)


def main(argv: Sequence[str] | None = None) -> int:
    """Print journal, link, rules, routes and sets (protocols as IANA numbers). Exit 1: they cannot be
    read."""
    parser = argparse.ArgumentParser(prog="vpp-operator node show", description=main.__doc__)
    parser.add_argument("--journal", type=Path, default=DEFAULT_JOURNAL, help="default %(default)s")
    parser.add_argument("--elements", type=int, default=20, help="elements shown of each set (%(default)s)")
    options = parser.parse_args(argv)
    try:
        for entry in Journal(options.journal).entries():
            before = f" (before: {entry.original or 'empty'})" if entry.original is not None else ""
            print(f"journal: {entry.kind} {entry.name}{before}")
        with netlink.connection() as ip:
            kernel = netlink.read_kernel(ip)
        print(f"link: {kernel.link or 'none'}")
        if kernel.frames:
            print(f"link of Ethernet tunnels: {kernel.frames}")
        for line in (*sorted(kernel.rules), *sorted(kernel.routes)):
            print(line)
        for proxy in sorted(kernel.proxies):
            print(proxy)
        for chain in firewall.firewalls():
            print(
                f"{chain.command} FORWARD: {'accepts' if firewall.accepts(chain) else 'does not accept'} vpp0"
            )
        print(f"nftables table: {nft.table_kind()}")
        for name, declared in SETS.items():
            if declared.dynamic:
                continue
            content = nft.read_set(name)
            shown = sorted(_text(e) for e in content.elements)
            print(f"set {name}: {len(shown)}, running out {len(content.lingering)}")
            for text in shown[: options.elements]:
                print(f"  {text}")
    except (NodeNetworkError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0
