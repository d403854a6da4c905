"""The pictures say what the machine does: no more, no less, in every format and on every machine."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from wslifecycle.statemachine import dot
from wslifecycle.statemachine.draw import (
    RENDERERS,
    DrawingError,
    check_all,
    draw,
    draw_all,
    load_path,
    picture_of,
    pictures,
)
from wslifecycle.statemachine.flatten import Answer
from wslifecycle.statemachine.load import load_spec, parse_spec
from wslifecycle.statemachine.machine import Lifecycle, LifecycleTransition, build, lifecycle
from wslifecycle.statemachine.picture import COUPLING, END, Binding, Kind, Picture, Step

YAML = Path(__file__).parents[1] / "spec" / "lifecycle.yaml"
PICTURES = ("lifecycle", "wire", "inbox", "app", "product")
TEXTS = ("dot", "mermaid", "markdown")
needs_dot = pytest.mark.skipif(not shutil.which("dot"), reason="the program `dot` is not here")


def transitions(machine: Lifecycle) -> Iterator[Answer]:
    """What the machine obeys, as `transitions` itself holds it."""
    for event in machine.events.values():
        for found in event.transitions.values():
            for transition in found:
                assert isinstance(transition, LifecycleTransition)
                if not transition.answer.ignored:
                    yield transition.answer


def step_of(answer: Answer) -> Step:
    return (answer.event, answer.source, answer.target)


def covered(picture: Picture, kind: Kind = Kind.OBEYED) -> Counter[tuple[Step, str]]:
    """How often the labels of a picture cover each step, with the step's rule."""
    return Counter(
        (step, label.rule)
        for edge in picture.edges
        if edge.kind is kind
        for label in edge.labels
        for step in label.covers
    )


def walk(machine: Lifecycle, *events: str) -> list[Step]:
    """The path that these events take from the beginning, each in a case in which it is obeyed if there is one."""
    state, path = next(iter(machine.flat.state_of)), []
    for event in events:
        found = [answer for answer in machine.flat.distinct(state) if answer.event == event]
        answer = next((answer for answer in found if not answer.refusal), found[0])
        path.append(step_of(answer))
        state = answer.target
    return path


def changed(old: str, new: str) -> Lifecycle:
    """The machine of a spec that says something else."""
    text = YAML.read_text(encoding="utf-8")
    assert old in text
    return build(parse_spec(text.replace(old, new)))


@pytest.fixture(scope="module")
def machine() -> Lifecycle:
    return lifecycle()


@pytest.fixture(scope="module")
def closing_path(machine: Lifecycle) -> list[Step]:
    events = "give_connect app_accept peer_message give_message app_send app_close peer_message peer_close"
    return walk(machine, *events.split(), "give_disconnect", "app_return")


