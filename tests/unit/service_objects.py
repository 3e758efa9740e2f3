"""Kubernetes objects for the service tests, short to write, and tables, easy to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from vpp_operator.dataplane.records import (
    EndpointFlag,
    EndpointRecord,
    FrontendRecord,
    ServiceRecord,
    Table,
)
from vpp_operator.services.compute import Options
from vpp_operator.services.decode import decode_service, decode_slice
from vpp_operator.services.table import ServiceTable

Json = dict[str, Any]

NODE = "node-a"
"""The node that the tests stand on; endpoints on it are local."""


def port(number: int, name: str = "", protocol: str | None = None, node_port: int | None = None) -> Json:
    """A Service port."""
    entry: Json = {"name": name, "port": number, "targetPort": 1}
    if protocol:
        entry["protocol"] = protocol
    if node_port:
        entry["nodePort"] = node_port
    return entry


def service(
    name: str = "web",
    ips: Iterable[str] = ("10.96.0.10",),
    ports: Iterable[Json] = (port(80),),
    *,
    namespace: str = "default",
    created: str = "2026-01-01T00:00:00Z",
    uid: str | None = None,
    labels: Json | None = None,
    annotations: Json | None = None,
    status: Json | None = None,
    generation: int = 1,
    **spec: Any,
) -> Json:
    """A Service with cluster IPs ``ips`` (families follow); further arguments are fields of its spec."""
    ips = list(ips)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or f"uid-{name}",
            "creationTimestamp": created,
            "generation": generation,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ips[0] if ips else "",
            "clusterIPs": ips,
            "ipFamilies": ["IPv6" if ":" in ip else "IPv4" for ip in ips],
            "ports": list(ports),
            **spec,
        },
        "status": status or {},
    }


def endpoint(address: str, conditions: str | None = "ready serving", node: str | None = None) -> Json:
    """An endpoint with the named conditions true and all others false; None: no conditions at all."""
    entry: Json = {"addresses": [address]}
    if conditions is not None:
        words = conditions.split()
        entry["conditions"] = {name: name in words for name in ("ready", "serving", "terminating")}
    if node:
        entry["nodeName"] = node
    return entry


def endpoint_slice(
    name: str,
    endpoints: Iterable[Json | str],
    ports: Iterable[tuple[str, str, int]] = (("", "TCP", 8080),),
    *,
    of: str = "web",
    namespace: str = "default",
    kind: str = "IPv4",
    labels: Json | None = None,
) -> Json:
    """An EndpointSlice of the Service ``of``; an endpoint given as text is ready."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"kubernetes.io/service-name": of, **(labels or {})},
        },
        "addressType": kind,
        "ports": [{"name": n, "protocol": p, "port": number} for n, p, number in ports],
        "endpoints": [endpoint(e) if isinstance(e, str) else e for e in endpoints],
    }


def put(table: ServiceTable, document: Json) -> None:
    """Take an object into the table."""
    if document["kind"] == "Service":
        table.upsert_service(decode_service(document))
    else:
        table.upsert_slice(decode_slice(document))


def table_of(documents: Iterable[Json], **options: Any) -> ServiceTable:
    """The table of these objects, updated."""
    table = ServiceTable(Options(NODE, **options))
    for document in documents:
        put(table, document)
    table.update()
    return table


FLAGS = {
    EndpointFlag.CLUSTER: "cluster",
    EndpointFlag.LOCAL: "local",
    EndpointFlag.ON_NODE: "here",
    EndpointFlag.SERVES: "serves",
}


def show(table: ServiceTable) -> list[str]:
    """One line for each frontend with its endpoints, as in
    ``10.96.0.10:80/TCP CLUSTER_IP -> 10.244.1.2:8080[cluster serves] or REJECT``.
    """
    frontends: list[FrontendRecord] = []
    services: dict[int, ServiceRecord] = {}
    endpoints: defaultdict[int, list[EndpointRecord]] = defaultdict(list)
    for _, kind, raw in table.desired():
        if kind is Table.FRONTEND:
            frontends.append(FrontendRecord.unpack(raw))
        elif kind is Table.SERVICE:
            record = ServiceRecord.unpack(raw)
            assert record.id not in services
            services[record.id] = record
        else:
            item = EndpointRecord.unpack(raw)
            endpoints[item.service].append(item)
    assert endpoints.keys() <= services.keys(), "an endpoint without its service"
    lines = []
    for frontend in frontends:
        record = services[frontend.service]
        assert (record.family, record.protocol) == (frontend.family, frontend.protocol)
        at = f"node/v{frontend.family}" if frontend.address is None else str(frontend.address)
        backends = sorted(_backend(item) for item in endpoints[record.id])
        lines.append(
            f"{at}:{frontend.port}/{frontend.protocol.name} {frontend.kind.name} -> "
            + (", ".join(backends) or record.empty_verdict.name)
        )
    return sorted(lines)


def _backend(item: EndpointRecord) -> str:
    words = " ".join(word for flag, word in FLAGS.items() if item.flags & flag)
    return f"{item.address}:{item.port}[{words}]"
