"""kube-proxy's rules, case by case: objects in, tables out. Each case is named after its rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.service_objects import NODE, Json, endpoint, endpoint_slice, port, service, show, table_of

TERMINATING = "serving terminating"


@dataclass
class Case:
    """Objects and the lines that :func:`show` prints for them."""

    rule: str
    objects: list[Json]
    expected: list[str]
    options: dict[str, Any] = field(default_factory=dict)


WEB = "10.96.0.10:80/TCP CLUSTER_IP -> "

SKIPPED = [
    Case(
        "headless Service (clusterIP None) is skipped",
        [service(ips=["None"]), endpoint_slice("s", ["10.1.0.1"])],
        [],
    ),
    Case(
        "Service without a cluster IP yet is skipped",
        [service(ips=[]), endpoint_slice("s", ["10.1.0.1"])],
        [],
    ),
    Case(
        "ExternalName is skipped even with a cluster IP left over",
        [service(type="ExternalName", externalName="example.org"), endpoint_slice("s", ["10.1.0.1"])],
        [],
    ),
    Case(
        "label service-proxy-name: another proxy's Service",
        [
            service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [],
    ),
    Case(
        "label service-proxy-name, even empty, is not the default proxy's",
        [service(labels={"service.kubernetes.io/service-proxy-name": ""}), endpoint_slice("s", ["10.1.0.1"])],
        [],
    ),
    Case(
        "with a proxy name of our own, Services of that name only",
        [
            service(labels={"service.kubernetes.io/service-proxy-name": "vpp"}),
            service("other", ["10.96.0.11"]),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
        {"proxy_name": "vpp"},
    ),
    Case(
        "label headless on a slice hides its endpoints: REJECT",
        [service(), endpoint_slice("s", ["10.1.0.1"], labels={"service.kubernetes.io/headless": ""})],
        [WEB + "REJECT"],
    ),
    Case(
        "slice of another namespace or another Service does not count",
        [
            service(),
            endpoint_slice("s", ["10.1.0.1"], namespace="kube-system"),
            endpoint_slice("t", ["10.1.0.2"], of="webb"),
        ],
        [WEB + "REJECT"],
    ),
    Case(
        "slice without the label service-name belongs to nobody",
        [service(), endpoint_slice("s", ["10.1.0.1"], of="")],
        [WEB + "REJECT"],
    ),
    Case(
        "addressType FQDN is ignored",
        [service(), endpoint_slice("s", ["db.example.org"], kind="FQDN")],
        [WEB + "REJECT"],
    ),
]

MERGE = [
    Case("no slice at all: REJECT", [service()], [WEB + "REJECT"]),
    Case(
        "union over all slices",
        [service(), endpoint_slice("s", ["10.1.0.1"]), endpoint_slice("t", ["10.1.0.2"])],
        [WEB + "10.1.0.1:8080[cluster serves], 10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "same address and port in two slices is one endpoint",
        [service(), endpoint_slice("s", ["10.1.0.1"]), endpoint_slice("t", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "non-terminating duplicate wins, first slice",
        [
            service(),
            endpoint_slice("s", ["10.1.0.1"]),
            endpoint_slice("t", [endpoint("10.1.0.1", TERMINATING)]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "non-terminating duplicate wins, last slice",
        [
            service(),
            endpoint_slice("s", [endpoint("10.1.0.1", TERMINATING)]),
            endpoint_slice("t", ["10.1.0.1"]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "non-terminating duplicate wins even if it is not ready",
        [
            service(),
            endpoint_slice("s", [endpoint("10.1.0.1", TERMINATING)]),
            endpoint_slice("t", [endpoint("10.1.0.1", "")]),
        ],
        [WEB + "REJECT"],
    ),
    Case(
        "only the first address of an endpoint is used",
        [service(), endpoint_slice("s", [{"addresses": ["10.1.0.1", "10.1.0.2"]}])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "endpoint without an address is skipped",
        [service(), endpoint_slice("s", [{"addresses": []}, "10.1.0.2"])],
        [WEB + "10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "IPv4 with leading zeros is decimal (ParseIPSloppy)",
        [service(), endpoint_slice("s", ["010.001.0.010"])],
        [WEB + "10.1.0.10:8080[cluster serves]"],
    ),
]

PORTS = [
    Case(
        "ports match by name, never by targetPort",
        [
            service(ports=[port(80, "http"), port(9090, "metrics")]),
            endpoint_slice("s", ["10.1.0.1"], [("metrics", "TCP", 81), ("http", "TCP", 8080)]),
        ],
        [
            "10.96.0.10:80/TCP CLUSTER_IP -> 10.1.0.1:8080[cluster serves]",
            "10.96.0.10:9090/TCP CLUSTER_IP -> 10.1.0.1:81[cluster serves]",
        ],
    ),
    Case(
        "port names match with their protocol",
        [
            service(ports=[port(53, "dns", "UDP"), port(53, "dns-tcp", "TCP")]),
            endpoint_slice("s", ["10.1.0.1"], [("dns", "UDP", 5353), ("dns-tcp", "UDP", 5354)]),
        ],
        [
            "10.96.0.10:53/TCP CLUSTER_IP -> REJECT",
            "10.96.0.10:53/UDP CLUSTER_IP -> 10.1.0.1:5353[cluster serves]",
        ],
    ),
    Case(
        "port number of a slice is authoritative and may differ per slice",
        [
            service(),
            endpoint_slice("s", ["10.1.0.1"], [("", "TCP", 8080)]),
            endpoint_slice("t", ["10.1.0.2"], [("", "TCP", 9090)]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves], 10.1.0.2:9090[cluster serves]"],
    ),
    Case(
        "one pod with two ports of the same name in two slices is two endpoints",
        [
            service(),
            endpoint_slice("s", ["10.1.0.1"], [("", "TCP", 8080)]),
            endpoint_slice("t", ["10.1.0.1"], [("", "TCP", 8081)]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves], 10.1.0.1:8081[cluster serves]"],
    ),
    Case(
        "slice port without a name (nil) is skipped",
        [service(), endpoint_slice("s", ["10.1.0.1"], [(None, "TCP", 8080)])],  # type: ignore[list-item]
        [WEB + "REJECT"],
    ),
    Case(
        "slice port without a number (nil or 0) is skipped",
        [
            service(),
            endpoint_slice("s", ["10.1.0.1"], [("", "TCP", 0), ("", "TCP", None)]),  # type: ignore[list-item]
        ],
        [WEB + "REJECT"],
    ),
    Case(
        "protocol defaults to TCP in both",
        [service(), endpoint_slice("s", ["10.1.0.1"], [("", None, 8080)])],  # type: ignore[list-item]
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "several Services on one pod and port",
        [
            service(),
            service("copy", ["10.96.0.11"]),
            endpoint_slice("s", ["10.1.0.1"]),
            endpoint_slice("c", ["10.1.0.1"], of="copy"),
        ],
        [
            "10.96.0.10:80/TCP CLUSTER_IP -> 10.1.0.1:8080[cluster serves]",
            "10.96.0.11:80/TCP CLUSTER_IP -> 10.1.0.1:8080[cluster serves]",
        ],
    ),
]

CHOICE = [
    Case(
        "conditions absent: ready and serving, not terminating",
        [
            service(),
            endpoint_slice("s", [endpoint("10.1.0.1", None), {"addresses": ["10.1.0.2"], "conditions": {}}]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves], 10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "conditions null: ready and serving, not terminating",
        [
            service(),
            endpoint_slice(
                "s",
                [
                    {
                        "addresses": ["10.1.0.1"],
                        "conditions": {"ready": None, "serving": None, "terminating": None},
                    }
                ],
            ),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "terminating absent: not terminating, so it wins over a terminating duplicate",
        [
            service(),
            endpoint_slice("s", [{"addresses": ["10.1.0.1"], "conditions": {"ready": False}}]),
            endpoint_slice("t", [endpoint("10.1.0.1", TERMINATING)]),
        ],
        [WEB + "10.1.0.1:8080[serves]"],
    ),
    Case(
        "endpoint that is not ready and not serving gets nothing",
        [service(), endpoint_slice("s", [endpoint("10.1.0.1", ""), "10.1.0.2"])],
        [WEB + "10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "serving terminating gets no new flows beside a ready one, and keeps its UDP flows",
        [service(), endpoint_slice("s", [endpoint("10.1.0.1", TERMINATING), "10.1.0.2"])],
        [WEB + "10.1.0.1:8080[serves], 10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "no ready one: fall back to serving terminating",
        [
            service(),
            endpoint_slice("s", [endpoint("10.1.0.1", TERMINATING), endpoint("10.1.0.2", "terminating")]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "no ready one: serving alone, not terminating, is no fall-back",
        [service(), endpoint_slice("s", [endpoint("10.1.0.1", "serving")])],
        [WEB + "10.1.0.1:8080[serves]"],
    ),
    Case(
        "publishNotReadyAddresses (ready, not serving) is served",
        [service(), endpoint_slice("s", [endpoint("10.1.0.1", "ready")])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "local set: local and ready",
        [
            service(),
            endpoint_slice(
                "s", [endpoint("10.1.0.1", node=NODE), endpoint("10.1.0.2", node="node-b"), "10.1.0.3"]
            ),
        ],
        [
            WEB + "10.1.0.1:8080[cluster local here serves], 10.1.0.2:8080[cluster serves], "
            "10.1.0.3:8080[cluster serves]"
        ],
    ),
    Case(
        "local set falls back by itself: local terminating beside a remote ready one",
        [
            service(),
            endpoint_slice(
                "s", [endpoint("10.1.0.1", TERMINATING, NODE), endpoint("10.1.0.2", node="node-b")]
            ),
        ],
        [WEB + "10.1.0.1:8080[local here serves], 10.1.0.2:8080[cluster serves]"],
    ),
    Case(
        "cluster set falls back by itself",
        [
            service(),
            endpoint_slice(
                "s",
                [
                    endpoint("10.1.0.1", "terminating", NODE),
                    endpoint("10.1.0.2", TERMINATING, "node-b"),
                ],
            ),
        ],
        [WEB + "10.1.0.2:8080[cluster serves]"],
    ),
]

FAMILIES = [
    Case(
        "dual-stack: families are independent, cluster IPs by index of ipFamilies",
        [
            service(ips=["fd00::10", "10.96.0.10"]),
            endpoint_slice("s", ["10.1.0.1"]),
            endpoint_slice("t", ["fd01::1", "fd01::2"], kind="IPv6"),
        ],
        [
            "10.96.0.10:80/TCP CLUSTER_IP -> 10.1.0.1:8080[cluster serves]",
            "fd00::10:80/TCP CLUSTER_IP -> fd01::1:8080[cluster serves], fd01::2:8080[cluster serves]",
        ],
    ),
    Case(
        "dual-stack: one family without endpoints is rejected, the other served",
        [service(ips=["10.96.0.10", "fd00::10"]), endpoint_slice("t", ["fd01::1"], kind="IPv6")],
        [
            "10.96.0.10:80/TCP CLUSTER_IP -> REJECT",
            "fd00::10:80/TCP CLUSTER_IP -> fd01::1:8080[cluster serves]",
        ],
    ),
    Case(
        "ipFamilies empty: clusterIP decides",
        [
            service(ips=["fd00::10"], ipFamilies=[], clusterIPs=None),
            endpoint_slice("t", ["fd01::1"], kind="IPv6"),
        ],
        ["fd00::10:80/TCP CLUSTER_IP -> fd01::1:8080[cluster serves]"],
    ),
    Case(
        "fewer clusterIPs than ipFamilies: the missing family is not served",
        [service(ipFamilies=["IPv4", "IPv6"]), endpoint_slice("s", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "node port in every family in which there is a cluster IP",
        [
            service(ips=["10.96.0.10", "fd00::10"], ports=[port(80, node_port=30080)], type="NodePort"),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [
            WEB + "10.1.0.1:8080[cluster serves]",
            "fd00::10:80/TCP CLUSTER_IP -> REJECT",
            "node/v4:30080/TCP NODE_PORT -> 10.1.0.1:8080[cluster serves]",
            "node/v6:30080/TCP NODE_PORT -> REJECT",
        ],
    ),
    Case(
        "single-stack: no node port in the other family",
        [
            service(ports=[port(80, node_port=30080)], type="NodePort"),
            endpoint_slice("t", ["fd01::1"], kind="IPv6"),
        ],
        [WEB + "REJECT", "node/v4:30080/TCP NODE_PORT -> REJECT"],
    ),
    Case(
        "external IPs are filtered by family",
        [
            service(externalIPs=["192.0.2.1", "2001:db8::1"]),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [
            WEB + "10.1.0.1:8080[cluster serves]",
            "192.0.2.1:80/TCP EXTERNAL_IP -> 10.1.0.1:8080[cluster serves]",
        ],
    ),
]

ENTRIES = [
    Case(
        "same node port number on TCP and UDP",
        [
            service(
                ports=[port(53, "u", "UDP", 30053), port(53, "t", "TCP", 30053)],
                type="NodePort",
            ),
            endpoint_slice("s", ["10.1.0.1"], [("u", "UDP", 5353), ("t", "TCP", 5354)]),
        ],
        [
            "10.96.0.10:53/TCP CLUSTER_IP -> 10.1.0.1:5354[cluster serves]",
            "10.96.0.10:53/UDP CLUSTER_IP -> 10.1.0.1:5353[cluster serves]",
            "node/v4:30053/TCP NODE_PORT -> 10.1.0.1:5354[cluster serves]",
            "node/v4:30053/UDP NODE_PORT -> 10.1.0.1:5353[cluster serves]",
        ],
    ),
    Case(
        "allocateLoadBalancerNodePorts=false: no node port, no node-port entry",
        [
            service(type="LoadBalancer", allocateLoadBalancerNodePorts=False),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "LoadBalancer: cluster IP and node port are served as of any Service",
        [
            service(ports=[port(80, node_port=30080)], type="LoadBalancer"),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [
            WEB + "10.1.0.1:8080[cluster serves]",
            "node/v4:30080/TCP NODE_PORT -> 10.1.0.1:8080[cluster serves]",
        ],
    ),
    Case(
        "external IP equal to the cluster IP is the cluster IP",
        [service(externalIPs=["10.96.0.10"]), endpoint_slice("s", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "external IPs switched off",
        [service(externalIPs=["192.0.2.1"]), endpoint_slice("s", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
        {"external_ips": False},
    ),
]

NOT_YET = [
    Case(
        "internalTrafficPolicy Local restricts: cluster IP not programmed, node port is",
        [
            service(ports=[port(80, node_port=30080)], type="NodePort", internalTrafficPolicy="Local"),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        ["node/v4:30080/TCP NODE_PORT -> 10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "externalTrafficPolicy Local restricts: node port and external IP not programmed, cluster IP is",
        [
            service(
                ports=[port(80, node_port=30080)],
                type="NodePort",
                externalTrafficPolicy="Local",
                externalIPs=["192.0.2.1"],
            ),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "affinity only prefers: served without",
        [service(sessionAffinity="ClientIP"), endpoint_slice("s", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "topology only prefers: served without",
        [service(trafficDistribution="PreferClose"), endpoint_slice("s", ["10.1.0.1"])],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "SCTP port not programmed, the others are",
        [
            service(ports=[port(80, "a"), port(81, "b", "SCTP")]),
            endpoint_slice("s", ["10.1.0.1"], [("a", "TCP", 8080), ("b", "SCTP", 8081)]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
    Case(
        "load balancer address not programmed",
        [
            service(type="LoadBalancer", status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}),
            endpoint_slice("s", ["10.1.0.1"]),
        ],
        [WEB + "10.1.0.1:8080[cluster serves]"],
    ),
]

CASES = [*SKIPPED, *MERGE, *PORTS, *CHOICE, *FAMILIES, *ENTRIES, *NOT_YET]


@pytest.mark.parametrize("case", CASES, ids=[case.rule for case in CASES])
def test_rule(case: Case) -> None:
    assert show(table_of(case.objects, **case.options)) == sorted(case.expected)
    assert show(table_of(reversed(case.objects), **case.options)) == sorted(case.expected)
