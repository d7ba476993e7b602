"""A page as text: headings, paragraphs, lists, a line for each row of a table; without scripts and navigation.

One pass over the tree, without recursion: pages nest as deep as they like.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from penstock.adapters.bodies.boilerplate import Boilerplate, names
from penstock.core.bodies import Block, Body, joined
from penstock.core.errors import InvalidEvent

HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = HEADINGS.keys() | names(
    "address article aside body center dd details dir div dl dt fieldset figcaption figure header hgroup hr legend li "
    "main menu ol p pre section summary table tbody tfoot thead tr td th caption ul blockquote"
)
LISTS = names("ul ol dl")
ENDS_HEADING = names("p ul ol dl table pre blockquote hr")
ENDS_ROW = frozenset(["table", "pre", *HEADINGS])
ENDS_PRE = frozenset(["table", "ul", "ol", *HEADINGS])
LONGEST_ROW = 4000
"""Characters: a longer one is no row of data but the layout of a page."""

DEEPEST = 512
"""Elements in each other, as in browsers: what a parser takes grows with the square of it."""

MOST_REPEATED = 5_000_000
"""Elements that a parser may have to make of formatting that is never closed: it opens all of it in each paragraph."""

TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]*)", re.IGNORECASE)
NEVER_DEEP = names(
    "area base br col embed hr img input link meta param source track wbr p li dt dd td th tr tbody thead tfoot option "
    "optgroup colgroup html head body rp rt script style"
)
"""Elements that have no end, or need none: their like ends them."""

LONG_TAG, QUOTED = re.compile(r"<[a-zA-Z][^<>]{10000,}"), re.compile(r"\"[^\"]*\"|'[^']*'")
MOST_ATTRIBUTES = 2000

FORMATTING = names("a b big code em font i nobr s small strike strong tt u")
SELF_CLOSED = re.compile(r"<(script|title|style|iframe|textarea|a|div|span|p|td|li|b|i|em)\b([^<>]*)/>", re.IGNORECASE)
"""XHTML that is served as HTML: there <script/> swallows what follows."""

BREAK = "\0"
"""For <br>; no parser yields one."""

INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
ANCHORS = " \u00b6\u00a7\u25c6\U0001f517\u00a0\uf0c1"
"""What generators put behind headings, to link to them."""


class State(NamedTuple):
    """What the text in hand is part of."""

    kind: str = "p"
    level: int = 0
    depth: int = 0
    in_main: bool = False


def read_html(html: str) -> Body:
    """A page's text with its headings; raises InvalidEvent for one that nests too deep."""
    _refuse_deep(html)
    html = html.replace("\0", " ")
    if "/xhtml" in html[:1000].lower() or html.startswith("<?xml"):
        html = SELF_CLOSED.sub(r"<\1\2></\1>", html)
    tree = LexborHTMLParser(html.encode("utf-8", "replace"))
    title = tree.css_first("head title")
    named = "" if title is None else _in_line(title.text())
    return joined(named, _Walk(tree, len(html)).blocks()) if tree.body is not None else Body("", (), named)


