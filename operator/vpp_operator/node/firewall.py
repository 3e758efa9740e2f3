"""The FORWARD chains of iptables: what passes through the host link is accepted at their head.

An accept in a table of our own does not overrule another table's drop, so the rule goes where the policy is:
only where FORWARD exists already, for nftables-based and legacy iptables and both families. Everything here
blocks.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vpp_operator.node import nft
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.state import HOST_LINK

__all__ = ["COMMENT", "Firewall", "accepts", "delete", "firewalls", "insert", "present"]

COMMENT = "vpp-operator"
_RULES = (("-i", HOST_LINK), ("-o", HOST_LINK))


@dataclass(frozen=True, slots=True, order=True)
class Firewall:
    """One FORWARD chain, named by the iptables command that changes it (``iptables-nft``,
    ``ip6tables-legacy``, ...)."""

    command: str

    @property
    def tool(self) -> str | None:
        """Path of the command, or of the plain one where the variant has no name of its own."""
        plain = self.command.partition("-")[0]
        return shutil.which(self.command) or shutil.which(plain)


def firewalls() -> Iterator[Firewall]:
    """Yield the FORWARD chains that exist on the node; none is created by looking."""
    for family, plain, names in (
        ("ip", "iptables", "ip_tables_names"),
        ("ip6", "ip6tables", "ip6_tables_names"),
    ):
        if nft.has_chain(family, "filter", "FORWARD"):
            yield Firewall(f"{plain}-nft")
        try:
            legacy = Path(f"/proc/thread-self/net/{names}").read_text().split()
        except OSError:
            legacy = []
        if "filter" in legacy and shutil.which(f"{plain}-legacy"):
            yield Firewall(f"{plain}-legacy")


def _run(firewall: Firewall, verb: str, rule: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    tool = firewall.tool
    if tool is None:
        raise NodeNetworkError(
            f"{firewall.command} is not installed; the agent's image must hold the package iptables"
        )
    match = [*rule, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
    place = ["FORWARD", "1"] if verb == "-I" else ["FORWARD"]
    arguments = [tool, "-w", "10", verb, *place, *match]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def accepts(firewall: Firewall) -> bool:
    """Return whether both rules are there."""
    return all(_run(firewall, "-C", rule).returncode == 0 for rule in _RULES)


def present(firewall: Firewall) -> bool:
    """Return whether any of the rules is there."""
    return any(_run(firewall, "-C", rule).returncode == 0 for rule in _RULES)


def insert(firewall: Firewall) -> None:
    """Put the rules that are missing at the head."""
    for rule in _RULES:
        if _run(firewall, "-C", rule).returncode == 0:
            continue
        done = _run(firewall, "-I", rule)
        if done.returncode:
            raise NodeNetworkError(f"{firewall.command} -I FORWARD: {done.stderr.strip()[:300]}")


def delete(firewall: Firewall) -> bool:
    """Remove the rules, however often they are there; returns whether any was."""
    found = False
    for rule in _RULES:
        while _run(firewall, "-D", rule).returncode == 0:
            found = True
    return found
