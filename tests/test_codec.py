"""Bytes to events and effects to bytes: the handshake, frames, and what is put right about wsproto."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import Any

import pytest

from wslifecycle.runtime.codec import HEAD_LIMIT, BadRequest, Close, Codec, Heard, Message, Reply, Request, Violation
from wslifecycle.statemachine import effects as fx

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    b"Host": b"example.com",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
NUL_MASK = bytes(4)


def head(
    line: bytes = b"GET / HTTP/1.1", *more: tuple[bytes, bytes], without: bytes = b"", **changed: bytes | None
) -> bytes:
    """A handshake request; `changed` replaces fields (`upgrade=b"h2c"`), `without` leaves one out."""
    replaced = {name.lower().encode().replace(b"_", b"-"): value for name, value in changed.items()}
    fields = [(name, replaced.get(name.lower()) or value) for name, value in FIELDS.items() if name != without]
    return line + b"\r\n" + b"".join(b"%s: %s\r\n" % field for field in [*fields, *more]) + b"\r\n"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\1\2\3\4"
) -> bytes:
    """A frame by hand, which may break any rule."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 65536 else 127
    longer = b"" if size < 126 else struct.pack("!H", size) if size < 65536 else struct.pack("!Q", size)
    start = bytes((fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short)) + longer
    if mask is None:
        return start + payload
    return start + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def requested(data: bytes) -> dict[str, Any]:
    """The scope that a request leads to."""
    request = Codec().request(data)
    assert isinstance(request, Request), request
    return request.scope


def refused(data: bytes) -> tuple[int, bytes]:
    """The status of the answer to a request that is refused, and the whole answer."""
    request = Codec().request(data)
    assert isinstance(request, BadRequest), request
    assert request.answer.endswith(b"\r\n\r\n")
    assert b"\r\ncontent-length: 0\r\n" in request.answer
    return int(request.answer.split(b" ")[1]), request.answer


def waiting() -> Codec:
    """A codec whose handshake is not answered yet."""
    codec = Codec(max_size=1000, max_early=HEAD_LIMIT)
    assert isinstance(codec.request(head()), Request)
    return codec


def opened(max_size: int = 1000) -> Codec:
    """A codec that has sent the 101."""
    codec = Codec(max_size)
    assert isinstance(codec.request(head()), Request)
    assert codec.encode(fx.CompleteHandshake(None, ())).startswith(b"HTTP/1.1 101 ")
    return codec


def hear(codec: Codec, *data: bytes, answer: bool = True) -> list[Heard]:
    """What a codec hears, with a Close sent at once for a Close or a violation, as a server does in the open."""
    heard = []
    for piece in data:
        for event in codec.feed(piece):
            heard.append(event)
            if answer and isinstance(event, Violation | Close):
                codec.encode(fx.SendClose(event.code, ""))
    return heard


# ------------------------------------------------------------------------------------------------ the request


