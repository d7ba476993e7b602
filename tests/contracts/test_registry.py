"""What values in a schema registry's frame become, with the library's own registry in memory and with a real one."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("confluent_kafka.schema_registry", reason="needs the extra registry")

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from penstock.adapters.registry.client import ConfluentRegistry
from penstock.core.errors import InvalidEvent, Unavailable
from penstock.settings import RegistrySettings

ARTICLE = {
    "type": "record",
    "name": "Article",
    "namespace": "com.example",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "text", "type": ["null", "string"], "default": None},
        {"name": "made", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEWS", "WIKI"]}},
        {"name": "raw", "type": "bytes"},
        {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "int"}}},
    ],
}
VALUE = {
    "id": 2**53 + 1,
    "text": "A weir raises a river.",
    "made": datetime(2024, 5, 1, 10, tzinfo=UTC),
    "day": date(2024, 5, 1),
    "price": Decimal("19.90"),
    "kind": "WIKI",
    "raw": b"\x00\xff",
    "tags": {"a": [1, 2]},
}
READ = VALUE | {"made": "2024-05-01T10:00:00Z", "day": "2024-05-01", "price": 19.9, "raw": "AP8="}

PERSON = 'syntax = "proto3"; package com.example; message Person { string name = 1; }'
DOCUMENT = """
syntax = "proto3"; package com.example;
import "google/protobuf/timestamp.proto"; import "people/person.proto";
message Other { string unused = 1; }
message Document {
  message Part { string text = 1; }
  int64 id = 1; string text = 2; google.protobuf.Timestamp made = 3; Person author = 4;
  map<string, int32> counts = 5; repeated Person others = 6; optional string title = 7; bool live = 8; bytes raw = 9;
  enum Kind { UNKNOWN = 0; WIKI = 1; } Kind kind = 10;
}
"""


@pytest.fixture(params=["memory", "real"])
def client(request: pytest.FixtureRequest) -> SchemaRegistryClient:
    """Each registry."""
    url = "mock://here" if request.param == "memory" else request.getfixturevalue("registry")
    return SchemaRegistryClient.new_client({"url": url, "timeout": 10, "max.retries": 0})


@pytest.fixture
def ours(client: SchemaRegistryClient) -> ConfluentRegistry:
    """Ours, over it."""
    return ConfluentRegistry(RegistrySettings(url="http://127.0.0.1:1"), client)


def here() -> SerializationContext:
    """A subject of its own."""
    return SerializationContext(f"topic-{uuid.uuid4().hex[:8]}", MessageField.VALUE)


def frame(number: int, payload: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + payload


def test_avro_is_read_by_the_schema_it_was_written_with(client: Any, ours: ConfluentRegistry) -> None:
    read = ours.read(AvroSerializer(client, json.dumps(ARTICLE))(VALUE, here()))
    assert (read.form, json.loads(json.dumps(read.value))) == ("avro", READ)


def test_fields_may_come_and_go(client: Any, ours: ConfluentRegistry) -> None:
    """Both ways, in any order of their records: each is read by its own schema."""
    old = {"type": "record", "name": "A", "fields": [{"name": "id", "type": "int"}, {"name": "was", "type": "int"}]}
    new = {"type": "record", "name": "A", "fields": [{"name": "id", "type": "long"}, {"name": "is", "type": "string"}]}
    before = AvroSerializer(client, json.dumps(old))({"id": 1, "was": 2}, here())
    after = AvroSerializer(client, json.dumps(new))({"id": 1, "is": "b"}, here())
    for _ in range(2):
        assert ours.read(after).value == {"id": 1, "is": "b"}
        assert ours.read(before).value == {"id": 1, "was": 2}


def test_avro_may_refer_to_other_schemas(client: Any, ours: ConfluentRegistry) -> None:
    name = f"person-{uuid.uuid4().hex[:8]}"
    person = {"type": "record", "name": "com.example.Person", "fields": [{"name": "name", "type": "string"}]}
    client.register_schema(name, Schema(json.dumps(person), "AVRO"))
    book = {"type": "record", "name": "Book", "fields": [{"name": "by", "type": "com.example.Person"}]}
    schema = Schema(json.dumps(book), "AVRO", [SchemaReference("com.example.Person", name, 1)])
    number = client.register_schema(f"book-{uuid.uuid4().hex[:8]}", schema)
    assert ours.read(frame(number, b"\x06Ada")).value == {"by": {"name": "Ada"}}


def test_json_schema(client: Any, ours: ConfluentRegistry) -> None:
    schema = Schema('{"type": "object", "properties": {"id": {"type": "string"}}}', "JSON")
    number = client.register_schema(f"json-{uuid.uuid4().hex[:8]}", schema)
    assert ours.read(frame(number, '{"id": "a", "text": "Ä"}'.encode())) == ("json", {"id": "a", "text": "Ä"})


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Classes for the documents, as a producer has them."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("proto")
    (folder / "people").mkdir()
    (folder / "people" / "person.proto").write_text(PERSON)
    (folder / "document.proto").write_text(DOCUMENT)
    names = ["document.proto", "people/person.proto"]
    known = Path(str(pytest.importorskip("grpc_tools").__file__)).parent / "_proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{known}", "--python_out=.", *names]
    subprocess.run(command, cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return pytest.importorskip("document_pb2")  # type: ignore[no-any-return]


def written(compiled: ModuleType) -> Any:
    message = compiled.Document(id=2**53 + 1, text="A weir.", counts={"a": 1}, raw=b"\x00\xff", kind=1)
    message.made.FromJsonString("2024-05-01T10:00:00Z")
    message.author.name = "Ada"
    message.others.add(name="Bob")
    return message


IN_JSON = {
    "id": 2**53 + 1,
    "text": "A weir.",
    "made": "2024-05-01T10:00:00Z",
    "author": {"name": "Ada"},
    "counts": {"a": 1},
    "others": [{"name": "Bob"}],
    "live": False,
    "raw": "AP8=",
    "kind": "WIKI",
}


def test_protobuf_that_a_python_producer_registers(client: Any, ours: ConfluentRegistry, compiled: ModuleType) -> None:
    """It registers a descriptor, and what that imports under subjects of their own."""
    serializer = ProtobufSerializer(compiled.Document, client, {"use.deprecated.format": False})
    assert ours.read(serializer(written(compiled), here())) == ("protobuf", IN_JSON)


def test_protobuf_that_a_java_producer_registers(client: Any, ours: ConfluentRegistry, compiled: ModuleType) -> None:
    """It registers the text."""
    name = f"person-{uuid.uuid4().hex[:8]}"
    client.register_schema(name, Schema(PERSON, "PROTOBUF"))
    schema = Schema(DOCUMENT, "PROTOBUF", [SchemaReference("people/person.proto", name, 1)])
    number = client.register_schema(f"document-{uuid.uuid4().hex[:8]}", schema)
    payload = written(compiled).SerializeToString()
    assert ours.read(frame(number, b"\x02\x02" + payload)) == ("protobuf", IN_JSON)
    part = compiled.Document.Part(text="inner").SerializeToString()
    assert ours.read(frame(number, b"\x04\x02\x00" + part)).value == {"text": "inner"}
    assert ours.read(frame(number, b"\x00" + b"\x0a\x01x")).value == {"unused": "x"}


def test_fields_that_no_producer_set_are_not_there(client: Any, ours: ConfluentRegistry) -> None:
    """Of proto3, where nothing tells an empty text from none; wrapped numbers stay numbers."""
    text = """syntax = "proto3"; import "google/protobuf/wrappers.proto";
    message Doc { string id = 1; string timestamp = 2; google.protobuf.Int64Value version = 3; int32 count = 4; }"""
    number = client.register_schema(f"doc-{uuid.uuid4().hex[:8]}", Schema(text, "PROTOBUF"))
    read = ours.read(frame(number, b"\0" + b"\x0a\x01a" + b"\x1a\x02\x08\x07")).value
    assert read == {"id": "a", "version": 7, "count": 0}


TREE = {"type": "record", "name": "Tree", "fields": [{"name": "next", "type": ["null", "Tree"]}]}


@pytest.mark.parametrize(
    ("form", "schema", "payload"),
    [
        ("AVRO", json.dumps(TREE), b"\x02" * 100_000),
        ("AVRO", '{"type": "array", "items": "null"}', b"\xfe\xff\xff\xff\xff\xff\x03\x00"),
        ("PROTOBUF", PERSON, b"\xff" * 4_000_000),
        ("PROTOBUF", PERSON, b"\x02\x01"),
        ("PROTOBUF", PERSON, b"\x02\x40"),
    ],
)
def test_hostile_bytes_are_a_letter_at_once(
    client: Any, ours: ConfluentRegistry, form: Any, schema: str, payload: bytes
) -> None:
    number = client.register_schema(f"hostile-{uuid.uuid4().hex[:8]}", Schema(schema, form))
    with pytest.raises(InvalidEvent):
        ours.read(frame(number, payload))


def test_a_tree_is_read(client: Any, ours: ConfluentRegistry) -> None:
    number = client.register_schema(f"tree-{uuid.uuid4().hex[:8]}", Schema(json.dumps(TREE), "AVRO"))
    assert ours.read(frame(number, b"\x02\x02\x00")).value == {"next": {"next": {"next": None}}}


def test_a_schema_that_is_not_there_is_about_the_record(ours: ConfluentRegistry) -> None:
    with pytest.raises(InvalidEvent, match="schema 987654 is not in the registry"):
        ours.read(frame(987654, b"x"))


def test_bytes_of_another_schema_are_about_the_record(client: Any, ours: ConfluentRegistry) -> None:
    number = int.from_bytes(AvroSerializer(client, json.dumps(ARTICLE))(VALUE, here())[1:5])
    for payload in (b"", b"\x02", b"\xff" * 40, AvroSerializer(client, json.dumps(ARTICLE))(VALUE, here())[5:] + b"x"):
        with pytest.raises(InvalidEvent, match=rf"the bytes are not of the registry's schema {number} \(avro\)"):
            ours.read(frame(number, payload))


@pytest.fixture
def address() -> Iterator[str]:
    """Of nobody."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("client", ["memory"], indirect=True)
