"""`make bench`: what is made of bursts, a load client that notices everything and never hangs, and a small real run."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve

from benchmarks.speed import __main__ as command
from benchmarks.speed import floors, readme, show
from benchmarks.speed.columns import COLUMNS, Column
from benchmarks.speed.contenders import OURS, REFERENCE, Contender, everyone
from benchmarks.speed.draw import draw
from benchmarks.speed.figures import LATER, Figures
from benchmarks.speed.measure import measure, turns
from benchmarks.speed.remote import Failed, Load
from benchmarks.speed.results import Burst, Entrant, Memory, Report, load
from wslifecycle.conformance.kit import own, servers

ROOT = Path(__file__).parent.parent
SMALL, POINT, IDLE = COLUMNS[0], next(one for one in COLUMNS if one.chart), COLUMNS[-1]
MINE, SANSIO, GUNICORN = "ours (asyncio)", "uvicorn websockets-sansio (asyncio)", "gunicorn (asyncio)"


def report(*, bursts: list[Burst], memory: list[Memory] | None = None) -> Report:
    """Three rounds of ours, two Uvicorns and gunicorn."""
    entrants = [
        Entrant(MINE, "ours", "asyncio", "ours", "ours 1.0"),
        Entrant(REFERENCE, "uvicorn wsproto", "asyncio", "peer", "uvicorn 0.54.0"),
        Entrant(SANSIO, "uvicorn websockets-sansio", "asyncio", "peer", "uvicorn 0.54.0"),
        Entrant(GUNICORN, LATER, "asyncio", "peer", "gunicorn 27.0"),
    ]
    facts = {"cores": "2", "date": "2026-12-01"}
    return Report(facts, 3, 0.5, entrants, [SMALL, POINT, IDLE], bursts, memory or [], ["granian is left out."])


def bursts(label: str, *micros: float, column: Column = SMALL) -> list[Burst]:
    """A burst in each round, of so many microseconds a message."""
    return [Burst(label, column.name, turn, 100, int(each * 100_000), 0.5, 0.4) for turn, each in enumerate(micros)]


# A slow minute hits the second round, and ours had one bad burst. In pairs ours is 2.5 times as good; means, or medians
# that are not taken in pairs, would say something else.
BURSTS = [
    *bursts(MINE, 40, 400, 95),
    *bursts(REFERENCE, 100, 1000, 100),
    *bursts(SANSIO, 50, 500, 50),
    *bursts(GUNICORN, 30, 300, 45),
    *bursts(MINE, 40, 40, 40, column=POINT),
]
LOOKS = [
    Memory(MINE, 0, ((0, 10_000_000), (1000, 20_240_000), (2000, 30_480_000))),
    Memory(REFERENCE, 0, ((0, 10_000_000), (1000, 30_480_000))),
    Memory(SANSIO, 0, ((0, 10_000_000), (1000, 22_000_000))),
]
MEASURED = report(bursts=BURSTS, memory=LOOKS)


class TestFigures:
    def test_are_medians_of_pairs(self) -> None:
        cell = Figures(MEASURED).cell(MINE, SMALL.name)
        assert cell is not None
        assert cell.times == 2.5  # of means: 2.2; of medians: 1.05
        assert cell.micros == 95
        assert cell.rate == 200

    def test_leave_out_bursts_that_failed(self) -> None:
        failed = Burst(REFERENCE, SMALL.name, 0, fault="lost")
        cell = Figures(report(bursts=[*BURSTS[:3], failed, *BURSTS[4:]])).cell(MINE, SMALL.name)
        assert cell is not None
        assert cell.times == pytest.approx((2.5 + 100 / 95) / 2)

    def test_tell_a_cell_that_failed(self) -> None:
        figures = Figures(report(bursts=[Burst(MINE, SMALL.name, 0, fault="lost"), *bursts(REFERENCE, 10)]))
        cell = figures.cell(MINE, SMALL.name)
        assert cell is not None
        assert (cell.times, cell.micros, cell.rate, cell.fault) == (None, None, None, "lost")
        assert "✗ ours (asyncio), 16B x1: lost (1x)" in show.text(figures)
        assert [goal.met for goal in figures.goals()] == [False]

    def test_say_which_goals_are_met(self) -> None:
        goals = {goal.says: (goal.value, goal.met) for goal in Figures(MEASURED).goals((LATER,))}
        assert goals == {
            f"16B x1: {MINE} against {SANSIO}": (1.25, True),
            f"memory: {MINE} against {SANSIO}": (pytest.approx(10.24 / 12), False),
            f"memory: {MINE} against {REFERENCE}": (0.5, True),
        }
        with_it = Figures(MEASURED).goals()[0]
        assert (with_it.says, with_it.value, with_it.met) == (f"16B x1: {MINE} against {GUNICORN}", 0.75, False)

    def test_tell_how_far_a_floor_is_where_a_goal_is_missed(self) -> None:
        floored = report(bursts=[*BURSTS, *bursts("raw tcp (asyncio)", 20, 200, 20)])
        floored.entrants.append(Entrant("raw tcp (asyncio)", "raw tcp", "asyncio", "floor", ""))
        assert Figures(floored).goals()[0].floor == "raw tcp (asyncio) has 1.500"
        missed = f"0.750: 16B x1: {MINE} against {GUNICORN}; raw tcp (asyncio) has 1.500\n"
        assert show.aims(Figures(floored)) == f"0 of 1 met; missed:\n- {missed}"
        met = f"met     1.250 (at least 1.2)  16B x1: {MINE} against {SANSIO}\n"
        assert met in show.text(Figures(floored))

    def test_tell_memory_and_its_slope(self) -> None:
        figures = Figures(MEASURED)
        growth = figures.growth(MINE)
        assert growth is not None
        assert growth.each == pytest.approx(10_240)
        assert figures.each(MINE) == 10
        assert figures.growth(GUNICORN) is None

    def test_are_held_against_somebody_else_without_the_reference(self) -> None:
        alone = dataclasses.replace(MEASURED, entrants=MEASURED.entrants[:1])
        assert Figures(alone).reference == MINE
        assert Figures(dataclasses.replace(MEASURED, entrants=[])).reference == ""


class TestAReport:
    def test_comes_back_from_json(self) -> None:
        assert load(MEASURED.dump()) == MEASURED
        assert json.loads(MEASURED.dump())["format"] == 1

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("{", "", "Extra data"),
            ('"format": 1', '"format": 2', "there is no format 1"),
            ('"rounds": 3', '"rounds": "3"', "a number is '3'"),
            ('"notes"', '"others"', "'notes' is missing"),
            ('"cpu": 4000000', '"cpu": null', "cpu is None"),
            ('"cpu": 4000000', '"cpu": 0', "without messages or time"),
            ('"wall": 0.5', '"wall": 0.5, "more": 1', "unexpected keyword argument 'more'"),
            ('"contender": "ours (asyncio)"', '"contender": "nobody"', "'nobody'"),
            ("[1000, 20240000]", "[1000]", "not enough values"),
        ],
    )
    def test_that_is_none_is_refused(self, old: str, new: str, says: str) -> None:
        text = MEASURED.dump()
        assert old in text
        with pytest.raises(ValueError, match=r"^This is no report of speed: ") as caught:
            load(text.replace(old, new, 1))
        assert says in str(caught.value)

    def test_is_a_table_in_markdown(self) -> None:
        assert show.markdown(Figures(MEASURED)) == (
            "| | 16B x1 | KiB idle |\n|---|---:|---:|\n"
            "| **ours (asyncio)** | 2.50 | 10.0 |\n"
            "| uvicorn wsproto (asyncio) | 1.00 | 20.0 |\n"
            "| uvicorn websockets-sansio (asyncio) | 2.00 | 11.7 |\n"
            "| gunicorn (asyncio) | 3.33 | – |\n"
        )

    def test_stands_in_the_readme(self) -> None:
        place = f"before\n{readme.BEGIN}{readme.END}after\n"
        once = readme.written(place, Figures(MEASURED))
        assert once.startswith(f"before\n{readme.BEGIN}Times as many messages per second of CPU as {REFERENCE}, and ")
        assert "; cores 2, date 2026-12-01. ours 1.0; uvicorn 0.54.0; gunicorn 27.0. granian is left out.\n" in once
        assert "\nAims: 1 of 3 met; missed:\n- 0.750: 16B x1: " in once
        assert once.endswith(f"\n{readme.END}after\n")
        assert readme.written(once, Figures(MEASURED)) == once

    def test_is_text(self) -> None:
        text = show.text(Figures(MEASURED))
        assert "cores 2, date 2026-12-01\nours 1.0; uvicorn 0.54.0; gunicorn 27.0\ngranian is left out.\n" in text
        assert "goals: 2 of 3 met without gunicorn, 1 of 3 met with it\n" in text
        assert re.search(r"^16B x1 +40%  +16B on one connection", text, re.MULTILINE)

    def test_marks_what_the_load_client_bounds(self) -> None:
        busy = dataclasses.replace(BURSTS[0], client=0.95)
        assert " 200*  " in show.text(Figures(report(bursts=[busy])))

    def test_is_a_picture(self, tmp_path: Path) -> None:
        for name in ("one.png", "two.png"):
            draw(Figures(MEASURED), tmp_path / name)
        assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


class TestThePlan:
    def test_has_everybody_in_each_column_of_each_round(self, tmp_path: Path) -> None:
        contenders, lacking = everyone(tmp_path)
        assert len(lacking) == 7  # nothing is installed there
        plan = list(turns(dataclasses.replace(MEASURED, columns=list(COLUMNS)), contenders))
        assert len({plan_key(*turn) for turn in plan}) == len(plan)
        first, second = ([one.label for turn, column, one in plan if (turn, column) == (n, SMALL)] for n in (0, 1))
        assert first != second
        assert sorted(first) == sorted(second) == sorted(one.label for one in contenders)

    def test_asks_of_each_only_what_has_a_meaning(self, tmp_path: Path) -> None:
        contenders, _ = everyone(tmp_path)
        taken = {one.name: {column.name for column in COLUMNS if one.takes(column)} for one in contenders}
        assert {"set-up", "idle", POINT.name}.isdisjoint(taken["raw tcp"])
        assert {"set-up", "idle"} <= taken["raw wsproto"]
        assert all(
            taken[server.name] == {one.name for one in COLUMNS} for name in OURS for server in servers.find(name)
        )


def plan_key(turn: int, column: Column, one: Contender) -> tuple[int, str, str]:
    return turn, column.name, one.label


# ------------------------------------------------------------------------------------------------ the load client


def port_of(server: Any) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@asynccontextmanager
async def serving(handler: Callable[[ServerConnection], Any]) -> AsyncIterator[int]:
    """A server whose handler does what it likes with each connection."""
    async with websockets_serve(handler, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
        yield port_of(server)


@asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """A server that never answers a handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass
        writer.close()
        gone.set()

    gone = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield port_of(server)
        await asyncio.wait_for(gone.wait(), 10)


