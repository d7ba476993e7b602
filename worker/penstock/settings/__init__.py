"""All settings: frozen, in groups, from the environment, ``.env``, mounted secrets and a TOML file.

An unknown name is an error wherever it stands.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, get_origin

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.settings import dotenv
from penstock.settings.group import Group
from penstock.settings.index import IndexSettings, Needs
from penstock.settings.models import FetchSettings, MigrationSettings, ModelSettings, RerankSettings, RuntimeSettings
from penstock.settings.services import (
    KafkaSettings,
    LettersKept,
    PurgeSettings,
    QdrantSettings,
    RegistrySettings,
    SetupSettings,
)
from penstock.settings.telemetry import LogSettings, MonitorSettings, TraceSettings
from penstock.settings.workers import HttpSettings, QuerySettings, SearchSettings

__all__ = [
    "FetchSettings",
    "HttpSettings",
    "IndexSettings",
    "KafkaSettings",
    "LettersKept",
    "LogSettings",
    "MigrationSettings",
    "ModelSettings",
    "MonitorSettings",
    "Needs",
    "PurgeSettings",
    "QdrantSettings",
    "QuerySettings",
    "RegistrySettings",
    "RerankSettings",
    "RuntimeSettings",
    "SearchSettings",
    "Settings",
    "SetupSettings",
    "TraceSettings",
    "load",
    "origins",
    "variables",
]

JSON = (dict, list, tuple, Mapping)
"""What a variable holds as JSON."""

PREFIX = "PENSTOCK_"
FILE_VARIABLE = "PENSTOCK_CONFIG"
SECRETS_VARIABLE = "PENSTOCK_SECRETS"
"""A folder of files that are named like variables and hold their values: what Kubernetes mounts of a Secret."""
DEFAULT_FILE = "penstock.toml"


class _File(TomlConfigSettingsSource):
    """A TOML file, with a byte order mark or without."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(texts.read(file_path))


class Settings(BaseSettings):
    """Everything that can be set. A field ``x`` of group ``g`` is the variable ``PENSTOCK_G__X``.

    A variable that is set to nothing counts as not set.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=dotenv.FILE,
        env_file_encoding=dotenv.ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    qdrant: QdrantSettings = QdrantSettings()
    model: ModelSettings = ModelSettings()
    rerank: RerankSettings = RerankSettings()
    migration: MigrationSettings = MigrationSettings()
    fetch: FetchSettings = FetchSettings()
    index: IndexSettings = IndexSettings()
    query: QuerySettings = QuerySettings()
    http: HttpSettings = HttpSettings()
    search: SearchSettings = SearchSettings()
    setup: SetupSettings = SetupSettings()
    purge: PurgeSettings = PurgeSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        letters = {self.kafka.dead_letters_of(topic) for topic in self.kafka.topics} | {self.kafka.dead_letter_topic}
        others = {self.query.topic, self.query.dead_letters, *self.query.replies}
        if self.query.topic and any(self.kafka.follows(topic) or topic in letters for topic in others):
            raise ValueError("query.topic, query.reply_topic: queries, answers and documents need topics of their own")
        if len(self.kafka.topics) != 1 and self.index.order != "event":
            raise ValueError(
                "kafka.topic, index.order: offsets of several topics cannot be compared: set order = event, with a "
                "version in every event"
            )
        backfill = self.index.backfill
        if backfill and (self.kafka.follows(backfill) or backfill in {*letters, *others}):
            raise ValueError(f"index.backfill: {backfill!r} is a topic of another kind: a backfill has one of its own")
        if unknown := [topic for topic in self.index.topics if topic != backfill and not self.kafka.follows(topic)]:
            raise ValueError(f"index.topics: {unknown[0]!r} is none of kafka.topic ({self.kafka.topic})")
        compacted = [self.index.needs(topic).compacted for topic in self.kafka.topics]
        if any(compacted) and "compact" in self.setup.cleanup:
            raise ValueError(f"setup.cleanup: a topic would be compacted, {next(filter(None, compacted))}")
        LettersKept.of(self.setup, self.purge)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the library's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line before environment before ``.env`` before secrets before the TOML file."""
        file = _File(settings_cls, _file())
        return init_settings, env_settings, dotenv_settings, _secrets(settings_cls), file


