"""Clocks per packet of VPP's nodes, ours and VPP's own, on the packet generator (`make bench-vpp`)."""