@asynccontextmanager
async def floor(kind: str) -> AsyncIterator[int]:
    async with await floors.KINDS[kind](0) as server:
        yield port_of(server)


async def longer(peer: ServerConnection) -> None:
    async for message in peer:
        await peer.send(bytes(message) + b"!")  # type: ignore[arg-type]


async def twice(peer: ServerConnection) -> None:
    async for message in peer:
        peer.transport.write(2 * (bytes((0x82, len(message))) + bytes(message)))  # type: ignore[arg-type]


async def in_parts(peer: ServerConnection) -> None:
    async for message in peer:
        await peer.ping()
        await peer.send([message[:7], message[7:9], message[9:]])


async def closes(peer: ServerConnection) -> None:
    for _ in range(3):
        await peer.send(await peer.recv())
    await peer.close(1011)


async def vanishes(peer: ServerConnection) -> None:
    await peer.send(await peer.recv())
    await peer.recv()
    peer.transport.abort()


async def silent(peer: ServerConnection) -> None:
    async for _ in peer:
        pass


async def stuck(peer: ServerConnection) -> None:
    """Echoes once, and never takes part in the closing handshake."""
    await peer.send(await peer.recv())
    peer.transport.pause_reading()
    await peer.wait_closed()


def loaded(server: AbstractAsyncContextManager[int], *, frames: bool = True, connections: int = 3) -> dict[str, Any]:
    """What comes of a burst. Raises `Failed`, and `TimeoutError` where anything hangs."""

    async def run() -> dict[str, Any]:
        async with asyncio.timeout(30), server as port, Load(patience=1.0) as client:
            await client.tell("open", port=port, connections=connections, frames=frames)
            told = await client.tell("burst", size=16, outstanding=2, seconds=0.05)
            await client.tell("close")
            return told

    return asyncio.run(run())


