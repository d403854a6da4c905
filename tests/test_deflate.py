"""permessage-deflate: what is agreed to, and that a peer's messages and ours come out as they were.

The peer is the client of the websockets library. Each class names its section of RFC 7692.
"""

from __future__ import annotations

import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from wslifecycle.runtime.deflate import MEMORY_LEVEL, WINDOW_BITS, BadData, Deflate, TooLarge, negotiate

HELLO = bytes.fromhex("f248cdc9c90700")
NOISE = random.Random(7692).randbytes(20_000)
"""Bytes in which nothing repeats: sent twice, they are short the second time if the window reaches back."""


def agreed(*offers: str) -> tuple[str, Deflate]:
    """What an offer that has to be acceptable leads to."""
    result = negotiate(offers)
    assert result is not None, offers
    return result


def answer(*offers: str) -> str | None:
    """The extension response alone."""
    result = negotiate(offers)
    return result and result[0]


def opened(parameters: str = "") -> Deflate:
    return agreed("permessage-deflate" + parameters)[1]


def message(deflate: Deflate, payload: bytes, cuts: Sequence[int] = (), limit: int | None = None) -> bytes:
    """A whole message, its payload given in pieces; `limit` is for all that comes out."""
    places = sorted({0, len(payload), *(cut % (len(payload) + 1) for cut in cuts)})
    out = b""
    for start, end in pairwise(places):
        out += deflate.inflate(payload[start:end], None if limit is None else limit - len(out))
    return out + deflate.inflate_end(None if limit is None else limit - len(out))


def finished(data: bytes) -> bytes:
    """A DEFLATE stream that ends in a block with BFINAL."""
    return zlib.compress(data, wbits=-15)


class Peer:
    """The client of the websockets library, through a handshake with us."""

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | Literal[True] | None = None,
    ) -> None:
        factory = ClientPerMessageDeflateFactory(
            server_no_context_takeover, client_no_context_takeover, server_max_window_bits, client_max_window_bits
        )
        offer = build_extension([(factory.name, list(factory.get_request_params()))])
        self.answer, self.us = agreed(offer)
        ((_, parameters),) = parse_extension(self.answer)
        self.extension: PerMessageDeflate = factory.process_response_params(parameters, [])

    def sends(self, data: bytes) -> bytes:
        """The payload of a message from it."""
        return bytes(self.extension.encode(Frame(Opcode.BINARY, data)).data)

    def reads(self, payload: bytes) -> bytes:
        """What it makes of a payload from us."""
        return bytes(self.extension.decode(Frame(Opcode.BINARY, payload, rsv1=True)).data)


PEERS = st.builds(
    Peer,
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(9, 15),
    st.none() | st.just(True) | st.integers(9, 15),
)

NAMES = tuple(f"{side}_{what}" for side in ("server", "client") for what in ("no_context_takeover", "max_window_bits"))
WORDS = ("permessage-deflate", *NAMES, "8", "9", "15", "16", "x", ";", ";", "=", ",", '"', "\\", " ", "\t", "\xe9")


# ------------------------------------------------------------------------------------------------ negotiation


class TestTheOffer:
    """Section 5: one offer is accepted, or none."""

    def test_is_the_first_acceptable_one(self) -> None:
        fallback = "permessage-deflate; client_max_window_bits"
        assert answer(f"permessage-deflate; server_max_window_bits=10, {fallback}") == (
            "permessage-deflate; server_max_window_bits=10"
        )
        assert answer(f"permessage-deflate; server_max_window_bits=8, {fallback}") == f"{fallback}=12"

    def test_may_stand_in_a_later_field(self) -> None:
        assert answer("x-other, permessage-deflate; unknown", "permessage-deflate") == "permessage-deflate"

    def test_carries_out_the_parameters_of_its_own(self) -> None:
        _, deflate = agreed("permessage-deflate; server_no_context_takeover; unknown, permessage-deflate")
        assert deflate.deflate(b"Hello") != deflate.deflate(b"Hello")

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            [""],
            [" , ,"],
            ["x-webkit-deflate-frame"],
            ["permessage-bzip2"],
            ["x-other; permessage-deflate"],
            ["x-other=permessage-deflate"],
            ["Permessage-Deflate"],
        ],
    )
    def test_is_none_where_there_is_none(self, fields: list[str]) -> None:
        assert answer(*fields) is None


