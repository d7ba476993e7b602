"""The lag exporter, put together: it asks Kafka now and then, and serves what it heard."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing

from pydantic import ValidationError

from penstock.adapters.kafka.lag import KafkaLag
from penstock.assembly.serve import served
from penstock.core.errors import Misconfigured, Unavailable
from penstock.observe.health import Health
from penstock.observe.lag_metrics import LagMetrics
from penstock.observe.log import log, outage
from penstock.settings import KafkaSettings, Settings


def watched_groups(settings: Settings, others: Sequence[str]) -> list[KafkaSettings]:
    """Of the index workers, of the query workers where they have a topic, and ``others``, each GROUP=TOPIC.

    Raises Misconfigured.
    """
    kafka, query = settings.kafka, settings.query
    own = [(kafka.group, kafka.topic), *([(query.group, query.topic)] if query.topic else [])]
    return [
        kafka.model_copy(update={"group": group, "topic": topic}) for group, topic in own + list(map(_pair, others))
    ]


def _pair(text: str) -> tuple[str, str]:
    group, _, topic = text.partition("=")
    if not group or not topic:
        raise Misconfigured(f"--watch {text}: is GROUP=TOPIC, like penstock-index=documents")
    try:
        return group, KafkaSettings.model_validate({"topic": topic}).topic
    except ValidationError as error:
        raise Misconfigured(f"--watch {text}: {error.errors()[0]['msg']}") from None


def run_lag_exporter(settings: Settings, others: Sequence[str], every_s: float, stop: threading.Event) -> None:
    """Until ``stop`` is set; raises Misconfigured. While Kafka is away it goes on serving, and tells since when."""
    if settings.monitor.port is None:
        raise Misconfigured("nothing to serve it on: set PENSTOCK_MONITOR__PORT")
    watched = watched_groups(settings, others)
    metrics, failures = LagMetrics(), 0
    health = Health(settings.monitor.stall_s, settings.monitor.hang_s, metrics.exposed)
    with ExitStack() as opened:
        opened.enter_context(served(health, settings.monitor))
        lag = opened.enter_context(closing(KafkaLag(settings.kafka)))
        health.started = True
        log.info("started", groups=[f"{one.group}={one.topic}" for one in watched])
        while not stop.is_set():
            try:
                lags = []
                for one in watched:
                    health.turn()
                    lags.append(lag.of(one))
                metrics.answered(lags)
            except Unavailable as error:
                failures += 1
                metrics.retry("kafka")
                outage(error, failures, every_s)
            else:
                failures, health.ready = 0, True
            health.turn()
            stop.wait(every_s)