def visited(server: AbstractAsyncContextManager[int]) -> dict[str, Any]:
    """What comes of visits."""

    async def run() -> dict[str, Any]:
        async with asyncio.timeout(30), server as port, Load(patience=1.0) as client:
            return await client.tell("visits", port=port, seconds=0.05)

    return asyncio.run(run())


class TestTheLoadClient:
    @pytest.mark.parametrize("kind", floors.KINDS)
    def test_echoes_on_a_floor(self, kind: str) -> None:
        told = loaded(floor(kind), frames=kind != "tcp")
        assert told["messages"] >= 6
        assert told["wall"] > 0
        assert 0 < told["client"] < 1.5

    @pytest.mark.parametrize("kind", [kind for kind in floors.KINDS if kind != "tcp"])
    def test_visits_a_floor(self, kind: str) -> None:
        assert visited(floor(kind))["messages"] >= 50

    def test_takes_messages_in_many_frames_and_answers_pings(self) -> None:
        assert loaded(serving(in_parts))["messages"] >= 6

    @pytest.mark.parametrize(
        ("handler", "says"),
        [
            (longer, "17 bytes came instead of 16"),
            (twice, "more messages came than were sent"),
            (closes, "the server has closed with"),
            (vanishes, "the connection is lost"),
            (silent, "not in time"),
        ],
    )
    def test_tells_what_a_broken_server_does(self, handler: Callable[[ServerConnection], Any], says: str) -> None:
        with pytest.raises(Failed, match=says):
            loaded(serving(handler))

    @pytest.mark.parametrize(
        ("handler", "says"), [(silent, "not in time"), (longer, "17 bytes"), (stuck, "not in time")]
    )
    def test_tells_what_a_broken_server_does_to_visitors(
        self, handler: Callable[[ServerConnection], Any], says: str
    ) -> None:
        with pytest.raises(Failed, match=says):
            visited(serving(handler))

    def test_gives_a_handshake_up(self) -> None:
        with pytest.raises(Failed, match=r"not in time|handshake"):
            loaded(mute())

    def test_tells_that_nobody_listens(self) -> None:
        async def run() -> None:
            async with floor("tcp") as port:
                pass
            async with Load(patience=1.0) as client:
                with pytest.raises(Failed, match=r"Connect call failed|refused"):
                    await client.tell("open", port=port, connections=1, frames=False)
                with pytest.raises(Failed, match="the load client is lost"):
                    await client.tell("nonsense")
                async with floor("tcp") as again:  # there is a new one
                    await client.tell("open", port=again, connections=1, frames=False)

        asyncio.run(run())


