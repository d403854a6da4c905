"""The trials: what is done to a server, and the bound that what comes of it has to keep.

Each is a function on a `Site`, a server that was started for it (those that only wait share one), and returns a
`Figure`. The bounds hold for every server alike: where one has an option for a limit, it is set as `Trial.options` say,
and everything else is as it is by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wslifecycle.conformance.peer import frame
from wslifecycle.conformance.stress import autobahn, load
from wslifecycle.conformance.stress.client import (
    DEFLATE,
    FAULTY,
    Client,
    Refused,
    closing,
    connected,
    dialled,
    request,
    text,
)
from wslifecycle.conformance.stress.results import Figure
from wslifecycle.conformance.stress.site import Site
from wslifecycle.conformance.stress.watch import MIB

MAX_SIZE = MIB
"""Bytes that a message may have, where a server has an option for it."""

MEMORY = 16 * MIB
"""Bytes by which one connection may make a process grow: a message, what is unread, and every buffer on the way."""

GROWS = f"grows by at most {MEMORY // MIB} MiB"

FLOOD = 192 * MIB
"""Bytes that are sent at most to make it grow: well beyond what any limit allows."""

SECONDS = 5.0
"""How long that is tried."""

WAITING = 15.0
"""Seconds after which nothing is waited for any more: a slow handshake, a Close that nobody answers."""


Run: TypeAlias = Callable[[Site], Awaitable[Figure]]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. `says` is a line for the table, `bound` what has to hold.

    `options` are set where the server has them; `needs` are those without which it makes no sense. `alone`: it is given
    a process of its own.
    """

    name: str
    says: str
    bound: str
    run: Run
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    alone: bool = True


# ------------------------------------------------------------------------------------------------ memory


async def grown(site: Site, attack: Awaitable[Any]) -> Figure:
    """By how much the process grows at most during an attack, and whether it serves others afterwards."""
    for _ in range(3):
        await site.echoes()
    before = site.watch.memory
    site.watch.forget()
    await attack
    more = site.watch.peak - before
    if not site.process.alive:
        return Figure("died", False)
    served = await site.echoes()
    says = f"+{max(0, more) / MIB:.0f} MiB" + ("" if served else ", serves no more")
    return Figure(says, more <= MEMORY and served)


def flooded(path: str, data: bytes, *, before: bytes = b"", room: int | None = None) -> Run:
    """A trial that sends the same bytes again and again, behind others, without reading."""

    async def attack(site: Site) -> None:
        with contextlib.suppress(Refused, OSError, TimeoutError):
            async with connected(site.port, path, room=room) as client:
                await client.send(before)
                await client.flood(data, most=FLOOD, seconds=SECONDS)

    return lambda site: grown(site, attack(site))


async def bomb(site: Site) -> Figure:
    """A compressed message of 256 MiB, in a frame of 256 KiB."""
    packer = zlib.compressobj(9, wbits=-15)
    data = b"".join(packer.compress(bytes(MIB)) for _ in range(256)) + packer.flush(zlib.Z_SYNC_FLUSH)
    agreed = True

    async def attack() -> None:
        nonlocal agreed
        async with connected(site.port, "deaf", DEFLATE) as client:
            agreed = b"permessage-deflate" in client.head.lower()
            if agreed:
                with contextlib.suppress(OSError, TimeoutError):
                    await client.send(frame(2, data[:-4], rsv=4))
                    await client.closed(SECONDS)

    figure = await grown(site, attack())
    return figure if agreed else Figure("no compression", None)


async def head(site: Site) -> Figure:
    """A request that never ends."""

    async def attack() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with dialled(site.port) as client:
                await client.send(request()[:-2])
                await client.flood(b"X-Filler: " + b"a" * 8000 + b"\r\n", most=FLOOD, seconds=SECONDS)

    return await grown(site, attack())


