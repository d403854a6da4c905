"""Bad frames of a peer, over each way in (W3 - W6, W9 - W12, C34, C47).

Each kind is sent in one piece and cut into single bytes, behind a good message and in front of another one. The peer
has to see a Close with the code that the number names and nothing else; the app gets the first message, then the
disconnect with the same code, and nothing of what follows. Then the connection ends with the peer's end, or at the
deadline. What is unusual and right is here too, for a check that is too strict.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.hands import Hand, Scene, scene, until
from tests.raw import ACCEPT, CLOSE, close_frame, text
from tests.ways import WAYS, run
from wslifecycle.conformance.peer import FRAMES, MAX_SIZE, frame
from wslifecycle.conformance.scenarios import VIOLATIONS

ways = pytest.mark.parametrize("way", WAYS)
WINDOW = -15


def deflated(data: bytes) -> bytes:
    """A message's payload as RFC 7692 section 7.2.1 makes it."""
    compressor = zlib.compressobj(wbits=WINDOW)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def announced(opcode: int, short: int, length: bytes) -> bytes:
    """A frame whose length is written in this way, and of whose payload there is only the beginning."""
    return bytes((0x80 | opcode, 0x80 | short)) + length + b"1234" + b"xxxx"


def in_two(payload: bytes, cut: int) -> bytes:
    """A text message in two fragments."""
    return frame(1, payload[:cut], fin=False) + frame(0, payload[cut:])


BAD_TEXT = {
    "a stray byte": b"\xff",
    "a continuation byte alone": b"a\x80",
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xe0\x80\x80",
    "a surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "a character that is not complete": b"ab\xe2\x82",
    "CESU-8": b"\xed\xa0\xbd\xed\xb8\x80",
}
EURO = "a\u20acb".encode()
BIG = bytes(MAX_SIZE + 1)
BAD_CODES = (0, 1, 16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535)
GOOD_CODES = (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)

