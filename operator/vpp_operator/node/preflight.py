"""What on this node hinders or limits the dataplane: looked at cheaply, never changed, never a crash on a
missing tool."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vpp_operator.node import hostsettings, neighbours
from vpp_operator.node.choose import look, prepare, read_request
from vpp_operator.node.gtpu import accept, listener_findings
from vpp_operator.node.hostsettings import format_ports
from vpp_operator.node.ruleset import FAMILY, TABLE
from vpp_operator.node.spec import DEFAULT_SNAT_RANGES, Finding, IpAddress, IpNetwork, NodeSpec
from vpp_operator.node.state import ENGINE_LINK, FRAME_ENGINE_LINK, FRAME_LINK

__all__ = ["attach_mode", "check", "findings_from_ruleset", "listeners", "main", "udp_listeners"]

RESULT = Path("/run/vpp-operator/preflight.json")
_PROC = Path("/proc/thread-self")
_NET_ADMIN = 12
_TOOLS = {"nft": "nftables", "iptables": "iptables"}
_POLICY = {
    "cali-": "Calico",
    "KUBE-ROUTER": "kube-router",
    "KUBE-NWPLCY": "kube-router",
    "kube-network-policies": "kube-network-policies",
    "WEAVE-NPC": "Weave Net",
    "ANTREA-": "Antrea",
}
_LISTENING = {"tcp": "0A", "udp": "07"}
_CAPACITIES = ("sessions", "services", "frontends", "endpoints", "tunnels")


def _run(*command: str) -> str | None:
    tool = shutil.which(command[0])
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, *command[1:]], capture_output=True, text=True, timeout=30, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _legacy(family: str, command: str) -> str:
    """Return the rules of legacy iptables, where its tables are in use: asking for them would make them."""
    try:
        if not (_PROC / f"net/{family}_tables_names").read_text().split():
            return ""
    except OSError:
        return ""
    return _run(command) or ""


def findings_from_ruleset(rules: str) -> list[Finding]:
    """Return what the text of all packet filter rules (nft list, iptables-save) shows. Pure."""
    findings = []
    proxies = []
    # kube-proxy leaves KUBE-MARK-MASQ and the like behind, and the kubelet makes KUBE-FIREWALL: per Service
    # counts.
    if len(re.findall(r"\bKUBE-SVC-[A-Z0-9]+|\bKUBE-EXT-[A-Z0-9]+", rules)):
        proxies.append("kube-proxy's iptables rules (chains KUBE-SVC-*)")
    if re.search(r"^table (?:ip6?|inet) kube-proxy\b", rules, re.MULTILINE):
        proxies.append("kube-proxy's nftables table kube-proxy")
    if proxies:
        remedy = "stop kube-proxy on this node, then run: kube-proxy --cleanup"
        findings.append(_other_proxy(" and ".join(proxies), remedy))
    engines = sorted({name for marker, name in _POLICY.items() if marker in rules})
    if engines:
        message = (
            f"{', '.join(engines)} filters before Services are translated: it sees the address of the Service"
        )
        remedy = (
            "allow the Service's addresses in egress policies, or restrict by the endpoint's ingress policy"
        )
        findings.append(Finding("NetworkPolicyLimited", "PolicyBeforeTranslation", message, remedy))
    for table in _dropping_forward_tables(rules):
        message = (
            f"the nftables table {table} drops forwarded packets by policy; an accept elsewhere does not help"
        )
        remedy = f"accept iifname vpp0 and oifname vpp0 in the forward chain of {table}"
        findings.append(Finding("Degraded", "PreflightFailed", message, remedy))
    return findings


def _dropping_forward_tables(rules: str) -> Iterator[str]:
    """Yield nftables tables, others than iptables' own, with a forward chain whose policy is drop."""
    table = ""
    for line in rules.splitlines():
        if line.startswith("table "):
            table = line[6:].rstrip(" {")
        elif "hook forward" in line and "policy drop" in line and table not in ("ip filter", "ip6 filter"):
            yield table


def _other_proxy(what: str, remedy: str) -> Finding:
    return Finding("OtherProxyPresent", "OtherProxyRules", f"{what} would translate Services first", remedy)


def _packet_filters(spec: NodeSpec | None) -> Iterator[Finding]:
    rules = []
    for line in (_run("nft", "list", "tables") or "").splitlines():
        # Large ones are not listed: ours is known, kube-proxy's says enough by being there.
        table = line.split()[1:]
        large = len(table) != 2 or table[1] == "kube-proxy" or table == [FAMILY, TABLE]
        rules.append(line if large else _run("nft", "-t", "list", "table", *table) or "")
    rules += [_legacy("ip", "iptables-legacy-save"), _legacy("ip6", "ip6tables-legacy-save")]
    yield from findings_from_ruleset("\n".join(rules))


