"""Settings: where they come from, and that a wrong one is told."""

import json
from pathlib import Path

import pytest

from penstock import settings
from penstock.core.errors import Misconfigured


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_dotenv_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("penstock.toml").write_text('[kafka]\ntopic = "file"\ngroup = "file"\nclient_id = "file"\n')
    Path(".env").write_text("PENSTOCK_KAFKA__TOPIC=dotenv\nPENSTOCK_KAFKA__GROUP=dotenv\n")
    monkeypatch.setenv("PENSTOCK_KAFKA__TOPIC", "environment")
    kafka = settings.load().kafka
    assert (kafka.topic, kafka.group, kafka.client_id) == ("environment", "dotenv", "file")
    assert kafka.dead_letters == "environment.dlq"


def test_the_file_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[qdrant]\ncollection = "wiki"\n')
    monkeypatch.setenv("PENSTOCK_CONFIG", str(tmp_path / "other.toml"))
    assert settings.load().qdrant.collection == "wiki"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PENSTOCK_KAFKA__GRUOP", "x", "did you mean PENSTOCK_KAFKA__GROUP"),
        ("PENSTOCK_KAFAK__GROUP", "x", "did you mean PENSTOCK_KAFKA__GROUP"),
        ("PENSTOCK_TOPIC", "x", "is no setting"),
        ("PENSTOCK_CONFIG", "nowhere.toml", "there is no file nowhere.toml"),
        ("PENSTOCK_INDEX__EPOCH", "32", "index.epoch"),
        ("PENSTOCK_INDEX__EPOCH", "one", "index.epoch"),
        ("PENSTOCK_INDEX__TENANT_FROM", "body", "index.tenant_from"),
        ("PENSTOCK_INDEX__TENANT", "acme", "go together"),
        ("PENSTOCK_INDEX__TENANT", "a b/c", "letters, digits"),
        ("PENSTOCK_INDEX__CHUNK_OVERLAP", "300", "half of chunk_tokens"),
        ("PENSTOCK_KAFKA__SECURITY_PROTOCOL", "SASL_SSL", "needs sasl_username"),
        ("PENSTOCK_QDRANT__URL", "localhost:6333", "must begin with http"),
        ("PENSTOCK_QDRANT__API_KEY", "s3cret", "over http"),
        ("PENSTOCK_QDRANT__COLLECTION", "a/b", "qdrant.collection"),
        ("PENSTOCK_MODEL__PROVIDER", "tpu", "model.provider"),
        ("PENSTOCK_KAFKA__TOPIC", "notes,memos", "offsets of several topics cannot be compared.*INDEX__ORDER"),
        ("PENSTOCK_KAFKA__TOPIC", "^notes.*", "offsets of several topics cannot be compared.*INDEX__ORDER"),
        ("PENSTOCK_KAFKA__TOPIC", "^notes(", "kafka.topic: no regular expression"),
        ("PENSTOCK_KAFKA__TOPIC", "notes,,memos", "kafka.topic: an empty name among the topics"),
        ("PENSTOCK_KAFKA__TOPIC", "notes,notes", "kafka.topic: a topic is named twice"),
        ("PENSTOCK_KAFKA__TOPIC", "notes,notes.dlq", "the dead letters of 'notes' would be read as documents"),
        ("PENSTOCK_INDEX__TOPICS", '{"memos": {}}', r"index\.topics: 'memos' is none of kafka\.topic \(documents\)"),
        ("PENSTOCK_INDEX__MAPPING", "[]", r"index\.mapping: Input should be a valid dictionary \(PENSTOCK_INDEX"),
        ("PENSTOCK_INDEX__MAPPING", '{"id": "a..b"}', r"index\.mapping: .*has an empty name in it"),
        ("PENSTOCK_INDEX__MAPPING", '{"identity": "a"}', r"index\.mapping\.identity: no such setting"),
        ("PENSTOCK_INDEX__TENANT_FROM", "field", "tenant_from = field: mapping.tenant says which one"),
        ("PENSTOCK_KAFKA__TOPIC", "my notes", "kafka.topic: the name of a topic"),
        ("PENSTOCK_KAFKA__TOPIC", "notizen.für.alle", "kafka.topic: the name of a topic"),
        ("PENSTOCK_KAFKA__TOPIC", "..", "kafka.topic: the name of a topic"),
        ("PENSTOCK_KAFKA__TOPIC", "n" * 250, "kafka.topic: the name of a topic"),
        ("PENSTOCK_KAFKA__TOPIC", "n" * 246, "<topic>.dlq has more than 249 characters"),
        ("PENSTOCK_KAFKA__DEAD_LETTER_TOPIC", "documents", "dead_letter_topic is the topic itself"),
        ("PENSTOCK_KAFKA__DEAD_LETTER_TOPIC", "a/b", "kafka.dead_letter_topic: the name of a topic"),
        ("PENSTOCK_KAFKA__BOOTSTRAP_SERVERS", "SASL_SSL://kafka:9092", "host:port, comma-separated"),
        ("PENSTOCK_QUERY__TOPIC", "one,two", "query.topic: the name of a topic.*not a list"),
        ("PENSTOCK_QUERY__REPLY_TOPIC", "a b", "query.reply_topic: the name of a topic"),
        ("PENSTOCK_QDRANT__URL", "http://qdrant:6333/s3cret", "url ends with host and port: all traffic is gRPC"),
        ("PENSTOCK_QDRANT__URL", "http://qdrant:6333/?api-key=s3cret", "url ends with host and port"),
        ("PENSTOCK_QDRANT__URL", "http://qdrant:6333#s3cret", "url ends with host and port"),
        (
            "PENSTOCK_QDRANT__URL",
            "http://me:s3cret@qdrant:6333",
            "url is no place for a user or a password: use api_key",
        ),
        ("PENSTOCK_QDRANT__URL", "http://s3cret@qdrant:6333", "no place for a user"),
        ("PENSTOCK_QDRANT__URL", "http://:6333", "url: no host and port"),
        ("PENSTOCK_QDRANT__URL", "http://qdrant:port", "url: no host and port"),
        ("PENSTOCK_QDRANT__URL", "http://qdrant:66666", "url: no host and port"),
        ("PENSTOCK_QDRANT__PATH", "~nobody-of-that-name/points", "there is no such user's home"),
        ("PENSTOCK_INDEX__UNKNOWN_FIELDS", "keep", "index.unknown_fields"),
        ("PENSTOCK_QUERY__TIMEOUT_S", "1e9", "timeout_s may not be above max_timeout_s"),
        ("PENSTOCK_QUERY__TOPIC", "documents", "need topics of their own"),
        ("PENSTOCK_HTTP__API_KEYS", '{"a": "short"}', "api_keys"),
        ("PENSTOCK_HTTP__API_KEYS", "no JSON", "a variable that holds a map or a list is JSON"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=said) as caught:
        settings.load()
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[kafka]\ngruop = "x"\n', "kafka.gruop: no such setting; did you mean group"),
        ('[kafak]\ngroup = "x"\n', r"\[kafak\].*did you mean kafka"),
        ("[kafka\n", "penstock.toml"),
        ('[kafka]\ngroup = "größe"\n'.encode("latin-1"), "penstock.toml: line 2: not UTF-8 .byte 0xf6.; Latin-1"),
        ('[kafka]\ngroup = "x"\n'.encode("utf-16"), "penstock.toml: it is in UTF-16: write UTF-8"),
    ],
)
def test_a_wrong_file_is_named(text: str | bytes, said: str) -> None:
    Path("penstock.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Misconfigured, match=said):
        settings.load()


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    Path("penstock.toml").write_bytes(b'\xef\xbb\xbf[kafka]\r\ngroup = "marked"\r\n')
    assert settings.load().kafka.group == "marked"


def test_a_misspelt_name_in_dotenv_is_named() -> None:
    Path(".env").write_text("OTHER=1\nPENSTOCK_KAFKA__TOPICS=x\n")
    with pytest.raises(Misconfigured, match=r"PENSTOCK_KAFKA__TOPICS in \.env"):
        settings.load()


@pytest.mark.parametrize(
    ("group", "fields"),
    [
        (settings.KafkaSettings, {"ssl_check_hostname": False}),
        (settings.QdrantSettings, {"url": "http://qdrant:6333", "api_key": "s3cret"}),
    ],
)
def test_what_lets_others_read_or_pose_needs_to_be_asked_for(
    group: type[settings.KafkaSettings | settings.QdrantSettings], fields: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="set allow_insecure"):
        group.model_validate(fields)
    group.model_validate(fields | {"allow_insecure": True})


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "0.0.0.0", "api_keys": {"acme": "a key of sixteen"}},  # noqa: S104
        {"host": "0.0.0.0", "enabled": False},  # noqa: S104
        *({"host": host} for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3")),
    ],
)
def test_a_query_worker_listens_where_nobody_is_or_where_keys_are_asked_for(fields: dict[str, object]) -> None:
    settings.HttpSettings.model_validate(fields).check_closed()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "search.example", ""])  # noqa: S104
