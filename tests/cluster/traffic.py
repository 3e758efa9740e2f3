"""Clients in pods, on nodes and outside, all running client_program.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from dataclasses import dataclass

from tests.cluster.paths import PACKAGE
from tests.cluster.places import Place
from tests.cluster.progress import ClusterError


def client_program() -> str:
    """Text of the client."""
    return (PACKAGE / "client_program.py").read_text()


@dataclass(frozen=True)
class Outcome:
    """What came of a client's requests; ``bodies`` and ``errors`` count each kind."""

    sent: int
    answered: int
    bodies: dict[str, int]
    errors: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every request was answered, and nothing else came."""
        return self.sent > 0 and self.answered == self.sent and not self.errors

    def problem(self, endpoints: Set[str] = frozenset()) -> str:
        """What is wrong, "" if nothing: a request without an answer, or an endpoint that never answered."""
        if not self.complete:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in self.errors.items())
            return f"{self.answered} of {self.sent} requests were answered" + (
                f" ({reasons})" if reasons else ""
            )
        missed = endpoints - self.bodies.keys()
        if missed:
            return f"never answered: {', '.join(sorted(missed))}"
        strange = self.bodies.keys() - endpoints
        return f"answered by no endpoint: {', '.join(sorted(strange))}" if endpoints and strange else ""


@dataclass(frozen=True)
class Client:
    """Somewhere to send requests from."""

    name: str
    run: Callable[[list[str]], str]

    def get(self, host: str, port: int, path: str, count: int, timeout: float = 5) -> Outcome:
        """``count`` HTTP requests, each over a new connection."""
        return self._outcome(["--timeout", str(timeout), "get", host, str(port), path, str(count)])

    def udp(self, host: str, port: int, rate: float, seconds: float) -> Outcome:
        """Datagrams at ``rate`` a second to agnhost's UDP server."""
        return self._outcome(["udp", host, str(port), str(rate), str(seconds)])

    def datagrams(self, host: str, port: int, size: int, count: int, timeout: float = 5) -> Outcome:
        """``count`` datagrams of ``size`` bytes, each from a new port, to a server that sends them back."""
        return self._outcome(["--timeout", str(timeout), "datagrams", host, str(port), str(size), str(count)])

    def dns(self, host: str, name: str, record: str, count: int) -> Outcome:
        """``count`` DNS questions for the record A or AAAA."""
        return self._outcome(["dns", host, "53", name, record, str(count)])

    def _outcome(self, words: list[str]) -> Outcome:
        try:
            return Outcome(**json.loads(self.run(words)))
        except json.JSONDecodeError as error:
            raise ClusterError(f"{self.name}: the client printed no JSON: {error}") from error


def place_client(place: Place) -> Client:
    """A client on a node or outside, in the machine's own network."""

    def run(words: list[str]) -> str:
        return place.run("python3", "-", *words, stdin=client_program(), timeout=300)

    return Client(place.name, run)


def pod_client(kubectl: Callable[..., str], namespace: str, pod: str) -> Client:
    """A client in a pod that has Python."""

    def run(words: list[str]) -> str:
        command = ["exec", "--namespace", namespace, "--stdin", pod, "--", "python3", "-", *words]
        return kubectl(*command, stdin=client_program())

    return Client(f"{namespace}/{pod}", run)


def client_pod(name: str, node: str, image: str) -> dict[str, object]:
    """A pod on a given node for ``pod_client``."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "client"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {"name": "client", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["pause"]}
            ],
        },
    }