class TestSection421TheRequest:
    """W1: GET, HTTP/1.1, Host, Upgrade, Connection, one valid key and version 13."""

    @pytest.mark.parametrize(
        "data",
        [
            head(),
            head(upgrade=b"WebSocket", connection=b"keep-alive, UPGRADE"),
            head().lower().replace(b"get / http/1.1", b"GET / HTTP/1.1").replace(KEY.lower(), KEY),
            head().replace(b"Upgrade: ", b"UPGRADE:"),
        ],
    )
    def test_is_taken(self, data: bytes) -> None:
        assert requested(data)["type"] == "websocket"

    @pytest.mark.parametrize(
        "data",
        [
            head(b"GET / HTTP/1.0"),
            head(b"GET / HTTP/2.0"),
            head(b"POST / HTTP/1.1"),
            head(b"GET /"),
            head("GET /é HTTP/1.1".encode()),
            *(head(without=name) for name in FIELDS),
            head(upgrade=b"h2c"),
            head(connection=b"close"),
            head(b"GET / HTTP/1.1", (b"Host", b"another")),
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"\r\n\r\n",
        ],
    )
    def test_is_answered_by_400(self, data: bytes) -> None:
        assert refused(data)[0] == 400

    @pytest.mark.parametrize("key", [b"short", KEY[:-1], b"!" + KEY[1:], b"AAAA" + KEY, b"\xff" * 24])
    def test_with_an_invalid_key_is_answered_by_400(self, key: bytes) -> None:
        assert refused(head(sec_websocket_key=key))[0] == 400

    def test_with_two_keys_is_answered_by_400(self) -> None:
        assert refused(head(b"GET / HTTP/1.1", (b"Sec-WebSocket-Key", KEY)))[0] == 400

    @pytest.mark.parametrize("name", [b"Host", b"Connection", b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"])
    def test_with_bytes_beyond_ascii_where_they_mean_nothing_is_answered_by_400(self, name: bytes) -> None:
        assert refused(head(b"GET / HTTP/1.1", (name, b"\xff"), without=name))[0] == 400

    @pytest.mark.parametrize("version", [b"8", b"14", b"013"])
    def test_of_another_version_is_told_ours(self, version: bytes) -> None:
        status, answer = refused(head(sec_websocket_version=version))
        assert status == 426
        assert b"\r\nsec-websocket-version: 13\r\n" in answer.lower()

    def test_is_read_from_single_bytes_and_what_follows_is_held(self) -> None:
        codec = Codec()
        data = head()
        assert [codec.request(data[i : i + 1]) for i in range(len(data) - 1)] == [None] * (len(data) - 1)
        assert isinstance(codec.request(data[-1:] + frame(TEXT, b"early")), Request)
        codec.encode(fx.CompleteHandshake(None, ()))
        assert hear(codec, b"") == [Message("early")]

    def test_of_exactly_the_limit_is_taken_and_of_one_byte_more_is_not(self) -> None:
        room = HEAD_LIMIT - len(head(b"GET / HTTP/1.1", (b"X", b"")))
        assert requested(head(b"GET / HTTP/1.1", (b"X", b"a" * room)))
        assert refused(head(b"GET / HTTP/1.1", (b"X", b"a" * (room + 1))))[0] == 400

    def test_that_is_too_long_is_refused_before_its_end(self) -> None:
        codec = Codec()
        assert codec.request(b"GET / HTTP/1.1\r\n".ljust(HEAD_LIMIT, b"a")) is None
        assert isinstance(codec.request(b"a"), BadRequest)


class TestTheScope:
    def test_holds_every_field_as_it_came(self) -> None:
        """R14: order, duplicates and bytes are kept, names are lower-cased."""
        more = [
            (b"X-One", b"1"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
            (b"Sec-WebSocket-Protocol", b"chat ,superchat"),
            (b"x-one", b"\xff\xe9"),
        ]
        headers = requested(head(b"GET / HTTP/1.1", *more, host=b"xn--mnchen-3ya.de:80"))["headers"]
        expected = {**FIELDS, b"Host": b"xn--mnchen-3ya.de:80"}
        assert headers == [(name.lower(), value) for name, value in [*expected.items(), *more]]
        assert all(type(part) is bytes for field in headers for part in field)

    @pytest.mark.parametrize(
        ("target", "path", "raw_path", "query"),
        [
            (b"/", "/", b"/", b""),
            (b"/?", "/", b"/", b""),
            (b"/a%20b/%C3%A9?x=%20&y=1?2", "/a b/é", b"/a%20b/%C3%A9", b"x=%20&y=1?2"),
            (b"//a+b", "//a+b", b"//a+b", b""),
            (b"/%ff", "/\ufffd", b"/%ff", b""),
        ],
    )
    def test_takes_the_target_apart(self, target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
        """R10, R11, R12."""
        scope = requested(head(b"GET " + target + b" HTTP/1.1"))
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)

    @pytest.mark.parametrize(
        ("values", "offered"),
        [((), []), ((b"chat",), ["chat"]), ((b"a, b", b"c"), ["a", "b", "c"]), ((b"a,,b",), ["a", "b"]), ((b"",), [])],
    )
    def test_lists_the_offered_subprotocols(self, values: tuple[bytes, ...], offered: list[str]) -> None:
        """R17."""
        more = [(b"Sec-WebSocket-Protocol", value) for value in values]
        assert requested(head(b"GET / HTTP/1.1", *more))["subprotocols"] == offered


# ------------------------------------------------------------------------------------------------ our answer


class TestSection422TheAnswer:
    def test_is_101_with_the_accept_of_the_key(self) -> None:
        answer = waiting().encode(fx.CompleteHandshake(None, ((b"x-a", b"1"), (b"x-a", b"2"))))
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert answer.endswith(b"\r\nx-a: 1\r\nx-a: 2\r\n\r\n")
        assert b"extensions" not in answer.lower()
        assert b"protocol:" not in answer.lower()

    def test_names_the_subprotocol_that_the_machine_let_through(self) -> None:
        """Whether it was offered is decided elsewhere (C19): a profile may let another one pass."""
        assert b"\r\nsec-websocket-protocol: chat\r\n" in waiting().encode(fx.CompleteHandshake("chat", ()))


class TestTheDenial:
    def test_whole_has_its_length_and_ends_the_connection(self) -> None:
        answer = waiting().encode(fx.SendResponse(403, ((b"x", b"1"),), b"no"))
        assert answer == b"HTTP/1.1 403 \r\nx: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"

    @pytest.mark.parametrize(("status", "length"), [(204, b""), (304, b""), (205, b"content-length: 0\r\n")])
    def test_without_a_body_has_no_framing_of_one(self, status: int, length: bytes) -> None:
        """C24."""
        headers = ((b"content-length", b"3"),)
        assert waiting().encode(
            fx.SendResponse(status, headers, b"")
        ) == b"HTTP/1.1 %d \r\n%sconnection: close\r\n\r\n" % (
            status,
            length,
        )

    @pytest.mark.parametrize(
        "field", [(b"content-length", b"9"), (b"Content-Length", b"x"), (b"connection", b"keep-alive")]
    )
    def test_is_framed_by_us_whatever_the_app_says(self, field: tuple[bytes, bytes]) -> None:
        whole = waiting().encode(fx.SendResponse(403, (field,), b"no"))
        assert whole == b"HTTP/1.1 403 \r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
        codec = waiting()
        parts: list[fx.Effect] = [
            fx.SendHead(403, (field,)),
            fx.SendBody(b"no"),
            fx.SendBody(b""),
            fx.SendBody(b"!"),
            fx.EndResponse(),
        ]
        assert b"".join(map(codec.encode, parts)) == (
            b"HTTP/1.1 403 \r\nconnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n1\r\n!\r\n0\r\n\r\n"
        )

    def test_streamed_without_a_body_is_a_head_alone(self) -> None:
        codec = waiting()
        assert codec.encode(fx.SendHead(204, ())) == b"HTTP/1.1 204 \r\nconnection: close\r\n\r\n"
        assert codec.encode(fx.SendBody(b"")) + codec.encode(fx.EndResponse()) == b""


class TestC14BytesBeforeTheAccept:
    def test_are_held_and_decoded_in_order_before_later_ones(self) -> None:
        codec = waiting()
        assert hear(codec, frame(TEXT, b"1"), frame(TEXT, b"2") + frame(TEXT, b"345")[:4]) == []
        codec.encode(fx.CompleteHandshake(None, ()))
        assert hear(codec, frame(TEXT, b"345")[4:]) == [Message("1"), Message("2"), Message("345")]

    def test_are_held_up_to_the_bound(self) -> None:
        codec = waiting()
        assert hear(codec, bytes(HEAD_LIMIT)) == []
        assert list(codec.feed(b"!")) == [Violation(1009)]

    def test_over_the_bound_are_dropped(self) -> None:
        """While a denial is streamed the violation is no news, and the peer may go on for ever."""
        codec = waiting()
        codec.encode(fx.SendHead(403, ()))
        tracemalloc.start()
        for _ in range(64):
            list(codec.feed(bytes(1 << 20)))
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
        tracemalloc.stop()

    def test_are_frames_like_any_others(self) -> None:
        codec = Codec()
        assert isinstance(codec.request(head() + frame(TEXT, b"hi", mask=None)), Request)
        codec.encode(fx.CompleteHandshake(None, ()))
        assert hear(codec, b"") == [Violation(1002)]


# ------------------------------------------------------------------------------------------------ frames


class TestSection54Fragments:
    STREAM = (
        frame(TEXT, "hé".encode()[:2], fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, "hé".encode()[2:], fin=False)
        + frame(CONTINUATION, b"")
        + frame(BINARY, bytes(range(200)))
        + frame(TEXT)
        + frame(BINARY)
        + frame(PONG, b"unasked")
        + frame(BINARY, bytes(70000))
        + close_frame(3000, "grüß".encode())
    )
    HEARD = (
        Reply(frame(PONG, b"between", mask=None)),
        Message("hé"),
        Message(bytes(range(200))),
        Message(""),
        Message(b""),
        Message(bytes(70000)),
        Close(3000, "grüß"),
    )

    def test_are_one_message_when_all_come_at_once(self) -> None:
        assert tuple(hear(opened(100_000), self.STREAM)) == self.HEARD

    def test_are_one_message_however_the_bytes_are_cut(self) -> None:
        stream = self.STREAM.replace(frame(BINARY, bytes(70000)), b"")
        heard = tuple(event for event in self.HEARD if event != Message(bytes(70000)))
        assert tuple(hear(opened(), *(stream[i : i + 1] for i in range(len(stream))))) == heard
        for cut in range(len(stream)):
            assert tuple(hear(opened(), stream[:cut], stream[cut:])) == heard

    @pytest.mark.parametrize(
        "data",
        [
            frame(CONTINUATION, b"stray"),
            frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION, b"c"),
        ],
    )
    def test_that_are_stray_or_interrupted_fail_the_connection(self, data: bytes) -> None:
        assert hear(opened(), data)[-1] == Violation(1002)

    def test_are_not_slow_in_great_number(self) -> None:
        codec = opened(1 << 20)
        start = time.perf_counter()
        stream = frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 30_000 + frame(CONTINUATION)
        assert hear(codec, stream) == [Message(b"a" * 30_001)]
        assert time.perf_counter() - start < 3


class TestSection51And52TheFrame:
    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"hi", mask=None),
            frame(CLOSE, mask=None),
            *(frame(TEXT, b"hi", rsv=rsv) for rsv in (1, 2, 4)),
            *(frame(opcode) for opcode in (3, 7, 11, 15)),
            bytes((0x82, 0xFE, 0, 125)) + NUL_MASK + bytes(125),  # a length that needs no two bytes
            bytes((0x82, 0xFF)) + (1 << 63).to_bytes(8) + NUL_MASK,
        ],
    )
    def test_that_breaks_a_rule_fails_the_connection(self, data: bytes) -> None:
        """W3, W4."""
        assert hear(opened(), data) == [Violation(1002)]

    @pytest.mark.parametrize(
        ("data", "sent"),
        [
            ("é", b"\x81\x02" + "é".encode()),
            (b"\xff", b"\x82\x01\xff"),
            ("", b"\x81\x00"),
            (b"", b"\x82\x00"),
            (bytes(126), b"\x82\x7e\x00\x7e" + bytes(126)),
        ],
    )
    def test_of_ours_is_whole_and_not_masked(self, data: str | bytes, sent: bytes) -> None:
        """W3, W13."""
        assert opened().encode(fx.SendMessage(data)) == sent


