"""Which record ends the workers: the marks that they leave, as pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.attempts import BEFORE_ALONE, BEFORE_LETTER, Mark, begun, is_culprit, passed, read_mark, touched


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1), st.booleans())
def test_a_mark_is_read_as_it_was_written(attempts: int, alone_until: int, first: bool) -> None:
    mark = Mark(attempts, alone_until, first)
    assert read_mark(str(mark)) == mark


@pytest.mark.parametrize("metadata", [None, "", "by somebody else", "penstock attempts=x alone_until=1", "attempts=3"])
def test_what_others_write_beside_an_offset_says_nothing(metadata: str | None) -> None:
    assert read_mark(metadata) == Mark()


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(60, 500))
def test_the_culprit_is_found_whatever_its_place_among_what_was_under_way(start: int, behind: int, reach: int) -> None:
    """Processes begin where the last has committed; each dies as soon as it has the culprit, with all of its batch."""
    culprit, offset, mark, deaths = start + behind, start, Mark(), 0
    while not is_culprit(mark, offset):
        mark = begun(mark, offset, reach)
        while mark.alone_until > offset and offset < culprit:  # one by one, each committed
            offset += 1
            mark = passed(touched(mark), offset)
        mark = touched(mark) if mark.alone_until > offset else mark
        deaths += 1
        assert deaths <= BEFORE_ALONE + BEFORE_LETTER
    assert offset == culprit


def test_nobody_is_blamed_where_workers_come_further() -> None:
    mark = Mark()
    for offset in range(20):
        mark = begun(mark, offset, 100)
        assert not is_culprit(mark, offset)
        mark = passed(mark, offset + 1)
    assert mark == Mark()
