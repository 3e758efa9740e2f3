"""The problems that Dataplanes report, by Service; what a Service's condition and Event say. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..api.base import JsonObject
from ..api.conditions import rfc3339
from ..api.dataplane import DataplaneProblem

__all__ = ["PROGRAMMED", "ServiceName", "ServiceProblems", "service_condition", "service_event"]

PROGRAMMED = "vpp-operator.dev/Programmed"
"""Type of the condition on a Service; there only while the Service has a problem on some node."""

ServiceName = tuple[str, str]
"""Namespace and name."""

_MOST_NODES = 5
_MOST_CAUSES = 3
_MESSAGE_BYTES = 1000


class ServiceProblems:
    """Which node reports what about which Service; changes are told Service by Service."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[ServiceName, tuple[DataplaneProblem, ...]]] = {}
        self._by_service: dict[ServiceName, dict[str, tuple[DataplaneProblem, ...]]] = {}

    def report(self, node: str, problems: Iterable[DataplaneProblem]) -> set[ServiceName]:
        """Take what the node reports now; return the Services for which that is a change."""
        found: dict[ServiceName, list[DataplaneProblem]] = {}
        for problem in problems:
            if problem.kind == "Service" and problem.namespace:
                found.setdefault((problem.namespace, problem.name), []).append(problem)
        now = {service: tuple(listed) for service, listed in found.items()}
        before = self._by_node.get(node, {})
        changed = {
            service for service in before.keys() | now.keys() if before.get(service) != now.get(service)
        }
        for service in changed:
            nodes = self._by_service.setdefault(service, {})
            if service in now:
                nodes[node] = now[service]
            else:
                nodes.pop(node, None)
            if not nodes:
                del self._by_service[service]
        if now:
            self._by_node[node] = now
        else:
            self._by_node.pop(node, None)
        return changed

    def of(self, service: ServiceName) -> Mapping[str, Sequence[DataplaneProblem]]:
        """Return node -> problems for the Service; empty if there are none."""
        return self._by_service.get(service, {})

    def services(self) -> frozenset[ServiceName]:
        """Return every Service with a problem."""
        return frozenset(self._by_service)


def service_condition(
    service: JsonObject, problems: Mapping[str, Sequence[DataplaneProblem]], nodes: int, now: datetime
) -> JsonObject:
    """Return the condition: which problem, where, how often. `nodes` is the number of Dataplanes."""
    reasons = Counter(problem.reason for listed in problems.values() for problem in listed)
    reason = min(reasons, key=lambda name: (-reasons[name], name))
    causes = Counter(problem.message for listed in problems.values() for problem in listed)
    texts = [text for text, _ in sorted(causes.items(), key=lambda item: (-item[1], item[0]))]
    names = sorted(problems)
    where = ", ".join(names[:_MOST_NODES]) + (", ..." if len(names) > _MOST_NODES else "")
    more = f" (and {len(texts) - _MOST_CAUSES} more)" if len(texts) > _MOST_CAUSES else ""
    message = f"on {len(names)} of {nodes} nodes ({where}): {'; '.join(texts[:_MOST_CAUSES])}{more}"
    old = current_condition(service)
    kept = old is not None and old.get("status") == "False"
    condition = {
        "type": PROGRAMMED,
        "status": "False",
        "reason": reason,
        "message": message[:_MESSAGE_BYTES],
        "lastTransitionTime": old["lastTransitionTime"] if old and kept else rfc3339(now),
    }
    generation = max(problem.generation or 0 for listed in problems.values() for problem in listed)
    # The API server leaves a 0 out.
    return condition | ({"observedGeneration": generation} if generation else {})


def current_condition(service: JsonObject) -> JsonObject | None:
    """Return the condition that the Service has now."""
    conditions: Iterable[JsonObject] = (service.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == PROGRAMMED), None)


def service_event(service: JsonObject, condition: JsonObject, instance: str, now: datetime) -> JsonObject:
    """Return the Event about a Service's problem. Its name is the same for one generation of one Service, so
    that creating it a second time, also by another leader, is refused.
    """
    meta = service["metadata"]
    # Older API servers count no generations of Services: the content tells them apart just as well.
    version: Any = meta.get("generation") or service.get("spec")
    digest = hashlib.sha256(repr((meta["uid"], version)).encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name'][:200]}.{digest}", "namespace": meta["namespace"]},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning",
        "reason": condition["reason"],
        "action": "Program",
        "note": condition["message"],
        "reportingController": "vpp-operator.dev/operator",
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }
