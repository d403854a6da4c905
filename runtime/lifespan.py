"""The ASGI lifespan protocol (lifespan specification 2.0): an app's startup before a server serves, its shutdown after.

The app's callable runs in a task of its own, from `startup()` to the end of `shutdown()`. The last message that went
either way says which messages the app may send next (`_NEXT`); no other fact is kept. Whatever happens to the caller,
also that it is cancelled, the task is ended before either method is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal, TypeAlias, get_args

from wslifecycle.runtime.session import App, Message

Mode: TypeAlias = Literal["auto", "on", "off"]

STARTUP = "lifespan.startup"
STARTUP_COMPLETE = "lifespan.startup.complete"
STARTUP_FAILED = "lifespan.startup.failed"
SHUTDOWN = "lifespan.shutdown"
SHUTDOWN_COMPLETE = "lifespan.shutdown.complete"
SHUTDOWN_FAILED = "lifespan.shutdown.failed"

CANCEL_TIMEOUT = 5.0
"""Seconds that a cancelled callable has to end, before it is left behind with a line in the log."""

_NEXT: dict[str, tuple[str, ...]] = {
    STARTUP: (STARTUP_COMPLETE, STARTUP_FAILED),
    STARTUP_COMPLETE: (SHUTDOWN_FAILED,),  # Starlette and Litestar report so what breaks in between
    SHUTDOWN: (SHUTDOWN_COMPLETE, SHUTDOWN_FAILED),
}
"""What the app may send after each message; after any other, nothing."""

_log = logging.getLogger("wslifecycle")


class LifespanError(RuntimeError):
    """The application's startup failed: the server must not serve. The text is the app's own, if it gave one."""


class LifespanViolation(RuntimeError):
    """The app sent what it may not send now. Raised by the app's `send()`; nothing changes."""


class Lifespan:
    """The lifespan of one app in one event loop.

    `mode`: "off" never calls the app; "auto" takes an app that ends before it answers `lifespan.startup` for one that
    does not support the protocol ("Scope": a server must go on without it); "on" takes that for a failure. `state` is
    the namespace that the app sees and may fill; each connection's scope gets a copy of it (R18). ValueError: no such
    mode.
    """

    def __init__(self, app: App, mode: Mode, state: dict[str, Any] | None = None) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"lifespan must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.state: dict[str, Any] = {} if state is None else state
        self._app = app
        self._mode = mode
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()  # what receive() gives
        self._last: Message = {"type": ""}  # the last message that went either way
        self._news = asyncio.Event()  # set when the app has answered, or its callable is over
        self._task: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------------------------------- the server's side

    async def startup(self) -> None:
        """Starts the app, and waits without a limit until its startup is complete ("Startup"); to be called once.

        LifespanError: the app says that it failed, was cancelled, or (mode "on") ended before it answered. What is no
        `Exception`, a KeyboardInterrupt for example, goes on as it is. A caller that is cancelled ends the app first.
        """
        if self._mode == "off":
            return
        if self._task is not None:
            raise RuntimeError("startup() was called before")
        _log.info("Waiting for application startup.")
        self._ask(STARTUP)
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._over)
        try:
            await self._news.wait()
        except asyncio.CancelledError:
            await self._cancel(self._task)
            raise
        if self._last["type"] == STARTUP_FAILED:
            await self._cancel(self._task)
            _log.error("Application startup failed.")
            raise LifespanError(self._last.get("message") or "Application startup failed.")
        if self._last["type"] == STARTUP:
            self._without_answer(self._task)
        else:
            _log.info("Application startup complete.")

    async def shutdown(self, timeout: float | None) -> None:  # noqa: ASYNC109 - after it there is more to do
        """Tells the app to shut down and waits for its answer or its end, at most `timeout` seconds; never fails.

        Then whatever is left of the callable is cancelled: an app that has answered is to have cleaned up before
        ("Shutdown Complete"). Does nothing where no callable runs: off, unsupported, ended, or shut down before.
        """
        if self._task is None or self._task.done():
            return
        if self._last["type"] == STARTUP_COMPLETE:
            _log.info("Waiting for application shutdown.")
            self._ask(SHUTDOWN)
        try:
            if self._last["type"] == SHUTDOWN:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
        except TimeoutError:
            _log.error("Application shutdown not complete after %g seconds; it is cancelled.", timeout)
        else:
            if self._last["type"] == SHUTDOWN_COMPLETE:
                _log.info("Application shutdown complete.")
            elif self._last["type"] == SHUTDOWN:
                _log.warning("The application ended without an answer to lifespan.shutdown.")
        finally:
            await self._cancel(self._task)

    def _ask(self, event: str) -> None:
        """Gives the app an event, whose answer is the next news."""
        self._last = {"type": event}
        self._news.clear()
        self._inbox.put_nowait({"type": event})

    def _without_answer(self, task: asyncio.Task[None]) -> None:
        """The callable ended before it answered `lifespan.startup`: either that is no failure, or it is raised."""
        if task.cancelled():  # no word about what it supports: it was on its way
            _log.error("Application startup failed.")
            raise LifespanError("The application was cancelled before it answered lifespan.startup.")
        error = task.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        if self._mode == "auto":
            _log.info("ASGI 'lifespan' protocol appears unsupported.")
            _log.debug("What the application raised instead of an answer: %r", error, exc_info=error)
            return
        _log.error("Application startup failed.")
        how = "returned" if error is None else f"raised {error!r}"
        raise LifespanError(f"The application {how} before it answered lifespan.startup.") from error

    async def _cancel(self, task: asyncio.Task[None]) -> None:
        """Ends the callable, if it has not ended."""
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
        if not task.done():
            _log.error("The application's lifespan goes on %g seconds after it was cancelled.", CANCEL_TIMEOUT)

    # ---------------------------------------------------------------------------------------- the app's side

    async def _run(self) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        await self._app({"type": "lifespan", "asgi": asgi, "state": self.state}, self._receive, self._send)

    def _over(self, task: asyncio.Task[None]) -> None:
        """The callable is over. Logs what it raised, once, unless somebody else tells it."""
        self._news.set()
        try:
            task.result()
        except BaseException as error:
            cancelled = task.cancelling() > 0
            by_request = cancelled and isinstance(error, asyncio.CancelledError)
            by_startup = self._last["type"] == STARTUP and not cancelled
            by_app = self._last["type"] in (STARTUP_FAILED, SHUTDOWN_FAILED)
            if not (by_request or by_startup or by_app):
                _log.error("Exception in 'lifespan' protocol", exc_info=error)

    async def _receive(self) -> Message:
        """The app's `receive()`: one event before each answer that is due, and a wait that ends with the task."""
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        """The app's `send()`. LifespanViolation: no such message is due."""
        allowed = _NEXT.get(self._last["type"], ())
        kind = message.get("type")
        if kind not in allowed:
            due = ", ".join(allowed) or "nothing"
            raise LifespanViolation(f"{kind!r} may not be sent after {self._last['type']}; allowed: {due}")
        self._last = dict(message)
        self._news.set()
        if kind == SHUTDOWN_FAILED:
            if text := message.get("message"):
                _log.error("%s", text)
            _log.error("Application shutdown failed.")