def test_a_query_worker_that_others_can_reach_needs_keys_or_leave(host: str) -> None:
    given = settings.HttpSettings(host=host)
    with pytest.raises(Misconfigured, match="set PENSTOCK_HTTP__API_KEYS, listen on"):
        given.check_closed()
    given.model_copy(update={"allow_insecure": True}).check_closed()


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        (["intranet.example"], "is none: like https://intranet.example"),
        (["https://intranet.example/"], "is none"),
        (["*"], "name the pages"),
    ],
)
def test_pages_that_may_ask_are_named_as_browsers_name_them(origins: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings.HttpSettings.model_validate({"cors_origins": origins})
    settings.HttpSettings.model_validate({"cors_origins": ["https://intranet.example:8443", "http://[::1]:3000"]})


def test_a_password_in_the_clear_needs_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SECURITY_PROTOCOL", "SASL_PLAINTEXT"), ("SASL_USERNAME", "u"), ("SASL_PASSWORD", "s3cret")):
        monkeypatch.setenv(f"PENSTOCK_KAFKA__{name}", value)
    with pytest.raises(Misconfigured, match="in the clear"):
        settings.load()
    monkeypatch.setenv("PENSTOCK_KAFKA__ALLOW_INSECURE", "true")
    loaded = settings.load()
    assert loaded.kafka.sasl_password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(loaded) + json.dumps(loaded.model_dump(mode="json"))


def test_the_letters_of_queries_are_not_read_as_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOPIC", "DEAD_LETTER_TOPIC"):
        monkeypatch.setenv(f"PENSTOCK_QUERY__{name}", "questions")
    with pytest.raises(Misconfigured, match="query: dead_letter_topic is the topic itself"):
        settings.load()


@pytest.mark.parametrize("url", ["http://qdrant:6333", "https://qdrant", "http://qdrant:6333/", "http://[::1]:6333"])
def test_a_server_is_a_host_and_a_port(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PENSTOCK_QDRANT__URL", url)
    assert settings.load().qdrant.url == url


@pytest.mark.parametrize("cleanup", ["compact", "compact,delete"])
def test_a_compacted_topic_cannot_be_ordered_by_versions(monkeypatch: pytest.MonkeyPatch, cleanup: str) -> None:
    monkeypatch.setenv("PENSTOCK_SETUP__CLEANUP", cleanup)
    loaded = settings.load()
    assert loaded.setup.cleanup_for(loaded.index.needs("documents")) == cleanup
    monkeypatch.setenv("PENSTOCK_INDEX__ORDER", "event")
    with pytest.raises(
        Misconfigured,
        match=r"setup\.cleanup: a topic would be compacted, which keeps the last event.*cleanup\.policy = delete",
    ):
        settings.load()


def test_what_the_broker_may_remove_follows_from_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    assert loaded.setup.cleanup_for(loaded.index.needs("documents")) == "compact"
    monkeypatch.setenv("PENSTOCK_INDEX__ORDER", "event")
    loaded = settings.load()
    assert loaded.setup.cleanup_for(loaded.index.needs("documents")) == "delete"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("PENSTOCK_KAFKA__GROUP=s3cret\r\n".encode("utf-16"), r"\.env: it is in UTF-16: write UTF-8"),
        ("PENSTOCK_KAFKA__GROUP=s3cret\n".encode("utf-16-le"), r"\.env: it is in UTF-16"),
        (
            "# Schlüssel\nPENSTOCK_KAFKA__GROUP=s3cret\n".encode("latin-1"),
            r"\.env: line 1: not UTF-8 .byte 0xfc.; Latin-1",
        ),
        (b"A=1\n\nPENSTOCK_KAFKA__GROUP: s3cret\n", r"\.env, line 3: write NAME=value \(for PENSTOCK_KAFKA__GROUP\)"),
        (b"# c\n\nPENSTOCK_KAFKA__GROUP s3cret\n", r"\.env, line 3: write NAME=value \(for PENSTOCK_KAFKA__GROUP\)"),
        (b"A=1\nPENSTOCK_KAFKA__GROUP\n", r"\.env, line 2: write NAME=value \(for PENSTOCK_KAFKA__GROUP\)"),
        (b"A=1\nPENSTOCK_KAFKA__GROUP='s3cret\n", r"\.env, line 2: write NAME=value"),
        (b"s3cret: yaml\nB=2\n- s3cret\n", r"\.env, line 1: write NAME=value; \.env, line 3: write NAME=value"),
    ],
)
def test_a_dotenv_is_read_whole_or_not_at_all_and_never_shown(content: bytes, said: str) -> None:
    Path(".env").write_bytes(content)
    with pytest.raises(Misconfigured, match=said) as caught:
        settings.load()
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_dotenv_may_hold_beside_settings() -> None:
    lines = (
        "\ufeffPENSTOCK_KAFKA__GROUP='größe'\r\n\r\n# more\r\nexport OTHER=1\r\nFLAG\r\nPENSTOCK_KAFKA__CLIENT_ID=\r\n"
    )
    Path(".env").write_bytes(lines.encode())
    assert settings.load().kafka.group == "größe"
    assert settings.origins() == {"PENSTOCK_KAFKA__GROUP": ".env"}


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every setting that is a path, and the two variables that are no settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = [name for name, _, _ in settings.variables() if _is_path(name)]
    assert len(paths) >= 9
    for name in paths:
        monkeypatch.setenv(name, "~/there")
    monkeypatch.setenv("PENSTOCK_CONFIG", "~/penstock.toml")
    (tmp_path / "penstock.toml").write_text('[kafka]\ngroup = "at-home"\n')
    mounted(tmp_path / "secrets", PENSTOCK_KAFKA__CLIENT_ID="mounted")
    monkeypatch.setenv("PENSTOCK_SECRETS", "~/secrets")
    loaded = settings.load()
    for name in paths:
        group, field = name.removeprefix("PENSTOCK_").lower().split("__")
        assert getattr(getattr(loaded, group), field) == tmp_path / "there", name
    assert (loaded.kafka.group, loaded.kafka.client_id) == ("at-home", "mounted")


