"""Ways to the API server that do not lead through a Service.

On a node without kube-proxy nothing answers on the API server's ClusterIP until an agent has programmed it,
so no process of this project may use it. Each takes a list of API servers (environment variable
``API_SERVERS``), reaches them in turn and verifies their certificate against the cluster's CA by the name
``kubernetes.default.svc``.

One construction serves all users (the typed client, kopf, hand-written watches): an aiohttp session whose
base URL names the API server by the certificate's name, and whose connector resolves that name to the listed
addresses. So aiohttp tries one address after the other, TLS checks the right name, and nobody else has to
know about it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from kubernetes.aio import client as kubernetes_client

__all__ = [
    "Access",
    "AccessError",
    "ApiAccess",
    "ApiError",
    "Server",
    "ServerList",
    "TokenFile",
    "new_api_client",
    "new_session",
    "parse_servers",
    "session_options",
]

SERVER_NAME: Final = "kubernetes.default.svc"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_TIMEOUT_S: Final = 3.0
REQUEST_TIMEOUT_S: Final = 10.0
TOKEN_MAX_AGE_S: Final = 30.0
USER_TIMEOUT_S: Final = 3.0
WRITE_TIMEOUT_S: Final = 3.0
WRITE_LAG_S: Final = USER_TIMEOUT_S + WRITE_TIMEOUT_S
"""A guarded write has its effect at most this long after the guard let it pass (kernel, then server)."""

Guard = Callable[[], None]
"""Called right before a request that may change something leaves; raises to stop it."""


class AccessError(ValueError):
    """A setting for reaching the API server is missing or wrong; the text names it and the remedy."""


class ApiError(Exception):
    """The API server refused a request. ``reason`` is metav1.Status's, as in Conflict or NotFound."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Server:
    """Where an API server listens: host is an IP address, or a DNS name where a provider gives only that."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_HOST_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
)


def _parse_server(text: str, source: str) -> Server:
    remedy = (
        f"{source}: {text!r} is no API server address; write 192.0.2.1:6443, [2001:db8::1]:6443 or name:6443"
    )
    bare = text.removeprefix("https://").rstrip("/")
    if "://" in bare:
        raise AccessError(remedy + " (https only)")
    if bare.startswith("["):
        host, closed, rest = bare[1:].partition("]")
        port = rest.removeprefix(":") if closed else "?"
    elif bare.count(":") > 1:
        host, port = bare, ""
    else:
        host, _, port = bare.partition(":")
    if port and (not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536):
        raise AccessError(remedy)
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host) or host.replace(".", "").isdigit():
            raise AccessError(remedy) from None
    return Server(host, int(port or 443))


def parse_servers(text: str, source: str = "API_SERVERS") -> tuple[Server, ...]:
    """Read a list of API servers, separated by commas or white space.

    Each is ``host``, ``host:port``, ``[ipv6]:port`` or the same after ``https://``; the port is 443 by
    default. Duplicates are dropped, the order is kept. ``source`` names the setting in errors.

    Raises:
        AccessError: an entry cannot be read, or there is none.
    """
    servers = tuple(dict.fromkeys(_parse_server(part, source) for part in re.split(r"[,\s]+", text) if part))
    if not servers:
        raise AccessError(
            f"{source}: no API server given; list the API servers' own addresses (not the kubernetes "
            "Service's), as in 192.0.2.1:6443"
        )
    return servers


class ServerList:
    """The API servers in the order in which they are tried; may change while in use."""

    def __init__(self, servers: Iterable[Server]) -> None:
        self._servers = tuple(dict.fromkeys(servers))
        if not self._servers:
            raise AccessError("the list of API servers is empty")
        self._first = 0

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers, the one to try first at the head."""
        return self._servers[self._first :] + self._servers[: self._first]

    def replace(self, servers: Iterable[Server]) -> bool:
        """Use these servers from now on; an empty list changes nothing. Return whether the set differs."""
        new = tuple(dict.fromkeys(servers))
        if not new or set(new) == set(self._servers):
            return False
        current = self.servers[0]
        self._servers = new
        self._first = new.index(current) if current in new else 0
        return True

    def advance(self) -> None:
        """Begin with the next server from now on: the first one did not answer."""
        self._first = (self._first + 1) % len(self._servers)


