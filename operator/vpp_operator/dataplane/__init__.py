"""The dataplane as the agent sees it: records, the protocol of every engine, and the adapters."""
