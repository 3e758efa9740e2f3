"""VPP's binary API socket: what a VPP that is missing, wrong or broken becomes, by a scripted peer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from vpp_papi.vpp_papi_async import VPPApiClient, VPPApiJSONFiles

from vpp_operator.dataplane.protocol import (
    DataplaneError,
    DataplaneIncompatibleError,
    DataplaneUnavailableError,
)
from vpp_operator.dataplane.vpp import api
from vpp_operator.dataplane.vpp.adapter import VppDataplane
from vpp_operator.dataplane.wire import HEADER, REPLY

FRAME = struct.Struct(">QII")
PING, CALL, CALL_REPLY = 20, 900, 901


def frame(message: bytes) -> bytes:
    return FRAME.pack(0, len(message), 0) + message


def khost_reply(context: int, answer: bytes, retval: int = 0, length: int | None = None) -> bytes:
    size = len(answer) if length is None else length
    return frame(struct.pack(">HIiI", CALL_REPLY, context, retval, size) + answer)


class Peer:
    """Speaks as much of VPP's socket API as the handshake takes."""

    def __init__(self, path: Path, respond: Callable[[int, bytes], bytes | None]) -> None:
        self.path = path
        self.respond = respond
        self.table = {
            "khost_call_497d58c0": CALL,
            "khost_call_reply_95b92a6a": CALL_REPLY,
            "control_ping_51077d14": PING,
            "control_ping_reply_f6b0b8ca": PING + 1,
        }
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._message(reader)  # sockclnt_create
            if self.silent:
                await reader.read()
            entries = [{"index": index, "name": name} for name, index in self.table.items()]
            hello = (
                VPPApiClient(server_address="")
                .messages["sockclnt_create_reply"]
                .pack(
                    {
                        "_vl_msg_id": 16,
                        "client_index": 0,
                        "context": 124,
                        "response": 0,
                        "index": 1,
                        "count": len(entries),
                        "message_table": entries,
                    }
                )
            )
            writer.write(frame(hello))
            while True:
                message = await self._message(reader)
                kind, _, context, length = struct.unpack_from(">HIII", message)
                assert (kind, length) == (CALL, len(message) - 14)
                content = self.respond(context, message[14:])
                if content is None:
                    break
                writer.write(content)
        writer.close()

    async def _message(self, reader: asyncio.StreamReader) -> bytes:
        _, length, _ = FRAME.unpack(await reader.readexactly(FRAME.size))
        return await reader.readexactly(length)


def answered(payload: bytes) -> Callable[[int, bytes], bytes | None]:
    """Answer each message with a payload."""

    def respond(context: int, request: bytes) -> bytes:
        _, kind, version, inner, *_ = HEADER.unpack_from(request)
        head = HEADER.pack(HEADER.size + len(payload), kind | REPLY, version, inner, 0, 0, 0, 0, 0)
        return khost_reply(context, head + payload)

    return respond


INFO = json.dumps(
    {
        "engine": "vpp",
        "version": "1",
        "creationId": "c",
        "bootId": "b",
        "layout": "l",
        "attached": True,
        "keptSessions": 3,
        "workers": 1,
        "capacity": {},
        "interfaces": [],
    }
).encode()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    made = Peer(tmp_path / "api.sock", answered(INFO))
    server = await asyncio.start_unix_server(made.serve, made.path)
    yield made
    server.close()


@pytest.fixture
async def dataplane(peer: Peer) -> AsyncIterator[VppDataplane]:
    made = VppDataplane(peer.path, call_timeout=0.3)
    yield made
    await made.close()


async def test_message_and_answer_come_through(peer: Peer, dataplane: VppDataplane) -> None:
    info = await dataplane.connect()
    assert (info.engine, info.kept_sessions) == ("vpp", 3)
    assert await dataplane.info() == info


async def test_no_vpp_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataplaneUnavailableError, match="is the engine's pod on this node running"):
        await VppDataplane(tmp_path / "none.sock").connect()


