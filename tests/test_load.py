"""Every fault that a spec can have is found, with its line: each on a copy of the real file that was edited by hand.

The table `FAULTS` has at least one entry for each code of `findings.CODES`. Then the real file itself: it fits the JSON
Schema, none of its rows can be taken away unnoticed, and no edit of it whatsoever gives anything but a `Spec` or a
`SpecError`.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wslifecycle.statemachine.check import check
from wslifecycle.statemachine.findings import CODES, Finding, SpecError
from wslifecycle.statemachine.flatten import Flat, compile_profile
from wslifecycle.statemachine.load import SHAPES, load_answers, load_spec, parse_spec
from wslifecycle.statemachine.model import Spec
from wslifecycle.statemachine.source import Source
from wslifecycle.statemachine.system import Bounds

SPEC = resources.files("wslifecycle") / "spec"


def one_row_a_line(text: str) -> str:
    """The same YAML with each flow mapping on one line, so that faults can be edited in wherever it is wrapped."""
    joined: list[str] = []
    depth = 0
    for line in text.splitlines():
        comment = line.lstrip().startswith("#")
        if depth:
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        if not comment:
            bare = re.sub(r'"[^"]*"', "", joined[-1])
            depth = sum(map(bare.count, "{[")) - sum(map(bare.count, "}]"))
            depth += joined[-1].count('"') % 2  # a quoted text goes on in the next line
    return "\n".join(joined) + "\n"


TEXT = one_row_a_line((SPEC / "lifecycle.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((SPEC / "lifecycle.schema.json").read_text(encoding="utf-8"))


class Fault(NamedTuple):
    """An edit of the real spec, and the finding that it has to bring about."""

    code: str
    name: str
    old: str
    """What is replaced where it first stands; it has to stand there."""
    new: str
    at: str
    """What the line of the finding holds, and no other line."""
    word: str
    """What the text of the finding names."""
    also: tuple[str, ...] = ()
    """Codes that cannot but come with it."""
    everywhere: Mapping[str, str] = {}
    """What is replaced besides, wherever it stands."""


# What most rows of the table replace: one line of the spec each.
ACCEPT = (
    "{event: app_accept, from: handshake, to: open, effects: [{complete_handshake: {subprotocol: $message.subprotocol"
)
SEND = "{event: app_send, from: open, effects: [{send_message: {data: [$message.text, $message.bytes]}}], rule: W13}"
HEAD = "set: {head: {status: $message.status, headers: $message.headers}}, rule: R54}"
LOST = "- {event: peer_violation, from: closing, to: failing, rule: W9}"
DONE = "done: {says: The app's callable has returned"
CLOSED = "closed: {says: Nothing more is sent"
END = "end_response: {says: End the streamed HTTP response., fields: {}"
WAITING = "{event: give_message, from: [connect_due, waiting], refuse: not_due, rule: R20}"
CONNECT = "give_connect: {actor: given, message: websocket.connect, answered_by: [inbox]"
KEEP_CLOSING = "- {event: peer_close, from: closing, to: closed, effects: [end_transport], rule: W7}"
LAST_COUPLING = "disconnect_due, while: {wire: [closing, failing, closed]}, rule: R28}\n"
UNREAD = "  unread: {says: A complete message of the peer waits to be given., begins: keep_message, rule: R26}\n"
RETURN = "{event: [app_return, app_raise], from: [running, left, denied], to: done, rule: R52}"

FAULTS = [
    # YAML
    Fault("WSL001", "tab", "regions:\n  wire:", "regions:\n\twire:", "\twire:", "token"),
    Fault("WSL001", "unknown alias", "{event: *but_close", "{event: *nowhere", "*nowhere", "nowhere"),
    Fault(
        "WSL001", "alias of itself", "&but_close [app_accept,", "&but_close [*but_close,", "[*but_close,", "but_close"
    ),
    Fault("WSL001", "two documents", "\ncouplings:", "\n---\ncouplings:", "---\ncouplings", "second document"),
    Fault("WSL002", "off", '"off": {seconds: null}', "off: {seconds: null}", "C49: {about", "`off`"),
    Fault(
        "WSL002",
        "on",
        "  wire:\n    says: What the peer",
        "  wire:\n    on: What the peer",
        "on: What the peer",
        "`on`",
    ),
    Fault("WSL002", "yes", "impossible: true, rule: C14", "impossible: yes, rule: C14", "impossible: yes", "`yes`"),
    Fault("WSL003", "top", "format: 1\n", "format: 1\nformat: 1 # again\n", "# again", "`format`"),
    Fault(
        "WSL003", "in a row", "to: failing, rule: W9}", "to: failing, to: closed, rule: W9}", "to: failing, to:", "`to`"
    ),
    # shape
    Fault("WSL004", "in a row", "to: failing, rule: W9}", "to: failing, colour: red, rule: W9}", "colour", "`colour`"),
    Fault("WSL004", "at the top", "format: 1\n", "format: 1\nextra: 1\n", "extra: 1", "`extra`"),
    Fault("WSL004", "a section", "\ncouplings:", "\ncuplings:", "cuplings:", "`cuplings`", ("WSL005",)),
    Fault("WSL005", "a section", "format: 1\n", "", "title: The ASGI WebSocket lifecycle", "`format`"),
    Fault("WSL005", "in a row", "to: failing, rule: W9}", "to: failing}", "to: failing}", "`rule`"),
    Fault("WSL005", "in a block", "    says: What receive() may give.\n", "", "inbox:\n    initial", "`says`"),
    Fault(
        "WSL005",
        "a place",
        "doc: ASGI, heading: WebSocket, says: The server re",
        "doc: ASGI, says: The server re",
        "R2: {",
        "R2",
    ),
    Fault(
        "WSL005",
        "a message",
        CONNECT,
        CONNECT.replace("message: websocket.connect, ", ""),
        "give_connect: {",
        "give_connect",
    ),
    Fault("WSL005", "an end", "    final: [closed]\n", "", "regions:", "final", (), {"    final: [done]\n": ""}),
    Fault("WSL006", "a list", "initial: handshake", "initial: [handshake]", "initial: [handshake]", "`initial`"),
    Fault("WSL006", "a number", "format: 1", "format: one", "format: one", "'one'"),
    Fault("WSL006", "a format", "format: 1", "format: 2", "format: 2", "2"),
    Fault("WSL006", "octal", "code: 1006}}, rule: C4}", "code: 017}}, rule: C4}", "code: 017", "'017'"),
    Fault("WSL006", "base 60", "{abnormal: {code: 1006}, empty", "{abnormal: {code: 10:06}, empty", "C11: {", "10:06"),
    Fault("WSL006", "a tag", "format: 1", "format: !mine 1", "!mine", "!mine", ("WSL006",)),
    Fault("WSL006", "a key", "format: 1", "[format]: 1\nformat: 1", "[format]", "key"),
    Fault("WSL006", "no row", LOST, "- nothing", "    - nothing", "'nothing'"),
    Fault("WSL006", "no rows", "  app:\n    - {", "  app: {}\n  more:\n    - {", "app: {}", "rows of app"),
    Fault("WSL006", "no event", CONNECT, f"nobody: \n  {CONNECT}", "  nobody:", "nobody"),
    Fault(
        "WSL006",
        "two effects",
        "[{complete_handshake: {",
        "[{end_transport: {}, complete_handshake: {",
        "[{end_transport: {},",
        "`effects`",
    ),
    Fault("WSL006", "an effect", "[{complete_handshake: {", "[7, {complete_handshake: {", "[7,", "`effects`"),
    Fault("WSL006", "no names", ", from: handshake, to: open", ", from: [], to: open", "from: []", "`from`"),
    Fault("WSL006", "no choice", "when: {C27: raises}", "when: {}", "when: {}", "`when`"),
    Fault("WSL006", "no fields", "{abnormal: {code: 1006}, empty", "{abnormal: 1006, empty", "C11: {", "abnormal"),
    Fault("WSL006", "false", "to: failing, rule: W9}", "ignore: false, rule: W9}", "ignore: false", "`ignore`"),
    Fault("WSL006", "an actor", "app_accept: {actor: app", "app_accept: {actor: actor", "actor: actor", "'actor'"),
    Fault("WSL006", "a level", "R1: {level: S", "R1: {level: Q", "R1: {", "'Q'"),
    Fault(
        "WSL006",
        "a refusal",
        "if: not denial, when: {C27: raises}, refuse: violation",
        "if: not denial, when: {C27: raises}, refuse: politely",
        "politely",
        "'politely'",
    ),
    Fault(
        "WSL006",
        "a sender",
        "sender: app\n    event: app_accept",
        "sender: peer\n    event: app_accept",
        "sender: peer",
        "'peer'",
    ),
    Fault(
        "WSL006",
        "a type",
        "{type: int, value: denial_status",
        "{type: status, value: denial_status",
        "type: status",
        "'status'",
    ),
    Fault("WSL006", "before", "before: refused", "before: never", "before: never", "'never'"),
    Fault("WSL006", "a rule number", "  R2: {", "  X2: {", "  X2: {", "`X2`", ("WSL010",)),
    Fault("WSL006", "a choice number", "  C1: {", "  C01: {", "  C01: {", "`C01`", ("WSL013", "WSL010")),
    Fault(
        "WSL006",
        "too many facts",
        UNREAD,
        UNREAD + "".join(UNREAD.replace("unread", f"unread{i}") for i in range(6)),
        "facts:",
        "9 facts",
    ),
    # numbers and names
    Fault("WSL010", "row", "to: failing, rule: W9}", "to: failing, rule: W99}", "W99", "'W99'"),
    Fault("WSL010", "state", "is not answered yet., rule: R22}", "is not answered yet., rule: R220}", "R220", "'R220'"),
    Fault(
        "WSL010",
        "key",
        "null, value: offered_subprotocol, rule: R24}",
        "null, value: offered_subprotocol, rule: R240}",
        "R240",
        "'R240'",
    ),
    Fault(
        "WSL010",
        "property",
        "at most once give_connect, rule: R20",
        "at most once give_connect, rule: R200",
        "R200",
        "'R200'",
    ),
    Fault("WSL011", "state", "to: failing, rule: W9}", "to: failed, rule: W9}", "to: failed, rule", "`failed`"),
    Fault("WSL011", "source", LOST, LOST.replace("from: closing", "from: shutting"), "shutting", "`shutting`"),
    Fault("WSL011", "initial", "initial: handshake", "initial: start", "initial: start", "`start`"),
    Fault("WSL011", "final", "final: [closed]", "final: [gone]", "final: [gone]", "`gone`"),
    Fault(
        "WSL011",
        "state of while",
        "while: {app: left}, when: {C9: ignored}",
        "while: {app: gone}, when: {C9: ignored}",
        "{app: gone}",
        "`gone`",
    ),
    Fault(
        "WSL011",
        "region of while",
        "while: {app: left}, when: {C9: ignored}",
        "while: {ape: left}, when: {C9: ignored}",
        "{ape: left}",
        "`ape`",
    ),
    Fault("WSL011", "region", "  app:\n    - {", "  ape:\n    - {", "  ape:", "`ape`"),
    Fault("WSL011", "answered_by", CONNECT, CONNECT.replace("inbox", "outbox"), "outbox", "`outbox`"),
    Fault(
        "WSL011",
        "coupling",
        "{region: inbox, from: waiting, to: flowing",
        "{region: inbox, from: waiting, to: floating",
        "floating",
        "`floating`",
    ),
    Fault(
        "WSL011",
        "coupled region",
        "{region: inbox, from: waiting",
        "{region: outbox, from: waiting",
        "outbox",
        "`outbox`",
    ),
    Fault(
        "WSL011",
        "event",
        "{event: app_accept, from: handshake",
        "{event: app_except, from: handshake",
        "app_except",
        "`app_except`",
    ),
    Fault(
        "WSL011", "event of a message", "event: app_close\n", "event: app_claws\n", "  websocket.close:", "`app_claws`"
    ),
    Fault(
        "WSL011",
        "event_if",
        "event_if: {more_body: app_response_body}",
        "event_if: {more_body: app_response_bodies}",
        "  websocket.http.response.body:",
        "`app_response_bodies`",
    ),
    Fault(
        "WSL011",
        "key",
        "exactly_one: [bytes, text]\n    omit",
        "exactly_one: [bytes, test]\n    omit",
        "  websocket.receive:",
        "`test`",
    ),
    Fault(
        "WSL011",
        "timer event",
        "event: close_timeout, seconds",
        "event: close_timout, seconds",
        "close_timout",
        "`close_timout`",
    ),
    Fault(
        "WSL011",
        "timer of an effect",
        "fields: {deadline: close_timeout}",
        "fields: {deadline: close_timout}",
        "  end_transport: {says",
        "`close_timout`",
    ),
    Fault("WSL011", "timer state", "runs: {wire: [open]}", "runs: {wire: [opened]}", "opened]", "`opened`"),
    Fault(
        "WSL011",
        "effect",
        "[{complete_handshake: {subprotocol: $",
        "[{complete_handshakes: {subprotocol: $",
        "complete_handshakes",
        "`complete_handshakes`",
    ),
    Fault(
        "WSL011",
        "effect of a state",
        "enter: [resume_reading], rule: W7",
        "enter: [resume_writing], rule: W7",
        "resume_writing",
        "`resume_writing`",
    ),
    Fault(
        "WSL011",
        "effect that begins a fact",
        "begins: keep_message",
        "begins: keep_messages",
        "keep_messages",
        "`keep_messages`",
    ),
    Fault(
        "WSL011",
        "effect of ours",
        END,
        f"{END.replace('end_response', 'sing')}, rule: R1}}\n  {END}",
        "  sing: {",
        "`sing`",
    ),
    Fault("WSL011", "fact", "if: denial, when: {C50", "if: denail, when: {C50", "if: denail", "`denail`"),
    Fault(
        "WSL011", "variable", "set: {cause: {code: $C10.code", "set: {clause: {code: $C10.code", "clause", "`clause`"
    ),
    Fault("WSL011", "constraint", "value: close_code", "value: close_coda", "close_coda", "`close_coda`", ()),
    Fault(
        "WSL011",
        "constraint of ours",
        "  close_code: {says",
        "  far_code: {says: x, refuse: true, rule: C20}\n  close_code: {says",
        "far_code",
        "`far_code`",
    ),
    Fault(
        "WSL011",
        "message",
        CONNECT,
        CONNECT.replace("websocket.connect", "websocket.collect"),
        "websocket.collect",
        "`websocket.collect`",
    ),
    Fault("WSL011", "spec version of a key", 'since: "2.1"', 'since: "2.9"', 'since: "2.9"', "`2.9`"),
    Fault(
        "WSL011",
        "spec version of a fact",
        'spec_version: "2.4", rule',
        'spec_version: "2.9", rule',
        'spec_version: "2.9"',
        "`2.9`",
    ),
    Fault("WSL011", "document", "R1: {level: S, doc: ASGI,", "R1: {level: S, doc: WSGI,", "WSGI", "`WSGI`"),
    Fault("WSL011", "absent state", DONE, DONE.replace("says", "when: {C8: ignored}, says"), "done: {when", "`done`"),
    Fault(
        "WSL011",
        "absent start",
        "handshake: {says",
        "handshake: {when: {C8: ignored}, says",
        "handshake: {when",
        "`handshake`",
    ),
    Fault(
        "WSL012",
        "event trigger",
        "app_accept: {actor",
        "trigger: {actor: app, answered_by: [wire], says: x, rule: R1}\n  app_accept: {actor",
        "  trigger: {",
        "`trigger`",
    ),
    Fault(
        "WSL012",
        "fact like an event",
        UNREAD,
        UNREAD + UNREAD.replace("unread", "app_send"),
        "  app_send: {actor",
        "`app_send`",
    ),
    Fault(
        "WSL012",
        "event like a state",
        "app_accept: {actor",
        "closing: {actor: app, answered_by: [wire], says: x, rule: R1}\n  app_accept: {actor",
        "  closing: {actor",
        "`closing`",
    ),
    Fault("WSL012", "state to_x", DONE, f"to_x: {{says: x, rule: R1}}\n      {DONE}", "to_x", "`to_x`"),
    Fault("WSL012", "state is_x", DONE, f"is_x: {{says: x, rule: R1}}\n      {DONE}", "is_x", "`is_x`"),
    Fault(
        "WSL012", "no identifier", DONE, f"half done: {{says: x, rule: R1}}\n      {DONE}", "half done", "`half done`"
    ),
    Fault("WSL012", "slash", DONE, f"half/done: {{says: x, rule: R1}}\n      {DONE}", "half/done", "`half/done`"),
    Fault("WSL012", "region", "  inbox:\n    says", "  in-box:\n    says", "in-box:", "`in-box`", ("WSL011",)),
    Fault(
        "WSL012",
        "word of the properties",
        UNREAD,
        UNREAD + UNREAD.replace("unread", "before"),
        "  before: {",
        "`before`",
    ),
    Fault(
        "WSL012",
        "variable message",
        "  cause: {says",
        "  message: {says: x, fields: {}, rule: R1}\n  cause: {says",
        "  message: {",
        "$message",
    ),
    # choices
    Fault("WSL013", "choice", "when: {C27: raises}", "when: {C72: raises}", "C72", "C72"),
    Fault("WSL013", "answer", "when: {C27: raises}", "when: {C27: rises}", "rises", "'rises'"),
    Fault(
        "WSL013",
        "answer of a state",
        "when: [{C10: none}, {C11: none}",
        "when: [{C10: no}, {C11: none}".replace("no}", "nothing}"),
        "C10: nothing",
        "'nothing'",
    ),
    Fault(
        "WSL013", "reference", "reference: close_1000", "reference: close_1001", "reference: close_1001", "'close_1001'"
    ),
    Fault(
        "WSL014",
        "same",
        "{close_1000: {code: 1000}, close_empty: {code: null}, close_1011: {code: 1011}, aborted",
        "{close_1000: {code: 1000}, close_empty: {code: null}, close_1011: {code: 1000}, aborted",
        "    answers: {close_1000: {code: 1000}, close_empty: {code: null}, close_1011: {code: 1000}",
        "`close_1011`",
    ),
    Fault(
        "WSL014",
        "same rows",
        "answers: {allowed: {}, refused: {}}",
        "answers: {allowed: {}, refused: {}, tolerated: {}, endured: {}}",
        "C1: {about",
        "`endured`",
    ),
    Fault(
        "WSL014",
        "nothing",
        "answers: {after_grace: {on_loss: false}, on_loss: {on_loss: true}}",
        "answers: {after_grace: {}}",
        "C18: {",
        "C18",
    ),
    # references and fields
    Fault(
        "WSL015",
        "message",
        "{subprotocol: $message.subprotocol,",
        "{subprotocol: $message.protocol,",
        "$message.protocol",
        "app_accept",
    ),
    Fault(
        "WSL015",
        "no message",
        "C4: no_reply}, to: closed, effects: [abort_transport], set: {cause: {code: 1006}}",
        "C4: no_reply}, to: closed, effects: [abort_transport], set: {cause: {code: $message.code}}",
        "C4: no_reply}, to",
        "app_return",
    ),
    Fault(
        "WSL015",
        "event",
        "[{keep_message: {data: $event.data}}], rule: R26",
        "[{keep_message: {data: $event.dada}}], rule: R26",
        "$event.dada",
        "peer_message",
    ),
    Fault(
        "WSL015",
        "variable",
        "{code: $cause.code, reason: $cause.reason}",
        "{code: $cause.core, reason: $cause.reason}",
        "$cause.core",
        "`core`",
    ),
    Fault("WSL015", "choice", "[$C2.code, 1005]", "[$C2.core, 1005]", "$C2.core", "`core`"),
    Fault("WSL015", "nothing", "{status: $C4.status}", "{status: $nothing.status}", "$nothing", "`$nothing.status`"),
    Fault(
        "WSL015",
        "not given here",
        "seconds: $C49.seconds",
        "seconds: $message.seconds",
        "$message.seconds",
        "nothing is given",
    ),
    Fault(
        "WSL015",
        "choice in an answer",
        "{abnormal: {code: 1006}, empty",
        "{abnormal: {code: $C12.code}, empty",
        "C11: {",
        "$C12.code",
    ),
    Fault(
        "WSL015",
        "answer in the wrong row",
        "{code: $C12.code}}, rule: R55}",
        "{code: $C10.code}}, rule: R55}",
        "$C10.code}}, rule: R55}",
        "$message.code",
    ),
    Fault(
        "WSL016",
        "missing",
        "{status: $head.status, headers: $head.headers}}, {send_body",
        "{status: $head.status}}, {send_body",
        "{send_head: {status: $head.status}}",
        "headers",
    ),
    Fault("WSL016", "unknown", SEND, SEND.replace("{data:", "{mask: 1, data:"), "mask: 1", "`mask`"),
    Fault(
        "WSL016",
        "variable",
        HEAD,
        HEAD.replace("headers: $message", "header: $message"),
        "header: $message.headers",
        "`header`",
    ),
    Fault(
        "WSL016",
        "effect of ours",
        "send_message: {says: Send one data message., fields: {data: }",
        "send_message: {says: Send one data message., fields: {date: }",
        "fields: {date: }",
        "send_message",
        ("WSL016",),
    ),
    Fault("WSL016", "constraint", "limit: 123, rule: C21}", "rule: C21}", "  close_reason: {", "close_reason"),
    Fault(
        "WSL016",
        "gives",
        "gives: {code: $cause.code, reason: $cause.reason}",
        "gives: {code: $cause.code}",
        "gives: {code: $cause.code}",
        "give_disconnect",
    ),
    Fault(
        "WSL016",
        "gives nothing",
        ", gives: {code: $cause.code, reason: $cause.reason}",
        "",
        "from: disconnect_due, if: not unread, to: ended, rule",
        "give_disconnect",
    ),
    Fault(
        "WSL016",
        "gives without a message",
        "to: failing, rule: W9}",
        "to: failing, gives: {code: 1}, rule: W9}",
        "gives: {code: 1}",
        "peer_violation",
    ),
    # rows and properties
    Fault(
        "WSL017",
        "two things",
        "to: failing, rule: W9}",
        "to: failing, ignore: true, rule: W9}",
        "to: failing, ignore",
        "ignore and to",
    ),
    Fault(
        "WSL017",
        "refused twice",
        "{C27: raises}, refuse: violation",
        "{C27: raises}, ignore: true, refuse: violation",
        "ignore: true, refuse: v",
        "ignore and refuse",
    ),
    Fault(
        "WSL017",
        "nothing",
        "from: closing, to: failing, rule: W9}",
        "from: closing, rule: W9}",
        "from: closing, rule: W9}",
        "nothing",
    ),
    Fault(
        "WSL017",
        "fact",
        "begins: keep_message, rule",
        "begins: keep_message, extension: x, rule",
        "extension: x",
        "unread",
    ),
    Fault("WSL017", "timer", "runs: {wire: [open]}", "runs: {wire: [open], app: [done]}", "app: [done]}", "keepalive"),
    Fault(
        "WSL017",
        "event_if",
        "event_if: {more_body:",
        "event_if: {body: app_send, more_body:",
        "event_if: {body",
        "event_if",
    ),
    Fault(
        "WSL018",
        "form",
        "holds: at most once give_connect,",
        "holds: seldom give_connect,",
        "holds: seldom",
        "connect_once",
    ),
    Fault(
        "WSL018",
        "term",
        "holds: at most once give_connect,",
        "holds: at most once give_connecting,",
        "give_connecting",
        "`give_connecting`",
    ),
    Fault(
        "WSL018",
        "state",
        "never upgraded and responded,",
        "never wire=opened and responded,",
        "wire=opened",
        "`wire=opened`",
    ),
    Fault(
        "WSL018",
        "timer",
        "keepalive_expired and timer=keepalive leads",
        "keepalive_expired and timer=keepawake leads",
        "timer=keepawake",
        "`timer=keepawake`",
    ),
    Fault(
        "WSL018",
        "fact",
        "never disconnected and not raising,",
        "never disconnected and not razing,",
        "not razing",
        "`razing`",
    ),
    Fault(
        "WSL018",
        "how it was refused",
        "sometimes disconnected,",
        "sometimes disconnecting,",
        "sometimes disconnecting",
        "`disconnecting`",
    ),
    Fault(
        "WSL018",
        "length",
        "holds: at most once give_connect,",
        f"holds: at most once {'not ' * 999}give_connect,",
        "once not not",
        "1003 words",
    ),
    Fault(
        "WSL018",
        "after a queue",
        "sometimes sending and close_sent,",
        "sometimes after sending and close_sent,",
        "after sending",
        "`sending`",
    ),
    Fault(
        "WSL018",
        "fair, but promises nothing",
        "at most once give_connect, rule",
        "at most once give_connect, fair: gives, rule",
        "once give_connect, fair",
        "connect_once",
    ),
    Fault(
        "WSL018",
        "rare, but promises nothing",
        "sometimes violation, rule",
        "sometimes violation, rare: gives, rule",
        "violation, rare",
        "violation_is_possible",
    ),
    # what is around the machine
    Fault(
        "WSL004",
        "kind of the system",
        "  marks:\n    followed",
        "  makes: {}\n  marks:\n    followed",
        "makes",
        "`makes`",
    ),
    Fault("WSL005", "kind of the system", "  marks:\n", "", "system:", "`marks`", ("WSL004",)),
    Fault("WSL005", "system", "\nsystem:", "\nsystems:", "format: 1", "`system`", ("WSL004",)),
    Fault(
        "WSL005",
        "action",
        "    app_cancels: The app cancels a receive() that waits.\n",
        "",
        "  actions:",
        "`app_cancels`",
        ("WSL011", "WSL018"),
    ),
    Fault("WSL005", "condition", "    told: websocket.disconnect was given.\n", "", "  conditions:", "`told`"),
    Fault("WSL005", "mark", "    later: The step", "    earlier: The step", "  marks:", "`later`", ("WSL011",)),
    Fault(
        "WSL006",
        "system",
        "\n  conditions:\n    receiving: A receive() waits.",
        "\n  conditions:\n    receiving: [1]",
        "  conditions:",
        "`conditions`",
    ),
    Fault(
        "WSL011",
        "action of the system",
        "    app_asks: The",
        "    app_sings: It sings.\n    app_asks: The",
        "app_sings",
        "`app_sings`",
    ),
    Fault(
        "WSL011",
        "condition of the system",
        "    receiving: A",
        "    deceiving: It.\n    receiving: A",
        "deceiving",
        "`deceiving`",
    ),
    Fault(
        "WSL011",
        "mark of the system",
        "    followed: The",
        "    hollowed: It.\n    followed: The",
        "hollowed",
        "`hollowed`",
    ),
    Fault(
        "WSL011",
        "fair action",
        "leads to give_connect, fair: [app_asks, gives]",
        "leads to give_connect, fair: [app_asks, gifts]",
        "gifts",
        "`gifts`",
    ),
    Fault(
        "WSL011",
        "rare action",
        "fair: [app_asks, gives], rare: app_cancels, rule",
        "fair: [app_asks, gives], rare: app_canceled, rule",
        "app_canceled",
        "`app_canceled`",
    ),
    Fault(
        "WSL011",
        "given event as an action",
        "leads to give_connect, fair: [app_asks, gives]",
        "leads to give_connect, fair: [app_asks, give_connect]",
        "asks, give_connect",
        "`give_connect`",
    ),
    Fault(
        "WSL012",
        "action like a word",
        "    app_asks: The",
        "    before: It.\n    app_asks: The",
        "    before: It.",
        "`before`",
        ("WSL011",),
    ),
    Fault(
        "WSL012",
        "action like a way of refusing",
        "    app_asks: The",
        "    violation: It.\n    app_asks: The",
        "    violation: It.",
        "`violation`",
        ("WSL011",),
    ),
    # refusals that nobody would hear
    Fault(
        "WSL026",
        "the peer",
        LOST,
        LOST.replace("to: failing", "refuse: violation"),
        "from: closing, refuse: violation",
        "peer_violation is refused, which the peer cannot be told",
    ),
    Fault(
        "WSL026",
        "the clock",
        "{event: close_timeout, from: [handshake, denial_held, denying, open, closed], ignore: true",
        "{event: close_timeout, from: [handshake, denial_held, denying, open, closed], refuse: disconnected",
        "open, closed], refuse: disconnected",
        "the clock cannot",
    ),
    # the whole
    Fault(
        "WSL019",
        "event",
        "app_accept: {actor",
        "app_sing: {actor: app, answered_by: [wire], says: x, rule: R1}\n  app_accept: {actor",
        "app_sing",
        "`app_sing`",
    ),
    Fault("WSL019", "fact", UNREAD, UNREAD + UNREAD.replace("unread", "idle"), "  idle: {", "`idle`"),
    Fault(
        "WSL019",
        "variable",
        "  cause: {says",
        "  clause: {says: x, fields: {}, rule: R1}\n  cause: {says",
        "  clause: {",
        "`clause`",
    ),
    Fault("WSL019", "constraint", "value: encodable, ", "", "  encodable: {", "`encodable`"),
    # the product
    Fault("WSL020", "hole", f"    {KEEP_CLOSING}\n", "", "  peer_close: {actor", "closing/"),
    Fault(
        "WSL020",
        "hole in a guard case",
        "{event: give_message, from: [flowing, disconnect_due, silent], if: not unread, refuse: not_due, rule: R26}",
        "{event: give_message, from: flowing, if: not unread, refuse: not_due, rule: R26}",
        "  give_message: {actor",
        "disconnect_due",
    ),
    Fault(
        "WSL021",
        "overlap",
        f"    {KEEP_CLOSING}\n",
        f"    {KEEP_CLOSING}\n    {KEEP_CLOSING} # again\n",
        "# again",
        "peer_close",
    ),
    Fault(
        "WSL021",
        "two refusals",
        WAITING,
        f"{WAITING}\n    - {{event: app_send, from: connect_due, while: {{wire: handshake}}, "
        "refuse: not_due, rule: C1}",
        "{event: app_send, from: connect_due",
        "refused in another way",
    ),
    Fault(
        "WSL022",
        "round",
        LAST_COUPLING,
        f"{LAST_COUPLING}  - {{region: inbox, from: flowing, to: waiting, while: {{wire: open}}, rule: R20}}\n",
        "from: flowing, to: waiting",
        "go round",
    ),
    Fault(
        "WSL023",
        "twice",
        KEEP_CLOSING,
        KEEP_CLOSING.replace("], rule", "], set: {cause: {code: 1}}, rule"),
        "set: {cause: {code: 1}}, rule",
        "`cause`",
    ),
    Fault(
        "WSL023",
        "read first",
        f", {HEAD}",
        ", rule: R54}",
        "{event: app_response_body, from: denial_held, when: {C26: [",
        "`head`",
    ),
    Fault(
        "WSL025",
        "another event",
        "    sender: app\n    event: app_send\n",
        "    sender: app\n    event: app_close\n",
        "  websocket.send:",
        "app_close",
    ),
    Fault(
        "WSL024",
        "two gifts",
        WAITING,
        WAITING.replace("refuse: not_due", "effects: [take_message]"),
        "[connect_due, waiting], effects",
        "give_connect",
    ),
    # soundness
    Fault("WSL030", "unreachable", DONE, f"asleep: {{says: x, rule: R1}}\n      {DONE}", "asleep", "`asleep`"),
    Fault(
        "WSL031",
        "trap",
        RETURN,
        RETURN.replace("running, left, denied", "running, denied")
        + "\n    - {event: [app_return, app_raise], from: left, ignore: true, rule: R52}",
        CLOSED,
        "closed/",
        (),
    ),
    Fault(
        "WSL032",
        "bisimilar",
        DONE,
        f"over: {{says: x, rule: R1}}\n      {DONE}",
        "closed: {says",
        "closed/disconnect_due/over",
        (),
        {
            "final: [done]": "final: [done, over]",
            "while: {app: [running, done]}": "while: {app: [running, done, over]}",
            RETURN: RETURN.replace("[app_return, app_raise]", "app_return")
            + "\n    - "
            + RETURN.replace("[app_return, app_raise]", "app_raise").replace("done", "over"),
            "from: done, impossible": "from: [done, over], impossible",
        },
    ),
    Fault(
        "WSL033",
        "dead row",
        SEND,
        f"{SEND}\n    - {{event: app_send, from: open, while: {{app: denied}}, ignore: true, rule: R1}}",
        "from: open, while: {app: denied}",
        "app_send",
    ),
    Fault(
        "WSL033",
        "dead coupling",
        LAST_COUPLING,
        f"{LAST_COUPLING}  - {{region: inbox, from: silent, to: ended, while: {{wire: open}}, rule: R20}}\n",
        "from: silent, to: ended",
        "ended",
    ),
    Fault(
        "WSL034",
        "one close",
        KEEP_CLOSING,
        KEEP_CLOSING.replace("[end_transport]", "[{send_close: {code: 1000}}, end_transport]"),
        "  one_close:",
        "one_close does not hold: at most once effect=send_close.",
    ),
    Fault(
        "WSL034",
        "sometimes",
        "holds: sometimes violation,",
        "holds: sometimes violation and moved,",
        "  violation_is_possible:",
        "violation_is_possible does not hold: sometimes violation and moved.",
    ),
]


def edited(*changes: tuple[str, str], text: str = TEXT) -> str:
    """The real spec with each change made where its first part first stands."""
    for old, new in changes:
        assert old in text, old
        assert old != new
        text = text.replace(old, new, 1)
    return text


CHECKED = ("one_close", "violation_is_possible")
"""Properties that are held against the machine here; `test_check` does so with all of them."""


def findings(text: str | bytes) -> list[Finding]:
    """Everything that is wrong with a spec as far as the checks get."""
    try:
        report = check(
            compile_profile(parse_spec(text)),
            Bounds(queue=1, receivers=1, facts=frozenset({"denial", "raising"})),
            CHECKED,
        )
    except SpecError as error:
        return list(error.findings)
    return [violation.finding for violation in report.violations]


def line_of(snippet: str, text: str) -> int:
    assert text.count(snippet) == 1, f"{snippet!r} stands {text.count(snippet)} times"
    return text.count("\n", 0, text.index(snippet)) + 1


# ------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code} {fault.name}")
def test_fault_is_found_with_its_line(fault: Fault) -> None:
    text = edited((fault.old, fault.new))
    for old, new in fault.everywhere.items():
        assert old in text
        text = text.replace(old, new)
    found = findings(text)
    hits = [finding for finding in found if finding.code == fault.code and fault.word in finding.text]
    assert line_of(fault.at, text) in [finding.line for finding in hits], found
    assert all(finding.fix.endswith(".") for finding in found)
    assert {finding.code for finding in found} <= {fault.code, *fault.also}


def test_every_code_has_a_fault() -> None:
    assert {fault.code for fault in FAULTS} == set(CODES)


def test_all_findings_of_a_pass_are_listed_in_the_order_of_the_file() -> None:
    text = edited(("holds: at most once give_connect,", "holds: seldom,"), ("C27: raises}", "C27: rises}"))
    text = edited(("to: failing, rule: W9}", "to: failed, rule: W99}"), text=text)
    with pytest.raises(SpecError) as raised:
        parse_spec(text, "mine.yaml")
    assert [finding.code for finding in raised.value.findings] == ["WSL013", "WSL010", "WSL011", "WSL018"]
    lines = [finding.line for finding in raised.value.findings]
    assert lines == sorted(lines)
    assert str(raised.value).splitlines()[0].startswith(f"mine.yaml:{lines[0]}: WSL013 C27 has no answer 'rises'. Wri")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
NO_SPECS: dict[str, tuple[str | bytes, str, int]] = {
    "empty": ("", "WSL001", 1),
    "comment": ("# nothing\n", "WSL001", 1),
    "list": ("- a\n", "WSL001", 1),
    "word": ("spec", "WSL001", 1),
    "open bracket": ("a: 1\nb: [1,\n}", "WSL001", 3),
    "garbage": (b"a: 1\n\n\x80\xff\x00", "WSL001", 3),
    "control character": ("a: 1\nb: \x00", "WSL001", 2),
    "lone surrogate": ("a: 1\nb: \ud800", "WSL001", 2),
    "UTF-16": ("a: 1".encode("utf-16"), "WSL001", 1),
    "deep lists": ("a:\n" + "- " * 100_000, "WSL001", 2),
    "deep brackets": ("a: " + "[" * 3_000 + "]" * 3_000, "WSL001", 1),
    "deep mappings": ("\n".join(" " * i + "a:" for i in range(1_000)), "WSL001", 33),
    "loop": ("a: 1\nb: &b [*b]", "WSL001", 2),
    "bomb": (BOMB, "WSL001", 6),
    "octal": ("format: 017", "WSL006", 1),
    "endless number": (f"format: {'9' * 6_000}", "WSL006", 1),
    "infinity": ("format: .inf", "WSL006", 1),
    "bad base64": ('a: !!binary "?"', "WSL006", 1),
    "python": ("a: !!python/object/apply:os.abort []\nb: !!python/name:os.abort", "WSL006", 2),
    "list as a key": ("? [a]\n: b", "WSL006", 1),
    "alias of a list as a key": ("a: &k [x]\n*k : y", "WSL006", 2),
}


@pytest.mark.parametrize("name", NO_SPECS)
def test_whatever_the_text_is_the_error_is_a_finding(name: str) -> None:
    text, code, line = NO_SPECS[name]
    with pytest.raises(SpecError) as raised:
        parse_spec(text)
    assert (code, line) in [(finding.code, finding.line) for finding in raised.value.findings]
    assert len(str(raised.value)) < 5_000


_TOKENS = re.compile(r"([\w.$!]+|[\[\]{}:,&*])")
_ODD = (
    "",
    "null",
    "on",
    "017",
    "[]",
    "{}",
    "~",
    "&a",
    "*a",
    "*but_close",
    "!!int",
    "- -",
    "? ",
    '"',
    "'",
    "$",
    "C1",
    "%",
)


@st.composite
def edits(draw: st.DrawFn) -> str:
    """The real spec after one to three edits of the kind that a slip of the hand makes."""
    lines = TEXT.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        tokens = _TOKENS.split(lines[at])
        words = st.sampled_from(range(len(tokens)))
        match draw(st.sampled_from(("delete", "duplicate", "swap", "change", "indent"))):
            case "delete":
                del lines[at]
            case "duplicate":
                lines.insert(at, lines[at])
            case "swap":
                one, other = draw(words), draw(words)
                tokens[one], tokens[other] = tokens[other], tokens[one]
                lines[at] = "".join(tokens)
            case "change":
                other_words = _TOKENS.findall(lines[draw(st.integers(0, len(lines) - 1))]) or [""]
                tokens[draw(words)] = draw(st.sampled_from(_ODD) | st.sampled_from(other_words))
                lines[at] = "".join(tokens)
            case "indent":
                lines[at] = "  " + lines[at]
    return "\n".join(lines)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(edits())
def test_random_edit_loads_or_is_rejected(text: str) -> None:
    found = rejected(text)
    assert all(finding.code in CODES and finding.text and finding.fix for finding in found)
    assert all(1 <= finding.line <= text.count("\n") + 2 for finding in found)


def rejected(text: str) -> tuple[Finding, ...]:
    """Why a spec cannot be compiled; nothing if it can."""
    try:
        spec = parse_spec(text)
        Flat(spec, spec.reference, "edited")
    except SpecError as error:
        return error.findings
    return ()


# ------------------------------------------------------------------------------------------------ no row is idle


REAL = parse_spec(TEXT)


def selecting(spec: Spec, line: int) -> dict[str, str]:
    """The reference, changed so that the row of this line is in it."""
    row = next(row for row in spec.rows if row.line == line)
    wanted = row.when.alternatives[0] if row.when.alternatives else {}
    return spec.reference | {choice: min(answers) for choice, answers in wanted.items()}


@cache
def real(choices: tuple[tuple[str, str], ...]) -> Flat:
    return Flat(REAL, dict(choices), "real")


@pytest.mark.parametrize("line", [row.line for row in REAL.rows])
def test_no_row_can_be_taken_away_unnoticed(line: int) -> None:
    lines = TEXT.splitlines()
    assert lines[line - 1].lstrip().startswith("- {event: ")
    lines[line - 1] = ""  # so that all others keep their lines
    choices = selecting(REAL, line)
    try:
        flat = Flat(parse_spec("\n".join(lines)), choices, "without")
    except SpecError:
        return
    before = real(tuple(sorted(choices.items())))
    assert flat.findings != before.findings or flat.answers != before.answers


# ------------------------------------------------------------------------------------------------ the real file


def test_real_spec_is_sound() -> None:
    assert findings(TEXT) == []
    assert REAL.file == "spec/lifecycle.yaml"


def test_spec_is_read_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(("to: failing, rule: W9}", "to: failed, rule: W9}")), encoding="utf-8")
    with pytest.raises(SpecError, match=r"mine\.yaml:\d+: WSL011") as raised:
        load_spec(path)
    assert raised.value.findings[0].file == str(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SpecError, match="UTF-8"):
        load_spec(str(path))
    with pytest.raises(FileNotFoundError):
        load_spec(tmp_path / "none.yaml")


def plain(value: Any) -> Any:
    """The tree of a source as the plain dicts and lists that jsonschema takes."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def complaints(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(plain(Source(text, "spec").root))]


