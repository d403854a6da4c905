"""Reports of the conformance kit, made up: for the tests of everything that shows one."""

from __future__ import annotations

from typing import Any

from wslifecycle.conformance.kit.results import Deviation, Line, Report, Result, Verdict
from wslifecycle.statemachine.load import load_spec

SPEC = load_spec()
NASTY = "</script><script>window.pwned=1</script><img src=x onerror=pwned=1> \"'`& \x1b[31m\x00\r\u202e\ud800 日本 🦊"
"""What nobody should ever take for markup, for a command of a terminal, or for text that can be encoded as it is."""

TRACE = (
    Line("peer", "> GET with Upgrade: websocket"),
    Line("app", "receive()"),
    Line("app", "receive() gave websocket.connect"),
    Line("app", "send(websocket.accept)"),
    Line("peer", "< handshake subprotocol None, headers ((b'upgrade', b'websocket'), (b'connection', b'Upgrade'))"),
    Line("app", "send() returned"),
    Line("app", "returns"),
    Line("server", "is sent SIGTERM"),
    Line("peer", "reads nothing from now on"),
    Line("peer", "< close 1006", wrong=True),
)


def deviation(verdict: Verdict, rule: str, **other: Any) -> Deviation:
    """A deviation with something in every field."""
    fields: dict[str, Any] = {
        "state": "open/flowing/running",
        "event": "app_return",
        "expected": f"what {rule or 'nobody'} expects",
        "seen": f"what {rule or 'nobody'} sees",
        "case": "way:app_accept+app_return",
        "times": 2,
        "of": 3,
        "trace": TRACE,
        "repeat": "wslifecycle conformance some:server --case 'way:app_accept+app_return'",
    }
    return Deviation(verdict, rule, **fields | other)


def choice(number: str, answer: str, **other: Any) -> Deviation:
    """Another answer to a choice than the reference's."""
    fields: dict[str, Any] = {"state": "", "event": "", "expected": SPEC.choices[number].reference, "seen": answer}
    return deviation(Verdict.CHOICE, number, **fields | other, answer=answer, choice=number)


def result(server: str, *deviations: Deviation, **other: Any) -> Result:
    """A server with 60 rules tried and every choice answered."""
    answers = {number: choice.reference for number, choice in SPEC.choices.items()}
    fields: dict[str, Any] = {
        "version": "server 1.2.3, parts 4.5",
        "command": "server '{app}' --port '{port}'",
        "spec_version": "2.4",
        "extensions": ("websocket.http.response",),
        "cases": 1234,
        "tried": dict.fromkeys([*list(SPEC.rules)[:60], *SPEC.choices], 7),
        "answers": answers | {found.choice: found.answer for found in deviations if found.choice},
        "seconds": 61.234,
    }
    return Result(server=server, deviations=deviations, **fields | other)


def untried(server: str) -> Result:
    """A server with nothing tried."""
    return result(server, cases=0, tried={}, answers={}, seconds=0.0, version="", extensions=())


HEAVY = (
    deviation(Verdict.DIED, "", state="", event="", seen="the process died", log="one\n\x1b[31mSegmentation fault\n"),
    deviation(Verdict.HUNG, "", state="", event="", seen="nobody is served", trace=()),
    deviation(Verdict.CRASHED, "", state="", event="", seen="KeyError in the log"),
)
BROKEN = (
    deviation(Verdict.MUST, "R28", cases=("race:one", "race:two")),
    deviation(Verdict.MUST, "R28", event="", seen="the code is 1005", times=3),
    deviation(Verdict.MUST, "W7", expected="C10 own", seen="C10 none", answer="none", choice="C10"),
    deviation(Verdict.SHOULD, "R43"),
)
CHOICES = (choice("C2", "aborted"), choice("C42", "unanswered"), deviation(Verdict.CHOICE, "R52"))

REPORT = Report(
    "2026-11-27",
    (
        result("alpha", *CHOICES, *BROKEN, *HEAVY, unasked={"probe:too big": "there is no option for max_size"}),
        result("beta h11", deviation(Verdict.SHOULD, "R1"), choice("C2", "aborted")),
        result("gamma", version="gamma 0.1"),
        untried("delta"),
    ),
)
"""Every verdict, a server that passes, and one with nothing tried."""

LONG = Report(
    "2026-11-27",
    tuple(
        result(
            f"server {number} with a long name of many words",
            *(
                deviation(list(Verdict)[3 + place % 3], rule, trace=TRACE * 8 if number == 0 else TRACE)
                for place, rule in enumerate(list(SPEC.rules)[number:60:2])
            ),
        )
        for number in range(12)
    ),
)
"""Twelve servers, sixty rules; the first server has traces of eighty lines."""

WILD = Report(
    NASTY,
    (
        result(
            NASTY,
            deviation(
                Verdict.MUST,
                "R28",
                state=NASTY,
                event=NASTY,
                expected=NASTY,
                seen=NASTY + "x" * 3000,
                case=NASTY,
                trace=(*(Line(side, f"> {NASTY * 9}") for side in ("app", "peer", "server")), Line("app", NASTY, True)),
                repeat=NASTY,
                log=NASTY,
                cases=(NASTY, NASTY),
            ),
            choice("C2", NASTY),
            deviation(Verdict.MUST, NASTY),
            version=NASTY,
            command=NASTY,
            spec_version=NASTY,
            extensions=(NASTY,),
            unasked={NASTY: NASTY},
        ),
        result("a/b#c?d%e=%f,g:h", deviation(Verdict.SHOULD, "R28", seen="::error::100%0A\r\nmore, of: it")),
        result("a/b#c?d%e=%f,g:h", deviation(Verdict.MUST, "R28", seen="the second of the name")),
    ),
)
"""Nothing in it is harmless; two servers have the same name, and a rule is one that nobody knows."""

EMPTY = Report("2026-11-27", ())
EVERY = {"full": REPORT, "long": LONG, "wild": WILD, "empty": EMPTY}
