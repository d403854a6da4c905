"""The machine is obeyed: on a copy of the YAML a changed answer or a removed row changes what a real client sees.

And nothing else remembers the lifecycle: the source of the connection and of the runtime holds no flag.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wslifecycle.runtime import Options, start_server
from wslifecycle.runtime.session import App
from wslifecycle.statemachine.findings import SpecError
from wslifecycle.statemachine.load import load_spec
from wslifecycle.statemachine.machine import Lifecycle, build

ROOT = Path(__file__).parent.parent
HTTP_500 = "The app returns before any reply., reference: http_500"
YAML = (ROOT / "spec" / "lifecycle.yaml").read_text()


def machine_from(tmp_path: Path, *edits: tuple[str, str], profile: str = "reference") -> Lifecycle:
    """The machine of a copy of the real spec in which these texts were replaced, each exactly once."""
    text = YAML
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    copy = tmp_path / "lifecycle.yaml"
    copy.write_text(text)
    spec = load_spec(copy)
    return build(spec, spec.reference, profile)


def seen_by_client(app: App, machine: Lifecycle) -> str:
    """What a client of the websockets library sees: `HTTP 403`, `Close 1000`, or a message."""

    async def visit() -> str:
        server = await start_server(app, options=Options(machine=machine))
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(5), connect(f"ws://127.0.0.1:{port}/", proxy=None) as client:
                await client.send("hello")
                async with asyncio.timeout(0.5):
                    return f"message {await client.recv()!r}"
        except InvalidStatus as refused:
            return f"HTTP {refused.response.status_code}"
        except ConnectionClosed as closed:
            return f"Close {closed.rcvd.code if closed.rcvd else None}"
        except TimeoutError:
            return "nothing"
        finally:
            server.close()
            await server.wait_closed()

    return asyncio.run(visit())


async def returns_after_accept(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def echoes(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def closes_twice(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await receive()
    await receive()
    await send({"type": "websocket.send", "text": "still here"})


class TestAnAnswerThatIsChanged:
    @pytest.mark.parametrize(
        ("app", "edit", "before", "after"),
        [
            (returns_after_accept, ("reference: close_1000", "reference: close_1011"), "Close 1000", "Close 1011"),
            (
                returns_at_once,
                (HTTP_500, HTTP_500.replace("http_500", "http_403")),
                "HTTP 500",
                "HTTP 403",
            ),
        ],
        ids=["C2", "C4"],
    )
    def test_changes_what_a_client_sees(
        self, tmp_path: Path, app: App, edit: tuple[str, str], before: str, after: str
    ) -> None:
        assert seen_by_client(app, machine_from(tmp_path)) == before
        assert seen_by_client(app, machine_from(tmp_path, edit)) == after


COUPLING = "  - {region: inbox, from: waiting, to: flowing, while: {wire: open}, rule: R20}\n"


class TestARowThatIsRemoved:
    def test_changes_what_a_client_sees(self, tmp_path: Path) -> None:
        assert seen_by_client(echoes, machine_from(tmp_path)) == "message 'hello'"
        assert seen_by_client(echoes, machine_from(tmp_path, (COUPLING, ""), profile="mutant")) == "nothing"

    def test_is_no_sound_reference_any_more(self, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="WSL030"):
            machine_from(tmp_path, (COUPLING, ""))


# ------------------------------------------------------------------------------------------------ no flags

REMEMBERED = {
    "statemachine/connection.py": {
        "_came": "the answer that led here, for the text of errors",
        "_dialect": "what the spec version of the scope means",
        "_ending": "the answer that set the cause, for logs",
        "_context": "what value constraints may look at: the offered subprotocols",
        "_machine": "the sealed machine",
        "_observe": "who watches",
        "_timeouts": "seconds of each timer",
        "_unread": "the queue of unread messages (a resource)",
        "__weakref__": "so that a server may hold it weakly",
        "_place": "where the machine is, and the facts that its guards read",
        "_variables": "the variables that the spec declares: cause and head",
        "dialect": "of the settings: what the spec version means",
        "machine": "of the settings: the sealed machine",
        "place": "of the settings: where every connection begins",
        "state": "a part of the place",
        "timeouts": "of the settings: seconds of each timer",
        "unread": "of the settings: how many messages and bytes may be unread",
    },
    "runtime/acceptor.py": {
        "_buffer": "where the bytes of a transport are put (a resource of the thread)",
        "buffer": "the same, of the thread",
        "_connections": "where it is registered as long as its transport is there",
        "_http": "reads the request, writes the answer",
        "_read": "what the peer's bytes go to: the request's reader, then the session",
        "_service": "what the server's connections share",
        "_session": "the session, once the request is complete",
        "_timer": "how long the request may take",
        "_transport": "the transport",
        "gone": "done when the transport is: a server waits for it",
    },
    "runtime/codec.py": {
        "_bytes": "what is held undecoded",
        "_decoder": "wsproto's reader, while what comes can have a meaning",
        "_deflate": "the agreed compression",
        "_encoder": "wsproto's writer",
        "_inflate": "the compression of the message that is read, if it is compressed",
        "_limit": "how much is held",
        "_max_size": "the limit of a message",
        "_opcode": "of the frame that is read",
        "_message": "what has come of a message that is not complete",
        "_payloads": "what wsproto shows of each payload",
        "_size": "of the message that is read",
        "last": "the Close frame that is read",
        "complaint": "what was wrong with a frame, for the log",
    },
    "runtime/frames.py": {
        "_deflate": "the agreed compression",
        "_held": "what has come of a frame that is not whole",
        "_looked": "how far the text in it was looked at",
        "_max_size": "the limit of a message",
        "_passed": "how many of the next bytes are wsproto's",
        "_plain": "which frames are read without wsproto",
        "_quick": "which of them at once",
        "_unmask": "takes a mask off",
        "_untaken": "how many feeds are left whose events were not all taken",
        "_utf8": "looks at the text that is held",
        "_wsproto": "reads all other frames",
    },
    "runtime/deflate.py": {
        "_agreed": "the parameters of the response",
        "_bits": "the window of the peer's compression",
        "_deflater": "zlib's compressor",
        "_inflater": "zlib's decompressor of the message that is read",
        "_window": "the last bytes that came out",
    },
    "runtime/counters.py": {
        "answered": "answers to handshakes, counted",
        "events": "what happened, counted",
        "outcomes": "connections that are gone, counted",
        "refused": "refusals, counted",
        "states": "connections that are there, counted",
    },
    "runtime/handshake.py": {
        "_come": "the bytes of the head, until it is complete",
        "_http": "h11's connection",
        "_origins": "the values of Origin that are allowed (a setting)",
        "_values": "the values of each header field",
    },
    "runtime/keepalive.py": {
        "_expired": "whom to tell that the peer is silent",
        "_interval": "seconds between Pings",
        "_patience": "seconds that a Pong may take at this moment",
        "_payload": "of the Ping that is not answered yet",
        "_send": "sends a Ping",
        "_timeout": "seconds that a Pong may take while reading goes on",
        "_timer": "the next Ping or the end of patience",
    },
    "runtime/lifespan.py": {
        "_app": "the ASGI app",
        "_inbox": "what the lifespan's receive() gives (a resource)",
        "_last": "the last message of the lifespan protocol, which is not the WebSocket lifecycle",
        "_mode": "auto, on or off",
        "_news": "set when the app has answered",
        "_task": "the lifespan's task",
        "state": "the namespace that the app fills (R18)",
    },
    "runtime/server.py": {
        "_connections": "those that are there",
        "_grace": "seconds that apps have after close()",
        "_lifespan": "the app's lifespan",
        "_listener": "asyncio's server",
        "_service": "what its connections share",
    },
    "runtime/session.py": {
        "__weakref__": "so that who is told of it may hold it weakly",
        "_connection": "the connection that decides",
        "_corked": "messages that are written together (a resource)",
        "_decoding": "what was read and is not told yet (flow control)",
        "_full": "there while the transport takes no more, set when send() need not wait for it (flow control)",
        "_keepalive": "Pings and their Pongs (a resource)",
        "_loop": "the event loop",
        "_paced": "when the last paced message was given (a time)",
        "_pong": "the latest Pong, while the transport takes no more (flow control)",
        "_receivers": "the calls of receive() that wait, in order (a resource)",
        "_scope": "the app's scope, for the log",
        "_service": "what the server's connections share",
        "_task": "the app's task",
        "_timers": "timers that run",
        "_transport": "the transport",
        "_wire": "effects to bytes, the peer's bytes to events",
    },
    "src/wslifecycle/integrations/prometheus.py": {"_counters": "what it shows"},
    "runtime/wire.py": {
        "_codec": "payloads to frames and back",
        "_headers": "default header fields",
        "_held": "the bytes that are held before the accept (a resource)",
        "_http": "writes the answer to the request",
        "_key": "of the request, which its answer proves to have read",
        "_offers": "the extensions that the client offered",
        "_options": "settings",
        "feed": "what the peer's bytes go through",
    },
}
"""Every attribute that the connection and the runtime may have, with the reason. None of them is a lifecycle fact."""

FLAG_WORDS = (
    "accept",
    "clos",
    "disconnect",
    "handshake",
    "denied",
    "denial",
    "ended",
    "done",
    "sent",
    "started",
    "opened",
)


def attributes(tree: ast.AST) -> set[str]:
    """The names of attributes that are assigned on `self`, and the entries of `__slots__`."""
    found = {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        for target in [node]
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == "__slots__" for t in node.targets):
            found |= {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}  # type: ignore[misc]
    return found


def _is_frozen(scope: ast.Module | ast.ClassDef) -> bool:
    """Whether it is a frozen dataclass: its fields are settings, since nothing can be remembered in them."""
    return isinstance(scope, ast.ClassDef) and any("frozen=True" in ast.unparse(by) for by in scope.decorator_list)


def flags(tree: ast.Module) -> set[str]:
    """What keeps a boolean constant beyond one call: attributes, their items, names of classes and modules."""
    found: set[str] = set()
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef) and not _is_frozen(node)]
    kept = {id(node) for scope in scopes for node in scope.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
        constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool)
        if constant or (annotation is not None and ast.unparse(annotation) == "bool"):
            found |= {
                ast.unparse(target)
                for target in targets
                if id(node) in kept or any(isinstance(part, ast.Attribute) for part in ast.walk(target))
            }
    return found


def sources() -> list[Path]:
    integrations = (ROOT / "src" / "wslifecycle" / "integrations").glob("*.py")
    return [ROOT / "statemachine" / "connection.py", *sorted((ROOT / "runtime").glob("*.py")), *sorted(integrations)]


class TestNothingElseRemembersTheLifecycle:
    @pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
    def test_every_attribute_is_on_the_list(self, path: Path) -> None:
        allowed = REMEMBERED.get(str(path.relative_to(ROOT)), {})
        found = attributes(ast.parse(path.read_text()))
        assert found == set(allowed), "explain a new attribute in REMEMBERED, remove a stale one"

    @pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
    def test_no_boolean_is_kept(self, path: Path) -> None:
        assert flags(ast.parse(path.read_text())) == set()

    @pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
    def test_no_attribute_is_named_like_a_lifecycle_fact(self, path: Path) -> None:
        named = {name for name in attributes(ast.parse(path.read_text())) if any(word in name for word in FLAG_WORDS)}
        assert named == set()

    @pytest.mark.parametrize(
        "code",
        [
            "self.accepted = False",
            "self._closed: bool = x",
            "self._facts['open'] = True",
            "class A:\n    seen = False",
            "__slots__ = ('handshake_complete',)",
        ],
    )
    def test_the_test_would_notice_a_flag(self, code: str) -> None:
        tree = ast.parse(code)
        assert flags(tree) or any(word in name for name in attributes(tree) for word in FLAG_WORDS)

    @pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
    def test_no_code_branches_on_the_name_of_a_state(self, path: Path) -> None:
        """The state is opaque outside the machine: no comparison with it, no string that is one of its states."""
        names = {local for region in load_spec().regions.values() for local in region.states} - {"open"}
        strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not names & {value for value in strings if isinstance(value, str)}
