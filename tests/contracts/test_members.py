"""Several collections behind one alias, as a migration makes them: on each store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest

from penstock.adapters.qdrant.collection import create, find_collection, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.adapters.qdrant.members import members
from penstock.adapters.qdrant.migration import begin, copy_rules, drop, mark_copied, opened, switch
from penstock.adapters.qdrant.shape import Shape
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.core.members import PARTS, Beginning, Member, free_name, goes_forward, group_for, other
from penstock.core.records import Partition, Record

OLD = ModelIdentity("model", "1", "mean", "", "", 4)
NEW = ModelIdentity("model", "2", "mean", "", "", 8)
GROUP = "penstock-index"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def alias() -> str:
    return f"test-{uuid4().hex[:8]}"


def begun(qdrant: Connection, alias: str, identity: ModelIdentity = NEW) -> Member:
    open_collection(qdrant, alias, OLD, group=GROUP)
    return begin(qdrant, alias, identity, 0, Beginning(GROUP, NOW))[0]


def test_a_new_member_stands_beside_the_one_that_readers_get(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    assert new == Member(
        f"{alias}-{NEW.digest}", f"{GROUP}-{NEW.digest}", NEW, current=False, began="2026-11-30T12:00:00+00:00"
    )
    current, other = members(qdrant, alias)
    assert (current.name, current.group, current.current) == (f"{alias}-{OLD.digest}", GROUP, True)
    assert other == new
    assert find_collection(qdrant, alias, OLD).name == current.name


def test_begun_again_it_is_the_same_and_another_one_is_refused(qdrant: Connection, alias: str) -> None:
    first = begun(qdrant, alias)
    assert begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW)) == (first, False)
    with pytest.raises(Misconfigured, match="--drop removes it"):
        begin(qdrant, alias, ModelIdentity("another", "", "mean", "", "", 4), 0, Beginning(GROUP, NOW))


def test_each_group_writes_its_own_whatever_readers_get(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    for _ in range(2):
        assert open_collection(qdrant, alias, OLD, group=GROUP).name == f"{alias}-{OLD.digest}"
        assert open_collection(qdrant, alias, NEW, group=new.group).name == new.name
        switch(qdrant, alias, new)
    assert find_collection(qdrant, alias, OLD, NEW).model == NEW.digest


def test_forward_is_to_the_later_one_and_back_to_the_earlier(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    assert goes_forward(members(qdrant, alias))
    switch(qdrant, alias, new)
    back = members(qdrant, alias)
    assert not goes_forward(back)
    assert other(back).group == GROUP
    with pytest.raises(Misconfigured, match="no migration"):
        other(back[:1])


def test_a_worker_of_neither_group_or_of_the_other_model_is_refused(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    with pytest.raises(Misconfigured, match=f"'third'.*{alias}-{OLD.digest} by {GROUP}.*{new.group}"):
        open_collection(qdrant, alias, OLD, group="third")
    with pytest.raises(Misconfigured, match="another model"):
        open_collection(qdrant, alias, NEW, group=GROUP)


def test_without_a_group_as_for_a_file_the_model_decides(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    assert open_collection(qdrant, alias, NEW).name == new.name
    assert open_collection(qdrant, alias, OLD).name == f"{alias}-{OLD.digest}"


def test_who_writes_a_member_is_not_ended_by_the_switch(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    ledger = QdrantLedger(qdrant, alias, open_collection(qdrant, alias, OLD, group=GROUP))
    before = ledger.state()
    switch(qdrant, alias, new)
    assert ledger.state() == before


def test_a_model_is_migrated_to_itself_by_another_name(qdrant: Connection, alias: str) -> None:
    """As for other chunks, or smaller copies of the vectors."""
    new = begun(qdrant, alias, OLD)
    assert (new.name, new.group) == (f"{alias}-{OLD.digest}-2", f"{GROUP}-{OLD.digest}-2")
    assert open_collection(qdrant, alias, OLD, group=new.group).name == new.name
    assert open_collection(qdrant, alias, OLD, group=GROUP).name == f"{alias}-{OLD.digest}"


def test_what_readers_get_is_never_dropped(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    current = members(qdrant, alias)[0]
    with pytest.raises(Misconfigured, match="what readers"):
        drop(qdrant, alias, current)
    switch(qdrant, alias, new)
    drop(qdrant, alias, current)
    assert [(member.name, member.current) for member in members(qdrant, alias)] == [(new.name, True)]
    assert open_collection(qdrant, alias, NEW, group=new.group).name == new.name
    with pytest.raises(Misconfigured, match=f"{new.name} by {new.group}"):
        open_collection(qdrant, alias, NEW, group=GROUP)  # one who has missed it


def test_begun_again_after_the_switch_or_the_drop_it_goes_on_with_what_readers_get(
    qdrant: Connection, alias: str
) -> None:
    for identity in (NEW, OLD):
        name = f"{alias}-{identity.digest}"
        new = begun(qdrant, name, identity)
        old = members(qdrant, name)[0]
        for step in ("switched", "rolled back", "dropped"):
            switch(qdrant, name, {"rolled back": old}.get(step, new))
            if step == "dropped":
                drop(qdrant, name, old)
            again, fresh = begin(qdrant, name, identity, 0, Beginning(GROUP, NOW))
            assert (again.name, again.group, fresh) == (new.name, new.group, False), step


def test_the_same_model_once_more_is_asked_for_by_name(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias, OLD)
    switch(qdrant, alias, new)
    with pytest.raises(Misconfigured, match="kept beside"):
        begin(qdrant, alias, OLD, 0, Beginning(GROUP, NOW, again=True))
    drop(qdrant, alias, members(qdrant, alias)[1])
    later = datetime(2026, 12, 1, tzinfo=UTC)
    third, fresh = begin(qdrant, alias, OLD, 0, Beginning(GROUP, later, again=True))
    assert (third.name, third.group, fresh) == (f"{alias}-{OLD.digest}", f"{GROUP}-{OLD.digest}", True)


def test_a_mark_is_corrected_while_nothing_depends_on_it(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    drop(qdrant, alias, new)
    assert open_collection(qdrant, alias, OLD, group="renamed").name == f"{alias}-{OLD.digest}"
    begin(qdrant, alias, NEW, 0, Beginning("renamed", NOW))
    assert members(qdrant, alias)[0].group == "renamed"


def test_a_collection_that_nobody_marked_is_in_nobodys_way(qdrant: Connection, alias: str) -> None:
    create(qdrant, f"{alias}-{NEW.digest}", NEW, Shape(8), {})
    assert begun(qdrant, alias).name == f"{alias}-{NEW.digest}-2"


def test_another_group_than_the_one_that_it_began_with_is_refused(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    with pytest.raises(Misconfigured, match=f"written by group '{new.group}', migration.group is 'mine'"):
        begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW, "mine"))


def test_workers_mark_parts_at_the_same_time_and_the_first_says_how_they_are_cut(
    qdrant: Connection, alias: str
) -> None:
    open_collection(qdrant, alias, OLD, group=GROUP)
    new, _ = begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW, copies=True))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: mark_copied(qdrant, new.name, part), range(PARTS)))
    assert other(members(qdrant, alias)).whole
    assert [copy_rules(qdrant, new.name, rules) for rules in ("first", "second")] == ["first", "first"]


def test_a_second_migration_names_its_group_after_the_first_one(qdrant: Connection, alias: str) -> None:
    new = begun(qdrant, alias)
    switch(qdrant, alias, new)
    drop(qdrant, alias, members(qdrant, alias)[1])
    third = ModelIdentity("third", "", "mean", "", "", 4)
    assert begin(qdrant, alias, third, 0, Beginning(new.group, NOW))[0].group == f"{GROUP}-{third.digest}"


def test_which_parts_were_copied_is_remembered_and_nothing_else_is_forgotten(qdrant: Connection, alias: str) -> None:
    open_collection(qdrant, alias, OLD, group=GROUP)
    new, _ = begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW, copies=True))
    for part in (5, 0, 5):
        mark_copied(qdrant, new.name, part)
    again = other(members(qdrant, alias))
    assert (again.copied, again.group, again.began, again.whole) == ((0, 5), new.group, new.began, False)
    for part in range(PARTS):
        mark_copied(qdrant, new.name, part)
    assert other(members(qdrant, alias)).whole


def test_the_group_of_the_new_member_may_be_named_but_not_like_the_old_one(qdrant: Connection, alias: str) -> None:
    open_collection(qdrant, alias, OLD, group=GROUP)
    with pytest.raises(Misconfigured, match="take another name"):
        begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW, GROUP))
    assert begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW, "next"))[0].group == "next"


def test_a_member_is_written_as_any_collection(qdrant: Connection, alias: str) -> None:
    store = qdrant.store(opened(qdrant, begun(qdrant, alias)))
    event = Event(Record(Partition("t", 0), 1, b"", b""), DocumentKey("", "a"), Order(1, 1), Op.UPSERT, text="text")
    chunk = Chunk("text", 0, 4, "hash")
    store.upsert([Point(event, 0, 1, ("hash",), chunk, np.eye(8, dtype=np.float32)[0])])
    assert [hit.text for hit in store.living()] == ["text"]


def test_nothing_is_migrated_where_nothing_is_or_where_the_name_is_no_alias(qdrant: Connection, alias: str) -> None:
    with pytest.raises(Misconfigured, match="nothing to migrate"):
        begin(qdrant, alias, NEW, 0, Beginning(GROUP, NOW))
    assert members(qdrant, alias) == []
    name = open_collection(qdrant, alias, OLD).name
    with pytest.raises(Misconfigured, match="is a collection itself"):
        begin(qdrant, name, NEW, 0, Beginning(GROUP, NOW))


def test_names_and_groups_are_told_apart() -> None:
    assert free_name("a", "1234", {"a-1234", "a-1234-2"}) == "a-1234-3"
    assert group_for("group", "a", "a-1234", "a-5678") == "group-5678"
    assert group_for("group-1234", "a", "a-1234", "a-5678") == "group-5678"
    assert group_for("-1234", "a", "a-1234", "a-5678") == "-1234-5678"
