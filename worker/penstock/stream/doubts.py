"""What speaks against going on with a stream and a collection, and what to do then; empty where nothing does. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from penstock.core.documents import EPOCH_SHIFT, LARGEST_EPOCH, epoch_base
from penstock.core.identity import CollectionState, Origin, TopicIdentity
from penstock.core.records import Gap, Partition

OnGap = Literal["continue", "stop"]

REREAD = "`penstock index --from-beginning`, once and with no other worker running, reads the topic anew"
AGAIN = "start again; where the collection of that name lacks what was committed, the start says what to do"
ELSEWHERE = "set PENSTOCK_QDRANT__COLLECTION to a new name and PENSTOCK_KAFKA__GROUP to a new group"


def unfit_origin(remembered: Origin | None, ours: Origin) -> str:
    """Why a collection that follows one stream is not for a worker of another, and what to do; empty where it is.

    A first origin is welcome, and so is a higher epoch of the same topic.
    """
    if remembered is None or remembered == ours:
        return ""
    if remembered.topic != ours.topic and not (remembered.order == ours.order == "event" and _share(remembered, ours)):
        return f"the collection follows topic {remembered.topic!r}, not {ours.topic!r}: {ELSEWHERE}"
    if remembered.order != ours.order:
        return (
            f"the collection's events are ordered by {remembered.order}, PENSTOCK_INDEX__ORDER is {ours.order}, and "
            f"the two cannot be compared: {ELSEWHERE}"
        )
    if remembered.epoch > ours.epoch:
        return (
            f"the collection follows epoch {remembered.epoch} of topic {ours.topic!r}, this worker epoch {ours.epoch}: "
            f"raise PENSTOCK_INDEX__EPOCH to {remembered.epoch}"
        )
    if remembered.epoch < ours.epoch or remembered.topic != ours.topic:
        return ""
    return changed_topic(remembered, TopicIdentity(ours.topic_id, ours.partitions))


def _share(remembered: Origin, ours: Origin) -> bool:
    """Whether two have a topic in common: where versions order the events, others may come and go."""
    for pattern, other in ((remembered.topic, ours.topic), (ours.topic, remembered.topic)):
        if pattern.startswith("^"):
            return not other.startswith("^") and any(re.fullmatch(pattern[1:], name) for name in other.split(","))
    return not set(remembered.topic.split(",")).isdisjoint(ours.topic.split(","))


def changed_topic(joined: Origin, now: TopicIdentity | None) -> str:
    """What has become of a topic, and what to do; empty where it is the same."""
    name, following = joined.topic, joined.epoch + 1
    if now is None:
        one_of = "one of the topics" if "," in name else "topic"
        return f"{one_of} {name!r} is gone: make it anew and {_next_epoch(following)}, or correct PENSTOCK_KAFKA__TOPIC"
    if now.id != joined.topic_id:
        return f"topic {name!r} was deleted and made anew, so its offsets began again: {_next_epoch(following)}"
    if joined.partitions not in (0, now.partitions):
        return (
            f"topic {name!r} has {now.partitions} partitions, it had {joined.partitions}: events of a document now "
            "lie in two, whose offsets cannot be compared. Send all documents to a topic that is made anew, and "
            f"{_next_epoch(following)}"
        )
    return ""


def _next_epoch(epoch: int) -> str:
    return f"set PENSTOCK_INDEX__EPOCH to {epoch}; {REREAD}" if epoch <= LARGEST_EPOCH else ELSEWHERE


def changed_collection(joined: CollectionState, now: CollectionState | None) -> str:
    """What has become of a collection, and what to do; empty where it is the same. Origins are compared elsewhere."""
    if now is None:
        return f"collection {joined.name} is gone: {AGAIN}"
    if now.name != joined.name:
        return f"the alias now points to {now.name}, not to {joined.name}: {AGAIN}"
    if now.birth != joined.birth or now.model != joined.model:
        return f"collection {joined.name} was made anew: {AGAIN}"
    if joined.recipe is not None and (
        now.recipe is None
        or now.recipe.number < joined.recipe.number
        or (now.recipe.number == joined.recipe.number and now.recipe.fingerprint != joined.recipe.fingerprint)
    ):
        return f"collection {joined.name} was set back: its recipe is {now.recipe}, it was {joined.recipe}; {REREAD}"
    return ""


def lost_progress(expected: Mapping[Partition, int], held: Mapping[Partition, int], epoch: int, *, whose: str) -> str:
    """Which partitions a collection holds less far than ``whose`` offsets say, and what to do; empty where none is.

    ``expected`` and ``held`` are sequences; one of another epoch says nothing of the offsets of this one.
    """
    for partition, sequence in sorted(expected.items()):
        there = held.get(partition, 0)
        offset = there - epoch_base(epoch) if there >> EPOCH_SHIFT == epoch else 0
        if (wanted := sequence - epoch_base(epoch)) > offset:
            return (
                f"the collection holds {partition.topic}/{partition.number} up to offset {offset}, {whose} {wanted}: "
                f"it was emptied, restored, or never got those records. {REREAD}"
            )
    return ""


def lost_records(gaps: Iterable[Gap], on_gap: OnGap) -> str:
    """Why a worker may not go on over jumps of its positions, and what to do; empty where it may."""
    for partition, expected, found in gaps:
        place = f"{partition.topic}/{partition.number}"
        if found < expected:
            return (
                f"{place} ends before offset {expected}, which was read already: the topic has lost records, and gives "
                f"their offsets to others. Set PENSTOCK_INDEX__EPOCH one higher; {REREAD}"
            )
        if on_gap == "stop":
            return (
                f"offsets {expected} to {found - 1} of {place} were removed by the topic's retention before they were "
                "read: send those documents again, or go on without them by PENSTOCK_INDEX__ON_GAP=continue"
            )
    return ""