# ------------------------------------------------------------------------------------------------ whole runs

DYING = """
import contextlib, os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for number in range(3):
    peer, _ = listener.accept()
    with contextlib.suppress(OSError):
        while data := peer.recv(65536):
            peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n" if data.startswith(b"GET ") else data)
    peer.close()
os._exit(3)
"""
"""A server that ends after one look at its health and two bursts."""

INTERRUPTED = """
import os, signal, sys
from benchmarks.speed import __main__ as speed

def progress():
    return lambda done, of, what: os.kill(os.getpid(), signal.SIGINT) if done == 2 else None

speed._progress = progress
speed.main(sys.argv[1:])
"""


def run(*words: str, mark: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MARK": mark},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def left(mark: str) -> list[str]:
    """The processes that have a mark in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in file.read_bytes():
                found.append(file.with_name("cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.xdist_group("servers")
class TestARun:
    def test_measures(self, tmp_path: Path) -> None:
        kept, picture, mark = tmp_path / "new" / "kept.json", tmp_path / "kept.png", str(uuid.uuid4())
        words = ["--only", "start_server", "--only", "tcp", "--rounds", "1", "--seconds", "0.1", "--column", "16B x1"]
        done = run("-m", "benchmarks.speed", *words, "--json", str(kept), "--png", str(picture), mark=mark)
        assert done.returncode == 0, done.stderr
        found = load(kept.read_text())
        assert {burst.contender for burst in found.bursts} == {
            f"{name} ({loop})" for name in ("wslifecycle start_server", "raw tcp") for loop in ("asyncio", "uvloop")
        }
        assert [burst for burst in found.bursts if burst.fault] == []
        assert all(burst.cpu > 0 and burst.messages > 0 for burst in found.bursts)
        assert "microseconds of CPU per message" in done.stdout
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert left(mark) == []
        again = run("-m", "benchmarks.speed", "--from", str(kept))
        assert (again.returncode, again.stdout) == (0, done.stdout)

    def test_measures_memory_and_visits(self, tmp_path: Path) -> None:
        kept = tmp_path / "kept.json"
        words = ["--only", "start_server (asyncio)", "--rounds", "1", "--seconds", "0.1", "--column", "set-up"]
        done = run("-m", "benchmarks.speed", *words, "--column", "idle", "--markdown", "--json", str(kept))
        assert done.returncode == 0, done.stderr
        found = load(kept.read_text())
        assert [(burst.column, burst.fault) for burst in found.bursts] == [("set-up", "")]
        assert [[connections for connections, _ in look.resident] for look in found.memory] == [
            [0, 250, 500, 1000, 2000]
        ]
        assert done.stdout.startswith("| | set-up | KiB idle |\n")

    def test_that_is_interrupted_shows_what_it_has(self, tmp_path: Path) -> None:
        kept, mark = tmp_path / "kept.json", str(uuid.uuid4())
        words = ["--only", "start_server (asyncio)", "--seconds", "0.05", "--column", "16B x50", "--json", str(kept)]
        done = run("-c", INTERRUPTED, *words, mark=mark)
        assert done.returncode == 0, done.stderr
        assert len(load(kept.read_text()).bursts) == 2
        assert "It was cut short: KeyboardInterrupt()" in done.stdout
        assert left(mark) == []

    def test_goes_on_where_a_server_ends(self, tmp_path: Path) -> None:
        script = tmp_path / "dying.py"
        script.write_text(DYING)
        dying = Contender("raw tcp", "asyncio", "floor", servers.custom(f"{sys.executable} {script} {{port}} {{app}}"))
        absent = Contender("absent", "asyncio", "floor", servers.custom(f"{sys.executable} -c pass {{port}} {{app}}"))
        found = report(bursts=[])
        found.columns, found.seconds = [SMALL], 0.05
        asyncio.run(measure(found, [dying, absent], lambda done, of, what: None))
        assert [bool(burst.fault) for burst in found.bursts] == [False, False, True]
        assert "absent (asyncio) is left out. python ended with status 0" in found.notes[-1]


class TestTheCommand:
    def test_lists_who_and_what_there_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        command.main(["--list"])
        shown = capsys.readouterr().out
        assert "wslifecycle start_server (uvloop)\n" in shown
        assert "set-up: " in shown

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--only", "nobody"], "Nothing is called 'nobody'. There are: wslifecycle start_server (asyncio), "),
            (["--column", "nothing"], "Nothing is called 'nothing'. There are: 16B x1, "),
            (["--rounds", "0"], "--rounds has to be at least 1"),
            (["--seconds", "0"], "--seconds more than 0"),
            (["--from", str(ROOT / "nothing.json")], "No such file"),
            (["--from", str(ROOT / "pyproject.toml")], "This is no report of speed"),
            (["--from", str(ROOT / "pyproject.toml"), "--quick"], "--from shows what was kept"),
            (["more"], "unrecognized arguments"),
        ],
    )
    def test_that_is_misused_says_so(self, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            command.main(words)
        assert ended.value.code == 2
        assert says in " ".join(capsys.readouterr().err.split())

    def test_says_what_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "find_spec", lambda name: None)
        with pytest.raises(SystemExit) as ended:
            command.main([])
        assert ended.value.code == 2
        assert "picows is not installed" in capsys.readouterr().err

    def test_our_own_server_says_that_uvloop_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "uvloop", None)
        monkeypatch.setattr(sys, "argv", ["own", "app:app", "--loop", "uvloop"])
        with pytest.raises(SystemExit) as ended:
            own.main()
        assert ended.value.code == 2
        assert "pip install uvloop" in capsys.readouterr().err