async def early(site: Site) -> Figure:
    """Messages before the handshake is answered, to an app that never answers it."""

    async def attack() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with dialled(site.port) as client:
                await client.send(request("stuck"))
                await asyncio.sleep(0.2)  # what comes in one piece with the request is another matter
                await client.flood(frame(2, bytes(65500)), most=FLOOD, seconds=SECONDS)

    return await grown(site, attack())


async def unread(site: Site) -> Figure:
    """An app that sends for ever, to a peer that never reads."""

    async def attack() -> None:
        async with connected(site.port, "pour", room=1 << 14):
            await asyncio.sleep(SECONDS)

    return await grown(site, attack())


# ------------------------------------------------------------------------------------------------ time


def lasted(seconds: float | None, bound: float) -> Figure:
    """So many seconds, None for never."""
    if seconds is None:
        return Figure(f"not in {WAITING:.0f} s", False)
    return Figure(f"{seconds:.1f} s", seconds <= bound)


async def slow_request(site: Site) -> Figure:
    """A request of which a byte comes each half second."""
    begun = time.monotonic()
    async with dialled(site.port) as client:
        ending = asyncio.create_task(client.rest(WAITING))
        for number in range(int(2 * WAITING)):
            with contextlib.suppress(OSError, TimeoutError):
                await client.send(request()[number : number + 1])
            done, _ = await asyncio.wait({ending}, timeout=0.5)
            if done:
                break
        return await _since(begun, ending, WAITING - 2)


async def _since(begun: float, ending: asyncio.Task[Any], bound: float) -> Figure:
    try:
        await ending
    except TimeoutError:
        return lasted(None, bound)
    return lasted(time.monotonic() - begun, bound)


async def no_answer_to_close(site: Site) -> Figure:
    """The app closes, and the peer neither answers nor ends the connection."""
    begun = time.monotonic()
    async with connected(site.port, "close") as client:
        return await _since(begun, asyncio.create_task(client.rest(WAITING)), WAITING - 2)


async def vanished(site: Site) -> Figure:
    """A peer that is suddenly not there any more: nothing comes of it, and no Pong either."""
    async with connected(site.port, "echo"):
        return lasted(await site.gone("echo", seconds=WAITING), 5)


async def half_open(site: Site) -> Figure:
    """A peer that ends its side without a Close."""
    async with connected(site.port, "numbers") as client:
        await client.send(text("0"))
        await client.message()
        client.finish()
        return lasted(await site.gone("numbers", seconds=WAITING), 2)


async def slow_app(site: Site) -> Figure:
    """An app that reads nothing for 4 seconds, and a peer that sends much and answers every Ping."""
    count = 300
    async with connected(site.port, "slow") as client:
        sent = (text(f"{number}") + frame(2, bytes(8192)) for number in range(count))
        sending = asyncio.create_task(client.send(*sent))
        try:
            for number in range(count):
                if await client.message() != f"{number}":
                    return Figure("lost a message", False)
        except (EOFError, OSError, TimeoutError):
            return Figure("killed", False)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
    return Figure("survives", True)


async def heedless(site: Site) -> Figure:
    """Ten apps that go on calling `receive()` after the disconnect: how long another client waits for its echo."""
    for _ in range(10):
        async with connected(site.port, "heedless") as client:
            await client.send(closing())
    await asyncio.sleep(0.5)
    used = site.watch.processor
    try:
        waits = await waited(site)
    except (Refused, OSError, EOFError, TimeoutError):
        return Figure("starved", False)
    share = (site.watch.processor - used) / (sum(waits) + 1)
    half = statistics.median(waits)
    return Figure(f"{1000 * half:.1f} ms, {100 * share:.0f} % CPU", half < 0.05 and share < 0.5)


async def waited(site: Site) -> list[float]:
    """How long a client waits for its echoes, in seconds; it takes a rest after each."""
    waits = []
    async with connected(site.port) as client:
        for number in range(20):
            begun = time.monotonic()
            await client.send(text(f"{number}"))
            await client.message(SECONDS)
            waits.append(time.monotonic() - begun)
            await asyncio.sleep(0.05)
    return waits


