"""HTTPS server for per-tunnel figures: who may read them is the API server's decision.

The certificate is made at each start and signed by itself; its key never leaves the process's memory but for
the moment of loading. Whoever reads pins its fingerprint, which the agent writes into the status of its
Dataplane. That is as good as a certificate authority of our own and needs none: an agent may write the status
of its own node only (admission policy, token bound to the node), so a fingerprint there is that node's, and
nothing has to be distributed, renewed or kept secret.

A reader shows a bearer token for the audience :data:`~vpp_operator.api.gtpu_report.AUDIENCE`. The agent has
it reviewed (TokenReview), and asks whether that user may get the path (SubjectAccessReview), as the kubelet
does.
"""

from __future__ import annotations

import datetime
import hashlib
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vpp_operator.agent.lease import Requests
from vpp_operator.api.gtpu_report import AUDIENCE, PATH, NodeReport
from vpp_operator.dataplane.protocol import DataplaneError
from vpp_operator.kube import AccessError, ApiError

__all__ = ["Reviewer", "figures_app", "make_certificate"]

_log = structlog.get_logger(__name__)


def make_certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a key and a certificate for it; return a server's context and the SHA-256 fingerprint (hex).

    ``folder`` holds the key for the moment in which OpenSSL reads it, for this user only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"vpp-operator-agent {name}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context, certificate.fingerprint(hashes.SHA256()).hex()


class Reviewer:
    """Asks the API server who shows a token and whether he may read; remembers the answers for a while."""

    KEEP_SECONDS = 60.0
    KEEP_REFUSED_SECONDS = 10.0
    MOST_KEPT = 256
    # Reviews that strangers can cause, per second.
    RATE = 5.0

    def __init__(self, api: Requests, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._known: dict[bytes, tuple[float, int]] = {}
        self._allowance = self.RATE
        self._filled_at = clock()

    async def status(self, token: str) -> int:
        """Return the HTTP status that the bearer of a token gets: 200, 401, 403, 429 or 503."""
        mark = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        until, status = self._known.get(mark, (0.0, 0))
        if now < until:
            return status
        self._allowance = min(self.RATE, self._allowance + (now - self._filled_at) * self.RATE)
        self._filled_at = now
        if self._allowance < 1.0:
            return 429
        self._allowance -= 1.0
        try:
            status = await self._review(token)
        except (ApiError, AccessError, aiohttp.ClientError, OSError, TimeoutError) as error:
            _log.warning("token not reviewed", error=f"{type(error).__name__}: {error}")
            return 503
        if len(self._known) >= self.MOST_KEPT:
            self._known = {m: entry for m, entry in self._known.items() if entry[0] > now}
            if len(self._known) >= self.MOST_KEPT:
                self._known.clear()
        keep = self.KEEP_SECONDS if status == 200 else self.KEEP_REFUSED_SECONDS
        self._known[mark] = (now + keep, status)
        return status

    async def _review(self, token: str) -> int:
        answer = await self._api.request(
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [AUDIENCE]},
            },
        )
        found: dict[str, Any] = answer.get("status") or {}
        # An API server that does not know audiences leaves them out: its word is about another one then.
        if not found.get("authenticated") or AUDIENCE not in (found.get("audiences") or ()):
            return 401
        user = found.get("user") or {}
        answer = await self._api.request(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user.get("username", ""),
                    "uid": user.get("uid", ""),
                    "groups": user.get("groups") or [],
                    "extra": user.get("extra") or {},
                    "nonResourceAttributes": {"path": PATH, "verb": "get"},
                },
            },
        )
        return 200 if (answer.get("status") or {}).get("allowed") else 403


def figures_app(reviewer: Reviewer, make: Callable[[], Awaitable[NodeReport]]) -> web.Application:
    """Return the application with GET /v1/gtpu."""

    async def figures(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > 16384:
            return web.Response(status=401, text="a bearer token is needed\n")
        status = await reviewer.status(token.strip())
        if status != 200:
            return web.Response(status=status, text="refused\n")
        try:
            report = await make()
        except DataplaneError as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(body=report.to_json(), content_type="application/json")

    app = web.Application(client_max_size=1024)
    app.router.add_get(PATH, figures)
    return app
