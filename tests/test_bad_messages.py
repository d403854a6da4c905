"""What an app sends and may not, over each way in: messages of a wrong shape, and messages in a wrong order.

The malformed messages are made from the spec's list of keys, so that a new key without a case fails; the number that
each has to be refused with stands in tables here, written from the documents. Every order is tried out: a real
connection is led into each state of the machine, there the app sends each message, and both what happens and what the
peer sees are held against the machine's answer. What is refused changes nothing and never shows on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.hands import START, Puppet, scene
from tests.raw import ACCEPT, CLOSE
from tests.ways import WAYS, run
from wslifecycle.statemachine.errors import ApplicationViolation
from wslifecycle.statemachine.load import load_spec

way = pytest.mark.parametrize("way", WAYS)


class Undecided:
    """Neither true nor false, as an array of numbers is."""

    def __bool__(self) -> bool:
        raise ValueError("neither")


SAMPLES: dict[str, Any] = {
    "None": None,
    "bool": True,
    "int": 1,
    "zero": 0,
    "float": 1000.0,
    "str": "chat",
    "bytes": b"chat",
    "bytearray": bytearray(b"chat"),
    "memoryview": memoryview(b"chat"),
    "list": ["chat"],
    "tuple": ("chat",),
    "dict": {"chat": 1},
    "set": {b"chat"},
    "object": object(),
    "exception": ValueError("chat"),
    "callable": str,
}
"""A value of every Python type; none of the collections is a list of header fields."""

TYPES: dict[str, tuple[set[str], str]] = {
    "websocket.accept subprotocol": ({"None", "str"}, "R24"),
    "websocket.accept headers": ({"None"}, "R25"),
    "websocket.send bytes": ({"bytes", "bytearray", "memoryview"}, "R27"),
    "websocket.send text": ({"str"}, "R27"),
    "websocket.close code": ({"None", "int", "zero"}, "R38"),
    "websocket.close reason": ({"None", "str"}, "R39"),
    "websocket.http.response.start status": ({"int", "zero"}, "R56"),
    "websocket.http.response.start headers": ({"None"}, "R56"),
    "websocket.http.response.body body": ({"None", "bytes", "bytearray", "memoryview"}, "R56"),
    "websocket.http.response.body more_body": ({"None", "bool"}, "R56"),
}
"""Of each key the samples whose type is right, and the number that names the others (R43 says that they raise)."""

SOUND: dict[str, dict[str, Any]] = {
    "websocket.accept": {},
    "websocket.send": {"text": "x"},
    "websocket.close": {},
    "websocket.http.response.start": {"status": 403},
    "websocket.http.response.body": {"body": b"x"},
}
"""What makes a message of each type complete."""

FIELDS: dict[str, list[Any]] = {
    "no pairs": [[b"a"], [(b"a", b"b", b"c")], [b"ab"], [None], [()], {b"a": b"b"}, b"ab", "ab", 5],
    "no bytes": [[("a", b"b")], [(b"a", "b")], [(b"a", None)], [(None, b"b")], [(b"a", 1)]],
    "bad names": [
        [(name, b"v")]
        for name in (
            b"",
            b" ",
            b"a b",
            b"a:",
            b"a\r\nb",
            b"a\n",
            b"\x00",
            b"a\x00",
            b"\xe9",
            b"a\x7f",
            b"(",
            b"a\tb",
            b":",
        )
    ],
    "bad values": [
        [(b"n", value)] for value in (b"a\r\nset-cookie: b", b"a\rb", b"a\nb", b"a\x00b", b"\x7f", b"a\x01")
    ],
}
"""Lists of header fields that are none, or that HTTP cannot carry: every attempt to write a line of one's own."""

OURS = (
    *(b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"Transfer-Encoding"),
    *(b"sec-websocket-accept", b"sec-websocket-protocol", b"Sec-WebSocket-Extensions", b"sec-websocket-x"),
    *(b":status", b":path"),
)
"""Header fields that belong to the handshake (C46, R25)."""

BAD_CODES = (*(-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535, 65536), 1 << 70)
BAD_STATUSES = (*(-1, 0, 1, 99, 100, 101, 199, 600, 999, 1000), 1 << 70)


class Bad(NamedTuple):
    """What an app may not send, whatever the state, and the number of the refusal."""

    message: Any
    rule: str


def of_type(kind: str) -> list[Bad]:
    """All malformed messages of a declared type, apart from values out of range."""
    found = []
    for key, declared in load_spec().messages[kind].keys.items():
        right, rule = TYPES[f"{kind} {key}"]
        others = {name: value for name, value in SOUND[kind].items() if name != key and kind != "websocket.send"}
        if declared.required:
            found.append(Bad({"type": kind, **others}, rule))
        found += (Bad({"type": kind, **others, key: v}, rule) for name, v in SAMPLES.items() if name not in right)
        if key == "headers":
            found += (Bad({"type": kind, **others, key: v}, rule) for values in FIELDS.values() for v in values)
    return found


