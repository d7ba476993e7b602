"""HTML and Markdown as text with headings, and the chunks that keep to them."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.adapters.bodies.html import read_html
from penstock.adapters.bodies.markdown import read_markdown
from penstock.assembly.index import BODIES
from penstock.core.bodies import sections
from penstock.core.documents import Chunk
from penstock.core.errors import InvalidEvent
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.mapping import MappingSpec
from penstock.events.rules import DocumentRules
from penstock.fakes import WordTokenizer
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.passages import Text

PAGE = """<!DOCTYPE html><html><head><title>Weirs - The Site</title><style>p {}</style></head><body>
<nav><a href=/>Home</a> <a href=/b>Blog</a></nav>
<div class="breadcrumbs">Home / Weirs</div>
<main><h1>Weirs<a class="headerlink" href="#weirs">¶</a></h1>
<p>A <b>we</b>ir raises the&nbsp;level&shy; of a <i>river</i>.<br>It is old.</p>
<script>alert("no")</script><noscript>Turn it on</noscript>
<h2>Kinds</h2>
<ul><li>sharp<ul><li>very</li></ul></li><li>broad &amp; flat</li></ul>
<h3>Sizes</h3>
<table><thead><tr><th>name</th><th>height</th></tr></thead><tbody><tr><td>small</td><td>1 m</td></tr></tbody></table>
<pre>if a < b:
    pour()</pre>
<dl><dt>crest</dt><dd>the top</dd></dl>
<p hidden>secret</p><p style="display: none">gone</p>
</main><footer>© nobody</footer></body></html>"""

MARKDOWN = """---
title: not text
---
# Weirs