class TokenFile:
    """A bearer token in a file that somebody else renews (a projected service account token)."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    def read(self, *, fresh: bool = False) -> str:
        """Return the token, read again when older than 30 s or when `fresh` is asked for.

        Raises:
            AccessError: the file cannot be read and no token was read before.
        """
        now = self._clock()
        if fresh or now - self._read_at > TOKEN_MAX_AGE_S:
            try:
                self._token = self.path.read_text().strip()
                self._read_at = now
            except OSError as error:
                if not self._token:
                    raise AccessError(
                        f"cannot read the service account token {self.path}: {error}"
                    ) from error
        return self._token


@dataclass(frozen=True, slots=True)
class Access:
    """How this process reaches the API server."""

    servers: ServerList
    ca_file: Path
    token: TokenFile
    namespace: str
    server_name: str = SERVER_NAME
    _context: list[ssl.SSLContext] = field(default_factory=list, repr=False, compare=False)

    @property
    def base_url(self) -> str:
        """URL of the API server for a session made by this module."""
        return f"https://{self.server_name}"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Access:
        """Read API_SERVERS, and what differs from a pod's defaults: KUBE_TOKEN_FILE, KUBE_CA_FILE,
        API_SERVER_NAME (name in the API server's certificate), POD_NAMESPACE.

        Raises:
            AccessError: a setting is missing or wrong.
        """
        servers = parse_servers(environ.get("API_SERVERS", ""))
        name = environ.get("API_SERVER_NAME") or SERVER_NAME
        if not _HOST_NAME.fullmatch(name) or name.replace(".", "").isdigit():
            raise AccessError(
                f"API_SERVER_NAME: {name!r} is no DNS name; give one that the certificate carries"
            )
        ca_file = Path(environ.get("KUBE_CA_FILE") or SERVICE_ACCOUNT / "ca.crt")
        if not ca_file.is_file():
            raise AccessError(
                f"KUBE_CA_FILE: there is no {ca_file}; mount the cluster's CA certificate there"
            )
        token = TokenFile(Path(environ.get("KUBE_TOKEN_FILE") or SERVICE_ACCOUNT / "token"))
        token.read()
        namespace = environ.get("POD_NAMESPACE", "")
        if not namespace:
            try:
                namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
            except OSError:
                raise AccessError("POD_NAMESPACE: not set; set it to the namespace of this process") from None
        return cls(ServerList(servers), ca_file, token, namespace, name)

    def ssl_context(self) -> ssl.SSLContext:
        """Context that trusts the cluster's CA only; made once."""
        if not self._context:
            self._context.append(ssl.create_default_context(cafile=str(self.ca_file)))
        return self._context[0]


class _Resolver(AbstractResolver):
    """Resolves the API server's certificate name to the listed servers, in their order."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self._access.server_name:
            raise OSError(None, f"{host} is not the API server")
        results: list[ResolveResult] = []
        failure: OSError | None = None
        for server in self._access.servers.servers:
            try:
                address = ipaddress.ip_address(server.host)
            except ValueError:
                try:
                    results += await self._names.resolve(server.host, server.port, socket.AF_UNSPEC)
                except OSError as error:
                    failure = error
                continue
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address),
                    port=server.port,
                    family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        if not results:
            raise failure or OSError(None, "no API server")
        return results

    async def close(self) -> None:
        await self._names.close()


def _new_socket(info: tuple[Any, ...]) -> socket.socket:
    # Unacknowledged data dies with the connection after this time instead of being delivered minutes later,
    # when another process may lead; keep-alives find a dead peer on an idle watch.
    sock = socket.socket(info[0], info[1], info[2])
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_S * 1000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return sock


def _authenticate(access: Access) -> aiohttp.ClientMiddlewareType:
    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        token = access.token.read()
        request.headers["Authorization"] = f"Bearer {token}"
        first = access.servers.servers[0]
        try:
            response = await handler(request)
        except (aiohttp.ClientConnectionError, TimeoutError):
            # Somebody else's request may have moved on already.
            if access.servers.servers[0] == first:
                access.servers.advance()
            raise
        if response.status == 401:
            access.token.read(fresh=True)
        elif response.status in (502, 503, 504) and access.servers.servers[0] == first:
            access.servers.advance()
        return response

    return authenticate


def _guarded(guard: Guard) -> aiohttp.TraceConfig:
    # These signals come after the connection is there (which may take seconds) and right before bytes are
    # handed to it: the latest point at which a request can still be stopped.
    trace = aiohttp.TraceConfig()

    async def before_headers(
        _session: object, _context: object, params: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        if params.method not in ("GET", "HEAD"):
            guard()

    async def before_chunk(
        _session: object, _context: object, params: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        if params.method not in ("GET", "HEAD"):
            guard()

    trace.on_request_headers_sent.append(before_headers)
    trace.on_request_chunk_sent.append(before_chunk)
    return trace


def session_options(access: Access, *, guard: Guard | None = None, connections: int = 32) -> dict[str, Any]:
    """Keyword arguments of an `aiohttp.ClientSession` that reaches the API server; needs a running loop."""
    connector = aiohttp.TCPConnector(
        limit=connections,
        ssl=access.ssl_context(),
        resolver=_Resolver(access),
        use_dns_cache=False,
        socket_factory=_new_socket,
    )
    return {
        "connector": connector,
        "middlewares": (_authenticate(access),),
        "trace_configs": [_guarded(guard)] if guard else None,
        "trust_env": False,
        "raise_for_status": False,
        "read_bufsize": 2**20,
        "timeout": aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
    }


def new_session(
    access: Access, *, user_agent: str, guard: Guard | None = None, connections: int = 32
) -> aiohttp.ClientSession:
    """Return a session for raw requests and watches; URLs begin with `access.base_url`.

    Every request takes at most 10 s in all unless its own timeout says otherwise (a watch must give one
    without a total and with ``sock_read``). `guard` is called right before anything but a GET or HEAD leaves.
    """
    return aiohttp.ClientSession(
        headers={"User-Agent": user_agent}, **session_options(access, guard=guard, connections=connections)
    )


class ApiAccess:
    """Requests to the API server as JSON objects: what a process needs beside watches. A context manager.

    Paths are absolute (``/api/v1/nodes``). Errors: `ApiError` for an answer that refuses, and what aiohttp
    raises when there is none (`aiohttp.ClientError`, `TimeoutError`); the next request then begins with the
    next API server.
    """

    def __init__(
        self, access: Access, *, user_agent: str, guard: Guard | None = None, connections: int = 32
    ) -> None:
        self.access = access
        self._options = {"user_agent": user_agent, "guard": guard, "connections": connections}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ApiAccess:
        self._session = new_session(self.access, **self._options)  # type: ignore[arg-type]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; there from entering the context on."""
        if self._session is None:
            raise RuntimeError("ApiAccess is used outside its context")
        return self._session

    def get(
        self, path: str, *, params: Mapping[str, str] | None = None, read_timeout: float = REQUEST_TIMEOUT_S
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a GET whose body may take any time, as a watch does; ``read_timeout``: longest silence (s)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=read_timeout)
        return self.session.get(self.access.base_url + path, params=params, timeout=timeout)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request with a JSON body and return the decoded answer. Takes at most 10 s."""
        if self._options["guard"] and method not in ("GET", "HEAD"):
            # The API server gives the request up after this time.
            params = {**(params or {}), "timeout": f"{WRITE_TIMEOUT_S:g}s"}
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data is not None else None
        async with self.session.request(
            method, self.access.base_url + path, params=params, data=data, headers=headers
        ) as response:
            answer = await response.read()
            if response.status >= 400:
                raise _api_error(response, answer)
        return orjson.loads(answer)

    async def read(self, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """Return one object or list."""
        return await self.request("GET", path, params=params)

    async def apply(self, path: str, body: Any, *, field_manager: str, force: bool = True) -> Any:
        """Server-side apply ``body`` at ``path`` (an object's, or its ``/status``) and return the result."""
        return await self.request(
            "PATCH",
            path,
            body=body,
            params={"fieldManager": field_manager, "force": "true" if force else "false"},
            # JSON is YAML.
            content_type="application/apply-patch+yaml",
        )

    def note_failure(self) -> None:
        """Begin with the next API server from now on."""
        self.access.servers.advance()


def _api_error(response: aiohttp.ClientResponse, answer: bytes) -> ApiError:
    try:
        status = orjson.loads(answer)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        status = {"message": answer[:200].decode(errors="replace")}
    wait = response.headers.get("Retry-After", "")
    return ApiError(
        response.status,
        str(status.get("reason") or response.reason or ""),
        str(status.get("message") or ""),
        float(wait) if wait.isdigit() else 0.0,
    )


def new_api_client(
    access: Access, *, user_agent: str, guard: Guard | None = None, connections: int = 32
) -> kubernetes_client.ApiClient:
    """Return a typed client (kubernetes.aio) that reaches the API server in the same way. Close it after use.

    Calls without ``_request_timeout`` may take up to five minutes: give one.
    """
    configuration = kubernetes_client.Configuration(host=access.base_url, ssl_ca_cert=str(access.ca_file))
    api = kubernetes_client.ApiClient(configuration)
    api.user_agent = user_agent
    # Its configuration could take these options too, but would then leave the connector open at the end.
    api.rest_client.pool_manager = aiohttp.ClientSession(
        **session_options(access, guard=guard, connections=connections)
    )
    return api