def _is_path(name: str) -> bool:
    group, field = name.removeprefix("PENSTOCK_").lower().split("__")
    model = settings.Settings.model_fields[group].annotation
    assert model is not None
    return "Path" in str(model.model_fields[field].annotation)


def test_every_setting_says_what_it_means() -> None:
    for name, _, meaning in settings.variables():
        assert meaning, name


def mounted(folder: Path, **values: str) -> None:
    """As Kubernetes mounts a Secret: links to a folder that is exchanged as a whole."""
    data = folder / "..2026_11_25"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to(data.name)
    for name, value in values.items():
        (data / name).write_text(f"{value}\n")
        (folder / name).symlink_to(f"..data/{name}")


def test_secrets_are_read_from_mounted_files_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted(tmp_path / "secrets", PENSTOCK_QDRANT__API_KEY="s3cret", PENSTOCK_KAFKA__CLIENT_ID="mounted")
    monkeypatch.setenv("PENSTOCK_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv("PENSTOCK_QDRANT__URL", "https://qdrant:6333")
    Path("penstock.toml").write_text('[kafka]\nclient_id = "file"\ngroup = "file"\n')
    loaded = settings.load()
    assert loaded.qdrant.api_key.get_secret_value() == "s3cret"
    assert loaded.kafka.client_id == "mounted"
    assert "s3cret" not in repr(loaded) + json.dumps(loaded.model_dump(mode="json"))
    assert settings.origins() == {
        "PENSTOCK_KAFKA__GROUP": "penstock.toml",
        "PENSTOCK_KAFKA__CLIENT_ID": str(tmp_path / "secrets"),
        "PENSTOCK_QDRANT__URL": "environment",
        "PENSTOCK_QDRANT__API_KEY": str(tmp_path / "secrets"),
    }


def test_a_misspelt_secret_and_a_missing_folder_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted(tmp_path / "secrets", PENSTOCK_QDRANT__APIKEY="s3cret")
    monkeypatch.setenv("PENSTOCK_SECRETS", str(tmp_path / "secrets"))
    with pytest.raises(Misconfigured, match=r"APIKEY.*did you mean PENSTOCK_QDRANT__API_KEY") as caught:
        settings.load()
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("PENSTOCK_SECRETS", str(tmp_path / "none"))
    with pytest.raises(Misconfigured, match="PENSTOCK_SECRETS: there is no folder"):
        settings.load()


def test_a_secret_that_is_no_text_is_told_without_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "PENSTOCK_QDRANT__API_KEY").write_bytes(b"s3cret\xff")
    monkeypatch.setenv("PENSTOCK_SECRETS", str(tmp_path))
    with pytest.raises(Misconfigured, match=r"PENSTOCK_SECRETS: a file in .* is no UTF-8 text") as caught:
        settings.load()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER"}, "needs sasl_token_file"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CHECK_HOSTNAME": "false"}, "anyone may pose as the broker"),
    ],
)
def test_what_leaves_a_login_open_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA__{name}", value)
    with pytest.raises(Misconfigured, match=said):
        settings.load()
    monkeypatch.setenv("PENSTOCK_KAFKA__ALLOW_INSECURE", "true")
    monkeypatch.setenv("PENSTOCK_KAFKA__SASL_TOKEN_FILE", "token")
    settings.load()


def test_the_models_that_come_with_the_package_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_MODEL__BUNDLE", "shipped")
    Path("penstock.toml").write_text('[rerank]\nbundle = "shipped"\n')
    loaded = settings.load()
    for bundle, kind in ((loaded.model.bundle, "embedding"), (loaded.rerank.bundle, "reranker")):
        assert bundle is not None
        assert (bundle.name, (bundle / "bundle.json").is_file()) == (kind, True)
    monkeypatch.setenv("PENSTOCK_MODEL__BUNDLE", str(Path.cwd() / "shipped"))
    assert settings.load().model.bundle == Path.cwd() / "shipped"


def test_a_working_directory_that_may_not_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("penstock.settings.dotenv.Path.is_file", denied)
    with pytest.raises(Misconfigured, match=r"cannot read \.env: Permission denied"):
        settings.load()
