"""What GTP-U objects' status says: acceptance, and what the nodes report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..api.conditions import Condition, ConditionStatus, ConditionType, Reason, merge_conditions, rfc3339
from ..api.dataplane import ProgrammedCount
from ..api.gtpu_endpoint import MAX_PATHS, GtpuEndpointStatus, PathStatus
from ..api.gtpu_fields import PathCount, TunnelFigures
from ..api.gtpu_report import EndpointReport, Figures, NodeReport, ObjectReport
from ..api.gtpu_tunnel import MAX_NODES, GtpuTunnelSetStatus, GtpuTunnelStatus, TunnelNode
from ..api.problem import Owner
from ..gtpu.model import Carrier, Endpoint
from ..gtpu.rules import Standing

__all__ = ["Reports", "endpoint_status", "set_status", "tunnel_status"]

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_NOTHING: Final = Figures()
_MOST_NODES: Final = 3
_MESSAGE: Final = 1024

Verdict = tuple[ConditionStatus, Reason | str, str]


@dataclass(slots=True)
class Reports:
    """The last report of each node, ready for looking up objects. ``complete``: all nodes were asked once."""

    complete: bool = False
    nodes: dict[str, NodeReport] = field(default_factory=dict)
    objects: dict[Owner, dict[str, ObjectReport]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, EndpointReport]] = field(default_factory=dict)

    @classmethod
    def of(cls, reports: Iterable[NodeReport], complete: bool) -> Reports:
        """Return them by object."""
        made = cls(complete)
        for report in sorted(reports, key=lambda r: r.node):
            made.nodes[report.node] = report
            for obj in report.objects:
                made.objects.setdefault(obj.owner, {})[report.node] = obj
            for endpoint in report.endpoints:
                made.endpoints.setdefault(endpoint.name, {})[report.node] = endpoint
        return made


def _conditions(
    verdicts: Mapping[ConditionType, Verdict], generation: int, before: Iterable[Condition], now: datetime
) -> tuple[Condition, ...]:
    made = [
        Condition(
            type=kind,
            status=status,
            observed_generation=generation,
            last_transition_time=rfc3339(now),
            reason=str(reason),
            message=message[:_MESSAGE],
        )
        for kind, (status, reason, message) in verdicts.items()
    ]
    return merge_conditions(before, made)


def _accepted(standing: Standing) -> Verdict:
    return (_TRUE if standing.accepted else _FALSE, standing.reason, standing.message)


def _names(nodes: Sequence[str]) -> str:
    shown = ", ".join(nodes[:_MOST_NODES])
    return shown + (f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else "")


def _not_active(endpoint: Endpoint, reports: Reports, selected: bool = True) -> Verdict:
    """Say why no node serves an endpoint; ``selected``: its nodeSelector takes one that has a dataplane."""
    if not reports.complete:
        return _UNKNOWN, Reason.PROGRAMMING, "the nodes have not been asked yet"
    if not selected:
        text = "spec.nodeSelector: takes no node that has a dataplane; correct it, or label a node"
        return _FALSE, Reason.NO_NODES_MATCH, text
    if endpoint.floating:
        errors = {
            node: report.problems[endpoint.name]
            for node, report in reports.nodes.items()
            if endpoint.name in report.problems
        }
        why = "".join(f"; node {node}: {text}" for node, text in sorted(errors.items())[:1])
        return (
            _FALSE,
            Reason.NOT_ACTIVE,
            "no node holds the endpoint's Lease: none that spec.nodeSelector selects is Ready with its "
            f"dataplane, or its last node has just gone{why}",
        )
    return (
        _FALSE,
        Reason.NO_NODE_HAS_ADDRESS,
        f"spec.localAddress: no node that spec.nodeSelector selects has the address {endpoint.address}. Give "
        "it to a node, take an address that one has, or mode Floating.",
    )


def _programmed(carrier: Carrier, standing: Standing, endpoint: Endpoint | None, reports: Reports) -> Verdict:
    if not standing.accepted:
        return _FALSE, standing.reason, "not accepted, so not programmed: see Accepted"
    assert endpoint is not None
    active = reports.endpoints.get(endpoint.name, {})
    if not active:
        status, reason, message = _not_active(endpoint, reports)
        return status, reason, f"GtpuEndpoint {endpoint.name}: {message}"
    found = reports.objects.get(carrier.owner, {})
    late = [
        node
        for node in active
        if node not in found
        or found[node].generation < carrier.generation
        or found[node].programmed < found[node].total
    ]
    if not late:
        return _TRUE, Reason.AS_EXPECTED, f"on {len(active)} node(s): {_names(sorted(active))}"
    first = found.get(late[0])
    if first is None or first.generation < carrier.generation:
        return _FALSE, Reason.PROGRAMMING, f"not yet on {_names(late)}"
    return _FALSE, first.reason or Reason.PROGRAMMING, f"on {_names(late)}: {first.message}"


def _path(endpoint: Endpoint | None, ups: Mapping[str, bool | None]) -> Verdict:
    down = sorted(node for node, up in ups.items() if up is False)
    if down:
        return _FALSE, Reason.NO_ECHO_REPLY, f"a peer does not answer Echo Requests of {_names(down)}"
    if ups and all(up for up in ups.values()):
        return _TRUE, Reason.AS_EXPECTED, "peers answer Echo Requests"
    if endpoint is not None and not endpoint.echo_interval_ms:
        return _UNKNOWN, Reason.ECHO_OFF, "spec.echo.intervalSeconds of the GtpuEndpoint is 0: none are sent"
    return _UNKNOWN, Reason.PROGRAMMING, "no Echo Request has been answered or lost yet"


def _ready(verdicts: Mapping[ConditionType, Verdict]) -> Verdict:
    for kind in (ConditionType.ACCEPTED, ConditionType.PROGRAMMED):
        status, reason, message = verdicts[kind]
        if status != _TRUE:
            return status, reason, message
    status, reason, message = verdicts[ConditionType.PATH_UP]
    if status == _FALSE:
        return _FALSE, reason, message
    return _TRUE, Reason.AS_EXPECTED, "carries packets"


def _verdicts(
    carrier: Carrier, standing: Standing, endpoint: Endpoint | None, reports: Reports
) -> dict[ConditionType, Verdict]:
    found = reports.objects.get(carrier.owner, {})
    verdicts = {
        ConditionType.ACCEPTED: _accepted(standing),
        ConditionType.PROGRAMMED: _programmed(carrier, standing, endpoint, reports),
        ConditionType.PATH_UP: _path(endpoint, {node: report.up for node, report in found.items()}),
    }
    verdicts[ConditionType.READY] = _ready(verdicts)
    return verdicts


def _figures(figures: Figures) -> dict[str, int]:
    return {
        "rx_pps": figures.rx_pps,
        "tx_pps": figures.tx_pps,
        "rx_bps": figures.rx_bps,
        "tx_bps": figures.tx_bps,
        "drops": figures.drops,
    }


def _nodes(found: Mapping[str, ObjectReport]) -> tuple[TunnelNode, ...]:
    return tuple(
        TunnelNode(
            node=node,
            programmed=report.programmed >= report.total,
            **_figures(report.figures or _NOTHING),
        )
        for node, report in sorted(found.items())[:MAX_NODES]
    )


def _totals(found: Mapping[str, ObjectReport]) -> TunnelFigures:
    every = [report.figures or _NOTHING for report in found.values()]
    return TunnelFigures(
        rx_pps=sum(f.rx_pps for f in every),
        tx_pps=sum(f.tx_pps for f in every),
        rx_bps=sum(f.rx_bps for f in every),
        tx_bps=sum(f.tx_bps for f in every),
        drops=sum(f.drops for f in every),
    )


def tunnel_status(
    carrier: Carrier,
    standing: Standing,
    endpoint: Endpoint | None,
    reports: Reports,
    before: Iterable[Condition],
    now: datetime,
) -> GtpuTunnelStatus:
    """Return a GtpuTunnel's status; ``before``: the conditions in force, whose transition times are kept."""
    found = reports.objects.get(carrier.owner, {})
    active = reports.endpoints.get(carrier.endpoint, {}) if standing.accepted else {}
    programmed = sum(r.programmed >= r.total for node, r in found.items() if node in active)
    return GtpuTunnelStatus(
        observed_generation=carrier.generation,
        conditions=_conditions(
            _verdicts(carrier, standing, endpoint, reports), carrier.generation, before, now
        ),
        programmed_nodes=ProgrammedCount.of(programmed, len(active)),
        nodes=_nodes(found),
        totals=_totals(found),
    )


