"""The page to search on, and what a browser may do with it."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

PARTS = Path(__file__).parent / "static"
SCRIPTS = ("text", "hits", "search", "begin")
"""In the order that they are read in."""


def add_page(app: FastAPI) -> None:
    """At the root."""
    page = written()
    policy = content_policy(page)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


def written() -> str:
    """The page in one piece: it loads nothing."""
    style = (PARTS / "page.css").read_text(encoding="utf-8")
    script = "".join((PARTS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    page = (PARTS / "page.html").read_text(encoding="utf-8")
    return page.replace("<style></style>", f"<style>{style}</style>").replace(
        "<script></script>", f"<script>{script}</script>"
    )


def content_policy(page: str) -> str:
    """Only the page's own style and script may run, and it may talk to this server only."""

    def hashes(tag: str) -> str:
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
