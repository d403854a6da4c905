"""What `Connection` promises beyond the scenarios: values, errors that teach, unread messages, quiet exceptions."""

from __future__ import annotations

import asyncio
import copy
import enum
import gc
import pickle
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import planted
from tests.test_codec import KIBIBYTE, using_less_than
from wslifecycle import WAIT, ApplicationViolation, Connection, Disconnected, ImpossibleEvent, lifecycle
from wslifecycle.statemachine import effects as fx
from wslifecycle.statemachine.connection import Settings
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, build

ROOT = Path(__file__).parent.parent
DENIAL = "websocket.http.response"
CONNECT = {"type": "websocket.connect"}


def fresh(**options: Any) -> Connection:
    """A connection whose app was given websocket.connect."""
    connection = Connection(**{"extensions": {DENIAL}, **options})
    assert connection.app_wants().message == CONNECT
    return connection


def opened(**options: Any) -> Connection:
    connection = fresh(**options)
    connection.app_sent({"type": "websocket.accept"})
    return connection


def profile(**answers: str) -> Lifecycle:
    spec = load_spec()
    return build(spec, {**spec.reference, **answers}, "another")


def refusal(connection: Connection, message: Any) -> Exception:
    """What sending raises; the connection is as before, and explain() says the same without raising."""
    before = (connection.state, connection.case, connection.allowed())
    told = connection.explain(message)
    with pytest.raises((ApplicationViolation, Disconnected)) as caught:
        connection.app_sent(message)
    assert (connection.state, connection.case, connection.allowed()) == before
    assert str(caught.value) == told
    return caught.value


class TestWhatTheAppIsGiven:
    def test_each_message_is_a_new_dict(self) -> None:
        connection = opened()
        connection.peer_lost()
        first, second = connection.app_wants().message, connection.app_wants().message
        assert first == second == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert first is not second

    def test_both_keys_of_a_received_message_are_present(self) -> None:
        connection = opened()
        connection.peer_sent("text")
        connection.peer_sent(b"")
        assert connection.app_wants().message == {"type": "websocket.receive", "bytes": None, "text": "text"}
        assert connection.app_wants().message == {"type": "websocket.receive", "bytes": b"", "text": None}

    def test_only_one_key_under_the_other_answer_to_c44(self) -> None:
        connection = opened(machine=profile(C44="one"))
        connection.peer_sent("text")
        assert connection.app_wants().message == {"type": "websocket.receive", "text": "text"}

    def test_repeats_of_the_disconnect_are_paced(self) -> None:
        connection = opened()
        connection.peer_lost()
        assert connection.app_wants().effects == ()
        assert connection.app_wants().effects == (fx.Pace(0.05),)

    def test_receive_raises_under_the_third_answer_to_c6(self) -> None:
        connection = opened(machine=profile(C6="raises"))
        connection.peer_lost()
        assert connection.app_wants() is not WAIT
        with pytest.raises(Disconnected):
            connection.app_wants()

    def test_the_reason_came_with_spec_version_2_5(self) -> None:
        connection = opened(spec_version="2.4")
        connection.peer_closed(4000, "bye")
        assert connection.app_wants().message == {"type": "websocket.disconnect", "code": 4000}

    def test_a_later_spec_version_than_ours_is_served_as_ours(self) -> None:
        assert "reason" in (closed_by_peer(opened(spec_version="2.10")).message or {})


def closed_by_peer(connection: Connection) -> Any:
    connection.peer_closed(1000, "bye")
    return connection.app_wants()


class TestUnreadMessages:
    def test_reading_pauses_over_the_bound_and_resumes_below_half_of_it(self) -> None:
        connection = opened(unread=(4, None))
        effects = [connection.peer_sent("x") for _ in range(5)]
        assert effects == [(), (), (), (), (fx.PauseReading(),)]
        given = [connection.app_wants().effects for _ in range(5)]
        assert given == [(), (), (fx.ResumeReading(),), (), ()]
        assert connection.app_wants() is WAIT

    def test_bytes_count_too(self) -> None:
        connection = opened(unread=(None, 10))
        assert connection.peer_sent(bytes(10)) == ()
        assert connection.peer_sent("x") == (fx.PauseReading(),)

    def test_reading_resumes_on_our_close_so_that_the_peers_close_is_seen(self) -> None:
        connection = opened(unread=(0, None))
        assert connection.peer_sent("x") == (fx.PauseReading(),)
        assert fx.ResumeReading() in connection.app_sent({"type": "websocket.close"})

    def test_the_bounds_of_the_spec_hold_by_default(self) -> None:
        connection = opened()
        assert [connection.peer_sent("x") for _ in range(33)][-1] == (fx.PauseReading(),)


