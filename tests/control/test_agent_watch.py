"""The lean watch against a real API server: pages, resumption, 410, restarts, silence, broken objects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.controlplane import ControlPlane
from tests.control import agent_access as make
from tests.control.agent_access import running, until

from vpp_operator.kube import ApiAccess, ServerList, parse_servers
from vpp_operator.watch import Backoff, Watch, WatchTarget

TARGET = WatchTarget(
    "/api/v1/services",
    label_selector="!service.kubernetes.io/service-proxy-name",
    field_selector="spec.clusterIP!=None",
    page_size=7,
)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


class Recorder:
    """A sink that keeps the objects and every call."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.version = ""

    def upsert(self, namespace: str, name: str, obj: dict[str, Any]) -> None:
        self.objects[name] = obj
        self.calls.append(("upsert", name))

    def delete(self, namespace: str, name: str) -> None:
        del self.objects[name]
        self.calls.append(("delete", name))

    def broken(self, namespace: str, name: str, error: Exception) -> None:
        self.calls.append(("broken", name))

    def listed(self, resource_version: str) -> None:
        self.version = resource_version
        self.calls.append(("listed", ""))

    def progress(self, resource_version: str) -> None:
        self.version = resource_version

    def names(self) -> set[str]:
        return {name for name in self.objects if name != "kubernetes"}


