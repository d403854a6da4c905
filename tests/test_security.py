"""What SECURITY.md promises, held over real sockets in each way in.

What a malformed request, frame or message is answered with in general is told by test_bad_handshakes.py,
test_bad_frames.py and test_bad_messages.py. Here an attacker wants something: to act in the name of a visitor, to write
a line of a head or of the log, to get a second request past a proxy, or to read what goes on inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.hands import REQUEST, START, both, exchange
from tests.raw import ACCEPT, CLOSE, Peer, asking, close_frame, connected, until
from tests.raw import run as run_quietly
from tests.test_bad_handshakes import CASES, KEY, key, request, who
from tests.ways import WAYS, Site, run, serving
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options
from wslifecycle.runtime.deflate import WINDOW_BITS
from wslifecycle.runtime.handshake import HEAD_LIMIT
from wslifecycle.runtime.session import Message, Receive, Send
from wslifecycle.statemachine.errors import ApplicationViolation

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

way = pytest.mark.parametrize("way", WAYS)


class Door:
    """An app that notes each call, and answers as the path says; it is HTTP's app, too."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.scope: Message = {}
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.calls.append(f"{scope['type']} {scope['path']}")
        self.scope = scope
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        await receive()
        await self.goes_on.wait()
        if scope["path"] == "/denied":
            await send(START)
            await send({"type": "websocket.http.response.body", "body": b"no"})
        elif scope["path"] == "/refused":
            await send({"type": "websocket.close"})
        else:
            await send(ACCEPT)
            while (await receive())["type"] == "websocket.receive":
                pass


def opened() -> Door:
    """A door that does not wait."""
    door = Door()
    door.goes_on.set()
    return door


def plain(way: str, **options: Any) -> dict[str, Any]:
    """Arguments of `serving`, for these options and without Pings."""
    return both({"ping_interval": None} | options, way)


# ------------------------------------------------------------------------------------------------ origins


def from_page(*origins: bytes) -> bytes:
    """A handshake that a page of these origins began."""
    return asking(*(b"Origin: " + origin for origin in origins))


HOME = "https://example.com"
ALLOWED: dict[str, tuple[Any, list[bytes], list[bytes]]] = {
    "one value": (
        [HOME],
        [from_page(b"https://example.com"), from_page(b" https://example.com\t")],
        [
            REQUEST,
            *(
                from_page(origin)
                for origin in (
                    *(b"https://evil.example", b"http://example.com", b"https://example.com:8443", b"null", b""),
                    *(b"https://example.com/", b"https://EXAMPLE.com", b"HTTPS://example.com", b"example.com"),
                    *(b"https://example.com.evil.example", b"https://evil.example/https://example.com", b"https://"),
                    *(b"https://example.com https://evil.example", b"https://example.com,https://evil.example"),
                    *(b"https://ex\xe4mple.com", "https://exämple.com".encode(), b"*"),
                )
            ),
            from_page(b"https://example.com", b"https://example.com"),
            from_page(b"https://example.com", b"https://evil.example"),
            from_page(b"https://evil.example", b"https://example.com"),
        ],
    ),
    "a pattern": (
        [re.compile(r"https://[a-z]+\.example\.com")],
        [from_page(b"https://a.example.com"), from_page(b"https://bc.example.com")],
        [
            REQUEST,
            *(
                from_page(origin)
                for origin in (
                    *(b"https://example.com", b"https://a.example.com.evil.example", b"https://a.example.com:1"),
                    *(b"evil https://a.example.com", b"https://A.example.com", b"https://a.b.example.com"),
                )
            ),
            from_page(b"https://a.example.com", b"https://a.example.com"),
        ],
    ),
    "no browser": (
        (None, "null"),
        [REQUEST, from_page(b"null")],
        [from_page(b""), from_page(b"None"), from_page(b"https://example.com"), from_page(b"null", b"null")],
    ),
    "nobody": ([], [], [REQUEST, from_page(b"https://example.com"), from_page(b"null")]),
    "everybody": (None, [REQUEST, from_page(b"https://evil.example"), from_page(b"null")], []),
}
"""Origins, requests that they allow and requests that they do not."""