def load(overrides: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
    """Read the settings; raises Misconfigured that names every fault in one line."""
    faults = list(_unknown_variables(os.environ, "the environment"))
    faults += _unknown_variables(dotenv.read(PREFIX), dotenv.FILE)
    file, folder = _file(), _folder()
    if os.environ.get(FILE_VARIABLE) and not file.is_file():
        faults.append(f"{FILE_VARIABLE}: there is no file {file}")
    if folder and not folder.is_dir():
        faults.append(f"{SECRETS_VARIABLE}: there is no folder {folder}")
    if faults:
        raise Misconfigured("; ".join(faults))
    try:
        faults += _unknown_variables(_secret_files(), str(folder))
        faults += _unknown_groups()
        given = {group: dict(fields) for group, fields in (overrides or {}).items() if fields}
        settings = Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        faults += [_fault(fault["loc"], fault["msg"]) for fault in error.errors(include_url=False)]
    except SettingsError as error:
        named = ", ".join(_no_json()) or str(error)
        faults.append(f'{named}: a variable that holds a map or a list is JSON, like {{"name": "value"}} or ["value"]')
    except ValueError as error:  # the TOML file does not parse
        faults.append(f"{file}: {error}")
    if faults:
        raise Misconfigured("; ".join(faults))
    return settings


def _variable(group: str, name: str) -> str:
    return f"{PREFIX}{group}__{name}".upper()


def variables() -> Iterator[tuple[str, str, str]]:
    """Every setting as (variable, default, meaning)."""
    for group, model in _groups().items():
        for name, field in model.model_fields.items():
            default = "" if field.default is None or isinstance(field.default, SecretStr) else str(field.default)
            yield _variable(group, name), default, field.description or ""


def origins() -> dict[str, str]:
    """Where each setting that is not left at its default comes from, by its variable; for settings that are valid."""
    file = str(_file())
    written = _File(Settings, file)()
    origin = {_variable(group, name): file for group, fields in written.items() for name in fields}
    for values, where in (
        (_secret_files(), str(_folder())),
        (dotenv.read(PREFIX), dotenv.FILE),
        (os.environ, "environment"),
    ):
        origin |= {name.upper(): where for name, value in values.items() if value}
    return {name: origin[name] for name, _, _ in variables() if name in origin}


def _file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).expanduser()


def _folder() -> Path | None:
    named = os.environ.get(SECRETS_VARIABLE)
    return Path(named).expanduser() if named else None


def _secrets(settings_cls: type[BaseSettings]) -> NestedSecretsSettingsSource:
    given = SecretsSettingsSource(settings_cls)
    return NestedSecretsSettingsSource(given, secrets_dir=_folder(), secrets_prefix=PREFIX)


def _secret_files() -> Mapping[str, str]:
    folder = _folder()
    try:
        return NestedSecretsSettingsSource.load_secrets(folder.resolve()) if folder else {}
    except UnicodeDecodeError:
        raise Misconfigured(f"{SECRETS_VARIABLE}: a file in {folder} is no UTF-8 text") from None


def _groups() -> dict[str, type[Group]]:
    fields = Settings.model_fields.items()
    return {n: f.annotation for n, f in fields if isinstance(f.annotation, type) and issubclass(f.annotation, Group)}


def _unknown_variables(environment: Mapping[str, str], where: str) -> Iterator[str]:
    known = [name for name, _, _ in variables()]
    for name in environment:
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known and upper not in (FILE_VARIABLE, SECRETS_VARIABLE):
            yield f"{name} in {where} is no setting{_suggest(upper, known)}"


def _unknown_groups() -> Iterator[str]:
    path = _file()
    for name in _File(Settings, path)():
        if name not in _groups():
            yield f"[{name}] in {path} is no group of settings{_suggest(name, list(_groups()))}"


def _fault(place: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in place)
    if message == "Extra inputs are not permitted":
        group = _groups().get(str(place[0]))
        message = "no such setting" + _suggest(str(place[-1]), list(group.model_fields) if group else [])
    message = message.removeprefix("Value error, ").partition(" or instance of")[0]
    told = f"{name}: {message}" if name else message
    variables = [one for one in _named(place, message) if one not in told]
    return f"{told} ({', '.join(variables)})" if variables else told


def _named(place: tuple[int | str, ...], message: str) -> list[str]:
    """The variables that a fault is about: that of its place, or those of the fields that the message names."""
    groups = _groups()
    if len(place) > 1 and place[0] in groups:
        fields = [(str(place[0]), str(place[1]))]
    elif place:
        fields = [(str(place[0]), word) for word in re.findall(r"\w+", message)]
    else:
        fields = re.findall(r"(\w+)\.(\w+)", message)
    known = [(group, name) for group, name in fields if group in groups and name in groups[group].model_fields]
    return [_variable(group, name) for group, name in dict.fromkeys(known)]


def _no_json() -> list[str]:
    """Variables that should hold JSON, and hold none."""
    given: dict[str, str | None] = {}
    for values in (_secret_files(), dotenv.read(PREFIX), os.environ):
        given |= {name.upper(): value for name, value in values.items()}
    annotated = {
        _variable(group, name): field.annotation
        for group, model in _groups().items()
        for name, field in model.model_fields.items()
    }
    written = [name for name, kind in annotated.items() if get_origin(kind) in JSON and given.get(name)]
    return [name for name in written if not _is_json(given[name] or "")]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