def set_status(
    carrier: Carrier,
    standing: Standing,
    endpoint: Endpoint | None,
    reports: Reports,
    before: Iterable[Condition],
    now: datetime,
) -> GtpuTunnelSetStatus:
    """Return a GtpuTunnelSet's status."""
    found = reports.objects.get(carrier.owner, {})
    active = reports.endpoints.get(carrier.endpoint, {}) if standing.accepted else {}
    programmed = min((found[node].programmed if node in found else 0 for node in active), default=0)
    return GtpuTunnelSetStatus(
        observed_generation=carrier.generation,
        conditions=_conditions(
            _verdicts(carrier, standing, endpoint, reports), carrier.generation, before, now
        ),
        tunnels=ProgrammedCount.of(programmed, carrier.count),
        nodes=_nodes(found),
        totals=_totals(found),
    )


def endpoint_status(
    endpoint: Endpoint,
    standing: Standing,
    carriers: Iterable[tuple[Carrier, Standing]],
    reports: Reports,
    before: Iterable[Condition],
    now: datetime,
    *,
    selected: bool = True,
) -> GtpuEndpointStatus:
    """Return a GtpuEndpoint's status; ``carriers``: the tunnels and sets that name it; ``selected``: its
    nodeSelector takes a node that has a dataplane."""
    active = reports.endpoints.get(endpoint.name, {})
    accepted = programmed = refused = 0
    for carrier, verdict in carriers:
        if not verdict.accepted:
            refused += carrier.count
            continue
        accepted += carrier.count
        found = reports.objects.get(carrier.owner, {})
        programmed += min((found[n].programmed if n in found else 0 for n in active), default=0)
    paths = sorted(
        (
            PathStatus(
                node=node,
                peer=path.peer,
                up=path.up,
                rtt_microseconds=path.rtt_us,
                restart_counter=path.restart_counter,
            )
            for node, report in active.items()
            for path in report.paths
            if path.up is not None
        ),
        key=lambda path: (path.up, path.node, path.peer),
    )
    ups = {f"node {path.node} (peer {path.peer})": path.up for path in paths}
    verdicts: dict[ConditionType, Verdict] = {ConditionType.ACCEPTED: _accepted(standing)}
    if not standing.accepted:
        verdicts[ConditionType.ACTIVE] = (_FALSE, standing.reason, "not accepted: see Accepted")
        verdicts[ConditionType.PROGRAMMED] = verdicts[ConditionType.ACTIVE]
    elif not active:
        verdicts[ConditionType.ACTIVE] = _not_active(endpoint, reports, selected)
        verdicts[ConditionType.PROGRAMMED] = verdicts[ConditionType.ACTIVE]
    else:
        verdicts[ConditionType.ACTIVE] = (_TRUE, Reason.AS_EXPECTED, f"on {_names(sorted(active))}")
        late = [node for node, report in sorted(active.items()) if not report.programmed]
        verdicts[ConditionType.PROGRAMMED] = (
            (
                _FALSE,
                active[late[0]].reason or Reason.PROGRAMMING,
                f"on {_names(late)}: {active[late[0]].message or 'being programmed'}",
            )
            if late
            else (_TRUE, Reason.AS_EXPECTED, f"on {_names(sorted(active))}")
        )
    verdicts[ConditionType.PATH_UP] = _path(endpoint, dict(ups))
    return GtpuEndpointStatus(
        observed_generation=endpoint.generation,
        conditions=_conditions(verdicts, endpoint.generation, before, now),
        active_nodes=tuple(sorted(active)[:MAX_NODES]),
        tunnels=ProgrammedCount.of(programmed, accepted),
        path_count=PathCount.of(sum(path.up for path in paths), len(paths)),
        paths=tuple(paths[:MAX_PATHS]),
        errors=refused,
    )
