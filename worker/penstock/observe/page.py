"""Pages that load nothing: their style and script are in them, and a browser runs no other."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Page(NamedTuple):
    """A page, and the Content-Security-Policy that it is served with."""

    html: str
    policy: str


def assembled(folder: Path, name: str, scripts: Sequence[str]) -> Page:
    """Of ``name``.html and .css, and the scripts in their order."""
    style = (folder / f"{name}.css").read_text(encoding="utf-8")
    script = "".join((folder / f"{script}.js").read_text(encoding="utf-8") for script in scripts)
    html = (folder / f"{name}.html").read_text(encoding="utf-8")
    html = html.replace("<style></style>", f"<style>{style}</style>")
    html = html.replace("<script></script>", f"<script>{script}</script>")
    return Page(html, content_policy(html))


def content_policy(html: str) -> str:
    """Only the page's own style and script may run, and it may talk to its server only."""

    def hashes(tag: str) -> str:
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