def _ipvs(spec: NodeSpec | None) -> Iterator[Finding]:
    try:
        lines = (_PROC / "net/ip_vs").read_text().splitlines()
    except OSError:
        return
    services = [line for line in lines if line.startswith(("TCP", "UDP", "SCTP"))]
    if services:
        yield _other_proxy(
            f"IPVS with {len(services)} virtual services", "stop kube-proxy, then run: ipvsadm --clear"
        )


def _links(spec: NodeSpec | None) -> Iterator[Finding]:
    with IPRoute() as ip:
        names = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
    cilium = [n for n in names if n.startswith(("cilium_", "lxc_health"))]
    if cilium:
        remedy = (
            "run Cilium with kubeProxyReplacement=false, or use its own service proxy and not this operator"
        )
        yield _other_proxy(f"Cilium (interfaces {', '.join(cilium[:4])})", remedy)


def _privileges(spec: NodeSpec | None) -> Iterator[Finding]:
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            yield Finding(
                "PreflightPassed", "PreflightFailed", f"{tool} is not installed", f"install {package}"
            )
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", (_PROC / "status").read_text(), re.MULTILINE)
    if capabilities and not int(capabilities[1], 16) >> _NET_ADMIN & 1:
        message = "the capability NET_ADMIN is missing: neither links nor rules can be made"
        yield Finding(
            "PreflightPassed", "PreflightFailed", message, "give the container capabilities.add [NET_ADMIN]"
        )
        return
    if shutil.which("nft") and _run("nft", "list", "tables") is None:
        message = "nft cannot speak to the kernel: nf_tables is missing"
        yield Finding(
            "PreflightPassed", "PreflightFailed", message, "load nf_tables, nft_ct, nft_fib_inet, nft_nat"
        )


def _settings(spec: NodeSpec | None) -> Iterator[Finding]:
    ranges = spec.snat_ranges if spec else DEFAULT_SNAT_RANGES
    yield from hostsettings.check(ranges, spec.families() if spec else (4, 6))


def listeners(text: str, protocol: str) -> set[int]:
    """Return the listening ports in the text of /proc/net/tcp, tcp6, udp or udp6. ``protocol``: tcp or udp.
    Pure."""
    ports = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        # A connected UDP socket has a peer; only those without one wait for anybody.
        if len(fields) > 3 and fields[3] == _LISTENING[protocol] and fields[2].endswith(":0000"):
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def _ports(spec: NodeSpec | None) -> Iterator[Finding]:
    found: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    for protocol, ports in found.items():
        for name in (protocol, f"{protocol}6"):
            try:
                ports |= listeners((_PROC / "net" / name).read_text(), protocol)
            except OSError:
                continue
    names = {6: "tcp", 17: "udp"}
    allocated = {
        p.port
        for p in (spec.node_ports if spec else ())
        if p.port in found.get(names.get(p.protocol, ""), ())
    }
    if allocated:
        message = f"processes of the node listen on allocated node ports {format_ports(allocated)}"
        yield Finding("Degraded", "PreflightFailed", message, "move them: the node port of the Service wins")
    ranges = spec.snat_ranges if spec else ()
    taken = {p for ports in found.values() for p in ports if any(low <= p <= high for low, high in ranges)}
    if taken:
        message = f"processes of the node listen on {format_ports(taken)}, source ports of the pool"
        yield Finding("Degraded", "PreflightFailed", message, "leave these ports out of sourcePorts.ranges")