class TestSection55ControlFrames:
    @pytest.mark.parametrize("data", [frame(PING, bytes(126)), frame(PING, b"", fin=False), frame(CLOSE, bytes(126))])
    def test_that_are_long_or_fragmented_fail_the_connection(self, data: bytes) -> None:
        """W6."""
        assert hear(opened(), data) == [Violation(1002)]

    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(125)])
    def test_a_ping_is_answered_with_its_payload(self, payload: bytes) -> None:
        """W8."""
        assert hear(opened(), frame(PING, payload)) == [Reply(frame(PONG, payload, mask=None))]

    def test_a_ping_after_our_close_is_not_answered(self) -> None:
        """C42."""
        codec = opened()
        codec.encode(fx.SendClose(1000, ""))
        data = frame(PING, b"hello") + frame(TEXT, b"late") + close_frame(1000)
        assert hear(codec, data, answer=False) == [Message("late"), Close(1000, "")]


class TestSection74CloseCodes:
    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999])
    def test_of_the_peer(self, code: int) -> None:
        assert hear(opened(), close_frame(code, b"why")) == [Close(code, "why")]

    def test_may_be_missing(self) -> None:
        """R30, C13: told apart from a 1005 in the frame, which is illegal."""
        assert hear(opened(), frame(CLOSE)) == [Close(None, "")]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
    def test_that_are_illegal_fail_the_connection(self, code: int) -> None:
        """W10, C20."""
        assert hear(opened(), close_frame(code)) == [Violation(1002)]

    def test_1014_is_refused_by_wsproto(self) -> None:
        """A known limit: C20 would allow it."""
        assert hear(opened(), close_frame(1014)) == [Violation(1002)]

    def test_of_one_byte_fail_the_connection(self) -> None:
        assert hear(opened(), frame(CLOSE, b"\x03")) == [Violation(1002)]

    @pytest.mark.parametrize(
        ("code", "reason", "sent"),
        [
            (1000, "", b"\x88\x02\x03\xe8"),
            (1014, "é", b"\x88\x04\x03\xf6" + "é".encode()),
            (4999, "", b"\x88\x02\x13\x87"),
            (None, "", b"\x88\x00"),
        ],
    )
    def test_of_ours(self, code: int | None, reason: str, sent: bytes) -> None:
        assert opened().encode(fx.SendClose(code, reason)) == sent


