"""The planted faults are what they say: each has its place, changes its module only, and is as quiet as it claims.

What a fuzzer finds of them is proved elsewhere. Here: a copy of our runtime without a fault holds a plain conversation;
one with a fault holds it, too, if the fault is quiet, and else it does not; and nothing of a copy is left where others
import from.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from tests.faults import FAULTS, MODULES, PACKAGE, Fault, Make, copies, faulty, source
from tests.hands import REQUEST
from wslifecycle.conformance.orders.kernel import Script
from wslifecycle.conformance.orders.loop import ScheduledLoop, Stuck
from wslifecycle.conformance.orders.sockets import Far
from wslifecycle.conformance.peer import frame
from wslifecycle.runtime import acceptor, session

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)

GIVEN = [
    {"type": "websocket.connect"},
    {"type": "websocket.receive", "text": "hi", "bytes": None},
    {"type": "websocket.receive", "text": None, "bytes": b"\x00"},
    {"type": "websocket.disconnect", "code": 1000, "reason": "bye"},
]
READ = [b"\x81\x02hi", b"\x82\x01\x00", b"\x8a\x01p", b"\x88\x02\x03\xe8"]


def talk(make: Make) -> tuple[list[dict[str, Any]], list[bytes], list[Any]]:
    """A plain conversation with an app that echoes: what it was given, what the peer has read, and what went wrong."""
    given: list[dict[str, Any]] = []
    read: list[bytes] = []
    wrong: list[Any] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        given.append(await receive())
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            given.append(message)
            await send(message | {"type": "websocket.send"})
        given.append(message)

    loop = ScheduledLoop(limit=500)
    try:
        _, far = loop.connect(lambda: make(echo))
        loop.script(_peer(far, read))
        loop.run_until_idle()
        wrong += [*loop.errors, *loop.unheard(), *loop.tasks()]
    except Stuck as stuck:
        wrong.append(stuck)
    finally:
        loop.dispose()
    return given, read, wrong


def _peer(far: Far, read: list[bytes]) -> Script:
    """Waits for each answer before it says more."""
    far.write(REQUEST)
    yield lambda: far.unread > 4 and far.read().endswith(b"\r\n\r\n")
    sent = [frame(1, b"hi"), frame(2, b"\x00"), frame(9, b"p"), frame(8, b"\x03\xe8bye")]
    for data in sent:
        far.write(data)
        yield lambda: far.unread > 0
        read.append(far.read())
    yield lambda: far.at_end
    far.close()


def test_a_copy_without_a_fault_holds_the_conversation() -> None:
    assert talk(faulty(None)) == (GIVEN, READ, [])


@each_fault
def test_a_quiet_fault_is_not_noticed_in_it(fault: Fault) -> None:
    assert (talk(faulty(fault)) == (GIVEN, READ, [])) is fault.quiet


def test_a_loud_one_would_be_noticed_in_it() -> None:
    news = "        if self._receivers:\n            self._ask_again()\n        if effects"
    deaf = Fault("deaf", "Nobody is told of anything.", "session", news, "        if effects", quiet=False)
    lost = Fault(
        "lost", "Nothing is sent.", "session", "            self._transport.write(data)\n", "            pass\n"
    )
    assert [talk(faulty(fault)) == (GIVEN, READ, []) for fault in (deaf, lost)] == [False, False]


def test_there_are_many_and_most_are_quiet() -> None:
    assert len(FAULTS) >= 30
    assert sum(fault.quiet for fault in FAULTS) >= 22
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.module, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)


@each_fault
def test_each_changes_one_place_of_its_module(fault: Fault) -> None:
    for name in MODULES:
        true, changed = source(name, None), source(name, fault)
        assert (true != changed) is (name == fault.module)
        assert _code(true, name) != _code(changed, name) or name != fault.module  # not the layout alone


def _code(text: str, name: str) -> Any:
    return compile(text, name, "exec", dont_inherit=True)


def test_one_that_has_no_place_is_named() -> None:
    nowhere = Fault("nowhere", "Nothing.", "wire", "no such text", "")
    with pytest.raises(ValueError, match=r"'nowhere' .* wire\.py 0 times"):
        faulty(nowhere)
    with pytest.raises(ValueError, match=r"'often' .* wire\.py \d+ times"):
        faulty(Fault("often", "Everything.", "wire", "self", "this"))
    with pytest.raises(ValueError, match="'elsewhere' is in 'codec'"):
        faulty(Fault("elsewhere", "Nothing.", "codec", "io", "oi"))


def test_the_true_modules_are_untouched() -> None:
    before = {name: sys.modules[f"{PACKAGE}.{name}"] for name in MODULES}
    texts = {name: dict(vars(module)) for name, module in before.items()}
    for fault in (None, *FAULTS):
        for name, module in copies(fault).items():
            assert module is not before[name]
            assert module.__name__ == before[name].__name__
    broken = Fault("broken", "It cannot even be imported.", "wire", "class Wire:\n", "1 / 0\nclass Wire:\n")
    with pytest.raises(ZeroDivisionError):
        faulty(broken)
    assert {name: sys.modules[f"{PACKAGE}.{name}"] for name in MODULES} == before
    assert {name: dict(vars(module)) for name, module in before.items()} == texts
    assert importlib.import_module(f"{PACKAGE}.session").Session is session.Session


def test_a_copy_is_made_of_copies_only() -> None:
    for fault in (None, *FAULTS):
        made = copies(fault)
        assert made["acceptor"].Session is made["session"].Session is not session.Session
        assert made["acceptor"].Acceptor is not acceptor.Acceptor
        assert made["session"].Wire is made["wire"].Wire
        assert made["session"].Keepalive is made["keepalive"].Keepalive


def test_options_and_state_are_passed_on() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)

    loop = ScheduledLoop()
    try:
        _, far = loop.connect(lambda: faulty(None)(app, service_state={"key": 1}, spec_version="2.3"))
        far.write(REQUEST)
        loop.run_until_idle()
    finally:
        loop.dispose()
    assert scopes[0]["state"] == {"key": 1}
    assert scopes[0]["asgi"]["spec_version"] == "2.3"
