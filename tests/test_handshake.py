"""The opening handshake: which requests are one (W1), what they tell of the scope, and how each answer is framed.

The 101 is judged by a client of the websockets library, every other answer by one of h11.
"""

from __future__ import annotations

from collections.abc import Iterable

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from wslifecycle.runtime.handshake import HEAD_LIMIT, Handshake, Refusal, Request, addable

Field = tuple[bytes, bytes]

LINE = b"GET / HTTP/1.1"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
FIELDS: dict[bytes, bytes] = {
    b"Host": b"example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}


def head(line: bytes = LINE, *more: Field, without: bytes | None = None) -> bytes:
    """A handshake request, with `more` fields, or `without` one."""
    fields = [*((name, value) for name, value in FIELDS.items() if name != without), *more]
    return line + b"\r\n" + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n"


def with_values(name: bytes, *values: bytes) -> bytes:
    """A handshake request that has a field of this name for each value."""
    return head(LINE, *((name, value) for value in values), without=name)


def accepted(data: bytes) -> Request:
    """A request that has to be one of a handshake."""
    request = Handshake().feed(data)
    assert isinstance(request, Request), request
    return request


class Seen:
    """An answer as a client of h11 sees it that has sent such a request."""

    def __init__(self, answer: bytes, method: bytes = b"GET") -> None:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        response = client.next_event()
        assert isinstance(response, h11.Response), response
        self.status = response.status_code
        self.reason = bytes(response.reason)
        self.fields = [(bytes(name), bytes(value)) for name, value in response.headers]
        self.body = b""
        while isinstance(part := client.next_event(), h11.Data):
            self.body += part.data
        assert isinstance(part, h11.EndOfMessage), part
        assert client.their_state is h11.MUST_CLOSE
        assert client.trailing_data == (b"", False)

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]


def refused(data: bytes, method: bytes = b"GET") -> Seen:
    """The answer to a request that has to be refused; it says why, and quotes nothing, as the log may behind that."""
    refusal = Handshake().feed(data)
    assert isinstance(refusal, Refusal), refusal
    seen = Seen(refusal.answer, method)
    assert seen.status == refusal.status
    assert seen.values(b"content-type") == [b"text/plain; charset=utf-8"]
    said = refusal.why if method == b"HEAD" else seen.body.decode().removesuffix("\n")
    assert said.endswith(".")
    assert refusal.why.startswith(said)
    assert seen.body == (b"" if method == b"HEAD" else f"{said}\n".encode())
    assert seen.values(b"content-length") == [b"%d" % len(f"{said}\n")]
    return seen


def judged() -> Handshake:
    """A handshake that waits for its answer."""
    handshake = Handshake()
    assert isinstance(handshake.feed(head()), Request)
    return handshake


def streamed(status: int, fields: Iterable[Field], *parts: bytes) -> bytes:
    handshake = judged()
    return handshake.head(status, fields) + b"".join(map(handshake.body, parts)) + handshake.end()


# ------------------------------------------------------------------------------------------------ the request


