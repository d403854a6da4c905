"""Whatever bytes come after the accept, ours stays a server that keeps RFC 6455, and tells its app what has happened.

Frames are made by a grammar that knows every rule and breaks it, spoilt byte by byte, cut anywhere. What our codecs
hear in them has to be the same at each moment, and what wsproto and the websockets library hear, each by itself: the
differences that are meant are named one by one. What a connection then does is held against what the codec hears.
"""

from __future__ import annotations

import codecs
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close as CloseFrame
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.frame_protocol import FrameProtocol, ParseFailed

from tests.bytes.pipe import MAX_SIZE, Outcome, endless, fuzzed, play, sink
from tests.raw import REQUEST, asking
from tests.test_codec import (
    BINARY,
    CLOSE,
    CONTINUATION,
    CUTS,
    FRAMES,
    HELLO,
    MEGABYTE,
    PING,
    PONG,
    RSV1,
    TEXT,
    agreed,
    compressed,
    conversations,
    hear,
    moments,
    one_of_each,
    opened,
    pieces,
    using_less_than,
)
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime.codec import Close, Codec, Event, Ping, Pong, Violation
from wslifecycle.runtime.options import CodecName

COMPRESSING = asking(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
FINAL = zlib.compressobj(wbits=-12)
FINISHED = FINAL.compress(b"Hello") + FINAL.flush()
"""A block that says it is the last one."""

PAYLOADS = (
    st.sampled_from(
        (
            b"",
            b"a",
            "gr\u00fc\u00df \U0001f600".encode(),
            b"\xc3",
            b"\xed\xa0\x80",
            b"a" * 125,
            b"a" * 126,
            b"\xff" * 600,
            bytes(MAX_SIZE),
            bytes(MAX_SIZE + 1),
            HELLO,
            HELLO[:-1],
            HELLO + HELLO,
            FINISHED,
            FINISHED + HELLO,
            compressed(b"a\xff"),
            compressed(bytes(MAX_SIZE)),
            compressed(bytes(MAX_SIZE + 1)),
            compressed(bytes(100_000)),
            b"\xff\xff",
        )
    )
    | st.binary(max_size=140)
    | st.text(max_size=20).map(str.encode)
    | st.binary(max_size=100).map(compressed)
)
MASKS = st.sampled_from((b"\1\2\3\4", bytes(4), b"\xff\x00\x80\x7f"))
CODES = st.sampled_from((0, 999, 1000, 1004, 1005, 1006, 1011, 1012, 1013, 1014, 1015, 1016, 2999, 3000, 4999, 5000))
CLOSES = st.builds(
    lambda code, reason: frame(CLOSE, struct.pack("!H", code) + reason),
    CODES | st.integers(0, 65535),
    st.sampled_from((b"", b"bye", b"\xff", b"a" * 123)),
)
TEXTS = st.text(max_size=20).map(str.encode) | st.sampled_from(
    (b"a" * 126, b"a" * MAX_SIZE, b"a" * (MAX_SIZE + 1), "\u00e9".encode() * 400)
)
GOOD = st.builds(frame, st.sampled_from((TEXT, BINARY, CONTINUATION, PING, PONG)), PAYLOADS, mask=MASKS)
PARTS = st.builds(frame, st.sampled_from((TEXT, BINARY, CONTINUATION)), PAYLOADS, fin=st.booleans(), mask=MASKS)
SQUEEZED = st.builds(frame, st.sampled_from((TEXT, BINARY)), PAYLOADS, fin=st.booleans(), rsv=st.just(RSV1), mask=MASKS)
ODD = st.builds(
    frame,
    st.integers(0, 15),
    PAYLOADS,
    fin=st.booleans(),
    rsv=st.integers(0, 7),
    mask=MASKS | st.none(),
)
LONG = st.builds(
    frame,
    st.sampled_from((TEXT, BINARY, CONTINUATION)),
    st.just(b"a" * 900) | st.binary(min_size=600, max_size=MAX_SIZE),
    fin=st.booleans(),
    rsv=st.sampled_from((0, 0, RSV1)),
)


NAMES: st.SearchStrategy[CodecName] = st.sampled_from(get_args(CodecName))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message, mostly a legal one: in parts, perhaps with a frame in the middle of it, or a reserved bit too many."""
    kind, payload, rsv = draw(st.sampled_from((TEXT, BINARY))), draw(TEXTS), draw(st.sampled_from((0, RSV1)))
    if rsv:
        payload = compressed(payload)
    if draw(st.booleans()):
        return frame(kind, payload, rsv=rsv, mask=draw(MASKS))
    cut = draw(st.integers(0, len(payload)))
    between = draw(st.sampled_from((b"", b"", frame(PING, b"between"), frame(PING, rsv=RSV1), frame(TEXT))))
    last = frame(CONTINUATION, payload[cut:], rsv=draw(st.sampled_from((0, 0, RSV1))))
    return frame(kind, payload[:cut], fin=False, rsv=rsv, mask=draw(MASKS)) + between + last


@st.composite
def misfits(draw: st.DrawFn) -> bytes:
    """A frame whose length is told in too many bytes, or is not that of its payload."""
    payload = draw(PAYLOADS)
    told = draw(st.sampled_from((len(payload), 0, 125, 126, 1000, 1001, 65535, 65536, 1 << 62, 1 << 63, (1 << 64) - 1)))
    form = draw(st.sampled_from([f for f in (126, 127) if told < 1 << (16 if f == 126 else 64)]))
    first = draw(st.sampled_from((0x81, 0x82, 0x01, 0x80, 0x89, 0x88, 0xC1, 0xC2, 0x83)))
    length = told.to_bytes(2 if form == 126 else 8, "big")
    mask = draw(st.sampled_from((0x80, 0x80, 0)))
    return bytes((first, mask | form)) + length + bytes(4 if mask else 0) + payload


@st.composite
def spoilt(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """A stream with bits turned over, bytes put in or left out, a part of it repeated, or its end cut off."""
    stream = bytearray(draw(streams))
    for place, deed, byte in draw(st.lists(st.tuples(st.integers(0, 2000), DEEDS, st.integers(1, 255)), max_size=3)):
        start = place % (len(stream) + 1)
        match deed:
            case "flip" if start < len(stream):
                stream[start] ^= byte
            case "in":
                stream.insert(start, byte)
            case "out":
                del stream[start : start + byte % 8]
            case "again":
                stream[start:start] = stream[start : start + byte]
            case "cut":
                del stream[start:]
    return bytes(stream)


DEEDS = st.sampled_from(("flip", "in", "out", "again", "cut"))
CONTROLS = st.builds(frame, st.sampled_from((PING, PONG)), st.binary(max_size=125), mask=MASKS)
ANY = GOOD | PARTS | SQUEEZED | CLOSES | FRAMES | ODD | misfits()
FRAMED = st.tuples(st.lists(messages() | CONTROLS, max_size=3), st.lists(ANY, max_size=3)).map(
    lambda both: b"".join(both[0] + both[1])
)
TALKS = conversations(deflate=True).map(lambda talk: talk[0]) | conversations(deflate=False).map(lambda talk: talk[0])
STREAMS = st.one_of(*[FRAMED] * 5, TALKS, spoilt(FRAMED), spoilt(TALKS), st.binary(max_size=300))


# ------------------------------------------------------------------------------------------------ a connection


def frames(data: bytes, extensions: Sequence[PerMessageDeflate]) -> list[Frame]:
    """The frames of ours that these bytes are, to the last of them."""
    reader = StreamReader()
    reader.feed_data(data)
    found = []
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
        with pytest.raises(StopIteration) as end:
            next(parser)
        found.append(end.value.value)
    return found


def is_within(some: Sequence[object], every: Sequence[object]) -> bool:
    """Whether these are some of those, in their order."""
    rest = iter(every)
    return all(one in rest for one in some)


def told_code(heard: Sequence[Event]) -> int:
    """The code that an app has to be told at the end."""
    match heard:
        case [*_, Violation(code)]:
            return code
        case [*_, Close(None)]:
            return 1005
        case [*_, Close(int() as code)]:
            return code if legal(code) else 1002
    return 1006


def legal(code: int) -> bool:
    try:
        CloseFrame(code, "").check()
    except ProtocolError:
        return False
    return True


def tied(code: int, heard: Sequence[Event], deflate: bool) -> bool:
    """Whether an app may be told this code instead of the one that the codec hears in the whole.

    If what comes out of a compressed text is no UTF-8, and later in the same frame it is too large or no DEFLATE data,
    then it depends on where the bytes are cut which fault is seen first.
    """
    return deflate and code == 1007 and isinstance(heard[-1], Violation) and heard[-1].code in (1002, 1009)


def judge(outcome: Outcome, heard: Sequence[Event], extensions: Sequence[PerMessageDeflate]) -> None:
    """Holds what a connection did against what the codec hears in the same bytes."""
    assert outcome.wrong == []
    head, _, sent = outcome.output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")

    messages = [event for event in heard if isinstance(event, str | bytes)]
    connect, *given, end = outcome.given
    assert connect == {"type": "websocket.connect"}
    assert [message["text"] if message["bytes"] is None else message["bytes"] for message in given] == messages
    assert end["type"] == "websocket.disconnect"
    assert end["code"] == told_code(heard) or tied(end["code"], heard, bool(extensions))

    ours = frames(sent, extensions)
    assert all(one.fin for one in ours)
    echoed = [bytes(one.data).decode() if one.opcode is Opcode.TEXT else one.data for one in ours if one.opcode < 8]
    assert echoed == messages[: len(echoed)]
    pings = [event.payload for event in heard if isinstance(event, Ping)]
    assert is_within([one.data for one in ours if one.opcode is Opcode.PONG], pings)
    closes = [one for one in ours if one.opcode is Opcode.CLOSE]
    if heard and isinstance(heard[-1], Close | Violation):
        assert [ours[-1]] == closes
        assert (closes[0].data[:2] or b"\x03\xed") == end["code"].to_bytes(2, "big")
    else:
        assert closes == []
        assert len(echoed) == len(messages)
        assert pings[-1:] == [one.data for one in ours if one.opcode is Opcode.PONG][-1:]


class TestAnyBytesAfterTheAccept:
    @fuzzed(300)
    @given(STREAMS, CUTS, st.booleans(), st.booleans(), NAMES)
    def test_bring_what_the_codec_hears_in_them_however_they_are_cut(
        self, stream: bytes, cuts: list[int], deflate: bool, patient: bool, codec: CodecName
    ) -> None:
        request = COMPRESSING if deflate else REQUEST
        heard = hear(opened(MAX_SIZE, deflate=deflate), stream)
        for chunks in (
            [request + stream],
            [request, stream],
            [request, *pieces(stream, cuts)],
            pieces(request + stream, cuts),
        ):
            judge(play(chunks, patient=patient, codec=codec), heard, [agreed()[1]] if deflate else [])

    @fuzzed(10)
    @given(STREAMS, LONG, st.booleans(), NAMES)
    def test_that_never_end_are_not_kept(self, stream: bytes, more: bytes, deflate: bool, codec: CodecName) -> None:
        first = (COMPRESSING if deflate else REQUEST) + stream
        # what is kept for ever, such as the source lines of a debug mode, is there from now on
        play([first, more], app=sink, codec=codec)
        with using_less_than(2 * MEGABYTE, at_most=True):
            play(endless(first, more), app=sink, keep=False, codec=codec)


# ------------------------------------------------------------------------------------------------ two other readers


@dataclass
class Heard:
    """What a reader hears: messages, Pings and Pongs, and the end: the code of a Close or that of a fault."""

    events: list[tuple[str, str | bytes]] = field(default_factory=list)
    end: tuple[str, int | None, str] | None = None


def ours(codec: Codec, stream: bytes, legal: Callable[[int], bool]) -> Heard:
    """What a codec of ours hears. Which codes are legal in a Close is the machine's (C20)."""
    heard = Heard()
    for event in hear(codec, stream):
        match event:
            case str() | bytes() as data:
                heard.events.append(("text" if isinstance(data, str) else "binary", data))
            case Ping(payload):
                heard.events.append(("ping", bytes(payload)))
            case Pong(payload):
                heard.events.append(("pong", bytes(payload)))
            case Close(code, reason):
                heard.end = ("close", code, reason) if code is None or legal(code) else ("fault", 1002, "")
            case Violation(code):
                heard.end = ("fault", code, "")
    return heard


def by_wsproto(stream: bytes, deflate: bool) -> Heard:
    """What wsproto hears, which knows no limit."""
    extension = WsprotoDeflate()
    assert extension.accept("permessage-deflate; client_max_window_bits=12")
    protocol = FrameProtocol(client=False, extensions=[extension] if deflate else [])
    protocol.receive_bytes(stream)
    heard, message = Heard(), list[Any]()
    try:
        for one in protocol.received_frames():
            payload: Any = one.payload
            match one.opcode:
                case Opcode.PING | Opcode.PONG:
                    heard.events.append((one.opcode.name.lower(), bytes(payload)))
                case Opcode.CLOSE:
                    code, reason = payload
                    heard.end = ("close", None if code == 1005 else int(code), reason)
                case _:
                    message.append(payload)
                    if one.message_finished:
                        kind = "text" if isinstance(payload, str) else "binary"
                        heard.events.append((kind, type(payload)().join(message)))
                        message.clear()
    except ParseFailed as fault:
        bad_data = str(fault) == "error in extension"  # which it says with 1007, even of binary messages
        heard.end = ("fault", 1002 if bad_data else int(fault.code), "")
    return heard


def by_websockets(stream: bytes, deflate: bool) -> Heard:
    """What the websockets library hears; what is over it sees to UTF-8."""
    protocol = ServerProtocol(state=State.OPEN, max_size=MAX_SIZE)
    protocol.extensions = [PerMessageDeflate(False, False, 12, 12)] if deflate else []
    protocol.receive_data(stream)
    heard, decoder = Heard(), codecs.getincrementaldecoder("utf-8")()
    opcode, message = Opcode.CONT, list[Any]()
    for one in protocol.events_received():
        assert isinstance(one, Frame)
        match one.opcode:
            case Opcode.PING | Opcode.PONG:
                heard.events.append((one.opcode.name.lower(), bytes(one.data)))
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                opcode = one.opcode or opcode
                try:
                    message.append(decoder.decode(one.data, one.fin) if opcode is Opcode.TEXT else bytes(one.data))
                except UnicodeDecodeError:
                    heard.end = ("fault", 1007, "")
                    return heard
                if one.fin:
                    heard.events.append((opcode.name.lower(), type(message[0])().join(message)))
                    message.clear()
    if protocol.close_rcvd is not None:  # also in the middle of a message, where the library minds it
        code = protocol.close_rcvd.code
        heard.end = ("close", None if code == 1005 else code, protocol.close_rcvd.reason)
    elif protocol.close_sent is not None:
        heard.end = ("fault", protocol.close_sent.code, "")
    return heard


@dataclass
class Step:
    """A frame of a stream, as an eye sees it that minds nothing."""

    start: int
    oddities: set[str]
    """What the readers may see differently: see `OTHERS`."""


OTHERS = {
    "wsproto": {
        "final block",  # behind one it reads nothing more; a message may go on (RFC 7692 section 7.2.3.4)
        "within a block",  # it takes a message that does not end where a block does
        "two faults",  # of a Close whose code it minds (1014 too) it does not read the reason
        "between",  # a control frame between compressed fragments has it forget that they are
    },
    "websockets": {
        "final block",
        "within a block",
        "wide",  # it takes lengths in more bytes than they need, and of more than 63 bits
        "late",  # it may notice only at the next frame that a part of a message inflates to too much
        "large",  # its limit counts control frames and compressed bytes as well, and comes after some faults
    },
}


def walk(stream: bytes, deflate: bool) -> Iterator[Step]:
    """The frames of a stream, the last one perhaps not whole."""
    at, size, goes_on, squeezed, inflater = 0, 0, False, False, zlib.decompressobj(wbits=-12)
    while len(stream) >= at + 2:
        step = Step(at, set())
        first, second = stream[at : at + 2]
        opcode, length = first & 15, second & 127
        width = {126: 2, 127: 8}.get(length, 0)
        if width:
            length = int.from_bytes(stream[at + 2 : at + 2 + width], "big")
            if length < (126 if width == 2 else 65536) or length >> 63:
                step.oddities.add("wide")
        begin = at + 2 + width + 4 * (second >> 7)
        mask = stream[begin - 4 : begin].ljust(4, b"\0") if second >> 7 else bytes(4)
        end = begin + length
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream[begin:end]))
        if opcode in (TEXT, BINARY):
            squeezed = deflate and bool(first & RSV1 << 4)
        misplaced = opcode > BINARY or not second >> 7 or first & RSV1 << 4 or (opcode == CONTINUATION) is not goes_on
        if length > MAX_SIZE - size and (misplaced or squeezed):
            step.oddities.add("large")
        if opcode == CLOSE and not (_legal_to_wsproto(payload) or _is_utf8(payload[2:])):
            step.oddities.add("two faults")
        if opcode >= CLOSE:
            step.oddities |= {"between"} if squeezed else set()
        else:
            if squeezed:
                length, odd = _inflated(inflater, payload, bool(first & 0x80))
                step.oddities |= odd | ({"late"} if size + length > MAX_SIZE and not first & 0x80 else set())
            goes_on = not first & 0x80
            size = size + length if goes_on else 0
            squeezed = squeezed and goes_on
        yield step
        at = end