@way
class TestAPageOfAnotherSite:
    """RFC 6455 sections 4.2.2 (step 4) and 10.2: cross-site WebSocket hijacking."""

    @pytest.mark.parametrize("name", ALLOWED)
    def test_gets_in_only_if_its_origin_is_allowed(self, way: str, name: str) -> None:
        origins, good, bad = ALLOWED[name]

        async def test() -> None:
            door = opened()
            async with serving(way, door, **plain(way, origins=origins)) as site:
                for data in bad:
                    assert who(await exchange(site, data)) == "403", data
                assert (door.calls, site.sessions) == ([], [])
                for data in good:
                    assert who(await exchange(site, data)) == "101", data
                assert len(door.calls) == len(good)

        run(test)

    def test_is_told_in_words_and_in_the_log_but_not_what_it_sent(
        self, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)

        async def test() -> None:
            async with serving(way, opened(), **plain(way, origins=iter([HOME]))) as site:
                for _ in range(2):  # an iterator serves more than one connection
                    answer = await exchange(site, from_page(b"https://<evil>.example"))
                    assert b"\r\nconnection: close" in answer.lower()
                    assert b"`origins`" in answer
                    assert b"evil" not in answer
                    assert HOME.encode() not in answer

        run(test)
        told = [text for text in map(logging.LogRecord.getMessage, caplog.records) if "refused" in text]
        assert len(told) == 2
        assert all(text.startswith("Request refused with 403: This Origin is not allowed") for text in told)


class TestTheOptionOrigins:
    @pytest.mark.parametrize("value", [HOME, "", b"a", 1, True, [b"a"], [HOME, 1], [re.compile(b"a")], [[HOME]]])
    def test_is_a_collection_of_str_patterns_and_none(self, value: Any) -> None:
        with pytest.raises(TypeError):
            Options(origins=value)

    def test_is_kept_as_a_tuple(self) -> None:
        pattern = re.compile("a")
        assert Options(origins=iter([HOME, pattern, None])).origins == (HOME, pattern, None)
        assert Options().origins is None


# ------------------------------------------------------------------------------------------------ injection

