"""The distribution API of OCI registries: a reference, manifests and blobs, and logging in. An importer of httpx."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import httpx
from typing_extensions import override

from penstock.adapters.bundles.source import BLOCK_BYTES, Report
from penstock.adapters.certificates import certificates
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.hosts import is_local, leaks
from penstock.settings import FetchSettings

T = TypeVar("T")

DIGEST = r"sha256:[0-9a-f]{64}"
REFERENCE = re.compile(
    rf"oci(?P<plain>\+http)?://(?P<host>[A-Za-z0-9.:\[\]-]+)/(?P<name>[a-z0-9._/-]+)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>{DIGEST}))?",
    re.ASCII,
)
ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)
MANIFEST_BYTES = 4 << 20
"""What registries allow."""

TRIES, PAUSE_S = 6, 0.1
"""So often in a row without a byte of progress, with pauses that double."""

PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Reference(NamedTuple):
    """An artifact: in which registry, under which name, and which; a digest counts, where there is one."""

    url: str
    name: str
    tag: str
    digest: str


class Blob(NamedTuple):
    """Bytes, named by their sha256."""

    digest: str
    size: int


def reference(address: str) -> Reference:
    """Raises Misconfigured for what is none."""
    found = REFERENCE.fullmatch(address)
    if found is None or not (found["tag"] or found["digest"]):
        raise Misconfigured(
            f"{address}: no reference; like oci://registry.example/models/qwen3:1, or with @sha256:… instead of the tag"
        )
    scheme = "http" if found["plain"] else "https"
    return Reference(f"{scheme}://{found['host']}", found["name"], found["tag"] or "", found["digest"] or "")


class Registry:
    """One repository of a registry."""

    def __init__(self, named: Reference, settings: FetchSettings) -> None:
        """Does not reach out yet; raises Misconfigured for http to another machine, unless that is allowed."""
        self._named, self._root = named, f"{named.url}/v2/{named.name}"
        if leaks(named.url) and not settings.allow_insecure:
            raise Misconfigured(
                f"{named.url}: over http anyone on the way may read and change what is sent: use oci://, or set "
                "PENSTOCK_FETCH__ALLOW_INSECURE=true"
            )
        host = httpx.URL(named.url).netloc.decode()
        trusted = httpx.create_ssl_context()
        if settings.ca_file is not None:
            trusted.load_verify_locations(
                cadata=certificates("PENSTOCK_FETCH__CA_FILE", settings.ca_file).decode("ascii", "ignore")
            )
        self._client = httpx.Client(
            verify=trusted,
            timeout=settings.timeout_s,
            follow_redirects=True,
            trust_env=not is_local(host),  # a proxy is another machine
        )
        self._client.auth = _Login(self._client, credentials(settings, host), insecure=settings.allow_insecure)

    def manifest(self, digest: str = "") -> dict[str, Any]:
        """That of the reference, or another of the repository; its bytes are those of its digest."""
        wanted = digest or self._named.digest
        url = f"{self._root}/manifests/{wanted or self._named.tag}"
        body = self._patiently(lambda: self._small(url))
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if wanted and found != wanted:
            raise Misconfigured(f"{url}: the registry answers with {found}")
        try:
            made = json.loads(body)
        except ValueError:
            made = None
        if not isinstance(made, dict):
            raise Misconfigured(f"{url}: what answers there is no OCI registry")
        return made

    def download(self, blob: Blob, path: Path, report: Report) -> None:
        """A blob into a file; goes on behind what is there of it. Raises Misconfigured where the bytes are others."""
        with path.open("ab+") as file:
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                report(len(block))
            size = -1
            while size < file.tell() < blob.size:  # else there is no more, whatever the manifest says
                size = file.tell()
                self._patiently(lambda: self._append(blob, file, digest, report))
        if (found := f"sha256:{digest.hexdigest()}") != blob.digest or path.stat().st_size != blob.size:
            path.unlink()
            raise Misconfigured(
                f"{self._root}/blobs/{blob.digest}: what came is {found}: damaged on its way, or in the registry; "
                "fetch again"
            )

    def _append(self, blob: Blob, file: BinaryIO, digest: Any, report: Report) -> None:
        """What is missing, or some of it before the connection breaks."""
        before = file.tell()
        try:
            for block in self._blocks(blob, before):
                digest.update(block)
                file.write(block)
                report(len(block))
                if file.tell() > blob.size:
                    return
        except Unavailable:
            if file.tell() == before:
                raise

    def _patiently(self, call: Callable[[], T]) -> T:
        for failures in range(1, TRIES):
            try:
                return call()
            except Unavailable:
                time.sleep(PAUSE_S * 2**failures)
        return call()

    def _small(self, url: str) -> bytes:
        """A manifest."""
        body = b""
        with self._answer(url, {"Accept": ACCEPT}) as answer:
            for block in answer.iter_bytes():
                body += block
                if len(body) > MANIFEST_BYTES:
                    raise Misconfigured(f"{url} is larger than a manifest may be")
        return body

    def _blocks(self, blob: Blob, begin: int) -> Iterator[bytes]:
        """From that byte on, whether or not the registry can begin there."""
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._answer(f"{self._root}/blobs/{blob.digest}", headers) as answer:
            skipped = 0 if answer.status_code == HTTPStatus.PARTIAL_CONTENT else begin
            for block in answer.iter_raw(BLOCK_BYTES):
                yield block[skipped:]
                skipped = max(0, skipped - len(block))

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A successful one; its failures, and those of reading it, are Misconfigured or Unavailable."""
        try:
            with self._client.stream("GET", url, headers={"Accept-Encoding": "identity"} | headers) as answer:
                _require_success(answer)
                yield answer
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in told:
                raise Misconfigured(f"{url}: {told}: is its authority in PENSTOCK_FETCH__CA_FILE?") from None
            raise Unavailable(f"{url}: {told}") from error


