"""What both workers put together in the same way: their topic, retries, and the loop over a source to its end."""

import math
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import Progress

from penstock.adapters.kafka.connection import connect_consumer, connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.kafka.source import KafkaSource
from penstock.core.errors import Unavailable
from penstock.core.ports import DeadLetters, Source
from penstock.core.records import Batch, Outcome
from penstock.core.work import Work
from penstock.observe.live import Reporter
from penstock.observe.log import log, outage
from penstock.observe.watch import Watch
from penstock.settings import KafkaSettings
from penstock.stream.pace import Pace
from penstock.stream.pipeline import Pipeline, Stage
from penstock.stream.retry import Retry, backoff
from penstock.stream.worker import CLOSE_SHARE, StreamWorker

W = TypeVar("W", bound=Work)


class Retries:
    """Waits out outages, a little differently in every worker, until ``ended`` is set: then a call gives up."""

    def __init__(self, ended: threading.Event, count: Callable[[str], None] = lambda _: None) -> None:
        """``count`` hears the name of a service at each call that is made again."""
        self.ended = ended
        self.sign: Callable[[], None] = lambda: None
        """Hears of the end of every call, once a pipeline is there to hear it."""
        self._count = count

    def of(self, service: str = "") -> Retry:
        """For calls of this service, or of several that need no telling apart."""
        delay = lambda failures: backoff(failures, random.random())  # noqa: E731, S311  # no secret
        return Retry(delay, partial(self._report, service), self.ended, self._ended_call)

    def _ended_call(self) -> None:
        self.sign()

    def _report(self, service: str, error: Unavailable, failures: int, pause_s: float) -> None:
        self._count(service)
        outage(error, failures, pause_s)


def join_topic(
    kafka: KafkaSettings, sequence_base: int, watch: Watch, topic_id: str = "", *, once: bool
) -> tuple[KafkaSource, KafkaDeadLetters]:
    """The topic as a member of its group, and its dead letters; where one cannot be had, neither stays open.

    ``sequence_base`` is that of the rules by which the topic is read, ``topic_id`` the one topic's, which letters tell.
    Raises Misconfigured or Unavailable.
    """
    with ExitStack() as opened:
        letters = KafkaDeadLetters(connect_producer(kafka), kafka, sequence_base, topic_id)
        opened.callback(letters.close, 0.0)
        consumer = connect_consumer(kafka)
        opened.callback(consumer.close)
        source = KafkaSource(consumer, kafka, once=once, watch=watch)
        opened.pop_all()
    return source, letters


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Generic[W]):
    """A source's records through a pipeline, with a live line or sums in the log.

    ``stages`` makes them, given the retries of their services, which end with the pipeline. ``begin`` makes of a batch
    what goes through it, cut as in StreamWorker. ``started`` hears of the pipeline, ``finished`` of every batch that is
    done, ``turned`` of every turn, ``retried`` of every call of a service that is made again, by the service's name.
    ``outcomes`` are those that a record can have; ``lag`` says how many records are left where the source has no end;
    while nothing comes, an empty batch goes through the stages every ``ask_s``. ``name`` and ``lines`` are those of the
    Reporter.
    """

    source: Source
    dead_letters: DeadLetters
    stages: Callable[[Retries], Sequence[Stage[W]]]
    begin: Callable[[Batch], W]
    batch_bytes: int
    drain_timeout_s: float
    outcomes: Sequence[Outcome]
    started: Callable[[Pipeline[W]], None] = lambda _: None
    finished: Callable[[W], None] = lambda _: None
    retried: Callable[[str], None] = lambda _: None
    turned: Callable[[], None] = lambda: None
    lag: Callable[[], int | None] = lambda: None
    pace: Pace | None = None
    together: int = 0
    ask_s: float = math.inf
    batch_s: float = math.inf
    name: str = ""
    lines: Progress | None = None

    def run(self, stop: threading.Event, *, bar: bool = False) -> Reporter:
        """Until the source ends or ``stop`` is set; then everything is closed, what stands at the end first."""
        close_s = self.drain_timeout_s * CLOSE_SHARE
        retries = Retries(threading.Event(), self._retried)
        pipeline = Pipeline(self.stages(retries), retries.ended, Work.timed)
        retries.sign = pipeline.sign
        self.started(pipeline)
        with ExitStack() as opened:
            console = Console(stderr=True) if bar else None
            reporter = Reporter(
                self._left,
                pipeline.busy_s,
                outcomes=self.outcomes,
                console=console,
                name=self.name,
                lines=self.lines,
            )
            opened.enter_context(closing(reporter))
            opened.callback(self.dead_letters.close, close_s)
            opened.callback(self.source.close, close_s)
            opened.callback(pipeline.close, close_s)
            StreamWorker(
                source=self.source,
                pipeline=pipeline,
                begin=self.begin,
                batch_bytes=self.batch_bytes,
                drain_timeout_s=self.drain_timeout_s,
                outage=retries.of("kafka").pause_s,
                report=partial(self._report, reporter),
                ending=partial(self._ending, stop),
                turned=self.turned,
                ask_s=self.ask_s,
                pace=self.pace,
                batch_s=self.batch_s,
                together=self.together,
            ).run(stop)
        return reporter

    def _ending(self, stop: threading.Event) -> None:
        log.info(f"{self.name}_draining" if self.name else "draining", stopped=stop.is_set())

    def _retried(self, service: str) -> None:
        self.retried(service)
        self.source.excuse()

    def _left(self) -> int | None:
        remaining = self.source.remaining()
        return self.lag() if remaining is None else remaining

    def _report(self, reporter: Reporter, work: W) -> None:
        self.finished(work)
        reporter(work)