class TestSection421TheRequest:
    """W1: GET, HTTP/1.1, Host, Upgrade, Connection, one valid key and version 13."""

    @pytest.mark.parametrize(
        "data",
        [
            head(),
            head().lower().replace(b"get / http/1.1", LINE).replace(KEY.lower(), KEY),
            head().replace(b"Upgrade: ", b"UPGRADE:"),
            with_values(b"Upgrade", b"WebSocket"),
            with_values(b"Upgrade", b"h2c, WEBSOCKET"),
            with_values(b"Upgrade", b"h2c", b"websocket"),
            with_values(b"Connection", b"keep-alive, UPGRADE"),
            with_values(b"Connection", b"keep-alive,,upgrade ,"),
            with_values(b"Connection", b"keep-alive", b"upgrade"),
            with_values(b"Host", b"localhost:8000"),
            head(LINE, (b"Content-Length", b"0")),
            head(LINE, (b"Expect", b"100-continue")),
            head(LINE, (b"Origin", b"null"), (b"X", b"")),
            head(LINE, (b"X", b"\ta\tb\t"), (b"Y", "é".encode()), (b"Z", b"\x80\x9b\xff")),
        ],
    )
    def test_is_taken(self, data: bytes) -> None:
        request = accepted(data)
        assert request.key == KEY
        assert request.rest == b""

    @pytest.mark.parametrize(
        "data",
        [
            head(b"POST / HTTP/1.1"),
            head(b"HEAD / HTTP/1.1").replace(b"HEAD", b"PUT"),
            head(b"get / HTTP/1.1"),
            head(b"GET / HTTP/1.0"),
            head(b"GET / HTTP/2.0"),
            *(head(without=name) for name in FIELDS if name != b"Upgrade"),
            with_values(b"Host", b"a", b"b"),
            with_values(b"Host", b"\xff"),
            with_values(b"Connection", b"close"),
            with_values(b"Connection", b"keep-alive", b"close"),
            with_values(b"Connection", b"Upgrades"),
            with_values(b"Connection", b"\xff"),
            head(LINE, (b"Content-Length", b"1")),
            head(LINE, (b"Transfer-Encoding", b"chunked")),
            head(LINE, (b"Sec-WebSocket-Protocol", b"\xff")),
            head(LINE, (b"Sec-WebSocket-Protocol", b"chat"), (b"Sec-WebSocket-Protocol", b"caf\xe9")),
            head().replace(b"\r\n", b"\n"),
            head().replace(b"13\r\n", b"13\n"),
            head().removesuffix(b"\r\n\r\n") + b"\r\n\n",
            head(LINE, (b"X", b"a\nb: c")),
            head(LINE, (b"X", b"a\r\n b")),
            head(LINE, (b"X", b"\r\n\tb")),
            head(LINE, (b"X", b"a\r\n ")),
            *(head(LINE, (b"X", b"a%cb" % byte)) for byte in (*range(9), *range(10, 32), 127)),
        ],
    )
    def test_is_answered_by_400_without_something_of_it(self, data: bytes) -> None:
        assert refused(data).status == 400

    @pytest.mark.parametrize(
        "keys",
        [
            (b"",),
            (b"short",),
            (KEY[:-1],),
            (KEY[:-2],),
            (b"!" + KEY[1:],),
            (b"AAAA" + KEY,),
            (KEY[4:],),
            (KEY + b", " + KEY,),
            (KEY[:8] + b" " + KEY[8:],),
            (b"_-" + KEY[2:],),
            (b"=" * 24,),
            (b"\xff" * 24,),
            (KEY, KEY),
        ],
    )
    def test_has_one_valid_key(self, keys: tuple[bytes, ...]) -> None:
        assert refused(with_values(b"Sec-WebSocket-Key", *keys)).status == 400

    def test_may_have_any_valid_key(self) -> None:
        assert accepted(with_values(b"Sec-WebSocket-Key", b"AQIDBAUGBwgJCgsMDQ4PEA==")).key == (
            b"AQIDBAUGBwgJCgsMDQ4PEA=="
        )

    @pytest.mark.parametrize("versions", [(b"8",), (b"14",), (b"013",), (b"",), (b"8, 13",), (b"13", b"8"), (b"\xff",)])
    def test_of_another_version_is_told_ours(self, versions: tuple[bytes, ...]) -> None:
        """Section 4.4."""
        seen = refused(with_values(b"Sec-WebSocket-Version", *versions))
        assert seen.status == 426
        assert seen.values(b"sec-websocket-version") == [b"13"]

    @pytest.mark.parametrize(
        "data",
        [
            head(without=b"Upgrade"),
            with_values(b"Upgrade", b"h2c"),
            with_values(b"Upgrade", b"websockets"),
            with_values(b"Upgrade", b"web, socket"),
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc",
        ],
    )
    def test_that_is_another_kind_of_request_is_told_what_would_be_one(self, data: bytes) -> None:
        """RFC 9110 sections 15.5.22 and 7.8: who names a protocol to upgrade to also says so in Connection."""
        seen = refused(data)
        assert (seen.status, seen.reason) == (426, b"Upgrade Required")
        assert seen.values(b"upgrade") == [b"websocket"]
        assert b", ".join(seen.values(b"connection")) == b"close, upgrade"
        assert b"WebSocket" in seen.body

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 426),
            (head(b"HEAD / HTTP/1.1"), 400),
            (head(b"HEAD / HTTP/1.1", (b"X", b"a" * HEAD_LIMIT)), 431),
        ],
    )
    def test_by_head_is_answered_without_a_body(self, data: bytes, status: int) -> None:
        """Its length is the one that a GET would be told (RFC 9110 section 8.6)."""
        refusal = Handshake().feed(data)
        assert isinstance(refusal, Refusal)
        assert refusal.answer.endswith(b"\r\n\r\n")
        assert refused(data, method=b"HEAD").status == status

    @pytest.mark.parametrize(
        "data",
        [
            b"\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "GET /é HTTP/1.1\r\nHost: h\r\n\r\n".encode(),
            head(b"GET / HTTP/1.1 "),
            head(b"GET /a b HTTP/1.1"),
            head(LINE, (b"X Y", b"1")),
            head(LINE, (b"X", b"a\x00b")),
            head(LINE, (b"Content-Length", b"1"), (b"Content-Length", b"2")),
            head(LINE, (b"Content-Length", b"-1")),
            head().replace(b"Host:", b"Host"),
        ],
    )
    def test_that_is_no_http_is_answered_by_400(self, data: bytes) -> None:
        assert refused(data).status == 400

    def test_of_a_coding_that_nobody_knows_is_answered_by_501(self) -> None:
        """RFC 9112 section 6.1."""
        assert refused(head(LINE, (b"Transfer-Encoding", b"gzip"))).status == 501

    def test_may_have_a_long_head_up_to_the_limit(self) -> None:
        room = HEAD_LIMIT - len(head(LINE, (b"X", b"")))
        assert accepted(head(LINE, (b"X", b"a" * room)) + bytes(HEAD_LIMIT)).rest == bytes(HEAD_LIMIT)
        assert refused(head(LINE, (b"X", b"a" * (room + 1)))).status == 431

    def test_that_is_too_long_is_refused_before_its_end(self) -> None:
        handshake = Handshake()
        assert handshake.feed(b"GET / HTTP/1.1\r\n".ljust(HEAD_LIMIT, b"a")) is None
        refusal = handshake.feed(b"a")
        assert isinstance(refusal, Refusal)
        assert Seen(refusal.answer).status == refusal.status == 431

    @pytest.mark.parametrize("size", [1000, HEAD_LIMIT])
    def test_that_is_too_long_is_so_however_it_is_cut(self, size: int) -> None:
        data = head(LINE, (b"X", b"a" * HEAD_LIMIT))
        handshake = Handshake()
        answers = [handshake.feed(data[i : i + size]) for i in range(0, HEAD_LIMIT + 1, size)]
        assert answers[:-1] == [None] * (len(answers) - 1)
        assert isinstance(answers[-1], Refusal)
        assert answers[-1].status == 431

    def test_is_read_from_single_bytes(self) -> None:
        data = head(b"GET /a?b HTTP/1.1", (b"X", b"1"))
        handshake = Handshake()
        assert [handshake.feed(data[i : i + 1]) for i in range(len(data) - 1)] == [None] * (len(data) - 1)
        assert handshake.feed(data[-1:]) == accepted(data)

    def test_is_read_however_it_is_cut_and_what_follows_is_handed_on(self) -> None:
        data = head()
        rest = b"\x81\x85\r\n\r\nGET"
        for cut in range(1, len(data)):
            handshake = Handshake()
            assert handshake.feed(data[:cut]) is None
            request = handshake.feed(data[cut:] + rest)
            assert isinstance(request, Request)
            assert request.rest == rest

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        st.binary(max_size=200)
        | st.builds(
            lambda places, byte: bytes(
                byte if i in places else old for i, old in enumerate(head(b"GET /a?b HTTP/1.1"))
            ),
            st.sets(st.integers(0, 170), max_size=3),
            st.integers(0, 255),
        ),
        st.binary(max_size=30).map(lambda target: head(b"GET http://[%s HTTP/1.1" % target)),
    )
    def test_whatever_comes_is_answered(self, data: bytes, target: bytes) -> None:
        for garbage in (data, target):
            handshake = Handshake()
            if not garbage:
                continue
            result = handshake.feed(garbage)
            if isinstance(result, Refusal):
                assert result.answer.startswith(b"HTTP/1.1 %d " % result.status)
            elif isinstance(result, Request):
                assert handshake.accept(result.key, ()).startswith(b"HTTP/1.1 101 ")
            else:
                assert handshake.respond(408, (), b"").startswith(b"HTTP/1.1 408 ")


