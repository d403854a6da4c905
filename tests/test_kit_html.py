"""The page with the matrix, in a real browser: on a phone and on a desk, by mouse and by keyboard, light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import Browser, Page, browser
from tests.reports import BROKEN, EVERY, LONG, NASTY, REPORT, SPEC, TRACE, WILD, choice, deviation, result
from wslifecycle.conformance.kit.html import GLYPHS, HELD, page
from wslifecycle.conformance.kit.results import Line, Report, Verdict, load_report
from wslifecycle.conformance.kit.wording import visible

SIZES = [(390, 844), (1440, 900)]
R28 = 'button.cell[data-server="0"][data-rule="R28"]'


def script_free(text: str) -> str:
    """The page without its own style, script and data."""
    return re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)


# ------------------------------------------------------------------------------------------------ the text


@pytest.mark.parametrize("name", EVERY)
def test_the_same_report_gives_the_same_page(name: str) -> None:
    text = page(EVERY[name])
    assert text == page(load_report(EVERY[name].dump()))
    text.encode()


@pytest.mark.parametrize("name", EVERY)
def test_nothing_in_the_page_comes_from_elsewhere(name: str) -> None:
    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in ("iframe", "img", "object", "embed", "form", "base", "a", "audio", "video"), tag
            for key, value in attributes:
                assert not key.startswith("on"), key
                assert key not in ("src", "style", "srcset", "action"), key
                assert key != "href" or (value or "").startswith("data:image/svg+xml,"), value

    text = page(EVERY[name])
    Links().feed(text)
    style = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|@font-face", style[0])


@pytest.mark.parametrize("name", EVERY)
def test_the_policy_allows_this_style_and_this_script_and_nothing_else(name: str) -> None:
    text = page(EVERY[name])
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)
    digests = {}
    for kind in ("style", "script"):
        (content,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digests[kind] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digests['style']}'",
        f"script-src 'sha256-{digests['script']}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_text_of_others_is_no_markup() -> None:
    text = page(WILD)
    assert text.count("</script") == text.count("<script") == 2
    assert not set(text) & {"\x1b", "\x00", "\r", "\u202e", "\ud800"}
    assert "<img" not in text
    assert "日本 🦊" in script_free(text)
    (data,) = re.findall('<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(data)["servers"][0]["name"] == visible(NASTY)


# ------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each report in a file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in EVERY.items():
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in EVERY}


@pytest.fixture
def desk(chrome: Browser) -> Iterator[Page]:
    with Page(chrome, 1440, 900) as opened:
        yield opened
        assert opened.problems == []


@pytest.fixture
def phone(chrome: Browser) -> Iterator[Page]:
    with Page(chrome, 390, 844) as opened:
        yield opened
        assert opened.problems == []


def body(opened: Page) -> str:
    """What the panel says, without line breaks."""
    return " ".join(str(opened.js("document.getElementById('panel').innerText")).split())


def shut(opened: Page) -> bool:
    return opened.js("document.getElementById('panel').open") is False


def leave(opened: Page) -> None:
    """Presses Escape, and waits until the panel is closed and all that follows from that is done."""
    panel = "document.getElementById('panel')"
    opened.js(f"{panel}.left = new Promise(done => {panel}.addEventListener('close', () => done(), {{once: true}})); 0")
    opened.press("Escape")
    opened.js(f"{panel}.left")
    assert shut(opened)


def cells(opened: Page, rule: str) -> list[str]:
    """What the cells of a row show."""
    find = f"document.querySelectorAll('tr[data-rule=\"{rule}\"] td')"
    shown: list[str] = opened.js(
        f"[...{find}].map(cell => {{ const copy = cell.cloneNode(true);"
        "copy.querySelectorAll('.unseen').forEach(part => part.remove()); return copy.textContent.trim(); })"
    )
    return [" ".join(text.split()) for text in shown]


def rules(opened: Page) -> list[str]:
    """The rows that are shown."""
    return list(
        opened.js(
            "[...document.querySelectorAll('tr[data-rule]')].filter(r => r.checkVisibility()).map(r => r.dataset.rule)"
        )
    )


class TestFit:
    @pytest.mark.parametrize("name", EVERY)
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_no_page_scrolls_sideways_or_asks_for_anything(
        self, chrome: Browser, files: dict[str, Path], name: str, size: tuple[int, int]
    ) -> None:
        with Page(chrome, *size) as opened:
            opened.load(files[name].as_uri())
            assert opened.js("[document.documentElement.scrollWidth, innerWidth]") == [size[0], size[0]]
            assert opened.requests == [files[name].as_uri()]
            assert opened.problems == []
            assert opened.js("typeof pwned") == "undefined"

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_heads_and_rules_stay_in_sight(
        self, chrome: Browser, files: dict[str, Path], size: tuple[int, int]
    ) -> None:
        with Page(chrome, *size) as opened:
            opened.load(files["long"].as_uri())
            where = (
                "(() => { const at = s => document.querySelector(s).getBoundingClientRect();"
                "return [at('thead th').top, at('thead th').left, at('tr[data-rule=R9] th').left, at('td').left]; })()"
            )
            before = opened.js(where)
            opened.js("document.querySelector('.box').scrollTo(300, 900)")
            after = opened.js(where)
            assert before[:3] == after[:3]
            assert after[3] == before[3] - 300

    def test_the_matrix_scrolls_in_its_own_box_on_a_phone(self, phone: Page, files: dict[str, Path]) -> None:
        phone.load(files["full"].as_uri())
        width, room = phone.js("(b => [b.scrollWidth, b.clientWidth])(document.querySelector('.box'))")
        assert width > room

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_every_text_can_be_read(self, desk: Page, files: dict[str, Path], scheme: str) -> None:
        desk.media("", scheme)
        desk.load(files["full"].as_uri())
        desk.click(R28)
        found = desk.js(CONTRASTS)
        assert len(found) > 100
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []
        (ground,) = re.findall(r"\d+", desk.js("getComputedStyle(document.body.parentNode).backgroundColor"))[:1]
        assert (int(ground) < 40) == (scheme == "dark")


CONTRASTS = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
  };
  return [...document.querySelectorAll('body *')].filter(element =>
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    && element.checkVisibility() && !element.closest('svg, script, .unseen')
  ).map(element => {
    const [a, b] = [getComputedStyle(element).color, ground(element)].map(light).sort((x, y) => y - x);
    return [element.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)];
  });
})()
"""
"""Every text that is to be seen, with its contrast to what is behind it."""


