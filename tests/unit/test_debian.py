"""The split between what models are trained on and what they are measured on."""

import gzip
import json
import random

import pytest

from penstock.evaluate.labelled import read
from training import debian_packages as debian
from training.debian_packages import Package

HELD_OUT = debian.DATA / "held-out"
LONG = "It does the thing that its name says, for everybody who needs it, on any machine that they have. "


def package(name: str, source: str = "", text: str = "", **more: tuple[str, str]) -> Package:
    english = (f"tool to {name}", text or f"{LONG}It is about {name}.\n\n{LONG}{name} again, in other words.")
    return Package(name, source or name, "utils", None, 0, {"en": english, **more})


def corpus() -> dict[str, dict[str, object]]:
    documents: dict[str, dict[str, object]] = {}
    path = debian.DATA / "debian-packages.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        event = json.loads(line)
        if event.get("op") == "delete":
            del documents[event["id"]]
        else:
            documents[event["id"]] = event
    return documents


def test_no_pair_shares_a_family_a_description_or_a_paragraph_with_what_is_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for share in ("NAMED", "WITHIN", "ACROSS", "DANISH"):
        monkeypatch.setattr(debian, share, 1)
    held = [package("gcc-12"), package("blender", de=("3D-Programm", LONG + "Es ist auf Deutsch beschrieben."))]
    paragraph = held[0].texts["en"][1].split("\n\n")[1]
    others = [
        package("gcc-13-doc", source="gcc-13"),
        package("same-short", de=("3D-programm", LONG + "Anders.")),
        package("same-long", text=held[1].texts["en"][1].upper()),
        package("same-paragraph", text=f"Something else first.\n\n{paragraph.replace('12', '13')}"),
    ]
    fine = package("harmless", da=("ufarlig", LONG + "På dansk."))
    made = list(debian.pairs([*held, *others, fine], held))
    assert {pair["group"] for pair in made} == {"harmless"}
    texts = {debian.key(text) for pair in made for text in (pair["query"], pair["document"])}
    assert not texts & {debian.key(text) for one in held for both in one.texts.values() for text in both}
    short, long = fine.texts["da"]
    crossed = {(pair["query"], pair["document"]) for pair in made}
    brief, english = fine.texts["en"]
    assert {(short, long), (short, english), (brief, long), (brief, english), ("harmless", english)} <= crossed


def test_a_stream_leaves_the_corpus_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "REVISED", 20)
    monkeypatch.setattr(debian, "AGAIN", 10)
    packages = [package(f"p{n}") for n in range(50)]
    events = debian.stream(packages[:45], packages[45:], set())
    left: dict[str, object] = {}
    for event in events:
        left[str(event["id"])] = event.get("text")
    assert {name for name, text in left.items() if text is None} == {one.name for one in packages[45:]}
    for one in packages[:45]:
        assert left[one.name] == one.texts["en"][1]
    assert len(events) == 50 + 20 + 10 + 5


def test_the_shipped_queries_are_about_the_shipped_documents() -> None:
    documents = corpus()
    assert len(documents) == 3200
    for path in sorted(HELD_OUT.glob("*.jsonl")):
        labelled = read(path, None)
        for one in labelled:
            (name,) = one.relevant
            assert (documents[name]["language"] == "en") is (path.stem != "other")
            assert debian.key(one.text) != debian.key(str(documents[name]["text"]))
        assert len({one.id for one in labelled}) == len(labelled) > 250


def test_no_document_contains_the_query_that_asks_for_it_but_by_chance() -> None:
    documents = corpus()
    labelled = read(HELD_OUT / "en.jsonl", None)
    some = random.Random(0).sample(labelled, 500)
    inside = sum(debian.key(one.text) in debian.key(str(documents[next(iter(one.relevant))]["text"])) for one in some)
    assert inside < 50
