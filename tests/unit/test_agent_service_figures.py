"""Figures of Services for Prometheus: sums, order, bounds, an engine that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.agent_memory import MemoryDataplane

from vpp_operator.agent.servicefigures import ServiceFigures
from vpp_operator.dataplane.protocol import ServiceCounters
from vpp_operator.dataplane.records import Protocol, ServiceRecord, Table
from vpp_operator.services.model import ObjectName

WEB, DNS = ObjectName("shop", "web"), ObjectName("kube-system", "dns")


class Lab:
    """An engine in memory, Services, a clock."""

    def __init__(self, services: dict[ObjectName, list[int]]) -> None:
        self.services = services
        self.now = 100.0
        self.engine = MemoryDataplane(connected=True)
        for ids in services.values():
            for id_ in ids:
                record = ServiceRecord(id_, family=4, protocol=Protocol.UDP).pack()
                self.engine.tables[Table.SERVICE][record[:8]] = record
        self.registry = CollectorRegistry()
        self.figures = ServiceFigures(self.engine, self.ids, lambda: len(services), lambda: self.now)
        self.registry.register(self.figures)

    def ids(self) -> Iterator[tuple[ObjectName, Iterable[int]]]:
        yield from self.services.items()

    def value(self, name: str, service: ObjectName, **labels: str) -> float | None:
        return self.registry.get_sample_value(
            f"vpp_operator_service_{name}",
            {"namespace": service.namespace, "service": service.name, **labels},
        )


async def test_ports_and_families_of_a_service_are_summed_up() -> None:
    lab = Lab({WEB: [1, 2], DNS: [3]})
    lab.engine.service_figures = {
        1: ServiceCounters(1, 10, 1000, 5, 500, 2, 3),
        2: ServiceCounters(2, 1, 40, 0, 0, 1, 1),
    }
    await lab.figures.refresh()
    assert lab.value("packets_total", WEB, direction="forward") == 11
    assert lab.value("bytes_total", WEB, direction="forward") == 1040
    assert lab.value("packets_total", WEB, direction="reverse") == 5
    assert lab.value("bytes_total", WEB, direction="reverse") == 500
    assert lab.value("sessions", WEB) == 3
    assert lab.value("packets_total", DNS, direction="forward") == 0
    assert lab.registry.get_sample_value("vpp_operator_services_without_figures") == 0


async def test_what_is_beyond_the_limit_is_told_as_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServiceFigures, "LIMIT", 2)
    lab = Lab({ObjectName("n", str(i)): [i] for i in range(5)})
    await lab.figures.refresh()
    assert [lab.value("sessions", ObjectName("n", str(i))) for i in range(5)] == [0, 0, None, None, None]
    assert lab.registry.get_sample_value("vpp_operator_services_without_figures") == 3


async def test_an_engine_that_does_not_answer_has_no_figures_and_asking_often_reads_once() -> None:
    lab = Lab({WEB: [1]})
    lab.engine.service_figures = {1: ServiceCounters(1, 7)}
    await asyncio.gather(*(lab.figures.refresh() for _ in range(3)))
    assert lab.value("packets_total", WEB, direction="forward") == 7
    lab.engine.service_figures = {1: ServiceCounters(1, 9)}
    lab.now += 0.5
    await lab.figures.refresh()
    assert lab.value("packets_total", WEB, direction="forward") == 7, "read anew within a second"
    lab.now += 0.5
    lab.engine.up = False
    await lab.figures.refresh()
    assert lab.value("packets_total", WEB, direction="forward") is None
    lab.engine.up = lab.engine.connected = True
    lab.now += 1
    await lab.figures.refresh()
    assert lab.value("packets_total", WEB, direction="forward") == 9
