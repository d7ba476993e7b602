"""The commands, as a user types them: in a process of their own, wrong input included."""

import gzip
import json
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from penstock.adapters.kafka.topics import TopicSpec, ensure
from penstock.adapters.qdrant.connection import Connection
from penstock.events import schemas
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import ROOT, running, stored
from tests.kafka_tools import committed, document, new_topic, produce, read_all
from tests.store_server import StoreServer
from tests.workers import PENSTOCK, SECONDS, environment, penstock

SHIPPED = ROOT / "worker" / "penstock" / "data" / "models" / "embedding"


def one_line(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """What it says on stderr when it fails: a line for people, after the log."""
    assert done.returncode == code, done.stderr.decode()
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    return lines[0]


def ended(done: subprocess.CompletedProcess[bytes]) -> dict[str, int]:
    """The counts of the last log line."""
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stderr.decode().splitlines()]
    assert lines[-1]["event"] == "ended"
    outcomes = ("indexed", "unchanged", "superseded", "deleted", "deleted_unknown", "dead_lettered")
    return {name: lines[-1][name] for name in outcomes}


BAD_LINES = [
    b"nope",
    b'{"id": "x", "text": "\xff"}',
    b'{"id": 7, "text": "x"}',
    b'{"text": "no id"}',
    b'{"id": "x", "text": ""}',
    b'{"id": "x", "text": "' + b"word " * 2_000_000 + b'"}',
    b'{"id": "x", "text": "' + b"word " * 700_000 + b'"}',
    b'{"id": "x", "text": "x", "metadata": {"n": NaN}}',
    b'{"id": "x", "text": "x", "metadata": {"n": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    b'{"id": "x", "text": "x", "op": "merge"}',
    b'{"id": "x", "text": "x", "version": 9007199254740992}',
]


def test_a_file_is_indexed_and_its_bad_lines_become_dead_letters(minilm: Path, tmp_path: Path) -> None:
    good = [document(f"doc/{n}", f"text {n}")[1] for n in range(20)]
    lines = [*good[:10], *BAD_LINES, b"", *good[10:], b'{"id": "doc/3", "op": "delete"}', good[4]]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    model = {"MODEL__BUNDLE": minilm}
    done = penstock(tmp_path, "index", "--from", "events.jsonl", variables=model)
    counts = ended(done)
    assert (counts["deleted"], counts["dead_lettered"]) == (1, len(BAD_LINES))
    assert sum(counts.values()) == 22 + len(BAD_LINES)
    expected = {f"doc/{n}": f"text {n}" for n in range(20) if n != 3}
    assert stored(QdrantSettings(path=tmp_path / "qdrant"), minilm) == expected
    letters = [json.loads(line) for line in (tmp_path / "events.jsonl.dlq.jsonl").read_text().splitlines()]
    assert [letter["offset"] for letter in letters] == list(range(10, 10 + len(BAD_LINES)))
    assert {letter["stage"] for letter in letters} == {"decode", "chunk"}
    assert letters[0]["value"] == "nope"
    assert "value_base64" in letters[1]

    again = penstock(tmp_path, "index", "--from", "-", stdin=b"\n".join(good), variables=model)
    assert ended(again)["unchanged"] == 19
    assert ended(again)["indexed"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,text\nsluice/1,A sluice.\n", "2 of 2 records are dead letters.*begins with 'id,text'"),
        (b'[{"id": "sluice/1", "text": "A sluice."}]', "1 of 1 records.*a list: send what is in it one by one"),
        (b"<sluice>\n<id>1</id>\n</sluice>", "3 of 3 records.*XML or HTML"),
        (b'{"id": "1", "text": "x", "deleted": true}\n', "1 of 1 records.*sounds like a delete"),
        ('{"id": "1", "text": "x"}'.encode("utf-16"), "cannot read events: it is in UTF-16"),
        (b"PK\x03\x04\x14", "cannot read events: it is a zip archive"),
    ],
)
def test_a_file_of_which_nothing_can_be_indexed_is_one_line_and_exit_2(
    content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "events").write_bytes(content)
    done = penstock(tmp_path, "index", "--from", "events", variables={"MODEL__BUNDLE": SHIPPED})
    assert re.search(said, one_line(done, 2))


def test_a_file_from_windows_is_indexed_and_an_empty_one_is_no_failure(tmp_path: Path) -> None:
    lines = b"\xef\xbb\xbf" + b"\r\n".join(document(f"doc/{n}")[1] for n in range(2)) + b"\r\n"
    for stdin, indexed in ((lines, 2), (b"\r\n\n", 0), (b"", 0)):
        done = penstock(tmp_path, "index", "--from", "-", stdin=stdin, variables={"MODEL__BUNDLE": SHIPPED})
        assert ended(done)["indexed"] == indexed
        assert sum(ended(done).values()) == indexed


