"""Adapter for the embedded engine (vpp-embedded): its control socket as a Dataplane."""

from vpp_operator.dataplane.embedded.adapter import EmbeddedDataplane

__all__ = ["EmbeddedDataplane"]
