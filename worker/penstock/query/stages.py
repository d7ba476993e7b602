"""Queries over a topic: what each stage of the overlap does with a batch of them.

The loop, the overlap and the retries are those of the index worker. The queries of one poll are embedded together,
looked up in one request, and their pairs share the reranker's batches.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from penstock.core.errors import InvalidEvent, NotFinite, Overdue, Refused, Unavailable
from penstock.core.ports import DeadLetters, Membership, Replies
from penstock.core.queries import Answer, Query
from penstock.core.records import Message, Outcome, Record
from penstock.core.work import Interval, Work
from penstock.events.keys import header_tenant
from penstock.events.validation import untrusted
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import NoTracer, Tracer, answer_span, context_of, record_failure
from penstock.query.replies import ReplyBody, to_json, to_reply
from penstock.query.requests import Limits, read_query, to_query
from penstock.query.search import Retrieved, Search, TooLate
from penstock.stream.retry import Retry

LONGEST_ID = 1024
MOST_OVERDUE = 3
"""How often a query may keep the store too long until it is given up: others wait behind it."""
REPLY_TO, CORRELATION_ID = "reply_to", "correlation_id"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryRules:
    """How records of the topic are read, and where answers may go: ``replies``, the usual topic first."""

    limits: Limits
    replies: Sequence[str]
    tenant_from: Literal["body", "header", "fixed"] = "body"
    tenant: str = ""
    tenant_header: str = "tenant"


@dataclass(slots=True)
class PendingQuery:
    """A query of a batch, and how far it is; answered at ``answered_ns`` since 1970, whenever the reply is sent."""

    record: Record
    topic: str
    query: Query
    retrieved: Retrieved | None = None
    answer: Answer | None = None
    answered_ns: int = 0
    overdue: int = 0


@dataclass(slots=True)
class QueryWork(Work):
    """A batch of queries. ``refusals`` are answers to those that get none; the records of some of them are ``late``."""

    queries: list[PendingQuery] = field(default_factory=list)
    refusals: list[Message] = field(default_factory=list)
    late: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decode:
    """Records to queries."""

    rules: QueryRules

    def __call__(self, work: QueryWork) -> QueryWork:
        """Whoever waits for the answer to a record that is no query hears of it, too."""
        for record in work.batch.records:
            topic = self.rules.replies[0]
            try:
                topic = reply_topic(record, self.rules.replies)
                work.queries.append(PendingQuery(record, topic, decode(record, self.rules)))
            except InvalidEvent as error:
                refuse(work, record, topic, error, "decode")
        return work


@untrusted
def decode(record: Record, rules: QueryRules) -> Query:
    """The query that a record asks; raises InvalidEvent."""
    if record.damage:
        raise InvalidEvent(record.damage)
    if record.value is None:
        raise InvalidEvent("the value is null")
    body = read_query(record.value, rules.limits)
    tenant = body.tenant or ""
    if rules.tenant_from != "body":
        tenant = rules.tenant if rules.tenant_from == "fixed" else header_tenant(record, rules.tenant_header)
        if body.tenant is not None and body.tenant != tenant:
            raise InvalidEvent(f"the query names tenant {body.tenant!r}, its {rules.tenant_from} says {tenant!r}")
    name = body.id or (record.key or b"").decode("utf-8", "replace")
    if not name:
        raise InvalidEvent("neither id nor key: nobody could tell which query the answer is to")
    return to_query(body, rules.limits, name, tenant)


@untrusted
def reply_topic(record: Record, allowed: Sequence[str]) -> str:
    """Where the record's header wants the answer; raises InvalidEvent for a topic that is not allowed."""
    wanted = [value for name, value in record.headers if name == REPLY_TO]
    if not wanted:
        return allowed[0]
    try:
        topic = (wanted[-1] or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"header {REPLY_TO} is not UTF-8: {error.reason} at byte {error.start}") from None
    if topic not in allowed:
        raise InvalidEvent(f"header {REPLY_TO} names {topic[:80]!r}; allowed are {', '.join(allowed)}")
    return topic


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Embeds the queries and fetches their candidates."""

    search: Search
    run: Callable[[Coroutine[Any, Any, list[Any]]], list[Any]]
    retry: Retry

    def __call__(self, work: QueryWork) -> QueryWork:
        """While the store is away, tries again, for what is still without candidates."""
        self.retry.call(lambda: self._retrieve(work))
        return work

    def _retrieve(self, work: QueryWork) -> None:
        todo = [pending for pending in work.queries if pending.retrieved is None]
        results = self.run(together([self.search.retrieve(pending.query) for pending in todo]))
        away: Unavailable | None = None
        for pending, result in zip(todo, results, strict=True):
            match result:
                case Retrieved():
                    pending.retrieved = result
                    work.tokens += result.tokens
                case Overdue() if pending.overdue + 1 >= MOST_OVERDUE:
                    drop(work, pending, TooLate(f"the store gave no answer in time: {result}"), "retrieve")
                case Unavailable():
                    pending.overdue += isinstance(result, Overdue)
                    away = result
                case _:
                    drop(work, pending, result, "retrieve")
        if away is not None:
            raise away


@dataclass(frozen=True, slots=True)
class Rerank:
    """Reranks the candidates."""

    search: Search
    run: Callable[[Coroutine[Any, Any, list[Any]]], list[Any]]

    def __call__(self, work: QueryWork) -> QueryWork:
        """All pairs of the batch share the reranker's batches.

        Each query has its whole time again: what others of its batch waited for is not its fault.
        """
        todo = [
            (pending, self.search.renewed(pending.retrieved))
            for pending in work.queries
            if pending.retrieved is not None
        ]
        results = self.run(together([self.search.order(retrieved) for _, retrieved in todo]))
        for (pending, _), result in zip(todo, results, strict=True):
            if isinstance(result, Answer):
                pending.answer, pending.answered_ns = result, time.time_ns()
            else:
                drop(work, pending, result, "rerank")
        return work


@dataclass(frozen=True, slots=True)
class Reply:
    """Sends the answers, then the dead letters; both wait out an outage. Last it asks for the topic."""

    joined: Membership
    replies: Replies
    dead_letters: DeadLetters
    retry: Retry
    reranker: str | None
    metrics: QueryMetrics
    tracer: Tracer

    def __call__(self, work: QueryWork) -> QueryWork:
        """Returns once all is durable, so that the positions of the batch may be committed."""
        answered = [(pending, pending.answer) for pending in work.queries if pending.answer is not None]
        messages = [
            (pending, message(pending.record, pending.topic, to_reply(answer, self.reranker)))
            for pending, answer in answered
        ]
        try:
            self.retry.call(lambda: self.replies.put([message for _, message in messages]))
            work.outcomes[Outcome.ANSWERED] += len(messages)
        except Refused:
            for pending, single in messages:
                self._alone(work, pending, single)
        for refusal in work.refusals:
            with suppress(Refused):  # even this is too large: the dead letter has the whole record
                self.retry.call(partial(self.replies.put, [refusal]))
        if work.letters:
            self.retry.call(lambda: self.dead_letters.put(work.letters))
        self._trace(work)
        now_s, traced = time.time(), not isinstance(self.tracer, NoTracer)
        for _, answer in answered:
            self.metrics.answer(answer)
        for record in (*(pending.record for pending, _ in answered), *work.late):
            self.metrics.took_on_topic(record, now_s, traced=traced)
        self.metrics.records(work.outcomes)
        self.metrics.given_up(work.letters)
        self.joined.advance(work.batch)
        return work

    def _trace(self, work: QueryWork) -> None:
        began_ns = min((stage.start_ns for stage in work.stages.values()), default=time.time_ns())
        failed = [(letter.record, type(letter.error).__name__) for letter in work.letters]
        for record, error in (*failed, *((record, "too_late") for record in work.late)):
            self.tracer.emit(record_failure(record, Interval(began_ns, time.time_ns()), error))
        for pending in work.queries:
            if (answer := pending.answer) is not None:
                name, parent = f"process {pending.record.partition.topic}", context_of(pending.record.headers)
                self.tracer.emit(
                    answer_span(name, "consumer", parent, pending.answered_ns, answer.timings_ms, len(answer.documents))
                )

    def _alone(self, work: QueryWork, pending: PendingQuery, single: Message) -> None:
        try:
            self.retry.call(lambda: self.replies.put([single]))
            work.outcomes[Outcome.ANSWERED] += 1
        except Refused as error:
            drop(work, pending, error, "reply")


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """All results, failures among them."""
    return await asyncio.gather(*calls, return_exceptions=True)


def drop(work: QueryWork, pending: PendingQuery, error: BaseException, stage: str) -> None:
    """The query gets no answer; raises what is neither its own fault nor the clock's."""
    work.queries.remove(pending)
    if isinstance(error, TooLate):
        work.outcomes[Outcome.TOO_LATE] += 1
        work.late.append(pending.record)
        work.refusals.append(message(pending.record, pending.topic, ReplyBody(id=pending.query.id, error=str(error))))
    elif isinstance(error, NotFinite):
        refuse(work, pending.record, pending.topic, InvalidEvent(str(error)), stage, pending.query.id)
    elif isinstance(error, InvalidEvent):
        refuse(work, pending.record, pending.topic, error, stage, pending.query.id)
    else:
        raise error


def refuse(work: QueryWork, record: Record, topic: str, error: InvalidEvent, stage: str, name: str = "") -> None:
    """The record becomes a dead letter, and its sender hears why; ``name`` is the query's, as far as it is known."""
    work.give_up(record, error, stage)
    name = name or (record.key or b"").decode("utf-8", "replace")
    name = name if len(name) <= LONGEST_ID else ""
    work.refusals.append(message(record, topic, ReplyBody(id=name or None, error=str(error))))


def message(record: Record, topic: str, reply: ReplyBody) -> Message:
    """The answer to a record, with its key and its correlation id."""
    headers = tuple((name, value) for name, value in record.headers if name == CORRELATION_ID)
    return Message(topic, record.key, to_json(reply), headers)