@pytest.fixture
async def admin(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    async with ApiAccess(make.administrator(plane, tmp_path), user_agent="test") as api:
        yield api
        for item in (await api.read(make.SERVICES))["items"]:
            if item["metadata"]["name"] != "kubernetes":
                await api.request("DELETE", f"{make.SERVICES}/{item['metadata']['name']}")


@pytest.fixture
async def api(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    async with ApiAccess(make.access(plane, tmp_path), user_agent="test") as api:
        yield api


def watch_of(api: ApiAccess, sink: Recorder, **more: Any) -> Watch[dict[str, Any]]:
    decode = more.pop("decode", lambda obj: obj)
    more.setdefault("backoff", Backoff(first=0.05, longest=0.5))
    return Watch(api, TARGET, decode, sink, **more)


async def test_lists_in_pages_then_follows(api: ApiAccess, admin: ApiAccess) -> None:
    for i in range(20):
        await make.create(admin, make.SERVICES, make.service(f"s{i}"))
    sink = Recorder()
    watch = watch_of(api, sink)
    async with running(watch.run()):
        await until(lambda: watch.synced)
        assert sink.names() == {f"s{i}" for i in range(20)}
        assert watch.figures.lists == 1
        await make.create(admin, make.SERVICES, make.service("later"))
        await until(lambda: "later" in sink.objects)
        await admin.request("DELETE", f"{make.SERVICES}/s3")
        await until(lambda: "s3" not in sink.objects)
        hidden = make.service("hidden")
        hidden["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
        await make.create(admin, make.SERVICES, hidden)
        await make.create(admin, make.SERVICES, make.service("headless", clusterIP="None"))
        # A Service that stops matching is a deletion here.
        patch = {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}}
        await admin.request(
            "PATCH", f"{make.SERVICES}/s4", body=patch, content_type="application/merge-patch+json"
        )
        await until(lambda: "s4" not in sink.objects)
        assert not {"hidden", "headless"} & sink.names()
        assert watch.figures.lists == 1 and watch.figures.failures == 0


async def test_gone_leads_to_a_list_whose_difference_alone_is_applied(
    plane: ControlPlane, api: ApiAccess, admin: ApiAccess
) -> None:
    for i in range(10):
        await make.create(admin, make.SERVICES, make.service(f"g{i}"))
    sink = Recorder()
    decoded: list[str] = []

    def decode(obj: dict[str, Any]) -> dict[str, Any]:
        decoded.append(obj["metadata"]["name"])
        return obj

    watch = watch_of(api, sink, decode=decode)
    async with running(watch.run()):
        await until(lambda: watch.synced)
    await admin.request("DELETE", f"{make.SERVICES}/g1")
    await make.create(admin, make.SERVICES, make.service("g-new"))
    await admin.request(
        "PATCH",
        f"{make.SERVICES}/g2",
        body={"metadata": {"labels": {"a": "b"}}},
        content_type="application/merge-patch+json",
    )
    await make.compact(plane)
    await asyncio.to_thread(plane.stop_apiserver)
    await asyncio.to_thread(plane.start_apiserver)
    sink.calls.clear()
    decoded.clear()
    async with running(watch.run()):
        await until(lambda: watch.figures.lists == 2 and "g-new" in sink.objects and "g1" not in sink.objects)
        await until(lambda: ("listed", "") in sink.calls)
    assert sorted(sink.calls) == [("delete", "g1"), ("listed", ""), ("upsert", "g-new"), ("upsert", "g2")]
    assert sorted(decoded) == ["g-new", "g2"]


async def test_an_api_server_away_lets_go_of_nothing(
    plane: ControlPlane, api: ApiAccess, admin: ApiAccess
) -> None:
    await make.create(admin, make.SERVICES, make.service("kept"))
    sink = Recorder()
    watch = watch_of(api, sink)
    async with running(watch.run()):
        await until(lambda: watch.synced)
        before = list(sink.calls)
        await asyncio.to_thread(plane.stop_apiserver)
        await until(lambda: watch.figures.failures >= 3)
        assert sink.calls == before and "kept" in sink.objects
        await asyncio.to_thread(plane.start_apiserver)
        await make.create(admin, make.SERVICES, make.service("after"))
        await until(lambda: "after" in sink.objects)
        assert ("delete", "kept") not in sink.calls and sink.calls.count(("upsert", "kept")) == 1


async def test_an_object_not_understood_stays_alone(api: ApiAccess, admin: ApiAccess) -> None:
    def decode(obj: dict[str, Any]) -> dict[str, Any]:
        if obj["metadata"]["name"].startswith("bad"):
            raise ValueError("spec.ports: no")
        return obj

    for name in ("bad1", "good1"):
        await make.create(admin, make.SERVICES, make.service(name))
    sink = Recorder()
    watch = watch_of(api, sink, decode=decode)
    async with running(watch.run()):
        await until(lambda: watch.synced)
        for name in ("bad2", "good2"):
            await make.create(admin, make.SERVICES, make.service(name))
        await until(lambda: "good2" in sink.objects)
    assert sink.names() == {"good1", "good2"}
    assert [call for call in sink.calls if call[0] == "broken"] == [("broken", "bad1"), ("broken", "bad2")]


class Relay:
    """Passes bytes between clients and the API server; can fall silent without closing anything."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.silent = False
        self.connections = 0
        self.port = 0

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    while self.silent:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


async def test_a_silent_connection_is_given_up(plane: ControlPlane, admin: ApiAccess, tmp_path: Path) -> None:
    async with Relay(plane.port).serving() as relay:
        access = make.access(plane, tmp_path, f"127.0.0.1:{relay.port}")
        async with ApiAccess(access, user_agent="test") as api:
            sink = Recorder()
            watch = watch_of(api, sink, inactivity=1.0)
            async with running(watch.run()):
                await until(lambda: watch.synced and watch.figures.streams >= 1)
                relay.silent = True
                await make.create(admin, make.SERVICES, make.service("unheard"))
                await until(lambda: watch.figures.stalls >= 1)
                relay.silent = False
                await until(lambda: "unheard" in sink.objects)
                assert watch.figures.lists == 1, "resumed, not listed again"


async def test_the_next_server_is_tried(plane: ControlPlane, tmp_path: Path) -> None:
    access = make.access(plane, tmp_path)
    servers = ServerList(parse_servers(f"127.0.0.1:1,127.0.0.2:1,127.0.0.1:{plane.port}"))
    other = type(access)(servers, access.ca_file, access.token, "default")
    async with ApiAccess(other, user_agent="test") as api:
        watch = watch_of(api, Recorder())
        async with running(watch.run()):
            await until(lambda: watch.synced)


async def test_a_renewed_token_is_used(plane: ControlPlane, admin: ApiAccess, tmp_path: Path) -> None:
    access = make.access(plane, tmp_path)
    good = access.token.path.read_text()
    access.token.path.write_text("not-a-token")
    async with ApiAccess(access, user_agent="test") as api:
        watch = watch_of(api, Recorder())
        async with running(watch.run()):
            await until(lambda: watch.figures.failures >= 2)
            assert not watch.synced and "401" in watch.last_error
            access.token.path.write_text(good)
            await until(lambda: watch.synced)
