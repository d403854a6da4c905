"""What was measured, as text and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.speed.columns import IDLE
from benchmarks.speed.figures import LATER, Cell, Figures, Goal
from wslifecycle.conformance.kit.loops import LOOPS

BUSY = 0.9
"""The share of a processor from which on the load client may be what bounds how fast messages come."""

NONE = "–"
EXPLAINED = """\
Each server is a process of its own with one worker, without TLS, access log or compression. In each round everybody
takes one burst of {seconds:g} s in each column, in an order that is shuffled anew; the figures are medians of {rounds}
round(s), and ratios are taken within a round. CPU is what the kernel says that all threads of a server have run.
Where the load client had no more processor (*), it bounds the messages a second; CPU per message is right all the same.
"""


def text(figures: Figures) -> str:
    """Everything, for a terminal or a file."""
    parts = [_facts(figures), *(_tables(figures, loop) for loop in LOOPS), _columns(figures), _memory(figures)]
    parts += [_goals(figures), _faults(figures)]
    return "\n".join(part for part in parts if part)


def _facts(figures: Figures) -> str:
    report = figures.report
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    versions = dict.fromkeys(one.version for one in report.entrants if one.version)
    notes = "".join(f"{note}\n" for note in report.notes)
    explained = EXPLAINED.format(seconds=report.seconds, rounds=report.rounds)
    return f"{machine}\n{'; '.join(versions)}\n{notes}\n{explained}"


def _tables(figures: Figures, loop: str) -> str:
    """The three tables of a loop."""
    labels = [one.label for one in figures.report.entrants if one.loop == loop]
    columns = [column.name for column in figures.report.columns if column.kind != "memory"]
    parts = []
    for title, told in (
        (f"times as many messages per second of CPU as {figures.reference}", _times),
        ("microseconds of CPU per message", _micros),
        ("messages a second (*: bounded by the load client)", _rate),
    ):
        rows = [[label, *(_cell(figures.cell(label, name), told) for name in columns)] for label in labels]
        rows = [row for row in rows if any(cell != NONE for cell in row[1:])]
        if rows:
            parts.append(f"{loop}: {title}\n{_aligned([['', *columns], *rows])}")
    return "\n".join(parts)


def _cell(cell: Cell | None, told: Callable[[Cell], str]) -> str:
    if cell is None:
        return NONE
    return f"{'' if cell.micros is None else told(cell)}{'✗' if cell.fault else ''}"


def _times(cell: Cell) -> str:
    return NONE if cell.times is None else f"{cell.times:.2f}"


def _micros(cell: Cell) -> str:
    return f"{cell.micros:.1f}"


def _rate(cell: Cell) -> str:
    return f"{cell.rate:,.0f}{'*' if cell.client > BUSY else ''}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join((first.ljust(widths[0]), *cells)).rstrip())
    return "\n".join(lines) + "\n"


def _columns(figures: Figures) -> str:
    """What the columns are, and how busy the load client was."""
    rows = [["column", "of a processor the load client took at most", "what it is"]]
    for column in figures.report.columns:
        share = NONE if column.name == IDLE else f"{figures.busiest(column.name):.0%}"
        rows.append([column.name, share, f"  {column.says}"])
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return "".join(f"{a.ljust(widths[0])}  {b.rjust(widths[1])}  {c}".rstrip() + "\n" for a, b, c in rows)


def _memory(figures: Figures) -> str:
    rows = [["memory", "KiB for each idle connection", "slope of memory by connections (KiB)"]]
    for one in figures.report.entrants:
        each, growth = figures.each(one.label), figures.growth(one.label)
        if each is not None and growth is not None:
            slope = f"{growth.each / 1024:.1f}" if len(growth.points) > 2 else NONE
            rows.append([one.label, f"{each:.1f}", slope])
    return _aligned(rows) if len(rows) > 1 else ""


def _goals(figures: Figures) -> str:
    """Each goal without the later peer; where that is the best one, the same with it as well."""
    without, with_it = figures.goals((LATER,)), figures.goals()
    if not with_it:
        return ""
    lines = [f"goals: {_met(without)} without {LATER}, {_met(with_it)} with it"]
    for goal in dict.fromkeys([*without, *with_it]):
        bound = f"at {'least' if goal.at_least else 'most'} {goal.bound:g}"
        lines.append(f"{'met   ' if goal.met else 'missed'}  {_value(goal)} ({bound})  {goal.says}{_floor(goal)}")
    return "\n".join(lines) + "\n"


def _met(goals: Sequence[Goal]) -> str:
    return f"{sum(goal.met for goal in goals)} of {len(goals)} met"


def _value(goal: Goal) -> str:
    return "not measured" if goal.value is None else f"{goal.value:.3f}"


def _floor(goal: Goal) -> str:
    """How far a floor is where we miss a goal: what is beyond it is not to be had on that loop."""
    return f"; {goal.floor}" if goal.floor and not goal.met else ""


def _faults(figures: Figures) -> str:
    report = figures.report
    every = [(burst.contender, burst.column, burst.fault) for burst in report.bursts]
    every += [(look.contender, IDLE, look.fault) for look in report.memory]
    found = Counter(one for one in every if one[2])
    return "".join(f"✗ {who}, {what}: {fault} ({times}x)\n" for (who, what, fault), times in found.items())


# ------------------------------------------------------------------------------------------------ Markdown


def markdown(figures: Figures) -> str:
    """A row for each contender, a column for each kind of load, with ratios; memory at the end."""
    columns = [column.name for column in figures.loads]
    memory = bool(figures.report.memory)
    lines = [f"| | {' | '.join([*columns, *(['KiB idle'] if memory else [])])} |"]
    lines.append("|---|" + "---:|" * (len(columns) + memory))
    for one in figures.report.entrants:
        cells = [_cell(figures.cell(one.label, name), _times) for name in columns]
        if memory:
            each = figures.each(one.label)
            cells.append(NONE if each is None else f"{each:.1f}")
        name = f"**{one.label}**" if one.group == "ours" else one.label
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def aims(figures: Figures) -> str:
    """How many goals are met, and each one that is missed, as a list in Markdown."""
    goals = figures.goals()
    missed = [f"- {_value(goal)}: {goal.says}{_floor(goal)}\n" for goal in goals if not goal.met]
    return f"{_met(goals)}{'; missed:' if missed else '.'}\n{''.join(missed)}"
