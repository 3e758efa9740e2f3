"""How the API server is reached: lists of servers, tokens, settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpp_operator.kube import Access, AccessError, Server, ServerList, TokenFile, parse_servers


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("192.0.2.1:6443", [Server("192.0.2.1", 6443)]),
        ("https://192.0.2.1:6443/", [Server("192.0.2.1", 6443)]),
        ("192.0.2.1", [Server("192.0.2.1", 443)]),
        ("[2001:DB8::1]:6443, 2001:db8::2", [Server("2001:db8::1", 6443), Server("2001:db8::2", 443)]),
        (
            "api.example.net:443 192.0.2.1:1,192.0.2.1:1",
            [Server("api.example.net", 443), Server("192.0.2.1", 1)],
        ),
    ],
)
def test_servers(text: str, servers: list[Server]) -> None:
    assert list(parse_servers(text)) == servers


@pytest.mark.parametrize(
    "text",
    ["", " , ", "http://192.0.2.1", "192.0.2.1:0", "192.0.2.1:70000", "[::1", "192.0.2.300", "a_b", ":6443"],
)
def test_servers_that_are_none(text: str) -> None:
    with pytest.raises(AccessError, match="API_SERVERS"):
        parse_servers(text)


def test_server_list_goes_round_and_keeps_its_place() -> None:
    a, b, c = (Server(name, 1) for name in "abc")
    servers = ServerList([a, b])
    servers.advance()
    assert servers.servers == (b, a)
    assert not servers.replace([a, b]) and not servers.replace([])
    assert servers.replace([c, a, b]) and servers.servers == (b, c, a)


def test_token_is_read_again_and_outlives_a_gap(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "token"
    token = TokenFile(path, lambda: now[0])
    with pytest.raises(AccessError, match="token"):
        token.read()
    path.write_text("one\n")
    assert token.read() == "one"
    path.write_text("two\n")
    assert token.read() == "one" and token.read(fresh=True) == "two"
    path.unlink()
    now[0] = 100
    assert token.read() == "two"


def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("x")
    authority.write_text("x")
    whole = {
        "API_SERVERS": "192.0.2.1",
        "KUBE_CA_FILE": str(authority),
        "KUBE_TOKEN_FILE": str(token),
        "POD_NAMESPACE": "ns",
    }
    assert Access.from_environment(whole).base_url == "https://kubernetes.default.svc"
    for name, value in {
        "API_SERVERS": "",
        "KUBE_CA_FILE": str(tmp_path / "none"),
        "API_SERVER_NAME": "192.0.2.1",
        "POD_NAMESPACE": "",
    }.items():
        with pytest.raises(AccessError, match=name):
            Access.from_environment({**whole, name: value})