def _legal_to_wsproto(payload: bytes) -> bool:
    code = int.from_bytes(payload[:2], "big")
    return legal(code) and code != 1014


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _inflated(inflater: zlib._Decompress, payload: bytes, fin: bool) -> tuple[int, set[str]]:
    """The size of a piece of a compressed message, and what is odd about it."""
    try:
        size = len(inflater.decompress(payload + b"\0\0\xff\xff" * fin))
    except zlib.error:
        return 0, set()
    if inflater.eof:
        return size, {"final block"}
    try:
        ends = inflater.copy()
        ends.decompress(b"\1\0\0\xff\xff")
    except zlib.error:
        return size, {"within a block"}
    return size, set() if ends.eof or not fin else {"within a block"}


def agreeable(stream: bytes, deflate: bool, other: str) -> bytes:
    """A stream up to the frame that another reader may see differently."""
    for step in walk(stream, deflate):
        if step.oddities & OTHERS[other]:
            return stream[: step.start]
    return stream


class TestAnyBytesMeanToUs:
    @fuzzed(1200)
    @given(STREAMS, st.booleans())
    def test_what_they_mean_to_wsproto(self, stream: bytes, deflate: bool) -> None:
        stream = agreeable(stream, deflate, "wsproto")
        theirs = by_wsproto(stream, deflate)
        for codec in one_of_each(None, deflate=deflate):
            assert ours(codec, stream, lambda code: legal(code) and code != 1014) == theirs

    @fuzzed(1200)
    @given(STREAMS, st.booleans())
    def test_what_they_mean_to_the_websockets_library(self, stream: bytes, deflate: bool) -> None:
        stream = agreeable(stream, deflate, "websockets")
        theirs = by_websockets(stream, deflate)
        heard = [ours(codec, stream, legal) for codec in one_of_each(MAX_SIZE, deflate=deflate)]
        if any((theirs.end is None) is not (one.end is None) for one in heard):
            # one of them may judge a frame before it is whole
            stream = agreeable(stream + bytes(MAX_SIZE), deflate, "websockets")
            theirs = by_websockets(stream, deflate)
            heard = [ours(codec, stream, legal) for codec in one_of_each(MAX_SIZE, deflate=deflate)]
        assert heard == [theirs] * len(heard)


