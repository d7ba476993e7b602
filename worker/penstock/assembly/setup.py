"""``penstock setup``, put together."""

from functools import partial

from penstock.operate.setup import SetupStep, ensure_collection, ensure_topics, topic_specs
from penstock.settings import LettersKept, Settings
from penstock.stream.retry import Retry


def set_up(settings: Settings, retry: Retry) -> list[SetupStep]:
    """Topics and collection, waiting for services that are away; raises Misconfigured."""
    kafka = settings.kafka
    specs = topic_specs(kafka, settings.query, settings.setup, settings.index)
    topics = retry.call(partial(ensure_topics, kafka, specs))
    fresh = any(topic.made for topic in topics)
    given = settings.qdrant, settings.model, settings.index, LettersKept.of(settings.setup, settings.purge)
    return [*topics, retry.call(partial(ensure_collection, kafka, *given, fresh=fresh))]