class TestTheParameters:
    """Section 7.1, and how RFC 6455 section 9.1 writes them."""

    def test_may_all_be_absent(self) -> None:
        assert answer("permessage-deflate") == "permessage-deflate"

    @pytest.mark.parametrize(
        ("offer", "response"),
        [
            ("server_no_context_takeover", "server_no_context_takeover"),
            ("client_no_context_takeover", "client_no_context_takeover"),
            ("client_max_window_bits", "client_max_window_bits=12"),
            *((f"client_max_window_bits={bits}", f"client_max_window_bits={min(bits, 12)}") for bits in range(8, 16)),
            *((f"server_max_window_bits={bits}", f"server_max_window_bits={min(bits, 12)}") for bits in range(9, 16)),
            (
                "client_max_window_bits; server_max_window_bits=10",
                "client_max_window_bits=12; server_max_window_bits=10",
            ),
        ],
    )
    def test_are_answered_when_they_are_offered_and_never_with_more(self, offer: str, response: str) -> None:
        assert answer(f"permessage-deflate; {offer}") == f"permessage-deflate; {response}"

    @pytest.mark.parametrize(
        "parameter",
        [
            "unknown",
            "unknown=1",
            "Server_no_context_takeover",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=8",  # which is valid, but zlib cannot do it
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=1_0",
            "server_max_window_bits=-10",
            "server_max_window_bits=x",
            "server_max_window_bits=999999999999999999999",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits=1.0",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
        ],
    )
    def test_that_are_bad_decline_the_offer(self, parameter: str) -> None:
        assert answer(f"permessage-deflate; {parameter}") is None
        fallback = "permessage-deflate; client_no_context_takeover"
        assert answer(f"permessage-deflate; {parameter}, {fallback}") == fallback

    @pytest.mark.parametrize(
        "field",
        [
            'permessage-deflate; server_max_window_bits="10"',
            r'permessage-deflate; server_max_window_bits="\1\0"',
            "permessage-deflate;server_max_window_bits=10",
            "\tpermessage-deflate \t;\tserver_max_window_bits = 10 ",
            ", x-other; a=b; c, , permessage-deflate; server_max_window_bits=10, ",
        ],
    )
    def test_may_be_written_in_several_ways(self, field: str) -> None:
        assert answer(field) == "permessage-deflate; server_max_window_bits=10"

    @pytest.mark.parametrize(
        "field",
        [
            "permessage-deflate;",
            "permessage-deflate;;",
            "permessage-deflate; =10",
            "permessage-deflate; client_max_window_bits=",
            'permessage-deflate; client_max_window_bits=""',
            'permessage-deflate; client_max_window_bits="10',
            'permessage-deflate; client_max_window_bits=1"0"',
            "permessage-deflate; client_max_window_bits=1 0",
            "permessage-deflate; client_max_window_bits=\u0661\u0660",
            "permessage-deflate; client_max_window_bits\x0b",
            "permessage-deflate; client_max_window_bits\n",
            "permessage-deflate=1",
            "permessage-deflate client_max_window_bits",
            'x-other; a=", permessage-deflate, "',
            'x-other; a="", permessage-deflate',
        ],
    )
    def test_of_a_malformed_field_offer_nothing(self, field: str) -> None:
        assert answer(field) is None

    @given(st.lists(st.text(max_size=40)))
    def test_may_be_garbage(self, fields: list[str]) -> None:
        negotiate(fields)

    @given(st.lists(st.sampled_from(WORDS)).map("".join))
    def test_may_be_nearly_right(self, field: str) -> None:
        negotiate([f"permessage-deflate; {field}"])

    @given(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.integers(7, 16).map(str)), max_size=4))
    def test_are_taken_and_declined_as_by_another_server(self, parameters: list[tuple[str, str | None]]) -> None:
        offer = build_extension([("permessage-deflate", parameters)])  # type: ignore[list-item]
        try:
            ServerPerMessageDeflateFactory().process_request_params(parameters, [])
        except NegotiationError:
            assert answer(offer) is None
        else:
            assert answer(offer) is not None

    def test_cost_no_more_than_their_length(self) -> None:
        """A request's head of 64 KiB, of what a parser could be slow with: 16 times the length is no 256 times."""

        def cost(size: int) -> float:
            begin = time.process_time()
            for field in (";a" * size, "a" * size + " " * size + "=", "," * 2 * size, r'; a="' + r"\a" * size):
                assert answer("permessage-deflate" + field) in (None, "permessage-deflate")
            return time.process_time() - begin

        few, many = (min(cost(size) for _ in range(3)) for size in (2_000, 32_000))
        assert many < 100 * few


