"""Bytes to events and payloads to frames, and what is put right about wsproto.

Frames that break a rule are made by hand; the peer that keeps them is the websockets library. The classes are named
after sections of RFC 6455 and rules of the specification.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Close as CloseFrame
from websockets.frames import Frame, Opcode
from websockets.headers import parse_extension
from websockets.streams import StreamReader

from wslifecycle.conformance.peer import frame
from wslifecycle.runtime.codec import (
    LULL,
    Close,
    Codec,
    Event,
    Held,
    Kind,
    Ping,
    Pong,
    Violation,
    WsprotoCodec,
    close_payload,
)
from wslifecycle.runtime.deflate import WINDOW_BITS, Deflate, negotiate
from wslifecycle.runtime.frames import FrameCodec, unmask

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
RSV1, RSV2, RSV3 = 4, 2, 1
NUL_MASK = bytes(4)
KIBIBYTE, MEGABYTE = 1 << 10, 1 << 20
HELLO = bytes.fromhex("f248cdc9c90700")
"""The message of RFC 7692 section 7.2.3.1."""


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def compressed(data: bytes) -> bytes:
    """The payload of a first message."""
    deflater = zlib.compressobj(wbits=-12)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def agreed() -> tuple[Deflate, PerMessageDeflate]:
    """Both ends of a compression: ours and that of the websockets library."""
    factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    result = negotiate(["permessage-deflate; client_max_window_bits"])
    assert result is not None
    ((_, parameters),) = parse_extension(result[0])
    return result[1], factory.process_response_params(parameters, [])


CODECS: dict[str, Callable[[int | None, Deflate | None], Codec]] = {
    "wsproto": WsprotoCodec,
    "python": partial(FrameCodec, unmask=unmask),
    "auto": FrameCodec,
}
in_use = CODECS["wsproto"]


@pytest.fixture(autouse=True, scope="module", params=CODECS)
def every_codec(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test is about each codec, and `opened` makes it."""
    global in_use  # noqa: PLW0603
    in_use = CODECS[request.param]
    yield
    in_use = CODECS["wsproto"]


def opened(max_size: int | None = 1000, *, deflate: bool = False) -> Codec:
    return in_use(max_size, agreed()[0] if deflate else None)


def one_of_each(max_size: int | None = 1000, *, deflate: bool = False) -> list[Codec]:
    """Codecs that have to hear the same; that of wsproto alone is the first."""
    parameters = {"client_max_window_bits": WINDOW_BITS}  # those that are agreed()
    return [make(max_size, Deflate(parameters) if deflate else None) for make in CODECS.values()]


def hear(codec: Codec, *data: bytes) -> list[Event]:
    """What a codec hears."""
    return [event for events in moments(codec, data) for event in events]


def moments(codec: Codec, reads: Sequence[bytes]) -> list[list[Event]]:
    """What a codec hears in each read."""
    return [[event for event in codec.feed(data) if event is not None] for data in reads]


def failure(codec: Codec, *data: bytes) -> int:
    """The code of the violation, which has to be all that is heard."""
    (event,) = hear(codec, *data)
    assert isinstance(event, Violation), event
    assert event.complaint not in ("", "error in extension")  # wsproto says no more
    return event.code


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def parsed(data: bytes, *extensions: PerMessageDeflate) -> Frame:
    """The frame of ours that these bytes are, to the last of them, as a client of the websockets library sees it."""
    reader = StreamReader()
    reader.feed_data(data)
    parser = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
    with pytest.raises(StopIteration) as end:
        next(parser)
    assert not reader.buffer
    assert isinstance(end.value.value, Frame)
    return end.value.value


