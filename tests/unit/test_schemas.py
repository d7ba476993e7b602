"""Every schema and every example is a test; the models that decode agree with the schemas."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from worker import schemas
from worker.errors import InvalidEvent, Misconfigured
from worker.events import Rules, decode
from worker.types import Partition, Record

ROOT = schemas.folder()
CHECKER = jsonschema.FormatChecker()
RULES = Rules(tenant_from="header", keyed=False)


def examples(kind: str) -> list[Path]:
    pattern = "examples/*/*/*.json" if kind == "valid" else "examples/*/*/invalid/*.json"
    return sorted(ROOT.glob(pattern))


def validator(path: Path) -> jsonschema.Draft202012Validator:
    event, version = path.relative_to(ROOT / "examples").parts[:2]
    schema = json.loads(schemas.text(f"{event}.v{version}"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=CHECKER)


def record(value: bytes, tenant: str = "acme.eu") -> Record:
    return Record(Partition("documents", 0), 0, None, value, (("tenant", tenant.encode()),))


@pytest.mark.parametrize("path", examples("valid"), ids=lambda path: path.stem)
def test_a_valid_example_passes_schema_and_decoder(path: Path) -> None:
    validator(path).validate(json.loads(path.read_text()))
    event = decode(record(path.read_bytes()), RULES)
    assert event.key.document == json.loads(path.read_text())["id"]


@pytest.mark.parametrize("path", examples("invalid"), ids=lambda path: path.stem)
def test_an_invalid_example_fails_in_the_decoder_and_in_the_schema(path: Path) -> None:
    with pytest.raises(InvalidEvent):
        decode(record(path.read_bytes()), RULES)
    if path.stem != "timestamp-without-zone":  # the format date-time is checked only where a checker is installed
        with pytest.raises(jsonschema.ValidationError):
            validator(path).validate(json.loads(path.read_text()))


def test_there_are_examples_of_both_kinds() -> None:
    assert len(examples("valid")) >= 8
    assert len(examples("invalid")) >= 20


def test_every_topic_names_schemas_and_examples_that_are_there() -> None:
    topics = sorted(ROOT.glob("topics/*.yaml"))
    assert {path.stem for path in topics} == {"documents", "documents.dlq"}
    for path in topics:
        for schema in yaml.safe_load(path.read_text()).get("schemas", []):
            assert (ROOT / schema["resource"]).is_file()
            assert list((ROOT / schema["examples"]).glob("*.json"))


def test_an_unknown_schema_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(Misconfigured, match=r"document\.v1"):
        schemas.text("document.v9")
