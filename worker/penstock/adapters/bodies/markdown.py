"""Markdown as text, by way of the HTML that it stands for: CommonMark with tables."""

import re

from markdown_it import MarkdownIt

from penstock.adapters.bodies.html import read_html
from penstock.core.bodies import Body
from penstock.core.errors import InvalidEvent

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n[\w\"'-]+[ \t]*:.*?^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
"""What static site generators read: YAML, and no part of the text."""

LONGEST, MOST_BRACKETS = 1_000_000, 50_000
"""Characters, and brackets that may begin a link: what each takes to read grows faster than a text does."""


def read_markdown(text: str) -> Body:
    """A text with its headings; raises InvalidEvent for one that nests too deep."""
    if len(text) > LONGEST or text.count("[") > MOST_BRACKETS:
        raise InvalidEvent(f"the markdown has more than {LONGEST} characters, or {MOST_BRACKETS} brackets")
    return read_html(PARSER.render(FRONT_MATTER.sub("", text.removeprefix("\ufeff"), count=1)))