def udp_listeners(text: str) -> Iterator[tuple[IpAddress, int]]:
    """Yield address and port of the sockets in the text of /proc/net/udp or udp6 that wait for anybody.
    Pure."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENING["udp"] and fields[2].endswith(":0000"):
            address, _, port = fields[1].partition(":")
            # The kernel writes an address as words of the machine's byte order.
            words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
            raw = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
            yield ipaddress.ip_address(raw), int(port, 16)


def _gtpu(spec: NodeSpec | None) -> Iterator[Finding]:
    if spec is None or not (spec.gtpu or spec.ue_pools):
        return
    with IPRoute() as ip:
        accepted = accept(spec, neighbours.read_ground(ip))
    found: list[tuple[IpAddress, int]] = []
    for name in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            found += udp_listeners((_PROC / "net" / name).read_text())
    yield from accepted.refused
    yield from listener_findings(accepted, found, neighbours.proxy_nd_is_on())


def _mtu(spec: NodeSpec | None) -> Iterator[Finding]:
    with IPRoute() as ip:
        mtus = {
            str(link.get_attr("IFLA_IFNAME")): int(link.get_attr("IFLA_MTU"))
            for link in ip.get_links()
            if link["flags"] & 1 and link.get_attr("IFLA_IFNAME") != "lo"
        }
    link = mtus.pop("vpp0", None)
    for own in (ENGINE_LINK, FRAME_LINK, FRAME_ENGINE_LINK):
        mtus.pop(own, None)
    larger = {name: mtu for name, mtu in mtus.items() if link is not None and mtu > link}
    if larger:
        name, mtu = max(larger.items(), key=lambda item: item[1])
        message = f"interface {name} has an MTU of {mtu} bytes, the host link {link}"
        yield Finding("Degraded", "PreflightFailed", message, "give pods and uplink the same MTU")


def attach_mode(pod_cidrs: Iterable[IpNetwork]) -> str:
    """Return how the pods of this node are connected. Blocks.

    ``routed``: a route for each, all they send passes the host. ``bridge``: they answer each other past the
    host's routing, so a reply to a Service's client on the same bridge would not be translated back: the
    source of such flows must be the node's (the setting MASQUERADE_ALL). ``isolated``: on a bridge whose
    ports reach the host only. ``unknown``: no interface of pods was found.
    """
    cidrs = list(pod_cidrs)
    try:
        with IPRoute() as ip:
            links = list(ip.get_links())
            kinds = {i["index"]: i.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") for i in links}
            found = {_bearer(route, kinds, cidrs) for route in ip.get_routes(table=254)}
    except (NetlinkError, OSError):
        return "unknown"
    bridges = {index for index in found if kinds.get(index) == "bridge"}
    if not bridges:
        return "routed" if found - {0} else "unknown"
    ports = [i for i in links if i.get_attr("IFLA_MASTER") in bridges]
    return "isolated" if ports and all(_isolated(port) for port in ports) else "bridge"


def _isolated(port: Any) -> bool:
    data = port.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
    return bool(data and data.get_attr("IFLA_BRPORT_ISOLATED"))


def _bearer(route: Any, kinds: dict[int, str | None], pod_cidrs: list[IpNetwork]) -> int:
    """Return the index of the interface of a route to pods of this node, 0 for another route."""
    destination, index = route.get_attr("RTA_DST"), route.get_attr("RTA_OIF") or 0
    kind = kinds.get(index)
    if destination is None or kind is None:
        return 0
    network = ipaddress.ip_network((destination, route["dst_len"]))
    ours = any(
        n.version == network.version and (network.subnet_of(n) or n.subnet_of(network))  # type: ignore[arg-type]
        for n in pod_cidrs
    )
    alone = network.prefixlen == network.max_prefixlen
    return index if ours and (kind == "bridge" or alone) else 0


_CHECKS: tuple[Callable[[NodeSpec | None], Iterator[Finding]], ...] = (
    _privileges,
    _packet_filters,
    _ipvs,
    _links,
    _settings,
    _ports,
    _mtu,
    _gtpu,
)


def check(spec: NodeSpec | None = None) -> list[Finding]:
    """Return what hinders or limits the dataplane on this node; ``spec`` None: before anything is known.
    Blocks."""
    findings: list[Finding] = []
    for one in _CHECKS:
        try:
            findings += one(spec)
        except (OSError, NetlinkError, ValueError) as exc:
            name = one.__name__.strip("_")
            message = f"the check {name} could not look: {exc}"
            findings.append(Finding("Degraded", "PreflightFailed", message, "see the message"))
    return findings


def _main_options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vpp-operator preflight", description=main.__doc__)
    parser.add_argument("--result", type=Path, default=RESULT, help="file to write (%(default)s)")
    parser.add_argument(
        "--engine",
        choices=["auto", "vpp", "embedded"],
        help="engine to choose where the node's tuning does not say; without it none is chosen",
    )
    parser.add_argument("--brings-vpp", action="store_true", help="the engine's image has VPP in it")
    parser.add_argument("--hugepages", default="", help="huge pages that the pod requests, as in 2Mi:256")
    for name in _CAPACITIES:
        parser.add_argument(f"--{name}", type=int, help="default where the node's tuning does not say")
    parser.add_argument("--workers", type=int, help="default where the node's tuning does not say")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print findings as JSON lines and leave them for the agent; choose the engine and write what VPP starts
    with. Always exits 0, since a finding is a condition."""
    options = _main_options(argv)
    run_dir = options.result.parent
    found = [asdict(finding) for finding in check()]
    for finding in found:
        print(json.dumps(finding))
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        temporary = options.result.with_suffix(".new")
        temporary.write_text(
            json.dumps({"node": os.environ.get("NODE_NAME", ""), "findings": found}, indent=1)
        )
        temporary.replace(options.result)
        if options.engine is not None:
            defaults = {name: getattr(options, name) for name in ("workers", *_CAPACITIES)}
            asked = read_request(run_dir, options.engine, options.brings_vpp, options.hugepages, defaults)
            print(json.dumps(asdict(prepare(asked, look(), run_dir))))
    except (OSError, ValueError) as exc:
        print(f"{run_dir}: {exc}", file=sys.stderr)
    return 0