@contextmanager
def using_less_than(size: int, *, at_most: bool = False) -> Iterator[None]:
    """Bytes of memory that may be held at the end, or with `at_most` at any time, that were not at the beginning."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[at_most] < size
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------------------ before the accept


class TestC14BytesBeforeTheAccept:
    def test_are_held_in_their_order(self) -> None:
        held = Held(100)
        assert [list(held.feed(piece)) for piece in (b"", b"1", b"2", b"345")] == [[]] * 4
        assert held.release() == b"12345"

    def test_are_held_up_to_the_bound(self) -> None:
        held = Held(65536)
        assert not held.feed(bytes(65535) + b"!")
        assert held.release() == bytes(65535) + b"!"

    @pytest.mark.parametrize("sizes", [(65537,), (65536, 1), (1, 65536)])
    def test_over_the_bound_are_a_violation(self, sizes: tuple[int, ...]) -> None:
        held = Held(65536)
        (violation,) = [event for size in sizes for event in held.feed(bytes(size))]
        assert isinstance(violation, Violation)
        assert violation.code == 1009
        assert "65536" in violation.complaint

    def test_may_be_unbounded(self) -> None:
        held = Held(None)
        assert not held.feed(bytes(MEGABYTE))
        assert len(held.release()) == MEGABYTE

    def test_after_the_violation_are_neither_told_nor_held(self) -> None:
        """While a denial is streamed the violation is no news, and the peer may go on for ever."""
        held = Held(1000)
        assert len(list(held.feed(bytes(1001)))) == 1
        with using_less_than(500):
            for size in (1, 1000, 1001, MEGABYTE, 1):
                assert not held.feed(bytes(size))
            assert held.release() == b""

    def test_are_held_no_more_once_they_were_released(self) -> None:
        """A session keeps its `Held` as long as it lives."""
        with using_less_than(10_000):
            held = Held(65536)
            held.feed(bytes(60_000))
            assert len(held.release()) == 60_000
        assert held.release() == b""

    def test_are_dropped_where_a_profile_says_so(self) -> None:
        held = Held(10, keep=False)
        assert not held.feed(bytes(1000))
        assert held.release() == b""

    def test_are_frames_like_any_others(self) -> None:
        held = Held(1000)
        stream = frame(TEXT, b"early") + frame(TEXT, b"hi", mask=None)
        held.feed(stream[:3])
        held.feed(stream[3:])
        message, violation = hear(opened(), held.release())
        assert message == "early"
        assert isinstance(violation, Violation)


# ------------------------------------------------------------------------------------------------ frames


class TestSection51And52TheFrame:
    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"hi", mask=None),
            frame(CLOSE, mask=None),
            frame(PING, mask=None),
            *(frame(opcode, rsv=rsv) for rsv in (RSV1, RSV2, RSV3) for opcode in (TEXT, BINARY, CLOSE, PING, PONG)),
            *(frame(opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
            bytes((0x82, 0xFE, 0, 125)) + NUL_MASK + bytes(125),  # a length that needs no two bytes
            bytes((0x82, 0xFF)) + (65535).to_bytes(8, "big") + NUL_MASK,  # one that needs no eight
            bytes((0x82, 0xFF)) + (1 << 63).to_bytes(8, "big") + NUL_MASK,
        ],
    )
    def test_that_breaks_a_rule_fails_the_connection(self, data: bytes) -> None:
        """W3, W4."""
        assert failure(opened(None), data) == 1002

    @pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65535, 65536, 70_001])
    def test_of_the_peer_may_have_any_length(self, size: int) -> None:
        payload = random.Random(size).randbytes(size)
        assert hear(opened(None), Frame(Opcode.BINARY, payload).serialize(mask=True)) == [payload]

    @pytest.mark.parametrize("mask", [NUL_MASK, b"\xff\xff\xff\xff", b"\x01\x80\x55\xaa"])
    def test_is_unmasked_wherever_it_is_cut(self, mask: bytes) -> None:
        payload = bytes(range(11))
        data = frame(BINARY, payload, mask=mask)
        for cut in range(len(data)):
            assert hear(opened(), data[:cut], data[cut:]) == [payload]

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_of_ours_is_whole_and_not_masked(self, size: int) -> None:
        """W3, W13."""
        payload = random.Random(size).randbytes(size)
        assert parsed(opened().encode("binary", payload)) == Frame(Opcode.BINARY, payload)
        assert parsed(opened().encode("text", "a" * size)) == Frame(Opcode.TEXT, b"a" * size)

    @pytest.mark.parametrize(
        ("kind", "payload", "sent"),
        [
            ("text", "é", b"\x81\x02" + "é".encode()),
            ("text", "", b"\x81\x00"),
            ("binary", b"\xff", b"\x82\x01\xff"),
            ("binary", b"", b"\x82\x00"),
            ("binary", bytes(126), b"\x82\x7e\x00\x7e" + bytes(126)),
            ("ping", b"", b"\x89\x00"),
            ("ping", b"beat", b"\x89\x04beat"),
            ("pong", b"", b"\x8a\x00"),
            ("pong", bytes(125), b"\x8a\x7d" + bytes(125)),
            ("close", b"", b"\x88\x00"),
            ("close", b"\x03\xe8bye", b"\x88\x05\x03\xe8bye"),
        ],
    )
    def test_of_ours_has_these_bytes(self, kind: Kind, payload: str | bytes, sent: bytes) -> None:
        assert opened().encode(kind, payload) == sent

    def test_of_ours_may_follow_one_another(self) -> None:
        codec = opened()
        assert codec.encode("text", "a") + codec.encode("ping", b"") + codec.encode("binary", b"b") == (
            b"\x81\x01a\x89\x00\x82\x01b"
        )

    def test_of_ours_can_still_be_made_after_the_last_event(self) -> None:
        """The Close that answers a Close or a violation."""
        for last in (close_frame(1000), frame(3)):
            codec = opened()
            assert len(hear(codec, last)) == 1
            assert codec.encode("close", close_payload(1000, "")) == b"\x88\x02\x03\xe8"


class TestSection54Fragments:
    STREAM = (
        frame(TEXT, "hé".encode()[:2], fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, "hé".encode()[2:], fin=False)
        + frame(CONTINUATION, b"")
        + frame(BINARY, bytes(range(200)))
        + frame(TEXT)
        + frame(BINARY)
        + frame(TEXT, b"a\r\nb\r", fin=False)
        + frame(CONTINUATION, b"\nc\r")
        + frame(TEXT, fin=False)
        + frame(CONTINUATION)
        + frame(BINARY, fin=False)
        + frame(PONG, b"unasked")
        + frame(CONTINUATION, fin=False)
        + frame(CONTINUATION)
        + close_frame(3000, "grüß".encode())
    )
    HEARD = (
        Ping(b"between"),
        "hé",
        bytes(range(200)),
        "",
        b"",
        "a\r\nb\r\nc\r",
        "",
        Pong(b"unasked"),
        b"",
        Close(3000, "grüß"),
    )

    def test_are_one_message_when_all_come_at_once(self) -> None:
        heard = hear(opened(), self.STREAM)
        assert tuple(heard) == self.HEARD
        assert all(type(event) in (str, bytes) for event in heard if isinstance(event, str | bytes))

    def test_are_one_message_however_the_bytes_are_cut(self) -> None:
        stream = self.STREAM
        assert tuple(hear(opened(), *(stream[i : i + 1] for i in range(len(stream))))) == self.HEARD
        for cut in range(len(stream)):
            assert tuple(hear(opened(), stream[:cut], stream[cut:])) == self.HEARD

    def test_of_great_size_are_one_message(self) -> None:
        part = random.Random(54).randbytes(70_000)
        stream = frame(BINARY, part, fin=False) + frame(CONTINUATION, part)
        assert hear(opened(None), *pieces(stream, range(0, len(stream), 4096))) == [part * 2]

    @pytest.mark.parametrize(
        "data",
        [
            frame(CONTINUATION, b"stray"),
            frame(CONTINUATION),
            frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
            frame(BINARY, b"a", fin=False) + frame(BINARY, b"b", fin=False),
            frame(TEXT, fin=False) + frame(BINARY),
        ],
    )
    def test_that_are_stray_or_interrupted_fail_the_connection(self, data: bytes) -> None:
        """W5."""
        assert failure(opened(), data) == 1002

    def test_that_follow_the_last_one_fail_the_connection(self) -> None:
        codec = opened()
        assert hear(codec, frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b")) == ["ab"]
        assert failure(codec, frame(CONTINUATION, b"c")) == 1002

    def test_that_are_empty_cost_nothing(self) -> None:
        codec = opened()
        hear(codec, frame(TEXT, b"a", fin=False))
        with using_less_than(15_000):
            for _ in range(4):
                assert hear(codec, frame(CONTINUATION, fin=False) * 1000) == []
        assert hear(codec, frame(CONTINUATION, b"b")) == ["ab"]

    def test_that_are_tiny_cost_little_more_than_their_bytes(self) -> None:
        """One object for each would make 20 times as many of them, up to the limit of a message."""
        codec = opened(None)
        hear(codec, frame(BINARY, b"ab", fin=False))
        with using_less_than(30_000):
            for _ in range(3):
                assert hear(codec, frame(CONTINUATION, b"ab", fin=False) * 1000) == []
        assert hear(codec, frame(CONTINUATION)) == [b"ab" * 3001]

    @pytest.mark.parametrize("piece", [b"", b"a"])
    def test_of_which_many_come_give_others_a_turn_now_and_then(self, piece: bytes) -> None:
        codec = opened(None)
        hear(codec, frame(BINARY, fin=False))
        assert list(codec.feed(frame(CONTINUATION, piece, fin=False) * (3 * LULL + LULL // 2))) == [None] * 3
        assert list(codec.feed(frame(CONTINUATION, b"b"))) == [piece * (3 * LULL + LULL // 2) + b"b"]


class TestSection55ControlFrames:
    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_that_are_long_or_fragmented_fail_the_connection(self, opcode: int) -> None:
        """W6."""
        assert failure(opened(), frame(opcode, bytes(126))) == 1002
        assert failure(opened(), frame(opcode, bytes(70_000))) == 1002
        assert failure(opened(), frame(opcode, b"\x03\xe8", fin=False)) == 1002

    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(125)])
    def test_are_handed_over_with_their_payload(self, payload: bytes) -> None:
        """W8: whether a Ping is still answered is the machine's."""
        assert hear(opened(), frame(PING, payload), frame(PONG, payload)) == [Ping(payload), Pong(payload)]

    def test_do_not_count_for_the_size_of_a_message(self) -> None:
        stream = frame(TEXT, b"ab", fin=False) + frame(PING, b"four") + frame(CONTINUATION, b"c") + frame(PONG, b"four")
        assert hear(opened(3), stream) == [Ping(b"four"), "abc", Pong(b"four")]

    def test_come_whole(self) -> None:
        codec = opened()
        data = frame(PING, b"hello")
        assert hear(codec, *(data[i : i + 1] for i in range(len(data) - 1))) == []
        assert hear(codec, data[-1:]) == [Ping(b"hello")]


