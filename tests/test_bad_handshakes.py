"""What a client may send in the place of a handshake request, over each way in (W1).

Under Uvicorn a request first has to be one of HTTP in the eyes of Uvicorn's own parser, and to ask for an upgrade to
`websocket` in one field of its own; else Uvicorn or the app answers it, and ours is not asked. That much, and that
Uvicorn shows us every request as one of HTTP/1.1, is stated case by case. Whatever a client sends, it is answered at
most once, no app is called for it as a WebSocket, and the next client is served.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from tests.hands import FIELDS, REQUEST, both, exchange
from tests.raw import text
from tests.ways import WAYS, run, serving

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


def request(*more: bytes, line: bytes = b"GET / HTTP/1.1", lacks: bytes = b"", body: bytes = b"") -> bytes:
    """A handshake request with another first line, with fields more or less, or with a body."""
    fields = [field for field in FIELDS.splitlines() if not lacks or not field.lower().startswith(lacks + b":")]
    return b"\r\n".join([line, *fields, *more, b"", b""]) + body


def key(value: bytes) -> bytes:
    """A request with another key."""
    return request(b"Sec-WebSocket-Key: " + value, lacks=b"sec-websocket-key")


def version(value: bytes) -> bytes:
    """A request with another version."""
    return request(b"Sec-WebSocket-Version: " + value, lacks=b"sec-websocket-version")


class Case(NamedTuple):
    """A request and who answers it how: our own server, and Uvicorn with each of its parsers.

    A number is ours; `app` is the HTTP app, `400u` Uvicorn's own refusal, `none` the end of the connection.
    """

    request: bytes
    ours: str
    h11: str = ""
    httptools: str = ""

    def wanted(self, way: str) -> str:
        if way == "start_server" or not self.h11:
            return self.ours
        return self.httptools if way == "uvicorn-httptools" and self.httptools else self.h11


CASES: dict[str, Case] = {
    # Not a request for a WebSocket.
    "no upgrade": Case(request(lacks=b"upgrade"), "426", "app"),
    "another upgrade": Case(request(b"Upgrade: h2c", lacks=b"upgrade"), "426", "app"),
    "an upgrade that begins alike": Case(request(b"Upgrade: websockets", lacks=b"upgrade"), "426", "app"),
    "no connection": Case(request(lacks=b"connection"), "400", "app"),
    "connection: keep-alive": Case(request(b"Connection: keep-alive", lacks=b"connection"), "400", "app"),
    "plain HTTP": Case(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "426", "app"),
    # The key, the version, the host.
    "no key": Case(request(lacks=b"sec-websocket-key"), "400"),
    "two keys": Case(request(KEY.strip()), "400"),
    "an empty key": Case(key(b""), "400"),
    "a short key": Case(key(b"YQ=="), "400"),
    "a long key": Case(key(b"YWFh" * 6), "400"),
    "a key that is no base64": Case(key(b"!" * 22 + b"=="), "400"),
    "a key without padding": Case(key(b"dGhlIHNhbXBsZSBub25jZQ"), "400"),
    "a key with something behind it": Case(key(b"dGhlIHNhbXBsZSBub25jZQ== x"), "400"),
    "a key that is not ASCII": Case(key(b"dGhlIHNhbXBsZSBub25j\xff\xff=="), "400"),
    "no version": Case(request(lacks=b"sec-websocket-version"), "400"),
    "version 8": Case(version(b"8"), "426"),
    "version 013": Case(version(b"013"), "426"),
    "versions 13 and 8": Case(version(b"13, 8"), "426"),
    "version 13 twice": Case(request(VERSION.strip()), "426"),
    "an empty version": Case(version(b""), "426"),
    "a version that is no number": Case(version(b"thirteen"), "426"),
    "no host": Case(request(lacks=b"host"), "400", "400u", "400"),
    "two hosts": Case(request(b"Host: g"), "400", "400u", "400"),
    "a host that is not ASCII": Case(request(b"Host: \xff", lacks=b"host"), "400"),
    # The first line.
    "POST": Case(request(line=b"POST / HTTP/1.1"), "400"),
    "HEAD": Case(request(line=b"HEAD / HTTP/1.1"), "400"),
    "a method in lower case": Case(request(line=b"get / HTTP/1.1"), "400", "400", "400u"),
    "OPTIONS *": Case(request(line=b"OPTIONS * HTTP/1.1"), "400"),
    "HTTP/1.0": Case(request(line=b"GET / HTTP/1.0"), "400"),
    "HTTP/1.2": Case(request(line=b"GET / HTTP/1.2"), "400", "400", "400u"),
    "HTTP/0.9": Case(b"GET /\r\n\r\n", "400", "400u", "app"),
    "a target with a space": Case(request(line=b"GET /a b HTTP/1.1"), "400", "400u"),
    "a target that is not ASCII": Case(request(line=b"GET /\xff HTTP/1.1"), "400", "400u"),
    "a target that is neither path nor URL": Case(request(line=b"GET a HTTP/1.1"), "400", "400", "400u"),
    "no target": Case(request(line=b"GET HTTP/1.1"), "400", "400u"),
    # A body, or two minds about it.
    "a body": Case(request(b"Content-Length: 2", body=b"hi"), "400"),
    "a chunked body": Case(request(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "400"),
    "two lengths": Case(request(b"Content-Length: 1", b"Content-Length: 2"), "400", "400u"),
    "a length that is none": Case(request(b"Content-Length: -1"), "400", "400u"),
    "a length and chunks": Case(
        request(b"Content-Length: 1", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "400", "400", "400u"
    ),
    # Subprotocols, and fields that try to be two.
    "names that are no tokens": Case(request(b'Sec-WebSocket-Protocol: a b, "c", ,;'), "400"),
    "a subprotocol that is not ASCII": Case(request("Sec-WebSocket-Protocol: ch\u00e4t".encode()), "400"),
    "a carriage return in a field": Case(request(b"Sec-WebSocket-Protocol: a\rX-Bad: 1"), "400", "400u"),
    "a NUL in a field": Case(request(b"X: a\x00b"), "400", "400u"),
    "a name with a space": Case(request(b"X : a"), "400", "400u"),
    "a name that is empty": Case(request(b": a"), "400", "400u"),
    "a name that is not ASCII": Case(request(b"\xff: a"), "400", "400u"),
    "a line without a colon": Case(request(b"nonsense"), "400", "400u"),
    # Too much, and no HTTP at all.
    "a huge field": Case(request(b"X: " + b"a" * 70_000), "431"),
    "a huge target": Case(request(line=b"GET /" + b"a" * 70_000 + b" HTTP/1.1"), "431"),
    "many fields": Case(request(*(b"X: a" for _ in range(12_000))), "431"),
    "a huge head without end": Case(b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, "431", "400u", "none"),
    "TLS": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400", "400u"),
    "a frame": Case(text("hi") + b"\r\n\r\n", "400", "400u"),
    "half a request": Case(REQUEST[:-2], "none"),
    "nothing": Case(b"", "none"),
    # Unusual and right.
    "more than one upgrade": Case(request(b"Upgrade: h2c, WebSocket", lacks=b"upgrade"), "101", "app"),
    "more than one connection option": Case(request(b"Connection: a, UPGRADE", lacks=b"connection"), "101"),
    "two connection fields": Case(request(b"Connection: keep-alive"), "101", "app"),
    "a length of 0": Case(request(b"Content-Length: 0"), "101"),
    "an extension that is not ASCII": Case(request(b"Sec-WebSocket-Extensions: \xff; x=\xff"), "101"),
    "an extension that cannot be parsed": Case(request(b'Sec-WebSocket-Extensions: ;=,"; permessage-deflate'), "101"),
    "an absolute target": Case(request(line=b"GET http://h/a?b HTTP/1.1"), "101"),
    "a bad percent-encoding": Case(request(line=b"GET /%ff%zz?%ff HTTP/1.1"), "101"),
}


async def greet(scope: Any, receive: Any, send: Any) -> None:
    """Answers HTTP by 200; accepts a WebSocket with whatever it offered first, where that can be, and closes."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})
    assert (await receive())["type"] == "websocket.disconnect"