A **we**ir raises the level of a [river](http://example.com/long/address).

Kinds
-----

- sharp
  - very
- broad & flat

### Sizes

| name | height |
|---|---|
| small | 1 m |

```python
# no heading
if a < b:
```
"""


def test_a_page_becomes_its_text() -> None:
    body = read_html(PAGE)
    assert body.text == (
        "Weirs\n\nA weir raises the level of a river.\nIt is old.\n\nKinds\n\n- sharp\n  - very\n- broad & flat\n\n"
        "Sizes\n\nname | height\nsmall | 1 m\n\nif a < b:\n    pour()\n\ncrest\nthe top"
    )
    assert [(body.text[at : at + len(text)], level) for at, level, text in body.headings] == [
        ("Weirs", 1),
        ("Kinds", 2),
        ("Sizes", 3),
    ]
    assert body.title == "Weirs"


def test_markdown_becomes_its_text() -> None:
    body = read_markdown(MARKDOWN)
    assert body.text == (
        "Weirs\n\nA weir raises the level of a river.\n\nKinds\n\n- sharp\n  - very\n- broad & flat\n\n"
        "Sizes\n\nname | height\nsmall | 1 m\n\n# no heading\nif a < b:"
    )
    assert [(level, text) for _, level, text in body.headings] == [(1, "Weirs"), (2, "Kinds"), (3, "Sizes")]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("no tags at all", "no tags at all"),
        ("a &lt; b", "a < b"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<h1>open<p>text", "open\n\ntext"),
        ("<table><tr><td>layout <p>of</p> a page</td></tr></table>", "layout of a page"),
        ("<table><tr><td>a<table><tr><td>b</td><td>c</td></tr></table></td></tr></table>", "a\nb | c"),
        ("<div>mixed<p>up</p>text</div>", "mixed\n\nup\n\ntext"),
        ("<p>日本語の<b>文</b>章</p>", "日本語の文章"),
        ("<article><header><h1>In it</h1></header>text</article>", "In it\n\ntext"),
        ("<header><a>Menu</a><h1>Site</h1></header>text", "Site\n\ntext"),
        ('<form id="aspnet"><h1>All of it</h1><p>text</p></form>', "All of it\n\ntext"),
        ("<!-- comment --><![CDATA[data]]><p>text", "text"),
        ("<p>a\0b", "a b"),
        ('<?xml version="1.0"?><html><head><title/><script src="x"/></head><body><p>text</p></body></html>', "text"),
        ("<svg><text>drawn</text></svg><math><mi>x</mi></math>", "x"),
        ("<aside class=note>Note: this</aside><aside>Advert</aside>", "Note: this"),
        (
            "<div class=sidebar><p>A box of text in a book, which is content.</p></div>",
            "A box of text in a book, which is content.",
        ),
        ("<div class=sidebar><a>one</a> <a>two</a></div>text", "text"),
    ],
)
def test_pages_as_people_write_them(html: str, text: str) -> None:
    assert read_html(html).text == text


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("<>/ph1divtableré&;\"'= \n\0\ud800"), max_size=200))
def test_whatever_comes_is_read(html: str) -> None:
    for read in (read_html, read_markdown):
        body = read(html)
        for start, _, text in body.headings:
            assert body.text[start : start + len(text)] == text


HOSTILE = {
    "divs": ("<div>" * 80_000, "nests more than 512 elements"),
    "elements of nobody": ("<x>" * 80_000, "nests more than 512 elements"),
    "lists": ("<ul><li>" * 50_000, "nests more than 512 elements"),
    "tables": ("<table><tr><td>" * 25_000, "nests more than 512 elements"),
    "formatting": ("".join(f"<b a={n}>" for n in range(400)) + "<p>x" * 90_000, "are not closed"),
    "tags that do not end": ("<a href=" * 45_000, "nests more than 512 elements"),
    "ends of others": ("<div></b>" * 40_000, "nests more than 512 elements"),
    "attributes": ("<div " + " ".join(f"a{n}" for n in range(40_000)) + ">", "more than 2000 attributes"),
    "quotes": (">" * 5000 + " a", None),
    "brackets": ("[" * 40_000, None),
    "stars": ("*a " * 40_000, None),
    "paragraphs": ("<p>a" * 90_000, None),
    "cells": ("<table>" + "<tr><td>a<td>b" * 25_000, None),
    "comments": ("<!--" * 90_000, None),
    "entities": ("&amp" * 90_000, None),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.timeout(60)
def test_a_hostile_page_takes_seconds_and_no_more(kind: str) -> None:
    """A parser that took the square of its length would take minutes for these."""
    text, said = HOSTILE[kind]
    if said:
        with pytest.raises(InvalidEvent, match=said):
            read_html(text)
    else:
        read_html(text)
    with suppress(InvalidEvent):
        read_markdown(text)
    assert read_html("<div>" * 500 + "x").text == "x"


def test_a_long_picture_is_no_hostile_page() -> None:
    assert read_html(f'<p>text<img src="data:image/png;base64,{"A B" * 50_000}"></p>').text == "text"


def test_a_rule_at_the_top_of_a_markdown_is_no_front_matter() -> None:
    assert read_markdown("---\n\nThe first part.\n\n---\n\nrest").text == "The first part.\n\nrest"


def test_a_long_heading_is_not_repeated_whole() -> None:
    body = read_html("<h1>x</h1><h2>" + "long " * 20_000 + "</h2>" + "<h3>a</h3>b" * 300)
    assert max(len(heading.text) for heading in body.headings) == 200
    assert len(body.text) > 100_000


def event(value: dict[str, Any], **rules: Any) -> Any:
    record = Record(
        Partition("t", 0), 1, b"a", json.dumps({"id": "a", **value}).encode(), (("type", b"text/html; q=1"),)
    )
    return decode(record, DocumentRules(bodies=BODIES, **rules))


def test_the_format_is_told_by_field_by_mapping_or_by_setting() -> None:
    html = "<h1>Weir</h1><p>A weir.</p>"
    for read in (
        event({"text": html, "format": "html"}),
        event({"text": html, "format": "text/html; charset=utf-8"}),
        event({"text": html}, format="html"),
        event({"text": html}, mapping=MappingSpec(format="@header.type")),
        event({"text": html, "title": "Weir"}, format="html"),
    ):
        assert (read.title, read.text, len(read.headings)) == ("Weir", "Weir\n\nA weir.", 1)
    assert event({"text": html, "title": "Other"}, format="html").title == "Other"
    assert event({"text": html, "format": "text"}, format="html").text == html
    with pytest.raises(InvalidEvent, match="format is 'pdf', none of text, markdown, html"):
        event({"text": "x", "format": "pdf"})
    with pytest.raises(InvalidEvent, match="there is no text in this html"):
        event({"text": "<nav>Home</nav><script>x</script>", "format": "html"})


RULES = ChunkRules(size=32, overlap=4, title=True, prompt="", most=50)


def cut(text: Text, **changes: Any) -> tuple[Chunk, ...]:
    rules = {name: getattr(RULES, name) for name in ("size", "overlap", "title", "prompt", "most", "headings")}
    (found,) = Chunker(WordTokenizer(), ChunkRules(**rules | changes)).chunk([text])
    assert isinstance(found, tuple), found
    return found


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{n}" for n in range(count))


GUIDE = "\n\n".join(
    (
        "# Guide",
        words(10, "intro"),
        "## Install",
        "### Linux",
        words(60, "apt"),
        "### Windows",
        words(12, "msi"),
        "## Use",
        words(9),
    )
)


def test_chunks_keep_to_headings_and_know_their_path() -> None:
    body = read_markdown(GUIDE)
    found = cut(Text("Guide", body.text, body.headings))
    assert [chunk.path for chunk in found[:1] + found[-2:]] == [(), ("Install", "Windows"), ("Use",)]
    linux = found[1:-2]
    assert {chunk.path for chunk in linux} == {("Install", "Linux")}
    assert len(linux) > 2
    assert linux[0].text.startswith("Install\n\nLinux\n\napt0 ")
    starts = {start for start, _, _ in body.headings}
    for chunk in found:
        assert body.text[chunk.start : chunk.end] == chunk.text
        assert len(chunk.tokens) <= RULES.size
        inside = [at for at in starts if chunk.start < at < chunk.end]
        assert not inside or chunk is linux[0], "a heading alone goes with what follows"


def test_the_path_is_embedded_or_not() -> None:
    body = read_markdown(GUIDE)
    text, moved = Text("T", body.text, body.headings), read_markdown(GUIDE.replace("## Install", "## Set up"))
    changed = Text("T", moved.text, moved.headings)
    windows = [
        next(c for c in cut(of, headings=on) if c.path[-1:] == ("Windows",))
        for on in (True, False)
        for of in (text, changed)
    ]
    assert windows[0].text == windows[1].text
    assert windows[0].hash != windows[1].hash, "another heading above is another text to the model"
    assert windows[2].hash == windows[3].hash
    assert RULES.fingerprint != ChunkRules(32, 4, title=True, prompt="", most=50, headings=False).fingerprint


def test_a_page_of_many_sections_is_no_letter() -> None:
    body = read_markdown("\n\n".join(f"## Part {n}\n\n{words(3)}" for n in range(200)))
    assert len(cut(Text("", body.text, body.headings), most=100)) <= 100


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 70)), min_size=1, max_size=12), st.booleans())
def test_nothing_is_lost_between_headings(parts: list[tuple[int, int]], titled: bool) -> None:
    body = read_markdown(
        "\n\n".join(f"{'#' * level} H{at}\n\n{words(n, f'w{at}x')}" for at, (level, n) in enumerate(parts))
    )
    found = cut(Text("a title of several words" if titled else "", body.text, body.headings), most=1000)
    assert set(body.text.split()) == {word for chunk in found for word in chunk.text.split()}
    assert [chunk.start for chunk in found] == sorted(chunk.start for chunk in found)
    for chunk in found:
        assert body.text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.tokens) <= RULES.size
        bare = Chunk(chunk.text, chunk.start, chunk.end, chunk.hash, path=chunk.path)
        title = "a title of several words" if titled else ""
        assert Chunker(WordTokenizer(), RULES).tokens(title, bare) == chunk.tokens
    spans = sections(body.text, body.headings)
    assert "".join(body.text[span.start : span.end] for span in spans) == body.text
