"""GtpuEndpoints, GtpuTunnels and GtpuTunnelSets -> the records of the GTP-U tables.

Pure: no I/O, no clock, no client. ``table.GtpuTable`` is the way in; ``decode`` makes its objects.
"""