class TestSection74CloseCodes:
    LEGAL = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999)
    ILLEGAL = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)

    @pytest.mark.parametrize("code", [*LEGAL, *ILLEGAL])
    def test_of_the_peer_are_handed_over_whatever_they_are(self, code: int) -> None:
        """C20: which ones are legal is the machine's. wsproto would take 1014 and more for faults."""
        assert hear(opened(), close_frame(code)) == [Close(code, "")]
        assert hear(opened(), close_frame(code, "wäre".encode())) == [Close(code, "wäre")]

    def test_may_be_missing(self) -> None:
        """R30, C13: told apart from a 1005 in the frame, which is illegal."""
        assert hear(opened(), frame(CLOSE)) == [Close(None, "")]

    def test_may_have_the_longest_reason(self) -> None:
        assert hear(opened(), close_frame(1000, b"a" * 123)) == [Close(1000, "a" * 123)]

    def test_of_one_byte_fail_the_connection(self) -> None:
        """W10."""
        assert failure(opened(), frame(CLOSE, b"\x03")) == 1002

    def test_of_our_failures_are_no_close_of_the_peer(self) -> None:
        """C47: wsproto reports its own parse errors as if the peer had closed."""
        faults = [frame(3), frame(TEXT, b"\xff"), frame(BINARY, bytes(1001)), frame(TEXT, b"", mask=None)]
        assert [failure(opened(), fault) for fault in faults] == [1002, 1007, 1009, 1002]

    @pytest.mark.parametrize("code", LEGAL)
    @pytest.mark.parametrize("reason", ["", "é", "a" * 123])
    def test_of_ours_are_read_by_a_client(self, code: int, reason: str) -> None:
        sent = parsed(opened().encode("close", close_payload(code, reason)))
        assert sent.opcode is Opcode.CLOSE
        assert CloseFrame.parse(sent.data) == CloseFrame(code, reason)

    @pytest.mark.parametrize(
        ("code", "reason", "payload"),
        [(None, "", b""), (1000, "", b"\x03\xe8"), (1014, "é", b"\x03\xf6\xc3\xa9"), (4999, "", b"\x13\x87")],
    )
    def test_make_a_payload(self, code: int | None, reason: str, payload: bytes) -> None:
        assert close_payload(code, reason) == payload
        assert opened().encode("close", payload) == bytes((0x88, len(payload))) + payload