def test_a_pipe_that_stays_open_does_not_keep_it_from_stopping(minilm: Path, tmp_path: Path) -> None:
    command = [*PENSTOCK, "index", "--from", "-"]
    env = environment(tmp_path, MODEL__BUNDLE=minilm)
    with running(command, env=env, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(document("a")[1] + b"\n" + b"nope\n")
        process.stdin.flush()
        said = b""
        while b"dead_letter" not in said:
            said += process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        said += process.stderr.read()
        assert process.wait(SECONDS) == 0, said.decode()
    assert json.loads(said.splitlines()[-1])["indexed"] == 1
    assert (tmp_path / "stdin.dlq.jsonl").read_text().count("\n") == 1


def test_what_is_wrong_before_the_start_is_one_line_and_exit_2(minilm: Path, tmp_path: Path) -> None:
    def fails(*arguments: str, **variables: object) -> str:
        return one_line(penstock(tmp_path, *arguments, variables=variables), 2)

    (tmp_path / "events.jsonl").write_bytes(document("a")[1])
    file = ("index", "--from", "events.jsonl")
    assert "penstock export" in fails(*file)
    assert "no model bundle in nowhere" in fails(*file, MODEL__BUNDLE="nowhere")
    assert "cannot read nothing.jsonl" in fails("index", "--from", "nothing.jsonl", MODEL__BUNDLE=minilm)
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(document("a")[1]))
    assert "cannot read events.jsonl.gz: it is compressed" in fails(*file[:2], "events.jsonl.gz", MODEL__BUNDLE=minilm)
    assert not (tmp_path / "events.jsonl.gz.dlq.jsonl").exists()
    assert "did you mean PENSTOCK_MODEL__BUNDLE" in fails(*file, MODEL__BUNDEL=minilm)
    assert "supports 128, 256, 384" in fails(*file, MODEL__BUNDLE=minilm, MODEL__DIMENSION=200)
    assert "cuda is not in this build of ONNX Runtime" in fails(*file, MODEL__BUNDLE=minilm, MODEL__PROVIDER="cuda")
    assert "there is no schema" in fails("schema", "nothing.v1")
    assert penstock(tmp_path, *file, variables={"MODEL__BUNDLE": minilm}).returncode == 0
    other = fails(*file, MODEL__BUNDLE=minilm, MODEL__DIMENSION=128)
    assert "built by another model (dimension 384 there, 128 here)" in other


def test_a_folder_in_use_is_one_line(minilm: Path, tmp_path: Path) -> None:
    connection = Connection(QdrantSettings(path=tmp_path / "qdrant"))
    (tmp_path / "events.jsonl").write_bytes(document("a")[1])
    model = {"MODEL__BUNDLE": minilm}
    done = penstock(tmp_path, "index", "--from", "events.jsonl", variables=model)
    connection.close()
    assert "in use by another process" in one_line(done, 2)


def kafka_variables(kafka: KafkaSettings, minilm: Path, **more: object) -> dict[str, object]:
    return {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__TOPIC": kafka.topic,
        "KAFKA__GROUP": kafka.group,
        "MODEL__BUNDLE": minilm,
    } | more


def test_a_pipe_with_a_name_is_read_once_and_whole(minilm: Path, tmp_path: Path) -> None:
    lines = b"\n".join(document(f"doc/{n}")[1] for n in range(3))
    done = penstock(tmp_path, "index", "--from", "/dev/stdin", stdin=lines, variables={"MODEL__BUNDLE": minilm})
    assert ended(done)["indexed"] == 3


def test_a_missing_topic_is_one_line(broker: str, minilm: Path, tmp_path: Path) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic="nowhere")
    done = penstock(tmp_path, "index", "--once", variables=kafka_variables(kafka, minilm))
    assert "topic 'nowhere' does not exist" in one_line(done, 2)


def test_a_compacted_topic_ordered_by_versions_is_one_line(broker: str, tmp_path: Path) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker, topic=f"documents-{uuid.uuid4().hex[:8]}")
    ensure(kafka, [TopicSpec(kafka.topic, 1, -1, {"cleanup.policy": "compact"})])
    variables = kafka_variables(kafka, SHIPPED, INDEX__ORDER="event")
    assert "is compacted, which keeps the last" in one_line(
        penstock(tmp_path, "index", "--once", variables=variables), 2
    )
    variables["INDEX__ORDER"] = "offset"
    assert ended(penstock(tmp_path, "index", "--once", variables=variables))["indexed"] == 0


