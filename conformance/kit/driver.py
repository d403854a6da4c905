"""One conversation: acts on both sides of a connection, and what each of them saw.

A `Driver` listens for the agents, which connect back from inside the server. A `Conversation` has both ends: it carries
out steps, lists what comes of them as a `Log` of the oracle, and writes the trace that a reader sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from websockets.frames import Close, Frame, Opcode

from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.kit import agent
from wslifecycle.conformance.kit.client import Client, settled
from wslifecycle.conformance.kit.results import Line
from wslifecycle.conformance.kit.script import Entry, Log, Step, Terms
from wslifecycle.conformance.peer import FRAMES
from wslifecycle.conformance.scenarios import short
from wslifecycle.statemachine.machine import lifecycle

PENDING = {"pending": True}
"""What is seen of a call of send() that has no outcome."""


SYNC = 1.0
"""Seconds in which a loop that is well has turned a few times; one that has not is not asked again."""


class Channel:
    """The agent of one connection: `tell` has it do something, `told` is called with what it says."""

    def __init__(self, scope: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.scope = scope
        self.told: Callable[[dict[str, Any]], None] | None = None
        self.over = False
        """Whether nothing more will be told."""
        self._reader = reader
        self._writer = writer

    def tell(self, **command: Any) -> None:
        """Has the agent do something."""
        if not self._writer.is_closing():
            self._writer.write(agent.dump(command))

    async def listen(self) -> None:
        """Hears the agent out."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                said = await agent.read(self._reader)
                if self.told is not None:
                    self.told(said)
        self.over = True
        if self.told is not None:
            self.told({})

    def close(self) -> None:
        """Ends the channel, and with it the app's call if that still runs."""
        self._writer.close()


class Driver:
    """Where the agents connect to; `address` is what `WSLIFECYCLE_DRIVER` has to be. To be entered by `async with`."""

    def __init__(self) -> None:
        self.address = ""
        self._server: asyncio.Server | None = None
        self._awaited: dict[str, asyncio.Future[Channel]] = {}
        self._tokens = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Driver:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def token(self) -> str:
        """A new name for a connection, to be the last part of its path."""
        token = f"case-{next(self._tokens)}"
        self._awaited[token] = asyncio.get_running_loop().create_future()
        return token

    async def channel(self, token: str, seconds: float) -> Channel | None:
        """The agent of this connection, or None if none has called in this time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._awaited[token]
        except TimeoutError:
            return None
        finally:
            del self._awaited[token]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        channel = None
        try:
            hello = await agent.read(reader)
            channel = Channel(hello["scope"], reader, writer)
            awaited = self._awaited.get(str(channel.scope.get("path", "")).rpartition("/")[2])
            if awaited is not None and not awaited.done():
                awaited.set_result(channel)
                await channel.listen()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # asyncio's streams would tell of a task of theirs that is cancelled
        finally:
            self._tasks.discard(task)
            writer.close()


class Unreached(Exception):
    """The app was not called in time for a handshake that is sound."""


CANCELLED = "is cancelled by the server"
"""What a trace says of the app's call."""