async def greedy(site: Site) -> Figure:
    """A peer that sends frames that cost much and mean nothing, as fast as it can: how long another one waits."""
    async with connected(site.port, "deaf") as client:
        await client.send(frame(2, b"", fin=False))
        flood = asyncio.ensure_future(client.flood(frame(0, b"", fin=False) * 9000, most=FLOOD, seconds=WAITING))
        try:
            half = statistics.median(await waited(site))
        except (Refused, OSError, EOFError, TimeoutError):
            return Figure("starved", False)
        finally:
            flood.cancel()
            await asyncio.wait((flood,))
    return Figure(f"{1000 * half:.1f} ms", half < 0.1)


async def no_return(site: Site) -> Figure:
    """SIGTERM, while an app never returns: until the process has ended. The grace is 2 seconds, where it can be set."""
    async with connected(site.port, "deaf"):
        begun = time.monotonic()
        site.process.terminate()
        ended = await site.process.wait(WAITING)
        return lasted(None if ended is None else time.monotonic() - begun, 6)


# ------------------------------------------------------------------------------------------------ faults


async def told_at_shutdown(site: Site) -> Figure:
    """SIGTERM with twenty open connections: how many peers get a Close with 1012 or 1001."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(site.port)) for _ in range(20)]
        site.process.terminate()

        async def code(client: Client) -> int | None:
            with contextlib.suppress(TimeoutError):
                return await client.closed(WAITING)
            return None

        codes = [found for found in await asyncio.gather(*map(code, clients)) if found is not None]
    shown = ", ".join(f"{found}" for found in sorted(set(codes))) or "no Close"
    return Figure(f"{len(codes)} of 20: {shown}" if codes else shown, codes.count(1012) + codes.count(1001) == 20)


async def bad_frames(site: Site) -> Figure:
    """Faulty frames of each kind: how many are answered by a Close with 1002 or 1007."""

    async def code(make: Callable[[], bytes]) -> int | None:
        with contextlib.suppress(OSError, TimeoutError):
            async with connected(site.port) as client:
                await client.send(make())
                return await client.closed(SECONDS)
        return None

    codes = await asyncio.gather(*map(code, FAULTY.values()))
    right = sum(found in (1002, 1007) for found in codes)
    return Figure(f"{right} of {len(codes)}", right == len(codes))


async def garbage(site: Site) -> Figure:
    """Random bytes in place of a request and in place of frames, 200 of each: what the log says of it."""
    before = site.before()
    chance = random.Random(7)
    for _ in range(200):
        with contextlib.suppress(OSError, TimeoutError, Refused):
            async with dialled(site.port) as client:
                await client.send(chance.randbytes(chance.randrange(1, 400)))
            async with connected(site.port) as client:
                await client.send(chance.randbytes(chance.randrange(1, 400)))
                client.finish()
                await client.rest(1)
    crashes = site.tracebacks(before)
    served = await site.echoes()
    return Figure(f"{crashes} tracebacks" if served else "serves no more", served and not crashes)


MESSAGES = 6


async def cut(site: Site) -> Figure:
    """FIN and RST at every byte of a conversation: what is out of order, and what is left of it."""
    whole = request("numbers") + b"".join(text(f"{number}") for number in range(MESSAGES)) + closing()
    with contextlib.suppress(OSError, TimeoutError):
        await site.echoes()
    before = site.before()

    async def one(place: int, *, reset: bool) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with dialled(site.port) as client:
                await client.send(whole[:place])
                await asyncio.sleep(0.01)
                if reset:
                    client.vanish()
                else:
                    client.finish()
                    await client.rest(1)

    places = range(len(whole) + 1)
    for start in places[::8]:
        await asyncio.gather(*(one(at, reset=how) for at in places[start : start + 8] for how in (False, True)))

    left = await site.left(before, "numbers", seconds=WAITING)
    faults = [
        *(["apps left"] if left.apps else []),
        *([f"{left.sockets} sockets left"] if left.sockets else []),
        *(["messages lost"] if left.disorder else []),
        *([f"{left.tracebacks} tracebacks"] if left.tracebacks else []),
    ]
    return Figure(", ".join(faults) or "nothing left or lost", not faults)


# ------------------------------------------------------------------------------------------------ all of them

LIMITED = {"max_size": MAX_SIZE}
PINGS = {"ping": (1.0, 1.0)}

TRIALS = (
    Trial("autobahn", "Autobahn's core cases", "none failed", autobahn.core, {"max_size": autobahn.LARGEST}),
    Trial("bomb", "a deflate bomb of 256 MiB", GROWS, bomb, LIMITED),
    Trial(
        "fragments",
        "a message that never ends, in fragments of 64 KiB",
        GROWS,
        flooded("deaf", frame(0, bytes(65536), fin=False), before=frame(2, b"", fin=False)),
        LIMITED,
    ),
    Trial(
        "tiny",
        "the same in fragments of one byte",
        GROWS,
        flooded("deaf", frame(0, b"x", fin=False) * 9000, before=frame(2, b"", fin=False)),
        LIMITED,
    ),
    Trial(
        "unread",
        "messages to an app that does not read",
        GROWS,
        flooded("deaf", frame(2, bytes(65536))),
        LIMITED,
    ),
    Trial(
        "small",
        "messages of one byte to an app that does not read",
        GROWS,
        flooded("deaf", frame(2, b"x") * 9000),
        LIMITED,
    ),
    Trial(
        "dawdle",
        "the same to an app that reads eight in a millisecond",
        GROWS,
        flooded("dawdle", frame(2, b"x") * 9000),
        LIMITED,
    ),
    Trial("deaf", "an app that sends for ever, a peer that never reads", GROWS, unread, LIMITED),
    Trial("head", "a request whose head never ends", GROWS, head, LIMITED),
    Trial(
        "pings",
        "a flood of Pings, their Pongs not read",
        GROWS,
        flooded("echo", frame(9, bytes(125)) * 500, room=1 << 14),
        LIMITED,
    ),
    Trial("early", "messages before the accept", GROWS, early, LIMITED),
    Trial("slow-request", "a request that is never complete: ended after", "at most 13 s", slow_request, alone=False),
    Trial("no-answer", "a Close that is never answered: ended after", "at most 13 s", no_answer_to_close, alone=False),
    Trial("half-open", "a FIN without a Close: app told after", "at most 2 s", half_open, alone=False),
    Trial("vanished", "a vanished peer, Pings each second: app told after", "at most 5 s", vanished, PINGS, ("ping",)),
    Trial("slow-app", "an app slower than the Pings, its peer healthy", "survives", slow_app, PINGS, ("ping",)),
    Trial("heedless", "10 apps in a loop around receive() after the end: another's echo", "less than 50 ms", heedless),
    Trial("greedy", "a flood of empty fragments: another's echo", "less than 100 ms", greedy),
    Trial("no-return", "SIGTERM, an app never returns: process ended after", "at most 6 s", no_return, {"grace": 2}),
    Trial("shutdown", "SIGTERM: open peers told by a Close", "20 of 20, 1012 or 1001", told_at_shutdown),
    Trial("bad-frames", "faulty frames answered by a Close with 1002 or 1007", "all", bad_frames, alone=False),
    Trial("garbage", "400 times random bytes", "no traceback", garbage),
    Trial("cut", "FIN and RST at every byte of a conversation", "nothing is left or lost", cut),
    Trial("storm", "1,000 connections at once, three times: failed", "0", load.storm),
    Trial("busy", "1,000 busy connections, 10 s", "nothing is lost", load.busy),
    Trial("idle", "5,000 idle connections: memory of each", "all are served", load.idle),
)