@pytest.fixture(scope="module")
def drawn(machine: Lifecycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("drawn") / "diagrams"
    draw_all(machine, directory)
    return directory


class TestTheProduct:
    def test_each_reachable_state_is_a_node(self, machine: Lifecycle) -> None:
        nodes = picture_of(machine, "product").nodes
        assert sorted(node.name for node in nodes) == sorted(machine.states)
        assert {node.name for node in nodes if node.final} == machine.flat.final
        assert [node.name for node in nodes if node.initial] == [machine.initial]

    @pytest.mark.parametrize("all_answers", [False, True])
    def test_each_transition_is_one_label(self, machine: Lifecycle, all_answers: bool) -> None:
        seen = covered(picture_of(machine, "product", all_answers=all_answers))
        wanted = {(step_of(answer), answer.rule) for answer in transitions(machine)}
        assert seen == Counter(wanted)

    def test_each_edge_leads_where_its_steps_lead(self, machine: Lifecycle) -> None:
        for edge in picture_of(machine, "product").edges:
            ends = {(source, target) for label in edge.labels for _, source, target in label.covers}
            assert ends == {(edge.source, edge.target)}

    def test_what_is_not_obeyed_is_drawn_on_demand(self, machine: Lifecycle) -> None:
        answers = [answer for state in machine.states for answer in machine.flat.distinct(state)]
        refused = {(step_of(answer), answer.rule) for answer in answers if answer.refusal}
        ignored = {(step_of(answer), answer.rule) for answer in answers if answer.ignored}
        picture = picture_of(machine, "product", all_answers=True)
        assert set(covered(picture, Kind.REFUSED)) == refused
        assert set(covered(picture, Kind.IGNORED)) == ignored
        bare = picture_of(machine, "product")
        assert not covered(bare, Kind.REFUSED)
        assert not covered(bare, Kind.IGNORED)

    def test_guards_tell_the_answers_apart(self, machine: Lifecycle) -> None:
        guards = {
            (label.event, edge.kind, label.guard)
            for edge in picture_of(machine, "product", all_answers=True).edges
            if edge.source == "handshake/waiting/running"
            for label in edge.labels
        }
        assert ("app_response_start", Kind.OBEYED, "denial") in guards
        assert ("app_response_start", Kind.REFUSED, "not denial") in guards
        assert ("app_accept", Kind.OBEYED, "") in guards  # it reads a fact that makes no difference here


class TestTheOverview:
    def test_its_boxes_are_the_states_without_the_app(self, machine: Lifecycle) -> None:
        picture = picture_of(machine)
        boxes = {node.name: set(node.members) for node in picture.nodes if node.name != END}
        for state in machine.states:
            assert state in boxes[state.rpartition("/")[0]]
        assert sum(map(len, boxes.values())) == len(machine.states)
        assert {cluster.name for cluster in picture.clusters} == {state.split("/")[0] for state in machine.states}

    def test_only_the_apps_own_progress_is_left_out(self, machine: Lifecycle) -> None:
        seen = covered(picture_of(machine))
        assert set(seen.values()) == {1}
        left_out = {answer for answer in transitions(machine) if (step_of(answer), answer.rule) not in seen}
        for answer in left_out:
            assert answer.source.rpartition("/")[0] == answer.target.rpartition("/")[0]
            assert answer.moves
            assert not answer.effects
            assert answer.target not in machine.flat.final
        assert {answer.event for answer in left_out} == {"app_return", "app_raise"}

    def test_the_end_is_reached_where_wire_and_app_have_ended(self, machine: Lifecycle) -> None:
        ends = [edge for edge in picture_of(machine).edges if edge.target == END]
        assert [(edge.source, edge.actor) for edge in ends] == [("closed", "app")]
        assert {label.event for label in ends[0].labels} == {"app_return", "app_raise"}

    def test_an_arrow_between_frames_holds_for_every_box(self, machine: Lifecycle) -> None:
        picture = picture_of(machine)
        frames = {
            cluster.name: {n.name for n in picture.nodes if n.cluster == cluster.name} for cluster in picture.clusters
        }
        for edge in picture.edges:
            if edge.source in frames:
                for label in edge.labels:
                    sources = {source.rpartition("/")[0] for _, source, _ in label.covers}
                    assert sources == frames[edge.source], (edge.source, edge.target, label.event)


class TestTheRegions:
    def test_there_is_one_picture_each(self, machine: Lifecycle) -> None:
        assert pictures(machine) == PICTURES

    @pytest.mark.parametrize(("position", "region"), list(enumerate(("wire", "inbox", "app"))))
    def test_its_arrows_are_the_regions_moves(self, machine: Lifecycle, position: int, region: str) -> None:
        """The edges and couplings of a region, together, move it as the product's transitions do, and no more."""
        picture = picture_of(machine, region)
        drawn = {step for edge in picture.edges for label in edge.labels for step in label.covers}
        couplings = {(source, target) for event, source, target in drawn if event == COUPLING}
        moved, used = set(), set()
        for answer in transitions(machine):
            source, target = answer.source.split("/")[position], answer.target.split("/")[position]
            if source == target:
                continue
            moved.add((source, target))
            ways = {
                (step, bend)
                for step in [*(s for s in drawn if s[:2] == (answer.event, source)), (COUPLING, source, source)]
                for bend in [*couplings, (step[2], step[2])]
                if bend == (step[2], target)
            }
            assert ways, answer
            used |= {(step[1], step[2]) for step, _ in ways} | {bend for _, bend in ways}
        arrows = {(edge.source, edge.target) for edge in picture.edges if edge.source != edge.target}
        assert arrows <= used
        assert {node.name for node in picture.nodes} == {state[position] for state in machine.flat.states}

    def test_couplings_stand_with_their_condition(self, machine: Lifecycle) -> None:
        couplings = {
            (edge.source, edge.target, edge.labels[0].text)
            for edge in picture_of(machine, "inbox").edges
            if edge.actor == COUPLING
        }
        over = "when wire is closing or failing or closed"
        assert couplings == {
            ("waiting", "flowing", "when wire is open"),
            ("waiting", "disconnect_due", over),
            ("flowing", "disconnect_due", over),
        }

    def test_rows_of_other_answers_are_not_drawn(self) -> None:
        spec = load_spec()
        silent = picture_of(build(spec, {**spec.reference, "C10": "none"}), "inbox")
        assert "silent" in {node.name for node in silent.nodes}
        assert "silent" not in {node.name for node in picture_of(lifecycle(), "inbox").nodes}

    def test_refusals_are_drawn_on_demand(self, machine: Lifecycle) -> None:
        kinds = {edge.kind for edge in picture_of(machine, "wire", all_answers=True).edges}
        assert kinds == {Kind.OBEYED, Kind.IGNORED, Kind.REFUSED}
        assert {edge.kind for edge in picture_of(machine, "wire").edges} == {Kind.OBEYED}


class TestWhoAndHowBinding:
    def test_the_actor_and_the_level_are_the_specs(self, machine: Lifecycle) -> None:
        spec = machine.spec
        for name in PICTURES:
            for edge in picture_of(machine, name, all_answers=True).edges:
                for label in edge.labels:
                    if edge.actor != COUPLING:
                        assert edge.actor == spec.events[label.event].actor
                    if label.rule.startswith("C"):
                        assert edge.binding is Binding.CHOICE
                    else:
                        must = spec.rules[label.rule].level == "M"
                        assert edge.binding is (Binding.MUST if must else Binding.SHOULD)

    def test_the_tooltip_names_event_rule_statement_and_ways(self, machine: Lifecycle) -> None:
        (label,) = (
            label
            for edge in picture_of(machine).edges
            for label in edge.labels
            if label.event == "app_close" and edge.source == "handshake"
        )
        rule = machine.spec.rules["R36"]
        for words in ("websocket.close", 'Rule R36, ASGI, "Close - send event".', rule.says, "status=403"):
            assert words in label.tip
        assert "handshake/waiting/running -> closed/disconnect_due/left" in label.tip
        assert not re.search(r"lifecycle.yaml:\d", label.tip)  # a line number would change with every edit of the spec


class TestPaths:
    @pytest.mark.parametrize("region", PICTURES)
    def test_each_step_is_numbered_once(self, machine: Lifecycle, closing_path: list[Step], region: str) -> None:
        picture = picture_of(machine, region, path=closing_path)
        taken = Counter(number for edge in picture.edges for label in edge.labels for number in label.taken)
        assert set(taken.values()) == {1}
        wanted = {"wire": {2, 3, 5, 6, 8}, "inbox": {1, 2, 4, 6, 9}, "app": {6, 10}}
        assert set(taken) == wanted.get(region, set(range(1, 11)))

    def test_the_numbers_stand_at_what_was_passed(self, machine: Lifecycle, closing_path: list[Step]) -> None:
        for edge in picture_of(machine, "product", path=closing_path).edges:
            for label in edge.labels:
                for number in label.taken:
                    assert closing_path[number - 1] in label.covers

    def test_the_nodes_that_were_passed_stand_out(self, machine: Lifecycle, closing_path: list[Step]) -> None:
        visited = {state for _, source, target in closing_path for state in (source, target)}
        nodes = picture_of(machine, "product", path=closing_path).nodes
        assert {node.name for node in nodes if node.on_path} == visited

    def test_what_was_ignored_or_refused_on_the_way_is_drawn(self, machine: Lifecycle) -> None:
        path = walk(machine, "give_connect", "app_send", "app_accept", "close_timeout")
        kinds = {
            (label.event, edge.kind): label.taken
            for edge in picture_of(machine, path=path).edges
            for label in edge.labels
            if label.taken
        }
        assert kinds[("app_send", Kind.REFUSED)] == (2,)
        assert kinds[("close_timeout", Kind.IGNORED)] == (4,)

    def test_a_row_and_a_coupling_share_a_step(self, machine: Lifecycle) -> None:
        path = walk(machine, "app_accept", "give_connect")
        taken = {
            label.covers[0]: label.taken
            for edge in picture_of(machine, "inbox", path=path).edges
            for label in edge.labels
            if label.taken
        }
        assert taken == {("give_connect", "connect_due", "waiting"): (2,), (COUPLING, "waiting", "flowing"): (2,)}

    def test_all_else_is_grey(self, machine: Lifecycle, closing_path: list[Step]) -> None:
        source = draw(machine, "dot", "wire", path=closing_path).decode()
        lines = [line for line in source.splitlines() if " -> " in line]
        (accept,) = (line for line in lines if "websocket.accept" in line)
        (denial,) = (line for line in lines if "websocket.http.response.start" in line)
        assert 'color="#0061a8"' in accept
        assert "penwidth=4" in accept
        assert "(2) websocket.accept" in accept
        assert 'color="#b8b8b8"' in denial
        (passed,) = (line for line in source.splitlines() if line.startswith("\topen [label="))
        (other,) = (line for line in source.splitlines() if line.startswith("\tfailing [label="))
        assert "penwidth=3" in passed
        assert ' color="#b8b8b8"' in other
        mermaid = draw(machine, "mermaid", "wire", path=closing_path).decode()
        assert "class open passed" in mermaid
        assert "class failing other" in mermaid

    @pytest.mark.parametrize(
        ("step", "says"),
        [
            (("app_accept", "open/flowing", "closed"), "no state 'open/flowing'"),
            (("app_jump", "open/flowing/running", "open/flowing/running"), "no event 'app_jump'"),
            (("app_close", "open/flowing/running", "closed/ended/left"), "to closing/disconnect_due/left, not to"),
        ],
    )
    def test_a_path_that_the_machine_cannot_go(self, machine: Lifecycle, step: Step, says: str) -> None:
        with pytest.raises(DrawingError, match=says):
            draw(machine, "mermaid", path=[step])


class TestLoadPath:
    def test_json(self) -> None:
        text = json.dumps([{"event": "a", "source": "b", "target": "c"}, {"target": "d", "source": "c", "event": "e"}])
        assert load_path(text) == [("a", "b", "c"), ("e", "c", "d")]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("echo", "no JSON"),
            ("[{]", "no JSON"),
            ("{}", "a list"),
            ('[{"event": "a"}]', "Step 1"),
            ('[{"event": "a", "source": "b", "target": 3}]', "Step 1"),
        ],
    )
    def test_what_is_no_path(self, text: str, says: str) -> None:
        with pytest.raises(DrawingError, match=says):
            load_path(text)