def values_of_accept(offered: tuple[str, ...]) -> list[Bad]:
    names = {"nope", "", "chat, other", "CHAT", "chat ", "chat\r\nx: y", "ch\u00e4t", "\ud800", "chat", "other"}
    return [
        *(Bad({**ACCEPT, "subprotocol": name}, "C19") for name in names - set(offered)),
        *(Bad({**ACCEPT, "headers": [(b"fine", b""), (name, b"v")]}, "C46") for name in OURS),
    ]


NO_SENDS: list[tuple[dict[str, Any], str]] = [
    ({}, "R27"),
    ({"text": None}, "R27"),
    ({"bytes": None}, "R27"),
    ({"bytes": None, "text": None}, "R27"),
    ({"bytes": b"", "text": ""}, "R27"),
    ({"bytes": b"x", "text": "x"}, "R27"),
    ({"data": "x"}, "R27"),
    ({"text": "\ud800"}, "C38"),
    ({"text": "a\udfffb", "bytes": None}, "C38"),
]
VALUES_OF_SEND = [Bad({"type": "websocket.send", **rest}, rule) for rest, rule in NO_SENDS]
VALUES_OF_CLOSE = [
    *(Bad({**CLOSE, "code": code}, "C20") for code in BAD_CODES),
    Bad({**CLOSE, "reason": "\ud800"}, "C21"),  # the constraint on a reason as a whole, of which C38 is a part
    Bad({**CLOSE, "reason": "x" * 200 + "\udfff"}, "C21"),
]
VALUES_OF_START = [
    *(Bad({**START, "status": status}, "C24") for status in BAD_STATUSES),
    *(Bad({**START, "headers": [(name, b"v")]}, "R56") for name in (b":status", b":path")),
]
NO_MESSAGES = [
    *(Bad(value, "R43") for value in (*SAMPLES.values(), {}) if not isinstance(value, Mapping) or "type" not in value),
    *(Bad({"type": value}, "R43") for name, value in SAMPLES.items() if name != "str"),
    *(
        Bad({"type": kind}, "C28")
        for kind in (
            *("", "accept", "websocket", "websocket.", "websocket.Accept", "websocket.accept ", "\ud800", "x" * 1000),
            *("websocket.connect", "websocket.receive", "websocket.disconnect", "websocket.ping"),
            *("lifespan.startup.complete", "websocket.http.response", "https.response.start"),
        )
    ),
    *(Bad({"type": f"http.{kind}"}, "C29") for kind in ("response.start", "response.body", "request", "")),
    Bad({"type": "http.response.start", "status": 200, "headers": []}, "C29"),
]
"""What is no message of an app at all, in any state."""


async def refused(puppet: Puppet, bad: list[Bad]) -> list[str]:
    """Sends all of these; tells which were not refused as they have to be, or left a trace in the state."""
    wrong = []
    for message, rule in bad:
        before = puppet.state
        try:
            await puppet.send(message)
            outcome = "nothing raised"
        except ApplicationViolation as error:
            outcome = error.rule if error.state == before else f"{error.rule} in {error.state}"
        except Exception as error:  # an error that no app is told to expect
            outcome = repr(error)
        if (outcome, puppet.state) != (rule, before):
            wrong.append(f"{message!r:.200} in {before}: {outcome}, not {rule}; now {puppet.state}")
    return wrong