def test_real_spec_fits_the_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert complaints(TEXT) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_json_schema_has_the_keys_of_the_parser(shape: str) -> None:
    schema = SCHEMA["$defs"][shape]
    assert list(schema["properties"]) == list(SHAPES[shape])
    assert schema["required"] == [key for key, kind in SHAPES[shape].items() if not kind.endswith("?")]
    assert schema["additionalProperties"] is False
    assert schema["description"]


BEYOND_A_SCHEMA = {"a message", "an end", "octal", "base 60", "a tag", "a key", "too many facts"}
BEYOND_A_SCHEMA |= {"action", "condition", "mark"}
SHAPE_FAULTS = [
    fault
    for fault in FAULTS
    if fault.code in ("WSL004", "WSL005", "WSL006", "WSL017") and fault.name not in BEYOND_A_SCHEMA
]


@pytest.mark.parametrize("fault", SHAPE_FAULTS, ids=lambda fault: f"{fault.code} {fault.name}")
def test_json_schema_finds_faults_of_shape_too(fault: Fault) -> None:
    assert complaints(edited((fault.old, fault.new)))


# ------------------------------------------------------------------------------------------------ profiles


def profile(tmp_path: Path, answers: str, *more: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(("title: Mine", f"answers: {answers}", *more)), encoding="utf-8")
    return str(path)