# ------------------------------------------------------------------------------------------------ messages


class TestContextTakeover:
    """Section 7.1.1."""

    def test_is_ours_unless_the_client_forbids_it(self) -> None:
        deflate = opened()
        assert [deflate.deflate(b"Hello") for _ in range(2)] == [HELLO, bytes.fromhex("f200110000")]
        deflate = opened("; server_no_context_takeover")
        assert [deflate.deflate(b"Hello") for _ in range(2)] == [HELLO, HELLO]

    def test_is_the_clients(self) -> None:
        deflate = opened()
        assert message(deflate, HELLO) == b"Hello"
        assert message(deflate, bytes.fromhex("f200110000")) == b"Hello"

    def test_is_not_the_clients_if_it_said_so(self) -> None:
        deflate = opened("; client_no_context_takeover")
        assert [message(deflate, HELLO) for _ in range(2)] == [b"Hello", b"Hello"]
        with pytest.raises(BadData):
            message(deflate, bytes.fromhex("f200110000"))

    def test_goes_on_over_a_message_without_content(self) -> None:
        deflate = opened()
        payloads = [HELLO, b"\x00", bytes.fromhex("f200110000")]
        assert [message(deflate, payload) for payload in payloads] == [b"Hello", b"", b"Hello"]


class TestWindows:
    """Section 7.1.2."""

    @pytest.mark.parametrize("bits", range(9, 16))
    def test_ours_is_no_larger_than_the_client_can_read(self, bits: int) -> None:
        peer = Peer(server_max_window_bits=bits)
        for size in (300, 600, 1200, 2400, 4800, 9600, 19_200):
            assert [peer.reads(peer.us.deflate(NOISE[:size])) for _ in range(2)] == [NOISE[:size]] * 2

    def test_ours_is_as_large_as_was_agreed(self) -> None:
        def repeated(parameters: str, distance: int) -> int:
            deflate = opened(parameters)
            deflate.deflate(NOISE[:distance])
            return len(deflate.deflate(NOISE[:distance]))

        assert repeated("; server_max_window_bits=9", 240) < 100
        assert repeated("; server_max_window_bits=9", 600) > 600
        assert repeated("", 3800) < 200
        assert repeated("", 4200) > 4200

    @pytest.mark.parametrize("offered", [None, True, *range(9, 16)])
    def test_the_clients_may_be_used_to_its_end(self, offered: int | Literal[True] | None) -> None:
        peer = Peer(client_max_window_bits=offered)
        bits = 15 if offered is None else 12 if offered is True else min(offered, 12)
        distance = min((1 << bits) - 300, len(NOISE))
        first, second = (peer.sends(NOISE[:distance]) for _ in range(2))
        assert len(second) < 300  # it reaches back
        assert [message(peer.us, payload) for payload in (first, second)] == [NOISE[:distance]] * 2

    def test_of_8_bits_is_read(self) -> None:
        """zlib makes none, but the one it makes of 9 bits reaches back 250 bytes at most."""
        response, deflate = agreed("permessage-deflate; client_max_window_bits=8")
        assert response == "permessage-deflate; client_max_window_bits=8"
        compressor = zlib.compressobj(wbits=-9)
        for _ in range(20):
            payload = compressor.compress(NOISE[:240]) + compressor.flush(zlib.Z_SYNC_FLUSH)
            assert message(deflate, payload[:-4]) == NOISE[:240]

    @pytest.mark.parametrize(
        ("offer", "most"), [("", 35_000), ("; client_max_window_bits", 6000), ("; client_max_window_bits=9", 2000)]
    )
    def test_of_the_client_bounds_what_is_held_between_messages(self, offer: str, most: int) -> None:
        deflate = opened(offer)
        payload = b"".join(b"\x00\xe8\x03\x17\xfc" + NOISE[:1000] for _ in range(100)) + b"\x00"
        tracemalloc.start()
        try:
            assert message(deflate, payload) == NOISE[:1000] * 100
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < most

    def test_of_ours_bounds_what_is_held_between_messages(self) -> None:
        deflate = opened()
        tracemalloc.start()
        try:
            for _ in range(20):
                deflate.deflate(NOISE * 5)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 50_000
        assert (WINDOW_BITS, MEMORY_LEVEL) == (12, 5)