class TestTheScope:
    def test_has_these_keys(self) -> None:
        scope = accepted(head()).scope
        assert (scope["type"], scope["http_version"], scope["scheme"]) == ("websocket", "1.1", "ws")
        assert scope["root_path"] == ""

    def test_holds_every_field_as_it_came(self) -> None:
        """R14: order, duplicates and bytes are kept, names are lower-cased."""
        more = [
            (b"X-One", b"1"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
            (b"Sec-WebSocket-Protocol", b"chat ,superchat"),
            (b"Cookie", b"a=1; b=\xff\xe9"),
            (b"x-one", b"1"),
            (b"x-empty", b""),
        ]
        headers = accepted(head(LINE, *more)).scope["headers"]
        assert headers == [(name.lower(), value) for name, value in [*FIELDS.items(), *more]]
        assert all(type(part) is bytes for field in headers for part in field)

    @pytest.mark.parametrize(
        ("target", "path", "raw_path", "query"),
        [
            (b"/", "/", b"/", b""),
            (b"/?", "/", b"/", b""),
            (b"/a%20b/%C3%A9?x=%20&y=1?2", "/a b/é", b"/a%20b/%C3%A9", b"x=%20&y=1?2"),
            (b"/a%2Fb%3Fc", "/a/b?c", b"/a%2Fb%3Fc", b""),
            (b"//a+b", "//a+b", b"//a+b", b""),
            (b"//[", "//[", b"//[", b""),
            (b"/%ff%", "/\ufffd%", b"/%ff%", b""),
            (b"/http://a/b?c", "/http://a/b", b"/http://a/b", b"c"),
            (b"/../a;b=c", "/../a;b=c", b"/../a;b=c", b""),
            (b"http://example.com/a%20b?c=d", "/a b", b"/a%20b", b"c=d"),
            (b"https://example.com:443/a", "/a", b"/a", b""),
            (b"WS://user@[::1]:80/a?b?c", "/a", b"/a", b"b?c"),
            (b"wss://example.com", "/", b"/", b""),
            (b"http://example.com?a=/b", "/", b"/", b"a=/b"),
            (b"http://[/a", "/a", b"/a", b""),
        ],
    )
    def test_takes_the_target_apart(self, target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
        """R10, R11, R12; the origin form and the absolute form (section 4.2.1)."""
        scope = accepted(head(b"GET " + target + b" HTTP/1.1")).scope
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)

    @pytest.mark.parametrize("target", [b"*", b"a", b"?a", b"example.com:80", b"ftp://a/b", b"http:///a", b"http:a"])
    def test_needs_a_target_with_a_path(self, target: bytes) -> None:
        """RFC 9112 section 3.2: every other form is for other methods."""
        assert refused(head(b"GET " + target + b" HTTP/1.1")).status == 400

    @pytest.mark.parametrize(
        ("values", "offered"),
        [
            ((), []),
            ((b"chat",), ["chat"]),
            ((b"a, b", b"c"), ["a", "b", "c"]),
            ((b"a,\t b ,c",), ["a", "b", "c"]),
            ((b"a,,b",), ["a", "b"]),
            ((b"Chat, chat",), ["Chat", "chat"]),
            ((b"",), []),
            ((b",", b" "), []),
        ],
    )
    def test_lists_the_offered_subprotocols(self, values: tuple[bytes, ...], offered: list[str]) -> None:
        """R17."""
        assert accepted(with_values(b"Sec-WebSocket-Protocol", *values)).scope["subprotocols"] == offered

    def test_leaves_the_offered_extensions_to_others(self) -> None:
        values = (b"permessage-deflate; client_max_window_bits, x", b"y", b"caf\xe9")
        assert accepted(with_values(b"Sec-WebSocket-Extensions", *values)).extensions == (
            "permessage-deflate; client_max_window_bits, x",
            "y",
            "café",
        )
        assert accepted(head()).extensions == ()


# ------------------------------------------------------------------------------------------------ our answer


class Client(ClientProtocol):
    """The client of the websockets library, after it has sent its request to us."""

    def __init__(self, *subprotocols: str) -> None:
        super().__init__(
            parse_uri("ws://example.com/chat"),
            extensions=[ClientPerMessageDeflateFactory()],
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        )
        self.send_request(self.connect())
        self.handshake = Handshake()
        request = self.handshake.feed(b"".join(self.data_to_send()))
        assert isinstance(request, Request)
        self.request = request

    def sees(self, answer: bytes) -> None:
        self.receive_data(answer)


class TestSection422TheAnswer:
    def test_has_the_accept_of_the_key(self) -> None:
        """The example of section 1.3."""
        assert judged().accept(KEY, [(b"x-a", b"1"), (b"x-a", b"2")]) == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx-a: 1\r\nx-a: 2\r\n\r\n"
        )

    def test_is_taken_by_a_client(self) -> None:
        client = Client("chat", "superchat")
        fields = [
            (b"Sec-WebSocket-Protocol", b"superchat"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
            (b"set-cookie", b"a=\xff"),
            (b"set-cookie", b"b=2"),
        ]
        client.sees(client.handshake.accept(client.request.key, fields))
        assert client.handshake_exc is None
        assert client.state is State.OPEN
        assert client.subprotocol == "superchat"
        assert [extension.name for extension in client.extensions] == ["permessage-deflate"]
        assert client.request.scope["subprotocols"] == ["chat", "superchat"]

    def test_of_another_key_is_not(self) -> None:
        client = Client()
        client.sees(client.handshake.accept(KEY, ()))
        assert client.handshake_exc is not None
        assert client.state is State.CONNECTING

    def test_may_be_a_denial(self) -> None:
        client = Client()
        client.sees(client.handshake.respond(403, [(b"x", b"1")], b"no"))
        assert isinstance(client.handshake_exc, InvalidStatus)
        response = client.handshake_exc.response
        assert (response.status_code, response.reason_phrase, response.body) == (403, "Forbidden", b"no")


class TestFieldsThatAServerAddsToEveryAnswer:
    @pytest.mark.parametrize("field", [(b"server", b"ours"), (b"X-Empty", b""), (b"x", b"\xe9\t ~")])
    def test_may_be_those_that_http_can_carry(self, field: tuple[bytes, bytes]) -> None:
        assert addable(*field)

    @pytest.mark.parametrize(
        "field",
        [
            *((name, b"1") for name in (b"Content-Length", b"transfer-encoding", b"connection", b"Upgrade")),
            *((name, b"1") for name in (b"Sec-WebSocket-Accept", b"sec-websocket-protocol")),
            *((name, b"1") for name in (b"", b"a b", b"x\xe9", b"a:", b"a\r\nb")),
            *((b"x", value) for value in (b"a\r\nb: c", b"a\nb", b"a\0b", b" a")),
        ],
    )
    def test_are_none_of_the_handshakes_own_and_none_that_breaks_it(self, field: tuple[bytes, bytes]) -> None:
        assert not addable(*field)


class TestTheDenial:
    def test_whole_has_its_length_and_ends_the_connection(self) -> None:
        answer = judged().respond(403, [(b"x", b"1")], b"no")
        assert answer == b"HTTP/1.1 403 Forbidden\r\nx: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (200, b"OK"),
            (299, b""),
            (404, b"Not Found"),
            (418, b"I'm a Teapot"),
            (500, b"Internal Server Error"),
            (599, b""),
        ],
    )
    def test_has_the_phrase_of_its_status_or_none(self, status: int, reason: bytes) -> None:
        for answer in (judged().respond(status, (), b"body"), streamed(status, (), b"bo", b"dy")):
            seen = Seen(answer)
            assert (seen.status, seen.reason, seen.body) == (status, reason, b"body")

    @pytest.mark.parametrize("status", [204, 304])
    @pytest.mark.parametrize("fields", [(), ((b"content-length", b"3"),), ((b"Transfer-Encoding", b"chunked"),)])
    def test_that_cannot_have_a_body_has_no_framing_of_one(self, status: int, fields: tuple[Field, ...]) -> None:
        """C24; RFC 9110 section 8.6, RFC 9112 section 6.1."""
        for answer in (judged().respond(status, fields, b""), streamed(status, fields, b"", b"")):
            assert Seen(answer).fields == [(b"connection", b"close")]
            assert answer.endswith(b"\r\n\r\n")

    def test_of_205_has_a_body_of_no_bytes(self) -> None:
        """RFC 9110 section 15.3.6."""
        seen = Seen(judged().respond(205, ((b"content-length", b"3"),), b""))
        assert (seen.values(b"content-length"), seen.body) == ([b"0"], b"")
        assert Seen(streamed(205, (), b"")).body == b""

    @pytest.mark.parametrize(
        "field",
        [
            (b"content-length", b"9"),
            (b"Content-Length", b"x"),
            (b"connection", b"keep-alive"),
            (b"CONNECTION", b"upgrade"),
            (b"transfer-encoding", b"chunked"),
            (b"Transfer-Encoding", b"gzip"),
        ],
    )
    def test_is_framed_by_us_whatever_the_app_says(self, field: Field) -> None:
        whole = judged().respond(403, [field, field], b"no")
        assert whole == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
        assert streamed(403, [field], b"no", b"", b"!") == (
            b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nno\r\n1\r\n!\r\n0\r\n\r\n"
        )

    @pytest.mark.parametrize("parts", [(), (b"",), (b"a",), (b"a", b"", bytes(70_000), b"\r\n0\r\n\r\n")])
    def test_in_parts_is_their_sum(self, parts: tuple[bytes, ...]) -> None:
        seen = Seen(streamed(500, [(b"x", b"\xe9"), (b"X", b"2")], *parts))
        assert seen.body == b"".join(parts)
        assert seen.values(b"x") == [b"\xe9", b"2"]
        assert seen.values(b"connection") == [b"close"]

    def test_goes_out_part_by_part(self) -> None:
        handshake = judged()
        assert handshake.head(500, ()).endswith(b"\r\n\r\n")
        assert handshake.body(b"") == b""
        assert handshake.body(b"ab") == b"2\r\nab\r\n"
        assert handshake.end() == b"0\r\n\r\n"

    def test_that_names_a_protocol_to_upgrade_to_says_so_in_connection(self) -> None:
        """RFC 9110 section 7.8."""
        seen = Seen(judged().respond(426, [(b"Upgrade", b"h2c")], b""))
        assert (seen.values(b"upgrade"), seen.values(b"connection")) == ([b"h2c"], [b"close, upgrade"])

    def test_may_come_before_the_request_is_complete(self) -> None:
        """For a client that takes too long."""
        handshake = Handshake()
        assert handshake.feed(head()[:40]) is None
        assert Seen(handshake.respond(408, (), b"")).status == 408
        assert Seen(Handshake().respond(408, (), b"late")).body == b"late"