def _require_success(answer: httpx.Response) -> None:
    code, url = answer.status_code, answer.request.url.copy_with(query=None)
    if code in REFUSED:
        raise Misconfigured(
            f"{url}: {code}: the registry refuses: set PENSTOCK_FETCH__USERNAME and PENSTOCK_FETCH__PASSWORD, or "
            "PENSTOCK_FETCH__DOCKER_CONFIG, to a login that may read it"
        )
    if code in PASSING or answer.is_server_error:
        raise Unavailable(f"{url}: {code} {answer.reason_phrase}")
    if not answer.is_success:
        raise Misconfigured(f"{url}: {code} {answer.reason_phrase}")


def credentials(settings: FetchSettings, host: str) -> tuple[str, str] | None:
    """User and password for a registry: those that are set, or those of the file of logins; None for nobody."""
    if settings.username:
        return settings.username, settings.password.get_secret_value()
    if (file := settings.docker_config) is None:
        return None
    try:
        login = json.loads(file.read_bytes()).get("auths", {}).get(host, {})
        if "auth" in login:
            user, _, password = base64.b64decode(login["auth"]).decode().partition(":")
            return user, password
        return (login["username"], login["password"]) if "username" in login else None
    except OSError as error:
        raise Misconfigured(f"PENSTOCK_FETCH__DOCKER_CONFIG: {file}: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise Misconfigured(f"PENSTOCK_FETCH__DOCKER_CONFIG: {file}: no file of logins, like docker's") from None


class _Login(httpx.Auth):
    """What a registry asks for when it refuses a request: a token from elsewhere, or user and password."""

    def __init__(self, client: httpx.Client, known: tuple[str, str] | None, *, insecure: bool) -> None:
        self._client, self._insecure = client, insecure
        self._known = known
        self._header = ""

    @override
    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._header:
            request.headers["Authorization"] = self._header
        answer = yield request
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            self._header = self._asked(answer.headers.get("WWW-Authenticate", ""))
            if self._header:
                request.headers["Authorization"] = self._header
                yield request

    def _asked(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and self._known:
            return f"Basic {base64.b64encode(':'.join(self._known).encode()).decode()}"
        if kind.lower() != "bearer":
            return ""
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = asked.pop("realm", "")
        if not realm.startswith(("https://", "http://")) or (leaks(realm) and not self._insecure):
            raise Misconfigured(f"{realm}: the registry sends logins there, which is not https")
        answer = self._client.get(realm, params=asked, auth=self._known)
        _require_success(answer)
        try:
            given = answer.json()
            return f"Bearer {given.get('token') or given['access_token']}"
        except (ValueError, KeyError, AttributeError):
            raise Misconfigured(f"{realm}: no token in what it answers") from None
