"""The lifespan protocol, against apps that keep to it and apps that do what they like.

Whatever a test does, at its end no task may be left, and the loop may have had nothing to complain of (`run`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Literal, TypeAlias

import pytest
from starlette.applications import Starlette

from wslifecycle.runtime import lifespan as module
from wslifecycle.runtime.lifespan import Lifespan, LifespanError, LifespanViolation
from wslifecycle.runtime.session import Message, Receive, Send

STARTUP = {"type": "lifespan.startup"}
STARTUP_COMPLETE = {"type": "lifespan.startup.complete"}
STARTUP_FAILED = {"type": "lifespan.startup.failed", "message": "no database"}
SHUTDOWN = {"type": "lifespan.shutdown"}
SHUTDOWN_COMPLETE = {"type": "lifespan.shutdown.complete"}
SHUTDOWN_FAILED = {"type": "lifespan.shutdown.failed", "message": "no database left"}

WAITS = (logging.INFO, "Waiting for application startup.")
COMPLETE = (logging.INFO, "Application startup complete.")
FAILED = (logging.ERROR, "Application startup failed.")
UNSUPPORTED = (logging.INFO, "ASGI 'lifespan' protocol appears unsupported.")
RAISED = (logging.ERROR, "Exception in 'lifespan' protocol")
ENDS = (logging.INFO, "Waiting for application shutdown.")
ENDED = (logging.INFO, "Application shutdown complete.")
ENDED_SILENTLY = (logging.WARNING, "The application ended without an answer to lifespan.shutdown.")
SHUTDOWN_FAILS = [(logging.ERROR, "no database left"), (logging.ERROR, "Application shutdown failed.")]

MODES: tuple[Literal["auto"], Literal["on"]] = ("auto", "on")


def run(test: Coroutine[Any, Any, None], seconds: float = 2) -> None:
    """Runs a test within its time, and holds it to leaving no task and no complaint behind."""
    complaints: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            await test
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())
    gc.collect()
    assert complaints == []


async def forever() -> None:
    await asyncio.Event().wait()


async def good(scope: Any, receive: Receive, send: Send) -> None:
    """The app that the specification shows."""
    assert await receive() == STARTUP
    scope["state"]["answer"] = 42
    await send(STARTUP_COMPLETE)
    assert await receive() == SHUTDOWN
    await send(SHUTDOWN_COMPLETE)


class Broken(Exception):
    """What a broken app raises."""


class Fatal(BaseException):
    """What no server may take for an ordinary error."""


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> Iterator[None]:
    """`run` collects garbage after each test: what was there before the first need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    """What was logged, for an operator to see."""
    caplog.set_level(logging.INFO, logger="wslifecycle")
    return lambda: [(level, text) for name, level, text in caplog.record_tuples if name == "wslifecycle"]


Said: TypeAlias = Callable[[], list[tuple[int, str]]]


class TestAGoodApp:
    @pytest.mark.parametrize("mode", MODES)
    def test_starts_and_shuts_down(self, mode: Literal["auto", "on"], said: Said) -> None:
        async def test() -> None:
            lifespan = Lifespan(good, mode)
            await lifespan.startup()
            assert said() == [WAITS, COMPLETE]
            assert lifespan.state == {"answer": 42}
            await lifespan.shutdown(1)

        run(test())
        assert said() == [WAITS, COMPLETE, ENDS, ENDED]

    def test_sees_the_scope_of_the_specification(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            seen.append(scope)

        namespace: dict[str, Any] = {}
        run(Lifespan(app, "auto", namespace).startup())
        asgi = {"version": "3.0", "spec_version": "2.0"}
        assert seen == [{"type": "lifespan", "asgi": asgi, "state": {}}]
        assert seen[0]["state"] is namespace

    def test_fills_the_namespace_it_is_given(self) -> None:
        namespace: dict[str, Any] = {}

        async def test() -> None:
            lifespan = Lifespan(good, "on", namespace)
            await lifespan.startup()
            assert lifespan.state is namespace
            await lifespan.shutdown(1)

        run(test())
        assert namespace == {"answer": 42}

    def test_is_waited_for(self) -> None:
        order = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            ready = asyncio.Event()
            asyncio.get_running_loop().call_soon(ready.set)
            await ready.wait()
            order.append("app is up")
            await send(STARTUP_COMPLETE)
            await receive()
            asyncio.get_running_loop().call_soon(ready.clear)
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, ready.set)
            await ready.wait()
            order.append("app is down")
            await send(SHUTDOWN_COMPLETE)

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            order.append("server is up")
            await lifespan.shutdown(1)
            order.append("server is down")

        run(test())
        assert order == ["app is up", "server is up", "app is down", "server is down"]

    def test_of_starlette_puts_something_in_the_state(self, said: Said) -> None:
        pools: list[str] = []

        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[dict[str, Any]]:
            pools.append("pool")
            yield {"pool": pools}
            pools.clear()

        async def test() -> None:
            lifespan = Lifespan(Starlette(lifespan=life), "on")
            await lifespan.startup()
            assert lifespan.state == {"pool": ["pool"]}
            await lifespan.shutdown(1)

        run(test())
        assert pools == []
        assert said() == [WAITS, COMPLETE, ENDS, ENDED]


