"""What whoever watches sees of a worker: dead letters and sums in the log, or a live line on a terminal."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from penstock.core.errors import Unforeseen
from penstock.core.records import Outcome, Record
from penstock.core.work import Work
from penstock.observe.log import log
from penstock.observe.spans import context_of, trace_id

SUMMARY_EVERY_S = 10.0
LETTERS_LOGGED = 5
"""Dead letters named in the log per batch; the others are counted."""

KEY_CHARS = 200


class Reporter:
    """Hears of every finished batch: names its dead letters, sums up from time to time and at the end.

    Where someone watches, a live line shows what is done and what is left, chunks, tokens/s, and which stage is busy.
    """

    def __init__(
        self,
        left: Callable[[], int | None],
        busy_s: Mapping[str, float],
        *,
        outcomes: Sequence[Outcome],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
        lines: Progress | None = None,
    ) -> None:
        """``left`` says how many records are to come, if that is known; ``busy_s`` how long each stage has worked.

        ``outcomes`` are those that a record can have; ``console`` is for the live line, instead of sums in the log;
        ``last_s`` is the clock when the latest batch was done, ``first_reason`` why there is a first dead letter.
        Where several report, each but the first has a ``name``, and ``lines`` are where all have their live line.
        """
        self._left = left
        self.busy_s = busy_s
        self._outcomes = outcomes
        self._clock = clock
        self._started = self._summed_up = self.last_s = clock()
        self.totals: Counter[Outcome] = Counter()
        self.chunks = self.tokens = 0
        self.first_reason = ""
        self._name = name
        self._progress = None if console is None else lines or live_lines(console)
        self._task: TaskID | None = None

    def __call__(self, work: Work) -> None:
        """A batch is done."""
        self.last_s = self._clock()
        self.totals.update(work.outcomes)
        self.chunks += work.chunks
        self.tokens += work.tokens
        if work.letters and not self.first_reason:
            self.first_reason = str(work.letters[0].error)
        bugs_first = sorted(work.letters, key=lambda letter: not isinstance(letter.error, Unforeseen))
        for letter in bugs_first[:LETTERS_LOGGED]:
            topic, partition = letter.record.partition
            place = {
                "topic": topic,
                "partition": partition,
                "offset": letter.record.offset,
                **_key_and_trace(letter.record),
            }
            trace = letter.error.__cause__ if isinstance(letter.error, Unforeseen) else None
            log.warning("dead_letter", **place, stage=letter.stage, reason=str(letter.error)[:300], exc_info=trace)
        if len(work.letters) > LETTERS_LOGGED:
            log.warning("dead_letters", more=len(work.letters) - LETTERS_LOGGED)
        for gap in work.batch.gaps:
            where = {"topic": gap.partition.topic, "partition": gap.partition.number}
            log.warning("gap", **where, first=gap.expected, last=gap.found - 1, offsets=gap.found - gap.expected)
        self._advance()
        if self._clock() - self._summed_up >= SUMMARY_EVERY_S and self._progress is None:
            self._summed_up = self._clock()
            self.summary("so far")

    def summary(self, event: str) -> None:
        """Everything so far in one line."""
        seconds = max(1e-9, self._clock() - self._started)
        busy = {f"busy_{name}": round(spent / seconds, 3) for name, spent in self.busy_s.items()}
        counts = {str(outcome): self.totals[outcome] for outcome in self._outcomes}
        named = f"{self._name}_{event.replace(' ', '_')}" if self._name else event
        log.info(named, **counts, tokens=self.tokens, seconds=round(seconds, 1), **busy)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None and self._task is not None:
            self._progress.stop()

    def _advance(self) -> None:
        if self._progress is None:
            return
        done = self.totals.total()
        left = self._left()
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(self._name or "records", total=None, doing="")
        total = None if left is None else max(done, done + left)
        self._progress.update(self._task, completed=done, total=total, doing=self._activity())

    def _activity(self) -> str:
        seconds = max(1e-9, self._clock() - self._started)
        busy = " ".join(f"{name} {spent / seconds:.0%}" for name, spent in self.busy_s.items())
        return f"{self.chunks:,} chunks  {self.tokens / seconds:,.0f} tokens/s  {busy}"


@contextmanager
def live(
    console: Console | None, line: Callable[[float], str], clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Shows what ``line`` says of the seconds since the start, twice a second; nothing without a console."""
    if console is None:
        yield
        return
    started = clock()
    shown = lambda: Text(line(clock() - started))  # noqa: E731  # asked for by a thread of the library
    with Live(get_renderable=shown, console=console, transient=True, refresh_per_second=2):
        yield


def _key_and_trace(record: Record) -> dict[str, str]:
    """The record's key, which names its document, and the trace that it was produced in, where there are such."""
    key = (record.key or b"").decode("utf-8", "replace")[:KEY_CHARS]
    return {name: text for name, text in (("key", key), ("trace_id", trace_id(context_of(record.headers)))) if text}


def steps(console: Console) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    """A bar per step of a long command, or a line where nobody watches."""

    @contextmanager
    def step(name: str, total: int) -> Iterator[Callable[[int], None]]:
        if not console.is_terminal:
            console.print(f"{name} …", highlight=False)
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(name, total=total or None)
            yield lambda amount: progress.advance(task, amount)
            progress.update(task, total=total or 1, completed=total or 1)

    return step


def live_lines(console: Console) -> Progress:
    """Where reporters show what they do, each in a line."""
    doing = TextColumn("{task.fields[doing]}")
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), doing)
    return Progress(*columns, console=console, transient=True)
