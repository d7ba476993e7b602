"""Files of certificates, read before a library that would only say that a handshake failed."""

import ssl
from pathlib import Path

from penstock.core.errors import Misconfigured


def certificates(variable: str, file: Path) -> bytes:
    """A PEM file of authorities; raises Misconfigured that names the ``variable`` unless there are any in it."""
    try:
        ssl.create_default_context(cafile=file)
        return file.read_bytes()
    except ssl.SSLError:
        raise Misconfigured(f"{variable}: {file} holds no certificate in PEM") from None
    except OSError as error:
        raise Misconfigured(f"{variable}: {file}: {error.strerror}") from None
