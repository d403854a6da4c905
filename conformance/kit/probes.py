"""What is tried beside the cases: what takes a server of its own, time, a full buffer, or a look at the scope.

Each probe is held like a case and has an `Outcome` like one: suspicions are looked at again, alone, and told as k of n.

    scope          what the server says of the connection, beside what it says of an HTTP request
    handshake      requests that are no sound handshake
    full           the peer reads nothing, and the app sends until it has to wait; then the peer reads, is lost, ...
    late reader    a peer that reads only when the app has sent much and closed
    oversized      a message over the usual limit
    shutdown       SIGTERM with a connection in every state
    unanswered     a peer that never answers the server's Close
    keepalive      a peer that answers no Ping, of a server that was told to send them
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from wslifecycle.conformance.judge import Judge
from wslifecycle.conformance.kit.blame import Blame
from wslifecycle.conformance.kit.client import Client
from wslifecycle.conformance.kit.driver import PENDING, Conversation, Driver
from wslifecycle.conformance.kit.results import Line, Verdict
from wslifecycle.conformance.kit.script import Step, Terms
from wslifecycle.conformance.kit.servers import Running
from wslifecycle.conformance.kit.trial import REACH, Outcome, Suspicion

ASKS = Step("app asks")
ACCEPTS = Step("app sends", {"type": "websocket.accept"})
CLOSES = Step("app sends", {"type": "websocket.close", "code": 3000, "reason": "enough"})

SIZE = 65536
"""Bytes of one message of a flood; so many of them are more than any buffer that a server may have: 16 MiB."""
MANY = 256

CLOSE_PATIENCE = 25.0
"""Seconds after which a server is said not to end a connection whose peer never answers its Close."""

PING = (1.0, 1.0)
"""Seconds between the Pings of a server that is told to send them, and for their Pongs."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a probe is held: a server that runs, and a driver."""

    driver: Driver
    process: Running
    terms: Terms
    patience: float

    async def talk(self, *steps: Step, subprotocols: Sequence[str] = (), **settings: Any) -> Conversation:
        """A conversation that has come so far. Raises what `Conversation.begin` raises."""
        talk = Conversation(self.driver, self.process.port, subprotocols)
        try:
            await talk.begin(REACH, **settings)
            for number, step in enumerate(steps):
                talk.do(number, step)
                await talk.until(lambda: not talk.waits, self.patience)
                await talk.quiet(0.01)
        except BaseException:
            await talk.close()
            raise
        return talk


