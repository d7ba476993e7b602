"""Who goes first where two streams share a thing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from penstock.core.errors import Stopped
from penstock.stream import precedence
from penstock.stream.precedence import Precedence
from tests.conftest import wait_until


class Asked:
    """One that asks for its turn in a thread of its own, and has it until it is told to leave, if it stays at all."""

    def __init__(
        self, turn: AbstractContextManager[None], note: Callable[[], None] = lambda: None, *, stays: bool = True
    ) -> None:
        self._leave, self.has_it = threading.Event(), threading.Event()
        self._turn, self._note = turn, note
        if not stays:
            self._leave.set()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            with self._turn:
                self._note()
                self.has_it.set()
                self._leave.wait(20)
        except Stopped:
            pass

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(20)


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    told = threading.Event()
    yield told
    told.set()


def never(asked: Asked) -> bool:
    """Whether it has not got its turn within a moment in which it would have."""
    return not asked.has_it.wait(0.05)


@contextmanager
def here(*asked: Asked) -> Iterator[None]:
    try:
        yield
    finally:
        for one in asked:
            one.leave()


def test_where_there_are_places_one_in_front_gets_the_next_that_is_free(ended: threading.Event) -> None:
    model, order = Precedence(2), list[str]()
    first, second = (Asked(model.behind(ended)) for _ in range(2))
    wait_until(lambda: first.has_it.is_set() and second.has_it.is_set())
    third = Asked(model.behind(ended), lambda: order.append("behind"))
    live = Asked(model.front(), lambda: order.append("front"))
    with here(first, second, third, live):
        assert never(live)
        assert never(third)
        first.leave()
        assert live.has_it.wait(20)
        assert never(third)
        second.leave()  # nobody in front waits any more, and there is a place beside the one who has got it
        assert third.has_it.wait(20)
    assert order == ["front", "behind"]


def test_nobody_begins_behind_while_one_waits_in_front(ended: threading.Event) -> None:
    """However many had asked before it."""
    model, order = Precedence(1), list[str]()
    first = Asked(model.behind(ended))
    assert first.has_it.wait(20)
    others = [Asked(model.behind(ended), lambda: order.append("behind"), stays=False) for _ in range(3)]
    live = [Asked(model.front(), lambda: order.append("front"), stays=False) for _ in range(3)]
    wait_until(lambda: model._waiting == 3)
    first.leave()
    for one in (*live, *others):
        one.leave()
    assert order == ["front"] * 3 + ["behind"] * 3


def test_where_the_front_waits_for_none_it_begins_at_once_and_takes_a_place_from_those_behind(
    ended: threading.Event,
) -> None:
    """As on processors, whose scheduler lets it go first."""
    model = Precedence(2, waits=False)
    first, second = (Asked(model.behind(ended)) for _ in range(2))
    wait_until(lambda: first.has_it.is_set() and second.has_it.is_set())
    live = Asked(model.front())
    assert live.has_it.wait(20)
    first.leave()
    third = Asked(model.behind(ended))
    with here(second, live, third):
        assert never(third)
        live.leave()
        assert third.has_it.wait(20)


def test_without_places_the_front_never_waits_and_nobody_begins_behind_meanwhile(ended: threading.Event) -> None:
    stage = Precedence()
    behind = Asked(stage.behind(ended))
    assert behind.has_it.wait(20)
    live = Asked(stage.front())
    assert live.has_it.wait(20)
    behind.leave()
    next_one = Asked(stage.behind(ended))
    with here(live, next_one):
        assert never(next_one)
        live.leave()
        assert next_one.has_it.wait(20)
    assert stage.waited_s >= 0.05


def test_one_that_waits_behind_gives_signs_of_life_and_ends_when_it_is_told_to(
    ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "LOOK_S", 0.01)
    stage, signs = Precedence(), list[int]()
    live = Asked(stage.front())
    assert live.has_it.wait(20)
    with here(live):
        behind = Asked(stage.behind(ended, lambda: signs.append(1)))
        wait_until(lambda: len(signs) > 3)
        ended.set()
        behind.leave()
        assert not behind.has_it.is_set()
