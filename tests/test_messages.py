"""What an app may put into a message: the types of its keys, and the values that the spec lets pass."""

from collections.abc import Mapping
from enum import Enum, IntEnum, StrEnum
from functools import cache
from typing import Any

import pytest

from wslifecycle import load_spec
from wslifecycle.statemachine.flatten import Flat, compile_profile
from wslifecycle.statemachine.messages import CONSTRAINTS, TYPES, Context, Shape, ShapeError

SPEC = load_spec()
ACCEPT, SEND, CLOSE = "websocket.accept", "websocket.send", "websocket.close"
START, BODY = "websocket.http.response.start", "websocket.http.response.body"


@cache
def compiled(**answers: str) -> Flat:
    return compile_profile(SPEC, {**SPEC.reference, **answers}, "x" if answers else "reference")


def values(
    type_: str,
    message: Mapping[str, Any],
    *,
    version: str = "2.5",
    used: bool = True,
    offered: tuple[str, ...] = ("chat", "soap"),
    status: int | None = 200,
    **answers: str,
) -> dict[str, Any]:
    """The values that a message has for a server of this spec version and with these answers to choices.

    `used`: whether the transition uses the keys, so that their constraints are held. `status`: that of the denial's
    head, None if there is none yet.
    """
    declared = SPEC.messages[type_]
    flat = compiled(**answers)
    older = {key.name for key in declared.keys.values() if key.since and key.since > version}
    variables = {"head": {"status": status}} if status is not None else {}

    shape = Shape(declared, SPEC.constraints, flat.resolve, older)
    names = frozenset(declared.keys) if used else frozenset[str]()
    return shape.values({"type": type_, **message}, names, Context(offered, variables))


def refused(type_: str, message: Mapping[str, Any], **how: Any) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        values(type_, message, **how)
    assert caught.value.text == str(caught.value)
    assert type_ in caught.value.text
    assert caught.value.line > 0
    return caught.value


class Colour(str, Enum):  # noqa: UP042 - its str() is not its text
    RED = "red"


class Word(StrEnum):
    RED = "red"


class Shouting(str):
    def __str__(self) -> str:
        return "LOUD"


class Code(IntEnum):
    GONE = 1001


class Odd(int):
    def __int__(self) -> int:
        return 7


class TestText:
    @pytest.mark.parametrize("text", ["red", Colour.RED, Word.RED, Shouting("red")])
    def test_becomes_a_plain_str(self, text: str) -> None:
        sent = values(SEND, {"text": text})["text"]
        assert sent == "red"
        assert type(sent) is str

    @pytest.mark.parametrize("text", [b"red", 1, ["red"], object(), True])
    def test_is_nothing_else(self, text: object) -> None:
        assert "`text` of websocket.send has to be a str, not " in refused(SEND, {"text": text}).text
        assert refused(SEND, {"text": text}).rule == "R27"

    @pytest.mark.parametrize("text", ["", "\0", "naïve", "\U0001f600", "\ufeff"])
    def test_may_be_anything_that_utf_8_encodes(self, text: str) -> None:
        assert values(SEND, {"text": text})["text"] == text

    @pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00"])
    def test_has_no_lone_surrogate(self, text: str) -> None:
        assert refused(SEND, {"text": text}).rule == "C38"
        sent = values(SEND, {"text": text}, C38="replaced")["text"]
        assert sent == text.encode("utf-8", "replace").decode()


class TestBytes:
    @pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"a.b.")[::2]])
    def test_become_plain_bytes(self, data: bytes) -> None:
        sent = values(SEND, {"bytes": data})["bytes"]
        assert sent == b"ab"
        assert type(sent) is bytes

    def test_are_a_copy_of_what_may_change(self) -> None:
        data = bytearray(b"ab")
        sent = values(SEND, {"bytes": data})["bytes"]
        data[0] = 0
        assert sent == b"ab"

    @pytest.mark.parametrize("data", ["ab", 2, [97, 98], True])
    def test_are_nothing_else(self, data: object) -> None:
        assert "has to be bytes" in refused(SEND, {"bytes": data}).text

    def test_are_there_no_more_once_they_were_released(self) -> None:
        data = memoryview(b"ab")
        data.release()
        assert "memoryview that was released" in refused(SEND, {"bytes": data}).text


