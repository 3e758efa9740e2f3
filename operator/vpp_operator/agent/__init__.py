"""The node process: follows the cluster's objects and keeps the node's dataplane equal to them."""
