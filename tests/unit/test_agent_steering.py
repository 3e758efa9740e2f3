"""Which packets the node sends to the dataplane, and when, as records come and go."""

from __future__ import annotations

import asyncio
import ipaddress

from vpp_operator.agent.facts import NodeFacts, NodeObject
from vpp_operator.agent.steering import NodeSteering, SteeringSets
from vpp_operator.dataplane.records import (
    KEY_SIZE,
    EndpointFlag,
    EndpointRecord,
    FrontendKind,
    FrontendRecord,
    PrefixClass,
    PrefixRecord,
    Protocol,
    Record,
    ServiceRecord,
    Table,
)
from vpp_operator.node.network import Applied
from vpp_operator.node.spec import NodePort, NodeSpec, Target

V4 = ipaddress.IPv4Address
SERVICE = ServiceRecord(1, 4, Protocol.UDP)
NODE_PORT = FrontendRecord(4, Protocol.UDP, 30053, None, 1, FrontendKind.NODE_PORT)
EXTERNAL = FrontendRecord(4, Protocol.UDP, 53, V4("192.0.2.9"), 1, FrontendKind.EXTERNAL_IP)
CLUSTER_IP = FrontendRecord(4, Protocol.UDP, 53, V4("10.96.0.10"), 1, FrontendKind.CLUSTER_IP)
ENDPOINT = EndpointRecord(1, V4("10.0.0.5"), 5353, EndpointFlag.SERVES)
TARGET = Target.of("10.0.0.5", 17, 5353)


def note(sets: SteeringSets | NodeSteering, record: Record, *, wanted: bool, programmed: bool) -> None:
    raw = record.pack()
    sets.note(record.TABLE, raw[: KEY_SIZE[record.TABLE]], raw if wanted else None, programmed)


def test_an_address_attracts_traffic_only_once_it_is_programmed() -> None:
    sets = SteeringSets()
    for record in (SERVICE, NODE_PORT, EXTERNAL, CLUSTER_IP):
        note(sets, record, wanted=True, programmed=False)
    assert not sets.node_ports() and not sets.external() and not sets.service_networks()
    assert not sets.changed
    for record in (NODE_PORT, EXTERNAL, CLUSTER_IP):
        note(sets, record, wanted=True, programmed=True)
    assert sets.changed
    assert sets.node_ports() == {NodePort(17, 30053)}
    assert sets.external() == {Target.of("192.0.2.9", 17, 53)}
    assert sets.service_networks() == {ipaddress.ip_network("10.96.0.10/32")}


def test_an_address_keeps_its_traffic_while_the_engine_is_programmed_anew() -> None:
    sets = SteeringSets()
    note(sets, NODE_PORT, wanted=True, programmed=True)
    sets.changed = False
    note(sets, NODE_PORT, wanted=True, programmed=False)
    assert sets.node_ports() == {NodePort(17, 30053)} and not sets.changed
    note(sets, NODE_PORT, wanted=False, programmed=True)
    assert not sets.node_ports() and sets.changed


def test_replies_are_taken_in_before_the_endpoint_and_until_it_is_gone() -> None:
    sets = SteeringSets()
    note(sets, SERVICE, wanted=True, programmed=False)
    note(sets, ENDPOINT, wanted=True, programmed=False)
    assert sets.endpoints() == {TARGET}
    note(sets, SERVICE, wanted=False, programmed=True)
    note(sets, ENDPOINT, wanted=False, programmed=True)
    assert sets.endpoints() == {TARGET}
    note(sets, ENDPOINT, wanted=False, programmed=False)
    note(sets, SERVICE, wanted=False, programmed=False)
    assert sets.endpoints() == frozenset()


def test_an_endpoint_of_two_services_stays_until_both_let_go() -> None:
    sets = SteeringSets()
    other = ServiceRecord(2, 4, Protocol.UDP)
    shared = EndpointRecord(2, V4("10.0.0.5"), 5353, EndpointFlag.SERVES)
    for record in (SERVICE, other, ENDPOINT, shared):
        note(sets, record, wanted=True, programmed=True)
    note(sets, ENDPOINT, wanted=False, programmed=False)
    assert sets.endpoints() == {TARGET}
    note(sets, shared, wanted=False, programmed=False)
    assert sets.endpoints() == frozenset()


