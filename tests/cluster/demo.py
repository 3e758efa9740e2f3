"""``make demo``: cluster, images, chart, examples, traffic; leaves the cluster up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from tests.cluster import images, install, parts
from tests.cluster.cluster import Cluster
from tests.cluster.mobile import Bearer
from tests.cluster.node import CLUSTER_DNS
from tests.cluster.paths import REPOSITORY
from tests.cluster.progress import ClusterError, say, step, wait_for
from tests.cluster.traffic import Client, Outcome, client_pod, place_client, pod_client

# Requests of each check; three endpoints, one of them missed by chance once in ten million runs.
_REQUESTS = 40
_NODE_PORT = 30080
# Datagrams a second from a pod on each node, and for how long: three reports of a Dataplane.
_LOAD_RATE = 400
_LOAD_SECONDS = 35


def demo(cluster: Cluster) -> None:
    """Run the whole demo; raises ClusterError when anything is not as it should be."""
    start = time.monotonic()
    parts.ensure()
    archives = images.ensure(images.product())
    cluster.up()
    with step("images: import on both nodes"):
        changed = cluster.load(archives)
    with step("helm install vpp-operator charts/vpp-operator"):
        install.install(cluster.kubeconfig)
        if changed:  # after a first demo the pods still run the images of the same name from before
            cluster.kubectl("delete", "pods", "--all", "--namespace", install.NAMESPACE, "--wait=false")
    with step("operator, engines and agents Ready"):
        install.wait_ready(cluster.kubectl, len(cluster.nodes))
    with step("a gNB simulator and a host of the data network, beside the cluster"):
        cluster.mobile.start([node.place for node in cluster.nodes])
    with step("kubectl apply -f examples/"):
        cluster.kubectl("apply", "-f", str(REPOSITORY / "examples"))
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        clients = start_clients(cluster)
        wait_for("the Services carry packets", lambda: _first_answers(cluster, clients), 60, 1)
    with step("traffic: every request answered, every endpoint hit"):
        check_requests(cluster, clients)
    with step(f"load: {_LOAD_RATE} datagrams a second from a pod on each node, rates"):
        check_rates(cluster, clients)
    with step("GTP-U: a user behind a gNB reaches the data network through a node, both ways"):
        way = mobile_user(cluster)
        wait_for("the tunnel carries packets", lambda: _first_datagrams(cluster, way), 90, 1)
        check_user(cluster, way)
    with step("GTP-U: rates of the tunnel; switches of the tuning change while packets flow"):
        check_switches(cluster, way)
    say(_farewell(cluster, time.monotonic() - start))


def start_clients(cluster: Cluster) -> dict[str, Client]:
    """A client pod on every node, ready; by node name."""
    pods = [client_pod(f"client-{node.name}", node.name, images.AGNHOST) for node in cluster.nodes]
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    cluster.kubectl("wait", "--for=condition=Ready", "pods", "--selector=app=client", "--timeout=60s")
    return {
        node.name: pod_client(cluster.kubectl, "default", f"client-{node.name}") for node in cluster.nodes
    }


def check_requests(cluster: Cluster, clients: dict[str, Client]) -> None:
    """All kinds of clients, in both families; prints a line for each check."""
    pods = {pod["metadata"]["name"] for pod in install.items(cluster.kubectl, "pods", "--selector=app=web")}
    addresses = service_addresses(cluster, "web")
    outside = place_client(cluster.outside)
    checks: list[tuple[str, Callable[[], Outcome], set[str]]] = []

    def add(client: Client, what: str, host: str, port: int) -> None:
        checks.append(
            (
                f"{client.name} -> {what} {host}",
                partial(client.get, host, port, "/hostname", _REQUESTS),
                pods,
            )
        )

    for address in addresses:
        for node in cluster.nodes:
            add(clients[node.name], "ClusterIP", address, 80)
            add(place_client(node.place), "ClusterIP", address, 80)
    for node in cluster.nodes:
        for address in node.addresses:
            add(outside, f"NodePort of {node.name}", address, _NODE_PORT)
    for server in CLUSTER_DNS:
        for record, answer in zip(("A", "AAAA"), addresses, strict=True):
            for client in clients.values():
                checks.append(
                    (
                        f"{client.name} -> DNS {server}, {record} record of web",
                        partial(client.dns, server, "web.default.svc.cluster.local", record, _REQUESTS),
                        {answer},
                    )
                )
    failed = 0
    for text, run, expected in checks:
        outcome = run()
        problem = outcome.problem(expected)
        failed += bool(problem)
        said = problem or f"{outcome.answered} of {outcome.sent} answered, by {len(outcome.bodies)}"
        say(f"    {text}: {said}")
    if failed:
        raise ClusterError(f"{failed} of {len(checks)} checks failed\n{install.diagnosis(cluster.kubectl)}")


def check_rates(cluster: Cluster, clients: dict[str, Client]) -> None:
    """A known load from a pod on each node; the Dataplanes have to report it, and zero afterwards."""
    targets = dict(zip(clients, service_addresses(cluster, "web"), strict=True))
    begun = datetime.now(UTC)
    with ThreadPoolExecutor(len(clients)) as threads:
        loads = {
            name: threads.submit(clients[name].udp, address, 81, _LOAD_RATE, _LOAD_SECONDS)
            for name, address in targets.items()
        }
        wait_for(
            "the rates of the load", lambda: _rates_problem(cluster, begun, *_bounds()), _LOAD_SECONDS, 1
        )
        say(cluster.kubectl("get", "dataplanes"))
        for name, load in loads.items():
            problem = load.result().problem()
            if problem:
                raise ClusterError(f"load from {name}: {problem}")
            say(f"    load from {name}: {load.result().answered} of {load.result().sent} datagrams answered")
    ended = datetime.now(UTC)
    wait_for("the rates fall to zero", lambda: _rates_problem(cluster, ended, 0, 2), 60, 1)
    say(cluster.kubectl("get", "dataplanes"))


def mobile_user(cluster: Cluster) -> Bearer:
    """The user of examples/gtpu-tunnel.yaml; the data network gets its route to the user's pool."""
    endpoint = json.loads(cluster.kubectl("get", "gtpuendpoint", "n3", "-o", "json"))["spec"]
    tunnel = json.loads(cluster.kubectl("get", "gtputunnel", "ue-1", "-o", "json"))["spec"]
    local, pool = endpoint["localAddress"], endpoint["uePools"][0]
    cluster.mobile.route(pool, local)
    return Bearer(
        local,
        tunnel["localTeid"],
        {tunnel["remoteAddress"]: (tunnel["remoteTeid"], tunnel["psc"]["qfi"])},
        tunnel["inner"]["ueAddresses"][0].partition("/")[0],
        cluster.mobile.data4,
    )


