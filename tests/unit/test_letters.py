"""Dead letters as an operator sees them, and which of them may go back: decided over plain values."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock import settings
from penstock.adapters.kafka.dead_letters import bare, error_headers, whole, without_value
from penstock.adapters.kafka.letter_retention import too_long
from penstock.core.documents import Order, epoch_base
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.letters import COPIED_FROM, DeadLetter, Delivery, first_value, read_letter, sent_back, theirs
from penstock.core.records import Headers, Letter, Partition, Place, Record
from penstock.core.retention import Kept
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.operate import one_letter
from penstock.operate.letters import By, Chosen, Tallies, kind_of, read_since, refuse_ambiguous
from penstock.operate.replay import (
    Became,
    Candidate,
    Gathered,
    Rate,
    Sightings,
    StreamNow,
    TopicNow,
    judge,
    refusal,
    time_to_send,
)
from penstock.operate.setup import topic_specs
from penstock.settings import IndexSettings, KafkaSettings, LettersKept, QuerySettings, SetupSettings

BASE = epoch_base(1)
RULES = DocumentRules()
DAY_MS = 24 * 3_600_000
NOW_MS = 1_800_000_000_000
VALUE = json.dumps({"id": "a", "text": "words"}).encode()
STREAM = StreamNow({"documents": TopicNow("id", {0: 1000, 1: 1000})}, 1, 35 * 24 * 3600.0, NOW_MS)


def record(
    offset: int = 5,
    value: bytes | None = VALUE,
    headers: Headers = (("trace", b"1"),),
    key: bytes | None = b"a",
    delivered_ms: int | None = NOW_MS - DAY_MS,
) -> Record:
    return Record(Partition("documents", 0), offset, key, value, headers, timestamp_ms=delivered_ms)


def letter_of(
    given_up: Record,
    at: int = 0,
    form: Any = whole,
    base: int = BASE,
    topic_id: str = "id",
    said: str = "text is missing",
) -> Record:
    """As a worker writes it."""
    letter = Letter(given_up, InvalidEvent(said), "decode")
    key, value, headers = form(letter, error_headers(letter, base, topic_id))
    return Record(Partition("documents.dlq", 0), at, key, value, tuple(headers), timestamp_ms=NOW_MS)


def back(letter: Record, offset: int) -> Record:
    """As replay sends it, and a worker reads it."""
    key, value, headers = sent_back(letter, read_letter(letter))
    return Record(Partition("documents", 0), offset, key, value, headers, timestamp_ms=NOW_MS)


def why_not(letter: Record, stream: StreamNow = STREAM) -> str:
    return refusal(read_letter(letter), stream, lambda topic: topic == "documents")


@pytest.mark.parametrize("value", [VALUE, None], ids=["upsert", "tombstone"])
def test_a_letter_goes_back_as_it_was_with_the_order_of_its_first_delivery(value: bytes | None) -> None:
    returned = back(letter_of(record(5, value)), 900)
    assert (returned.key, returned.value, theirs(returned.headers)) == (b"a", value, (("trace", b"1"),))
    assert decode(returned, RULES).order == Order(BASE + 5, BASE + 5)


def test_a_document_that_a_migration_gave_up_is_no_record_and_does_not_go_back() -> None:
    copied = letter_of(record(headers=((COPIED_FROM, b"documents-1234"),)))
    assert why_not(copied).startswith("it is a document that a migration could not take over")


def test_headers_do_not_pile_up_however_often_a_letter_comes_again() -> None:
    returned = record()
    for offset in (900, 901, 902):
        returned = back(letter_of(returned), offset)
        assert len(returned.headers) == len({name for name, _ in returned.headers}) == 4
    letter = read_letter(letter_of(returned))
    assert letter.first == Delivery("documents", 0, BASE + 5)
    assert letter.origin == Place("documents", 0, 902)
    assert letter.delivered_ms == NOW_MS - DAY_MS, "the first delivery's"


def test_a_letter_that_was_copied_back_by_other_means_keeps_its_first_order() -> None:
    copied = letter_of(record(5))
    again = letter_of(Record(Partition("documents", 0), 900, copied.key, copied.value, copied.headers))
    assert read_letter(again).first == Delivery("documents", 0, BASE + 5)
    assert decode(back(again, 901), RULES).order.sequence == BASE + 5


def test_a_record_without_key_and_value_goes_back_without_them() -> None:
    letter = letter_of(record(value=None, key=None))
    assert (letter.key, letter.value) == (None, b"")
    returned = back(letter, 900)
    assert (returned.key, returned.value) == (None, None)
    empty = letter_of(record(value=b"", key=None))
    assert back(empty, 900).value == b"", "which was no null"


@pytest.mark.parametrize(
    ("letter", "said"),
    [
        (Record(Partition("documents.dlq", 0), 0, b"a", VALUE), "do not say where it came from"),
        (letter_of(Record(Partition("elsewhere", 0), 5, b"a", VALUE)), "topic 'elsewhere', which the index does not"),
        (letter_of(record(), form=without_value), "went without its value: send the document itself again"),
        (letter_of(record(), form=bare), "went without its value"),
        (letter_of(record(key=None, value=b"\0\1"), said="offsets 5 to 9 cannot be decoded: crc"), "bytes of a batch"),
        (letter_of(Record(Partition("documents", 2), 5, b"a", VALUE)), "has 2 partitions, no number 2 any more"),
        (letter_of(record(), base=epoch_base(2)), "is of epoch 2, PENSTOCK_INDEX__EPOCH is 1"),
        (letter_of(record(), topic_id="another"), "was made anew since"),
        (letter_of(record(1000)), "was made anew since"),
        (letter_of(record(delivered_ms=NOW_MS - 36 * DAY_MS)), r"at 2026-12-10.*\(its header penstock"),
    ],
)  # fmt: skip
def test_letters_whose_order_or_content_is_not_sure_are_refused(letter: Record, said: str) -> None:
    assert re.search(said, why_not(letter)), why_not(letter)


def test_the_others_are_not() -> None:
    for letter in (letter_of(record()), letter_of(record(value=None)), letter_of(record(key=None, value=None)),
                   letter_of(record(999)), letter_of(record(delivered_ms=NOW_MS - 34 * DAY_MS)),
                   letter_of(record(), topic_id=""),
                   letter_of(record(), said="3 workers, one after the other, died at this record")):  # fmt: skip
        assert why_not(letter) == ""


def test_a_letter_that_came_again_counts_from_its_first_delivery() -> None:
    first = letter_of(record(delivered_ms=NOW_MS - 36 * DAY_MS))
    assert "2026-12-10" in why_not(letter_of(back(first, 900)))


def test_of_letters_of_early_versions_the_letters_own_time_counts() -> None:
    early = letter_of(record(delivered_ms=None), topic_id="")
    assert why_not(early) == ""
    later = StreamNow(STREAM.topics, 1, STREAM.tombstones_s, NOW_MS + 36 * DAY_MS)
    assert "(the time of the letter)" in why_not(early, later)


def test_letters_of_kafka_connect_are_told_and_refused() -> None:
    headers = {"topic": "documents", "partition": "0", "offset": "7", "connector.name": "sink", "task.id": "0",
               "stage": "VALUE_CONVERTER", "exception.class.name": "org.apache.kafka.connect.errors.DataException",
               "exception.message": "Converting byte[] failed", "exception.stacktrace": "org..."}  # fmt: skip
    told = tuple((f"__connect.errors.{name}", value.encode()) for name, value in headers.items())
    letter = Record(Partition("documents.dlq", 0), 3, b"a", VALUE, told, timestamp_ms=NOW_MS)
    read = read_letter(letter)
    assert (read.origin, read.first, read.stage) == (Place("documents", 0, 7), None, "VALUE_CONVERTER")
    assert "no header penstock.sequence, as one made by Kafka Connect" in why_not(letter)
    shown = list(one_letter.lines(letter, read, one_letter.outlook(letter, read, RULES)))
    assert "from      documents/0/7" in shown
    assert not [line for line in shown if "stacktrace" in line]


@pytest.mark.parametrize("value", [b"x" * 17, b"-5", "\u0665".encode(), b"", None])
def test_headers_that_hold_no_number_are_none(value: bytes | None) -> None:
    headers = (*letter_of(record()).headers, ("penstock.sequence", value))
    assert read_letter(Record(Partition("documents.dlq", 0), 0, b"a", VALUE, headers)).first is None


KINDS = [
    ("key 'doc/7' contradicts the body, which says 'doc/8'", "key … contradicts the body, which says …"),
    ('"op" is "merge"', "… is …"),
    ("the value has 4000123 bytes; index.max_bytes is 4000000", "the value has # bytes; index.max_bytes is #"),
    ("offsets 5 to 9 cannot be decoded", "offsets # to # cannot be decoded"),
    ("the model's tokens don't fit: it's 5", "the model's tokens don't fit: it's #"),
    ("id 0a1b2c3d-0000-1111-2222-333344445555 and deadbeef01", "id # and #"),
    ("a facade, feedback and 2026-11-30T10:00:00Z", "a facade, feedback and #-#-#T#Z"),
    ("no id: b'\\x00 it\\'s'", "no id: …"),
    ("the key holds 'a text that was cut", "the key holds …"),
    ("many\n  lines\tof it", "many lines of it"),
    ("\x1b[31mred", "\\x1b[#mred"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "kind"), KINDS)
def test_reasons_that_differ_in_values_only_are_one_kind(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


def letters(count: int) -> list[DeadLetter]:
    made = []
    for n in range(count):
        given_up = Record(Partition("documents", n % 12), n, f"doc/{n}".encode(), VALUE, timestamp_ms=0)
        read = read_letter(letter_of(given_up, at=n, said=f"bad {n}"))
        made.append(DeadLetter(**{name: getattr(read, name) for name in read.__slots__} | {"time_ms": n * 600_000}))
    return made


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("reason", {"InvalidEvent: bad #": 24}),
        ("stage", {"decode": 24}),
        ("hour", {f"1970-01-01T0{hour}:00Z": 6 for hour in range(4)}),
        ("partition", {f"documents/{n}": 2 for n in range(12)}),
        ("key", dict(sorted({f"doc/{n}": 1 for n in range(24)}.items()))),
    ],
)
def test_letters_are_counted_by_each_trait(by: By, groups: Mapping[str, int]) -> None:
    tallies = Tallies(by)
    for letter in reversed(letters(24)):
        tallies.add(letter)
    assert [(name, tally.count) for name, tally in tallies.sorted()] == list(groups.items())
    first = dict(tallies.sorted())[next(iter(groups))]
    assert first.first_ms == 0
    assert first.example.topic == "documents.dlq"


def test_counting_takes_memory_for_so_many_groups_only() -> None:
    tallies = Tallies("key", most=5)
    for letter in letters(24):
        tallies.add(letter)
    assert (len(tallies.groups), tallies.total, tallies.groups["(others)"].count) == (6, 24, 19)


def test_filters_must_all_fit() -> None:
    letter = letters(6)[5]
    fitting = {"topic": "documents", "reason": "BAD 5", "stage": "decode", "partition": 5, "key": "doc/5",
               "since": datetime(1970, 1, 1, 0, 50, tzinfo=UTC), "until": datetime(1970, 1, 1, 0, 51, tzinfo=UTC),
               "places": frozenset({(0, 5), (1, 7)})}  # fmt: skip
    assert letter in Chosen(**fitting)  # type: ignore[arg-type]
    assert letter in Chosen(places=frozenset({(None, 5)}))
    others = {"topic": "other", "reason": "no", "stage": "write", "partition": 4, "key": "doc/4",
              "since": datetime(1970, 1, 1, 0, 51, tzinfo=UTC), "until": datetime(1970, 1, 1, 0, 50, tzinfo=UTC),
              "places": frozenset({(1, 5)})}  # fmt: skip
    for name, other in others.items():
        assert letter not in Chosen(**fitting | {name: other}), name  # type: ignore[arg-type]


def test_times_are_moments_or_how_long_ago() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert read_since("2h", now) == datetime(2026, 11, 27, 10, tzinfo=UTC)
    assert read_since("2026-11-27T11:00:00+01:00", now) == datetime(2026, 11, 27, 10, tzinfo=UTC)
    for wrong in ("yesterday", "2026-11-27", "5", "999999999w"):
        with pytest.raises(ValueError, match=r"2h|longer than time"):
            read_since(wrong, now)


def gathered(*chosen: Record, others: tuple[Record, ...] = ()) -> Gathered:
    made = Gathered()
    for letter in map(read_letter, (*chosen, *others)):
        made.add(letter)
    for letter in map(read_letter, chosen):
        assert letter.first is not None
        made.candidates[letter.first] = Candidate(letter.place, letter.first, letter.key)
    return made


def verdicts(found: Gathered, topic: list[Record], *, keyed: bool = True, compacted: bool = False) -> dict[int, Became]:
    seen = Sightings(found, 1)
    seen.see(topic)
    judged = judge(seen, lambda _: keyed, lambda _: compacted)
    return {place.offset: verdict.became for place, verdict in judged.items()}


def test_a_newer_event_of_its_key_supersedes_a_letter_where_offsets_order_events() -> None:
    found = gathered(letter_of(record(5), 1))
    assert verdicts(found, [record(5), record(4), record(7, key=b"b")]) == {1: Became.READY}
    for newer in (record(9), record(9, value=None)):
        assert verdicts(found, [newer]) == {1: Became.SUPERSEDED}
        assert verdicts(found, [newer], keyed=False) == {1: Became.READY}
    older_sent_back = back(letter_of(record(3)), 9)
    assert verdicts(found, [older_sent_back]) == {1: Became.READY}


def test_a_newer_event_that_is_a_dead_letter_itself_supersedes_nothing_unless_it_goes_back() -> None:
    old, new = letter_of(record(5), 1), letter_of(record(9), 2)
    assert verdicts(gathered(old, others=(new,)), [record(9)]) == {1: Became.READY}
    assert verdicts(gathered(old, new), [record(9)]) == {1: Became.SUPERSEDED, 2: Became.READY}
    assert verdicts(gathered(old, new), [record(9)], keyed=False) == {1: Became.READY, 2: Became.READY}


def test_what_was_sent_back_and_has_not_come_again_is_not_sent_again() -> None:
    old = letter_of(record(5), 1)
    copy = back(old, 900)
    assert verdicts(gathered(old), [copy]) == {1: Became.BEFORE}
    again = letter_of(copy, 2)
    assert verdicts(gathered(again, others=(old,)), [copy]) == {2: Became.READY}
    assert verdicts(gathered(again, others=(old,)), [copy, back(again, 950)]) == {2: Became.BEFORE}


def test_in_a_compacted_topic_no_letter_goes_after_a_later_record_of_its_key_whosever_it_is() -> None:
    def of(found: Gathered, topic: list[Record]) -> dict[int, Became]:
        return verdicts(found, topic, keyed=False, compacted=True)

    mine, other = letter_of(record(5), 1), letter_of(record(3), 2)
    assert of(gathered(mine), [record(5), record(4), record(7, key=b"b")]) == {1: Became.READY}
    assert of(gathered(mine), [record(9)]) == {1: Became.SUPERSEDED}
    assert of(gathered(mine), [back(other, 900)]) == {1: Became.SUPERSEDED}, "the copy of an older one of the key"
    assert of(gathered(mine, other), []) == {1: Became.READY, 2: Became.SUPERSEDED}


def test_headers_under_another_key_do_not_say_that_a_letter_was_sent() -> None:
    old = letter_of(record(5), 1)
    copy = back(old, 900)
    forged = Record(copy.partition, 901, b"forged", copy.value, copy.headers)
    assert verdicts(gathered(old), [forged]) == {1: Became.READY}
    assert verdicts(gathered(old), [copy, forged]) == {1: Became.BEFORE}


def test_places_are_of_one_topic() -> None:
    places = Chosen(places=frozenset({(0, 5)}))
    refuse_ambiguous(places, ["a.dlq"])
    refuse_ambiguous(Chosen(), ["a.dlq", "b.dlq"])
    with pytest.raises(Misconfigured, match=r"--offset: dead letters lie in a.dlq, b.dlq: --topic says"):
        refuse_ambiguous(places, ["a.dlq", "b.dlq"])


def test_a_letter_goes_back_with_the_time_of_its_first_delivery_unless_its_topic_would_forget_it() -> None:
    letter, first_ms = read_letter(letter_of(record())), NOW_MS - DAY_MS
    week = Kept("documents", policy="delete", retention_s=7 * 86400.0)
    assert time_to_send(letter, week, NOW_MS) == first_ms
    assert time_to_send(letter, week._replace(policy="compact"), NOW_MS + 99 * DAY_MS) == first_ms
    assert time_to_send(letter, week, NOW_MS + 3 * DAY_MS) is None, "more than half of its time is over"
    for kept in (None, week._replace(policy="")):
        assert time_to_send(letter, kept, NOW_MS) is None
    assert time_to_send(read_letter(letter_of(record(delivered_ms=None))), week, NOW_MS) is None


def test_only_partitions_of_candidates_are_read_and_from_the_first_on() -> None:
    found = gathered(letter_of(record(7), 1), letter_of(record(5, key=b"b"), 2))
    assert Sightings(found, 1).starts() == {Partition("documents", 0): 5}


def test_a_rate_is_even_and_time_that_was_lost_is_not_made_up_for() -> None:
    now = 100.0
    rate = Rate(10, lambda: now)
    assert [round(rate.pause_s(), 6) for _ in range(3)] == [0, 0.1, 0.2]
    now = 200.0
    assert [round(rate.pause_s(), 6) for _ in range(3)] == [0, 0.1, 0.2]
    unlimited = Rate(float("inf"), lambda: now)
    assert {unlimited.pause_s() for _ in range(1000)} == {0.0}


@pytest.mark.parametrize(
    ("retention", "policy", "said"),
    [
        ("604800000", "delete", ""),
        ("3024000000", "delete", ""),
        ("3024000001", "delete", "35 days"),
        ("-1", "delete", "for ever"),
        ("604800000", "delete, compact", "compacted"),
        ("", "", ""),
    ],
)
def test_a_topic_that_keeps_letters_for_longer_than_deletes_are_remembered_is_told(
    retention: str, policy: str, said: str
) -> None:
    config = {"retention.ms": retention, "cleanup.policy": policy}
    told = too_long(config, 35 * 24 * 3600.0)
    assert told.startswith(said)
    assert bool(told) == bool(said)
    assert too_long({}, 1.0) == ""


def test_setup_makes_dead_letter_topics_that_forget() -> None:
    specs = topic_specs(
        KafkaSettings(topic="a,b"),
        QuerySettings(topic="q"),
        SetupSettings(letters_s=3600),
        IndexSettings(order="event"),
    )
    made = {spec.name: dict(spec.config) for spec in specs}
    kept = {"cleanup.policy": "delete", "retention.ms": "3600000"}
    assert [made[name] for name in ("a.dlq", "b.dlq", "q.dlq")] == [kept] * 3
    assert made["q"] == made["replies"] == {}
    assert LettersKept().config == {}


def test_letters_may_not_be_kept_for_longer_than_deletes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    assert LettersKept.of(loaded.setup, loaded.purge) == LettersKept(30 * 24 * 3600.0, 35 * 24 * 3600.0)
    monkeypatch.setenv("PENSTOCK_SETUP__LETTERS_S", "3600001")
    monkeypatch.setenv("PENSTOCK_PURGE__TOMBSTONES_S", "3600000")
    with pytest.raises(Misconfigured, match="PENSTOCK_SETUP__LETTERS_S, PENSTOCK_PURGE__TOMBSTONES_S"):
        settings.load()


def test_one_letter_is_told_whole() -> None:
    headers = (("trace", b"\xff"), ("empty", None))
    letter = letter_of(record(5, b'{"id": "a", "text": "w\xc3\xb6rds", "version": 7}', headers, b"\xfe"), 41)
    read = read_letter(letter)
    now = one_letter.outlook(letter, read, RULES)
    assert now.said.startswith("dead letter: the key is not UTF-8")
    told = one_letter.as_json(letter, read, now)
    assert (told["key_base64"], "key" in told) == ("/g==", False)
    assert told["value"] == '{"id": "a", "text": "wörds", "version": 7}'
    assert told["headers"] == [{"name": "trace", "value_base64": "/w=="}, {"name": "empty", "value": ""}]
    assert told["order"] == {"sequence": BASE + 5, "epoch": 1, "offset": 5}
    assert len(told["error_headers"]) == 9
    shown = "\n".join(one_letter.lines(letter, read, now))
    assert '  "text": "wörds"' in shown
    assert "order     epoch 1, offset 5" in shown


def test_what_would_become_of_a_letter_now_is_told_with_its_version() -> None:
    letter = letter_of(record(5, b'{"id": "a", "text": "words", "version": 7}'))
    now = one_letter.outlook(letter, read_letter(letter), DocumentRules(order="event"))
    assert now.said.startswith("indexed: 5 characters")
    assert "order     version 7, then epoch 1, offset 5" in "\n".join(
        one_letter.lines(letter, read_letter(letter), now)
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ["value     null: a tombstone"]),
        (b"\xff\x00", ["value     2 bytes, in hex", "ff 00"]),
        (b"a \x1b[2J\nb", ["value     8 bytes, text", "a \\x1b[2J", "b"]),
        (b"", ["value     0 bytes, text"]),
        (b"x" * 10_007, ["value     10007 bytes, text", "x" * 10_000, "… 7 characters more: --json has all"]),
        (b"[" * 100_000, ["value     100000 bytes, text", "[" * 10_000, "… 90000 characters more: --json has all"]),
    ],
)
def test_values_are_shown_so_that_a_terminal_survives_them(value: bytes | None, said: list[str]) -> None:
    letter = letter_of(record(5, value))
    assert first_value(letter) == value
    shown = list(one_letter.lines(letter, read_letter(letter), one_letter.Outlook()))
    assert shown[-len(said) :] == said


def test_what_a_letter_went_without_is_told() -> None:
    letter = letter_of(record(), form=bare)
    read = read_letter(letter)
    assert read.dropped == ("value", "key", "headers")
    shown = list(one_letter.lines(letter, read, one_letter.outlook(letter, read, RULES)))
    assert "left out  value, key, headers: too large for the dead letter topic" in shown
