"""``penstock setup``, put together."""

from functools import partial

from penstock.operate.setup import SetupStep, ensure_collection, ensure_topics, topic_specs
from penstock.settings import Settings
from penstock.stream.retry import Retry


def set_up(settings: Settings, retry: Retry) -> list[SetupStep]:
    """Topics and collection, waiting for services that are away; raises Misconfigured."""
    kafka, cleanup = settings.kafka, settings.setup.cleanup_for(settings.index.order)
    specs = topic_specs(kafka, settings.query, settings.setup, cleanup)
    topics = retry.call(partial(ensure_topics, kafka, specs))
    fresh = topics[0].made
    collection = partial(ensure_collection, kafka, settings.qdrant, settings.model, settings.index, fresh=fresh)
    return [*topics, retry.call(collection)]
