"""A container's variables, from its spec and what that refers to."""

import math
import re
from collections.abc import Mapping

from tests.cluster.api import Api, Object
from tests.cluster.volumes import NotThere, content, field_of

REFERENCE = re.compile(r"\$\((\w+)\)")
UNITS = {"m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2**10, "M": 1e6, "Mi": 2**20, "G": 1e9, "Gi": 2**30}
NODE_CPUS = 16


def quantity(text: str | int) -> float:
    """A number of Kubernetes': 100m, 4Gi."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def variables(api: Api, pod: Object, container: Object, of_image: Mapping[str, str]) -> dict[str, str]:
    """By name; raises NotThere."""
    namespace = pod["metadata"]["namespace"]
    made = dict(of_image)
    for source in container.get("envFrom", []):
        for kind, key in (("configMap", "configMapRef"), ("secret", "secretRef")):
            if (ref := source.get(key)) is not None:
                held = content(api, namespace, kind, ref["name"], optional=ref.get("optional", False))
                made |= {source.get("prefix", "") + name: value.decode() for name, value in held.items()}
    for one in container.get("env", []):
        value = _value(api, pod, container, one)
        if value is not None:
            made[one["name"]] = REFERENCE.sub(lambda found: made.get(found[1], found[0]), value)
    return made


def _value(api: Api, pod: Object, container: Object, variable: Object) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if (field := source.get("fieldRef")) is not None:
        return field_of(pod, field["fieldPath"])
    if (resource := source.get("resourceFieldRef")) is not None:
        return _resource(container, resource)
    for kind, key in (("configMap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if (ref := source.get(key)) is not None:
            optional = ref.get("optional", False)
            held = content(api, pod["metadata"]["namespace"], kind, ref["name"], optional=optional)
            if ref["key"] in held:
                return held[ref["key"]].decode()
            if not optional:
                raise NotThere(f"couldn't find key {ref['key']} in {kind} {pod['metadata']['namespace']}/{ref['name']}")
    return None


def _resource(container: Object, resource: Object) -> str:
    """Without a limit it is what the node has, as Kubernetes says."""
    kind, name = resource["resource"].split(".")
    held = container.get("resources", {}).get(kind, {}).get(name)
    value = float(NODE_CPUS) if held is None and name == "cpu" else quantity(held or 0)
    divisor = quantity(resource.get("divisor", "0")) or 1.0
    return str(math.ceil(value / divisor))
