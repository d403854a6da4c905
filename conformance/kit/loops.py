"""The event loop that a process serves on: its option `--loop`, and what runs on it."""

from __future__ import annotations

import argparse
import asyncio

LOOPS = ("asyncio", "uvloop")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--loop`."""
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")


def runner(parser: argparse.ArgumentParser, loop: str) -> asyncio.Runner:
    """Runs on this loop. Ends the process with status 2 where it is not installed."""
    if loop == "asyncio":
        return asyncio.Runner()
    try:
        import uvloop
    except ImportError:
        parser.error("uvloop is not installed: pip install uvloop")
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
