"""Places that keep bundles, on loopback: a registry of OCI artifacts, a store that speaks S3, and a hub."""

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

S = TypeVar("S", bound="Server")
USER, PASSWORD, TOKEN = "alice", "wonder-land", "a-token-of-the-realm"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MODIFIED = "Mon, 01 Jun 2026 00:00:00 GMT"
TAR = "application/vnd.oci.image.layer.v1.tar"
TITLE, UNPACK = "org.opencontainers.image.title", "io.deis.oras.content.unpack"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Server(ThreadingHTTPServer):
    """Answers GET and HEAD; remembers what it was asked, and cuts answers short where it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.cut: int | None = None
        """Of each answer so many bytes come, then the connection ends."""
        self.stall: int | None = None
        """Of each answer so many bytes come, then nothing until the server ends."""
        self.ending = threading.Event()
        self.left: int | None = None
        """After so many answers there is none any more."""
        self.failing = 0
        """So many answers are 503 first."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def find(self, request: "Answer") -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers."""
        raise NotImplementedError


class Answer(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.left is not None:
            self.server.left -= 1
            if self.server.left < 0:
                self.close_connection = True
                return
        status, body, headers = self.server.find(self)
        if self.server.failing:
            self.server.failing -= 1
            status, body, headers = 503, b"", {}
        if status == 200 and (begin := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            self.server.ranges.append(self.headers["Range"])
            status, body = 206, body[int(begin[1]) :]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.server.stall or self.server.cut
        with suppress(ConnectionError):
            if self.command == "GET":
                self.wfile.write(body[:cut])
        if cut is not None and cut < len(body):
            self.close_connection = True
            if self.server.stall:
                self.server.ending.wait()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class OciRegistry(Server):
    """Holds blobs and manifests of any repository; ``login`` is None, basic or bearer."""

    def __init__(self, login: str | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.login, self.realm = login, ""
        super().__init__()

    def find(self, request: Answer) -> tuple[int, bytes, Mapping[str, str]]:
        path, _, query = request.path.partition("?")
        said = request.headers.get("Authorization", "")
        known = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if path == "/token":
            assert "scope=repository%3Amodels%2Fqwen3%3Apull" in query
            return (200, json.dumps({"token": TOKEN}).encode(), {}) if said == known else (401, b"", {})
        if self.login and said != {"basic": known, "bearer": f"Bearer {TOKEN}"}[self.login]:
            realm = self.realm or f"http://{self.address}/token"
            scope = f'realm="{realm}",service="here",scope="repository:models/qwen3:pull"'
            return 401, b"", {"WWW-Authenticate": f"Bearer {scope}" if self.login == "bearer" else 'Basic realm="x"'}
        if path.startswith("/v2/models/qwen3/manifests/"):
            kind, body = self.manifests.get(path.rpartition("/")[2], ("", b""))
            return (200, body, {"Content-Type": kind}) if kind else (404, b"", {})
        body = self.blobs.get(path.removeprefix("/v2/models/qwen3/blobs/"), b"")
        return (200, body, {}) if body else (404, b"", {})

    def layer(self, content: bytes, kind: str = TAR, **notes: str) -> dict[str, Any]:
        """As oras pushes files: their kind says tar, whatever they are."""
        self.blobs[digest(content)] = content
        annotations = {{"title": TITLE, "unpack": UNPACK}[name]: text for name, text in notes.items()}
        return {"mediaType": kind, "digest": digest(content), "size": len(content), "annotations": annotations}

    def tag(self, name: str, manifest: Mapping[str, Any]) -> str:
        """A manifest under a tag; its digest."""
        body = json.dumps(manifest).encode()
        self.manifests[name] = self.manifests[digest(body)] = (manifest["mediaType"], body)
        return digest(body)

    def push(self, name: str, *layers: Mapping[str, Any]) -> str:
        return self.tag(name, {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers})

    def push_files(self, name: str, folder: Path, **instead: bytes) -> str:
        """A layer per file."""
        held = files(folder) | {title.replace("_", "."): content for title, content in instead.items()}
        return self.push(name, *(self.layer(content, title=title) for title, content in held.items()))


Add = Callable[[tarfile.TarFile], None]


def tar(folder: Path, under: str = "", mode: str = "w:gz", add: Add = lambda _: None) -> bytes:
    """Of a folder; ``add`` puts more in."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]  # the mode is a choice
        archive.add(folder, arcname=under or ".")
        add(archive)
    return made.getvalue()


class S3(Server):
    """One bucket, whose requests must be signed; the signature is computed by Amazon's own library."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects = objects
        super().__init__()

    def find(self, request: Answer) -> tuple[int, bytes, Mapping[str, str]]:
        if not self._signed(request):
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", {}
        body = self.objects.get(request.path.removeprefix("/bucket/"))
        if body is None:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
        return 200, body, {"ETag": f'"{digest(body)}"', "Last-Modified": MODIFIED}

    def _signed(self, request: Answer) -> bool:
        said = request.headers.get("Authorization", "")
        signed = re.search(r"Credential=(\w+)/\d+/([\w-]+)/s3/.*SignedHeaders=([\w;-]+),.*Signature=(\w+)", said)
        if signed is None or signed[1] != USER:
            return False
        kept = {name: request.headers[name] for name in signed[3].split(";")}
        asked = AWSRequest(request.command, f"http://{self.address}{request.path}", headers=kept)
        asked.context["timestamp"] = kept["x-amz-date"]
        expected = SigV4Auth(Credentials(USER, PASSWORD), "s3", signed[2])
        text = expected.string_to_sign(asked, expected.canonical_request(asked))
        return bool(expected.signature(text, asked) == signed[4])


class Plain(Server):
    """Files by their paths."""

    def __init__(self, held: Mapping[str, bytes]) -> None:
        self.held = held
        super().__init__()

    def find(self, request: Answer) -> tuple[int, bytes, Mapping[str, str]]:
        body = self.held.get(request.path)
        return (404, b"", {}) if body is None else (200, body, {"Last-Modified": MODIFIED})


class BundleHub(Server):
    """One repository, with the answers of a hub of models."""

    COMMIT: ClassVar[str] = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, name: str, held: Mapping[str, bytes]) -> None:
        self.name, self.held = name, held
        super().__init__()

    def find(self, request: Answer) -> tuple[int, bytes, Mapping[str, str]]:
        found = re.fullmatch(rf"/{self.name}/resolve/(?:main|v1|{self.COMMIT})/(.*)", request.path)
        if not request.path.startswith(f"/{self.name}/"):
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        if found is None:
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        body = self.held.get(found[1])
        if body is None:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.COMMIT}
        return 200, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": self.COMMIT}


@contextmanager
def serving(server: S) -> Iterator[S]:
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
