"""All labs, in the order of the tables."""

from __future__ import annotations

from bench.vpp import lab_counters, lab_forms, lab_frames, lab_gtpu, lab_pages, lab_services, lab_switches
from bench.vpp.lab_forwarding import forwarding
from bench.vpp.lab_programming import programming
from bench.vpp.lab_workers import workers
from bench.vpp.labs import Lab

SERVICE_LOADS = (
    (1, 1),
    (1_000, 1),
    (64_000, 1),
    (1_000_000, 1),
    (64_000, 1_000),
    (1_000_000, 1_000),
    (1_000_000, 10_000),
    (1_000_000, 100_000),
)
"""(flows, Services)"""
MILLION = 1_000_000
TUNNELS = (1, 3_000, 100_000, MILLION)
"""VPP's own plugin gets a million in labs of their own, which take minutes more."""


def every_lab() -> tuple[Lab, ...]:
    """The labs."""
    return (
        Lab("forwarding", forwarding),
        *(
            Lab(f"services-{flows}-{count}", lab_services.known(flows, count), flows > 100_000)
            for flows, count in SERVICE_LOADS
        ),
        Lab("services-lb-1000000-100000", lab_services.beside_lb(MILLION, 100_000), long=True),
        Lab("services-families-64000-1000", lab_services.families(64_000, 1_000)),
        Lab("new-flows-1000", lab_services.new(1_000)),
        Lab("new-flows-1000000", lab_services.new(1_000_000), long=True),
        *(Lab(f"decapsulation-{n}", lab_gtpu.decapsulation(n, n < MILLION), n > 10_000) for n in TUNNELS),
        Lab("decapsulation-beside-1000000", lab_gtpu.decapsulation(MILLION), long=True),
        Lab("decapsulation-ethernet", lab_frames.decapsulation),
        *(Lab(f"encapsulation-{n}", lab_gtpu.encapsulation(n, n < MILLION), n > 10_000) for n in TUNNELS),
        Lab("encapsulation-beside-1000000", lab_gtpu.encapsulation(MILLION), long=True),
        *(Lab(f"gtpu-forms-{n}", lab_forms.forms(n)) for n in (1, 3_000)),
        *(Lab(f"optimisations-{n}", lab_switches.optimisations(n), n > 10_000) for n in TUNNELS),
        *(
            Lab(f"optimisations-order-{n}", lab_switches.optimisations(n, at_random=False), n > 10_000)
            for n in TUNNELS[1:]
        ),
        *(Lab(f"pages-services-{n}", lab_pages.service_pages(n), n > 100_000) for n in (64_000, 1_000_000)),
        *(Lab(f"pages-tunnels-{n}", lab_pages.tunnel_pages(n), n > 100_000) for n in (100_000, 1_000_000)),
        Lab("counters-1000000", lab_counters.counters(MILLION), long=True),
        Lab("two-workers", workers),
        Lab("programming", programming, long=True),
    )
