"""The command `cover` and its picture: what it tells, its exit status, how a gap shows in colour and in numbers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from wslifecycle import cli_cover
from wslifecycle.cli_cover import cover_command, coverage, passed
from wslifecycle.conformance.cover import Record, pairs, reachable
from wslifecycle.statemachine import dot
from wslifecycle.statemachine.cover import Triple
from wslifecycle.statemachine.draw import DrawingError, coloured, draw, picture_of
from wslifecycle.statemachine.machine import Lifecycle, lifecycle
from wslifecycle.statemachine.picture import END, Share

MACHINE = lifecycle()
POSSIBLE = reachable(MACHINE)
STATE, FACTS, EVENT = GAP = next(triple for triple in sorted(POSSIBLE) if triple[2] == "peer_ping")


def cover(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cover_command, list(map(str, arguments)))


def record(way: str, *without: Triple, beyond: str = "") -> Record:
    """A record of everything but this, which is beyond the way where a reason is given."""
    made = Record(way, "reference", POSSIBLE - set(without), conversations=1)
    made.beyond = dict.fromkeys(without, beyond) if beyond else {}
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run against a `Connection` takes seconds, and what it finds is known."""
    monkeypatch.setattr(cli_cover, "run", lambda machine: record("Connection"))


class TestRun:
    def test_everything_is_tried_against_a_connection(self) -> None:
        result = cover("--json")
        assert result.exit_code == 0
        told = json.loads(result.output)
        (way,) = told["ways"]
        assert told["passed"]
        assert way["way"] == "Connection"
        assert way["pairs"] == told["pairs"] == len(pairs(POSSIBLE))
        assert way["with_facts"] == told["with_facts"] == len(POSSIBLE)
        assert (way["missing"], way["beyond"], way["differences"]) == ([], {}, [])
        assert len(told["impossible"]) + told["pairs"] == len(MACHINE.states) * len(MACHINE.spec.events)

    def test_a_profile_of_ones_own_is_tried(self, tmp_path: Path) -> None:
        profile = tmp_path / "mine.yaml"
        profile.write_text("title: mine\nanswers: {C9: violation}\n")
        result = cover("--profile", profile, "--json")
        assert result.exit_code == 0
        assert json.loads(result.output)["profile"] == str(profile)


@pytest.mark.usefixtures("at_once")
class TestVerdict:
    def keep(self, folder: Path, *records: Record) -> None:
        for kept in records:
            (folder / f"{kept.way}.json").write_text(kept.dump())

    def test_records_stand_beside_the_connection(self, tmp_path: Path) -> None:
        self.keep(tmp_path, record("one"), record("two", GAP, beyond="nobody pings"))
        result = cover("--from", tmp_path)
        assert result.exit_code == 0
        rows = [line.split("│")[1:-1] for line in result.output.splitlines() if line.startswith("│")]
        assert [row[0].strip() for row in rows] == ["Connection", "one", "two"]
        total = len(POSSIBLE)
        assert [row[3].strip() for row in rows] == [f"{total}/{total}", f"{total}/{total}", f"{total - 1}/{total}"]
        assert "Beyond: nobody pings (peer_ping)." in result.output
        assert result.output.endswith("PASS\n")

    def test_what_was_not_tried_is_a_verdict(self, tmp_path: Path) -> None:
        self.keep(tmp_path, record("one", GAP))
        result = cover("--from", tmp_path)
        assert result.exit_code == 1
        assert f"one: not tried: {EVENT} in {STATE} ({', '.join(FACTS) or 'no facts'})" in result.output
        assert result.output.endswith("FAIL\n")
        assert json.loads(cover("--from", tmp_path, "--json").output)["ways"][1]["missing"] == [
            [STATE, list(FACTS), EVENT]
        ]

    def test_what_differed_is_a_verdict(self, tmp_path: Path) -> None:
        kept = record("one")
        kept.differences.append("something else came of it")
        self.keep(tmp_path, kept)
        result = cover("--from", tmp_path)
        assert result.exit_code == 1
        assert "one: something else came of it" in result.output

    def test_a_connection_that_differs_is_a_verdict(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(machine: Lifecycle) -> Record:
            return Record("Connection", "reference", set(POSSIBLE), differences=["not so"])

        monkeypatch.setattr(cli_cover, "run", run)
        assert cover().exit_code == 1

    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            ("one.json", "[]", "no record of a cover"),
            ("one.json", Record("one", "another").dump(), "not of this machine"),
            ("one.json", Record("one", "reference", {("moon", (), "landing")}).dump(), "not of this machine"),
            ("one.txt", "", "There is no record in"),
        ],
    )
    def test_what_is_no_record_of_this_machine_is_misuse(self, tmp_path: Path, name: str, text: str, says: str) -> None:
        (tmp_path / name).write_text(text)
        result = cover("--from", tmp_path)
        assert result.exit_code == 2
        assert says in result.output

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [(("--from", "nowhere"), "does not exist"), (("-o", "cover.bmp"), "no format"), (("-o", "c.mmd"), "no format")],
    )
    def test_misuse_is_2(self, arguments: tuple[str, ...], says: str) -> None:
        result = cover(*arguments)
        assert result.exit_code == 2
        assert says in result.output

    def test_without_dot_it_says_how_to_install_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        result = cover("-o", tmp_path / "cover.svg")
        assert result.exit_code == 2
        assert "apt install graphviz" in result.output

    def test_no_colour_without_a_terminal(self) -> None:
        assert "\x1b" not in cover().output


