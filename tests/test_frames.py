"""The short way of the codec is held against wsproto: the same bytes, in any pieces, mean the same at each moment."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import types
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask

from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import Options, frames
from wslifecycle.runtime.codec import Codec, Event, Kind, WsprotoCodec, close_payload
from wslifecycle.runtime.deflate import Deflate
from wslifecycle.runtime.frames import FrameCodec

Make = Callable[..., Codec]
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)
TEXT = "grüß \U0001f600".encode()


def compressed(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-12)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


# ------------------------------------------------------------------------------------------------ any bytes

SHORT = (
    st.sampled_from((b"", b"a", TEXT, TEXT * 6, b"\xc3", b"\xed\xa0\x80", b"a" * 60 + b"\xff" + b"a" * 60, b"a" * 125))
    | st.binary(max_size=20)
    | st.text(max_size=20).map(str.encode)
)
LONG = st.sampled_from((b"a" * 126, TEXT * 60, b"\xff" * 600, bytes(1000), bytes(1001), b"x" * 65535, b"x" * 65536))
PAYLOADS = st.one_of(SHORT, SHORT, LONG)
MASKS = st.sampled_from((b"\1\2\3\4", bytes(4), b"\xff\x00\x80\x7f"))
CLOSES = st.sampled_from((b"", b"\x03", b"\x03\xe8", b"\x03\xe7", b"\x03\xe8bye", b"\x03\xe8\xff"))


@st.composite
def messages(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> bytes:
    """A message in two parts, perhaps with another frame between them, or one that is compressed."""
    kind, payload = draw(st.sampled_from((1, 2))), draw(payloads)
    if draw(st.booleans()):
        return frame(kind, compressed(payload), rsv=4, mask=draw(MASKS))
    cut = draw(st.integers(0, len(payload)))
    between = draw(st.sampled_from((b"", frame(9, b"between"), frame(10), frame(8, b"\x03\xe8"), frame(1, b"no"))))
    return frame(kind, payload[:cut], fin=False) + between + frame(0, payload[cut:])


@st.composite
def misfits(draw: st.DrawFn) -> bytes:
    """A frame whose length is told in too many bytes, or is not that of its payload."""
    told = draw(st.sampled_from((0, 5, 125, 126, 1000, 1001, 65535, 65536, 1 << 62, 1 << 63)))
    form = 127 if told > 65535 else draw(st.sampled_from((126, 127)))
    first = draw(st.sampled_from((0x81, 0x82, 0x01, 0x80, 0x89, 0xC1)))
    return bytes((first, 0x80 | form)) + told.to_bytes(2 if form == 126 else 8, "big") + draw(SHORT)


def streams(payloads: st.SearchStrategy[bytes], most: int) -> st.SearchStrategy[bytes]:
    """Frames of which most are sound, and what is none."""
    pieces = st.one_of(
        st.builds(frame, st.sampled_from((1, 2)), payloads, mask=MASKS),
        st.builds(frame, st.sampled_from((9, 10)), SHORT, mask=MASKS),
        st.builds(frame, st.just(8), CLOSES),
        messages(payloads),
        misfits(),
        st.builds(frame, st.integers(0, 15), SHORT, fin=st.booleans(), rsv=st.integers(0, 7), mask=MASKS | st.none()),
        st.binary(max_size=20),
    )
    return st.lists(pieces, min_size=1, max_size=most).map(b"".join)


STREAMS = streams(PAYLOADS, 5)
LIMITS = st.sampled_from((None, 0, 5, 125, 126, 1000, 65536))
UNMASK = st.sampled_from((frames.unmask, frames.fastest))


def moments(codec: Codec, pieces: Sequence[bytes]) -> list[list[Event]]:
    """What is heard with each piece."""
    return [list(codec.feed(piece)) for piece in pieces]


def pair(make: Make, limit: int | None, deflate: bool) -> tuple[Codec, Codec]:
    """wsproto's codec and another one, of the same settings."""
    return WsprotoCodec(limit, Deflate({}) if deflate else None), make(limit, Deflate({}) if deflate else None)


def differ(make: Make, limit: int | None, deflate: bool, pieces: Sequence[bytes]) -> bool:
    wsproto, other = pair(make, limit, deflate)
    return repr(moments(wsproto, pieces)) != repr(moments(other, pieces))


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [stream[a:b] for a, b in itertools.pairwise((0, *sorted(cuts), len(stream)))]


@given(st.data(), STREAMS, LIMITS, st.booleans(), UNMASK)
def test_any_bytes_mean_the_same_at_each_moment(
    data: st.DataObject, stream: bytes, limit: int | None, deflate: bool, unmask: frames.Unmask
) -> None:
    pieces = cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    wsproto, ours = pair(lambda limit, deflate: FrameCodec(limit, deflate, unmask), limit, deflate)
    assert moments(ours, pieces) == moments(wsproto, pieces)


