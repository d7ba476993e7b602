"""The demo with a stranger's own documents: what is found, forgotten and left out, and what is said of it."""

import json
import os
import pty
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import running
from tests.integration.test_demo import command
from tests.workers import environment

SECONDS = 60


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "chess.md").write_text("intro\n\n# A program that plays chess #\n\nIt plays chess against you.\n")
    (folder / "deep" / "audio.txt").write_text("A recorder for sound from a microphone.\n")
    (folder / "old.rst").write_text("A mail reader that will be removed.\n")
    (folder / "latin.txt").write_bytes(b"M\xfchle\n")
    (folder / "empty.md").write_text("\n")
    (folder / ".hidden.md").write_text("hidden")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def run(cwd: Path, *arguments: str, asked: str = "") -> subprocess.CompletedProcess[str]:
    env = environment() | {"XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(
        command("demo", *arguments), cwd=cwd, env=env, input=asked, capture_output=True, timeout=SECONDS, check=False,
        text=True,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("notes")
def test_files_of_a_folder_are_documents_and_what_is_none_is_said(tmp_path: Path) -> None:
    found = told(run(tmp_path, "--from", "notes", "--json", asked="play chess\n\nrecord sound\n" + "x" * 9000 + "\n"))
    assert found["documents"] == 3
    assert found["outcomes"]["indexed"] == 3
    assert [line.split("notes/")[1] for line in found["left_out"]] == [
        "empty.md: empty",
        "latin.txt: line 1: not UTF-8 (byte 0xfc); Latin-1 or Windows-1252? Save it as UTF-8",
    ]
    chess, audio, long = found["queries"]
    assert (chess["query"], chess["hits"][0]["document"]) == ("play chess", "chess.md")
    assert chess["hits"][0]["title"] == "A program that plays chess"
    assert (audio["hits"][0]["document"], audio["hits"][0]["title"]) == ("deep/audio.txt", "audio")
    assert "tokens" in long["error"]


def test_the_next_run_takes_up_what_changed_and_forgets_what_has_gone(notes: Path, tmp_path: Path) -> None:
    told(run(tmp_path, "--from", "notes", "--json"))
    (notes / "old.rst").unlink()
    (notes / "deep" / "audio.txt").write_text("A planetarium.\n")
    found = told(run(tmp_path, "--from", "notes", "--json", asked="planetarium\nmail reader\n"))
    assert {name: count for name, count in found["outcomes"].items() if count} == {
        "unchanged": 1, "indexed": 1, "deleted": 1
    }  # fmt: skip
    assert found["documents"] == 2
    assert found["queries"][0]["hits"][0]["document"] == "deep/audio.txt"
    assert "old.rst" not in {hit["document"] for hit in found["queries"][1]["hits"]}


def test_lines_of_a_file_are_events_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    lines = ('{"id": "a", "text": "plays chess"}', '{"id": "b"}', '{"id": "c", "text": "a turbine"}')
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    done = run(tmp_path, "--from", "mine.jsonl", asked="chess\n")
    assert done.returncode == 0, done.stderr
    assert "2 documents in 2 chunks" in done.stdout
    assert "1 dead lettered, 2 indexed" in done.stdout
    assert "What could not be indexed, and why: mine.jsonl.dlq.jsonl" in done.stdout
    assert "text is missing" in (tmp_path / "mine.jsonl.dlq.jsonl").read_text()
    assert "a: plays chess" in done.stdout.split("\n  chess\n")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "nothing"), "cannot read nothing: No such file"),
        (("--from", "bare"), "bare: no documents in it, which are files that end in .txt"),
        (("--from", "bare.jsonl"), "bare.jsonl: no documents in it; a line of JSON for each"),
        (("--from", "wrong.jsonl"), "wrong.jsonl: nothing in it could be indexed; wrong.jsonl.dlq.jsonl says why"),
        (("--from", "bare", "--bootstrap-servers", "x:1"), "through Kafka: penstock index"),
    ],
)
def test_what_holds_no_documents_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare.jsonl").write_text("\n\n")
    (tmp_path / "wrong.jsonl").write_text("no JSON\n")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("notes")
def test_queries_are_typed_by_hand(tmp_path: Path) -> None:
    hand, terminal = pty.openpty()
    env = environment() | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(
        command("demo", "--from", "notes"), cwd=tmp_path, env=env, stdin=terminal, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.write(hand, b"play chess\n\n")
        out, err = process.communicate(timeout=SECONDS)
    os.close(hand)
    os.close(terminal)
    assert process.returncode == 0, err.decode()
    assert err.decode().count("search>") == 2
    assert "chess.md" in out.decode().split("play chess\n")[1].splitlines()[0]


@pytest.mark.usefixtures("notes")
def test_the_page_shows_ones_own_documents(tmp_path: Path) -> None:
    env = environment() | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    serving = command("demo", "--from", "notes", "--serve", "--port", "0")
    with running(serving, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(line.split()[3] for line in process.stdout if "Search it at" in line)
        body = json.dumps({"query": "microphone", "top_k": 1}).encode()
        with urllib.request.urlopen(f"{url}v1/search", body, timeout=SECONDS) as answer:  # noqa: S310  # our own
            assert json.loads(answer.read())["hits"][0]["document"] == "deep/audio.txt"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