class TestStartup:
    def test_is_complete_before_the_app_receives(self) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            assert await receive() == STARTUP
            assert await receive() == SHUTDOWN
            await send(SHUTDOWN_COMPLETE)

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("then", ["returns", "raises", "goes on"])
    def test_that_failed_raises_what_the_app_says(self, mode: Literal["auto", "on"], then: str, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            await send(STARTUP_FAILED)
            if then == "raises":
                raise Broken
            if then == "goes on":
                await forever()

        async def test() -> None:
            lifespan = Lifespan(app, mode)
            with pytest.raises(LifespanError, match=r"^no database$"):
                await lifespan.startup()
            assert len(asyncio.all_tasks()) == 1
            await lifespan.shutdown(1)

        run(test())
        assert said() == [WAITS, FAILED]

    def test_that_failed_without_a_message_says_that_it_failed(self) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed"})

        async def test() -> None:
            with pytest.raises(LifespanError, match=r"^Application startup failed\.$"):
                await Lifespan(app, "auto").startup()

        run(test())

    def test_is_refused_a_second_time(self) -> None:
        async def test() -> None:
            lifespan = Lifespan(good, "auto")
            await lifespan.startup()
            with pytest.raises(RuntimeError, match="called before"):
                await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())


async def raises_at_once(scope: Any, receive: Receive, send: Send) -> None:
    raise Broken("only WebSockets here")


async def raises_after_receive(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    raise Broken("only WebSockets here")


async def speaks_websocket(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})


def of_another_time(scope: Any) -> Any:
    """An app of ASGI 2: a call with three arguments raises before there is anything to await."""


async def returns(scope: Any, receive: Receive, send: Send) -> None:
    await receive()