class TestCompression:
    """Section 7.2.1."""

    @pytest.mark.parametrize("parameters", ["", "; server_no_context_takeover"])
    def test_of_nothing_is_one_octet_however_often(self, parameters: str) -> None:
        deflate = opened(parameters)
        assert [deflate.deflate(data) for data in (b"", b"", b"Hello", b"", b"")] == [b"\0", b"\0", HELLO, b"\0", b"\0"]

    @settings(max_examples=100, deadline=None)
    @given(PEERS, st.lists(st.binary() | st.integers(0, len(NOISE)).map(lambda end: NOISE[:end]), max_size=6))
    def test_is_read_by_a_peer(self, peer: Peer, messages: list[bytes]) -> None:
        for data in messages:
            assert peer.reads(peer.us.deflate(data)) == data

    def test_is_read_by_a_peer_after_much_else(self) -> None:
        peer = Peer(client_max_window_bits=True)
        for size in (1, 100, 65_536, 0, 1_000_000, 5):
            data = (NOISE * 51)[:size]
            assert peer.reads(peer.us.deflate(data)) == data


class TestDecompression:
    """Section 7.2.2."""

    @settings(max_examples=200, deadline=None)
    @given(
        PEERS,
        st.lists(
            st.tuples(
                st.binary() | st.integers(0, len(NOISE)).map(lambda end: NOISE[:end]),
                st.lists(st.integers(0, 1 << 16), max_size=8),
            ),
            max_size=6,
        ),
    )
    def test_of_what_a_peer_sends_in_any_pieces(self, peer: Peer, messages: list[tuple[bytes, list[int]]]) -> None:
        for data, cuts in messages:
            assert message(peer.us, peer.sends(data), cuts, limit=len(data)) == data

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=3))
    def test_of_anything_ends_well_or_is_bad(self, payload: bytes, cuts: list[int]) -> None:
        deflate = opened("; client_max_window_bits")
        try:
            assert len(message(deflate, payload, cuts, limit=1000)) <= 1000
        except (BadData, TooLarge):
            with pytest.raises(BadData):
                message(deflate, HELLO)
        else:
            assert message(deflate, HELLO) == b"Hello"

    @pytest.mark.parametrize(
        "payload",
        [
            b"",  # the header bits of the block that is taken off are missing
            *(HELLO[:end] for end in range(1, len(HELLO) - 1)),
            b"\xff",  # a block type that does not exist
            b"\x00\x50\x00\xaf\xffless than its length",
            b"\x00\x05\x00\x00\x00Hello\x00",  # a length that its complement belies
            bytes.fromhex("f200110000"),  # a reference to what never came
            finished(b"Hello"),  # without the header bits after it
            finished(b"Hello") + b"garbage",
            HELLO + b"\x00\x00\xff\xff",  # nothing was taken off: LEN and NLEN of a block that has no header
        ],
    )
    @pytest.mark.parametrize("parameters", ["", "; client_no_context_takeover"])
    def test_of_bad_data_raises_and_nothing_gets_through_later(self, payload: bytes, parameters: str) -> None:
        deflate = opened(parameters)
        with pytest.raises(BadData):
            message(deflate, payload)
        for piece in (HELLO, b""):
            with pytest.raises(BadData):
                deflate.inflate(piece)
        with pytest.raises(BadData):
            deflate.inflate_end()
        assert deflate.deflate(b"Hello") == HELLO  # ours is not concerned


class TestExamples:
    """Section 7.2.3."""

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param("f2 48 cd c9 c9 07 00", id="7.2.3.1"),
            pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", id="7.2.3.3"),
            pytest.param("f3 48 cd c9 c9 07 00 00", id="7.2.3.4"),
            pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", id="7.2.3.5"),
        ],
    )
    def test_say_hello_wherever_they_are_cut(self, payload: str) -> None:
        deflate = opened()
        data = bytes.fromhex(payload)
        for cut in range(len(data)):
            assert message(deflate, data, [cut], limit=5) == b"Hello"
        assert message(deflate, data, range(len(data)), limit=5) == b"Hello"

    def test_7_2_3_2_shares_the_window(self) -> None:
        deflate = opened()
        assert [message(deflate, payload) for payload in (HELLO, bytes.fromhex("f200110000"))] == [b"Hello"] * 2

    def test_7_2_3_6_ends_a_message_with_an_empty_fragment(self) -> None:
        deflate = opened()
        started = deflate.inflate(HELLO[:-1] + b"\x00\x00\x00\xff\xff")
        assert started + deflate.inflate(b"\x00") + deflate.inflate_end() == b"Hello"
        assert message(deflate, b"\x00") == b""


