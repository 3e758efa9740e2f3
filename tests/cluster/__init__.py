"""A real Kubernetes cluster on one machine, in network namespaces, for the demo and the tests.

``python -m tests.cluster --help`` lists the commands. Nothing here is mocked: etcd, the API server, the
kubelet and containerd are built from their Go modules (``parts``) and run as plain processes; a node is a
set of namespaces.
"""
