"""Kubernetes operator that runs one VPP dataplane per node."""
