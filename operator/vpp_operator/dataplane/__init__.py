"""The dataplane as the agent sees it: records, the protocol every engine adapter follows, and the adapters."""
