"""The JSON Schemas that ship with Penstock, as data."""

from pathlib import Path

from penstock.core.errors import Misconfigured

SUFFIX = ".schema.json"


def folder() -> Path:
    """Inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "data" / "schemas"
    return inside if inside.is_dir() else package.parent.parent / "schemas"


def names() -> list[str]:
    """Event and version, like ``document.v1``."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder().glob(f"*{SUFFIX}"))


def text(name: str) -> str:
    """One schema as JSON text; raises Misconfigured for an unknown name."""
    if name not in names():
        raise Misconfigured(f"there is no schema {name!r}; there are {', '.join(names())}")
    return (folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8")
