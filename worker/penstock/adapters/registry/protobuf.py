"""Protobuf, by the schema that a value was written with: no classes were generated for it.

A registry holds a schema as its text or as a descriptor in Base64; texts are compiled by protoc, once each.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

MAIN = "penstock_main.proto"
PROTOC = "grpc_tools.protoc"
if find_spec(PROTOC.partition(".")[0]) is None:
    raise ImportError(f"no module {PROTOC}")

COMPILE_S = 60.0
DEEPEST, LONGEST_SHIFT = 64, 28
"""Levels of messages in each other, and bits of their numbers."""

KNOWN = (
    *(
        f"google.protobuf.{name}_pb2"
        for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
    ),
    *(f"google.type.{name}_pb2" for name in ("date", "datetime", "latlng", "money", "timeofday")),
    "confluent_kafka.schema_registry.confluent.meta_pb2",
    "confluent_kafka.schema_registry.confluent.types.decimal_pb2",
)
"""Modules of files that any schema may import without registering them."""

File: TypeAlias = Any
"""A FileDescriptorProto; the library has no types."""


def protobuf_reader(schema: str, references: Mapping[str, str]) -> Callable[[bytes], Any]:
    """What reads values of a schema; ``references`` are the texts of what it imports, by the name of the import."""
    texts = {**references, MAIN: schema}
    files = {name: _decoded(name, text) for name, text in texts.items()}
    if missing := {name: texts[name] for name, file in files.items() if file is None}:
        given = [*_known().values(), *(file for file in files.values() if file is not None)]
        files |= {file.name: file for file in _compiled(missing, given)}
    pool = _pool({name: file for name, file in files.items() if file is not None})
    messages = [
        pool.FindMessageTypeByName(_full(pool, message)) for message in pool.FindFileByName(MAIN).message_types_by_name
    ]

    def read(payload: bytes) -> Any:
        path, rest = indexes(payload)
        found, there = None, messages
        for index in path:
            if not 0 <= index < len(there):
                raise ValueError(f"the schema has no message number {index}")
            found, there = there[index], there[index].nested_types
        return as_json(GetMessageClass(found).FromString(rest))

    return read


def _full(pool: DescriptorPool, message: str) -> str:
    package = pool.FindFileByName(MAIN).package
    return f"{package}.{message}" if package else message


def indexes(payload: bytes) -> tuple[list[int], bytes]:
    """Which message of a schema's file follows, by its place at each level, and the rest: one zero stands for [0]."""
    count, at = _number(payload, 0)
    if count == 0:
        return [0], payload[at:]
    if not 0 < count <= DEEPEST:
        raise ValueError(f"{count} levels of messages")
    path = []
    for _ in range(count):
        index, at = _number(payload, at)
        path.append(index)
    return path, payload[at:]


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer in zigzag, and where it ends."""
    value = shift = 0
    while True:
        if shift > LONGEST_SHIFT:
            raise ValueError("a number that does not end")
        byte = payload[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  # the last one
            return value >> 1 ^ -(value & 1), at


def as_json(message: Message) -> Any:
    """A message by its fields' names; numbers stay numbers, where the standard JSON of Protobuf has texts."""
    name = message.DESCRIPTOR.full_name
    if name.startswith("google.protobuf."):
        wrapped = name.endswith("Value") and "value" in message.DESCRIPTOR.fields_by_name
        return (
            _value(message.DESCRIPTOR.fields_by_name["value"], message.value)
            if wrapped
            else json_format.MessageToDict(message)
        )
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_map(field):
            inner = field.message_type.fields_by_name["value"]
            fields[field.name] = {str(key): _value(inner, value[key]) for key in value}
        elif _repeated(field):
            fields[field.name] = [_value(field, one) for one in value]
        elif message.HasField(field.name) if field.has_presence else _is_said(field, value):
            fields[field.name] = _value(field, value)
    return fields


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
        return as_json(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _is_said(field: FieldDescriptor, value: Any) -> bool:
    """Whether a field without presence was set, as far as one can tell: numbers and truth values may mean their 0."""
    return bool(value) or (field.type != FieldDescriptor.TYPE_ENUM and not isinstance(value, str | bytes))


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _is_map(field: FieldDescriptor) -> bool:
    kind: Descriptor | None = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def _decoded(name: str, text: str) -> File | None:
    """The file that a registry holds as a descriptor; None for the text of one."""
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (ValueError, DecodeError):
        return None
    file.name = name
    return file


def _compiled(texts: Mapping[str, str], known: list[File]) -> list[File]:
    """By protoc, in a process of its own, since it writes what is wrong to stderr; raises ValueError with that."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, text in texts.items():
            if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                raise ValueError(f"it imports {name!r}, which is no name of an import")
            file = folder / "source" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        (folder / "known").write_bytes(descriptor_pb2.FileDescriptorSet(file=known).SerializeToString())
        options = [
            f"-I{folder / 'source'}",
            f"--descriptor_set_in={folder / 'known'}",
            f"--descriptor_set_out={folder / 'out'}",
        ]
        command = [sys.executable, "-m", PROTOC, *options, *texts]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_S)  # noqa: S603
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if MAIN in line or ".proto" in line]
            raise ValueError("; ".join(said) or done.stderr.strip() or "protoc refused it")
        return list(descriptor_pb2.FileDescriptorSet.FromString((folder / "out").read_bytes()).file)


def _known() -> dict[str, File]:
    """What any schema may import, each after what it imports itself."""
    found: dict[str, File] = {}

    def add(descriptor: Any) -> None:
        if descriptor.name in found:
            return
        for needed in descriptor.dependencies:
            add(needed)
        found[descriptor.name] = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(found[descriptor.name])

    for module in KNOWN:
        add(import_module(module).DESCRIPTOR)
    return found


def _pool(files: Mapping[str, File]) -> DescriptorPool:
    pool = DescriptorPool()
    known = _known()
    added: set[str] = set()

    def add(name: str) -> None:
        file = files.get(name) or known.get(name)
        if file is None or name in added:
            return
        added.add(name)
        for needed in file.dependency:
            add(needed)
        pool.Add(file)

    for name in files:
        add(name)
    return pool