class TestSection81UTF8:
    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, b"\xff"),
            frame(TEXT, b"\xc3"),
            frame(TEXT, b"\xed\xa0\x80"),
            frame(TEXT, b"\xc0\x80"),
            frame(TEXT, b"\xf4\x90\x80\x80"),
            frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("),
            frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION),
            close_frame(1000, b"\xff"),
            close_frame(1000, b"\xc3"),
        ],
    )
    def test_that_is_broken_fails_the_connection_with_1007(self, data: bytes) -> None:
        """W11."""
        assert failure(opened(), data) == 1007

    def test_that_is_broken_is_noticed_before_the_message_is_complete(self) -> None:
        assert failure(opened(), frame(TEXT, b"a\xff" + bytes(500))[:20]) == 1007

    def test_may_be_divided_within_a_character(self) -> None:
        text = "aß€😀"
        stream = b"".join(frame(TEXT * (not i), text.encode()[i : i + 1], fin=False) for i in range(len(text.encode())))
        assert hear(opened(), stream + frame(CONTINUATION)) == [text]

    def test_does_not_matter_in_binary(self) -> None:
        assert hear(opened(), frame(BINARY, b"\xc3")) == [b"\xc3"]


class TestC34TooLarge:
    @pytest.mark.parametrize("data", [b"a" * 1000, b"", "ä".encode() * 500, "😀".encode() * 250])
    def test_up_to_the_limit_is_taken(self, data: bytes) -> None:
        assert hear(opened(), frame(TEXT, data)) == [data.decode()]

    @pytest.mark.parametrize(
        "data",
        [
            frame(BINARY, bytes(1001)),
            frame(BINARY, bytes(1001), fin=False),
            frame(BINARY, bytes(70_000)),
            frame(BINARY, bytes(1000), fin=False) + frame(CONTINUATION, b"a"),
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 1000,
            frame(TEXT, "ä".encode() * 501),
            frame(TEXT, "😀".encode() * 250 + b"a"),
            frame(TEXT, "😀".encode() * 200, fin=False) + frame(CONTINUATION, "😀".encode() * 51),
        ],
    )
    def test_over_the_limit_fails_the_connection_once(self, data: bytes) -> None:
        """The limit counts bytes, those of a text too."""
        assert failure(opened(), data + frame(CONTINUATION, b"more"), frame(TEXT, b"next")) == 1009
        single = [data[i : i + 1] for i in range(len(data))]
        assert failure(opened(), *single, frame(CONTINUATION, b"more")) == 1009

    @pytest.mark.parametrize("size", [1001, 65536, 1 << 62])
    def test_is_noticed_at_the_length_of_the_frame(self, size: int) -> None:
        """Before any payload has come."""
        long = size > 65535
        head = bytes((0x81, 0xFF if long else 0xFE)) + size.to_bytes(8 if long else 2, "big")
        codec = opened()
        assert hear(codec, head[:-1]) == []
        assert failure(codec, head[-1:]) == 1009

    def test_is_noticed_at_the_length_of_a_fragment(self) -> None:
        codec = opened()
        assert hear(codec, frame(BINARY, bytes(990), fin=False) + frame(CONTINUATION, bytes(10), fin=False)) == []
        assert failure(codec, frame(CONTINUATION, b"a")[:2]) == 1009

    def test_counts_each_message_anew(self) -> None:
        parts = frame(BINARY, bytes(450), fin=False) + frame(CONTINUATION, bytes(450))
        assert hear(opened(), (frame(BINARY, bytes(900)) + parts) * 5) == [bytes(900)] * 10

    def test_may_be_nothing_at_all(self) -> None:
        codec = opened(0)
        assert hear(codec, frame(TEXT) + frame(PING, b"a") + frame(BINARY)) == ["", Ping(b"a"), b""]
        assert failure(codec, frame(TEXT, b"a")) == 1009

    def test_without_a_limit_nothing_is(self) -> None:
        assert hear(opened(None), frame(BINARY, bytes(MEGABYTE), mask=NUL_MASK)) == [bytes(MEGABYTE)]


