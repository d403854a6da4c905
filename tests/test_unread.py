"""The unread messages keep their order, and say when reading has to pause and when it may go on."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wslifecycle.statemachine.unread import Unread


def put(unread: Unread, *messages: str | bytes) -> list[bool]:
    return [unread.put(message) for message in messages]


def take(unread: Unread, times: int) -> list[bool]:
    return [unread.take()[1] for _ in range(times)]


class TestMessages:
    def test_come_out_as_they_went_in(self) -> None:
        unread = Unread(None, None)
        put(unread, "a", b"b", "", b"")
        assert len(unread) == 4
        assert [unread.take()[0] for _ in range(4)] == ["a", b"b", "", b""]
        assert not unread

    def test_cannot_be_taken_where_there_are_none(self) -> None:
        with pytest.raises(IndexError):
            Unread(1, 1).take()

    def test_are_not_limited_without_bounds(self) -> None:
        unread = Unread(None, None)
        assert not any(put(unread, *["x" * 1000] * 1000))
        assert not any(take(unread, 1000))


class TestReadingPauses:
    def test_over_the_bound_of_messages_and_not_at_it(self) -> None:
        assert put(Unread(3, None), "a", "b", "c", "d") == [False, False, False, True]

    def test_over_the_bound_of_bytes_and_not_at_it(self) -> None:
        assert put(Unread(None, 4), b"ab", "cd", b"", b"e") == [False, False, False, True]

    def test_for_one_message_that_is_too_large_by_itself(self) -> None:
        assert put(Unread(None, 4), b"abcde") == [True]

    def test_once(self) -> None:
        assert put(Unread(1, 1), "ab", "cd", "ef") == [True, False, False]

    def test_as_long_as_there_is_a_bound(self) -> None:
        assert Unread(0, None).bounded
        assert Unread(None, 0).bounded
        unread = Unread(3, 4)
        assert unread.bounded
        unread.unbind()
        assert not unread.bounded
        assert not Unread(None, None).bounded

    def test_for_any_message_where_the_bound_is_nought(self) -> None:
        unread = Unread(0, None)
        assert put(unread, "") == [True]
        assert take(unread, 1) == [True]


class TestReadingResumes:
    def test_at_half_of_the_messages(self) -> None:
        unread = Unread(4, None)
        put(unread, *"abcde")
        assert take(unread, 5) == [False, False, True, False, False]

    def test_at_half_of_the_bytes(self) -> None:
        unread = Unread(None, 8)
        put(unread, b"abc", b"def", b"ghi")
        assert take(unread, 3) == [False, True, False]

    def test_only_where_both_are_low(self) -> None:
        unread = Unread(2, 4)
        put(unread, b"", b"", b"", b"12345")
        assert take(unread, 4) == [False, False, False, True]

    def test_not_where_it_never_paused(self) -> None:
        unread = Unread(4, 4)
        put(unread, "a", "b")
        assert take(unread, 2) == [False, False]

    def test_and_may_pause_again(self) -> None:
        unread = Unread(2, None)
        for _ in range(3):
            assert put(unread, "a", "b", "c") == [False, False, True]
            assert take(unread, 3) == [False, True, False]


bounds = st.none() | st.integers(0, 12)
messages = st.text("xé", max_size=6) | st.binary(max_size=6)


@given(bounds, bounds, st.lists(st.none() | messages, max_size=60))
def test_it_is_a_list_with_bounds(
    max_messages: int | None, max_bytes: int | None, steps: Sequence[str | bytes | None]
) -> None:
    """None takes a message, anything else is put."""
    unread, plain, paused = Unread(max_messages, max_bytes), list[str | bytes](), False

    def over(share: float) -> bool:
        many = max_messages is not None and len(plain) > max_messages // (1 / share)
        return many or (max_bytes is not None and sum(map(len, plain)) > max_bytes // (1 / share))

    for step in steps:
        if step is not None:
            plain.append(step)
            assert unread.put(step) == (not paused and over(1))
            paused = paused or over(1)
        elif plain:
            oldest = plain.pop(0)
            resumes = paused and not over(0.5)
            assert unread.take() == (oldest, resumes, bool(plain))
            paused = paused and not resumes
        assert len(unread) == len(plain)