class TestTexts:
    def test_unknown_formats_and_pictures_name_the_known(self, machine: Lifecycle) -> None:
        with pytest.raises(DrawingError, match="dot, svg, png, pdf, mermaid, markdown"):
            draw(machine, "gif")
        with pytest.raises(DrawingError, match="lifecycle, wire, inbox, app, product"):
            draw(machine, "mermaid", "mailbox")

    @pytest.mark.parametrize("region", PICTURES)
    def test_mermaid_has_every_node_and_label(self, machine: Lifecycle, region: str) -> None:
        picture = picture_of(machine, region)
        lines = draw(machine, "mermaid", region).decode().splitlines()
        assert lines[0] == "stateDiagram-v2"
        declared = {line.split(" as ")[1] for line in lines if " as " in line}
        assert declared == {node.name.replace("/", "__") for node in picture.nodes if node.name != END}
        arrows = [line.strip() for line in lines if " --> " in line]
        for edge in picture.edges:
            ends = f"{edge.source} --> {edge.target} : ".replace("/", "__")
            inside = [f"{node.name} --> {node.name} : ".replace("/", "__") for node in picture.nodes]
            for label in edge.labels:
                loop = edge.source == edge.target and edge.source in {cluster.name for cluster in picture.clusters}
                starts = tuple(inside) if loop else ends
                assert any(arrow.startswith(starts) and label.text in arrow for arrow in arrows), (ends, label.text)
        for arrow in arrows:  # a second colon or a semicolon would end the text
            assert arrow.partition(" : ")[2].count(":") == 0
            assert ";" not in arrow

    def test_mermaid_joins_no_boxes_of_different_frames(self, machine: Lifecycle) -> None:
        """Mermaid refuses to draw that."""
        for line in draw(machine, "mermaid").decode().splitlines():
            ends = re.findall(r"(\w+)__\w+", line.partition(" : ")[0]) if " --> " in line else []
            assert len(set(ends)) <= 1, line

    def test_markdown_tells_who_may_do_what(self, machine: Lifecycle) -> None:
        text = draw(machine, "markdown").decode()
        for state in (*machine.spec.regions["wire"].states.values(), *machine.spec.regions["inbox"].states.values()):
            if state.name != "silent":
                assert f"| `{state.name}` | {state.says} |" in text
        handshake = text.split("## In `handshake`")[1].split("## ")[0]
        (row,) = (row for row in handshake.splitlines() if "`websocket.close`" in row)
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[:2] + cells[3:4] + cells[5:] == [
            "app",
            "`websocket.close`",
            "`closed`",
            "must",
            'Rule R36, ASGI, "Close - send event"',
        ]
        assert "send_response(status=403" in cells[4]
        rows = sum(len(edge.labels) for edge in picture_of(machine).edges)
        assert len(re.findall(r"^\| (?:app|peer|server|clock|receive\(\)) \| `", text, re.MULTILINE)) == rows

    def test_markdown_of_a_region(self, machine: Lifecycle) -> None:
        text = draw(machine, "markdown", "inbox", all_answers=True).decode()
        assert "| coupling | when wire is open | `waiting` | `flowing` |" in text
        assert "| receive() | `websocket.connect` | `waiting` | refused |" in text

    def test_the_same_bytes_whatever_the_hash_seed(self) -> None:
        code = (
            "import hashlib; from wslifecycle.statemachine.draw import *; "
            "from wslifecycle.statemachine.machine import lifecycle; m = lifecycle(); "
            "print(hashlib.sha256(b''.join(draw(m, f, r, None, a) for f in ('dot', 'mermaid', 'markdown') "
            "for r in pictures(m) for a in (False, True))).hexdigest())"
        )
        seen = {
            subprocess.run(
                [sys.executable, "-c", code],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONHASHSEED": seed},
            ).stdout
            for seed in ("1", "2", "3")
        }
        ours = b"".join(draw(lifecycle(), f, r, None, a) for f in TEXTS for r in PICTURES for a in (False, True))
        assert seen == {hashlib.sha256(ours).hexdigest() + "\n"}

    @pytest.mark.parametrize("kind", TEXTS)
    def test_another_spec_is_another_picture(self, kind: str) -> None:
        other = changed(
            "{event: app_close, from: handshake, to: closed, effects: [{send_response: {status: 403}}",
            "{event: app_close, from: handshake, to: closed, effects: [{send_response: {status: 418}}",
        )
        ours, theirs = draw(lifecycle(), kind).decode(), draw(other, kind).decode()
        assert "418" not in ours
        assert "418" in theirs

    def test_another_answer_is_another_picture(self) -> None:
        spec = load_spec()
        other = build(spec, {**spec.reference, "C2": "aborted"})
        (edge,) = (
            (edge.source, edge.target)
            for edge in picture_of(other, "wire").edges
            for label in edge.labels
            if label.event == "app_return" and edge.source == "open"
        )
        assert edge == ("open", "closed")


