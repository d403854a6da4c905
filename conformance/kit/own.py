"""Serves an app with our own server, as a process: `python -m wslifecycle.conformance.kit.own APP --port PORT`.

SIGTERM and SIGINT shut it down.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from importlib import import_module
from typing import get_args

from wslifecycle.conformance.kit import loops
from wslifecycle.runtime.options import CodecName, Options
from wslifecycle.runtime.server import start_server
from wslifecycle.statemachine.machine import lifecycle


async def serve(arguments: argparse.Namespace) -> None:
    """Serves until a signal comes."""
    module, _, name = arguments.app.partition(":")
    interval, timeout = arguments.ping
    machine = lifecycle(arguments.profile)
    options = Options(
        max_size=arguments.max_size,
        ping_interval=interval,
        ping_timeout=timeout,
        machine=machine,
        codec=arguments.codec,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = getattr(import_module(module), name)
    settings = {"port": arguments.port, "root_path": arguments.root_path, "grace": arguments.grace}
    async with await start_server(app, **settings, options=options):
        await stop.wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Serves an ASGI app over WebSocket and nothing else.")
    parser.add_argument("app", help="module:attribute")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--root-path", default="")
    parser.add_argument("--profile", default="reference", help="a profile, by which it behaves as another server does")
    parser.add_argument("--codec", choices=get_args(CodecName), default="auto", help="what reads frames")
    parser.add_argument("--max-size", type=int, help="bytes of a message")
    parser.add_argument(
        "--ping", type=float, nargs=2, default=(20.0, 20.0), metavar="SECONDS", help="interval, timeout"
    )
    parser.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="that apps have at a shutdown")
    loops.add_option(parser)
    arguments = parser.parse_args()
    with loops.runner(parser, arguments.loop) as runner:
        runner.run(serve(arguments))


if __name__ == "__main__":
    main()
