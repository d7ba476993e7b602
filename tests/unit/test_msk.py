"""Logging in to Amazon MSK: the signer makes tokens without asking anyone, from the credentials that it finds."""

import base64
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from kafka import errors as kafka_errors

from penstock import settings
from penstock.adapters.kafka.connection import client_options
from penstock.core.errors import Misconfigured
from penstock.settings import KafkaSettings

MSK = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_provider": "msk",
    "sasl_region": "eu-central-1",
}


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine's owner; nor is a machine asked for its role."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_each_login_gets_a_token_that_is_signed_for_the_cluster_of_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = client_options(KafkaSettings.model_validate(MSK))["sasl_oauth_token_provider"]
    asked = []
    for key in ("AKIAFIRST", "AKIASECOND"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        token = provider.token()
        url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
        asked.append({name: values[0] for name, values in parse_qs(url.query).items()})
        assert url.hostname == "kafka.eu-central-1.amazonaws.com"
    for key, query in zip(("AKIAFIRST", "AKIASECOND"), asked, strict=True):
        assert query["Action"] == "kafka-cluster:Connect"
        assert query["X-Amz-Credential"].startswith(f"{key}/")
        assert "/eu-central-1/kafka-cluster/" in query["X-Amz-Credential"]
        assert query["X-Amz-Signature"]


def test_a_login_without_credentials_is_refused_with_the_reason() -> None:
    provider = client_options(KafkaSettings.model_validate(MSK))["sasl_oauth_token_provider"]
    with pytest.raises(
        kafka_errors.SaslAuthenticationFailedError, match="no token for Amazon MSK: found no AWS credentials"
    ):
        provider.token()


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    with pytest.raises(Misconfigured, match="needs the extra msk"):
        client_options(KafkaSettings.model_validate(MSK))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("security_protocol", "SASL_PLAINTEXT", "needs security_protocol = SASL_SSL"),
        ("sasl_mechanism", "PLAIN", "needs security_protocol = SASL_SSL and sasl_mechanism = OAUTHBEARER"),
        ("sasl_region", "", "needs sasl_region"),
        ("sasl_region", "https://x", "sasl_region"),
        ("sasl_token_file", "token", "would not be read"),
    ],
)
def test_settings_that_do_not_go_with_it_are_told(
    field: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, given in (MSK | {"allow_insecure": "true", field: value}).items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA__{name.upper()}", given)
    with pytest.raises(Misconfigured, match=said):
        settings.load()