Hold: TypeAlias = Callable[[Stage, Outcome], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Probe:
    """Something that is tried. `options`: those that the server has to be started with; `ends`: it ends the server."""

    name: str
    hold: Hold = field(repr=False)
    rules: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = False


def suspect(
    outcome: Outcome,
    rule: str,
    state: str,
    event: str,
    expected: str,
    seen: str,
    lines: Sequence[Line] = (),
    verdict: Verdict | None = None,
) -> None:
    """Something is not as it has to be. `verdict`: where it weighs less than the rest of its rule."""
    trace = [*lines[:-1], *(replace(line, wrong=True) for line in lines[-1:])]
    outcome.suspicions.append(Suspicion(Blame(rule, 0, state, event, expected, seen, ""), tuple(trace), verdict))


# ------------------------------------------------------------------------------------------------ the scope

ROOT = "/mounted"
_PATH = "/some%20where/%C3%A4"
_QUERY = "?a=1&b=%20%C3%A4"


async def scope(stage: Stage, outcome: Outcome) -> None:
    """What the scope of a WebSocket says, and whether that of an HTTP request says the same where it has to."""
    talk = await stage.talk(subprotocols=("chat", "chat.v2"), query=_QUERY, before=_PATH, headers=_HEADERS)
    seen = dict(talk.scope)
    plain = await http_scope(stage)
    await talk.close()
    for rule, key, right, expected, *verdict in _scope(seen, plain):
        outcome.rules.add(rule)
        if not right:
            lines = [Line("app", f"scope[{key!r}] is {seen.get(key, 'missing')!r}"[:500])]
            what = f"{key} is otherwise"
            suspect(outcome, rule, "handshake/connect_due/running", "scope", expected, what, lines, *verdict)


_HEADERS = (("X-Twice", "1"), ("X-Other", "2"), ("X-Twice", "3"))


async def http_scope(stage: Stage) -> dict[str, Any]:
    """The scope of a plain HTTP request; empty if there is no answer that says one."""
    try:
        body = await stage.process.get("/plain", stage.patience)
        found = json.loads(body.rpartition(b"\r\n\r\n")[2])
    except (OSError, EOFError, TimeoutError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _scope(
    seen: Mapping[str, Any], plain: Mapping[str, Any]
) -> list[tuple[str, str, bool, str] | tuple[str, str, bool, str, Verdict]]:
    """What has to be said: the rule, the key, whether it is right, and in words; and its weight if not the rule's."""
    sent = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]
    ours = [pair for pair in _headers(seen) if pair[0].lower().startswith(b"x-")]
    path = str(seen.get("path"))
    asgi = seen.get("asgi")
    return [
        ("R3", "type", seen.get("type") == "websocket", "type is websocket"),
        ("R6", "asgi", isinstance(asgi, dict) and isinstance(asgi.get("version", "2.0"), str), "asgi has a version"),
        ("R8", "http_version", seen.get("http_version", "1.1") == "1.1", "http_version is that of the request"),
        ("R9", "scheme", seen.get("scheme", "ws") == "ws", "scheme is ws, or missing"),
        ("R10", "path", path.startswith("/") and "/some where/\u00e4/" in path, "path is decoded text"),
        ("R11", "raw_path", _raw(seen), "raw_path is the path as it came, without the query, or missing"),
        ("R12", "query_string", seen.get("query_string") == _QUERY[1:].encode(), "query_string is as it came"),
        ("R13", "root_path", _alike(seen, plain, "root_path", ""), "root_path as for HTTP"),
        (
            "R14",
            "headers",
            sorted((name.lower(), value) for name, value in ours) == sorted(sent),
            "duplicates are kept",
        ),
        ("R14", "headers", ours == sent, "their order is kept, in lower case", Verdict.SHOULD),
        ("R15", "client", _address(seen.get("client")), "client is [host, port], or missing"),
        ("R16", "server", _address(seen.get("server")), "server is [host, port], or missing"),
        ("R17", "subprotocols", _listed(seen.get("subprotocols")) == ["chat", "chat.v2"], "what was offered"),
        ("R18", "state", _alike(seen, plain, "state", None), "state is a copy of the lifespan's, as for HTTP"),
        ("R19", "extensions", _dicts(seen.get("extensions") or {}), "each extension is a dict"),
    ]


def _headers(seen: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """The headers of a scope that are pairs of bytes, as they have to be."""
    pairs = [pair for pair in _listed(seen.get("headers")) if isinstance(pair, list) and len(pair) == 2]
    return [(name, value) for name, value in pairs if isinstance(name, bytes) and isinstance(value, bytes)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _raw(seen: Mapping[str, Any]) -> bool:
    raw = seen.get("raw_path")
    return raw is None or (isinstance(raw, bytes) and _PATH.encode() in raw and b"?" not in raw)


def _address(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | None)
    )


def _alike(seen: Mapping[str, Any], plain: Mapping[str, Any], key: str, missing: Any) -> bool:
    """Whether both scopes say the same, of a server that serves HTTP as well."""
    return not plain or seen.get(key, missing) == plain.get(key, missing)


def _dicts(extensions: Mapping[str, Any]) -> bool:
    return isinstance(extensions, dict) and all(isinstance(value, dict) for value in extensions.values())


# ------------------------------------------------------------------------------------------------ the handshake

_SOUND = (
    ("Host", "127.0.0.1"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
)


def _request(line: str = "GET /none HTTP/1.1", **change: str | None) -> bytes:
    """A request; a header is changed, or left out if it is None."""
    fields = {name: change.get(name.lower().replace("-", "_"), value) for name, value in _SOUND}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{line}\r\n{head}\r\n".encode()


REQUESTS = {
    "no key": _request(sec_websocket_key=None),
    "a key that is no base64": _request(sec_websocket_key="not a key"),
    "a short key": _request(sec_websocket_key="c2hvcnQ="),
    "no version": _request(sec_websocket_version=None),
    "version 12": _request(sec_websocket_version="12"),
    "no Host": _request(host=None),
    "POST": _request("POST /none HTTP/1.1"),
    "HTTP/1.0": _request("GET /none HTTP/1.0"),
}
"""Requests that ask for a WebSocket and are no sound handshake (W1)."""


async def handshake(stage: Stage, outcome: Outcome) -> None:
    """None of these requests is answered by 101. The app refuses what reaches it, since no driver waits for it."""
    outcome.rules.add("W1")
    await asyncio.gather(*(_refused(stage, outcome, name, request) for name, request in REQUESTS.items()))


async def _refused(stage: Stage, outcome: Outcome, name: str, request: bytes) -> None:
    """One request, which has to be answered by a refusal without the app."""
    token = stage.driver.token()
    changed = asyncio.Event()
    raw = request.replace(b"/none", f"/{token}".encode())
    client = await Client.connect(stage.process.port, Judge(), changed.set, request=raw)
    calling = asyncio.create_task(stage.driver.channel(token, stage.patience))
    waiting = asyncio.create_task(changed.wait())
    await asyncio.wait({calling, waiting}, timeout=stage.patience, return_when=asyncio.FIRST_COMPLETED)
    channel = calling.result() if calling.done() else None
    for task in (calling, waiting):
        task.cancel()
    await asyncio.gather(calling, waiting, return_exceptions=True)
    lines = [Line("peer", f"> a request with {name}"), Line("peer", f"< {bytes(client.raw[:80])!r}")]
    if channel is not None:
        lines.append(Line("app", "is called with the scope of a WebSocket"))
        channel.close()
    if channel is not None or client.raw.startswith(b"HTTP/1.1 101"):
        what = "the app is called" if channel is not None else "101"
        suspect(outcome, "W1", "handshake/connect_due/running", f"a request with {name}", "it is refused", what, lines)
    client.vanish()


# ------------------------------------------------------------------------------------------------ full buffers

FLOOD = tuple(Step("app sends", {"type": "websocket.send", "bytes": {"!fill": SIZE}}) for _ in range(MANY))


async def flooded(stage: Stage) -> Conversation:
    """A conversation whose peer reads nothing, and whose app sends in a row until it has to wait, or has sent all."""
    talk = await stage.talk(ASKS, ACCEPTS, room=4096)
    assert talk.client is not None
    talk.client.hold()
    talk.do(10, FLOOD[0], row=[step.value for step in FLOOD[1:]])
    left = None
    while left != talk.pending:  # until it has to wait
        left = talk.pending
        await talk.quiet(0.1)
    return talk


async def full_then_read(stage: Stage, outcome: Outcome) -> None:
    """Everything arrives, whole and in order, and no send() waits any more."""
    outcome.rules |= {"W13", "R41", "C30"}
    talk = await flooded(stage)
    assert talk.client is not None
    outcome.answers["C30"] = "below_high_water" if talk.pending else "handed_over"
    healthy = await stage.process.healthy(stage.patience)
    talk.client.read_on()
    await talk.until(lambda: talk.messages >= MANY, 10 * stage.patience)
    await talk.until(lambda: not talk.pending, stage.patience)
    sizes = {len(entry["bytes"]) for entry in talk.client.seen if "bytes" in entry}
    if not healthy:
        suspect(outcome, "C30", OPEN, "app_send", "others are served meanwhile", "others wait", talk.lines)
    if talk.messages != MANY or sizes != {SIZE}:
        seen = "not every message arrives"
        suspect(outcome, "W13", OPEN, "app_send", "every message arrives", seen, _short(talk))
    elif talk.pending:
        suspect(outcome, "R41", OPEN, "app_send", "send() returns", "send() is pending", _short(talk))
    await talk.close()


OPEN = "open/flowing/running"


async def full_then_lost(stage: Stage, outcome: Outcome) -> None:
    """A send() that waits is released when the peer is lost; the app is told of the loss."""
    outcome.rules |= {"C43", "R41", "R28"}
    talk = await flooded(stage)
    assert talk.client is not None
    waited = talk.pending
    talk.do(9, Step("peer vanishes"))
    talk.do(9, ASKS)
    await talk.until(lambda: not (talk.pending or talk.waits), 3 * stage.patience)
    raised = [entry.what for entry in talk.log.sends.values() if entry.what is not None and entry.what is not PENDING]
    if talk.pending:
        suspect(outcome, "R41", CLOSED, "app_waited", "send() ends", "send() is pending", _short(talk))
    elif waited:
        outcome.answers["C43"] = "raises" if raised else "returns"
    if talk.waits:
        suspect(outcome, "R28", CLOSED, "peer_lost", GIVEN, "receive() is pending", _short(talk))
    await talk.close()


CLOSED = "closed/disconnect_due/running"
GIVEN = "receive() gives websocket.disconnect"


async def late_reader(stage: Stage, outcome: Outcome) -> None:
    """The app sends much and closes; the peer, which has sent something too, reads later and gets all of it."""
    outcome.rules |= {"W13", "R37"}
    talk = await stage.talk(ASKS, ACCEPTS)
    assert talk.client is not None
    talk.client.hold()
    few = FLOOD[:16]
    talk.do(10, few[0], row=[*(step.value for step in few[1:]), CLOSES.value])
    await talk.quiet(0.02)
    for number in range(8):
        talk.do(9, Step("peer sends", f"meanwhile {number}"))
        await talk.quiet(0.02)
    talk.client.read_on()
    await talk.until(lambda: "close" in talk.kinds or talk.ended, 5 * stage.patience)
    lines = _short(talk)
    if talk.messages != len(few):
        suspect(outcome, "W13", "closing", "app_send", "every message arrives", "not every message arrives", lines)
    elif "close" not in talk.kinds:
        suspect(outcome, "R37", "closing", "app_close", "a Close with 3000", "the connection ends", lines)
    await talk.close()


def _short(talk: Conversation) -> list[Line]:
    """A trace without the flood."""
    flood = [number for number, line in enumerate(talk.lines) if "bytes b'\\x00" in line.text or "!fill" in line.text]
    returned = [number for number, line in enumerate(talk.lines) if line.text == "send() returned"]
    hidden = {*flood[3:], *returned[3:]}
    return [line for number, line in enumerate(talk.lines) if number not in hidden]


async def oversized(stage: Stage, outcome: Outcome) -> None:
    """A message of one byte more than the reference takes: it is refused with 1009, to both sides."""
    outcome.rules |= {"C34", "W11"}
    talk = await stage.talk(ASKS, ACCEPTS, ASKS)
    talk.do(9, Step("peer sends", bytes(LIMIT + 1)))
    await talk.until(lambda: not talk.waits, 15 * stage.patience)
    given = talk.log.received[-1].what if len(talk.log.received) > 1 else {}
    outcome.answers["C34"] = "unlimited" if given.get("type") == "websocket.receive" else "too_big"
    await talk.until(lambda: "close" in talk.kinds or talk.ended, stage.patience)
    if outcome.answers["C34"] == "too_big" and not (talk.ended or "close" in talk.kinds):
        lines = [replace(line, text=line.text[:200]) for line in talk.lines]
        suspect(outcome, "W11", OPEN, "peer_message", "the connection is failed", "it stays open", lines)
    await talk.close()


LIMIT = 16777216
"""The largest message of the reference, in bytes (C34)."""


# ------------------------------------------------------------------------------------------------ the end of the server

STATES: Mapping[str, tuple[Step, ...]] = {
    "handshake/waiting/running": (ASKS, ASKS),
    "open/flowing/running": (ASKS, ACCEPTS, ASKS),
    "closing/ended/left": (ASKS, ACCEPTS, CLOSES, ASKS),
}
"""Ways to states in which a server may be told to end."""


async def shutdown(stage: Stage, outcome: Outcome) -> None:
    """SIGTERM: every peer is told, every app is told, and the process ends well, not before its apps."""
    outcome.rules |= {"C32", "R28", "C18"}
    talks = {state: await stage.talk(*steps) for state, steps in STATES.items()}
    offset = stage.process.log_size()
    told = {state: len(talk.log.received) for state, talk in talks.items()}
    stage.process.terminate()
    for state, talk in talks.items():
        talk.lines.append(Line("server", "is sent SIGTERM"))
        await talk.until(lambda talk=talk: talk.ended or "close" in talk.kinds, 2 * stage.patience)  # type: ignore[misc]
        await talk.until(lambda talk=talk: not talk.waits, stage.patience)  # type: ignore[misc]
        if talk.app_ended == "cancelled" and state != "closing/ended/left":
            outcome.answers["C18"] = "on_loss"
        _judge_shutdown(outcome, state, talk, told[state])
        await talk.close()
    code = await stage.process.wait(5 * stage.patience)
    lines = [Line("server", "is sent SIGTERM"), Line("server", _ended(code))]
    if code is None:
        suspect(outcome, "C32", "", "server_shutdown", "the process ends", "it runs on", lines)
    elif code not in (0, -15, 143):
        log = stage.process.log_since(offset)
        lines.append(Line("server", f"logged: {log[-600:]}"))
        suspect(outcome, "C32", "", "server_shutdown", "the process ends with status 0", f"status {code}", lines)


def _ended(code: int | None) -> str:
    return "runs on" if code is None else f"ends with status {code}"


def _judge_shutdown(outcome: Outcome, state: str, talk: Conversation, told: int) -> None:
    """What both sides of one connection see of it."""
    assert talk.client is not None
    closes = [entry["close"].get("code") for entry in talk.client.seen if "close" in entry]
    statuses = [entry["head"]["status"] for entry in talk.client.seen if "head" in entry]
    if state.startswith("open"):
        named = {1012: "service_restart", 1001: "going_away", 1011: "internal_error"}
        code = closes[0] if closes else None
        if code in named:
            outcome.answers["C32"] = named[code]
        elif talk.ended and not closes:
            outcome.answers["C32"] = "aborted"
        else:
            seen = f"a Close with {code}" if closes else "nothing is sent to the peer"
            suspect(outcome, "C32", state, "server_shutdown", "a Close with 1012", seen, talk.lines)
    elif state.startswith("handshake") and not (statuses and statuses[0] >= 400):
        seen = "the connection ends" if talk.ended else "nothing is sent to the peer"
        suspect(outcome, "C32", state, "server_shutdown", "HTTP 503", seen, talk.lines)
    elif state.startswith("handshake") and statuses != [503]:
        suspect(outcome, "C32", state, "server_shutdown", "HTTP 503", f"HTTP {statuses[0]}", talk.lines)
    if talk.waits and talk.app_ended != "cancelled" and len(talk.log.received) == told and "ended" not in state:
        suspect(outcome, "R28", state, "server_shutdown", GIVEN, "receive() is pending", talk.lines)


# ------------------------------------------------------------------------------------------------ time


async def unanswered(stage: Stage, outcome: Outcome) -> None:
    """A peer that never answers the server's Close does not hold the connection for ever."""
    outcome.rules |= {"C48", "R28"}
    talk = await stage.talk(ASKS, ACCEPTS, CLOSES, ASKS)
    began = time.monotonic()
    ended = await talk.until(lambda: talk.ended, CLOSE_PATIENCE)
    outcome.answers["C48"] = "aborted" if ended else "never"
    talk.lines.append(
        Line("server", f"{'ends' if ended else 'keeps'} the connection: {time.monotonic() - began:.0f} s")
    )
    outcome.lines = tuple(talk.lines)
    await talk.close()


async def keepalive(stage: Stage, outcome: Outcome) -> None:
    """A peer that answers no Ping is taken for lost: it is sent a Close or the end, and the app is told."""
    outcome.rules |= {"R1", "C33", "R28"}
    talk = await stage.talk(ASKS, ACCEPTS, ASKS)
    await talk.until(lambda: "ping" in talk.kinds, 3 * sum(PING))
    if "ping" not in talk.kinds:
        talk.lines.append(Line("server", f"was told to send Pings every {PING[0]:g} s, and sends none"))
        suspect(outcome, "R1", OPEN, "keepalive", "a Ping is sent", "no Ping is sent", talk.lines)
    else:
        ended = await talk.until(lambda: talk.ended or "close" in talk.kinds, 5 * sum(PING))
        if not ended:
            what = "the connection stays open"
            suspect(outcome, "C33", OPEN, "keepalive_expired", "a Close with 1011", what, talk.lines)
        await talk.until(lambda: not talk.waits, 2 * stage.patience)
        if talk.waits:
            suspect(outcome, "R28", CLOSED, "keepalive_expired", GIVEN, "receive() is pending", talk.lines)
    await talk.close()


# ------------------------------------------------------------------------------------------------ all of them

PROBES = (
    Probe("probe:scope", scope, tuple(f"R{number}" for number in range(3, 20)), {"root_path": ROOT}),
    Probe("probe:handshake", handshake, ("W1",)),
    Probe("probe:full-then-read", full_then_read, ("W13", "R41", "C30")),
    Probe("probe:full-then-lost", full_then_lost, ("C43", "R41", "R28")),
    Probe("probe:late-reader", late_reader, ("W13", "R37")),
    Probe("probe:oversized", oversized, ("C34", "W11")),
    Probe("probe:shutdown", shutdown, ("C32", "R28", "C18"), ends=True),
    Probe("probe:unanswered-close", unanswered, ("C48", "R28")),
    Probe("probe:keepalive", keepalive, ("R1", "C33", "R28"), {"ping": PING}),
)