async def test_socket_without_a_listener(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = await asyncio.start_unix_server(lambda *_: None, path)
    server.close()
    with pytest.raises(DataplaneUnavailableError, match="no VPP answers"):
        await VppDataplane(path).connect()


async def test_vpp_that_does_not_greet(
    peer: Peer, dataplane: VppDataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CONNECT_TIMEOUT", 0.2)
    peer.silent = True
    with pytest.raises(DataplaneUnavailableError, match="timed out"):
        await dataplane.connect()
    peer.silent = False
    assert (await dataplane.connect()).engine == "vpp"


async def test_plugin_that_is_not_loaded(peer: Peer, dataplane: VppDataplane) -> None:
    peer.table = {name: index for name, index in peer.table.items() if not name.startswith("khost")}
    with pytest.raises(DataplaneIncompatibleError, match=r"plugin khost is not loaded.*startup.conf"):
        await dataplane.connect()


async def test_plugin_of_another_release(peer: Peer, dataplane: VppDataplane) -> None:
    peer.table = {name.replace("497d58c0", "0badcafe"): index for name, index in peer.table.items()}
    with pytest.raises(
        DataplaneIncompatibleError, match=r"khost_call_0badcafe, the agent khost_call_497d58c0.*same release"
    ):
        await dataplane.connect()


async def test_vpp_without_what_vpp_papi_needs(peer: Peer, dataplane: VppDataplane) -> None:
    del peer.table["control_ping_51077d14"]
    with pytest.raises(DataplaneIncompatibleError, match=r"control_ping.*same release"):
        await dataplane.connect()


@pytest.mark.parametrize(
    ("respond", "kind", "complaint"),
    [
        (lambda context, _: None, DataplaneUnavailableError, "VPP closed the connection"),
        (lambda context, _: b"", DataplaneUnavailableError, "no answer to INFO for 0.3 s"),
        (lambda context, _: khost_reply(context, b"", -7), DataplaneError, "refused a message: -7"),
        (lambda context, _: khost_reply(context, b"abc"), DataplaneUnavailableError, "an answer of 3 bytes"),
        (lambda context, _: khost_reply(context, bytes(40)), DataplaneUnavailableError, "message length 0"),
        (lambda context, _: khost_reply(context, b"abc", length=99), DataplaneUnavailableError, "Connect"),
        (lambda context, _: frame(struct.pack(">HII", 77, 1, context)), DataplaneUnavailableError, "Connect"),
        (lambda context, _: frame(b"\xff\xff"), DataplaneUnavailableError, "Connect"),
        (answered(b"[]"), DataplaneError, "INFO"),
    ],
)
async def test_answers_that_make_no_sense_are_errors(
    peer: Peer,
    dataplane: VppDataplane,
    respond: Callable[[int, bytes], bytes | None],
    kind: type[DataplaneError],
    complaint: str,
) -> None:
    peer.respond = respond
    with pytest.raises(kind, match=complaint):
        await dataplane.connect()
    peer.respond = answered(INFO)
    assert (await dataplane.connect()).engine == "vpp"


async def test_answer_to_another_request_ends_the_connection(peer: Peer, dataplane: VppDataplane) -> None:
    def swapped(context: int, request: bytes) -> bytes:
        length, kind, version, inner, *rest = HEADER.unpack_from(request)
        return khost_reply(context, HEADER.pack(length, kind | REPLY, version, inner + 1, *rest))

    await dataplane.connect()
    peer.respond = swapped
    with pytest.raises(DataplaneUnavailableError, match="to request"):
        await dataplane.flush_sessions()


def test_definitions_are_those_of_the_plugin() -> None:
    """As vppapigen writes them from khost.api, where that has been built."""
    built = list((Path(__file__).parents[2] / "build").glob("vpp-plugins/**/khost.api.json"))
    for file in built:
        described = json.loads(file.read_text())
        theirs = {m[0]: (m[1:-1], m[-1]["crc"]) for m in described["messages"]}
        ours = {m[0]: (m[1:-1], m[-1]["crc"]) for m in api.KHOST_API["messages"]}
        assert ours == {name: theirs[name] for name in ours}
        assert {name: described["services"][name] for name in api.KHOST_API["services"]} == api.KHOST_API[
            "services"
        ]
    messages, services = VPPApiJSONFiles.process_json_str(json.dumps(api.KHOST_API))
    assert set(messages) == {"khost_call", "khost_call_reply"} and set(services) == {"khost_call"}
