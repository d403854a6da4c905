"""Both sides of a connection do what a test says, and a witness sees what comes of it, from outside and from inside.

What it finds in faulty runtimes is shown by `tests/stateful/hunt.py`; here, that it sees what it should, that it says
what it saw, and that a sound runtime is not accused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest

from tests.faults import FAULTS, faulty
from wslifecycle.conformance.orders import Broken, Dfs, Exchange, Level, Random, Replay, ScheduledLoop, Witness
from wslifecycle.conformance.orders.exchange import AppError
from wslifecycle.conformance.orders.insider import Insider
from wslifecycle.conformance.orders.survey import quiet
from wslifecycle.conformance.orders.watched import event_of, level_of
from wslifecycle.runtime.acceptor import Acceptor
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.session import Service
from wslifecycle.statemachine.machine import lifecycle
from wslifecycle.statemachine.model import Kind

ACCEPT = {"type": "websocket.accept"}
HI = {"type": "websocket.send", "text": "hi"}
WITNESSES: tuple[Callable[[], Witness], ...] = (Witness, Insider)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What apps raise is logged."""
    with quiet():
        yield


@contextmanager
def exchange(witness: Witness, loop: ScheduledLoop | None = None, fault: str = "", **how: Any) -> Iterator[Exchange]:
    """A connection of our runtime, perhaps with a fault in it; for an `Insider` with the options that it asks for."""
    options = witness.options if isinstance(witness, Insider) else Options()
    made = faulty(next((one for one in FAULTS if one.name == fault), None))
    given = {field.name: getattr(options, field.name) for field in fields(options) if field.init}
    x = Exchange(loop or ScheduledLoop(), lambda app: made(app, **given), witness, **how)
    try:
        yield x
    finally:
        x.loop.dispose()


def asks_twice(x: Exchange) -> None:
    """The app calls `receive()` twice before it answers."""
    x.idle()
    x.ask()
    x.ask()
    x.idle()


def opens(x: Exchange) -> None:
    """The app accepts."""
    x.idle()
    x.ask()
    x.idle()
    x.send(dict(ACCEPT))
    x.idle()
    x.peer_reads()


@pytest.mark.parametrize("make", WITNESSES)
def test_a_conversation_is_seen_from_both_sides(make: Callable[[], Witness]) -> None:
    with exchange(make()) as x:
        opens(x)
        x.peer_sends("hello", pieces=2)
        x.ask()
        x.idle()
        x.send(dict(HI))
        x.idle()
        x.peer_closes(1001, "bye")
        x.settle()
        witness = x.witness
        events = [step.event for step in witness.steps if step.event]
        assert [data for data, _ in witness.arrived] == ["hello"]
        assert witness.started == witness.written == ["hi"]
        assert witness.told == {"type": "websocket.disconnect", "code": 1001, "reason": "bye"}
        for event in ("give_connect", "app_accept", "peer_message", "give_message", "app_send", "give_disconnect"):
            assert events.count(event) == 1, event
        assert events.index("app_accept") < events.index("give_message") < events.index("give_disconnect")
        assert "    receive() gives websocket.receive text='hello'" in x.story


@pytest.mark.parametrize("make", WITNESSES)
@pytest.mark.parametrize("end", ["end", "cancel_app", "peer_ends", "peer_shuts", "peer_resets", "shut_down"])
def test_every_end_leads_to_the_end_and_a_sound_runtime_is_not_accused(make: Callable[[], Witness], end: str) -> None:
    with exchange(make()) as x:
        opens(x)
        x.ask()
        x.idle()
        getattr(x, end)()
        x.settle()
        assert x.witness.transport == "gone"
        assert x.witness.told is not None
        assert x.calls == []
        assert x.loop.tasks() == []


