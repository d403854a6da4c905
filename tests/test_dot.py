"""DOT and what the program `dot` makes of it: colours, lines, tooltips, and what happens where something is missing."""

import html
import os
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from wslifecycle.statemachine import dot
from wslifecycle.statemachine.draw import DrawingError, draw, draw_all, picture_of
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.picture import Binding, Kind

PICTURES = ("lifecycle", "wire", "inbox", "app", "product")
SVG = "{http://www.w3.org/2000/svg}"
BLUE, ORANGE, PURPLE, BROWN, GREEN, GREY = "#0061a8", "#b84a00", "#a0427a", "#7a6200", "#00735a", "#5a5a5a"
needs_dot = pytest.mark.skipif(not shutil.which("dot"), reason="the program `dot` is not here")


@pytest.fixture(scope="module")
def machine() -> Lifecycle:
    return lifecycle()


def edges(source: str) -> list[tuple[str, str, dict[str, str]]]:
    """The edges of a DOT text, with their attributes."""
    name = r'("[^"]*"|[\w]+)'
    found = re.findall(rf"^\t+{name} -> {name}(?: \[(.*)\])?$", source, re.MULTILINE)
    return [
        (
            tail.strip('"'),
            head.strip('"'),
            {key: value.strip('"') for key, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[\w.]+)', attributes)},
        )
        for tail, head, attributes in found
    ]