def who(answer: bytes) -> str:
    """An answer as a `Case` names it."""
    status = answer[9:12].decode()
    if not answer:
        return "none"
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    if b"Invalid HTTP request received." in answer:
        return f"{status}u"
    return "app" if status == "200" else status


class TestBadHandshakes:
    @pytest.mark.parametrize("way", WAYS)
    def test_get_the_answer_that_w1_names_and_the_next_client_is_served(self, way: str) -> None:
        async def test() -> None:
            wrong = []
            async with serving(way, greet, **both({"ping_interval": None}, way)) as site:
                for name, case in CASES.items():
                    before = len(site.sessions)
                    answer = await exchange(site, case.request)
                    called = len(site.sessions) - before
                    if (who(answer), called) != (case.wanted(way), who(answer) == "101"):
                        wrong.append(f"{name}: {who(answer)}, not {case.wanted(way)}; {called} sessions")
                    if who(await exchange(site, REQUEST)) != "101":
                        wrong.append(f"{name}: and the next client is not served")
            assert not wrong, "\n".join(wrong)

        run(test)

    @pytest.mark.parametrize("way", WAYS)
    def test_of_another_version_are_told_which_one_is_spoken(self, way: str) -> None:
        """RFC 6455 section 4.4; a refusal says that the connection ends."""

        async def test() -> None:
            async with serving(way, greet, **both({"ping_interval": None}, way)) as site:
                for value in (b"8", b"", b"13, 8"):
                    head, _, _ = (await exchange(site, version(value))).lower().partition(b"\r\n\r\n")
                    assert b"\r\nsec-websocket-version: 13" in head
                    assert b"\r\nconnection: close" in head

        run(test)

    @pytest.mark.parametrize("way", WAYS)
    def test_in_a_row_and_all_at_once_leave_a_server_that_serves(self, way: str) -> None:
        """Many clients that break off in the middle of a request, at every length that it can have."""

        async def test() -> None:
            async with serving(way, greet, **both({"ping_interval": None}, way)) as site:
                async with asyncio.TaskGroup() as group:
                    answers = [group.create_task(exchange(site, REQUEST[:size])) for size in range(len(REQUEST) - 3)]
                assert {answer.result() for answer in answers} == {b""}
                assert site.sessions == []
                assert who(await exchange(site, REQUEST)) == "101"

        run(test)
