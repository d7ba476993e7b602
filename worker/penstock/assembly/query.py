"""Puts the query worker together: HTTP, the topic, and the search behind both."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from rich.console import Console

from penstock import __version__
from penstock.adapters.kafka.connection import connect_consumer, connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.kafka.replies import KafkaReplies
from penstock.adapters.kafka.source import KafkaSource
from penstock.adapters.kafka.topics import check_topic, make_topics
from penstock.adapters.opentelemetry import open_tracer
from penstock.adapters.qdrant.connection import Connection
from penstock.assembly import index as wiring
from penstock.assembly.search import Models, limits, make_search, progress, reading
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.records import OF_QUERIES
from penstock.observe.health import Health
from penstock.observe.live import live
from penstock.observe.log import log, traces_lost
from penstock.observe.spans import Tracer
from penstock.observe.watch import Watch
from penstock.query.http.admission import Keys
from penstock.query.http.app import Service, create_app
from penstock.query.http.model_api import ModelApi
from penstock.query.http.server import Background, HttpServer
from penstock.query.requests import Limits
from penstock.query.search import Search
from penstock.query.worker import Decode, Order, QueryWork, Reply, Retrieve, Rules
from penstock.settings import KafkaSettings, Settings
from penstock.stream.pipeline import Pipeline, Stage
from penstock.stream.worker import CLOSE_SHARE, DRAIN_SHARE

POLL_BYTES = 1 << 30
"""A poll of queries is bounded by their number; none of them is cut off."""


def serve(
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
    line.
    """
    bounds = limits(settings.query, settings.qdrant)
    with ExitStack() as opened:
        tracer = open_tracer(settings.trace, "penstock-query", __version__, traces_lost)
        opened.callback(tracer.close)
        service = _service(settings, models, bounds, tracer)
        background = Background()
        opened.callback(background.close)
        connection = opened.enter_context(reading(settings))
        with ExitStack() as front:
            server = _listen(settings, service, background, stop, front) if settings.http.enabled else None
            models.warm_up()
            service.metrics.models(models.running)
            service.health.started = True
            ending = Ending(stop)
            search = opened.enter_context(_open(settings, models, connection, ending))
            service.open(search, _model_api(settings, models, search))
            log.info("ready")
            if answering and server:
                answering(server.port)
            opened.enter_context(live(Console(stderr=True) if bar else None, service.metrics.line))
            if settings.query.topic:
                _follow_topic(settings, service, search, background, stop, once=once)
            else:
                stop.wait()
            ending.check()


def _listen(
    settings: Settings, service: Service, background: Background, stop: threading.Event, front: ExitStack
) -> HttpServer:
    drain_s = settings.query.drain_timeout_s * DRAIN_SHARE
    server = HttpServer(background, create_app(service), settings.http.host, settings.http.port, drain_s)
    front.callback(server.close)
    server.when_ended(stop.set)
    log.info("listening", host=settings.http.host, port=server.port)
    threading.Thread(target=_leave, args=(stop, service, server), daemon=True).start()
    return server


class Ending:
    """Stops the worker when it meets a collection that it cannot search; started again, it says so, or fits."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self._reason = ""

    def unfit(self, reason: str) -> None:
        """The worker ends, for this reason."""
        self._reason = reason
        self.stop.set()

    def check(self) -> None:
        """Raises Misconfigured where that was why it ended."""
        if self._reason:
            raise Misconfigured(self._reason)


def _leave(stop: threading.Event, service: Service, server: HttpServer) -> None:
    """As soon as the worker is told to stop: no more requests, while the topic is drained beside."""
    stop.wait()
    service.stopping = True
    server.leave()


@contextmanager
def _open(settings: Settings, models: Models, connection: Connection, ending: Ending) -> Iterator[Search]:
    """The search, as soon as the store can be reached; raises Stopped, Misconfigured."""
    following = progress(settings)
    search = wiring.patience(ending.stop).call(
        lambda: make_search(settings, models, connection, following, ending.unfit)
    )
    try:
        yield search
    finally:
        search.close()
        if following is not None:
            following.close()


def _service(settings: Settings, models: Models, bounds: Limits, tracer: Tracer) -> Service:
    keys = {tenant: [key.get_secret_value() for key in own] for tenant, own in settings.http.api_keys.items()}
    return Service(
        bounds,
        models.body,
        Keys(keys),
        settings.http.max_body_bytes,
        settings.http.max_concurrency,
        settings.model.instruction or models.instruction,
        lambda endpoint, error: log.error("bug", endpoint=endpoint, error=str(error), exc_info=error),
        Health(settings.monitor.stall_s),
        tracer=tracer,
    )


def _model_api(settings: Settings, models: Models, search: Search) -> ModelApi:
    bundle = models.embedding.bundle

    def dimension(wanted: int) -> int:
        if wanted > models.embedding.dimension:
            raise InvalidEvent(f"dimensions: {wanted} is more than {models.embedding.dimension}, which is served here")
        try:
            return bundle.dimension(wanted, "dimensions")
        except Misconfigured as error:
            raise InvalidEvent(str(error)) from None

    return ModelApi(
        search,
        models.body,
        dimension,
        bundle.prompt("document"),
        settings.http.max_inputs,
        settings.query.max_query_chars,
        settings.query.timeout_s,
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
    settings: Settings,
    service: Service,
    search: Search,
    background: Background,
    stop: threading.Event,
    *,
    once: bool,
) -> None:
    kafka, query = query_topic(settings), settings.query
    rules = Rules(service.limits, query.replies, query.tenant_from, query.tenant, query.tenant_header)
    abort = threading.Event()
    waiting, answering = (wiring.patience(abort, partial(service.metrics.retry, name)) for name in ("qdrant", "kafka"))
    with ExitStack() as opened:
        watch = Watch()
        service.metrics.lag = watch.lag
        source, letters, replies = wiring.patience(stop).call(lambda: _topics(kafka, rules, watch, once=once))
        opened.callback(replies.close, settings.query.drain_timeout_s * CLOSE_SHARE)
        stages: list[Stage[QueryWork]] = [
            Stage("decode", Decode(rules)),
            Stage("retrieve", Retrieve(search, background.run, waiting)),
            Stage("rerank", Order(search, background.run)),
            Stage("reply", Reply(replies, letters, answering, service.model, service.metrics, service.tracer)),
        ]
        log.info("started", source=kafka.topic, replies=rules.replies[0])
        pipeline = Pipeline(stages, abort)
        terms = wiring.Terms(
            POLL_BYTES, settings.query.drain_timeout_s, OF_QUERIES, retry=service.metrics.retry,
            turned=service.health.turn,
        )  # fmt: skip
        report = wiring.follow(source, letters, pipeline, QueryWork, terms, abort, stop)
        report.summary("ended")


def _topics(
    kafka: KafkaSettings, rules: Rules, watch: Watch, *, once: bool
) -> tuple[KafkaSource, KafkaDeadLetters, KafkaReplies]:
    """The topic of queries and those of the answers; raises Misconfigured or Unavailable."""
    check_topic(kafka, "PENSTOCK_QUERY__TOPIC")
    make_topics(kafka, rules.replies)
    with ExitStack() as opened:
        letters = KafkaDeadLetters(connect_producer(kafka), kafka.dead_letters, 0)
        opened.callback(letters.close, 0.0)
        replies = KafkaReplies(connect_producer(kafka))
        opened.callback(replies.close, 0.0)
        consumer = connect_consumer(kafka)
        opened.callback(consumer.close)
        source = KafkaSource(consumer, kafka.topic, once=once, watch=watch)
        opened.pop_all()
    return source, letters, replies