def test_profile_is_the_reference_with_other_answers(tmp_path: Path) -> None:
    assert load_answers(REAL, "reference") == REAL.reference
    assert load_answers(REAL, profile(tmp_path, '{C6: waits, C49: "off"}')) == {**REAL.reference, "C6": "waits"}


@pytest.mark.parametrize(
    ("answers", "code", "word"),
    [
        ("{C6: sleeps}", "WSL013", "'sleeps'"),
        ("{C99: waits}", "WSL013", "C99"),
        ("{C6: [waits]}", "WSL013", "a list"),
        ("{C49: off}", "WSL002", "`off`"),
        ("[C6]", "WSL006", "`answers`"),
        ("{C6: waits, C6: raises}", "WSL003", "`C6`"),
    ],
)
def test_fault_of_a_profile_is_found(tmp_path: Path, answers: str, code: str, word: str) -> None:
    path = profile(tmp_path, answers)
    with pytest.raises(SpecError) as raised:
        load_answers(REAL, path)
    (finding,) = raised.value.findings
    assert (finding.code, finding.line, finding.file) == (code, 2, path)
    assert word in finding.text


def test_profile_has_no_other_keys(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r":3: WSL004 the profile has no key `colour`"):
        load_answers(REAL, profile(tmp_path, "{}", "colour: red"))


