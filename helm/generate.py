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

import kubernetes_validate
import yaml
from pydantic import SecretStr

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "worker"))

from penstock.observe.index_metrics import FRESH_S  # noqa: E402
from penstock.observe.query_metrics import WAITED_S  # noqa: E402
from penstock.settings import Settings  # noqa: E402

EXPORTER = "monitoring.lagExporter"
KUBERNETES = "v1.37.0"
"""Whose types are taken for what is passed on to it."""

CHOICES = {
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "model.accelerator": ["cpu", "cuda", "tensorrt"],
    "model.source": ["image", "claim", "fetch", "shipped"],
    "dnsPolicy": ["", "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    "index.autoscaling.by": ["none", "keda", "hpa"],
    "query.autoscaling.by": ["none", "cpu", "hpa", "keda"],
    "secrets.external.storeKind": ["SecretStore", "ClusterSecretStore"],
    "query.service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    "monitoring.freshnessObjectiveSeconds": [int(bound) for bound in FRESH_S if bound >= 1 and bound == int(bound)],
    "monitoring.queryObjectiveSeconds": [int(bound) for bound in WAITED_S if bound >= 1 and bound == int(bound)],
} | {
    f"{kind}.autoscaling.authentication.kind": ["TriggerAuthentication", "ClusterTriggerAuthentication"]
    for kind in ("index", "query")
}
TEXTS = {
    *("commonLabels", "podLabels", "podAnnotations", "deploymentAnnotations", "nodeSelector", "monitoring.labels"),
    f"{EXPORTER}.nodeSelector",
    *("serviceAccount.annotations", "query.service.annotations", "query.ingress.annotations"),
    "query.httpRoute.annotations",
}
"""Maps from names of yours to text."""
AT_LEAST_ONE = {"model.startupSeconds", "index.autoscaling.max", "query.autoscaling.max", "gpu.count"}
NAMES = {"fullnameOverride": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"}
OPEN = {"secrets.external.data", "index.autoscaling.metadata", "query.autoscaling.metadata"}
"""Maps whose names are another program's."""
PASSED_ON = {
    "strategy": "io.k8s.api.apps.v1.DeploymentStrategy",
    "affinity": "io.k8s.api.core.v1.Affinity",
    "dnsConfig": "io.k8s.api.core.v1.PodDNSConfig",
    **{f"{kind}.resources": "io.k8s.api.core.v1.ResourceRequirements" for kind in ("index", "query", EXPORTER)},
    **{
        f"{kind}.autoscaling.behavior": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior"
        for kind in ("index", "query")
    },
}
"""Maps that are Kubernetes', by its types."""
LISTED = {
    "tolerations": "io.k8s.api.core.v1.Toleration",
    f"{EXPORTER}.tolerations": "io.k8s.api.core.v1.Toleration",
    "topologySpreadConstraints": "io.k8s.api.core.v1.TopologySpreadConstraint",
    "extraEnv": "io.k8s.api.core.v1.EnvVar",
    "extraEnvFrom": "io.k8s.api.core.v1.EnvFromSource",
    "extraVolumes": "io.k8s.api.core.v1.Volume",
    "extraVolumeMounts": "io.k8s.api.core.v1.VolumeMount",
    "initContainers": "io.k8s.api.core.v1.Container",
    "extraContainers": "io.k8s.api.core.v1.Container",
    "hostAliases": "io.k8s.api.core.v1.HostAlias",
    "query.ingress.tls": "io.k8s.api.networking.v1.IngressTLS",
    "networkPolicy.extraEgress": "io.k8s.api.networking.v1.NetworkPolicyEgressRule",
    **{
        f"networkPolicy.{peer}": "io.k8s.api.networking.v1.NetworkPolicyPeer"
        for peer in ("kafka", "qdrant", "collector", "registry", "fetch", "clients", "monitoring")
    },
}
"""Lists of what is Kubernetes'."""
OF_SECRETS = {"secrets.variables": r"^PENSTOCK_[A-Z0-9_]+$", "secrets.files": r"^[-._a-zA-Z0-9]+$"}
"""Names in them, and what they come from."""
SHARED = (
    "model", "gpu", "strategy", "deploymentAnnotations", "podLabels", "podAnnotations", "nodeSelector", "tolerations",
    "affinity", "priorityClassName", "spread", "topologySpreadConstraints", "disruptionBudget", "extraEnv",
    "extraEnvFrom", "extraVolumes", "extraVolumeMounts", "initContainers", "extraContainers", "hostAliases",
    "dnsPolicy", "dnsConfig", "serviceAccount",
)  # fmt: skip
"""What a worker may say for itself."""
FIXED = {"http": ("enabled", "host", "port"), "monitor": ("host", "port")}
"""Settings that probes, services and policies rely on: the chart's own."""
REFERENCE = re.compile(r'"#/\$defs/(io\.k8s[^"]+)"')
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


def workers_schema(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Streams, or deployments, by a name that Kubernetes takes as part of another; each may say all but them."""
    own = {**{name: values[name] for name in SHARED}, **values[kind]}
    parts = {name: schema_of(part, name if name in SHARED else f"{kind}.{name}") for name, part in own.items()}
    for left_out in ("enabled", "streams", "deployments"):
        parts.pop(left_out, None)
    one = {"type": ["object", "null"], "additionalProperties": False, "properties": parts}
    name = {"pattern": "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$"}
    return {"type": "object", "additionalProperties": one, "propertyNames": name}


def schema_of(value: Any, path: str = "") -> dict[str, Any]:
    """What a value like this one must be."""
    special = {name: settings_schema() for name in ("settings", "index.settings", "query.settings")}
    special |= {name: {"enum": known} for name, known in CHOICES.items()} | {key: {"type": "object"} for key in OPEN}
    special |= {name: {"type": "object", "additionalProperties": {"type": "string"}} for name in TEXTS}
    special |= {name: {"$ref": f"#/$defs/{kind}"} for name, kind in PASSED_ON.items()}
    special |= {name: {"type": "array", "items": {"$ref": f"#/$defs/{kind}"}} for name, kind in LISTED.items()}
    special |= {name: from_secrets(pattern) for name, pattern in OF_SECRETS.items()}
    if path in special:
        return special[path]
    match value:
        case dict():
            parts = {name: schema_of(part, f"{path}.{name}".strip(".")) for name, part in value.items()}
            return {"type": "object", "additionalProperties": False, "properties": parts}
        case list():
            return {"type": "array"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": int(path in AT_LEAST_ONE)}
        case _:
            return {"type": "string"} | ({"pattern": NAMES[path]} if path in NAMES else {})


def from_secrets(pattern: str) -> dict[str, Any]:
    """A map to keys of Secrets."""
    text = {"type": "string", "minLength": 1}
    key = {"type": "object", "additionalProperties": False, "required": ["name", "key"]}
    return {
        "type": "object",
        "additionalProperties": key | {"properties": {"name": text, "key": text}},
        "propertyNames": {"pattern": pattern},
    }


def kubernetes_types() -> dict[str, Any]:
    """What is passed on, and what that is made of; without the descriptions, which are long."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"{KUBERNETES}-local-strict"
    known = json.loads((folder / "_definitions.json").read_text())["$defs"]
    found: dict[str, Any] = {}
    wanted = [*PASSED_ON.values(), *LISTED.values()]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _bare(known[name])
            wanted += REFERENCE.findall(json.dumps(found[name]))
    return dict(sorted(found.items()))


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if not (name == "description" and isinstance(part, str))}
    made = {name: _bare(part) for name, part in kept.items()}
    if isinstance(reference := made.get("$ref"), str):
        made["$ref"] = f"#/$defs/{reference.rsplit('/', 1)[-1]}"
    return made


def schema(values: Mapping[str, Any]) -> str:
    """values.schema.json."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": group_schemas(), **schema_of(values)}
    made["properties"]["global"] = {"type": "object"}  # Helm's own
    for kind, workers in (("index", "streams"), ("query", "deployments")):
        parts = made["properties"][kind]["properties"]
        parts |= {name: schema_of(values[name], name) for name in SHARED}
        parts[workers] = workers_schema(values, kind)
    # Kubernetes' types are long, and nobody reads them here: one in a line
    types = "".join(f"  {json.dumps(name)}: {json.dumps(kind)},\n" for name, kind in kubernetes_types().items())
    return json.dumps(made, indent=1).replace('"$defs": {\n', f'"$defs": {{\n{types}', 1) + "\n"


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
