"""Every schema and every example is a test; the models that decode agree with the schemas."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from penstock.assembly.index import BODIES as READERS
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.moments import RFC_3339
from penstock.core.paths import METADATA
from penstock.core.records import Partition, Record
from penstock.events import schemas
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.events.validation import parse
from penstock.query.http.model_bodies import EmbedBody, EmbeddingsBody, RerankBody
from penstock.query.replies import ReplyBody, to_json
from penstock.query.requests import Limits, read_query

ROOT = schemas.folder()
CHECKER = jsonschema.FormatChecker()
RULES = DocumentRules(tenant_from="header", keyed=False, envelope="none", bodies=READERS)

BEYOND_SCHEMAS = {
    "expires-at-not-in-the-calendar",
    "id-is-json-in-quotes",
    "near-miss-camel-case",
    "near-miss-capital",
    "near-miss-op",
    "near-miss-slip",
    "near-miss-tenant",
    "sounds-deleted",
    "sounds-deleted-by-a-connector",
    "sounds-deleted-since",
    "filter-equals-a-float-beyond-doubles",
    "filter-mixed-range",
    "filter-moment-before-year-1",
    "filter-moment-after-year-9999",
}
"""What no schema says shortly: bounds are alike, moments of this calendar, ids no JSON, names not nearly known."""


def examples(kind: str) -> list[Path]:
    pattern = "examples/*/*/*.json" if kind == "valid" else "examples/*/*/invalid/*.json"
    return sorted(ROOT.glob(pattern))


def named(path: Path) -> str:
    return f"{path.relative_to(ROOT / 'examples').parts[0]}-{path.stem}"


def event_of(path: Path) -> str:
    return path.relative_to(ROOT / "examples").parts[0]


def validator(path: Path) -> jsonschema.Draft202012Validator:
    event, version = path.relative_to(ROOT / "examples").parts[:2]
    schema = json.loads(schemas.text(f"{event}.v{version}"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=CHECKER)


def record(value: bytes, tenant: str = "acme.eu") -> Record:
    return Record(Partition("documents", 0), 0, None, value, (("tenant", tenant.encode()),))


def read(path: Path) -> object:
    """What the program's own decoder makes of an example."""
    value = path.read_bytes()
    match event_of(path):
        case "document":
            return decode(record(value), RULES).key.document
        case "query":
            return read_query(value, Limits()).id
        case _:
            return ReplyBody.model_validate_json(value).id


@pytest.mark.parametrize("path", examples("valid"), ids=named)
def test_a_valid_example_passes_schema_and_decoder(path: Path) -> None:
    validator(path).validate(json.loads(path.read_text()))
    assert read(path) == json.loads(path.read_text()).get("id")


@pytest.mark.parametrize("path", [p for p in examples("invalid") if event_of(p) != "reply"], ids=named)
def test_an_invalid_example_fails_in_the_decoder(path: Path) -> None:
    with pytest.raises(InvalidEvent):
        read(path)


@pytest.mark.parametrize("path", [p for p in examples("invalid") if p.stem not in BEYOND_SCHEMAS], ids=named)
def test_an_invalid_example_fails_in_the_schema(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator(path).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", [p for p in examples("valid") if event_of(p) == "reply"], ids=named)
def test_a_reply_is_written_as_it_was_read(path: Path) -> None:
    assert json.loads(to_json(ReplyBody.model_validate_json(path.read_bytes()))) == json.loads(path.read_text())


def test_a_hit_without_a_score_is_no_reply() -> None:
    with pytest.raises(ValidationError):
        ReplyBody.model_validate_json((ROOT / "examples/reply/1/invalid/hit-without-score.json").read_bytes())


def test_there_are_examples_of_both_kinds() -> None:
    for event, valid, invalid in (("document", 10, 38), ("query", 9, 33), ("reply", 3, 3)):
        assert len([path for path in examples("valid") if event_of(path) == event]) >= valid
        assert len([path for path in examples("invalid") if event_of(path) == event]) >= invalid


def test_schemas_and_decoder_share_the_rule_for_moments() -> None:
    for name, owner in (("document.v1", "moment"), ("query.v1", "bound")):
        definition = json.loads(schemas.text(name))["$defs"][owner]
        (pattern,) = [part["pattern"] for part in definition.get("anyOf", [definition]) if "pattern" in part]
        assert pattern == f"^{RFC_3339}$"


def test_schema_and_decoder_share_the_rule_for_paths() -> None:
    field = json.loads(schemas.text("query.v1"))["$defs"]["field"]
    assert field["pattern"] == f"^(document|language|timestamp|{METADATA})$"


BODIES: dict[str, type[BaseModel]] = {"embeddings": EmbeddingsBody, "embed": EmbedBody, "rerank": RerankBody}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_over_http_are_what_their_schema_says(name: str) -> None:
    schema = json.loads(schemas.text("http.v1"))
    whole = jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"})
    described, model = schema["$defs"][name], BODIES[name]
    assert described["properties"].keys() == model.model_fields.keys()
    for example in described["examples"]:
        absent = {**dict.fromkeys(described["properties"]), **example}
        for body in (example, absent):
            whole.validate(body)
            parse(model, json.dumps(body).encode())
        for field in described["properties"]:
            wrong = {**example, field: {"an": "object"}}
            assert not whole.is_valid(wrong), field
            with pytest.raises(InvalidEvent):
                parse(model, json.dumps(wrong).encode())


def test_every_topic_names_schemas_and_examples_that_are_there() -> None:
    topics = sorted(ROOT.glob("topics/*.yaml"))
    assert {path.stem for path in topics} == {"documents", "documents.dlq", "queries", "queries.dlq", "replies"}
    for path in topics:
        for schema in yaml.safe_load(path.read_text()).get("schemas", []):
            assert (ROOT / schema["resource"]).is_file()
            assert list((ROOT / schema["examples"]).glob("*.json"))


def test_an_unknown_schema_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(Misconfigured, match=r"document\.v1, http\.v1, query\.v1, reply\.v1"):
        schemas.text("document.v9")
