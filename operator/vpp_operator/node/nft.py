"""Running ``nft``: loading scripts as transactions, and reading back what the table holds. Everything here
blocks."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from vpp_operator.node.chains import chains
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.ruleset import FAMILY, SETS, TABLE
from vpp_operator.node.spec import NodePort, Target
from vpp_operator.node.state import NO_CONSTANTS, Constants, Element

__all__ = [
    "SetContent",
    "TableState",
    "delete_table",
    "has_chain",
    "read_set",
    "run",
    "table_exists",
    "table_kind",
    "table_state",
]

_TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class SetContent:
    """Elements of a set: those that stay, and those that run out since they were removed."""

    elements: frozenset[Element] = frozenset()
    lingering: frozenset[Element] = frozenset()


def _nft(*arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("nft")
    if tool is None:
        raise NodeNetworkError("nft is not installed; the agent's image must hold the package nftables")
    try:
        return subprocess.run(
            [tool, *arguments], input=script, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise NodeNetworkError(f"nft {' '.join(arguments)}: no answer within {_TIMEOUT} s") from exc


def run(script: str) -> None:
    """Carry out a script as one transaction: all of it or nothing."""
    done = _nft("-f", "-", script=script)
    if done.returncode:
        raise NodeNetworkError(f"nft: {' '.join(done.stderr.split())[:500]}")


def _list(*what: str) -> list[dict[str, Any]] | None:
    done = _nft("-j", "-t", "list", *what) if what[0] != "set" else _nft("-j", "list", *what)
    if done.returncode:
        if "No such file" in done.stderr:
            return None
        raise NodeNetworkError(f"nft list {' '.join(what)}: {' '.join(done.stderr.split())[:500]}")
    document: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return document["nftables"]


@dataclass(frozen=True, slots=True)
class TableState:
    """What of the table is there."""

    loaded: bool = False
    """The table is there with its sets, and all its chains at their hooks."""
    present: bool = False
    """A table of that name is there."""
    right: frozenset[str] = frozenset()
    """Chains that hold exactly the rules expected."""


def table_state(constants: Constants) -> TableState:
    """Return what of the table that this release loads for ``constants`` the kernel holds."""
    listed = _list("table", FAMILY, TABLE)
    if listed is None:
        return TableState()
    comments: dict[str, list[str]] = {}
    hooks: dict[str, tuple[str, str, int] | None] = {}
    sets: set[str] = set()
    for item in listed:
        if chain := item.get("chain"):
            name = chain["name"]
            comments[name] = []
            hooks[name] = (chain["type"], chain["hook"], chain["prio"]) if "hook" in chain else None
            if chain.get("policy", "accept") != "accept":
                hooks[name] = ("", "", 0)
        elif rule := item.get("rule"):
            comments[rule["chain"]].append(rule.get("comment", ""))
        elif named := item.get("set"):
            sets.add(named["name"])
    expected = chains(constants)
    if sets != set(SETS) or hooks != {name: chain.hook for name, chain in expected.items()}:
        return TableState(present=True)
    right = (name for name, chain in expected.items() if comments[name] == list(chain.comments()))
    return TableState(True, True, frozenset(right))


def table_kind() -> str:
    """Return ``absent``, ``loaded``, or ``of another release``, for people: rules are compared by the
    agent."""
    state = table_state(NO_CONSTANTS)
    return "loaded" if state.loaded else "of another release" if state.present else "absent"


def delete_table() -> bool:
    """Remove the table; returns whether it was there."""
    if not table_exists():
        return False
    run(f"delete table {FAMILY} {TABLE}\n")
    return True


def table_exists() -> bool:
    """Return whether a table of our name is there."""
    return _list("table", FAMILY, TABLE) is not None


def has_chain(family: str, table: str, chain: str) -> bool:
    """Return whether a chain of others exists."""
    return _list("chain", family, table, chain) is not None


def read_set(name: str) -> SetContent:
    """Read a set of the table; empty when it is not there."""
    listed = _list("set", FAMILY, TABLE, name) or []
    raw: list[Any] = next((item["set"].get("elem", []) for item in listed if "set" in item), [])
    width = 16 if name.endswith("6") else 4
    stay: set[Element] = set()
    lingering: set[Element] = set()
    for item in raw:
        timed = isinstance(item, dict) and "elem" in item
        value = item["elem"]["val"] if timed else item
        into = lingering if timed and "timeout" in item["elem"] else stay
        into.add(_element(name, value, width))
    return SetContent(frozenset(stay), frozenset(lingering))


def _number(value: int | str) -> int:
    return int(value, 0) if isinstance(value, str) else value


def _element(name: str, value: Any, width: int) -> Element:
    if name == "snat_ports":
        low, high = value["range"] if isinstance(value, dict) else (value, value)
        return (_number(low), _number(high))
    if name == "node_ports":
        protocol, port = value["concat"]
        return NodePort(_number(protocol), _number(port))
    if isinstance(value, dict) and "concat" in value:
        address, protocol, port = value["concat"]
        return Target(_number(address).to_bytes(width, "big"), _number(protocol), _number(port))
    if name.startswith(("snat", "gtpu")):
        return ipaddress.ip_address(value).packed
    if isinstance(value, dict) and "prefix" in value:
        return ipaddress.ip_network((value["prefix"]["addr"], value["prefix"]["len"]))
    if isinstance(value, dict) and "range" in value:
        # nft shows a prefix that ends at the highest address as a range.
        first, last = (ipaddress.ip_address(v) for v in value["range"])
        length = first.max_prefixlen - (int(last) - int(first)).bit_length()
        return ipaddress.ip_network((int(first).to_bytes(width, "big"), length))
    return ipaddress.ip_network(value)