@needs_dot
class TestEverything:
    @pytest.fixture
    def directory(self, drawn: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(drawn, tmp_path / "diagrams"))

    @pytest.fixture
    def elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine with another release of dot, or none."""
        monkeypatch.setattr("wslifecycle.statemachine.dot.version", lambda: "")

    def test_the_files(self, machine: Lifecycle, drawn: Path) -> None:
        wanted = {f"{name}.{suffix}" for name in PICTURES for suffix in ("dot", "svg", "png", "mmd")} - {"product.png"}
        assert {path.name for path in drawn.iterdir()} == wanted | {"lifecycle.md", "README.md", "dot-version.txt"}
        for path in drawn.iterdir():
            if path.suffix in (".dot", ".mmd", ".md"):
                first = path.read_text(encoding="utf-8").splitlines()[0]
                assert "generated by `make diagram` from spec/lifecycle.yaml; do not edit" in first, path
        readme = (drawn / "README.md").read_text(encoding="utf-8")
        assert all(f"]({name}.svg)" in readme for name in PICTURES)
        assert (drawn / "dot-version.txt").read_text(encoding="utf-8").splitlines()[0] in readme

    def test_what_was_just_drawn_is_up_to_date(self, machine: Lifecycle, drawn: Path) -> None:
        assert check_all(machine, drawn) == []

    @pytest.mark.usefixtures("elsewhere")
    def test_it_is_up_to_date_elsewhere_too(self, machine: Lifecycle, drawn: Path) -> None:
        assert check_all(machine, drawn) == []

    @pytest.mark.usefixtures("elsewhere")
    @pytest.mark.parametrize("name", ["wire.dot", "lifecycle.mmd", "lifecycle.md", "README.md"])
    def test_an_edited_text_is_found(self, machine: Lifecycle, directory: Path, name: str) -> None:
        with (directory / name).open("a", encoding="utf-8") as file:
            file.write("\n")
        assert check_all(machine, directory) == [f"{name} is not what the machine draws."]

    @pytest.mark.usefixtures("elsewhere")
    @pytest.mark.parametrize("name", ["app.png", "lifecycle.md", "README.md", "dot-version.txt"])
    def test_a_missing_file_is_found(self, machine: Lifecycle, directory: Path, name: str) -> None:
        (directory / name).unlink()
        assert check_all(machine, directory) == [f"{name} is missing."]

    @pytest.mark.usefixtures("elsewhere")
    def test_a_file_too_many_is_found(self, machine: Lifecycle, directory: Path) -> None:
        (directory / "mailbox.svg").write_text("<svg/>", encoding="utf-8")
        assert check_all(machine, directory) == ["mailbox.svg is not drawn from the machine; remove it."]

    def test_no_directory_at_all(self, machine: Lifecycle, tmp_path: Path) -> None:
        assert len(check_all(machine, tmp_path / "nowhere")) == 5 * 4 - 1 + 3

    @pytest.mark.parametrize("suffix", ["svg", "png"])
    def test_another_byte_counts_where_release_libraries_and_font_are_the_recorded_ones(
        self, machine: Lifecycle, directory: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = (directory / "dot-version.txt").read_text(encoding="utf-8")
        monkeypatch.setattr(dot, "version", lambda: record)
        with (directory / f"wire.{suffix}").open("ab") as file:
            file.write(b"\n")
        assert check_all(machine, directory) == [f"wire.{suffix} is not what the machine draws."]

    @pytest.mark.usefixtures("elsewhere")
    def test_other_places_do_not_count_elsewhere(self, machine: Lifecycle, directory: Path) -> None:
        svg = directory / "wire.svg"
        text = svg.read_text(encoding="utf-8")
        moved = re.sub(r'(x|y|cx|cy)="(-?\d+)', lambda place: f'{place[1]}="{int(place[2]) + 1}', text)
        assert moved != text
        svg.write_text(moved, encoding="utf-8")
        with (directory / "wire.png").open("ab") as file:
            file.write(b"\n")
        assert check_all(machine, directory) == []

    @pytest.mark.usefixtures("elsewhere")
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("<title>denying</title>", "<title>lying</title>", "it does not show node 'denying' as it should."),
            (
                "handshake&#45;&gt;open",
                "handshake&#45;&gt;closing",
                "it shows edge 'handshake->closing', which is not so.",
            ),
            ("status=403", "status=200", "it does not show edge 'handshake->closed' as it should."),
            ("complete handshake</text>", "refuse</text>", "it does not show edge 'handshake->open' as it should."),
            ("</svg>", "", "it is no SVG"),
        ],
    )
    def test_another_statement_counts_everywhere(
        self, machine: Lifecycle, directory: Path, old: str, new: str, says: str
    ) -> None:
        svg = directory / "wire.svg"
        text = svg.read_text(encoding="utf-8")
        assert old in text
        svg.write_text(text.replace(old, new), encoding="utf-8")
        assert any(fault.startswith(f"wire.svg: {says}") for fault in check_all(machine, directory))

    @pytest.mark.usefixtures("elsewhere")
    def test_a_png_of_another_dot_counts_everywhere(self, machine: Lifecycle, directory: Path) -> None:
        shutil.copy(directory / "wire.png", directory / "app.png")
        assert check_all(machine, directory) == ["app.png: it was drawn from another DOT."]

    @pytest.mark.usefixtures("elsewhere")
    def test_another_spec_is_a_drift_in_every_format(self, directory: Path) -> None:
        spec = load_spec()
        found = check_all(build(spec, {**spec.reference, "C2": "aborted"}), directory)
        named = {fault.split(":")[0].split(" ")[0] for fault in found}
        changed_names = {
            f"{name}.{s}" for name in ("lifecycle", "wire", "product") for s in ("dot", "svg", "png", "mmd")
        }
        assert named == changed_names - {"product.png"} | {"lifecycle.md"}


def test_there_is_a_renderer_for_each_format() -> None:
    assert set(RENDERERS) == {"dot", "svg", "png", "pdf", "mermaid", "markdown"}