class TestADataMessage:
    @pytest.mark.parametrize(
        "message",
        [
            {"text": ""},
            {"bytes": b""},
            {"text": "a", "bytes": None},
            {"text": None, "bytes": b"a"},
            {"text": "a", "x": 1},
        ],
    )
    def test_has_one_of_text_and_bytes(self, message: dict[str, Any]) -> None:
        sent = values(SEND, message)
        assert sent == {"text": message.get("text"), "bytes": message.get("bytes")}

    @pytest.mark.parametrize("message", [{}, {"text": None, "bytes": None}, {"text": "", "bytes": b""}])
    def test_has_neither_none_nor_both(self, message: dict[str, Any]) -> None:
        error = refused(SEND, message)
        assert "exactly one of `bytes` and `text`" in error.text
        assert error.rule == "R27"


class TestACloseCode:
    @pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999, 1011])
    def test_may_stand_in_a_frame(self, code: int) -> None:
        assert values(CLOSE, {"code": code})["code"] == code

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
    def test_may_not(self, code: int) -> None:
        error = refused(CLOSE, {"code": code})
        assert error.rule == "C20"
        assert "1000-1003, 1007-1014, 3000-4999" in error.text
        assert values(CLOSE, {"code": code}, C20="sent")["code"] == code

    @pytest.mark.parametrize("code", [-1, 65536, 1 << 80])
    def test_has_two_bytes_whatever_the_profile(self, code: int) -> None:
        assert refused(CLOSE, {"code": code}).rule == "C20"
        assert "0-65535" in refused(CLOSE, {"code": code}, C20="sent").text

    def test_is_not_looked_at_where_it_is_not_used(self) -> None:
        assert values(CLOSE, {"code": 5}, used=False)["code"] == 5
        refused(CLOSE, {"code": "5"}, used=False)

    @pytest.mark.parametrize(("given", "plain"), [(Code.GONE, 1001), (Odd(1001), 1001)])
    def test_becomes_a_plain_int(self, given: int, plain: int) -> None:
        code = values(CLOSE, {"code": given})["code"]
        assert code == plain
        assert type(code) is int

    @pytest.mark.parametrize("code", [True, False, "1000", 1000.0, b"1000"])
    def test_is_nothing_else(self, code: object) -> None:
        assert "has to be an int" in refused(CLOSE, {"code": code}).text

    @pytest.mark.parametrize("message", [{}, {"code": None}])
    def test_is_1000_by_default(self, message: dict[str, Any]) -> None:
        assert values(CLOSE, message)["code"] == 1000


class TestACloseReason:
    @pytest.mark.parametrize("message", [{}, {"reason": None}, {"reason": ""}])
    def test_is_empty_by_default(self, message: dict[str, Any]) -> None:
        assert values(CLOSE, message)["reason"] == ""

    @pytest.mark.parametrize(
        ("reason", "kept"),
        [
            ("a" * 123, 123),
            ("a" * 124, 123),
            ("é" * 61 + "a", 62),
            ("é" * 62, 61),
            ("€" * 41, 41),
            ("€" * 42, 41),
            ("a" + "€" * 41, 41),
            ("aa" + "€" * 41, 42),
            ("\U0001f600" * 31, 30),
            ("aaa" + "\U0001f600" * 31, 33),
        ],
    )
    def test_is_cut_between_characters_to_123_bytes(self, reason: str, kept: int) -> None:
        cut = values(CLOSE, {"reason": reason})["reason"]
        assert cut == reason[:kept]
        assert len(cut.encode()) <= 123
        if cut != reason:
            assert len(reason[: kept + 1].encode()) > 123
            assert refused(CLOSE, {"reason": reason}, C21="raises").rule == "C21"
        else:
            assert values(CLOSE, {"reason": reason}, C21="raises")["reason"] == reason

    def test_has_no_lone_surrogate(self) -> None:
        assert "surrogate" in refused(CLOSE, {"reason": "\ud800"}).text
        assert values(CLOSE, {"reason": "a\ud800"}, C38="replaced")["reason"] == "a?"

    @pytest.mark.parametrize("reason", ["late", None, 5, "a" * 124, "\ud800"])
    @pytest.mark.parametrize("version", ["2.0", "2.2"])
    def test_is_ignored_before_2_3(self, version: str, reason: object) -> None:
        for answer in ("default", "raises"):
            assert values(CLOSE, {"reason": reason}, version=version, C22=answer)["reason"] == ""

    def test_is_obeyed_from_2_3_on(self) -> None:
        assert values(CLOSE, {"reason": "late"}, version="2.3")["reason"] == "late"


