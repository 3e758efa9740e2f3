"""Services and EndpointSlices -> the records of the service tables. Pure: no I/O, no clock, no client."""