class Code(enum.IntEnum):
    BYE = 4000


class Text(str):
    """A str of its own kind."""


class TestValues:
    @pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
    def test_bytes_like_objects_are_taken_and_become_bytes(self, data: Any) -> None:
        (effect,) = opened().app_sent({"type": "websocket.send", "bytes": data})
        assert effect == fx.SendMessage(b"x")
        assert isinstance(effect, fx.SendMessage)
        assert type(effect.data) is bytes

    def test_subclasses_become_plain_values(self) -> None:
        (effect, *_) = opened().app_sent({"type": "websocket.close", "code": Code.BYE, "reason": Text("bye")})
        assert isinstance(effect, fx.SendClose)
        assert (type(effect.code), type(effect.reason)) == (int, str)

    def test_the_code_of_the_peer_becomes_a_plain_int(self) -> None:
        connection = opened()
        connection.peer_closed(Code.BYE)
        assert type((connection.app_wants().message or {})["code"]) is int

    def test_the_caller_may_change_its_data_afterwards(self) -> None:
        data = bytearray(b"before")
        (effect,) = opened().app_sent({"type": "websocket.send", "bytes": data})
        data[:] = b"behind"
        assert effect == fx.SendMessage(b"before")

    @pytest.mark.parametrize(
        ("message", "rule"),
        [
            ({"type": "websocket.send"}, "R27"),
            ({"type": "websocket.send", "text": "a", "bytes": b"b"}, "R27"),
            ({"type": "websocket.send", "text": b"a"}, "R27"),
            ({"type": "websocket.send", "text": "\ud800"}, "C38"),
            ({"type": "websocket.close", "code": True}, "R38"),
            ({"type": "websocket.close", "code": 1006}, "C20"),
            ({"type": "websocket.close", "code": 2999}, "C20"),
            ({"type": "websocket.close", "reason": 1}, "R39"),
            ({"type": "nonsense"}, "C28"),
            ({"type": "websocket.receive", "text": "x"}, "C28"),
            ({"type": "http.response.start", "status": 200}, "C29"),
            ({}, "R43"),
            (None, "R43"),
            ({"type": ["unhashable"]}, "R43"),
        ],
        ids=repr,
    )
    def test_a_malformed_message_is_refused_by_its_rule(self, message: Any, rule: str) -> None:
        error = refusal(opened(), message)
        assert isinstance(error, ApplicationViolation)
        assert error.rule == rule
        assert f"[{rule}]" in str(error)

    @pytest.mark.parametrize(
        ("message", "rule"),
        [
            ({"type": "websocket.accept", "subprotocol": "superchat"}, "C19"),
            ({"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"chat")]}, "C46"),
            ({"type": "websocket.accept", "headers": [(b"Connection", b"close")]}, "C46"),
            ({"type": "websocket.accept", "headers": [(b"x", b"a\r\nset-cookie: b")]}, "R25"),
            ({"type": DENIAL + ".start", "status": 199}, "C24"),
            ({"type": DENIAL + ".start"}, "R56"),
        ],
        ids=repr,
    )
    def test_a_malformed_reply_leaves_the_handshake_open(self, message: Any, rule: str) -> None:
        connection = fresh(subprotocols=["chat"])
        error = refusal(connection, message)
        assert isinstance(error, ApplicationViolation)
        assert error.rule == rule
        (effect, *_) = connection.app_sent({"type": "websocket.accept", "subprotocol": "chat"})
        assert effect == fx.CompleteHandshake("chat", ())

    def test_code_and_reason_of_a_close_before_the_accept_are_not_looked_at_but_their_types_are(self) -> None:
        assert isinstance(refusal(fresh(), {"type": "websocket.close", "code": "x"}), ApplicationViolation)
        (effect, *_) = fresh().app_sent({"type": "websocket.close", "code": 1})
        assert effect == fx.SendResponse(403, (), b"")

    def test_the_state_is_looked_at_before_the_shape(self) -> None:
        connection = opened()
        connection.peer_lost()
        assert isinstance(refusal(connection, {"type": "websocket.close", "code": 1006}), Disconnected)

    def test_the_shape_is_looked_at_first_under_the_other_answer_to_c39(self) -> None:
        connection = opened(machine=profile(C39="shape_first"))
        connection.peer_lost()
        assert isinstance(
            refusal_without_explain(connection, {"type": "websocket.close", "code": 1006}), ApplicationViolation
        )

    def test_an_upper_case_header_name_is_lowered(self) -> None:
        (effect, *_) = fresh().app_sent({"type": "websocket.accept", "headers": [(b"X-A", b"1")]})
        assert effect == fx.CompleteHandshake(None, ((b"x-a", b"1"),))

    def test_an_illegal_close_code_of_the_peer_fails_it(self) -> None:
        connection = opened()
        assert connection.peer_closed(999)[0] == fx.SendClose(1002, "illegal close code 999")
        assert connection.state.startswith("failing/")


def refusal_without_explain(connection: Connection, message: Any) -> Exception:
    with pytest.raises((ApplicationViolation, Disconnected)) as caught:
        connection.app_sent(message)
    return caught.value


class TestErrorsThatTeach:
    def test_a_violation_names_state_alternatives_history_rule_and_line(self) -> None:
        text = str(refusal(fresh(), {"type": "websocket.send", "text": "hi"}))
        assert text.startswith("[C41] websocket.send is not allowed in handshake/waiting/running.")
        assert "The handshake request has come and is not answered yet." in text
        assert "Allowed now: websocket.accept, websocket.close, websocket.http.response.start." in text
        assert "Got here by: receive() gives websocket.connect." in text
        assert "Choice 41: A message that is legal in shape but not in this state." in text

    def test_the_line_is_the_row_that_refuses(self) -> None:
        error = refusal(fresh(), {"type": "websocket.send", "text": "hi"})
        assert isinstance(error, ApplicationViolation)
        row = next(row for row in load_spec().rows if row.line == error.line)
        assert "app_send" in row.events
        assert row.rule == error.rule == "C41"

    def test_a_disconnect_says_how_the_connection_ended(self) -> None:
        connection = opened()
        connection.peer_closed(1001)
        error = refusal(connection, {"type": "websocket.send", "text": "hi"})
        assert isinstance(error, Disconnected)
        assert isinstance(error, OSError)
        assert "Got here by: The peer's Close frame was decoded." in str(error)
        assert "Rule R32" in str(error)

    def test_what_is_allowed_is_explained_too(self) -> None:
        connection = opened()
        assert "websocket.close is allowed in open/flowing/running: -> closing/" in connection.explain(
            {"type": "websocket.close"}
        )
        assert connection.state == "open/flowing/running"

    def test_an_impossible_event_is_the_servers_fault(self) -> None:
        with pytest.raises(ImpossibleEvent, match="fault in the server"):
            fresh().peer_sent("too early")

    def test_the_callable_cannot_end_twice(self) -> None:
        connection = fresh()
        connection.app_returned()
        with pytest.raises(ImpossibleEvent):
            connection.app_raised(ValueError())

    def test_allowed_follows_the_lifecycle(self) -> None:
        connection = Connection()
        assert connection.allowed().send == ("websocket.accept", "websocket.close")
        assert connection.allowed().receive == "websocket.connect"
        connection.app_sent({"type": "websocket.accept"})
        assert connection.allowed().send == ("websocket.send", "websocket.close")
        connection.peer_lost()
        assert connection.allowed().send == ()


class TestOptions:
    def test_an_unknown_timer_is_named(self) -> None:
        with pytest.raises(LookupError, match="close_timeout"):
            Connection(timeouts={"close": 1})
        with pytest.raises(LookupError, match="close_timeout"):
            Connection().timed_out("close")

    def test_a_spec_version_that_is_no_version_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"2\.x"):
            Connection(spec_version="2.x")

    def test_timers_take_the_seconds_that_are_given(self) -> None:
        connection = Connection(timeouts={"handshake_timeout": 3, "keepalive": None, "close_timeout": 5})
        assert connection.started() == (fx.StartTimer("handshake_timeout", 3),)
        accepted = connection.app_sent({"type": "websocket.accept"})
        assert accepted == (fx.CompleteHandshake(None, ()), fx.CancelTimer("handshake_timeout"))
        assert connection.app_sent({"type": "websocket.close"})[1:] == (
            fx.ResumeReading(),
            fx.StartTimer("close_timeout", 5),
        )

    def test_a_timer_that_is_off_is_neither_started_nor_cancelled(self) -> None:
        connection = Connection(timeouts={"handshake_timeout": None, "keepalive": None})
        assert connection.started() == ()
        assert connection.app_sent({"type": "websocket.accept"}) == (fx.CompleteHandshake(None, ()),)

    def test_shutdown_takes_another_code(self) -> None:
        connection = opened()
        assert connection.shutdown(1001)[0] == fx.SendClose(1001, "")
        assert (connection.app_wants().message or {})["code"] == 1001

    def test_an_unknown_message_is_ignored_under_the_other_answer_to_c28(self) -> None:
        connection = opened(machine=profile(C28="ignored"))
        assert connection.app_sent({"type": "nonsense"}) == ()
        assert isinstance(refusal(connection, {"type": "http.response.start"}), ApplicationViolation)

    def test_an_observer_sees_every_answer(self) -> None:
        seen: list[tuple[str, str | None]] = []
        connection = Connection(observe=lambda answer: seen.append((answer.event, answer.refusal)))
        connection.app_wants()
        connection.app_wants()
        refusal_without_explain(connection, {"type": "websocket.send", "text": "x"})
        connection.app_sent({"type": "websocket.accept"})
        assert seen == [("give_connect", None), ("app_send", "violation"), ("app_accept", None)]


class TestQuietExceptions:
    """C40: an exception that leaves the app is quiet only if it stems from the Disconnected of this connection."""

    def own(self) -> tuple[Connection, Disconnected]:
        connection = opened()
        connection.peer_lost()
        error = refusal(connection, {"type": "websocket.send", "text": "x"})
        assert isinstance(error, Disconnected)
        return connection, error

    def test_its_own_disconnected_is_quiet_and_another_connections_is_not(self) -> None:
        (connection, error), (_, other) = self.own(), self.own()
        assert connection.is_quiet(error)
        assert not connection.is_quiet(other)
        assert not connection.is_quiet(ValueError())
        assert not connection.is_quiet(OSError())

    def test_a_group_is_quiet_when_all_its_leaves_are(self) -> None:
        (connection, error), (_, other) = self.own(), self.own()
        assert connection.is_quiet(ExceptionGroup("tasks", [error, ExceptionGroup("more", [error])]))
        assert not connection.is_quiet(ExceptionGroup("tasks", [error, other]))

    def test_a_cause_or_a_context_makes_it_quiet(self) -> None:
        connection, error = self.own()
        caused, in_context, suppressed = ValueError(), ValueError(), ValueError()
        caused.__cause__ = error
        in_context.__context__ = KeyError()
        in_context.__context__.__context__ = error
        suppressed.__context__ = error
        suppressed.__suppress_context__ = True
        assert connection.is_quiet(caused)
        assert connection.is_quiet(in_context)
        assert connection.is_quiet(suppressed)

    def test_a_chain_that_goes_round_ends(self) -> None:
        connection, _ = self.own()
        one, two = ValueError(), ValueError()
        one.__context__, two.__context__ = two, one
        assert not connection.is_quiet(one)

    def test_nothing_is_quiet_under_the_other_answer(self) -> None:
        connection = opened(machine=profile(C40="logged"))
        connection.peer_lost()
        assert not connection.is_quiet(refusal(connection, {"type": "websocket.send", "text": "x"}))

    def test_a_cancelled_app_is_an_app_that_raised(self) -> None:
        assert opened().app_raised(asyncio.CancelledError())[0] == fx.SendClose(1011, "")


class TestTheObjectItself:
    def test_it_has_slots_and_nothing_else(self) -> None:
        with pytest.raises(AttributeError):
            Connection().accepted = True  # type: ignore[attr-defined]

    def test_all_connections_share_one_machine(self) -> None:
        assert Connection().machine is Connection().machine

    def test_it_shows_its_state(self) -> None:
        assert repr(Connection()) == "<Connection handshake/connect_due/running>"

    def test_a_204_has_no_body(self) -> None:
        connection = fresh()
        connection.app_sent({"type": DENIAL + ".start", "status": 204})
        (effect, *_) = connection.app_sent({"type": DENIAL + ".body", "body": b"dropped"})
        assert effect == fx.SendResponse(204, (), b"")


class TestOlderSpecVersions:
    def test_headers_on_2_0_are_refused_unless_they_are_empty(self) -> None:
        connection = fresh(spec_version="2.0")
        error = refusal(connection, {"type": "websocket.accept", "headers": [(b"x-a", b"1")]})
        assert "came with spec version 2.1" in str(error)
        (effect, *_) = connection.app_sent({"type": "websocket.accept", "headers": []})
        assert effect == fx.CompleteHandshake(None, ())

    @pytest.mark.parametrize("answers", [{}, {"C39": "shape_first"}])
    def test_headers_may_be_any_iterable(self, answers: dict[str, str]) -> None:
        connection = fresh(machine=profile(**answers))
        (effect, *_) = connection.app_sent({"type": "websocket.accept", "headers": iter([(b"x-a", b"1")])})
        assert effect == fx.CompleteHandshake(None, ((b"x-a", b"1"),))


class TestWhatAReviewFound:
    """Faults that an adversarial review of the first version found, each with its test."""

    def test_reading_never_pauses_again_once_the_end_has_begun(self) -> None:
        connection = opened(unread=(1, None))
        assert [connection.peer_sent(text) for text in "abc"] == [(), (fx.PauseReading(),), ()]
        connection.peer_closed(1000)
        given = [connection.app_wants() for _ in range(4)]
        assert [(one.message or {}).get("text") for one in given] == ["a", "b", "c", None]
        assert all(one.effects == () for one in given)

    def test_data_after_our_close_never_pauses_reading_if_a_profile_gives_it(self) -> None:
        connection = opened(unread=(0, None), machine=profile(C15="given"))
        connection.app_sent({"type": "websocket.close"})
        assert [connection.peer_sent("x") for _ in range(3)] == [(), (), ()]

    @pytest.mark.parametrize("timer", ["close_timeout", "keepalive", "handshake_timeout"])
    def test_a_timer_that_ran_out_is_not_cancelled(self, timer: str) -> None:
        timeouts = {"close_timeout": 1, "keepalive": 1, "handshake_timeout": 1}
        connection = fresh(timeouts=timeouts) if timer == "handshake_timeout" else opened(timeouts=timeouts)
        if timer == "close_timeout":
            connection.app_sent({"type": "websocket.close"})
        assert fx.CancelTimer(timer) not in connection.timed_out(timer)

    def test_explain_is_neither_observed_nor_eats_an_iterator(self) -> None:
        seen: list[Any] = []
        connection = fresh(observe=seen.append)
        seen.clear()
        message = {"type": "websocket.accept", "headers": iter([(b"x-a", b"1")])}
        assert "is allowed" in connection.explain(message)
        connection.explain({"type": "websocket.send", "text": "x"})
        assert seen == []
        (effect, *_) = connection.app_sent(message)
        assert effect == fx.CompleteHandshake(None, ((b"x-a", b"1"),))

    @pytest.mark.parametrize("answers", [{"C39": "shape_first"}, {"C23": "checked"}])
    def test_explain_says_what_send_does_under_every_profile(self, answers: dict[str, str]) -> None:
        error = refusal(fresh(machine=profile(**answers)), {"type": "websocket.close", "code": 1006})
        assert isinstance(error, ApplicationViolation)

    def test_explain_says_that_an_unknown_message_is_ignored(self) -> None:
        assert "is ignored" in opened(machine=profile(C28="ignored")).explain({"type": "nonsense"})

    @pytest.mark.parametrize("answer", ["raises", "ignored"])
    def test_all_of_an_extension_that_was_not_advertised_is_answered_alike(self, answer: str) -> None:
        connection = fresh(extensions=(), machine=profile(C27=answer))
        for message in ({"type": DENIAL + ".start", "status": 401}, {"type": DENIAL + ".body"}):
            if answer == "ignored":
                assert connection.app_sent(message) == ()
            else:
                error = refusal(connection, message)
                assert isinstance(error, ApplicationViolation)
                assert error.rule == "C27"

    @pytest.mark.parametrize(("answer", "kind"), [("violation", ApplicationViolation), ("ignored", None)])
    def test_a_close_after_a_denial_is_a_send_after_its_end(self, answer: str, kind: type | None) -> None:
        connection = fresh(machine=profile(C8=answer))
        connection.app_sent({"type": DENIAL + ".start", "status": 401})
        connection.app_sent({"type": DENIAL + ".body"})
        for message in ({"type": "websocket.close"}, {"type": "websocket.send", "text": "x"}):
            if kind is None:
                assert connection.app_sent(message) == ()
            else:
                assert isinstance(refusal(connection, message), kind)

    def test_an_older_server_may_raise_its_own_kind_of_error(self) -> None:
        connection = opened(spec_version="2.3", machine=profile(C8="violation"))
        connection.app_sent({"type": "websocket.close"})
        assert isinstance(refusal(connection, {"type": "websocket.send", "text": "x"}), ApplicationViolation)

    def test_a_server_that_is_silent_about_the_end_still_gives_what_came_before(self) -> None:
        connection = opened(machine=profile(C10="none"))
        connection.peer_sent("a")
        connection.app_sent({"type": "websocket.close"})
        assert (connection.app_wants().message or {})["text"] == "a"
        assert connection.app_wants() is WAIT

    @pytest.mark.parametrize("code", [1005, 1006, 1015, 70000, 0])
    def test_no_close_of_the_server_carries_a_code_that_it_cannot(self, code: int) -> None:
        for event in (Connection.shutdown, Connection.peer_violated):
            connection = opened()
            with pytest.raises(ValueError, match=str(code)):
                event(connection, code)
            assert connection.state == "open/flowing/running"

    def test_a_long_reason_of_the_server_is_cut(self) -> None:
        connection = opened()
        (effect, *_) = connection.peer_violated(1002, "é" * 100)
        assert effect == fx.SendClose(1002, "é" * 61)
        assert connection.close_reason == "é" * 61

    def test_the_peer_never_gets_back_a_code_that_may_not_be_sent(self) -> None:
        assert opened(machine=profile(C20="sent")).peer_closed(1006)[0] == (
            fx.SendClose(1002, "illegal close code 1006")
        )

    def test_there_is_one_reference(self) -> None:
        assert lifecycle() is lifecycle("reference")

    def test_a_dropped_connection_is_gone_at_once(self) -> None:
        connection = opened()
        reference = weakref.ref(connection)
        gc.disable()
        try:
            del connection
            assert reference() is None
        finally:
            gc.enable()

    def test_bytes_like_data_of_the_peer_is_bytes(self) -> None:
        connection = opened()
        connection.peer_sent(bytearray(b"x"))  # type: ignore[arg-type]
        assert connection.app_wants().message == {"type": "websocket.receive", "bytes": b"x", "text": None}

    @pytest.mark.parametrize("options", [{"extensions": DENIAL}, {"subprotocols": "chat"}])
    def test_one_str_is_no_collection(self, options: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match="collections of str"):
            Connection(**options)

    def test_the_profile_says_the_spec_version(self) -> None:
        connection = opened(machine=profile(C35="2.3"))
        connection.peer_lost()
        assert connection.app_sent({"type": "websocket.send", "text": "x"}) == ()

    def test_the_close_timeout_is_the_deadline_of_the_end(self) -> None:
        connection = opened(timeouts={"close_timeout": 0.5})
        assert fx.EndTransport(0.5) in connection.peer_lost()

    def test_a_long_chain_of_exceptions_is_followed(self) -> None:
        error = ValueError()
        for _ in range(5000):
            link = ValueError()
            link.__context__ = error
            error = link
        assert not opened().is_quiet(error)

    def test_errors_can_be_copied_and_pickled(self) -> None:
        connection = opened()
        connection.peer_lost()
        error = refusal(connection, {"type": "websocket.send", "text": "x"})
        assert isinstance(error, Disconnected)
        for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (type(other), str(other), other.rule) == (Disconnected, str(error), "R32")
        assert not connection.is_quiet(copy.copy(error))

    def test_an_observer_that_raises_loses_no_message(self) -> None:
        def observe(answer: Any) -> None:
            if answer.event == "give_message" and not failed:
                failed.append(answer)
                raise KeyError

        failed: list[Any] = []
        connection = opened(observe=observe)
        connection.peer_sent("a")
        with pytest.raises(KeyError):
            connection.app_wants()
        assert (connection.app_wants().message or {})["text"] == "a"


class Undecided:
    """Has no truth value, as an array of several items has none."""

    def __bool__(self) -> bool:
        raise ValueError("ask for any() or all()")


class TestWhatTheRuntimeAsks:
    """The methods that came with the runtime: Pings, a send() that had to wait, how it ended."""

    def test_a_key_that_decides_is_refused_by_its_type_and_not_by_what_it_raises(self) -> None:
        connection = Connection(extensions={"websocket.http.response"})
        connection.app_sent({"type": "websocket.http.response.start", "status": 401})
        with pytest.raises(ApplicationViolation, match=r"\[R56\].*more_body"):
            connection.app_sent({"type": "websocket.http.response.body", "more_body": Undecided()})

    def test_a_send_that_waited_is_complete_as_long_as_the_connection_lasts(self) -> None:
        connection = opened()
        assert connection.app_waited()
        connection.peer_lost()
        with pytest.raises(Disconnected, match=r"\[C43\] send\(\): the connection has ended"):
            connection.app_waited()

    @pytest.mark.parametrize(("version", "answer", "complete"), [("2.3", "raises", True), ("2.5", "returns", True)])
    def test_it_may_also_be_complete_after_the_end(self, version: str, answer: str, complete: bool) -> None:
        connection = opened(spec_version=version, machine=profile(C43=answer))
        connection.peer_lost()
        assert connection.app_waited() is complete

    def test_and_under_a_profile_it_hangs(self) -> None:
        connection = opened(machine=profile(C43="hangs"))
        assert connection.app_waited()
        connection.peer_lost()
        assert not connection.app_waited()

    def test_how_it_ended_is_told_to_whoever_logs_it(self) -> None:
        connection = opened()
        assert (connection.close_code, connection.close_reason) == (None, "")
        connection.peer_closed(4000, "bye")
        assert (connection.close_code, connection.close_reason) == (4000, "bye")

    def test_a_close_without_code_and_reason_has_both_all_the_same(self) -> None:
        connection = opened()
        connection.peer_closed()
        assert (connection.close_code, connection.close_reason) == (1005, "")


class TestProfilesFromFiles:
    def test_a_relative_path_is_that_of_the_folder_where_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codes = []
        for folder, answer in (("a", "close_1011"), ("b", "close_1000")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "mine.yaml").write_text(f"title: mine\nanswers: {{C2: {answer}}}\n")
            monkeypatch.chdir(tmp_path / folder)
            (close, *_) = opened(machine=lifecycle(Path("mine.yaml"))).app_returned()
            codes.append(close)
        assert codes == [fx.SendClose(1011, ""), fx.SendClose(1000, "")]

    def test_an_unknown_one_says_what_there_may_be(self) -> None:
        with pytest.raises(LookupError, match="Name `reference`"):
            lifecycle("nobody")
        with pytest.raises(OSError, match=r"nowhere\.yaml"):
            lifecycle("nowhere.yaml")

    def test_a_spec_of_ones_own_makes_a_machine(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        text = (Path(__file__).parent.parent / "spec" / "lifecycle.yaml").read_text()
        own.write_text(text.replace("reference: close_1000", "reference: close_1011"))
        assert opened(machine=build(load_spec(own))).app_returned()[0] == fx.SendClose(1011, "")

    def test_data_that_is_no_message_is_refused_at_once(self) -> None:
        with pytest.raises(TypeError):
            opened().peer_sent(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ the short way


@cache
def both_ways(name: str) -> tuple[Lifecycle, Lifecycle]:
    """The machine of a profile, or of the reference with another answer to a choice, and the same without a short way:
    no answer in it says that it is plain.
    """
    number, _, answer = name.partition(": ")
    machine = profile(**{number: answer}) if answer else lifecycle(name)
    flat = copy.copy(machine.flat)
    flat.answers = {
        event: [{state: laboured(answer) for state, answer in row.items()} for row in cases]
        for event, cases in flat.answers.items()
    }
    return machine, Lifecycle(flat).seal()


def laboured(answer: Answer) -> Answer:
    made = replace(answer)
    object.__setattr__(made, "plain", "")
    return made


PROFILES = sorted(path.stem for path in (ROOT / "spec" / "profiles").glob("*.yaml"))

sound = st.text("xé\ud800", max_size=4) | st.binary(max_size=4)
sent = st.one_of(
    sound,
    st.text("xé", max_size=4).map(Text),
    st.binary(max_size=4).map(bytearray),
    st.binary(max_size=4).map(lambda data: memoryview(data)),  # noqa: PLW0108 - mypy
    st.none() | st.integers(),
)
messages = st.fixed_dictionaries(
    {"type": st.just("websocket.send")}, optional={"text": sent, "bytes": sent, "other": st.just(1)}
)
came = st.text("xé", max_size=4) | st.binary(max_size=4) | st.binary(max_size=4).map(bytearray)
steps = st.one_of(
    st.tuples(st.just("peer_sent"), came),
    st.tuples(st.just("app_wants")),
    st.tuples(st.just("app_sent"), messages),
    st.tuples(st.just("app_sent"), sound.map(lambda data: {"type": "websocket.send", **as_key(data)})),
)
ends = st.one_of(
    st.tuples(st.just("app_sent"), st.just({"type": "websocket.close"})),
    st.tuples(st.just("peer_closed"), st.just(4000)),
    st.tuples(st.just("peer_violated"), st.just(1002)),
    st.tuples(st.sampled_from(("peer_eof", "peer_lost", "app_returned", "shutdown"))),
)


def as_key(data: str | bytes) -> dict[str, Any]:
    return {"text": data} if isinstance(data, str) else {"bytes": data}


def does(connection: Connection, step: Sequence[Any]) -> Any:
    """What a step brings about, be it an error, and where the connection is then."""
    method, *arguments = step
    try:
        done: Any = getattr(connection, method)(*arguments)
    except (ApplicationViolation, Disconnected, ImpossibleEvent) as error:
        done = type(error), str(error), error.rule
    return done, connection.state, connection.case, connection.has_unread, connection.reads, repr(connection.allowed())


class TestTheShortWay:
    """What happens again and again is done at once where the machine says that it is plain: with the same outcome."""

    def test_is_taken_for_the_messages_of_both_sides(self) -> None:
        taken = {
            (answer.event, answer.plain)
            for cases in lifecycle().flat.answers.values()
            for row in cases
            for answer in row.values()
            if answer.plain
        }
        assert taken == {
            ("peer_message", "keep_message"),
            ("give_message", "take_message"),
            ("app_send", "send_message"),
        }

    @pytest.mark.parametrize("name", ["reference", "C39: shape_first", "C44: one", *PROFILES])
    @settings(deadline=None)  # the first one builds the machines
    @given(
        before=st.lists(steps, max_size=20),
        end=st.lists(ends, max_size=1),
        after=st.lists(steps | ends, max_size=10),
        accepts=st.sampled_from((True, True, True, False)),
        unread=st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 10)),
        spec_version=st.sampled_from((None, "2.0", "2.3")),
    )
    def test_leads_where_the_long_one_does(
        self,
        name: str,
        before: list[Any],
        end: list[Any],
        after: list[Any],
        accepts: bool,
        unread: tuple[int | None, int | None],
        spec_version: str | None,
    ) -> None:
        heard: tuple[list[Answer], list[Answer]] = [], []
        pair = [
            Connection(machine=machine, unread=unread, spec_version=spec_version, observe=observed.append)
            for machine, observed in zip(both_ways(name), heard, strict=True)
        ]
        first: list[Any] = [("app_wants",)]
        first += [("app_sent", {"type": "websocket.accept"})] if accepts else []
        for step in (*first, *before, *end, *after):
            short, long = (does(connection, step) for connection in pair)
            assert short == long, step
        assert heard[0] == heard[1]
        assert not any(answer.plain for answer in heard[1])

    def test_gives_data_of_its_own_kind(self) -> None:
        """A text of another class goes the long way, on which it becomes plain; so does what is like bytes."""
        values: tuple[Any, ...] = ("x", Text("x"), b"x", bytearray(b"x"))
        for data in values:
            (effect,) = opened().app_sent({"type": "websocket.send", **as_key(data)})
            assert isinstance(effect, fx.SendMessage)
            assert type(effect.data) in (str, bytes)
            assert effect.data == data

    @pytest.mark.parametrize(
        ("edit", "step", "effects"),
        [
            (
                (
                    "effects: [{send_message: {data: [$message.text, $message.bytes]}}]",
                    "effects: [{send_message: {data: [$message.text, $message.bytes]}}, resume_reading]",
                ),
                ("app_sent", {"type": "websocket.send", "text": "x"}),
                (fx.SendMessage("x"), fx.ResumeReading()),
            ),
            (
                (
                    "effects: [{send_message: {data: [$message.text, $message.bytes]}}]",
                    "effects: [{send_message: {data: constant}}]",
                ),
                ("app_sent", {"type": "websocket.send", "text": "x"}),
                (fx.SendMessage("constant"),),
            ),
            (
                (
                    "from: open, effects: [{keep_message: {data: $event.data}}]",
                    "from: open, effects: [{keep_message: {data: $event.data}}, {send_message: {data: $event.data}}]",
                ),
                ("peer_sent", "x"),
                (fx.SendMessage("x"),),
            ),
            (
                (
                    "if: unread, effects: [take_message]",
                    "if: unread, effects: [take_message, {send_pong: {payload: x}}]",
                ),
                ("app_wants",),
                ({"type": "websocket.receive", "bytes": None, "text": "kept"}, (fx.SendPong("x"),)),  # type: ignore[arg-type]
            ),
        ],
        ids=["app_send", "app_send-other-data", "peer_message", "give_message"],
    )
    def test_is_not_taken_where_a_row_says_anything_else(
        self, tmp_path: Path, edit: tuple[str, str], step: Sequence[Any], effects: Any
    ) -> None:
        own = tmp_path / "own.yaml"
        own.write_text(planted(edit), encoding="utf-8")
        spec = load_spec(own)
        machine = build(spec, spec.reference, "mutant")
        heard: list[Answer] = []
        connection = opened(machine=machine, observe=heard.append)
        connection.peer_sent("kept")
        assert does(connection, step)[0] == effects
        assert heard[-1].plain == ""


def echoes(connection: Connection, times: int) -> None:
    for _ in range(times):
        connection.peer_sent(b"message")
        message = connection.app_wants().message
        assert message is not None
        connection.app_sent({"type": "websocket.send", "bytes": message["bytes"]})


class TestWhatItTakes:
    def test_less_than_a_kibibyte(self) -> None:
        shared = Settings()
        connections = []

        def more() -> None:
            connection = Connection(settings=shared)
            connection.app_wants()
            connection.app_sent({"type": "websocket.accept"})
            connections.append(connection)

        more()  # what all of them share is there
        with using_less_than(100 * KIBIBYTE):
            for _ in range(100):
                more()
                echoes(connections[-1], 1)

    def test_no_more_for_all_the_messages_that_went_through_it(self) -> None:
        connection = opened()
        echoes(connection, 2)
        with using_less_than(KIBIBYTE, at_most=True):
            echoes(connection, 1000)

    def test_nothing_for_a_consultation(self) -> None:
        place = opened()._place
        found: list[Answer] = [place.due] * 4
        with using_less_than(1, at_most=True):
            found[0] = place.answers["peer_message"]
            found[1] = place.unread.due
            found[2] = place.answers["app_send"]
            found[3] = place.due
        assert [answer.event for answer in found[:3]] == ["peer_message", "give_message", "app_send"]