class TestAnAppThatEndsBeforeItAnswers:
    @pytest.mark.parametrize(
        "app",
        [raises_at_once, raises_after_receive, speaks_websocket, of_another_time, returns],
        ids=lambda a: a.__name__,
    )
    def test_does_not_support_lifespan(self, app: Any, said: Said) -> None:
        async def test() -> None:
            lifespan = Lifespan(app, "auto")
            await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())
        assert said() == [WAITS, UNSUPPORTED]

    @pytest.mark.parametrize(
        ("app", "cause", "text"),
        [
            (raises_at_once, Broken, "raised Broken"),
            (raises_after_receive, Broken, "raised Broken"),
            (speaks_websocket, LifespanViolation, "raised LifespanViolation"),
            (of_another_time, TypeError, "raised TypeError"),
            (returns, type(None), "returned before"),
        ],
    )
    def test_failed_where_lifespan_is_on(self, app: Any, cause: type, text: str, said: Said) -> None:
        async def test() -> None:
            lifespan = Lifespan(app, "on")
            with pytest.raises(LifespanError, match=text) as caught:
                await lifespan.startup()
            assert isinstance(caught.value.__cause__, cause)
            await lifespan.shutdown(1)

        run(test())
        assert said() == [WAITS, FAILED]

    def test_tells_why_to_who_wants_to_know(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="wslifecycle")
        run(Lifespan(raises_at_once, "auto").startup())
        (record,) = [record for record in caplog.records if record.levelno == logging.DEBUG and record.exc_info]
        assert record.name == "wslifecycle"
        assert "only WebSockets here" in record.getMessage()

    @pytest.mark.parametrize("mode", MODES)
    def test_by_a_cancellation_of_its_own_has_failed(self, mode: Literal["auto", "on"], said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            raise asyncio.CancelledError

        async def test() -> None:
            with pytest.raises(LifespanError, match="cancelled before"):
                await Lifespan(app, mode).startup()

        run(test())
        assert said() == [WAITS, FAILED]

    @pytest.mark.parametrize("mode", MODES)
    def test_by_something_fatal_takes_the_caller_along(self, mode: Literal["auto", "on"]) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            raise Fatal

        async def test() -> None:
            with pytest.raises(Fatal):
                await Lifespan(app, mode).startup()

        run(test())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_by_an_interrupt_stops_the_loop(self, error: type[BaseException]) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            raise error

        with pytest.raises(error):
            run(Lifespan(app, "auto").startup())


class TestAStartupThatIsCancelled:
    def test_ends_the_app_first(self, said: Said) -> None:
        order = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            try:
                await forever()
            finally:
                tidy = asyncio.Event()
                asyncio.get_running_loop().call_soon(tidy.set)
                await tidy.wait()
                order.append("app ended")

        async def test() -> None:
            lifespan = Lifespan(app, "auto")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await lifespan.startup()
            order.append("startup ended")
            assert len(asyncio.all_tasks()) == 1
            await lifespan.shutdown(1)

        run(test())
        assert order == ["app ended", "startup ended"]
        assert said() == [WAITS]

    def test_lets_the_app_say_that_it_failed(self, said: Said) -> None:
        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            await forever()
            yield

        async def test() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await Lifespan(Starlette(lifespan=life), "on").startup()

        run(test())
        assert said() == [WAITS]

    def test_logs_what_the_app_raises_then(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            try:
                await forever()
            finally:
                raise Broken

        async def test() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await Lifespan(app, "auto").startup()

        run(test())
        assert said() == [WAITS, RAISED]

    def test_by_a_shutdown_has_failed(self, said: Said) -> None:
        lifespan: Lifespan

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            arrived.set()
            await forever()

        async def test() -> None:
            nonlocal lifespan
            lifespan = Lifespan(app, "auto")
            starting = asyncio.create_task(lifespan.startup())
            await arrived.wait()
            await lifespan.shutdown(1)
            with pytest.raises(LifespanError, match="cancelled before"):
                await starting

        arrived = asyncio.Event()
        run(test())
        assert said() == [WAITS, FAILED]


class TestSend:
    @pytest.mark.parametrize(
        ("before", "message", "allowed"),
        [
            ((), STARTUP, "startup.complete, lifespan.startup.failed"),
            ((), {"type": "lifespan.startup.completed"}, "startup.complete, lifespan.startup.failed"),
            ((), {"type": "websocket.accept"}, "startup.complete, lifespan.startup.failed"),
            ((), {}, "startup.complete, lifespan.startup.failed"),
            ((), SHUTDOWN_COMPLETE, "startup.complete, lifespan.startup.failed"),
            ((), SHUTDOWN_FAILED, "startup.complete, lifespan.startup.failed"),
            ((STARTUP_COMPLETE,), STARTUP_COMPLETE, "shutdown.failed"),
            ((STARTUP_COMPLETE,), STARTUP_FAILED, "shutdown.failed"),
            ((STARTUP_COMPLETE,), SHUTDOWN_COMPLETE, "shutdown.failed"),
            ((STARTUP_COMPLETE, SHUTDOWN), STARTUP_COMPLETE, "shutdown.complete, lifespan.shutdown.failed"),
            ((STARTUP_COMPLETE, SHUTDOWN), STARTUP_FAILED, "shutdown.complete, lifespan.shutdown.failed"),
            ((STARTUP_COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE), SHUTDOWN_COMPLETE, "nothing"),
            ((STARTUP_COMPLETE, SHUTDOWN, SHUTDOWN_FAILED), SHUTDOWN_COMPLETE, "nothing"),
            ((STARTUP_COMPLETE, SHUTDOWN_FAILED), SHUTDOWN_FAILED, "nothing"),
            ((STARTUP_FAILED,), STARTUP_COMPLETE, "nothing"),
        ],
    )
    def test_of_what_is_not_due_is_refused(self, before: tuple[Message, ...], message: Message, allowed: str) -> None:
        refused = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            for earlier in before:
                if earlier is SHUTDOWN:
                    assert await receive() == SHUTDOWN
                else:
                    await send(earlier)
            with pytest.raises(LifespanViolation) as caught:
                await send(message)
            refused.append(str(caught.value))

        async def test() -> None:
            lifespan = Lifespan(app, "auto")
            with contextlib.suppress(LifespanError):
                await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())
        (text,) = refused
        assert text.startswith(repr(message.get("type")))
        assert text.partition("allowed: ")[2].removeprefix("lifespan.") == allowed

    def test_that_is_refused_changes_nothing(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            for message in (SHUTDOWN_COMPLETE, STARTUP_COMPLETE, STARTUP_FAILED):
                with contextlib.suppress(LifespanViolation):
                    await send(message)
            await good_end(receive, send)

        async def good_end(receive: Receive, send: Send) -> None:
            assert [await receive(), await receive()] == [STARTUP, SHUTDOWN]
            await send(SHUTDOWN_COMPLETE)

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())
        assert said() == [WAITS, COMPLETE, ENDS, ENDED]

    def test_does_not_keep_the_dict_of_the_app(self) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            message = dict(STARTUP_COMPLETE)
            await send(message)
            message["type"] = "changed afterwards"
            await receive()
            assert await receive() == SHUTDOWN
            await send(SHUTDOWN_COMPLETE)
            over.append(True)

        over: list[bool] = []

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(1)

        run(test())
        assert over == [True]


class TestAnAppThatEndsBetween:
    """Between a complete startup and the shutdown: the server goes on."""

    def observe(self, *, sends: Message | None = None, error: BaseException | None = None) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            await send(STARTUP_COMPLETE)
            await go.wait()
            gone.set()
            if sends is not None:
                await send(sends)
            if error is not None:
                raise error

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            go.set()
            await gone.wait()
            await lifespan.shutdown(1)
            await lifespan.shutdown(None)

        go, gone = asyncio.Event(), asyncio.Event()
        run(test())

    @pytest.mark.parametrize("error", [Broken(), Fatal(), asyncio.CancelledError()], ids=repr)
    def test_with_an_exception_has_it_logged_once(
        self, error: BaseException, said: Said, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.observe(error=error)
        assert said() == [WAITS, COMPLETE, RAISED]
        info = caplog.records[-1].exc_info
        assert info is not None
        assert isinstance(info[1], type(error))

    def test_with_a_return_may(self, said: Said) -> None:
        self.observe()
        assert said() == [WAITS, COMPLETE]

    @pytest.mark.parametrize("error", [None, Broken()], ids=repr)
    def test_and_says_so_is_not_logged_twice(self, error: BaseException | None, said: Said) -> None:
        self.observe(sends=SHUTDOWN_FAILED, error=error)
        assert said() == [WAITS, COMPLETE, *SHUTDOWN_FAILS]

    def test_in_the_step_of_its_startup_has_started(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            await send(SHUTDOWN_FAILED)
            raise Broken

        run(Lifespan(app, "on").startup())
        assert said() == [WAITS, *SHUTDOWN_FAILS, COMPLETE]

    def test_of_starlette_reports_it_once(self, said: Said) -> None:
        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            async with asyncio.TaskGroup() as group:
                group.create_task(breaks())
                yield

        async def breaks() -> None:
            await go.wait()
            raise Broken("a background task")

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            try:
                await Starlette(lifespan=life)(scope, receive, send)
            finally:
                gone.set()

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            go.set()
            await gone.wait()
            await lifespan.shutdown(1)

        go, gone = asyncio.Event(), asyncio.Event()
        run(test())
        assert said()[:2] == [WAITS, COMPLETE]
        ((level, text), failed) = said()[2:]
        assert (level, failed) == (logging.ERROR, SHUTDOWN_FAILS[1])
        assert "Broken: a background task" in text

    def test_of_an_outside_cancellation_is_not_an_error(self, said: Said) -> None:
        async def forgets() -> None:
            async with asyncio.timeout(2):
                await Lifespan(good, "on").startup()

        asyncio.run(forgets())  # cancels what is left
        assert said() == [WAITS, COMPLETE]


class TestShutdown:
    def after(self, last: Callable[[Receive, Send], Awaitable[None]], timeout: float | None = 1) -> None:
        """What an app does after `lifespan.shutdown`."""

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await receive()
            await send(STARTUP_COMPLETE)
            assert await receive() == SHUTDOWN
            await last(receive, send)

        async def test() -> None:
            lifespan = Lifespan(app, "auto")
            await lifespan.startup()
            await lifespan.shutdown(timeout)
            assert len(asyncio.all_tasks()) == 1
            await lifespan.shutdown(timeout)

        run(test())

    def test_that_failed_goes_on(self, said: Said) -> None:
        async def fails(receive: Receive, send: Send) -> None:
            await send(SHUTDOWN_FAILED)

        self.after(fails)
        assert said() == [WAITS, COMPLETE, ENDS, *SHUTDOWN_FAILS]

    def test_that_failed_without_a_message_is_an_error(self, said: Said) -> None:
        async def fails(receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.shutdown.failed"})

        self.after(fails)
        assert said()[3:] == [SHUTDOWN_FAILS[1]]

    @pytest.mark.parametrize("timeout", [None, 1])
    def test_without_an_answer_ends_with_the_app(self, timeout: float | None, said: Said) -> None:
        async def leaves(receive: Receive, send: Send) -> None:
            pass

        self.after(leaves, timeout)
        assert said() == [WAITS, COMPLETE, ENDS, ENDED_SILENTLY]

    @pytest.mark.parametrize("error", [Broken(), Fatal(), asyncio.CancelledError()], ids=repr)
    def test_in_which_the_app_raises_logs_it(self, error: BaseException, said: Said) -> None:
        async def breaks(receive: Receive, send: Send) -> None:
            raise error

        self.after(breaks)
        assert said() == [WAITS, COMPLETE, ENDS, RAISED, ENDED_SILENTLY]

    def test_after_which_the_app_raises_logs_it(self, said: Said) -> None:
        async def breaks(receive: Receive, send: Send) -> None:
            await send(SHUTDOWN_COMPLETE)
            raise Broken

        self.after(breaks)
        assert said() == [WAITS, COMPLETE, ENDS, ENDED, RAISED]

    @pytest.mark.parametrize("timeout", [None, 60])
    def test_after_which_the_app_receives_ends_it(self, timeout: float | None, said: Said) -> None:
        ends = []

        async def receives(receive: Receive, send: Send) -> None:
            await send(SHUTDOWN_COMPLETE)
            try:
                await receive()
            finally:
                ends.append("cancelled")

        self.after(receives, timeout)
        assert ends == ["cancelled"]
        assert said() == [WAITS, COMPLETE, ENDS, ENDED]

    def test_ends_an_app_that_does_not_answer_in_time(self, said: Said) -> None:
        ends = []

        async def hangs(receive: Receive, send: Send) -> None:
            try:
                await forever()
            finally:
                ends.append("cancelled")

        self.after(hangs, 0.01)
        assert ends == ["cancelled"]
        late = (logging.ERROR, "Application shutdown not complete after 0.01 seconds; it is cancelled.")
        assert said() == [WAITS, COMPLETE, ENDS, late]

    def test_ends_an_app_that_never_receives(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            await forever()

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(0.01)

        run(test())
        assert said()[:3] == [WAITS, COMPLETE, ENDS]
        assert said()[3][1].startswith("Application shutdown not complete")

    def test_of_an_app_that_has_said_it_failed_does_not_wait(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            await send(SHUTDOWN_FAILED)
            await forever()

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(None)

        run(test())
        assert said() == [WAITS, *SHUTDOWN_FAILS, COMPLETE]

    def test_leaves_behind_what_no_cancellation_ends(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.01)

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            await enough.wait()
            over.set()

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(0.01)
            assert len(asyncio.all_tasks()) == 2
            enough.set()
            await over.wait()

        enough, over = asyncio.Event(), asyncio.Event()
        run(test())
        stubborn = (logging.ERROR, "The application's lifespan goes on 0.01 seconds after it was cancelled.")
        assert said()[4:] == [stubborn]

    def test_that_is_cancelled_ends_the_app_first(self) -> None:
        ends = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            try:
                await forever()
            finally:
                ends.append("cancelled")

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await lifespan.shutdown(None)
            assert ends == ["cancelled"]

        run(test())

    def test_twice_at_once_asks_once(self, said: Said) -> None:
        given: list[object] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await send(STARTUP_COMPLETE)
            given.extend([await receive(), await receive()])
            tidy = asyncio.Event()
            asyncio.get_running_loop().call_soon(tidy.set)
            await tidy.wait()
            given.append("tidy")
            await send(SHUTDOWN_COMPLETE)
            await receive()

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await asyncio.gather(lifespan.shutdown(1), lifespan.shutdown(None))

        run(test())
        assert given == [STARTUP, SHUTDOWN, "tidy"]
        assert said().count(ENDS) == 1

    def test_without_a_startup_does_nothing(self, said: Said) -> None:
        run(Lifespan(good, "on").shutdown(None))
        assert said() == []

    def test_after_it_send_is_refused(self) -> None:
        kept: list[Send] = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            kept.append(send)
            await good(scope, receive, send)

        async def test() -> None:
            lifespan = Lifespan(app, "on")
            await lifespan.startup()
            await lifespan.shutdown(1)
            with pytest.raises(LifespanViolation, match="allowed: nothing"):
                await kept[0](SHUTDOWN_COMPLETE)

        run(test())


class TestModes:
    def test_off_does_not_call_the_app(self, said: Said) -> None:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            raise AssertionError("called")

        async def test() -> None:
            lifespan = Lifespan(app, "off")
            await lifespan.startup()
            assert len(asyncio.all_tasks()) == 1
            await lifespan.shutdown(None)
            assert lifespan.state == {}

        run(test())
        assert said() == []

    def test_another_is_refused(self) -> None:
        with pytest.raises(ValueError, match="auto, on, off"):
            Lifespan(good, "maybe")  # type: ignore[arg-type]