def test_a_registry_that_is_away_is_an_outage(client: Any, address: str) -> None:
    ours = ConfluentRegistry(RegistrySettings(url=address, timeout_s=1))
    with pytest.raises(Unavailable, match="the registry at http://127"):
        ours.read(frame(1, b"x"))
    assert client is not None


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (500, '{"error_code": 50001, "message": "oops"}', Unavailable),
        (401, '{"error_code": 401, "message": "who are you"}', Unavailable),
        (429, "", Unavailable),
        (404, "<html>no such page</html>", Unavailable),
        (200, "<html>a login page</html>", Unavailable),
        (200, "{}", Unavailable),
        (200, "null", Unavailable),
        (200, "[]", Unavailable),
        (200, '{"schema": 5}', Unavailable),
        (404, '{"error_code": 40403, "message": "Schema not found"}', InvalidEvent),
        (200, '{"schema": "no schema"}', InvalidEvent),
        (200, '{"schema": "x", "schemaType": "THRIFT"}', InvalidEvent),
    ],
)
def test_only_a_registrys_own_no_is_about_the_record(status: int, body: str, raised: type[Exception]) -> None:
    """A proxy's page in between, or a lost password, must make no dead letters."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ours = ConfluentRegistry(RegistrySettings(url=f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises(raised) as caught:
            ours.read(frame(1, b"x"))
        assert type(caught.value) is raised
        server.shutdown()