class TestSection717AfterTheLastEvent:
    LATE = (frame(TEXT, b"late"), frame(PING), close_frame(1000), frame(3), bytes(MEGABYTE))

    @pytest.mark.parametrize(
        ("last", "kind"),
        [
            (frame(3), Violation),
            (frame(TEXT, b"\xff"), Violation),
            (frame(BINARY, bytes(1001)), Violation),
            (frame(CLOSE, b"\x03"), Violation),
            (close_frame(1000), Close),
            (close_frame(999), Close),
            (frame(CLOSE), Close),
        ],
    )
    def test_nothing_is_heard_and_nothing_is_kept(self, last: bytes, kind: type[Event]) -> None:
        """W9. wsproto would keep every byte and never read it, for as long as the peer sends."""
        codec = opened()
        heard = hear(codec, frame(TEXT, b"a") + last + frame(TEXT, b"b") + frame(3) + close_frame(1000))
        assert [type(event) for event in heard] == [str, kind]
        with using_less_than(MEGABYTE):
            for _ in range(16):
                assert hear(codec, *self.LATE) == []

    @pytest.mark.parametrize("last", [frame(3), close_frame(1000)])
    def test_the_message_that_was_not_complete_is_forgotten(self, last: bytes) -> None:
        codec = opened(None)
        start = frame(BINARY, bytes(MEGABYTE), fin=False, mask=NUL_MASK)
        with using_less_than(MEGABYTE // 2):
            assert len(hear(codec, *pieces(start, range(0, MEGABYTE, 65536)), last)) == 1


# ------------------------------------------------------------------------------------------------ compression


class TestRFC7692Compression:
    """W12, with the websockets library on the other side."""

    def test_works_both_ways(self) -> None:
        ours, theirs = agreed()
        codec = in_use(None, ours)
        for data in (b"Hello", b"Hello", b"", bytes(100_000), random.Random(7692).randbytes(10_000), b"Hello"):
            assert hear(codec, Frame(Opcode.BINARY, data).serialize(mask=True, extensions=[theirs])) == [data]
            assert parsed(codec.encode("binary", data), theirs) == Frame(Opcode.BINARY, data)
        for text in ("", "grüß", "grüß"):
            sent = Frame(Opcode.TEXT, text.encode()).serialize(mask=True, extensions=[theirs])
            assert hear(codec, sent) == [text]
            assert parsed(codec.encode("text", text), theirs) == Frame(Opcode.TEXT, text.encode())

    def test_makes_messages_short(self) -> None:
        codec = opened(None, deflate=True)
        assert len(codec.encode("binary", bytes(100_000))) < 500
        assert len(codec.encode("text", "a" * 100_000)) < 500

    @pytest.mark.parametrize("kind", ["ping", "pong", "close"])
    def test_is_not_for_control_frames(self, kind: Kind) -> None:
        payload = close_payload(1000, "a" * 100)
        sent = opened(deflate=True).encode(kind, payload)
        assert sent == opened().encode(kind, payload)
        assert parsed(sent).data == payload

    def test_shows_in_the_first_byte_of_a_message(self) -> None:
        codec = opened(deflate=True)
        assert [codec.encode("text", "")[0], codec.encode("binary", b"")[0]] == [0xC1, 0xC2]

    def test_may_go_through_fragments_with_a_ping_between_any_two(self) -> None:
        ours, theirs = agreed()
        text = "Hällo " * 8
        parts = [text.encode()[i : i + 7] for i in range(0, len(text.encode()), 7)]
        stream = b""
        for i, part in enumerate(parts):
            data = Frame(Opcode.TEXT if i == 0 else Opcode.CONT, part, fin=i == len(parts) - 1)
            ping = Frame(Opcode.PING, b"%d" % i)
            stream += ping.serialize(mask=True) + data.serialize(mask=True, extensions=[theirs])
        expected = [*(Ping(b"%d" % i) for i in range(len(parts))), text]
        assert hear(in_use(1000, ours), stream) == expected
        for cut in range(len(stream)):
            assert hear(opened(deflate=True), stream[:cut], stream[cut:]) == expected

    def test_may_have_its_fragments_cut_anywhere(self) -> None:
        """The example of section 7.2.3.1, with empty fragments around its parts."""
        for cut in range(len(HELLO) + 1):
            first = frame(TEXT, HELLO[:cut], fin=False, rsv=RSV1) + frame(CONTINUATION, fin=False)
            stream = first + frame(PONG) + frame(CONTINUATION, HELLO[cut:], fin=False) + frame(CONTINUATION)
            assert hear(opened(deflate=True), stream) == [Pong(b""), "Hello"]

    def test_may_be_used_for_some_messages_only(self) -> None:
        """Section 6; the plain ones between do not disturb the window."""
        ours, theirs = agreed()
        codec = in_use(None, ours)
        noise = random.Random(6).randbytes(2000)
        squeezed = [Frame(Opcode.BINARY, noise).serialize(mask=True, extensions=[theirs]) for _ in range(3)]
        assert len(squeezed[2]) < 100
        plain = frame(BINARY, noise, fin=False) + frame(PING) + frame(CONTINUATION, HELLO)
        stream = squeezed[0] + plain + squeezed[1] + frame(TEXT, b"Hello") + squeezed[2]
        assert hear(codec, stream) == [
            noise,
            Ping(b""),
            noise + HELLO,
            noise,
            "Hello",
            noise,
        ]

    @pytest.mark.parametrize(
        "data",
        [
            frame(TEXT, HELLO, fin=False, rsv=RSV1) + frame(CONTINUATION, rsv=RSV1),
            frame(TEXT, b"a", fin=False) + frame(CONTINUATION, HELLO, rsv=RSV1),
            *(frame(TEXT, HELLO, fin=False, rsv=RSV1) + frame(opcode, rsv=RSV1) for opcode in (CLOSE, PING, PONG)),
            *(frame(opcode, rsv=RSV1) for opcode in (CONTINUATION, CLOSE, PING, PONG)),
            *(frame(TEXT, HELLO, rsv=rsv) for rsv in (RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3, 7)),
            frame(TEXT, HELLO, fin=False, rsv=RSV1) + frame(CONTINUATION, rsv=RSV2),
            frame(TEXT, HELLO, fin=False, rsv=RSV1) + frame(TEXT, HELLO, rsv=RSV1),
            frame(TEXT, HELLO, rsv=RSV1, mask=None),
        ],
    )
    def test_leaves_every_other_reserved_bit_a_fault(self, data: bytes) -> None:
        """W4: only the first frame of a message says that it is compressed."""
        assert failure(opened(deflate=True), data) == 1002

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_that_was_not_agreed_is_a_fault(self, opcode: int) -> None:
        assert failure(opened(), frame(opcode, HELLO, rsv=RSV1)) == 1002

    @pytest.mark.parametrize(
        "data",
        [
            frame(BINARY, b"\xff\xff", rsv=RSV1),
            frame(BINARY, HELLO, fin=False, rsv=RSV1) + frame(CONTINUATION, b"\xff\xff\xff"),
            frame(BINARY, HELLO[:-3], rsv=RSV1),
        ],
    )
    def test_of_bad_data_fails_the_connection(self, data: bytes) -> None:
        assert failure(opened(deflate=True), data + frame(TEXT, b"late"), frame(TEXT, HELLO, rsv=RSV1)) == 1002

    def test_of_bad_text_fails_the_connection_with_1007(self) -> None:
        assert failure(opened(deflate=True), frame(TEXT, compressed(b"a\xff"), rsv=RSV1)) == 1007
        assert failure(opened(deflate=True), frame(TEXT, compressed(b"a\xc3"), rsv=RSV1)) == 1007

    def test_has_the_limit_count_what_comes_out(self) -> None:
        stream = frame(BINARY, compressed(bytes(1000)), rsv=RSV1)
        assert hear(opened(1000, deflate=True), stream) == [bytes(1000)]
        assert failure(opened(999, deflate=True), stream) == 1009
        text = "ä" * 500
        stream = frame(TEXT, compressed(text.encode()), rsv=RSV1)
        assert hear(opened(1000, deflate=True), stream) == [text]
        assert failure(opened(999, deflate=True), stream) == 1009

    def test_has_the_limit_not_count_what_comes_in(self) -> None:
        nothing = b"\x00\x00\x00\xff\xff" * 300  # empty blocks
        assert hear(opened(5, deflate=True), frame(TEXT, nothing + HELLO, rsv=RSV1)) == ["Hello"]

    def test_has_the_limit_count_all_fragments(self) -> None:
        payload = compressed(random.Random(1).randbytes(500) * 2)
        stream = frame(BINARY, payload[:300], fin=False, rsv=RSV1) + frame(CONTINUATION, payload[300:])
        assert len(hear(opened(1000, deflate=True), stream)) == 1
        assert failure(opened(999, deflate=True), stream) == 1009

    def test_has_the_limit_count_each_message_anew(self) -> None:
        plain, squeezed = frame(BINARY, bytes(900)), frame(BINARY, compressed(bytes(900)), rsv=RSV1)
        assert hear(opened(1000, deflate=True), squeezed + plain + squeezed) == [bytes(900)] * 3

    def test_has_a_bomb_noticed_while_it_is_inflated(self) -> None:
        bomb = frame(BINARY, compressed(bytes(16 * MEGABYTE)), rsv=RSV1, mask=NUL_MASK)
        codec = opened(MEGABYTE // 2, deflate=True)
        with using_less_than(2 * MEGABYTE, at_most=True):
            assert failure(codec, bomb[: len(bomb) // 2]) == 1009

    def test_has_a_bomb_in_a_later_fragment_inflated_no_further_than_the_limit(self) -> None:
        deflater = zlib.compressobj(wbits=-12)
        first = deflater.compress(bytes(MEGABYTE)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        bomb = deflater.compress(bytes(8 * MEGABYTE)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        codec = opened(MEGABYTE, deflate=True)
        assert hear(codec, frame(BINARY, first, fin=False, rsv=RSV1, mask=NUL_MASK)) == []
        second = frame(CONTINUATION, bomb, mask=NUL_MASK)
        with using_less_than(MEGABYTE // 2, at_most=True):
            assert failure(codec, second) == 1009


# ------------------------------------------------------------------------------------------------ any bytes


PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)
CUTS = st.lists(st.integers(0, 5000), max_size=12)
PAYLOADS = st.sampled_from((b"", b"a", HELLO, b"\x03\xe8", b"\x03\xe8bye", "é".encode(), b"\xc3", bytes(130))) | (
    st.binary(max_size=140)
)
FRAMES = st.builds(
    frame,
    st.sampled_from((TEXT, TEXT, BINARY, CONTINUATION, CONTINUATION, PING, PONG, CLOSE, 3)),
    PAYLOADS,
    fin=st.sampled_from((True, True, False)),
    rsv=st.sampled_from((0, 0, 0, RSV1, RSV2)),
    mask=st.sampled_from((b"\1\2\3\4", b"\1\2\3\4", NUL_MASK, NUL_MASK, None)),
)
CONTROLS = st.builds(Ping, st.binary(max_size=125)) | st.builds(Pong, st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn, deflate: bool) -> tuple[bytes, list[Event]]:
    """A stream that breaks no rule, and what has to be heard of it."""
    theirs = agreed()[1]
    stream, heard = b"", list[Event]()

    def interrupt() -> None:
        nonlocal stream
        for event in draw(st.lists(CONTROLS, max_size=1)):
            heard.append(event)
            opcode = Opcode.PING if isinstance(event, Ping) else Opcode.PONG
            stream += Frame(opcode, event.payload).serialize(mask=True)

    for data in draw(st.lists(st.text(max_size=40) | st.binary(max_size=200), max_size=4)):
        encoded = data.encode() if isinstance(data, str) else data
        extensions = [theirs] if deflate and draw(st.booleans()) else []
        parts = pieces(encoded, draw(CUTS)) or [b""]
        for i, part in enumerate(parts):
            interrupt()
            opcode = Opcode.CONT if i else Opcode.TEXT if isinstance(data, str) else Opcode.BINARY
            whole = Frame(opcode, part, fin=i == len(parts) - 1)
            stream += whole.serialize(mask=True, extensions=extensions)
        heard.append(data)
    interrupt()
    if draw(st.booleans()):
        code, reason = draw(st.integers(0, 65535)), draw(st.text(max_size=30))
        heard.append(Close(code, reason))
        stream += close_frame(code, reason.encode())
    return stream, heard


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A stream that broke no rule until some of its bytes were changed, left out or put in."""
    stream = bytearray(draw(conversations(deflate=True))[0])
    for place, byte, keep in draw(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=2), st.booleans()))):
        start = place % (len(stream) + 1)
        stream[start : start + (not keep)] = byte
    return bytes(stream)


def kinds(heard: list[Event]) -> list[object]:
    """The same without complaints, which may depend on how the bytes were cut."""
    return [event.code if isinstance(event, Violation) else event for event in heard]


class TestAnyBytes:
    @PROPERTY
    @given(conversations(deflate=False), CUTS)
    def test_that_break_no_rule_are_heard_however_they_are_cut(
        self, conversation: tuple[bytes, list[Event]], cuts: list[int]
    ) -> None:
        stream, heard = conversation
        assert hear(opened(), *pieces(stream, cuts)) == heard

    @PROPERTY
    @given(conversations(deflate=True), CUTS)
    def test_that_are_compressed_are_heard_however_they_are_cut(
        self, conversation: tuple[bytes, list[Event]], cuts: list[int]
    ) -> None:
        stream, heard = conversation
        assert hear(opened(deflate=True), *pieces(stream, cuts)) == heard

    @PROPERTY
    @given(st.lists(FRAMES, max_size=8).map(b"".join), CUTS, st.sampled_from((None, 0, 1, 100, 1000)))
    def test_that_break_rules_mean_the_same_however_they_are_cut(
        self, stream: bytes, cuts: list[int], max_size: int | None
    ) -> None:
        heard = kinds(hear(opened(max_size), stream))
        assert kinds(hear(opened(max_size), *pieces(stream, cuts))) == heard
        assert kinds(hear(opened(max_size), *(stream[i : i + 1] for i in range(len(stream))))) == heard

    @PROPERTY
    @given(
        st.binary(max_size=300) | spoilt() | st.lists(FRAMES, max_size=8).map(b"".join),
        CUTS,
        st.sampled_from((None, 0, 1, 100)),
        st.booleans(),
    )
    def test_never_raise_and_bring_at_most_one_last_event(
        self, stream: bytes, cuts: list[int], max_size: int | None, deflate: bool
    ) -> None:
        codec = opened(max_size, deflate=deflate)
        heard = hear(codec, *pieces(stream, cuts))
        assert not any(isinstance(event, Close | Violation) for event in heard[:-1])
        if heard and isinstance(heard[-1], Close | Violation):
            assert hear(codec, frame(TEXT, b"late"), stream, frame(3)) == []
        if max_size is not None:
            messages = [event for event in heard if isinstance(event, str | bytes)]
            assert all(len(data.encode() if isinstance(data, str) else data) <= max_size for data in messages)

    @PROPERTY
    @given(st.lists(st.text() | st.binary(max_size=300), max_size=6), st.booleans())
    def test_of_ours_are_read_by_a_client(self, messages: list[str | bytes], deflate: bool) -> None:
        ours, theirs = agreed()
        codec = in_use(None, ours if deflate else None)
        for data in messages:
            if isinstance(data, str):
                sent, expected = codec.encode("text", data), Frame(Opcode.TEXT, data.encode())
            else:
                sent, expected = codec.encode("binary", data), Frame(Opcode.BINARY, data)
            assert parsed(sent, *([theirs] if deflate else [])) == expected