def test_bad_records_of_a_topic_become_dead_letters_and_the_stream_goes_on(
    broker: str, minilm: Path, tmp_path: Path
) -> None:
    kafka = new_topic(broker)
    records = [document("good/1"), ("bad", b"nope"), ("other-key", document("x")[1]), (None, document("y")[1])]
    produce(kafka, [*records, ("k", b"\xff"), document("good/2")])
    done = penstock(tmp_path, "index", "--once", variables=kafka_variables(kafka, minilm))
    counts = ended(done)
    assert (counts["indexed"], counts["dead_lettered"], sum(counts.values())) == (2, 4, 6)
    letters = read_all(kafka, kafka.dead_letters)
    assert [letter.value for letter in letters] == [b"nope", document("x")[1], document("y")[1], b"\xff"]
    offsets = [dict(letter.headers)["__connect.errors.offset"] for letter in letters]
    assert offsets == [b"1", b"2", b"3", b"4"]
    assert committed(kafka) == {0: 6}


def test_a_signal_drains_and_commits_and_exits_0(
    broker: str, minilm: Path, tmp_path: Path, store_server: StoreServer
) -> None:
    kafka = new_topic(broker, max_poll_records=50)
    produce(kafka, [document(f"doc/{n}", f"text {n}") for n in range(3000)])
    port = store_server.port
    variables = kafka_variables(kafka, minilm, QDRANT__URL=f"http://127.0.0.1:{port}", QDRANT__GRPC_PORT=port)
    env = environment(tmp_path, **variables, KAFKA__MAX_POLL_RECORDS=50)
    del env["PENSTOCK_QDRANT__PATH"]
    log = tmp_path / "log"
    qdrant = QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port)
    command = [*PENSTOCK, "index"]
    with log.open("wb") as out, running(command, env=env, cwd=tmp_path, stderr=out) as process:
        deadline = time.monotonic() + SECONDS
        while committed(kafka).get(0, 0) < 100:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, log.read_text()
    assert '"event": "ended"' in log.read_text()
    done = committed(kafka)[0]
    assert 100 <= done < 3000
    assert len(stored(qdrant, minilm)) == done


