"""The short way of the codec is held against wsproto: the same bytes, in any pieces, mean the same at each moment.

What is heard is compared read by read, so that a fault of the peer has to be noticed as early, in the same words. Any
bytes at all are in tests/bytes, for as long as one likes; here is every way to cut what is short, and what is long.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask
from wsproto.frame_protocol import XorMaskerSimple

from tests.bytes.pipe import Pipe, fuzzed
from tests.bytes.test_bytes_frames import ANY, CLOSES, CONTROLS, PAYLOADS, SMALL, arrivals, behind, messages
from tests.raw import REQUEST, run
from tests.test_codec import (
    BINARY,
    CLOSE,
    CODECS,
    CONTINUATION,
    NUL_MASK,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    close_frame,
    compressed,
    hear,
    moments,
    one_of_each,
    pieces,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, frames
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.codec import Codec, Kind, Ping, Pong, WsprotoCodec, close_payload
from wslifecycle.runtime.frames import FrameCodec
from wslifecycle.runtime.handshake import Handshake, Request
from wslifecycle.runtime.options import CodecName
from wslifecycle.runtime.session import Message, Receive, Send, Service
from wslifecycle.runtime.wire import Wire
from wslifecycle.statemachine import effects as fx

KINDS = get_args(Kind)
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)
LIMITS = (None, 0, 1, 5)
LETTERS = "aß€\U0001f600"
"""A character of each length: ten bytes."""


def agree(reads: Sequence[bytes], limit: int | None, deflate: bool) -> None:
    """Each codec hears the same in each read."""
    wsproto, *others = [moments(codec, reads) for codec in one_of_each(limit, deflate=deflate)]
    assert others == [wsproto] * len(others), (reads, limit, deflate)


def compositions(stream: bytes) -> Iterator[tuple[int, ...]]:
    """The places of every set of cuts."""
    places = range(1, len(stream))
    return itertools.chain.from_iterable(itertools.combinations(places, size) for size in range(len(stream)))


def singly(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


# ------------------------------------------------------------------------------------------------ what is short

SHORTEST = [
    b"",
    frame(TEXT),
    frame(TEXT, "\U0001f600".encode()),
    frame(TEXT, b"a\xc3\xa9"),
    frame(TEXT, b"a\xff."),
    frame(TEXT, b"\xed\xa0\x80"),
    frame(TEXT, b"\xf0\x9f\x98"),
    frame(TEXT, b"\xff") + b"\x81",
    frame(BINARY, b"\xffab"),
    frame(BINARY) + frame(TEXT),
    frame(TEXT, fin=False) + frame(CONTINUATION),
    frame(BINARY, fin=False) + frame(PING),
    frame(BINARY, fin=False) + frame(TEXT)[:2],
    frame(TEXT, b"\xff", fin=False) + b"\x89",
    frame(PING, b"a") + b"\x8a\x80",
    frame(CLOSE) + frame(TEXT),
    frame(CLOSE, b"\x03") + b"\x81\x80",
    close_frame(999) + b"\x82\x80",
    close_frame(1000, b"\xc3\xa9"),
    close_frame(1000, b"\xff."),
    frame(CONTINUATION) + frame(TEXT),
    frame(TEXT, compressed(b"a"), rsv=RSV1),
    frame(TEXT, b"a", rsv=RSV2) + b"\x89\x80",
    frame(PING, rsv=RSV1),
    frame(PING, fin=False),
    frame(3),
    frame(TEXT, b"ab", mask=None) + frame(TEXT),
    frame(CLOSE, b"\x03\xe8", mask=None),
    b"\x81\xfe\0\x7d" + bytes(6),  # in more bytes than it needs
    b"\x82\xfe\0\x7e" + bytes(6),
    b"\x82\xff" + (65535).to_bytes(8, "big"),
    b"\x82\xff" + (65536).to_bytes(8, "big"),
    b"\x02\xff" + (1 << 62).to_bytes(8, "big"),
    b"\x82\xff" + (1 << 63).to_bytes(8, "big"),
    b"\x82\x7f" + (65535).to_bytes(8, "big"),
    b"\x89\xfe\0\x7e" + bytes(6),
    b"\x88\xff" + bytes(8),
]


@pytest.mark.parametrize("stream", SHORTEST, ids=bytes.hex)
def test_whatever_is_shortest_means_the_same_in_all_pieces(stream: bytes) -> None:
    for cuts in compositions(stream):
        agree(pieces(stream, cuts), None, True)


@pytest.mark.parametrize("stream", [stream for stream in SHORTEST if len(stream) < 11], ids=bytes.hex)
def test_whatever_is_shorter_means_the_same_if_nothing_may_be_compressed_or_long(stream: bytes) -> None:
    for cuts in compositions(stream):
        agree(pieces(stream, cuts), 1, False)


@fuzzed(60)
@given(st.binary(max_size=9) | (ANY | SMALL).map(lambda data: data[:9]), st.sampled_from(LIMITS), st.booleans())
def test_any_nine_bytes_mean_the_same_in_all_pieces(stream: bytes, limit: int | None, deflate: bool) -> None:
    for cuts in compositions(stream):
        agree(pieces(stream, cuts), limit, deflate)


@fuzzed(80)
@given(st.lists(SMALL | CONTROLS | CLOSES | messages() | ANY, max_size=5), st.sampled_from(LIMITS), st.booleans())
def test_what_is_short_means_the_same_in_any_two_pieces_and_byte_by_byte(
    some: list[bytes], limit: int | None, deflate: bool
) -> None:
    stream = b"".join(some)[:150]
    agree(singly(stream), limit, deflate)
    for cut in range(len(stream)):
        agree([stream[:cut], stream[cut:]], limit, deflate)


# ------------------------------------------------------------------------------------------------ what is long

LARGE = st.builds(
    frame,
    st.sampled_from((TEXT, BINARY)),
    st.sampled_from((b"x" * 65535, b"x" * 65536, LETTERS.encode() * 7000, LETTERS.encode() * 100 + b"\xc3(" * 300)),
    fin=st.sampled_from((True, True, False)),
    mask=st.sampled_from((NUL_MASK, b"\1\2\3\4")),
)


@fuzzed(150)
@given(
    arrivals(SMALL | messages() | LARGE | st.builds(frame, st.sampled_from((TEXT, BINARY)), PAYLOADS)),
    st.lists(st.integers(0, 1 << 20), max_size=6),
    st.sampled_from((None, 1000, 65535, 65536)),
    st.booleans(),
)
def test_what_is_long_means_the_same_however_it_is_cut(
    reads: list[bytes], cuts: list[int], limit: int | None, deflate: bool
) -> None:
    agree(reads, limit, deflate)
    agree(pieces(b"".join(reads), cuts), limit, deflate)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
def test_the_limit_and_the_width_of_a_length_count_alike(size: int, opcode: int) -> None:
    head = len(frame(opcode, bytes(size))) - size
    whole = frame(opcode, bytes(size))
    parts = frame(opcode, bytes(size // 2), fin=False) + frame(CONTINUATION, bytes(size - size // 2))
    for stream in (whole, parts, whole + parts + frame(PING) + whole, frame(opcode, bytes(size), mask=None)):
        for limit in (None, max(0, size - 1), size, size + 1):
            agree([stream], limit, False)
            agree([*singly(stream[: head + 3]), stream[head + 3 :]], limit, False)
            agree(pieces(stream, range(0, len(stream), 4099)), limit, False)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"], ids=bytes.hex)
@pytest.mark.parametrize("size", [130, 510, 520, 3000, 65540])
def test_a_text_that_is_none_is_noticed_as_early(size: int, bad: bytes) -> None:
    """Wherever it is broken, and wherever it is cut around that; after one that is sound and was cut, too."""
    sound, text = frame(TEXT, LETTERS.encode() * 10), (LETTERS * (size // 10)).encode()
    for at in (0, 1, 3, 6, size // 20 * 10, size // 20 * 10 + 3, size - 4, size):
        head, stream = len(frame(TEXT, text + bad)) - len(text + bad), frame(TEXT, text[:at] + bad + text[at:])
        for near in range(-2, len(bad) + 3):
            cut = head + at + near
            agree([sound[:40], sound[40:], stream[:cut], *singly(stream[cut : cut + 9])], None, False)
            agree([stream[:cut], stream[cut:]], None, False)
        for step in (7, 1021):
            agree(
                pieces(frame(PING) + stream + frame(PONG), range(0, min(len(stream), 1000 * step), step)), None, False
            )


@pytest.mark.parametrize("size", [511, 512, 513, 5000])
def test_a_text_may_be_cut_within_a_character(size: int) -> None:
    text = ("." * (size % 10) + LETTERS * (size // 10)).encode()
    stream = frame(TEXT, text, mask=b"\xff\x00\x80\x7f")
    for step in (1, 3, 4, 97):
        cuts = range(0, len(stream), step)
        agree(pieces(stream, cuts), None, False)
        assert hear(FrameCodec(), *pieces(stream, cuts)) == [text.decode()]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [0, 10, 511, 512, 513, 70000])
def test_events_hold_what_they_say(name: str, size: int) -> None:
    """And no bytearray, which a message of ASGI must not hold."""
    short = bytes(min(size, 125))
    stream = frame(BINARY, bytes(size)) + frame(TEXT, bytes(size)) + frame(PING, short) + frame(PONG, short)
    for cuts in (range(0), range(0, len(stream), 100)):
        binary, text, ping, pong = hear(CODECS[name](None, None), *pieces(stream, cuts))
        assert isinstance(ping, Ping)
        assert isinstance(pong, Pong)
        assert [type(one) for one in (binary, text, ping.payload, pong.payload)] == [bytes, str, bytes, bytes]


# ------------------------------------------------------------------------------------------------ one who is behind

LATE = [
    frame(TEXT, b"a"),
    frame(PING),
    frame(TEXT, b"b") + frame(TEXT, b"c"),
    frame(TEXT, b"d") + close_frame(1000),
    frame(TEXT, b"e") + frame(TEXT, b"f", fin=False),
    frame(CONTINUATION, b"g"),
    frame(CONTINUATION, b"g", fin=False),
    frame(CLOSE),
    frame(TEXT, b"h") + frame(BINARY, bytes(20), mask=NUL_MASK)[:10],
    frame(TEXT, b"i") + frame(TEXT, b"\xff"),
    frame(TEXT, b"j") + frame(BINARY, b"k", mask=None),
]


@pytest.mark.parametrize("last", LATE, ids=bytes.hex)
def test_later_bytes_may_be_fed_before_what_came_earlier_is_heard(last: bytes) -> None:
    """Each three reads, and each way to be up to an event behind."""
    for before in itertools.product(LATE, repeat=2):
        reads = [*before, last]
        counts = [len(events) for events in moments(WsprotoCodec(), reads)]
        for left in itertools.product((None, 0, 1), repeat=2):
            wsproto, *others = [behind(codec, reads, counts, (*left, None)) for codec in one_of_each(None)]
            assert others == [wsproto] * 2, (reads, left)


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
def test_the_events_of_each_read_may_be_taken_when_all_were_fed(make: Callable[..., Codec]) -> None:
    codec = make(None, None)
    first, second = codec.feed(frame(TEXT, b"a") + frame(TEXT, b"b")), codec.feed(frame(TEXT, b"c") + frame(CLOSE))
    assert list(first) == ["a", "b"]
    third = codec.feed(frame(TEXT, b"late"))
    assert len(list(second)) == 2
    assert list(third) == []


@pytest.mark.parametrize("codec", ["auto", "python", "wsproto"])
def test_an_app_that_is_behind_is_given_what_was_sent(codec: CodecName) -> None:
    """What is in a frame that has come in part is no frame, though it looks like one."""
    given = list[Any]()
    pipe: Pipe

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for letters in ("abcdef", "ABCDEF"):
            reads = b"".join(frame(TEXT, letter.encode()) for letter in letters)
            pipe.feed(reads + frame(BINARY, bytes(20), mask=NUL_MASK)[:6] * letters.isupper())
        while (message := await receive())["type"] == "websocket.receive":
            given.append(message.get("text") or message["bytes"])
            if given[-1] == "A":
                pipe.feed(frame(TEXT, b"is in it", mask=NUL_MASK))
                pipe.feed(bytes(6))
                pipe.feed_eof()

    async def converse() -> None:
        nonlocal pipe
        service = Service(app, Options(ping_interval=None, max_queue=1, codec=codec))
        pipe = Pipe(acceptor := Acceptor(service, set()))
        acceptor.connection_made(pipe)
        pipe.feed(REQUEST)
        await asyncio.gather(*service.tasks)

    run(converse())
    assert given == [*"abcdefABCDEF", b"\x81\x88\0\0\0\0is in it" + bytes(6)]


# ------------------------------------------------------------------------------------------------ the other way, masks


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_written_alike(kind: Kind, size: int, deflate: bool) -> None:
    payloads: dict[Kind, list[str | bytes]] = {
        "text": ["a" * size, "é" * size],
        "binary": [bytes(size), bytes(i * i % 251 for i in range(size))],
        "close": [close_payload(1000 if size else None, "r" * min(size, 123))],
    }
    wsproto, *others = one_of_each(None, deflate=deflate)
    for payload in payloads.get(kind, [bytes(min(size, 125))]) * 2:  # what was sent before counts for the compression
        sent = wsproto.encode(kind, payload)
        assert [(other.encode(kind, payload), type(sent)) for other in others] == [(sent, bytes)] * 2


@fuzzed(50)
@given(st.lists(st.text() | st.binary(max_size=300) | SMALL.map(lambda data: (data,))), st.booleans())
def test_what_is_read_does_not_change_what_is_written(some: list[Any], deflate: bool) -> None:
    """And the other way round, though one compression may be for both."""
    done = list[list[object]]()
    for codec in one_of_each(None, deflate=deflate):
        done.append([])
        for one in some:
            if isinstance(one, tuple):
                done[-1].append(list(codec.feed(one[0])))
            else:
                done[-1].append(codec.encode("text" if isinstance(one, str) else "binary", one))
    assert done[1:] == [done[0]] * 2


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_a_mask_is_taken_off_in_python_as_it_is_in_c(of: Callable[[bytes], frames.Bytes]) -> None:
    for size in (*range(1101), 70000):
        data, mask = bytes(i * 7 % 256 for i in range(size)), (size * 2654435761 % 2**32).to_bytes(4, "big")
        plain = frames.unmask(of(data), mask)
        assert plain == frames.unmask(of(data), bytearray(mask)) == apply_mask(data, mask)
        assert plain == bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        assert type(plain) is bytes


@pytest.mark.parametrize("size", [11, 1100])
def test_every_byte_of_a_mask_is_taken_off(size: int) -> None:
    data = bytes(i * 7 % 256 for i in range(size))
    for place, byte in itertools.product(range(4), range(256)):
        mask = bytes(byte if at == place else at for at in range(4))
        assert frames.unmask(data, mask) == apply_mask(data, mask)


# ------------------------------------------------------------------------------------------------ which one it is


@pytest.mark.parametrize("size", SIZES)
def test_wsproto_is_not_made_for_plain_frames(size: int) -> None:
    """Up to the limit, and however they are cut."""
    codec, stream = FrameCodec(size), frame(BINARY, bytes(size)) + frame(PING) + frame(TEXT, bytes(size)) + frame(PONG)
    reads = [stream, frame(BINARY, bytes(size)), *pieces(stream, range(0, len(stream), 1000)), *singly(stream[:200])]
    hear(codec, *reads, stream[200:], frame(CLOSE))
    for kind in KINDS:
        codec.encode(kind, b"")
    assert codec._wsproto is None


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, python, wsproto"):
        Options(codec="c")  # type: ignore[arg-type]


UNMASKING: dict[CodecName, object] = {
    "auto": apply_mask,
    "python": frames.unmask.__code__,
    "wsproto": XorMaskerSimple.process.__code__,
}


@pytest.mark.parametrize("name", UNMASKING)
def test_the_codec_of_a_connection_is_the_one_that_was_named(name: CodecName) -> None:
    """By what takes the mask off a message."""
    handshake = Handshake()
    request = handshake.feed(REQUEST)
    assert isinstance(request, Request)
    wire = Wire(handshake, request, Options(codec=name))
    wire.encode(fx.CompleteHandshake(None, ()))
    called = list[object]()

    def note(stack: types.FrameType, event: str, what: object) -> None:
        called.append(what if event == "c_call" else stack.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        heard = list(wire.feed(frame(TEXT, b"a")))
    finally:
        sys.setprofile(before)
    assert heard == ["a"]
    assert [one for one in UNMASKING.values() if one in called] == [UNMASKING[name]]


def test_masks_are_taken_off_in_c_where_websockets_is_installed() -> None:
    assert frames.fastest is apply_mask


WITHOUT_WEBSOCKETS = """
import asyncio, sys
sys.modules["websockets"] = None
from wslifecycle.runtime import frames, start_server
assert frames.fastest is frames.unmask