class TestSection81UTF8:
    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"\xff"),
            frame(TEXT, b"\xc3"),
            frame(TEXT, b"\xed\xa0\x80"),
            frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("),
            close_frame(1000, b"\xff"),
        ],
    )
    def test_that_is_broken_fails_the_connection_with_1007(self, data: bytes) -> None:
        """W11."""
        assert hear(opened(), data) == [Violation(1007)]


class TestC34TooLarge:
    @pytest.mark.parametrize("data", [b"a" * 1000, b"", "ä".encode() * 1000])
    def test_up_to_the_limit_is_taken(self, data: bytes) -> None:
        assert hear(opened(), frame(TEXT, data)) == [Message(data.decode())]

    @pytest.mark.parametrize(
        "data",
        [
            frame(BINARY, bytes(1001)),
            frame(BINARY, bytes(1001), fin=False),
            frame(BINARY, bytes(1000), fin=False) + frame(CONTINUATION, b"a"),
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 1000,
        ],
    )
    def test_over_the_limit_fails_the_connection_once(self, data: bytes) -> None:
        assert hear(opened(), data + frame(CONTINUATION, b"more"), frame(TEXT, b"next")) == [Violation(1009)]

    def test_is_noticed_before_the_frame_is_complete(self) -> None:
        assert hear(opened(), frame(BINARY, bytes(5000))[:1500]) == [Violation(1009)]

    def test_counts_each_message_anew(self) -> None:
        assert len(hear(opened(), frame(BINARY, bytes(900)) * 5)) == 5

    def test_empty_fragments_cost_nothing(self) -> None:
        codec = opened()
        hear(codec, frame(TEXT, b"a", fin=False))
        tracemalloc.start()
        for _ in range(20):
            assert hear(codec, frame(CONTINUATION, fin=False) * 1000) == []
        assert tracemalloc.get_traced_memory()[0] < 50_000
        tracemalloc.stop()
        assert hear(codec, frame(CONTINUATION, b"b")) == [Message("ab")]


