"""What is told to those who watch a server: counters, records of the log, and the way through the machine."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.raw import ACCEPT, CLOSE, REQUEST, Peer, Site, close_frame, echo, run, serving, text, until
from wslifecycle import ApplicationViolation, Connection, Ended
from wslifecycle.conformance.peer import frame
from wslifecycle.integrations.prometheus import asgi_app
from wslifecycle.runtime import Counters, Options
from wslifecycle.runtime.session import App, Message, Receive, Send


async def closes(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await send(CLOSE)


async def refuses(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def fails(scope: Message, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise ZeroDivisionError


async def is_wrong(scope: Message, receive: Receive, send: Send) -> None:
    for message in ({"type": "websocket.send", "text": "early"}, ACCEPT, ACCEPT, {"type": "websocket.send"}):
        with contextlib.suppress(ApplicationViolation):
            await send(message)
    await receive()
    await receive()
    await send({"type": "websocket.send", "text": "late"})


def counted(app: App, *data: bytes, ends: bool = True, **options: Any) -> dict[str, Any]:
    """What is counted of an app and a peer that sends these bytes and ends its side."""
    counters = Counters()

    async def test() -> None:
        async with serving(app, Options(counters=counters, **options)) as site, site.peer() as peer:
            await conversation(site, peer, *data)
        told = json.loads(json.dumps(counters.snapshot()))
        assert told["states"] == {}, "nobody is there any more"
        counts.update(told)

    counts: dict[str, Any] = {}
    run(test())
    return counts


async def conversation(site: Site, peer: Peer, *data: bytes) -> None:
    peer.send(REQUEST)
    await peer.head()
    peer.send(*data)
    peer.end()
    await peer.rest()
    await until(lambda: all(session._transport.is_closing() for session in site.sessions))


class TestCounters:
    @pytest.mark.parametrize(
        ("app", "data", "status", "outcome"),
        [
            (echo, (close_frame(3001, "bye"),), "101", {"wire": "open", "by": "peer_close", "code": 3001}),
            (echo, (), "101", {"wire": "open", "by": "peer_eof", "code": 1006}),
            (echo, (frame(3),), "101", {"wire": "open", "by": "peer_violation", "code": 1002}),
            (closes, (close_frame(3000),), "101", {"wire": "open", "by": "app_close", "code": 3000}),
            (refuses, (), "403", {"wire": "handshake", "by": "app_close", "code": 1006}),
            (fails, (close_frame(1011),), "101", {"wire": "open", "by": "app_raise", "code": 1011}),
        ],
        ids=lambda value: getattr(value, "__name__", None),
    )
    def test_tell_who_ended_a_connection_where_and_with_which_code(
        self, app: App, data: tuple[bytes, ...], status: str, outcome: dict[str, Any]
    ) -> None:
        told = counted(app, *data)
        assert told["answered"] == {status: 1}
        assert told["outcomes"] == [outcome | {"count": 1}]

    def test_tell_what_happened(self) -> None:
        counters = Counters()

        async def test() -> None:
            async with serving(echo, Options(counters=counters)) as site, site.upgraded() as peer:
                peer.send(text("one"), text("two"), frame(9, b"hi"))
                for _ in range(3):
                    await peer.frame()
                peer.send(close_frame(1000))
                await peer.rest()

        run(test())
        told = counters.events
        assert (told["peer_message"], told["app_send"], told["peer_ping"], told["give_disconnect"]) == (2, 2, 1, 1)
        assert not counters.refused

    def test_tell_by_which_rule_an_app_was_refused(self) -> None:
        told = counted(is_wrong)
        assert told["refused"] == {"C41": 2, "R27": 1, "R32": 1}
        assert told["events"]["app_accept"] == 1, "what is refused has not happened"

    def test_tell_how_many_are_in_each_state(self) -> None:
        counters = Counters()

        async def test() -> None:
            async with serving(echo, Options(counters=counters)) as site:
                async with site.upgraded(), site.upgraded() as second:
                    assert counters.snapshot()["states"] == {"open": 2}
                    site.server.close()
                    assert counters.snapshot()["states"] == {"closing": 2}
                    second.send(close_frame(1012))
                    await until(lambda: counters.snapshot()["states"] == {"closing": 1})
                await until(lambda: counters.snapshot()["states"] == {})

        run(test())
        assert counters.outcomes == {("open", "server_shutdown", 1012): 2}

    def test_tell_of_requests_that_never_reach_an_app(self) -> None:
        counters = Counters()

        async def test() -> None:
            async with serving(echo, Options(counters=counters)) as site, site.peer() as peer:
                peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                peer.end()
                await peer.rest()

        run(test())
        assert counters.answered == {426: 1}

    def test_are_told_beside_an_observer(self) -> None:
        seen: list[str] = []
        told = counted(echo, close_frame(1000), observe=lambda answer: seen.append(answer.event))
        assert sum(told["events"].values()) == len(seen)


def test_prometheus_is_told_the_same() -> None:
    counters = Counters()
    sent: list[Any] = []

    async def test() -> None:
        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        async with serving(is_wrong, Options(counters=counters)) as site, site.peer() as peer:
            await conversation(site, peer)
        async with serving(echo, Options(counters=counters)) as site, site.upgraded():
            scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}
            await asgi_app(counters)(scope, receive, send)

    run(test())
    families = text_string_to_metric_families(sent[1]["body"].decode())
    found = {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}
    assert found["wslifecycle_connections", "open"] == 1
    assert found["wslifecycle_refused_total", "C41"] == 2
    assert found["wslifecycle_answered_total", "101"] == 2
    assert found["wslifecycle_events_total", "app_accept"] == 2
    assert found["wslifecycle_outcomes_total", "1006", "open", "peer_eof"] == 1


class TestTheLog:
    def test_has_the_end_as_attributes_of_its_record(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "wslifecycle")
        counted(echo, close_frame(3001, "bye"))
        accepted, closed = caplog.records
        assert vars(accepted)["status"] == 101
        assert {name: vars(closed)[name] for name in ("close_code", "close_reason", "ended_by", "ended_in")} == {
            "close_code": 3001,
            "close_reason": "bye",
            "ended_by": "peer_close",
            "ended_in": "open",
        }

    def test_shows_the_way_through_the_machine_to_those_who_ask(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "wslifecycle")
        counted(is_wrong)
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
        steps = [line.partition('"WebSocket /" ')[2] for line in lines]
        assert any(re.fullmatch(r"peer_lost in closed/\w+/\w+ \[W7\]", step) for step in steps)
        assert [step for step in steps if not step.startswith("peer_lost")] == [
            "app_send is refused in handshake/connect_due/running [C41]",
            "app_accept -> open/connect_due/running [R22]",
            "app_accept is refused in open/connect_due/running [C41]",
            "give_connect -> open/flowing/running [R20]",
            "peer_eof -> closed/disconnect_due/running [R28]",
            "give_disconnect -> closed/ended/running [R28]",
            "app_send is refused in closed/ended/running [R32]",
            "app_raise -> closed/ended/done [R52]",
        ]

    def test_shows_it_to_nobody_else(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "wslifecycle")
        counted(echo, close_frame(1000))
        assert [record.levelno for record in caplog.records] == [logging.INFO] * 2
        assert Options().connection(())._observe is None


class TestConnectionEnded:
    def test_is_none_until_it_has(self) -> None:
        connection = Connection()
        connection.app_sent(ACCEPT)
        assert connection.ended is None

    def test_keeps_what_came_first(self) -> None:
        connection = Connection()
        connection.app_sent(ACCEPT)
        connection.app_sent(CLOSE)
        connection.peer_closed(1000)
        connection.peer_lost()
        assert connection.ended == Ended(3000, "enough", "app_close", "open", "R37")

    def test_is_told_of_a_timer_by_its_event(self) -> None:
        connection = Connection()
        connection.app_sent(ACCEPT)
        connection.timed_out("keepalive")
        assert connection.ended is not None
        assert connection.ended[2:] == ("keepalive_expired", "open", "C33")