def test_what_was_done_is_a_program_that_repeats_it() -> None:
    with exchange(Insider(), fault="connect_again") as x, pytest.raises(Broken) as first:
        asks_twice(x)
    assert x.program == ["x.idle()", "x.ask()", "x.ask()", "x.idle()"]
    with exchange(Insider(), fault="connect_again") as again, pytest.raises(Broken) as second:
        exec("\n".join(x.program), {"x": again})
    assert str(first.value) == str(second.value)
    assert x.told().startswith("0 deviations from the stock order: it happens on the stock loop, too.\n")
    assert "   2. the app calls receive()" in x.told()


def test_a_finding_says_what_how_binding_and_by_which_rule() -> None:
    with exchange(Witness(), fault="connect_again") as x, pytest.raises(Broken) as caught:
        asks_twice(x)
    finding = caught.value.finding
    assert (finding.name, finding.rule, finding.level) == ("connect_once", "R20", "must")
    assert "at most once give_connect" in finding.text


def test_what_is_known_does_not_count_and_is_kept() -> None:
    with exchange(Witness(known=["connect_once"]), fault="connect_again") as x:
        asks_twice(x)
        assert x.witness.finding is None
        assert [other.name for other in x.witness.others] == ["connect_once"]


def test_a_peer_that_does_not_read_holds_up_a_send_and_reading_lets_it_go_on() -> None:
    with exchange(Insider(), room=140, high=0) as x:
        opens(x)
        x.send({"type": "websocket.send", "text": "x" * 200})
        x.idle()
        assert [call.name for call in x.calls] == ["send"]
        assert x.witness.sending == 1
        x.peer_drains()
        assert x.calls == []
        x.settle()


def sends_two(x: Exchange) -> None:
    x.send(HI)
    x.ask()
    x.send({"type": "websocket.send", "text": "ho"})


def sends_and_closes(x: Exchange) -> None:
    x.send(HI)
    x.send({"type": "websocket.close"})


def sends(x: Exchange) -> None:
    x.send(HI)


def sends_when_the_peer_ends(x: Exchange) -> None:
    x.peer_ends()
    x.send(HI)


TOGETHER: dict[str, Callable[[Exchange], None]] = {
    "last_answer_first": sends_two,
    "close_before_answers": sends_and_closes,
    "answers_held_back": sends,
    "answers_behind_the_end": sends_when_the_peer_ends,
}


@pytest.mark.parametrize("acts", TOGETHER.values())
def test_messages_may_be_written_together(acts: Callable[[Exchange], None]) -> None:
    with exchange(Insider()) as x:
        opens(x)
        x.peer_sends("unread")
        x.idle()
        acts(x)
        x.idle()
        assert x.witness.written == x.witness.started


@pytest.mark.parametrize("fault", TOGETHER)
def test_and_that_before_anything_else_and_soon(fault: str) -> None:
    with exchange(Insider(), fault=fault) as x:
        opens(x)
        x.peer_sends("unread")
        x.idle()
        TOGETHER[fault](x)
        with pytest.raises(Broken, match=r"\[W13, must\] obeys"):
            x.idle()


def test_a_transport_is_paused_at_the_second_read_that_nobody_wants() -> None:
    with exchange(Insider(Options(max_queue=1))) as x:
        opens(x)
        for data in ("one", "two"):
            x.peer_sends(data)
            x.idle()
        assert not x.witness.paused
        x.peer_sends("three")
        x.idle()
        assert x.witness.paused
        assert x.witness.unread == 2


@pytest.mark.parametrize("fault", ["pauses_nothing", "pauses_if_more_is_left"])
def test_and_not_later(fault: str) -> None:
    with exchange(Insider(Options(max_queue=1)), fault=fault) as x:
        opens(x)
        for data in ("one", "two"):
            x.peer_sends(data)
            x.idle()
        x.peer_sends("three")
        with pytest.raises(Broken, match=r"\[C31, choice\] reading_pauses"):
            x.idle()


def test_a_part_of_a_frame_is_no_message_and_the_rest_makes_it_one() -> None:
    with exchange(Insider()) as x:
        opens(x)
        x.peer_sends("hello", cut=3)
        x.idle()
        assert x.witness.arrived == []
        x.peer_goes_on()
        x.idle()
        assert [data for data, _ in x.witness.arrived] == ["hello"]
        x.settle()