class TestMatrix:
    def test_a_cell_says_in_glyph_and_word_what_was_found(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        assert cells(desk, "process") == [
            f"{GLYPHS[Verdict.DIED]}died ×3",
            f"{HELD}held 1,234",
            f"{HELD}held 1,234",
            "",
        ]
        assert cells(desk, "R28") == [f"{GLYPHS[Verdict.MUST]}must ×2", f"{HELD}held 7", f"{HELD}held 7", ""]
        assert cells(desk, "R1") == [f"{HELD}held 7", f"{GLYPHS[Verdict.SHOULD]}should", f"{HELD}held 7", ""]
        assert cells(desk, "W7") == [f"{GLYPHS[Verdict.MUST]}must", "", "", ""]
        assert cells(desk, "C2") == [f"{GLYPHS[Verdict.CHOICE]}aborted"] * 2 + [f"{HELD}close_1000 7", ""]
        assert cells(desk, "C10") == [f"{GLYPHS[Verdict.MUST]}none", f"{HELD}own 7", f"{HELD}own 7", ""]

    def test_no_two_verdicts_look_alike(self) -> None:
        assert len({*GLYPHS.values(), HELD}) == len(Verdict) + 1

    def test_rows_are_what_was_tried_in_groups(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        assert rules(desk) == ["process", *list(SPEC.rules)[:60], "W7", *SPEC.choices]
        heads = desk.js("[...document.querySelectorAll('tbody .group')].map(head => head.innerText)")
        assert [head.split()[0] for head in heads] == ["Process", "R", "W", "C"]
        names = desk.js("[...document.querySelectorAll('thead b')].map(head => head.innerText)")
        assert names == ["alpha", "beta h11", "gamma", "delta"]

    def test_a_table_that_a_reader_of_screens_understands(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        assert desk.js("document.querySelectorAll('tr[data-rule]').length") == desk.js(
            "document.querySelectorAll('tr[data-rule] th[scope=row]').length"
        )
        text = " ".join(desk.js(f"document.querySelector('{R28}').textContent").split())
        assert text == f"alpha, R28: {GLYPHS[Verdict.MUST]}must ×2"
        assert desk.js("document.querySelector('button.cell[data-rule=C10]').textContent.includes('none, must')")

    def test_an_empty_report_says_so(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["empty"].as_uri())
        assert "No server was tried." in desk.js("document.querySelector('main').innerText")


class TestPanel:
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_a_click_opens_it_and_escape_leads_back(
        self, chrome: Browser, files: dict[str, Path], size: tuple[int, int]
    ) -> None:
        with Page(chrome, *size) as opened:
            opened.load(files["full"].as_uri())
            assert shut(opened)
            opened.click(R28)
            text = body(opened)
            for part in (
                "R28, alpha",
                "definition · ASGI, Disconnect - receive event",
                SPEC.rules["R28"].says,
                f"{GLYPHS[Verdict.MUST]}must",
                "expected what R28 expects",
                "seen what R28 sees",
                "seen the code is 1005",
                "where open/flowing/running, at app_return",
                "runs 2 of 3; 2 other cases show it, too",
                BROKEN[0].repeat,
            ):
                assert part in text.replace(f"{GLYPHS[Verdict.MUST]} ", GLYPHS[Verdict.MUST]), part
            assert opened.js("document.querySelectorAll('#panel article').length") == 2
            assert opened.js("location.hash") == "#alpha/R28"
            leave(opened)
            assert opened.js(f"document.activeElement === document.querySelector('{R28}')")
            assert opened.js("location.href") == files["full"].as_uri()
            assert opened.problems == []

    def test_enter_opens_it_and_the_button_closes_it(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.js(f"document.querySelector('{R28}').focus()")
        desk.press("Enter")
        assert "R28, alpha" in body(desk)
        assert desk.js("document.activeElement.id") == "panel-title"
        desk.press("Tab")
        desk.press("Enter")
        assert shut(desk)
        assert desk.js(f"document.activeElement === document.querySelector('{R28}')")

    def test_a_click_beside_it_closes_it_and_one_within_does_not(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click('button.cell[data-server="1"][data-rule="C2"]')
        desk.click_at(1200, 880)
        assert not shut(desk)
        desk.click_at(20, 500)
        assert shut(desk)

    def test_on_a_phone_it_takes_the_whole_screen(self, phone: Page, files: dict[str, Path]) -> None:
        phone.load(files["wild"].as_uri())
        phone.click(R28)
        rectangle = phone.js(
            "(r => [r.x, r.y, r.width, r.height])(document.getElementById('panel').getBoundingClientRect())"
        )
        assert rectangle == [0, 0, 390, 844]
        assert phone.js("document.getElementById('panel').scrollWidth") <= 390
        assert phone.js("document.documentElement.scrollWidth") == 390

    def test_what_concerns_two_rows_is_in_both(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click('button.cell[data-rule="W7"]')
        assert f"also C10 {SPEC.choices['C10'].about}" in body(desk)
        leave(desk)
        desk.click('button.cell[data-rule="C10"]')
        assert f"also W7 {SPEC.rules['W7'].says}" in body(desk)
        assert "seen C10 none" in body(desk)

    def test_a_server_is_told_by_its_head(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click('thead button[data-server="0"]')
        text = body(desk)
        for part in (
            "version server 1.2.3, parts 4.5",
            "started with server '{app}' --port '{port}'",
            "spec_version 2.4",
            "extensions websocket.http.response",
            "cases 1,234 in 61.2 s",
            "What was not asked probe:too big there is no option for max_size",
        ):
            assert part in text
        assert desk.js("document.querySelectorAll('#panel article').length") == len(REPORT.results[0].deviations)
        assert desk.js("location.hash") == "#alpha"

    def test_a_rule_is_told_by_its_name_over_all_servers(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click('th button[data-rule="C2"]')
        assert desk.js("[...document.querySelectorAll('#panel h3')].map(h => h.innerText)") == ["alpha", "beta h11"]
        assert desk.js("location.hash") == "#/C2"
        leave(desk)
        desk.click('th button[data-rule="R2"]')
        assert "No deviation was found." in body(desk)

    def test_log_and_other_cases_can_be_opened(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click('button.cell[data-rule="process"]')
        assert "Segmentation" not in body(desk)
        desk.click("#panel details summary")
        assert "one \\x1b[31mSegmentation fault" in body(desk)

    def test_the_command_is_copied(self, chrome: Browser, desk: Page, files: dict[str, Path]) -> None:
        chrome.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        desk.load(files["full"].as_uri())
        desk.click(R28)
        desk.click("#panel .copy")
        assert (
            desk.js("new Promise(done => setTimeout(() => done(document.querySelector('.copy').innerText), 50))")
            == "Copied"
        )
        assert desk.js("navigator.clipboard.readText()") == BROKEN[0].repeat

    def test_where_nothing_can_be_copied_it_is_selected(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.js("navigator.clipboard.writeText = () => Promise.reject(new Error())")
        desk.click(R28)
        desk.click("#panel .copy")
        assert desk.js("getSelection().toString()") == BROKEN[0].repeat


class TestDiagram:
    DRAWN = """[...document.querySelectorAll('#panel article')].map(a => [...a.querySelectorAll('g.line')].map(line => [
        [...line.querySelectorAll('text:not(.parting)')].map(text => text.textContent).join(''),
        line.classList.contains('wrong'), line.querySelector('.parting')?.textContent ?? '',
        line.querySelector('.arrow')?.getAttribute('d') ?? '']))"""

    def drawn(self, opened: Page) -> list[list[Any]]:
        """The lines of the first diagram."""
        found: list[list[list[Any]]] = opened.js(self.DRAWN)
        return found[0]

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_every_line_of_the_trace_is_there(
        self, chrome: Browser, files: dict[str, Path], size: tuple[int, int]
    ) -> None:
        with Page(chrome, *size) as opened:
            opened.load(files["full"].as_uri())
            opened.click(R28)
            lines = self.drawn(opened)
            said = [re.sub("^[<>] ", "", line.text) for line in TRACE]
            said[7] = f"server: {said[7]}"
            assert [line[0].replace(" ", "") for line in lines] == [text.replace(" ", "") for text in said]
            assert [line[1] for line in lines] == [line.wrong for line in TRACE]
            assert [line[2] for line in lines] == [""] * 9 + ["✕ the paths part here"]
            middle, far = lines[9][3].split()[0][1:], lines[0][3].split()[0][1:]
            starts = [line[3].split()[0][1:] if line[3] else None for line in lines]
            assert starts == [far, "26", middle, "26", middle, middle, None, None, None, middle]
            assert float(middle) * 2 == float(far) + 26

    @pytest.mark.parametrize("name", ["wild", "long"])
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_no_text_leaves_its_half(
        self, chrome: Browser, files: dict[str, Path], name: str, size: tuple[int, int]
    ) -> None:
        with Page(chrome, *size) as opened:
            opened.load(files[name].as_uri())
            opened.js("document.querySelector('button.cell[data-server=\"0\"]').click()")
            boxes = opened.js(
                "(svg => [...svg.querySelectorAll('.line text:not(.parting)')].map(t => t.getBBox())"
                ".map(b => [b.x, b.x + b.width, svg.clientWidth]))(document.querySelector('svg.trace'))"
            )
            assert len(boxes) > (50 if name == "long" else 20)
            for left, right, width in boxes:
                assert right <= (width / 2 if left < width / 2 and left > 15 else width)

    def test_a_server_that_is_wrong_is_marked_across(self, desk: Page, tmp_path: Path) -> None:
        trace = (Line("app", "receive()"), Line("server", "the process has ended", True))
        file = tmp_path / "page.html"
        file.write_text(page(Report("2026-11-27", (result("some", deviation(Verdict.DIED, "", trace=trace)),))))
        desk.load(f"{file.as_uri()}#some/process")
        assert self.drawn(desk)[1][:2] == ["✕ the paths part here; server: the process has ended", True]

    def test_it_is_drawn_anew_for_another_width(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click(R28)
        wide = desk.js("document.querySelector('svg.trace').viewBox.baseVal.width")
        desk.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=False)
        desk.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        narrow = desk.js("document.querySelector('svg.trace').viewBox.baseVal.width")
        assert narrow < 390 < wide
        assert len(self.drawn(desk)) == len(TRACE)


class TestLinks:
    @pytest.mark.parametrize(
        ("fragment", "says"),
        [
            ("alpha/R28", "R28, alpha"),
            ("alpha", "started with"),
            ("/C2", "C2, every server"),
            ("beta%20h11/C2", "C2, beta h11"),
        ],
    )
    def test_a_link_opens_the_panel(self, desk: Page, files: dict[str, Path], fragment: str, says: str) -> None:
        desk.load(f"{files['full'].as_uri()}#{fragment}")
        assert says in body(desk)
        leave(desk)
        assert desk.js("document.activeElement.closest('table') !== null")

    @pytest.mark.parametrize("fragment", ["", "nobody", "alpha/R999", "alpha/R28/more", "%E0%A4%A", "/", "/__proto__"])
    def test_a_link_to_nothing_opens_nothing(self, desk: Page, files: dict[str, Path], fragment: str) -> None:
        desk.load(f"{files['full'].as_uri()}#{fragment}")
        assert shut(desk)

    def test_another_fragment_opens_another(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(f"{files['full'].as_uri()}#alpha/R28")
        desk.js("document.querySelector('.copy').focus()")
        desk.js(
            "new Promise(done => { addEventListener('hashchange', done); location.hash = '#alpha/W7'; }).then(() => 0)"
        )
        assert "W7, alpha" in body(desk)
        assert desk.js("document.activeElement.id") == "panel-title"

    @pytest.mark.parametrize(
        ("server", "seen"), [(0, visible(NASTY)[:20]), (1, "::error::100%0A"), (2, "the second of the name")]
    )
    def test_a_link_to_any_name_leads_back_to_it(
        self, desk: Page, files: dict[str, Path], server: int, seen: str
    ) -> None:
        desk.load(files["wild"].as_uri())
        desk.click(R28.replace('"0"', f'"{server}"'))
        link, text = desk.js("location.hash"), body(desk)
        assert seen in text
        desk.load("about:blank")
        desk.load(f"{files['wild'].as_uri()}{link}")
        assert body(desk) == text

    def test_the_form_is_server_slash_rule(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["wild"].as_uri())
        desk.click(R28.replace('"0"', '"1"'))
        assert desk.js("location.hash") == f"#{quote('a/b#c?d%e=%f,g:h', safe='')}/R28"


class TestFilter:
    def pick(self, opened: Page, value: str) -> None:
        opened.click(f"input[name=show][value={value}]")

    def test_only_differences_or_a_verdict(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        every = rules(desk)
        self.pick(desk, "different")
        assert rules(desk) == ["process", "R1", "R28", "R43", "R52", "W7", "C2", "C10", "C42"]
        assert desk.js("document.getElementById('shown').textContent") == f"9 of {len(every)}"
        self.pick(desk, "must")
        assert rules(desk) == ["R28", "W7", "C10"]
        assert desk.js("[...document.querySelectorAll('tbody')].filter(t => t.checkVisibility()).length") == 3
        self.pick(desk, "hung")
        assert rules(desk) == ["process"]
        self.pick(desk, "all")
        assert rules(desk) == every

    def test_each_chip_says_how_many_rules_it_shows(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        values = desk.js("[...document.querySelectorAll('input[name=show]')].map(input => input.value)")
        assert values == ["all", "different", *Verdict]
        for value in values:
            self.pick(desk, value)
            number = desk.js(f"document.querySelector('input[value={value}] + span b').innerText")
            assert int(number) == len(rules(desk)) > 0

    def test_words_find_rules(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        desk.click("#find")
        desk.type("CLOSE frame")
        found = rules(desk)
        assert "R37" in found
        for number in found:
            says = SPEC.rules[number].says if number in SPEC.rules else SPEC.choices[number].about
            assert "close" in says.lower(), number
            assert "frame" in says.lower(), number
        desk.type(" nowhere")
        assert rules(desk) == []
        assert desk.js("document.getElementById('none').checkVisibility()")

    def test_without_a_verdict_there_is_no_chip_for_it(self, desk: Page, tmp_path: Path) -> None:
        file = tmp_path / "page.html"
        file.write_text(page(Report("2026-11-27", (result("some", choice("C2", "aborted")),))), encoding="utf-8")
        desk.load(file.as_uri())
        assert desk.js("[...document.querySelectorAll('input[name=show]')].map(input => input.value)") == [
            "all",
            "different",
            "choice",
        ]


class TestPrint:
    def pages(self, opened: Page) -> int:
        """On how many sheets it is printed."""
        made = base64.b64decode(opened.call("Page.printToPDF")["data"])
        return max(map(int, re.findall(rb"/Count (\d+)", made)))

    def test_all_of_the_matrix_is_printed_and_no_tools(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(files["full"].as_uri())
        assert self.pages(desk) > 5
        desk.media("print")
        inner, outer = desk.js("(box => [box.scrollHeight, box.clientHeight])(document.querySelector('.box'))")
        assert inner == outer > 3000
        assert desk.js("[...document.querySelectorAll('.filter, .close')].every(e => !e.checkVisibility())")

    def test_an_open_panel_is_printed_alone_and_whole(self, desk: Page, files: dict[str, Path]) -> None:
        desk.load(f"{files['full'].as_uri()}#alpha")
        assert self.pages(desk) > 5
        desk.media("print")
        assert desk.js("document.querySelector('#panel article').checkVisibility()")
        assert not desk.js("document.querySelector('table').checkVisibility()")


def test_many_servers_and_rules_are_made_and_opened_at_once(desk: Page, files: dict[str, Path]) -> None:
    assert len(LONG.results) == 12
    desk.load(files["long"].as_uri())
    desk.click('thead button[data-server="0"]')
    assert desk.js("document.querySelectorAll('svg.trace g.line').length") == 80 * len(LONG.results[0].deviations)