BREAKS = (b"\r\n", b"\n", b"\r", b"\r\n ", b"\n\t", b"\x00", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f")
INJECTED: list[Any] = [
    *([(b"x", b"a" + cut + b"injected: yes")] for cut in BREAKS),
    *([(b"x" + cut + b"injected", b"yes")] for cut in (*BREAKS, b":", b" ", b": ", b"\t")),
    *([(b"injected" + cut, b"yes")] for cut in (*BREAKS, b":", b" ")),
    *([(cut + b"injected", b"yes")] for cut in (*BREAKS, b":", b" ")),
]
"""Header fields that would be more than one field, or no field."""

UNOFFERED = (
    "injected",
    "chat\r\ninjected: yes",
    "chat\ninjected",
    "chat, injected",
    "chat\x00injected",
    "injected\ud800",
)
STATUSES = ("200 injected", "200\r\ninjected: yes", b"200", 2000, 101, -200, True)


class Injector:
    """An app that sends all of these, notes which were taken, and goes on with what is right."""

    def __init__(self, attempts: Iterable[Message], *last: Message) -> None:
        self.taken: list[Message] = []
        self._attempts = list(attempts)
        self._last = last

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        for message in self._attempts:
            try:
                await send(message)
            except ApplicationViolation:
                continue
            self.taken.append(message)
        for message in self._last:
            await send(message)


def injected(app: Injector, way: str) -> list[bytes]:
    """The lines of the head that a client sees of such an app, after a look that nothing was taken."""
    answers: list[bytes] = []

    async def test() -> None:
        async with serving(way, app, **plain(way)) as site:
            answers.append(await exchange(site, asking(b"Sec-WebSocket-Protocol: chat")))

    run(test)
    assert app.taken == []
    (answer,) = answers
    assert b"injected" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"\r\n" not in rest.replace(b"\r\n0\r\n\r\n", b"").removeprefix(b"2\r\n")  # but for chunks
    return head.split(b"\r\n")


@way
class TestAnAppThatIsMadeToWriteLines:
    def test_writes_none_by_its_accept(self, way: str) -> None:
        attempts = [
            *({**ACCEPT, "headers": headers} for headers in INJECTED),
            *({**ACCEPT, "subprotocol": name} for name in UNOFFERED),
        ]
        lines = injected(Injector(attempts, {**ACCEPT, "subprotocol": "chat", "headers": [(b"x", b"fine")]}), way)
        assert lines[0].startswith(b"HTTP/1.1 101 ")
        names = sorted(line.partition(b":")[0].lower() for line in lines[1:])
        own = [b"connection", b"sec-websocket-accept", b"sec-websocket-protocol", b"upgrade", b"x"]
        assert names == sorted([*own, *([b"date", b"server"] if way != "start_server" else [])])

    def test_writes_none_by_its_denial(self, way: str) -> None:
        attempts = [
            *({**START, "headers": headers} for headers in INJECTED),
            *({**START, "status": status} for status in STATUSES),
        ]
        body = {"type": "websocket.http.response.body", "body": b"no"}
        lines = injected(Injector(attempts, {**START, "headers": [(b"x", b"fine")]}, body), way)
        assert lines[0].startswith(b"HTTP/1.1 418 ")
        assert lines.count(b"x: fine") == 1

    def test_writes_none_by_the_reason_of_a_refusal(self, way: str) -> None:
        lines = injected(Injector([], {**CLOSE, "reason": "no\r\ninjected: yes"}), way)
        assert lines[0] == b"HTTP/1.1 403 Forbidden"

    @pytest.mark.parametrize(
        ("reason", "seen"),
        [
            ("a\r\nHTTP/1.1 200 OK\r\n\r\n\x00\x1b", "a\r\nHTTP/1.1 200 OK\r\n\r\n\x00\x1b"),
            ("é" * 200, "é" * 61),
            ("\x88\x02\x03\xe8" * 100, "\x88\x02\x03\xe8" * 20 + "\x88\x02"),
        ],
        ids=["a head", "too long", "a frame"],
    )
    def test_writes_one_frame_by_whatever_reason_of_a_close(self, way: str, reason: str, seen: str) -> None:
        bad = [{**CLOSE, "reason": reason} for reason in ("\ud800", "a\udfff", b"bytes", 5)]

        class Late(Injector):
            async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
                await send(ACCEPT)
                await super().__call__(scope, receive, send)

        async def test() -> None:
            app = Late(bad, {**CLOSE, "reason": reason})
            async with serving(way, app, **plain(way)) as site, connected(site.port) as peer:
                await peer.upgrade()
                assert await peer.closed_with() == (3000, seen)
                peer.send(close_frame(3000))
                assert await peer.rest() == b""
            assert app.taken == []

        run(test)


# ------------------------------------------------------------------------------------------------ smuggling

SECOND = b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = asking(b"Origin: " + HOME.encode())
FIRST: dict[str, bytes] = {
    "101": UPGRADE.replace(b"GET /", b"GET /accepted"),
    "403": UPGRADE.replace(b"GET /", b"GET /refused"),
    "418": UPGRADE.replace(b"GET /", b"GET /denied"),
    "403 of an origin": REQUEST,
    "400": UPGRADE.replace(b"Key: ", b"Key: ="),
}
"""Handshakes by what becomes of them."""

ANSWERED = ("101", "403", "418")
"""By the app."""

BODIES = (
    *(b"Content-Length: 34", b"Content-Length: 00", b"Content-Length: +0", b"Content-Length: 0x0"),
    *(b"Content-Length: 0, 34", b"Content-Length: 0\r\nContent-Length: 34", b"Content-Length:\r\n 34"),
    *(
        b"Content-Length : 34",
        b"X: a\nContent-Length: 34",
        b"X: a\rContent-Length: 34",
        b"X: a\r\n Content-Length: \x0134",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: x\r\n chunked"),
    *(b"Content-Length: 0\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 34"),
)
"""Fields by which somebody on the way might take what follows for a body, or for none."""

CONTROLS = [byte for byte in (*range(32), 127) if byte != 9]
TWICE = (KEY.strip(), b"Host: h", b"Host: g", b"Sec-WebSocket-Version: 13")
LENIENT: dict[str, tuple[bytes, bytes]] = {
    "folded": (b"Origin: https://example.com\r\n .evil.example", b"https://example.com .evil.example"),
    "folded with a tab": (b"Origin: https://example.com\r\n\t: x", b"https://example.com : x"),
    "after a bare LF": (b"X: a\nOrigin: https://evil.example", b"https://evil.example"),
}
"""Fields that Uvicorn with h11 reads as RFC 9112 (sections 2.2, 5.2) lets it, and the Origin that it makes of them."""


@way
class TestASecondRequest:
    @pytest.mark.parametrize("name", FIRST)
    def test_behind_a_handshake_is_neither_answered_nor_given_to_an_app(self, way: str, name: str) -> None:
        async def at_once(site: Site, peer: Peer, door: Door) -> None:
            door.goes_on.set()
            peer.send(FIRST[name], SECOND)

        async def before_the_answer(site: Site, peer: Peer, door: Door) -> None:
            peer.send(FIRST[name])
            if name in ANSWERED:
                await until(lambda: site.sessions)
            peer.send(SECOND)
            await peer.flushed()
            door.goes_on.set()

        async def behind_the_answer(site: Site, peer: Peer, door: Door) -> None:
            door.goes_on.set()
            peer.send(FIRST[name])
            await until(lambda: peer._reader._buffer)  # type: ignore[attr-defined]
            peer.send(SECOND)

        async def test() -> None:
            for send in (at_once, before_the_answer, behind_the_answer):
                door = Door()
                async with serving(way, door, **plain(way, origins=[HOME])) as site, connected(site.port) as peer:
                    await send(site, peer, door)
                    head = await peer.head()
                    assert head.startswith(b"HTTP/1.1 " + name[:3].encode()), head
                    with contextlib.suppress(OSError):  # it is gone already
                        peer._writer.write_eof()
                    assert b"HTTP/1." not in await peer.rest(), send.__name__
                    assert not any("second" in call or "http" in call for call in door.calls)
                    assert len(door.calls) == (name in ANSWERED)

        run(test)

    def test_does_not_hide_in_the_body_of_a_handshake(self, way: str) -> None:
        async def test() -> None:
            door = opened()
            async with serving(way, door, **plain(way)) as site:
                for fields in BODIES:
                    answer = await exchange(site, request(fields, body=SECOND))
                    assert who(answer) in ("400", "400u", "501"), (fields, answer)
                assert (door.calls, site.sessions) == ([], [])

        run(test)


@way
class TestAHeadOfWhichOthersMayThinkOtherwise:
    def test_is_refused_for_a_control_character_and_for_what_comes_twice(self, way: str) -> None:
        fields = [*TWICE, *(b"X: a%cb" % byte for byte in CONTROLS if byte != 10), *(b"X%cY: b" % b for b in CONTROLS)]

        async def test() -> None:
            door = opened()
            async with serving(way, door, **plain(way)) as site:
                for field in fields:
                    assert who(await exchange(site, request(field))) in ("400", "400u", "426"), field
                for value in (b"\r\n dGhlIHNhbXBsZSBub25jZQ==\x01", b"dGhlIHNhbXBsZSBub25jZQ==\r\n x"):
                    assert who(await exchange(site, key(value))) in ("400", "400u"), value
                assert (door.calls, site.sessions) == ([], [])

        run(test)

    @pytest.mark.parametrize("name", LENIENT)
    def test_is_refused_or_read_in_the_one_way_that_is_allowed(self, way: str, name: str) -> None:
        field, origin = LENIENT[name]

        async def test() -> None:
            door = opened()
            async with serving(way, door, **plain(way, origins=[HOME])) as site:
                assert who(await exchange(site, asking(field))) in ("400", "400u", "403")
                assert (door.calls, site.sessions) == ([], [])
            async with serving(way, door, **plain(way)) as site:
                answer = who(await exchange(site, asking(field)))
                assert answer == {"start_server": "400", "uvicorn-h11": "101", "uvicorn-httptools": "400u"}[way]
                seen = [value for name, value in door.scope.get("headers", ()) if name == b"origin"]
                assert seen == ([origin] if answer == "101" else [])

        run(test)

    def test_has_no_second_protocol_to_change_to(self, way: str) -> None:
        """An `h2c` beside the `websocket` is never taken up (RFC 9110 section 7.8)."""

        async def test() -> None:
            door = opened()
            async with serving(way, door, **plain(way)) as site:
                for field in (b"Upgrade: h2c", b"Upgrade: websocket"):
                    answer = await exchange(site, asking(field))
                    assert who(answer) in ("101", "app")
                    assert b"h2c" not in answer

        run(test)


# ------------------------------------------------------------------------------------------------ TLS


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_side() -> ssl.SSLContext:
    """What the standard library recommends for a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    return context


def weak_side() -> ssl.SSLContext:
    """A server that is content with versions of yesterday."""
    context = server_side()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    return context


def client_side(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks this version and no other, and would do with weak ciphers."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@way
class TestTLS:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_of_today_is_spoken(self, way: str, version: ssl.TLSVersion) -> None:
        async def test() -> None:
            door, theirs = opened(), client_side(version)
            async with (
                serving(way, door, ssl=server_side(), **plain(way)) as site,
                connected(site.port, ssl=theirs, server_hostname="127.0.0.1") as peer,
            ):
                await peer.upgrade()
                assert door.scope["scheme"] == "wss"
                assert peer._writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
                peer.send(close_frame(1000))
                await peer.rest()

        run_quietly(test())

    def test_of_yesterday_is_refused(self, way: str) -> None:
        async def test() -> None:
            door, theirs = opened(), client_side(ssl.TLSVersion.TLSv1_1)
            for ours, calls in ((server_side(), 0), (weak_side(), 1)):  # the second shows that the client can
                async with serving(way, door, ssl=ours, **plain(way)) as site:
                    with contextlib.nullcontext() if calls else pytest.raises((ssl.SSLError, ConnectionError)):
                        async with connected(site.port, ssl=theirs, server_hostname="127.0.0.1") as peer:
                            await peer.upgrade()
                    assert len(door.calls) == calls

        run_quietly(test(), debug=False)  # in debug mode asyncio tells of it by the exception handler

    def test_does_not_answer_who_does_not_speak_it(self, way: str) -> None:
        async def test() -> None:
            door = opened()
            async with serving(way, door, ssl=server_side(), **plain(way)) as site, connected(site.port) as peer:
                peer.send(REQUEST)
                assert b"HTTP" not in await peer.rest()
                assert (door.calls, site.sessions) == ([], [])

        run_quietly(test(), debug=False)


# ------------------------------------------------------------------------------------------------ frames


@way
class TestAFrame:
    def test_that_is_not_masked_fails_the_connection(self, way: str) -> None:
        """RFC 6455 section 5.1."""

        async def test() -> None:
            async with serving(way, opened(), **plain(way)) as site:
                for data in (b"\x81\x02hi", b"\x82\x00", b"\x89\x00", b"\x88\x02\x03\xe8"):
                    async with connected(site.port) as peer:
                        await peer.upgrade()
                        peer.send(data)
                        assert (await peer.closed_with())[0] == 1002
                        peer.end()
                        assert await peer.rest() == b""

        run(test)

    def test_that_is_compressed_fails_it_where_compression_is_switched_off(self, way: str) -> None:
        async def test() -> None:
            asked = asking(b"Sec-WebSocket-Extensions: permessage-deflate")
            settings = plain(way, per_message_deflate=False)
            async with serving(way, opened(), **settings) as site, connected(site.port) as peer:
                assert b"extensions" not in (await peer.upgrade(asked)).lower()
                first, *rest = frame(1, b"hi")
                peer.send(bytes([first | 0x40, *rest]))
                assert (await peer.closed_with())[0] == 1002
                peer.end()
                assert await peer.rest() == b""

        run(test)


# ------------------------------------------------------------------------------------------------ errors


class SecretError(Exception):
    """What an app fails with, of which its peer is to hear nothing."""


def failing(*messages: Message, by: Callable[[], Message | None]) -> Any:
    """An app that sends these, and then fails by `by`: what that raises, or what is raised for the message it gives."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(message)
        if (last := by()) is not None:
            await send(last)

    return app


def by_error() -> None:
    raise SecretError("the secret in /secret/file.py, line 1")


def by_violation() -> Message:
    return {"type": "websocket.secret", "secret": "secret"}


PART = {"type": "websocket.http.response.body", "body": b"part", "more_body": True}
FAILURES: dict[str, tuple[tuple[Message, ...], bytes, bytes]] = {
    "before the accept": ((), b"500", b""),
    "after the accept": ((ACCEPT,), b"101", b"\x88\x02\x03\xf3"),
    "after the start of a denial": ((START,), b"500", b""),
    "in the body of a denial": ((START, PART), b"418", b"4\r\npart\r\n"),
}
"""What an app has sent before it fails, the status that the peer gets, and all that comes behind the head."""


@way
class TestWhatGoesOnInside:
    @pytest.mark.parametrize("by", [by_error, by_violation])
    @pytest.mark.parametrize("when", FAILURES)
    def test_is_not_told_to_a_peer_by_an_error_of_the_app(self, way: str, when: str, by: Any) -> None:
        messages, status, rest = FAILURES[when]

        async def test() -> None:
            async with serving(way, failing(*messages, by=by), **plain(way)) as site, connected(site.port) as peer:
                peer.send(REQUEST)
                head = await peer.head()
                if status == b"101":
                    assert await peer.read(4) == rest
                    peer.end()
                    assert await peer.rest() == b""
                else:
                    assert await peer.rest() == rest
                assert head.startswith(b"HTTP/1.1 " + status)
                for word in (b"secret", b"error:", b"traceback", b".py", b"websocket."):
                    assert word not in head.lower()

        run(test)

    def test_is_not_told_by_the_answer_to_a_bad_handshake_nor_is_the_request(self, way: str) -> None:
        bad = [
            *(case.request for case in CASES.values() if b"\r\n\r\n" in case.request and case.ours != "101"),
            *(request(b"secret" + rest) for rest in (b"", b" : x", b"\x00: x", b": \x01", b": a\r\n b", b": a\nb")),
            *(request(line=line) for line in (b"secret", b"GET secret HTTP/1.1", b"GET /secret HTTP/secret")),
            *(key(b"secret"), request(b"Content-Length: secret"), request(b"Transfer-Encoding: secret")),
        ]

        async def test() -> None:
            async with serving(way, opened(), **plain(way)) as site:
                for data in bad:
                    answer = (await exchange(site, data)).lower()
                    for word in (b"secret", b"error", b"traceback", b".py", b"bytearray", b"h11", b"illegal"):
                        assert word not in answer, data

        run(test)


# ------------------------------------------------------------------------------------------------ the log

BITTEN = b"%0d%0aFAKE%00%1b%5b31m%85%c2%85%e2%80%a8%e2%80%ae%ff%9b%0a"
"""What a line of the log must not hold: ends of lines of all kinds, escapes, a change of direction, no UTF-8."""

REASON = "a\r\nFAKE\x00\x1b[31m\x85\u2028\u202e\x9b"
RAW = bytes(byte for byte in range(256) if byte not in b"\r\n ")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What servers have logged, after a look that each record is one line that can be printed."""
    lines = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert [line for line in lines if not line.isprintable()] == []
    assert not any(line.startswith("FAKE") for line in lines)
    return lines


@way
class TestTheLog:
    def test_has_one_clean_line_for_whatever_a_handshake_holds(
        self, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        targets = (b"/" + BITTEN, b"/?" + BITTEN, b"/a?" + BITTEN + b"?#\"'", b"http://h/" + BITTEN, b"/%", b"/" + RAW)
        fields = (b"X", b"Origin", b"Host", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"User-Agent")
        values = (BITTEN, RAW, REASON.encode().replace(b"\r\n", b""), b"a\r\n FAKE", b"a\nFAKE", b"a\rFAKE", b"\x9b31m")
        requests = [
            *(asking(target=target) for target in targets),
            *(asking(field + b": " + value) for field in fields if field != b"Host" for value in values),
            *(request(b"Host: " + value, lacks=b"host") for value in values),
            *(request(line=b"GET /" + value + b" HTTP/1.1") for value in values),
            *(request(value) for value in values),
            *(value + b"\r\n\r\n" for value in values),
        ]

        async def test() -> None:
            async with serving(way, opened(), **plain(way)) as site:
                for data in requests:
                    await exchange(site, data)

        run(test)
        lines = told(caplog)
        assert any('"WebSocket /%0D%0AFAKE%00%1B%5B31m' in line for line in lines)
        assert any("refused with 400" in line for line in lines)

    def test_has_one_clean_line_for_whatever_ends_a_connection(
        self, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        ends = [
            close_frame(3000, REASON),
            close_frame(1000, "\n" * 123),
            frame(8, b"\x03\xe8\xff\n"),
            frame(1, b"\n\xff"),
        ]
        ends += [b"\x83\x80\0\0\0\0", b"\n" * 20, RAW]

        async def test() -> None:
            async with serving(way, opened(), **plain(way)) as site:
                for data in ends:
                    async with connected(site.port) as peer:
                        await peer.upgrade()
                        peer.send(data)
                        peer.end()
                        await peer.rest()
                await until(lambda: all(session._connection.state.startswith("closed/") for session in site.sessions))

        run(test)
        lines = told(caplog)
        assert any("[closed 3000 'a\\r\\nFAKE\\x00\\x1b[31m\\x85\\u2028\\u202e\\x9b']" in line for line in lines)
        assert any("is at fault" in line for line in lines)

    def test_has_one_clean_line_for_whatever_a_proxy_says_the_client_is(
        self, way: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)

        async def test() -> None:
            async with serving(way, opened(), **plain(way)) as site:
                for value in (b"1\x9b31m\x85FAKE", "\u202e\u2028FAKE".encode(), b"a\x1b[31m", b"\xff"):
                    await exchange(site, asking(b"X-Forwarded-For: " + value))

        run(test)
        assert any("[accepted]" in line for line in told(caplog))

    @pytest.mark.parametrize("name", ["a\nFAKE\x1b[31m", b"\0a\nFAKE\xff"], ids=["path", "abstract"])
    def test_has_one_clean_line_for_whatever_the_name_of_a_unix_socket_is(
        self, way: str, name: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """A name in the file system, or one that is abstract, as Linux has them."""
        caplog.set_level(logging.DEBUG)

        async def test() -> None:
            path = str(tmp_path / "served")
            async with serving(way, opened(), path=path, **plain(way)):
                with socket.socket(socket.AF_UNIX) as raw:
                    raw.bind(name + b"%d" % os.getpid() if isinstance(name, bytes) else str(tmp_path / name))
                    raw.connect(path)
                    raw.sendall(REQUEST + close_frame(1000))
                    raw.setblocking(False)
                    answer = await asyncio.get_running_loop().sock_recv(raw, 1000)
                    assert answer.startswith(b"HTTP/1.1 101 ")

        run(test)
        assert any("[accepted]" in line for line in told(caplog))


# ------------------------------------------------------------------------------------------------ the document


class TestTheDocument:
    def test_names_tests_and_files_that_exist(self) -> None:
        assert {f"Test{name}" for name in re.findall(r"`Test(\w+)`", DOCUMENT)} <= globals().keys()
        links = re.findall(r"\]\(([^)]+)\)", DOCUMENT)
        assert links
        assert [link for link in links if not (ROOT / link).exists()] == []

    def test_tells_the_defaults_that_hold(self) -> None:
        options = Options()
        fact = options.lifecycle.flat.value
        told = {cells[3].split()[0].strip("`,"): cells[2] for line in DOCUMENT.splitlines() if (cells := split(line))}
        assert told["max_size"] == f"{fact('C34', 'bytes') >> 20} MiB"
        assert told["max_queue"] == f"{fact('C31', 'messages')}, or {fact('C31', 'bytes') >> 20} MiB"
        assert f"| bytes before the accept | {fact('C14', 'bytes') >> 10} KiB |" in DOCUMENT
        assert f"| head of a request | {HEAD_LIMIT >> 10} KiB |" in DOCUMENT
        assert told["request_timeout"] == f"{options.request_timeout:g} s"
        assert (told["handshake_timeout"], fact("C49", "seconds")) == ("none", None)
        assert told["ping_interval"] == f"{options.ping_interval:g} s"
        assert told["ping_timeout"] == f"{options.ping_timeout:g} s"
        assert told["close_timeout"] == f"{fact('C48', 'seconds')} s"
        assert told["per_message_deflate"] == f"on, our window {1 << WINDOW_BITS >> 10} KiB"
        assert options.per_message_deflate
        assert (told["origins"], options.origins) == ("all", None)
        codes = ", ".join(f"{first}-{last}" for first, last in fact("C20", "peer"))
        assert f"| close codes of a peer | {codes} |" in DOCUMENT


def split(line: str) -> list[str]:
    """The cells of a line of a table, the first one empty."""
    return [cell.strip() for cell in line.split("|")] if line.startswith("|") else []
