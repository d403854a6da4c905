"""Every order that asyncio may choose: asyncio's own loop on a kernel in memory, and what can be explored with it.

    explore, search, deterministic      a program in many orders, one of which may fail
    Fifo, Random, Pct, Dfs, Replay, Tape  who decides the order: schedulers
    ScheduledLoop, Level                the loop, and what may be ordered otherwise than the stock loop does it
    Exchange, Witness                   both sides of one WebSocket connection in the hands of a test, and a judge
    orders.stateful.Fuzz                a Hypothesis state machine for a server's protocol (needs Hypothesis)

`pip install 'wslifecycle[fuzz]'` brings what all of it needs.
"""

from wslifecycle.conformance.orders.exchange import Exchange
from wslifecycle.conformance.orders.explore import deterministic, explore, search
from wslifecycle.conformance.orders.loop import ScheduledLoop, Stuck
from wslifecycle.conformance.orders.schedulers import (
    Dfs,
    Fifo,
    Level,
    Pct,
    Random,
    Replay,
    Scheduler,
    Tape,
    Undetermined,
)
from wslifecycle.conformance.orders.watched import Broken, Finding
from wslifecycle.conformance.orders.witness import Witness

__all__ = [
    "Broken",
    "Dfs",
    "Exchange",
    "Fifo",
    "Finding",
    "Level",
    "Pct",
    "Random",
    "Replay",
    "ScheduledLoop",
    "Scheduler",
    "Stuck",
    "Tape",
    "Undetermined",
    "Witness",
    "deterministic",
    "explore",
    "search",
]
