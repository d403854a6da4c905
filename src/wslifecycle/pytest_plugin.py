"""A pytest plugin: `pytest --wslifecycle-server "myserver {app} --port {port}"` tries a server among the other tests.

There is a test for each rule that the kit can try, which fails where a must or a should of it is broken; one for the
server itself (that it neither dies, freezes nor logs a traceback); and one that fuzzes it. What a server does not
advertise is not asked, and the test of such a rule is skipped. The derived cases are held once, before the first test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wslifecycle.conformance.kit.results import Deviation, Result
    from wslifecycle.conformance.kit.servers import Server


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("wslifecycle", "ASGI WebSocket conformance")
    group.addoption(
        "--wslifecycle-server", metavar="COMMAND", help="a server: its name, or a command line with {app} and {port}"
    )
    group.addoption(
        "--wslifecycle-baseline", metavar="FILE", help="what is known of it: `wslifecycle conformance --write-baseline`"
    )
    group.addoption(
        "--wslifecycle-fuzz", type=float, default=20.0, metavar="SECONDS", help="how long to fuzz it; 0: not at all"
    )
    group.addoption("--wslifecycle-seed", type=int, default=0, metavar="N", help="the seed of the fuzzing")


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Adds the tests of the server."""
    if session.config.getoption("--wslifecycle-server"):
        items += Trial.from_parent(session, name="wslifecycle").collect()


class Trial(pytest.Collector):
    """All tests of one server; `result` holds the cases when it is first asked."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._result: Result | None = None
        self._known: frozenset[str] = frozenset()

    @property
    def server(self) -> Server:
        """The server that is tried. Raises `pytest.UsageError` where it cannot be."""
        from wslifecycle.conformance.kit import servers

        named = str(self.config.getoption("--wslifecycle-server"))
        try:
            return servers.custom(named) if "{port}" in named else servers.find(named)[0]
        except (LookupError, ValueError) as error:
            raise pytest.UsageError(str(error.args[0])) from None

    def collect(self) -> list[pytest.Item]:
        """A test for each rule, one for the server, one that fuzzes."""
        from wslifecycle.conformance.kit.run import rules

        numbers = sorted(rules(), key=lambda rule: (rule[0], int(rule[1:])))
        made: list[pytest.Item] = [Rule.from_parent(self, name=f"{self.server.name}[{number}]") for number in numbers]
        made.append(Survives.from_parent(self, name=f"{self.server.name}[survives]"))
        if self.config.getoption("--wslifecycle-fuzz"):
            made.append(Fuzzed.from_parent(self, name=f"{self.server.name}[fuzz]"))
        return made

    def result(self) -> Result:
        """What was found, once for all tests."""
        from wslifecycle.conformance.kit.baseline import load_baseline
        from wslifecycle.conformance.kit.run import conform

        if self._result is None:
            baseline = self.config.getoption("--wslifecycle-baseline")
            if baseline:
                with open(str(baseline), encoding="utf-8") as file:  # noqa: PTH123 - a name from the command line
                    self._known = load_baseline(file.read()).known.get(self.server.name, frozenset())
            self._result = conform(self.server)
        return self._result

    def failing(self, rule: str) -> list[Deviation]:
        """What is wrong about a rule, or about the server itself if it is empty, and not known."""
        from wslifecycle.conformance.kit.results import Verdict

        return [
            found
            for found in self.result().deviations
            if found.verdict is not Verdict.CHOICE and found.rule == rule and found.key not in self._known
        ]


class Broken(Exception):
    """A server does otherwise than it may."""


class _Item(pytest.Item):
    """A test of a server."""

    @property
    def trial(self) -> Trial:
        """All the tests of this server."""
        assert isinstance(self.parent, Trial)
        return self.parent

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Where it stands: in no file."""
        return "wslifecycle", None, self.name

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was found, without the way through this plugin."""
        return str(excinfo.value) if isinstance(excinfo.value, Broken) else super().repr_failure(excinfo, style)


class Rule(_Item):
    """One rule."""

    def runtest(self) -> None:
        """Fails where it is broken."""
        number = self.name.rpartition("[")[2].removesuffix("]")
        failing = self.trial.failing(number)
        if failing:
            raise Broken("\n\n".join("\n".join(_told(found)) for found in failing))
        if number not in self.trial.result().tried:
            pytest.skip(f"{number} cannot be tried on a server that advertises no more")


class Survives(_Item):
    """The server itself."""

    def runtest(self) -> None:
        """Fails where it died, froze, or logged a traceback that no app caused."""
        failing = self.trial.failing("")
        if failing:
            raise Broken("\n\n".join("\n".join(_told(found)) for found in failing))


class Fuzzed(_Item):
    """Conversations that Hypothesis makes up."""

    def runtest(self) -> None:
        """Fails where one goes otherwise than it may, and the derived cases have not shown that."""
        from wslifecycle.conformance.kit.fuzz import fuzz

        shown = {(found.rule, found.seen) for found in self.trial.result().deviations}
        seconds, seed = self.config.getoption("--wslifecycle-fuzz"), self.config.getoption("--wslifecycle-seed")
        found = fuzz(self.trial.server, float(seconds), seed=int(seed))
        fresh = [one for one in found if (one.suspicion.blame.rule, one.suspicion.blame.seen) not in shown]
        if fresh:
            raise Broken("\n\n".join(map(str, fresh)))


def _told(found: Deviation) -> Iterator[str]:
    """A deviation in words, with its trace."""
    where = f" {found.event} in {found.state}:" if found.state else ""
    yield f"[{found.rule or 'any'} {found.verdict}]{where} {found.seen}, not: {found.expected}"
    yield f"in {found.times} of {found.of} runs of {found.case}"
    yield from (f"    {line.side:6} {line.text}{' <<<' if line.wrong else ''}" for line in found.trace)
    yield f"again: {found.repeat}"
