"""``penstock letters``, put together: a consumer of no group reads dead letter topics, and commits nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from penstock.adapters.kafka.letters import existing, topics_now, whole
from penstock.core.errors import Misconfigured
from penstock.core.letters import read_letter
from penstock.operate.letters import By, Chosen, Tallies
from penstock.settings import Settings

Steps = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""A bar per step of a long command: its name, and how many there are of what is then advanced by."""


def letter_topics(settings: Settings, topic: str | None) -> list[str]:
    """The dead letter topics that are there, of one topic or of all that are followed; none where there are none yet.

    Raises Misconfigured for a topic that nobody here reads, or that is not there itself.
    """
    kafka = settings.kafka
    if topic is not None and topic == settings.query.topic:
        sources, names = [topic], [settings.query.dead_letters]
    elif topic is not None and not kafka.follows(topic):
        others = f", queries come from {settings.query.topic!r}" if settings.query.topic else ""
        raise Misconfigured(f"--topic {topic}: the index follows {kafka.topic!r}{others}")
    else:
        sources = [topic] if topic is not None else list(kafka.topics) or sorted(topics_now(kafka))
        names = list(dict.fromkeys(map(kafka.dead_letters_of, sources)))
    there = existing(kafka, [*sources, *names])
    found = [name for name in names if name in there]
    if missing := [source for source in sources if source not in there and not found]:
        raise Misconfigured(
            f"topic {missing[0]!r} does not exist on {kafka.bootstrap_servers}, and no topic of its dead letters; "
            "correct PENSTOCK_KAFKA__TOPIC"
        )
    return found


def count(settings: Settings, chosen: Chosen, by: By, steps: Steps) -> tuple[Tallies, list[str]]:
    """The letters that are chosen, counted; and the topics that they lie in."""
    tallies, topics = Tallies(by), letter_topics(settings, chosen.topic)
    if topics:
        with whole(settings.kafka, topics) as opened, steps("reading letters", opened.offsets) as advance:
            for records in opened.read(passed=advance):
                for letter in map(read_letter, records):
                    if letter in chosen:
                        tallies.add(letter)
    return tallies, topics
