"""What a node looks like: everything that an installation may leave behind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields

from tests.cluster.places import Place


@dataclass(frozen=True)
class NodeState:
    """Links, addresses, rules, routes, tables, settings, mounts and files of a node, as comparable lines."""

    links: tuple[str, ...]
    addresses: tuple[str, ...]
    rules: tuple[str, ...]
    routes: tuple[str, ...]
    neighbours: tuple[str, ...]
    nftables: tuple[str, ...]
    settings: tuple[str, ...]
    mounts: tuple[str, ...]
    files: tuple[str, ...]

    def differences(self, before: NodeState) -> list[str]:
        """Lines that came or went since ``before``."""
        found = []
        for field in fields(self):
            now, then = set(getattr(self, field.name)), set(getattr(before, field.name))
            found += [f"{field.name}: new: {line}" for line in sorted(now - then)]
            found += [f"{field.name}: gone: {line}" for line in sorted(then - now)]
        return found


# Links of pods come and go with them, and so do their routes and addresses.
_POD = re.compile(r"\bveth[0-9a-f]{8}\b")
_SETTINGS = (
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_local_port_range",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.eth0.rp_filter",
    "net.ipv4.conf.all.accept_local",
    "net.ipv4.conf.eth0.accept_local",
    "net.ipv4.fwmark_reflect",
    "net.ipv6.fwmark_reflect",
    "net.ipv4.tcp_fwmark_accept",
)


def node_state(place: Place) -> NodeState:
    """Read the state of a node of the test cluster."""

    def lines(*command: str) -> tuple[str, ...]:
        text = place.run(*command)
        return tuple(line.rstrip() for line in text.splitlines() if line.strip() and not _POD.search(line))

    links = json.loads(place.run("ip", "-json", "link"))
    routes = [
        f"IPv{family}: {line}"
        for family in "46"
        for line in lines("ip", f"-{family}", "route", "show", "table", "all")
    ]
    rules = [f"IPv{family}: {line}" for family in "46" for line in lines("ip", f"-{family}", "rule")]
    settings = [
        f"{name}={place.run('cat', '/proc/sys/' + name.replace('.', '/')).strip()}" for name in _SETTINGS
    ]
    mounts = [line.split()[1] for line in lines("cat", "/proc/self/mounts")]
    return NodeState(
        links=tuple(link["ifname"] for link in links if not _POD.fullmatch(link["ifname"])),
        addresses=lines("ip", "-oneline", "address"),
        rules=tuple(rules),
        # The cache of multicast and of neighbours is the kernel's own business.
        routes=tuple(re.sub(r" expires \d+sec| pref \w+", "", line) for line in routes),
        neighbours=lines("ip", "neighbour", "show", "nud", "permanent"),
        nftables=ruleset_lines(place.run("nft", "--stateless", "list", "ruleset")),
        settings=tuple(settings),
        mounts=tuple(mount for mount in mounts if not re.search(r"/(containerd|kubelet|netns)/", mount)),
        files=lines("find", "/run", "/var/lib", "/dev/shm", "-maxdepth", "2", "-path", "*vpp*"),
    )


def ruleset_lines(text: str) -> tuple[str, ...]:
    """Lines of an nftables ruleset, each with its table and chain before it, so that they compare alone."""
    lines: list[str] = []
    place: list[str] = []
    for line in (line.strip() for line in text.splitlines()):
        # A comment line of iptables-nft says only who manages the table.
        if not line or line.startswith("#"):
            continue
        if line == "}":
            place.pop()
        elif line.endswith("{"):
            place.append(line.removesuffix("{").strip())
            lines.append(": ".join(place))
        else:
            lines.append(": ".join([*place, line]))
    return tuple(lines)
