"""The image without a container engine: its file tree, made by the commands of the Dockerfile, run as its user.

The root is read-only, /tmp is empty, and nothing of this checkout's environment is there: see JAIL.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import distributions
from pathlib import Path

import httpx
import pytest
import yaml

from penstock import settings
from penstock.adapters.qdrant import version
from penstock.models.bundle import load
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import ROOT, wait_until
from tests.kafka_tools import committed, document, ends, produce
from tests.workers import worker

pytestmark = pytest.mark.timeout(900)  # whose first test waits for the tree
USER = 10001
JAIL = f"""
mount --make-rprivate / && mount --rbind "$TREE" /mnt && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /tmp &&
cd /tmp && exec setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs --bounding-set=-all "$@"
"""
PYTHON = "/usr/bin/python3"
EPOCH = 315532800
"""Of all files: the beginning of 1980, the first that archives of every kind can tell."""


@pytest.fixture(scope="session")
def tree(image_tree: Path) -> Path:
    """What the image holds beside Python."""
    return image_tree


def jailed(variables: Mapping[str, object], *command: str) -> list[str]:
    """The command, in the jail that TREE names."""
    own = [f"PENSTOCK_{name}={value}" for name, value in variables.items()]
    inside = ["env", "-i", "PATH=/usr/bin:/bin", "PYTHONPATH=/mnt/code:/mnt/lib", "PYTHONDONTWRITEBYTECODE=1",
              "HOME=/tmp", "XDG_CACHE_HOME=/tmp/cache", *own, *command]  # fmt: skip
    return ["/usr/bin/unshare", "--mount", "sh", "-c", JAIL, "jail", *inside]


def done(tree: Path, variables: Mapping[str, object], *command: str) -> str:
    env = os.environ | {"TREE": str(tree)}
    ran = subprocess.run(jailed(variables, *command), env=env, capture_output=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


@contextmanager
def working(tree: Path, variables: Mapping[str, object], command: str, event: str) -> Iterator[httpx.Client]:
    """A worker; it must end well when it is told to."""
    jail = jailed(variables, PYTHON, "-m", "penstock")
    with worker(command, env=os.environ | {"TREE": str(tree)}, command=jail) as started:
        with started.client(event) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            yield client
        stopping = time.monotonic()
        assert started.stop() == 0
        assert time.monotonic() - stopping < 30


def series(client: httpx.Client, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}({{.*}}) (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def test_the_tree_runs_as_a_user_without_rights_on_a_root_that_cannot_be_written(tree: Path) -> None:
    assert done(tree, {}, "id", "-u").strip() == str(USER)
    assert "refused" in done(tree, {}, "sh", "-c", "touch /x /mnt/lib/x /mnt/code/x 2>/dev/null || echo refused")
    assert done(tree, {}, PYTHON, "-m", "penstock", "--version").startswith("penstock ")
    shown = set(done(tree, {}, "sh", "-c", "ls /mnt/lib /mnt/code").split())
    assert {"penstock", "onnxruntime"} <= shown
    assert not {"torch", "pytest", "hatchling", "bin"} & shown


def test_packages_models_and_code_are_apart(tree: Path) -> None:
    """So that a layer is pushed only where its own content changed."""
    assert {path.name for path in tree.iterdir()} == {"lib", "code", "shipped", "sbom.cdx.json"}
    assert not list((tree / "lib").glob("penstock*"))
    own = {path.name.partition("-")[0] for path in (tree / "code").iterdir()}
    assert own == {"penstock", "penstock_worker"}
    weights = [path for path in tree.rglob("*.weights") if not path.is_relative_to(tree / "code/penstock/data/models")]
    assert {path.relative_to(tree).parts[0] for path in weights} == {"shipped"}
    assert load(tree / "code/penstock/data/models/embedding").manifest.task == "embedding"


def test_nothing_in_the_tree_tells_when_it_was_made(tree: Path) -> None:
    """What was installed before the settling is as old as all else, and byte code does not hold its source's time."""
    assert {path.lstat().st_mtime for part in ("lib", "code", "shipped") for path in (tree / part).rglob("*")} == {
        EPOCH
    }
    compiled = list((tree / "code").rglob("*.pyc"))
    assert compiled
    assert {path.read_bytes()[4] for path in compiled} == {0b01}, "by hash, unchecked"