# ------------------------------------------------------------------------------------------------ one codec and another


@st.composite
def arrivals(draw: st.DrawFn, some: st.SearchStrategy[bytes]) -> list[bytes]:
    """Frames as they are read: several at once, each by itself, or cut anywhere."""
    reads = [b""]
    for one in draw(st.lists(some, min_size=1, max_size=10)):
        cut = draw(st.sampled_from((0, 0, len(one), len(one), len(one))) | st.integers(0, len(one)))
        reads[-1] += one[:cut]
        if cut < len(one):
            reads.append(one[cut:])
    return reads


SMALL = (
    st.builds(frame, st.sampled_from((TEXT, BINARY)), st.text(max_size=5).map(str.encode), mask=MASKS)
    | st.builds(frame, st.sampled_from((TEXT, BINARY)), st.sampled_from((b"", b"a")), fin=st.booleans())
    | st.builds(frame, st.just(CONTINUATION), st.sampled_from((b"", b"a")), fin=st.booleans())
    | CONTROLS
)
CUT = st.builds(pieces, STREAMS, CUTS)
READS = arrivals(SMALL) | arrivals(SMALL | CLOSES) | arrivals(messages() | ANY) | CUT
LIMITS = st.sampled_from((None, 0, 1, 5, 125, 126, MAX_SIZE, 65535, 65536))


