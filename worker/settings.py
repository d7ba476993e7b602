"""All settings: frozen, in groups, from the environment, ``.env`` and a TOML file. An unknown name is an error."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from worker.errors import Misconfigured
from worker.events import LARGEST_EPOCH, TENANT, OrderBy, TenantFrom

PREFIX = "PENSTOCK_"
FILE_VARIABLE = "PENSTOCK_CONFIG"
DEFAULT_FILE = "penstock.toml"

PROVIDER = "(tensorrt|cuda|cpu)"

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Group(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KafkaSettings(Group):
    """The broker, the topic and the consumer group."""

    bootstrap_servers: str = "localhost:9092"
    """Comma-separated host:port of the brokers to ask first."""
    topic: str = "documents"
    """The topic that document events are read from."""
    dead_letter_topic: str = ""
    """Where records go that can never be indexed; empty means <topic>.dlq."""
    group: str = "penstock-index"
    """The consumer group; workers of one group share the topic's partitions."""
    client_id: str = "penstock"
    """Name shown in the broker's logs and metrics."""
    max_poll_records: Count = 1000
    """Most records taken in one poll, hence in one batch."""
    session_timeout_s: Seconds = 45.0
    """A worker silent for so long loses its partitions."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    """SASL_PLAINTEXT sends the password unencrypted and needs allow_insecure."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How to log in, with SASL_SSL and SASL_PLAINTEXT."""
    sasl_username: str = ""
    """User name for SASL."""
    sasl_password: SecretStr = SecretStr("")
    """Password for SASL."""
    ssl_ca_file: Path | None = None
    """PEM file of the authorities to trust; the system's when empty."""
    ssl_certificate_file: Path | None = None
    """PEM file of this client's certificate, for mutual TLS."""
    ssl_key_file: Path | None = None
    """PEM file of this client's key."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of the key file."""
    allow_insecure: bool = False
    """Permit a password to travel unencrypted."""

    @property
    def dead_letters(self) -> str:
        """The dead letter topic's name."""
        return self.dead_letter_topic or f"{self.topic}.dlq"

    @model_validator(mode="after")
    def _safe(self) -> Self:
        sasl = self.security_protocol.startswith("SASL")
        if sasl and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(f"security_protocol = {self.security_protocol} needs sasl_username and sasl_password")
        if self.security_protocol == "SASL_PLAINTEXT" and not self.allow_insecure:
            raise ValueError("SASL_PLAINTEXT sends the password in the clear: use SASL_SSL, or set allow_insecure")
        return self