class TestBlocksWithBfinal:
    """Sections 7.2.1 and 7.2.3.4: a block may have BFINAL set, and others may follow it."""

    def test_may_be_many_in_a_message(self) -> None:
        payload = finished(b"one ") + finished(b"") + finished(b"two ") + finished(b"three")
        assert message(opened(), payload + b"\x00") == b"one two three"
        assert message(opened(), payload + b"\x00", range(len(payload))) == b"one two three"

    def test_do_not_end_the_context(self) -> None:
        deflate = opened()
        assert message(deflate, finished(b"Hello") + b"\x00") == b"Hello"
        assert message(deflate, bytes.fromhex("f200110000")) == b"Hello"

    def test_count_together(self) -> None:
        payload = finished(bytes(600)) + finished(bytes(600)) + b"\x00"
        assert message(opened(), payload, limit=1200) == bytes(1200)
        with pytest.raises(TooLarge):
            message(opened(), payload, limit=1199)

    def test_cost_no_more_than_their_number(self) -> None:
        """zlib copies what follows each: half a million in one piece would take minutes."""
        begin = time.process_time()
        assert opened("; client_max_window_bits").inflate(finished(b"") * 200_000) == b""
        assert time.process_time() - begin < 3


# ------------------------------------------------------------------------------------------------ limits


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 MiB that a compressor made of 1 GiB; each KiB of it stands alone, so that it is made quickly."""
    compressor = zlib.compressobj(9, wbits=-15)
    once = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    assert len(once) < 1100
    assert zlib.decompressobj(-15).decompress(once * 2) == bytes(2 << 20)
    return once * 1024 + b"\x00"


@pytest.fixture
def peak() -> Iterator[list[int]]:
    """Filled with the most memory that was held at once, in bytes, since the start of the test."""
    tracemalloc.start()
    try:
        yield (found := [])
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert found[0] < 3 << 20, f"held {found[0]} bytes"


class TestTheLimit:
    LIMIT = 1 << 20

    @pytest.mark.usefixtures("peak")
    def test_refuses_a_bomb_in_one_piece(self, bomb: bytes) -> None:
        deflate = opened()
        with pytest.raises(TooLarge):
            deflate.inflate(bomb, self.LIMIT)
        with pytest.raises(BadData):
            deflate.inflate(HELLO)
        with pytest.raises(BadData):
            deflate.inflate_end()

    @pytest.mark.usefixtures("peak")
    @pytest.mark.parametrize("size", [1, 100, 5000])
    def test_refuses_a_bomb_in_pieces(self, bomb: bytes, size: int) -> None:
        deflate = opened()

        def read() -> None:
            came = 0
            for start in range(0, len(bomb), size):
                came += len(deflate.inflate(bomb[start : start + size], self.LIMIT - came))

        with pytest.raises(TooLarge):
            read()
        with pytest.raises(BadData):
            deflate.inflate(HELLO)

    @pytest.mark.usefixtures("peak")
    def test_refuses_a_bomb_of_blocks_with_bfinal(self) -> None:
        with pytest.raises(TooLarge):
            opened().inflate(finished(bytes(1 << 20)) * 100, self.LIMIT)

    @pytest.mark.parametrize("size", [1, 5, 4096, 100_000])
    @pytest.mark.parametrize("cuts", [[], [1], range(100)])
    def test_is_exact(self, size: int, cuts: Sequence[int]) -> None:
        payload = opened().deflate(bytes(size))
        assert message(opened(), payload, cuts, limit=size) == bytes(size)
        with pytest.raises(TooLarge):
            message(opened(), payload, cuts, limit=size - 1)

    def test_may_be_0(self) -> None:
        assert message(opened(), b"\x00", limit=0) == b""
        with pytest.raises(TooLarge):
            message(opened(), HELLO, limit=0)

    @pytest.mark.usefixtures("peak")
    @pytest.mark.parametrize("limit", [-1, -100])
    def test_below_0_is_no_licence(self, bomb: bytes, limit: int) -> None:
        with pytest.raises(TooLarge):
            opened().inflate(bomb, limit)

    def test_holds_at_the_end_of_a_message(self) -> None:
        """A block that is cut short is filled with what the end of the message stands for."""
        deflate = opened()
        assert deflate.inflate(b"\x00\x08\x00\xf7\xffgood", 4) == b"good"
        with pytest.raises(TooLarge):
            deflate.inflate_end(3)
        with pytest.raises(BadData):
            deflate.inflate(HELLO)

    def test_may_be_none(self) -> None:
        payload = opened().deflate(bytes(20 << 20))
        assert len(message(opened(), payload)) == 20 << 20