class TestSection717AfterAFailure:
    @pytest.mark.parametrize("closed", [False, True], ids=["open", "after-our-close"])
    def test_nothing_is_heard_and_nothing_is_kept(self, closed: bool) -> None:
        """W9. wsproto would keep every byte and never read it, for as long as the peer sends."""
        codec = opened()
        if closed:
            codec.encode(fx.SendClose(1000, ""))
            assert list(codec.feed(frame(3))) == [Violation(1002)]
        else:
            assert hear(codec, frame(3) + frame(TEXT, b"more")) == [Violation(1002)]
        tracemalloc.start()
        for _ in range(64):
            assert hear(codec, frame(TEXT, b"late"), frame(PING), close_frame(1000), bytes(1 << 20)) == []
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
        tracemalloc.stop()

    def test_nothing_is_heard_after_the_peers_close(self) -> None:
        codec = opened()
        assert hear(codec, close_frame(1000) + frame(TEXT, b"late") + frame(3), frame(TEXT, b"later")) == [
            Close(1000, "")
        ]

    def test_after_our_close_only_the_close_matters(self) -> None:
        codec = opened()
        codec.encode(fx.SendClose(1000, ""))
        assert hear(codec, close_frame(3001, b"bye") + b"junk", b"junk", answer=False) == [Close(3001, "bye")]


class TestOtherEffects:
    @pytest.mark.parametrize("effect", [fx.EndTransport(1.0), fx.AbortTransport(), fx.ResumeReading(), fx.Pace(1.0)])
    def test_are_not_seen_on_the_wire(self, effect: fx.Effect) -> None:
        assert opened().encode(effect) == b""
