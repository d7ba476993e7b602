"""``penstock export`` of a repository: the real client of the hub, against a server with the hub's answers."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from penstock.models.bundle import load
from tests.checkpoints import Shape, checkpoint
from tests.integration.test_cli import one_line
from tests.workers import penstock

pytest.importorskip("transformers")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/Qwen3-Embedding-tiny"


class Hub(ThreadingHTTPServer):
    """Serves one repository from a folder, and remembers which of its files were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.asked = folder, set[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def find(self, path: str) -> tuple[int, bytes]:
        if path.startswith(f"/api/models/{NAME}/revision/"):
            files = sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file())
            siblings = [{"rfilename": name} for name in files]
            return 200, json.dumps({"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings}).encode()
        if path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            name = path.split(f"{COMMIT}/")[1]
            self.asked.add(name)
            return 200, (self.folder / name).read_bytes()
        return 404, b'{"error": "Repository not found"}'


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def do_HEAD(self) -> None:
        self.reply()

    def do_GET(self) -> None:
        self.wfile.write(self.reply())

    def reply(self) -> bytes:
        status, body = self.server.find(self.path.split("?")[0])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status != 200:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    checkpoint(folder, Shape(shard="60KB"))
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not wanted")
    started = Hub(folder)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{started.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield started
    started.shutdown()
    started.server_close()


def test_a_repository_is_fetched_as_far_as_needed_and_its_commit_remembered(tmp_path: Path, hub: Hub) -> None:
    done = penstock(tmp_path, "export", NAME, "-o", "bundle", "--revision", "main")
    assert done.returncode == 0, done.stderr.decode()
    manifest = load(tmp_path / "bundle").manifest
    assert (manifest.source, manifest.revision) == (NAME, COMMIT)
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= hub.asked
    assert len([name for name in hub.asked if name.startswith("model-0")]) > 1
    assert not {"pytorch_model.bin", "onnx/model.onnx"} & hub.asked


def test_a_repository_that_is_not_there_is_one_line(tmp_path: Path, hub: Hub) -> None:
    said = one_line(penstock(tmp_path, "export", "someone/else", "-o", "bundle"), 2)
    assert "cannot fetch someone/else" in said
    assert not hub.asked
    assert not (tmp_path / "bundle").exists()