def test_a_second_signal_ends_at_once_and_an_outage_of_qdrant_is_waited_out(
    broker: str, minilm: Path, tmp_path: Path, store_server: StoreServer
) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document(f"doc/{n}") for n in range(10)])
    port = store_server.port
    variables = kafka_variables(kafka, minilm, QDRANT__URL=f"http://127.0.0.1:{port}", QDRANT__GRPC_PORT=port)
    env = environment(tmp_path, **variables, KAFKA__SESSION_TIMEOUT_S=6)
    del env["PENSTOCK_QDRANT__PATH"]
    away = True

    def fault(method: str, _request: object) -> grpc.StatusCode | None:
        return grpc.StatusCode.UNAVAILABLE if away and method == "Upsert" else None

    store_server.before = fault
    log = tmp_path / "log"

    @contextmanager
    def start(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        command = [*PENSTOCK, "index", *arguments]
        with log.open("wb") as out, running(command, env=env, cwd=tmp_path, stderr=out) as process:
            yield process

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    with start() as process:
        wait_for('"unavailable"')
        process.send_signal(signal.SIGINT)
        wait_for('"draining"')
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(2) == 130
    assert committed(kafka).get(0, 0) == 0

    with start("--once") as process:
        wait_for('"failures": 3')
        away = False
        assert process.wait(SECONDS) == 0, log.read_text()
    assert committed(kafka) == {0: 10}
    assert '"dead_lettered": 0' in log.read_text()


def test_an_api_key_that_qdrant_refuses_ends_the_worker_and_is_not_waited_for(
    minilm: Path, tmp_path: Path, store_server: StoreServer
) -> None:
    store_server.before = lambda _method, _request: grpc.StatusCode.UNAUTHENTICATED
    (tmp_path / "events.jsonl").write_bytes(document("a")[1])
    port = store_server.port
    variables = {
        "MODEL__BUNDLE": minilm, "QDRANT__PATH": "", "QDRANT__URL": f"http://127.0.0.1:{port}",
        "QDRANT__GRPC_PORT": port, "QDRANT__API_KEY": "wrong", "QDRANT__ALLOW_INSECURE": "true",
    }  # fmt: skip
    said = one_line(penstock(tmp_path, "index", "--from", "events.jsonl", variables=variables), 2)
    assert "correct PENSTOCK_QDRANT__API_KEY" in said


def test_config_hides_secrets(tmp_path: Path) -> None:
    secret = {"QDRANT__API_KEY": "s3cret", "QDRANT__URL": "https://qdrant:6333", "KAFKA__SASL_PASSWORD": "s3cret"}
    for arguments in (("config",), ("config", "--json")):
        done = penstock(tmp_path, *arguments, variables=secret)
        assert done.returncode == 0
        assert b"s3cret" not in done.stdout + done.stderr
        assert b"https://qdrant:6333" in done.stdout
    assert json.loads(penstock(tmp_path, "config", "--json").stdout)["kafka"]["topic"] == "documents"


def test_schemas_are_printed(tmp_path: Path) -> None:
    assert penstock(tmp_path, "schema").stdout.split() == [name.encode() for name in schemas.names()]
    assert json.loads(penstock(tmp_path, "schema", "document.v1").stdout)["required"] == ["id"]


@pytest.mark.parametrize("command", ["index", "export", "embed", "rerank", "bench", "demo", "config", "schema"])
def test_every_command_has_help_with_an_example(tmp_path: Path, command: str) -> None:
    done = penstock(tmp_path, command, "--help")
    assert done.returncode == 0
    assert b"xample" in done.stdout


def test_export_refuses_what_it_cannot_export(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, said in (
        (("./nowhere", "-o", "out"), "no such folder"),
        (("empty", "-o", "out"), "no config.json and no modules.json"),
        (("empty", "-o", "full"), "is not empty"),
        (("empty", "-o", "out", "--dimensions", "a,b"), "numbers separated by commas"),
    ):
        done = penstock(tmp_path, "export", *arguments)
        assert done.returncode == 2
        assert said in done.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_signal_in_the_middle_of_a_wait_is_no_deadlock(tmp_path: Path) -> None:
    """It comes while the main thread holds the lock of the very event that the signal is to set."""
    program = """
import os, signal
from penstock.commands.process import stop_on_signals
stop = stop_on_signals()
with stop._cond:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass
assert stop.wait(30)
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), timeout=SECONDS, check=False)
    assert done.returncode == 130


def test_a_service_that_is_away_has_an_exit_code_of_its_own(minilm: Path, tmp_path: Path) -> None:
    models = {"MODEL__BUNDLE": minilm, "RERANK__ENABLED": "false"}
    asked = ("search", "water")
    away = penstock(tmp_path, *asked, variables={**models, "QDRANT__PATH": "", "QDRANT__URL": "http://127.0.0.1:1"})
    assert "Qdrant: " in one_line(away, 75)
    assert "Connection refused" in one_line(penstock(tmp_path, *asked, "--url", "http://127.0.0.1:1"), 75)


def test_who_searches_makes_no_folder(minilm: Path, tmp_path: Path) -> None:
    models = {"MODEL__BUNDLE": minilm, "RERANK__ENABLED": "false", "QDRANT__PATH": "points"}
    assert "there is no folder points" in one_line(penstock(tmp_path, "search", "water", variables=models), 2)
    assert not (tmp_path / "points").exists()


@pytest.mark.parametrize("arguments", [("config", "--json"), ("schema", "document.v1"), ("--help",)])
def test_a_disk_that_is_full_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "penstock", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["penstock: cannot write: No space left on device"]


SWALLOWING = """
import os, signal, sys
from penstock.commands import main

@main.app.command("swallow")
def swallow() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        print("went on")
        {}

sys.argv = ["penstock", "swallow"]
main.main()
"""


@pytest.mark.parametrize("then", ["pass", "raise ImportError('initialization failed')", "raise SystemExit(0)"])
def test_ctrl_c_that_a_library_swallows_while_it_loads_is_told_all_the_same(tmp_path: Path, then: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWING.format(then)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"went on\n", b"penstock: interrupted\n")


def test_ctrl_c_at_any_moment_of_the_start_shows_no_traceback(tmp_path: Path) -> None:
    for number in range(8):
        command = [sys.executable, "-m", "penstock", "rerank", "--bundle", "shipped", "--query", "a"]
        with running(
            command, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1 + 0.15 * number)  # the moment is what is tried
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        if said.startswith(b"Could not import runpy module"):
            continue  # a busy machine: the interpreter itself was not up yet, and nothing of ours could answer
        assert process.returncode in (130, -signal.SIGINT), said
        assert said.decode() in ("", "penstock: interrupted\n")
