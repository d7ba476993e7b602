"""What of a page is no content: by element, by ARIA role, and by exact classes and ids of those who generate pages.

Exact, since parts of names lie: ``header`` is the navigation of Texinfo and holds the title in javadoc, ``sidebar`` is
a menu in rustdoc and a box of text in DocBook. So some count only where they are mostly links.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode


def names(text: str) -> frozenset[str]:
    """Of elements or classes, with spaces between them."""
    return frozenset(text.split())


DROPPED = names(
    "script style template noscript svg iframe object embed applet audio video canvas map nav footer button select "
    "textarea input datalist dialog head title noframes noembed rp rt annotation annotation-xml"
)
LOOKED_AT = names("div table ul ol dl p section header footer aside nav a form menu") | DROPPED
"""Elements whose attributes are asked: spans and code are many, and never navigation."""

ROLES = names("navigation search banner contentinfo complementary menu menubar")
NAVIGATION = names(
    "navheader navfooter docnav nav-panel navbar nav-bar topnav bottomnav subnav top-nav sub-nav mobile-nav "
    "mobile-topbar nav-content navpath nav-path side-nav nav-tree nav_flow sphinxsidebar breadcrumb breadcrumbs "
    "skip-nav skip-link skip-to-content headerlink header-link permalink copiable-anchor anchor-link linenos lineno "
    "toplang bottomlang searchbox search-container searchmenu mainmenu submenu site-header site-footer page-footer "
    "left_bar right_bar longdesc-link nav_table footer-relations navigationbar global-nav"
)
PERHAPS = names(
    "nav navigation menu related sidebar sidenav header page-header package-header footer copyright-footer gtoc"
)
SHORT = names("footer copyright-footer header page-header package-header navigation nav")
NOTES = names("footnote footnote-list admonition note tip warning system-message")
"""Asides that belong to the text."""

MAIN = "h1,h2,h3,main,article,.titlepage,.headertitle"
FEW, FEW_OF_A_FOOTER = 300, 800
"""Characters of a header or a footer that is one."""

NOT_HERE = '[hidden]:not([hidden="until-found"]),[aria-hidden="true"],[style*="display" i]'
HIDDEN = f'{NOT_HERE},[role="navigation"],[role="search"],td.linenos,td.gutter'
NOT_SHOWN = re.compile(r"(?:^|;)\s*display\s*:\s*none", re.IGNORECASE)


class Boilerplate:
    """Of one page; asks no more of it than a few times its length, however its parts are nested."""

    def __init__(self, tree: LexborHTMLParser, length: int) -> None:
        self._left = 4 * length
        self._hidden = {node.mem_id for node in tree.css(HIDDEN) if _is_hidden(node)}

    def drops(self, node: LexborNode, tag: str, *, in_main: bool) -> bool:
        """Whether an element is none of the page's content."""
        if tag not in LOOKED_AT:
            return bool(self._hidden) and node.mem_id in self._hidden
        if tag in DROPPED or node.mem_id in self._hidden:
            return True
        if tag == "form":  # a search box, unless all of the page is one
            return node.css_first(MAIN) is None and _letters(node) < FEW_OF_A_FOOTER
        tokens = _tokens(node.attributes)
        match tag:
            case "header":
                return not in_main
            case "aside":
                return tokens.isdisjoint(NOTES)
        perhaps = tokens & PERHAPS
        if tag == "table":  # the list of a chapter's sections, in Texinfo
            perhaps -= {"related", "menu"}
        surely = node.attributes.get("role") in ROLES or not tokens.isdisjoint(NAVIGATION)
        return surely or (bool(perhaps) and self._is_navigation(node, perhaps))

    def _is_navigation(self, node: LexborNode, named: set[str]) -> bool:
        if self._left < 0 or node.css_first(MAIN) is not None:
            return False
        letters = _letters(node)
        self._left -= letters + 100
        if named & SHORT and letters < (FEW_OF_A_FOOTER if "footer" in named else FEW):
            return True
        return sum(map(_letters, node.css("a"))) * 2 >= letters


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return node.tag != "body"
    if attributes.get("role") in ("navigation", "search") or node.tag == "td":
        return node.tag != "td" or not _tokens(attributes).isdisjoint({"linenos", "gutter"})
    return bool(NOT_SHOWN.search(attributes.get("style") or ""))


def _tokens(attributes: dict[str, str | None]) -> set[str]:
    return {*(attributes.get("class") or "").lower().split(), *(attributes.get("id") or "").lower().split()}


def _letters(node: LexborNode) -> int:
    return len("".join(node.text().split()))