@given(streams(SHORT, 2), st.sampled_from((None, 5)), st.booleans())
def test_however_a_short_stream_is_cut_it_means_the_same(stream: bytes, limit: int | None, deflate: bool) -> None:
    for cuts in [[at] for at in range(len(stream))] + [list(range(1, len(stream)))]:
        wsproto, ours = pair(FrameCodec, limit, deflate)
        assert moments(ours, cut(stream, cuts)) == moments(wsproto, cut(stream, cuts)), cuts


@given(st.data(), STREAMS, st.booleans())
def test_later_bytes_may_be_fed_before_what_came_earlier_is_heard(
    data: st.DataObject, stream: bytes, deflate: bool
) -> None:
    """As a session does that has paused reading."""
    pieces = cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    wsproto, ours = pair(FrameCodec, 1000, deflate)
    heard = list(itertools.chain(*[ours.feed(piece) for piece in pieces]))
    assert heard == [event for events in moments(wsproto, pieces) for event in events]


# ------------------------------------------------------------------------------------------------ the other way, masks


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["text", "binary", "ping", "pong", "close"])
def test_frames_are_written_alike(kind: Kind, size: int, deflate: bool) -> None:
    wsproto, ours = pair(FrameCodec, None, deflate)
    payload: str | bytes = bytes(size)
    if kind == "text":
        payload = "é" * size
    elif kind == "close":
        payload = close_payload(1000 if size else None, "r" * min(size, 123))
    elif kind != "binary":
        payload = bytes(min(size, 125))
    assert ours.encode(kind, payload) == wsproto.encode(kind, payload)


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_a_mask_is_taken_off_in_python_as_it_is_in_c(of: Callable[[bytes], frames.Bytes]) -> None:
    for size in (*range(1100), 70000):
        data, mask = bytes(i * 7 % 256 for i in range(size)), struct.pack("!I", size * 2654435761 % 2**32)
        assert frames.unmask(of(data), mask) == apply_mask(data, mask)


# ------------------------------------------------------------------------------------------------ which one it is


def test_wsproto_is_not_made_for_plain_frames() -> None:
    codec = FrameCodec()
    assert list(codec.feed(frame(1, b"a") + frame(9) + frame(2, bytes(70000)) + frame(8))) != []
    assert codec._wsproto is None


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, python, wsproto"):
        Options(codec="c")  # type: ignore[arg-type]


def test_without_websockets_python_takes_masks_off() -> None:
    code = "import sys; sys.modules['websockets.speedups'] = None\n"
    code += "from wslifecycle.runtime import frames\nassert frames.fastest is frames.unmask\n"
    code += "print(*frames.FrameCodec().feed(bytes((0x81, 0x82, 1, 2, 3, 4, 105, 107))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("hi\n", 0), done.stderr


# ------------------------------------------------------------------------------------------------ it can fail

ENDS = frame(8, b"\x03\xe8")
MASKED = frame(1, b"a\xff" * 50, mask=b"\0\x80\0\0")
FAULTS: dict[str, tuple[str, str, int | None, list[bytes]]] = {
    "a message may be longer": ("length > self._max_size", "length > self._max_size + 1", 5, [frame(2, b"a" * 6) * 2]),
    "the mask is not turned": ("mask[turned:] + mask[:turned]", "mask", None, [MASKED[:7], MASKED[7:9]]),
    "a text that is held is not looked at": (
        "if first != _TEXT or",
        "if True or",
        None,
        [frame(1, b"\xff" * 200)[:100]],
    ),
    "any width of a length": ("if not least <= length < 1 << 63:", "if False:", None, [b"\x81\xfe\0\1" + bytes(5)]),
    "a Close is not the last": ("self._passed, self._quick = -1, _NONE", "", None, [ENDS + frame(1)]),
    "a Close is not the last at once": ("self._passed, self._quick = -1, _NONE", "", None, [ENDS, frame(1)]),
    "a part of a message is forgotten": ("if first >= 0x80 else _WITHIN", "", None, [frame(1, fin=False) + frame(2)]),
    "long Pings": ("first in _CONTROL and length > 125", "False", None, [frame(9, b"a" * 126)]),
    "a fault is not the last": ("if isinstance(event, Close | Violation):", "if False:", None, [frame(0), frame(1)]),
    "what is held begins too early": (
        "else bytearray(data[position:])",
        "else bytearray(data)",
        None,
        [frame(2, b"a") + frame(2, b"b")[:4], frame(2, b"b")[4:]],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_noticed(name: str) -> None:
    old, new, limit, pieces = FAULTS[name]
    source = Path(frames.__file__).read_text()
    assert source.count(old) == 1
    faulty = types.ModuleType("faulty")
    exec(source.replace(old, new or "pass" if old.startswith("self._passed, ") else new), faulty.__dict__)
    assert not differ(FrameCodec, limit, False, pieces)
    assert differ(faulty.FrameCodec, limit, False, pieces)
