"""The queues of the system that is checked, against `Unread` and against lists.

Everything that moves ask of a queue, its flags, is counted again by hand for every queue that operations can lead to.
"""

from itertools import product
from random import Random

import pytest

from wslifecycle.statemachine.queues import (
    FOLLOWED,
    FULL,
    HELD,
    HELD_FIRST,
    HELD_FULL,
    LETTERS,
    LOW,
    PAUSED,
    SENDING,
    UNREAD,
    UNREAD_FIRST,
    WRITTEN,
    WRITTEN_FIRST,
    Inbound,
    Op,
    Outbound,
    Queues,
)
from wslifecycle.statemachine.unread import Unread

BOUNDS = (0, 1, 2, 3, 4)


def inbound(bound: int, *ops: str) -> Inbound:
    """A queue after some operations, each written as its word and then its letter."""
    queue = Inbound()
    for op in ops:
        word, _, letter = op.partition(" ")
        queue = Queues(bound).inbound_after(queue, (word, letter))
    return queue


def outbound(bound: int, *ops: Op) -> Outbound:
    queue = Outbound()
    for op in ops:
        queue = Queues(bound).outbound_after(queue, op)
    return queue


def shows(flags: int, flag: int) -> bool:
    return bool(flags & flag)


def test_no_two_flags_are_one_bit() -> None:
    flags = [UNREAD, FULL, PAUSED, HELD, HELD_FULL, SENDING, LOW, WRITTEN, FOLLOWED]
    flags += [*UNREAD_FIRST.values(), *WRITTEN_FIRST.values(), *HELD_FIRST.values()]
    assert all(flag.bit_count() == 1 for flag in flags)
    assert len(set(flags)) == len(flags)


# ------------------------------------------------------------------------------------------------ inbound


@pytest.mark.parametrize("bound", BOUNDS)
def test_reading_pauses_and_resumes_like_unread(bound: int) -> None:
    """Over a thousand messages that are kept and taken at random, and in the end without a bound."""
    draw, queues = Random(bound), Queues(bound)
    for _ in range(20):
        unread, queue, expected = Unread(bound, None), Inbound(), ""
        for number in range(60):
            if draw.random() < 0.05:
                unread.unbind()
                queue = queues.inbound_after(queue, ("resume", ""))
                assert not queue.paused
            elif queue.unread and draw.random() < 0.48:
                data, resumes, _ = unread.take()
                before, queue = queue, queues.inbound_after(queue, ("take", ""))
                assert (data, expected) == (before.unread[0], before.unread)
                assert resumes == (before.paused and not queue.paused)
                expected = expected[1:]
            else:
                letter = LETTERS[number % 3]
                pauses = unread.put(letter)
                before, queue = queue, queues.inbound_after(queue, ("keep", letter))
                assert pauses == (queue.paused and not before.paused)
                expected += letter
            assert queue.unread == expected
            assert len(unread) == len(queue.unread)


def test_messages_are_taken_in_their_order() -> None:
    assert inbound(2, "keep a", "keep f", "keep b", "take").unread == "fb"


def test_what_is_held_is_another_queue() -> None:
    queue = inbound(2, "keep a", "hold f", "hold C", "decode", "hold E")
    assert (queue.unread, queue.held) == ("a", "CE")


def test_discarding_drops_what_is_held_and_nothing_else() -> None:
    assert inbound(1, "keep a", "keep f", "hold b", "discard") == Inbound("af", "", True, True)


def test_resuming_lifts_the_bound() -> None:
    queue = inbound(0, "keep a", "resume", "keep f")
    assert queue == Inbound("af", "", False, False)