class TestPicture:
    def without(self, *gaps: Triple) -> dict[tuple[str, str], bool]:
        return coverage([record("one"), record("two", *gaps)], POSSIBLE)

    def test_a_pair_counts_that_was_tried_in_every_way_where_it_can_be(self) -> None:
        assert all(self.without().values())
        assert [pair for pair, done in self.without(GAP).items() if not done] == [(STATE, EVENT)]
        assert all(coverage([record("one", GAP, beyond="no way")], POSSIBLE).values())
        assert passed([record("one", GAP, beyond="no way")], POSSIBLE)
        assert not passed([record("one", GAP)], POSSIBLE)

    def test_every_box_has_its_share(self) -> None:
        boxes = {node.name: node.share for node in coloured(picture_of(MACHINE, "product"), self.without(GAP)).nodes}
        events = [event for state, event in pairs(POSSIBLE) if state == STATE]
        assert boxes[STATE] == Share(len(events) - 1, len(events), (f"{EVENT} in {STATE}",))
        others = [share for name, share in boxes.items() if name != STATE]
        assert all(share is not None and share.done == share.of and not share.left for share in others)

    def test_a_box_of_the_overview_stands_for_several_states(self) -> None:
        picture = coloured(picture_of(MACHINE), self.without())
        for node in picture.nodes:
            if node.name == END:
                assert node.share is None
            else:
                of = sum(state in node.members for state, _ in pairs(POSSIBLE))
                assert node.share == Share(of, of, ())

    def test_every_arrow_has_its_share(self) -> None:
        gap = ("open/flowing/running", ("denial", "raising"), "app_close")
        edges = coloured(picture_of(MACHINE, "product"), self.without(gap)).edges
        (shown,) = (edge for edge in edges if edge.share and edge.share.left)
        assert (shown.source, shown.share) == (gap[0], Share(0, 1, (f"{gap[2]} in {gap[0]}",)))

    def test_a_gap_shows_in_colour_and_in_numbers_and_in_the_tooltip(self) -> None:
        whole, gaps = (
            draw(MACHINE, "dot", coverage=self.without(*found)).decode()
            for found in ((), [triple for triple in POSSIBLE if triple[0] == "open/flowing/running"])
        )
        assert dot.GREEN in whole
        assert f'color="{dot.AMBER}"' not in whole
        assert "22/22" in whole
        assert f'color="{dot.RED}" penwidth=2' in gaps
        assert "0/22" in gaps
        assert f'color="{dot.AMBER}"' in gaps  # arrows of the whole frame
        assert "Not tried: app_send in open/flowing/running" in gaps
        assert not any(colour in whole for colour in dot.COLOURS.values())

    def test_the_command_draws_it(self, tmp_path: Path, at_once: None) -> None:
        file = tmp_path / "cover.svg"
        assert cover("-o", file).exit_code == 0
        text = "".join(ElementTree.fromstring(file.read_bytes()).itertext())
        assert "22/22" in text
        assert "Tried" not in text, "that stands in the tooltips"
        assert b"Tried: 22 of 22." in file.read_bytes()

    @pytest.mark.parametrize(("kind", "region"), [("mermaid", None), ("markdown", None), ("dot", "wire")])
    def test_what_cannot_show_it_says_so(self, kind: str, region: str | None) -> None:
        with pytest.raises(DrawingError, match="A coverage is shown by"):
            draw(MACHINE, kind, region, coverage=self.without())

    def test_a_picture_without_it_is_as_it_was(self) -> None:
        plain = draw(MACHINE, "dot")
        assert not any(colour.encode() in plain for colour in (dot.GREEN, dot.AMBER, dot.RED))