def test_profile_of_the_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spec" / "profiles"
    folder.mkdir(parents=True)
    profile(folder, "{C6: raises}")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    assert load_answers(REAL, "mine")["C6"] == "raises"
    profile(folder, "{C6: sleeps}")
    with pytest.raises(SpecError, match=r"^spec/profiles/mine\.yaml:2: WSL013"):
        load_answers(REAL, "mine")


def test_unknown_profile_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="There is no profile 'nobody'"):
        load_answers(REAL, "nobody")
    with pytest.raises(FileNotFoundError):
        load_answers(REAL, "nobody.yaml")


def test_soundness_rejects_the_reference_and_is_recorded_for_another_profile() -> None:
    unsound = {**REAL.reference, "C26": "raises"}
    with pytest.raises(SpecError) as raised:
        compile_profile(REAL, unsound)
    recorded = compile_profile(REAL, unsound, "strict")
    assert {finding.code for finding in recorded.findings} == {"WSL030", "WSL033"}
    assert set(raised.value.findings) == set(recorded.findings)
    assert not any(finding.structural for finding in recorded.findings)


def test_structural_fault_rejects_every_profile() -> None:
    spec = parse_spec(edited((KEEP_CLOSING, KEEP_CLOSING.replace("from: closing", "from: failing"))))
    for name in ("reference", "strict"):
        with pytest.raises(SpecError, match=r"WSL02[01]"):
            compile_profile(spec, None, name)