class TestHeaders:
    @pytest.mark.parametrize(
        "headers",
        [
            [(b"X-A", b"1"), (b"x-b", b"")],
            [[b"X-A", b"1"], [b"x-b", b""]],
            ((bytearray(b"X-A"), memoryview(b"1")), [b"x-b", b""]),
            iter([(b"X-A", b"1"), (b"x-b", b"")]),
        ],
    )
    def test_become_a_tuple_of_pairs_with_names_in_lower_case(self, headers: object) -> None:
        sent = values(START, {"status": 200, "headers": headers})["headers"]
        assert sent == ((b"x-a", b"1"), (b"x-b", b""))
        assert {type(part) for pair in sent for part in pair} == {bytes}

    def test_keep_their_order_and_their_duplicates(self) -> None:
        headers = ((b"b", b"1"), (b"a", b"2"), (b"b", b"1"))
        assert values(ACCEPT, {"headers": headers})["headers"] == headers

    def test_keep_their_case_if_the_profile_says_so(self) -> None:
        assert values(ACCEPT, {"headers": [(b"X-A", b"1")]}, C45="sent")["headers"] == ((b"X-A", b"1"),)

    @pytest.mark.parametrize("message", [{}, {"headers": None}, {"headers": []}, {"headers": ()}])
    def test_are_none_by_default(self, message: dict[str, Any]) -> None:
        assert list(values(ACCEPT, message)["headers"]) == []
        assert list(values(START, {"status": 200, **message})["headers"]) == []

    @pytest.mark.parametrize(
        "headers",
        [
            {b"a": b"1"},
            b"a: 1",
            "a: 1",
            5,
            True,
            [b"a"],
            [b"ab"],
            ["ab"],
            [(b"a",)],
            [(b"a", b"1", b"2")],
            [("a", b"1")],
            [(b"a", "1")],
            [(b"a", None)],
            [(b"a", 1)],
            [None],
            [{b"a": b"1", b"b": b"2"}],
            bytearray(b"ab"),
        ],
    )
    def test_have_the_shape_of_pairs_of_bytes(self, headers: object) -> None:
        refused(ACCEPT, {"headers": headers})
        refused(START, {"status": 200, "headers": headers})

    @pytest.mark.parametrize("content", [b"1\r\nset-cookie: x", b"\r", b"\n", b"1\n", b"\0", b"1\r\n 2"])
    def test_cannot_inject_others(self, content: bytes) -> None:
        for used in (True, False):
            assert "HTTP cannot carry" in refused(ACCEPT, {"headers": [(b"a", content)]}, used=used).text
            refused(START, {"status": 200, "headers": [(b"a", content)]}, used=used)

    @pytest.mark.parametrize("content", [b"", b"a b", b"a\tb", b"\xe9", b"a:b"])
    def test_have_any_other_value(self, content: bytes) -> None:
        assert values(ACCEPT, {"headers": [(b"a", content)]})["headers"] == ((b"a", content),)

    @pytest.mark.parametrize("content", [b" a", b"a\t", b" \ta "])
    def test_lose_the_white_space_around_their_values(self, content: bytes) -> None:
        assert values(ACCEPT, {"headers": [(b"a", content)]})["headers"] == ((b"a", b"a"),)

    @pytest.mark.parametrize("content", [b"\x0c", b"a\x0bb", b"\x7f", b"\x01"])
    def test_hold_no_control_characters(self, content: bytes) -> None:
        assert "HTTP cannot carry" in refused(ACCEPT, {"headers": [(b"a", content)]}).text

    @pytest.mark.parametrize(
        "name", [b"", b" ", b"a b", b"a:", b"a\n", b"a\r\nb", b"\0", b"\xe9", b"a(b)", b":", b"::a"]
    )
    def test_have_names_that_are_tokens(self, name: bytes) -> None:
        assert "HTTP cannot carry" in refused(ACCEPT, {"headers": [(name, b"1")]}).text
        refused(START, {"status": 200, "headers": [(name, b"1")]})