@pytest.mark.parametrize("bound", BOUNDS[:3])
def test_flags_of_inbound_are_what_can_be_counted(bound: int) -> None:
    queues = Queues(bound)
    for length, size in product(range(4), range(3)):
        for unread, held, paused in product(
            map("".join, product("ab", repeat=length)), map("".join, product("fCE", repeat=size)), (False, True)
        ):
            flags = queues.flags_of_inbound(Inbound(unread, held, paused))
            assert shows(flags, UNREAD) == (length > 0)
            assert shows(flags, FULL) == (length > bound)
            assert shows(flags, PAUSED) == paused
            assert shows(flags, HELD) == (size > 0)
            assert shows(flags, HELD_FULL) == (size >= bound or held[-1:] == "E")
            assert [letter for letter, bit in UNREAD_FIRST.items() if flags & bit] == list(unread[:1])
            assert [letter for letter, bit in HELD_FIRST.items() if flags & bit] == list(held[:1])
            assert not flags & (SENDING | LOW | WRITTEN | FOLLOWED | sum(WRITTEN_FIRST.values()))


def test_after_its_end_the_peer_sends_nothing() -> None:
    assert Queues(9).flags_of_inbound(Inbound(held="aE")) & HELD_FULL
    assert not Queues(9).flags_of_inbound(Inbound(held="Ea")) & HELD_FULL  # as it never comes about


# ------------------------------------------------------------------------------------------------ outbound


def test_what_is_written_is_read_in_its_order() -> None:
    assert outbound(3, ("write", "a"), ("write", "f"), ("write", "b"), ("read", "")).written == "fb"


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_does_not_fit_joins_the_last(bound: int) -> None:
    queue = outbound(bound, *[("write", "a")] * 20)
    assert queue.written == "a" * (bound + 1)


@pytest.mark.parametrize(
    ("letters", "written"),
    [
        ("aaa", "aa"),
        ("aaf", "af"),
        ("aff", "af"),
        ("afb", "af"),
        ("afa", "af"),
        ("aab", "ab"),
        ("aba", "ab"),
        ("fbf", "ff"),
    ],
)
def test_what_joins_is_told_by_the_letter_that_tells_more(letters: str, written: str) -> None:
    assert outbound(1, *[("write", letter) for letter in letters]).written == written


def test_message_that_is_followed_is_never_lost_but_with_the_transport() -> None:
    """However much is written after it."""
    for bound, before, after in product(BOUNDS, range(7), range(7)):
        letters = "a" * before + "f" + "b" * after
        queue = outbound(bound, *[("write", letter) for letter in letters])
        assert queue.written.count("f") == 1
        assert Queues(bound).flags_of_outbound(queue) & FOLLOWED


@pytest.mark.parametrize("bound", BOUNDS)
def test_send_waits_only_where_more_is_written_than_fits(bound: int) -> None:
    for many in range(bound + 3):
        queue = outbound(bound, *[("write", "a")] * many, ("wait", ""))
        assert queue.sending == (many > bound)


def test_send_that_waits_does_so_until_it_goes_on() -> None:
    waiting = outbound(0, ("write", "a"), ("wait", ""), ("read", ""), ("wait", ""))
    assert waiting == Outbound("", True)
    assert Queues(0).outbound_after(waiting, ("go on", "")) == Outbound("", False)


def test_dropping_empties_it_and_wakes_nobody() -> None:
    assert outbound(0, ("write", "a"), ("wait", ""), ("drop", "")) == Outbound("", True)


@pytest.mark.parametrize("bound", BOUNDS)
def test_flags_of_outbound_are_what_can_be_counted(bound: int) -> None:
    queues = Queues(bound)
    for length, sending in product(range(5), (False, True)):
        for written in map("".join, product(LETTERS, repeat=length)):
            flags = queues.flags_of_outbound(Outbound(written, sending))
            assert shows(flags, SENDING) == sending
            assert shows(flags, WRITTEN) == (length > 0)
            assert shows(flags, LOW) == (2 * length <= bound)
            assert shows(flags, FOLLOWED) == ("f" in written)
            assert [letter for letter, bit in WRITTEN_FIRST.items() if flags & bit] == list(written[:1])
            assert not flags & (UNREAD | FULL | PAUSED | HELD | HELD_FULL | sum(HELD_FIRST.values()))