def test_the_tree_lists_every_package_that_it_holds(tree: Path) -> None:
    listed = json.loads((tree / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    held = {(one.name, one.version) for one in distributions(path=[str(tree / "lib"), str(tree / "code")])}
    assert {(one["name"], one["version"]) for one in listed["components"]} == held
    addresses = {one["name"]: one.get("purl") for one in listed["components"]}
    assert [name for name, address in addresses.items() if address is None] == ["penstock-worker"]
    assert {"onnxruntime", "qdrant-client"} <= addresses.keys()


def test_workers_from_the_tree_share_a_topic_and_a_third_joins_without_loss(
    tree: Path, broker: str, qdrant_process: QdrantSettings
) -> None:
    name = f"documents-{os.getpid()}"
    given = {
        "KAFKA__BOOTSTRAP_SERVERS": broker, "KAFKA__TOPIC": name, "KAFKA__GROUP": name, "KAFKA__SESSION_TIMEOUT_S": 10,
        "QDRANT__URL": qdrant_process.url, "QDRANT__GRPC_PORT": qdrant_process.grpc_port, "QDRANT__COLLECTION": name,
        "MODEL__BUNDLE": "/mnt/shipped/embedding", "MODEL__PROVIDER": "cpu", "MODEL__THREADS": 1,
        "RERANK__ENABLED": "false", "SETUP__PARTITIONS": 4, "MONITOR__PORT": 0, "HTTP__PORT": 0,
    }  # fmt: skip
    kafka = KafkaSettings(bootstrap_servers=broker, topic=name, group=name)
    assert f"collection {name}" in done(tree, given, PYTHON, "-m", "penstock", "setup")
    with ExitStack() as opened:
        indexers = [opened.enter_context(working(tree, given, "index", "monitored")) for _ in range(2)]
        query = opened.enter_context(working(tree, given, "query", "listening"))
        produce(kafka, [document(f"first/{n}", f"water turns turbine {n}") for n in range(200)])
        wait_until(lambda: all(len(series(one, "penstock_index_lag_records")) == 2 for one in indexers), 60)
        wait_until(lambda: committed(kafka) == ends(kafka, 4), 60)
        before = [series(one, "penstock_index_rebalances_total") for one in indexers]
        indexers.append(opened.enter_context(working(tree, given, "index", "monitored")))
        wait_until(lambda: sum(series(indexers[2], "penstock_index_rebalances_total").values()) > 0, 60)
        produce(kafka, [document(f"second/{n}", f"a river runs to gauge {n}") for n in range(200)])
        wait_until(lambda: committed(kafka) == ends(kafka, 4), 60)
        wait_until(lambda: all(series(one, "penstock_index_lag_records") for one in indexers), 60)
        owned = [set(series(one, "penstock_index_lag_records")) for one in indexers]
        assert sum(map(len, owned)) == len(set.union(*owned)) == 4
        totals = [sum(series(one, "penstock_index_records_total").values()) for one in indexers]
        assert sum(totals) >= 400
        for one, earlier in zip(indexers, before, strict=False):
            revoked = {
                labels: n
                for labels, n in series(one, "penstock_index_rebalances_total").items()
                if "assigned" not in labels
            }
            assert sum(revoked.values()) - sum(n for labels, n in earlier.items() if "assigned" not in labels) <= 1
        assert "was searchable" in done(
            tree, given, PYTHON, "-m", "penstock", "probe", "--url", str(query.base_url), "--timeout-s", "30"
        )


def test_compose_runs_a_qdrant_that_penstock_takes() -> None:
    image = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["qdrant"]["image"]
    assert not version.fault(image.partition(":")[2])


def test_what_compose_sets_is_known_to_penstock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("setup", "index", "query"):
        with monkeypatch.context() as patched:
            for variable, value in services[name]["environment"].items():
                patched.setenv(variable, value)
            settings.load()
    mounted = [volume for one in services.values() for volume in one.get("volumes", []) if volume.startswith("./")]
    assert mounted
    for volume in mounted:
        assert (ROOT / volume.split(":")[0]).exists(), volume