class TestTheHeadersOfAnAccept:
    @pytest.mark.parametrize(
        "name",
        [
            b"Sec-WebSocket-Protocol",
            b"sec-websocket-accept",
            b"SEC-WEBSOCKET-EXTENSIONS",
            b"connection",
            b"Upgrade",
            b"Content-Length",
            b"transfer-encoding",
            b":status",
        ],
    )
    def test_leave_alone_what_belongs_to_the_handshake(self, name: bytes) -> None:
        error = refused(ACCEPT, {"headers": [(b"ok", b"1"), (name, b"1")]})
        assert error.rule == "C46"
        assert name.decode() in error.text

    def test_may_hold_more_if_the_profile_says_so(self) -> None:
        assert values(ACCEPT, {"headers": [(b"Upgrade", b"1")]}, C46="sent")["headers"] == ((b"upgrade", b"1"),)
        refused(ACCEPT, {"headers": [(b"Sec-WebSocket-Protocol", b"chat")]}, C46="sent")
        refused(ACCEPT, {"headers": [(b":status", b"200")]}, C46="sent")

    def test_are_refused_by_2_0(self) -> None:
        error = refused(ACCEPT, {"headers": [(b"a", b"1")]}, version="2.0")
        assert "came with spec version 2.1" in error.text
        assert error.rule == "R25"

    @pytest.mark.parametrize("message", [{}, {"headers": None}])
    def test_may_be_left_out_in_2_0(self, message: dict[str, Any]) -> None:
        for answer in ("default", "raises"):
            assert list(values(ACCEPT, message, version="2.0", C22=answer)["headers"]) == []

    def test_are_obeyed_from_2_1_on(self) -> None:
        assert values(ACCEPT, {"headers": [(b"a", b"1")]}, version="2.1")["headers"] == ((b"a", b"1"),)


class TestASubprotocol:
    @pytest.mark.parametrize("subprotocol", ["chat", "soap", None, Word("red")])
    def test_is_one_that_was_offered_or_none(self, subprotocol: str | None) -> None:
        sent = values(ACCEPT, {"subprotocol": subprotocol}, offered=("chat", "soap", "red"))["subprotocol"]
        assert sent == subprotocol
        assert type(sent) in (str, type(None))

    def test_may_be_left_out(self) -> None:
        assert values(ACCEPT, {})["subprotocol"] is None

    @pytest.mark.parametrize("subprotocol", ["Chat", "chat ", "", "mqtt", "chat, soap"])
    def test_is_no_other(self, subprotocol: str) -> None:
        error = refused(ACCEPT, {"subprotocol": subprotocol})
        assert error.rule == "C19"
        assert "it offered chat, soap" in error.text
        assert "it offered none" in refused(ACCEPT, {"subprotocol": subprotocol}, offered=()).text

    def test_may_be_another_if_the_profile_says_so(self) -> None:
        assert values(ACCEPT, {"subprotocol": "mqtt"}, C19="sent")["subprotocol"] == "mqtt"

    @pytest.mark.parametrize("subprotocol", ["", "a\r\nset-cookie: x", "a b", "é", "\ud800", "a\n"])
    def test_can_never_inject_a_header(self, subprotocol: str) -> None:
        assert "HTTP cannot carry" in refused(ACCEPT, {"subprotocol": subprotocol}, C19="sent").text

    @pytest.mark.parametrize("subprotocol", [b"chat", ["chat"], 5])
    def test_is_text(self, subprotocol: object) -> None:
        assert "has to be a str" in refused(ACCEPT, {"subprotocol": subprotocol}).text


class TestTheStatusOfADenial:
    @pytest.mark.parametrize("status", [200, 204, 304, 403, 599])
    def test_is_final(self, status: int) -> None:
        assert values(START, {"status": status})["status"] == status

    @pytest.mark.parametrize("status", [0, 100, 101, 199, 600, 999, -403])
    def test_is_neither_interim_nor_unknown(self, status: int) -> None:
        assert refused(START, {"status": status}).rule == "C24"

    def test_is_no_success_if_the_profile_says_so(self) -> None:
        refused(START, {"status": 299}, C24="error")
        assert values(START, {"status": 300}, C24="error")["status"] == 300

    def test_is_required(self) -> None:
        assert "lacks the key `status`" in refused(START, {}).text
        refused(START, {"status": None})

    @pytest.mark.parametrize("status", [True, "403", 403.0])
    def test_is_an_int(self, status: object) -> None:
        assert "has to be an int" in refused(START, {"status": status}).text


