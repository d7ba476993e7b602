"""Logging in to Amazon MSK with IAM credentials. The only importer of Amazon's signer, which is an extra."""

from kafka import errors as kafka_errors
from kafka.net.sasl.oauth import AbstractTokenProvider

from penstock.core.errors import Misconfigured


class SignedToken(AbstractTokenProvider):  # type: ignore[misc]  # the library is untyped
    """The token for OAUTHBEARER, signed at each login: it holds for a quarter of an hour.

    Credentials are those that AWS's own tools find: variables, a web identity or pod identity, the machine's role.
    """

    def __init__(self, region: str) -> None:
        """Raises Misconfigured where the extra is missing."""
        super().__init__()
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise Misconfigured(f"kafka.sasl_provider = msk needs the extra msk ({error.name} is missing)") from None
        self._sign, self._region = MSKAuthTokenProvider.generate_auth_token, region

    def token(self) -> str:
        """Raises a failure that a login counts as refused where there are no credentials."""
        try:
            token, _expires_ms = self._sign(self._region)
        except Exception as error:  # botocore's classes, of files, of variables and of services that give credentials
            # where it finds no credentials, the signer reads the key of None
            told = "found no AWS credentials" if isinstance(error, AttributeError) else str(error)
            reason = " ".join(told.split()) or type(error).__name__
            raise kafka_errors.SaslAuthenticationFailedError(f"no token for Amazon MSK: {reason}") from error
        return str(token)
