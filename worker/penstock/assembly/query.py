"""The query worker, put together: HTTP, the topic, and the search behind both."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec

from rich.console import Console

from penstock import __version__
from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.kafka.replies import KafkaReplies
from penstock.adapters.kafka.source import KafkaSource
from penstock.adapters.kafka.topics import check_topics, make_topics
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.opentelemetry import open_tracer
from penstock.assembly.membership import ASK_S
from penstock.assembly.models import Models
from penstock.assembly.monitor import count_models
from penstock.assembly.search import following, limits_of, make_search, reader
from penstock.assembly.stream import Loop, Retries, join_topic
from penstock.core.around import around_calls
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.hosts import is_local
from penstock.core.identity import TopicIdentity
from penstock.core.queries import EmbeddedBy
from penstock.core.records import OF_QUERIES
from penstock.observe.health import Health
from penstock.observe.live import live
from penstock.observe.log import log, traces_lost
from penstock.observe.spans import Tracer
from penstock.observe.watch import Watch
from penstock.query.http.admission import Keys
from penstock.query.http.app import create_app, create_operations
from penstock.query.http.model_api import ModelApi
from penstock.query.http.protocol import Connections
from penstock.query.http.server import EventLoopThread, HttpServer
from penstock.query.http.service import Service
from penstock.query.search import Search
from penstock.query.stages import Decode, QueryRules, QueryWork, Reply, Rerank, Retrieve
from penstock.settings import KafkaSettings, LettersKept, QuerySettings, Settings
from penstock.stream.joined import OfQueries
from penstock.stream.pipeline import Stage
from penstock.stream.worker import CLOSE_SHARE, DRAIN_SHARE

POLL_BYTES = 1 << 30
"""A poll of queries is bounded by their number; none of them is cut off."""


def run_query_worker(
    settings: Settings,
    models: Models,
    stop: threading.Event,
    *,
    once: bool = False,
    bar: bool = False,
    answering: Callable[[int], None] | None = None,
) -> None:
    """Answer queries until ``stop`` is set; with ``once``, until the topic's present end.

    ``answering`` hears the port, once there are answers: HTTP listens before, but is not ready. ``bar`` shows a live
    line. What is opened here is closed here: HTTP first, since what is under way there needs the search.
    """
    settings.http.check_closed()
    shutdown = Shutdown(stop)
    with ExitStack() as opened:
        tracer = open_tracer(settings.trace, "penstock-query", __version__, traces_lost)
        opened.enter_context(closing(tracer))
        service = _service(settings, models, tracer)
        event_loop = opened.enter_context(closing(EventLoopThread()))
        connection = opened.enter_context(closing(reader(settings.qdrant, settings.query)))
        progress = opened.enter_context(following(settings.query, settings.kafka))
        with ExitStack() as front:
            server = _listen(front, settings, service, event_loop, stop)
            models.when_broken(shutdown.because)
            models.warm_up()
            count_models(service.metrics, models.infos)
            service.health.started = True
            open_search = partial(make_search, settings, models, connection, progress, shutdown.because)
            search = opened.enter_context(closing(Retries(stop).of("qdrant").call(open_search)))
            service.open(search, _model_api(settings, models, search))
            log.info("ready")
            if answering and server:
                answering(server.port)
            opened.enter_context(live(Console(stderr=True) if bar else None, service.metrics.line))
            if settings.query.topic:
                kept = LettersKept(settings.setup.letters_s)
                _follow_topic(settings.query, query_topic(settings), kept, service, search, event_loop, stop, once=once)
            else:
                stop.wait()
            shutdown.check()


@dataclass(slots=True)
class Shutdown:
    """Stops the worker when it meets a collection that it cannot search; started again, it says so, or fits."""

    stop: threading.Event
    _reason: str = field(default="", init=False)

    def because(self, reason: str) -> None:
        """The worker ends, for this reason."""
        self._reason = reason
        self.stop.set()

    def check(self) -> None:
        """Raises Misconfigured where there was a reason."""
        if self._reason:
            raise Misconfigured(self._reason)


def _listen(
    front: ExitStack, settings: Settings, service: Service, event_loop: EventLoopThread, stop: threading.Event
) -> HttpServer | None:
    """The server of the searches, if there is to be one; and one for who operates it, where it has its own port."""
    http, monitor, server = settings.http, settings.monitor, None
    drain_s = settings.query.drain_timeout_s * DRAIN_SHARE
    api = create_app(service)
    if monitor.port is not None:
        apart = create_operations(service, api, names_of(monitor.host))
        operated = front.enter_context(closing(HttpServer(event_loop, apart, monitor.host, monitor.port, drain_s)))
        operated.when_ended(stop.set)
        log.info("monitored", host=monitor.host, port=operated.port)
    if http.enabled:
        connections = Connections(http.max_connections, http.max_connections_per_address)
        server = front.enter_context(closing(HttpServer(event_loop, api, http.host, http.port, drain_s, connections)))
        server.when_ended(stop.set)
        log.info("listening", host=http.host, port=server.port)

    def leave() -> None:
        """As soon as the worker is told to stop: no more requests, while the topic is drained beside."""
        stop.wait()
        service.stopping = True
        if server:
            server.leave()

    threading.Thread(target=leave, daemon=True).start()
    return server


def _service(settings: Settings, models: Models, tracer: Tracer) -> Service:
    http = settings.http
    keys = {tenant: [key.get_secret_value() for key in secrets] for tenant, secrets in http.api_keys.items()}
    return Service(
        limits=limits_of(settings.query, settings.qdrant),
        model=models.body,
        keys=Keys(keys),
        max_body_bytes=http.max_body_bytes,
        max_search_body_bytes=http.max_search_body_bytes,
        max_concurrency=http.max_concurrency,
        max_concurrency_per_tenant=http.max_concurrency_per_tenant,
        instruction=settings.model.instruction or models.instruction,
        bug=lambda endpoint, error: log.error("bug", endpoint=endpoint, error=str(error), exc_info=error),
        health=Health(settings.monitor.stall_s, settings.monitor.hang_s, silent=models.silent),
        tracer=tracer,
        names=http.hosts or (() if keys or http.allow_insecure else names_of(http.host)),
        origins=http.cors_origins,
        examples=settings.query.examples,
        mcp=http.mcp and find_spec("mcp") is not None,
        operated_apart=settings.monitor.port is not None,
    )


def names_of(host: str) -> tuple[str, ...]:
    """What a server without keys answers to that listens there: where only this machine reaches it, local names."""
    return ("localhost",) if is_local(host) else ()


def _model_api(settings: Settings, models: Models, search: Search) -> ModelApi:
    by_name = {model.by: model for model in models.embeddings}

    def dimension(by: EmbeddedBy, wanted: int) -> int:
        if wanted > by.dimension:
            raise InvalidEvent(f"dimensions: {wanted} is more than {by.dimension}, which is served here")
        try:
            return by_name[by].bundle.dimension(wanted, "dimensions")
        except Misconfigured as error:
            raise InvalidEvent(str(error)) from None

    return ModelApi(
        search=search,
        reranker=models.body.reranker,
        dimension=dimension,
        max_inputs=settings.http.max_inputs,
        max_characters=settings.query.max_query_chars,
        timeout_s=settings.query.timeout_s,
    )


def query_topic(settings: Settings) -> KafkaSettings:
    """Kafka, for the topic of queries."""
    query = settings.query
    return settings.kafka.model_copy(
        update={
            "topic": query.topic,
            "dead_letter_topic": query.dead_letter_topic,
            "group": query.group,
            "max_poll_records": query.max_poll_records,
        }
    )


def _follow_topic(
    query: QuerySettings,
    kafka: KafkaSettings,
    kept: LettersKept,
    service: Service,
    search: Search,
    event_loop: EventLoopThread,
    stop: threading.Event,
    *,
    once: bool,
) -> None:
    rules = QueryRules(service.limits, query.replies, query.tenant_from, query.tenant, query.tenant_header)
    watch = Watch()
    service.metrics.follow(watch)
    with ExitStack() as opened:
        topics = partial(_open_topics, kafka, kept, rules, watch, once=once)
        source, letters, replies, known = Retries(stop).of("kafka").call(topics)
        opened.callback(replies.close, query.drain_timeout_s * CLOSE_SHARE)
        upstream = opened.enter_context(closing(KafkaUpstream(kafka)))
        log.info("started", source=kafka.topic, replies=rules.replies[0])

        def stages(retries: Retries) -> list[Stage[QueryWork]]:
            away, reranker, metrics = retries.of("kafka"), service.model.reranker, service.metrics
            joined = OfQueries(around_calls(upstream, away.around), kafka.topic, known, retries.ended.wait)
            return [
                Stage("decode", Decode(rules)),
                Stage("retrieve", Retrieve(search, event_loop.run, retries.of("qdrant"))),
                Stage("rerank", Rerank(search, event_loop.run)),
                Stage("reply", Reply(joined, replies, letters, away, reranker, metrics, service.tracer)),
            ]

        Loop(
            source=source,
            dead_letters=letters,
            stages=stages,
            begin=QueryWork,
            retried=service.metrics.retry,
            batch_bytes=POLL_BYTES,
            drain_timeout_s=query.drain_timeout_s,
            outcomes=OF_QUERIES,
            turned=service.health.turn,
            ask_s=ASK_S,
        ).run(stop).summary("ended")


def _open_topics(
    kafka: KafkaSettings, kept: LettersKept, rules: QueryRules, watch: Watch, *, once: bool
) -> tuple[KafkaSource, KafkaDeadLetters, KafkaReplies, TopicIdentity]:
    """The topic of queries and those of the answers; raises Misconfigured or Unavailable."""
    known = check_topics(kafka, "PENSTOCK_QUERY__TOPIC", kept=kept)
    make_topics(kafka, rules.replies)
    with ExitStack() as opened:
        replies = KafkaReplies(connect_producer(kafka))
        opened.callback(replies.close, 0.0)
        source, letters = join_topic(kafka, 0, watch, once=once)
        opened.pop_all()
    return source, letters, replies, known
