"""Carries out on asyncio what the machine decides, and decides nothing itself."""

from wslifecycle.runtime.counters import Counters
from wslifecycle.runtime.options import Options
from wslifecycle.runtime.server import Server, start_server

__all__ = ["Counters", "Options", "Server", "start_server"]