class Conversation:
    """One connection to a server, with both its ends. `log` has what was seen so far, `lines` the trace."""

    def __init__(self, driver: Driver, port: int, subprotocols: Sequence[str] = ()) -> None:
        self.lines: list[Line] = []
        self.scope: Mapping[str, Any] = {}
        self.app_ended = ""
        """`returned`, `raised` or `cancelled`; empty while the app's call runs."""
        self.untold = False
        """Whether the app was cancelled before it was told of the end of the connection."""
        self.client: Client | None = None
        self.log = Log()
        self.step = 0
        self._driver = driver
        self._port = port
        self._subprotocols = tuple(subprotocols)
        self._channel: Channel | None = None
        self._changed = asyncio.Event()
        self._numbers = itertools.count()
        self._asked: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._shown = 0
        self._synced = -1
        self._stuck = False

    # ---------------------------------------------------------------------------------------- begin and end

    async def begin(
        self,
        seconds: float,
        *,
        behind: bytes = b"",
        room: int | None = None,
        before: str = "",
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Connects, and waits until the app is called. Raises `OSError`, or `Unreached` if it is not called in time.

        `behind` are bytes in one piece with the request; `before` and `query` go around the last part of its path,
        `headers` behind its own.
        """
        token = self._driver.token()
        judge = Judge(f"ws://127.0.0.1:{self._port}{before}/{token}{query}", self._subprotocols)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        request = judge.request.removesuffix(b"\r\n") + more + b"\r\n"
        try:
            async with asyncio.timeout(seconds):
                self.client = await Client.connect(
                    self._port, judge, self._note, request=request, behind=behind, room=room
                )
        except TimeoutError:
            raise Unreached("the server does not take the connection") from None
        self._line("peer", "> GET with Upgrade: websocket")
        self._note()  # what it has seen while it was being made
        self._channel = await self._driver.channel(token, seconds)
        if self._channel is None:
            raise Unreached("the app was not called for the handshake")
        self.scope = self._channel.scope
        self._channel.told = self._told

    @property
    def terms(self) -> Terms:
        """What the server advertises in the scope."""
        asgi, extensions = (self.scope.get(key) for key in ("asgi", "extensions"))
        version = str(asgi.get("spec_version", "2.0")) if isinstance(asgi, dict) else "2.0"
        return Terms(version, tuple(sorted(extensions)) if isinstance(extensions, dict) else ())

    async def close(self) -> None:
        """Resets the connection and has the app's call end, whatever is still pending."""
        if self.client is not None:
            self.client.vanish()
        if self._channel is not None:
            self._channel.close()
        await asyncio.sleep(0)

    # ---------------------------------------------------------------------------------------- acts

    def do(self, number: int, step: Step, *, row: Sequence[Any] = ()) -> None:
        """Carries out a step; `row` are more messages that the app sends in a row with this one."""
        self.step = number
        client, value = self.client, step.value
        assert client is not None
        assert self._channel is not None
        match step.stimulus:
            case "app asks":
                call = next(self._numbers)
                self._asked[call] = number
                self.log.waiting += 1
                self._line("app", "receive()")
                self._channel.tell(do="asks", call=call)
            case "app cancels":
                self._line("app", "cancels a receive()")
                self._channel.tell(do="cancels", call=next(iter(self._asked)))
            case "app sends":
                first = next(self._numbers)
                self._sent[first] = number
                self.step = number + len(row)
                for place in range(len(row)):
                    self._sent[next(self._numbers)] = number + 1 + place
                for place, message in enumerate((value, *row)):
                    self.log.sends[number + place] = Entry(number + place, PENDING)
                    self._line("app", f"send({_brief(message)})")
                self._channel.tell(do="sends", call=first, messages=[_coded(message) for message in (value, *row)])
            case "app returns" | "app raises":
                self._line("app", step.stimulus.removeprefix("app "))
                self._channel.tell(do=step.stimulus.removeprefix("app "))
            case "peer holds":
                self._line("peer", "reads nothing from now on")
                client.hold()
            case "peer reads":
                self._line("peer", "reads again")
                client.read_on()
            case "peer ends":
                self._line("peer", "> ends its side (FIN)")
                client.end()
            case "peer vanishes":
                self._line("peer", "> resets the connection")
                client.vanish()
            case _:
                self._line("peer", f"> {step}")
                client.write(frames(step))

    def write(self, number: int, steps: Sequence[Step]) -> None:
        """Carries out steps of the peer in one segment; the first has this number."""
        assert self.client is not None
        self.step = number + len(steps) - 1
        self._line("peer", f"> {', '.join(map(str, steps))}, in one segment")
        self.client.write(b"".join(map(frames, steps)))

    # ---------------------------------------------------------------------------------------- what is seen

    def _line(self, side: str, text: str) -> None:
        self.lines.append(Line(side, text))

    def _note(self) -> None:
        """The client has seen something."""
        if self.client is None:
            return
        for entry in self.client.seen[self._shown :]:
            self.log.peer.append(Entry(self.step, entry))
            self._line("peer", f"< {_brief(entry)}")
        self._shown = len(self.client.seen)
        self._changed.set()

    def _told(self, said: dict[str, Any]) -> None:
        """The agent says something."""
        call = said.get("call")
        if "sync" in said:
            self._synced = said["sync"]
        elif "app" in said:
            self.app_ended = said["app"]
            if self.app_ended == "cancelled":
                self.untold = not any(entry.what.get("type") == "websocket.disconnect" for entry in self.log.received)
                self._line("app", CANCELLED)
        elif call in self._asked:
            del self._asked[call]
            self.log.waiting -= 1
            if said["outcome"] != "cancelled":
                what = said["value"] if said["outcome"] == "returned" else _raised(said["error"])
                self.log.received.append(Entry(self.step, what))
                self._line("app", f"receive() {_outcome(said)}")
        elif call in self._sent:
            number = self._sent[call]
            what = None if said["outcome"] == "returned" else _raised(said.get("error"))
            self.log.sends[number] = Entry(self.step, what)
            self._line("app", f"send() {_outcome(said)}")
        self._changed.set()

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for something to be so, for so many seconds at most; tells whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not (condition() or self._nothing_more):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return condition()

    @property
    def _nothing_more(self) -> bool:
        """Whether neither side will see anything any more, since the server's process is gone."""
        return self._channel is not None and self._channel.over and self.ended

    async def quiet(self, seconds: float) -> None:
        """Lets both sides come to rest: the server's loop has turned, and for so many seconds nothing is awaited."""
        if self._channel is not None and not self._stuck:
            number = next(self._numbers)
            self._channel.tell(sync=number)
            self._stuck = not await self.until(lambda: self._synced >= number, SYNC + seconds)
        await asyncio.sleep(seconds)

    @property
    def waits(self) -> int:
        """How many calls of receive() are pending."""
        return self.log.waiting

    @property
    def pending(self) -> int:
        """How many messages the app has to send, or is sending."""
        return sum(entry.what is PENDING for entry in self.log.sends.values())

    @property
    def kinds(self) -> list[str]:
        """The kinds of all that the peer has seen."""
        return [next(iter(entry.what)) for entry in self.log.peer]

    @property
    def messages(self) -> int:
        """How many data messages the peer has seen."""
        return sum(kind in ("text", "bytes") for kind in self.kinds)

    @property
    def ended(self) -> bool:
        """Whether the server has ended the connection."""
        return self.client is not None and self.client.ended

    def has(self, due: Log) -> bool:
        """Whether as much was seen as is due."""
        return (
            len(self.log.received) >= len(due.received)
            and all(entry.what is not PENDING for entry in self.log.sends.values())
            and len(settled([entry.what for entry in self.log.peer])) >= len(settled([e.what for e in due.peer]))
        )


def frames(step: Step) -> bytes:
    """What the peer puts on the wire in a step."""
    value = step.value
    match step.stimulus:
        case "peer sends" if isinstance(value, str):
            return Frame(Opcode.TEXT, value.encode()).serialize(mask=True)
        case "peer sends":
            return Frame(Opcode.BINARY, bytes(value)).serialize(mask=True)
        case "peer pings":
            return Frame(Opcode.PING, value).serialize(mask=True)
        case "peer closes":
            close = Close(value["code"], value.get("reason", "")).serialize() if value.get("code") else b""
            return Frame(Opcode.CLOSE, close).serialize(mask=True)
        case "peer violates":
            return FRAMES[value]()
        case "peer floods":
            return bytes(lifecycle().flat.value("C14", "bytes") + 1)
    raise LookupError(f"A peer cannot do `{step.stimulus}`.")


def _coded(value: Any) -> Any:
    """A message in a form that JSON keeps: classes of our own and tuples by their names."""
    if isinstance(value, agent.Text):
        return {"!Text": str(value)}
    if isinstance(value, agent.Code):
        return {"!Code": int(value)}
    if isinstance(value, tuple):
        return {"!tuple": [_coded(item) for item in value]}
    if isinstance(value, list):
        return [_coded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _coded(item) for key, item in value.items()}
    return value


def _raised(error: Mapping[str, Any] | None) -> dict[str, Any]:
    """An exception, as the oracle calls it."""
    if error is None:
        return {"raised": "violation", "class": "CancelledError"}
    kind = "disconnected" if "OSError" in error["classes"] else "violation"
    return {"raised": kind, "class": error["classes"][0]}


def _outcome(said: Mapping[str, Any]) -> str:
    match said["outcome"]:
        case "raised":
            return f"raised {said['error']['classes'][0]}: {said['error']['text']}"[:200]
        case "returned" if said.get("value") is not None:
            return f"gave {_brief(said['value'])}"
    return str(said["outcome"])


def _brief(value: Any) -> str:
    """A message or an observation in a line that is not too long."""
    text = short(value)
    return text if len(text) <= 160 else f"{text[:150]} … ({len(text)} characters)"
