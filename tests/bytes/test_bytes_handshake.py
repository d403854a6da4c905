"""Whatever bytes come in the place of a handshake request, they get one answer or none (W1).

Requests are spoilt line by line and byte by byte, cut anywhere, and followed by anything. h11 reads the answers as a
client; the websockets library is asked whether it would have accepted the same request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.bytes.pipe import Outcome, endless, fuzzed, play, sink
from tests.raw import KEY, REQUEST, asking
from tests.test_codec import FRAMES, MEGABYTE, pieces, using_less_than
from wslifecycle.runtime import handshake
from wslifecycle.runtime.handshake import HEAD_LIMIT, Handshake, Refusal

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # where a huge request fails

LINES = REQUEST.splitlines()[:-1]
HARMLESS = (
    b"X: a\xff",
    b"X: " + b"a" * 9000,
    b"Origin: http://h",
    b"Content-Length: 0",
    b"Content-Length: 0, 0",
    b"Expect: 100-continue",
    b"Upgrade: websocket, h2c",
    b"Connection: keep-alive, Upgrade",
    b"Connection: ,;",
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Protocol: ,,",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99, x; y=z",
    b'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="10"',
    b"Sec-WebSocket-Extensions: =;,",
)
"""Lines that may stand somewhere in a request that is accepted."""
HARMFUL = (
    b"",
    b" folded",
    b"\tfolded",
    b"X: \x01\x7f\xff",
    b"Sec-WebSocket-Protocol: a b;",
    b"nonsense",
    b": x",
    b"X : x",
    b"X: \x00",
    b"X: a\rX: b",
    b"X\xff: a",
    b"X: " + b"a" * HEAD_LIMIT,
    b"POST / HTTP/1.1",
    b"Host: h",
    b"Host: \xff",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Upgrade: h2c",
    b"Connection: close",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Key: AAAA",
    b"Sec-WebSocket-Key: " + KEY.encode(),
    b"Sec-WebSocket-Protocol: \xff",
)
FIRST = (
    b"GET http://h/a?b#c HTTP/1.1",
    b"GET /%0d%0aX:%20a?%0d%0a HTTP/1.1",
    b"GET /%ff%00?%ff HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET /",
    b"HEAD / HTTP/1.1",
    b"CONNECT h:80 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"\x16\x03\x01",
)
CUTS = st.lists(st.integers(0, 400) | st.integers(0, 2 * HEAD_LIMIT), max_size=12)
ENDS = st.sampled_from((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b", b"\r\n\r\n", b" \r\n"))
DEEDS = ("harmless",) * 7 + ("harmful", "first", "out", "twice", "case", "fold", "end")
BYTES = st.sampled_from((b"", b"\0", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"\x7f", b"\xff", b"%")) | (
    st.binary(max_size=2)
)
FIELDS = {b"content-type", b"content-length", b"connection", b"upgrade", b"sec-websocket-version"}
"""What an answer of ours other than the 101 may hold."""


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A handshake request to which some things were done; at best none."""
    lines = [line + b"\r\n" for line in LINES]
    for deed in draw(st.lists(st.sampled_from(DEEDS), max_size=3)):
        place = draw(st.integers(0, len(lines) - 1))
        line = lines[place]
        match deed:
            case "harmless":
                lines.insert(place + 1, draw(st.sampled_from(HARMLESS)) + b"\r\n")
            case "harmful":
                lines.insert(place + 1, draw(st.sampled_from(HARMFUL)) + b"\r\n")
            case "first":
                lines[0] = draw(st.sampled_from(FIRST)) + b"\r\n"
            case "out" if len(lines) > 1:
                del lines[place]
            case "twice":
                lines.insert(draw(st.integers(0, len(lines))), line)
            case "case":
                lines[place] = line.swapcase()
            case "fold":
                cut = draw(st.integers(0, len(line)))
                lines[place] = line[:cut] + b"\r\n " + line[cut:]
            case "end":
                lines[place] = line.removesuffix(b"\r\n") + draw(ENDS)
    return b"".join([*lines, b"\r\n"])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """The same, with some bytes changed, left out or put in."""
    request = bytearray(draw(requests()))
    for place, more, keep in draw(st.lists(st.tuples(st.integers(0, 400), BYTES, st.booleans()), max_size=3)):
        start = place % (len(request) + 1)
        request[start : start + (not keep)] = more
    return bytes(request)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A request and what comes behind it: nothing, frames, a body, another request."""
    behind = st.lists(FRAMES, max_size=3).map(b"".join) | st.sampled_from((b"hello", b"0\r\n\r\n", REQUEST))
    return draw(requests() | spoilt()) + draw(st.just(b"") | behind)


ANYTHING = st.binary(max_size=300) | st.lists(st.sampled_from((*LINES, *HARMLESS, *HARMFUL, *FIRST)), max_size=6).map(
    b"\r\n".join
)


def answer(outcome: Outcome, stream: bytes) -> tuple[int, dict[bytes, bytes], bytes] | None:
    """Status, fields and body of the only answer, as a client of h11 reads it; what follows a 101 are frames."""
    client = h11.Connection(h11.CLIENT)
    method = b"HEAD" if stream.startswith(b"HEAD ") and outcome.output.endswith(b"\r\n\r\n") else b"GET"
    upgrade = [("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    client.send(h11.Request(method=method, target="/", headers=upgrade))
    client.send(h11.EndOfMessage())
    if not outcome.output:
        return None
    client.receive_data(outcome.output)
    head = client.next_event()
    assert isinstance(head, h11.Response | h11.InformationalResponse), head
    fields = {bytes(name): bytes(value) for name, value in head.headers}
    twice = len(list(head.headers)) - len(fields)  # h11 has two of Connection in the answer to HTTP/1.0
    assert not twice or b"connection: close\r\nconnection: upgrade\r\n" in outcome.output.lower()
    body = b""
    if head.status_code != 101:
        while isinstance(event := client.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert client.trailing_data[0] == b""
        assert client.their_state is h11.MUST_CLOSE
    return head.status_code, fields, body


def judged(outcome: Outcome, stream: bytes) -> int | None:
    """The status of an answer that is as it has to be."""
    assert outcome.wrong == []
    told = answer(outcome, stream)
    if told is None:
        assert outcome.scope is None
        return None
    status, fields, body = told
    if status == 101:
        assert outcome.scope is not None
        return status
    assert outcome.scope is None
    assert 400 <= status < 600
    assert set(fields) <= FIELDS
    assert fields[b"content-length"].isdigit()
    if body or not stream.startswith(b"HEAD "):
        words = body.decode()
        assert words.endswith("\n")
        assert words[:-1].isprintable(), "what was in the request got out as it was"
        assert "Traceback" not in words
    return status


STRICTER = (
    (r"expected no more than 8192", rb"[^\n]{8192}"),  # its lines are shorter, its fields fewer
    (r"no more than 128 headers", rb"(.*\n){128}"),
    (r"unsupported request body", rb"(?i)content-length:\s*0[\s,]+0"),  # one value, said twice (RFC 9110, 8.6)
    (r"Upgrade header: (.*,|expected)", rb"(?i)upgrade:"),  # others may be offered as well (RFC 9110 section 7.8)
    (r"Connection header: expected", rb"(?i)connection:"),  # of these three only what has a meaning is looked at
    (r"Sec-WebSocket-Protocol header: expected", rb"(?i)sec-websocket-protocol:"),
    (r"Origin header: multiple", rb"(?is)origin:.*origin:"),
)
"""What the library minds and we do not, and what it is then in the request."""

LOOSER = (
    rb"(?is)\A(?!.*\nhost:)",  # a request of HTTP/1.1 has one host; the library leaves that to others
    rb"(?is)\nhost:.*\nhost:",
    rb"(?i)\nhost:.*[\x80-\xff]",
    rb"(?i)\nsec-websocket-protocol:.*[\x80-\xff]",
    rb"\A\S+ (?!/|(http|ws)s?://[^/?])",  # a target is a path or a URL (RFC 9112 section 3.2)
    rb"\A\S+ [^\n]*[\x00-\x1f\x7f][^\n]* HTTP",  # and has no control characters
)
"""What is in a request that we do not accept, and the library does."""


def agree(stream: bytes, whole: Outcome, cut: Outcome) -> None:
    """Holds what became of a stream that came in pieces against what became of it as a whole."""
    statuses = judged(whole, stream), judged(cut, stream)
    assert cut.scope == whole.scope
    assert cut.given == whole.given
    if len(stream) > HEAD_LIMIT and 431 in statuses:
        assert {*statuses} <= {400, 431}  # of a head that is too long as well as bad, either may be seen first
    elif 101 not in statuses:
        assert cut.output == whole.output
    else:
        assert statuses == (101, 101)


class Asked(ServerProtocol):
    """The websockets library as it reads a request: the status of its answer, and what it minds."""

    def __init__(self, stream: bytes) -> None:
        super().__init__()
        self.receive_data(stream)
        requests = self.events_received()
        self.status = 0  # of a request that is no HTTP, or not complete
        if requests and isinstance(requests[0], Request):
            answer = self.accept(requests[0])
            self.status, self.fields = answer.status_code, answer.headers
        self.minds = "; ".join(self._minded())

    def _minded(self) -> Iterator[str]:
        error: BaseException | None = self.handshake_exc
        while error is not None:
            yield str(error)
            error = error.__cause__


def stricter(minds: str, head: bytes) -> bool:
    """Whether the library minds what we do not."""
    return any(re.search(complaint, minds) and re.search(pattern, head) for complaint, pattern in STRICTER)


def looser(head: bytes) -> bool:
    """Whether we mind what the library does not."""
    return any(re.search(pattern, head) for pattern in LOOSER)


class TestAnyBytesForARequest:
    @fuzzed(250)
    @given(ANYTHING, CUTS, st.booleans())
    def test_that_are_no_request_get_one_answer_or_none(self, stream: bytes, cuts: list[int], patient: bool) -> None:
        whole = play([stream])
        assert judged(whole, stream) != 101
        agree(stream, whole, play(pieces(stream, cuts), patient=patient))

    @fuzzed(700)
    @given(streams(), CUTS, st.booleans())
    @example(asking(b"Sec-WebSocket-Protocol: a b"), [], True)
    def test_that_are_almost_one_get_one_answer_or_none_however_they_are_cut(
        self, stream: bytes, cuts: list[int], patient: bool
    ) -> None:
        agree(stream, play([stream]), play(pieces(stream, cuts), patient=patient))

    @fuzzed(700)
    @given(streams())
    def test_are_accepted_where_the_websockets_library_accepts_them(self, stream: bytes) -> None:
        told, asked = answer(play([stream]), stream), Asked(stream)
        head = stream.partition(b"\r\n\r\n")[0]
        match told, asked.status:
            case (101, fields, _), 101:
                assert fields[b"sec-websocket-accept"].decode() == asked.fields["Sec-WebSocket-Accept"]
            case (101, _, _), _:
                assert stricter(asked.minds, head)
            case _, 101:
                assert looser(head)

    @fuzzed(20)
    @given(streams(), st.binary(min_size=100, max_size=300))
    def test_that_never_end_are_not_kept(self, stream: bytes, more: bytes) -> None:
        first = stream.removesuffix(b"\r\n")
        play([first, more], app=sink)  # what is kept for ever, such as the source lines of a debug mode, is there now
        with using_less_than(2 * MEGABYTE, at_most=True):
            play(endless(first, more), app=sink, keep=False)


# ------------------------------------------------------------------------------------------------ plain heads


def heard(*parts: bytes) -> handshake.Request | Refusal | None:
    """What a handshake says to a stream; where its head comes in parts, that is what h11 says."""
    hands = Handshake()
    return next((told for part in filter(None, parts) if (told := hands.feed(part)) is not None), None)


def said_alike(stream: bytes) -> None:
    """Holds what a handshake says to a stream as a whole, whose head may be plain, against what h11 says."""
    whole, ours = heard(stream), heard(stream[:1], stream[1:])
    if not isinstance(whole, Refusal) or not isinstance(ours, Refusal):
        assert whole == ours
    elif len(stream) > HEAD_LIMIT:
        assert {whole.status, ours.status} <= {400, 431}  # as in `agree`
    else:
        assert (whole.status, whole.answer) == (ours.status, ours.answer)


class TestAPlainHead:
    @fuzzed(1500)
    @given(streams() | ANYTHING)
    def test_means_what_h11_says(self, stream: bytes) -> None:
        said_alike(stream)

    @pytest.mark.parametrize("line", [*HARMLESS, *HARMFUL])
    def test_means_what_h11_says_with_any_line_anywhere(self, line: bytes) -> None:
        for place in range(len(LINES) + 1):
            said_alike(b"\r\n".join([*LINES[:place], line, *LINES[place:], b"", b"behind"]))

    @pytest.mark.parametrize("first", FIRST)
    def test_means_what_h11_says_with_any_first_line(self, first: bytes) -> None:
        said_alike(b"\r\n".join([first, *LINES[1:], b"", b""]))

    @pytest.mark.parametrize("size", range(HEAD_LIMIT - 2, HEAD_LIMIT + 3))
    def test_has_the_same_bound(self, size: int) -> None:
        said_alike(asking(b"X: " + b"a" * (size - len(asking(b"X: ")))))

    def test_is_that_of_handshakes(self) -> None:
        assert handshake.plain(REQUEST.removesuffix(b"\r\n\r\n")) is not None
        for line in HARMLESS:
            is_plain = handshake.plain(asking(line).removesuffix(b"\r\n\r\n")) is not None
            assert is_plain != line.startswith(b"Content-Length")