def test_a_pong_answers_the_last_ping_that_the_peer_has_read_and_keeps_it_alive() -> None:
    with exchange(Insider(Options(ping_interval=5, ping_timeout=5))) as x:
        opens(x)
        for _ in range(4):
            x.time(5)
            x.peer_reads()
            x.peer_pongs()
            x.idle()
        assert x.witness.transport == "up"
        x.time(11)
        assert x.witness.transport != "up"
        x.settle()


@pytest.mark.parametrize("scheduler", [Dfs(1), Random(1), Replay("L2,3:1")], ids=["Dfs", "Random", "Replay"])
def test_any_order_of_a_conversation_is_right(scheduler: Any) -> None:
    for _ in range(40):
        if not scheduler.begin():
            break
        loop = ScheduledLoop(scheduler, Level.LANES)
        with exchange(Insider(), loop, room=150) as x:
            opens(x)
            x.ask()
            x.peer_sends("a")
            x.peer_sends("b")
            x.send(dict(HI))
            x.run(1)
            x.end(AppError("the app"))
            x.peer_closes()
            x.settle()
        scheduler.end(loop.schedule)


def test_from_outside_two_thirds_of_the_properties_are_seen_and_from_inside_nearly_all() -> None:
    spec = lifecycle().spec
    judged = [name for name, declared in spec.properties.items() if not declared.holds.startswith("sometimes")]
    outside = {watched.declared.name for watched in Witness().watched}
    inside = {watched.declared.name for watched in Insider().watched}
    assert outside <= set(judged)
    assert len(outside) >= 0.55 * len(judged)
    assert outside <= inside
    assert len(inside) >= 0.95 * len(judged)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (ACCEPT, "app_accept"),
        ({"type": "websocket.http.response.body", "more_body": True}, "app_response_body"),
        ({"type": "websocket.http.response.body"}, "app_response_end"),
        ({"type": "websocket.receive"}, ""),
        ({"type": 1}, ""),
        ("websocket.accept", ""),
    ],
)
def test_a_message_is_the_event_that_the_spec_says(message: object, event: str) -> None:
    assert event_of(message) == event


@pytest.mark.parametrize(("rule", "level"), [("R20", "must"), ("R28", "must"), ("R32", "should"), ("C6", "choice")])
def test_how_binding_a_finding_is_is_that_of_its_rule(rule: str, level: str) -> None:
    assert level_of(lifecycle().flat, rule) == level


def test_an_insider_is_made_into_the_options_of_the_runtime() -> None:
    insider = Insider(Options(max_queue=1, spec_version="2.3", extensions=()))
    assert insider.options.max_queue == 1
    with exchange(insider) as x:
        opens(x)
        assert x.scope["asgi"]["spec_version"] == "2.3"
        assert ("handshake/waiting/running", "app_accept", 0) in insider.situations
        assert insider.place().state == "open/flowing/running"
        assert insider.machine.due[insider.case]["open/flowing/running"].refusal is Kind.NOT_DUE
        x.settle()


def test_a_fault_of_a_peer_that_is_gone_already_ends_in_peace() -> None:
    with exchange(Insider()) as x:
        opens(x)
        x.ask()
        x.idle()
        x.peer_violates("reserved_bits")
        x.peer_shuts()  # its reset comes before our side is ended
        x.settle()
        assert "    the transport: write_eof" in x.story
        due = {"type": "websocket.disconnect", "code": 1002, "reason": "Reserved bit set unexpectedly"}
        assert x.witness.told == due


def test_a_loop_without_a_running_one_makes_a_protocol_as_if_it_ran() -> None:
    loop = ScheduledLoop()
    made: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.Protocol:
        made.append(asyncio.get_running_loop())
        return Acceptor(Service(lambda *given: asyncio.sleep(0), Options()), set())

    loop.connect(factory)
    assert made == [loop]
    loop.dispose()