def behind(
    codec: Codec, reads: Sequence[bytes], counts: Sequence[int], left: Sequence[int | None]
) -> list[list[Event]]:
    """What is heard with each read, and at the end, by one that leaves so many events for later; None: takes all.

    As a session that waits for its app: it feeds later bytes before it has taken what earlier ones mean, and with 0
    left it does not know yet that there are none. `counts` says how many events each read brings.
    """
    heard, events, there = [], iter(list[Event]()), 0
    for data, count, leave in zip(reads, counts, left, strict=True):
        fed = (event for event in codec.feed(data) if event is not None)
        events, there = itertools.chain(events, fed), there + count
        heard.append(list(events if leave is None else itertools.islice(events, max(0, there - leave))))
        there = min(there, leave or 0)
    return [*heard, list(events)]


class TestAnyBytesMeanToEachCodec:
    @fuzzed(400)
    @given(READS, LIMITS, st.booleans())
    def test_the_same_at_each_moment(self, reads: list[bytes], limit: int | None, deflate: bool) -> None:
        wsproto, *others = [moments(codec, reads) for codec in one_of_each(limit, deflate=deflate)]
        assert others == [wsproto] * len(others)

    @fuzzed(400)
    @given(st.data(), READS, LIMITS, st.booleans())
    def test_the_same_to_one_that_is_behind(
        self, data: st.DataObject, reads: list[bytes], limit: int | None, deflate: bool
    ) -> None:
        left = data.draw(st.lists(st.none() | st.integers(0, 3), min_size=len(reads), max_size=len(reads)))
        counts = [len(events) for events in moments(one_of_each(limit, deflate=deflate)[0], reads)]
        wsproto, *others = [behind(codec, reads, counts, left) for codec in one_of_each(limit, deflate=deflate)]
        assert others == [wsproto] * len(others)