async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})

async def main():
    async with await start_server(echo, port=0, lifespan="off") as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes.fromhex(sys.argv[1]))
        await reader.readuntil(b"\\r\\n\\r\\n")
        print((await reader.readexactly(int(sys.argv[2]))).hex())
        writer.close()

asyncio.run(main())
"""


def test_without_websockets_python_takes_masks_off() -> None:
    texts, codec = ("hi", LETTERS * 100), FrameCodec()
    stream = REQUEST + b"".join(frame(TEXT, text.encode()) for text in texts)
    sent = b"".join(codec.encode("text", text) for text in texts)
    arguments = [sys.executable, "-c", WITHOUT_WEBSOCKETS, stream.hex(), str(len(sent))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == (sent.hex(), 0), done.stderr


# ------------------------------------------------------------------------------------------------ it can fail

BROKEN = frame(TEXT, b"a\xff" * 50, mask=b"\0\x80\0\0")
HALF = frame(TEXT, LETTERS.encode() * 10)
FAULTS: dict[str, tuple[str, str, int | None, list[bytes]]] = {
    "a message may be longer": ("length > self._max_size", "length > 6", 5, [frame(BINARY, bytes(6)) * 2]),
    "a short message may be longer": ("size - 6 <= self._max_size", "size <= 12", 5, [frame(BINARY, bytes(6))]),
    "the mask is not turned": ("mask[turned:] + mask[:turned]", "mask", None, [BROKEN[:7], BROKEN[7:9]]),
    "a text that is held is not looked at": ("if first != _TEXT or", "if True or", None, [BROKEN[:20]]),
    "one text is looked at as the last one was": (
        "self._looked, self._utf8 = 0, None",
        "pass",
        None,
        [HALF[:9], HALF[9:], BROKEN[:9]],
    ),
    "any width of a length": ("least <= length < 1 << 63", "length >= 0", None, [b"\x81\xfe\0\1" + bytes(5)]),
    "a length of 64 bits": ("least <= length < 1 << 63", "least <= length", None, [b"\x82\xff\x80" + bytes(7)]),
    "a Close is not the last": ("_quick = -1, _NONE", "_quick = 0, _NONE", None, [close_frame(1000) + frame(TEXT)]),
    "a Close is not the last at once": ("_quick = -1, _NONE", "_quick = 0, _WHOLE", None, [frame(CLOSE), frame(TEXT)]),
    "a Close may be of one byte": ("if len(payload) == 1:", "if False:", None, [frame(CLOSE, b"a")]),
    "a part of a message is forgotten": (
        "if first >= 0x80 else _WITHIN",
        "",
        None,
        [frame(TEXT, fin=False) + frame(BINARY)],
    ),
    "a part of a message ends it": (
        "first >= 0x80 else",
        "first != 1 else",
        None,
        [frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) + frame(BINARY)],
    ),
    "a message may be within another": (
        "first in self._plain",
        "first in _WHOLE",
        None,
        [frame(TEXT, fin=False) + frame(BINARY)],
    ),
    "too few bytes are passed on": (
        "= end - position",
        "= end - position - 1",
        None,
        [frame(BINARY, b"\x89", fin=False, mask=NUL_MASK) + frame(CONTINUATION)],
    ),
    "long Pings": ("first in _CONTROL and length > 125", "False", None, [frame(PING, bytes(126))]),
    "a fault is not the last": ("if isinstance(event, Close | Violation):", "if False:", None, [frame(0), frame(TEXT)]),
    "a Close within a message is not the last": (
        "if isinstance(event, Close | Violation):",
        "if isinstance(event, Violation):",
        None,
        [frame(TEXT, fin=False) + frame(CLOSE), frame(TEXT)],
    ),
    "what is held begins too early": (
        "else bytearray(data[position:])",
        "else bytearray(data)",
        None,
        [frame(BINARY, b"a") + frame(BINARY, b"b")[:4], frame(BINARY, b"b")[4:]],
    ),
    "the quick way is open while a frame is held": (
        "or self._held or self._passed",
        "or self._passed",
        None,
        [frame(BINARY, bytes(20))[:9], frame(TEXT)],
    ),
    "the quick way is open while others are passed on": (
        "or self._held or self._passed",
        "or self._held",
        None,
        [frame(BINARY, bytes(20), fin=False)[:9], frame(PING)],
    ),
    "the quick way is open to one that is behind": (
        "self._quick = _NONE\n        self._untaken +=",
        "self._untaken +=",
        None,
        [frame(TEXT) + frame(CLOSE), frame(TEXT)],
    ),
    "the quick way is open once one of two reads is taken": (
        "if self._untaken or",
        "if",
        None,
        [frame(TEXT) * 2, frame(TEXT) + frame(CLOSE), frame(TEXT)],
    ),
}


def heard(make: Callable[..., Codec], limit: int | None, reads: Sequence[bytes]) -> list[object]:
    """All at once, and one event too late."""
    found = list[object](moments(make(limit), reads))
    counts, left = [len(events) for events in moments(WsprotoCodec(limit), reads)], [1] * len(reads)
    return [found, behind(make(limit), reads, counts, left)]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_noticed(name: str) -> None:
    old, new, limit, reads = FAULTS[name]
    source = Path(frames.__file__).read_text()
    assert source.count(old) == 1
    faulty = types.ModuleType("faulty")
    exec(source.replace(old, new), faulty.__dict__)
    expected = heard(WsprotoCodec, limit, reads)
    assert heard(FrameCodec, limit, reads) == expected
    assert heard(faulty.FrameCodec, limit, reads) != expected
