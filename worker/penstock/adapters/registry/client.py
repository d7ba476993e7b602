"""Schemas by their ids, asked of a registry once each; and values read by them."""

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.core.ports import Registry, Unframed
from penstock.settings import RegistrySettings

try:
    import httpx2
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    from penstock.adapters.registry.avro import avro_reader
    from penstock.adapters.registry.protobuf import protobuf_reader
except ImportError as error:
    raise Misconfigured(f"PENSTOCK_REGISTRY__URL needs the extra registry: {error}") from None

FRAME = 5
"""A zero, then the schema's id in four bytes."""

UNKNOWN = range(40400, 40500)
"""A registry's own codes for what it does not have; a 404 of anybody else's is an outage."""

Read = Callable[[bytes], Any]


class ConfluentRegistry(Registry):
    """``ports.Registry`` over Confluent's REST API. Connects at the first question; a schema never changes."""

    def __init__(self, settings: RegistrySettings, client: Any = None) -> None:
        """``client`` is the library's; raises Misconfigured for settings that it does not take."""
        try:
            self._client = client or SchemaRegistryClient.new_client(_options(settings))
        except (ValueError, OSError) as error:
            raise Misconfigured(f"registry: {error}") from error
        self._url = settings.url
        self._readers: dict[int, tuple[str, Read]] = {}
        self._refused: dict[int, str] = {}
        self._lock = threading.Lock()

    @override
    def read(self, framed: bytes) -> Unframed:
        number = int.from_bytes(framed[1:FRAME])
        form, read = self._reader(number)
        try:
            return Unframed(form, read(framed[FRAME:]))  # type: ignore[arg-type]  # one of three
        except InvalidEvent:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a library makes of bytes that are not of the schema
            said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InvalidEvent(f"the bytes are not of the registry's schema {number} ({form}): {said}") from None

    @override
    def close(self) -> None:
        """The library's client closes its connections when nobody holds it."""

    def _reader(self, number: int) -> tuple[str, Read]:
        with self._lock:
            if number in self._refused:
                raise InvalidEvent(self._refused[number])
            if number not in self._readers:
                self._readers[number] = self._make(
                    number, self._ask(f"schema {number}", self._client.get_schema, number)
                )
            return self._readers[number]

    def _make(self, number: int, schema: Schema) -> tuple[str, Read]:
        if not isinstance(schema.schema_str, str) or not schema.schema_str:
            raise Unavailable(f"the registry at {self._url} answered for schema {number}, and named no schema")
        try:
            match schema.schema_type:
                case "AVRO":
                    return "avro", avro_reader(schema.schema_str, list(self._references(schema).values()))
                case "JSON":
                    return "json", json.loads
                case "PROTOBUF":
                    return "protobuf", protobuf_reader(schema.schema_str, self._references(schema))
        except (Unavailable, InvalidEvent):
            raise
        except (OSError, subprocess.TimeoutExpired) as error:  # of this machine, and of no record
            raise Unavailable(f"the registry's schema {number} cannot be compiled: {error}") from error
        except Exception as error:  # noqa: BLE001  # a schema that its own library does not take
            said = " ".join(str(error).split())[:160]
            self._refused[number] = f"the registry's schema {number} cannot be read: {said}"
            raise InvalidEvent(self._refused[number]) from None
        raise InvalidEvent(f"the registry's schema {number} is {schema.schema_type}, none of AVRO, JSON and PROTOBUF")

    def _references(self, schema: Schema, known: dict[str, str] | None = None) -> dict[str, str]:
        """The texts of what a schema refers to, by name; each after what it needs itself."""
        found: dict[str, str] = {} if known is None else known
        for reference in schema.references or ():
            if reference.name in found:
                continue
            found[str(reference.name)] = ""
            what = f"version {reference.version} of {reference.subject}"
            inner = self._ask(
                what, self._client.get_version, reference.subject, reference.version, True
            ).schema  # deleted, too
            self._references(inner, found)
            del found[str(reference.name)]
            found[str(reference.name)] = inner.schema_str or ""
        return found

    def _ask(self, what: str, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except SchemaRegistryError as error:
            if error.http_status_code == 404 and error.error_code in UNKNOWN:  # noqa: PLR2004
                raise InvalidEvent(f"{what} is not in the registry at {self._url}") from None
            raise Unavailable(f"the registry at {self._url}: {error}") from error
        except (httpx2.HTTPError, OSError, ValueError, AttributeError, TypeError, KeyError) as error:
            raise Unavailable(f"the registry at {self._url}: {type(error).__name__}: {error}") from error


def _options(settings: RegistrySettings) -> dict[str, Any]:
    options: dict[str, Any] = {"url": settings.url, "timeout": settings.timeout_s, "max.retries": 0}
    if settings.username:
        options["basic.auth.user.info"] = f"{settings.username}:{settings.password.get_secret_value()}"
    files = {"ca": settings.ca_file, "certificate": settings.certificate_file, "key": settings.key_file}
    return options | {f"ssl.{name}.location": str(file) for name, file in files.items() if file is not None}