class TestTheHeadersOfADenial:
    def test_lose_transfer_encoding_in_any_case(self) -> None:
        headers = [(b"Transfer-Encoding", b"chunked"), (b"content-length", b"3"), (b"TRANSFER-ENCODING", b"gzip")]
        assert values(START, {"status": 403, "headers": headers})["headers"] == ((b"content-length", b"3"),)

    def test_have_no_pseudo_headers(self) -> None:
        assert refused(START, {"status": 403, "headers": [(b":status", b"403")]}).rule == "R56"


class TestTheBodyOfADenial:
    @pytest.mark.parametrize("message", [{}, {"body": None}, {"body": b""}, {"more_body": None}])
    def test_is_empty_and_complete_by_default(self, message: dict[str, Any]) -> None:
        assert values(BODY, message) == {"body": b"", "more_body": False}

    @pytest.mark.parametrize("status", [204, 205, 304])
    def test_is_dropped_where_the_status_has_none(self, status: int) -> None:
        assert values(BODY, {"body": b"x"}, status=status)["body"] == b""

    @pytest.mark.parametrize("status", [200, 203, 206, 303, 305, 403])
    def test_is_kept_where_it_has_one(self, status: int) -> None:
        assert values(BODY, {"body": b"x"}, status=status)["body"] == b"x"

    def test_is_kept_where_there_is_no_head_yet(self) -> None:
        """The machine answers it: a profile that looks at shapes first still has no status to look at."""
        assert values(BODY, {"body": b"x"}, status=None, C39="shape_first")["body"] == b"x"

    @pytest.mark.parametrize("more", [0, 1, "yes", b"", []])
    def test_goes_on_only_by_a_bool(self, more: object) -> None:
        assert "has to be a bool" in refused(BODY, {"more_body": more}).text

    @pytest.mark.parametrize("body", ["x", 0, [b"x"]])
    def test_is_bytes(self, body: object) -> None:
        assert "has to be bytes" in refused(BODY, {"body": body}).text


class TestNone:
    @pytest.mark.parametrize(
        ("type_", "key", "rest"),
        [
            (ACCEPT, "headers", {}),
            (CLOSE, "code", {}),
            (CLOSE, "reason", {}),
            (START, "headers", {"status": 403}),
            (BODY, "body", {}),
            (BODY, "more_body", {}),
        ],
    )
    def test_means_the_default_unless_the_profile_refuses_it(self, type_: str, key: str, rest: dict[str, Any]) -> None:
        assert values(type_, {**rest, key: None}) == values(type_, rest)
        assert values(type_, rest, C22="raises") == values(type_, rest)
        assert f"`{key}` of {type_} has to be" in refused(type_, {**rest, key: None}, C22="raises").text

    def test_is_always_taken_where_it_is_the_default(self) -> None:
        assert values(ACCEPT, {"subprotocol": None}, C22="raises")["subprotocol"] is None
        assert values(SEND, {"text": None, "bytes": b""}, C22="raises")["text"] is None


class TestAnyMessage:
    @pytest.mark.parametrize("message", [{"text": b"x" * 10**6}, {"bytes": "x" * 10**6}, {"bytes": ["x" * 10**6]}])
    def test_is_not_repeated_in_full_by_its_error(self, message: dict[str, Any]) -> None:
        assert len(refused(SEND, message).text) < 200

    @pytest.mark.parametrize("type_", [ACCEPT, CLOSE, BODY])
    def test_may_have_additional_keys(self, type_: str) -> None:
        assert values(type_, {"extra": object()}) == values(type_, {})

    @pytest.mark.parametrize("type_", [ACCEPT, CLOSE, BODY])
    def test_may_consist_of_its_type(self, type_: str) -> None:
        assert list(values(type_, {})) == list(SPEC.messages[type_].keys)

    def test_is_not_changed(self) -> None:
        message = {"headers": [[b"A", b"1"]], "subprotocol": "chat"}
        values(ACCEPT, message)
        assert message == {"headers": [[b"A", b"1"]], "subprotocol": "chat"}


class TestTheSpec:
    def test_names_only_types_and_constraints_that_mean_something(self) -> None:
        keys = [key for message in SPEC.messages.values() for key in message.keys.values()]
        assert {key.type for key in keys} == set(TYPES)
        assert {key.value for key in keys if key.value} == set(SPEC.constraints) == set(CONSTRAINTS)

    def test_gives_each_constraint_its_options(self) -> None:
        assert {name: set(c.options) for name, c in SPEC.constraints.items()} == {
            name: set(options) for name, options in CONSTRAINTS.items()
        }
