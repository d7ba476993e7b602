"""Markdown as text, by way of the HTML that it stands for: CommonMark with tables."""

import re

from markdown_it import MarkdownIt

from penstock.adapters.bodies.html import read_html
from penstock.core.bodies import Body

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n.*?^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
"""What static site generators read: no part of the text."""


def read_markdown(text: str) -> Body:
    """A text with its headings; raises InvalidEvent for one that nests too deep."""
    return read_html(PARSER.render(FRONT_MATTER.sub("", text.removeprefix("\ufeff"), count=1)))