def check_user(cluster: Cluster, way: Bearer) -> None:
    """Every datagram of the user comes back from the data network, where it is seen with its own address."""
    flow = cluster.mobile.flow(way, _LOAD_RATE, 5)
    problem = flow.problem(way.ue)
    if problem:
        raise ClusterError(f"user {way.ue}: {problem}")
    (teid, qfi), *_ = way.at.values()
    say(f"    user {way.ue} -> {way.host}: {flow.answered} of {flow.sent} came back, TEID {teid}, QFI {qfi}")


def check_switches(cluster: Cluster, way: Bearer) -> None:
    """Rates in the tunnel's status, then hot switches under load, with what is in effect; no packet lost."""
    try:
        with ThreadPoolExecutor(1) as threads:
            load = threads.submit(cluster.mobile.flow, way, _LOAD_RATE, 3 * _LOAD_SECONDS)
            wait_for("the rates of the tunnel", lambda: _tunnel_problem(cluster), 2 * _LOAD_SECONDS, 1)
            say(cluster.kubectl("get", "gtputunnels"))
            for switches in ({"lookupCache": False, "loop": "single"}, {"lookupCache": True, "loop": "quad"}):
                spec = {"priority": 1000, "gtpu": switches}
                cluster.kubectl("apply", "-f", "-", stdin=json.dumps(_tuning(spec)))
                wait_for("the switches in effect", partial(_switch_problem, cluster, switches), 30, 0.5)
                said = ", ".join(f"{name} {_word(value)}" for name, value in switches.items())
                say(f"    in effect on every node: {said}")
            if load.done():
                raise ClusterError("the switches were not in effect before the load ended")
            flow = load.result()
    finally:
        cluster.kubectl("delete", "dataplanetuning", "demo-gtpu", "--ignore-not-found")
    problem = flow.problem(way.ue)
    if problem:
        raise ClusterError(f"user {way.ue}, while switches changed: {problem}")
    say(f"    user {way.ue}: {flow.answered} of {flow.sent} datagrams came back meanwhile")


def _tuning(spec: dict[str, object]) -> dict[str, object]:
    return {
        "apiVersion": "vpp-operator.dev/v1alpha1",
        "kind": "DataplaneTuning",
        "metadata": {"name": "demo-gtpu"},
        "spec": spec,
    }


