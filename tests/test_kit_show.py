"""A report as text: everything is told, in columns, without colour, and harmlessly."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from tests.reports import BROKEN, EMPTY, EVERY, NASTY, REPORT, SPEC, TRACE, WILD, choice, deviation, result, untried
from wslifecycle.conformance.kit import wording
from wslifecycle.conformance.kit.results import Deviation, Line, Report, Result, Verdict
from wslifecycle.conformance.kit.show import LOGGED, MARK, show


def shown(*results: Result, report: Report | None = None, width: int = 100, colour: bool = False) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    show(report or Report("2026-11-27", results), console)
    return file.getvalue()


def words(text: str) -> str:
    """The text without its line breaks and columns."""
    return " ".join(text.split())


def columns(text: str) -> list[tuple[str, str]]:
    """The two columns of every trace, each with its marks."""
    lines = [line.partition("│") for line in text.splitlines() if "│" in line]
    return [(left.strip(), right.strip()) for left, _, right in lines]


class TestSummary:
    def test_each_server_has_its_line(self) -> None:
        text = words(shown(report=REPORT))
        assert "alpha (server 1.2.3, parts 4.5): 1,234 cases in 61.2 s, with spec_version 2.4 and " in text
        assert "websocket.http.response: 1 died, 1 hung, 1 crashed, 3 must, 1 should, 3 choice" in text
        assert "websocket.http.response: as the reference delta: 0 cases" in text
        assert "delta: 0 cases in 0.0 s, with spec_version 2.4: nothing was tried" in text

    def test_the_table_counts_each_verdict(self) -> None:
        text = shown(report=REPORT)
        rows = {
            line.split()[0]: line.split()[-8:] for line in text.splitlines() if re.match(r"  (alpha|beta|delta) ", line)
        }
        assert rows["alpha"] == ["1", "1", "1", "3", "1", "3", str(60 + len(SPEC.choices)), "1,234"]
        assert rows["beta"] == ["-", "-", "-", "-", "1", "1", str(60 + len(SPEC.choices)), "1,234"]
        assert rows["delta"] == ["-", "-", "-", "-", "-", "-", "0", "0"]
        heads = ["server", *Verdict, "rules", "cases"]
        assert any(line.split() == heads for line in text.splitlines())

    @pytest.mark.parametrize(
        ("found", "says"),
        [((), "PASS"), ((choice("C2", "aborted"),), "PASS"), ((BROKEN[3],), "FAIL"), ((BROKEN[0],), "FAIL")],
    )
    def test_the_last_line_is_the_verdict(self, found: tuple[Deviation, ...], says: str) -> None:
        assert shown(result("some", *found)).splitlines()[-1] == says

    def test_an_empty_report_says_so(self) -> None:
        assert shown(report=EMPTY) == "No server was tried.\n"


class TestDeviation:
    def test_everything_about_it_is_told(self) -> None:
        text = shown(result("some", BROKEN[0]))
        assert "[R28 must] ASGI, Disconnect - receive event\n" in text
        assert SPEC.rules["R28"].says in words(text)
        for name, value in (
            ("expected", "what R28 expects"),
            ("seen", "what R28 sees"),
            ("where", "open/flowing/running, at app_return"),
            ("runs", "2 of 3; 2 other cases show it, too"),
            ("repeat", BROKEN[0].repeat),
        ):
            assert re.search(rf"^  {name} +{re.escape(value)} *$", text, re.MULTILINE), name

    def test_the_heaviest_come_first(self) -> None:
        heads = re.findall(r"^\[(.*)\]", shown(report=REPORT), re.MULTILINE)
        expected = ["died", "hung", "crashed", "R28 must", "R28 must", "W7 must", "R43 should", "R1 should"]
        assert heads == expected

    def test_the_words_of_a_rule_are_said_once(self) -> None:
        assert words(shown(result("some", *BROKEN))).count(SPEC.rules["R28"].says) == 1

    def test_an_answer_that_breaks_a_rule_names_its_choice(self) -> None:
        assert f"choice C10 {SPEC.choices['C10'].about}" in words(shown(result("some", BROKEN[2])))

    def test_the_trace_stands_in_two_columns(self) -> None:
        text = shown(result("some", BROKEN[0]), width=240)
        told = columns(text)
        assert told[0] == ("app", "peer")
        sides = [(line.text, "") if line.side == "app" else ("", line.text) for line in TRACE if line.side != "server"]
        assert told[1:-1] == sides[:-1]
        assert told[-1] == ("", f"{MARK} < close 1006")
        middle = {line.index("│") for line in text.splitlines() if "│" in line}
        assert len(middle) == 1
        assert re.search("^    ── server: is sent SIGTERM *$", text, re.MULTILINE)

    @pytest.mark.parametrize("side", ["app", "peer", "server"])
    def test_the_parting_line_is_marked_and_no_other(self, side: str) -> None:
        trace = (Line("app", "before"), Line("peer", "before"), Line(side, "here", True))
        (marked,) = (
            line
            for line in shown(result("some", deviation(Verdict.MUST, "R28", trace=trace))).splitlines()
            if MARK in line
        )
        assert re.search(rf"{MARK} (── server: )?here", marked)

    def test_a_line_that_is_wrapped_stays_in_its_column(self) -> None:
        trace = (Line("app", "a " * 60), Line("peer", "p " * 60 + "x" * 80, True))
        told = columns(shown(result("some", deviation(Verdict.MUST, "R28", trace=trace))))[1:]
        assert "".join(left for left, _ in told).replace(" ", "") == "a" * 60
        assert "".join(right for _, right in told).replace(" ", "") == MARK + "p" * 60 + "x" * 80
        assert len(told) > 5

    def test_the_command_is_never_broken(self) -> None:
        repeat = f"wslifecycle conformance some:server --case {'way:' + 'app_send+' * 40}"
        text = shown(result("some", deviation(Verdict.MUST, "R28", repeat=repeat)))
        assert any(line.endswith(repeat) for line in text.splitlines())

    def test_what_no_rule_speaks_of_shows_the_end_of_the_log(self) -> None:
        log = "\n".join(f"line {number}" for number in range(100))
        text = shown(result("some", deviation(Verdict.DIED, "", log=log)))
        assert re.findall(r"line \d+", text) == [f"line {number}" for number in range(100 - LOGGED, 100)]
        assert "line 99" not in shown(result("some", deviation(Verdict.MUST, "R28", log=log)))

    def test_one_without_a_trace_says_so(self) -> None:
        assert "There is no trace." in shown(result("some", deviation(Verdict.HUNG, "", trace=())))


class TestChoices:
    def test_a_row_says_choice_about_reference_and_answer(self) -> None:
        text = shown(result("some", choice("C42", "unanswered")), width=160)
        assert re.search(
            rf"^  C42 +{re.escape(SPEC.choices['C42'].about)} +answered +unanswered +×1 *$", text, re.MULTILINE
        )

    def test_what_is_the_same_in_several_states_is_one_row(self) -> None:
        found = [deviation(Verdict.CHOICE, "R52", state=f"state {number}") for number in range(4)]
        text = words(shown(result("some", *found, deviation(Verdict.CHOICE, "R52", seen="another")), width=160))
        assert text.count("R52 The app's call lasts") == 1
        assert "what R52 sees ×4" in text
        assert "another ×1" in text

    def test_it_has_no_trace(self) -> None:
        assert "│" not in shown(result("some", choice("C42", "unanswered")))

    def test_without_any_there_is_no_table(self) -> None:
        assert "choice" not in shown(result("some", BROKEN[3])).split("should] ")[1]


def test_what_was_not_asked_is_told_with_the_reason() -> None:
    assert "\nNot asked: probe:too big: there is no option for max_size\n" in shown(report=REPORT)


def test_a_server_with_nothing_to_tell_has_no_section() -> None:
    text = shown(result("some"), untried("other"))
    assert not re.search("^(some|other) ─", text, re.MULTILINE)
    assert re.search("^alpha ─", shown(report=REPORT), re.MULTILINE)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", [100, 200])
def test_it_fits_without_colour(name: str, width: int) -> None:
    text = shown(report=EVERY[name], width=width)
    assert "\x1b" not in text
    for line in text.splitlines():
        # wide letters count twice, and only the command may be longer
        assert len(line) <= width or line.startswith("  repeat ")


def test_colour_is_the_consoles() -> None:
    text = shown(result("some", BROKEN[0]), colour=True)
    assert "\x1b[1;31m[R28 must]\x1b[0m" in text
    assert f"\x1b[1;31m{MARK}\x1b[0m" in text
    assert "\x1b[1;31m< close 1006\x1b[0m" in text
    assert "\x1b[1;31mreturns" not in text


def test_text_of_others_does_nothing() -> None:
    text = shown(report=WILD)
    text.encode()
    assert not set(text) & {"\x1b", "\x00", "\r", "\u202e"}
    assert "\\x1b[31m\\x00\\r\\u202e\\ud800" in text
    for markup in ("[bold]", "[/]", "[R28 must]", ":fox:"):
        assert markup in shown(result(markup, deviation(Verdict.MUST, "R28", seen=markup, repeat=markup)))


class TestWording:
    def test_what_cannot_be_seen_is_written_out(self) -> None:
        assert wording.visible("a\tb\x1b\x9b\u200b\ud800\n日本 🦊") == "a\\tb\\x1b\\x9b\\u200b\\ud800\n日本 🦊"
        assert wording.visible(NASTY).encode()

    def test_a_number_that_nobody_knows_is_told_as_such(self) -> None:
        assert wording.about("R999").says == "This release does not know it."
        assert wording.numbers([result("some", deviation(Verdict.MUST, "R999"))])[-1] == "R999"

    def test_numbers_stand_in_the_order_of_the_spec(self) -> None:
        found = wording.numbers([result("some", tried={"C2": 1, "W1": 1, "R10": 1, "R9": 1, "R8": 0}, answers={})])
        assert found == ["", "R9", "R10", "W1", "C2"]

    def test_nothing_is_concerned_where_nothing_was_tried(self) -> None:
        assert wording.numbers([untried("some")]) == []

    @pytest.mark.parametrize(
        ("state", "event", "says"),
        [
            ("open", "app_close", "open, at app_close"),
            ("open", "", "open, at the end"),
            ("", "", ""),
            ("", "x", "at x"),
        ],
    )
    def test_where(self, state: str, event: str, says: str) -> None:
        assert wording.where(deviation(Verdict.MUST, "R28", state=state, event=event)) == says