PLAIN: dict[str, tuple[bytes, int]] = {
    **{kind: (FRAMES[kind](), code) for kind, code in VIOLATIONS.items()},
    # W3
    "an unmasked Close": (b"\x88\x00", 1002),
    "an unmasked continuation": (frame(1, b"a", fin=False) + b"\x80\x01b", 1002),
    # W4
    **{f"opcode {opcode}": (frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"reserved bits {rsv}": (frame(2, b"x", rsv=rsv), 1002) for rsv in range(1, 8)},
    **{f"reserved bits {rsv} on a Ping": (frame(9, b"x", rsv=rsv), 1002) for rsv in (1, 2, 4)},
    "a reserved bit on a Close": (frame(8, b"\x03\xe8", rsv=4), 1002),
    # W5
    "a stray last fragment": (frame(0, b"x"), 1002),
    "a stray fragment": (frame(0, b"x", fin=False), 1002),
    "a message in the middle of one": (frame(2, b"a", fin=False) + frame(2, b"b"), 1002),
    # W6
    **{f"a long control frame {opcode}": (frame(opcode, b"\x03\xe8" + b"x" * 124), 1002) for opcode in (8, 9, 10)},
    **{f"a fragmented control frame {opcode}": (frame(opcode, b"\x03\xe8", fin=False), 1002) for opcode in (8, 9, 10)},
    "a long control frame of 64 bits": (announced(9, 127, struct.pack("!Q", 70_000)), 1002),
    # the length, RFC 6455 section 5.2
    "a length of 2^63": (announced(2, 127, struct.pack("!Q", 1 << 63)), 1002),
    "a length of 2^64 - 1": (announced(1, 127, b"\xff" * 8), 1002),
    "a length of 2^63 - 1": (announced(2, 127, struct.pack("!Q", (1 << 63) - 1)), 1009),
    "a length that is longer than needed": (announced(2, 126, struct.pack("!H", 4)), 1002),
    "a length that is much longer than needed": (announced(2, 127, struct.pack("!Q", 65535)), 1002),
    # W10
    **{f"code {code}": (close_frame(code), 1002) for code in BAD_CODES},
    "a bad code with a reason": (close_frame(1005, "why not"), 1002),
    # W11
    **{f"text with {name}": (frame(1, data), 1007) for name, data in BAD_TEXT.items()},
    **{f"fragments with {name}": (in_two(b"ok" + data, 3), 1007) for name, data in BAD_TEXT.items()},
    **{f"a reason with {name}": (frame(8, b"\x03\xe8" + data), 1007) for name, data in BAD_TEXT.items()},
    "text that is complete and then goes wrong": (frame(1, EURO, fin=False) + frame(0, b"\xff"), 1007),
    "a text that breaks off in its last fragment": (frame(1, EURO[:2], fin=False) + frame(0, b""), 1007),
    # C34
    "a large text": (frame(1, b"x" * (MAX_SIZE + 1), mask=bytes(4)), 1009),
    "large in two fragments": (frame(2, BIG[:-1], fin=False, mask=bytes(4)) + frame(0, b"x"), 1009),
    "large in many fragments": (frame(2, BIG[:4000], fin=False) + frame(0, BIG[:4000], fin=False) * 17, 1009),
    "large as announced": (announced(2, 127, struct.pack("!Q", MAX_SIZE + 1)), 1009),
}
"""Where no compression was agreed: what is sent, and the code that it has to be answered with."""

COMPRESSED: dict[str, tuple[bytes, int]] = {
    **{f"reserved bits {rsv}": (frame(2, deflated(b"x"), rsv=rsv), 1002) for rsv in (1, 2, 3, 5, 6, 7)},
    **{f"a compressed control frame {opcode}": (frame(opcode, deflated(b""), rsv=4), 1002) for opcode in (8, 9, 10)},
    "a compressed continuation": (frame(2, b"a", fin=False) + frame(0, deflated(b"b"), rsv=4), 1002),
    "a continuation that says again that it is compressed": (
        frame(2, deflated(b"ab")[:2], fin=False, rsv=4) + frame(0, deflated(b"ab")[2:], rsv=4),
        1002,
    ),
    **{
        f"a compressed control frame {opcode} in a compressed message": (
            frame(2, deflated(b"ab")[:2], fin=False, rsv=4) + frame(opcode, b"\x03\xe8", rsv=4),
            1002,
        )
        for opcode in (8, 9, 10)
    },
    "no deflate data": (frame(2, b"\xff\xff\xff\xff", rsv=4), 1002),
    "a block of an unknown type": (frame(1, b"\x06", rsv=4), 1002),
    "a block that breaks off": (frame(2, deflated(b"hello" * 50)[:-3], rsv=4), 1002),
    "a stored block whose length is wrong": (frame(2, b"\x00\x05\x00\x05\x00hello", rsv=4), 1002),
    "a distance beyond the window": (frame(2, b"\x4a\x04\x22\x00\x00", rsv=4), 1002),
    "a bomb": (frame(2, deflated(bytes(1 << 24)), rsv=4), 1009),
    "a bomb of text": (frame(1, deflated(b"x" * (1 << 22)), rsv=4), 1009),
    "a bomb in fragments": (
        frame(2, deflated(bytes(1 << 22))[:50], fin=False, rsv=4) + frame(0, deflated(bytes(1 << 22))[50:]),
        1009,
    ),
    **{f"text with {name}": (frame(1, deflated(data), rsv=4), 1007) for name, data in BAD_TEXT.items()},
    "a large message that is not compressed": (frame(2, BIG, mask=bytes(4)), 1009),
}
"""Where permessage-deflate was agreed (W12)."""

CUTS: dict[str, Callable[[Hand, bytes], Awaitable[None]]] = {"whole": Hand.whole, "in bytes": Hand.trickle}

cuts = pytest.mark.parametrize("cut", CUTS)


async def failed(stage: Scene, data: bytes, code: int, cut: str, *, compression: bool = False) -> str:
    """Sends it between two good messages; tells what the peer or the app saw wrong, and how it ended; else nothing."""
    async with stage.connection(ACCEPT, compression=compression) as (hand, puppet):
        await hand.sees("handshake")
        hand.write(text("before"))
        await CUTS[cut](hand, data + text("after") + frame(9, b"after") + close_frame(1000))
        given = await puppet.given(2)
        await hand.sees("close")
        alive = puppet.state
        await hand.act("peer ends")
        await hand.sees("end")
        again = await puppet.given()
    seen = hand.seen[1:]
    reason = seen[0].get("close", {}).get("reason", "")
    due = (["before", (code, reason)], [(code, reason)], [{"close": {"code": code, "reason": reason}}, {"end": True}])
    told = (given, again, seen)
    right = told == due and alive.startswith("failing/") and reason and reason.isprintable()
    return "" if right else f"{told}, not {due}, in {alive}"


class TestBadFrames:
    """Every one in a connection of its own, all of them on one server."""

    @cuts
    @ways
    def test_get_the_code_that_the_number_names_on_both_sides(self, way: str, cut: str) -> None:
        async def test() -> None:
            async with scene(way, max_size=MAX_SIZE, per_message_deflate=True) as stage:
                wrong = {
                    kind: difference
                    for kind, (data, code) in PLAIN.items()
                    if (difference := await failed(stage, data, code, cut))
                }
            assert not wrong, wrong

        run(test)

    @cuts
    @ways
    def test_where_compression_was_agreed_get_the_code_that_the_number_names(self, way: str, cut: str) -> None:
        async def test() -> None:
            async with scene(way, max_size=MAX_SIZE) as stage:
                wrong = {
                    kind: difference
                    for kind, (data, code) in COMPRESSED.items()
                    if (difference := await failed(stage, data, code, cut, compression=True))
                }
            assert not wrong, wrong

        run(test)

    def test_every_number_has_its_cases(self) -> None:
        assert PLAIN.keys() >= FRAMES.keys()
        assert len(PLAIN) + len(COMPRESSED) > 100
        assert {code for cases in (PLAIN, COMPRESSED) for _, code in cases.values()} == {1002, 1007, 1009}

    @ways
    def test_before_the_accept_fail_the_connection_once_it_is_accepted(self, way: str) -> None:
        """C14: they are held undecoded."""

        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                assert await puppet.given() == ["websocket.connect"]
                hand.write(text("before"), frame(3), text("after"))
                await until(lambda: puppet.state == "handshake/waiting/running")
                await puppet.send(ACCEPT)
                assert await puppet.given(2) == ["before", (1002, "Invalid opcode 0x3")]
                await hand.sees("close")
                assert hand.seen[1:] == [{"close": {"code": 1002, "reason": "Invalid opcode 0x3"}}]

        run(test)

    @ways
    def test_after_our_own_close_bring_no_second_one(self, way: str) -> None:
        async def test() -> None:
            async with scene(way) as stage, stage.connection(ACCEPT, CLOSE) as (hand, puppet):
                await hand.sees("close")
                hand.write(frame(3), close_frame(1000))
                await puppet.comes_to("failing")
                assert await puppet.given() == [(3000, "enough")]
                await hand.act("peer ends")
                await hand.sees("end")
                assert hand.seen[1:] == [{"close": {"code": 3000, "reason": "enough"}}, {"end": True}]

        run(test)

    @ways
    @pytest.mark.parametrize("kind", ["unmasked_frame", "bad_utf8", "too_big"])
    def test_of_a_peer_that_does_not_end_the_connection_end_it_at_the_deadline(self, way: str, kind: str) -> None:
        """W9, C48: it goes on sending, which nobody reads as frames any more."""

        async def test() -> None:
            options: dict[str, Any] = {"close_timeout": 0.2, "max_size": MAX_SIZE}
            async with scene(way, **options) as stage, stage.connection(ACCEPT) as (hand, puppet):
                await hand.sees("handshake")
                await hand.act("peer violates", kind)
                close = await hand.sees("close")
                assert close["code"] == VIOLATIONS[kind]
                assert puppet.state.startswith("failing/")
                while not hand.refused:
                    hand.write(text("more"))
                    await asyncio.sleep(0.01)
                assert puppet.state.startswith("closed/")
                assert hand.kinds() == ["handshake", "close", "end"]
                assert await puppet.given(2) == [(close["code"], close["reason"])] * 2

        run(test)

    @ways
    def test_trouble_neither_the_next_client_nor_those_that_are_there(self, way: str) -> None:
        async def test() -> None:
            async with scene(way, max_size=MAX_SIZE) as stage, stage.connection(ACCEPT) as (good, puppet):
                for data, code in list(PLAIN.values())[::7]:
                    assert await failed(stage, data, code, "whole") == ""
                good.write(text("still here"))
                assert await puppet.given() == ["still here"]
                await puppet.send({"type": "websocket.send", "text": "so am I"})
                assert await good.sees("text") == "so am I"

        run(test)


FINE: dict[str, tuple[bytes, list[Any]]] = {
    **{f"text cut at byte {cut}": (in_two(EURO, cut), ["a\u20acb"]) for cut in range(len(EURO) + 1)},
    "text in single bytes": (
        frame(1, b"", fin=False) + b"".join(frame(0, bytes((byte,)), fin=False) for byte in EURO) + frame(0),
        ["a\u20acb"],
    ),
    "a Ping in the middle of a character": (
        frame(1, EURO[:2], fin=False) + frame(9, b"\xff") + frame(10, b"\xff") + frame(0, EURO[2:]),
        ["a\u20acb"],
    ),
    "empty messages": (frame(1) + frame(2) + frame(1, fin=False) + frame(0), ["", b"", ""]),
    "the ends of Unicode": (frame(1, "\0\ud7ff\ue000\uffff\U0010ffff".encode()), ["\0\ud7ff\ue000\uffff\U0010ffff"]),
    "bytes that are no text": (frame(2, b"\xff\xfe\x00"), [b"\xff\xfe\x00"]),
    "as large as may be": (frame(2, BIG[1:], mask=bytes(4)), [BIG[1:]]),
    "as large as may be in fragments": (frame(2, BIG[:99], fin=False) + frame(0, BIG[100:], mask=bytes(4)), [BIG[1:]]),
    "many small messages": (b"".join(text(str(i)) for i in range(30)), [str(i) for i in range(30)]),
    "a control frame of 125 bytes": (frame(9, bytes(125)) + text("x"), ["x"]),
    "masks of all kinds": (
        frame(2, b"abcdefg", mask=b"\xff\0\xff\0") + frame(2, b"ab", mask=bytes(4)),
        [b"abcdefg", b"ab"],
    ),
}
"""What is unusual and right: what is sent, and what the app has to get of it."""


class TestUnusualFrames:
    @cuts
    @ways
    def test_that_are_right_are_given(self, way: str, cut: str) -> None:
        async def test() -> None:
            async with scene(way, max_size=MAX_SIZE) as stage, stage.connection(ACCEPT) as (hand, puppet):
                await hand.sees("handshake")
                for kind, (data, due) in FINE.items():
                    await CUTS[cut](hand, data)
                    assert await puppet.given(len(due)) == due, kind
                assert len(await hand.sees("pong", 2)) == 125
                assert set(hand.kinds()) == {"handshake", "pong"}

        run(test)

    @cuts
    @ways
    def test_that_are_compressed_are_given(self, way: str, cut: str) -> None:
        data = deflated(EURO * 50)
        pieces = (
            frame(1, data, rsv=4),
            frame(1, data[:5], fin=False, rsv=4) + frame(9, b"ping") + frame(0, data[5:]),
            text("not compressed"),
            frame(2, deflated(b""), rsv=4),
            frame(2, deflated(bytes(MAX_SIZE)), rsv=4),
        )
        due = [EURO.decode() * 50, EURO.decode() * 50, "not compressed", b"", bytes(MAX_SIZE)]

        async def test() -> None:
            options: dict[str, Any] = {"max_size": MAX_SIZE}
            async with scene(way, **options) as stage, stage.connection(ACCEPT, compression=True) as (hand, puppet):
                await hand.sees("handshake")
                for piece in pieces:
                    await CUTS[cut](hand, piece)
                assert await puppet.given(5) == due
                assert await hand.sees("pong") == b"ping"

        run(test)

    @ways
    def test_closes_with_a_legal_code_are_answered_with_it(self, way: str) -> None:
        """C20, R30; an empty one with an empty one."""

        async def test() -> None:
            async with scene(way) as stage:
                for code in (*GOOD_CODES, None):
                    async with stage.connection(ACCEPT) as (hand, puppet):
                        await hand.sees("handshake")
                        hand.write(frame(8) if code is None else close_frame(code, "bye"), text("after"))
                        await hand.sees("end")
                        answer = {} if code is None else {"code": code, "reason": ""}
                        assert hand.seen[1:] == [{"close": answer}, {"end": True}]
                        assert await puppet.given() == [(1005, "") if code is None else (code, "bye")]

        run(test)