def _first_datagrams(cluster: Cluster, way: Bearer) -> str:
    return cluster.mobile.flow(way, 20, 0.2).problem(way.ue)


def _tunnel_problem(cluster: Cluster) -> str:
    """What keeps the tunnel's status from showing the load, and that it is Ready."""
    status = json.loads(cluster.kubectl("get", "gtputunnel", "ue-1", "-o", "json")).get("status", {})
    ready = {c["type"]: c["status"] for c in status.get("conditions", ())}.get("Ready")
    rates = [status.get("totals", {}).get(field, 0) for field in ("rxPps", "txPps")]
    if ready == "True" and all(0.7 * _LOAD_RATE <= rate <= 1.3 * _LOAD_RATE for rate in rates):
        return ""
    return f"Ready {ready}, packets per second {rates}"


def _switch_problem(cluster: Cluster, switches: Mapping[str, object]) -> str:
    tuning = json.loads(cluster.kubectl("get", "dataplanetuning", "demo-gtpu", "-o", "json"))
    found = {
        entry["field"].removeprefix("gtpu."): {value["value"]: value["nodes"] for value in entry["values"]}
        for entry in tuning.get("status", {}).get("inEffect", ())
    }
    for name, value in switches.items():
        if found.get(name) != {_word(value): len(cluster.nodes)}:
            return f"{name}: {found.get(name)}, not {_word(value)}"
    return ""


def _word(value: object) -> str:
    """A switch's value in the words of a status."""
    return value if isinstance(value, str) else "on" if value else "off"


def service_addresses(cluster: Cluster, name: str) -> list[str]:
    """Cluster IPs of a Service, IPv4 first."""
    service = json.loads(cluster.kubectl("get", "service", name, "-o", "json"))
    return sorted(service["spec"]["clusterIPs"], key=lambda address: ":" in address)


def _bounds() -> tuple[float, float]:
    """Packets a second that a node may report under load.

    Its own pod's datagrams and their answers; at most, beside them, the answers that its endpoints give to
    the other node's pod, which its engine lets pass.
    """
    return 0.85 * 2 * _LOAD_RATE, 1.15 * 3 * _LOAD_RATE


def _rates_problem(cluster: Cluster, since: datetime, least: float, most: float) -> str:
    """What keeps the Dataplanes from showing, over an interval after ``since``, rates within the bounds."""
    problems = []
    for dataplane in install.items(cluster.kubectl, "dataplanes"):
        name = dataplane["metadata"]["name"]
        throughput = dataplane.get("status", {}).get("throughput")
        if throughput is None or datetime.fromisoformat(throughput["intervalStart"]) < since:
            problems.append(f"{name} has not reported since")
            continue
        for rates in (throughput["total"], throughput.get("service") or throughput["total"]):
            for field in ("rxPps", "txPps"):
                if not least <= rates[field] <= most:
                    problems.append(f"{name}: {field} {rates[field]} is not within {least:.0f} to {most:.0f}")
    return "; ".join(problems)


def _first_answers(cluster: Cluster, clients: dict[str, Client]) -> str:
    """Whether each client gets an answer at all, so that the strict checks start when everything is
    programmed."""
    for address in service_addresses(cluster, "web"):
        for client in clients.values():
            problem = client.get(address, 80, "/hostname", 1, timeout=2).problem()
            if problem:
                return f"{client.name} -> {address}: {problem}"
    for node in cluster.nodes:
        for address in node.addresses:
            outcome = place_client(cluster.outside).get(address, _NODE_PORT, "/hostname", 1, timeout=2)
            if outcome.problem():
                return f"outside -> {address}:{_NODE_PORT}: {outcome.problem()}"
    return ""


def _farewell(cluster: Cluster, seconds: float) -> str:
    command = ".venv/bin/python -m tests.cluster"
    lines = (
        f"The demo passed in {seconds:.0f} s. The cluster is still up:",
        "",
        f"  export KUBECONFIG={cluster.kubeconfig}",
        f"  {parts.binary('kubectl')} get dataplanes,gtpuendpoints,gtputunnels",
        "",
        f"  {command} kubectl get pods -A      # the same without KUBECONFIG",
        f"  {command} exec-node node1 ip rule",
        f"  {command} exec-outside curl -s http://{cluster.nodes[0].addresses[0]}:{_NODE_PORT}/hostname",
        "",
        "`make demo-down` ends it and removes every trace.",
    )
    return "\n".join(lines)
