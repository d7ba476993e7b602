"""Makes values.schema.json and the chart's README from values.yaml and Penstock's settings.

``python helm/generate.py``, after a change of either.

With --check nothing is written, and the exit code says whether both are up to date.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import SecretStr

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "worker"))

from penstock.observe.index_metrics import FRESH_S  # noqa: E402
from penstock.settings import Settings  # noqa: E402

CHOICES = {
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "model.accelerator": ["cpu", "cuda", "tensorrt"],
    "model.source": ["image", "claim", "shipped"],
    "index.autoscaling.by": ["none", "keda", "hpa"],
    "secrets.external.storeKind": ["SecretStore", "ClusterSecretStore"],
    "query.service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    "monitoring.freshnessObjectiveSeconds": [int(bound) for bound in FRESH_S if bound >= 1 and bound == int(bound)],
}
OPEN = {
    *("podLabels", "podAnnotations", "nodeSelector", "affinity", "serviceAccount.annotations", "monitoring.labels"),
    "secrets.external.data",
    *(f"{worker}.resources.{kind}" for worker in ("index", "query") for kind in ("requests", "limits")),
}
"""Maps whose names are Kubernetes' or yours."""
FIXED = {"http": ("enabled", "host", "port"), "monitor": ("host", "port")}
"""Settings that probes, services and policies rely on: the chart's own."""
FILLED = {f"networkPolicy.{service}Ports" for service in ("kafka", "qdrant")}
"""Lists that mean everything where they are empty."""
KEY = re.compile(r"^(\s*)([A-Za-z_]+):\s*(.*)$")


def settings_schema() -> dict[str, Any]:
    """Groups and fields as in Settings, but for secrets: they are not for values."""
    groups = {name: {"$ref": f"#/$defs/{name}"} for name in Settings.model_fields}
    return {"type": "object", "additionalProperties": False, "properties": groups}


def group_schemas() -> dict[str, Any]:
    """One definition per group of settings, and what these refer to: a reference is looked up at the top."""
    made: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        model: Any = field.annotation
        whole = model.model_json_schema()
        made |= whole.get("$defs", {}) | {name: _group(model, whole, FIXED.get(name, ()))}
    return made


def _group(model: Any, schema: dict[str, Any], fixed: Iterable[str]) -> dict[str, Any]:
    secret = [name for name, field in model.model_fields.items() if _holds_secret(field.annotation)]
    for name in (*secret, *fixed):
        del schema["properties"][name]
    for field in schema["properties"].values():
        field.pop("title", None)
    return {name: schema[name] for name in ("type", "description", "properties", "additionalProperties")}


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def pipelines_schema() -> dict[str, Any]:
    """Streams by a name that Kubernetes takes as part of another."""
    name = {"pattern": "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"}
    return {"type": "object", "additionalProperties": settings_schema(), "propertyNames": name}


def schema_of(value: Any, path: str = "") -> dict[str, Any]:
    """What a value like this one must be."""
    special = {"index.pipelines": pipelines_schema()}
    special |= {name: settings_schema() for name in ("settings", "query.settings")}
    special |= {name: {"enum": known} for name, known in CHOICES.items()} | {key: {"type": "object"} for key in OPEN}
    if path in special:
        return special[path]
    match value:
        case dict():
            parts = {name: schema_of(part, f"{path}.{name}".strip(".")) for name, part in value.items()}
            return {"type": "object", "additionalProperties": False, "properties": parts}
        case list():
            return {"type": "array", "minItems": 1} if path in FILLED else {"type": "array"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": -1 if value < 0 else 0}
        case _:
            return {"type": "string"}


def schema(values: Mapping[str, Any]) -> str:
    """values.schema.json."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": group_schemas(), **schema_of(values)}
    made["properties"]["global"] = {"type": "object"}  # Helm's own
    return json.dumps(made, indent=1) + "\n"


def documented(text: str) -> Iterator[tuple[str, str, str]]:
    """(path, default, meaning) of every value with a comment that begins with ``# --``."""
    path: list[tuple[int, str]] = []
    about: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            about = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and about:
            about.append(stripped.lstrip("# "))
        elif match := KEY.match(line):
            indent = len(match[1])
            path = [*(level for level in path if level[0] < indent), (indent, match[2])]
            if about:
                yield ".".join(name for _, name in path), match[3], " ".join(about)
            about = []


def readme(text: str) -> str:
    """The chart's README."""
    rows = "".join(
        f"| `{path}` | {f'`{value}`' if value else ''} | {about} |\n" for path, value, about in documented(text)
    )
    return f"{(HERE / 'about.md').read_text()}\n## Values\n\n| value | default | meaning |\n|---|---|---|\n{rows}"


def main() -> None:
    """Write, or check."""
    text = (HERE / "values.yaml").read_text()
    made = {"values.schema.json": schema(yaml.safe_load(text)), "README.md": readme(text)}
    if "--check" not in sys.argv:
        for name, content in made.items():
            (HERE / name).write_text(content)
    elif old := [name for name, content in made.items() if (HERE / name).read_text() != content]:
        sys.exit(f"run python helm/generate.py: {', '.join(old)} is not up to date")


if __name__ == "__main__":
    main()