class TestColoursAndLines:
    @pytest.mark.parametrize(
        ("region", "ends", "words", "colour", "style"),
        [
            ("wire", ("handshake", "open"), "app: websocket.accept", BLUE, "solid"),
            ("wire", ("handshake", "closed"), "app: return, raise", BLUE, "dotted"),
            ("wire", ("handshake", "denial_held"), "app:", BLUE, "dashed"),
            ("wire", ("open", "closed"), "peer: close", ORANGE, "solid"),
            ("wire", ("open", "closed"), "peer: eof, lost", ORANGE, "dashed"),
            ("wire", ("open", "failing"), "peer: violation", ORANGE, "dotted"),
            ("wire", ("open", "closing"), "server: shutdown", PURPLE, "dotted"),
            ("wire", ("closing", "closed"), "clock: close timeout", BROWN, "dotted"),
            ("inbox", ("connect_due", "waiting"), "receive(): websocket.connect", GREEN, "solid"),
            ("inbox", ("disconnect_due", "ended"), "receive(): websocket.disconnect", GREEN, "dashed"),
            ("inbox", ("waiting", "flowing"), "when wire is open", f"{GREY}:{GREY}", "solid"),
            ("inbox", ("flowing", "disconnect_due"), "when wire is closing", f"{GREY}:{GREY}", "dashed"),
        ],
    )
    def test_colour_says_who_and_line_how_binding(
        self, machine: Lifecycle, region: str, ends: tuple[str, str], words: str, colour: str, style: str
    ) -> None:
        found = [
            (given["color"], given["style"])
            for tail, head, given in edges(draw(machine, "dot", region).decode())
            if (tail, head) == ends and given["label"].startswith(words)
        ]
        assert found == [(colour, style)]

    def test_every_actor_and_level_has_its_own(self, machine: Lifecycle) -> None:
        actors = {edge.actor for name in PICTURES for edge in picture_of(machine, name).edges}
        assert actors == set(dot.COLOURS)
        assert len(set(dot.COLOURS.values())) == len(dot.COLOURS)
        assert sorted(dot.STYLES) == sorted(Binding)
        assert len(set(dot.STYLES.values())) == 3
        assert len(set(dot.HEADS.values())) == len(Kind)

    @pytest.mark.parametrize("actor", dot.COLOURS)
    def test_text_reads_well_on_white(self, actor: str) -> None:
        """A contrast of 4.5 : 1 at least (WCAG 2, level AA)."""
        parts = [int(dot.COLOURS[actor][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5

    def test_what_stays_stands_in_its_box(self, machine: Lifecycle) -> None:
        source = draw(machine, "dot", "wire").decode()
        (box,) = (line for line in source.splitlines() if line.startswith("\topen [label="))
        assert f'STYLE="solid" COLOR="{BLUE}"' in box
        assert "↻ app: websocket.send" in box
        assert f'STYLE="solid" COLOR="{ORANGE}"' in box
        assert "↻ peer: message" in box
        assert not any(tail == head for tail, head, _ in edges(source))

    def test_what_is_not_obeyed_says_so(self, machine: Lifecycle) -> None:
        source = draw(machine, "dot", "wire", all_answers=True).decode()
        assert "app refused: " in source
        assert "peer ignored: " in source
        assert "refused" not in draw(machine, "dot", "wire").decode()


class TestLegend:
    @pytest.mark.parametrize("region", PICTURES)
    def test_it_explains_what_is_drawn_and_no_more(self, machine: Lifecycle, region: str) -> None:
        legend = re.search(r"^\tgraph \[bgcolor=.*$", draw(machine, "dot", region).decode(), re.MULTILINE)
        assert legend
        picture = picture_of(machine, region)
        drawn = {edge.actor for edge in picture.edges}
        assert {actor for actor, colour in dot.COLOURS.items() if colour in legend[0]} == drawn
        for line in picture.caption.split("\n"):
            assert html.escape(line) in legend[0]
        for word, says in picture.key:
            assert f"<B>{word}</B>: {html.escape(says)}" in legend[0]
        assert [style for style in ("solid", "dashed", "dotted") if f'STYLE="{style}"' in legend[0]] == [
            "solid",
            "dashed",
            "dotted",
        ]


@needs_dot
class TestSvg:
    @pytest.mark.parametrize("region", PICTURES)
    @pytest.mark.parametrize("all_answers", [False, True])
    def test_it_shows_what_the_picture_says(self, machine: Lifecycle, region: str, all_answers: bool) -> None:
        shown = dot.shown_in(draw(machine, "svg", region, all_answers=all_answers))
        assert shown == dot.to_be_shown(picture_of(machine, region, all_answers=all_answers))

    def test_every_box_and_arrow_has_its_tooltip(self, machine: Lifecycle) -> None:
        tree = ElementTree.fromstring(draw(machine, "svg", "wire"))
        tips = {
            group.findtext(f"{SVG}title"): anchor.get("{http://www.w3.org/1999/xlink}title", "")
            for group in tree.iter(f"{SVG}g")
            for anchor in group.iter(f"{SVG}a")
            if group.get("class") in ("node", "edge")
        }
        for node in picture_of(machine, "wire").nodes:
            assert node.says in tips[node.name]
        assert machine.spec.rules["R22"].says in tips["handshake->open"]
        assert 'Rule R22, ASGI, "Connect - receive event".' in tips["handshake->open"]
        assert machine.spec.rules["R26"].says in tips["open"]  # what stays in a box is told by the box

    @pytest.mark.parametrize("region", ["lifecycle", "wire", "inbox"])
    def test_it_fits_a_readme(self, machine: Lifecycle, region: str) -> None:
        size = ElementTree.fromstring(draw(machine, "svg", region))
        width, height = (float(size.get(side, "").removesuffix("pt")) for side in ("width", "height"))
        assert width / height <= 2
        assert width <= 1800  # text of 11 pt is still 9 px high where the picture is 1600 px wide

    def test_png_and_pdf(self, machine: Lifecycle) -> None:
        assert draw(machine, "png", "app").startswith(b"\x89PNG\r\n")
        assert draw(machine, "pdf", "app").startswith(b"%PDF-")


class TestMissing:
    @pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
    def test_no_program(self, machine: Lifecycle, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            DrawingError, match=r"needs the program `dot`.*pip install 'wslifecycle\[diagram\]'.*apt inst"
        ):
            draw(machine, kind)

    @pytest.mark.parametrize("kind", ["dot", "svg", "png", "pdf"])
    def test_no_package(self, machine: Lifecycle, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "graphviz", None)
        with pytest.raises(
            DrawingError, match=r"Python package `graphviz`.*pip install 'wslifecycle\[diagram\]'.*apt inst"
        ):
            draw(machine, kind)

    def test_texts_need_no_program(self, machine: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with_it = [draw(machine, kind) for kind in ("dot", "mermaid", "markdown")]
        monkeypatch.setenv("PATH", str(tmp_path))
        assert [draw(machine, kind) for kind in ("dot", "mermaid", "markdown")] == with_it

    def test_mermaid_and_markdown_need_no_package(self, machine: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
        with_it = [draw(machine, kind) for kind in ("mermaid", "markdown")]
        monkeypatch.setitem(sys.modules, "graphviz", None)
        assert [draw(machine, kind) for kind in ("mermaid", "markdown")] == with_it

    def test_nothing_is_written_by_halves(
        self, machine: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DrawingError):
            draw_all(machine, tmp_path / "diagrams")
        assert not (tmp_path / "diagrams").exists()

    def test_no_version(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert dot.version() == ""


class TestStamp:
    PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(13) + bytes(4) + b"the rest"

    def test_a_png_carries_what_it_was_drawn_from(self) -> None:
        stamped = dot.stamped(self.PNG, "drawn from this")
        assert dot.stamp_of(stamped) == "drawn from this"
        assert dot.stamp_of(self.PNG) == ""

    def test_the_chunk_is_sound(self) -> None:
        stamped = dot.stamped(self.PNG, "drawn from this")
        (length,) = struct.unpack(">I", stamped[33:37])
        assert zlib.crc32(stamped[37 : 41 + length]) == struct.unpack(">I", stamped[41 + length : 45 + length])[0]
        assert stamped[:33] + stamped[45 + length :] == self.PNG

    def test_another_dot_is_another_stamp(self) -> None:
        assert dot.stamp("digraph {}") != dot.stamp("digraph { }")


def test_a_dot_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\necho 'out of ink' >&2\ncat >/dev/null\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(DrawingError, match="out of ink"):
        draw(lifecycle(), "svg")