def test_cluster_ips_within_a_programmed_range_are_covered_by_it() -> None:
    sets = SteeringSets()
    note(sets, CLUSTER_IP, wanted=True, programmed=True)
    prefix = PrefixRecord(ipaddress.ip_network("10.96.0.0/16"), PrefixClass.SERVICE)
    note(sets, prefix, wanted=True, programmed=False)
    assert sets.service_networks() == {ipaddress.ip_network("10.96.0.10/32")}
    note(sets, prefix, wanted=True, programmed=True)
    assert sets.service_networks() == {ipaddress.ip_network("10.96.0.0/16")}
    pods = PrefixRecord(ipaddress.ip_network("10.0.0.0/24"), PrefixClass.POD)
    note(sets, pods, wanted=True, programmed=True)
    assert sets.service_networks() == {ipaddress.ip_network("10.96.0.0/16")}


def test_a_frontend_that_changes_its_kind() -> None:
    sets = SteeringSets()
    address = V4("192.0.2.9")
    note(sets, EXTERNAL, wanted=True, programmed=True)
    cluster_ip = FrontendRecord(4, Protocol.UDP, 53, address, 2, FrontendKind.CLUSTER_IP)
    note(sets, cluster_ip, wanted=True, programmed=True)
    assert not sets.external()
    assert sets.service_networks() == {ipaddress.ip_network("192.0.2.9/32")}


class Kernel:
    """A node's network that keeps what it is given, and can refuse."""

    def __init__(self) -> None:
        self.specs: list[tuple[NodeSpec, bool]] = []
        self.refuse = ""
        self.undone = 0

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> None:
        if self.refuse:
            raise OSError(self.refuse)
        self.specs.append((spec, verify))

    def undo(self) -> None:
        self.undone += 1


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def steering() -> tuple[NodeSteering, Kernel, Clock]:
    kernel, clock = Kernel(), Clock()
    facts = NodeFacts(NodeObject(internal_ips=(V4("192.0.2.1"), V4("192.0.2.2"))))
    return NodeSteering(kernel, lambda: facts, clock=clock), kernel, clock


async def test_reads_back_at_first_and_every_few_minutes() -> None:
    node, kernel, clock = steering()
    assert node.waiting()
    await node.apply()
    assert not node.waiting() and node.applied
    note(node, NODE_PORT, wanted=True, programmed=True)
    assert node.waiting()
    await node.apply()
    clock.now += NodeSteering.VERIFY_SECONDS
    assert node.waiting()
    await node.apply()
    assert [verify for _, verify in kernel.specs] == [True, False, True]
    assert kernel.specs[-1][0].node_ports == {NodePort(17, 30053)}
    assert kernel.specs[-1][0].addresses == (V4("192.0.2.1"),)


async def test_a_refusal_is_kept_as_the_reason_and_tried_again_with_pauses() -> None:
    node, kernel, clock = steering()
    kernel.refuse = "no nftables"
    await node.apply()
    assert node.error == "no nftables" and not node.applied
    assert not node.waiting()
    clock.now += 61
    assert node.waiting()
    kernel.refuse = ""
    await node.apply()
    assert node.error == "" and node.applied and kernel.specs[0][1] is True


async def test_undo_and_apply_never_run_at_once() -> None:
    node, kernel, _ = steering()
    await asyncio.gather(node.apply(), node.undo())
    assert kernel.undone == 1 and not node.applied
    assert node.waiting(), "what was undone is to be made again when asked"


def test_tables_without_steering_are_ignored() -> None:
    sets = SteeringSets()
    sets.note(Table.CONFIG, bytes(8), bytes(32), True)
    assert not sets.changed


class AskingNetwork:
    """A node whose neighbours are asked about an address before it is taken."""

    def __init__(self) -> None:
        self.asked = 0
        self.applied = 0
        self.answers: list[float | None] = [0.0, None]

    def apply(self, spec: NodeSpec, *, verify: bool = False) -> Applied:
        self.applied += 1
        return Applied((), (), self.answers[min(self.asked, 1)])

    def ask(self) -> None:
        self.asked += 1


async def test_open_addresses_are_asked_for_and_applied_again() -> None:
    network, woken = AskingNetwork(), asyncio.Event()
    facts = NodeFacts(NodeObject(internal_ips=(V4("192.0.2.1"),)))
    steering = NodeSteering(network, lambda: facts, wake=woken.set)  # type: ignore[arg-type]
    await steering.apply()
    assert not steering.waiting()
    async with asyncio.timeout(60):
        await woken.wait()
    assert (network.asked, network.applied) == (1, 1) and steering.waiting()
    await steering.apply()
    await asyncio.sleep(0.05)
    assert (network.asked, network.applied) == (1, 2) and not steering.waiting()