@dataclass(slots=True)
class _Walk:
    """The elements in their order: ``opened`` are those around, with the state to go back to where they changed it."""

    tree: LexborHTMLParser
    length: int
    state: State = field(default_factory=State)
    buffer: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    opened: list[tuple[LexborNode, str, State | None]] = field(default_factory=list)
    done: list[Block] = field(default_factory=list)

    def blocks(self) -> list[Block]:
        """Of the page's body."""
        boilerplate = Boilerplate(self.tree, self.length)
        node = self.tree.body.first_child if self.tree.body is not None else None
        while node is not None or self.opened:
            if node is None:
                node = self._close()
            elif self._enters(node, boilerplate):
                node = node.first_child
            else:
                node = node.next
        self._flush()
        return self.done

    def _enters(self, node: LexborNode, boilerplate: Boilerplate) -> bool:
        """Whether its children come next."""
        tag = node.tag or "-"
        if tag == "-text":
            self.buffer.append(node.text_content or "")
        elif tag == "br":
            self.buffer.append("\n" if self.state.kind == "pre" else BREAK)
        elif tag.startswith("-"):
            return False
        elif boilerplate.drops(node, tag, in_main=self.state.in_main):
            self.buffer.append("" if tag == "a" else " ")
            if tag == "header":  # of the page's own head, what it is called
                self._flush()
                self.done += _headings_in(node)
        elif tag in BLOCKS:
            self._open(node, tag)
            return True
        else:
            self.opened.append((node, tag, None))
            return True
        return False

    def _open(self, node: LexborNode, tag: str) -> None:
        self._end_what_cannot_hold(tag)
        before = self.state
        if before.kind != "row":
            self.state = _inside(node, tag, before)
        self.opened.append((node, tag, before))

    def _end_what_cannot_hold(self, tag: str) -> None:
        kind = self.state.kind
        if kind == "row":
            if tag in ENDS_ROW or (tag in ENDS_HEADING and sum(map(len, self.buffer)) > LONGEST_ROW):
                self._release()
            else:
                self.buffer.append(" ")
        elif kind == "h" and tag not in HEADINGS:
            if tag in ENDS_HEADING and "".join(self.buffer).strip():
                self._release()
            else:
                self.buffer.append(" ")
        elif kind == "pre" and tag not in ENDS_PRE:
            self.buffer.append("\n")
        else:
            self._flush()

    def _close(self) -> LexborNode | None:
        node, tag, before = self.opened.pop()
        if before is not None:
            kind = self.state.kind
            if kind == "row" and tag in ("td", "th"):
                self.cells.append(_in_line("".join(self.buffer)))
                self.buffer.clear()
            elif tag == "tr" or kind not in ("h", "row", "pre") or before.kind != kind:
                self._flush()
            else:
                self.buffer.append("\n" if kind == "pre" else " ")
            self.state = before
        return node.next

    def _release(self) -> None:
        """End the heading or the row in hand: what is left inside it are plain paragraphs."""
        held = self.state.kind
        self._flush()
        for at in range(len(self.opened) - 1, -1, -1):
            node, tag, before = self.opened[at]
            if before is not None:
                if before.kind != held:
                    break
                self.opened[at] = node, tag, before._replace(kind="p", level=0)
        self.state = self.state._replace(kind="p", level=0)

    def _flush(self) -> None:
        kind, level, depth, _ = self.state
        raw = "".join(self.buffer).translate(INVISIBLE)
        self.buffer.clear()
        match kind:
            case "row":
                row = [*self.cells, _in_line(raw)]
                self.cells.clear()
                text = " | ".join(row).rstrip(" |") if sum(map(bool, row)) > 1 else "".join(row)
            case "pre":
                text = "\n".join(line.rstrip() for line in raw.replace(BREAK, "\n").splitlines()).strip("\n")
            case "h":
                text = _in_line(raw).rstrip(ANCHORS)
            case _:
                text = "\n".join(_in_line(line) for line in raw.split(BREAK)).strip("\n")
        if text:
            self.done.append(Block(kind, level if kind == "h" else depth, text))


def _inside(node: LexborNode, tag: str, before: State) -> State:
    """What an element makes of the text in it."""
    if tag in HEADINGS:
        return before._replace(kind="h", level=HEADINGS[tag])
    if tag == "tr":
        return before._replace(kind="row")
    if tag in LISTS:
        return before._replace(depth=before.depth + 1)
    if tag in ("li", "dd", "dt", "pre") and before.kind != "h":
        return before._replace(kind=tag)
    if tag == "div" and (level := _as_heading(node)):
        return before._replace(kind="h", level=level)
    return before._replace(in_main=True) if tag in ("main", "article") else before


def _as_heading(node: LexborNode) -> int:
    """Level of a heading that is no such element: by its role, or a page's title of doxygen's."""
    attributes = node.attributes
    if attributes.get("role") == "heading":
        level = attributes.get("aria-level") or ""
        return min(int(level), 6) if level.isdecimal() and level != "0" else 2
    return 1 if attributes.get("class") == "headertitle" else 0


def _headings_in(node: LexborNode) -> list[Block]:
    found = [(HEADINGS[one.tag or "h1"], _in_line(one.text()).rstrip(ANCHORS)) for one in node.css(",".join(HEADINGS))]
    return [Block("h", level, text) for level, text in found if text]


def _in_line(raw: str) -> str:
    return " ".join(raw.translate(INVISIBLE).replace(BREAK, " ").split())


def _refuse_deep(html: str) -> None:
    """Raises InvalidEvent for a page that would take minutes, or all memory."""
    for found in LONG_TAG.finditer(html):
        if len(QUOTED.sub("", found[0]).split()) > MOST_ATTRIBUTES:
            raise InvalidEvent(f"an element of the page has more than {MOST_ATTRIBUTES} attributes")
    tags = html.count("<")
    if tags <= DEEPEST:
        return
    opened: Counter[str] = Counter()
    depth = formatting = deepest = 0
    for end, name in TAG.findall(html):
        tag = name.lower()
        if tag in NEVER_DEEP or (end and not opened[tag]):
            continue
        step = -1 if end else 1
        opened[tag] += step
        depth += step
        if depth > DEEPEST:
            raise InvalidEvent(f"the page nests more than {DEEPEST} elements in each other")
        if tag in FORMATTING:
            formatting += step
            deepest = max(deepest, formatting)
    if deepest * tags > MOST_REPEATED:
        raise InvalidEvent(f"{deepest} elements of formatting are not closed, and each paragraph would repeat them")
