"""Faults planted in a copy of the spec's text, for those who have to find, show or repeat them."""

from __future__ import annotations

from pathlib import Path

TEXT = (Path(__file__).parent.parent / "spec" / "lifecycle.yaml").read_text(encoding="utf-8")

GRANIAN = (
    "    - {event: give_connect, from: [waiting, flowing, disconnect_due, ended, silent], refuse: not_due,"
    " rule: R20}\n",
    "    - {event: give_connect, from: waiting, effects: [], rule: R20}\n"
    "    - {event: give_connect, from: [flowing, disconnect_due, ended, silent], refuse: not_due, rule: R20}\n",
)
"""receive() gives websocket.connect again before the reply, as Granian did before 2.3.2."""

UNTOLD = ("from: [waiting, flowing], to: disconnect_due, while: {wire: [closing, failing, closed]}",
          "from: [waiting, flowing], to: disconnect_due, while: {wire: [closing, failing]}")  # fmt: skip
"""An app whose connection ends at once is never told."""

OTHER_CODE = ("gives: {code: $C7.code, reason: $cause.reason}", "gives: {code: 1006, reason: $cause.reason}")
"""The second disconnect has another code."""


def planted(*faults: tuple[str, str]) -> str:
    """The text of the spec with these faults in it; each takes the place of what stands there once."""
    text = TEXT
    for right, wrong in faults:
        assert text.count(right) == 1, right
        text = text.replace(right, wrong)
    return text