class QdrantSettings(Group):
    """The vector store."""

    url: str = "http://localhost:6333"
    """http(s)://host[:port] of a server; https means TLS for gRPC, too."""
    grpc_port: Annotated[int, Field(ge=1, le=65535)] = 6334
    """The server's gRPC port; all traffic goes there."""
    path: Path | None = None
    """A folder for an embedded store in this process, instead of a server: for trying things out. Or :memory:."""
    api_key: SecretStr = SecretStr("")
    """API key or token of the server."""
    collection: str = Field(default="documents", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    """The name that readers use: an alias of the collection that belongs to this model."""
    timeout_s: Seconds = 30.0
    """Longest wait for one answer."""
    points_per_request: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Points in one write request."""
    requests_in_flight: Annotated[int, Field(ge=1, le=64)] = 4
    """Write requests under way at once."""
    allow_insecure: bool = False
    """Permit the API key to travel unencrypted."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("url must begin with http:// or https://")
        if self.api_key.get_secret_value() and self.url.startswith("http://") and not self.allow_insecure:
            raise ValueError("an api_key over http is readable by anyone: use https, or set allow_insecure")
        return self


class ModelSettings(Group):
    """The embedding model."""

    bundle: Path | None = None
    """Folder of a model bundle, made by penstock export."""
    dimension: Count | None = None
    """Length of the vectors; empty means the model's own. Shorter ones must be supported by the model."""
    instruction: str = ""
    """The task that queries are embedded and reranked with; empty means the bundle's own."""
    provider: str = Field(default="cuda,cpu", pattern=f"^{PROVIDER}(,{PROVIDER})*$")
    """Execution providers of ONNX Runtime to try, in this order: tensorrt, cuda, cpu."""
    require_provider: Literal["", "tensorrt", "cuda", "cpu"] = ""
    """Refuse to start on any other provider than this."""
    token_budget: Count | None = None
    """Padded tokens in one forward pass. Empty: what penstock bench --tune stored, else 256 on CPU, 16384 on a GPU."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads of the model on CPU; 0 means one per core."""
    passes: Annotated[int, Field(ge=0)] = 0
    """Forward passes at once on CPU, sharing the threads: 0, one per thread, for throughput; 1 for a text's latency."""
    spinning: bool = False
    """Let threads on CPU wait actively: less time for a single short text, on cores that nobody else needs."""
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 0
    """Most GPU memory that ONNX Runtime may reserve; 0 means no limit."""
    engine_cache: Path | None = None
    """Folder for TensorRT's engines, which take minutes to build."""
    engine_lengths: str = Field(default="128,512,2048", pattern=r"^[1-9]\d*(,[1-9]\d*)*$")
    """TensorRT's engines, one up to each length; each holds the weights once more. Other shapes go through CUDA."""


class IndexSettings(Group):
    """How documents are read and cut."""

    tenant_from: TenantFrom = "none"
    """Where a document's tenant comes from: the key (tenant/id), a header, tenant below for all, or nowhere."""
    tenant: str = ""
    """The tenant, with tenant_from = fixed."""
    tenant_header: str = "tenant"
    """The header's name, with tenant_from = header."""
    order: OrderBy = "offset"
    """What makes an event newer: its offset (one topic per collection), or the version that it carries."""
    epoch: Annotated[int, Field(ge=1, le=LARGEST_EPOCH)] = 1
    """Raise by one when the topic is made anew or repartitioned, since offsets start again then."""
    batch_bytes: Count = 2_000_000
    """A poll is cut into batches of about so many bytes."""
    max_event_bytes: Count = 4_000_000
    """Larger values become dead letters."""
    max_chunks: Count = 500
    """Documents of more chunks become dead letters."""
    chunk_tokens: Annotated[int, Field(ge=16)] = 512
    """Most tokens in a chunk; never more than the model takes."""
    chunk_overlap: Annotated[int, Field(ge=0)] = 64
    """Tokens that neighbouring chunks of a document share."""
    title: bool = True
    """Put the title before each chunk's text when embedding."""
    drain_timeout_s: Seconds = 25.0
    """On SIGTERM: longest time to finish what is in hand, to commit and to leave."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tenant and not TENANT.fullmatch(self.tenant):
            raise ValueError("tenant: letters, digits and . _ - only, at most 128")
        if (self.tenant_from == "fixed") != bool(self.tenant):
            raise ValueError("tenant and tenant_from = fixed go together")
        if self.chunk_overlap * 2 > self.chunk_tokens:
            raise ValueError("chunk_overlap may be at most half of chunk_tokens")
        return self


class LogSettings(Group):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level shown."""
    format: Literal["auto", "json", "text"] = "auto"
    """auto means text on a terminal, JSON elsewhere."""


class Settings(BaseSettings):
    """Everything that can be set. A field ``x`` of group ``g`` is the variable ``PENSTOCK_G__X``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    kafka: KafkaSettings = KafkaSettings()
    qdrant: QdrantSettings = QdrantSettings()
    model: ModelSettings = ModelSettings()
    index: IndexSettings = IndexSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line before environment before ``.env`` before the TOML file."""
        file = os.environ.get(FILE_VARIABLE, DEFAULT_FILE)
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls, file)


def load(overrides: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
    """Read the settings; raises Misconfigured that names every fault in one line."""
    faults = list(_unknown_variables(os.environ, "the environment"))
    faults += _unknown_variables({k: v or "" for k, v in dotenv_values(".env").items()}, ".env")
    file = os.environ.get(FILE_VARIABLE)
    if file is not None and not Path(file).is_file():
        faults.append(f"{FILE_VARIABLE}: there is no file {file}")
    if faults:
        raise Misconfigured("; ".join(faults))
    try:
        faults += _unknown_groups()
        given = {group: dict(fields) for group, fields in (overrides or {}).items() if fields}
        settings = Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        faults += [_fault(fault["loc"], fault["msg"]) for fault in error.errors(include_url=False)]
    except ValueError as error:  # the TOML file does not parse
        faults.append(f"{file or DEFAULT_FILE}: {error}")
    if faults:
        raise Misconfigured("; ".join(faults))
    return settings


def variables() -> Iterator[tuple[str, str, str]]:
    """Every setting as (variable, default, meaning)."""
    for group, model in _groups().items():
        for name, field in model.model_fields.items():
            default = "" if field.default is None or isinstance(field.default, SecretStr) else str(field.default)
            yield f"{PREFIX}{group.upper()}__{name.upper()}", default, field.description or ""


def _groups() -> dict[str, type[Group]]:
    fields = Settings.model_fields.items()
    return {n: f.annotation for n, f in fields if isinstance(f.annotation, type) and issubclass(f.annotation, Group)}


def _unknown_variables(environment: Mapping[str, str], where: str) -> Iterator[str]:
    known = [name for name, _, _ in variables()]
    for name in environment:
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known and upper != FILE_VARIABLE:
            yield f"{name} in {where} is no setting{_suggest(upper, known)}"


def _unknown_groups() -> Iterator[str]:
    path = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
    for name in TomlConfigSettingsSource(Settings, path)():
        if name not in _groups():
            yield f"[{name}] in {path} is no group of settings{_suggest(name, list(_groups()))}"


def _fault(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in place)
    if message == "Extra inputs are not permitted":
        group = _groups().get(str(place[0]))
        message = "no such setting" + _suggest(str(place[-1]), list(group.model_fields) if group else [])
    return f"{name}: {message.removeprefix('Value error, ')}"


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
