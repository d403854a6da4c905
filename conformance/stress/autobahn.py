"""The cases of the Autobahn suite for RFC 6455 and RFC 7692, which kosoku runs against a server that echoes.

NON-STRICT is no failure: what a server does is in order and not what the case prefers, which may depend on how bytes
happen to be cut. What is INFORMATIONAL or UNIMPLEMENTED (an extension that was not agreed) judges nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wslifecycle.conformance.stress.results import Figure
from wslifecycle.conformance.stress.site import Site

LARGEST = 64 * 2**20
"""Bytes that a message may have, where a server has an option for it: the largest cases send 16 MiB."""

Part: TypeAlias = Literal["core", "more", "all"]

_LARGE = (*range(7, 11), *range(12, 19))
"""Of the 18 kinds of message of a case with compression, those of more than 8 KiB: kosoku gives a case 20 seconds, and
with these a slow machine only shows that it is slow."""

_COMPRESSED = (*(f"12.{number}" for number in range(1, 6)), *(f"13.{number}" for number in range(1, 8)))

LEFT_OUT: dict[Part, tuple[str, ...]] = {
    "core": ("9.*", "12.*", "13.*"),
    "more": tuple(f"{group}.{kind}" for group in _COMPRESSED for kind in _LARGE),
    "all": (),
}
"""The cases that are not in a part, as patterns of their numbers. 9.* has large messages, 12.* and 13.* compression."""

RIGHT = frozenset({"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"})


@dataclass(frozen=True, slots=True)
class Case:
    """What came of one case: `behavior` and `close` are Autobahn's words for the messages and for the end."""

    number: str
    behavior: str
    close: str
    says: str

    @property
    def failed(self) -> bool:
        """Whether it breaks the RFC."""
        return not {self.behavior, self.close} <= RIGHT


async def cases(site: Site, take: Sequence[str], leave: Sequence[str], beside: int = 4) -> list[Case]:
    """Runs the cases with these numbers, `beside` each other. Raises `ImportError` without kosoku."""
    from kosoku import FailureError, run_fuzzingclient

    try:
        found = await run_fuzzingclient(f"127.0.0.1:{site.port}", list(take) or None, list(leave), concurrency=beside)
    except FailureError as failure:
        found = failure.results
    return [Case(one.case_id, one.behavior.value, one.behavior_close.value, one.result) for one in found]


def summary(found: Sequence[Case]) -> Figure:
    """How many failed, and how many are not as the case prefers."""
    counts = Counter("failed" if case.failed else case.behavior for case in found)
    says = f"{counts['failed']} failed, {counts['NON-STRICT']} non-strict of {len(found)}"
    return Figure(says, not counts["failed"] and bool(found))


async def core(site: Site) -> Figure:
    """The core cases: all but large messages and compression."""
    try:
        return summary(await cases(site, (), LEFT_OUT["core"]))
    except ImportError:
        return Figure("needs kosoku", None)