class TestMalformedMessages:
    def test_every_key_of_every_message_has_a_case(self) -> None:
        sent = [message for message in load_spec().messages.values() if message.sender == "app"]
        assert {f"{message.type} {key}" for message in sent for key in message.keys} == set(TYPES)
        assert {message.type for message in sent} == set(SOUND)
        assert sum(len(of_type(message.type)) for message in sent) > 150

    @way
    @pytest.mark.parametrize("offered", [("chat", "other"), ()], ids=["offered", "nothing offered"])
    def test_before_and_after_the_accept_leave_everything_as_it_was(self, way: str, offered: tuple[str, ...]) -> None:
        """In one connection, which then goes on as if nothing had been: accepted, echoed, closed with 1000."""
        unanswered = [
            *(*NO_MESSAGES, *of_type("websocket.accept"), *values_of_accept(offered), *of_type("websocket.close")),
            *(*of_type("websocket.http.response.start"), *VALUES_OF_START),
        ]
        accepted = [*NO_MESSAGES, *of_type("websocket.send"), *VALUES_OF_SEND, *of_type("websocket.close")]

        async def test() -> None:
            async with scene(way) as stage, stage.connection(subprotocols=offered) as (hand, puppet):
                wrong = await refused(puppet, unanswered)
                assert await puppet.given() == ["websocket.connect"]
                wrong += await refused(puppet, unanswered)
                await puppet.send({"type": "websocket.accept", "subprotocol": "chat" if offered else None})
                wrong += await refused(puppet, [*accepted, *VALUES_OF_CLOSE])
                await hand.act("peer sends", "hello")
                assert await puppet.given() == ["hello"]
                await puppet.send({"type": "websocket.send", "text": "hello"})
                await hand.sees("text")
                wrong += await refused(puppet, [*accepted, *VALUES_OF_CLOSE])
                await puppet.send({"type": "websocket.close"})
                await hand.sees("close")
                await hand.act("peer closes", {"code": 1000})
                await hand.sees("end")
                assert hand.find("handshake")[0]["subprotocol"] == ("chat" if offered else None)
                assert hand.seen[1:] == [{"text": "hello"}, {"close": {"code": 1000, "reason": ""}}, {"end": True}]
                assert await puppet.given() == [(1000, "")]
                assert not wrong, "\n".join(wrong)

        run(test)

    @way
    def test_in_a_denial_leave_everything_as_it_was(self, way: str) -> None:
        bad = [*of_type("websocket.http.response.body"), *NO_MESSAGES]
        body = {"type": "websocket.http.response.body"}

        async def test() -> None:
            async with scene(way) as stage, stage.connection(START) as (hand, puppet):
                wrong = await refused(puppet, bad)
                await puppet.send({**body, "body": b"a", "more_body": True})
                wrong += await refused(puppet, bad)
                await puppet.send({**body, "body": b"z"})
                await hand.sees("end")
                assert hand.kinds() == ["head", "chunk", "chunk", "response_end", "end"]
                assert (hand.find("head")[0]["status"], hand.find("chunk")) == (418, [b"a", b"z"])
                assert await puppet.given() == [(1006, "")]
                assert not wrong, "\n".join(wrong)

        run(test)

    @way
    def test_a_value_that_can_be_asked_nothing_is_refused_like_any_other(self, way: str) -> None:
        bad = [
            *(Bad({"type": Undecided()}, "R43"), Bad({**ACCEPT, "subprotocol": Undecided()}, "R24")),
            *(Bad({**ACCEPT, "headers": Undecided()}, "R25"), Bad({**CLOSE, "code": Undecided()}, "R38")),
        ]

        async def test() -> None:
            async with scene(way) as stage, stage.connection() as (hand, puppet):
                assert await refused(puppet, bad) == []
            assert hand.find("head")[0]["status"] == 500

        run(test)


class Name(StrEnum):
    """A str with a name."""

    ACCEPT = "websocket.accept"
    CHAT = "chat"


class Code(IntEnum):
    """An int with a name."""

    ENOUGH = 3000


class TestWhatLooksMalformed:
    """These are right, and a check that is too strict would refuse them."""

    @way
    def test_more_keys_subclasses_none_and_other_mappings_are_taken(self, way: str) -> None:
        """R45, C22, C38, R42."""
        more: dict[Any, Any] = {"more": object(), 5: None}
        accept = {"type": Name.ACCEPT, "subprotocol": Name.CHAT, "headers": ((b"X-Up", bytearray(b" a ")),), **more}

        async def test() -> None:
            async with scene(way) as stage, stage.connection(subprotocols=("chat",)) as (hand, puppet):
                await puppet.send(MappingProxyType(accept))  # type: ignore[arg-type]
                await puppet.send({"type": "websocket.send", "text": "", "bytes": None, **more})
                await puppet.send({"type": "websocket.send", "text": None, "bytes": bytearray(b"\x00")})
                await puppet.send({"type": "websocket.send", "bytes": memoryview(b"\xff")})
                await puppet.send({"type": "websocket.close", "code": Code.ENOUGH, "reason": "\u00e9" * 70, **more})
                await hand.sees("close")
                assert (b"x-up", b"a") in hand.find("handshake")[0]["headers"]
                assert hand.find("handshake")[0]["subprotocol"] == "chat"
                cut = "\u00e9" * 61  # C21
                seen = [{"text": ""}, {"bytes": b"\x00"}, {"bytes": b"\xff"}, {"close": {"code": 3000, "reason": cut}}]
                assert hand.seen[1:] == seen

        run(test)

    @way
    @pytest.mark.parametrize("close", [bad.message for bad in VALUES_OF_CLOSE[::5]], ids=str)
    def test_code_and_reason_of_a_close_before_the_accept_are_not_looked_at(
        self, way: str, close: dict[str, Any]
    ) -> None:
        """C23: the answer is a 403 whatever they are."""

        async def test() -> None:
            async with scene(way) as stage, stage.connection(close) as (hand, puppet):
                await hand.sees("end")
                assert hand.find("head")[0]["status"] == 403
                assert await puppet.given() == [(1006, "")]

        run(test)

    @way
    def test_keys_that_the_spec_version_does_not_know_are_more_keys_but_for_headers(self, way: str) -> None:
        """R45; headers that an older server would lose are refused (R25), unless there are none."""
        asked = [Bad({**ACCEPT, "headers": [(b"a", b"b")]}, "R25")]

        async def test() -> None:
            async with scene(way, spec_version="2.0") as stage, stage.connection() as (hand, puppet):
                assert await refused(puppet, asked) == []
                await puppet.send({**ACCEPT, "headers": []})
                assert await refused(puppet, [*VALUES_OF_SEND, *VALUES_OF_CLOSE[: len(BAD_CODES)]]) == []
                await puppet.send({**CLOSE, "reason": 5})
                assert await hand.sees("close") == {"code": 3000, "reason": ""}

        run(test)
